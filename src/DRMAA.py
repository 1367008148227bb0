"""The older ``DRMAA`` module of Grid Engine's first Python tutorial: its names over ``drmaa``.

``init`` for ``initialize``, ``getContact()`` for ``contact``, ``getJobProgramStatus`` for ``jobStatus``, states and actions as
constants of Session, getters on what ``wait`` returns. Everything else is drmaa's, the process-wide session included.
"""

from __future__ import annotations

import drmaa
from drmaa import JobTemplate
from drmaa.const import JobControlAction, JobState
from drmaa.helpers import Version

__all__ = ["JobInfo", "JobTemplate", "Session"]


class JobInfo:
    """How a job ended, by getters."""

    def __init__(self, info: drmaa.JobInfo) -> None:
        self._info = info

    def __repr__(self) -> str:
        return f"DRMAA.{self._info!r}"

    def getJobId(self) -> str:
        """The id of the job that was reaped."""
        return self._info.jobId

    def hasExited(self) -> bool:
        """It exited by itself; ``getExitStatus`` says how."""
        return self._info.hasExited

    def getExitStatus(self) -> int:
        """The exit code, 0 to 255, where it exited."""
        return self._info.exitStatus

    def hasSignaled(self) -> bool:
        """A signal ended it; ``getTerminatingSignal`` says which."""
        return self._info.hasSignal

    def getTerminatingSignal(self) -> str:
        """The signal's name; '' for none."""
        return self._info.terminatedSignal

    def hasCoreDump(self) -> bool:
        """A core was dumped."""
        return self._info.hasCoreDump

    def wasAborted(self) -> bool:
        """It was ended before it ran, or terminated."""
        return self._info.wasAborted

    def getResourceUsage(self) -> dict[str, str]:
        """What it used."""
        return self._info.resourceUsage


class Session(drmaa.Session):
    """``drmaa.Session`` under the older names; the session of the process is one and the same."""

    SUSPEND = JobControlAction.SUSPEND
    RESUME = JobControlAction.RESUME
    HOLD = JobControlAction.HOLD
    RELEASE = JobControlAction.RELEASE
    TERMINATE = JobControlAction.TERMINATE

    UNDETERMINED = JobState.UNDETERMINED
    QUEUED_ACTIVE = JobState.QUEUED_ACTIVE
    SYSTEM_ON_HOLD = JobState.SYSTEM_ON_HOLD
    USER_ON_HOLD = JobState.USER_ON_HOLD
    USER_SYSTEM_ON_HOLD = JobState.USER_SYSTEM_ON_HOLD
    RUNNING = JobState.RUNNING
    SYSTEM_SUSPENDED = JobState.SYSTEM_SUSPENDED
    USER_SUSPENDED = JobState.USER_SUSPENDED
    USER_SYSTEM_SUSPENDED = JobState.USER_SYSTEM_SUSPENDED
    DONE = JobState.DONE
    FAILED = JobState.FAILED

    @staticmethod
    def init(contactString: str | bytes | None = None) -> None:
        """``initialize``."""
        drmaa.Session.initialize(contactString)

    @staticmethod
    def getContact() -> str:
        """``contact``; before ``init`` and after ``exit`` too."""
        return drmaa.Session.contact

    @staticmethod
    def getDRMSInfo() -> str:
        """``drmsInfo``; before ``init`` and after ``exit`` too."""
        return drmaa.Session.drmsInfo

    @staticmethod
    def getDRMAAImplementation() -> str:
        """``drmaaImplementation``; before ``init`` and after ``exit`` too."""
        return drmaa.Session.drmaaImplementation

    @staticmethod
    def getVersion() -> Version:
        """``version``."""
        return drmaa.Session.version

    @staticmethod
    def getJobProgramStatus(jobId: str | bytes | int) -> str:
        """``jobStatus``: one of the states above."""
        return drmaa.Session.jobStatus(jobId)

    @staticmethod
    def wait(jobId: str | bytes | int, timeout: float = -1) -> JobInfo:  # type: ignore[override]  # getters, as the older module has them
        """As ``drmaa.Session.wait``; the ending has getters."""
        return JobInfo(drmaa.Session.wait(jobId, timeout))


def __getattr__(name: str) -> object:
    """Constants and errors are drmaa's."""
    if name in drmaa.__all__:
        return getattr(drmaa, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
