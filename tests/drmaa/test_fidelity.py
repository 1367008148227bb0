"""What arrives in a job, and what programs in the wild rely on: bytes, environment, default streams, silence, cost."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import drmaa
from drmaa import JobState
from drmaa_suite.run import (
    ALL,
    ANY,
    ENDED,
    LOCAL,
    NOW,
    PATIENCE_S,
    PROGRAM_S,
    SCHEDULER,
    TERMINATE,
    Place,
    array_of,
    fill,
    shell,
    sleeper,
    template,
    until,
    until_state,
)

Shared = type[drmaa.Session]
HOSTILE = [
    "two words",
    "$HOME",
    "*",
    'a "b" c',
    "it's",
    "back\\slash",
    "new\nline",
    "",
    "naïve ☃",
    os.fsdecode(b"\xff\xfe"),
    "a=b",
    "x,y",
    "`id`; $(id) #",
    "%j $JOB_ID",
    "-n",
    "x" * 100_000,
]
TELL = """
import json, os, sys
told = {"argv": sys.argv[1:], "env": {k: v for k, v in os.environ.items() if k.startswith("TOLD_")}, "cwd": os.getcwd()}
with open(sys.argv[1], "w") as file:
    json.dump(told, file)
"""


def test_bytes_arrive(session: Shared, folder: Path) -> None:
    """Row 11: arguments, environment and paths, whatever they hold."""
    inside = folder / "a dir's $NAME\n*"
    inside.mkdir()
    jt = template(inside, sys.executable, "-c", TELL, f"{inside}/told", *HOSTILE)
    jt.jobEnvironment = {f"TOLD_{number}": value for number, value in enumerate(HOSTILE)}
    jt.outputPath = f":{inside}/out $JOB;'"
    info = session.wait(session.runJob(jt), PATIENCE_S)
    assert info.exitStatus == 0
    told = json.loads((inside / "told").read_text())
    assert told["argv"][1:] == HOSTILE
    assert told["env"] == {f"TOLD_{number}": value for number, value in enumerate(HOSTILE)}
    assert told["cwd"] == str(inside)
    assert (inside / "out $JOB;'").exists()


def test_environment_of_a_job(session: Shared, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's own environment and jobEnvironment over it; nothing else of the submitter's leaks."""
    monkeypatch.setenv("TOLD_LEAK", "1")
    jt = template(folder, sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))")
    jt.jobEnvironment = {"MINE": "yes", "HOME": "/nowhere"}
    jt.outputPath = f":{folder}/env"
    assert session.wait(session.runJob(jt), PATIENCE_S).exitStatus == 0
    found = json.loads((folder / "env").read_text())
    assert found["MINE"] == "yes"
    assert found["HOME"] == "/nowhere"
    assert "TOLD_LEAK" not in found
    assert found["PATH"]
    assert found["USER"] == pwd.getpwuid(os.getuid()).pw_name
    assert found["JOBYARD_NATIVE_ID"]


def test_own_suite_of_the_package(session: Shared, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 3: what drmaa-python's nineteen tests ask for that no other test here does."""
    monkeypatch.setenv("PIPPO", "aaaa")
    jt = session.createJobTemplate()
    fill(jt, folder, "python3", "-c", "from os import environ as env; assert env['PIPPO'] == 'aaaa'")
    jt.jobEnvironment = os.environ
    job = session.runJob(jt)
    info = session.wait(job)
    assert info.jobId == job
    assert info.exitStatus == 0
    assert [type(value) for value in info] == [str, bool, bool, str, bool, bool, int, dict]
    job = session.runJob(jt)
    session.control(job, TERMINATE)
    session.synchronize(job, session.TIMEOUT_WAIT_FOREVER, False)
    try:
        assert session.wait(job, session.TIMEOUT_WAIT_FOREVER).jobId == job
    except drmaa.NoRusageException as error:
        pytest.fail(f"the ending is known here: {error}")
    session.deleteJobTemplate(jt)


# Files -------------------------------------------------------------------------------------------------------------------


def test_default_streams(session: Shared, folder: Path) -> None:
    """NAME.oID and NAME.eID in the working directory, of a task NAME.oID.INDEX; joined, only the first."""
    jt = shell(folder, "echo out; echo err >&2", outputPath="", joinFiles=False, jobName="named")
    job = session.runJob(jt)
    tasks = session.runBulkJobs(jt, 2, 3, 1)
    jt.joinFiles = True
    jt.jobName = ""
    joined = session.runJob(jt)
    session.synchronize([ALL], PATIENCE_S)
    array = array_of(tasks[0])
    content = {path.name: path.read_text() for path in folder.iterdir()}
    assert content == {
        f"named.o{job}": "out\n",
        f"named.e{job}": "err\n",
        **{f"named.o{array}.{index}": "out\n" for index in (2, 3)},
        **{f"named.e{array}.{index}": "err\n" for index in (2, 3)},
        f"sh.o{joined}": "out\nerr\n",
    }


def test_directory_as_output(session: Shared, folder: Path) -> None:
    """As snakemake and gridmap write it: ':' and a directory."""
    (folder / "logs").mkdir()
    jt = shell(folder, "echo out", outputPath=f":{folder}/logs", jobName="n")
    job = session.runJob(jt)
    session.synchronize(job, PATIENCE_S)
    assert [path.name for path in (folder / "logs").iterdir()] == [f"n.o{job}"]


def test_home(session: Shared, folder: Path) -> None:
    """An unset working directory is home (on Slurm: the directory of submission); the placeholder stands for it."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    jt = shell(folder, "pwd; exec cat", outputPath=f":{folder}/out", inputPath=f":{folder}/in")
    (folder / "in").write_text("input\n")
    jt.workingDirectory = drmaa.JobTemplate.HOME_DIRECTORY
    assert session.wait(session.runJob(jt), PATIENCE_S).exitStatus == 0
    assert (folder / "out").read_text() == f"{os.path.realpath(home)}\ninput\n"
    if LOCAL:
        jt.workingDirectory = ""
        assert session.wait(session.runJob(jt), PATIENCE_S).exitStatus == 0
        assert (folder / "out").read_text() == f"{os.path.realpath(home)}\ninput\n"


def test_input_becomes_output(session: Shared, folder: Path) -> None:
    """ST_INPUT_BECOMES_OUTPUT, with names relative to the working directory."""
    data = os.urandom(200_000)
    (folder / "in").write_bytes(data)
    jt = template(folder, "/bin/cat", inputPath=":in", outputPath=":out")
    assert session.wait(session.runJob(jt), PATIENCE_S).exitStatus == 0
    assert (folder / "out").read_bytes() == data


@pytest.mark.parametrize("bulk", [True, False])
def test_transfer_files(session: Shared, folder: Path, bulk: bool) -> None:
    """ST_TRANSFER_FILES_SINGLE_JOB, _BULK_JOB: this host's files."""
    if "drmaa_transfer_files" not in session.createJobTemplate().attributeNames:
        pytest.skip("this scheduler carries no files")
    (folder / "in").write_text("carried\n")
    host = os.uname().nodename
    jt = template(folder, "/bin/cat", transferFiles="io", inputPath=f"{host}:{folder}/in", outputPath=f"{host}:{folder}/out")
    if bulk:
        jt.outputPath = f"{host}:{folder}/out.{drmaa.JobTemplate.PARAMETRIC_INDEX}"
        session.synchronize(session.runBulkJobs(jt, 1, 2, 1), PATIENCE_S)
        assert [(folder / f"out.{index}").read_text() for index in (1, 2)] == ["carried\n"] * 2
    else:
        session.synchronize(session.runJob(jt), PATIENCE_S)
        assert (folder / "out").read_text() == "carried\n"
    jt.outputPath = "elsewhere.example.org:/tmp/out"
    with pytest.raises(drmaa.DeniedByDrmException, match="leave the host out"):
        session.runJob(jt)


def test_relative_command(session: Shared, folder: Path) -> None:
    """A relative command is relative to the working directory."""
    (folder / "bin").mkdir()
    for path, code in ((folder / "own.sh", 4), (folder / "bin" / "own.sh", 5)):
        path.write_text(f"#!/bin/sh\nexit {code}\n")
        path.chmod(0o755)
    jobs = [session.runJob(template(folder, command)) for command in ("own.sh", "./own.sh", "bin/own.sh")]
    assert [session.wait(job, PATIENCE_S).exitStatus for job in jobs] == [4, 4, 5]


def test_long_and_odd_names(session: Shared, folder: Path) -> None:
    jobs = [session.runJob(template(folder, jobName=name)) for name in ("n" * 300, "a_1", "with blank", "naïve")] if LOCAL else []
    session.synchronize(jobs, PATIENCE_S)
    assert all(session.jobStatus(job) == JobState.DONE for job in jobs)


# Habits of programs -------------------------------------------------------------------------------------------------------


def test_poller_that_never_waits(session: Shared, folder: Path) -> None:
    """As snakemake does: options with a leading blank, states polled, terminate of what may have ended, no wait."""
    jt = shell(folder, "exit 0", nativeSpecification=" ", outputPath=f":{folder}")
    jobs = [session.runJob(jt) for _ in range(3)]
    open_jobs = set(jobs)

    def poll() -> bool:
        for job in list(open_jobs):
            if session.jobStatus(job) in (drmaa.JobState.DONE, drmaa.JobState.FAILED):
                open_jobs.discard(job)
        return not open_jobs

    until(poll, "all have ended")
    for job in jobs:
        session.control(job, drmaa.const.JobControlAction.TERMINATE)
    with pytest.raises(drmaa.errors.AlreadyActiveSessionException):
        session.initialize()


def test_dictionary_of_settings(session: Shared, folder: Path) -> None:
    """As Galaxy and dask-drmaa do: attributes set from a dict, unknown names among them, filtered by dir()."""
    settings = {"remoteCommand": "/bin/true", "project": "p", "workingDirectory": str(folder), "outputPath": ":/dev/null", "x_y": 1}
    with session.createJobTemplate() as jt:
        for name, value in settings.items():
            setattr(jt, name, value)
        known = {name for name in settings if name in dir(type(jt))}
        assert known == {"remoteCommand", "workingDirectory", "outputPath"}
        jt.joinFiles = True
        ids = session.runBulkJobs(jt, 1, 2, 1)
    if SCHEDULER != "oar":  # there each task has an id of its own
        assert array_of(ids[0]) == array_of(ids[1])
    session.synchronize(ids, dispose=True)


def test_waiting_loop(session: Shared, folder: Path) -> None:
    """As cosmos and fastr do: wait(ANY, 1) in a loop, ExitTimeout, _asdict()."""
    jobs = {session.runJob(sleeper(folder, 0.1)) for _ in range(3)}
    found: list[dict[str, Any]] = []

    def take() -> bool:
        try:
            found.append(session.wait(jobId=ANY, timeout=1)._asdict())
        except drmaa.ExitTimeoutException:
            return False
        return len(found) == 3

    until(take, "all have ended")
    assert {info["jobId"] for info in found} == jobs


def test_reaped_by_all(session: Shared, folder: Path) -> None:
    """As gridmap does: synchronize ALL at once with dispose, until it no longer times out."""
    for _ in range(3):
        session.runJob(sleeper(folder, 0.1))

    def reap() -> bool:
        try:
            session.synchronize([ALL], NOW, dispose=True)
            return True
        except drmaa.ExitTimeoutException:
            return False

    until(reap, "all have ended")
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(ANY, NOW)


def test_reaped_jobs_stay_unknown(session: Shared, folder: Path) -> None:
    """Issue 1832: ids already reaped, monitored by jobStatus."""
    jobs = session.runBulkJobs(template(folder), 1, 4, 1)
    for job in jobs[:2]:
        session.wait(job, PATIENCE_S)
    for job in jobs[:2]:
        with pytest.raises(drmaa.InvalidJobException):
            session.jobStatus(job)
    for job in jobs[2:]:
        until_state(job, *ENDED)


def test_nothing_known_of_an_ending(session: Shared, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows 15 and 16: no state is invented; wait gives 24, which is a DrmaaException, and the job is reaped."""
    import jobyard

    job = session.runJob(template(folder))
    session.synchronize([job], PATIENCE_S)
    lost = jobyard.Ending(state=jobyard.JobState.FAILED, cause=jobyard.Cause.LOST, message="no receipt, no accounting")
    with monkeypatch.context() as patch:
        patch.setattr(jobyard.Job, "ending", lost)
        assert session.jobStatus(job) == JobState.FAILED
        with pytest.raises(drmaa.errors.DrmaaException, match=r"^code 24: .*no receipt") as caught:
            session.wait(job, NOW)
    assert type(caught.value) is drmaa.NoRusageException
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(job, NOW)


@pytest.mark.skipif(not LOCAL, reason="counts what is asked of the embedded scheduler")
def test_cost_of_status(session: Shared, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 24: 10,000 calls ask nothing while jobs are unfinished, and their answer is the latest told."""
    from jobyard.schedulers.local.connection import Connection

    jobs = session.runBulkJobs(sleeper(folder, 600, jobSubmissionState="drmaa_hold"), 1, 100, 1)
    asked: list[object] = []
    request = Connection.request

    def counted(self: Connection, operation: str, *arguments: Any, **more: Any) -> Any:
        asked.append(operation)
        return request(self, operation, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "request", counted)
        for _ in range(100):
            assert {session.jobStatus(job) for job in jobs} == {JobState.USER_ON_HOLD}
        assert asked == []
        session.control(jobs[0], TERMINATE)
        assert session.jobStatus(jobs[0]) == JobState.FAILED


@pytest.mark.skipif(SCHEDULER != "standin", reason="counts the queries of the stand-in, whose interval is 0.1 s")
def test_cost_of_status_by_commands(session: Shared, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 24: 10,000 calls cost at most one query an interval, and see a change within a few of them."""
    from jobyard import CommandScheduler

    jobs = session.runBulkJobs(sleeper(folder, 600, jobSubmissionState="drmaa_hold"), 1, 100, 1)
    asked: list[float] = []
    query = CommandScheduler.query

    def counted(self: CommandScheduler, native_ids: Any) -> Any:
        asked.append(time.monotonic())
        return query(self, native_ids)

    monkeypatch.setattr(CommandScheduler, "query", counted)
    began = time.monotonic()
    for _ in range(100):
        assert {session.jobStatus(job) for job in jobs} == {JobState.USER_ON_HOLD}
    assert len(asked) <= (time.monotonic() - began) / 0.09 + 2
    session.control(jobs[0], TERMINATE)
    until_state(jobs[0], JobState.FAILED)


@pytest.mark.parametrize("tidy", [True, False])
def test_silence(place: Place, folder: Path, tidy: bool) -> None:
    """Row 32: nothing is printed, whatever happens; by a program that ends without exit() neither."""
    program = f"""
import drmaa
s = drmaa.Session()
s.initialize({place.contact!r})
jt = s.createJobTemplate()
jt.remoteCommand, jt.workingDirectory, jt.outputPath, jt.joinFiles = "/nonexistent", {str(folder)!r}, ":/dev/null", True
info = s.wait(s.runJob(jt))
assert info.wasAborted
for bad in (lambda: s.wait("1_2_3", 0), lambda: s.control("abc", "hold"), lambda: s.initialize()):
    try:
        bad()
    except drmaa.errors.DrmaaException:
        pass
s.runBulkJobs(jt, 1, 5, 1)
{"s.exit()" if tidy else ""}
"""
    options = ["-X", "dev"] if tidy else []
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_a_program_does_at_its_end(place: Place, folder: Path) -> None:
    """As dask-drmaa and others do: jobs are terminated, and the session left, by a handler that was registered before it began."""
    program = f"""
import atexit, drmaa
def end():
    drmaa.Session.control(drmaa.Session.JOB_IDS_SESSION_ALL, "terminate")
    print(drmaa.Session.wait(job).wasAborted)
    drmaa.Session.exit()
atexit.register(end)
drmaa.Session.initialize({place.contact!r})
jt = drmaa.JobTemplate(remoteCommand="/bin/sleep", args=["600"], workingDirectory={str(folder)!r}, outputPath=":/dev/null")
jt.joinFiles = True
job = drmaa.Session.runJob(jt)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_start_and_end_are_soon(session: Shared, folder: Path) -> None:
    """A job of no length is submitted, run and told within a moment, where no scheduler takes its time."""
    if not LOCAL:
        pytest.skip("the scheduler decides")
    spent = []
    for _ in range(10):
        began = time.monotonic()
        session.wait(session.runJob(template(folder)), PATIENCE_S)
        spent.append(time.monotonic() - began)
    assert min(spent) < 0.5
