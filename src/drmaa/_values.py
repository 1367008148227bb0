"""What callers may write for text, ids, timeouts, ranges and limits, brought to one form, or refused."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from .const import JOB_IDS_SESSION_ALL, JOB_IDS_SESSION_ANY
from .errors import InvalidArgumentException, InvalidAttributeFormatException, InvalidAttributeValueException, coded

ALL = JOB_IDS_SESSION_ALL.decode()
ANY = JOB_IDS_SESSION_ANY.decode()


def plain_text(value: Any, what: str) -> str:
    """Text, from str, bytes or a path; any byte survives. InvalidArgument (4) for anything else, and for a NUL."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise coded(InvalidArgumentException, f"{what} is text, not {type(value).__name__} {value!r}")
    text: str = os.fsdecode(value)
    if "\0" in text:
        raise coded(InvalidArgumentException, f"{what} cannot hold a NUL: {text!r}")
    return text


def word(value: Any, what: str) -> str:
    """An element of a list or mapping: as ``plain_text``, or any other value's ``str()``, as drmaa-python takes it."""
    return plain_text(value if isinstance(value, str | bytes | os.PathLike) else str(value), what)


def words(values: Any, what: str) -> list[str]:
    """A list of text from any iterable; InvalidArgument (4) for a single text, which would be cut into letters."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise coded(InvalidArgumentException, f"{what} is a list of text, such as ['-n', '4']; not {values!r}")
    return [word(value, what) for value in values]


def mapping(values: Any, what: str) -> dict[str, str]:
    """A dict of text; InvalidArgument (4) for anything else, and for a name that no environment can have."""
    if not isinstance(values, Mapping):
        raise coded(InvalidArgumentException, f"{what} is a dict of names and values, not {type(values).__name__} {values!r}")
    found = {word(key, what): word(value, what) for key, value in values.items()}
    for key in found:
        if not key or "=" in key:
            raise coded(InvalidArgumentException, f"{what}: {key!r} cannot be the name of an environment variable")
    return found


def job_id(value: Any) -> str:
    """A job's id as text, from str, bytes or int. InvalidArgument (4) for anything else, and for what can be no id."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = plain_text(value, "a job id")
    # Ids hold a digit, but for Flux's, which may happen to have none; a misplaced word, or the text of None, lacks it.
    if not any(c.isdigit() for c in text) and not text.startswith("ƒ") and text not in (ALL, ANY):
        raise coded(InvalidArgumentException, f'Job id, "{text}", is not a valid job id')
    if any(c.isspace() or not c.isprintable() for c in text):
        raise coded(InvalidArgumentException, f"Job id, {text!r}, holds a blank or a control character")
    return text


def job_ids(values: Any) -> Iterable[str]:
    """Ids from a list, or from one id alone. Lazy: what follows ALL is not looked at, as Grid Engine does it."""
    if isinstance(values, str | bytes | int):
        values = (values,)
    if not isinstance(values, Iterable):
        raise coded(InvalidArgumentException, f"job ids are a list of text, not {type(values).__name__} {values!r}")
    return (job_id(value) for value in values)


def timeout_s(value: Any) -> float | None:
    """Seconds; None for ever (-1). InvalidArgument (4) for other negative values, and for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise coded(InvalidArgumentException, f"a timeout is a number of seconds, not {value!r}")
    if value in (-1, math.inf):
        return None
    if value < 0:
        raise coded(
            InvalidArgumentException,
            f"Negative timeout values are not allowed: {value!r}; -1 (TIMEOUT_WAIT_FOREVER) waits for ever",
        )
    return value


def bulk_range(begin: Any, end: Any, step: Any) -> range:
    """The indices of a bulk job, both ends included. InvalidArgument (4) unless 1 <= begin <= end and step >= 1."""
    for name, value in (("beginIndex", begin), ("endIndex", end), ("step", step)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise coded(InvalidArgumentException, f"{name} is a whole number, not {type(value).__name__} {value!r}")
    if not 1 <= begin <= end or step < 1:
        raise coded(
            InvalidArgumentException,
            f"runBulkJobs({begin}, {end}, {step}): write 1 <= beginIndex <= endIndex and a step of 1 or more",
        )
    return range(begin, end + 1, step)


def limit_s(value: Any, what: str) -> int | None:
    """Whole seconds of a limit, from a number, a timedelta, or ``[[[d-]h:]m:]s``; None for no limit.

    InvalidAttributeFormat (13) for text that is no duration, InvalidAttributeValue (14) for values that no limit can have.
    """
    if value is None:
        return None
    if isinstance(value, str | bytes):
        seconds: float = _clock(os.fsdecode(value), what)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    elif callable(total := getattr(value, "total_seconds", None)):
        seconds = total()
    else:
        raise coded(InvalidAttributeValueException, f"{what} is seconds, a timedelta, or text such as '1:30:00'; not {value!r}")
    if not math.isfinite(seconds) or seconds <= 0 or seconds != int(seconds):
        raise coded(
            InvalidAttributeValueException, f"{what} is a whole number of seconds, 1 or more, not {value!r}; None is no limit"
        )
    return int(seconds)


def _clock(text: str, what: str) -> int:
    wrong = coded(
        InvalidAttributeFormatException, f"{what}: {text!r} is not a duration; write seconds, 'm:s', 'h:m:s' or 'd-h:m:s'"
    )
    days, dash, clock = text.strip().rpartition("-")
    parts = clock.split(":")
    if not all(p.isascii() and p.isdigit() for p in parts) or len(parts) > 3:
        raise wrong
    if dash and (len(parts) != 3 or not (days.isascii() and days.isdigit())):
        raise wrong
    seconds = int(days) * 86400 if dash else 0
    for place, part in enumerate(reversed(parts)):
        seconds += int(part) * 60**place
    return seconds
