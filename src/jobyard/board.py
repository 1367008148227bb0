"""What one process knows of a session's jobs: brought up to date by the keeper, read by waiters, futures and watchers."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from .callbacks import Callbacks
from .errors import SessionClosed, UnknownJob
from .handles import FINAL, Job, Watch
from .job import By, Ending, JobState, Transition
from .keeper import Placed, Update

if TYPE_CHECKING:
    import concurrent.futures

    from .session import Session

__all__ = ["Board", "Completed"]


class Completed:
    """The finished among some jobs, in the order in which they finished. Registered with a board while it is used."""

    __slots__ = ("ready", "waiting")

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.ready: deque[Job] = deque()
        self.waiting: set[int] = set()
        for job in {job._key: job for job in jobs}.values():
            if job._state in FINAL:
                self.ready.append(job)
            else:
                self.waiting.add(job._key)


class Board:
    """The jobs of a session that this process has met, and those who want to hear of them. All methods are thread-safe."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._jobs: dict[int, Job] = {}
        self._ready: dict[int, Job] = {}  # ended, and as far as we know not reaped
        self.gives = True  # they are kept for ``take``; a front that never takes any need not pay for it
        self._unfinished = 0
        self._listeners: list[Completed] = []
        self._futures: dict[int, concurrent.futures.Future[Ending]] = {}
        self._awaited: dict[int, list[concurrent.futures.Future[Ending]]] = {}  # one of each who awaits: cancelled apart
        self._watches: list[Watch] = []
        self._callbacks: Callbacks | None = None
        self.complete = False  # every job of the session has been met

    # Meeting jobs -------------------------------------------------------------------------------------------------------

    def placed(self, placed: Sequence[Placed]) -> list[Job]:
        """The Job of each accepted one. An update may have come before: then it has been met already."""
        made, jobs, session = [], self._jobs, self._session
        with self._lock:
            for one in placed:
                job = jobs.get(one.key)
                if job is None:
                    job = jobs[one.key] = Job(session, one.key, one.native_id, JobState.QUEUED)
                    self._unfinished += 1
                elif job._native_id is None:
                    job._native_id = one.native_id
                made.append(job)
        return made

    def meet(
        self, key: int, native_id: str | None, state: JobState, by: By | None, ending: Ending | None, reaped: bool = False
    ) -> Job:
        """The Job of a record of the keeper's."""
        with self._lock:
            job = self._meet(key, native_id, state, by, ending)
            if reaped:
                self._ready.pop(key, None)
            return job

    def meet_all(self, states: Iterable[tuple[int, JobState]]) -> list[Job]:
        """The Jobs of all records of the session."""
        with self._lock:
            self.complete = True
            return [self._meet(key, None, state, None, None) for key, state in states]

    def _meet(self, key: int, native_id: str | None, state: JobState, by: By | None, ending: Ending | None) -> Job:
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = Job(self._session, key, native_id, state)
            job._by, job._ending = by, ending
            if state in FINAL:
                if self.gives:
                    self._ready[key] = job
            else:
                self._unfinished += 1
        elif job._native_id is None:
            job._native_id = native_id
        return job

    def met(self) -> list[Job]:
        """All of them, in the order in which they were met."""
        with self._lock:
            return list(self._jobs.values())

    def forget(self, jobs: Iterable[Job]) -> None:
        """These were removed."""
        with self._lock:
            for job in jobs:
                if self._jobs.pop(job._key, None) is not None and job._state not in FINAL:
                    self._unfinished -= 1
                self._ready.pop(job._key, None)

    # Waiting --------------------------------------------------------------------------------------------------------------

    def listen(self, jobs: Iterable[Job]) -> Completed:
        """A list of those that have ended, kept up to date until ``unlisten``."""
        with self._lock:
            listener = Completed(jobs)
            self._listeners.append(listener)
            return listener

    def unlisten(self, listener: Completed) -> None:
        """The list is no longer wanted."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def any_ready(self, chosen: Collection[int] | None) -> bool:
        """One of these (None: any) has ended and may be taken."""
        if chosen is None:
            return bool(self._ready)
        return any(key in self._ready for key in chosen)

    def pick(self, chosen: Collection[int] | None) -> Job | None:
        """One that has ended and may be taken; nobody else of this process gets it."""
        with self._lock:
            for key in self._ready if chosen is None else chosen:
                if key in self._ready:
                    return self._ready.pop(key)
            return None

    def put_back(self, job: Job) -> None:
        """It was picked, and could not be reaped."""
        with self._lock:
            if job._key in self._jobs:
                self._ready.setdefault(job._key, job)

    def picked(self, keys: Iterable[int]) -> None:
        """These were reaped otherwise."""
        with self._lock:
            for key in keys:
                self._ready.pop(key, None)

    def ready(self, most: int) -> list[int]:
        """Keys of the first so many that, as far as we know, may be taken."""
        with self._lock:
            return list(itertools.islice(self._ready, most))

    def anything_left(self, chosen: Collection[int] | None) -> bool:
        """One of these (None: any) has not ended, or may be taken."""
        with self._lock:
            if chosen is None:
                return self._unfinished > 0 or bool(self._ready)
            return any(key in self._ready or (key in self._jobs and self._jobs[key]._state not in FINAL) for key in chosen)

    # Futures and watches --------------------------------------------------------------------------------------------------

    def future(self, job: Job) -> concurrent.futures.Future[Ending]:
        """The one future of the job; already done where the job has ended."""
        import concurrent.futures

        with self._lock:
            future = self._futures.get(job._key)
            if future is not None and not future.cancelled():
                return future
            future = concurrent.futures.Future()
            ended = job._state in FINAL
            if not ended:
                self._futures[job._key] = future
        if ended:
            _tell_future(future, job.ending)
        return future

    def awaited(self, job: Job) -> concurrent.futures.Future[Ending]:
        """A future for one who awaits the job: that it is cancelled is nobody else's matter."""
        import concurrent.futures

        future: concurrent.futures.Future[Ending] = concurrent.futures.Future()
        with self._lock:
            ended = job._state in FINAL
            if not ended:
                others = self._awaited.get(job._key, ())
                self._awaited[job._key] = [*(one for one in others if not one.cancelled()), future]
        if ended:
            _tell_future(future, job.ending)
        return future

    def watch(self, watch: Watch) -> None:
        """Tell it transitions from now on."""
        with self._lock:
            self._watches = [*self._watches, watch]
            if self._callbacks is None:
                self._callbacks = Callbacks()

    def unwatch(self, watch: Watch) -> None:
        """Tell it nothing any more."""
        with self._lock:
            self._watches = [other for other in self._watches if other is not watch]

    def close(self) -> None:
        """End futures with SessionClosed, and the callback threads."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, None
            self._watches = []
            futures = [*self._futures.values(), *itertools.chain.from_iterable(self._awaited.values())]
            self._futures, self._awaited = {}, {}
        for future in futures:
            if future.set_running_or_notify_cancel():
                future.set_exception(SessionClosed("the session was closed before the job ended"))
        if callbacks is not None:
            callbacks.close()

    def after_fork(self) -> None:
        """In a forked child: threads are gone, and a lock may have been held by one of them."""
        self._lock = threading.Lock()
        self._callbacks = Callbacks() if self._watches else None
        self._listeners = []
        self._futures, self._awaited = {}, {}

    # What the keeper tells ----------------------------------------------------------------------------------------------

    def deliver(self, updates: Sequence[Update]) -> None:
        """The keeper's sink: bring jobs to their new states, and tell whoever listens. Final is final."""
        ended: list[tuple[Job, Ending | None]] = []
        with self._lock:
            for update in updates:
                job = self._jobs.get(update.key)
                if job is None:
                    job = self._jobs[update.key] = Job(self._session, update.key, None)
                    self._unfinished += 1
                before, state = job._state, update.state
                if before in FINAL or (before is state and job._by is update.by):
                    continue
                if self._watches:
                    self._tell(job, before, update)
                job._by = update.by
                job._ending = update.ending
                job._state = state
                if state in FINAL:
                    if self.gives:
                        self._ready[update.key] = job
                    self._unfinished -= 1
                    if self._listeners or self._futures or self._awaited:
                        ended.append((job, update.ending))
            for listener in self._listeners:
                for job, _ in ended:
                    if job._key in listener.waiting:
                        listener.waiting.discard(job._key)
                        listener.ready.append(job)
            futures = [(self._futures.pop(job._key), ending) for job, ending in ended if job._key in self._futures]
            futures += [(future, ending) for job, ending in ended for future in self._awaited.pop(job._key, ())]
        for future, ending in futures:
            _tell_future(future, ending)

    def _tell(self, job: Job, before: JobState, update: Update) -> None:
        """Hand the transition to the watchers; a run that began and ended between two looks is told as both."""
        assert self._callbacks is not None
        told = [Transition(state=update.state, at=update.at, by=update.by, ending=update.ending, reason=update.reason)]
        ending = update.ending
        if ending is not None and before.waiting and ending.began_at is not None and not ending.aborted:
            told.insert(0, Transition(state=JobState.RUNNING, at=ending.began_at))
        for watch in self._watches:
            if watch._keys is None or job._key in watch._keys:
                for transition in told:
                    self._callbacks.call(job._key, watch._call, job, transition)


def _tell_future(future: concurrent.futures.Future[Ending], ending: Ending | None) -> None:
    if future.set_running_or_notify_cancel():
        if ending is None:
            future.set_exception(UnknownJob("the job's ending is no longer kept"))
        else:
            future.set_result(ending)
