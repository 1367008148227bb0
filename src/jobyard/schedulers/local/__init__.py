"""The embedded scheduler: a real scheduler for one machine, started on demand, gone when idle (DESIGN in docs/architecture.md).

client --Unix stream, frames--> server (queue, journal) --socket pair and shared ring--> spawner --> jobs
"""

from __future__ import annotations

from .scheduler import LocalScheduler, stop

__all__ = ["LocalScheduler", "stop"]
