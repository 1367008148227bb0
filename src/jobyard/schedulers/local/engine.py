"""The life of jobs in the server: accepted, held, chosen, handed over, begun, ended. Nothing here waits or writes a file;
what must be durable is noted in ``dirty`` and ``batches``, what must be told in ``told``, and server.py commits both in order.
"""

from __future__ import annotations

import heapq
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import SubmitError, UnsupportedAttribute
from ...job import Cause
from . import kernel
from .bookings import NO_KIND, Bookings
from .jobs import CANCEL, ENDING, HOLD, MEMORY, MET, MOST_DEPENDENCIES, REQUEUE, WALLTIME, Batch, Job, Run, Wait
from .protocol import CANCELLED, DONE, FAILED, QUEUED, RUNNING, SUSPENDED, encode_ending
from .queue import Need, Queue
from .reasons import not_started
from .ring import END, FAIL, PASSED, PID, SPAWNING, Record
from .shepherded import ending_of, first_state, stages_of, usage_of, wait_status

if TYPE_CHECKING:
    from .cgroup import Groups
    from .link import Link
    from .machine import Machine

__all__ = ["Engine"]

SHEPHERD_FAILED = 125 << 8  # nothing was run
TIMERS = 10_000
TOLD = "told by its shepherd"
NOTHING = Need(0, 0, 0)


class Engine:
    """Jobs that have not ended, and what may be done with them now."""

    def __init__(self, machine: Machine, grace_s: float) -> None:
        self.machine = machine
        self.grace_s = grace_s
        self.jobs: dict[int, Job] = {}
        self.queue: Queue[Job] = Queue()
        self.next_number = 1
        self.link: Link | None = None
        # For the next commit.
        self.new_batches: list[tuple[Batch, list[Job]]] = []
        self.dirty: dict[int, Job] = {}
        self.events: list[tuple[int, float, int, int, bytes]] = []
        self.told: list[tuple[Job, int, float, int, str]] = []  # job, state, at, by, reason
        self.after_commit: list[Callable[[], None]] = []
        self.hand_over: list[list[Any]] = []
        self.hand_ahead: list[list[Any]] = []
        self.bookings = Bookings(machine)
        self._ahead_priority = 0  # of the last job that was handed over ahead
        self._recalls = 0  # on their way
        self._recalling_all = False  # one of them asks all back that lies ahead
        self._doomed: list[tuple[Job, str]] = []  # their dependencies cannot be met
        # Time.
        self._timers: list[tuple[float, int, int, Callable[[Job], None], int]] = []
        self._timer_count = 0
        self._timers_most = TIMERS  # then those of jobs that have ended are thrown out
        self._begins: list[tuple[float, int]] = []
        self.groups: Groups | None = None  # that enforce memory limits
        self.limited: dict[int, Job] = {}  # running, with a memory limit
        self.staged: dict[int, Job] = {}  # running, with stages that their shepherds report
        self.own_signal: Callable[[Job, int, int], bool] | None = None  # to jobs that this process itself watches
        self.own_end: Callable[[Job, int, float], bool] | None = None

    # Accepting ----------------------------------------------------------------------------------------------------------

    def check(self, job: Job) -> None:
        """UnsupportedAttribute where this machine can never run it. An exclusive one books all cores."""
        traits, total = job.traits, self.machine.total
        need = traits.need
        if traits.immediate:
            traits.need = NOTHING
            return
        if traits.exclusive and need.cores <= total.cores:
            need = traits.need = need._replace(cores=total.cores)
        for field, wanted, there, unit in (
            ("cores", need.cores, total.cores, "cores"),
            ("memory", need.memory, total.memory, "bytes of memory"),
            ("gpus", need.gpus, total.gpus, "GPUs"),
        ):
            if wanted > there:
                raise UnsupportedAttribute(
                    f"{field}: {wanted} {unit} asked for, but the local scheduler of this machine has {there}",
                    field=field,
                    scheduler="local",
                )
        if len(traits.after) > MOST_DEPENDENCIES:
            raise SubmitError(f"local takes at most {MOST_DEPENDENCIES} dependencies for a job, not {len(traits.after)}")

    def accept(self, batch: Batch, jobs: list[Job]) -> None:
        """Take in new jobs whose dependencies were resolved."""
        self.new_batches.append((batch, jobs))
        now = time.time()
        for job in jobs:
            self.jobs[job.number] = job
            if job.traits.hold:
                job.flags |= HOLD
            self.wait_for_time(job, now)
            job.state = job.waiting_state()
            if job.state == QUEUED:
                self.enqueue(job)
            else:
                self.note(job, job.state, batch.at, job.held_by())  # from the beginning

    def wait_for_time(self, job: Job, now: float) -> None:
        """Hold a job until its time has come."""
        begin = job.traits.begin_at
        if begin is not None and begin > now:
            job.waits += 1
            heapq.heappush(self._begins, (begin, job.number))
        deadline = job.traits.deadline_at
        if deadline is not None:
            self.timer(kernel.boot_now() + max(0.0, deadline - now), job, self._too_late, attempt=-1)

    def enqueue(self, job: Job) -> None:
        """Let it wait for room; one that books nothing starts at once."""
        if job.traits.immediate:
            self._hand(job, NO_KIND)
            return
        self.queue.add(job)
        if job.priority != self._ahead_priority:
            ahead = self.bookings.ahead() if not self._recalling_all else None
            if ahead and job.priority > min(one.priority for one in ahead):
                self._recalling_all = True  # nothing is handed over ahead until that is answered
                self.recall([one.number for one in ahead], self._recalled_all)

    def _recalled_all(self) -> None:
        self._recalling_all = False

    def note(self, job: Job, state: int, at: float, by: int = 0, text: str = "") -> None:
        """A transition that is not told by the job's own row: kept, and told."""
        self.events.append((job.number, at, state, by, os.fsencode(text)))
        self.told.append((job, state, at, by, text))

    # Choosing -----------------------------------------------------------------------------------------------------------

    def schedule(self) -> None:
        """Hand over what can start, and a window of what comes next."""
        link = self.link
        if link is None or not link.ready:
            return
        bookings = self.bookings
        bookings.settle()
        for kind in bookings.to_go():
            link.ask("go", kind, partial(bookings.went, kind))
        if len(self.queue) and self.machine.free.cores > 0:
            for job in self.queue.choose(self.machine.free, bookings.running(), kernel.boot_now()):
                self._hand(job, bookings.kind(job))
        # While jobs are being recalled it is not known which places are taken, so none are promised.
        if not len(self.queue) or self._recalls:
            return
        for kind, need, count in bookings.window():
            for one in self.queue.ahead(need, count):
                bookings.put_ahead(one, kind)
                self._ahead_priority = one.priority
                self.hand_ahead.append(self._item(one, kind, [] if self.machine.gpus else None))

    def _hand(self, job: Job, kind: int) -> None:
        self.hand_over.append(self._item(job, kind, self.bookings.book(job, kind)))

    def _item(self, job: Job, kind: int, gpus: list[bytes] | None = None) -> list[Any]:
        """Hand-over of a job; from the next commit on it is the spawner's."""
        batch, number = job.batch, job.number
        assert self.link is not None
        job.run = Run(self.link.generation, job.attempts + 1, kind, gpus)
        self.dirty[number] = job
        extra = None
        if batch.array or gpus is not None:
            extra = (batch.index(number), batch.array, gpus)
        blob = job.blob if job.blob is not None else batch.blob
        return [number, batch.token(number).encode(), batch.environment, kind, extra, blob]

    def recall(self, numbers: list[int], then: Callable[[], None] | None = None) -> None:
        """Ask jobs back that were handed over; those that have not started are queued again when ``then`` is called."""
        link = self.link
        assert link is not None

        self._recalls += 1

        def answered(recalled: list[int] | None) -> None:
            self._recalls -= 1
            for number in recalled or ():
                job = self.jobs[number]
                self.bookings.unbook(job)
                job.run = None
                self.dirty[number] = job
                self.enqueue(job)
            if then is not None:
                then()

        link.ask("recall", numbers, answered)

    # The spawner's records ------------------------------------------------------------------------------------------------

    def record(self, record: Record) -> None:
        """Take in one record of the ring."""
        job = self.jobs.get(record.number)
        if job is None or job.run is None:
            return  # removed in the meantime
        kind = record.kind
        if kind == SPAWNING:
            self.bookings.take_over(job)
            job.run.began, job.run.booted, job.run.stream = record.at, record.booted, record.stream
        elif kind == PID:
            run = job.run
            run.pid, run.took_s = record.pid, record.user_us / 1e6
            self.begun(job)
        else:
            self.bookings.take_over(job)
            if record.flags & PASSED:
                self.bookings.passed(job)
            if kind == END:
                self.ended(job, record.at, record.status, record[9:18])
            elif kind == FAIL:
                self.failed_to_start(job, record.at, record.flags & ~PASSED, record.errno)

    def begun(self, job: Job) -> None:
        """It runs."""
        run = job.run
        assert run is not None
        job.state = RUNNING if not job.traits.stages else first_state(job)
        job.attempts = run.attempt
        self.dirty[job.number] = job
        if job.state == RUNNING:
            self.told.append((job, RUNNING, run.began, 0, ""))
        else:
            self.note(job, job.state, run.began, 0, TOLD)
        if job.traits.stages:
            job.stage = 1 if job.state != RUNNING else 0  # stage receipts that were told
            self.staged[job.number] = job
        self.watch_limits(job)
        if job.flags & ENDING:
            self.after_commit.append(lambda: self.end_processes(job))

    def look_at_stages(self) -> None:
        """Take in the stages that shepherds report."""
        for job in self.staged.values():
            self._note_stages(job)

    def _note_stages(self, job: Job) -> None:
        told = stages_of(job)
        for state, at in told[job.stage :]:
            self.note(job, state, at, 0, TOLD)
            if job.state != SUSPENDED:
                job.state = state
                self.dirty[job.number] = job
        job.stage = max(job.stage, len(told))

    def watch_limits(self, job: Job) -> None:
        """Set the timers of a running job."""
        traits, run = job.traits, job.run
        assert run is not None
        if traits.walltime_s is not None:
            self.timer(run.booted + traits.walltime_s, job, self._over_walltime, run.attempt)
        self.watch_run_time(job)
        if traits.memory is not None:
            self.limited[job.number] = job
            if self.groups is not None:
                self.groups.limit(job.number, run.pid, traits.memory)

    def watch_run_time(self, job: Job) -> None:
        """Set the timer of the time that a job may run, suspended time left out."""
        limit, run = job.traits.run_time_s, job.run
        if limit is not None and run is not None and not run.suspended_at:
            self.timer(run.booted + run.suspended_s + limit, job, self._over_run_time, run.attempt)

    def ended(self, job: Job, at: float, status: int | None, usage: tuple[int, ...] | None, message: str = "") -> None:
        """Its leader has ended, with that wait status (None: nobody can know it)."""
        run = job.run
        assert run is not None
        if self.groups is not None and job.number in self.limited:
            if self.groups.passed(job.number):
                job.flags |= MEMORY
            self.groups.drop(job.number)
        flags = job.flags
        if flags & REQUEUE and not flags & CANCEL and (status is not None or job.traits.rerunnable):
            self._requeued(job, at)
            return
        state, cause = FAILED, Cause.EXITED
        began: float | None = run.began or None
        aborted = False
        if job.traits.folder is not None:
            if job.traits.stages:
                self._note_stages(job)
            found = ending_of(job)
            if found is not None:  # the shepherd's own end says nothing beyond it
                status, cause, message, aborted = wait_status(found), found.cause, found.message, found.aborted
                began, usage = found.began_at, usage_of(found.usage)
                state = DONE if found.success else FAILED
            else:
                cause, aborted = Cause.SHEPHERD, status == SHEPHERD_FAILED
                message = message or "the shepherd around it ended without a receipt"
        if flags & CANCEL:
            state, cause = CANCELLED, Cause.CANCELLED
        elif flags & WALLTIME:
            cause = Cause.WALLTIME
        elif flags & MEMORY:
            cause = Cause.MEMORY
        elif job.traits.folder is not None:
            if cause is Cause.SHEPHERD and status is None:
                cause = Cause.LOST
        elif status is None:
            cause = Cause.LOST
        elif status == 0:
            state = DONE
        elif job.traits.cpu_s is not None and _over_cpu(status, usage, job.traits.cpu_s):
            cause = Cause.CPU_TIME
        self._finish(job, state, cause, at, status=status, began=began, usage=usage, aborted=aborted, message=message)

    def failed_to_start(self, job: Job, at: float, what: int, errno: int) -> None:
        """Its directory, streams or program could not be used."""
        blob = job.blob if job.blob is not None else job.batch.blob
        assert blob is not None
        message = not_started(what, errno, blob, job.batch.index(job.number), job.batch.array or job.number)
        self._finish(job, FAILED, Cause.NOT_STARTED, at, aborted=True, message=message)

    def drop(self, job: Job, state: int, cause: Cause, message: str) -> None:
        """End a job that never ran, and is not the spawner's."""
        self.queue.discard(job)
        self._finish(job, state, cause, time.time(), aborted=True, message=message)

    def _finish(
        self,
        job: Job,
        state: int,
        cause: Cause,
        at: float,
        *,
        status: int | None = None,
        began: float | None = None,
        usage: tuple[int, ...] | None = None,
        aborted: bool = False,
        message: str = "",
    ) -> None:
        if job.run is not None:
            self.bookings.unbook(job)
        job.ending = encode_ending(
            state,
            cause,
            status,
            job.batch.at,
            began,
            at,
            aborted=aborted,
            message=message,
            attempts=max(job.attempts, 0 if aborted else 1),
            usage=usage,
        )
        job.ended, job.state = at, state
        self.limited.pop(job.number, None)
        self.staged.pop(job.number, None)
        self.dirty[job.number] = job
        del self.jobs[job.number]
        self.told.append((job, state, at, 0, ""))
        if job.traits.spent and not job.batch.array:
            folder = job.traits.folder
            assert folder is not None
            self.after_commit.append(lambda: shutil.rmtree(folder, ignore_errors=True))
        if job.dependents is not None:
            for wait in job.dependents:
                self._target_ended(wait, state)

    def _requeued(self, job: Job, at: float) -> None:
        run = job.run
        assert run is not None
        self.bookings.unbook(job)
        self.events.append((job.number, run.began, RUNNING, 0, b""))
        job.run = None
        job.flags &= ~ENDING
        self.limited.pop(job.number, None)
        self.staged.pop(job.number, None)
        self.dirty[job.number] = job
        job.state = job.waiting_state()
        self.note(job, job.state, at, job.held_by(), "requeued")
        if job.state == QUEUED:
            # Handed over again only when the ring's tail has passed this end: a successor that read it again would take it for
            # the end of the new run.
            self.after_commit.append(lambda: self._queue_again(job))

    def _queue_again(self, job: Job) -> None:
        if job.number in self.jobs and job.run is None and job.state == QUEUED:
            self.enqueue(job)

    # What jobs wait for -----------------------------------------------------------------------------------------------

    def depend(self, job: Job, place: int, when: str, targets: list[Job], states: list[int], token: str) -> None:
        """Let a job wait for others: ``targets`` have not ended, the rest ended with ``states``."""
        wait = Wait(job, place, when, len(targets) + len(states), token)
        job.waits += 1
        for target in targets:
            if target.dependents is None:
                target.dependents = []
            target.dependents.append(wait)
        for state in states:
            self._target_ended(wait, state)

    def _target_ended(self, wait: Wait, state: int) -> None:
        job = wait.job
        if job.ended is not None or wait.done:
            return
        wait.left -= 1
        good = wait.when == "any" or (wait.when == "success") == (state == DONE)
        if wait.when == "failure" and good:
            wait.left = 0  # one that failed is enough
        elif not good and (wait.when == "success" or not wait.left):
            wait.done = True
            what = "success" if wait.when == "success" else "failure"
            self._doomed.append((job, f"it waited for the {what} of {wait.token}, which cannot happen any more"))
            return
        if wait.left:
            return
        wait.done = True
        job.waits -= 1
        job.flags |= MET << wait.place
        if job.number in self.jobs:
            self.dirty[job.number] = job
            self._free_now(job, "what it waited for has ended")

    def _free_now(self, job: Job, text: str) -> None:
        before, job.state = job.state, job.waiting_state()
        if job.state == QUEUED and before != QUEUED:
            self.note(job, QUEUED, time.time(), 0, text)
            self.enqueue(job)
        elif not job.waits and job.flags & HOLD:
            self.note(job, job.state, time.time(), job.held_by(), text)

    # Time -----------------------------------------------------------------------------------------------------------------

    def timer(self, at: float, job: Job, act: Callable[[Job], None], attempt: int) -> None:
        """Call ``act`` at that time (seconds since boot) if that attempt (-1: any) is still the job's."""
        self._timer_count += 1
        if len(self._timers) > self._timers_most:
            self._timers = [one for one in self._timers if self._still_due(one[2], one[4])]
            heapq.heapify(self._timers)
            self._timers_most = max(TIMERS, 2 * len(self._timers))
        heapq.heappush(self._timers, (at, self._timer_count, job.number, act, attempt))

    def _still_due(self, number: int, attempt: int) -> bool:
        job = self.jobs.get(number)
        return job is not None and (attempt < 0 or (job.run is not None and job.run.attempt == attempt))

    def next_time(self) -> float | None:
        """Seconds until something is to be done."""
        found = None
        if self._timers:
            found = self._timers[0][0] - kernel.boot_now()
        if self._begins:
            begins = min(self._begins[0][0] - time.time(), 30.0)  # the clock may be set in the meantime
            found = begins if found is None else min(found, begins)
        return None if found is None else max(0.0, found)

    def pass_time(self) -> None:
        """Do what is due."""
        while self._doomed:
            job, text = self._doomed.pop()
            if job.ended is None and job.number in self.jobs:
                self.drop(job, FAILED, Cause.DEPENDENCY, text)
        now = kernel.boot_now()
        while self._timers and self._timers[0][0] <= now:
            _, _, number, act, attempt = heapq.heappop(self._timers)
            if self._still_due(number, attempt):
                act(self.jobs[number])
        clock = time.time()
        while self._begins and self._begins[0][0] <= clock:
            waiting = self.jobs.get(heapq.heappop(self._begins)[1])
            if waiting is not None:
                waiting.waits -= 1
                self._free_now(waiting, "its time has come")

    def _over_walltime(self, job: Job) -> None:
        if job.state in (RUNNING, SUSPENDED) or job.run is not None:
            self.terminate(job, WALLTIME)

    def _over_run_time(self, job: Job) -> None:
        run = job.run
        assert run is not None
        limit = job.traits.run_time_s
        if limit is None or run.suspended_at:
            return
        due = run.booted + run.suspended_s + limit
        if due > kernel.boot_now():
            self.timer(due, job, self._over_run_time, run.attempt)  # it was suspended since
        else:
            self.terminate(job, WALLTIME)

    def _too_late(self, job: Job) -> None:
        deadline = job.traits.deadline_at
        assert deadline is not None
        left = deadline - time.time()
        if left > 0:
            self.timer(kernel.boot_now() + left, job, self._too_late, attempt=-1)
        elif job.run is not None and job.run.pid:
            self.terminate(job, WALLTIME)
        elif job.run is None:
            self.drop(job, FAILED, Cause.WALLTIME, "its deadline passed before it could begin")
        else:
            self.recall([job.number], lambda: self._recalled_late(job))  # it lies with the spawner

    def _recalled_late(self, job: Job) -> None:
        if job.ended is None:
            if job.run is None:
                self.drop(job, FAILED, Cause.WALLTIME, "its deadline passed before it could begin")
            else:
                self.terminate(job, WALLTIME)

    # Ending jobs ------------------------------------------------------------------------------------------------------

    def terminate(self, job: Job, why: int) -> None:
        """End a job that is the spawner's or runs: the reason goes to the journal first, then TERM, grace, KILL."""
        if job.flags & ENDING:
            if why == CANCEL:
                job.flags = (job.flags & ~REQUEUE) | CANCEL
                self.dirty[job.number] = job
            return
        job.flags |= why
        self.dirty[job.number] = job
        run = job.run
        if run is not None and run.pid:
            self.after_commit.append(lambda: self.end_processes(job))

    def end_processes(self, job: Job) -> None:
        """TERM now (KILL for one over its memory), KILL when the grace is over."""
        run = job.run
        if run is None or job.ended is not None:
            return
        hard = bool(job.flags & MEMORY)
        self._end(job, signal.SIGKILL if hard else signal.SIGTERM)
        if not hard:
            self.timer(kernel.boot_now() + self.grace_s, job, lambda one: self._end(one, signal.SIGKILL), run.attempt)

    def _end(self, job: Job, signum: int) -> None:
        if self.own_end is not None and self.own_end(job, signum, self.grace_s):
            return
        if self.link is not None:

            def sent(done: Any) -> None:
                if done is None and job.ended is None:  # the spawner died, perhaps before it: the job is ours now
                    self._end(job, signum)

            self.link.ask("end", [job.number, int(signum), self.grace_s], sent)

    def signal(self, job: Job, signum: int, whom: int, then: Callable[[], None]) -> None:
        """Send a signal to a running job's processes; ``then`` when it was sent."""
        if (self.own_signal is not None and self.own_signal(job, signum, whom)) or self.link is None:
            then()
            return

        def sent(done: Any) -> None:
            if done is None and signum in (signal.SIGSTOP, signal.SIGCONT) and self.own_signal is not None:
                self.own_signal(job, signum, whom)  # the spawner died, perhaps before it: safe to repeat
            then()

        self.link.ask("signal", [(job.number, signum, whom)], sent)

    def forget(self, jobs: list[Job]) -> None:
        """New jobs that could not be written down: they never were."""
        gone = {job.number for job in jobs}
        for job in jobs:
            self.queue.discard(job)  # its struck-out place goes when it comes first: its number is never given again
            if job.run is not None:
                self.bookings.unbook(job)
            self.jobs.pop(job.number, None)
            self.dirty.pop(job.number, None)
        self.hand_over = [item for item in self.hand_over if item[0] not in gone]
        self.hand_ahead = [item for item in self.hand_ahead if item[0] not in gone]
        self.events = [event for event in self.events if event[0] not in gone]
        self.told = [told for told in self.told if told[0].number not in gone]

    def unfinished_handed(self) -> deque[Job]:
        """Jobs that the spawner has, in order."""
        return deque(job for job in self.jobs.values() if job.run is not None)

    def unhand(self, job: Job) -> None:
        """A job that never started is queued again."""
        self.bookings.unbook(job)
        job.run = None
        self.dirty[job.number] = job
        if job.flags & CANCEL:
            self.drop(job, CANCELLED, Cause.CANCELLED, "cancelled before it began")
        elif job.flags & WALLTIME:
            self.drop(job, FAILED, Cause.WALLTIME, "its deadline passed before it could begin")
        elif job.waiting_state() == QUEUED:
            self.enqueue(job)


def _over_cpu(status: int, usage: tuple[int, ...] | None, limit_s: float) -> bool:
    number = status & 0x7F
    if number == signal.SIGXCPU:
        return True
    return number == signal.SIGKILL and usage is not None and (usage[0] + usage[1]) / 1e6 >= limit_s
