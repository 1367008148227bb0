"""A scheduler that is away, late, or answers nonsense: nothing changes state by that, no job is lost or doubled."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.test_kill_client import half_way
from jobyard import Cause, Job, JobState, SchedulerUnavailable, Session, SubmitError
from jobyard.job import Transition
from jobyard.schedulers.command import CommandOptions
from jobyard.testing import standin
from jobyard.testing.polling import eventually


def opened(cell: standin.Cell) -> Session:
    return Session(f"{cell.contact}&poll=0.2")


@pytest.fixture
def cell(yard: Path) -> Iterator[standin.Cell]:
    with standin.install(yard / "cell", slots=4, kill_grace_s=1.0) as made:
        yield made


@pytest.fixture
def session(cell: standin.Cell) -> Iterator[Session]:
    with opened(cell) as made:
        yield made


def reached(session: Session, job: Job, *states: JobState) -> None:
    """Wait for one of the states."""
    event = threading.Event()
    watch = session.watch(lambda _, transition: event.set() if transition.state in states else None, [job])
    if job.state not in states:
        assert event.wait(30), (job.state, [line.text for line in job.why()])
    watch.close()


def gated(folder: Path, code: int = 0) -> list[str]:
    """A job that begins by making ``begun`` and ends when ``gate`` is there."""
    script = 'touch "$1/begun"; while [ ! -e "$1/gate" ]; do sleep 0.02; done; exit "$2"'
    return ["/bin/sh", "-c", script, "sh", str(folder), str(code)]


def queries(cell_session: Session) -> int:
    return int(cell_session.scheduler.commands_run["query"])  # type: ignore[attr-defined]


def test_a_receipt_that_is_final_alone_needs_no_scheduler(session: Session, cell: standin.Cell, tmp_path: Path) -> None:
    job = session.submit(gated(tmp_path, 7))
    reached(session, job, JobState.RUNNING)
    cell.fault(None, "exit", code=1, text="slurm_load_jobs error: Unable to contact the controller")
    (tmp_path / "gate").touch()
    assert job.wait(30).exit_code == 7


@pytest.mark.parametrize("kind", ["exit", "garbage", "empty", "truncated", "wrong_ids", "foreign"])
def test_nonsense_changes_no_state_and_recovery_is_automatic(
    session: Session, cell: standin.Cell, tmp_path: Path, kind: str
) -> None:
    job = session.submit(gated(tmp_path))
    reached(session, job, JobState.RUNNING)
    seen: list[JobState] = []
    told = threading.Event()

    def note(_: Job, transition: Transition) -> None:
        seen.append(transition.state)
        told.set()

    session.watch(note)
    details: dict[str, Any] = {}
    if kind == "exit":
        details = {"code": 1, "text": "timed out"}
    elif kind == "truncated":
        details = {"keep": 0.3}
    cell.fault("queue", kind, **details)
    before = queries(session)
    asked = threading.Event()
    while queries(session) < before + 3:
        asked.wait(0.05)
    assert job.state is JobState.RUNNING
    assert seen == []
    cell.clear()
    job.cancel()  # its receipt is not final alone: only the scheduler's word ends it
    assert job.wait(70).cause is Cause.CANCELLED
    assert told.wait(20)
    assert seen == [JobState.CANCELLED]


def test_a_query_that_hangs_delays_nobody(cell: standin.Cell, tmp_path: Path) -> None:
    """Receipts, submissions and control go on while it hangs; after its time it is asked again."""
    scheduler = standin.standin_scheduler(cell, CommandOptions(timeout_s=4.0, interpreter=sys.executable))
    with Session(f"{cell.contact}&poll=0.2", scheduler=scheduler) as session:
        job = session.submit(gated(tmp_path))
        reached(session, job, JobState.RUNNING)
        cell.fault("queue", "hang", times=1)
        asked, before = threading.Event(), queries(session)
        while queries(session) == before:
            asked.wait(0.02)
        assert session.submit(["/bin/sh", "-c", "exit 3"]).wait(3).exit_code == 3
        job.cancel()
        assert job.wait(30).cause is Cause.CANCELLED


def test_an_answer_is_as_old_as_its_question(session: Session, cell: standin.Cell, tmp_path: Path) -> None:
    """A row that says running, asked for before the job was suspended and told after it, resumes nothing."""
    job = session.submit(gated(tmp_path))
    reached(session, job, JobState.RUNNING)
    cell.fault("queue", "late", times=1, seconds=1.0)
    asked, before = threading.Event(), queries(session)
    while queries(session) == before:
        asked.wait(0.02)
    job.suspend()
    seen: list[JobState] = []
    session.watch(lambda _, transition: seen.append(transition.state))
    while queries(session) < before + 2:
        asked.wait(0.02)
    assert job.state is JobState.SUSPENDED
    assert JobState.RUNNING not in seen
    job.resume()
    (tmp_path / "gate").touch()
    assert job.wait(30).success


def test_why_says_since_when_it_does_not_answer(session: Session, cell: standin.Cell, tmp_path: Path) -> None:
    job = session.submit(gated(tmp_path))
    reached(session, job, JobState.RUNNING)
    cell.fault("queue", "exit", code=1, text="no route to the controller")
    waited = threading.Event()
    while "no route to the controller" not in job.why()[-1].text:
        waited.wait(0.05)
    cell.clear()
    while "does not answer" in job.why()[-1].text:
        waited.wait(0.05)
    (tmp_path / "gate").touch()
    assert job.wait(30).success


def test_the_interval_backs_off(session: Session, cell: standin.Cell, tmp_path: Path) -> None:
    job = session.submit(gated(tmp_path))
    reached(session, job, JobState.RUNNING)
    cell.fault("queue", "exit", code=1, text="busy")
    tracker = session._keeper.tracker  # type: ignore[attr-defined]
    waits: set[float] = set()
    pause = threading.Event()
    while len(waits) < 4:
        pause.wait(0.02)
        if tracker.hearing.silence() is not None:
            waits.add(tracker._interval_s)
    assert sorted(waits)[-1] >= 4 * sorted(waits)[0]
    (tmp_path / "gate").touch()
    assert job.wait(30).success


@pytest.mark.parametrize("kind", ["mute", "die_after"])
def test_an_answer_that_is_lost_is_looked_up(session: Session, cell: standin.Cell, tmp_path: Path, kind: str) -> None:
    cell.fault("submit", kind, times=1)
    job = session.submit(["/bin/sh", "-c", f"echo x >> {tmp_path}/runs; exit 4"])
    assert job.wait(30).exit_code == 4
    assert (tmp_path / "runs").read_text() == "x\n"


def test_a_submission_that_never_arrived_runs_nothing(session: Session, cell: standin.Cell, tmp_path: Path, yard: Path) -> None:
    cell.fault("submit", "die_before", times=1)
    with pytest.raises(SchedulerUnavailable):
        session.submit(["/bin/sh", "-c", f"echo x >> {tmp_path}/runs"])
    assert session.jobs() == []
    assert session.submit(["/bin/true"]).wait(30).success
    assert not (tmp_path / "runs").exists()


def test_what_nobody_can_tell_is_withdrawn(
    session: Session, cell: standin.Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accepted without an answer, and the scheduler then away: the call fails, and the job never runs."""
    monkeypatch.setattr("jobyard.submission.UNANSWERED_S", 1.0)
    cell.configure(slots=1)
    blocker = session.submit(gated(tmp_path))
    reached(session, blocker, JobState.RUNNING)
    cell.fault("submit", "mute", times=1)
    cell.fault("queue", "exit", code=1, text="away")
    cell.fault("account", "exit", code=1, text="away")
    with pytest.raises(SchedulerUnavailable):
        session.submit(["/bin/sh", "-c", f"echo x >> {tmp_path}/runs"])
    cell.clear()
    (tmp_path / "gate").touch()
    assert blocker.wait(30).success
    assert session.submit(["/bin/true"]).wait(30).success  # ran after it in the queue
    assert not (tmp_path / "runs").exists()
    assert [job.native_id for job in session.jobs()] == [blocker.native_id, session.jobs()[-1].native_id]


def test_what_ctrl_c_cut_short_is_settled_at_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when it is time to look for what died processes left."""
    monkeypatch.setattr("jobyard.tracker.RENEW_S", 3600.0)
    assert session.submit(["/bin/true"]).wait(30).success

    def interrupted(submission: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session.scheduler, "submit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.submit(["/bin/true"])
    assert half_way()
    eventually(lambda: not half_way(), "it is undone")
    assert len(session.jobs()) == 1


def test_a_job_sent_twice_runs_once(session: Session, cell: standin.Cell, tmp_path: Path) -> None:
    cell.fault("submit", "twice", times=1)
    job = session.submit(["/bin/sh", "-c", f"echo x >> {tmp_path}/runs; exit 5"])
    assert job.wait(60).exit_code == 5
    after = session.submit(["/bin/true"])
    assert after.wait(30).success
    assert (tmp_path / "runs").read_text() == "x\n"


def test_a_refusal_leaves_nothing(session: Session, cell: standin.Cell, yard: Path) -> None:
    cell.fault("submit", "refuse", times=1, text="too many jobs; try again later")
    with pytest.raises(SubmitError, match="too many jobs") as caught:
        session.submit(["/bin/true"])
    assert caught.value.retryable
    assert session.jobs() == []
    assert session.submit(["/bin/true"]).wait(30).success


def test_purged_at_once_and_accounted_late(session: Session, cell: standin.Cell, tmp_path: Path) -> None:
    cell.configure(linger_s=0.0)
    job = session.submit(gated(tmp_path))
    reached(session, job, JobState.RUNNING)
    job.cancel()
    assert job.wait(60).cause is Cause.CANCELLED


def test_one_process_asks_for_all(cell: standin.Cell, tmp_path: Path) -> None:
    """Six processes that follow jobs for the same while cause about as many queries as one does."""
    program = """
import os, sys, jobyard
with jobyard.Session(sys.argv[1]) as session:
    jobs = session.submit_all([["/bin/sh", "-c", f'while [ ! -e {sys.argv[2]}/gate ]; do sleep 0.1; done']] * 3)
    os.write(1, b"1")
    assert all(e.exit_code == 0 for e in session.wait_all(jobs, timeout=60))
    os.write(1, str(session.scheduler.commands_run["query"]).encode())
"""
    cell.configure(slots=40)
    contact = f"{cell.contact}&poll=1"

    def follow(count: int, folder: Path) -> int:
        folder.mkdir()
        clients = [
            subprocess.Popen([sys.executable, "-c", program, contact, str(folder)], stdout=subprocess.PIPE) for _ in range(count)
        ]
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.read(1) == b"1"
        threading.Event().wait(5.0)  # the time that is measured: intervals, not an event
        (folder / "gate").touch()
        total = sum(int(client.communicate(timeout=60)[0]) for client in clients)
        assert all(client.returncode == 0 for client in clients)
        return total

    alone = follow(1, tmp_path / "one")
    together = follow(6, tmp_path / "six")
    assert together <= alone + 4, (alone, together)


def test_like_jobs_are_one_command(session: Session) -> None:
    jobs = session.submit_all([["/bin/sh", "-c", f"exit {n % 5}"] for n in range(200)])
    assert session.scheduler.commands_run["submit"] == 1  # type: ignore[attr-defined]
    assert [ending.exit_code for ending in session.wait_all(jobs, timeout=120)] == [n % 5 for n in range(200)]


def test_an_array_over_the_site_s_limit_stays_one_array(cell: standin.Cell, tmp_path: Path) -> None:
    cell.configure(max_array=7)
    with opened(cell) as session:
        array = session.submit_array(
            ["/bin/sh", "-c", f'echo "$JOBYARD_TASK_INDEX" >> {tmp_path}/runs; exit $JOBYARD_TASK_INDEX'],
            range(0, 40, 2),
            max_running=2,
        )
        assert [ending.exit_code for ending in array.wait(120)] == list(range(0, 40, 2))
        assert [task.task_index for task in session.array(array.token)] == list(range(0, 40, 2))
        assert session.scheduler.commands_run["submit"] == 3  # type: ignore[attr-defined]
    assert sorted(map(int, (tmp_path / "runs").read_text().split())) == list(range(0, 40, 2))


def test_two_sessions_of_one_process(cell: standin.Cell, tmp_path: Path) -> None:
    with opened(cell) as one, opened(cell) as two:
        first, second = one.submit(["/bin/sh", "-c", "exit 1"]), two.submit(["/bin/sh", "-c", "exit 2"])
        assert (first.wait(30).exit_code, second.wait(30).exit_code) == (1, 2)
        with Session(one.contact) as again:
            assert again.job(first.native_id).wait(30).exit_code == 1
            assert [job.native_id for job in again.jobs()] == [first.native_id]
