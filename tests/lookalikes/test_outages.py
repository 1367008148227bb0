"""Each scheduler that has a lookalike, away, late or talking nonsense: no state changes by that, and no job is lost or doubled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobyard import Job, JobState, Session, SubmitError
from jobyard.errors import JobyardError, SchedulerUnavailable
from jobyard.job import Transition
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing import jobs, lookalike
from jobyard.testing.polling import eventually
from jobyard.testing.standin.programs.jobs import ACTIVE
from lookalikes.areas import on_path

STYLES = tuple(lookalike.COMMANDS)
# Of Cobalt and NQSV the two that are the dialect's own work; the others run every day on the other lookalikes.
EVERY_DAY = ("*[pbs*", "*[torque*", "*[lsf*", "*[flux*", "*-away]", "*-die_after]")


@pytest.fixture(scope="module", params=STYLES)
def cell(request: pytest.FixtureRequest) -> Iterator[lookalike.Lookalike]:
    with on_path(request.param, slots=4, kill_grace_s=1.0) as made:
        yield made


@pytest.fixture
def session(cell: lookalike.Lookalike) -> Iterator[Session]:
    with Session(f"{cell.contact}{'&' if '?' in cell.contact else '?'}poll=0.2") as made:
        yield made
        cell.clear()
        cell.configure(away=False, history=True)
        if not made.closed:
            made.cancel()


def reached(session: Session, job: Job, *states: JobState) -> None:
    """Wait for one of the states."""
    event = threading.Event()
    watch = session.watch(lambda _, transition: event.set() if transition.state in states else None, [job])
    if job.state not in states:
        assert event.wait(30), (job.state, [line.text for line in job.why()])
    watch.close()


def questions(session: Session) -> int:
    scheduler = session.scheduler
    assert isinstance(scheduler, CommandScheduler)
    return sum(scheduler.commands_run[name] for name in ("query", "account"))


def wait_for_questions(session: Session, count: int) -> None:
    """Until so many more were asked; what watches them is the tracker's own thread."""
    wanted, waited = questions(session) + count, threading.Event()
    for _ in range(1500):
        if questions(session) >= wanted:
            return
        waited.wait(0.1)
    pytest.fail("the scheduler is not asked any more")


@pytest.mark.parametrize("kind", ["away", "exit", "garbage", "empty", "truncated", "noise"])
def test_nonsense_changes_no_state_and_recovery_is_automatic(
    session: Session, cell: lookalike.Lookalike, tmp_path: Path, kind: str
) -> None:
    job = session.submit(jobs.gated(tmp_path / "gate", 5))
    reached(session, job, JobState.RUNNING)
    told: list[JobState] = []

    def note(_: Job, transition: Transition) -> None:
        told.append(transition.state)

    session.watch(note, [job])
    details: dict[str, Any] = {"code": 1, "text": "timed out"} if kind == "exit" else {}
    if kind == "away":
        cell.configure(away=True)
    else:
        for verb in ("queue", "account"):
            cell.fault(verb, kind, **details)
    wait_for_questions(session, 3)
    assert told == []
    assert job.state is JobState.RUNNING
    cell.clear()
    cell.configure(away=False)
    (tmp_path / "gate").touch()
    assert job.wait(30).exit_code == 5


def test_a_job_that_ended_while_the_scheduler_was_away(session: Session, cell: lookalike.Lookalike, tmp_path: Path) -> None:
    """It must not have ended before: its end would have been seen, and nobody would ask again."""
    gate = tmp_path / "gate"
    ending_by_signal = 'until [ -e "$1" ]; do /bin/sleep 0.05; done; kill -TERM $$; /bin/sleep 5'
    job = session.submit(jobs.shell(ending_by_signal, gate))  # not final alone: only the scheduler can say why
    reached(session, job, JobState.RUNNING)
    cell.configure(away=True)
    gate.touch()
    eventually(lambda: list(cell.jobs().values())[-1][0] not in ACTIVE, "the job has ended")
    wait_for_questions(session, 2)
    assert not job.state.final
    cell.configure(away=False)
    ending = job.wait(60)
    assert (ending.state, ending.signal) == (JobState.FAILED, "SIGTERM")


@pytest.mark.parametrize("kind", ["die_after", "die_before", "mute"])
def test_a_submission_that_was_cut_short_runs_once_or_never(
    session: Session, cell: lookalike.Lookalike, tmp_path: Path, kind: str
) -> None:
    log = tmp_path / "log"
    cell.fault("submit", kind, times=1)
    try:
        job = session.submit(jobs.append(log, "once"))
    except (SchedulerUnavailable, SubmitError):
        assert kind == "die_before"
        assert session.jobs() == []
        job = session.submit(jobs.append(log, "once"))
    assert job.wait(30).success
    assert log.read_text().splitlines() == ["begin once -", "end once -"]


def test_an_array_that_was_cut_short_is_found(session: Session, cell: lookalike.Lookalike, tmp_path: Path) -> None:
    if not session.capabilities.arrays:
        return
    log = tmp_path / "log"
    cell.fault("submit", "die_after", times=1)
    array = session.submit_array(jobs.append(log, "task"), [3, 5, 9])
    assert [ending.success for ending in array.wait(30)] == [True] * 3
    assert sorted(line for line in log.read_text().splitlines() if "begin" in line) == [f"begin task {n}" for n in (3, 5, 9)]


def test_nothing_is_submitted_where_nobody_answers(session: Session, cell: lookalike.Lookalike, tmp_path: Path) -> None:
    cell.configure(away=True)
    with pytest.raises(JobyardError) as caught:
        session.submit(jobs.append(tmp_path / "log", "x"))
    assert caught.value.retryable
    assert session.jobs() == []
    cell.configure(away=False)
    assert session.submit(jobs.succeed()).wait(30).success
    assert not (tmp_path / "log").exists()


def test_the_queue_is_asked_for_all_jobs_at_once(session: Session, tmp_path: Path) -> None:
    """Sixty jobs cost hardly more questions than two."""
    spent = []
    for count in (2, 60):
        gate = tmp_path / f"gate{count}"
        many = session.submit_all([jobs.gated(gate)] * count)
        reached(session, many[0], JobState.RUNNING)
        before = questions(session)
        gate.touch()
        session.wait_all(many, timeout=60)
        spent.append(questions(session) - before)
    assert spent[1] <= 3 * spent[0] + 20, spent


def test_without_job_history_an_ending_is_the_receipts(session: Session, cell: lookalike.Lookalike, tmp_path: Path) -> None:
    """The scheduler forgets a job when it ends; what the node reported stays."""
    cell.configure(history=False)
    ended, cancelled = session.submit(jobs.exit_with(3)), session.submit(jobs.gated(tmp_path / "gate"))
    assert ended.wait(30).exit_code == 3
    reached(session, cancelled, JobState.RUNNING)
    cancelled.cancel()
    assert cancelled.wait(60).state is JobState.CANCELLED
