"""How jobs end and what is told of it: every exit code, signals, failures to start, termination, limits, usage, policy."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import drmaa
from drmaa import JobState
from drmaa_suite.run import (
    ALL,
    BED,
    ENDED,
    LOCAL,
    NOW,
    PATIENCE_S,
    SCHEDULER,
    SMALL,
    TERMINATE,
    Place,
    shell,
    sleeper,
    template,
    until_state,
)

Shared = type[drmaa.Session]
NONZERO_DONE = SCHEDULER == "gridengine"
RAN = JobState.DONE if NONZERO_DONE else JobState.FAILED  # of a command that ran, and did not exit with 0
# As /bin/sh and Python's signal module call them.
SIGNALS = ("HUP", "INT", "QUIT", "ILL", "ABRT", "FPE", "KILL", "SEGV", "ALRM", "TERM", "USR1", "USR2")
DUMPING = ("QUIT", "ILL", "ABRT", "FPE", "SEGV")


# Every kind of code: the edges, Grid Engine's own (99, 100), the shell's (126, 127), those that stand for signals elsewhere.
CODES = (0, 1, 2, 99, 100, 125, 126, 127, 128, 129, 137, 139, 143, 254, 255) if SMALL else range(256)


def test_every_exit_code(session: Shared, folder: Path) -> None:
    """ST_EXIT_STATUS, row 14: 0 to 255, none of them magic."""
    jobs = {code: session.runJob(shell(folder, f"exit {code}")) for code in CODES}
    session.synchronize(jobs.values(), PATIENCE_S)
    for code, job in jobs.items():
        assert session.jobStatus(job) == (RAN if code else JobState.DONE)
        info = session.wait(job, NOW)
        assert (info.hasExited, info.exitStatus) == (True, code)
        assert (info.hasSignal, info.terminatedSignal, info.hasCoreDump, info.wasAborted) == (False, "", False, False)


def test_twelve_signals(session: Shared, folder: Path) -> None:
    """ST_SUBMIT_KILL_SIG, row 14: a job that a signal of its own ends, told by name."""
    jobs = {name: session.runJob(shell(folder, f"ulimit -c 0; kill -{name} $$; sleep 60")) for name in SIGNALS}
    session.synchronize(list(jobs.values()), PATIENCE_S)
    for name, job in jobs.items():
        assert session.jobStatus(job) == RAN, name
        info = session.wait(job, NOW)
        assert (info.hasSignal, info.terminatedSignal) == (True, f"SIG{name}")
        assert (info.hasExited, info.wasAborted, info.exitStatus) == (False, False, 0)
        assert (info.hasSignaled, info.terminatingSignal) == (True, f"SIG{name}")
        assert not info.hasCoreDump or name in DUMPING
        assert float(info.resourceUsage["signal"]) == signal.Signals[f"SIG{name}"]


# What never starts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["input", "output", "error", "command", "not executable", "directory", "a directory as command"])
def test_what_cannot_start(session: Shared, folder: Path, what: str) -> None:
    """ST_INPUT_FILE_FAILURE, ST_OUTPUT_FILE_FAILURE, ST_ERROR_FILE_FAILURE, row 17: failed and aborted; wait(0) tells it."""
    jt = template(folder)
    missing = f"{folder}/missing/file"
    if what == "input":
        jt.inputPath = f":{missing}"
    elif what == "output":
        jt.outputPath = f":{missing}"
    elif what == "error":
        jt.joinFiles = False
        jt.errorPath = f":{missing}"
    elif what == "command":
        jt.remoteCommand = missing
    elif what == "not executable":
        (folder / "script").write_text("#!/bin/sh\n")
        jt.remoteCommand = f"{folder}/script"
    elif what == "directory":
        jt.workingDirectory = missing
    else:
        jt.remoteCommand = str(folder)
    job = session.runJob(jt)
    session.synchronize([job], PATIENCE_S)
    assert session.jobStatus(job) == JobState.FAILED
    info = session.wait(job, NOW)
    assert info.wasAborted
    assert (info.hasExited, info.hasSignal, info.exitStatus) == (False, False, 0)


@pytest.mark.parametrize("bulk", [True, False])
def test_unwritable_output(session: Shared, folder: Path, bulk: bool) -> None:
    """Of a task as of a job."""
    jt = template(folder, outputPath=f":{folder}/missing/file")
    jobs = session.runBulkJobs(jt, 1, 2, 1) if bulk else [session.runJob(jt)]
    assert all(session.wait(job, PATIENCE_S).wasAborted for job in jobs)


# Termination ------------------------------------------------------------------------------------------------------------------


def test_terminated_while_running(session: Shared, folder: Path) -> None:
    """Failed and aborted, not signalled, whatever ended it."""
    job = session.runJob(sleeper(folder, 600))
    until_state(job, JobState.RUNNING)
    session.control(job, TERMINATE)
    session.synchronize([job], PATIENCE_S)
    assert session.jobStatus(job) == JobState.FAILED
    session.control(job, TERMINATE)  # finished, not reaped: harmless
    info = session.wait(job, NOW)
    assert (info.hasExited, info.hasSignal, info.wasAborted, info.exitStatus) == (False, False, True, 0)
    with pytest.raises(drmaa.InvalidJobException):
        session.control(job, TERMINATE)


def test_terminated_with_its_children(session: Shared, folder: Path) -> None:
    job = session.runJob(shell(folder, f"sleep 600 & echo $! > {folder}/pid.new; mv {folder}/pid.new {folder}/pid; wait"))
    from drmaa_suite.run import until

    until((folder / "pid").exists, "the job has told its child")
    child = int((folder / "pid").read_text())
    session.control(job, TERMINATE)
    assert session.wait(job, PATIENCE_S).wasAborted
    if LOCAL:
        until(lambda: not Path(f"/proc/{child}").exists(), "its child has ended too")


def test_terminated_tasks(session: Shared, folder: Path) -> None:
    """One task is ended, the others go on."""
    jobs = session.runBulkJobs(sleeper(folder, 600, jobSubmissionState="drmaa_hold"), 1, 3, 1)
    session.control(jobs[1], TERMINATE)
    assert session.wait(jobs[1], PATIENCE_S).wasAborted
    assert [session.jobStatus(job) for job in (jobs[0], jobs[2])] == [JobState.USER_ON_HOLD] * 2
    session.control(ALL, TERMINATE)
    assert all(session.wait(job, PATIENCE_S).wasAborted for job in (jobs[0], jobs[2]))


# Limits and usage ----------------------------------------------------------------------------------------------------------------


# On a bed that others keep busy a second may pass before the command begins, and a limit that comes before it has no signal.
@pytest.mark.parametrize("limit", [1, "1", b"1", "0:00:01"] if not BED else [5] if SMALL else [5, "5", b"5", "0:00:05"])
@pytest.mark.parametrize("name", ["hardWallclockTimeLimit", "hardRunDurationLimit"])
def test_limit(session: Shared, folder: Path, name: str, limit: object) -> None:
    """Row 12: the limit ends the job; failed, with the signal that ended it. Schedulers that count minutes take their time."""
    jt = sleeper(folder, 600)
    c_name = {"hardWallclockTimeLimit": "drmaa_wct_hlimit", "hardRunDurationLimit": "drmaa_duration_hlimit"}[name]
    if c_name not in jt.attributeNames:
        with pytest.raises(drmaa.UnsupportedAttributeException):
            setattr(jt, name, limit)
        return
    setattr(jt, name, limit)
    job = session.runJob(jt)
    session.synchronize([job], PATIENCE_S)
    assert session.jobStatus(job) == RAN
    info = session.wait(job, NOW)
    assert (info.hasExited, info.wasAborted) == (False, False)
    assert info.hasSignal
    assert info.terminatedSignal in ("SIGTERM", "SIGKILL", "SIGXCPU")
    assert 0.9 < float(info.resourceUsage["wallclock"]) < (30 if LOCAL else 300)


def test_usage(session: Shared, folder: Path) -> None:
    """ST_USAGE_CHECK, row 27: a plain dict of text, the caller's own, under both kinds of names."""
    burn = "import time; t = time.process_time(); x = bytearray(32 << 20)\nwhile time.process_time() - t < 0.3: pass"
    before = time.time()
    job = session.runJob(template(folder, sys.executable, "-c", burn))
    info = session.wait(job, PATIENCE_S)
    usage = info.resourceUsage
    assert type(usage) is dict
    assert all(type(name) is str and type(value) is str for name, value in usage.items())
    assert 0.25 < float(usage["cpu"]) < 10
    assert abs(float(usage["cpu"]) - float(usage["ru_utime"]) - float(usage["ru_stime"])) < 0.01
    assert float(usage["maxvmem"]) > 32 << 20
    assert float(usage["ru_maxrss"]) > 32 << 10
    assert float(usage["ru_wallclock"]) == float(usage["wallclock"]) >= 0.25
    times = [float(usage[name]) for name in ("submission_time", "start_time", "end_time")]
    assert before - 1 <= times[0] <= times[1] <= times[2] <= time.time() + 1
    assert (float(usage["exit_status"]), float(usage["signal"])) == (0, 0)
    usage["hostname"] = "mine"
    assert info.resourceUsage["hostname"] == "mine"


# Policy ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "state"), [("done", JobState.DONE), ("failed", JobState.FAILED)])
@pytest.mark.parametrize("where", ["contact", "configuration"])
def test_policy(nobody: Place, folder: Path, policy: str, state: str, where: str) -> None:
    """Row 18: what a non-zero exit and an own signal are called is one switch. What was aborted is failed with either."""
    contact = nobody.contact
    config = Path(os.environ["JOBYARD_CONFIG"])
    if where == "contact":
        contact += ("&" if "?" in contact else "?") + f"nonzero_exit={policy}"
    else:
        config.write_text(f'[defaults]\nnonzero_exit = "{policy}"\n')
    try:
        drmaa.Session.initialize(contact)
    finally:
        config.unlink(missing_ok=True)
    assert f"nonzero_exit={policy}" in drmaa.Session.contact
    ran = [drmaa.Session.runJob(shell(folder, script)) for script in ("exit 1", "kill -KILL $$")]
    good = drmaa.Session.runJob(template(folder))
    bad = drmaa.Session.runJob(template(folder, f"{folder}/missing"))
    ended = drmaa.Session.runJob(sleeper(folder, 600, jobSubmissionState="drmaa_hold"))
    drmaa.Session.control(ended, TERMINATE)
    drmaa.Session.synchronize([ALL], PATIENCE_S)
    assert [drmaa.Session.jobStatus(job) for job in ran] == [state] * 2
    assert drmaa.Session.jobStatus(good) == JobState.DONE
    assert drmaa.Session.jobStatus(bad) == drmaa.Session.jobStatus(ended) == JobState.FAILED
    assert drmaa.Session.wait(ran[0], NOW).exitStatus == 1  # the ending is the same
    contact = drmaa.Session.contact
    drmaa.Session.exit()
    drmaa.Session.initialize(contact)  # the contact keeps the policy
    assert drmaa.Session.jobStatus(ran[1]) == state


def test_accounting(nobody: Place, folder: Path) -> None:
    """usage=accounting: wait awaits the scheduler's own record, where there is one."""
    contact = nobody.contact + ("&" if "?" in nobody.contact else "?") + "usage=accounting"
    with drmaa.Session(contact) as session:
        info = session.wait(session.runJob(shell(folder, "exit 3")), PATIENCE_S)
        assert info.exitStatus == 3
        assert "ru_wallclock" in info.resourceUsage


def test_states_stay_readable(session: Shared, folder: Path) -> None:
    """A caller that never waits polls until it sees an end, and sees it as often as it likes."""
    good, bad = session.runJob(template(folder)), session.runJob(shell(folder, "exit 1"))
    until_state(good, *ENDED)
    until_state(bad, *ENDED)
    for _ in range(100):
        assert session.jobStatus(good) == JobState.DONE
        assert session.jobStatus(bad) == RAN
