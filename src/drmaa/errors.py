"""The errors of DRMAA 1.0. ``str(error)`` and ``error.args[0]`` are always ``code N: text``, N as in the C binding."""

from __future__ import annotations

__all__ = [
    "AlreadyActiveSessionException",
    "AuthorizationException",
    "ConflictingAttributeValuesException",
    "DefaultContactStringException",
    "DeniedByDrmException",
    "DrmCommunicationException",
    "DrmaaException",
    "DrmsExitException",
    "DrmsInitException",
    "ExitTimeoutException",
    "HoldInconsistentStateException",
    "IllegalStateException",
    "InternalException",
    "InvalidArgumentException",
    "InvalidAttributeFormatException",
    "InvalidAttributeValueException",
    "InvalidContactStringException",
    "InvalidJobException",
    "InvalidJobTemplateException",
    "NoActiveSessionException",
    "NoDefaultContactStringSelectedException",
    "NoRusageException",
    "OutOfMemoryException",
    "ReleaseInconsistentStateException",
    "ResumeInconsistentStateException",
    "SuspendInconsistentStateException",
    "TryLaterException",
    "UnsupportedAttributeException",
    "error_buffer",
    "error_check",
]


class DrmaaException(Exception):
    """The root of all errors of DRMAA."""


class InternalException(DrmaaException):
    """Code 1: what no other code says."""


class DrmCommunicationException(DrmaaException):
    """Code 2: the scheduler could not be asked, or did not answer."""


class AuthorizationException(DrmaaException):
    """Code 3: the scheduler keeps the action for others."""


class InvalidArgumentException(DrmaaException, AttributeError):
    """Code 4: an argument of the wrong type, a malformed id, a negative timeout, a bad range."""


class NoActiveSessionException(DrmaaException):
    """Code 5: before ``initialize``, or after ``exit``."""


class OutOfMemoryException(DrmaaException, MemoryError):
    """Code 6."""


class InvalidContactStringException(DrmaaException):
    """Code 7: the contact, or the session that it names, cannot be used."""


class DefaultContactStringException(DrmaaException):
    """Code 8: the configured default contact cannot be used."""


class NoDefaultContactStringSelectedException(DrmaaException):
    """Code 9: several schedulers are here, and none was chosen."""


class DrmsInitException(DrmaaException):
    """Code 10: the scheduler is not here, or the session could not be opened."""


class AlreadyActiveSessionException(DrmaaException):
    """Code 11: ``initialize`` while a session is active."""


class DrmsExitException(DrmaaException):
    """Code 12: the session could not be left."""


class InvalidAttributeFormatException(DrmaaException, AttributeError):
    """Code 13: a path without its colon, a time or duration that does not parse."""


class InvalidAttributeValueException(DrmaaException, AttributeError):
    """Code 14: a value that the attribute cannot have."""


class ConflictingAttributeValuesException(DrmaaException, AttributeError):
    """Code 15: two attributes that contradict each other."""


class TryLaterException(DrmaaException):
    """Code 16: refused for now; the same call can succeed later."""


class DeniedByDrmException(DrmaaException):
    """Code 17: refused for good."""


class InvalidJobException(DrmaaException):
    """Code 18: no such job, or it was reaped."""


class ResumeInconsistentStateException(DrmaaException):
    """Code 19: the job is not suspended by its user."""


class SuspendInconsistentStateException(DrmaaException):
    """Code 20: the job does not run."""


class HoldInconsistentStateException(DrmaaException):
    """Code 21: the job does not wait, or is held already."""


class ReleaseInconsistentStateException(DrmaaException):
    """Code 22: the job is not held by its user."""


class ExitTimeoutException(DrmaaException):
    """Code 23: the time of a ``wait`` or ``synchronize`` is over, or the session was left meanwhile."""


class NoRusageException(DrmaaException):
    """Code 24: the job has ended, and nothing is known of how. drmaa-python raises a bare Exception with the same text."""


class IllegalStateException(DrmaaException):
    """Of the specification; never raised."""


class InvalidJobTemplateException(DrmaaException):
    """Code 4: not a job template, or a deleted one."""


class UnsupportedAttributeException(DrmaaException, AttributeError):
    """Code 4: an optional attribute that this scheduler cannot honour."""


# By code, from 1. 25 ends iterations.
_ERRORS: list[type[Exception]] = [
    InternalException,
    DrmCommunicationException,
    AuthorizationException,
    InvalidArgumentException,
    NoActiveSessionException,
    OutOfMemoryException,
    InvalidContactStringException,
    DefaultContactStringException,
    NoDefaultContactStringSelectedException,
    DrmsInitException,
    AlreadyActiveSessionException,
    DrmsExitException,
    InvalidAttributeFormatException,
    InvalidAttributeValueException,
    ConflictingAttributeValuesException,
    TryLaterException,
    DeniedByDrmException,
    InvalidJobException,
    ResumeInconsistentStateException,
    SuspendInconsistentStateException,
    HoldInconsistentStateException,
    ReleaseInconsistentStateException,
    ExitTimeoutException,
    NoRusageException,
    StopIteration,
]
_CODES: dict[type[Exception], int] = {
    **{kind: code for code, kind in enumerate(_ERRORS, 1)},
    IllegalStateException: 1,
    InvalidJobTemplateException: 4,
    UnsupportedAttributeException: 4,
}


def coded(kind: type[DrmaaException], text: object) -> DrmaaException:
    """An error of that kind, its text led by its code."""
    code = next(_CODES[base] for base in kind.__mro__ if base in _CODES)
    return kind(f"code {code}: {text}")


class _ErrorBuffer:
    """Stands where the C binding writes its message; ``error_check`` reads it."""

    def __init__(self) -> None:
        self.value = b""


error_buffer = _ErrorBuffer()


def error_check(code: int) -> None:
    """Raise the error of a code of the C binding, with the text of ``error_buffer``; 0 is none."""
    if code == 0:
        return
    text = f"code {code}: {error_buffer.value.decode(errors='replace')}"
    raise (_ERRORS[code - 1] if 1 <= code <= len(_ERRORS) else DrmaaException)(text)
