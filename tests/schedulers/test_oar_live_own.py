"""What only OAR has, on a running server: runs again, resources, moments, an absent server or database, the cost of following jobs.

Faults are put between jobyard and OAR's own commands by programs of the same names, first on PATH.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from jobyard import Cause, Job, JobState, Session, SubmitError
from jobyard.errors import InvalidJob, UnsupportedAttribute
from jobyard.job import After
from jobyard.testing import jobs
from jobyard.testing.polling import eventually
from schedulers.between import (
    FAULTS,
    LIMIT_S,
    Commands,
    assert_no_answer_changes_nothing,
    assert_thousand_are_one,
    begun,
    follow,
    reached,
)
from schedulers.live import CONTACT, WORKER, only_on
from schedulers.own import *  # noqa: F403

only_on("oar")

PROGRAMS = ("oarsub", "oarstat", "oardel", "oarhold", "oarresume", "oarnodes")
QUERY = "oarstat -f -J --sql job_id"
SUBMIT = "oarsub"
KILLS = 4
AWAY = """echo "DBI connect('dbname=oar;host=127.0.0.1','oar_ro',...) failed: connection to server at \\"127.0.0.1\\"" >&2
echo 'DB connection error, exiting.' >&2
exit 255
"""
# A node of one core for each worker, other than those of the conformance suite's (testbeds/oar/up.sh).
YARD = f"yard = {1 + (WORKER + 4) % 8}"


def oarsub(*words: str) -> str:
    """A job of the user's that is none of ours; its id."""
    argv = ["oarsub", "-O", "/dev/null", "-E", "/dev/null", "-d", "/tmp", *words]  # the last -d counts
    text = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout
    return text.rpartition("OAR_JOB_ID=")[2].strip()


def ran_on(session: Session, path: Path, **fields: object) -> Counter[str]:
    """How many cores of each node a job gets, by the file that OAR gives it."""
    session.submit(jobs.shell('cat "$OAR_NODE_FILE" >"$1"', path), **fields).wait(LIMIT_S).check()
    return Counter(path.read_text().split())


# Runs again ---------------------------------------------------------------------------------------------------------------


def preempted(session: Session, tmp_path: Path, **fields: object) -> Job:
    """A besteffort job whose command runs, and a job that wants its place."""
    native = ("-t", "besteffort", "-p", YARD)
    job = session.submit(jobs.gated(tmp_path / "gate", 7, begun=tmp_path / "begun"), native=native, **fields)
    eventually((tmp_path / "begun").exists, "its command has begun", LIMIT_S)
    session.submit(jobs.succeed(), native=("-p", YARD)).wait(LIMIT_S).check()
    return job


def test_a_job_that_made_room_is_followed_in_its_next_run(session: Session, tmp_path: Path) -> None:
    """OAR gives that run another id; ours stays, and the first run's end is nobody's."""
    job = preempted(session, tmp_path, rerunnable=True)
    eventually(lambda: len((tmp_path / "begun").read_text().splitlines()) == 2, "it has begun again", LIMIT_S)
    reached(session, job, JobState.RUNNING)
    (tmp_path / "gate").touch()
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.exit_code, ending.cause, ending.attempts) == (JobState.FAILED, 7, Cause.EXITED, 2)


def test_the_next_run_is_cancelled_by_the_first_ones_id(session: Session, tmp_path: Path) -> None:
    job = preempted(session, tmp_path, rerunnable=True)
    eventually(lambda: len((tmp_path / "begun").read_text().splitlines()) == 2, "it has begun again", LIMIT_S)
    job.cancel()
    assert job.wait(LIMIT_S).state is JobState.CANCELLED


def test_a_job_that_may_run_once_and_made_room_has_failed(session: Session, tmp_path: Path) -> None:
    ending = preempted(session, tmp_path).wait(LIMIT_S)
    assert (ending.state, ending.cause) == (JobState.FAILED, Cause.PREEMPTED)
    assert len((tmp_path / "begun").read_text().splitlines()) == 1


@pytest.mark.long
def test_exit_code_99_runs_no_job_again(session: Session) -> None:
    """OAR would, of an idempotent job that ran for more than a minute."""
    ending = session.submit(jobs.shell("/bin/sleep 62; exit 99"), rerunnable=True).wait(2 * LIMIT_S)
    assert (ending.exit_code, ending.cause, ending.attempts) == (99, Cause.EXITED, 1)


# Resources ------------------------------------------------------------------------------------------------------------------


def test_cores_are_on_one_node(session: Session, tmp_path: Path) -> None:
    assert list(ran_on(session, tmp_path / "nodes", cores=3).values()) == [3]


def test_processes_are_laid_out_on_nodes(session: Session, tmp_path: Path) -> None:
    assert list(ran_on(session, tmp_path / "nodes", nodes=2, processes_per_node=2).values()) == [2, 2]


def test_a_gpu_comes_with_its_cores(session: Session, tmp_path: Path) -> None:
    assert ran_on(session, tmp_path / "nodes", gpus=2) == {"127.0.0.2": 4}


def test_a_whole_node(session: Session, tmp_path: Path) -> None:
    (cores,) = ran_on(session, tmp_path / "nodes", exclusive=True, native=("-p", "host = '127.0.0.3'")).values()
    assert cores == 8


def test_a_property_that_the_site_does_not_have(yard: Path) -> None:
    with Session(f"{CONTACT}?gpu=cuda") as session, pytest.raises(UnsupportedAttribute, match="no property 'cuda'"):
        session.submit(jobs.succeed(), gpus=1)


def test_more_than_there_is(session: Session) -> None:
    with pytest.raises(SubmitError, match="not enough resources"):
        session.submit(jobs.succeed(), nodes=500)
    assert session.jobs() == []


def test_a_job_in_a_container(session: Session, tmp_path: Path) -> None:
    """What OAR has for reservations."""
    container = oarsub("-t", "container", "-l", "/nodes=1/core=2,walltime=0:5:0", "sleep 300")
    try:
        eventually(lambda: "Running" in shown(container), "the container runs", LIMIT_S)
        session.submit(jobs.append(tmp_path / "log", "in"), reservation=container, walltime=60).wait(LIMIT_S).check()
    finally:
        subprocess.run(["oardel", container], capture_output=True, check=True)


def shown(native_id: str) -> str:
    """The state that OAR shows."""
    return subprocess.run(["oarstat", "-s", "-j", native_id], capture_output=True, text=True, check=True).stdout


# Moments ------------------------------------------------------------------------------------------------------------------------


def test_a_moment_is_the_same_in_any_time_zone(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    begin_at = time.time() + 12
    ending = session.submit(jobs.succeed(), begin_at=begin_at).wait(LIMIT_S).check()
    assert ending.began_at is not None
    assert begin_at <= ending.began_at < begin_at + LIMIT_S


def test_a_deadline_that_cannot_be_met(session: Session) -> None:
    job = session.submit(jobs.succeed(), deadline_at=time.time() - 60, walltime=60)
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.cause, ending.aborted) == (JobState.FAILED, Cause.REJECTED, True)
    assert "never run" in ending.message


def test_a_signal_announces_the_end(session: Session, tmp_path: Path) -> None:
    job = session.submit(jobs.trap(tmp_path / "log", ["USR2"], code=9), walltime=120, soft_walltime=2)
    assert job.wait(LIMIT_S).exit_code == 9
    assert (tmp_path / "log").read_text().splitlines() == ["ready", "USR2"]


# Dependencies ---------------------------------------------------------------------------------------------------------------


def test_after_a_whole_array_and_after_its_first_task(session: Session, tmp_path: Path) -> None:
    """The array and its first task have the same number in OAR."""
    gate, log = tmp_path / "gate", tmp_path / "log"
    array = session.submit_array(
        jobs.shell('[ "$JOBYARD_TASK_INDEX" = 1 ] || while [ ! -e "$1" ]; do sleep 0.1; done', gate), [1, 2]
    )
    of_one = session.submit(jobs.append(log, "one"), after=[After(array[0].token, "any")])
    of_all = session.submit(jobs.append(log, "all"), after=[After(array.token, "any")])
    of_one.wait(LIMIT_S).check()
    assert of_all.state.waiting
    gate.touch()
    of_all.wait(LIMIT_S).check()
    assert [line.split()[:2] for line in log.read_text().splitlines() if line.startswith("begin")] == [
        ["begin", "one"],
        ["begin", "all"],
    ]


# Jobs of the user's that are none of ours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code", "signal"), [("exit 3", 3, None), ("exit 255", 255, None), ("kill -9 $$", None, "SIGKILL")]
)
def test_a_foreign_job_ends_exactly(session: Session, script: str, code: int | None, signal: str | None) -> None:
    job = session.attach(oarsub("--hold", script))
    job.release()
    ending = job.wait(timeout=LIMIT_S)
    assert (ending.exit_code, ending.signal, ending.cause) == (code, signal, Cause.EXITED)


def test_a_folder_that_is_not_there(session: Session, tmp_path: Path) -> None:
    ending = session.attach(oarsub("-d", str(tmp_path / "nowhere"), "true")).wait(LIMIT_S)
    assert (ending.state, ending.cause, ending.aborted) == (JobState.FAILED, Cause.NOT_STARTED, True)
    assert "working directory" in ending.message


@pytest.mark.parametrize("running", [True, False])
def test_a_job_that_is_deleted_by_hand(session: Session, tmp_path: Path, running: bool) -> None:
    job = begun(session, tmp_path) if running else session.submit(jobs.succeed(), hold=True)
    subprocess.run(["oardel", job.native_id or ""], capture_output=True, check=True)
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.cause, ending.aborted) == (JobState.CANCELLED, Cause.CANCELLED, not running)


def test_what_oar_would_not_quote(session: Session, tmp_path: Path) -> None:
    """It puts names into a Perl program on the node."""
    name = """a'; system("touch hacked"); 'b\n$(id)"""
    job = session.submit(jobs.append(tmp_path / "log", "ran"), name=name)
    assert job.name == name
    job.wait(LIMIT_S).check()
    assert "begin ran" in (tmp_path / "log").read_text()
    with pytest.raises(InvalidJob):
        session.submit(jobs.succeed(), account="it's")


# Outages -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAULTS)
def test_no_answer_changes_nothing(session: Session, commands: Commands, tmp_path: Path, kind: str) -> None:
    assert_no_answer_changes_nothing(session, commands, tmp_path, kind, AWAY)


# Cost ---------------------------------------------------------------------------------------------------------------------------


def test_like_jobs_are_one_oarsub(session: Session, commands: Commands) -> None:
    """OAR's server deletes jobs one by one, and does nothing else meanwhile."""
    assert_thousand_are_one(session, commands, "oarsub", "oardel", count=100)


def test_ten_clients_ask_no_more_than_one(yard: Path, commands: Commands) -> None:
    began_s = time.monotonic()
    alone = follow(commands, CONTACT, 1, 40, 8.0)
    between_s = time.monotonic()
    together = follow(commands, CONTACT, 10, 4, 8.0)
    longer = max(1.0, (time.monotonic() - between_s) / (between_s - began_s))  # ten processes on a busy machine
    assert together <= (alone + 1) * longer, f"{together} queries of 10 clients, {alone} of one"
