"""CommandScheduler: what it makes of answers, good, bad and none; and how many commands it runs at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from base.bench import Bench, gate
from jobyard.errors import (
    ControlError,
    JobyardError,
    NoScheduler,
    NotPermitted,
    SchedulerUnavailable,
    SubmitError,
    TransportError,
)
from jobyard.job import JobDescription, JobState
from jobyard.schedulers.base import Accepted, Action, Answer, Command, Dialect, Kind, Result, Row, Scheduler, SiteLimits, Submission
from jobyard.schedulers.command import CommandOptions, CommandScheduler
from jobyard.testing.polling import eventually
from jobyard.testing.standin import Cell, StandinDialect, standin_scheduler
from jobyard.transports.base import CommandTimeout, ProgramMissing
from jobyard.transports.local import LocalTransport

HEADER = "JOB|STATE|CODE|SIGNAL|CORE|RUNS|SUBMITTED|BEGAN|ENDED|USER_S|SYSTEM_S|RSS_KB|REASON|FOLDER|NAME"
NUMBERS = iter(range(10**6))


def table(*rows: str) -> str:
    return "\n".join([HEADER, *rows, f"END {len(rows)}", ""])


def row(native_id: str, word: str = "RUNNING") -> str:
    return f"{native_id}|{word}||||1|1.0|2.0||||||/work/x|name"


class Scripted(LocalTransport):
    """A transport whose commands are answered by a function."""

    def __init__(self, answer: Callable[[Command], Result | str]) -> None:
        super().__init__()
        self.name = f"scripted{next(NUMBERS)}"  # a login of its own, hence a gate of its own
        self.answer = answer
        self.commands: list[Command] = []

    def run(self, command: Command) -> Result:
        self.commands.append(command)
        answer = self.answer(command)
        return answer if isinstance(answer, Result) else Result(argv=command.argv, returncode=0, stdout=answer.encode())


def scripted(answer: Callable[[Command], Result | str] | str, dialect: Dialect | None = None) -> CommandScheduler:
    transport = Scripted(answer if callable(answer) else lambda command: answer)
    return CommandScheduler(dialect or StandinDialect(), transport)


def submission(kind: Kind = Kind.SINGLE, indices: tuple[int, ...] = ()) -> Submission:
    return Submission(
        token="0" * 32, folder="/work/" + "0" * 32, description=JobDescription(argv=("x",)), kind=kind, indices=indices
    )


def test_is_a_scheduler() -> None:
    assert isinstance(scripted(""), Scheduler)


# What is believed ---------------------------------------------------------------------------------------------------


def test_a_good_answer_is_complete() -> None:
    answer = scripted(table(row("1"), row("2", "PENDING"))).query(["1", "2"])
    assert answer.complete
    assert {r.native_id: r.state for r in answer.rows} == {"1": JobState.RUNNING, "2": JobState.QUEUED}


def test_a_line_that_is_no_row_leaves_the_others_but_nobody_absent() -> None:
    answer = scripted(table(row("1"), "something else")).query(["1"])
    assert [r.native_id for r in answer.rows] == ["1"]
    assert answer.unparsed == ("something else",)
    assert not answer.complete


def test_an_unknown_state_is_kept_as_text() -> None:
    answer = scripted(table(row("1", "LEVITATING"))).query(["1"])
    assert answer.complete
    assert (answer.rows[0].state, answer.rows[0].native_state, answer.rows[0].ended) == (None, "LEVITATING", False)


def test_an_answer_that_contradicts_itself_says_nothing_of_that_job() -> None:
    answer = scripted(table(row("1"), row("2"), row("1", "PENDING"))).query(["1", "2"])
    assert [r.native_id for r in answer.rows] == ["2"]
    assert answer.unparsed == ("1: both RUNNING and PENDING",)
    assert not answer.complete


def test_a_row_that_lost_its_token_says_nothing_of_a_job_that_has_one() -> None:
    good, damaged = row("1").replace("/work/x", "/work/" + "a" * 32), row("1", "COMPLETED").replace("|1.0|", "|7.0|")
    answer = scripted(table(good, damaged)).query(["1"])
    assert [r.native_state for r in answer.rows] == ["RUNNING"]
    assert not answer.complete


def test_a_row_said_twice_is_one_row() -> None:
    answer = scripted(table(row("1"), row("1"), row("2"))).account(["1", "2"])
    assert [r.native_id for r in answer.rows] == ["1", "2"]
    assert answer.complete


def test_an_id_that_was_used_again_is_two_jobs() -> None:
    old, new = row("1", "COMPLETED").replace("/work/x", "/work/" + "a" * 32), row("1").replace("/work/x", "/work/" + "b" * 32)
    by_token = scripted(table(old, new)).account(["1"])
    assert [(r.token, r.native_state) for r in by_token.rows] == [("a" * 32, "COMPLETED"), ("b" * 32, "RUNNING")]
    by_time = scripted(table(row("1", "COMPLETED"), row("1").replace("|1.0|", "|5.0|"))).account(["1"])
    assert [(r.submitted_at, r.native_state) for r in by_time.rows] == [(1.0, "COMPLETED"), (5.0, "RUNNING")]
    assert by_token.complete
    assert by_time.complete


@pytest.mark.parametrize("word", ["", "7 8", "x7", "7\n8", "<html>", "-7", "७"])
def test_a_submission_that_printed_no_id_is_not_known_to_be_there_or_not(word: str) -> None:
    with pytest.raises(SchedulerUnavailable, match="no job id"):
        scripted(word).submit(submission())


def test_the_number_of_ids_must_agree() -> None:
    class Careless(StandinDialect):
        def parse_submit(self, result: Result, submission: Submission) -> Accepted:
            return Accepted(("1", "1"))

    with pytest.raises(SchedulerUnavailable, match="2 different ids were expected, it printed 2"):
        scripted("1", Careless()).submit(submission(Kind.ARRAY, (1, 2)))


def test_a_parser_that_fails_makes_an_answer_none_and_is_named() -> None:
    class Broken(StandinDialect):
        def parse_query(self, result: Result) -> Answer:
            raise KeyError("OOM")

    with pytest.raises(SchedulerUnavailable, match=r"the standin dialect cannot read this answer \(KeyError\('OOM'\)\); report it"):
        scripted("x", Broken()).query(["1"])


def test_an_error_says_command_exit_code_output_and_what_to_try() -> None:
    failed = Result(argv=("standin-queue", "a b"), returncode=3, stderr=b"first\x1b[31m\nsecond\nthird\nfourth\xff\n")
    with pytest.raises(SchedulerUnavailable) as info:
        scripted(lambda command: failed).query(["1"])
    text = str(info.value)
    for part in ("standin gave no answer", "standin-queue 'a b'", "exited with 3", r"first\x1b[31m / second / third", "by hand"):
        assert part in text
    assert "fourth" not in text
    assert text.isprintable()
    assert info.value.retryable


def test_an_error_names_the_signal() -> None:
    killed = Result(argv=("standin-queue",), returncode=-9)
    with pytest.raises(SchedulerUnavailable, match="was ended by signal 9; it wrote nothing"):
        scripted(lambda command: killed).query(["1"])


def test_a_missing_program_is_named_with_how_to_get_it() -> None:
    def missing(command: Command) -> Result:
        raise ProgramMissing("there is none", program="standin-queue")

    with pytest.raises(NoScheduler, match=r"standin-queue is not on scripted\d+; jobyard\.testing\.standin\.install"):
        scripted(missing).query(["1"])


def test_a_time_out_is_no_answer() -> None:
    def slow(command: Command) -> Result:
        result = Result(argv=command.argv, returncode=-9, stderr=b"waiting for lock\n")
        raise CommandTimeout("it did not end within 60 s", result=result)

    for call in every_call(scripted(slow)):
        with pytest.raises(SchedulerUnavailable, match="did not end within 60 s; stderr: waiting for lock"):
            call()


def test_a_lost_transport_is_told_as_such() -> None:
    def lost(command: Command) -> Result:
        raise TransportError("the link is down")

    for call in every_call(scripted(lost)):
        with pytest.raises(TransportError, match="the link is down"):
            call()
    answers = scripted(lost).control(Action.CANCEL, ["1"])
    assert [type(error) for error in answers.values()] == [TransportError]


def every_call(scheduler: CommandScheduler) -> Iterator[Callable[[], object]]:
    """All that asks, but control, which answers for each job."""
    yield lambda: scheduler.submit(submission())
    yield lambda: scheduler.find([submission()])
    yield lambda: scheduler.query(["1"])
    yield lambda: scheduler.account(["1"])
    yield scheduler.listed
    yield scheduler.limits
    yield scheduler.version


def test_accounting_is_not_asked_for_what_the_queue_has(bench: Bench, cell: Cell) -> None:
    submission = bench.make(hold=True)
    accepted = bench.accept(submission)
    cell.fault("account", "garbage")
    assert bench.scheduler.find([submission]) == {submission.token: accepted}
    assert bench.scheduler.commands_run["find"] == 1
    with pytest.raises(SchedulerUnavailable, match="standin-account"):
        bench.scheduler.find([submission, bench.make()])
    assert bench.scheduler.commands_run["find"] == 3


def test_a_queue_that_fails_is_not_made_up_for_by_the_accounting(bench: Bench, cell: Cell) -> None:
    cell.fault("queue", "exit", times=1)
    with pytest.raises(SchedulerUnavailable):
        bench.scheduler.find([bench.make()])


# Control ------------------------------------------------------------------------------------------------------------


class OneByOne(StandinDialect):
    """One command for each job."""

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        return [(Command(argv=("standin-control", native_id)), (native_id,)) for native_id in native_ids]


def test_one_failed_control_command_does_not_keep_the_others_from_being_done() -> None:
    def answer(command: Command) -> Result | str:
        native_id = command.argv[1]
        return Result(argv=command.argv, returncode=1) if native_id == "2" else f"{native_id} ok\nEND 1\n"

    told = scripted(answer, OneByOne()).control(Action.CANCEL, ["1", "2", "3", "1"])
    assert list(told) == ["1", "2", "3"]
    assert told["1"] is None
    assert told["3"] is None
    assert isinstance(told["2"], SchedulerUnavailable)


def test_a_job_of_which_control_says_nothing_was_not_acknowledged() -> None:
    told = scripted("1 ok\n3 ok\n").control(Action.HOLD, ["1", "2"])
    assert told["1"] is None
    assert isinstance(told["2"], SchedulerUnavailable)
    assert "says nothing of this job" in str(told["2"])
    assert list(told) == ["1", "2"]


def test_what_a_scheduler_cannot_do_is_said_without_a_command() -> None:
    import msgspec

    class Simple(StandinDialect):
        capabilities = msgspec.structs.replace(StandinDialect.capabilities, actions=frozenset({Action.CANCEL}))

    scheduler = scripted("", Simple())
    told = scheduler.control(Action.SUSPEND, ["1"])
    assert isinstance(told["1"], ControlError)
    assert "cannot suspend jobs; it can: cancel" in str(told["1"])
    assert scheduler.commands_run.total() == 0


def test_nothing_to_control_runs_nothing() -> None:
    scheduler = scripted("")
    assert scheduler.control(Action.CANCEL, []) == {}
    assert scheduler.account([]) == Answer(complete=False)
    assert scheduler.find([]) == {}
    assert scheduler.commands_run.total() == 0


# Counted commands ---------------------------------------------------------------------------------------------------


def test_one_command_for_all_jobs() -> None:
    ids = [str(number) for number in range(1, 2001)]
    scheduler = scripted(table(*map(row, ids)))
    assert len(scheduler.query(ids).rows) == 2000
    assert len(scheduler.account(ids).rows) == 2000
    assert dict(scheduler.commands_run) == {"query": 1, "account": 1}


def test_limits_are_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = scripted("max_array=5\nmax_jobs=9\n")
    assert scheduler.limits() == scheduler.limits() == SiteLimits(max_array_size=5, max_jobs=9)
    assert scheduler.commands_run["limits"] == 1
    now = time.monotonic()
    monkeypatch.setattr("jobyard.schedulers.command.time.monotonic", lambda: now + 301)
    scheduler.limits()
    assert scheduler.commands_run["limits"] == 2


def test_failed_limits_are_not_remembered() -> None:
    answers = iter(["", "max_array=5\n"])
    scheduler = scripted(lambda command: next(answers))
    with pytest.raises(SchedulerUnavailable, match="no limits"):
        scheduler.limits()
    assert scheduler.limits().max_array_size == 5


def test_options_set_the_time_out() -> None:
    transport = Scripted(lambda command: table())
    CommandScheduler(StandinDialect(), transport, CommandOptions(timeout_s=7.5)).query([])
    assert transport.commands[0].timeout_s == 7.5


def test_a_closed_scheduler_runs_nothing() -> None:
    scheduler = scripted(table())
    scheduler.close()
    for call in every_call(scheduler):
        with pytest.raises(SchedulerUnavailable, match="was closed"):
            call()
    assert scheduler.commands_run.total() == 0


def test_prepare_gives_the_batch_script() -> None:
    files = scripted("").prepare(submission())
    assert list(files) == ["run.sh"]
    lines = files["run.sh"].decode().splitlines()
    assert lines[:2] == ["#!/bin/sh", "#STANDIN --rerun no"]
    assert lines[2].startswith("exec /usr/bin/python3 -I -S ")
    assert lines[2].endswith("/run.py /work/" + "0" * 32)


# At a time ----------------------------------------------------------------------------------------------------------


class Counting(Scripted):
    """Commands that end when they are let go; counts those under way."""

    def __init__(self) -> None:
        super().__init__(lambda command: table())
        self.go = threading.Event()
        self.changed = threading.Condition()
        self.under_way: list[str] = []
        self.most = 0

    def run(self, command: Command) -> Result:
        with self.changed:
            self.under_way.append(command.argv[0])
            self.most = max(self.most, len(self.under_way))
            self.changed.notify_all()
        assert self.go.wait(60)
        with self.changed:
            self.under_way.remove(command.argv[0])
        return super().run(command)

    def await_under_way(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.under_way) >= count, 30)


def test_at_most_four_commands_of_a_login_of_which_three_ask() -> None:
    transport = Counting()
    first, second = CommandScheduler(StandinDialect(), transport), CommandScheduler(StandinDialect(), transport)
    errors: list[Exception] = []

    def call(what: Callable[[], object]) -> threading.Thread:
        def body() -> None:
            try:
                what()
            except SchedulerUnavailable as error:
                errors.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        return thread

    threads = [call(partial(scheduler.query, [])) for scheduler in (first, second) * 5]
    transport.await_under_way(3)
    threads.append(call(lambda: first.submit(submission())))  # is let through although all questions hang
    transport.await_under_way(4)
    threads += [call(lambda: first.submit(submission())) for _ in range(3)]
    assert transport.under_way.count("standin-queue") == 3
    transport.go.set()
    for thread in threads:
        thread.join(30)
    assert transport.most == 4
    assert len(errors) == 4  # the submissions, which got a table for an answer


def test_who_waits_too_long_for_his_turn_is_told() -> None:
    transport = Counting()
    scheduler = CommandScheduler(StandinDialect(), transport, CommandOptions(timeout_s=0.2))
    threads = [threading.Thread(target=scheduler.query, args=([],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    transport.await_under_way(3)
    with pytest.raises(SchedulerUnavailable, match=r"was not run: for 0\.2 s"):
        scheduler.query([])
    transport.go.set()
    for thread in threads:
        thread.join(30)
    assert scheduler.commands_run["query"] == 3


def test_another_login_is_not_delayed() -> None:
    hung = Counting()
    scheduler = CommandScheduler(StandinDialect(), hung)
    threads = [threading.Thread(target=scheduler.query, args=([],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    hung.await_under_way(3)
    assert scripted(table()).query([]).complete
    hung.go.set()
    for thread in threads:
        thread.join(30)


# The stand-in's faults: nothing is concluded from nonsense ----------------------------------------------------------

SPOILED = ("exit", "garbage", "empty", "truncated", "interleaved", "foreign", "blank", "noise", "doubled", "shuffled", "contradict")
SPOILED_ROWS = (*SPOILED, "wrong_ids", "vanish")


def three_jobs(bench: Bench, cell: Cell) -> dict[str, str]:
    """One that runs, one that waits, one that has ended: the truth."""
    wait, _ = gate(bench.folder)
    ended = bench.submit("exit 3")
    bench.until(ended, "FAILED")
    running = bench.submit(f"{wait}")
    bench.until(running, "RUNNING")
    held = bench.submit(hold=True)
    return {ended: "FAILED", running: "RUNNING", held: "HELD_USER"}


def rows_or_none(call: Callable[[], Answer]) -> tuple[dict[str, str], bool]:
    """What an answer says of jobs, and whether it says that the others are not there."""
    try:
        answer = call()
    except SchedulerUnavailable:
        return {}, False
    return {row.native_id: row.native_state for row in answer.rows}, answer.complete


@pytest.mark.parametrize("kind", SPOILED_ROWS)
def test_no_spoiled_answer_of_the_queue_says_anything_false(bench: Bench, cell: Cell, kind: str) -> None:
    truth = three_jobs(bench, cell)
    for keep in (0.0, 0.3, 0.6, 0.9, 0.99) if kind == "truncated" else (0.5,):
        cell.fault("queue", kind, times=1, keep=keep)
        said, complete = rows_or_none(lambda: bench.scheduler.query(list(truth)))
        for native_id in set(said) & set(truth):
            assert said[native_id] == truth[native_id]
        if kind not in ("vanish", "wrong_ids"):  # that is a lie which only time can tell
            assert set(truth) <= set(said) or not complete
        assert cell.faults() == []
    assert bench.rows().keys() == truth.keys()


@pytest.mark.parametrize("kind", SPOILED)
def test_no_spoiled_answer_of_the_accounting_says_anything_false(bench: Bench, cell: Cell, kind: str) -> None:
    ids = [bench.submit(f"exit {code}") for code in (3, 0, 4)]
    truth = {native_id: bench.until(native_id, "FAILED", "COMPLETED").ending for native_id in ids}
    cell.fault("account", kind, times=1)
    try:
        answer = bench.scheduler.account(ids)
    except SchedulerUnavailable:
        return
    for found in answer.rows:
        if found.native_id in truth and kind != "contradict":
            assert found.ending == truth[found.native_id]
    assert kind != "contradict" or answer.rows == ()
    assert {found.native_id for found in answer.rows} >= set(truth) or not answer.complete


@pytest.mark.parametrize("kind", SPOILED)
@pytest.mark.parametrize("program", ["queue", "account"])
def test_a_token_is_never_said_to_be_missing_by_a_spoiled_answer(bench: Bench, cell: Cell, program: str, kind: str) -> None:
    cell.configure(linger_s=0.0 if program == "account" else 300.0)
    submissions = [bench.make(f"exit {code}") for code in (0, 1, 2)]
    accepted = {each.token: bench.accept(each) for each in submissions}
    eventually(lambda: len(bench.scheduler.account([a.native_ids[0] for a in accepted.values()]).rows) == 3 or None, "all ended")
    cell.fault(program, kind, times=1)
    try:
        found = bench.scheduler.find(submissions)
    except SchedulerUnavailable:
        return
    assert found == accepted


@pytest.mark.parametrize("kind", ["exit", "garbage", "empty", "truncated"])
def test_a_spoiled_control_answer_acknowledges_nothing_falsely(bench: Bench, cell: Cell, kind: str) -> None:
    ids = [bench.submit(hold=True) for _ in range(3)]
    cell.fault("control", kind, times=1, keep=0.4)
    told = bench.scheduler.control(Action.RELEASE, ids)
    for native_id, error in told.items():
        if error is None:
            bench.until(native_id, "RUNNING", "COMPLETED")
        else:
            assert isinstance(error, SchedulerUnavailable)
    assert list(told.values()).count(None) < 3


def test_a_denied_control_is_not_permitted(bench: Bench, cell: Cell) -> None:
    native_id = bench.submit(hold=True)
    cell.fault("control", "deny", times=1)
    told = bench.scheduler.control(Action.CANCEL, [native_id])
    assert isinstance(told[native_id], NotPermitted)
    assert bench.rows()[native_id].native_state == "HELD_USER"


@pytest.mark.parametrize("kind", ["mute", "die_after", "garbage", "empty", "twice", "hang_after", "late"])
def test_a_submission_whose_answer_was_lost_is_found_by_its_token(bench: Bench, cell: Cell, kind: str) -> None:
    hasty = standin_scheduler(cell, CommandOptions(timeout_s=6.0 if kind in ("hang_after", "late") else 60.0))
    submission = bench.make(hold=True)
    cell.fault("submit", kind, times=1, seconds=3600)
    if kind == "twice":
        assert hasty.submit(submission).native_ids == ("1",)
    else:
        with pytest.raises(SchedulerUnavailable, match="standin-submit"):
            hasty.submit(submission)
        assert bench.scheduler.find([submission])[submission.token].native_ids == ("1",)
    assert len(cell.jobs()) == (2 if kind == "twice" else 1)


@pytest.mark.parametrize("kind", ["die_before", "exit", "refuse", "hang"])
def test_a_submission_that_was_not_taken_is_not_found(bench: Bench, cell: Cell, kind: str) -> None:
    hasty = standin_scheduler(cell, CommandOptions(timeout_s=2.0 if kind == "hang" else 60.0))
    submission = bench.make()
    cell.fault("submit", kind, times=1, text="no more today")
    expected = SubmitError if kind in ("exit", "refuse") else SchedulerUnavailable
    with pytest.raises(expected, match="no more today" if kind in ("exit", "refuse") else "standin-submit"):
        hasty.submit(submission)
    assert bench.scheduler.find([submission]) == {}
    assert cell.jobs() == {}
    assert bench.accept(submission).native_ids == ("1",)


@pytest.mark.parametrize("kind", ["exit", "garbage", "empty", "truncated", "noise"])
def test_spoiled_limits_are_none_or_right(scheduler: CommandScheduler, cell: Cell, kind: str) -> None:
    cell.fault("limits", kind, times=1, keep=0.1)
    try:
        limits = scheduler.limits()
    except SchedulerUnavailable:
        limits = scheduler.limits()
    assert limits == SiteLimits(max_array_size=10000, max_index=1000000, max_jobs=200000)


def test_a_scheduler_that_is_away_answers_nothing_and_then_all(bench: Bench, cell: Cell) -> None:
    submission = bench.make("exit 0", hold=True)
    native_id = bench.accept(submission).native_ids[0]
    cell.configure(away=True)
    calls: Mapping[str, Callable[[], Any]] = {
        "submit": lambda: bench.scheduler.submit(bench.make()),
        "find": lambda: bench.scheduler.find([submission]),
        "query": lambda: bench.scheduler.query([native_id]),
        "account": lambda: bench.scheduler.account([native_id]),
        "list": bench.scheduler.listed,
        "limits": bench.scheduler.limits,
    }
    for name, call in calls.items():
        with pytest.raises(SchedulerUnavailable, match="cannot contact the scheduler"):
            call()
        assert name in bench.scheduler.commands_run
    told: Mapping[str, JobyardError | None] = bench.scheduler.control(Action.RELEASE, [native_id])
    assert isinstance(told[native_id], SchedulerUnavailable)
    cell.configure(away=False)
    assert bench.rows()[native_id].native_state == "HELD_USER"
    assert len(cell.jobs()) == 1


def test_a_query_that_hangs_delays_no_submission(bench: Bench, cell: Cell) -> None:
    cell.fault("queue", "hang", times=3)
    hasty = standin_scheduler(cell, CommandOptions(timeout_s=120.0))
    ends: list[Exception] = []

    def ask() -> None:
        try:
            hasty.query([])
        except (SchedulerUnavailable, TransportError) as error:
            ends.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: cell.faults() == [] or None, "all three hang")
    began = time.monotonic()
    assert hasty.submit(bench.make()).native_ids == ("1",)
    assert time.monotonic() - began < 60
    assert not ends
    hasty.close()
    for thread in threads:
        thread.join(30)
    assert len(ends) == 3


def test_every_kind_of_fault_is_tried_here(cell: Cell) -> None:
    tried = {*SPOILED_ROWS, "deny", "mute", "die_after", "die_before", "twice", "hang_after", "late", "refuse", "hang"}
    assert set(cell.fault_kinds()) - tried == {"lie"}  # a coherent lie is the tracker's matter, not an answer's


def test_a_lie_is_passed_on_as_the_scheduler_said_it(bench: Bench, cell: Cell) -> None:
    native_id = bench.submit(hold=True)
    cell.fault("queue", "lie", times=1, words={native_id: "RUNNING"})
    assert bench.rows()[native_id].state is JobState.RUNNING
    assert bench.rows()[native_id].state is JobState.HELD


def test_a_fault_that_does_not_exist_is_refused(cell: Cell) -> None:
    with pytest.raises(ValueError, match="no kind of fault: 'flood'"):
        cell.fault("queue", "flood")


def test_the_truth_of_the_bench(bench: Bench, cell: Cell) -> None:
    """The bench's own rows are what the stand-in says of itself."""
    truth = three_jobs(bench, cell)
    assert {native_id: state for native_id, (state, _, _) in cell.jobs().items()} == truth
    rows: Collection[Row] = bench.rows().values()
    assert {row.native_id: row.native_state for row in rows} == truth
