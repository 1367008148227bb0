"""The errors of gc3libs, with the names and the relations that programs catch them by.

Error
├── FatalError                          going on makes no sense
│   └── ConfigurationError              a configuration file cannot be used
├── RecoverableError                    the same call may succeed later
│   └── UnexpectedJobState              accounting shows a state that a parser does not know
├── UnrecoverableError                  it will not
├── AuthError                           Recoverable..., Unrecoverable...
├── DataStagingError                    Recoverable..., Unrecoverable...: files could not be brought in or out
├── DuplicateEntryError
├── InternalError (AssertionError)
│   └── AuxiliaryCommandError           a command of the scheduler failed
├── InvalidArgument (AssertionError)    InvalidType (TypeError), InvalidValue (ValueError)
├── InvalidOperation                    the task's state does not allow the call
│   └── OutputNotAvailableError
├── LRMSError                           the scheduler refused, or did not answer
│   ├── LRMSSubmitError                 ResourceNotReady, MaximumCapacityReached
│   └── SpoolDirError (UnrecoverableError)
├── TransportError (OSError)            commands or files could not reach the scheduler's host
└── UnknownJob                          no such job
"""

from __future__ import annotations

__all__ = [
    "AuthError",
    "AuxiliaryCommandError",
    "ConfigurationError",
    "DataStagingError",
    "DuplicateEntryError",
    "Error",
    "FatalError",
    "InternalError",
    "InvalidArgument",
    "InvalidOperation",
    "InvalidType",
    "InvalidValue",
    "LRMSError",
    "LRMSSubmitError",
    "MaximumCapacityReached",
    "OutputNotAvailableError",
    "RecoverableAuthError",
    "RecoverableDataStagingError",
    "RecoverableError",
    "ResourceNotReady",
    "SpoolDirError",
    "TransportError",
    "UnexpectedJobState",
    "UnknownJob",
    "UnrecoverableAuthError",
    "UnrecoverableDataStagingError",
    "UnrecoverableError",
]


class Error(Exception):
    """The root. ``do_log``: kept for callers that give it; the error is raised either way, and logged by whoever catches it.

    ``transient``: the same call may succeed later, unchanged.
    """

    transient = False

    def __init__(self, msg: str = "", do_log: bool = False) -> None:
        super().__init__(msg)
        self.do_log = do_log


class FatalError(Error):
    """Going on makes no sense."""


class ConfigurationError(FatalError):
    """A configuration file cannot be used: names the file, the section and what is wrong there."""


class RecoverableError(Error):
    """The same call may succeed later."""

    transient = True


class UnrecoverableError(Error):
    """The same call will fail again."""


class UnexpectedJobState(RecoverableError):
    """For parsers of accounting: it shows a state that is not known, or not final; nothing is concluded from it."""


class AuthError(Error):
    """Logging in failed."""


class RecoverableAuthError(RecoverableError, AuthError):
    """Logging in failed, and may succeed later."""


class UnrecoverableAuthError(UnrecoverableError, AuthError):
    """Logging in failed, and will fail again."""


class DataStagingError(Error):
    """Files could not be brought to a job, or away from it."""


class RecoverableDataStagingError(RecoverableError, DataStagingError):
    """As DataStagingError; it may succeed later."""


class UnrecoverableDataStagingError(UnrecoverableError, DataStagingError):
    """As DataStagingError; it will fail again."""


class DuplicateEntryError(Error):
    """A file name stands twice in a list of inputs or outputs."""


class InternalError(Error, AssertionError):
    """Something that should not be."""


class AuxiliaryCommandError(InternalError):
    """A command of the scheduler failed."""


class InvalidArgument(Error, AssertionError):
    """An argument that makes no sense."""


class InvalidType(InvalidArgument, TypeError):
    """An argument of the wrong type."""


class InvalidValue(InvalidArgument, ValueError):
    """An argument with a wrong value."""


class InvalidOperation(Error):
    """The task's state does not allow the call."""


class OutputNotAvailableError(InvalidOperation):
    """The task has no output yet."""


class LRMSError(Error):
    """The scheduler refused, or did not answer. ``transient`` says which."""

    def __init__(self, msg: str = "", do_log: bool = False, *, transient: bool = False) -> None:
        super().__init__(msg, do_log)
        self.transient = transient


class LRMSSubmitError(LRMSError):
    """A submission was refused."""


class ResourceNotReady(LRMSSubmitError):
    """The resource cannot take jobs yet."""


class MaximumCapacityReached(LRMSSubmitError):
    """The resource has as many jobs as it may have."""


class SpoolDirError(LRMSError, UnrecoverableError):
    """The folder for jobs cannot be made or used."""


class TransportError(Error, OSError):
    """Commands or files could not reach the scheduler's host; ``errno`` where the host told one."""

    def __init__(self, msg: str = "", do_log: bool = False, *, errno: int | None = None, transient: bool = True) -> None:
        super().__init__(msg, do_log)
        self.errno = errno
        self.transient = transient

    def __str__(self) -> str:  # OSError would show the errno alone
        return str(self.args[0]) if self.args else ""


class UnknownJob(Error):
    """No such job: in the journal, or at the scheduler."""
