"""Grid Engine as a Scheduler: the dialect's commands, and what the site must be asked before a job is laid out."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

import msgspec

from ...errors import JobyardError
from ...job import Cause, Ending, JobState
from ...transports.base import Transport
from ..base import Action, Answer, Row
from ..command import CommandOptions
from ..sites import SiteScheduler
from .dialect import GridEngineDialect
from .submit import Choices

__all__ = ["GridEngineScheduler"]

# A suspension is carried out some time after it was acknowledged. Of 12 jobs that were resumed at once, one was stopped after that,
# and stayed so; of 12 that were resumed 2 s later, none (measured on 8.1.9).
CARRIED_OUT_S = 3.0


class GridEngineScheduler(SiteScheduler):
    """Scheduler of jobyard.schedulers.base for Grid Engine.

    What it asks the site: parallel environments and resources. A job that Grid Engine could not start, and keeps in the queue in
    its error state, is deleted, and ends as ``not_started``.
    """

    dialect: GridEngineDialect

    def __init__(self, transport: Transport, choices: Choices | None = None, options: CommandOptions | None = None) -> None:
        super().__init__(GridEngineDialect(choices), transport, options)
        self._suspended: dict[str, float] = {}  # by native id, when that was acknowledged; only the newest are kept

    def control(self, action: Action, native_ids: Sequence[str], *, signal: int | None = None) -> Mapping[str, JobyardError | None]:
        """As Scheduler.control. A resume that follows a suspension at once waits until that has happened."""
        if action is Action.RESUME:
            since_s = max((self._suspended.get(native_id, -CARRIED_OUT_S) for native_id in native_ids), default=-CARRIED_OUT_S)
            wait_s = since_s + CARRIED_OUT_S - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
        answers = super().control(action, native_ids, signal=signal)
        if action is Action.SUSPEND:
            now_s = time.monotonic()
            recent = {native_id: at_s for native_id, at_s in self._suspended.items() if now_s - at_s < CARRIED_OUT_S}
            self._suspended = recent | {native_id: now_s for native_id, error in answers.items() if error is None}
        return answers

    def query(self, native_ids: Collection[str]) -> Answer:
        answer = super().query(native_ids)
        asked = set(native_ids)
        stuck = [row for row in answer.rows if _stuck(row) and row.native_id in asked]
        if not stuck:
            return answer
        told = self.control(Action.CANCEL, [row.native_id for row in stuck])
        ended = {row.native_id: _never_started(row) for row in stuck if told.get(row.native_id, JobyardError()) is None}
        return msgspec.structs.replace(answer, rows=tuple(ended.get(row.native_id, row) for row in answer.rows))


def _stuck(row: Row) -> bool:
    """In the error state, and one of ours: nobody else's job is touched."""
    return "E" in row.native_state and row.token is not None


def _never_started(row: Row) -> Row:
    message = row.reason or "Grid Engine could not start it"
    ending = Ending(
        state=JobState.FAILED, cause=Cause.NOT_STARTED, aborted=True, message=message, submitted_at=row.submitted_at, attempts=0
    )
    return msgspec.structs.replace(row, state=JobState.FAILED, by=None, ended=True, ending=ending)
