"""The conformance suite on a running Grid Engine, and what only it has. Run by ``testbeds/as_user.sh gridengine``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from conformance.yards import private_yard
from jobyard import Session
from jobyard.schedulers.gridengine import GridEngineScheduler
from jobyard.testing import conformance

if os.environ.get("JOBYARD_BED", "").partition("-")[0] != "gridengine":
    pytest.skip("testbeds/as_user.sh gridengine runs these", allow_module_level=True)

# A queue of one slot for each worker, where only jobs go that ask for it (testbeds/gridengine/up.sh).
LONELY = f"one{re.sub('[^0-9]', '', os.environ.get('PYTEST_XDIST_WORKER', '0'))}.q"


@pytest.fixture(scope="module")
def contact() -> Iterator[str]:
    """The bed's cell, in folders of our own."""
    with private_yard():
        yield os.environ["JOBYARD_BED_CONTACT"]


@pytest.fixture
def session(contact: str) -> Iterator[Session]:
    """A fresh session. What a failing test leaves running is ended, so that it fails alone."""
    with Session(contact) as session:
        yield session
        if not session.closed:
            session.cancel()


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """A cell on one machine, whose daemons look once a second (testbeds/gridengine/up.sh)."""
    scheduler = session.scheduler
    assert isinstance(scheduler, GridEngineScheduler)
    return conformance.Features(
        contact=contact,
        scheduler="gridengine",
        capabilities=session.capabilities,
        deadline_s=180,
        poll_s=15,
        cancel_grace_s=60,
        walltime_s=2,
        walltime_late_s=30,
        many=200,
        clock_slack_s=1.0,
        whole={"queue": LONELY, "native": ("-l", "lonely")},
        honours_priority=True,
        suspend_late_s=2.0,
        signals_suspended=False,
        commands_run=lambda: sum(scheduler.commands_run.values()),
    )


class TestSubmit(conformance.Submit):
    """Submitting."""


class TestArrays(conformance.Arrays):
    """Array jobs."""


class TestControl(conformance.Control):
    """Control in each state."""


class TestEndings(conformance.Endings):
    """How jobs end."""


class TestStreams(conformance.Streams):
    """Input, output, error."""


class TestEnvironment(conformance.Environment):
    """The environment."""


class TestHostileBytes(conformance.HostileBytes):
    """Bytes are bytes."""


class TestLimits(conformance.Limits):
    """Limits of processes."""


class TestDependencies(conformance.Dependencies):
    """Jobs after jobs."""


class TestBeginTime(conformance.BeginTime):
    """Jobs not before a moment."""


class TestPriority(conformance.Priority):
    """Which goes first."""


class TestReopen(conformance.Reopen):
    """One session, several processes."""


class TestWaiting(conformance.Waiting):
    """Waiting."""


class TestCallbacks(conformance.Callbacks):
    """Being told."""


class TestListing(conformance.Listing):
    """What jobs there are."""


class TestLaunchers(conformance.Launchers):
    """Launchers and scripts."""


class TestStaging(conformance.Staging):
    """Files in and out."""


class TestLitter(conformance.Litter):
    """Nothing left behind."""


class TestCost(conformance.Cost):
    """Nothing that grows."""


class TestFork(conformance.Fork):
    """Forked children."""
