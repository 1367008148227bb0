"""The conformance suite on the lookalike of Cobalt, where a minute is a second."""

from __future__ import annotations

from typing import Any

from jobyard import Cause
from lookalikes.areas import *  # noqa: F403

STYLE = "cobalt"
EVERY_DAY = OF_A_DIALECT  # noqa: F405
CELL = {"minute_s": 1.0}
# It books nodes, and says of no job how it ended.
FEATURES: dict[str, Any] = {
    "whole": {"nodes": 4},
    "causes": {"walltime": {Cause.UNKNOWN}, "exited": {Cause.EXITED, Cause.UNKNOWN}},
}
