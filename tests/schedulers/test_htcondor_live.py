"""The conformance suite on a running HTCondor, and what only it has. Run by ``testbeds/as_user.sh htcondor``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from conformance.yards import private_yard
from jobyard import Session
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing import conformance

if os.environ.get("JOBYARD_BED", "").partition("-")[0] != "htcondor":
    pytest.skip("testbeds/as_user.sh htcondor runs these", allow_module_level=True)


@pytest.fixture(scope="module")
def contact() -> Iterator[str]:
    """The bed's pool, in folders of our own."""
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
    """A pool on one machine, with quick timers (testbeds/htcondor/up.sh)."""
    scheduler = session.scheduler
    assert isinstance(scheduler, CommandScheduler)
    yard = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    return conformance.Features(
        contact=contact,
        scheduler="htcondor",
        capabilities=session.capabilities,
        deadline_s=120,
        poll_s=10,
        cancel_grace_s=15,
        walltime_s=2,
        walltime_late_s=15,
        many=200,
        whole={"native": ("-append", f"request_yard{yard} = 1")},  # up.sh gives the machine one of each
        honours_priority=True,
        core_dumps=False,  # unless a job says how large one may be
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
