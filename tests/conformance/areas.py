"""The areas of the conformance suite, and their session, for modules that run it: ``from conformance.areas import *``.

Such a module has the fixtures ``contact`` and ``features`` of its own; a class that it defines again replaces the one from here.
``features_of`` makes the features of a scheduler that is asked by commands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jobyard import Session
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing import conformance

__all__ = [
    "TestArrays",
    "TestBeginTime",
    "TestCallbacks",
    "TestControl",
    "TestCost",
    "TestDependencies",
    "TestEndings",
    "TestEnvironment",
    "TestFork",
    "TestHostileBytes",
    "TestLaunchers",
    "TestLimits",
    "TestListing",
    "TestLitter",
    "TestPriority",
    "TestReopen",
    "TestStaging",
    "TestStreams",
    "TestSubmit",
    "TestWaiting",
    "features_of",
    "session",
]

SLOTS = 4
GRACE_S = 1.0
SMALL: dict[str, Any] = {  # a cell of SLOTS slots on this machine that is quick to answer, and kills after GRACE_S
    "deadline_s": 30,
    "poll_s": 5,
    "cancel_grace_s": GRACE_S + 10,
    "walltime_s": 1,
    "walltime_late_s": 5,
    "many": 200,
    "whole": {"cores": SLOTS},
}


def features_of(
    contact: str, session: Session, made: type[CommandScheduler] = CommandScheduler, /, **fields: Any
) -> conformance.Features:
    """What is true of the session's scheduler, which is a ``made``; ``fields``: of that one alone."""
    scheduler = session.scheduler
    assert isinstance(scheduler, made)
    fields.setdefault("commands_run", lambda: sum(scheduler.commands_run.values()))
    return conformance.Features(contact=contact, scheduler=scheduler.name, capabilities=session.capabilities, **fields)


@pytest.fixture
def session(contact: str) -> Iterator[Session]:
    """A fresh session. What a failing test leaves running is ended, so that it fails alone."""
    with Session(contact) as session:
        yield session
        if not session.closed:
            session.cancel()


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
