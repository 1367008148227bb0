"""Slurm as a Scheduler: the dialect's commands, and the states that Slurm itself does not look at before it acts."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Collection, Mapping, Sequence

import msgspec

from ...errors import JobyardError, NoScheduler, SchedulerUnavailable, TransportError, UnknownJob, WrongState
from ...job import By, JobState
from ...transports.base import Transport, printable
from ..base import Accepted, Action, Answer, Row, SiteLimits, Submission, Traits
from ..command import CommandOptions, CommandScheduler
from .answers import release_of
from .dialect import SlurmDialect
from .ids import is_id
from .states import HELD_BY_USER, SIGNALING, STOPPED
from .tables import Marks

__all__ = ["SlurmScheduler"]

SIGNALLED_S = 5.0  # how long a signal that is on its way is waited for before another is sent
LOOK_S = 0.1
DOUBT_S = 60.0  # how often accounting is asked of jobs that the queue shows as stopped
NEWEST = (24, 11)  # where a version is written in a way that nobody knows: the last release whose exit codes are in doubt


class SlurmScheduler(CommandScheduler):
    """Scheduler of jobyard.schedulers.base for Slurm.

    ``scontrol`` holds a running job, releases one that nobody holds, and ``scancel`` tries for a minute to signal one that waits,
    all without a complaint. So the queue is asked first, and only jobs in the right state are acted on. Where a signal is on its
    way, it is asked again for up to 5 s: the next signal could overtake it.
    """

    dialect: SlurmDialect

    def __init__(self, transport: Transport, options: CommandOptions | None = None) -> None:
        super().__init__(SlurmDialect(Marks(secrets.token_hex(6))), transport, options)
        # By the monotonic clock: when accounting was last asked of a stopped job, when we cancelled a job.
        self._doubted: dict[str, float] = {}
        self._cancelled: dict[str, float] = {}

    def traits_of(self, submission: Submission) -> Traits:
        """The Traits of one submission."""
        return self.dialect.traits_of(submission)

    def find(self, submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        self._know_release()
        return super().find(submissions)

    def query(self, native_ids: Collection[str]) -> Answer:
        self._know_release()
        return self._without_ghosts(super().query(native_ids))

    def _without_ghosts(self, answer: Answer) -> Answer:
        """The answer, with accounting's word for jobs that are over though the queue shows them as stopped.

        Where a signal's answer comes after the job's end, the controller of 22.05 sets STOPPED on the ended job, and shows nothing
        else until it forgets it. Accounting is asked of stopped jobs when they appear and once a minute, with each answer in the
        minute after our cancellation.
        """
        stopped = {row.native_id for row in answer.rows if row.native_state == STOPPED}
        now = time.monotonic()
        self._doubted = {native_id: at for native_id, at in self._doubted.items() if native_id in stopped}
        self._cancelled = {native_id: at for native_id, at in self._cancelled.items() if now - at < DOUBT_S}
        due = sorted(
            native_id
            for native_id in stopped
            if native_id in self._cancelled or now - self._doubted.get(native_id, -DOUBT_S) >= DOUBT_S
        )
        if not due:
            return answer
        self._doubted.update(dict.fromkeys(due, now))
        try:
            over = {row.native_id: row for row in self.account(due).rows if row.ended}
        except (SchedulerUnavailable, TransportError, NoScheduler):
            return answer  # asked again in a minute
        for native_id in over:  # each answer of the queue is put right, as long as it shows the job
            self._doubted.pop(native_id, None)
        return msgspec.structs.replace(answer, rows=tuple(over.get(row.native_id, row) for row in answer.rows))

    def account(self, native_ids: Collection[str]) -> Answer:
        self._know_release()
        return super().account(native_ids)

    def listed(self) -> Sequence[Row]:
        self._know_release()
        return super().listed()

    def _know_release(self) -> None:
        """What some answers mean depends on the release. It is asked once, and asks no daemon."""
        if self.dialect.release:
            return
        with contextlib.suppress(SchedulerUnavailable):  # the question itself will tell; next time this is asked again
            self.dialect = SlurmDialect(self.dialect.marks, release_of(self.version()) or NEWEST)

    def limits(self) -> SiteLimits:
        """As Scheduler.limits; the user's own limit of jobs too, where accounting keeps one and can be asked."""
        known = self._limits
        found = super().limits()
        if known is not None and known[1] is found:
            return found
        most = None
        try:
            result = self._run("limits", self.dialect.most_jobs_command(self.transport.user()))
            most = self.dialect.parse_most_jobs(result)
        except (SchedulerUnavailable, TransportError, NoScheduler):
            pass  # a site without sacctmgr, or whose database is away: the controller's limits stand
        if most is not None:
            found = msgspec.structs.replace(found, max_jobs=min(most, found.max_jobs or most))
        if self._limits is not None:
            self._limits = (self._limits[0], found)
        return found

    def control(self, action: Action, native_ids: Sequence[str], *, signal: int | None = None) -> Mapping[str, JobyardError | None]:
        answers: dict[str, JobyardError | None] = {
            native_id: UnknownJob(f"slurm cannot {action} job {printable(native_id)}: that is no id of Slurm's")
            for native_id in native_ids
            if not is_id(native_id)  # one of these in a command, and it does nothing for the others
        }
        ids = [native_id for native_id in dict.fromkeys(native_ids) if native_id not in answers]
        if ids and action is not Action.CANCEL:
            answers.update(self._objections(action, ids))
        able = [native_id for native_id in ids if answers.get(native_id) is None]
        if action is Action.CANCEL:
            self._cancelled.update(dict.fromkeys(able, time.monotonic()))
        if able:
            answers.update(super().control(action, able, signal=signal))
        return {native_id: answers[native_id] for native_id in native_ids}

    def _objections(self, action: Action, ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        """Why it cannot be done to each of these, by the state that the queue shows."""
        deadline = time.monotonic() + SIGNALLED_S
        try:
            rows = self._shown(ids)
            while any(row.native_state == SIGNALING for native_id in ids if (row := rows.get(native_id))):
                if time.monotonic() >= deadline:
                    break  # a node that does not answer; two signals can overtake each other
                time.sleep(LOOK_S)
                rows = self._shown(ids)
        except (SchedulerUnavailable, TransportError) as error:
            return dict.fromkeys(ids, error)
        return {native_id: _objection(action, native_id, rows.get(native_id)) for native_id in ids}

    def _shown(self, ids: Sequence[str]) -> Mapping[str, Row]:
        self._know_release()
        return {row.native_id: row for row in super().query(ids).rows}


_ALLOWED = {
    Action.HOLD: "a job that waits",
    Action.RELEASE: "a job that its user holds",
    Action.SUSPEND: "a running job",
    Action.RESUME: "a suspended job",
    Action.SIGNAL: "a running job",
    Action.REQUEUE: "a running job",
}


def _objection(action: Action, native_id: str, row: Row | None) -> JobyardError | None:
    """Why this cannot be done to a job in that state; None: it can."""
    if row is None:
        return UnknownJob(f"slurm cannot {action} job {native_id}: its queue does not list it")
    state = row.state
    if state is None:  # a word that is not known: Slurm shall judge
        return None
    match action:
        case Action.HOLD:
            good = state.waiting and not row.ended
        case Action.RELEASE:
            good = row.native_state == "PENDING" and row.reason == HELD_BY_USER
        case Action.SUSPEND:
            good = state is JobState.RUNNING
        case Action.RESUME:
            good = state is JobState.SUSPENDED and row.by is not By.SYSTEM
        case _:
            good = state in (JobState.RUNNING, JobState.SUSPENDED)
    if good:
        return None
    shown = row.native_state + (f", {row.reason}" if row.reason else "")
    return WrongState(f"slurm cannot {action} job {native_id}, which is {shown}; that is for {_ALLOWED[action]}")
