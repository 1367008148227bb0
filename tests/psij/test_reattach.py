"""A program is killed with jobs under way; two others open its session at once, and both know every job and its ending."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import psij
from jobyard.testing.standin import install
from psij.serialize import JSONSerializer
from psij_helpers import URL

PROGRAM = Path(__file__).with_name("reattach_program.py")
# Beds start jobs at the pace of their schedulers; there the whole number is for the long form.
COUNT = 500 if not os.environ.get("JOBYARD_BED") or os.environ.get("FULL") == "1" else 100


def started(*arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(psij.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(process: subprocess.Popen[str], returncode: int) -> list[dict[str, Any]]:
    out, errors = process.communicate(timeout=280)
    assert process.returncode == returncode, errors
    return [json.loads(line) for line in out.splitlines()]


def crash_and_reattach(name: str, url: str, folder: Path) -> None:
    (contact, *submitted) = lines(started("submit", name, url, str(COUNT), str(folder)), -9)
    assert len(submitted) == COUNT
    both = [started("reattach", name, contact["contact"]) for _ in range(2)]
    (folder / "gate").touch()
    one, other = [lines(process, 0) for process in both]
    assert one == other
    found = {job["id"]: job for job in one}  # like jobs of one call stand together: the order is not the program's
    assert len(one) == len(found) == COUNT
    for n, job in enumerate(submitted):
        again = found[job["id"]]
        assert {key: again[key] for key in job} == job
        assert (again["state"], again["exit_code"]) == ("COMPLETED" if n % 5 == 0 else "FAILED", n % 5)
        if n % 10 == 3:
            assert JSONSerializer().loads(again["spec"]).name == f"job {n}"
            assert (folder / f"out {n}").read_text() == f"job {n} value {n}\n"
            assert (folder / f"ran {n}").read_text() == "ran\n"


def test_two_processes_after_a_crash(executor_name: str, yard: Path, tmp_path: Path) -> None:
    crash_and_reattach(executor_name, URL, tmp_path)


@pytest.mark.parametrize("slots", [64])
def test_two_processes_after_a_crash_on_a_scheduler_of_commands(yard: Path, tmp_path: Path, slots: int) -> None:
    with install(yard / "cell", slots=slots) as cell:
        crash_and_reattach("standin", f"?cell={cell.folder}", tmp_path)
