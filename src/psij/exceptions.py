"""The two exceptions of PSI/J: a job that makes no sense, and a submission that could not be made."""

from __future__ import annotations

__all__ = ["InvalidJobException", "SubmitException"]


class InvalidJobException(Exception):
    """A problem with a job specification; submitting the same specification again fails in the same way.

    ``message`` is for the person who reads it; ``exception`` is the underlying exception, for debugging.
    """

    def __init__(self, message: str, exception: Exception | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.exception = exception


class SubmitException(Exception):
    """A submission, or another request to the backend, that failed for a reason that is not the job's.

    ``message`` is for the person who reads it; ``exception`` is the underlying exception, for debugging;
    ``transient`` is true where the same request may succeed later.
    """

    def __init__(self, message: str, exception: Exception | None = None, transient: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.exception = exception
        self.transient = transient
