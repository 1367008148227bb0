"""A site that exists only in memory: its clock, its queue, its nodes, and what really became of each job.

No process runs and nothing waits: time moves when ``advance`` is called. The world knows the truth (``Task``), and apart from it
what it has shown: receipts in job folders, rows in queue and accounting. A test compares the verdict of the engine with the truth.
"""

from __future__ import annotations

import heapq
import json
import signal as _signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from ...job import By, Cause, Ending, JobState, signal_name
from ...schedulers.base import Submission

__all__ = ["Fate", "Run", "SimulatedJob", "Style", "Task", "World"]

EPOCH = 1_700_000_000.0
# Deaths by its own fault: the shepherd knows that nobody sent them.
FAULTS = frozenset(
    {_signal.SIGSEGV, _signal.SIGABRT, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGSYS, _signal.SIGPIPE}
)


@dataclass(frozen=True, kw_only=True)
class Style:
    """What kind of scheduler this is; each field follows some real one."""

    accounting: bool = True
    accounting_late_s: float = 0.0  # after an end, before accounting knows of it
    keeps_ended_s: float = 60.0  # how long the queue lists a finished job; 0: purged at once
    counts_attempts: bool = False
    warns_before_kill: bool = True  # TERM, and time for a receipt; False: KILL at once (Grid Engine, OAR)
    says_cancelled: bool = True  # False: a cancelled job looks like one that was killed (Grid Engine)
    tells_exit_in_queue: bool = True  # False: the queue says only that a job is over
    token_in_rows: bool = True
    network_folder: bool = False  # receipts come into sight late, as on NFS
    ids: int = 100_000  # native ids come round after so many


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What becomes of one job if nobody interferes."""

    wait_s: float = 1.0  # in the queue
    duration_s: float = 10.0
    exit_code: int = 0
    signal: int | None = None  # dies of it, sent by itself
    core: bool = False
    cut: Cause | None = None  # walltime, memory or node: ends it after ``duration_s``, instead of its own end
    traps: int | None = None  # the exit code with which it answers a TERM
    never_starts: str | None = None  # the message of a command that cannot be run
    requeue_after_s: float | None = None  # the site's operators run it again, so long after its first start
    node_runs_again: bool = False  # with cut NODE: the scheduler runs it again by itself
    end_receipt: bool = True  # False: the node dies before it is written
    receipt_late_s: float = 0.0  # until receipts are visible here


@dataclass(kw_only=True)
class Run:
    """One time that the scheduler started the batch script of a job."""

    number: int
    native_id: str
    began_at: float
    claimed: bool = False  # it held the claim, so the user's command ran
    receipt_attempt: int = 0
    ended_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    core: bool = False
    cause: Cause = Cause.EXITED
    aborted: bool = False
    message: str = ""
    noted: list[tuple[str, float]] = field(default_factory=list)
    host: str = ""


@dataclass(kw_only=True)
class Task:
    """The truth about one job of ours: one token and number."""

    token: str
    number: int
    fate: Fate
    rerunnable: bool
    nonce: str
    folder: str = ""
    holder: str | None = None
    runs: list[Run] = field(default_factory=list)  # of the user's command: those that held the claim
    receipts: dict[str, tuple[float, bytes]] = field(default_factory=dict)  # name -> (visible from, content)


@dataclass(kw_only=True)
class SimulatedJob:
    """A job as the scheduler sees it."""

    native_id: str
    name: str
    submitted_at: float
    array_id: str | None = None
    task: Task | None = None  # None: somebody else's
    token: str | None = None
    state: JobState = JobState.QUEUED
    by: By | None = None
    runs: list[Run] = field(default_factory=list)
    ended_at: float | None = None
    cancelled: bool = False
    epoch: int = 0  # counts changes; an event of an older one is void
    remaining_s: float = 0.0
    resumed_at: float = 0.0
    fate: Fate = field(default_factory=Fate)

    @property
    def over(self) -> bool:
        """The scheduler is done with it."""
        return self.ended_at is not None


class World:
    """The site. ``now`` is seconds since the epoch; ``clock_s`` a monotonic clock."""

    def __init__(self, style: Style, random: Random) -> None:
        self.style = style
        self.random = random
        self.now = EPOCH
        self._looks = 0
        self.jobs: list[SimulatedJob] = []  # in the order of submission; native ids may repeat
        self.tasks: dict[tuple[str, int], Task] = {}
        self.fates: Callable[[Submission, int], Fate] = lambda _submission, _number: Fate()
        # Makes a task's claim in its folder for a native id: whose it is then. None: the folder is gone, nothing can run.
        self.claims: Callable[[Task, str], str | None] = lambda task, native_id: task.holder or native_id
        self._events: list[tuple[float, int, SimulatedJob, int, Callable[[SimulatedJob], None]]] = []
        self._order = 0
        self._next_id = 0

    def clock_s(self) -> float:
        """The monotonic clock. A look at it takes a microsecond, so that what is asked later is asked later."""
        self._looks += 1
        return self.now - EPOCH + 1000.0 + self._looks * 1e-6

    # Time -------------------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due happen, in order."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            at, _, job, epoch, what = heapq.heappop(self._events)
            self.now = max(self.now, at)
            if job.epoch == epoch and not job.over:
                what(job)
        self.now = end

    def next_event_s(self) -> float | None:
        """Seconds until something happens by itself."""
        return max(0.0, self._events[0][0] - self.now) if self._events else None

    def _after(self, seconds: float, job: SimulatedJob, what: Callable[[SimulatedJob], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (self.now + seconds, self._order, job, job.epoch, what))

    # Submission -------------------------------------------------------------------------------------------------------

    def _native_id(self) -> str:
        self._next_id = self._next_id % self.style.ids + 1
        return str(self._next_id)

    def accept(self, submission: Submission, nonce: str) -> list[SimulatedJob]:
        """Take a submission into the queue: one job, or one for each index."""
        array_id = self._native_id()
        made = []
        for number, index in enumerate(submission.indices or (None,)):
            task = self.tasks.get((submission.token, number))
            if task is None:
                task = Task(
                    token=submission.token,
                    number=number,
                    fate=self.fates(submission, number),
                    rerunnable=submission.description.rerunnable,
                    nonce=nonce,
                    folder=submission.folder,
                )
                self.tasks[submission.token, number] = task
            job = SimulatedJob(
                native_id=array_id if index is None else f"{array_id}.{index}",
                array_id=None if index is None else array_id,
                name=submission.description.shown_name,
                submitted_at=self.now,
                task=task,
                token=submission.token,
                fate=task.fate,
            )
            self.jobs.append(job)
            made.append(job)
            if submission.description.hold:
                job.state, job.by = JobState.HELD, By.USER
            else:
                self._after(task.fate.wait_s, job, self._start)
        return made

    def intrude(self, native_id: str, fate: Fate) -> SimulatedJob:
        """Somebody else's job gets a native id that one of ours had."""
        job = SimulatedJob(native_id=native_id, name="somebody-else", submitted_at=self.now, fate=fate)
        self.jobs.append(job)
        self._after(fate.wait_s, job, self._start)
        return job

    def find(self, native_id: str) -> SimulatedJob | None:
        """The newest job with that id."""
        for job in reversed(self.jobs):
            if job.native_id == native_id:
                return job
        return None

    # Running ----------------------------------------------------------------------------------------------------------

    def _start(self, job: SimulatedJob) -> None:
        job.epoch += 1
        run = Run(number=len(job.runs) + 1, native_id=job.native_id, began_at=self.now, host=f"node{len(self.jobs)}")
        job.runs.append(run)
        job.state, job.by = JobState.RUNNING, None
        task = job.task
        if task is None:
            job.remaining_s, job.resumed_at = job.fate.duration_s, self.now
            self._after(job.remaining_s, job, self._end)
            return
        holder = self.claims(task, job.native_id)
        if holder is None:
            run.exit_code = 127  # no shepherd to be found
            self._after(0.01, job, self._over)
        elif holder == job.native_id and (task.rerunnable or not task.runs):
            task.holder = holder
            self._begin(job, task, run)
        else:
            taken = 1 + sum(name.endswith((".begin.json", ".refused.json")) for name in task.receipts)
            self._receipt(task, run, "refused", taken, holder={"native_id": holder or None, "host": "elsewhere", "pid": 1})
            run.exit_code = 0
            self._after(0.01, job, self._over)

    def _begin(self, job: SimulatedJob, task: Task, run: Run) -> None:
        fate = task.fate
        task.runs.append(run)
        run.claimed = True
        run.receipt_attempt = 1 + sum(name.endswith((".begin.json", ".refused.json")) for name in task.receipts)
        self._receipt(task, run, "begin", run.receipt_attempt)
        if fate.never_starts is not None:
            run.aborted, run.message, run.cause = True, fate.never_starts, Cause.NOT_STARTED
            self._after(0.01, job, self._end)
            return
        job.remaining_s, job.resumed_at = fate.duration_s, self.now
        if fate.requeue_after_s is not None and len(job.runs) == 1 and fate.requeue_after_s < fate.duration_s:
            self._after(fate.requeue_after_s, job, self.requeue)
        else:
            self._after(fate.duration_s, job, self._end)

    def _end(self, job: SimulatedJob) -> None:
        """The run ends by its own fate."""
        job.epoch += 1
        run, fate = job.runs[-1], job.fate
        if run.aborted:
            self._write_end(job, run)
            self._over(job)
        elif fate.cut is not None and (run.number == 1 or not fate.node_runs_again):
            if fate.cut is Cause.NODE:
                run.cause = Cause.NODE
                run.ended_at = self.now
                if fate.node_runs_again:
                    self._queue_again(job)
                else:
                    self._over(job)
            else:
                self._kill(job, fate.cut)
        else:
            run.exit_code, run.signal = (None, fate.signal) if fate.signal is not None else (fate.exit_code, None)
            run.core = fate.core
            if fate.end_receipt:
                self._write_end(job, run)
            self._over(job)

    def _kill(self, job: SimulatedJob, cause: Cause) -> None:
        """Cut short by the scheduler: with a warning and a receipt, or at once."""
        run = job.runs[-1]
        run.cause = cause
        if self.style.warns_before_kill and cause is not Cause.MEMORY:
            run.noted.append(("SIGTERM", self.now))
            if job.fate.traps is not None:
                run.exit_code = job.fate.traps
            else:
                run.signal = _signal.SIGTERM
            if job.fate.end_receipt:
                self._write_end(job, run)
        else:
            run.signal = _signal.SIGKILL
        self._over(job)

    def _over(self, job: SimulatedJob) -> None:
        job.epoch += 1
        job.ended_at = self.now
        run = job.runs[-1] if job.runs else None
        if run is not None and run.ended_at is None:
            run.ended_at = self.now
        if job.cancelled and (run is None or run.cause is Cause.CANCELLED):
            job.state = JobState.CANCELLED
        else:
            job.state = JobState.DONE if run is not None and run.exit_code == 0 and run.cause is Cause.EXITED else JobState.FAILED

    def requeue(self, job: SimulatedJob) -> None:
        """End the present run, leaving a stale receipt where there is a warning, and queue the job again."""
        job.epoch += 1
        run = job.runs[-1]
        run.ended_at, run.cause = self.now, Cause.REQUEUED
        if run.claimed and self.style.warns_before_kill:
            run.noted.append(("SIGTERM", self.now))
            run.signal = _signal.SIGTERM
            self._write_end(job, run)
        self._queue_again(job)

    def _queue_again(self, job: SimulatedJob) -> None:
        job.state, job.by = JobState.QUEUED, None
        self._after(job.fate.wait_s + 1.0, job, self._start)

    # Control ----------------------------------------------------------------------------------------------------------

    def cancel(self, job: SimulatedJob) -> None:
        """End it, whatever it does."""
        job.cancelled = True
        job.epoch += 1
        if job.state.waiting:
            if job.runs:  # between two runs: nothing of it runs
                job.runs[-1].cause = Cause.CANCELLED
            self._over(job)
        else:
            self._after(0.2, job, lambda one: self._kill(one, Cause.CANCELLED))

    def hold(self, job: SimulatedJob) -> None:
        """Keep a waiting job from starting."""
        job.epoch += 1
        job.state, job.by = JobState.HELD, By.USER

    def release(self, job: SimulatedJob) -> None:
        """Undo that."""
        job.epoch += 1
        job.state, job.by = JobState.QUEUED, None
        self._after(job.fate.wait_s, job, self._start)

    def suspend(self, job: SimulatedJob) -> None:
        """Stop a running job where it is."""
        job.epoch += 1
        job.remaining_s = max(0.01, job.remaining_s - (self.now - job.resumed_at))
        job.state, job.by = JobState.SUSPENDED, By.USER

    def resume(self, job: SimulatedJob) -> None:
        """Let it go on."""
        job.epoch += 1
        job.state, job.by = JobState.RUNNING, None
        job.resumed_at = self.now
        self._after(job.remaining_s, job, self._end)

    # What is shown ----------------------------------------------------------------------------------------------------

    def _write_end(self, job: SimulatedJob, run: Run) -> None:
        task = job.task
        if task is None or not run.claimed:
            return
        run.ended_at = self.now
        clean = not run.noted and (run.signal is None or run.signal in FAULTS)
        self._receipt(
            task,
            run,
            "end",
            run.receipt_attempt,
            exit_code=run.exit_code,
            signal=run.signal,
            core=run.core,
            cause=Cause.NOT_STARTED.value if run.aborted else None,
            message=run.message,
            signals=[list(one) for one in run.noted],
            clean=clean,
            usage={"wall_s": run.ended_at - run.began_at, "user_s": 0.25, "system_s": 0.0},
            began_at=None if run.aborted else run.began_at,
            ended_at=run.ended_at,
            aborted=run.aborted,
        )

    def _receipt(self, task: Task, run: Run, kind: str, attempt: int, **values: object) -> None:
        data = {
            "format": 1,
            "nonce": task.nonce,
            "token": task.token,
            "task": task.number,
            "attempt": attempt,
            "kind": kind,
            "at": self.now,
            "native_id": run.native_id,
            "host": run.host,
            "pid": 1000 + attempt,
            **values,
        }
        name = f"receipt.{task.number}.{attempt}.{kind}.json"
        task.receipts[name] = (self.now + task.fate.receipt_late_s, json.dumps(data).encode())

    def receipts(self, token: str) -> Iterator[tuple[str, bytes]]:
        """Name and content of the receipts in a folder that are visible now."""
        for (its_token, _), task in self.tasks.items():
            if its_token == token:
                for name, (visible_at, content) in task.receipts.items():
                    if visible_at <= self.now:
                        yield name, content

    def word(self, job: SimulatedJob) -> Ending:
        """How the job ended as the scheduler records it: of its last run, whoever's command that ran."""
        run = job.runs[-1] if job.runs else None
        began_at = run.began_at if run is not None else None
        if run is None or run.cause is Cause.CANCELLED:
            if self.style.says_cancelled or run is None or run.signal is None:
                return Ending(
                    state=JobState.CANCELLED, cause=Cause.CANCELLED, began_at=began_at, ended_at=job.ended_at, aborted=run is None
                )
            return Ending(
                state=JobState.FAILED,
                cause=Cause.EXITED,
                signal=signal_name(run.signal),
                began_at=began_at,
                ended_at=job.ended_at,
            )
        if run.cause in (Cause.WALLTIME, Cause.MEMORY, Cause.NODE):
            return Ending(state=JobState.FAILED, cause=run.cause, began_at=began_at, ended_at=job.ended_at)
        if run.aborted:  # the shepherd exits with 125 to 127 where the command cannot be run
            return Ending(state=JobState.FAILED, cause=Cause.EXITED, exit_code=127, began_at=began_at, ended_at=job.ended_at)
        return Ending(
            state=job.state,
            cause=Cause.EXITED,
            exit_code=run.exit_code,
            signal=signal_name(run.signal) if run.signal is not None else None,
            began_at=began_at,
            ended_at=job.ended_at,
            host=run.host,
        )
