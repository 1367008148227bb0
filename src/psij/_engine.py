"""The way to the engine: sessions shared by the executors of a process, and jobs that follow the engine's."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import jobyard
from jobyard import fronts

from . import _dispatch
from ._describe import refusal
from ._states import STATES, statuses
from .exceptions import InvalidJobException, SubmitException
from .job import Job
from .job_state import JobState
from .job_status import JobStatus

if TYPE_CHECKING:
    from jobyard.fronts import Transition

__all__ = ["Follower", "Link", "link_to", "translate", "work_root"]

T = TypeVar("T")
logger = logging.getLogger(__name__)


def work_root() -> Path:
    """The folder of the jobs' folders, as every front has it."""
    return fronts.work_root()


def translate(error: jobyard.JobyardError) -> Exception:
    """The engine's error in PSI/J's words."""
    if isinstance(error, jobyard.InvalidJob):
        return refusal(error)
    if isinstance(error, jobyard.InvalidContact):
        return InvalidJobException(f"url: {error}", error)
    return SubmitException(str(error), error, transient=error.retryable)


def asked(call: Callable[[], T]) -> T:
    """What the engine answers; its errors as PSI/J's."""
    try:
        return call()
    except jobyard.JobyardError as error:
        raise translate(error) from error


class Link:
    """A session of the engine, with the jobs of this process that follow its jobs."""

    def __init__(self, session: jobyard.Session) -> None:
        self.session = session
        self.pid = os.getpid()
        self.remote = fronts.Contact.parse(session.contact).host is not None
        self.users = 0
        self.finished: set[jobyard.Job] = set()  # killed ones whose work on cancel was done here
        self._lock = threading.RLock()
        self._followers: dict[jobyard.Job, list[weakref.ref[Job]]] = {}
        self._kept: set[Job] = set()  # whoever watches wants to hear of jobs that nobody else holds any more
        self._watch: fronts.Watch | None = None
        self._submitting = 0
        self._prune_at = 1024
        self._early: dict[jobyard.Job, list[Transition]] = {}  # told before the submission that they belong to returned

    # Submitting and following -----------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job], descriptions: Sequence[jobyard.JobDescription], logs: Sequence[str | None]) -> None:
        """Submit, and let each job follow. Engine errors; jobs that were accepted all the same follow then too."""
        with self._lock:
            self._submitting += 1
        try:
            try:
                accepted = self.session.submit_all(descriptions) if len(jobs) != 1 else [self.session.submit(descriptions[0])]
            except jobyard.JobyardError as error:
                self._rescue(error, jobs, logs)
                raise
            for job, engine_job, log in zip(jobs, accepted, logs, strict=True):
                self.follow(job, engine_job, log, fresh=True)
        finally:
            with self._lock:
                self._submitting -= 1
                if not self._submitting:
                    self._early.clear()

    def _rescue(self, error: jobyard.JobyardError, jobs: Sequence[Job], logs: Sequence[str | None]) -> None:
        by_id = {job.id: (job, log) for job, log in zip(jobs, logs, strict=True)}
        for placed in getattr(error, "placed", ()):
            engine_job = self.session.job(placed.token)
            job, log = by_id[engine_job.description.tags["psij.id"]]
            self.follow(job, engine_job, log)

    def follow(self, job: Job, engine_job: jobyard.Job, log: str | None = None, *, fresh: bool = False) -> None:
        """Let a job stand for one of the engine's, from the state that this one is in; ``fresh``: it was just submitted."""
        native_id = engine_job.native_id
        follower = Follower(self, engine_job, log)
        known = () if fresh or engine_job.state in _WAITING else engine_job.history
        with self._lock:
            job._native_id = native_id
            job._handle = follower
            job._advance(JobStatus(JobState.QUEUED, metadata={"native_id": native_id}))
            for transition in known:
                follower.take(job, transition, live=False)
            # What came between the look at its state and now waits here; what comes from now on finds it followed.
            for transition in self._early.get(engine_job, ()):
                follower.take(job, transition)
            if not job._status.final:
                self._followers.setdefault(engine_job, []).append(weakref.ref(job))
                if self._watch is not None:
                    self._kept.add(job)
            if self._watch is None and len(self._followers) >= self._prune_at:
                self._followers = {key: refs for key, refs in self._followers.items() if any(ref() is not None for ref in refs)}
                self._prune_at = max(1024, 2 * len(self._followers))
        _news(job)

    def followed(self, engine_job: jobyard.Job) -> bool:
        """Whether a job of this process stands for it."""
        with self._lock:
            return any(ref() is not None for ref in self._followers.get(engine_job, ()))

    def watch(self) -> None:
        """From now on changes are told as they happen."""
        with self._lock:
            if self._watch is not None:
                return
            self._kept = {job for references in self._followers.values() for ref in references if (job := ref()) is not None}
            self._watch = asked(lambda: self.session.watch(self._changed))
            kept = list(self._kept)
        for job in kept:  # what happened before anybody watched
            if isinstance(job._handle, Follower):
                job._handle.pull(job)

    def _changed(self, engine_job: jobyard.Job, transition: Transition) -> None:
        with self._lock:
            references = self._followers.get(engine_job)
            if references is None:
                if self._submitting:
                    self._early.setdefault(engine_job, []).append(transition)
                return
            jobs = [job for ref in references if (job := ref()) is not None]
            if transition.ending is not None:
                del self._followers[engine_job]
        for job in jobs:
            if isinstance(job._handle, Follower):
                job._handle.take(job, transition)
                _news(job)
            if transition.ending is not None:
                with self._lock:
                    self._kept.discard(job)

    def ended(self, engine_job: jobyard.Job, job: Job) -> None:
        """Somebody saw that it has ended before the watch told it, or without one."""
        with self._lock:
            if self._watch is None:
                self._followers.pop(engine_job, None)

    def close(self) -> None:
        """Let go of the session."""
        with self._lock:
            self._watch = None
            self._kept.clear()
            self._followers.clear()
        self.session.close()


_WAITING = frozenset({jobyard.JobState.NEW, jobyard.JobState.QUEUED})


def _news(job: Job) -> None:
    """After a job's status has changed, with no lock held."""
    job._ended()
    if job._untold:
        _dispatch.tell(job)


def _now() -> float:
    import time

    return time.time()


class Follower:
    """The handle of a job that follows one of the engine's."""

    __slots__ = ("engine_job", "link", "log")

    _finishing = threading.Lock()  # of all: it happens rarely

    def __init__(self, link: Link, engine_job: jobyard.Job, log: str | None) -> None:
        self.link = link
        self.engine_job = engine_job
        self.log = log  # what its launcher prints; removed when the job has ended

    def take(self, job: Job, transition: Transition, *, live: bool = True) -> bool:
        """Bring the job to what a transition says; whether that was news. ``live``: it has just happened."""
        if job._status.final:
            return False
        said = self._log_read() if transition.ending is not None and not transition.ending.success else None
        told = statuses(transition, job._native_id, said)
        if (
            live
            and transition.state is jobyard.JobState.CANCELLED
            and job.spec is not None
            and (job.spec.stage_out or job.spec.cleanup)
        ):
            with self._finishing:
                if not job._status.final:
                    told[-1:] = self._finished(told[-1])
                news = job._advance(*told)
        else:
            news = job._advance(*told)
        if transition.ending is not None and self.log is not None:
            Path(self.log).unlink(missing_ok=True)
        return news

    def _finished(self, status: JobStatus) -> list[JobStatus]:
        """What ON_CANCEL asks for, where the job was killed before it could do it: it is done here, if its files are here."""
        ending, done = self.engine_job.ending, self.link.finished
        if ending is None or ending.aborted or self.link.remote or self.engine_job in done:
            return [status]
        passed = {one.state for one in self.engine_job.history}
        if passed & {jobyard.JobState.STAGING_OUT, jobyard.JobState.CLEANING}:
            return [status]
        done.add(self.engine_job)
        asked, problem = fronts.finish_cancelled(self.engine_job.description)
        if not asked:
            return [status]
        if problem is not None:
            status.message = f"{status.message}\nwhat was to be done on cancel was not: {problem}"
            return [status]
        return [JobStatus(JobState.STAGE_OUT, status.time), JobStatus(JobState.CLEANUP, status.time), status]

    def _log_read(self) -> str | None:
        if self.log is None:
            return None
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return None

    def pull(self, job: Job) -> None:
        """Handle.pull. Where the engine cannot tell (the session was closed, the scheduler is away) the last known status
        stays: no answer is no observation."""
        try:
            state = self.engine_job.state
            if not STATES[state].is_greater_than(job._status.state):
                return
            ending = self.engine_job.ending
            if ending is not None:
                self.take(job, fronts.Transition(state=state, at=ending.ended_at or _now(), ending=ending))
                self.link.ended(self.engine_job, job)
            else:
                for transition in self.engine_job.history:
                    self.take(job, transition)
        except jobyard.JobyardError as error:
            logger.info("the status of %s cannot be told now: %s", job.id, error)
            return
        _news(job)

    def wait(self, job: Job, satisfied: Callable[[JobState], bool], final_only: bool, timeout_s: float | None) -> bool:
        """Handle.wait. SubmitException where the executor is closed meanwhile."""
        if final_only:
            try:
                self.engine_job.wait(timeout_s)
            except TimeoutError:
                return False
            except jobyard.JobyardError as error:
                raise translate(error) from error
            self.pull(job)
            return satisfied(job._status.state)
        self.link.watch()
        self.pull(job)
        return job._wait_changed(satisfied, timeout_s)


# Sessions are shared ------------------------------------------------------------------------------------------------

_links: dict[tuple[object, ...], Link] = {}
_links_lock = threading.Lock()


def link_to(key: tuple[object, ...], open_session: Callable[[], jobyard.Session]) -> Link:
    """The link of this process with that key, opened where there is none."""
    key = (os.getpid(), *key)
    with _links_lock:
        link = _links.get(key)
        if link is None or link.session.closed:
            link = _links[key] = Link(asked(open_session))
        link.users += 1
        return link


def let_go(link: Link) -> None:
    """One user less; the last one closes the session."""
    with _links_lock:
        link.users -= 1
        if link.users > 0:
            return
        for key in [key for key, other in _links.items() if other is link]:
            del _links[key]
    link.close()


def engine_jobs(jobs: Iterable[Job]) -> dict[Link, list[jobyard.Job]]:
    """The engine's jobs of these, by link; SubmitException where one follows none."""
    found: dict[Link, list[jobyard.Job]] = {}
    for job in jobs:
        if not isinstance(job._handle, Follower):
            raise SubmitException(f"{job} was not submitted")
        found.setdefault(job._handle.link, []).append(job._handle.engine_job)
    return found


def _fresh_locks() -> None:
    global _links_lock  # noqa: PLW0603 - the parent may have held it when it forked
    _links_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_locks)
