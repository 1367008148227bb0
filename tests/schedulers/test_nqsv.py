"""The dialect of NQSV: what it makes of requests as its qstat shows them, of damage, and its commands.

No output of an NQSV is kept here. The requests are our own, in the form of recordings that a user published (docs/nqsv.md).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from jobyard.errors import ControlError, NotPermitted, SchedulerUnavailable, SubmitError, WrongState
from jobyard.job import By, Cause, JobState, Limits, Resources
from jobyard.schedulers.base import Action, Answer, Dialect, Result, Row
from jobyard.schedulers.nqsv import NqsvDialect
from schedulers import dialect_suite as suite
from schedulers.damage import noise
from schedulers.dialect_suite import FOLDER, TOKEN, described

DIALECT: Dialect = NqsvDialect()


def request(native_id: str, state: str, *, reason: str = "EXIT", hold: str = "(none)", name: str = f"job.{TOKEN}") -> str:
    """As qstat -f shows a request; a group of limits repeats a name of the group before it."""
    ran = state not in ("Queued", "Staging", "Held", "Waiting")
    over = state in ("Post-running", "Exiting")
    return f"""\
Request ID: {native_id}
    Request Name = {name}
    User  Name = me
    Current State           = {state}
    Previous State          = Running
    State Transition Time   = Wed Aug 26 16:13:30 2026
    State Transition Reason = {reason}
    Queue = gen_S@nqsv (Execution Queue)
    Hold Type    = {hold}
    Job Condition:
        Job NO: 0 ""
    Created Request Time = Wed Aug 26 16:10:19 2026
    Started Request Time = {"Wed Aug 26 16:10:26 2026" if ran else "(none)"}
    Ended Request Time   = {"Wed Aug 26 16:13:26 2026" if over else "(none)"}
  Execution Hosts(JSVNO):
    bnode009(9)
  Resources Information:
    Memory    = 0.000000B
    Elapse    = 184S
  Logical Host Resources:
    CPU Number            = Max:        48 Warn:       ---
  Resources Limits:
    (Per-Req) Elapse Time Limit       = Max:      180S Warn:       60S
    (Per-Job) CPU Number              = Max:        48 Warn:       ---
  User Attributes:
    (none)
"""


def batch_job(native_id: str, code: str) -> str:
    """As qstat -J -f shows the job of a request."""
    return f"""\
Request ID: {native_id}
    Batch Job Number = 0
    Execution Job ID = (none)
    Execution Host = bnode009
    Exit Code = {code}
  Resources Information:
    Memory    = 0.000000B
"""


def absent(native_id: str) -> str:
    return f"Batch Request: {native_id} does not exist on nqsv.\n"


asked = partial(suite.asked, DIALECT, ("/bin/sh", "-c", "...", "sh"))


def only(text: str) -> Row:
    (row,) = asked(suite.marked(text)).rows
    return row


TEXT = (
    request("1.srv", "Running", reason="PRERUN_SUCCESS")
    + request("2.srv", "Post-running")
    + request("3.srv", "Queued", reason="SUBMIT", name="somebody's own")
    + absent("4.srv")
    + "Batch Job: 1.srv does not exist.\n"
    + batch_job("2.srv", "700")
)
IDS = ("1.srv", "2.srv", "3.srv", "4.srv")


def test_requests_and_their_exit_codes() -> None:
    answer = asked(suite.marked(TEXT), *IDS)
    assert answer.complete
    running, ended, waiting = answer.rows
    assert (running.native_id, running.state, running.token, running.name) == ("1.srv", JobState.RUNNING, TOKEN, "job")
    assert (waiting.state, waiting.token, waiting.name) == (JobState.QUEUED, None, "somebody's own")
    assert ended.ended
    assert ended.ending is not None
    assert (ended.ending.exit_code, ended.ending.state, ended.ending.host) == (7, JobState.FAILED, "bnode009")
    assert ended.ending.usage.wall_s == 180.0


@pytest.mark.parametrize(
    ("code", "reason", "state", "cause", "shown", "signal"),
    [
        ("0", "EXIT", JobState.DONE, Cause.EXITED, 0, None),
        ("B00", "EXIT", JobState.FAILED, Cause.EXITED, 11, None),
        ("FF00", "EXIT", JobState.FAILED, Cause.EXITED, 255, None),
        ("8900", "EXIT", JobState.FAILED, Cause.EXITED, 137, None),
        ("A", "EXIT", JobState.FAILED, Cause.EXITED, None, "SIGUSR1"),
        ("9", "EXIT", JobState.FAILED, Cause.WALLTIME, None, "SIGKILL"),
        ("9", "DELETE", JobState.CANCELLED, Cause.CANCELLED, None, "SIGKILL"),
    ],
)
def test_endings(code: str, reason: str, state: JobState, cause: Cause, shown: int | None, signal: str | None) -> None:
    ending = only(request("1.srv", "Post-running", reason=reason) + batch_job("1.srv", code)).ending
    assert ending is not None
    assert (ending.state, ending.cause, ending.exit_code, ending.signal) == (state, cause, shown, signal)


def test_what_ended_and_is_not_told_how() -> None:
    for code in ("(none)", "12345", "xyz"):
        row = only(request("1.srv", "Exiting", reason="POSTRUN_SUCCESS") + batch_job("1.srv", code))
        assert (row.ended, row.ending, row.state) == (True, None, None)
    early = request("1.srv", "Exiting").replace("16:13:26", "16:10:36") + batch_job("1.srv", "9")
    ending = only(early).ending
    assert ending is not None
    assert (ending.state, ending.cause) == (JobState.FAILED, Cause.UNKNOWN)


@pytest.mark.parametrize(
    ("word", "hold", "state", "by"),
    [
        ("Staging", "(none)", JobState.QUEUED, None),
        ("Pre-running", "(none)", JobState.QUEUED, None),
        ("Held", "(none)", JobState.HELD, None),
        ("Held", "USER", JobState.HELD, By.USER),
        ("Held", "OPERATOR", JobState.HELD, By.SYSTEM),
        ("Waiting", "(none)", JobState.HELD, By.SYSTEM),
        ("Suspended", "(none)", JobState.SUSPENDED, By.SYSTEM),
        ("Stalled", "(none)", None, None),
    ],
)
def test_states(word: str, hold: str, state: JobState | None, by: By | None) -> None:
    row = only(request("1.srv", word, hold=hold))
    assert (row.state, row.by, row.native_state, row.ended) == (state, by, word, False)


def test_what_is_not_there() -> None:
    assert asked(suite.marked(absent("9.srv")), "9.srv") == Answer()
    assert asked(suite.marked("")) == Answer()
    assert not asked(suite.marked(request("1.srv", "Running")), "1.srv", "2.srv").complete, "not a word of the second"
    assert not asked(suite.marked(request("1.srv", "Running") + "a word of the site\n"), "1.srv").complete
    for text, code, err in (
        (TEXT, 0, ""),  # no end
        (suite.marked("", 1), 1, "Cannot connect to the batch server."),
        (suite.marked("", 0), 0, "Cannot connect to the batch server."),
        (suite.marked("a word of the site"), 0, ""),
        ("", -9, ""),
    ):
        with pytest.raises(SchedulerUnavailable):
            asked(text, *IDS, code=code, err=err)


def test_how_those_ended_is_asked_where_some_did() -> None:
    """Six seconds are all that there is: it is one command."""
    command = DIALECT.query_command(["7.srv", "7.srv", "-h", "$(id)", "8"])
    assert command.argv[3:] == ("sh", "7.srv")
    assert command.argv[2].count("qstat -J -f") == 1
    assert DIALECT.query_command(["no id"]).argv == DIALECT.list_command().argv


def test_control_answers_each_job() -> None:
    out = b"Request 1.s was deleted.\n"
    err = b"Batch Request: 2.s does not exist on s.\nRequest 3.s: Invalid request state.\n"
    err += b"Request 4.s: EACCESSDEN (Access denied)\n5.s: ?\n"
    ids = ["1.s", "2.s", "3.s", "4.s", "5.s", "11.s"]
    answers = DIALECT.parse_control(Action.CANCEL, Result(argv=("qdel",), returncode=1, stdout=out, stderr=err), ids)
    kinds = {one: type(error) for one, error in answers.items()}
    assert kinds == {"1.s": type(None), "2.s": WrongState, "3.s": WrongState, "4.s": NotPermitted, "5.s": ControlError}
    silent = DIALECT.parse_control(Action.HOLD, Result(argv=("qhold",), returncode=0, stdout=b""), ["1.s"])
    assert silent == {"1.s": None}
    gone = DIALECT.parse_control(Action.HOLD, Result(argv=("qhold",), returncode=0, stdout=err), ["2.s"])
    assert isinstance(gone["2.s"], WrongState)
    for code, text in ((-9, b""), (1, b"Cannot connect to the batch server.")):
        with pytest.raises(SchedulerUnavailable):
            DIALECT.parse_control(Action.HOLD, Result(argv=("qhold",), returncode=code, stderr=text), ["1.s"])


def test_submissions_that_are_refused_or_not_known() -> None:
    submit = partial(suite.submitted, DIALECT)
    assert submit(0, "a word of the site\nRequest 15.srv submitted to queue: gen_S.\n").native_ids == ("15.srv",)
    with pytest.raises(SubmitError, match="EACCESSDEN") as caught:
        submit(1, "", "gpu: EACCESSDEN (Access denied)\nRequest not queued.\n")
    assert not caught.value.retryable
    with pytest.raises(SubmitError) as caught:
        submit(1, "Submit number limit exceeded.\nRequest not queued.\n")
    assert caught.value.retryable
    for code, out, err in ((-9, "", ""), (1, "", "Cannot connect to the batch server."), (0, "", "")):
        with pytest.raises(SchedulerUnavailable):
            submit(code, out, err)


def test_the_version() -> None:
    def version(text: str) -> str:
        return DIALECT.parse_version(Result(argv=("qstat", "-V"), returncode=0, stdout=text.encode()))

    assert version("NEC Network Queuing System V (NQSV) R1.12\n") == "nqsv 1.12"
    with pytest.raises(SchedulerUnavailable):
        version("pbs_version = 23.06.06")


# Whatever is printed ------------------------------------------------------------------------------------------------

WHOLE = suite.marked(TEXT)
LINES = WHOLE.encode().splitlines(keepends=True)
ROWS = {row.native_id: row for row in asked(WHOLE, *IDS).rows}
results = suite.anything(
    "/bin/sh",
    ids=[*IDS, "99.srv"],
    codes=[0, 0, 0, 1, 255, -9],
    out=noise(LINES, b"Request ID:=.srv0123456789 ()ABCDEF\n\x00\xff"),
    err=noise([b"Batch Request: 1.srv does not exist on srv.\n", b"Cannot connect\n"], b"Request 1.srv"),
)


queue = suite.reader(DIALECT, "/bin/sh", *IDS)
test_no_answer_breaks_a_parser = suite.never_breaks(suite.parsers(DIALECT, ["1.srv", "2.srv"], described()), results)
# What only says how a request ended may be lost with its line.
test_damage_never_makes_a_job_of_another = suite.damage_never_makes_a_job_of_another(queue, LINES, ROWS)
test_a_truncated_answer_is_none = suite.truncated_is_none(queue, WHOLE.encode(), len(WHOLE))


# Commands -----------------------------------------------------------------------------------------------------------


def qsub(**fields: Any) -> tuple[str, ...]:
    command = suite.command_for(DIALECT, described(**fields))
    assert command.argv[-1] == f"{FOLDER}/run.sh"
    words = command.argv[1:-1]
    assert len(words[words.index("-N") + 1]) <= 63
    return words


def always(name: str = "true") -> tuple[str, ...]:
    return ("-N", f"{name}.{TOKEN}", "-j", "o", "-o", "/dev/null", "-r", "n")


test_submissions = suite.tells(
    qsub,
    ({}, always()),
    ({"resources": Resources(cores=4)}, (*always(), "-l", "cpunum_job=4")),
    (
        {"resources": Resources(nodes=2, processes_per_node=4, cores=2, gpus=1, memory_bytes=4097)},
        (*always(), "-b", "2", "-l", "cpunum_job=8", "-l", "gpunum_job=4", "-l", "memsz_job=3kb"),
    ),
    ({"resources": Resources(exclusive=True)}, (*always(), "--exclusive")),
    ({"limits": Limits(walltime_s=90061.5)}, (*always(), "-l", "elapstim_req=25:01:02")),
    (
        {"queue": "gen_S", "account": "SFC", "reservation": "17"},
        (*always(), "-q", "gen_S", "-A", "SFC", "-y", "17"),
    ),
    ({"hold": True}, (*always(), "-h")),
    ({"email": ("a@b.c",), "email_on": frozenset({"end"})}, ("-m", "e", "-M", "a@b.c", *always())),
    ({"native": ("--after", "7.srv", "-T", "openmpi")}, ("--after", "7.srv", "-T", "openmpi", *always())),
    ({"attributes": {"nqsv.T": "intmpi", "nqsv.group": "g1", "pbs.l": "y"}}, ("-T", "intmpi", "--group=g1", *always())),
    ({"name": "a b\nc; rm -rf / and more than thirty letters"}, always("a_b_c__rm_-rf___and_more_than_")),
)


def test_a_job_that_may_run_twice() -> None:
    words = qsub(rerunnable=True)
    assert words[words.index("-r") + 1] == "y"


def test_the_script_runs_on_the_first_host_alone() -> None:
    (line,) = DIALECT.directives(described())
    assert "exit 0" in line
    assert "'" not in line.replace("''", "")


test_what_is_refused = suite.refuses(
    "nqsv",
    qsub,
    ("queue", {"queue": "a b"}),
    ("account", {"account": ""}),
    ("native", {"native": ("-t", "0-3")}),
    ("native", {"native": ("-No", "x")}),
    ("native", {"native": ("--after",)}),
    ("native", {"native": ("./run",)}),
    ("native", {"native": ("--exclusive", "./run")}),
    ("native", {"native": ("--", "./run")}),
    ("nqsv.o", {"attributes": {"nqsv.o": "/x"}}),
    ("nqsv.group", {"attributes": {"nqsv.group": ""}}),
    ("nqsv.exclusive", {"attributes": {"nqsv.exclusive": "yes"}}),
    ("nqsv.a b", {"attributes": {"nqsv.a b": "x"}}),
)


test_what_it_does_not_have = suite.lacks(
    "nqsv",
    qsub,
    ({"priority": 5}, "-p"),
    ({"begin_at": 2e9}, "release it"),
    ({"category": "x"}, "it honours"),
)


def test_one_command_acts_on_many() -> None:
    suite.check_acts_on_many(DIALECT, [200, 200, 50], ".srv")
