"""Accounting that cannot tell: it is switched off, or its answers are never whole. Jobs end by what else is known of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from engine.keeping import Rig
from engine.reconciling import ABSENT, LOOKED, TERMS, UNTOLD, absent, accepted, account, act, begin, end, over, play, row
from jobyard import Cause, JobState, Session, reconcile, verdict
from jobyard.evidence import JobFacts
from jobyard.job import Source
from jobyard.schedulers.base import Answer
from jobyard.testing import jobs, standin
from jobyard.testing.polling import eventually
from jobyard.tracked import Tracked, observed_by

RUNNING, FAILED, CANCELLED = JobState.RUNNING, JobState.FAILED, JobState.CANCELLED


# By the rules -----------------------------------------------------------------------------------------------------------------


def test_a_provisional_receipt_is_believed_after_the_grace() -> None:
    story = [accepted(), begin(), end("SIGTERM", "SIGTERM"), ABSENT, LOOKED, *absent(40.0, 40.0)]
    facts, _ = play([*story, 30.0, UNTOLD])
    assert not facts.state.final, "its word may still come"
    facts, _ = play([*story, *absent(40.0), UNTOLD])
    assert facts.ending is not None
    assert (facts.state, facts.ending.cause, facts.ending.signal) == (FAILED, Cause.UNKNOWN, "SIGTERM")


def test_a_job_without_a_trace_is_lost_after_the_grace() -> None:
    facts, _ = play([accepted(), begin(), ABSENT, LOOKED, *absent(40.0, 40.0, 40.0), UNTOLD])
    assert facts.ending is not None
    assert (facts.state, facts.ending.cause) == (FAILED, Cause.LOST)


def test_after_a_break_the_next_answer_may_tell() -> None:
    """The client was away for long: one answer of accounting's that cannot be read is not all that there will be."""
    facts, _ = play([accepted(), begin(), ABSENT, LOOKED, 1000.0, ABSENT, UNTOLD])
    assert not facts.state.final
    told, _ = play([accepted(), begin(), ABSENT, LOOKED, 1000.0, ABSENT, UNTOLD, *absent(20.0), account(Cause.NODE)])
    assert told.ending is not None
    assert told.ending.cause is Cause.NODE


@pytest.mark.parametrize(("answer", "what"), [
    (Answer(), "unaccounted"), (Answer(complete=False), "untold"), (Answer(unparsed=("7 ???",)), "untold"),
])  # fmt: skip
def test_an_answer_with_a_line_that_is_no_row_leaves_nobody_out(answer: Answer, what: str) -> None:
    tracked = cast(Tracked, SimpleNamespace(facts=JobFacts(terms=TERMS, native_id="7")))
    told = observed_by(Source.ACCOUNTING, answer, {1: tracked}, 5.0)
    assert [one.what for one in told[1]] == [what]
    listed = observed_by(Source.QUEUE, answer, {1: tracked}, 5.0)
    assert [one.what for one in listed.get(1, ())] == (["absent"] if what == "unaccounted" else [])


def test_a_word_that_says_only_that_it_is_over_is_all_there_is() -> None:
    facts, _ = play([accepted(), begin(), over(None), LOOKED, 119.0, UNTOLD])
    assert not facts.state.final
    facts, _ = play([accepted(), begin(), over(None), LOOKED, 121.0, UNTOLD])
    assert facts.ending is not None
    assert facts.ending.cause is Cause.UNKNOWN


def test_what_we_cancelled_waits_less() -> None:
    """Its cause is known, and accounting's word would be on time by now."""
    story = [accepted(), begin(), act("cancel"), ABSENT, LOOKED]
    assert not play([*story, 29.0, UNTOLD])[0].state.final
    facts, _ = play([*story, 31.0, UNTOLD])
    assert facts.state is CANCELLED


def test_answers_from_before_the_end_say_nothing() -> None:
    facts, _ = play([accepted(), begin(), 500.0, UNTOLD, ABSENT, LOOKED, *absent(40.0, 40.0, 40.0)])
    assert not facts.state.final


def test_a_sighting_makes_them_say_nothing() -> None:
    facts, _ = play([accepted(), begin(), ABSENT, LOOKED, *absent(40.0, 40.0), 40.0, UNTOLD, row(RUNNING), ABSENT, LOOKED])
    assert not facts.state.final
    assert not facts.seen.unaccounted


# Through the tracker ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A scheduler that says it has accounting, and answers every question about it with nothing, not whole."""
    made = Rig(tmp_path)
    made.scheduler.capabilities = msgspec.structs.replace(made.scheduler.capabilities, accounting=True)
    yield made
    made.close()


def test_the_tracker_takes_what_is_not_whole_for_an_answer(rig: Rig) -> None:
    cut, lost = rig.submit(2)
    rig.receipts.write(rig.token(cut), rig.journal.rows([cut])[0].position, rig.ended(cut, 15, clean=False))
    taken = {}
    for _ in range(400):
        rig.step(1)
        taken.update({update.key: rig.now for update in rig.updates if update.state.final and update.key not in taken})
    began = 1_000_000.0
    assert {key: 119 < at - began < 190 for key, at in taken.items()} == {cut: True, lost: True}
    endings = {update.key: update.ending for update in rig.updates if update.ending is not None}
    assert (endings[cut].cause, endings[cut].exit_code, endings[lost].cause) == (Cause.EXITED, 15, Cause.LOST)
    assert not rig.keeper.tracker.unfinished


# On commands --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def session(yard: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Session, standin.Cell]]:
    """A cell whose accounting is switched off, and whose queue forgets at once; the graces are short."""
    for module in (verdict, reconcile):
        monkeypatch.setattr(module, "GRACE_S", 2.0)
    monkeypatch.setattr(verdict, "SHORT_GRACE_S", 1.0)
    with standin.install(yard / "cell", slots=4, accounting=False, linger_s=0) as cell, Session(f"{cell.contact}&poll=0.1s") as it:
        yield it, cell


def test_jobs_that_are_cut_short_end_where_accounting_is_off(session: tuple[Session, standin.Cell], tmp_path: Path) -> None:
    opened, cell = session
    running = opened.submit(jobs.gated(tmp_path / "gate", begun=tmp_path / "begun"))
    waiting = opened.submit(jobs.succeed(), hold=True)
    eventually((tmp_path / "begun").exists, "it has begun")
    cell.operate("cancel", running.native_id or "", waiting.native_id or "")
    ending = running.wait(60)
    assert (ending.state, ending.cause, ending.signal) == (FAILED, Cause.UNKNOWN, "SIGTERM")
    assert waiting.wait(60).cause is Cause.LOST


def test_what_we_cancel_ends_as_cancelled_where_accounting_is_off(session: tuple[Session, standin.Cell], tmp_path: Path) -> None:
    opened, _ = session
    job = opened.submit(jobs.gated(tmp_path / "gate", begun=tmp_path / "begun"))
    eventually((tmp_path / "begun").exists, "it has begun")
    job.cancel()
    ending = job.wait(60)
    assert (ending.state, ending.signal) == (CANCELLED, "SIGTERM")
