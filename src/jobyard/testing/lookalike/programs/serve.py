"""Starts the server of a lookalike: ``main(style)``, with the cell's folder on the command line."""

from __future__ import annotations

import importlib
import os
import sys

from .common import Lookalike


def main(style: str) -> None:
    """Serve the cell; descriptor 3 is told when commands can come."""
    served: type[Lookalike] = importlib.import_module(f".{style}", __package__).STYLE
    server = served(sys.argv[1])
    os.write(3, b"!")
    os.close(3)
    server.run()
    if server.stopping:
        os.unlink("socket")
