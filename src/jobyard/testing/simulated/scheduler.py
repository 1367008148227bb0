"""``SimulatedScheduler``: the Scheduler protocol on a World, with the faults of a Plan."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from ...errors import JobyardError, NotPermitted, SchedulerUnavailable, SubmitError, UnknownJob, WrongState
from ...job import Cause, Ending, JobDescription, JobState
from ...schedulers.base import (
    Accepted,
    Action,
    Answer,
    Capabilities,
    Kind,
    Row,
    SiteLimits,
    Submission,
    Traits,
)
from ...schedulers.checks import check_capabilities
from .plan import ANSWER_FAULTS, CONTROL_FAULTS, SUBMIT_FAULTS, Fault, Plan
from .world import SimulatedJob, World

__all__ = ["SimulatedScheduler"]

_ATTRIBUTES = frozenset({"nodes", "processes", "processes_per_node", "cores", "walltime_s", "hold", "rerunnable", "priority"})
_WORDS = {
    JobState.QUEUED: "PENDING",
    JobState.HELD: "HELD",
    JobState.RUNNING: "RUNNING",
    JobState.SUSPENDED: "SUSPENDED",
    JobState.DONE: "COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
}


class SimulatedScheduler:
    """A scheduler in memory. Its answers show the world as it is, unless the plan has them go wrong.

    ``nonce_of`` tells the nonce in a submission's job.json, which receipts must carry. ``shown`` records, by native id and time
    of submission, each word that a job is over in an answer that arrived; ``known`` without those that nobody
    asked for, and those that a client took into its grave.
    """

    name = "simulated"
    traits = Traits()

    def __init__(self, world: World, plan: Plan, nonce_of: Callable[[Submission], str]) -> None:
        self.world = world
        self.plan = plan
        self.nonce_of = nonce_of
        self.capabilities = Capabilities(
            attributes=_ATTRIBUTES,
            actions=frozenset(Action),
            arrays=True,
            per_task_control=True,
            accounting=world.style.accounting,
        )
        self.commands_run: Counter[str] = Counter()
        self.shown: dict[tuple[str, float], list[Ending | None]] = {}
        self.known: dict[tuple[str, float], list[Ending | None]] = {}
        self._fresh: list[tuple[tuple[str, float], Ending | None]] = []
        self._earlier: deque[tuple[Row, ...]] = deque(maxlen=4)

    # Before submission

    def check(
        self, description: JobDescription, *, kind: Kind = Kind.SINGLE, tasks: int = 1, max_running: int | None = None
    ) -> None:
        """As every scheduler: what it cannot honour is refused."""
        check_capabilities(self.name, self.capabilities, description, kind=kind, tasks=tasks, max_running=max_running)

    def prepare(self, submission: Submission) -> Mapping[str, bytes]:
        """A batch script, by whose presence a folder is known to be whole. Nothing runs it."""
        return {"run.sh": b"#!/bin/sh\nexit 125\n"}

    def _asked(self, what: str) -> None:
        self.plan.life.tick()
        self.commands_run[what] += 1

    # Submission

    def submit(self, submission: Submission) -> Accepted:
        """Take it, refuse it, or leave the client in doubt."""
        self._asked("submit")
        fault = self.plan.draw(SUBMIT_FAULTS)
        nonce = self.nonce_of(submission)
        if fault is Fault.CRASH_BEFORE:
            raise self.plan.life.die()
        if fault is Fault.INTERRUPT_BEFORE:
            raise KeyboardInterrupt
        if fault is Fault.REFUSED:
            raise SubmitError("simulated: the queue is full", output="queue full")
        if fault is Fault.LOST_BEFORE:
            raise SchedulerUnavailable("simulated: no answer, and nothing was done")
        jobs = self.world.accept(submission, nonce)
        if fault is Fault.CRASH_AFTER:
            raise self.plan.life.die()
        if fault is Fault.INTERRUPT_AFTER:
            raise KeyboardInterrupt
        if fault is Fault.LOST_AFTER:
            raise SchedulerUnavailable("simulated: no answer, though the job was taken")
        return _accepted(jobs)

    def find(self, submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """By token, in queue and accounting."""
        self._asked("find")
        fault = self.plan.draw((Fault.AWAY, Fault.CRASH_BEFORE, Fault.MISSING))
        self._go_wrong(fault)
        found: dict[str, Accepted] = {}
        for submission in submissions:
            copies = [job for job in self.world.jobs if job.token == submission.token and self._known(job)]
            if not copies or (fault is Fault.MISSING and all(job.submitted_at > self.world.now - 1.0 for job in copies)):
                continue  # not listed in the very moment after it was taken
            count = len(submission.indices) or 1
            first = [job for job in self.world.jobs if job.token == submission.token][:count]
            found[submission.token] = _accepted(first)
        return found

    def _known(self, job: SimulatedJob) -> bool:
        return self.lists(job) or self._accounted(job)

    # Questions

    def query(self, native_ids: Collection[str]) -> Answer:
        """The queue."""
        self._asked("query")
        fault = self.plan.draw(ANSWER_FAULTS)
        self._go_wrong(fault)
        rows = tuple(self._row(job) for job in self.world.jobs if self.lists(job))
        if fault is Fault.STRANGERS:
            rows += (Row(native_id="424242", state=JobState.RUNNING, native_state="RUNNING", name="stranger"),)
        answer = self._spoilt(rows, fault)
        self._earlier.append(rows)
        return self._arrives(answer, fault, native_ids)

    def account(self, native_ids: Collection[str]) -> Answer:
        """Accounting, of those asked for."""
        self._asked("account")
        if not self.world.style.accounting:
            return Answer(complete=False)
        fault = self.plan.draw((*ANSWER_FAULTS, Fault.CONTRADICTED, Fault.CONTRADICTED))
        self._go_wrong(fault)
        wanted = set(native_ids)
        rows = tuple(
            self._contradicted(job) if fault is Fault.CONTRADICTED else self._row(job, accounting=True)
            for job in self.world.jobs
            if job.native_id in wanted and self._accounted(job)
        )
        if fault in (Fault.STALE, Fault.DOUBLED, Fault.STRANGERS, Fault.MISSING):
            fault = Fault.SHUFFLED  # a record that is written neither changes nor goes
        return self._arrives(self._spoilt(rows, fault), fault, native_ids)

    def client_begins(self) -> None:
        """The client begins something: what arrives from now on may not be recorded yet when it dies."""
        self._fresh.clear()

    def forget(self) -> None:
        """The client died of what it began."""
        for place, ending in self._fresh:
            self.known[place].remove(ending)
        self._fresh.clear()

    def _arrives(self, answer: Answer, fault: Fault | None, asked: Collection[str]) -> Answer:
        if fault is Fault.CRASH_AFTER:
            raise self.plan.life.die()
        for row in answer.rows:
            if row.ended and row.submitted_at is not None:
                place = row.native_id, row.submitted_at
                self.shown.setdefault(place, []).append(row.ending)
                if row.native_id in asked:
                    self.known.setdefault(place, []).append(row.ending)
                    self._fresh.append((place, row.ending))
        return answer

    def listed(self) -> Sequence[Row]:
        """All jobs in the queue."""
        self._go_wrong(self.plan.draw((Fault.AWAY,)))
        return [self._row(job) for job in self.world.jobs if self.lists(job)]

    def _go_wrong(self, fault: Fault | None) -> None:
        if fault is Fault.AWAY:
            raise SchedulerUnavailable("simulated: the scheduler is away")
        if fault is Fault.CRASH_BEFORE:
            raise self.plan.life.die()

    def lists(self, job: SimulatedJob) -> bool:
        """The queue lists it; a newer job of the same id takes its place."""
        if self.world.find(job.native_id) is not job:
            return False
        return job.ended_at is None or self.world.now < job.ended_at + self.world.style.keeps_ended_s

    def _accounted(self, job: SimulatedJob) -> bool:
        style = self.world.style
        return style.accounting and job.ended_at is not None and self.world.now >= job.ended_at + style.accounting_late_s

    def _row(self, job: SimulatedJob, *, accounting: bool = False) -> Row:
        style = self.world.style
        runs = len(job.runs)
        ending: Ending | None = None
        if job.over and (accounting or style.tells_exit_in_queue):
            ending = self.world.word(job)
        state = ending.state if ending is not None else job.state
        return Row(
            native_id=job.native_id,
            state=state,
            by=job.by,
            native_state=_WORDS[state],
            token=self._token(job),
            name=job.name,
            attempt=(runs + (job.state.waiting and not job.over) or None) if style.counts_attempts else None,
            ended=job.over,
            ending=ending,
            submitted_at=job.submitted_at,
            began_at=job.runs[-1].began_at if job.runs else None,
        )

    def _token(self, job: SimulatedJob) -> str | None:
        return job.token if self.world.style.token_in_rows else None

    def _contradicted(self, job: SimulatedJob) -> Row:
        """What accounting says while it lags, or simply wrongly, of a job whose receipts tell the truth; else the truth."""
        true = self._row(job, accounting=True)
        task = job.task
        if task is None or not task.runs:
            return true
        run = job.runs[-1]
        if f"receipt.{task.number}.{run.receipt_attempt}.end.json" not in task.receipts:
            return true
        if not run.claimed or run.noted or run.cause is not Cause.EXITED or self.world.random.random() < 0.3:
            return msgspec.structs.replace(true, state=JobState.RUNNING, native_state="RUNNING", ended=False, ending=None)
        wrong = Ending(state=JobState.FAILED, cause=Cause.EXITED, exit_code=7)
        return msgspec.structs.replace(true, state=JobState.FAILED, native_state="FAILED", ending=wrong)

    def _spoilt(self, rows: tuple[Row, ...], fault: Fault | None) -> Answer:
        random = self.world.random
        mixed = list(rows)
        if fault is Fault.STALE and self._earlier:
            return Answer(rows=random.choice(self._earlier))
        if fault is Fault.DOUBLED and self._earlier:
            return Answer(rows=(*rows, *random.choice(self._earlier)))
        if fault is Fault.SHUFFLED:
            random.shuffle(mixed)
            return Answer(rows=tuple(mixed))
        if fault is Fault.CUT:
            return Answer(rows=rows[: random.randint(0, len(rows))], complete=False)
        if fault is Fault.MISSING:
            return Answer(rows=tuple(row for row in rows if random.random() < 0.5))
        if fault is Fault.GARBLED and mixed:
            at = random.randrange(len(mixed))
            mixed[at] = msgspec.structs.replace(mixed[at], state=None, native_state="Zz?", ended=False, ending=None, by=None)
            return Answer(rows=tuple(mixed))
        if fault is Fault.UNPARSED and mixed:
            gone = mixed.pop(random.randrange(len(mixed)))
            return Answer(rows=tuple(mixed), unparsed=(f"{gone.native_id} ???",))
        return Answer(rows=rows)

    # Control

    def control(self, action: Action, native_ids: Sequence[str], *, signal: int | None = None) -> Mapping[str, JobyardError | None]:
        """Do it to all, or leave the client in doubt."""
        self._asked("control")
        fault = self.plan.draw(CONTROL_FAULTS)
        if fault is Fault.CRASH_BEFORE:
            raise self.plan.life.die()
        if fault is Fault.LOST_BEFORE:
            raise SchedulerUnavailable("simulated: no answer, and nothing was done")
        answers = {native_id: self._control(action, native_id) for native_id in native_ids}
        if fault is Fault.CRASH_AFTER:
            raise self.plan.life.die()
        if fault is Fault.LOST_AFTER:
            raise SchedulerUnavailable("simulated: no answer, though it was done")
        return answers

    def _control(self, action: Action, native_id: str) -> JobyardError | None:
        job = self.world.find(native_id)
        if job is None or job.over:
            return UnknownJob(f"simulated: no job {native_id} in the queue")
        if job.task is None:
            return NotPermitted(f"simulated: job {native_id} belongs to somebody else")
        state = job.state
        allowed = {
            Action.CANCEL: not job.cancelled,
            Action.HOLD: state is JobState.QUEUED,
            Action.RELEASE: state is JobState.HELD,
            Action.SUSPEND: state is JobState.RUNNING and not job.cancelled,
            Action.RESUME: state is JobState.SUSPENDED,
            Action.SIGNAL: state is JobState.RUNNING,
            Action.REQUEUE: state is JobState.RUNNING and job.task is not None and job.task.rerunnable and not job.cancelled,
        }[action]
        if not allowed:
            return WrongState(f"simulated: job {native_id} is {state}: it cannot {action}")
        acts: dict[Action, Callable[[SimulatedJob], None]] = {
            Action.CANCEL: self.world.cancel,
            Action.HOLD: self.world.hold,
            Action.RELEASE: self.world.release,
            Action.SUSPEND: self.world.suspend,
            Action.RESUME: self.world.resume,
            Action.REQUEUE: self.world.requeue,
        }
        if action in acts:
            acts[action](job)
        return None

    # The rest

    def limits(self) -> SiteLimits:
        """None."""
        return SiteLimits()

    def version(self) -> str:
        """Its name, and that of no release."""
        return "simulated 1"

    def close(self) -> None:
        """Nothing is open."""


def _accepted(jobs: Sequence[SimulatedJob]) -> Accepted:
    return Accepted(tuple(job.native_id for job in jobs), array_id=jobs[0].array_id)
