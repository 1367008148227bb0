"""Awaiting accounting: asked until it knows the job, for as long as it can still come to know it; by a clock of the test's."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from drmaa import _accounts
from drmaa._accounts import Accounts
from drmaa._info import job_info
from jobyard import Ending, Job, JobState, Scheduler, SchedulerUnavailable, SessionClosed, Usage
from jobyard.fronts import Answer, Row

ENDING = Ending(state=JobState.DONE, exit_code=0, began_at=1.0, ended_at=3.0, usage=Usage(user_s=0.5))
RECORD = Usage(user_s=9.0, max_rss_bytes=4096, native={"maxvmem": "2K", "qname": "all.q"})


class OneJob:
    native_id = "17"

    def __init__(self, ending: Ending | None = ENDING) -> None:
        self.ending = ending


class Clock:
    """Time passes by waiting only; stands for the time module, and for the event that the session was left."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.left_at = 10.0**9

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += max(seconds, 0.001)
        return self.now >= self.left_at


class Books:
    """Accounting that knows the job from its nth answer on; before, it says nothing, something else, or does not answer."""

    def __init__(self, known_at: int, before: Any = None) -> None:
        self.known_at, self.before, self.asked = known_at, before, 0

    def account(self, native_ids: Any) -> Answer:
        assert list(native_ids) == ["17"]
        self.asked += 1
        if self.asked >= self.known_at:
            return Answer(rows=(Row(native_id="17", ended=True, ending=Ending(state=JobState.DONE, usage=RECORD)),))
        if isinstance(self.before, Exception):
            raise self.before
        return Answer(rows=self.before or ())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(_accounts, "time", made)
    return made


def asked(
    clock: Clock, books: Books, deadline: float | None = None, ending: Ending | None = ENDING, patience_s: float = 1e9
) -> Usage | None:
    accounts = Accounts(cast(Scheduler, books), patience_s)
    return accounts.record(cast(Job, OneJob(ending)), deadline, cast(threading.Event, clock))


@pytest.mark.parametrize("known_at", [1, 2, 10])
@pytest.mark.parametrize("before", [None, (Row(native_id="17"),), (Row(native_id="18", ending=ENDING),)])
def test_record_comes(clock: Clock, known_at: int, before: Any) -> None:
    books = Books(known_at, before)
    assert asked(clock, books) is RECORD
    assert books.asked == known_at


def test_no_record_comes(clock: Clock) -> None:
    assert asked(clock, Books(10**9)) is None
    assert 120 <= clock.now - 1000 < 130


def test_silence_is_no_answer(clock: Clock) -> None:
    """While accounting is away its record is awaited, for as long as the session has patience."""
    books = Books(200, SchedulerUnavailable("away"))
    assert asked(clock, books) is RECORD
    assert clock.now - 1000 > 600
    began = clock.now
    with pytest.raises(SchedulerUnavailable, match="away"):
        asked(clock, Books(10**9, SchedulerUnavailable("away")), patience_s=300.0)
    assert 300 <= clock.now - began < 310


def test_deadline_and_leaving(clock: Clock) -> None:
    with pytest.raises(TimeoutError, match="accounting does not know job 17 yet"):
        asked(clock, Books(10**9), deadline=1003.0)
    assert clock.now == pytest.approx(1003.0, abs=0.01)
    clock.left_at = 1010.0
    with pytest.raises(SessionClosed):
        asked(clock, Books(10**9))


@pytest.mark.parametrize("ending", [None, Ending(state=JobState.CANCELLED, aborted=True)])
def test_what_never_began_has_no_record(clock: Clock, ending: Ending | None) -> None:
    books = Books(1)
    assert asked(clock, books, ending=ending) is None
    assert books.asked == 0


def test_record_in_usage() -> None:
    """The receipt's figures stand; accounting adds what it has besides, and its own names."""
    usage = job_info("17", ENDING, RECORD).resourceUsage
    assert (usage["ru_utime"], usage["cpu"]) == ("0.5000", "0.5000")
    assert usage["ru_maxrss"] == "4.0000"
    assert usage["maxvmem"] == "2048.0000"
    assert usage["qname"] == "all.q"
