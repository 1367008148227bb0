"""The engine's errors in DRMAA's words."""

from __future__ import annotations

from jobyard import (
    AmbiguousContact,
    ConfigurationError,
    ControlError,
    InvalidContact,
    InvalidJob,
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

from . import errors
from .const import JobControlAction
from .errors import DrmaaException, coded

# The first that fits; subclasses stand before their bases.
_KINDS: tuple[tuple[type[Exception], type[DrmaaException]], ...] = (
    (AmbiguousContact, errors.NoDefaultContactStringSelectedException),
    (InvalidContact, errors.InvalidContactStringException),
    (ConfigurationError, errors.DefaultContactStringException),
    (NoScheduler, errors.DrmsInitException),
    (JournalError, errors.DrmsInitException),
    (InvalidJob, errors.DeniedByDrmException),
    (SubmitError, errors.DeniedByDrmException),
    (NotPermitted, errors.AuthorizationException),
    (ControlError, errors.DeniedByDrmException),
    (UnknownJob, errors.InvalidJobException),
    (SchedulerUnavailable, errors.DrmCommunicationException),
    (TransportError, errors.DrmCommunicationException),
    (SessionClosed, errors.NoActiveSessionException),
    (MemoryError, errors.OutOfMemoryException),
)
_WRONG_STATE: dict[str, type[DrmaaException]] = {
    JobControlAction.SUSPEND: errors.SuspendInconsistentStateException,
    JobControlAction.RESUME: errors.ResumeInconsistentStateException,
    JobControlAction.HOLD: errors.HoldInconsistentStateException,
    JobControlAction.RELEASE: errors.ReleaseInconsistentStateException,
}
# Fields of a description that an optional attribute of DRMAA alone can have set.
_OPTIONAL_FIELDS = frozenset(
    {
        "deadline_at",
        "walltime",
        "walltime_s",
        "soft_walltime",
        "soft_walltime_s",
        "run_time",
        "run_time_s",
        "soft_run_time",
        "soft_run_time_s",
    }
)


def translate(error: Exception, action: str | None = None) -> DrmaaException:
    """The DRMAA error of an engine's error; ``action`` is the control action that met it."""
    if isinstance(error, DrmaaException):
        return error
    if isinstance(error, WrongState) and action in _WRONG_STATE:
        return coded(_WRONG_STATE[action], error)
    if isinstance(error, UnsupportedAttribute) and error.field in _OPTIONAL_FIELDS:
        return coded(errors.UnsupportedAttributeException, error)
    if isinstance(error, SubmitError) and error.retryable:
        return coded(errors.TryLaterException, error)
    for kind, ours in _KINDS:
        if isinstance(error, kind):
            return coded(ours, error)
    return coded(errors.InternalException, error)
