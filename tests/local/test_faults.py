"""What the pair meets on machines that are arranged otherwise, or in trouble: each of these tests failed before its cure."""

from __future__ import annotations

import builtins
import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobyard.errors import JournalError, SchedulerUnavailable
from jobyard.job import JobState
from jobyard.schedulers.local import LocalScheduler, kernel, paths
from jobyard.schedulers.local.children import signal_sessions
from jobyard.schedulers.local.memory import resident_by_session
from jobyard.testing.polling import eventually
from local.rig import Rig


def test_processes_that_are_hidden_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is mounted with hidepid=1 other users' processes are listed, and cannot be read."""
    hidden = os.getppid()

    def guarded(path: Any, *arguments: Any, **options: Any) -> Any:
        if re.match(rf"/proc/{hidden}/", str(path)):
            raise PermissionError(1, "Operation not permitted", path)
        return builtins.open(path, *arguments, **options)

    monkeypatch.setattr(kernel, "open", guarded, raising=False)
    own = os.getsid(0)
    assert kernel.read_process(hidden) is None
    assert os.getpid() in kernel.session_members(own)
    assert resident_by_session({own})[own] > 0
    assert not signal_sessions([2**30], signal.SIGTERM)


def test_the_fault_of_a_running_server_reaches_no_client_as_an_answer(rig: Rig, state_dir: Path) -> None:
    """What it told its starter through is long closed then, and its number another file's."""
    job = rig.submit("echo alive; read x")
    rig.until(rig.submit(["/bin/sleep", "1000"]), JobState.RUNNING)
    rig.wait(job)
    folder = state_dir / "local"
    for ring in folder.glob("ring.*"):
        ring.unlink()  # what no server expects when its spawner dies
    server, spawner = rig.pair()
    os.kill(spawner, signal.SIGKILL)
    assert rig.run(["/bin/true"]).success
    assert rig.pair()[0] != server
    assert "FileNotFoundError" in eventually(lambda: (folder / "crash.log").exists() and (folder / "crash.log").read_text())


def test_few_open_files_make_jobs_wait_and_none_fail(state_dir: Path) -> None:
    """A server never has more descriptors than its starter's hard limit."""
    state_dir.mkdir(parents=True)
    script = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "import pathlib\n"
        "from local.rig import Rig\n"
        "rig = Rig(pathlib.Path(sys.argv[1]), slots=40)\n"
        "jobs = [rig.submit('sleep 0.2; echo x', directory='/') for _ in range(80)]\n"
        "print({str(ending) for ending in rig.wait_all(jobs) if not ending.success})\n"
        "rig.close()\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    said = subprocess.run(
        [sys.executable, "-c", script, str(state_dir)], env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False
    )
    assert said.stdout == b"set()\n", said


@pytest.mark.parametrize("kind", ["below a file", "on no disk"])
def test_a_state_folder_that_cannot_be_made(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "state" if kind == "below a file" else Path("/proc/jobyard")
    keeper = LocalScheduler(place, {}).open_keeper(None, lambda updates: None)
    with pytest.raises(JournalError, match="JOBYARD_STATE_DIR") as told:
        keeper.states()
    assert str(place) in str(told.value)
    keeper.close()


def test_a_process_that_can_open_and_start_nothing_is_told_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def many(*arguments: Any, **options: Any) -> Any:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_spawn", many)
        with pytest.raises(SchedulerUnavailable, match="could not be started: Resource temporarily unavailable"):
            rig.submit(["/bin/true"])
        patch.setattr(paths, "connect", full)
        with pytest.raises(SchedulerUnavailable, match="Too many open files"):
            rig.submit(["/bin/true"])
    assert rig.run(["/bin/true"]).success
    assert len(rig.keeper.keys()) == 1
