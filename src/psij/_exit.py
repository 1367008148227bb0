"""The end of a program: sessions of the engine that are left open are closed after all that the program itself does then."""

from __future__ import annotations

import atexit
import sys


def _close_engine() -> None:
    fronts = sys.modules.get("jobyard.fronts")
    if fronts is not None:  # the engine was loaded
        fronts.close_all_sessions()


atexit.register(_close_engine)  # when psij is imported: what is registered later is called before
