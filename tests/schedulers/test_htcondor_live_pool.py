"""What only HTCondor has, on a running pool: endings, resources, limits, an absent schedd, and the cost of following jobs.

Faults are put between jobyard and the pool's own commands by programs of the same names, first on PATH.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from jobyard import Cause, Job, JobState, Session, SubmitError
from jobyard.errors import ControlError, UnsupportedAttribute, WrongState
from jobyard.job import By
from jobyard.testing import jobs
from jobyard.testing.polling import eventually
from schedulers.between import (
    FAULTS,
    LIMIT_S,
    Commands,
    assert_no_answer_changes_nothing,
    assert_thousand_are_one,
    assert_told_at_once,
    begun,
    follow,
    reached,
)
from schedulers.live import CONTACT, only_on
from schedulers.own import *  # noqa: F403

only_on("htcondor")

PROGRAMS = ("condor_submit", "condor_q", "condor_history", "condor_rm", "condor_hold", "condor_release", "condor_suspend",
            "condor_continue", "condor_vacate_job", "condor_config_val")  # fmt: skip
QUERY = "condor_q -json -attributes ClusterId,ProcId,JobStatus,LastJobStatus"
SUBMIT = "condor_submit"
KILLS = 5
AWAY = "echo 'Error: (null)' >&2; echo 'CEDAR:6001:Failed to connect to <127.0.0.1:9618>' >&2; exit 1\n"


def condor(*argv: str) -> str:
    """What a command of the pool says."""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def attribute(job: Job, name: str) -> str:
    """An attribute of the job's ad in the queue; nothing where it is not there."""
    return condor("condor_q", job.native_id or "", "-af", name).strip()


# Endings -----------------------------------------------------------------------------------------------------------------


def test_a_job_that_cannot_be_started_is_not_left_in_the_queue(session: Session) -> None:
    """Its folder is away when it starts: HTCondor would hold it for ever, and says why."""
    job, other = session.submit(jobs.succeed(), hold=True), session.submit(jobs.succeed(), hold=True)
    work = Path(os.environ["JOBYARD_WORK_DIR"]) / f"jobyard-{os.getuid()}"
    (work / job.token[:2] / job.token).rename(work / "away")
    session.release([job])
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.cause, ending.aborted) == (JobState.FAILED, Cause.SHEPHERD, True)
    assert ending.message.startswith("held ")
    assert "No such file or directory" in ending.message
    eventually(lambda: not attribute(job, "JobStatus"), "it has left the queue", LIMIT_S)
    other.release()
    assert other.wait(LIMIT_S).success


def test_somebody_elses_held_job_is_left_alone(session: Session, tmp_path: Path) -> None:
    """It is the user's own, submitted by condor_submit and followed by us: it waits, and says why."""
    text = "executable = /no/such/program\ntransfer_executable = False\nshould_transfer_files = NO\nqueue\n"
    said = subprocess.run(["condor_submit", "-terse"], input=text, capture_output=True, text=True, check=True, cwd=tmp_path)
    native_id = said.stdout.split()[0]
    try:
        job = session.attach(native_id)
        reached(session, job, JobState.HELD)
        eventually(lambda: job.reason and "/no/such/program" in job.reason, "the reason", LIMIT_S)
        assert job.by is By.SYSTEM
        assert attribute(job, "JobStatus") == "5"
    finally:
        condor("condor_rm", native_id)
    assert job.wait(LIMIT_S).state is JobState.CANCELLED


def test_a_job_that_is_removed_by_hand(session: Session, tmp_path: Path) -> None:
    job = begun(session, tmp_path)
    condor("condor_rm", job.native_id or "")
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.cause, ending.signal) == (JobState.CANCELLED, Cause.CANCELLED, "SIGTERM")
    assert "via condor_rm" in ending.message


def test_a_limit_that_holds_a_job_ends_it(session: Session) -> None:
    """HTCondor's own limit would leave it held for ever. (allowed_execute_duration, code 47, does not take effect reliably.)"""
    ending = session.submit(jobs.sleep(120), attributes={"htcondor.allowed_job_duration": "3"}).wait(LIMIT_S)
    assert (ending.state, ending.cause) == (JobState.FAILED, Cause.WALLTIME)
    assert ending.message.startswith("held 46: ")


def test_a_job_that_is_vacated_runs_no_second_time(session: Session, tmp_path: Path) -> None:
    """HTCondor would run it again; nothing in it forbids that."""
    job = session.submit(jobs.gated(tmp_path / "gate", begun=tmp_path / "begun"))
    eventually((tmp_path / "begun").exists, "it has begun", LIMIT_S)
    condor("condor_vacate_job", job.native_id or "")
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.cause, ending.signal, ending.attempts) == (JobState.FAILED, Cause.REQUEUED, "SIGTERM", 1)
    assert len((tmp_path / "begun").read_text().splitlines()) == 1


def test_a_rerunnable_job_that_is_vacated_runs_again(session: Session, tmp_path: Path) -> None:
    job = session.submit(jobs.gated(tmp_path / "gate", 4, begun=tmp_path / "begun"), rerunnable=True)
    eventually((tmp_path / "begun").exists, "it has begun", LIMIT_S)
    condor("condor_vacate_job", job.native_id or "")
    eventually(lambda: len((tmp_path / "begun").read_text().splitlines()) == 2, "it has begun again", LIMIT_S)
    assert not job.state.final
    (tmp_path / "gate").touch()
    ending = job.wait(LIMIT_S)
    assert (ending.exit_code, ending.attempts) == (4, 2)


def test_a_deadline_ends_a_job_that_waits(session: Session) -> None:
    job = session.submit(jobs.succeed(), begin_at=time.time() + 3600, deadline_at=time.time() + 2)
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.cause, ending.aborted) == (JobState.FAILED, Cause.WALLTIME, True)
    assert ending.message == "deadline: its deadline has passed"


def test_core_dumps_are_made_where_a_job_says_how_large_they_may_be(session: Session, tmp_path: Path) -> None:
    ending = session.submit(jobs.dump_core(), directory=tmp_path, core_size="100MB").wait(LIMIT_S)
    assert ending.signal == "SIGABRT"
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    assert ending.core_dumped or pattern.startswith("|"), pattern


def test_signals_are_refused_by_name(session: Session, tmp_path: Path) -> None:
    job = session.submit(jobs.gated(tmp_path / "gate"))
    with pytest.raises(ControlError, match="htcondor cannot signal jobs; HTCondor has no command that sends a signal"):
        job.signal("USR1")


# Waiting -----------------------------------------------------------------------------------------------------------------


def is_held(job: Job, by: By) -> bool:
    return (job.state, job.by) == (JobState.HELD, by)


def test_who_holds_a_job_and_why_it_waits(session: Session) -> None:
    later = session.submit(jobs.succeed(), begin_at=time.time() + 3600)
    held = session.submit(jobs.succeed(), hold=True)
    both = session.submit(jobs.succeed(), hold=True, begin_at=time.time() + 3600)
    large = session.submit(jobs.succeed(), cores=100_000)
    for job, by in ((later, By.SYSTEM), (held, By.USER), (both, By.BOTH)):
        eventually(functools.partial(is_held, job, by), f"{job.native_id} is held by {by}", LIMIT_S)
    eventually(lambda: large.reason, "the negotiator's word", LIMIT_S)
    assert (later.reason or "").startswith("not before ")
    both.release()
    eventually(lambda: both.by is By.SYSTEM, "only the clock holds it", LIMIT_S)
    with pytest.raises(WrongState):
        later.release()


def test_a_job_is_suspended_the_moment_it_begins(session: Session, tmp_path: Path) -> None:
    """HTCondor says yes, and forgets it; it is told again."""
    for n in range(4):
        job = session.submit(jobs.gated(tmp_path / f"gate{n}", begun=tmp_path / f"begun{n}"))
        eventually((tmp_path / f"begun{n}").exists, "it has begun", LIMIT_S)
        reached(session, job, JobState.RUNNING)
        job.suspend()
        assert attribute(job, "JobStatus") == "7"
        job.resume()
        assert attribute(job, "JobStatus") == "2"
        (tmp_path / f"gate{n}").touch()
        assert job.wait(LIMIT_S).success


# Resources -----------------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_arrives(session: Session) -> None:
    job = session.submit(
        jobs.succeed(),
        hold=True,
        processes=2,
        cores=3,
        memory="1000kB",
        priority=-7,
        account="group_x.y",
        walltime="90s",
        name='9 "lives" $(x)',
        native=("-append", "rank = Memory", "-append", '+ProjectName = "it\'s"'),
        attributes={"htcondor.request_disk": "3MB", "slurm.constraint": "gpu"},
    )
    names = (
        "RequestCpus",
        "RequestMemory",
        "JobPrio",
        "AcctGroup",
        "JobBatchName",
        "ProjectName",
        "RequestDisk",
        "JobyardToken",
        "Rank",
    )
    seen = json.loads(condor("condor_q", job.native_id or "", "-json", "-attributes", ",".join(names)))[0]
    assert seen == {
        "RequestCpus": 6,
        "RequestMemory": 1,
        "JobPrio": -7,
        "AcctGroup": "group_x.y",
        "JobBatchName": '9 "lives" $(x)',
        "ProjectName": "it's",
        "RequestDisk": 3072,
        "JobyardToken": job.token,
        "Rank": "/Expr(Memory)/",
    }


def test_a_work_folder_with_a_strange_name(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = yard / 'it\'s $(Process) "é" %s'
    work.mkdir()
    monkeypatch.setenv("JOBYARD_WORK_DIR", str(work))
    with Session(CONTACT) as session:
        job = session.submit(jobs.shell("echo out; exit 3"))
        assert job.wait(LIMIT_S).exit_code == 3
        assert Path(job.stdout_path or "").read_text() == "out\n"
        array = session.submit_array(jobs.exit_by_index(), [4, 9])
        assert [ending.exit_code for ending in array.wait(LIMIT_S)] == [3, 8]


# Arrays and limits of the site -----------------------------------------------------------------------------------------------


def test_an_array_over_the_limit_stays_one(commands: Commands, session: Session) -> None:
    """The pool takes 2,000 jobs at once."""
    array = session.submit_array(jobs.succeed(), range(1, 4101), hold=True)
    tasks = list(array)
    assert [task.task_index for task in tasks] == list(range(1, 4101))
    assert commands.calls("condor_submit -terse") == 3
    assert len({(task.native_id or "").partition(".")[0] for task in tasks}) == 3
    before = commands.calls("condor_rm ")
    session.cancel(tasks)
    assert commands.calls("condor_rm ") - before == 3, "2,000 ids in one command"
    assert all(ending.state is JobState.CANCELLED for ending in session.wait_all(tasks, timeout=LIMIT_S))


def test_a_capped_array_waits_outside_the_queue(session: Session, tmp_path: Path) -> None:
    array = session.submit_array(jobs.gated(tmp_path / "gate", begun=tmp_path / "begun"), range(10, 16), max_running=2)
    for task in array[:2]:
        reached(session, task, JobState.RUNNING)
    eventually(lambda: array[5].reason == "as many run as may at a time", "why the last waits", LIMIT_S)
    assert [task.state for task in array[2:]] == [JobState.QUEUED] * 4
    with pytest.raises(ControlError, match="not in the queue yet; cancel the whole array"):
        array[3].cancel()
    with pytest.raises(WrongState, match="capped array"):
        array[4].hold()
    session.cancel(array[2:])
    assert {ending.state for ending in session.wait_all(array[2:], timeout=LIMIT_S)} == {JobState.CANCELLED}
    (tmp_path / "gate").touch()
    assert [ending.success for ending in session.wait_all(array[:2], timeout=LIMIT_S)] == [True] * 2
    assert len((tmp_path / "begun").read_text().splitlines()) == 2


def test_a_capped_array_is_cancelled_whole(session: Session, tmp_path: Path) -> None:
    array = session.submit_array(jobs.gated(tmp_path / "gate", begun=tmp_path / "begun"), range(1, 31), max_running=2)
    reached(session, array[1], JobState.RUNNING)
    array.cancel()
    endings = array.wait(LIMIT_S)
    assert {ending.state for ending in endings} == {JobState.CANCELLED}
    assert [ending.aborted for ending in endings[2:]] == [True] * 28
    factory = ("condor_q", "-factory", array.native_id or "", "-af", "ClusterId")
    eventually(lambda: not condor(*factory).strip(), "no more comes", LIMIT_S)
    begun = tmp_path / "begun"
    assert not begun.exists() or len(begun.read_text().splitlines()) <= 2


def test_a_schedd_that_caps_no_arrays(commands: Commands, session: Session) -> None:
    """It would take the array, and run all of it at once."""
    commands.fault('if [ "$1" = -capabilities ]; then "$real" "$@" | head -n 1; exit; fi\n', "condor_submit")
    with pytest.raises(UnsupportedAttribute) as caught:
        session.submit_array(jobs.succeed(), range(1, 4), max_running=2)
    assert caught.value.field == "max_running"
    assert session.jobs() == []
    assert commands.calls("condor_submit -terse") == 0


# A schedd that is away ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAULTS)
def test_no_answer_changes_no_state_and_recovery_is_automatic(commands: Commands, yard: Path, tmp_path: Path, kind: str) -> None:
    with Session(f"{CONTACT}?poll=0.2s") as session:
        assert_no_answer_changes_nothing(session, commands, tmp_path, kind, AWAY, silent_s=0.2 + (0.3 if kind == "empty" else 0.4))


def test_a_capped_array_whose_answer_is_lost(commands: Commands, session: Session) -> None:
    commands.fault('[ "$1" = -capabilities ] && exec "$real" "$@"\n"$real" "$@" >/dev/null\n' + AWAY, "condor_submit")
    array = session.submit_array(jobs.exit_by_index(), range(1, 5), max_running=2)
    assert len(array) == 4
    assert [ending.exit_code for ending in array.wait(LIMIT_S)] == [0, 1, 2, 3]


def test_a_refusal_is_no_outage(session: Session) -> None:
    with pytest.raises(SubmitError, match="many and more") as caught:
        session.submit(jobs.succeed(), native=("-append", "request_cpus = many and more"))
    assert not caught.value.retryable
    assert session.jobs() == []


# History -----------------------------------------------------------------------------------------------------------------------


def test_history_that_is_late(commands: Commands, session: Session) -> None:
    """For a while it does not know the job, then it does: the ending waits for it, and has its cause."""
    count = commands.folder / "count"
    commands.fault(f'echo >> {count}\n[ "$(wc -l < {count})" -gt 2 ] || {{ printf "[\\n]\\n"; exit 0; }}\n', "condor_history")
    ending = session.submit(jobs.sleep(60), walltime=1).wait(LIMIT_S)
    assert ending.cause is Cause.WALLTIME


def test_history_that_is_away_for_a_while(commands: Commands, session: Session, tmp_path: Path) -> None:
    commands.fault("echo 'disk full' >&2; exit 2\n", "condor_history")
    job = begun(session, tmp_path)
    condor("condor_rm", job.native_id or "")
    eventually(lambda: commands.calls("condor_history") >= 2, "history is asked", LIMIT_S)
    assert not job.state.final
    commands.clear()
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.signal) == (JobState.CANCELLED, "SIGTERM")


def test_a_site_without_history(commands: Commands, session: Session, tmp_path: Path) -> None:
    """How a job ended its receipt tells; why it was cut short nobody does."""
    commands.fault("echo 'Error: No history file is defined' >&2; exit 1\n", "condor_history")
    job = begun(session, tmp_path)
    condor("condor_rm", job.native_id or "")
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.cause, ending.signal) == (JobState.FAILED, Cause.UNKNOWN, "SIGTERM")


# Cost --------------------------------------------------------------------------------------------------------------------------


def test_a_thousand_like_jobs_are_one_condor_submit(commands: Commands, session: Session) -> None:
    assert_thousand_are_one(session, commands, "condor_submit -terse", "condor_rm ")


def test_several_processes_ask_no_more_than_one(commands: Commands, yard: Path) -> None:
    """One question an interval, whoever asks it; 8 clients every day, 20 at length."""
    clients = 20 if os.environ.get("FULL") == "1" else 8
    alone = follow(commands, CONTACT, 1, 50, 12)
    together = follow(commands, CONTACT, clients, 50, 12)
    assert alone >= 3
    assert together <= alone + 1, f"{together} queries by {clients} processes, {alone} by one"


def test_the_end_of_a_job_is_told_at_once(session: Session, tmp_path: Path) -> None:
    """By its receipt."""
    assert_told_at_once(session, tmp_path, 7)
