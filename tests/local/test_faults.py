"""What the pair meets on machines that are arranged otherwise, or in trouble: each of these tests failed before its cure."""

from __future__ import annotations

import ast
import builtins
import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jobyard.errors import JournalError, SchedulerUnavailable
from jobyard.job import JobState
from jobyard.schedulers.local import LocalScheduler, kernel, paths, stop
from jobyard.schedulers.local.children import Child, ended_at, signal_sessions
from jobyard.schedulers.local.clients import _framed
from jobyard.schedulers.local.connection import start_pair
from jobyard.schedulers.local.memory import resident_by_session
from jobyard.schedulers.local.protocol import decode_error
from jobyard.schedulers.local.ring import END, FAIL, PID, SPAWNING, Ring
from jobyard.schedulers.local.wire import Frames
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


def test_a_server_that_finds_a_spawner_alive_leaves(state_dir: Path) -> None:
    """That spawner takes its server's place; whoever asked for one asks again."""
    folder = paths.state_folder(state_dir, create=True)
    ring = Ring.create(folder.ring(0))
    ring.lock()
    try:
        assert not start_pair(folder, {})
    finally:
        ring.close()
    rig = Rig(state_dir)
    assert rig.run(["/bin/true"]).success
    rig.close()
    assert not os.path.exists(os.path.join(folder.path, "crash.log"))


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


SPAWNER = """
import errno, os, socket, sys, threading
from jobyard.schedulers.local import spawner as module
from jobyard.schedulers.local.launch import NotStartedError
from jobyard.schedulers.local.paths import StateFolder
from jobyard.schedulers.local.ring import PROGRAM, Ring
from jobyard.schedulers.local.wire import frame, pack

folder, refusals = StateFolder(sys.argv[1]), [int(sys.argv[2])]
module.SHORT_S = 0.6 if refusals[0] > 10 else 600.0
os.mkdir(folder.slots)
ring = Ring.create(folder.ring(1))
ours, theirs = socket.socketpair()
spawner = module.Spawner(folder, 1, theirs, os.eventfd(0))
spawner.launcher.learn(1, pack({b"PATH": b"/usr/bin:/bin"}))
launch = spawner.launcher.launch

def refused(prepared):
    if refusals[0]:
        refusals[0] -= 1
        prepared.close()
        raise NotStartedError(PROGRAM, errno.EAGAIN)
    return launch(prepared)

spawner.launcher.launch = refused

def serve():
    seen = []
    while sum(one.kind in (3, 4) for one in seen) < 2:
        seen += ring.read()
    print([(one.kind, one.number, one.errno) for one in seen], flush=True)
    ours.sendall(frame(["bye"]))

ours.sendall(frame(["run", [[number, b"t", 1, 0, None, pack({"a": [b"/bin/true"], "d": b"/"})] for number in (7, 8)]]))
thread = threading.Thread(target=serve)
thread.start()
spawner.run()
thread.join()
"""


@pytest.mark.parametrize("refusals", [3, 1000])
def test_a_job_waits_for_a_process_and_does_not_fail_at_once(tmp_path: Path, refusals: int) -> None:
    """The user has as many processes as may be: a queue must not go up in failures. Where that lasts, and no job runs whose end
    could change it, it is told."""
    words = [sys.executable, "-c", SPAWNER, str(tmp_path), str(refusals)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    said = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False, timeout=120)
    records = ast.literal_eval(said.stdout.decode())
    if refusals == 3:
        began = [(SPAWNING, 7, 0)] * 4 + [(PID, 7, 0), (SPAWNING, 8, 0), (PID, 8, 0)]
        assert [one for one in records if one[0] != END] == began
        assert sorted(one for one in records if one[0] == END) == [(END, 7, 0), (END, 8, 0)]
    else:
        assert [one for one in records if one[0] != SPAWNING] == [(FAIL, 7, errno.EAGAIN), (FAIL, 8, errno.EAGAIN)]
        assert records.count((SPAWNING, 7, 0)) > 1


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0, 0.0])
def test_a_clock_that_is_set_changes_no_duration(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    child = Child(1, 17, time.time(), kernel.boot_now(), 0)
    clock, booted = time.time, kernel.boot_now
    monkeypatch.setattr(time, "time", lambda: clock() + 5.0 + step_s)
    monkeypatch.setattr(kernel, "boot_now", lambda: booted() + 5.0)
    assert 5.0 <= ended_at(child) - child.began < 50.0


def test_a_state_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b'st\xff \n"x$HOME')
    rig = Rig(place)
    try:
        job = rig.submit("echo $0; read x <gate")
        os.mkfifo(place / "gate")
        rig.until(job, JobState.RUNNING)
        server = rig.pair()[0]
        assert eventually(lambda: rig.output(job) == b"/bin/sh\n")
        (place / "gate").write_text("\n")
        assert rig.wait(job).exit_code == 0
        assert rig.output(job) == b"/bin/sh\n"
        assert rig.pair()[0] == server
        assert not (place / "local" / "crash.log").exists()
    finally:
        rig.close()
        stop(place)


def test_an_answer_that_cannot_be_sent_ends_no_server() -> None:
    (answer,) = Frames().feed(_framed([7, None, ["st\udcff"]]))
    assert answer[0] == 7
    assert "cannot be sent" in str(decode_error(answer[1]))
