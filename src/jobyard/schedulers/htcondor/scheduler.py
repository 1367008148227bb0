"""HTCondor as a Scheduler: the dialect's commands, and patience with those that it takes and then forgets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ...errors import ControlError, JobyardError, WrongState
from ...transports.base import Transport
from ..base import Action
from ..command import CommandOptions, CommandScheduler
from .ads import SUSPENDED
from .dialect import HTCondorDialect

__all__ = ["HTCondorScheduler"]

PATIENCE_S = 10.0  # that a job is suspended or resumed within, once HTCondor has said so
PAUSE_S = 0.1  # between two looks; it took 0.2 s


class HTCondorScheduler(CommandScheduler):
    """Scheduler of jobyard.schedulers.base for HTCondor.

    ``Job 5.0 suspended`` says that a message was sent to the job's shadow. One whose command has only just begun does nothing
    about it (seen on 23.9.6 and 25.14.1), so that it is sent again until the queue shows the job so.
    """

    dialect: HTCondorDialect

    def __init__(self, dialect: HTCondorDialect, transport: Transport, options: CommandOptions | None = None) -> None:
        super().__init__(dialect, transport, options)

    def control(self, action: Action, native_ids: Sequence[str], *, signal: int | None = None) -> Mapping[str, JobyardError | None]:
        """As Scheduler.control; what is acknowledged of a suspension has happened."""
        answers = dict(super().control(action, native_ids, signal=signal))
        if action not in (Action.SUSPEND, Action.RESUME):
            return answers
        left = [native_id for native_id, error in answers.items() if error is None]
        end_s = time.monotonic() + PATIENCE_S
        while left:
            states = self._states(left)
            over = [native_id for native_id in left if native_id not in states]
            answers |= {native_id: WrongState(f"htcondor cannot {action} job {native_id}: it is over") for native_id in over}
            left = [job for job in left if job in states and (states[job] == SUSPENDED) != (action is Action.SUSPEND)]
            if left and time.monotonic() > end_s:
                why = f"it said so, but {PATIENCE_S:g} s later the queue shows nothing of it; try again"
                answers |= {job: ControlError(f"htcondor did not {action} job {job}: {why}") for job in left}
                return answers
            if left:
                time.sleep(PAUSE_S)
                super().control(action, left)  # one that was suspended meanwhile says that it does not run
        return answers

    def _states(self, native_ids: Sequence[str]) -> Mapping[str, int]:
        result = self._run("control", self.dialect.states_command(native_ids))
        return self._read(result, lambda: self.dialect.parse_states(result))
