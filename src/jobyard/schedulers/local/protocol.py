"""What client and server say: the forms of states, tokens, endings and errors in their frames (wire.py).

Text of the user's travels as bytes (``os.fsencode``). A request is ``[id, operation, arguments]``, its answer ``[id, error or
None, result]``; what the server tells by itself has id 0. Requests are sent again after a lost connection, so each is safe
to repeat.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import msgspec

from ... import errors
from ...errors import JobyardError
from ...job import By, Cause, Ending, JobState, Usage, signal_name

__all__ = [
    "decode_ending",
    "decode_error",
    "encode_error",
    "make_token",
    "split_token",
]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


# States -------------------------------------------------------------------------------------------------------------

STATES = tuple(JobState)
CODE_OF = {state: code for code, state in enumerate(STATES)}
QUEUED, HELD, RUNNING, SUSPENDED = (CODE_OF[s] for s in (JobState.QUEUED, JobState.HELD, JobState.RUNNING, JobState.SUSPENDED))
STAGING_IN, STAGING_OUT, CLEANING = (CODE_OF[s] for s in (JobState.STAGING_IN, JobState.STAGING_OUT, JobState.CLEANING))
DONE, FAILED, CANCELLED = (CODE_OF[s] for s in (JobState.DONE, JobState.FAILED, JobState.CANCELLED))
FINAL = DONE  # this code and those after it are final
BYS = (None, By.USER, By.SYSTEM, By.BOTH)  # bit 1: user, bit 2: system


# Tokens -------------------------------------------------------------------------------------------------------------


def make_token(session: str, sequence: int) -> str:
    """A job's token: 16 hexadecimal digits of the session, 16 of the submission's place in it."""
    return f"{session}{sequence:016x}"


def split_token(token: str) -> tuple[str, int] | None:
    """Session and place; None where this is no token of ours."""
    if len(token) != 32:
        return None
    try:
        return token[:16], int(token[16:], 16)
    except ValueError:
        return None


# Endings ------------------------------------------------------------------------------------------------------------

# [state, cause, wait status or None, aborted, message, submitted, began, ended, attempts, *usage, extra usage or None]
_CAUSES = tuple(Cause)
CAUSE_CODE = {cause: code for code, cause in enumerate(_CAUSES)}


def encode_ending(
    state: int,
    cause: Cause,
    status: int | None,
    submitted: float,
    began: float | None,
    ended: float,
    *,
    aborted: bool = False,
    message: str = "",
    attempts: int = 1,
    usage: Iterable[int] | None = None,
) -> bytes:
    """An ending as the journal keeps it and the client decodes it. ``usage`` as in ``kernel.Peeked`` without the status."""
    return _encode(
        (
            state,
            CAUSE_CODE[cause],
            status,
            aborted,
            os.fsencode(message),
            submitted,
            began,
            ended,
            attempts,
            usage,
        )
    )


def decode_ending(data: bytes, host: str) -> Ending:
    """The ending that ``encode_ending`` made."""
    state, cause, status, aborted, message, submitted, began, ended, attempts, used = _decode(data)
    wall = max(0.0, ended - began) if began is not None else None
    if used:
        usage = Usage(
            wall_s=wall,
            user_s=used[0] / 1e6,
            system_s=used[1] / 1e6,
            max_rss_bytes=used[2] * 1024 or None,
            minor_faults=used[3],
            major_faults=used[4],
            read_blocks=used[5],
            written_blocks=used[6],
            voluntary_switches=used[7],
            involuntary_switches=used[8],
        )
    else:
        usage = Usage(wall_s=wall)
    code: int | None = None
    signal: str | None = None
    core = False
    if status is not None:
        if status & 0x7F:
            signal, core = signal_name(status & 0x7F), bool(status & 0x80)
        else:
            code = status >> 8 & 0xFF
    return Ending(
        state=STATES[state],
        cause=_CAUSES[cause],
        exit_code=code,
        signal=signal,
        core_dumped=core,
        aborted=aborted,
        message=os.fsdecode(message),
        usage=usage,
        submitted_at=submitted,
        began_at=began,
        ended_at=ended,
        host=host if began is not None else None,
        attempts=attempts,
    )


def decode_state(data: bytes) -> tuple[int, float | None]:
    """State and begin of an encoded ending."""
    fields = _decode(data)
    return fields[0], fields[6]


# Paths --------------------------------------------------------------------------------------------------------------


def as_sent(*names: str) -> list[str | bytes]:
    """Paths as they travel: bytes where they are not plain, since a client may read bytes in another way, or not at all."""
    return [name if name.isascii() else os.fsencode(name) for name in names]


# Errors -------------------------------------------------------------------------------------------------------------


def encode_error(error: JobyardError) -> list[Any]:
    """An error as it travels: class, message, field, retryable."""
    return [type(error).__name__, os.fsencode(str(error)), getattr(error, "field", None), error.retryable]


def decode_error(data: list[Any]) -> JobyardError:
    """The error that ``encode_error`` made."""
    name, message, field, retryable = data
    text = os.fsdecode(message)
    kind = getattr(errors, name, None)
    if kind is errors.UnsupportedAttribute:
        return errors.UnsupportedAttribute(text, field=field, scheduler="local")
    if kind is errors.InvalidJob:
        return errors.InvalidJob(text, field=field)
    if kind is errors.SubmitError:
        return errors.SubmitError(text, retryable=retryable)
    if isinstance(kind, type) and issubclass(kind, JobyardError):
        return kind(text)
    return errors.SchedulerUnavailable(text)
