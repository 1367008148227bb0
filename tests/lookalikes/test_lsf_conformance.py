"""The conformance suite on the lookalike of LSF."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobyard import Session
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing import conformance
from lookalikes.areas import *  # noqa: F403
from lookalikes.areas import on_path

SLOTS = 4
GRACE_S = 1.0


@pytest.fixture(scope="module")
def contact() -> Iterator[str]:
    """A server of four slots, its commands on PATH."""
    with on_path("lsf", slots=SLOTS, kill_grace_s=GRACE_S, minute_s=1.0) as cell:
        yield cell.contact


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """It has no accounting that is asked; its limits are minutes, which are seconds here."""
    scheduler = session.scheduler
    assert isinstance(scheduler, CommandScheduler)
    commands = scheduler.commands_run
    return conformance.Features(
        contact=contact,
        scheduler="lsf",
        capabilities=session.capabilities,
        deadline_s=30,
        poll_s=5,
        cancel_grace_s=GRACE_S + 10,
        walltime_s=1,
        walltime_late_s=5,
        many=200,
        whole={"cores": SLOTS},
        commands_run=lambda: sum(commands.values()),
    )
