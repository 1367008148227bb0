"""The same suite on a scheduler that is asked by commands: the stand-in. Everyday a part of it, the whole as the long form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from drmaa_suite.run import LOCAL

HERE = Path(__file__).parent
JOBS = ("session", "jobs", "endings", "control", "fidelity", "threads", "legacy", "examples")


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=HERE.parents[1],
        env={**os.environ, "DRMAA_TEST_CONTACT": "standin"},
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.timeout(900)  # each of its tests has a limit of its own
@pytest.mark.skipif(not LOCAL, reason="this run is elsewhere already")
def test_a_part() -> None:
    cases = "fork or exit_wakes or two_waiters or recoverable or accounting or other_sessions or bare_array or policy or cost"
    files = [str(HERE / f"test_{name}.py") for name in ("session", "jobs", "endings", "control", "fidelity", "threads")]
    run(*files, "-k", cases)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(not LOCAL, reason="this run is elsewhere already")
@pytest.mark.parametrize("name", JOBS)
def test_the_whole(name: str) -> None:
    run(str(HERE / f"test_{name}.py"))
