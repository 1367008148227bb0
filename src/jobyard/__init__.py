"""Submit, follow and control jobs on any batch scheduler.

>>> import jobyard
>>> with jobyard.Session("local") as session:
...     session.submit(["/bin/true"]).wait().exit_code
0
"""

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
from .job import By, Cause, Ending, Inherit, JobDescription, JobState, Limits, Placeholder, Resources, Usage
from .schedulers import found as schedulers_found
from .schedulers.base import Action, Capabilities, Dialect, Scheduler
from .session import Session

__version__ = "0.1.0"

__all__ = [
    "Action",
    "AmbiguousContact",
    "By",
    "Capabilities",
    "Cause",
    "CommandScheduler",
    "ConfigurationError",
    "Contact",
    "ControlError",
    "Dialect",
    "Ending",
    "Inherit",
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
    "Placeholder",
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
    "schedulers_found",
]


def __getattr__(name: str) -> object:
    if name == "CommandScheduler":  # needs the transports, which most programs never do
        from .schedulers.command import CommandScheduler

        return CommandScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
