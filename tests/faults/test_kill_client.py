"""The client is killed at random lines across submission: every accepted job runs once and is known, and nothing runs twice."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobyard import Session
from jobyard.config import state_dir
from jobyard.testing import standin

PROGRAM = Path(__file__).with_name("kill_client.py")


def kill_and_count(contact: str, folder: Path, kills: int, seed: int) -> None:
    """The kills, then the books: what was accepted, what ran, what the session knows."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), contact, str(folder), str(kills), str(seed)],
        stdout=subprocess.PIPE,
        timeout=250,
        check=True,
    )
    assert int(done.stdout) == kills
    with Session(contact) as session:
        known = settled(session)
    accepted = (folder / "accepted").read_text().split()
    runs = Counter((folder / "runs").read_text().split())
    again = {label: count for label, count in runs.items() if count != 1}
    assert not again, f"seed {seed}: run more than once"
    assert not set(accepted) - set(runs), f"seed {seed}: accepted and never run"
    assert set(runs) == set(known), f"seed {seed}: what ran and what is known differ"
    assert not {label: code for label, code in known.items() if code != 0}, f"seed {seed}: ended otherwise than they did"


def settled(session: Session) -> dict[str, int | None]:
    """Exit codes of all jobs by label, once nothing is left that a killed client began, and no job is unfinished.

    What it left half-way is settled by whoever opens the session; that takes two looks, 2 s apart.
    """
    deadline = time.monotonic() + 300
    while True:
        with contextlib.suppress(TimeoutError):
            session.wait_all(timeout=1.0)
            if not half_way():
                jobs = session.jobs()
                if all(job.state.final for job in jobs):
                    break
        if time.monotonic() > deadline:
            pytest.fail(f"not settled: {half_way()}, {[job for job in session.jobs() if not job.state.final]}")
    return {job.name if job.task_index is None else f"{job.name}.{job.task_index}": job.wait(0).exit_code for job in jobs}


def half_way() -> list[str]:
    """Tokens of submissions that were intended and neither accepted nor refused."""
    path = Path(state_dir()) / "journal.db"
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as journal:
        return [row[0] for row in journal.execute("SELECT token FROM submissions WHERE accepted = 0")]


@pytest.fixture
def cell(yard: Path) -> Iterator[standin.Cell]:
    """A stand-in with room for what runs here."""
    with standin.install(yard / "cell", slots=4) as made:
        yield made


@pytest.mark.parametrize("seed", range(4))
def test_on_the_embedded_scheduler(yard: Path, seed: int) -> None:
    with Session("local") as session:
        contact = session.contact
    kill_and_count(contact, yard, 50, seed)


@pytest.mark.parametrize("seed", range(2))
def test_on_commands(yard: Path, cell: standin.Cell, seed: int) -> None:
    with Session(cell.contact) as session:
        contact = session.contact
    kill_and_count(contact, yard, 25, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 18))
def test_on_commands_at_length(yard: Path, cell: standin.Cell, seed: int) -> None:
    with Session(cell.contact) as session:
        contact = session.contact
    kill_and_count(contact, yard, 25, seed)
