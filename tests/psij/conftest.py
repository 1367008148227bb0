"""Fixtures of the PSI/J front's tests. Executor and launcher are parameters where a test makes sense on others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import psij


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``PSIJ_EXECUTORS=slurm,local:multiple`` chooses executors (and launchers); ``local`` with ``single`` otherwise."""
    if "executor_name" in metafunc.fixturenames:
        chosen = os.environ.get("PSIJ_EXECUTORS", "local").split(",")
        metafunc.parametrize("executor_name", [name.partition(":")[0] for name in chosen], ids=chosen)


@pytest.fixture
def executor(executor_name: str, yard: Path) -> Iterator[psij.JobExecutor]:
    """The executor under test."""
    with psij.JobExecutor.get_instance(executor_name) as made:
        yield made


@pytest.fixture(params=(os.environ.get("PSIJ_LAUNCHERS") or "single,multiple").split(","))
def launcher(request: pytest.FixtureRequest) -> str:
    """Names of launchers that can be used anywhere."""
    return str(request.param)
