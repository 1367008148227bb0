"""The areas of the conformance suite, for the modules that run it on a lookalike: ``from lookalikes.areas import *``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conformance.yards import private_yard
from jobyard.testing import conformance, lookalike

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
]


@contextmanager
def on_path(style: str, **config: object) -> Iterator[lookalike.Lookalike]:
    """A cell whose commands are first on PATH, in folders of its own."""
    with (
        private_yard() as folder,
        lookalike.install(folder / "cell", style, **config) as cell,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PATH", f"{cell.bin}{os.pathsep}{os.environ['PATH']}")
        yield cell


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
