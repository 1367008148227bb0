"""Programs that look at states now and then, and never wait: what receipts say is known at the next look, without a thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobyard import Job, JobState, Session
from jobyard.testing import standin
from jobyard.testing.polling import eventually


@pytest.fixture
def session(yard: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """One whose scheduler is asked at the beginning, and an hour later: what is known between, receipts said."""
    with standin.install(yard / "cell", slots=4) as cell:
        monkeypatch.setenv("PATH", cell.environment()["PATH"])
        with Session(f"standin?cell={cell.folder}&poll=1h") as made:
            yield made


def look(job: Job, *states: JobState) -> None:
    """Ask for its state until it is one of these."""
    eventually(lambda: job.state in states, f"it is {' or '.join(states)}")


def test_ends_are_seen_without_asking_the_queue_again(session: Session, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = session.submit(["/bin/sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.01; done; exit 5"])
    array = session.submit_array(["/bin/sh", "-c", "exit 0"], [1, 2, 3])
    look(job, JobState.RUNNING)
    gate.touch()
    look(job, JobState.FAILED)
    assert job.ending is not None
    assert job.ending.exit_code == 5
    for task in array:
        look(task, JobState.DONE)
    assert session.scheduler.commands_run["query"] <= 1  # type: ignore[attr-defined]
    assert not session._keeper_now().tracker.threaded  # type: ignore[attr-defined]


def test_looking_and_waiting_by_turns(session: Session) -> None:
    """A thread that waits takes over; nothing is told twice or lost."""
    first = session.submit(["/bin/true"])
    look(first, JobState.DONE)
    second = session.submit(["/bin/sh", "-c", "exit 3"])
    assert second.wait(timeout=60).exit_code == 3
    third = session.submit(["/bin/true"])
    look(third, JobState.DONE)
    for job in (first, second, third):
        states = [transition.state for transition in job.history]
        assert len(set(states)) == len(states)
