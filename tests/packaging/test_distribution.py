"""What is published: the wheel and the sdist that are built from this tree, and the names that it exports."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import jobyard
from jobyard import errors

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this tree, and the wheel made of that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def tracked(folder: str) -> set[str]:
    """Files of this tree under a folder, without what running them leaves."""
    return {
        str(path.relative_to(ROOT / "src" if folder == "src" else ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.endswith(".pyc")
    }


def test_the_wheel_holds_every_module_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    info = f"jobyard-{PROJECT['version']}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == tracked("src")
    assert "jobyard/py.typed" in names
    assert f"{info}licenses/LICENSE" in names


def test_the_wheel_says_what_it_is(built: Path) -> None:
    info = f"jobyard-{PROJECT['version']}.dist-info/"
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        metadata = message_from_string(wheel.read(f"{info}METADATA").decode("utf-8"))
        points = configparser.ConfigParser()
        points.read_string(wheel.read(f"{info}entry_points.txt").decode("utf-8"))
    assert metadata["Name"] == "jobyard"
    assert metadata["Version"] == jobyard.__version__ == PROJECT["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "make demo" in metadata.get_payload()
    assert points["console_scripts"]["jobyard"] == "jobyard.cli:main"


def test_the_sdist_can_be_worked_with(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked("tests") <= names
    assert {"Makefile", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "tools/setup.sh", "examples/demo.py"} <= names
    assert not {name for name in names if name.startswith((".venv", ".demo", "dist")) or "__pycache__" in name}


def test_the_exported_names_are_these() -> None:
    values = "Session Job JobArray JobDescription Resources Limits JobState Ending Usage Cause Contact"
    adapters = "Scheduler Dialect CommandScheduler Capabilities"
    assert set(jobyard.__all__) == {*values.split(), *adapters.split(), *errors.__all__}
    for name in jobyard.__all__:
        assert getattr(jobyard, name).__name__ == name
    for name in errors.__all__:
        assert getattr(jobyard, name) is getattr(errors, name)
        assert issubclass(getattr(jobyard, name), errors.JobyardError)


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__}
    assert kinds == set(errors.__all__)
    assert errors.__doc__ is not None
    for name in kinds:
        assert name in errors.__doc__


def test_types_are_published() -> None:
    assert (Path(jobyard.__file__).parent / "py.typed").is_file()


def test_what_is_tested_is_what_was_asked_for() -> None:
    """``make test-installed`` tests the wheel, and nothing of this tree's own sources."""
    assert Path(jobyard.__file__).is_relative_to(os.environ.get("JOBYARD_TEST_INSTALLED", ROOT / "src"))
