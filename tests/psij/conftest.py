"""Fixtures of the PSI/J front's tests. Executor and launcher are parameters where a test makes sense on others."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import psij
from jobyard.schedulers.local import stop
from psij_helpers import open_executor

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``PSIJ_EXECUTORS=slurm,local`` chooses executors, ``local`` otherwise; PSIJ_URL says where they are."""
    if "executor_name" in metafunc.fixturenames:
        metafunc.parametrize("executor_name", os.environ.get("PSIJ_EXECUTORS", "local").split(","))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test bed runs what submits jobs to its scheduler: the cases that take the executor as a parameter. All others are
    about values, the stand-in or this machine's own executor, and are the same wherever they run."""
    if not os.environ.get("JOBYARD_BED"):
        return
    elsewhere = [
        item for item in items if item.path.is_relative_to(HERE) and "executor_name" not in getattr(item, "fixturenames", ())
    ]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


@pytest.fixture(scope="module")
def common_yard() -> Iterator[Path]:
    """State and work folders for the tests of a module that need none of their own: starting a scheduler takes a while."""
    folder = Path(tempfile.mkdtemp(prefix="yard-"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("state", "work"):
            (folder / name).mkdir()
            patch.setenv(f"JOBYARD_{name.upper()}_DIR", str(folder / name))
        patch.setenv("JOBYARD_CONFIG", str(folder / "config.toml"))
        patch.delenv("JOBYARD_CONTACT", raising=False)
        yield folder
    if (folder / "state" / "local").exists():
        stop(folder / "state")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def executor(executor_name: str, common_yard: Path) -> Iterator[psij.JobExecutor]:
    """The executor under test."""
    with open_executor(executor_name) as made:
        yield made


@pytest.fixture(params=(os.environ.get("PSIJ_LAUNCHERS") or "single,multiple").split(","))
def launcher(request: pytest.FixtureRequest) -> str:
    """Names of launchers that can be used anywhere."""
    return str(request.param)
