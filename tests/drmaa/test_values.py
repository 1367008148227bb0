"""Ids, timeouts, ranges, limits and texts: what callers may write, and how the rest is refused."""

from __future__ import annotations

import math
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import drmaa
from drmaa import _values as values
from drmaa.errors import InvalidArgumentException, InvalidAttributeFormatException, InvalidAttributeValueException


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (60, 60),
        (60.0, 60),
        (b"60", 60),
        ("60", 60),
        ("0:01:00", 60),
        ("1:00", 60),
        ("01:30", 90),
        ("24:00:00", 86400),
        ("1-00:00:00", 86400),
        ("2-1:02:03", 2 * 86400 + 3723),
        (" 90 ", 90),
        (timedelta(minutes=1), 60),
        (timedelta(days=2), 172800),
    ],
)
def test_limit(given: Any, seconds: int) -> None:
    assert values.limit_s(given, "hardWallclockTimeLimit") == seconds


def test_no_limit() -> None:
    assert values.limit_s(None, "hardWallclockTimeLimit") is None


@pytest.mark.parametrize("given", ["", "an hour", "1:2:3:4", "1h", "-5", "1-2", "1-00:00", "1.5", "::", "1:", "٣"])
def test_limit_that_is_no_duration(given: str) -> None:
    with pytest.raises(InvalidAttributeFormatException, match=r"^code 13: hardWallclockTimeLimit: .*write seconds, 'm:s'"):
        values.limit_s(given, "hardWallclockTimeLimit")


@pytest.mark.parametrize("given", [0, -1, 1.5, True, math.inf, math.nan, [], {}, "0", timedelta(seconds=0.5), timedelta(-1)])
def test_limit_that_no_limit_can_have(given: Any) -> None:
    with pytest.raises(InvalidAttributeValueException, match=r"^code 14: hardWallclockTimeLimit is "):
        values.limit_s(given, "hardWallclockTimeLimit")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("17", "17"),
        (b"17", "17"),
        (17, "17"),
        ("17.4", "17.4"),
        ("17[4].server", "17[4].server"),
        ("ƒ3bQ", "ƒ3bQ"),
        ("ƒabQ", "ƒabQ"),
    ],
)
def test_job_id(given: Any, text: str) -> None:
    assert values.job_id(given) == text
    assert list(values.job_ids(given)) == [text]


@pytest.mark.parametrize("given", ["abc", "", "None", None, True, 1.5, ["17"], "1 7", "17\n", "17\0", object()])
def test_malformed_job_id(given: Any) -> None:
    with pytest.raises(InvalidArgumentException, match=r"^code 4: "):
        values.job_id(given)


def test_special_ids_are_text_or_bytes() -> None:
    for special in (drmaa.Session.JOB_IDS_SESSION_ANY, drmaa.Session.JOB_IDS_SESSION_ALL):
        assert values.job_id(special) == values.job_id(special.decode()) == special.decode()


def test_ids_are_read_one_by_one() -> None:
    """[ALL, bogus] succeeds and [bogus, ALL] does not, as with Grid Engine's library: nothing behind ALL is read."""
    ids = iter(values.job_ids([b"DRMAA_JOB_IDS_SESSION_ALL", "bogus"]))
    assert next(ids) == values.ALL
    with pytest.raises(InvalidArgumentException, match='Job id, "bogus", is not a valid job id'):
        next(ids)
    with pytest.raises(InvalidArgumentException, match="a list of text"):
        values.job_ids(None)
    with pytest.raises(InvalidArgumentException, match="a list of text"):
        values.job_ids(1.5)


@pytest.mark.parametrize(("given", "seconds"), [(-1, None), (-1.0, None), (math.inf, None), (0, 0), (5, 5), (1.5, 1.5)])
def test_timeout(given: float, seconds: float | None) -> None:
    assert values.timeout_s(given) == seconds


@pytest.mark.parametrize("given", [-2, -0.5, math.nan, -math.inf, "5", None, True])
def test_bad_timeout(given: Any) -> None:
    with pytest.raises(InvalidArgumentException, match=r"^code 4: "):
        values.timeout_s(given)


@pytest.mark.parametrize(
    ("given", "indices"), [((1, 10, 3), [1, 4, 7, 10]), ((5, 5, 1), [5]), ((2, 6, 2), [2, 4, 6]), ((2, 7, 2), [2, 4, 6])]
)
def test_bulk_range(given: tuple[int, int, int], indices: list[int]) -> None:
    assert list(values.bulk_range(*given)) == indices


@pytest.mark.parametrize(
    "given",
    [(0, 2, 1), (-1, 2, 1), (1, 2, 0), (3, 1, 1), (3, 1, -1), (1, 2, -1), (1, 2, 1.0), ("1", 2, 1), (1, None, 1), (True, 2, 1)],
)
def test_bad_bulk_range(given: tuple[Any, Any, Any]) -> None:
    with pytest.raises(InvalidArgumentException, match=r"^code 4: "):
        values.bulk_range(*given)


def test_text() -> None:
    assert values.plain_text("a b", "jobName") == "a b"
    assert values.plain_text(b"\xff", "jobName") == os.fsdecode(b"\xff")
    assert values.plain_text(Path("/bin/true"), "remoteCommand") == "/bin/true"
    for bad in (None, 5, 1.5, [], object()):
        with pytest.raises(InvalidArgumentException, match=r"^code 4: jobName is text"):
            values.plain_text(bad, "jobName")
    with pytest.raises(InvalidArgumentException, match="NUL"):
        values.plain_text("a\0b", "jobName")


def test_lists_and_mappings() -> None:
    assert values.words([10, None, "x", b"y", Path("/z")], "args") == ["10", "None", "x", "y", "/z"]
    assert values.words((c for c in "ab"), "args") == ["a", "b"]
    assert values.mapping({"A": 1, b"B": "x=y"}, "jobEnvironment") == {"A": "1", "B": "x=y"}
    for bad in ("abc", b"abc", None, 5):
        with pytest.raises(InvalidArgumentException, match=r"^code 4: args is a list"):
            values.words(bad, "args")
    for value in (None, 5, "A=1", [("A", "1")]):
        with pytest.raises(InvalidArgumentException, match=r"^code 4: jobEnvironment is a dict"):
            values.mapping(value, "jobEnvironment")
    for name in ("", "A=B"):
        with pytest.raises(InvalidArgumentException, match="cannot be the name"):
            values.mapping({name: "1"}, "jobEnvironment")
