"""Controls on jobs in the server: each checked against the job's state, durable before it is acknowledged."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from ...errors import ControlError, JobyardError, WrongState
from ...job import Cause
from . import kernel
from .children import GROUP, SESSION
from .engine import Engine
from .jobs import CANCEL, ENDING, HOLD, REQUEUE, Job
from .protocol import CANCELLED, CLEANING, HELD, QUEUED, RUNNING, STAGING_IN, STAGING_OUT, STATES, SUSPENDED

__all__ = ["Control"]

UNDER_WAY = (RUNNING, STAGING_IN, STAGING_OUT, CLEANING)


class Control:
    """One request to control jobs. ``then`` is called with an error, or None, for each when all is done."""

    def __init__(
        self,
        engine: Engine,
        action: str,
        number: int | None,
        then: Callable[[list[JobyardError | None]], None],
        decided: Callable[[list[JobyardError | None]], None] = lambda answers: None,
    ) -> None:
        self._engine = engine
        self._action = action
        self._signal = number
        self._then = then
        self._decided = decided  # called in the round whose commit holds what was done, before any signal is sent
        self._answers: list[JobyardError | None] = []
        self._open = 1

    def run(self, jobs: list[Job | JobyardError]) -> None:
        """Do it. What the spawner has been handed is asked back first where that matters."""
        engine = self._engine
        self._answers = [job if isinstance(job, JobyardError) else None for job in jobs]
        wanted = [(place, job) for place, job in enumerate(jobs) if isinstance(job, Job)]
        handed = [job for _, job in wanted if job.run is not None and not job.run.pid]
        if handed and engine.link is not None:
            self._open += 1

            def recalled() -> None:
                self._all(wanted)
                self._close()

            engine.recall([job.number for job in handed], recalled)
        else:
            self._all(wanted)
        self._close()

    def _close(self) -> None:
        self._open -= 1
        if not self._open:
            self._then(self._answers)

    def _all(self, wanted: list[tuple[int, Job]]) -> None:
        act = _ACTS[self._action]
        for place, job in wanted:
            try:
                act(self, job)
            except JobyardError as error:
                self._answers[place] = error
        self._decided(self._answers)

    def again(self, jobs: list[Job | None]) -> None:
        """The request was answered by a server that may have died before it stopped or woke anybody: do that again."""
        wanted = {"suspend": (True, signal.SIGSTOP), "resume": (False, signal.SIGCONT)}.get(self._action)
        for job in jobs:
            if wanted and job is not None and job.run is not None and job.run.pid and bool(job.run.suspended_at) == wanted[0]:
                self._send(job, wanted[1], SESSION)

    # Each action --------------------------------------------------------------------------------------------------------

    def _cancel(self, job: Job) -> None:
        if job.ended is not None:
            if job.state != CANCELLED:
                raise _wrong("cancelled", job)
            return
        if job.run is None:
            self._engine.drop(job, CANCELLED, Cause.CANCELLED, "cancelled before it began")
        else:
            self._engine.terminate(job, CANCEL)

    def _hold(self, job: Job) -> None:
        if job.ended is not None or job.run is not None or job.flags & HOLD:
            raise _wrong("held", job)
        engine = self._engine
        job.flags |= HOLD
        engine.queue.discard(job)
        job.state = HELD
        engine.dirty[job.number] = job
        engine.note(job, HELD, time.time(), job.held_by(), "held by its user")

    def _release(self, job: Job) -> None:
        if job.ended is not None or not job.flags & HOLD:
            raise _wrong("released", job)
        engine = self._engine
        job.flags &= ~HOLD
        job.state = job.waiting_state()
        engine.dirty[job.number] = job
        engine.note(job, job.state, time.time(), job.held_by(), "released by its user")
        if job.state == QUEUED:
            engine.enqueue(job)

    def _suspend(self, job: Job) -> None:
        if job.state not in UNDER_WAY or job.flags & ENDING:
            raise _wrong("suspended", job)
        engine, run = self._engine, job.run
        assert run is not None
        run.suspended_at = kernel.boot_now()
        job.state = SUSPENDED
        engine.dirty[job.number] = job
        engine.note(job, SUSPENDED, time.time(), 1, "suspended by its user")
        self._send(job, signal.SIGSTOP, SESSION)

    def _resume(self, job: Job) -> None:
        if job.state != SUSPENDED:
            raise _wrong("resumed", job)
        engine, run = self._engine, job.run
        assert run is not None
        run.suspended_s += kernel.boot_now() - run.suspended_at
        run.suspended_at = 0.0
        job.state = RUNNING
        engine.dirty[job.number] = job
        engine.note(job, RUNNING, time.time(), 0, "resumed by its user")
        engine.watch_run_time(job)
        self._send(job, signal.SIGCONT, SESSION)

    def _send_signal(self, job: Job) -> None:
        if job.state != SUSPENDED and job.state not in UNDER_WAY:
            raise _wrong("sent a signal", job)
        assert self._signal is not None
        self._send(job, self._signal, GROUP)

    def _requeue(self, job: Job) -> None:
        if job.run is None or not job.run.pid:
            raise _wrong("queued again", job)
        if not job.traits.rerunnable:
            raise WrongState(f"job {job.batch.native_id(job.number)} was not submitted as rerunnable; it cannot be queued again")
        self._engine.terminate(job, REQUEUE)

    def _send(self, job: Job, signum: int, whom: int) -> None:
        self._open += 1
        self._engine.after_commit.append(lambda: self._engine.signal(job, signum, whom, self._close))


def _wrong(done: str, job: Job) -> ControlError:
    state = STATES[job.state]
    return WrongState(f"job {job.batch.native_id(job.number)} is {state}; it cannot be {done}")


_ACTS: dict[str, Callable[[Control, Job], Any]] = {
    "cancel": Control._cancel,
    "hold": Control._hold,
    "release": Control._release,
    "suspend": Control._suspend,
    "resume": Control._resume,
    "signal": Control._send_signal,
    "requeue": Control._requeue,
}
