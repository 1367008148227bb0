"""The conformance suite on the stand-in, reached over a real sshd. Every day those areas in which the connection plays a part;
with FULL=1 all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance import areas
from conformance.areas import GRACE_S, SLOTS, SMALL, features_of
from conformance.yards import private_yard
from jobyard import Session
from jobyard.contact import Contact
from jobyard.testing import conformance, standin
from transports.sshd import Sshd

session = areas.session


@pytest.fixture(scope="module")
def contact(sshd: Sshd) -> Iterator[str]:
    """A cell of four slots; its programs are found by the contact's ``path``."""
    with private_yard() as folder, standin.install(folder / "cell", slots=SLOTS, kill_grace_s=GRACE_S) as cell:
        options = {
            "cell": str(cell.folder),
            "path": str(cell.bin),
            "work_dir": str(folder / "there"),
            "ssh_config": str(sshd.config),
            "connect_timeout": "60",
        }
        (folder / "there").mkdir()
        yield str(Contact(scheduler="standin", host="bed", options=options))


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """As on this machine: a small batch system, asked by commands."""
    return features_of(contact, session, **SMALL, honours_priority=True, enforces_memory=True)


class TestSubmit(conformance.Submit):
    """Submitting."""


class TestArrays(conformance.Arrays):
    """Array jobs."""


@pytest.mark.long
class TestControl(conformance.Control):
    """Control in each state."""


class TestEndings(conformance.Endings):
    """How jobs end."""


class TestStreams(conformance.Streams):
    """Input, output, error."""


@pytest.mark.long
class TestEnvironment(conformance.Environment):
    """The environment."""


@pytest.mark.long
class TestHostileBytes(conformance.HostileBytes):
    """Bytes are bytes."""


@pytest.mark.long
class TestLimits(conformance.Limits):
    """Limits of processes."""


@pytest.mark.long
class TestDependencies(conformance.Dependencies):
    """Jobs after jobs."""


@pytest.mark.long
class TestBeginTime(conformance.BeginTime):
    """Jobs not before a moment."""


@pytest.mark.long
class TestPriority(conformance.Priority):
    """Which goes first."""


class TestReopen(conformance.Reopen):
    """One session, several processes."""


class TestWaiting(conformance.Waiting):
    """Waiting."""


@pytest.mark.long
class TestCallbacks(conformance.Callbacks):
    """Being told."""


@pytest.mark.long
class TestListing(conformance.Listing):
    """What jobs there are."""


@pytest.mark.long
class TestLaunchers(conformance.Launchers):
    """Launchers and scripts."""


@pytest.mark.long
class TestStaging(conformance.Staging):
    """Files in and out."""


class TestLitter(conformance.Litter):
    """Nothing left behind."""


@pytest.mark.long
class TestCost(conformance.Cost):
    """Nothing that grows."""


@pytest.mark.long
class TestFork(conformance.Fork):
    """Forked children."""
