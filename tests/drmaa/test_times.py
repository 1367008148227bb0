"""Partial timestamps: what is accepted, what is refused, and the moment that is meant."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaa import InvalidAttributeFormatException
from drmaa._times import moment


@pytest.fixture(autouse=True)
def _zone() -> Iterator[None]:
    """Local time with a summer time, wherever the tests run."""
    saved = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    os.environ.pop("TZ") if saved is None else os.environ.__setitem__("TZ", saved)
    time.tzset()


def local(*fields: int) -> float:
    return datetime(*fields).timestamp()  # type: ignore[arg-type]  # year to second


NOW = (2004, 11, 12, 20, 0, 0)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2004/11/13 21:39:22 +01:00", (2004, 11, 13, 21, 39, 22)),
        ("04/11/13 21:39", (2004, 11, 13, 21, 39)),
        ("11/13 21:39:22", (2004, 11, 13, 21, 39, 22)),
        ("13 21:39", (2004, 11, 13, 21, 39)),
        ("21:39", (2004, 11, 12, 21, 39)),
        ("   21:39", (2004, 11, 12, 21, 39)),
        ("21:39 ", (2004, 11, 12, 21, 39)),
        ("21:39:60", (2004, 11, 12, 21, 40, 0)),
        ("21:39:61", (2004, 11, 12, 21, 40, 1)),
        # The smallest part that was left out moves on where the moment is past.
        ("19:59", (2004, 11, 13, 19, 59)),
        ("11 21:39", (2004, 12, 11, 21, 39)),
        ("11/11 21:39", (2005, 11, 11, 21, 39)),
        ("04/11/11 21:39", (2104, 11, 11, 21, 39)),
        ("2004/11/11 21:39", (2004, 11, 11, 21, 39)),
        ("1999/01/02 03:04", (1999, 1, 2, 3, 4)),
        # A day that this month, or this year, does not have: the next that has it.
        ("31 12:00", (2004, 12, 31, 12, 0)),
        ("02/29 12:00", (2008, 2, 29, 12, 0)),
        # Summer time counts where no offset is given.
        ("07/01 12:00", (2005, 7, 1, 12, 0)),
    ],
)
def test_accepted(text: str, meant: tuple[int, ...]) -> None:
    assert moment(text, "startTime", now=local(*NOW)) == local(*meant)


@pytest.mark.parametrize(
    ("text", "offset"),
    [("2004/11/13 21:39 +00:00", 0), ("2004/11/13 21:39 -05:30", -330), ("2004/11/13 21:39 +14:00", 840)],
)
def test_offset(text: str, offset: int) -> None:
    meant = datetime(2004, 11, 13, 21, 39, tzinfo=timezone(timedelta(minutes=offset)))
    assert moment(text, "startTime", now=local(*NOW)) == meant.timestamp()


def test_today_is_the_offsets() -> None:
    """At 20:00 in Berlin it is already the next day, 04:00, at +09:00; 03:00 there is tomorrow's."""
    zone = timezone(timedelta(hours=9))
    assert moment("05:00 +09:00", "startTime", now=local(*NOW)) == datetime(2004, 11, 13, 5, tzinfo=zone).timestamp()
    assert moment("03:00 +09:00", "startTime", now=local(*NOW)) == datetime(2004, 11, 14, 3, tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "204/11/13 21:39",
        "20041/11/13 21:39",
        "2004/1/13 21:39",
        "2004/11/3 21:39",
        "2004/11/13 9:39",
        "2004/11/13 21:9",
        "21:39:2",
        "21:39 +1:00",
        "21:39 +01:0",
        "21:39 +0100",
        "21:39 01:00",
        "2004/11/13/21:39",
        "2004:11/13 21:39",
        "2004|11|13 21:39",
        "2004;11;13 21:39",
        "/11/13 21:39",
        "21:39:",
        "21:39 +01:",
        "tomorrow",
        "now",
        "",
        "21",
        "24:00",
        "21:60",
        "21:39:62",
        "13/01 21:39",
        "00 21:39",
        "32 21:39",
        "02/30 21:39",
        "2005/02/29 21:39",
        "2004/11/13T21:39",
        "2004-11-13 21:39",
        "21:39 +24:00",
        "21:39 +01:60",
        "21:39\n",
        "２１:３９",
        "2004/11/13  21:39  Z",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidAttributeFormatException, match=r"^code 13: startTime: .*write \[\[\[\[CC\]YY/\]MM/\]DD\] hh:mm"):
        moment(text, "startTime", now=local(*NOW))


@given(st.integers(0, 23), st.integers(0, 59), st.integers(946684800, 4102444800))
def test_a_time_of_day_is_the_next_one(hour: int, minute: int, now: int) -> None:
    found = moment(f"{hour:02}:{minute:02}", "startTime", now=now)
    assert now <= found <= now + 25 * 3600  # a day of 25 hours ends summer time
    shown = datetime.fromtimestamp(found)
    skipped = shown != datetime.fromtimestamp(found).replace(hour=hour, minute=minute)
    assert not skipped or shown.month in (3, 10)  # an hour that summer time leaves out
