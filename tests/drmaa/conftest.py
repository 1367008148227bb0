"""Places and sessions for the cases that run jobs. ``DRMAA_TEST_CONTACT`` runs them on any scheduler; default: local.

On a test bed (``JOBYARD_BED``) only cases that need a place run: the others (values, times, names, descriptions, the stand-in's
faults) say nothing of a scheduler, and run without one every day.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import drmaa
from drmaa_suite.run import ALL, BED, PATIENCE_S, TERMINATE, Place

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a bed, only what is told to a scheduler."""
    if not BED:
        return
    idle = [item for item in items if item.path.parent == HERE and "place" not in getattr(item, "fixturenames", ())]
    if idle:
        config.hook.pytest_deselected(items=idle)
        items[:] = [item for item in items if item not in set(idle)]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Folders and a scheduler that the cases of a module share; they end with it."""
    with Place() as made:
        yield made


@pytest.fixture
def folder(place: Place, request: pytest.FixtureRequest) -> Path:
    """A directory of the test's own, which jobs see too."""
    number = sum(1 for _ in place.jobs.iterdir())
    made = place.jobs / f"{number:03}-{request.node.originalname[:60]}"
    made.mkdir()
    return made


@pytest.fixture
def session(place: Place) -> Iterator[type[drmaa.Session]]:
    """The shared session, begun; what the test leaves in it is terminated."""
    drmaa.Session.initialize(place.contact)
    yield drmaa.Session
    end_session()


@pytest.fixture
def nobody(place: Place) -> Iterator[Place]:
    """No session at first; one that the test leaves is ended."""
    yield place
    end_session()


def end_session() -> None:
    """Terminate what is left, and leave."""
    try:
        drmaa.Session.control(ALL, TERMINATE)
        drmaa.Session.synchronize([ALL], PATIENCE_S, True)
        drmaa.Session.exit()
    except drmaa.NoActiveSessionException:
        pass  # the test left it
