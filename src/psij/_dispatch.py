"""Status callbacks, off the threads that follow jobs: in order for each job, jobs beside each other."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import Job

__all__ = ["calls_back", "tell"]

_MOST = 4
_IDLE_S = 2.0


class _Pool:
    """At most four threads, which end when there is nothing to do for a while."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._due: deque[Job] = deque()
        self._threads = 0
        self._idle = 0

    def tell(self, job: Job) -> None:
        """Call the callbacks of a job for what they have not been told, soon, on one of the threads."""
        with self._condition:
            self._due.append(job)
            if self._idle >= len(self._due) or self._threads >= _MOST:
                self._condition.notify()
                return
            self._threads += 1
        threading.Thread(target=self._work, name="psij-callbacks", daemon=True).start()

    def _work(self) -> None:
        _this_thread.calls_back = True
        while True:
            with self._condition:
                self._idle += 1
                due = self._condition.wait_for(lambda: self._due, _IDLE_S)
                self._idle -= 1
                if not due:
                    self._threads -= 1
                    return
                job = self._due.popleft()
            job._tell()
            del job  # an idle thread keeps no job alive


_pool = _Pool()
_this_thread = threading.local()


def calls_back() -> bool:
    """Whether this thread is one of those that call back."""
    return getattr(_this_thread, "calls_back", False)


def tell(job: Job) -> None:
    """Call the callbacks of the job for what they have not been told."""
    _pool.tell(job)


def _fresh_pool() -> None:
    global _pool  # noqa: PLW0603 - the parent's threads do not exist here, and its lock may have been held
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_pool)
