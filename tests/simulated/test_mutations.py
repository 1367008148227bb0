"""Each rule of the engine is broken on purpose, and the histories must catch it: else they prove nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobyard import tracked, verdict
from jobyard.errors import SchedulerUnavailable
from jobyard.evidence import JobFacts
from jobyard.job import Cause, Ending, JobState, Observation, Source, Transition
from jobyard.reconcile import reconcile
from jobyard.schedulers.base import Answer
from jobyard.submission import Submitter
from jobyard.testing.simulated import HistoryFailed, SimulatedScheduler, World
from simulated.test_histories import folder, play

__all__ = ["folder"]

MOST = 400  # histories that a mutation may survive


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="jobyard")


Changed = Callable[[Observation], Observation]


def reconciled_with(change: Changed) -> Callable[..., tuple[JobFacts, list[Transition]]]:
    """A reconcile that sees other observations than those that were made."""

    def changed(
        facts: JobFacts, observations: Sequence[Observation], now: float, **keywords: Any
    ) -> tuple[JobFacts, list[Transition]]:
        return reconcile(facts, [change(one) for one in observations], now, **keywords)

    return changed


def trust_every_receipt(one: Observation) -> Observation:
    """As if no run were ever cut short or run again."""
    return msgspec.structs.replace(one, clean=True) if one.what == "end" else one


def take_absence_for_success(one: Observation) -> Observation:
    """As many scripts do: gone from the queue, so it must be done."""
    if one.what != "absent":
        return one
    ending = Ending(state=JobState.DONE, cause=Cause.EXITED, exit_code=0)
    return msgspec.structs.replace(
        one, source=Source.QUEUE, what="row", state=JobState.DONE, native_state="gone", ended=True, ending=ending
    )


def forget_acts(one: Observation) -> Observation:
    """As if nobody remembered what was cancelled."""
    return msgspec.structs.replace(one, what="signal") if one.what == "cancel" else one


def swallow_refusals(one: Observation) -> Observation:
    """As if a run that the claim refused said nothing."""
    return msgspec.structs.replace(one, source=Source.ACT, what="signal") if one.what == "refused" else one


def silence_is_an_empty_queue(original: Callable[..., Answer]) -> Callable[..., Answer]:
    """As a dialect would that ignores the exit code of its command."""

    def query(self: SimulatedScheduler, native_ids: Collection[str]) -> Answer:
        try:
            return original(self, native_ids)
        except SchedulerUnavailable:
            return Answer()

    return query


def caught(folder: Path) -> str:
    """The first line of the first failure."""
    try:
        play(folder, range(MOST))
    except HistoryFailed as error:
        return str(error).splitlines()[0]
    return pytest.fail(f"{MOST} histories did not notice")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (trust_every_receipt, "the cause was|was not run again|did not end by itself|exit code was|signal was|is called a success"),
        (take_absence_for_success, "is called a success|said to have ended|did not end by itself|exit code was"),
        (forget_acts, "did not end by itself|is called lost|is called a success|ended well before|exit code was|never"),
        (swallow_refusals, "is called a success|did not end by itself|exit code was|is called lost"),
    ],
)
def test_a_broken_reconcile(folder: Path, monkeypatch: pytest.MonkeyPatch, change: Changed, wanted: str) -> None:
    monkeypatch.setattr(tracked, "reconcile", reconciled_with(change))
    assert re.search(wanted, caught(folder))


def test_a_failed_query_taken_for_an_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedScheduler, "query", silence_is_an_empty_queue(SimulatedScheduler.query))
    assert re.search("in an outage|is called lost", caught(folder))


def test_no_grace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "GRACE_S", 0.0)
    monkeypatch.setattr(verdict, "SHORT_GRACE_S", 0.0)
    assert re.search("is called lost|never ran", caught(folder))


def test_rows_of_whoever_has_the_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked, "ours", lambda *_, **__: True)
    assert re.search("another job|exit code was|is called a success|did not end by itself|the cause was", caught(folder))


def test_intents_that_nobody_repairs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Submitter, "repair", lambda *_: [])
    assert re.search("nobody knows it|have not ended", caught(folder))


def test_no_claims(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every copy of a job runs."""

    def claim(task: Any, native_id: str) -> str:
        task.runs_before = len(task.runs)
        task.rerunnable_before, task.rerunnable = task.rerunnable, True
        return native_id

    original = World._start

    def start(self: World, job: Any) -> None:
        self.claims = claim
        original(self, job)
        if job.task is not None:
            job.task.rerunnable = job.task.rerunnable_before

    monkeypatch.setattr(World, "_start", start)
    assert re.search("ran [0-9]+ times|exit code was|signal was|the cause was|did not end by itself", caught(folder))
