"""The suites of DRMAA and of PSI/J on each lookalike, as they run on the test beds: a chosen part every day, all with FULL=1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bed_cases import LOOKALIKES, read
from jobyard.testing import lookalike
from lookalikes.areas import on_path

ROOT = Path(__file__).resolve().parent.parent.parent
STYLES = tuple(lookalike.COMMANDS)
EXECUTORS = {"torque": "pbs_classic"}  # PSI/J's names, where they are others
MINUTES = {"lsf", "cobalt"}  # whose limits are whole minutes: here of ten seconds each, as ten minutes are what PSI/J asks


def run(style: str, *arguments: str, timeout_s: float) -> None:
    """pytest, on a lookalike whose commands are on PATH; the test fails with what it printed."""
    with on_path(style, slots=8, kill_grace_s=1.0, **({"minute_s": 10.0} if style in MINUTES else {})) as cell:
        environment = {
            **os.environ,
            "JOBYARD_BED": f"lookalike-{style}",
            "DRMAA_TEST_CONTACT": cell.contact,
            "PSIJ_EXECUTORS": EXECUTORS.get(style, style),
        }
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    assert done.returncode == 0, done.stdout


def test_what_differs_is_told_to_users() -> None:
    assert {path.stem for path in LOOKALIKES.glob("*.toml")} <= set(STYLES)
    for style in STYLES:
        differences, _ = read(style, LOOKALIKES)
        for one in differences:
            assert one.cases, one
            assert one.what.endswith("."), one
            assert (ROOT / one.source).is_file(), one


@pytest.mark.timeout(240)
@pytest.mark.parametrize("style", STYLES)
def test_jobs_of_both_fronts(style: str) -> None:
    run(
        style,
        "tests/drmaa/test_jobs.py::test_submit_wait",
        "tests/drmaa/test_endings.py::test_terminated_while_running",
        "tests/psij/test_jobs.py::test_a_job_runs_and_passes_all_states",
        "tests/psij/test_schedulers.py::test_the_scheduler_takes_what_is_rendered",
        timeout_s=200,
    )


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("front", ["drmaa", "psij"])
@pytest.mark.parametrize("style", STYLES)
def test_all_of_a_front(style: str, front: str) -> None:
    # test_own_commands asks what a real scheduler's own commands show of a job: a lookalike's are ours.
    run(style, f"tests/{front}", "--ignore=tests/drmaa/test_own_commands.py", timeout_s=3500)
