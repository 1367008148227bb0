"""Fixtures: an embedded scheduler of its own for each test, ended with its jobs when the test is over."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobyard.schedulers.local import stop
from local.rig import Rig


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """An empty, private state directory; the scheduler that was started there is ended."""
    with tempfile.TemporaryDirectory(prefix="local-") as folder:
        path = Path(folder) / "state"
        yield path
        if (path / "local").exists():
            stop(path)


@pytest.fixture
def open_rig(state_dir: Path) -> Iterator[Callable[..., Rig]]:
    """Makes clients of the test's scheduler."""
    made: list[Rig] = []

    def make(session: str | None = None, **options: Any) -> Rig:
        rig = Rig(state_dir, session, **options)
        made.append(rig)
        return rig

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(open_rig: Callable[..., Rig]) -> Rig:
    """One client."""
    return open_rig()
