"""kill -9 of the server, the spawner, or both, at random moments: every ending is exact or ``lost``, every job ran once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobyard.schedulers.local import stop
from local.killing import Outcome, play

CASES = {
    "server": (("server",), 1),
    "spawner": (("spawner",), 1),
    "either": (("server", "spawner"), 3),
    "both": (("both",), 1),
}
EVERYDAY_ROUNDS, LONG_ROUNDS = 2, 60
SEED = int(os.environ.get("KILL_SEED", "0")) or None


def check(outcome: Outcome, seed: int, *, may_lose: bool) -> None:
    assert outcome.clean, f"seed {seed}: {outcome}"
    assert may_lose or not outcome.lost, f"seed {seed}: {outcome}"


def rounds(state_dir: Path, case: str, count: int, jobs: int) -> list[Outcome]:
    targets, kills = CASES[case]
    found = []
    for round_ in range(count):
        seed = SEED or int.from_bytes(os.urandom(4), "big")
        folder = state_dir / f"{round_}"
        outcome = play(folder, targets, jobs=jobs, kills=kills, span_s=1.2 if jobs > 200 else 0.6, seed=seed)
        stop(folder)
        check(outcome, seed, may_lose=case in ("both", "either"))
        found.append(outcome)
    return found


@pytest.mark.parametrize("case", CASES)
def test_kill(state_dir: Path, case: str) -> None:
    outcomes = rounds(state_dir, case, EVERYDAY_ROUNDS, 150)
    assert sum(outcome.kills for outcome in outcomes) >= EVERYDAY_ROUNDS


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES)
def test_kill_for_long(state_dir: Path, case: str) -> None:
    outcomes = rounds(state_dir, case, LONG_ROUNDS, 500)
    assert sum(outcome.kills for outcome in outcomes) >= LONG_ROUNDS
