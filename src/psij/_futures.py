"""Waiting for any or all of many jobs, and futures: no thread for a job."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

from .exceptions import SubmitException
from .job_status import JobStatus

if TYPE_CHECKING:
    from .job import Job

__all__ = ["as_completed", "future_of", "wait_all", "wait_any"]

_LONGEST_S = 1e9  # as good as for ever; locks cannot be waited for as long as timedelta.max


def future_of(job: Job) -> concurrent.futures.Future[JobStatus]:
    """The future of the job's final status; one for each call."""
    future: concurrent.futures.Future[JobStatus] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()
    on_final(job, future.set_result)
    return future


def on_final(job: Job, tell: Callable[[JobStatus], object]) -> None:
    """Call once with the final status: now, or when the job comes to it."""
    if not job.status.final:
        with job._lock:
            if not job._status.final:
                if job._finally is None:
                    job._finally = []
                job._finally.append(tell)
                tell = _nothing
    if tell is not _nothing:
        tell(job._status)
    elif job.executor is not None:
        job.executor._watch_job(job)


def _nothing(status: JobStatus) -> None:
    pass


def _seconds(timeout: timedelta | None) -> float | None:
    if timeout is not None and not isinstance(timeout, timedelta):
        raise TypeError(f"timeout is a timedelta or None, not {type(timeout).__name__} {timeout!r}")
    return None if timeout is None else min(max(0.0, timeout.total_seconds()), _LONGEST_S)


def wait_any(jobs: list[Job], timeout: timedelta | None) -> Job | None:
    """One of the jobs that is in a final state, the first of them if there are some; None where the time is over."""
    if not jobs:
        raise SubmitException("there is no job to wait for")
    timeout_s = _seconds(timeout)
    for job in jobs:
        if job.status.final:
            return job
    try:
        return next(as_completed(jobs, None if timeout_s is None else timedelta(seconds=timeout_s)))
    except TimeoutError:
        return None


def wait_all(jobs: list[Job], timeout: timedelta | None) -> list[JobStatus] | None:
    """The final statuses of all jobs, in order; None where the time is over."""
    timeout_s = _seconds(timeout)
    until = None if timeout_s is None else monotonic() + timeout_s
    found = []
    for job in jobs:
        left = None if until is None else timedelta(seconds=max(0.0, until - monotonic()))
        status = job.wait(left)
        if status is None:
            return None
        found.append(status)
    return found


def as_completed(jobs: list[Job], timeout: timedelta | None) -> Iterator[Job]:
    """The jobs as they come to final states."""
    timeout_s = _seconds(timeout)
    futures = {future_of(job): job for job in jobs}
    for future in concurrent.futures.as_completed(futures, timeout_s):
        yield futures[future]
