"""States before the end, clocks, identity, and what the tracker is told to do next."""

from __future__ import annotations

import pytest

from engine.reconciling import (
    ABSENT,
    CANCELLED,
    DONE,
    FAILED,
    HELD,
    LOOKED,
    QUEUED,
    RERUNNABLE,
    RUNNING,
    SUSPENDED,
    T0,
    TERMS,
    UNACCOUNTED,
    Step,
    absent,
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
    states,
)
from jobyard.evidence import JobFacts, Terms, from_row, ours, tell
from jobyard.job import By, Cause, Ending, JobState, Observation, Source, Transition
from jobyard.reconcile import Needs, follow, needs, notable, reconcile
from jobyard.schedulers.base import Row

BARE = Terms(submitted_at=T0, accounting=False)
STAGED = Terms(submitted_at=T0, stages_in=True)
IN, OUT, CLEANING = JobState.STAGING_IN, JobState.STAGING_OUT, JobState.CLEANING

# Before the end -----------------------------------------------------------------------------------------------------------


def test_held_and_released() -> None:
    steps = [accepted(), row(HELD, by=By.SYSTEM, reason="Dependency"), row(HELD, by=By.BOTH), row(QUEUED, reason="Priority")]
    facts, history = play(steps)
    assert [(one.state, one.by) for one in history] == [(QUEUED, None), (HELD, By.SYSTEM), (HELD, By.BOTH), (QUEUED, None)]
    assert history[1].reason == "Dependency"
    assert facts.reason == "Priority"


def test_a_reason_alone_is_no_transition_but_is_known() -> None:
    facts, history = play([accepted(), row(QUEUED, reason="Priority"), row(QUEUED, reason="Resources")])
    assert (states(history), facts.reason) == ([QUEUED], "Resources")
    assert play([row(RUNNING)], facts=facts)[0].reason is None


def test_submitted_held() -> None:
    facts, history = play([accepted()], Terms(submitted_at=T0, held=True))
    assert [(one.state, one.by) for one in history] == [(HELD, By.USER)]
    assert states(play([act("release", at=T0 + 5)], facts=facts)[1]) == [QUEUED]


def test_held_by_nobody_knows_whom_is_held_by_the_system_unless_we_did_it() -> None:
    assert play([accepted(), row(HELD)])[1][-1].by is By.SYSTEM
    assert play([accepted(), act("hold"), row(HELD)])[1][-1].by is By.USER


@pytest.mark.parametrize(
    ("before", "what", "after"),
    [
        ([], "hold", (HELD, By.USER)),
        ([row(HELD, by=By.SYSTEM, at=T0 + 3)], "hold", (HELD, By.BOTH)),
        ([row(HELD, by=By.BOTH, at=T0 + 3)], "release", (HELD, By.SYSTEM)),
        ([row(HELD, by=By.USER, at=T0 + 3)], "release", (QUEUED, None)),
        ([row(HELD, by=By.SYSTEM, at=T0 + 3)], "release", (HELD, By.SYSTEM)),
        ([begin()], "hold", (RUNNING, None)),
        ([begin()], "suspend", (SUSPENDED, By.USER)),
        ([], "suspend", (QUEUED, None)),
        ([begin(), act("suspend", at=T0 + 12)], "resume", (RUNNING, None)),
        ([begin()], "signal", (RUNNING, None)),
        ([begin()], "cancel", (RUNNING, None)),
    ],
)
def test_what_we_did_shows_at_once(before: list[Observation], what: str, after: tuple[JobState, By | None]) -> None:
    facts, _ = play([accepted(), *before, act(what)])
    assert (facts.state, facts.by) == after


def test_an_answer_from_before_our_act_does_not_undo_it() -> None:
    facts, _ = play([accepted(), begin(), act("suspend", at=T0 + 20)])
    assert play([row(RUNNING, at=T0 + 19)], facts=facts)[0].state is SUSPENDED
    assert play([row(RUNNING, at=T0 + 20)], facts=facts)[0].state is RUNNING
    held, _ = play([accepted(), act("hold", at=T0 + 20)])
    assert play([row(QUEUED, at=T0 + 19)], facts=held)[0].state is HELD


def test_where_the_queue_does_not_show_suspended_our_act_stands() -> None:
    blind = Terms(submitted_at=T0, shows_suspended=False)
    facts, _ = play([accepted(), begin(), act("suspend"), row(RUNNING), row(RUNNING, at=T0 + 99)], blind)
    assert facts.state is SUSPENDED
    assert play([act("resume", at=T0 + 100)], facts=facts)[0].state is RUNNING


def test_an_act_from_before_the_clock_was_set_back_blinds_nobody() -> None:
    facts, _ = play([accepted(), act("hold", at=T0 + 5000)], now=T0 + 5000)
    assert play([row(QUEUED, at=T0 + 10)], facts=facts, now=T0 + 10)[0].state is QUEUED


def test_an_act_that_is_told_again_is_not_done_again() -> None:
    facts, _ = play([accepted(), begin(), act("suspend"), row(RUNNING), act("suspend")])
    assert facts.state is RUNNING


def test_a_suspended_job_that_brings_its_files_out_runs_again() -> None:
    facts, _ = play([accepted(), begin(), act("suspend"), receipt("running"), receipt("stage_out")])
    assert facts.state is OUT
    assert play([accepted(), begin(), act("suspend"), receipt("running")])[0].state is SUSPENDED


def test_suspended_by_the_system_and_resumed() -> None:
    _, history = play([accepted(), row(SUSPENDED, by=By.SYSTEM), row(SUSPENDED, by=By.USER), row(RUNNING)])
    assert [(one.state, one.by, one.synthesised) for one in history] == [
        (QUEUED, None, False),
        (RUNNING, None, True),
        (SUSPENDED, By.SYSTEM, False),
        (SUSPENDED, By.USER, False),
        (RUNNING, None, False),
    ]


def test_the_stages_are_the_receipts_word() -> None:
    stages = [receipt(what, at=T0 + 10 + n) for n, what in enumerate(("begin", "stage_in", "running", "stage_out", "cleaning"))]
    for extra in ([], [row(RUNNING)], [row(RUNNING), row(RUNNING)]):
        steps = [accepted()]
        for one in stages:
            steps += [*extra, one]
        assert states(play([*steps, end(0, ended=T0 + 30)], STAGED)[1]) == [QUEUED, IN, RUNNING, OUT, CLEANING, DONE]
    backwards = states(play([accepted(), *reversed(stages)], STAGED)[1])
    assert backwards == [QUEUED, RUNNING, CLEANING]


def test_a_short_job_passes_all_that_it_must_have_passed() -> None:
    facts, history = play([accepted(), end(0)])
    assert [(one.state, one.at, one.synthesised) for one in history] == [
        (QUEUED, T0 + 1, False),
        (RUNNING, T0 + 10, True),
        (DONE, T0 + 20, False),
    ]
    assert states(play([over(Cause.EXITED, 3), LOOKED])[1]) == [QUEUED, RUNNING, FAILED]
    assert states(play([over(Cause.CANCELLED), LOOKED])[1]) == [QUEUED, CANCELLED]
    assert facts.ending is not None
    assert facts.ending.began_at == T0 + 10


def test_a_command_that_never_began_never_ran() -> None:
    _, history = play([accepted(), end(None, cause=Cause.NOT_STARTED, aborted=True)])
    assert states(history) == [QUEUED, FAILED]


def test_refused_at_submission() -> None:
    said = Observation(source=Source.SUBMISSION, at=T0 + 1, what="refused", reason="no such queue")
    facts, history = play([said])
    assert states(history) == [FAILED]
    assert facts.ending is not None
    assert (facts.ending.cause, facts.ending.aborted, facts.ending.message) == (Cause.REJECTED, True, "no such queue")


def test_an_unknown_word_keeps_the_state_and_is_kept() -> None:
    facts, history = play([accepted(), begin(), row(None, native_state="FROBNICATED")])
    assert (states(history), facts.seen.native_state) == ([QUEUED, RUNNING], "FROBNICATED")


def test_the_queues_last_word_is_kept_and_not_accountings() -> None:
    told = Observation(source=Source.ACCOUNTING, at=T0, what="row", state=RUNNING, native_state="RUNNING", native_id="7")
    facts, _ = play([accepted(), row(QUEUED, native_state="PD"), row(QUEUED), told])
    assert facts.seen.native_state == "PD"


def test_when_it_began_is_known_from_its_first_receipts() -> None:
    for receipts in ([begin(at=T0 + 9)], [receipt("running", at=T0 + 12), begin(at=T0 + 9)], [begin(at=T0 + 9), begin(at=T0 + 9)]):
        facts, _ = play([accepted(), *receipts, over(Cause.WALLTIME), LOOKED])
        assert facts.ending is not None
        assert facts.ending.began_at == T0 + 9
    for ended in (over(Cause.WALLTIME, began=T0 + 8), over(Cause.EXITED, "SIGKILL")):
        assert states(play([accepted(), ended, LOOKED])[1]) == [QUEUED, RUNNING, FAILED]


def test_times_never_go_back_whatever_the_clocks() -> None:
    """A node a day ahead, and one a day behind."""
    _, ahead = play([accepted(), begin(at=T0 + 86400), end(0, ended=T0 + 86410)], now=T0 + 50)
    _, behind = play([accepted(), begin(at=T0 - 86400), end(0, began=T0 - 86400, ended=T0 - 86390)], now=T0 + 50)
    assert [one.at for one in ahead] == [T0 + 1, T0 + 50, T0 + 50]
    assert [one.at for one in behind] == [T0 + 1, T0 + 1, T0 + 1]


# Runs that are run again ----------------------------------------------------------------------------------------------------


def test_a_rerun_goes_back_to_the_queue() -> None:
    steps = [accepted(), begin(), end(0, "SIGTERM"), row(QUEUED, attempt=2), row(RUNNING, attempt=2), begin(2), end(0, attempt=2)]
    assert states(play(steps, RERUNNABLE)[1]) == [QUEUED, RUNNING, QUEUED, RUNNING, DONE]


def test_a_rerun_that_only_its_receipt_shows() -> None:
    _, history = play([accepted(), begin(), end("SIGTERM", "SIGTERM"), begin(2, at=T0 + 50), end(1, attempt=2)], RERUNNABLE)
    assert [(one.state, one.synthesised) for one in history] == [
        (QUEUED, False),
        (RUNNING, False),
        (QUEUED, True),
        (RUNNING, False),
        (FAILED, False),
    ]


def test_a_queue_that_does_not_count_shows_a_rerun_that_we_asked_for() -> None:
    steps = [accepted(), begin(), row(RUNNING, at=T0 + 12)]
    assert states(play([*steps, row(QUEUED)], RERUNNABLE)[1]) == [QUEUED, RUNNING]  # an old answer, for all we know
    assert states(play([*steps, act("requeue"), row(QUEUED)], RERUNNABLE)[1]) == [QUEUED, RUNNING, QUEUED]
    assert states(play([*steps, act("requeue", at=T0 + 40), row(QUEUED)], RERUNNABLE)[1]) == [QUEUED, RUNNING]


def test_a_job_that_may_run_once_does_not_go_back() -> None:
    steps = [accepted(), begin(), end("SIGTERM", "SIGTERM"), row(QUEUED, attempt=2), row(RUNNING, attempt=2)]
    facts, history = play(steps)
    assert states(history) == [QUEUED, RUNNING]
    assert facts.seen.attempt == 2


def test_a_launch_that_failed_before_anything_of_ours_goes_back() -> None:
    """Slurm: launch failed requeued held. Nothing ran, so it is no second run."""
    held = row(HELD, attempt=2, by=By.SYSTEM, reason="launch failed requeued held")
    facts, history = play([accepted(), row(RUNNING, attempt=1), held])
    assert states(history) == [QUEUED, RUNNING, HELD]
    assert facts.reason == "launch failed requeued held"


def test_late_receipts_of_a_void_run_show_nothing() -> None:
    steps = [accepted(), begin(), row(QUEUED, attempt=2), receipt("stage_out"), end("SIGTERM", "SIGTERM")]
    facts, history = play(steps, RERUNNABLE)
    assert states(history) == [QUEUED, RUNNING, QUEUED]
    assert states(play([begin(2)], facts=facts)[1]) == [RUNNING]


def test_a_stale_receipt_waits_for_ever_while_the_job_is_queued_again() -> None:
    steps: list[Step] = [accepted(), begin(), end(0, "SIGTERM"), row(QUEUED, attempt=2), 1e6, row(QUEUED, attempt=2), 1e6]
    facts, _ = play(steps, RERUNNABLE)
    assert facts.state is QUEUED


def test_words_that_are_not_numbered_are_asked_for_again_after_a_newer_begin() -> None:
    facts, _ = play([accepted(), begin(), end(0, "SIGTERM"), account(Cause.PREEMPTED), begin(2, at=T0 + 60)], RERUNNABLE)
    assert not facts.state.final
    assert facts.seen.account is None
    assert needs(facts).queue


def test_a_queue_that_counts_is_not_believed_about_an_old_run() -> None:
    assert play([accepted(), begin(), row(QUEUED, attempt=1)], RERUNNABLE)[0].state is RUNNING
    assert play([accepted(), begin(), row(QUEUED, attempt=2), row(RUNNING, attempt=1)], RERUNNABLE)[0].state is QUEUED


def test_a_word_is_void_once_a_newer_run_waits() -> None:
    facts, history = play([accepted(), begin(), over(None, attempt=1), row(QUEUED, attempt=2), LOOKED, 1e6], RERUNNABLE)
    assert states(history) == [QUEUED, RUNNING, QUEUED]
    assert (facts.seen.queue, facts.seen.over_clock_s) == (None, None)


def test_cancelled_while_it_waited_to_run_again() -> None:
    steps = [accepted(), begin(), end("SIGTERM", "SIGTERM"), row(QUEUED, attempt=2), over(Cause.CANCELLED, attempt=2), LOOKED]
    assert states(play(steps, RERUNNABLE)[1]) == [QUEUED, RUNNING, QUEUED, CANCELLED]


def test_a_second_begin_receipt_of_a_job_that_may_run_once_is_no_step_back() -> None:
    assert states(play([accepted(), begin(), begin(2)])[1]) == [QUEUED, RUNNING]


# The grace ----------------------------------------------------------------------------------------------------------------


def lost_after(*waits: float) -> bool:
    facts, _ = play([accepted(), begin(), ABSENT, LOOKED], BARE)
    return play(absent(*waits), BARE, facts=facts)[0].state.final


def test_the_grace_counts_good_answers_only() -> None:
    assert lost_after(*[10.0] * 12)
    assert not lost_after(*[10.0] * 11)
    assert not lost_after(1e6)  # one answer after a long silence is one answer
    assert not lost_after(1e6, 1e6)
    assert lost_after(1e6, 1e6, 1e6)


def test_a_sighting_begins_the_grace_again() -> None:
    facts, _ = play([accepted(), begin(), ABSENT, LOOKED, 40.0, ABSENT, 40.0, ABSENT, row(RUNNING)], now=T0 + 100)
    assert (facts.seen.absent_s, facts.seen.over_clock_s, facts.seen.looked) == (0.0, None, False)
    facts, _ = play([ABSENT, 40.0, ABSENT, 40.0, ABSENT, UNACCOUNTED], facts=facts, clock_s=200.0)
    assert not facts.state.final


def test_a_new_receipt_begins_the_grace_again_and_an_old_one_does_not() -> None:
    steps: list[Step] = [accepted(), ABSENT, *absent(40.0, 40.0)]
    assert play([*steps, begin()])[0].seen.absent_s == 0.0
    assert play([accepted(), begin(), *steps[1:], begin()])[0].seen.absent_s == 80.0


def test_the_monotonic_clock_of_another_boot_starts_the_waits_anew() -> None:
    facts, _ = play([accepted(), begin(), ABSENT, 40.0, ABSENT], BARE, clock_s=1e6)
    assert facts.seen.absent_s == 40.0
    after, _ = play([ABSENT, 9.0], facts=facts, clock_s=3.0)
    assert (after.seen.absent_s, after.seen.over_clock_s) == (40.0, 3.0)
    assert not after.state.final


def test_accounting_that_answers_too_early_proves_nothing() -> None:
    facts, _ = play([accepted(), begin(), ABSENT, LOOKED, UNACCOUNTED, *absent(40.0, 40.0, 40.0)])
    assert not facts.state.final  # it may only have been late then
    assert play([UNACCOUNTED], facts=facts, clock_s=170.0)[0].state is FAILED


def test_accounting_that_is_away_makes_nothing_lost() -> None:
    facts, _ = play([accepted(), begin(), ABSENT, LOOKED, *absent(*[40.0] * 100)])
    assert not facts.state.final
    assert needs(facts).accounting


def test_later_evidence_changes_nothing_but_is_kept() -> None:
    facts, _ = play([accepted(), begin(), ABSENT, LOOKED, *absent(40.0, 40.0, 40.0)], BARE)
    assert facts.ending is not None
    assert facts.ending.cause is Cause.LOST
    after, made, kept = follow(facts, [row(RUNNING), end(0), over(Cause.EXITED, 0), ABSENT], T0 + 999, clock_s=0.0)
    assert (after, made) == (facts, [])
    assert [one.what for one in kept] == ["end", "row"]


# What to do next ------------------------------------------------------------------------------------------------------------


def test_needs() -> None:
    running, _ = play([accepted(), begin()])
    assert needs(running) == Needs(queue=True)
    provisional, _ = play([end("SIGTERM", "SIGTERM")], facts=running)
    assert needs(provisional) == Needs(queue=True)
    gone, _ = play([ABSENT], facts=provisional, clock_s=50.0)
    assert needs(gone) == Needs(queue=True, accounting=True, receipts=True, until_s=60.0)
    looked, _ = play([LOOKED], facts=gone, clock_s=51.0)
    assert needs(looked) == Needs(queue=True, accounting=True)
    said, _ = play([over(Cause.EXITED, 15)], facts=running, clock_s=50.0)
    assert needs(said) == Needs(receipts=True, until_s=60.0)
    open_, _ = play([over(None)], facts=running, clock_s=50.0)
    assert needs(open_) == Needs(accounting=True, receipts=True, until_s=60.0)
    done, _ = play([end(0)], facts=running)
    assert needs(done) == Needs()


def test_time_alone_settles_what_no_look_can() -> None:
    """On a network file system a look may show an old folder: then only time tells that no receipt comes."""
    facts, _ = play([accepted(), begin(), over(Cause.WALLTIME, attempt=1), 9.0])
    assert not facts.state.final
    assert play([2.0], facts=facts, clock_s=59.0)[0].state is FAILED


def test_a_foreign_job_waits_for_no_receipt() -> None:
    foreign = Terms(receipts=False)
    facts, history = play([row(RUNNING), over(Cause.EXITED, 4)], foreign)
    assert states(history) == [QUEUED, RUNNING, FAILED]
    assert facts.ending is not None
    assert (facts.ending.exit_code, facts.ending.submitted_at) == (4, None)


def test_accounting_waits_until_the_queue_lets_go_unless_runs_are_counted() -> None:
    facts, _ = play([accepted(), begin(), row(RUNNING), account(Cause.WALLTIME), LOOKED])
    assert not facts.state.final
    assert play([ABSENT, LOOKED], facts=facts)[0].state is FAILED
    counted = [accepted(), begin(), row(RUNNING, attempt=1), account(Cause.WALLTIME, attempt=1), LOOKED]
    assert play(counted)[0].state is FAILED


def test_a_second_copy_is_not_followed() -> None:
    """The submission was sent twice; the other copy holds the claim, and ours was refused."""
    facts, _ = play([accepted("9"), refused("9", holder="7"), over(Cause.EXITED, 0, native_id="9"), LOOKED])
    assert (facts.native_id, facts.state) == ("7", QUEUED)
    assert play([row(RUNNING)], facts=facts)[0].state is RUNNING
    assert play([accepted("9"), refused("9", holder="7"), accepted("9")])[0].native_id == "7"
    late, _ = play([accepted("9"), over(Cause.EXITED, 0, native_id="9"), refused("9", attempt=1), begin()])
    assert (late.native_id, late.state, late.seen.queue) == ("7", RUNNING, None)


# Evidence --------------------------------------------------------------------------------------------------------------------


def test_what_is_notable() -> None:
    facts, _ = play([accepted(), begin()])
    for one, worth in ((row(RUNNING), True), (act("signal"), True), (ABSENT, True), (begin(), False), (UNACCOUNTED, False)):
        after, _ = reconcile(facts, [one], T0 + 99, clock_s=50.0)
        assert notable(facts, after, one) is worth
    seen, _ = play([row(RUNNING)], facts=facts)
    _, _, kept = follow(seen, [row(RUNNING, at=T0 + 50), ABSENT, nothing(at=T0 + 60), nothing(at=T0 + 70)], T0 + 99, clock_s=50.0)
    assert kept == [ABSENT]


@pytest.mark.parametrize(
    ("listed", "mine"),
    [
        (Row(native_id="7"), True),
        (Row(native_id="7", token="t"), True),
        (Row(native_id="7", token="u"), False),
        (Row(native_id="7", token="t", submitted_at=0.0, name="x"), True),
        (Row(native_id="7", submitted_at=T0 + 590), True),
        (Row(native_id="7", submitted_at=T0 - 86400), False),
        (Row(native_id="7", name="my_jo"), True),
        (Row(native_id="7", name="other"), False),
        (Row(native_id="7", name="other", submitted_at=T0), True),
    ],
)
def test_a_row_of_a_reused_id_is_not_ours(listed: Row, mine: bool) -> None:
    assert ours(listed, token="t", submitted_at=T0, name="my job") is mine
    assert ours(listed)


def test_a_row_as_an_observation() -> None:
    ending = Ending(state=FAILED, exit_code=1)
    listed = Row(native_id="7", state=FAILED, native_state="F", reason="r", attempt=2, ended=True, ending=ending)
    assert from_row(listed, Source.QUEUE, T0) == Observation(
        source=Source.QUEUE,
        at=T0,
        what="row",
        state=FAILED,
        native_state="F",
        reason="r",
        native_id="7",
        attempt=2,
        ended=True,
        ending=ending,
    )
    began = from_row(Row(native_id="7", state=FAILED, ended=True, began_at=T0 + 3), Source.ACCOUNTING, T0)
    assert began.ending is not None
    assert (began.ending.cause, began.ending.began_at) == (Cause.UNKNOWN, T0 + 3)


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        (accepted(), "the scheduler accepted the job as 7"),
        (begin(2), "the node: the job began, run 2 as 7"),
        (refused("7", holder="6"), "the node: a further run was refused as 7; the job is that of 6"),
        (ABSENT, "the queue does not list the job"),
        (act("cancel"), "we asked to cancel, and it was acknowledged"),
        (row(RUNNING, native_state="R", reason="why"), "the queue: R (running), why"),
        (row(None, native_state="XX"), "the queue: XX"),
        (account(Cause.EXITED, 3), "accounting: failed, over: exited with 3"),
        (Transition(state=HELD, at=T0, by=By.USER), "→ held by user"),
        (Transition(state=RUNNING, at=T0, synthesised=True), "→ running (not seen, but passed)"),
    ],
)
def test_evidence_in_words(fact: Observation | Transition, words: str) -> None:
    assert tell(fact) == words


def test_nothing_new_gives_the_same_facts_back() -> None:
    facts, _ = play([accepted(), begin(), row(RUNNING)])
    same, made = reconcile(facts, [begin(), row(RUNNING, at=T0 + 99), accepted()], T0 + 100, clock_s=60.0)
    assert same is facts
    assert made == []
    assert reconcile(JobFacts(terms=TERMS), [], T0, clock_s=0.0)[1] == []


def _went_while_it_waited(*acts: Observation) -> list[Step]:
    return [accepted(), begin(), end("SIGTERM", "SIGTERM"), row(QUEUED, attempt=2), *acts]


def test_a_job_that_goes_while_it_waits_to_run_again() -> None:
    """A scheduler that counts runs counts the one that it waits for; of one that never came it counts the run before."""
    word = account(Cause.EXITED, "SIGTERM", attempt=1)
    early = [*_went_while_it_waited(act("cancel")), ABSENT, LOOKED, word]
    facts, _ = play(early)
    assert not facts.state.final, "accounting may be late"
    facts, _ = play([*early, *absent(40.0, 40.0), word])
    assert facts.ending is not None
    assert (facts.state, facts.ending.cause) == (CANCELLED, Cause.CANCELLED)
    facts, _ = play([*_went_while_it_waited(), ABSENT, LOOKED, word, *absent(40.0, 40.0, 40.0), word])
    assert facts.state is FAILED, "nobody says why it went"


def test_the_same_where_the_queue_keeps_what_is_over() -> None:
    word = over(Cause.EXITED, "SIGTERM", attempt=1)
    unaccounted = Observation(source=Source.ABSENCE, at=T0 + 30, what="unaccounted")
    story = [*_went_while_it_waited(act("cancel")), word, LOOKED, 40.0, word, 40.0, word, unaccounted]
    facts, _ = play(story)
    assert facts.state is CANCELLED
    again, _ = play([*story[:6], row(RUNNING, attempt=2), 40.0, row(RUNNING, attempt=2), unaccounted])
    assert again.state is RUNNING, "an old answer, and then the newer run"


def test_a_refused_run_that_began_at_once_is_not_the_run_that_ended() -> None:
    """Requeued after a second, though it may run once: clocks may be two seconds apart, but the exit 0 is the refusal's."""
    story = [accepted(), begin(), end("SIGTERM", "SIGTERM", ended=T0 + 11)]
    facts, _ = play([*story, over(Cause.EXITED, 0, attempt=2, began=T0 + 12), LOOKED])
    assert facts.ending is not None
    assert (facts.state, facts.ending.cause, facts.ending.signal) == (FAILED, Cause.REQUEUED, "SIGTERM")
    same, _ = play([*story, over(Cause.EXITED, "SIGTERM", attempt=2, began=T0 + 12), LOOKED])
    assert same.ending is not None
    assert same.ending.cause is not Cause.REQUEUED


def test_an_exit_0_of_a_command_that_was_told_to_end_is_no_success() -> None:
    """Nobody says who told it: the client died in the middle of a cancellation, and there is no accounting."""
    facts, _ = play([accepted(), begin(), end(0, "SIGTERM"), ABSENT, LOOKED, UNACCOUNTED, *absent(40.0, 40.0, 40.0), UNACCOUNTED])
    assert facts.ending is not None
    assert (facts.state, facts.ending.cause, facts.ending.exit_code) == (FAILED, Cause.UNKNOWN, 0)
    fine, _ = play([accepted(), begin(), end(0, "SIGUSR1"), ABSENT, LOOKED, UNACCOUNTED, *absent(40.0, 40.0, 40.0), UNACCOUNTED])
    assert fine.state is DONE
