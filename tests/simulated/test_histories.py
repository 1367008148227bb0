"""Thousands of random histories: whatever the scheduler does, what the design promises of states holds.

A failing one is printed with its seed; ``run_history(SEED, an_empty_folder)`` plays it again.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobyard.testing.simulated import HistoryFailed, run_history

CHUNK = 100
EVERYDAY = 20  # chunks
LONG = 210


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where the platform has that: a history writes a journal, and no power fails here."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(prefix="histories-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A scheduler that does not answer is logged; here it is thousands of lines."""
    caplog.set_level(logging.CRITICAL, logger="jobyard")


def play(folder: Path, seeds: range) -> tuple[int, int, int]:
    """Play them: the jobs that ended, the clients that died, and the faults that were met."""
    verdicts = crashes = calls = 0
    for seed in seeds:
        yard = folder / str(seed)
        yard.mkdir(mode=0o700)
        history = run_history(seed, yard)
        verdicts += history.verdicts
        crashes += history.crashes
        calls += sum(history.scheduler.commands_run.values())
        shutil.rmtree(yard)
    return verdicts, crashes, calls


@pytest.mark.parametrize("chunk", range(EVERYDAY))
def test_histories(folder: Path, chunk: int) -> None:
    verdicts, crashes, calls = play(folder, range(chunk * CHUNK, (chunk + 1) * CHUNK))
    # They are no empty shells: jobs end, clients die, the scheduler is asked.
    assert verdicts > 2 * CHUNK
    assert crashes > CHUNK / 4
    assert calls > 10 * CHUNK


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(EVERYDAY, LONG))
def test_many_histories(folder: Path, chunk: int) -> None:
    play(folder, range(chunk * CHUNK, (chunk + 1) * CHUNK))


def test_the_same_seed_is_the_same_history(folder: Path) -> None:
    """But for tokens, which are drawn from the operating system."""
    told: list[list[str]] = [[], []]
    for number, lines in enumerate(told):
        for seed in range(20):
            yard = folder / f"{number}.{seed}"
            yard.mkdir(mode=0o700)
            lines += [line for line in run_history(seed, yard).log if "told" in line]
    assert told[0] == told[1]
    assert len(told[0]) > 100


def test_a_failure_tells_its_seed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobyard.testing.simulated.history.judge", lambda *_, **__: iter(["it is wrong"]))
    with pytest.raises(HistoryFailed, match=r"(?s)^history 7: job [0-9]+ [0-9a-f.]+: it is wrong.*submits"):
        play(folder, range(7, 8))
