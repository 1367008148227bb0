"""A rig of its own for each test, on each interpreter that the shepherd promises and this machine has."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.rig import INTERPRETERS, Rig


def _name(path: str) -> str:
    return "oldest" if "3.6" in path else "this"


@pytest.fixture(params=INTERPRETERS, ids=_name)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """On each interpreter."""
    made = Rig(Path(tempfile.mkdtemp(prefix="rig-")), request.param)
    yield made
    made.close()


@pytest.fixture
def one_rig() -> Iterator[Rig]:
    """On this interpreter only, for tests that run many jobs or none."""
    made = Rig(Path(tempfile.mkdtemp(prefix="rig-")))
    yield made
    made.close()
