"""The conformance suite on the stand-in: commands on PATH, the real shepherd, and nothing of jobyard in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.areas import *  # noqa: F403
from conformance.yards import private_yard
from jobyard import Session
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing import conformance, standin

SLOTS = 4
GRACE_S = 1.0


@pytest.fixture(scope="module")
def contact() -> Iterator[str]:
    """A cell of four slots, in folders of its own."""
    with private_yard() as folder, standin.install(folder / "cell", slots=SLOTS, kill_grace_s=GRACE_S) as cell:
        yield cell.contact


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """A small batch system: asked by commands, quick to answer."""
    scheduler = session.scheduler
    assert isinstance(scheduler, CommandScheduler)
    return conformance.Features(
        contact=contact,
        scheduler="standin",
        capabilities=session.capabilities,
        deadline_s=30,
        poll_s=5,
        cancel_grace_s=GRACE_S + 10,
        walltime_s=1,
        walltime_late_s=5,
        many=200,
        whole={"cores": SLOTS},
        honours_priority=True,
        enforces_memory=True,
        commands_run=lambda: sum(scheduler.commands_run.values()),
    )
