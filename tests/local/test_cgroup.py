"""Control groups for memory limits, on a stand-in for the kernel's files: no machine that runs tests has to delegate one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobyard.schedulers.local.cgroup import Groups

FILES = {
    "cgroup.procs": "",
    "cgroup.subtree_control": "",
    "memory.max": "max",
    "memory.oom.group": "0",
    "memory.events": "low 0\noom 0\noom_kill 0\n",
}


class Kernel:
    """A tree of folders that get their control files when they are made, and lose them when they go."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mkdir, self._rmdir = os.mkdir, os.rmdir

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._mkdir(path, mode)
        for name, text in FILES.items():
            (Path(path) / name).write_text(text)

    def rmdir(self, path: str) -> None:
        if any(child.is_dir() for child in Path(path).iterdir()):
            raise OSError(16, "busy")
        for name in FILES:
            (Path(path) / name).unlink()
        self._rmdir(path)

    def group(self, path: str, controllers: str) -> Path:
        made = self.root / path
        self.mkdir(str(made))
        (made / "cgroup.subtree_control").write_text(controllers)
        return made


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    root = tmp_path / "cgroup"
    root.mkdir()
    made = Kernel(root)
    monkeypatch.setattr("jobyard.schedulers.local.cgroup.os.mkdir", made.mkdir)
    monkeypatch.setattr("jobyard.schedulers.local.cgroup.os.rmdir", made.rmdir)
    return made


@pytest.fixture
def open_groups(kernel: Kernel, tmp_path: Path) -> Callable[[str], Groups | None]:
    def make(own: str) -> Groups | None:
        (tmp_path / "membership").write_text(f"1:name=systemd:/\n0::{own}\n")
        return Groups.open("jobyard-1", str(kernel.root), str(tmp_path / "membership"))

    return make


def test_a_job_is_limited_and_its_passing_seen(kernel: Kernel, open_groups: Callable[[str], Groups | None]) -> None:
    kernel.group("user", "cpu memory")
    kernel.group("user/session", "")
    groups = open_groups("/user/session")
    assert groups is not None
    top = kernel.root / "user" / "jobyard-1"
    assert (top / "cgroup.subtree_control").read_text() == "+memory"
    assert groups.limit(7, 1234, 5_000_000)
    job = top / "job-7"
    assert (job / "memory.max").read_text()[:7] == "5000000"
    assert (job / "memory.oom.group").read_text() == "1"
    assert (job / "cgroup.procs").read_text() == "1234"
    assert not groups.passed(7)
    (job / "memory.events").write_text("oom 1\noom_kill 2\n")
    assert groups.passed(7)
    groups.drop(7)
    assert not job.exists()
    assert not groups.passed(7)
    again = open_groups("/user/session")  # a successor
    assert again is not None
    again.close()
    assert not top.exists()


def test_no_place_is_no_error(kernel: Kernel, open_groups: Callable[[str], Groups | None], tmp_path: Path) -> None:
    kernel.group("user", "cpu")
    assert open_groups("/user") is None
    assert open_groups("/nowhere") is None
    (tmp_path / "membership").write_text("3:memory:/x\n")
    assert Groups.open("jobyard-1", str(kernel.root), str(tmp_path / "membership")) is None
    assert Groups.open("jobyard-1", str(kernel.root), str(tmp_path / "none")) is None


def test_a_refused_step_leaves_nothing(
    kernel: Kernel, open_groups: Callable[[str], Groups | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.group("user", "memory")
    groups = open_groups("/user")
    assert groups is not None
    monkeypatch.delitem(FILES, "memory.oom.group")  # an older kernel
    assert not groups.limit(8, 1, 10)
    assert not (kernel.root / "user" / "jobyard-1" / "job-8").exists()
