"""The set-up of the project: what it installs, when it does so again, and what it says where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this one's tools, and nothing else."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def program(folder: Path, name: str, text: str) -> None:
    """A shell script on a PATH of our own."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def setup(project: Path, programs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(project / "tools" / "setup.sh"), *words],
        env={"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )


PYTHON_WITHOUT_VENV = f"""\
case "$*" in *ensurepip*) exit 1 ;; esac
exec {sys.executable} "$@"
"""


def test_it_is_done_once_and_again_when_the_project_changes(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = project / ".venv" / "bin"
    environment.mkdir(parents=True)
    # An environment that is there already: a python that only tells what pip was asked.
    program(environment, "python", f'case "$*" in *"pip install"*) echo "$@" >>{log}; exit 0 ;; esac\nexec {sys.executable} "$@"')
    programs = tmp_path / "programs"
    for _ in range(2):
        done = setup(project, programs, "dev")
        assert done.returncode == 0, done.stderr
    assert log.read_text(encoding="utf-8").count("\n") == 1
    assert "--editable ." in log.read_text(encoding="utf-8")
    assert setup(project, programs).returncode == 0
    assert log.read_text(encoding="utf-8").count("\n") == 2
    with open(project / "pyproject.toml", "a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert setup(project, programs, "dev").returncode == 0
    assert log.read_text(encoding="utf-8").count("\n") == 3


def test_an_unknown_group_is_named(project: Path, tmp_path: Path) -> None:
    environment = project / ".venv" / "bin"
    environment.mkdir(parents=True)
    program(environment, "python", f'exec {sys.executable} "$@"')
    done = setup(project, tmp_path / "programs", "nothing")
    assert done.returncode == 1
    assert "no dependency group 'nothing'; it has: check, dev, test" in done.stderr


def test_without_a_new_python_it_says_so(project: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        program(programs, name, "exit 1")
    done = setup(project, programs)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr


def test_without_venv_a_user_is_told_what_to_install(project: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    program(programs, "python3", PYTHON_WITHOUT_VENV)
    program(programs, "id", "echo 1000")
    done = setup(project, programs)
    assert done.returncode != 0
    assert f"sudo apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in done.stderr


def test_without_venv_root_gets_it_installed(project: Path, tmp_path: Path) -> None:
    programs, log = tmp_path / "programs", tmp_path / "log"
    program(programs, "python3", PYTHON_WITHOUT_VENV)
    program(programs, "id", "echo 0")
    program(programs, "apt-get", f'echo "$@" >>{log}; [ "$1" = update ]')
    done = setup(project, programs)
    assert done.returncode != 0  # this apt-get installs nothing
    assert "installing python3" in done.stderr
    assert log.read_text(encoding="utf-8").splitlines()[1].split()[0] == "install"


def test_requirements_of_a_group_include_those_of_its_groups() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "groups.py"), "dev"], capture_output=True, text=True, check=True)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    assert done.stdout.splitlines() == [*groups["test"], *groups["check"]]


def test_groups_that_include_each_other_are_refused(project: Path) -> None:
    path = project / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("[dependency-groups]\n", '[dependency-groups]\na = [{include-group = "b"}]\nb = [{include-group = "a"}]\n')
    )
    done = subprocess.run(
        [sys.executable, str(project / "tools" / "groups.py"), "a"], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 1
    assert "include each other: a -> b -> a" in done.stderr


def test_make_lists_its_targets() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not here; every target needs it")
    done = subprocess.run(["make", "-C", str(ROOT), "--no-print-directory", "help"], capture_output=True, text=True, check=True)
    for target in ("demo", "test", "testbeds", "test-schedulers", "lint", "types", "bench", "test-installed"):
        assert f"make {target} " in done.stdout


@pytest.mark.parametrize(("broken", "status"), [("", 0), ("lint", 1), ("test", 1)])
def test_ci_runs_every_step_and_ends_with_1_if_any_failed(tmp_path: Path, broken: str, status: int) -> None:
    programs = tmp_path / "programs"
    program(programs, "make", f'echo "made $1"; [ "$1" != "{broken}" ]')
    done = subprocess.run(
        ["sh", str(ROOT / ".ci" / "run")],
        env={"PATH": f"{programs}:/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    steps = ["test", "lint", "types", "test-installed", "test-schedulers"]
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("made ")] == steps
    summary = done.stdout.partition("==== in short\n")[2]
    assert [line.split() for line in summary.splitlines()[: len(steps)]] == [[step, "made", step] for step in steps]
    assert (f"failed: {broken}\n" in summary) == bool(broken)
    assert list(tmp_path.iterdir()) == [programs]
