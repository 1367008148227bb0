"""The conformance suite on a lookalike: ``from lookalikes.areas import *``, and the module's own STYLE and FEATURES.

STYLE names the lookalike, CELL its settings beyond the usual ones, FEATURES what is true of that scheduler alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conformance.areas import *  # noqa: F403
from conformance.areas import GRACE_S, SLOTS, SMALL, features_of
from conformance.yards import private_yard
from jobyard import Session
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing import conformance, lookalike

# Cases that are a dialect's own work. The others are the engine's and the shepherd's: they run every day on other lookalikes.
OF_A_DIALECT = (
    "TestSubmit::test_one_job",
    "TestSubmit::test_hostile_names",
    "TestSubmit::test_what_cannot_be_honoured_is_refused_by_name*",
    "TestControl::test_each_of_many_gets_its_own_answer",
    "TestControl::test_hold_and_release_all",
    "TestControl::test_unknown_jobs",
    "TestEndings::test_cancelled*",
    "TestEnvironment::test_the_ids_of_a_job",
    "TestListing::test_native_ids_of_all_sessions",
    "TestListing::test_an_attached_job_is_cancelled",
    "TestStreams::test_input_and_output",
)


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


@pytest.fixture(scope="module")
def contact(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server of four slots, its commands on PATH."""
    with on_path(request.module.STYLE, slots=SLOTS, kill_grace_s=GRACE_S, **getattr(request.module, "CELL", {})) as cell:
        yield cell.contact


@pytest.fixture
def features(request: pytest.FixtureRequest, contact: str, session: Session) -> conformance.Features:
    """What is true of all lookalikes, and the module's FEATURES."""
    fields = dict(SMALL)
    scheduler = session.scheduler
    assert isinstance(scheduler, CommandScheduler)
    if not session.capabilities.per_task_control:  # then like jobs are sent one by one
        commands = scheduler.commands_run
        fields |= {"many": 50, "commands_run": lambda: sum(commands.values()) - commands["submit"]}
    return features_of(contact, session, **{**fields, **request.module.FEATURES})
