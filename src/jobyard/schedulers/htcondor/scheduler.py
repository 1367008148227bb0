"""HTCondor as a Scheduler: the dialect's commands, and patience with those that it takes and then forgets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ...errors import ControlError, JobyardError, UnsupportedAttribute, WrongState
from ...job import JobDescription
from ...transports.base import Transport
from ..base import Action, Kind
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
        self._caps_arrays: tuple[float, bool] | None = None  # by the monotonic clock, when the schedd said so

    def check(
        self, description: JobDescription, *, kind: Kind = Kind.SINGLE, tasks: int = 1, max_running: int | None = None
    ) -> None:
        """As Scheduler.check. SchedulerUnavailable where the schedd must be asked whether it caps arrays, and does not answer."""
        super().check(description, kind=kind, tasks=tasks, max_running=max_running)
        if max_running is not None and not self._materializes_late():
            raise UnsupportedAttribute(
                "htcondor cannot honour max_running: this schedd does not materialize tasks late (its setting "
                "SCHEDD_ALLOW_LATE_MATERIALIZE) and would start them all at once; leave it out",
                field="max_running",
                scheduler=self.name,
            )

    def _materializes_late(self) -> bool:
        known, now_s = self._caps_arrays, time.monotonic()
        if known is None or now_s - known[0] >= self.options.limits_for_s:
            result = self._run("limits", self.dialect.capabilities_command())
            known = self._caps_arrays = (now_s, self._read(result, lambda: self.dialect.parse_capabilities(result)))
        return known[1]

    def control(self, action: Action, native_ids: Sequence[str], *, signal: int | None = None) -> Mapping[str, JobyardError | None]:
        """As Scheduler.control; what is acknowledged of a suspension has happened."""
        answers = dict(super().control(action, native_ids, signal=signal))
        if action is Action.CANCEL:
            self._tell_those_to_come(answers)
        elif action in (Action.SUSPEND, Action.RESUME):
            self._follow_up(action, answers)
        return answers

    def _tell_those_to_come(self, answers: dict[str, JobyardError | None]) -> None:
        """Of jobs that are not in the queue, tell those that are over (a cancel has no use for them) from those still to come."""
        gone = [job for job, error in answers.items() if isinstance(error, WrongState) and not job.endswith(".0")]
        if not gone:
            return
        result = self._run("control", self.dialect.factory_command(sorted({job.partition(".")[0] for job in gone})))
        to_come = self._read(result, lambda: self.dialect.parse_factory(result))
        for job in gone:
            cluster, _, proc = job.partition(".")
            if int(proc) in to_come.get(cluster, range(0)):
                answers[job] = ControlError(
                    f"htcondor cannot cancel job {job}: it is a task of a capped array that is not in the queue yet; cancel "
                    "the whole array, or all tasks that are still to come together"
                )

    def _follow_up(self, action: Action, answers: dict[str, JobyardError | None]) -> None:
        left = [native_id for native_id, error in answers.items() if error is None]
        end_s = time.monotonic() + PATIENCE_S
        while left:
            states = self._states(left)
            over = [native_id for native_id in left if native_id not in states]
            answers.update((job, WrongState(f"htcondor cannot {action} job {job}: it is over")) for job in over)
            left = [job for job in left if job in states and (states[job] == SUSPENDED) != (action is Action.SUSPEND)]
            if left and time.monotonic() > end_s:
                why = f"it said so, but {PATIENCE_S:g} s later the queue shows nothing of it; try again"
                answers.update((job, ControlError(f"htcondor did not {action} job {job}: {why}")) for job in left)
                return
            if left:
                time.sleep(PAUSE_S)
                super().control(action, left)  # one that was suspended meanwhile says that it does not run

    def _states(self, native_ids: Sequence[str]) -> Mapping[str, int]:
        result = self._run("control", self.dialect.states_command(native_ids))
        return self._read(result, lambda: self.dialect.parse_states(result))
