"""A cell of the stand-in, and its scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from base.bench import Bench
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing.standin import Cell, install, standin_scheduler


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    made = install(tmp_path / "cell", kill_grace_s=0.3)
    yield made
    made.stop()
    log = made.folder / "server.log"
    assert not log.exists() or not log.read_text(), f"the stand-in's server complained:\n{log.read_text()}"


@pytest.fixture
def scheduler(cell: Cell) -> Iterator[CommandScheduler]:
    made = standin_scheduler(cell)
    yield made
    made.close()


@pytest.fixture
def bench(cell: Cell, scheduler: CommandScheduler, tmp_path: Path) -> Bench:
    return Bench(cell, scheduler, tmp_path / "jobs")
