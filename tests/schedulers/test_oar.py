"""OAR's dialect: what it is told, by jobs of every kind; what is made of recorded answers; when it is asked, and how often."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobyard.contact import Contact
from jobyard.errors import (
    ControlError,
    InvalidContact,
    InvalidJob,
    JobyardError,
    SchedulerUnavailable,
    SubmitError,
    UnknownJob,
    UnsupportedAttribute,
    WrongState,
)
from jobyard.job import By, Cause, JobDescription, JobState, Limits, Resources
from jobyard.schedulers.base import Action, Command, Kind, Result, Submission
from jobyard.schedulers.checks import check_capabilities
from jobyard.schedulers.oar import Names, OarDialect, OarScheduler, open_oar
from jobyard.schedulers.oar.rows import records, rows_of
from jobyard.transports.local import LocalTransport
from schedulers.oar_samples import ARRAY, DIALECT, SINGLE, golden, names, parsed, sample

SITE = frozenset({"resource_id", "network_address", "core", "cpu", "gpu", "memnode"})
KNOWING = OarDialect(properties=SITE)


def job(**fields: Any) -> JobDescription:
    resources = {name: fields.pop(name) for name in Resources.__struct_fields__ if name in fields}
    limits = {name: fields.pop(name) for name in Limits.__struct_fields__ if name in fields}
    return JobDescription(argv=("/bin/true",), resources=Resources(**resources), limits=Limits(**limits), **fields)


def submission(description: JobDescription, **fields: Any) -> Submission:
    return Submission(token="c3" * 16, folder="/work/c3/" + "c3" * 16, description=description, **fields)


def words(description: JobDescription, dialect: OarDialect = KNOWING, **fields: Any) -> list[str]:
    """What oarsub is told, the command's name and the script left out."""
    one = submission(description, **fields)
    dialect.check(description, kind=one.kind, tasks=len(one.indices), max_running=None)
    return list(dialect.submit_command(one, "/work/run.sh").argv)[1:-1]


def resources(description: JobDescription, dialect: OarDialect = KNOWING) -> str | None:
    """The value of -l."""
    told = words(description, dialect)
    assert told.count("-l") <= 1, "several are alternatives to OAR"
    return told[told.index("-l") + 1] if "-l" in told else None


# Recorded answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_a_recorded_answer(name: str) -> None:
    assert parsed(name) == golden()[name]


def test_every_recording_is_kept() -> None:
    assert set(golden()) == set(names())


@pytest.mark.parametrize(
    ("name", "state", "cause", "code", "signal"),
    [
        ("success", JobState.DONE, Cause.EXITED, 0, None),
        ("exit3", JobState.FAILED, Cause.EXITED, 3, None),
        ("signal9", JobState.FAILED, Cause.EXITED, None, "SIGKILL"),
        ("walltime", JobState.FAILED, Cause.WALLTIME, None, "SIGKILL"),
        ("cancelme", JobState.CANCELLED, Cause.CANCELLED, None, "SIGKILL"),
        ("held", JobState.CANCELLED, Cause.CANCELLED, None, None),
        ("nofolder", JobState.FAILED, Cause.NOT_STARTED, None, None),
        ("deadline", JobState.FAILED, Cause.REJECTED, None, None),
    ],
)
def test_recorded_endings(name: str, state: JobState, cause: Cause, code: int | None, signal: str | None) -> None:
    (row,) = DIALECT.parse_query(sample(f"done-{name}-json")).rows
    assert row.ended
    assert row.ending is not None
    assert (row.ending.state, row.ending.cause, row.ending.exit_code, row.ending.signal) == (state, cause, code, signal)
    assert row.ending.aborted == (name in ("held", "nofolder", "deadline"))


@pytest.mark.parametrize("name", ["success", "exit3", "signal9", "core", "walltime", "run", "array"])
def test_the_text_says_the_same_exit_code(name: str) -> None:
    """``exit_code = 768 (3,0,0)``: code, signal, core."""
    line = next((one for one in sample(f"done-{name}-full").text.splitlines() if "exit_code = " in one), None)
    ending = DIALECT.parse_query(sample(f"done-{name}-json")).rows[0].ending
    if line is None:
        assert ending is None or ending.exit_code is None
        return
    code, signal, core = (int(part) for part in line.rpartition("(")[2].rstrip(")").split(","))
    assert ending is not None
    if signal:
        assert ending.exit_code is None
        assert ending.signal is not None
        assert ending.core_dumped == bool(core)
    else:
        assert ending.exit_code == code


def test_the_short_view_tells_no_endings() -> None:
    """Without -f there is no exit code: such a row would be nobody's."""
    answer_of_short_view = records(sample("stat-json").text)
    assert answer_of_short_view[0] == []
    assert not answer_of_short_view[2]


def test_jobs_in_the_queue() -> None:
    rows = {row.name: row for row in DIALECT.parse_query(sample("stat-full-json")).rows}
    assert (rows["held"].state, rows["held"].by) == (JobState.HELD, By.USER)
    assert rows["run"].state is JobState.RUNNING
    assert rows["run"].began_at is not None
    assert rows["after"].state is JobState.QUEUED
    assert (rows["postpone"].state, rows["postpone"].by) == (JobState.HELD, By.SYSTEM)
    assert not any(row.ended for row in rows.values() if row.state in (JobState.RUNNING, JobState.HELD, JobState.QUEUED))


def test_a_job_that_is_held_and_waits_for_a_moment() -> None:
    (one,) = (one for one in records(sample("stat-full-json").text)[0] if one["name"] == "postpone")
    (row,) = rows_of([{**one, "state": "Hold"}])
    assert (row.state, row.by) == (JobState.HELD, By.BOTH)
    (row,) = rows_of([{**one, "state": "Running"}])
    assert (row.state, row.by) == (JobState.RUNNING, None)


def test_a_job_that_was_sent_again_is_one_job() -> None:
    """Recorded: a besteffort job that made room. Its second run has an id of its own, which is nobody's."""
    found, unparsed, whole = records(sample("rerun").text)
    assert whole
    assert not unparsed
    assert len(found) == 2
    (row,) = rows_of(found)
    first, second = sorted(one["Job_Id"] for one in found)
    assert row.native_id == str(first)
    assert row.attempt == 2
    assert not row.ended
    alone = [one for one in found if one["Job_Id"] == first]
    (row,) = rows_of(alone)
    assert not row.ended, "another run comes, whether it is listed yet or not"
    assert row.state is None
    (row,) = rows_of([one for one in found if one["Job_Id"] == second])
    assert (row.native_id, row.attempt) == (str(first), 2)


def test_an_end_that_oar_has_not_looked_at_is_none_yet() -> None:
    """A prologue that failed: OAR sends the job again as soon as it looks at the event."""
    (one,), _, _ = records(sample("done-walltime-json").text)
    event = {"type": "PROLOGUE_ERROR", "description": "[bipbip 1] error of oarexec prologue", "to_check": "YES"}
    (row,) = rows_of([{**one, "events": [event]}])
    assert not row.ended
    (row,) = rows_of([{**one, "events": [{**event, "to_check": "NO"}]}])
    assert row.ended
    assert row.ending is not None
    assert (row.ending.cause, row.ending.aborted) == (Cause.NODE, True)


# Answers that are none ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stat-sql-wrong", "stat-sql-unknown", "nodb-stat"])
def test_exit_code_0_and_nothing_printed_is_no_answer(name: str) -> None:
    """A question that the database did not answer looks like one about jobs that there are not."""
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_query(sample(name))
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_find([sample(name)], [SINGLE])


def test_each_question_is_about_the_newest_job_too() -> None:
    """There is one, so that an answer is never empty."""
    for command in (DIALECT.query_command(["5"]), *DIALECT.find_commands([SINGLE])):
        assert command.argv[4].endswith(" OR job_id = (SELECT MAX(job_id) FROM jobs)")


def test_no_jobs_of_ones_own_is_an_answer() -> None:
    assert DIALECT.parse_list(sample("stat-empty-json")) == ()


def test_a_warning_makes_an_answer_less_than_whole() -> None:
    result = msgspec.structs.replace(sample("done-exit3-json"), stderr=b"Use of uninitialized value at Stat.pm line 3.\n")
    answer = DIALECT.parse_query(result)
    assert len(answer.rows) == 1
    assert not answer.complete


def test_a_database_that_is_away() -> None:
    """oarstat says so; the other commands go on trying, for longer than they are given."""
    away = Result(argv=("oarsub",), returncode=255, stderr=sample("nodb-stat").stderr)
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_submit(away, SINGLE)
    for action in DIALECT.capabilities.actions:
        with pytest.raises(SchedulerUnavailable):
            DIALECT.parse_control(action, away, ["5"])
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_site(away)


def test_a_job_that_the_server_was_not_told_of_is_there() -> None:
    """oarsub says that it is killed; it is in the database, and runs when the server is back."""
    result = sample("away-submit")
    assert result.returncode != 0
    assert len(DIALECT.parse_submit(result, SINGLE).native_ids) == 1
    assert parsed("away-hold") == {sample("away-hold").argv[-1]: None}
    assert parsed("away-del") == {sample("away-del").argv[-1]: None}


# Submission -----------------------------------------------------------------------------------------------------------------


def test_ids_of_an_array() -> None:
    accepted = DIALECT.parse_submit(sample("submit-array"), ARRAY)
    first = int(accepted.native_ids[0])
    assert accepted.native_ids == (str(first), str(first + 1), str(first + 2))
    assert accepted.array_id == f"{first}[]"


@pytest.mark.parametrize("ids", [(5, 6), (5, 7, 8), (5, 6, 6), (7, 6, 5), ()])
def test_ids_that_cannot_be_those_of_an_array(ids: tuple[int, ...]) -> None:
    text = "".join(f"OAR_JOB_ID={one}\n" for one in ids)
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_submit(Result(argv=("oarsub",), returncode=0, stdout=text.encode()), ARRAY)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("submit-toobig", "not enough resources"),
        ("submit-badres", "Bad resource request"),
        ("submit-badqueue", "queue nosuch does not exist"),
        ("submit-badtype", "unknown job type"),
        ("submit-adminqueue", "Only member of the group admin"),
        ("submit-badproperty", "Bad resource request"),
        ("submit-as-root", "root and oar users are not allowed"),
        ("submit-badopt", "Unknown option: no-such-option"),
    ],
)
def test_a_refusal_says_why(name: str, says: str) -> None:
    with pytest.raises(SubmitError, match=says):
        DIALECT.parse_submit(sample(name), SINGLE)


def test_a_plain_job_gets_what_the_site_gives() -> None:
    told = words(job())
    assert told == ["-n", "true", "-d", "/work/c3/" + "c3" * 16, "-O", "/dev/null", "-E", "/dev/null"]


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ({"walltime_s": 3661.2}, "walltime=1:1:2"),
        ({"cores": 1}, "/nodes=1/core=1"),
        ({"cores": 4}, "/nodes=1/core=4"),
        ({"processes": 3, "cores": 2}, "/nodes=1/core=6"),
        ({"nodes": 2}, "/nodes=2/core=1"),
        ({"nodes": 2, "processes_per_node": 3, "cores": 2, "walltime_s": 60}, "/nodes=2/core=6,walltime=0:1:0"),
        ({"processes": 4, "launcher": "mpirun"}, "/core=4"),
        ({"gpus": 2}, "/nodes=1/gpu=2"),
        ({"gpus": 2, "cores": 3}, "/nodes=1/gpu=2/core=2"),
        ({"nodes": 2, "gpus": 1}, "/nodes=2/gpu=1"),
        ({"exclusive": True}, "/nodes=1"),
        ({"exclusive": True, "nodes": 3, "walltime_s": 5}, "/nodes=3,walltime=0:0:5"),
    ],
)
def test_resources(fields: dict[str, Any], request_: str) -> None:
    assert resources(job(**fields)) == request_


def test_names_of_resources() -> None:
    assert resources(job(cores=4), OarDialect(properties=frozenset({"resource_id"}))) == "/nodes=1/resource_id=4"
    assert resources(job(cores=4), OarDialect(Names(core="thread"))) == "/nodes=1/thread=4"
    assert resources(job(gpus=1), OarDialect(Names(gpu="gpudevice"), SITE | {"gpudevice"})) == "/nodes=1/gpudevice=1"
    with pytest.raises(UnsupportedAttribute, match=r"no property 'gpu'.*core, resource_id"):
        words(job(gpus=1), OarDialect(properties=frozenset({"resource_id", "core"})))


def test_memory_is_asked_for_where_a_property_tells_it() -> None:
    with pytest.raises(UnsupportedAttribute, match="memory="):
        check_capabilities("oar", KNOWING.capabilities, job(memory_bytes=1), kind=Kind.SINGLE, tasks=1, max_running=None)
    dialect = OarDialect(Names(memory="memnode"), SITE)
    asked = job(memory_bytes=(1 << 30) + 1, native=("-p", "host = 'a' OR host = 'b'"))
    check_capabilities("oar", dialect.capabilities, asked, kind=Kind.SINGLE, tasks=1, max_running=None)
    told = words(asked, dialect)
    assert told[-2 - 8 : -8] == ["-p", "(host = 'a' OR host = 'b') AND memnode >= 1025"]
    assert "memory_bytes" not in OarDialect().capabilities.attributes, "one dialect's names are not another's"


def test_the_users_own_request_gets_the_walltime() -> None:
    told = words(job(native=("-l", "/switch=1/nodes=2", "--resource=/nodes=1,walltime=9"), walltime_s=60))
    assert told[:3] == ["-l", "/switch=1/nodes=2,walltime=0:1:0", "--resource=/nodes=1,walltime=9"]
    assert words(job(attributes={"oar.l": "/nodes=1"}, walltime_s=60))[0] == "--resource=/nodes=1,walltime=0:1:0"
    for fields in ({"cores": 2}, {"gpus": 1}, {"nodes": 2}, {"exclusive": True}):
        with pytest.raises(InvalidJob, match="not both"):
            words(job(native=("-l/nodes=1",), **fields))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"queue": "besteffort"}, ["-q", "besteffort"]),
        ({"account": "p-1.x"}, ["--project", "p-1.x"]),
        ({"hold": True}, ["--hold"]),
        ({"rerunnable": True}, ["-t", "idempotent"]),
        ({"reservation": "17"}, ["-t", "inner=17"]),
        ({"email": ("me@example.org",)}, ["--notify", "mail:me@example.org"]),
        ({"email": ("me",), "email_on": ("begin", "fail")}, ["--notify", "[RUNNING,ERROR]mail:me"]),
        ({"walltime_s": 100, "soft_walltime_s": 70}, ["--checkpoint=30"]),
        ({"native": ("-t", "besteffort", "--signal=10")}, ["-t", "besteffort", "--signal=10"]),
        ({"attributes": {"oar.type": "besteffort", "slurm.x": "y"}}, ["--type=besteffort"]),
        ({"attributes": {"oar.use-job-key": ""}}, ["--use-job-key"]),
    ],
)
def test_other_fields(fields: dict[str, Any], told: list[str]) -> None:
    found = words(job(**fields))
    assert any(found[at : at + len(told)] == told for at in range(len(found))), found


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"queue": "a b"}, "queue"),
        ({"queue": "-q"}, "queue"),
        ({"account": "it's"}, "account"),
        ({"account": "x\ny"}, "account"),
        ({"reservation": "r1"}, "container"),
        ({"begin_at": 1e11}, "begin_at"),
        ({"email": ("a@b", "c@d")}, "one address"),
        ({"email": ("a b",)}, "mail address"),
        ({"soft_walltime_s": 5}, "walltime"),
        ({"soft_walltime_s": 5, "walltime_s": 5}, "walltime"),
        ({"native": ("true",)}, "no option"),
        ({"native": ("--",)}, "no option"),
        ({"native": ("-z",)}, "-z is no option"),
        ({"native": ("--no-such",)}, "no option"),
        ({"native": ("-p",)}, "needs a value"),
        ({"native": ("--property",)}, "needs a value"),
        ({"native": ("-I",)}, "belongs to jobyard"),
        ({"native": ("-kI",)}, "belongs to jobyard"),
        ({"native": ("-n", "x")}, "use name"),
        ({"native": ("--arr", "3")}, "no option|several"),
        ({"native": ("--array=3",)}, "submit_array"),
        ({"native": ("--direct", "/x")}, "use directory"),
        ({"native": ("-t", "idempotent")}, "rerunnable"),
        ({"native": ("--type=postpone=2030-01-01",)}, "begin_at"),
        ({"native": ("--project", "a'b")}, "quotes no names"),
        ({"attributes": {"oar.nosuch": "x"}}, "oar.nosuch"),
        ({"attributes": {"oar.hold": ""}}, "use hold"),
        ({"attributes": {"oar.queue": ""}}, "takes a value"),
        ({"attributes": {"oar.use-job-key": "1"}}, "takes no value"),
        ({"exclusive": True, "gpus": 1}, "gpus or exclusive"),
        ({"nodes": 2, "processes": 2, "gpus": 1, "exclusive": True}, "gpus"),
    ],
)
def test_what_cannot_be_told(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidJob, match=says):
        words(job(**fields))


@pytest.mark.parametrize("name", ["a b", "it's", '$(id)"', "x\ny", "ä", "n" * 300, "'; system('id'); '"])
def test_names_are_kept_to_what_needs_no_quotes(name: str) -> None:
    """OAR pastes them into a Perl program, and its table takes a hundred characters."""
    told = words(job(name=name))
    shown = told[told.index("-n") + 1]
    assert shown
    assert len(shown) <= 100
    assert all(one.isascii() and (one.isalnum() or one in "_.+-") for one in shown)


@pytest.mark.parametrize("folder", ["/a b/", "/it's/", "/$x/", "/a\n/", '/"/', "/a;b/"])
def test_a_folder_that_oar_would_not_quote_is_refused(folder: str) -> None:
    one = Submission(token="c3" * 16, folder=folder + "c3" * 16, description=job())
    with pytest.raises(SubmitError, match="JOBYARD_WORK_DIR"):
        KNOWING.submit_command(one, folder + "run.sh")


def test_nothing_is_sent_for_the_site_where_nothing_depends_on_it() -> None:
    for fields in ({}, {"walltime_s": 9}, {"exclusive": True}, {"cores": 1}):
        assert not DIALECT.needs_site(job(**fields))
    for fields in ({"cores": 2}, {"gpus": 1}, {"nodes": 2}):
        assert DIALECT.needs_site(job(**fields))
    assert not OarDialect(Names(core="core")).needs_site(job(cores=8))


# Jobs that wait, told through the shell -----------------------------------------------------------------------------------------


def told_by_shell(tmp_path: Path, command: Command, ids: str = "") -> list[str]:
    """The words that oarsub gets of a command of ours, oarstat answering with these jobs; one that is asked for is kept."""
    (tmp_path / "oarsub").write_text(f'#!/bin/sh\nfor one; do printf "%s\\0" "$one"; done >{tmp_path}/told\n')
    answer = "".join(f'      "Job_Id" : {one},\n' for one in ids.split())
    (tmp_path / "oarstat").write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >{tmp_path}/asked\ncat <<E\n{answer}E\n')
    for program in ("oarsub", "oarstat"):
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TZ": "UTC0"}
    subprocess.run(command.argv, env=environment, check=True, cwd=tmp_path)
    return (tmp_path / "told").read_text().split("\0")[:-1]


def test_moments_are_written_on_the_login_host(tmp_path: Path) -> None:
    description = job(begin_at=1893456000.2, deadline_at=1893459600.9, native=("-p", "a = 'x y'"))
    command = KNOWING.submit_command(submission(description), "/work/run.sh")
    assert "TZ" in command.without, "in its own time zone, whatever the caller's"
    told = told_by_shell(tmp_path, command)
    assert told[told.index("-p") + 1] == "a = 'x y'"
    assert told[-5:] == ["-t", "postpone=2030-01-01 00:00:01", "-t", "deadline=2030-01-01 01:00:00", "/work/run.sh"]


def test_dependencies_are_on_all_runs_and_tasks(tmp_path: Path) -> None:
    after = (("23[]", "any"), ("40", "any"))
    command = KNOWING.submit_command(submission(job(), after=after), "/work/run.sh")
    told = told_by_shell(tmp_path, command, "23 24 40 71")
    assert told[-9:] == ["-a", "23", "-a", "24", "-a", "40", "-a", "71", "/work/run.sh"]
    asked = (tmp_path / "asked").read_text()
    assert "array_id IN (23)" in asked
    assert "job_id IN (40)" in asked


def test_a_job_that_oar_forgot_is_waited_for_by_nobody(tmp_path: Path) -> None:
    command = KNOWING.submit_command(submission(job(), after=(("40", "any"),)), "/work/run.sh")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        told_by_shell(tmp_path, command)
    result = Result(
        argv=command.argv, returncode=caught.value.returncode, stderr=b"jobyard: OAR does not tell the jobs to wait for"
    )
    with pytest.raises(SubmitError, match="wait for"):
        KNOWING.parse_submit(result, SINGLE)


@pytest.mark.parametrize("index", [1, 3])
def test_the_batch_script_knows_the_first_runs_id(index: int) -> None:
    """Array 23's third task is 25, whatever id its second run has."""
    lines = [*DIALECT.directives(ARRAY), 'echo "$JOBYARD_OAR_ID $JOBYARD_OAR_ARRAY"']
    environment = {"OAR_JOB_ID": "99", "OAR_ARRAY_ID": "23", "OAR_ARRAY_INDEX": str(index), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(22 + index), "23[]"]
    assert not any("ARRAY=" in line for line in DIALECT.directives(SINGLE))


def test_99_is_mapped_where_oar_would_run_the_job_again() -> None:
    assert KNOWING.traits_of(submission(job(rerunnable=True))).exit_map == {"99": 1}
    assert KNOWING.traits_of(submission(job())).exit_map == {}


# Control ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "action", "error"),
    [
        ("del-running", Action.CANCEL, None),
        ("del-held", Action.CANCEL, None),
        ("del-again", Action.CANCEL, None),
        ("del-done", Action.CANCEL, None),
        ("del-unknown", Action.CANCEL, UnknownJob),
        ("hold-postponed", Action.HOLD, None),
        ("hold-held", Action.HOLD, WrongState),
        ("hold-running", Action.HOLD, WrongState),
        ("hold-unknown", Action.HOLD, UnknownJob),
        ("resume-held", Action.RELEASE, None),
        ("resume-running", Action.RELEASE, WrongState),
        ("signal-run", Action.SIGNAL, None),
        ("signal-held", Action.SIGNAL, WrongState),
        ("signal-unknown", Action.SIGNAL, UnknownJob),
    ],
)
def test_what_became_of_an_act(name: str, action: Action, error: type[JobyardError] | None) -> None:
    result = sample(name)
    native_id = result.argv[-1]
    answer = DIALECT.parse_control(action, result, [native_id])[native_id]
    assert (answer is None) if error is None else isinstance(answer, error)
    assert error is None or native_id in str(answer)


def test_each_of_many_gets_its_answer() -> None:
    result = sample("del-mixed")
    one, unknown, two = result.argv[1:]
    answers = DIALECT.parse_control(Action.CANCEL, result, [one, unknown, two])
    assert (answers[one], answers[two]) == (None, None)
    assert isinstance(answers[unknown], UnknownJob)


def test_a_cancel_takes_later_runs_with_it() -> None:
    ((command, ids),) = DIALECT.control_commands(Action.CANCEL, ["7", "8", "-h", "x", "007", "9[]"], signal=None)
    assert ids == ("7", "8")
    assert command.argv[:3] == ("oardel", "7", "8")
    assert command.argv[3] == "--sql"
    assert "resubmit_job_id <> 0" in command.argv[4]


@pytest.mark.parametrize(
    ("action", "signal", "name"),
    [(Action.SIGNAL, 10, "USR1"), (Action.SIGNAL, 35, "RTMIN+1"), (Action.SUSPEND, None, "TSTP"), (Action.RESUME, None, "CONT")],
)
def test_signals(tmp_path: Path, action: Action, signal: int | None, name: str) -> None:
    """The shepherd, which gets them, passes them on; TSTP stops the command."""
    ((command, _),) = DIALECT.control_commands(action, ["7", "8"], signal=signal)
    (tmp_path / "oardel").write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/told\nexit 5\n')
    (tmp_path / "oardel").chmod(0o755)
    done = subprocess.run(command.argv, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
    assert done.returncode == 5
    assert (tmp_path / "told").read_text() == f"-s {name} 7 8\n"


def test_a_hold_is_waited_for(tmp_path: Path) -> None:
    """oarhold only notes what is wanted."""
    ((command, _),) = DIALECT.control_commands(Action.HOLD, ["7", "8"], signal=None)
    (tmp_path / "oarhold").write_text('#!/bin/sh\necho "[$1] Hold request was sent to the OAR server."\nexit 1\n')
    script = f'#!/bin/sh\necho x >>{tmp_path}/asked\n[ "$*" = "-s -j 7 -j 8" ] || exit 9\n'
    script += f'if [ $(wc -l <{tmp_path}/asked) -lt 3 ]; then echo "7: Hold"; echo "8: Waiting"; else echo "8: Hold"; fi\n'
    (tmp_path / "oarstat").write_text(script)
    for program in ("oarhold", "oarstat"):
        (tmp_path / program).chmod(0o755)
    done = subprocess.run(command.argv, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=False)
    assert done.returncode == 1
    assert (tmp_path / "asked").read_text().count("x") == 3


# Questions ----------------------------------------------------------------------------------------------------------------------


def test_one_question_for_all_jobs_of_a_login() -> None:
    command = DIALECT.query_command(["5", "6", "not an id", "-u", "5", "0"])
    assert command.argv[:4] == ("oarstat", "-f", "-J", "--sql")
    assert "IN (5,6)" in command.argv[4]
    assert "not an id" not in command.argv[4]
    assert DIALECT.account_command(["5"]) is None, "the answer holds the ending too"


def test_a_question_about_very_many_jobs(tmp_path: Path) -> None:
    """No word of a command may be longer than 128 kB."""
    ids = [str(10_000_000 + 2 * n) for n in range(7000)]
    command = DIALECT.query_command(ids)
    assert all(len(word) < 131_072 for word in command.argv)
    text = sample("done-exit3-json").text
    script = f'#!/bin/sh\n[ ${{#4}} -lt 131072 ] || exit 9\nprintf "%s\\n" "$4" >>{tmp_path}/asked\ncat {tmp_path}/answer\n'
    (tmp_path / "oarstat").write_text(script)
    (tmp_path / "oarstat").chmod(0o755)
    (tmp_path / "answer").write_text(text)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(command.argv, input=command.stdin, env=environment, capture_output=True, check=True)
    asked = (tmp_path / "asked").read_text()
    assert len(asked.splitlines()) == 4
    assert all(one in asked for one in ids)
    found, unparsed, whole = records(done.stdout.decode())
    assert (len(found), unparsed, whole) == (4, [], True)


def test_a_token_is_found_by_its_folder() -> None:
    (command,) = DIALECT.find_commands([SINGLE, ARRAY])
    assert f"launching_directory LIKE '%/{SINGLE.token}'" in command.argv[4]
    assert parsed("stat-token").keys() == {"0123456789abcdef" * 2}
    assert DIALECT.parse_find([sample("done-exit3-json")], [SINGLE]) == {}


def test_an_array_that_is_there_in_part_is_not_there() -> None:
    ((key, one),) = json.loads(sample("done-exit3-json").text).items()
    two = {**one, "Job_Id": int(key) + 1, "array_index": 2}
    folder = f"/w/{ARRAY.token}"
    text = json.dumps({key: {**one, "launchingDirectory": folder}, str(int(key) + 1): {**two, "launchingDirectory": folder}})
    assert DIALECT.parse_find([Result(argv=(), returncode=0, stdout=text.encode())], [ARRAY]) == {}


# The scheduler ------------------------------------------------------------------------------------------------------------------


class Played:
    """A transport whose commands are answered by the test; what was run is kept."""

    def __init__(self, answer: Callable[[Command], Result]) -> None:
        self.answer = answer
        self.ran: list[tuple[str, ...]] = []

    def run(self, command: Command) -> Result:
        self.ran.append(command.argv)
        return self.answer(command)


def scheduler_of(played: Played, monkeypatch: pytest.MonkeyPatch, **choices: str) -> OarScheduler:
    transport = LocalTransport()
    monkeypatch.setattr(transport, "run", played.run)
    return OarScheduler(transport, Names(**choices))


def test_the_site_is_asked_once_and_when_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(lambda command: msgspec.structs.replace(sample("nodes-json"), argv=command.argv))
    scheduler = scheduler_of(played, monkeypatch)
    scheduler.check(job())
    assert played.ran == []
    scheduler.check(job(cores=2))
    scheduler.check(job(gpus=1))
    assert [argv[0] for argv in played.ran] == ["oarnodes"]
    assert scheduler.commands_run["limits"] == 1


def test_a_site_that_does_not_answer_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(lambda command: msgspec.structs.replace(sample("nodb-stat"), argv=command.argv))
    with pytest.raises(SchedulerUnavailable):
        scheduler_of(played, monkeypatch).check(job(cores=2))


def test_a_thousand_jobs_are_one_question_and_one_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(lambda command: Result(argv=command.argv, returncode=0, stdout=b"Deleting the job = 5 ...REGISTERED.\n"))
    scheduler = scheduler_of(played, monkeypatch)
    ids = [str(5 + n) for n in range(1000)]
    answers = scheduler.control(Action.CANCEL, ids)
    assert len(played.ran) == 1
    assert answers["5"] is None
    assert all(answers[one] is not None for one in ids[1:]), "nothing is said of them"
    played.answer = lambda command: sample("done-exit3-json")
    scheduler.query(ids)
    assert len(played.ran) == 2


@pytest.mark.parametrize("action", [Action.REQUEUE])
def test_what_cannot_be_done_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, action: Action) -> None:
    played = Played(lambda command: sample("stat-empty"))
    answer = scheduler_of(played, monkeypatch).control(action, ["5"])["5"]
    assert isinstance(answer, ControlError)
    assert f"oar cannot {action} jobs; " in str(answer)
    assert played.ran == []


def test_contact_options(tmp_path: Path) -> None:
    contact = Contact.parse("oar?core=thread&gpu=gpudevice&memory=memnode")
    scheduler = open_oar(tmp_path, contact.options)
    assert scheduler.dialect.names == Names(core="thread", gpu="gpudevice", memory="memnode")
    with pytest.raises(InvalidContact):
        Contact.parse("oar?core=a%27b").check_options()
