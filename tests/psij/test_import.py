"""Importing costs little and does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import psij


def test_import_takes_less_than_60_ms() -> None:
    # In process time, not wall time: other tests may be running on this machine.
    code = "import time; before = time.process_time(); import psij; print(time.process_time() - before)"
    best = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) for _ in range(5)
    )
    assert best < 0.060


def test_import_loads_nothing_heavy_and_does_nothing_behind_the_callers_back(tmp_path: Path) -> None:
    # A descriptor that would tell if anybody read it.
    folder = tmp_path / "psij-descriptors"
    folder.mkdir()
    (folder / "loud.py").write_text("print('read')\n__PSI_J_EXECUTORS__ = []\n")
    code = (
        "import json, os, signal, sys, threading\n"
        "kinds = list(signal.valid_signals())\n"
        "before = [signal.getsignal(s) for s in kinds]\n"
        "import psij, psij.executors, psij.launchers\n"
        "psij.JobSpec('/bin/true'); psij.JobState.NEW\n"
        "psij.JobExecutor.get_instance('local').close()\n"
        "psij.Launcher.get_instance('single')\n"
        "print(json.dumps([[signal.getsignal(s) for s in kinds] == before, threading.active_count(), \n"
        "  [m for m in ('packaging', 'pystache', 'typeguard', 'psutil', 'sqlite3', 'asyncio') if m in sys.modules]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{tmp_path}:{Path(psij.__file__).parents[1]}", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert json.loads(done.stdout) == [True, 1, []]
    assert done.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["psij-descriptors"]  # no ~/.psij


def test_a_name_that_is_not_built_in_starts_the_search(tmp_path: Path) -> None:
    folder = tmp_path / "psij-descriptors"
    folder.mkdir()
    (folder / "loud.py").write_text("print('read')\n")
    code = "import psij\ntry:\n    psij.JobExecutor.get_instance('nobody')\nexcept ValueError as error:\n    print(error)\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{tmp_path}:{Path(psij.__file__).parents[1]}", "PATH": "/usr/bin:/bin"},
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "read"
    assert lines[1].startswith('No such executor "nobody". Known executors: ')
    assert "local" in lines[1]


@pytest.mark.parametrize("module", ["psij.executors", "psij.launchers"])
def test_packages_of_classes_are_lazy(module: str) -> None:
    code = f"import sys, {module}\nprint(len([m for m in sys.modules if m.startswith('{module}.')]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
