"""What Grid Engine 8.1.9 printed, and what the dialect makes of it. Recorded by testbeds/gridengine/samples.sh."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from jobyard.errors import ControlError, JobyardError, NotPermitted, SchedulerUnavailable, SubmitError, UnknownJob, WrongState
from jobyard.job import By, Cause, JobDescription, JobState
from jobyard.schedulers.base import Action, Kind, Result, Submission
from jobyard.schedulers.gridengine import GridEngineDialect
from jobyard.schedulers.gridengine.queue import state_of, task_numbers
from schedulers.gridengine_samples import FOLDER, index, sample

DIALECT = GridEngineDialect()
T1, T2, T3, T4 = ("".join([digit] * 32) for digit in "abcd")
QUEUED, HELD, RUNNING, SUSPENDED = JobState.QUEUED, JobState.HELD, JobState.RUNNING, JobState.SUSPENDED
DONE, FAILED = JobState.DONE, JobState.FAILED


def submission(token: str, kind: Kind = Kind.SINGLE, indices: tuple[int, ...] = ()) -> Submission:
    return Submission(token=token, folder=f"/w/{token}", description=JobDescription(argv=("x",)), kind=kind, indices=indices)


def at(text: str) -> float:
    return datetime.fromisoformat(f"2026-11-20T{text}+00:00").astimezone(UTC).timestamp()


def test_every_sample_is_used_and_every_use_is_a_sample() -> None:
    """Samples that no test reads are litter. The list is what this file and its siblings read."""
    here = FOLDER.parents[2] / "tests" / "schedulers"
    text = "".join(path.read_text() for path in here.glob("*gridengine*.py"))
    assert [name for name in index() if f'"{name}"' not in text] == []
    assert sorted(path.stem for path in FOLDER.glob("*.out")) == sorted(index())


# The queue ---------------------------------------------------------------------------------------------------------------


def test_no_jobs() -> None:
    answer = DIALECT.parse_query(sample("query-empty"))
    assert answer.rows == ()
    assert answer.complete


def test_jobs_in_all_states() -> None:
    """Who holds a job, a begin time, tasks of one job in different states: all of it from one command of ours."""
    answer = DIALECT.parse_query(sample("query-states"))
    assert answer.complete
    assert answer.unparsed == ()
    said = {row.native_id: (row.state, row.by, row.native_state) for row in answer.rows}
    for released in ("13.3", "13.4", "13.7"):  # on their way to the node, or there, as it happens
        assert said.pop(released) in ((QUEUED, None, "t"), (RUNNING, None, "r"))
    assert said == {
        "1": (SUSPENDED, By.USER, "s"),
        "2.2": (SUSPENDED, By.USER, "s"),
        "2.4": (RUNNING, None, "r"),
        "2.6": (QUEUED, None, "qw"),
        "2.8": (QUEUED, None, "qw"),
        "2.10": (QUEUED, None, "qw"),
        "3.5": (HELD, By.USER, "hqw"),
        "4": (HELD, By.SYSTEM, "Eqw"),
        "5": (QUEUED, None, "Rq"),
        "6": (HELD, By.USER, "hqw"),
        "7": (HELD, By.BOTH, "hqw"),  # by its user and by an operator
        "8": (HELD, By.BOTH, "hqw"),  # by its user and for another job
        "9": (HELD, By.SYSTEM, "hqw"),  # for another job
        "10": (HELD, By.SYSTEM, "qw"),  # for its begin time
        "15": (QUEUED, None, "qw"),  # its begin time has come; qstat -s ha lists it all the same
        "11": (QUEUED, None, "qw"),
        "12": (HELD, By.USER, "hqw"),
        "13.1": (HELD, By.USER, "hqw"),
        "13.2": (HELD, By.USER, "hqw"),
        "13.5": (HELD, By.USER, "hqw"),
        "13.6": (HELD, By.USER, "hqw"),
        "13.8": (HELD, By.USER, "hqw"),
        "13.9": (HELD, By.BOTH, "hqw"),  # by its user and by the system
        "14": (RUNNING, None, "r"),
    }
    rows = {row.native_id: row for row in answer.rows}
    assert not any(row.ended for row in answer.rows)
    assert rows["1"].began_at is not None
    assert rows["1"].submitted_at is None, "qstat shows when a running job began, not when it was submitted"
    assert rows["11"].submitted_at is not None
    assert abs(rows["11"].submitted_at - rows["1"].began_at) < 60, "both in UTC"
    assert rows["5"].submitted_at is None, "what it shows of a job that runs again is the time of the rescheduling"
    assert (rows["5"].attempt, rows["1"].attempt) == (2, None)
    assert rows["12"].name == "a<b&c>d", "qstat writes %lt; for <"
    assert rows["2.10"].token == T2, "the working directory's name, of a job that waits"
    assert rows["4"].token == T3
    assert rows["6"].token is None, "an account that is no token, a directory that is none"


def test_reasons_for_waiting() -> None:
    reasons = {row.native_id: row.reason for row in DIALECT.parse_query(sample("query-states")).rows}
    assert reasons["4"] is not None
    assert "can't chdir to /home/labuser/samples/nowhere/" in reasons["4"]
    assert reasons["6"] == "Job is in hold state"
    assert reasons["9"] is not None
    assert "dependencies" in reasons["9"]
    assert reasons["10"] == "execution time not reached"
    assert reasons["11"] is not None
    assert 'PE "smp"' in reasons["11"]
    assert reasons["1"] is None


@pytest.mark.parametrize("name", ["away-query", "no-root"])
def test_no_answer_of_the_queue_is_no_answer(name: str) -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_query(sample(name))


def test_an_answer_that_was_cut_short_leaves_nobody_out() -> None:
    """Whatever is missing at the end: the rows before it are right, and no job is called absent."""
    whole = sample("query-states")
    full = {row.native_id: row for row in DIALECT.parse_query(whole).rows}
    text = whole.stdout
    for cut in range(len(text) - 6, 0, -997):
        short = msgspec.structs.replace(whole, stdout=text[:cut])
        try:
            answer = DIALECT.parse_query(short)
        except SchedulerUnavailable:
            continue
        assert not answer.complete
        assert {row.native_id for row in answer.rows} <= set(full)
        for row in answer.rows:
            assert row.state in (full[row.native_id].state, None, *([] if row.native_id == "15" else [QUEUED, HELD]))


def test_lines_between_rows_cost_no_row() -> None:
    whole = sample("query-states")
    marked = whole.stdout.replace(b"  <job_info>", b"Warning: the qmaster moves tonight\n  <job_info>", 1)
    answer = DIALECT.parse_query(msgspec.structs.replace(whole, stdout=marked))
    assert len(answer.rows) == len(DIALECT.parse_query(whole).rows)
    assert answer.unparsed == ("Warning: the qmaster moves tonight",)
    assert not answer.complete


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("qw", (QUEUED, None)),
        ("Rq", (QUEUED, None)),
        ("hqw", (HELD, None)),
        ("hRwq", (HELD, None)),
        ("Eqw", (HELD, By.SYSTEM)),
        ("EhRqw", (HELD, By.SYSTEM)),
        ("r", (RUNNING, None)),
        ("hr", (RUNNING, None)),
        ("t", (QUEUED, None)),
        ("Rr", (RUNNING, None)),
        ("dr", (RUNNING, None)),
        ("dt", (QUEUED, None)),
        ("Rt", (QUEUED, None)),
        ("s", (SUSPENDED, By.USER)),
        ("ts", (SUSPENDED, By.USER)),
        ("ds", (SUSPENDED, By.USER)),
        ("S", (SUSPENDED, By.SYSTEM)),
        ("T", (SUSPENDED, By.SYSTEM)),
        ("RtS", (SUSPENDED, By.SYSTEM)),
        ("sS", (SUSPENDED, By.BOTH)),
        ("z", (None, None)),
        ("X", (None, None)),
        ("d", (None, None)),
        ("", (None, None)),
    ],
)
def test_the_letters_of_qstat(word: str, wanted: tuple[JobState | None, By | None]) -> None:
    """The table of sge_status(5)."""
    assert state_of(word) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5", [5]),
        ("1-3:1,6,7", [1, 2, 3, 6, 7]),
        ("2-10:4", [2, 6, 10]),
        ("1,2", [1, 2]),
        ("4-5", [4, 5]),
        ("", []),
        ("x", []),
        ("3-1:1", []),
        ("1-3:0", []),
        ("1-9999999999:1", []),
        ("1-2-3", []),
    ],
)
def test_lists_of_tasks(text: str, wanted: list[int]) -> None:
    assert task_numbers(text) == wanted


# Look-ups ----------------------------------------------------------------------------------------------------------------


def test_tokens_are_found_in_the_queue() -> None:
    array = submission(T2, Kind.ARRAY, (2, 4, 6, 8, 10))
    found = DIALECT.parse_find([sample("find")], [submission(T1), array, submission(T3), submission(T4)])
    assert found[T1].native_ids == ("1",)
    assert found[T2].native_ids == ("2.2", "2.4", "2.6", "2.8", "2.10")
    assert found[T2].array_id == "2"
    assert found[T3].native_ids == ("4",)
    assert T4 not in found


def test_tokens_are_found_in_accounting() -> None:
    one, two, nine = ("".join([digit] * 32) for digit in "129")
    wanted = [submission(one), submission(two, Kind.LIKE, (0, 1, 2)), submission(nine)]
    for name in ("records", "records-many"):
        found = DIALECT.parse_find([sample("find-empty"), sample(name)], wanted)
        assert found[one].native_ids == ("16",)
        assert found[two].native_ids == ("22.1", "22.2", "22.3"), "counted from 1 there"
        assert nine not in found


def test_a_look_up_that_was_cut_short_finds_nothing_absent() -> None:
    whole = sample("find")
    for cut in range(0, len(whole.stdout) - 6, 503):
        short = msgspec.structs.replace(whole, stdout=whole.stdout[:cut])
        with pytest.raises(SchedulerUnavailable):
            DIALECT.parse_find([short], [submission(T4)])


# Accounting --------------------------------------------------------------------------------------------------------------


def test_how_jobs_ended() -> None:
    answer = DIALECT.parse_account(sample("account-many"))
    assert answer.complete
    said = {}
    for row in answer.rows:
        assert row.ended
        assert row.ending is not None
        how = row.ending.exit_code if row.ending.exit_code is not None else row.ending.signal
        said[row.native_id] = (row.state, row.ending.cause, how, row.attempt)
    assert said == {
        "16": (DONE, Cause.EXITED, 0, None),
        "17": (FAILED, Cause.EXITED, 3, None),
        "18": (FAILED, Cause.EXITED, "SIGSEGV", None),
        "19": (FAILED, Cause.EXITED, "SIGKILL", None),
        "20": (FAILED, Cause.WALLTIME, "SIGKILL", None),
        "21": (FAILED, Cause.CPU_TIME, "SIGKILL", None),
        "22.2": (FAILED, Cause.EXITED, 2, None),
        "22.4": (FAILED, Cause.EXITED, 4, None),
        "22.6": (FAILED, Cause.EXITED, 6, None),
        "23": (FAILED, Cause.EXITED, "SIGKILL", None),  # deleted: as if it had done it itself
        "24": (FAILED, Cause.EXITED, 4, 2),  # rescheduled, and the second run
        "25": (FAILED, Cause.NODE, None, None),
    }


def test_a_record_in_full() -> None:
    rows = {row.native_id: row for row in DIALECT.parse_account(sample("account-few")).rows}
    assert set(rows) == {"16", "20", "22.2", "22.4", "22.6"}, "an array's records come all together"
    ok, wall = rows["16"], rows["20"]
    assert ok.token == "1" * 32
    assert wall.token is None
    assert wall.name == "wall"
    assert wall.ending is not None
    assert wall.ending.host == "localhost"
    assert wall.submitted_at is not None
    assert wall.began_at is not None
    assert wall.ending.ended_at is not None
    assert wall.submitted_at <= wall.began_at < wall.ending.ended_at
    usage = wall.ending.usage
    assert usage.wall_s in (1.0, 2.0)
    assert usage.user_s is not None
    assert 0 <= usage.user_s < 1
    assert usage.max_rss_bytes is not None
    assert 1 << 20 < usage.max_rss_bytes < 64 << 20, "4.4KB, it says: thousands of KiB"
    assert usage.native["failed"] == "37  : qmaster enforced h_rt, h_cpu, or h_vmem limit"
    assert usage.native["category"] == "-l h_rt=1"


def test_no_record_and_no_accounting() -> None:
    none = DIALECT.parse_account(sample("account-none"))
    assert none.rows == ()
    assert none.complete, "it answered: it does not know the job"
    for name in ("account-off", "account-off-many"):
        off = DIALECT.parse_account(sample(name))
        assert off.rows == ()
        assert not off.complete, "nobody can say that it does not know the job"


@pytest.mark.parametrize(
    ("stdout", "stderr", "code"),
    [
        (b"", b"", 0),
        (b"", b"sh: 1: qacct: not found\n", 127),
        (b"#jobyard# end\n", b"sh: 1: qacct: not found\n", 0),
        (b"#jobyard# end\n", b'error: SGE_ROOT directory "/nonexistent" doesn\'t exist\n', 0),
        (b"<html>", b"", 0),
    ],
)
def test_no_answer_of_accounting(stdout: bytes, stderr: bytes, code: int) -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_account(Result(argv=("sh",), returncode=code, stdout=stdout, stderr=stderr))


def test_records_of_several_jobs_of_one_number() -> None:
    """Numbers come round: the token tells which record is whose."""
    whole = sample("account-few")
    other = whole.stdout.replace(b"1" * 32, b"e" * 32).replace(b"#jobyard# end\n", b"")
    answer = DIALECT.parse_account(msgspec.structs.replace(whole, stdout=other + whole.stdout))
    assert sorted(row.token or "" for row in answer.rows if row.native_id == "16") == ["1" * 32, "e" * 32]


def test_a_run_that_was_only_ended_to_be_run_again_is_no_ending() -> None:
    whole = sample("account-many")
    text = whole.stdout.decode()
    first = text.index("jobnumber    24 ")
    begin, end = text.rindex("=" * 62, 0, first), text.index("=" * 62, first)
    answer = DIALECT.parse_account(msgspec.structs.replace(whole, stdout=(text[begin:end] + "#jobyard# end\n").encode()))
    (row,) = answer.rows
    assert row.native_id == "24"
    assert not row.ended
    assert row.ending is None


def test_a_run_that_a_node_failed_and_the_next() -> None:
    """A rerunnable job has a record of each; those of a parallel job's slaves count for none."""
    whole = sample("account-few").stdout.decode()
    record = whole[: whole.index("=" * 62, 10)]
    failed = record.replace("failed       0    ", "failed       19  : before writing exit_status")
    for records, attempt in (((failed, record), 2), ((record, record), None), ((failed,), None)):
        answer = DIALECT.parse_account(Result(argv=("sh",), returncode=0, stdout=("".join(records) + "#jobyard# end\n").encode()))
        (row,) = answer.rows
        assert row.ending is not None
        assert (row.attempt, row.ending.cause) == (attempt, Cause.NODE if records == (failed,) else Cause.EXITED)


@pytest.mark.parametrize(
    ("failed", "status", "cause", "aborted"),
    [
        ("26  : opening input/output file", "0", Cause.NOT_STARTED, True),
        ("28  : changing into working directory", "0", Cause.NOT_STARTED, True),
        ("1   : assumedly before job", "0", Cause.NOT_STARTED, True),
        ("19  : before writing exit_status", "0", Cause.NODE, False),
        ("18  : shepherd returned error", "0", Cause.NODE, False),
        ("15  : in epilog", "0", Cause.EXITED, False),
        ("100 : assumedly after job", "0", Cause.UNKNOWN, False),
        ("100 : assumedly after job", "7", Cause.EXITED, False),
    ],
)
def test_other_codes(failed: str, status: str, cause: Cause, aborted: bool) -> None:
    """The table of sge_status(5)."""
    whole = sample("account-few").stdout.decode()
    record = whole[: whole.index("=" * 62, 10)]
    record = record.replace("failed       0    ", f"failed       {failed}").replace("exit_status  0", f"exit_status  {status}")
    answer = DIALECT.parse_account(Result(argv=("sh",), returncode=0, stdout=(record + "#jobyard# end\n").encode()))
    (row,) = answer.rows
    assert row.ending is not None
    assert (row.ending.cause, row.ending.aborted) == (cause, aborted)


# Submission and control ----------------------------------------------------------------------------------------------------


def test_ids_of_submissions() -> None:
    assert DIALECT.parse_submit(sample("qsub-single"), submission(T1)).native_ids == ("1",)
    array = DIALECT.parse_submit(sample("qsub-array"), submission(T2, Kind.ARRAY, (2, 4, 6, 8, 10)))
    assert array.native_ids == ("2.2", "2.4", "2.6", "2.8", "2.10")
    assert array.array_id == "2"
    assert DIALECT.parse_submit(sample("qsub-task"), submission(T2, Kind.ARRAY, (5,))).native_ids == ("3.5",)
    like = DIALECT.parse_submit(sample("qsub-array"), submission(T2, Kind.LIKE, (0, 1, 2)))
    assert like.native_ids == ("2.1", "2.2", "2.3")


def test_an_id_of_another_kind_is_not_believed() -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_submit(sample("qsub-array"), submission(T1))
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_submit(sample("qsub-single"), submission(T1, Kind.ARRAY, (1, 2)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("err-queue", 'unknown queue "nosuch.q"'),
        ("err-option", "nosuchoption"),
        ("err-value", '"h_rt" is not a time value'),
        ("err-pe", '"nosuch"'),
        ("err-date", "99"),
        ("err-project", "nosuch"),
        ("err-reservation", "advance reservation id 77 is invalid"),
        ("err-script", "nosuch.sh"),
        ("err-array", "more than 75000 tasks"),
    ],
)
def test_refusals(name: str, words: str) -> None:
    with pytest.raises(SubmitError) as caught:
        DIALECT.parse_submit(sample(name), submission(T1))
    assert words in str(caught.value)
    assert not caught.value.retryable
    assert "Exiting." not in str(caught.value)


def test_a_limit_on_the_number_of_jobs_passes() -> None:
    with pytest.raises(SubmitError) as caught:
        DIALECT.parse_submit(sample("err-many"), submission(T1))
    assert caught.value.retryable


def test_nobody_knows_what_became_of_a_submission() -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_submit(sample("away-qsub"), submission(T1))
    for code, out in ((0, b""), (0, b"welcome\n"), (-9, b"")):
        with pytest.raises(SchedulerUnavailable):
            DIALECT.parse_submit(Result(argv=("qsub",), returncode=code, stdout=out), submission(T1))


OK = None
CONTROLS: list[tuple[Action, str, dict[str, type[JobyardError] | None]]] = [
    (
        Action.CANCEL,
        "qdel-tasks",
        dict.fromkeys(("13.1", "13.2", "13.6", "13.8", "13.9", "2.2", "2.10"), OK),
    ),
    (Action.CANCEL, "qdel-ended", {"13.1": WrongState, "12": OK}),
    (Action.CANCEL, "qdel-ended-range", {"13.1": WrongState, "13.2": WrongState}),
    (Action.CANCEL, "qdel-ended-some", {"13.5": OK, "13.6": WrongState}),
    (Action.SUSPEND, "qmod-ended", {"2.10": UnknownJob, "2.4": OK}),
    # What it does not know has ended: there is nothing left to cancel.
    (Action.CANCEL, "qdel-jobs", {"1": OK, "6": OK, "2.4": OK, "2.6": OK, "999999": WrongState, "999998.3": WrongState}),
    (Action.CANCEL, "qdel-again", {"2.4": OK, "2.6": OK, "6": WrongState}),
    (Action.CANCEL, "notowner-qdel", {"8": NotPermitted, "13.7": NotPermitted}),
    (Action.HOLD, "qhold", dict.fromkeys(("11", "13.3", "13.4", "13.7"), OK)),
    (Action.HOLD, "qhold-again", {"11": OK}),
    (Action.HOLD, "notowner-qhold", {"8": NotPermitted}),
    (Action.HOLD, "unknown-qhold", {"999999": UnknownJob, "999998.2": UnknownJob}),
    (Action.RELEASE, "qrls", dict.fromkeys(("11", "13.5", "13.6", "13.7", "13.8"), OK)),
    (Action.SUSPEND, "qmod-sj", {"1": OK, "2.2": OK, "9": WrongState}),
    (Action.SUSPEND, "qmod-sj-again", {"1": WrongState, "2.2": WrongState}),
    (Action.SUSPEND, "notowner-qmod", {"8": NotPermitted}),
    (Action.SUSPEND, "unknown-qmod", {"999999": UnknownJob, "999998.2": UnknownJob}),
    (Action.RESUME, "qmod-usj", {"1": OK, "2.2": OK}),
    (Action.RESUME, "qmod-usj-again", {"1": WrongState}),
    (Action.REQUEUE, "qmod-rj", {"5": OK, "13.9": WrongState}),
    (Action.REQUEUE, "qmod-rj-not", {"1": ControlError}),
    (Action.REQUEUE, "qmod-rj-never", {"14": ControlError}),
]


@pytest.mark.parametrize(("action", "name", "wanted"), CONTROLS, ids=[case[1] for case in CONTROLS])
def test_answers_to_control(action: Action, name: str, wanted: dict[str, type[JobyardError] | None]) -> None:
    answers = DIALECT.parse_control(action, sample(name), list(wanted))
    assert {native_id: error and type(error) for native_id, error in answers.items()} == wanted
    for native_id, error in answers.items():
        if error is not None:
            assert native_id in str(error)
            assert action.value in str(error)


@pytest.mark.parametrize(("action", "name"), [(Action.CANCEL, "away-qdel"), (Action.SUSPEND, "away-qmod")])
def test_a_control_that_did_not_arrive(action: Action, name: str) -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_control(action, sample(name), ["1"])


def test_control_commands_take_many_jobs() -> None:
    ids = ["7", *(f"43.{n}" for n in range(1, 1001)), "44.2", "44.3", "45.3", "45.5", "45.7", "7"]
    ((command, concerned),) = DIALECT.control_commands(Action.CANCEL, ids, signal=None)
    assert command.argv == ("qdel", "7", "43.1-1000:1", "44.2", "44.3", "45.3-7:2")
    assert sorted(concerned) == sorted(set(ids))
    commands = DIALECT.control_commands(Action.HOLD, [str(n) for n in range(1000)], signal=None)
    assert [len(concerned) for _, concerned in commands] == [400, 400, 200]
    assert all(command.argv[:3] == ("qhold", "-h", "u") for command, _ in commands)


def test_only_ids_are_given_to_commands() -> None:
    assert DIALECT.control_commands(Action.CANCEL, ["-u", "*", "a name", "1.x", "", "1.2.3"], signal=None) == []
    command = DIALECT.account_command(["-u", "a\nb", "7.3"])
    assert command is not None
    assert command.argv[-2:] == ("sh", "7")


# The site ----------------------------------------------------------------------------------------------------------------


def test_the_site() -> None:
    site = DIALECT.parse_site(sample("site"))
    assert {(one.name, one.rule, one.slots) for one in site.environments} == {("mpi", "$round_robin", 64), ("smp", "$pe_slots", 64)}
    assert site.resources["h_vmem"].kind == "MEMORY"
    assert site.gpus is not None
    assert site.gpus.consumable == "YES"
    assert site.exclusive is not None
    assert site.exclusive.name == "exclusive"
    assert "load_avg" not in site.resources, "it cannot be requested"
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_site(sample("away-site"))


def test_limits_and_version() -> None:
    limits = DIALECT.parse_limits(sample("limits"))
    assert (limits.max_array_size, limits.max_index, limits.max_jobs) == (75000, None, None)
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_limits(sample("away-limits"))
    assert DIALECT.parse_version(sample("version")) == "SGE 8.1.9"
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_version(Result(argv=("qstat",), returncode=0, stdout=b"usage: qstat\n"))
