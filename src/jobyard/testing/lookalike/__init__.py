"""Lookalikes: stand-ins for schedulers that tests cannot have here. Their commands answer as the real ones do; one machine, the
stand-in's, runs the jobs behind all of them. ``install(folder, "pbs")`` makes a cell; its ``bin`` goes first on PATH.
"""

from __future__ import annotations

from .cell import COMMANDS, Lookalike, install

__all__ = ["COMMANDS", "Lookalike", "install"]
