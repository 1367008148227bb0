"""What is tested alike on the beds of all schedulers that have tests of their own, programs being between jobyard and the commands.

``from schedulers.own import *``. The module has PROGRAMS, the scheduler's commands; QUERY, how a query of the queue begins; AWAY,
what a command does whose server is away; SUBMIT, the command that submits; and KILLS, how often a client is killed every day.
``real``, where there is such a function, tells where a command is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobyard import Session
from schedulers.between import Commands, assert_killed_clients_lose_nothing, assert_lost_answer, found, put_between
from schedulers.live import CONTACT

__all__ = [
    "commands",
    "session",
    "test_a_client_that_is_killed_around_submission",
    "test_a_client_that_is_killed_fifty_times",
    "test_a_submission_whose_answer_is_lost",
]


@pytest.fixture
def commands(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """The scheduler's commands, with ours in between."""
    module = request.module
    where = getattr(module, "real", found)
    return put_between(tmp_path / "bin", monkeypatch, {program: where(program) for program in module.PROGRAMS}, module.QUERY)


@pytest.fixture
def session(yard: Path) -> Iterator[Session]:
    """A session whose queue is asked often."""
    with Session(f"{CONTACT}?poll=0.5s") as session:
        yield session
        session.cancel()


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not-taken"])
def test_a_submission_whose_answer_is_lost(
    request: pytest.FixtureRequest, commands: Commands, session: Session, tmp_path: Path, taken: bool
) -> None:
    assert_lost_answer(session, commands, tmp_path, request.module.SUBMIT, request.module.AWAY, taken=taken)


def test_a_client_that_is_killed_around_submission(request: pytest.FixtureRequest, yard: Path) -> None:
    assert_killed_clients_lose_nothing(CONTACT, yard, request.module.KILLS, 1)


@pytest.mark.long
@pytest.mark.parametrize("seed", [11, 12])
def test_a_client_that_is_killed_fifty_times(yard: Path, seed: int) -> None:
    assert_killed_clients_lose_nothing(CONTACT, yard, 25, seed)
