"""What only Slurm has, on a running one: ids, signals, limits, and its queries counted. Run by ``testbeds/as_user.sh slurm``."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobyard import Cause, JobState, Session
from jobyard.job import By
from jobyard.schedulers.slurm import SlurmScheduler
from jobyard.testing import jobs
from jobyard.testing.polling import eventually
from schedulers.between import assert_killed_clients_lose_nothing, assert_told_at_once
from schedulers.live import CONTACT, only_on

only_on("slurm")

LIMIT_S = 60.0


@pytest.fixture
def session(yard: Path) -> Iterator[Session]:
    """A fresh session in folders of its own; nothing of it is left in the queue."""
    with Session(CONTACT) as session:
        yield session
        if not session.closed:
            session.cancel()


def scheduler_of(session: Session) -> SlurmScheduler:
    found = session.scheduler
    assert isinstance(found, SlurmScheduler)
    return found


def sbatch(*words: str, folder: Path) -> str:
    """A job of the user's that is none of ours; its id."""
    argv = ["sbatch", "--parsable", "--output=/dev/null", f"--chdir={folder}", *words]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout.strip().partition(";")[0]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# Ids ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indices", [[1, 2, 3], [0, 1], [5, 7, 9], [100_000, 100_001]])
def test_ids_and_indices_on_the_node(session: Session, yard: Path, indices: list[int]) -> None:
    """Slurm's own variable holds the user's index, also where it was sent another, and one over what it may take."""
    tell = 'echo "$JOBYARD_TASK_INDEX $SLURM_ARRAY_TASK_ID $JOBYARD_NATIVE_ID $JOBYARD_ARRAY_ID" >"$1.$JOBYARD_TASK_INDEX"'
    array = session.submit_array(jobs.shell(tell, yard / "told"), indices)
    for task in array:
        task.wait(timeout=LIMIT_S).check()
        told = (yard / f"told.{task.task_index}").read_text().split()
        assert told == [str(task.task_index), str(task.task_index), task.native_id, task.native_id.partition("_")[0]]


def test_nothing_of_slurms_says_that_like_jobs_are_an_array(session: Session, yard: Path) -> None:
    both = session.submit_all([jobs.shell(f"env | grep -c ^SLURM_ARRAY_ >{yard}/{name}; true") for name in "ab"])
    for job in both:
        job.wait(timeout=LIMIT_S).check()
    assert [(yard / name).read_text().strip() for name in "ab"] == ["0", "0"]


# Signals to tasks whose siblings wait -------------------------------------------------------------------------------


def test_a_task_whose_siblings_wait_gets_one_signal(session: Session, yard: Path) -> None:
    """scancel would send it again every five seconds."""
    log, gate = yard / "log", yard / "gate"
    script = 'trap "echo USR1 >>$1" USR1; echo ready >>"$1"; while [ ! -e "$2" ]; do /bin/sleep 0.1; done'
    array = session.submit_array(jobs.shell(script, log, gate), [1, 2, 3], max_running=1)
    eventually(lambda: lines(log), "the first task runs", LIMIT_S)
    running = next(task for task in array if task.state is JobState.RUNNING or not task.state.waiting)
    running.signal("USR1")
    eventually(lambda: "USR1" in lines(log), "the signal has come", LIMIT_S)
    gate.touch()
    running.wait(timeout=LIMIT_S).check()
    assert lines(log).count("USR1") == 1
    array.cancel()


def test_a_task_whose_siblings_wait_is_suspended_alone(session: Session, yard: Path) -> None:
    gate, log = yard / "gate", yard / "log"
    array = session.submit_array(jobs.gated(gate, begun=log), [1, 2, 3, 4], max_running=2)
    eventually(lambda: len(lines(log)) == 2, "two tasks run", LIMIT_S)
    eventually(lambda: sum(task.state is JobState.RUNNING for task in array) == 2, "two tasks are seen running", LIMIT_S)
    running = [task for task in array if task.state is JobState.RUNNING]
    running[0].suspend()
    assert (running[0].state, running[0].by) == (JobState.SUSPENDED, By.USER)
    gate.touch()
    running[1].wait(timeout=LIMIT_S).check()
    assert running[0].state is JobState.SUSPENDED
    running[0].resume()
    for task in array:
        task.wait(timeout=LIMIT_S).check()


# Jobs of the user's that are none of ours ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code", "signal"), [("exit 3", 3, None), ("exit 255", 255, None), ("kill -KILL $$", None, "SIGKILL")]
)
def test_a_foreign_job_ends_exactly(session: Session, yard: Path, script: str, code: int | None, signal: str | None) -> None:
    ending = session.attach(sbatch("--hold", f"--wrap={script}", folder=yard))
    ending.release()
    told = ending.wait(timeout=LIMIT_S)
    assert (told.exit_code, told.signal, told.cause) == (code, signal, Cause.EXITED)


def test_hostile_names_and_folders_of_others_change_nothing(session: Session, yard: Path) -> None:
    ours = session.submit(jobs.succeed(), hold=True)
    folder = yard / f"a\n{ours.native_id}|b"
    folder.mkdir()
    name = f"x\nCOMPLETED|{ours.native_id}|None|0|0#\nFAILED"
    theirs = sbatch("--hold", f"--job-name={name}", "--wrap=true", folder=folder)
    try:
        answer = scheduler_of(session).query([])
        assert answer.complete
        rows = {row.native_id: row for row in answer.rows}
        assert rows[theirs].name == name
        assert rows[ours.native_id].state is JobState.HELD
        assert session.attach(theirs).name == name
        ours.release()
        ours.wait(timeout=LIMIT_S).check()
    finally:
        subprocess.run(["scancel", theirs], check=True)


def test_one_cancelled_behind_our_back(session: Session) -> None:
    job = session.submit(jobs.succeed(), hold=True)
    subprocess.run(["scancel", job.native_id], check=True)
    ending = job.wait(timeout=LIMIT_S)
    assert (ending.state, ending.cause, ending.aborted) == (JobState.CANCELLED, Cause.CANCELLED, True)


@pytest.mark.long
def test_a_task_cancelled_behind_our_back_while_it_waits(session: Session) -> None:
    """Slurm forgets it at once, in queue and accounting, while others of its array wait: lost, after the grace of two minutes."""
    array = session.submit_array(jobs.succeed(), [1, 2, 3], hold=True)
    subprocess.run(["scancel", array[1].native_id], check=True)
    ending = array[1].wait(timeout=240)
    assert (ending.state, ending.cause, ending.aborted) == (JobState.FAILED, Cause.LOST, True)
    array.release()
    for task in (array[0], array[2]):
        task.wait(timeout=LIMIT_S).check()


# Limits -------------------------------------------------------------------------------------------------------------


def test_ten_thousand_tasks_are_one_array(session: Session) -> None:
    """24.11's bed allows 1000 tasks in an array."""
    scheduler = scheduler_of(session)
    limit = scheduler.limits().max_array_size
    assert limit is not None
    before = scheduler.commands_run["submit"]
    array = session.submit_array(jobs.succeed(), range(1, 10_001), hold=True)
    assert scheduler.commands_run["submit"] - before == -(-10_000 // limit)
    assert len(array) == 10_000
    assert len({task.native_id for task in array}) == 10_000
    assert [task.task_index for task in array][:3] == [1, 2, 3]
    array.cancel()
    endings = session.wait_all(list(array), timeout=2 * LIMIT_S)
    assert Counter(ending.state for ending in endings) == {JobState.CANCELLED: 10_000}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_an_array_over_the_limit_runs_as_one(session: Session, yard: Path) -> None:
    log = jobs.shell('echo "$SLURM_ARRAY_TASK_ID" >>"$1"', yard / "log")
    array = session.submit_array(log, range(1, 3001), priority=-10_000)  # other tests' jobs need not wait for all of it
    endings = session.wait_all(list(array), timeout=1100)
    assert Counter(ending.exit_code for ending in endings) == {0: 3000}
    assert sorted(map(int, lines(yard / "log"))) == list(range(1, 3001))


# Cost ---------------------------------------------------------------------------------------------------------------


def test_a_thousand_like_jobs_are_one_sbatch(session: Session) -> None:
    scheduler = scheduler_of(session)
    before = Counter(scheduler.commands_run)
    many = session.submit_all([jobs.shell(f"exit {n % 7}") for n in range(1000)], hold=True)
    assert scheduler.commands_run["submit"] - before["submit"] == 1
    assert len({job.native_id for job in many}) == 1000
    session.cancel(many)
    assert scheduler.commands_run["control"] - before["control"] == 1
    session.wait_all(many, timeout=2 * LIMIT_S)


def test_an_end_is_told_at_once(session: Session, yard: Path) -> None:
    """By its receipt, not by a poll."""
    assert_told_at_once(session, yard, 9)


CLIENT = """
import json, sys, time
from jobyard import Session
from jobyard.testing import jobs

contact, count, name = json.loads(sys.argv[1])
with Session(contact) as session:
    many = session.submit_all([jobs.succeed()] * count, hold=True, name=name)
    for limit_s in (6.0, 60.0):
        try:
            session.wait_all(many, timeout=limit_s)
        except TimeoutError:
            print("waiting", flush=True)
"""


def counted(yard: Path, monkeypatch: pytest.MonkeyPatch, *programs: str) -> Path:
    """Wrappers of programs, first on PATH: they write their names to the file that is returned, and fail while there is "away"."""
    log, folder = yard / "calls", yard / "bin"
    folder.mkdir()
    log.touch()
    for program in programs:
        real = shutil.which(program)
        wrapper = folder / program
        wrapper.write_text(
            f'#!/bin/sh\nif [ -e {yard}/away ]; then echo "{program}: error: Unable to contact slurm controller" >&2; exit 1; fi\n'
            f'echo {program} >>{log}\nexec {real} "$@"\n'
        )
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


def queries(log: Path, clients: int, each: int, name: str) -> int:
    """How many queue queries these clients cause in ten seconds, once each has waited for its jobs for a while."""
    argv = [sys.executable, "-c", CLIENT, json.dumps([CONTACT, each, name])]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(clients)]
    try:
        for client in running:
            assert client.stdout is not None
            assert client.stdout.readline() == "waiting\n"
        before = lines(log).count("squeue")
        time.sleep(10.0)  # they are counted over it
        return lines(log).count("squeue") - before
    finally:
        for client in running:
            client.kill()
            client.communicate()


def test_twenty_clients_ask_no_more_than_one(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = counted(yard, monkeypatch, "squeue")
    name = f"counted-{yard.name}"
    try:
        alone = queries(log, 1, 1000, name)
        together = queries(log, 20, 50, name)
    finally:
        subprocess.run(["scancel", f"--name={name}"], check=True)
    assert together <= alone + 1, f"{together} queries of 20 clients, {alone} of one"


# Outages ------------------------------------------------------------------------------------------------------------


def test_an_outage_changes_nothing_and_is_told(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = counted(yard, monkeypatch, "squeue", "sacct", "scontrol")
    with Session(CONTACT) as session:
        held = session.submit(jobs.succeed(), hold=True)
        gone = session.submit(jobs.succeed(), hold=True)
        (yard / "away").touch()
        subprocess.run(["scancel", gone.native_id], check=True)
        with pytest.raises(TimeoutError):
            session.wait_all(timeout=4.0)
        assert held.state is JobState.HELD
        assert gone.state is JobState.HELD
        assert any("Unable to contact" in line.text for line in held.why()), [line.text for line in held.why()]
        asked = len(lines(log))
        (yard / "away").unlink()
        ending = gone.wait(timeout=2 * LIMIT_S)
        assert ending.state is JobState.CANCELLED
        held.release()
        held.wait(timeout=LIMIT_S).check()
        assert len(lines(log)) > asked


# Crashes ------------------------------------------------------------------------------------------------------------


def test_the_client_is_killed_around_submission(yard: Path) -> None:
    assert_killed_clients_lose_nothing(CONTACT, yard, 6, 1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_the_client_is_killed_around_submission_at_length(yard: Path, seed: int) -> None:
    assert_killed_clients_lose_nothing(CONTACT, yard, 10, seed)
