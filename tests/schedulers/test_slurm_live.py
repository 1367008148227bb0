"""The conformance suite on a running Slurm, and what only it has. Run by ``testbeds/as_user.sh slurm``, or ``slurm-24.11``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from conformance.yards import private_yard
from jobyard import Session
from jobyard.schedulers.slurm import SlurmScheduler
from jobyard.testing import conformance

if os.environ.get("JOBYARD_BED", "").partition("-")[0] != "slurm":
    pytest.skip("testbeds/as_user.sh slurm runs these", allow_module_level=True)

# A licence for each worker: who has it keeps all others that want it waiting, and nobody else (testbeds/slurm/up.sh).
LICENCE = f"one{int(re.sub('[^0-9]', '', os.environ.get('PYTEST_XDIST_WORKER', '0'))) % 8}"


@pytest.fixture(scope="module")
def contact() -> Iterator[str]:
    """The bed's cluster, in folders of our own."""
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
    """A cluster on one machine. Limits are of whole minutes and looked at every half (slurm.conf(5), OverTimeLimit)."""
    scheduler = session.scheduler
    assert isinstance(scheduler, SlurmScheduler)
    return conformance.Features(
        contact=contact,
        scheduler="slurm",
        capabilities=session.capabilities,
        deadline_s=60,
        poll_s=5,
        cancel_grace_s=15,
        walltime_s=60,
        walltime_late_s=60,
        many=200,
        clock_slack_s=1.0,
        whole={"native": (f"--licenses={LICENCE}",)},
        enforces_memory=os.environ["JOBYARD_BED"] == "slurm" and os.path.exists("/sys/fs/cgroup/memory"),
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
