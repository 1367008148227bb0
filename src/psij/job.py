"""The job: its specification, its status, and those who want to hear of it."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, overload

from . import _dispatch
from .exceptions import SubmitException
from .job_spec import JobSpec
from .job_state import JobState, between
from .job_status import JobStatus

if TYPE_CHECKING:
    from concurrent.futures import Future

    import jobyard

    from ._info import JobInfo
    from .job_executor import JobExecutor

__all__ = ["LARGE_TIMEOUT", "FunctionJobStatusCallback", "Job", "JobStatusCallback"]

logger = logging.getLogger(__name__)

_CALLBACKS_S = 0.5  # how long wait() lets callbacks catch up,
_BEGUN_S = 5.0  # and how long it waits for them to be called at all, where the machine has much else to do

LARGE_TIMEOUT = timedelta(days=3650)
"""Longer than any program waits."""


class JobStatusCallback(ABC):
    """Hears of changes of a job's status."""

    @abstractmethod
    def job_status_changed(self, job: Job, job_status: JobStatus) -> None:
        """Called for each state of the job, once and in order. What it raises is logged and otherwise ignored.

        ``job.status`` may already be a later one than ``job_status``.
        """


class FunctionJobStatusCallback(JobStatusCallback):
    """A JobStatusCallback that calls a function."""

    def __init__(self, fn: Callable[[Job, JobStatus], None]) -> None:
        self.fn = fn

    def job_status_changed(self, job: Job, job_status: JobStatus) -> None:
        """Call the function."""
        self.fn(job, job_status)


Callback = JobStatusCallback | Callable[["Job", JobStatus], None] | None


def as_callback(cb: Callback) -> JobStatusCallback | None:
    """A JobStatusCallback of either form; TypeError for what is neither."""
    if cb is None or isinstance(cb, JobStatusCallback):
        return cb
    changed = getattr(cb, "job_status_changed", None)
    if callable(changed):
        return FunctionJobStatusCallback(changed)
    if not callable(cb):
        raise TypeError(f"a status callback is a JobStatusCallback, a function of a job and a status, or None, not {cb!r}")
    return FunctionJobStatusCallback(cb)


class Handle(Protocol):
    """What follows submitted jobs for their executor; a job that has none hears of changes by assignment alone."""

    def pull(self, job: Job) -> None:
        """Bring the job's status up to date, without blocking."""

    def wait(self, job: Job, satisfied: Callable[[JobState], bool], final_only: bool, timeout_s: float | None) -> bool:
        """Block until the job's state satisfies, or the time is over; true where it does."""


def _conditions() -> tuple[threading.Condition, ...]:
    return tuple(threading.Condition(threading.Lock()) for _ in range(64))


# What guards a job and wakes those who wait for its changes; each is shared by many jobs. Nobody holds two.
_shared_conditions = _conditions()


class Job:
    """A job: made NEW, then given to a JobExecutor. Any thread may use it."""

    # A program may have 100,000 of them. ``__dict__`` is for what a program adds.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_cb",
        "_engine_job",
        "_finally",
        "_handle",
        "_native_id",
        "_number",
        "_status",
        "_teller",
        "_untold",
        "executor",
        "spec",
    )

    def __init__(self, spec: JobSpec | None = None) -> None:
        if spec is not None and not isinstance(spec, JobSpec):
            raise TypeError(f"Job.spec is a JobSpec or None, not {type(spec).__name__} {spec!r}")
        self.spec = spec
        self.executor: JobExecutor | None = None
        self._number = uuid.uuid4().int
        self._native_id: str | None = None
        self._status = JobStatus(JobState.NEW)
        self._cb: JobStatusCallback | None = None
        self._handle: Handle | None = None
        self._engine_job: jobyard.Job | None = None  # the one it stands for, where its handle is a Link
        self._untold: list[JobStatus] | None = None  # statuses that the callbacks have not been told
        self._teller = 0  # the thread that tells them now; 0: none
        self._finally: list[Callable[[JobStatus], object]] | None = None  # called once, with the final status

    @property
    def id(self) -> str:
        """An id of ours, unique; not the scheduler's."""
        return str(uuid.UUID(int=self._number))

    def _take_id(self, text: str) -> None:
        """Be the job that was submitted under this id, earlier or by another process."""
        self._number = uuid.UUID(text).int

    @property
    def _lock(self) -> threading.Condition:
        """To be held while it is changed, and notified then."""
        return _shared_conditions[self._number & 63]

    @property
    def name(self) -> str | None:
        """The name that was given in the specification, for templates; None where none was."""
        return self.spec._name if self.spec is not None else None

    @property
    def native_id(self) -> str | None:
        """The backend's id of the job; None until it is submitted or attached."""
        return self._native_id

    # Status -----------------------------------------------------------------------------------------------------

    @property
    def status(self) -> JobStatus:
        """The current status. States never go back, and a final one never changes."""
        if self._handle is not None and not self._status.state.final:
            self._handle.pull(self)
        return self._status

    @status.setter
    def status(self, status: JobStatus) -> None:
        """For executors: a state that cannot follow the current one is ignored; states left out are passed first."""
        if self._advance(status):
            self._ended()
            self._tell()

    def _advance(self, *statuses: JobStatus) -> bool:
        """Take those of the statuses that can still come, in one step; whether there were any."""
        lock = self._lock
        with lock:
            before = self._status
            for status in statuses:
                state, current = status.state, self._status.state
                if current.final or state is current or not state.is_greater_than(current):
                    continue
                if state not in (JobState.FAILED, JobState.CANCELED):  # those can follow any state
                    for passed in between(current, state):
                        self._record(JobStatus(passed, status.time, metadata={"synthesised": True}))
                self._record(status)
            if self._status is before:
                return False
            lock.notify_all()
        return True

    def _ended(self) -> None:
        """Complete the futures of a job that has ended. Holding no lock: what they call may be anything."""
        if self._finally is None or not self._status.final:
            return
        with self._lock:
            listeners, self._finally = self._finally, None
        for listener in listeners or ():
            listener(self._status)

    def _unbind(self) -> None:
        """Leave a job that no executor took as it was, so that it can be submitted again."""
        if self._status.state is JobState.NEW:
            self.executor, self._native_id, self._handle, self._engine_job = None, None, None, None

    def _record(self, status: JobStatus) -> None:
        self._status = status
        executor = self.executor
        if self._cb is not None or (executor is not None and getattr(executor, "_cb", None) is not None):
            if self._untold is None:
                self._untold = [status]
            else:
                self._untold.append(status)

    def _tell(self) -> None:
        """Call the callbacks for what they have not been told, in order; one thread at a time does it for a job."""
        while True:
            lock = self._lock
            with lock:
                if self._teller or not self._untold:
                    return
                self._teller = threading.get_ident()
                lock.notify_all()
                status = self._untold.pop(0)
                if not self._untold:
                    self._untold = None
            try:
                self._call(self._cb, status)
                if self.executor is not None:
                    self._call(getattr(self.executor, "_cb", None), status)
            finally:
                lock = self._lock
                with lock:
                    self._teller = 0
                    if not self._untold:
                        lock.notify_all()

    def _call(self, cb: JobStatusCallback | None, status: JobStatus) -> None:
        if cb is None:
            return
        try:
            cb.job_status_changed(self, status)
        except Exception:
            logger.warning("the status callback of %s raised an exception", self, exc_info=True)

    def set_job_status_callback(self, cb: Callback) -> None:
        """Call ``cb`` with the job and its status for each change from now on; None: no longer.

        ``cb`` is a JobStatusCallback or a function of two arguments. It runs besides the executor's own callback, on a
        thread where it delays no other job; ``wait`` and ``submit`` are allowed in it.
        """
        self._cb = as_callback(cb)
        if cb is not None and self.executor is not None:
            self.executor._watch_job(self)

    # Waiting ----------------------------------------------------------------------------------------------------

    @overload
    def wait(self, timeout: None = None, target_states: JobState | Sequence[JobState] | None = None) -> JobStatus: ...
    @overload
    def wait(self, timeout: JobState | Sequence[JobState]) -> JobStatus: ...
    @overload
    def wait(self, timeout: timedelta | None, target_states: JobState | Sequence[JobState] | None = None) -> JobStatus | None: ...
    def wait(
        self,
        timeout: timedelta | JobState | Sequence[JobState] | None = None,
        target_states: JobState | Sequence[JobState] | None = None,
    ) -> JobStatus | None:
        """Wait until the job is in one of ``target_states``, in a state that follows one of them, or in a final one.

        Without ``target_states``: in a final state. Returns the status then, or None where ``timeout`` passed first;
        ``timedelta(0)`` looks once. ``wait(JobState.ACTIVE)`` is understood as well. TypeError for other types.
        """
        if target_states is None and isinstance(timeout, JobState | Sequence):
            timeout, target_states = None, timeout
        if timeout is not None and not isinstance(timeout, timedelta):
            raise TypeError(f"timeout is a timedelta or None, not {type(timeout).__name__} {timeout!r}")
        targets = (target_states,) if isinstance(target_states, JobState) else tuple(target_states or ())
        for target in targets:
            if not isinstance(target, JobState):
                raise TypeError(f"target_states is a JobState or a sequence of them, not {target!r}")

        def satisfied(state: JobState) -> bool:
            return state.final or any(state is target or bool(state.is_greater_than(target)) for target in targets)

        timeout_s = None if timeout is None else max(0.0, timeout.total_seconds())
        done = satisfied(self.status.state)
        if not done and self._handle is not None:
            done = self._handle.wait(self, satisfied, all(target.final for target in targets), timeout_s)
        elif not done:
            done = self._wait_changed(satisfied, timeout_s)
        if done and (self._untold or self._teller):
            self._wait_told()
        return self._status if done else None

    def _wait_told(self) -> None:
        """Let the callbacks be told what the caller is about to know: programs count on it. Slow ones are not waited for,
        nor does a callback wait for itself."""
        lock = self._lock
        with lock:
            if self._teller == threading.get_ident():
                return
            if not _dispatch.calls_back():  # which those who wait for would need, maybe
                lock.wait_for(lambda: self._teller or not self._untold, _BEGUN_S)
            lock.wait_for(lambda: not self._untold and not self._teller, _CALLBACKS_S)

    def _wait_changed(self, satisfied: Callable[[JobState], bool], timeout_s: float | None) -> bool:
        """Wait for assignments to ``status``, by any thread. A job that gets a handle meanwhile is followed by that."""
        until = None if timeout_s is None else monotonic() + timeout_s
        lock = self._lock
        with lock:
            while not satisfied(self._status.state):
                left = None if until is None else until - monotonic()
                if left is not None and left <= 0:
                    return False
                # 2^20 s: a condition's wait overflows at large values
                lock.wait(None if left is None else min(left, 1 << 20))
        return True

    def future(self) -> Future[JobStatus]:
        """A ``concurrent.futures.Future`` of the final status. Cancelling it does not cancel the job."""
        from ._futures import future_of

        return future_of(self)

    def __await__(self) -> Generator[Any, None, JobStatus]:
        import asyncio

        return asyncio.wrap_future(self.future()).__await__()

    # Control ----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancel the job through its executor; nothing happens to one in a final state.

        SubmitException where it was not submitted, or where the request could not be sent.
        """
        if self.status.final:
            return
        self._submitted_to("cancelled").cancel(self)

    def hold(self) -> None:
        """Keep the job from starting. SubmitException where that is refused or the scheduler has no such thing."""
        self._submitted_to("held").hold(self)

    def release(self) -> None:
        """Let a held job start. SubmitException as for hold."""
        self._submitted_to("released").release(self)

    def suspend(self) -> None:
        """Stop a running job for a while. SubmitException as for hold."""
        self._submitted_to("suspended").suspend(self)

    def resume(self) -> None:
        """Let a suspended job go on. SubmitException as for hold."""
        self._submitted_to("resumed").resume(self)

    def info(self) -> JobInfo:
        """What the backend knows of the job: times, usage, host, the reason for waiting."""
        return self._submitted_to("asked about").info(self)

    def _submitted_to(self, what: str) -> JobExecutor:
        if self.executor is None:
            raise SubmitException(f"{self} cannot be {what}: it was not submitted")
        return self.executor

    def __str__(self) -> str:
        return f"Job[id={self.id}, native_id={self._native_id}, executor={self.executor}, status={self._status}]"

    def __hash__(self) -> int:
        return hash(self._number)

    def __eq__(self, other: object) -> bool:
        return self is other


def _fresh_conditions() -> None:
    global _shared_conditions  # noqa: PLW0603 - the parent's other threads may have held them when it forked
    _shared_conditions = _conditions()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_conditions)
