"""The conformance suite on the lookalike of PBS."""

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
    with on_path("pbs", slots=SLOTS, kill_grace_s=GRACE_S) as cell:
        yield cell.contact


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """Whole seconds in its limits and moments; jobs are sent one by one, as one task of an array cannot be held."""
    scheduler = session.scheduler
    assert isinstance(scheduler, CommandScheduler)
    commands = scheduler.commands_run
    return conformance.Features(
        contact=contact,
        scheduler="pbs",
        capabilities=session.capabilities,
        deadline_s=30,
        poll_s=5,
        cancel_grace_s=GRACE_S + 10,
        walltime_s=1,
        walltime_late_s=5,
        many=50,
        whole={"cores": SLOTS},
        honours_priority=True,
        commands_run=lambda: sum(commands.values()) - commands["submit"],
    )
