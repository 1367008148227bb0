"""Fixtures that every test shares: folders of its own for state, work and configuration, and a scheduler that ends with it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import bed_cases
from hidden_schedulers import without_schedulers

_VARIABLES = ("JOBYARD_CONTACT", "JOBYARD_STATE_DIR", "JOBYARD_WORK_DIR", "JOBYARD_CONFIG")


# How long an example takes says more of what else the machine does than of the code; timing belongs in `make bench`.
settings.register_profile("jobyard", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jobyard")

_LINKS = pytest.StashKey[Path | None]()


def pytest_configure(config: pytest.Config) -> None:
    """Off the test beds, no real scheduler is here. Background jobs ignore Ctrl-C, and those of nohup a hangup; tests need them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.stash[_LINKS] = None
    if not bed_cases.BED:
        os.environ["PATH"], config.stash[_LINKS] = without_schedulers(os.environ["PATH"])


def pytest_unconfigure(config: pytest.Config) -> None:
    """The links go with the run."""
    if (links := config.stash[_LINKS]) is not None:
        shutil.rmtree(links, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long forms run where FULL=1 is set, or where ``-m long`` asks for them; else they are left out of the run."""
    bed_cases.apply(config, items)
    if os.environ.get("FULL") == "1" or "long" in (config.getoption("-m") or ""):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session", autouse=True)
def _no_outer_settings() -> Iterator[None]:
    """What the person who runs the tests has set must not reach them."""
    saved = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    yield
    os.environ.update(saved)


@pytest.fixture
def yard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A private folder, with state, work and configuration in it; the embedded scheduler that was started there is ended."""
    folder = Path(tempfile.mkdtemp(prefix="yard-"))
    monkeypatch.setenv("JOBYARD_STATE_DIR", str(folder / "state"))
    monkeypatch.setenv("JOBYARD_WORK_DIR", str(folder / "work"))
    monkeypatch.setenv("JOBYARD_CONFIG", str(folder / "config.toml"))
    monkeypatch.delenv("JOBYARD_CONTACT", raising=False)
    (folder / "work").mkdir()
    yield folder
    stop_local(folder / "state")
    shutil.rmtree(folder, ignore_errors=True)


def stop_local(state_dir: Path) -> None:
    """End the embedded scheduler of a state folder, and its jobs, if there is one."""
    if (state_dir / "local").exists():
        from jobyard.schedulers.local import stop

        stop(state_dir)
