"""A scheduler that does not answer: what is known of it in all processes, and what those who wait are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.fake_keeper import FakeKeeper, opened
from engine.journaling import LOGIN, Clock
from engine.keeping import Rig
from jobyard import JobState, SchedulerUnavailable, Session
from jobyard.journal import Journal
from jobyard.keeper import Silence
from jobyard.leases import APART_S

DONE = JobState.DONE


# What the journal carries ---------------------------------------------------------------------------------------------------


def test_unanswered_questions_make_one_silence(tmp_path: Path) -> None:
    clock = Clock()
    one, other = (Journal(tmp_path / "journal.db", clock=clock) for _ in range(2))
    began = clock.now
    assert one.silence(LOGIN) is None
    clock.now += 5
    assert one.silent(LOGIN, began, "away\nfor lunch") == Silence(began, began + 5, "away\nfor lunch")
    clock.now += APART_S - 1
    assert other.silent(LOGIN, clock.now, "still away") == Silence(began, clock.now, "still away")
    found = one.silence(LOGIN)
    assert found is not None
    assert found.lasted_s == APART_S + 4
    assert one.silence("another") is None
    other.answering(LOGIN)
    assert one.silence(LOGIN) is None
    one.close()
    other.close()


def test_questions_far_apart_are_different_silences(tmp_path: Path) -> None:
    """Nobody asked in between (a laptop slept): nothing is known of that time."""
    clock = Clock()
    journal = Journal(tmp_path / "journal.db", clock=clock)
    journal.silent(LOGIN, clock.now, "away")
    clock.now += APART_S + 1
    assert journal.silence(LOGIN) is None
    assert journal.silent(LOGIN, clock.now, "away").lasted_s == 0
    clock.now -= 3600  # a clock that was set back
    assert journal.silence(LOGIN) is None
    assert journal.silent(LOGIN, clock.now, "away").lasted_s == 0
    journal.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def away() -> None:
    raise SchedulerUnavailable("played: connection refused")


def test_a_silence_lasts_from_the_first_question_to_the_last(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    (key,) = rig.submit()
    rig.scheduler.on_query = away
    rig.step(2)
    first = rig.keeper.silence()
    assert first is not None
    assert first.lasted_s == 0
    for _ in range(200):
        rig.step(0.5)
    silence = rig.keeper.silence()
    assert silence is not None
    assert silence.since == first.since
    assert 50 < silence.lasted_s <= 100
    assert "connection refused" in rig.keeper.why(key)[-1].text
    assert rig.keeper.why(key)[-1].at == silence.since
    assert [one.levelname for one in caplog.records if "does not answer" in one.message] == ["WARNING"]
    rig.scheduler.on_query = lambda: None
    rig.step(61)
    assert rig.keeper.silence() is None
    assert rig.journal.silence("played") is None


def test_other_processes_hear_of_it(rig: Rig, tmp_path: Path) -> None:
    """One asks; the others of the login know what it met, and that it is over."""
    other = Rig(tmp_path, scheduler=rig.scheduler)
    rig.submit()
    other.submit()
    rig.scheduler.on_query = away
    rig.step(2)
    asked = rig.scheduler.queries
    other.step(2)
    assert rig.scheduler.queries == asked  # it was not its turn
    assert other.keeper.silence() == rig.keeper.silence() is not None
    rig.scheduler.on_query = lambda: None
    for _ in range(20):
        rig.step(0.25)
        other.step(0.25)
    assert other.keeper.silence() is rig.keeper.silence() is None
    other.close()


# Those who wait -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def played(yard: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Session, FakeKeeper]]:
    session, keeper = opened(monkeypatch, patience=60.0)
    with session:
        yield session, keeper


def unanswered(keeper: FakeKeeper, lasted_s: float) -> None:
    """One more question has got no answer."""
    now = time.time()
    keeper.silent = Silence(now - lasted_s, now, "played: connection refused")
    with keeper.changed:
        keeper.changed.notify_all()


@pytest.mark.parametrize("how", ["wait", "wait_all", "wait_any", "take", "as_completed"])
def test_a_wait_ends_with_the_next_unanswered_question(played: tuple[Session, FakeKeeper], how: str) -> None:
    session, keeper = played
    job = session.submit(["/bin/true"])
    waits: dict[str, Callable[[], object]] = {
        "wait": job.wait,
        "wait_all": session.wait_all,
        "wait_any": session.wait_any,
        "take": session.take,
        "as_completed": lambda: list(session.as_completed()),
    }
    unanswered(keeper, 1000)
    told: list[BaseException] = []

    def wait() -> None:
        try:
            waits[how]()
        except SchedulerUnavailable as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    unanswered(keeper, 59)
    while thread.is_alive():  # it may not have begun to wait yet: then this question was asked before
        unanswered(keeper, 61)
        thread.join(0.01)
    (error,) = told
    assert "has not answered since" in str(error)
    assert "connection refused" in str(error)
    keeper.silent = None
    keeper.tell((1, DONE))
    assert session.take().wait(0).success  # nothing was lost by it


def test_what_was_unanswered_before_says_nothing_yet(played: tuple[Session, FakeKeeper]) -> None:
    """A wait that begins in a long silence asks once more: it does not raise over and over in its caller's loop."""
    session, keeper = played
    job = session.submit(["/bin/true"])
    unanswered(keeper, 1000)
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(job.wait().success))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    keeper.tell((1, DONE))
    thread.join(10)
    assert told == [True]


def test_at_the_end_of_its_time_a_wait_tells_of_the_silence(played: tuple[Session, FakeKeeper]) -> None:
    session, keeper = played
    job = session.submit(["/bin/true"])
    unanswered(keeper, 59)
    with pytest.raises(TimeoutError):
        job.wait(0.01)
    session.require_answers()
    unanswered(keeper, 60)
    for timeout in (0, 0.01):
        with pytest.raises(SchedulerUnavailable, match="job 1 is still queued"):
            job.wait(timeout)
    with pytest.raises(SchedulerUnavailable):
        session.require_answers()
    keeper.tell((1, DONE))  # as its receipt tells, whatever the scheduler does
    assert job.wait(0).success
    assert session.take(timeout=0) is job


def test_without_a_patience_they_go_on_waiting(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, keeper = opened(monkeypatch)
    with session:
        job = session.submit(["/bin/true"])
        unanswered(keeper, 1e6)
        with pytest.raises(TimeoutError):
            job.wait(0.01)
        session.require_answers()


def test_the_contact_s_patience_goes_first(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, keeper = opened(monkeypatch, contact="local?patience=2m", patience=60.0)
    with session:
        job = session.submit(["/bin/true"])
        unanswered(keeper, 119)
        with pytest.raises(TimeoutError):
            job.wait(0)
        unanswered(keeper, 120)
        with pytest.raises(SchedulerUnavailable):
            job.wait(0)
