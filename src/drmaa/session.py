"""The session of DRMAA 1.0, job templates, and what ``wait`` returns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from . import const
from ._core import SessionCore
from ._info import JobInfo
from ._template import JobTemplate
from .errors import InvalidArgumentException, coded
from .helpers import SessionStringAttribute, SessionVersionAttribute

__all__ = ["JobInfo", "JobTemplate", "Session"]

_SHARED = SessionCore()  # the process-wide session
_F = TypeVar("_F", bound=Callable[..., Any])
JobId = str | bytes | int  # all three forms are taken


class _BadAction(InvalidArgumentException, ValueError):
    """drmaa-python raises ValueError, the C binding says code 4: this is both."""


def _action(operation: Any) -> str:
    """The action's word, from its word (text or bytes) or its code of the C binding."""
    if isinstance(operation, int) and not isinstance(operation, bool) and 0 <= operation <= 4:
        return const.control_action_to_string(operation)
    text = operation.decode("ascii", "replace") if isinstance(operation, bytes) else operation
    try:
        return const.control_action_to_string(const.string_to_control_action(text))
    except ValueError:
        known = "suspend, resume, hold, release, terminate"
        raise coded(_BadAction, f"{operation!r} is not in list; an action is one of {known}") from None


def _also(**names: str) -> Callable[[_F], _F]:
    """Let the function take keywords under GFD.143's names too."""

    def decorate(function: _F) -> _F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for other, own in names.items():
                if other in kwargs:
                    kwargs[own] = kwargs.pop(other)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]  # same calls, and two more keywords

    return decorate


class Session:
    """The session of this process. Its methods are static: all instances, and the class itself, speak of the one session.

    As a context manager it initialises on entry, with its contact string, and exits at the end. Errors of any call besides
    those that it names: DrmCommunication (2), NoActiveSession (5), Internal (1).
    """

    TIMEOUT_WAIT_FOREVER = const.TIMEOUT_WAIT_FOREVER
    TIMEOUT_NO_WAIT = const.TIMEOUT_NO_WAIT
    JOB_IDS_SESSION_ANY = const.JOB_IDS_SESSION_ANY
    JOB_IDS_SESSION_ALL = const.JOB_IDS_SESSION_ALL

    contact = SessionStringAttribute(_SHARED.contact)
    drmsInfo = SessionStringAttribute(_SHARED.drms_info)
    drmaaImplementation = SessionStringAttribute(_SHARED.implementation)
    version = SessionVersionAttribute()

    def __init__(self, contactString: str | bytes | None = None) -> None:
        self.contactString = contactString

    def __enter__(self) -> Session:
        self.initialize(self.contactString)
        return self

    def __exit__(self, *exc: object) -> None:
        self.exit()

    @staticmethod
    def initialize(contactString: str | bytes | None = None) -> None:
        """Begin a session, or take up again the one that an earlier session's ``contact`` names.

        None and "": the configured default, else the one scheduler found, else ``local``. InvalidContactString (7): it, or
        the session it names, cannot be used; DefaultContactString (8): the default cannot; NoDefaultContactStringSelected
        (9): several schedulers were found; DrmsInit (10): it is not here; AlreadyActiveSession (11).
        """
        _SHARED.initialize(contactString)

    @staticmethod
    def exit() -> None:
        """End the session. Jobs go on, nothing is reaped; threads that wait get ExitTimeout (23)."""
        _SHARED.exit()

    @staticmethod
    def independent(contactString: str | bytes | None = None) -> IndependentSession:
        """A session besides the process-wide one, not yet initialised, whose methods are its own."""
        return IndependentSession(contactString)

    @staticmethod
    def createJobTemplate() -> JobTemplate:
        """An empty job template."""
        return _SHARED.create_template()

    @staticmethod
    def deleteJobTemplate(jobTemplate: JobTemplate) -> None:
        """Let go of a template; jobs are not touched. InvalidJobTemplate (4): it is none, or was deleted."""
        _SHARED.delete_template(jobTemplate)

    @staticmethod
    def runJob(jobTemplate: JobTemplate) -> str:
        """Submit a job; its id. InvalidAttributeFormat (13), DeniedByDrm (17), UnsupportedAttribute (4): nothing was
        submitted; TryLater (16): the scheduler says so; InvalidJobTemplate (4)."""
        return _SHARED.run_job(jobTemplate)

    @staticmethod
    def runBulkJobs(jobTemplate: JobTemplate, beginIndex: int, endIndex: int, step: int) -> list[str]:
        """Submit one task for each index from ``beginIndex`` to ``endIndex``, both included; their ids in that order.

        InvalidArgument (4) unless 1 <= beginIndex <= endIndex and step >= 1; else as ``runJob``.
        """
        return _SHARED.run_bulk_jobs(jobTemplate, beginIndex, endIndex, step)

    @staticmethod
    @_also(jobName="jobId")
    def control(jobId: JobId, operation: str | bytes | int) -> None:
        """Suspend, resume, hold, release or terminate a job, all tasks of an array, or (ALL) all unfinished jobs.

        Returns once the scheduler acknowledged. InvalidJob (18); SuspendInconsistentState (20), Resume (19), Hold (21),
        Release (22): the job's state does not allow it; Authorization (3), DeniedByDrm (17): refused.
        """
        action = _action(operation)
        _SHARED.control(jobId, action)

    @staticmethod
    def synchronize(jobIds: Iterable[JobId] | JobId, timeout: float = -1, dispose: bool = False) -> None:
        """Wait until all these jobs have ended; one id alone will do, and ALL means those submitted until now.

        ``dispose`` reaps them, on success only. Unknown and reaped ids have ended. ExitTimeout (23); InvalidArgument (4):
        a malformed id, ANY, a negative timeout.
        """
        _SHARED.synchronize(jobIds, timeout, dispose)

    @staticmethod
    @_also(jobName="jobId")
    def wait(jobId: JobId, timeout: float = -1) -> JobInfo:
        """Wait until this job, or any of the session, has ended; how it did. It is reaped: each ending is told once.

        ExitTimeout (23): nothing was reaped; InvalidJob (18): unknown, reaped, or no job is left; NoRusage (24): it ended,
        and nothing is known of how; InvalidArgument (4): a malformed id, ALL, a negative timeout other than -1.
        """
        return _SHARED.wait(jobId, timeout)

    @staticmethod
    @_also(jobName="jobId")
    def jobStatus(jobId: JobId) -> str:
        """The job's state, one of JobState. InvalidJob (18): unknown, or reaped."""
        return _SHARED.job_status(jobId)


class IndependentSession:
    """A session of its own besides the process-wide one: same members as Session, none of them shared."""

    TIMEOUT_WAIT_FOREVER = const.TIMEOUT_WAIT_FOREVER
    TIMEOUT_NO_WAIT = const.TIMEOUT_NO_WAIT
    JOB_IDS_SESSION_ANY = const.JOB_IDS_SESSION_ANY
    JOB_IDS_SESSION_ALL = const.JOB_IDS_SESSION_ALL

    version = SessionVersionAttribute()

    def __init__(self, contactString: str | bytes | None = None) -> None:
        self.contactString = contactString
        self._core = SessionCore()

    def __enter__(self) -> IndependentSession:
        self.initialize(self.contactString)
        return self

    def __exit__(self, *exc: object) -> None:
        self.exit()

    @property
    def contact(self) -> str:
        """As ``Session.contact``."""
        return self._core.contact()

    @property
    def drmsInfo(self) -> str:
        """As ``Session.drmsInfo``."""
        return self._core.drms_info()

    @property
    def drmaaImplementation(self) -> str:
        """As ``Session.drmaaImplementation``."""
        return self._core.implementation()

    def initialize(self, contactString: str | bytes | None = None) -> None:
        """As ``Session.initialize``; None takes the contact that the session was made with."""
        self._core.initialize(self.contactString if contactString is None else contactString)

    def exit(self) -> None:
        """As ``Session.exit``."""
        self._core.exit()

    def createJobTemplate(self) -> JobTemplate:
        """As ``Session.createJobTemplate``."""
        return self._core.create_template()

    def deleteJobTemplate(self, jobTemplate: JobTemplate) -> None:
        """As ``Session.deleteJobTemplate``."""
        self._core.delete_template(jobTemplate)

    def runJob(self, jobTemplate: JobTemplate) -> str:
        """As ``Session.runJob``."""
        return self._core.run_job(jobTemplate)

    def runBulkJobs(self, jobTemplate: JobTemplate, beginIndex: int, endIndex: int, step: int) -> list[str]:
        """As ``Session.runBulkJobs``."""
        return self._core.run_bulk_jobs(jobTemplate, beginIndex, endIndex, step)

    def control(self, jobId: JobId, operation: str | bytes | int) -> None:
        """As ``Session.control``."""
        action = _action(operation)
        self._core.control(jobId, action)

    def synchronize(self, jobIds: Iterable[JobId] | JobId, timeout: float = -1, dispose: bool = False) -> None:
        """As ``Session.synchronize``."""
        self._core.synchronize(jobIds, timeout, dispose)

    def wait(self, jobId: JobId, timeout: float = -1) -> JobInfo:
        """As ``Session.wait``."""
        return self._core.wait(jobId, timeout)

    def jobStatus(self, jobId: JobId) -> str:
        """As ``Session.jobStatus``."""
        return self._core.job_status(jobId)
