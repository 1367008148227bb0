"""A keeper of the embedded scheduler under test, and what it was told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobyard.description import describe
from jobyard.job import Ending, JobDescription, JobState
from jobyard.keeper import Placed, Update
from jobyard.schedulers.base import Action
from jobyard.schedulers.local import LocalScheduler
from jobyard.schedulers.local.client import LocalKeeper
from jobyard.testing.polling import LONG_S

__all__ = ["Rig"]


class Rig:
    """One client. ``updates`` holds everything that it was told, in order."""

    def __init__(self, state_dir: Path, session: str | None = None, **options: Any) -> None:
        self.state_dir = state_dir
        self.updates: list[Update] = []
        self.endings: dict[int, Ending] = {}
        self.states: dict[int, JobState] = {}
        settings = {"slots": "2", "idle": "3", "grace": "1", **{key: str(value) for key, value in options.items()}}
        self.scheduler = LocalScheduler(state_dir, settings)
        self.keeper: LocalKeeper = self.scheduler.open_keeper(session, self.sink)

    def sink(self, updates: Sequence[Update]) -> None:
        """What the keeper feeds."""
        for update in updates:
            self.updates.append(update)
            self.states[update.key] = update.state
            if update.ending is not None:
                self.endings.setdefault(update.key, update.ending)

    def describe(self, argv: Any, **fields: Any) -> JobDescription:
        """A description as the waist would make it: complete, in a directory."""
        fields.setdefault("directory", str(self.state_dir))
        self.state_dir.mkdir(parents=True, exist_ok=True)
        fields.setdefault("inherit", "client")
        if isinstance(argv, str):
            argv = ["/bin/sh", "-c", argv]
        return describe(argv, **fields)

    def submit(self, argv: Any, **fields: Any) -> Placed:
        """Submit one job; text is a shell script."""
        return self.keeper.submit([self.describe(argv, **fields)])[0]

    def array(self, argv: Any, indices: Sequence[int], max_running: int | None = None, **fields: Any) -> Sequence[Placed]:
        """Submit an array; its tasks."""
        return self.keeper.submit_array(self.describe(argv, **fields), indices, max_running)[2]

    def wait(self, job: Placed, timeout_s: float = LONG_S) -> Ending:
        """The job's ending."""
        assert self.keeper.wait_until(lambda: job.key in self.endings, timeout_s), f"job {job.native_id} did not end"
        return self.endings[job.key]

    def wait_all(self, jobs: Sequence[Placed], timeout_s: float = LONG_S) -> list[Ending]:
        """Their endings, in order."""
        assert self.keeper.wait_until(lambda: all(job.key in self.endings for job in jobs), timeout_s), "not all ended"
        return [self.endings[job.key] for job in jobs]

    def run(self, argv: Any, **fields: Any) -> Ending:
        """Submit a job, and wait for its ending."""
        return self.wait(self.submit(argv, **fields))

    def until(self, job: Placed, state: JobState, timeout_s: float = LONG_S) -> None:
        """Wait until the job has come to that state."""
        assert self.keeper.wait_until(lambda: self.states.get(job.key) is state, timeout_s), (
            f"job {job.native_id} is {self.states.get(job.key)}, not {state}"
        )

    def output(self, job: Placed) -> bytes:
        """What the job wrote to its default output."""
        path = self.keeper.streams(job.key)[0]
        assert path is not None
        return Path(os.fsdecode(path)).read_bytes()

    def control(self, action: Action, *jobs: Placed, signal: int | None = None) -> None:
        """Do it to all; raises the first error."""
        for error in self.keeper.control(action, [job.key for job in jobs], signal=signal).values():
            if error is not None:
                raise error

    def pair(self) -> tuple[int, int]:
        """The pids of server and spawner, as the present connection was told."""
        connection = self.keeper._connection
        return connection.server_pid, connection.spawner_pid

    def close(self) -> None:
        """Let go."""
        self.keeper.close()
        self.scheduler.close()
