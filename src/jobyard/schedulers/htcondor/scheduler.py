"""HTCondor as a Scheduler: the dialect's commands, and patience with those that it takes and then forgets."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

import msgspec

from ...errors import ControlError, JobyardError, SchedulerUnavailable, TransportError, UnsupportedAttribute, WrongState
from ...job import JobDescription
from ...transports.base import Transport
from ..base import Action, Answer, Kind
from ..command import CommandOptions, CommandScheduler
from .ads import SUSPENDED, UNMATERIALIZED
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
        try:
            if action is Action.CANCEL:
                self._tell_those_to_come(answers)
            elif action in (Action.SUSPEND, Action.RESUME):
                self._follow_up(action, answers)
        except (SchedulerUnavailable, TransportError) as error:  # what came of it nobody knows
            return {job: error if answer is None else answer for job, answer in answers.items()}
        return answers

    def _tell_those_to_come(self, answers: dict[str, JobyardError | None]) -> None:
        """Of jobs that are not in the queue, tell those that are over (a cancel has no use for them) from those still to come.

        One answer stands for all capped arrays of a command, so that several are looked at again, too.
        """
        clusters = {job.partition(".")[0] for job, error in answers.items() if isinstance(error, WrongState) and _is_task(job)}
        arrays = {job.partition(".")[0] for job in answers if _is_task(job)}
        clusters |= arrays if len(arrays) > 1 else set()
        if not clusters:
            return
        to_come = self._to_come("control", clusters)
        for job in answers:
            cluster, _, proc = job.partition(".")
            if cluster in to_come and int(proc) in to_come[cluster]:
                answers[job] = ControlError(
                    f"htcondor cannot cancel job {job}: it is a task of a capped array that is not in the queue yet; cancel "
                    "the whole array, or all tasks that are still to come together"
                )

    def query(self, native_ids: Collection[str]) -> Answer:
        """As Scheduler.query. Where a capped array has tasks to come, a second question tells whether they still do."""
        answer = super().query(native_ids)
        clusters = {row.native_id.partition(".")[0] for row in answer.rows if row.native_state == UNMATERIALIZED}
        if not clusters:
            return answer
        to_come = self._to_come("query", clusters)
        rows = (row for row in answer.rows if row.native_state != UNMATERIALIZED or row.native_id.partition(".")[0] in to_come)
        return msgspec.structs.replace(answer, rows=tuple(rows))

    def _to_come(self, purpose: str, clusters: Collection[str]) -> Mapping[str, range]:
        result = self._run(purpose, self.dialect.factory_command(clusters))
        return self._read(result, lambda: self.dialect.parse_factory(result))

    def _follow_up(self, action: Action, answers: dict[str, JobyardError | None]) -> None:
        left = [native_id for native_id, error in answers.items() if error is None]
        end_s = time.monotonic() + PATIENCE_S
        while left:
            states = self._states(left)
            if action is Action.SUSPEND:  # but one that was resumed may be over by now
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


def _is_task(native_id: str) -> bool:
    """Not the first of its cluster: only tasks of arrays are."""
    cluster, dot, proc = native_id.partition(".")
    return bool(dot) and cluster.isdigit() and proc.isdigit() and proc != "0"
