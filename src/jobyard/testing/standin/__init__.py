"""A stand-in scheduler for tests: real commands on PATH, a real server, real jobs, and faults on demand.

``install(folder)`` makes a cell; ``standin_scheduler(cell)``, or the contact ``standin?cell=/path``, uses it. Its programs
import nothing of jobyard.
"""

from __future__ import annotations

from .cell import Cell, install, open_standin, standin_scheduler
from .dialect import StandinDialect

__all__ = ["Cell", "StandinDialect", "install", "open_standin", "standin_scheduler"]
