"""Submit, follow and control jobs on any batch scheduler.

>>> import jobyard
>>> with jobyard.Session("local") as session:
...     session.submit(["/bin/true"]).wait().exit_code
0
"""

from typing import TYPE_CHECKING

from .contact import Contact
from .errors import (
    AmbiguousContact,
    ConfigurationError,
    ControlError,
    InvalidContact,
    InvalidJob,
    JobFailed,
    JobyardError,
    JournalError,
    NoScheduler,
    NotPermitted,
    SchedulerUnavailable,
    SessionClosed,
    SubmitError,
    TransportError,
    UnknownJob,
    UnsupportedAttribute,
    WrongState,
)
from .handles import Job, JobArray
from .job import Cause, Ending, JobDescription, JobState, Limits, Resources, Usage
from .schedulers.base import Capabilities, Dialect, Scheduler
from .session import Session

if TYPE_CHECKING:
    from .schedulers.command import CommandScheduler

__version__ = "0.1.0"

__all__ = [
    "AmbiguousContact",
    "Capabilities",
    "Cause",
    "CommandScheduler",
    "ConfigurationError",
    "Contact",
    "ControlError",
    "Dialect",
    "Ending",
    "InvalidContact",
    "InvalidJob",
    "Job",
    "JobArray",
    "JobDescription",
    "JobFailed",
    "JobState",
    "JobyardError",
    "JournalError",
    "Limits",
    "NoScheduler",
    "NotPermitted",
    "Resources",
    "Scheduler",
    "SchedulerUnavailable",
    "Session",
    "SessionClosed",
    "SubmitError",
    "TransportError",
    "UnknownJob",
    "UnsupportedAttribute",
    "Usage",
    "WrongState",
]


def __getattr__(name: str) -> object:
    if name == "CommandScheduler":  # needs the transports, which most programs never do
        from .schedulers.command import CommandScheduler

        return CommandScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
