"""The way to the engine: sessions shared by the executors of a process, and the jobs that stand for the engine's."""

from __future__ import annotations

import logging
import os
import threading
import time
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

__all__ = ["Link", "link_to", "translate", "work_root"]

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
    """A session of the engine, and the handle of all jobs of this process that stand for its jobs.

    Which those are is noted at the engine's jobs: by weak references, so that a job which nobody holds any more goes; once
    somebody watches, and wants to hear of such jobs too, by strong ones until they have ended.
    """

    def __init__(self, session: jobyard.Session) -> None:
        self.session = session
        fronts.take_none(session)
        self.pid = os.getpid()
        self.users = 0
        self._lock = threading.RLock()
        self._watch: fronts.Watch | None = None
        self._watching = False
        self._submitting = 0
        self._early: dict[jobyard.Job, list[Transition]] = {}  # told before the submission that they belong to returned
        self._logs: dict[jobyard.Job, str] = {}  # what launchers print; removed when the job has ended
        self._finished: set[jobyard.Job] = set()  # killed ones whose work on cancel was done here
        self._finishing = threading.Lock()

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
            now = time.time()
            for job, engine_job, log in zip(jobs, accepted, logs, strict=True):
                self.follow(job, engine_job, log, submitted_at=now)
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

    def follow(self, job: Job, engine_job: jobyard.Job, log: str | None = None, *, submitted_at: float | None = None) -> None:
        """Let a job stand for one of the engine's, from the state that this one is in; ``submitted_at``: it was just now."""
        native_id = engine_job.native_id
        known = () if submitted_at is not None or engine_job.state in _WAITING else engine_job.history
        with self._lock:
            job._native_id = native_id
            job._engine_job = engine_job
            job._handle = self
            if log is not None:
                self._logs[engine_job] = log
            job._advance(JobStatus._of(native_id, (), JobState.QUEUED, submitted_at))
            for transition in known:
                self._take(job, engine_job, transition, live=False)
            # What came between the look at its state and now waits here; what comes from now on finds it followed.
            for transition in self._early.get(engine_job, ()):
                self._take(job, engine_job, transition)
            if not job._status.final:
                _add_follower(engine_job, job if self._watching else weakref.ref(job))
        _news(job)

    def followed(self, engine_job: jobyard.Job) -> bool:
        """Whether an unfinished job of this process stands for it."""
        with self._lock:
            return bool(_followers(engine_job))

    def watch(self) -> None:
        """From now on changes are told as they happen."""
        with self._lock:
            if self._watching:
                return
            self._watching = True
            try:
                self._watch = asked(lambda: self.session.watch(self._changed))
            except BaseException:
                self._watching = False
                raise
            kept: list[Job] = []
            for engine_job in fronts.met(self.session):
                if jobs := _followers(engine_job):
                    fronts.set_follower(engine_job, jobs[0] if len(jobs) == 1 else jobs)
                    kept += jobs
        for job in kept:  # what happened before anybody watched
            self.pull(job)

    def _changed(self, engine_job: jobyard.Job, transition: Transition) -> None:
        with self._lock:
            jobs = _followers(engine_job)
            if not jobs:
                if self._submitting:
                    self._early.setdefault(engine_job, []).append(transition)
                return
            if transition.ending is not None:
                fronts.set_follower(engine_job, None)
        for job in jobs:
            self._take(job, engine_job, transition)
            _news(job)

    def close(self) -> None:
        """Let go of the session."""
        with self._lock:
            self._watch = None
            for engine_job in fronts.met(self.session):
                fronts.set_follower(engine_job, None)
        self.session.close()

    # What the engine tells --------------------------------------------------------------------------------------------

    def _take(self, job: Job, engine_job: jobyard.Job, transition: Transition, *, live: bool = True) -> None:
        """Bring the job to what a transition says. ``live``: it has just happened."""
        if job._status.final:
            return
        ending = transition.ending
        log = self._logs.get(engine_job) if ending is not None else None
        told = statuses(transition, job._native_id, _read(log) if log and ending and not ending.success else None)
        spec = job.spec
        if live and transition.state is jobyard.JobState.CANCELLED and spec is not None and (spec.stage_out or spec.cleanup):
            with self._finishing:
                if not job._status.final:
                    told[-1:] = self._on_cancel(engine_job, ending, told[-1])
                job._advance(*told)
        else:
            job._advance(*told)
        if ending is not None:
            if log is not None:
                self._logs.pop(engine_job, None)
                Path(log).unlink(missing_ok=True)
            fronts.forget_ending(engine_job)  # the status says it; who asks for all of it is told again

    def _on_cancel(self, engine_job: jobyard.Job, ending: jobyard.Ending | None, status: JobStatus) -> list[JobStatus]:
        """What ON_CANCEL asks for, where the job was killed before it could do it: it is done from here."""
        if ending is None or ending.aborted or engine_job in self._finished:
            return [status]
        passed = {one.state for one in engine_job.history}
        if passed & {jobyard.JobState.STAGING_OUT, jobyard.JobState.CLEANING}:
            return [status]
        self._finished.add(engine_job)
        asked, problem = fronts.finish_cancelled(engine_job)
        if not asked:
            return [status]
        if problem is not None:
            status.message = f"{status.message}\nwhat was to be done on cancel was not: {problem}"
            return [status]
        return [JobStatus(JobState.STAGE_OUT, status.time), JobStatus(JobState.CLEANUP, status.time), status]

    # Handle -------------------------------------------------------------------------------------------------------------

    def pull(self, job: Job) -> None:
        """Handle.pull. Where the engine cannot tell (the session was closed, the scheduler is away) the last known status
        stays: no answer is no observation."""
        engine_job = job._engine_job
        assert engine_job is not None
        try:
            state = engine_job.state
            if not STATES[state].is_greater_than(job._status.state):
                return
            # Of a job that went on meanwhile, the ending is no part of what its state was: it comes as a change of its own.
            ending = engine_job.ending if state.final else None
            if ending is not None and not _has_stages(job):
                self._take(job, engine_job, fronts.Transition(state=state, at=ending.ended_at or time.time(), ending=ending))
            else:  # which stages there were, and when, its history knows
                for transition in engine_job.history:
                    self._take(job, engine_job, transition)
            if ending is not None:
                with self._lock:
                    if self._watch is None:
                        fronts.set_follower(engine_job, None)
        except jobyard.JobyardError as error:
            logger.info("the status of %s cannot be told now: %s", job.id, error)
            return
        _news(job)

    def wait(self, job: Job, satisfied: Callable[[JobState], bool], final_only: bool, timeout_s: float | None) -> bool:
        """Handle.wait. SubmitException where the executor is closed meanwhile."""
        if final_only:
            engine_job = job._engine_job
            assert engine_job is not None
            try:
                engine_job.wait(timeout_s)
            except TimeoutError:
                return False
            except jobyard.JobyardError as error:
                if job._status.final:  # another thread was told, and the engine has forgotten the job since
                    return True
                raise translate(error) from error
            self.pull(job)
            return satisfied(job._status.state)
        self.watch()
        self.pull(job)
        return job._wait_changed(satisfied, timeout_s)


_WAITING = frozenset({jobyard.JobState.NEW, jobyard.JobState.QUEUED})


def _has_stages(job: Job) -> bool:
    """Whether its history may tell of stages; that of a job which was attached may."""
    spec = job.spec
    return spec is None or bool(spec.stage_in or spec.stage_out or spec.cleanup)


def _followers(engine_job: jobyard.Job) -> list[Job]:
    """The jobs of this process that stand for it and still exist."""
    found = fronts.follower(engine_job)
    if found is None:
        return []
    if type(found) is not list:
        found = [found]
    return [job for one in found if (job := one() if type(one) is weakref.ref else one) is not None]


def _add_follower(engine_job: jobyard.Job, one: Job | weakref.ref[Job]) -> None:
    found = fronts.follower(engine_job)
    if found is None:
        fronts.set_follower(engine_job, one)
    else:
        fronts.set_follower(engine_job, [*(found if type(found) is list else (found,)), one])


def _news(job: Job) -> None:
    """After a job's status has changed, with no lock held."""
    job._ended()
    if job._untold:
        _dispatch.tell(job)


def _read(log: str) -> str | None:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return None


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
        if not isinstance(job._handle, Link) or job._engine_job is None:
            raise SubmitException(f"{job} was not submitted")
        found.setdefault(job._handle, []).append(job._engine_job)
    return found


def _fresh_locks() -> None:
    global _links_lock  # noqa: PLW0603 - the parent may have held it when it forked
    _links_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_locks)
