"""An initialised session bound to the engine: submission, control, waiting, status by id."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jobyard import Contact, Job, JobArray, JobState, JobyardError, Session, SessionClosed, UnknownJob, Usage, WrongState
from jobyard.fronts import Action, By

from . import _values, const
from ._accounts import Accounts
from ._describe import FIELDS, FilesHere, FilesThere, Place, describe
from ._faults import translate
from ._info import JobInfo, final_state, job_info, unknown_ending
from ._vendors import implementation_of, vendor_of
from .errors import (
    DrmCommunicationException,
    ExitTimeoutException,
    InvalidArgumentException,
    InvalidJobException,
    NoRusageException,
    coded,
)

PATIENCE_S = 300.0  # of silence, before those who wait are told; "patience=" of the contact goes first
SLICE_S = 1.0  # how long wait(ANY) looks at the jobs that there were when it began

_UNFINISHED = {
    JobState.NEW: const.JobState.QUEUED_ACTIVE,
    JobState.QUEUED: const.JobState.QUEUED_ACTIVE,
    JobState.STAGING_IN: const.JobState.RUNNING,
    JobState.RUNNING: const.JobState.RUNNING,
    JobState.STAGING_OUT: const.JobState.RUNNING,
    JobState.CLEANING: const.JobState.RUNNING,
}
_HELD = {
    By.USER: const.JobState.USER_ON_HOLD,
    By.SYSTEM: const.JobState.SYSTEM_ON_HOLD,
    By.BOTH: const.JobState.USER_SYSTEM_ON_HOLD,
}
_SUSPENDED = {
    By.USER: const.JobState.USER_SUSPENDED,
    By.SYSTEM: const.JobState.SYSTEM_SUSPENDED,
    By.BOTH: const.JobState.USER_SYSTEM_SUSPENDED,
}
_ENDED = (const.JobState.DONE, const.JobState.FAILED)
_ACTIONS = {
    const.JobControlAction.SUSPEND: Action.SUSPEND,
    const.JobControlAction.RESUME: Action.RESUME,
    const.JobControlAction.HOLD: Action.HOLD,
    const.JobControlAction.RELEASE: Action.RELEASE,
    const.JobControlAction.TERMINATE: Action.CANCEL,
}


class Bound:
    """A session of the engine, with DRMAA's ids. Calls may come from any thread."""

    def __init__(self, contact: str | None) -> None:
        self.pid = os.getpid()
        self.busy = 0  # short calls in flight; guarded by the owner's lock
        self.engine = Session(contact, patience=PATIENCE_S)
        self.contact = self.engine.contact
        parsed = Contact.parse(self.contact)
        self._here = parsed.host is None
        self._vendor = vendor_of(parsed.scheduler)
        self._scheduler = parsed.scheduler
        policy = parsed.option("nonzero_exit")
        self._nonzero_done = self._vendor.nonzero_done if policy is None else policy == "done"
        self.left = threading.Event()  # exit() was called
        self._accounts = (
            Accounts(self.engine.scheduler, parsed.option("patience", PATIENCE_S))
            if parsed.option("usage") == "accounting" and self.engine.capabilities.accounting and not self.engine.capabilities.push
            else None
        )
        self._foreign_lock = threading.Lock()  # guards the next three
        self._others: Session | None = None  # where jobs of other sessions are followed, so that ANY and ALL never mean them
        self._jobs: dict[str, Job] = {}
        self._foreign: dict[str, Job] = {}
        self._foreign_taken: set[str] = set()
        self._version: str | None = None
        try:
            # A new session is made known by its first request: its contact must open it again even if it never has a job.
            self.engine.jobs(newest=1)
        except BaseException:
            self.engine.close()
            raise

    def reopened(self) -> Bound:
        """The same session in a forked child, by a connection of its own; the parent's is left alone."""
        with self.translated():
            return Bound(self.contact)

    def close(self) -> None:
        """Let go of the engine; waiters in other threads are woken."""
        try:
            if self._others is not None:
                self._others.close()
        finally:
            self.engine.close()

    @contextmanager
    def translated(self, *, waiting: bool = False) -> Iterator[None]:
        """The engine's errors in DRMAA's words. A wait that ``exit`` ends is a timeout (23), as in Grid Engine's library."""
        try:
            yield
        except TimeoutError as error:
            raise coded(ExitTimeoutException, f"time-out condition: {error}") from error
        except SessionClosed as error:
            if waiting:
                raise coded(ExitTimeoutException, "the session was left by another thread while this one waited") from error
            raise translate(error) from error
        except (JobyardError, MemoryError) as error:
            raise translate(error) from error
        except Exception as error:
            if waiting and self.left.is_set():  # what it used was closed under it
                raise coded(ExitTimeoutException, "the session was left by another thread while this one waited") from error
            raise

    # What it is -------------------------------------------------------------------------------------------------------------

    def drms_info(self) -> str:
        """The name that programs test for, and the scheduler's version where the vendor's library shows it."""
        vendor = self._vendor
        if not vendor.versioned:
            return vendor.prefix
        if self._version is None:
            try:
                words = self.engine.scheduler.version().split()
            except JobyardError as error:
                raise coded(DrmCommunicationException, error) from error
            self._version = words[-1] if len(words) > 1 else ""
        return f"{vendor.prefix} {self._version}".rstrip()

    def implementation(self) -> str:
        """As ``drms_info``, with jobyard's release behind it."""
        return implementation_of(self._scheduler, self.drms_info())

    def supports(self, name: bytes) -> bool:
        """Can the scheduler honour the scalar attribute of that C name?"""
        if name == const.TRANSFER_FILES:
            return self._vendor.shared_files and self._here
        return name not in FIELDS or FIELDS[name] in self.engine.capabilities.attributes

    def _place(self, *, bulk: bool) -> Place:
        return Place(self._vendor, self._here, bulk, FilesHere() if self._here else FilesThere(self.engine))

    # Submission -------------------------------------------------------------------------------------------------------------

    def run_job(self, values: Mapping[bytes, Any]) -> str:
        """Submit one job."""
        job = self.engine.submit(describe(values, self._place(bulk=False)))
        self._jobs[job.native_id] = job
        return job.native_id

    def run_bulk_jobs(self, values: Mapping[bytes, Any], indices: range) -> list[str]:
        """Submit one array."""
        array = self.engine.submit_array(describe(values, self._place(bulk=True)), indices)
        for job in array:
            self._jobs[job.native_id] = job
        return [job.native_id for job in array]

    # Jobs by id -------------------------------------------------------------------------------------------------------------

    def _find(self, job_id: str) -> Job | JobArray | None:
        """The job of that id, or the array; None where this session has none."""
        job = self._jobs.get(job_id)
        if job is not None:
            return job
        try:
            job = self.engine.job(job_id)
            if job.native_id == job_id:
                self._jobs[job_id] = job
                return job
        except UnknownJob:
            pass  # it may be an array's
        try:
            return self.engine.array(job_id)
        except UnknownJob:
            return None

    def _attach(self, job_id: str) -> Job | None:
        """A job that another session, or the scheduler's own command, submitted; None where the scheduler has none."""
        job = self._foreign.get(job_id)
        if job is not None:
            return job
        with self._foreign_lock:
            if self._others is None:
                self._others = Session(Contact.parse(self.contact).with_session(None), patience=PATIENCE_S)
            others = self._others
        try:
            job = others.attach(job_id)
        except UnknownJob:
            return None
        with self._foreign_lock:
            return self._foreign.setdefault(job_id, job)

    def _take_foreign(self, job_id: str) -> bool:
        """Another session's job is not reaped there; here it can be waited for once, as any other. True for the first who asks."""
        with self._foreign_lock:
            first = job_id not in self._foreign_taken
            self._foreign_taken.add(job_id)
            self._foreign.pop(job_id, None)
        return first

    def _forget(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)

    # Status -------------------------------------------------------------------------------------------------------------------

    def job_status(self, job_id: str) -> str:
        """The state of the job; InvalidJob (18) for one that was reaped, for a bare array, and for an unknown id.
        DrmCommunication (2): it has not ended, and the scheduler has been silent for longer than the session's patience."""
        found = self._find(job_id)
        if found is None and job_id not in self._foreign_taken:
            found = self._attach(job_id)
        if not isinstance(found, Job):
            raise _unknown(job_id)
        state = self._state(found)
        if state not in _ENDED:
            engine = self._others if job_id in self._foreign else self.engine
            assert engine is not None
            engine.require_answers()
        elif job_id not in self._foreign and found.reaped:
            self._forget(job_id)
            raise _unknown(job_id)
        return state

    def _state(self, job: Job) -> str:
        state = job.state
        if state.final:
            return final_state(job.ending, self._nonzero_done)
        if state is JobState.HELD:
            return _HELD.get(job.by or By.SYSTEM, const.JobState.SYSTEM_ON_HOLD)
        if state is JobState.SUSPENDED:
            return _SUSPENDED.get(job.by or By.SYSTEM, const.JobState.SYSTEM_SUSPENDED)
        return _UNFINISHED.get(state, const.JobState.UNDETERMINED)

    # Control ------------------------------------------------------------------------------------------------------------------

    def control(self, job_id: str, action: str) -> None:
        """InvalidJob (18), an InconsistentState (19 to 22), Authorization (3), DeniedByDrm (17), DrmCommunication (2)."""
        if job_id == _values.ALL:
            self._act(self.engine, [job for job in self.engine.jobs() if not job.state.final], action)
            return
        found = self._find(job_id)
        if isinstance(found, JobArray):
            self._act(self.engine, [job for job in found if not job.state.final], action)
        elif found is not None:
            if found.state.final:
                self._refuse_finished(found, job_id, action)
            else:
                self._act(self.engine, [found], action)
        else:
            foreign = None if job_id in self._foreign_taken else self._attach(job_id)
            if foreign is None or self._others is None:
                raise _unknown(job_id)
            if foreign.state.final:
                self._refuse_finished(foreign, job_id, action)
            else:
                self._act(self._others, [foreign], action)

    def _refuse_finished(self, job: Job, job_id: str, action: str) -> None:
        """A finished job: terminating it is harmless until it was reaped, anything else has no job to act on."""
        if action != const.JobControlAction.TERMINATE or job.reaped:
            raise _unknown(job_id)

    def _act(self, engine: Session, jobs: list[Job], action: str) -> None:
        if not jobs:
            return
        for job, error in engine.control(_ACTIONS[action], jobs).items():
            if error is None or (job.state.final and len(jobs) > 1):
                continue
            if action == const.JobControlAction.TERMINATE and (job.state.final or isinstance(error, WrongState | UnknownJob)):
                continue  # it has ended meanwhile; the scheduler may know that, or have forgotten it, before we hear of it
            raise translate(error, action) from error

    # Waiting ------------------------------------------------------------------------------------------------------------------

    def wait(self, job_id: str, timeout: float | None) -> JobInfo:
        """Wait for one job, or for any; reap it."""
        if job_id == _values.ALL:
            raise coded(InvalidArgumentException, "wait() is for one job, or for JOB_IDS_SESSION_ANY; synchronize() takes ALL")
        if job_id == _values.ANY:
            return self._wait_accounted(None, timeout) if self._accounts else self._taken(self.engine.take(timeout=timeout))
        found = self._find(job_id)
        if isinstance(found, JobArray):
            return self._wait_array(found, timeout)
        if found is not None:
            if self._accounts:
                return self._wait_accounted(found, timeout)
            return self._taken(self.engine.take([found], timeout=timeout))
        foreign = None if job_id in self._foreign_taken else self._attach(job_id)
        if foreign is None:
            raise _unknown(job_id)
        ending = foreign.wait(timeout)
        if not self._take_foreign(job_id):
            raise _unknown(job_id)
        return _info(job_id, ending)

    def _wait_accounted(self, job: Job | None, timeout: float | None) -> JobInfo:
        """As ``wait``, for this job or for any; it is reaped only once accounting knows it too, or has none to come."""
        assert self._accounts is not None
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if job is None:
                unreaped = self.engine.jobs(unreaped=True)
                if not unreaped:
                    raise _unknown("any")
                # In slices, since jobs that other threads submit meanwhile count too.
                try:
                    chosen = self.engine.wait_any(unreaped, timeout=SLICE_S if left is None else min(left, SLICE_S))
                except TimeoutError:
                    if left == 0.0 or (left is not None and left <= SLICE_S):
                        raise
                    continue
            else:
                job.wait(left)
                chosen = job
            record = self._accounts.record(chosen, deadline, self.left)
            if self.engine.reap([chosen]):
                self._forget(chosen.native_id)
                return _info(chosen.native_id, chosen.ending, record)
            if job is not None:
                raise _unknown(job.native_id)

    def _wait_array(self, array: JobArray, timeout: float | None) -> JobInfo:
        """Wait for all tasks, reap them; the answer is the first failed task's, else the last one's."""
        tasks = [job for job in array if not (job.state.final and job.reaped)]
        if not tasks:
            raise _unknown(str(array.native_id))
        self.engine.wait_all(tasks, timeout=timeout)
        mine = self.engine.reap(tasks)
        if not mine:
            raise _unknown(str(array.native_id))
        for job in mine:
            self._forget(job.native_id)
        chosen = next((job for job in mine if job.ending is not None and not job.ending.success), mine[-1])
        return self._taken(chosen)

    def _taken(self, job: Job) -> JobInfo:
        self._forget(job.native_id)
        return _info(job.native_id, job.ending)

    def synchronize(self, job_ids: Iterable[str], timeout: float | None, dispose: bool) -> None:
        """Wait until all have ended. Ids that nobody knows, or that were reaped, have ended already."""
        deadline = None if timeout is None else time.monotonic() + timeout
        jobs: dict[Job, None] = {}
        foreign: dict[str, Job] = {}
        for job_id in job_ids:
            if job_id == _values.ANY:
                raise coded(InvalidArgumentException, "synchronize() takes ids and JOB_IDS_SESSION_ALL; wait() takes ANY")
            if job_id == _values.ALL:
                jobs.update(dict.fromkeys(self.engine.jobs(unreaped=dispose)))
                break
            found = self._find(job_id)
            if found is not None:
                jobs.update(dict.fromkeys(found if isinstance(found, JobArray) else (found,)))
            elif job_id not in self._foreign_taken and (other := self._attach(job_id)) is not None:
                foreign[job_id] = other
        self.engine.wait_all(jobs, timeout=timeout)
        if foreign and self._others is not None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._others.wait_all(foreign.values(), timeout=left)
        if dispose:
            self.engine.reap(jobs)
            for job in jobs:
                self._forget(job.native_id)
            for job_id in foreign:
                self._take_foreign(job_id)


def _unknown(job_id: str) -> InvalidJobException:
    error = coded(InvalidJobException, f"The job specified by the 'jobid' does not exist: {job_id}; or it was reaped.")
    assert isinstance(error, InvalidJobException)
    return error


def _info(job_id: str, ending: Any, record: Usage | None = None) -> JobInfo:
    if unknown_ending(ending):
        raise coded(NoRusageException, f"no usage information was returned for the completed job {job_id}: {ending}")
    return job_info(job_id, ending, record)
