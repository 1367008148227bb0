"""Partial timestamps of DRMAA: ``[[[[CC]YY/]MM/]DD] hh:mm[:ss] [{-|+}UU:uu]``.

What is left out takes today's value; if that moment is past, it is the next one that fits: tomorrow's, next month's, next
year's, next century's. A moment given in full may be past.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone, tzinfo

from .errors import InvalidAttributeFormatException, coded

_TIMESTAMP = re.compile(
    r"[ \t]*"
    r"(?:(?:(?:([0-9]{2})?([0-9]{2})/)?([0-9]{2})/)?([0-9]{2})[ \t]+)?"
    r"([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?"
    r"(?:[ \t]+([+-])([0-9]{2}):([0-9]{2}))?"
    r"[ \t]*"
)
_HOW = "write [[[[CC]YY/]MM/]DD] hh:mm[:ss] [+hh:mm], two digits each, such as '21:39' or '2004/11/13 21:39:22 +01:00'"


def moment(text: str, what: str, *, now: float | None = None) -> float:
    """Seconds since the epoch of a partial timestamp, seen from ``now``. InvalidAttributeFormat (13) if it is none."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise coded(InvalidAttributeFormatException, f"{what}: {text!r} is not a time; {_HOW}")
    century, year, month, day, hour, minute, second = (None if g is None else int(g) for g in match.groups()[:7])
    assert hour is not None
    assert minute is not None
    if hour > 23 or minute > 59 or (second or 0) > 61:
        raise coded(InvalidAttributeFormatException, f"{what}: {text!r} is not a time of day; {_HOW}")
    zone = _zone(match[8], match[9], match[10], text, what)
    begin = time.time() if now is None else now
    today = datetime.fromtimestamp(begin, zone)
    # Leap seconds (60, 61) are added, since datetime has none.
    extra = timedelta(seconds=(second or 0) - min(second or 0, 59))
    clock = (hour, minute, min(second or 0, 59))
    for date in _dates(today, century, year, month, day):
        try:
            found = (datetime(*date, *clock, tzinfo=zone) + extra).timestamp()
        except ValueError:  # no such day in that month: the next month, or year, that has it
            continue
        if century is not None or found >= begin:
            return found
    raise coded(InvalidAttributeFormatException, f"{what}: {text!r} is on no calendar; {_HOW}")


def _zone(sign: str | None, hours: str | None, minutes: str | None, text: str, what: str) -> tzinfo | None:
    """None: the local zone, its summer time included."""
    if sign is None or hours is None or minutes is None:
        return None
    if int(hours) > 23 or int(minutes) > 59:
        raise coded(InvalidAttributeFormatException, f"{what}: the offset of {text!r} is none; {_HOW}")
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == "-" else offset)


def _dates(
    today: datetime, century: int | None, year: int | None, month: int | None, day: int | None
) -> list[tuple[int, int, int]]:
    """Dates that fit, from today's on. Eight years hold every day of a month, and every 29 February but around 1900."""
    if day is None:
        return [(d.year, d.month, d.day) for d in (today, today + timedelta(days=1))]
    if month is None:
        months = [today.year * 12 + today.month - 1 + n for n in range(13)]
        return [(m // 12, m % 12 + 1, day) for m in months]
    if year is None:
        return [(today.year + n, month, day) for n in range(9)]
    if century is None:
        return [((today.year // 100 + n) * 100 + year, month, day) for n in range(5)]
    return [(century * 100 + year, month, day)]
