"""Memory limits by sampling: the resident size of a job's whole session, twice a second; over the limit, it is killed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import kernel
from .jobs import MEMORY

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Memory", "resident_by_session"]

PERIOD_S = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_by_session(sessions: set[int]) -> dict[int, int]:
    """Resident bytes of all processes of each of these sessions; shared pages count in each process."""
    found: dict[int, int] = {}
    for pid in kernel.all_pids():
        process = kernel.read_process(pid)
        if process is None or process.session not in sessions:
            continue
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                pages = int(file.read().split()[1])
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone meanwhile, or hidden
        found[process.session] = found.get(process.session, 0) + pages * _PAGE
    return found


class Memory:
    """Looks after the running jobs that have a memory limit."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next = 0.0

    def look(self, now: float) -> None:
        """Sample, where it is time and there is such a job."""
        limited = self._engine.limited
        if not limited or now < self._next:
            return
        self._next = now + PERIOD_S
        jobs = {job.run.pid: job for job in limited.values() if job.run is not None and job.run.pid}
        for session, resident in resident_by_session(set(jobs)).items():
            job = jobs[session]
            limit = job.traits.memory
            if limit is not None and resident > limit:
                self._engine.terminate(job, MEMORY)

    def due(self, now: float) -> float | None:
        """Seconds until the next sample; None: nothing to sample."""
        return max(0.0, self._next - now) if self._engine.limited else None
