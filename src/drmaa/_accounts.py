"""``usage=accounting``: awaiting the scheduler's own record of a job that has ended."""

from __future__ import annotations

import threading
import time

from jobyard import Job, Scheduler, SchedulerUnavailable, SessionClosed, TransportError, Usage

FIRST_S, LONGEST_S = 0.1, 5.0  # between two questions
PATIENCE_S = 120.0  # accounting that has not heard of an ended job by then never will


class Accounts:
    """Asks a scheduler's accounting."""

    def __init__(self, scheduler: Scheduler, patience_s: float) -> None:
        self._scheduler = scheduler
        self._patience_s = patience_s

    def record(self, job: Job, deadline: float | None, left: threading.Event) -> Usage | None:
        """What accounting says of an ended job's usage; None where the receipt is all that there will be.

        Asks until it is there. TimeoutError: ``deadline`` (of the monotonic clock) passed before. SessionClosed: ``left`` was
        set. SchedulerUnavailable: accounting has answered nothing for longer than the session's patience.
        None: a job that never began, or of which accounting has said nothing for two minutes of good answers.
        """
        ending = job.ending
        if ending is None or ending.began_at is None:
            return None
        pause, unanswered_s, asked = FIRST_S, 0.0, time.monotonic()
        answered = asked  # the last good answer
        while True:
            try:
                for row in self._scheduler.account([job.native_id]).rows:
                    if row.native_id == job.native_id and row.ending is not None:
                        return row.ending.usage
                answered = time.monotonic()
            except (SchedulerUnavailable, TransportError):
                unanswered_s += pause  # it did not answer: that time does not count
                if time.monotonic() - answered >= self._patience_s:
                    raise
            now = time.monotonic()
            if now - asked - unanswered_s > PATIENCE_S:
                return None
            if deadline is not None and now >= deadline:
                raise TimeoutError(f"accounting does not know job {job.native_id} yet")
            if left.wait(pause if deadline is None else min(pause, max(0.0, deadline - now))):
                raise SessionClosed("the session was left")
            pause = min(pause * 1.5, LONGEST_S)
