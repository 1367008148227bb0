"""The errors that jobyard raises, as one tree; each says by ``retryable`` whether trying again can help.

    JobyardError
    ├── InvalidJob (ValueError)          the description makes no sense: names the field, nothing was written
    │   └── UnsupportedAttribute         it makes sense, but this scheduler cannot honour it
    ├── InvalidContact (ValueError)      a contact string, or a site's name, that cannot be used
    │   └── AmbiguousContact             several schedulers are here, and none was chosen
    ├── ConfigurationError (ValueError)  config.toml: names the file, the line and what is wrong there
    ├── NoScheduler                      the scheduler asked for is not on this machine; says how to get it
    ├── SubmitError                      the scheduler refused the job; ``retryable`` where it said "later"
    ├── ControlError                     hold, cancel, signal, ... was refused
    │   ├── WrongState                   the job's state does not allow the action
    │   └── NotPermitted                 the scheduler keeps the action for others (operators, the owner)
    ├── UnknownJob (LookupError)         no such job in this session, or at this scheduler
    ├── JobFailed                        raised by Ending.check(); carries the ending
    ├── SchedulerUnavailable             it did not answer, or answered nonsense; no state was changed by that
    ├── TransportError                   commands or files could not reach the scheduler's host
    ├── JournalError                     the journal is damaged, newer than this release, or cannot be written
    └── SessionClosed                    the session was closed

``wait`` raises the built-in TimeoutError when its time is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import Ending
    from .keeper import Placed

__all__ = [
    "AmbiguousContact",
    "ConfigurationError",
    "ControlError",
    "InvalidContact",
    "InvalidJob",
    "JobFailed",
    "JobyardError",
    "JournalError",
    "NoScheduler",
    "NotPermitted",
    "SchedulerUnavailable",
    "SessionClosed",
    "SubmitError",
    "TransportError",
    "UnknownJob",
    "UnsupportedAttribute",
    "WrongState",
]


class JobyardError(Exception):
    """The root of all errors of jobyard. ``retryable``: the same call may succeed later, unchanged.

    ``placed``: of a submission of many, those that had been accepted before the error (keeper.Placed); they are in the session.
    """

    retryable: bool = False
    placed: tuple[Placed, ...] = ()


class InvalidJob(JobyardError, ValueError):
    """A value of a job description that makes no sense; ``field`` names it (None: the combination)."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnsupportedAttribute(InvalidJob):
    """A sensible value that this scheduler cannot honour: names the attribute, the scheduler, and what it can do."""

    def __init__(self, message: str, *, field: str | None = None, scheduler: str | None = None) -> None:
        super().__init__(message, field=field)
        self.scheduler = scheduler


class InvalidContact(JobyardError, ValueError):
    """A contact string or a site's name that cannot be used."""


class AmbiguousContact(InvalidContact):
    """Several schedulers are on this machine, and neither contact, environment nor configuration chooses one."""


class ConfigurationError(JobyardError, ValueError):
    """The configuration file cannot be used; the message has file, line and column."""


class NoScheduler(JobyardError):
    """The scheduler asked for was not found on this machine."""


class SubmitError(JobyardError):
    """The scheduler refused a submission. ``output`` is what it said."""

    def __init__(self, message: str, *, retryable: bool = False, output: str = "") -> None:
        super().__init__(message)
        self.retryable = retryable
        self.output = output


class ControlError(JobyardError):
    """The scheduler refused to hold, release, suspend, resume, cancel, signal or requeue a job."""


class WrongState(ControlError):
    """The job's state does not allow the action."""


class NotPermitted(ControlError):
    """The action is kept for others: operators, or the job's owner."""


class UnknownJob(JobyardError, LookupError):
    """No such job: in this session, or at the scheduler."""

    def __str__(self) -> str:  # LookupError's subclasses may quote their argument; an error is for reading
        return str(self.args[0]) if self.args else ""


class JobFailed(JobyardError):
    """The job ended, but not with exit code 0; ``ending`` says how."""

    def __init__(self, message: str, *, ending: Ending | None = None) -> None:
        super().__init__(message)
        self.ending = ending


class SchedulerUnavailable(JobyardError):
    """The scheduler is away, slow, or answered nonsense. Nothing was concluded from that."""

    retryable = True


class TransportError(JobyardError):
    """Commands or files could not reach the scheduler's host."""

    retryable = True


class JournalError(JobyardError):
    """The journal cannot be used: damaged, written by a newer release, or not writable. It was not changed."""


class SessionClosed(JobyardError):
    """The session was closed; open it again by its contact."""
