"""The dialect of PBS: what it makes of the outputs of a real server, whatever else may be printed, and its commands."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.errors import ControlError, NotPermitted, SchedulerUnavailable, UnknownJob, UnsupportedAttribute, WrongState
from jobyard.job import By, Cause, JobDescription, JobState, Limits, Resources
from jobyard.schedulers.base import Action, Answer, Dialect, Kind, Result, Row
from jobyard.schedulers.command import CommandScheduler
from jobyard.schedulers.pbs import PbsDialect
from jobyard.transports.local import LocalTransport
from schedulers import dialect_suite as suite
from schedulers.damage import damaged, noise
from schedulers.dialect_suite import FOLDER, described
from schedulers.recordings import golden, made, names, recording

DIALECT: Dialect = PbsDialect()
KINDS = {"qhold": Action.HOLD, "qrls": Action.RELEASE, "qdel": Action.CANCEL, "qsig": Action.SUSPEND}


def as_dsv(result: Result) -> Result:
    """A recorded ``-F json`` as ``-F dsv`` prints the same jobs (the recordings multi-id-* hold both of one moment)."""
    data = json.loads(result.stdout.decode("utf-8", "surrogateescape"), strict=False)
    lines = []
    for native_id, job in data.get("Jobs", {}).items():
        fields = {}
        for name, value in job.items():
            if name == "Variable_List":
                fields[name] = ",".join(f"{key}={item}" for key, item in value.items())
            elif isinstance(value, dict):
                fields |= {f"{name}.{key}": item for key, item in value.items()}
            else:
                fields[name] = value
        words = [f"Job Id: {native_id}", *(f"{name}={value}".replace("|", "\\|") for name, value in fields.items())]
        lines.append("|".join(words) + "\n")
    argv = tuple("dsv" if word == "json" else word for word in result.argv)
    text = "".join(lines).encode("utf-8", "surrogateescape")
    return Result(argv=argv, returncode=result.returncode, stdout=text, stderr=result.stderr)


def parsed(name: str) -> Any:
    """What the dialect makes of a recording."""
    result = recording("pbs", name)
    program = result.argv[0]
    if "--version" in result.argv:
        return made(lambda: DIALECT.parse_version(result))
    if program == "qsub":
        array = "-J" in result.argv
        submission = described(Kind.ARRAY, (4, 5, 6, 7)) if array else described()
        return made(lambda: DIALECT.parse_submit(result, submission))
    if program in KINDS:
        action = Action.RESUME if "resume" in result.argv else KINDS[program]
        ids = [word for word in result.argv[1:] if re.match(r"[0-9]", word)]
        return made(lambda: DIALECT.parse_control(action, result, [one if "." in one else f"{one}.pbsbed" for one in ids]))
    if "-B" in result.argv:
        return made(lambda: DIALECT.parse_limits(result))
    if "json" in result.argv:
        result = as_dsv(result)
    return made(lambda: (DIALECT.parse_account if "-x" in result.argv else DIALECT.parse_query)(result))


@pytest.mark.parametrize("name", names("pbs"))
def test_recorded_outputs(name: str) -> None:
    assert parsed(name) == golden("pbs")[name]


def test_every_recording_has_its_golden_value_and_its_line() -> None:
    assert sorted(golden("pbs")) == names("pbs")
    index = (recording.__globals__["DATA"] / "pbs" / "INDEX.md").read_text()
    assert sorted(re.findall(r"^- `([^`]+)`", index, re.MULTILINE)) == names("pbs")
    assert len(names("pbs")) >= 150


def rows(name: str) -> dict[str, Row]:
    result = recording("pbs", name)
    answer = DIALECT.parse_account(as_dsv(result) if "json" in result.argv else result)
    return {row.native_id: row for row in answer.rows}


def only(name: str) -> Row:
    (row,) = rows(name).values()
    return row


# What is not obvious, said one by one -------------------------------------------------------------------------------


def test_json_shows_one_of_several_and_is_not_asked_for() -> None:
    assert len(rows("multi-id-json-only-first.json")) == 1
    answer = DIALECT.parse_account(as_dsv(recording("pbs", "multi-id-json-only-first.json")))
    assert not answer.complete, "the others were asked for, and nothing was said of them: not a word about them follows"
    assert list(rows("multi-id-dsv.txt")) == [f"{n}.pbsbed" for n in range(48, 53)]
    assert DIALECT.parse_account(recording("pbs", "multi-id-dsv.txt")).complete, "asked for without the server's name"
    assert rows("multi-id-json-only-first.json")["48.pbsbed"] == rows("multi-id-dsv.txt")["48.pbsbed"]


@pytest.mark.parametrize(
    ("name", "state", "cause", "code", "signal", "aborted"),
    [
        ("finished-success.json", JobState.DONE, Cause.EXITED, 0, None, False),
        ("finished-exit3.json", JobState.FAILED, Cause.EXITED, 3, None, False),
        ("finished-selfkill.json", JobState.FAILED, Cause.EXITED, 137, None, False),
        ("finished-qsig-kill.json", JobState.FAILED, Cause.EXITED, None, "SIGKILL", False),
        ("finished-qdel-running.json", JobState.CANCELLED, Cause.CANCELLED, None, "SIGTERM", False),
        ("finished-qdel-queued.json", JobState.CANCELLED, Cause.CANCELLED, None, None, True),
        ("finished-walltime.json", JobState.FAILED, Cause.WALLTIME, None, None, False),
        ("finished-nohome.json", JobState.FAILED, Cause.NOT_STARTED, None, None, True),
        ("depend-unknown-after.json", JobState.FAILED, Cause.DEPENDENCY, None, None, True),
        ("race-qdel-exit0.json", JobState.DONE, Cause.EXITED, 0, None, False),
    ],
)
def test_endings(name: str, state: JobState, cause: Cause, code: int | None, signal: str | None, aborted: bool) -> None:
    row = only(name)
    ending = row.ending
    assert row.ended
    assert ending is not None
    assert (ending.state, ending.cause, ending.exit_code, ending.signal, ending.aborted) == (state, cause, code, signal, aborted)


def test_finished_without_exit_status_never_ran() -> None:
    ending = rows("multi-id-dsv.txt")["49.pbsbed"].ending  # substate 92, "finished"
    assert ending is not None
    assert (ending.state, ending.cause, ending.aborted) == (JobState.FAILED, Cause.DEPENDENCY, True)


def test_a_record_that_ends_before_its_exit_status_is_none() -> None:
    whole = recording("pbs", "multi-id-dsv.txt").stdout.splitlines()[0]
    cut = whole[: whole.index(b"|Exit_status")] + b"\n"
    answer = DIALECT.parse_account(Result(argv=("qstat", "48.pbsbed"), returncode=0, stdout=cut))
    assert answer.rows == ()
    assert not answer.complete
    never_ran = recording("pbs", "multi-id-dsv.txt").stdout.splitlines()[1]
    cut = never_ran[: never_ran.index(b"|history_timestamp")] + b"\n"
    (row,) = DIALECT.parse_account(Result(argv=("qstat", "49.pbsbed"), returncode=0, stdout=cut)).rows
    assert row.ended
    assert row.ending is None, "that it never ran is told by a whole record alone"


def test_tasks_that_ended_while_their_array_lives() -> None:
    tasks = rows("array-deleted-t.json")
    assert "47[].pbsbed" not in tasks
    seven, seventeen = tasks["47[7].pbsbed"], tasks["47[17].pbsbed"]
    assert seven.ending is not None
    assert seven.ending.state is JobState.CANCELLED
    assert seventeen.ended
    assert seventeen.ending is None, "its Exit_status 1 is not its own"
    assert rows("nohistory-array-t.json")["634[2].pbsbed"].ending is None, "really 4, shown as 1"


def test_a_job_that_runs_again_is_counted() -> None:
    assert only("rerun-running.json").attempt == 2
    assert only("finished-rerun-after-node-loss.json").attempt == 2
    waiting = as_dsv(recording("pbs", "rerun-running.json"))
    text = waiting.stdout.replace(b"job_state=R", b"job_state=Q").replace(b"substate=42", b"substate=10")
    (row,) = DIALECT.parse_query(Result(argv=waiting.argv, returncode=0, stdout=text)).rows
    assert (row.state, row.attempt) == (JobState.QUEUED, 3), "the run that it waits for"


def test_holds() -> None:
    held = {row.native_id: (row.state, row.by) for row in rows("qstat-f-all.json").values()}
    assert held["13.pbsbed"] == (JobState.HELD, By.USER)
    assert held["14.pbsbed"] == (JobState.HELD, By.SYSTEM)
    assert only("suspended.json").state is JobState.SUSPENDED
    parent = b"Job Id: 7[].s|job_state=H|Hold_Types=u\n"
    task = b"Job Id: 7[0].s|job_state=Q|Hold_Types=n\n"
    (row,) = DIALECT.parse_query(Result(argv=("qstat", "7[].s"), returncode=0, stdout=parent + task)).rows
    assert (row.state, row.by) == (JobState.HELD, By.USER), "a task is held where its array is"


def test_history_that_is_off_is_told_of_as_nothing_known() -> None:
    off = as_dsv(recording("pbs", "nohistory-qstat-x-finished.txt"))
    assert DIALECT.parse_account(off) == Answer(complete=True)
    gone = as_dsv(recording("pbs", "nohistory-qstat-finished.txt"))
    assert DIALECT.parse_query(gone) == Answer(complete=True)
    assert DIALECT.parse_find([off], [described()]) == {}


def test_an_id_of_another_server_is_unknown() -> None:
    assert DIALECT.parse_query(recording("pbs", "err-other-server.txt")) == Answer(complete=True)


def test_a_finished_job_is_over_in_the_queues_answer() -> None:
    answer = DIALECT.parse_query(as_dsv(recording("pbs", "err-qstat-finished-noX.txt")))
    assert answer == Answer(rows=(Row(native_id="0.pbsbed", native_state="F", ended=True),), complete=True)


@pytest.mark.parametrize("name", [name for name in names("pbs") if name.startswith("err-down-")])
def test_a_server_that_is_away_is_no_answer(name: str) -> None:
    assert parsed(name)["error"] == "SchedulerUnavailable"


def test_control_answers_each_job() -> None:
    many = DIALECT.parse_control(
        Action.CANCEL, recording("pbs", "err-qdel-many.txt"), ["99999.pbsbed", "68.pbsbed", "99998.pbsbed"]
    )
    assert isinstance(many["99999.pbsbed"], UnknownJob)
    assert isinstance(many["68.pbsbed"], WrongState)
    denied = DIALECT.parse_control(Action.CANCEL, recording("pbs", "err-qdel-other-user.txt"), ["623.pbsbed"])
    assert isinstance(denied["623.pbsbed"], NotPermitted)
    held = DIALECT.parse_control(Action.HOLD, recording("pbs", "err-qhold-finished.txt"), ["0.pbsbed"])
    assert isinstance(held["0.pbsbed"], WrongState), "the line names no job, but there is only one"
    two = recording("pbs", "err-qhold-finished.txt")
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_control(Action.HOLD, two, ["0.pbsbed", "1.pbsbed"])


def test_refusals_that_may_be_accepted_later() -> None:
    later = {name for name in names("pbs") if (found := golden("pbs")[name]) and isinstance(found, dict) and found.get("retryable")}
    assert {"err-queue-limit.txt", "err-queue-disabled.txt"} <= later
    assert not later & {"err-bad-walltime.txt", "err-unknown-queue.txt", "err-hook-reject.txt"}


# Whatever is printed ------------------------------------------------------------------------------------------------

GOOD = recording("pbs", "multi-id-dsv.txt")
LINES = GOOD.stdout.splitlines(keepends=True)
ROWS = {row.native_id: row for row in DIALECT.parse_account(GOOD).rows}
SAID = [recording("pbs", name).stderr for name in names("pbs") if name.endswith(".txt")]
ALPHABET = b"|=\\[].0123456789QRFXE JobId:_\n\t\r\x00\x1b\xff\xc3\xa9stae-"
results = suite.anything(
    "qstat",
    "-f",
    ids=[*ROWS, "7[].s", "99"],
    codes=[0, 0, 0, 35, 153, 1, 162, 255, -9],
    out=noise([*LINES, *SAID], ALPHABET),
    err=noise([*LINES, *SAID], ALPHABET),
)
test_no_answer_breaks_a_parser = suite.never_breaks(suite.parsers(DIALECT, ["1.s", "2[3].s"], described()), results)


@given(text=damaged(LINES))
@suite.examples(100)
def test_damage_costs_only_what_it_touches(text: bytes) -> None:
    """Lines cut, mixed, doubled, foreign and empty: a row is as it was, or it is not there; no other job's is changed."""
    answer = DIALECT.parse_account(Result(argv=GOOD.argv, returncode=0, stdout=text))
    for row in answer.rows:
        good = ROWS[row.native_id]
        assert row == good or row == msgspec.structs.replace(good, state=None, ending=None), "as it was, or over and no more"


@given(st.integers(0, len(GOOD.stdout)))
@suite.examples(100)
def test_truncated_answers(end: int) -> None:
    answer = DIALECT.parse_account(Result(argv=("qstat", *ROWS), returncode=0, stdout=GOOD.stdout[:end]))
    whole = GOOD.stdout[:end].count(b"\n")
    assert whole - 1 <= len(answer.rows) <= whole, "the start of a line may be more of the one before it"
    assert answer.complete == (len(answer.rows) == len(ROWS))
    assert all(row == ROWS[row.native_id] for row in answer.rows)


# Commands -----------------------------------------------------------------------------------------------------------


def qsub(**fields: Any) -> tuple[str, ...]:
    """The token is the last part of the folder in which qsub is run."""
    command = suite.command_for(DIALECT, described(**fields))
    assert command.environment == {"TZ": "UTC0"}
    assert command.argv[-1] == f"{FOLDER}/run.sh"
    return command.argv[1:-1]


ALWAYS = ("-N", "true", "-j", "oe", "-o", "/dev/null", "-r", "n")


test_submissions = suite.tells(
    qsub,
    ({}, ("-m", "n", *ALWAYS)),
    ({"resources": Resources(cores=4)}, ("-m", "n", *ALWAYS, "-l", "select=1:ncpus=4:mpiprocs=1")),
    (
        {"resources": Resources(nodes=2, processes_per_node=4, cores=2, gpus=1, memory_bytes=(8 << 30) + 1)},
        ("-m", "n", *ALWAYS, "-l", "select=2:ncpus=8:mpiprocs=4:ngpus=4:mem=4294967297b", "-l", "place=scatter"),
    ),
    ({"resources": Resources(processes=6)}, ("-m", "n", *ALWAYS, "-l", "select=6:ncpus=1:mpiprocs=1")),
    (
        {"resources": Resources(exclusive=True)},
        ("-m", "n", *ALWAYS, "-l", "select=1:ncpus=1:mpiprocs=1", "-l", "place=exclhost"),
    ),
    ({"limits": Limits(walltime_s=60.5)}, ("-m", "n", *ALWAYS, "-l", "walltime=61")),
    ({"begin_at": 1795146660.2}, ("-m", "n", *ALWAYS, "-a", "202611200351.01")),
    (
        {"queue": "short", "account": "my project", "priority": -3},
        ("-m", "n", *ALWAYS, "-q", "short", "-A", "my project", "-p", "-3"),
    ),
    ({"reservation": "R12.srv"}, ("-m", "n", *ALWAYS, "-q", "R12.srv")),
    ({"hold": True, "rerunnable": True}, ("-m", "n", *ALWAYS[:-1], "y", "-h")),
    ({"email": ("a@b.org", "me"), "email_on": ("begin", "fail")}, ("-m", "ba", "-M", "a@b.org,me", *ALWAYS)),
    ({"native": ("-l", "software=x", "-mn")}, ("-l", "software=x", "-mn", *ALWAYS)),
    ({"attributes": {"pbs.P": "proj1", "slurm.qos": "x"}}, ("-m", "n", "-P", "proj1", *ALWAYS)),
    (
        {"after": (("48.pbsbed", "success"), ("15[].pbsbed", "failure"), ("50.pbsbed", "any"))},
        ("-m", "n", *ALWAYS, "-W", "depend=afterok:48.pbsbed,afternotok:15[].pbsbed,afterany:50.pbsbed"),
    ),
    ({"kind": Kind.ARRAY, "indices": (3, 4, 9), "max_running": 2}, ("-m", "n", *ALWAYS, "-J", "0-2%2")),
    ({"kind": Kind.ARRAY, "indices": (7,)}, ("-m", "n", *ALWAYS, "-v", "PBS_ARRAY_INDEX=0")),
    ({"name": "a b/ü$"}, ("-m", "n", "-N", "a_b____"[:6], *ALWAYS[2:])),
    ({"name": "-x"}, ("-m", "n", "-N", "_-x", *ALWAYS[2:])),
    ({"name": "n" * 300}, ("-m", "n", "-N", "n" * 230, *ALWAYS[2:])),
)


test_what_is_refused = suite.refuses(
    "pbs",
    qsub,
    ("queue", {"queue": "a b"}),
    ("queue", {"queue": "-q"}),
    ("account", {"account": "a|b"}),
    ("account", {"account": "a\nb"}),
    ("priority", {"priority": 1024}),
    ("email", {"email": ("a,b@c",)}),
    ("email_on", {"email_on": ("begin",)}),
    ("reservation", {"queue": "q", "reservation": "r"}),
    ("begin_at", {"begin_at": 1e12}),
    ("native", {"native": ("-J", "1-3")}),
    ("native", {"native": ("-VJ1-3",)}),
    ("native", {"native": ("-W", "block=true")}),
    ("native", {"native": ("-Wumask=022,depend=afterok:1",)}),
    ("native", {"native": ("script.sh",)}),
    ("native", {"native": ("--", "/bin/true")}),
    ("native", {"native": ("-l",)}),
    ("pbs.walltime", {"attributes": {"pbs.walltime": "1"}}),
    ("pbs.o", {"attributes": {"pbs.o": "/x"}}),
    ("pbs.V", {"attributes": {"pbs.V": "/x"}}),
)


@pytest.mark.parametrize("limits", [Limits(run_time_s=5), Limits(soft_walltime_s=5)])
def test_limits_that_it_cannot_honour_are_refused_by_name(limits: Limits) -> None:
    scheduler = CommandScheduler(DIALECT, LocalTransport())
    with pytest.raises(UnsupportedAttribute, match="pbs cannot honour"):
        scheduler.check(JobDescription(argv=("x",), limits=limits))


def test_questions_name_an_array_once_and_never_what_is_no_id() -> None:
    asked = DIALECT.query_command(["15[0].s", "15[1].s", "7.s", "-h", "$(id)", "a\nb"]).argv
    assert asked == ("qstat", "-t", "-f", "-F", "dsv", "15[].s", "7.s")
    assert DIALECT.query_command(["7.s"]).argv == ("qstat", "-f", "-F", "dsv", "7.s")
    account = DIALECT.account_command(["15[0].s"])
    assert account is not None
    assert account.argv == ("qstat", "-x", "-t", "-f", "-F", "dsv", "15[].s")
    for ids in (["no id"], [f"{n}.s" for n in range(2001)]):
        assert DIALECT.query_command(ids).argv[:2] == ("/bin/sh", "-c"), "all of the user's"


def test_one_command_acts_on_many() -> None:
    suite.check_acts_on_many(DIALECT, [500, 200], ".s")
    (command,) = DIALECT.control_commands(Action.SUSPEND, ["7.s"], signal=None)
    assert command[0].argv == ("qsig", "-s", "STOP", "7.s")


def test_an_array_is_held_only_as_a_whole() -> None:
    ((command, concerned),) = DIALECT.control_commands(Action.HOLD, ["7[0].s", "7[2].s", "7[3].s"], signal=None)
    assert concerned == ("7[0].s", "7[2].s", "7[3].s")
    assert command.argv[-3:] == ("7[].s", "0,2-3", "qhold")
    answers = DIALECT.parse_control(Action.HOLD, Result(argv=command.argv, returncode=77), concerned)
    assert all(isinstance(error, ControlError) and "pbs" in str(error) for error in answers.values())


def test_the_scripts_are_good_shell() -> None:
    for command in (DIALECT.list_command(), DIALECT.control_commands(Action.HOLD, ["7[0].s"], signal=None)[0][0]):
        assert subprocess.run(["/bin/sh", "-n", "-c", command.argv[2]], check=False).returncode == 0
