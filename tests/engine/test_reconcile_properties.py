"""What holds whatever comes in, and whatever its order: random evidence, and random ways of telling a true story.

The everyday run draws a few thousand examples, FULL=1 a hundred thousand.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.reconciling import (
    ABSENT,
    CANCELLED,
    DONE,
    FAILED,
    LOOKED,
    QUEUED,
    RUNNING,
    T0,
    UNACCOUNTED,
    Step,
    accepted,
    account,
    act,
    begin,
    end,
    nothing,
    over,
    play,
    receipt,
    refused,
    row,
)
from jobyard.evidence import JobFacts, Terms, seen_from_text, seen_to_text
from jobyard.job import By, Cause, JobState, Observation, Source, Transition
from jobyard.reconcile import follow, needs, reconcile

LONG = os.environ.get("FULL") == "1"


def examples(count: int) -> settings:
    """Three thousand in all every day, a hundred thousand in the long run."""
    return settings(
        max_examples=count * 34 if LONG else count,
        deadline=None,
        derandomize=not LONG,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        database=None,
    )


RANK = {
    JobState.NEW: 0,
    JobState.QUEUED: 1,
    JobState.HELD: 1,
    JobState.STAGING_IN: 2,
    JobState.RUNNING: 3,
    JobState.SUSPENDED: 3,
    JobState.STAGING_OUT: 4,
    JobState.CLEANING: 5,
    JobState.DONE: 6,
    JobState.FAILED: 6,
    JobState.CANCELLED: 6,
}

# Anything at all -------------------------------------------------------------------------------------------------------

moments = st.integers(0, 60).map(lambda n: T0 + n)
attempts = st.sampled_from([1, 1, 1, 2, 3])
numbers = st.sampled_from([None, None, 1, 1, 2, 3])
natives = st.sampled_from(["7", "7", "7", "8"])
codes: st.SearchStrategy[int | str] = st.sampled_from([0, 0, 1, 7, 125, 137, "SIGTERM", "SIGKILL", "SIGSEGV"])
causes = st.sampled_from(
    [None, Cause.EXITED, Cause.EXITED, Cause.CANCELLED, Cause.WALLTIME, Cause.NODE, Cause.PREEMPTED, Cause.UNKNOWN]
)
live = st.sampled_from([None, QUEUED, QUEUED, JobState.HELD, RUNNING, RUNNING, JobState.SUSPENDED, JobState.CLEANING, DONE])
stages = st.sampled_from(["begin", "begin", "begin", "stage_in", "running", "stage_out", "cleaning"])
noted: st.SearchStrategy[tuple[str, ...]] = st.sampled_from([(), (), ("SIGTERM",)])
anything = st.one_of(
    st.builds(accepted, natives, moments),
    st.builds(lambda what, a, at, n: receipt(what, a, at=at, native_id=n), stages, attempts, moments, natives),
    st.builds(lambda c, s, a, at: end(c, *s, attempt=a, ended=at), codes, noted, attempts, moments),
    st.builds(lambda n, a, at: refused(n, attempt=a, at=at), natives, st.sampled_from([2, 3]), moments),
    st.builds(
        lambda s, a, by, at, n: row(s, attempt=a, by=by, at=at, native_id=n, native_state="X", reason="r"),
        live,
        numbers,
        st.sampled_from([None, *By]),
        moments,
        natives,
    ),
    st.builds(lambda c, code, a, at, n: over(c, code, attempt=a, at=at, native_id=n), causes, codes, numbers, moments, natives),
    st.builds(lambda c, code, a, at: account(c, code, attempt=a, at=at), causes, codes, numbers, moments),
    st.builds(lambda w, at: nothing(w, at=at), st.sampled_from(["absent", "absent", "unaccounted", "no_receipt"]), moments),
    st.builds(
        lambda w, at: act(w, at=at),
        st.sampled_from(["cancel", "hold", "release", "suspend", "resume", "requeue", "signal"]),
        moments,
    ),
)
terms = st.builds(
    Terms,
    submitted_at=st.just(T0),
    receipts=st.sampled_from([True, True, True, False]),
    rerunnable=st.booleans(),
    stages_in=st.booleans(),
    held=st.booleans(),
    accounting=st.booleans(),
    shows_suspended=st.booleans(),
)
steps = st.lists(st.one_of(anything, anything, anything, st.sampled_from([5.0, 15.0, 45.0])), max_size=25)


def says_exit_0(one: Step) -> bool:
    return isinstance(one, Observation) and one.ending is not None and one.ending.exit_code == 0


def check_history(history: Sequence[Transition]) -> None:
    """Legal order, one final state and the last, times that never go back; back only into the queue."""
    before, at = JobState.NEW, 0.0
    for number, one in enumerate(history):
        assert not before.final, history
        assert one.at >= at, history
        if RANK[one.state] < RANK[before]:
            assert one.state in (QUEUED, JobState.HELD)
        assert one.state is not JobState.NEW
        assert one.state.final == (one.ending is not None)
        assert one.state in (JobState.HELD, JobState.SUSPENDED) or one.by is None
        if number:
            last = history[number - 1]
            assert (last.state, last.by) != (one.state, one.by), history
        before, at = one.state, one.at


@examples(500)
@given(steps, terms)
def test_whatever_comes_in(story: list[Step], conditions: Terms) -> None:
    facts, history, clock_s = JobFacts(terms=conditions, at=T0), [], 50.0
    for step in story:
        before = facts
        facts, made = play([step], conditions, facts=before, clock_s=clock_s)
        clock_s += step if isinstance(step, float) else 0.0
        history += made
        for old, new in zip([before.state, *[one.state for one in made]], [one.state for one in made], strict=False):
            assert RANK[new] >= RANK[old] or conditions.rerunnable or before.seen.begun == 0
    check_history(history)
    assert facts.state is (history[-1].state if history else JobState.NEW)
    if facts.state is DONE:
        assert any(says_exit_0(one) for one in story)
        assert facts.ending is not None
        assert facts.ending.exit_code == 0
    if facts.ending is not None:
        assert facts.ending.exit_code is None or facts.ending.signal is None
        assert (facts.ending.state is CANCELLED) == (facts.ending.cause is Cause.CANCELLED)
    if facts.state.final:
        assert needs(facts) == needs(JobFacts(state=DONE))


@examples(200)
@given(steps, steps, terms)
def test_final_is_final(story: list[Step], more: list[Step], conditions: Terms) -> None:
    facts, _ = play(story, conditions)
    if not facts.state.final:
        facts, _ = play([accepted(), begin(), end(0)], conditions)
    again, made = play(more, conditions, facts=facts)
    if facts.state.final:
        assert again is facts
        assert made == []


@examples(250)
@given(st.lists(anything, max_size=20), st.lists(st.integers(0, 20), max_size=4), terms)
def test_folding_in_pieces_is_folding_at_once(story: list[Observation], cuts: list[int], conditions: Terms) -> None:
    fresh = JobFacts(terms=conditions, at=T0)
    whole, history = reconcile(fresh, story, T0 + 100, clock_s=5.0)
    facts, pieces = fresh, []
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(story)], strict=True):
        if story[first:last]:
            facts, made = reconcile(facts, story[first:last], T0 + 100, clock_s=5.0)
            pieces += made
    assert (facts, pieces) == (whole, history)


@examples(200)
@given(st.lists(anything, max_size=20), terms)
def test_what_is_told_twice_counts_once(story: list[Observation], conditions: Terms) -> None:
    once, history = play(story, conditions)
    twice, again = play([one for one in story for _ in range(2)], conditions)
    assert again == history
    assert twice.ending == once.ending


@examples(150)
@given(steps, terms)
def test_what_is_known_survives_being_written_down(story: list[Step], conditions: Terms) -> None:
    facts, _ = play(story, conditions)
    assert seen_from_text(seen_to_text(facts.seen)) == facts.seen
    assert msgspec.convert(msgspec.to_builtins(facts.terms), Terms) == facts.terms


@examples(150)
@given(st.lists(anything, max_size=12), st.lists(st.sampled_from([0.0, 10.0, 1000.0, 1e6]), min_size=1, max_size=5), terms)
def test_time_alone_ends_no_job_that_nobody_called_over(story: list[Observation], waits: list[float], conditions: Terms) -> None:
    """A scheduler that is away makes no observations, and changes no state, however long."""
    facts, _ = play(story, conditions)
    if facts.state.final or facts.seen.over_clock_s is not None:
        return
    assert play(list(waits), conditions, facts=facts) == (facts, [])


@examples(150)
@given(st.lists(st.sampled_from([1.0, 20.0, 39.0, 500.0, ABSENT, UNACCOUNTED, LOOKED]), max_size=40), st.booleans())
def test_absence_is_lost_after_the_grace_and_never_anything_else(waits: list[Step], accounting: bool) -> None:
    conditions = Terms(submitted_at=T0, accounting=accounting)
    facts, _ = play([accepted(), row(QUEUED), begin()], conditions)
    grace, last, clock = 0.0, None, 0.0
    for step in waits:
        if isinstance(step, float):
            clock += step
        elif step is ABSENT:
            grace += 0.0 if last is None else min(clock - last, 40.0)
            last = clock
    facts, _ = play([*waits], conditions, facts=facts)
    if facts.state.final:
        assert facts.ending is not None
        assert (facts.state, facts.ending.cause) == (FAILED, Cause.LOST)
        assert grace >= 120.0
        assert not accounting or UNACCOUNTED in waits
    elif not accounting and LOOKED in waits[waits.index(ABSENT) + 1 if ABSENT in waits else 0 :]:
        assert grace < 120.0


@examples(200)
@given(st.lists(anything, max_size=15), terms)
def test_what_is_kept_as_evidence_tells_the_same_story(story: list[Observation], conditions: Terms) -> None:
    fresh = JobFacts(terms=conditions, at=T0)
    facts, history, kept = follow(fresh, story, T0 + 100, clock_s=5.0)
    assert (facts, history) == reconcile(fresh, story, T0 + 100, clock_s=5.0)
    again, retold, rekept = follow(fresh, kept, T0 + 100, clock_s=5.0)
    assert [(one.state, one.ending) for one in retold] == [(one.state, one.ending) for one in history]
    assert again.ending == facts.ending
    assert len(rekept) <= len(kept)


# True stories ------------------------------------------------------------------------------------------------------------


class World(NamedTuple):
    """How a scheduler speaks, and what truly became of a job."""

    numbered: bool  # it counts runs
    speaks: bool  # it says why a job was cut short; else a kill is only a kill
    lists_ended: bool  # the queue lists jobs that are over; else accounting alone does
    rerunnable: bool
    earlier: int  # runs before the last that were cut short and repeated
    earlier_receipt: bool  # which wrote an end receipt
    earlier_code: int
    fate: str
    code: int
    last_receipt: bool  # the shepherd had the time to write its end receipt when it was cut short


worlds = st.builds(
    World,
    numbered=st.booleans(),
    speaks=st.booleans(),
    lists_ended=st.booleans(),
    rerunnable=st.booleans(),
    earlier=st.sampled_from([0, 0, 1, 2]),
    earlier_receipt=st.booleans(),
    earlier_code=st.sampled_from([0, 5]),
    fate=st.sampled_from(["exit", "segv", "kill", "cancel", "foreign cancel", "walltime", "queue cancel"]),
    code=st.sampled_from([0, 1, 7, 126]),
    last_receipt=st.booleans(),
)


class Told(NamedTuple):
    """A world in observations: what is known first, what comes in any order, and what is said again for as long as one asks."""

    first: list[Observation]
    mixed: list[Observation]
    again: list[Observation]
    verdict: tuple[JobState, Cause, int | str | None]


def tell(world: World) -> Told:
    last = world.earlier + 1
    mixed: list[Observation] = []

    def number(run: int) -> int | None:
        return run if world.numbered else None

    for run in range(1, last):
        mixed += [row(QUEUED, attempt=number(run)), row(RUNNING, attempt=number(run))]
        if run == 1 or world.rerunnable:
            mixed.append(begin(run))
            if world.earlier_receipt:
                mixed.append(end(world.earlier_code, "SIGTERM", attempt=run))
    first = [accepted()]
    again: list[Observation]
    mixed.append(row(QUEUED, attempt=number(last)))
    if world.earlier and not world.rerunnable:
        mixed += [refused(attempt=run) for run in range(2, last + 1)]
        how = world.earlier_code if world.earlier_receipt else None
        word = (Cause.EXITED, 0)
        verdict = (FAILED, Cause.REQUEUED, how)
    elif world.fate == "queue cancel":
        first.append(act("cancel"))
        how = world.earlier_code if world.earlier and world.earlier_receipt and not world.numbered else None
        word = (Cause.CANCELLED, None)  # type: ignore[assignment]
        verdict = (CANCELLED, Cause.CANCELLED, how)
    else:
        mixed += [row(RUNNING, attempt=number(last)), begin(last)]
        word, verdict = _fate(world, first, mixed, last)  # type: ignore[assignment]
    source = Source.QUEUE if world.lists_ended else Source.ACCOUNTING
    again = [over(*word, attempt=number(last), source=source)]
    if not world.lists_ended:
        again.insert(0, ABSENT)
    return Told(first, mixed + again[-1:], again, verdict)


def _fate(world: World, first: list[Observation], mixed: list[Observation], last: int) -> tuple[object, object]:
    fate, code, killed = world.fate, world.code, (Cause.EXITED, "SIGKILL")
    if fate == "exit":
        mixed.append(end(code, attempt=last))
        return (Cause.EXITED, code), (DONE if code == 0 else FAILED, Cause.EXITED, code)
    if fate == "segv":
        mixed.append(end("SIGSEGV", attempt=last))
        return (Cause.EXITED, 139), (FAILED, Cause.EXITED, "SIGSEGV")
    if fate == "kill":
        mixed.append(end("SIGKILL", attempt=last))
        return (Cause.EXITED, 137), (FAILED, Cause.EXITED, "SIGKILL")
    if world.last_receipt:
        mixed.append(end(code, "SIGTERM", attempt=last))
    if fate == "walltime":
        how = code if world.last_receipt else None
        return (Cause.WALLTIME, None), (FAILED, Cause.WALLTIME, how)
    if fate == "cancel":
        first.append(act("cancel"))
    if world.speaks or fate == "foreign cancel":
        return (Cause.CANCELLED, None), (CANCELLED, Cause.CANCELLED, code if world.last_receipt else None)
    return killed, (CANCELLED, Cause.CANCELLED, code if world.last_receipt else "SIGKILL")


@examples(800)
@given(worlds, st.randoms(use_true_random=False))
def test_a_true_story_told_in_any_order_has_one_verdict(world: World, chance: random.Random) -> None:
    """All evidence arrives, in any order and some of it twice, and the scheduler says again what it says when it is asked."""
    told = tell(world)
    mixed = told.mixed + [one for one in told.mixed if chance.random() < 0.2]
    chance.shuffle(mixed)
    conditions = Terms(submitted_at=T0, rerunnable=world.rerunnable)
    facts, history = play([*told.first, *mixed], conditions)
    for _ in range(3):
        facts, more = play([*told.again, LOOKED], conditions, facts=facts)
        history += more
    check_history(history)
    assert facts.ending is not None, (world, facts.seen)
    ending = facts.ending
    how = ending.exit_code if ending.exit_code is not None else ending.signal
    assert (ending.state, ending.cause, how) == told.verdict


@examples(400)
@given(worlds, st.randoms(use_true_random=False))
def test_a_story_with_gaps_never_becomes_a_success(world: World, chance: random.Random) -> None:
    """Evidence is lost, late and out of order: the job may end lost, but DONE only if its last run truly exited with 0."""
    told = tell(world)
    mixed = [one for one in told.mixed if chance.random() < 0.6]
    chance.shuffle(mixed)
    conditions = Terms(submitted_at=T0, rerunnable=world.rerunnable)
    tail: list[Step] = [step for _ in range(5) for step in (ABSENT, LOOKED, 39.0, UNACCOUNTED)]
    facts, history = play([*told.first, *mixed, *tail], conditions)
    check_history(history)
    assert facts.state.final
    heard = [one for one in mixed if (one.attempt or 0) == world.earlier + 1 and one.what != "refused"]
    if facts.state is DONE and heard:  # else nothing was ever heard of the last run, and the one before it is all there is
        assert told.verdict[2] == 0
