"""The transport to this machine: the suite of all transports, and what is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobyard.testing.polling import assert_gone
from jobyard.testing.transport_suite import TransportSuite, await_names, run
from jobyard.testing.watch_suite import WatchSuite
from jobyard.transports import process as process_module
from jobyard.transports.base import Command, OutputTooLarge, PathError, Timeouts, TransferTimeout, Transport
from jobyard.transports.local import LocalTransport
from jobyard.transports.watch import FolderWatch


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = LocalTransport()
    yield made
    made.close()


class TestLocalTransport(TransportSuite):
    """All of it."""

    latency_s = 0.1  # less than looking takes

    @pytest.fixture
    def transport(self) -> Iterator[Transport]:
        made = LocalTransport()
        yield made
        made.close()


class TestWatchByLooking(WatchSuite):
    """The watch where there is no inotify."""

    latency_s = 0.5

    @pytest.fixture
    def transport(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Transport]:
        monkeypatch.setattr("jobyard.node.watching.Inotify.open", classmethod(lambda cls: None))
        made = LocalTransport(look_every_s=0.01)
        yield made
        made.close()


def test_is_a_transport(transport: Transport) -> None:
    assert isinstance(transport, Transport)


def test_more_output_than_the_cap_ends_the_command(tmp_path: Path) -> None:
    with_cap = LocalTransport(output_cap_bytes=100_000)
    for stream in ("", ">&2"):
        with pytest.raises(OutputTooLarge, match="100000 bytes"):
            run(with_cap, "/bin/sh", "-c", f'echo $$ > "$1"; exec yes {stream}', "sh", str(tmp_path / "pid"))
        assert_gone(int((tmp_path / "pid").read_text()))
    assert len(run(with_cap, "/usr/bin/head", "-c", "100000", "/dev/zero").stdout) == 100_000


def test_the_transports_own_limits_of_time(tmp_path: Path) -> None:
    from jobyard.transports.base import CommandTimeout

    hasty = LocalTransport(timeouts=Timeouts(command_s=0.2, transfer_s=0.0))
    with pytest.raises(CommandTimeout, match=r"0\.2 s"):
        run(hasty, "/bin/sleep", "600")
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(TransferTimeout, match="within 0 s"):
        hasty.put(str(tmp_path / "a"), str(tmp_path / "b"))
    assert os.listdir(tmp_path) == ["a"]


def test_a_command_that_may_not_be_killed_is_left_and_reaped_later(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a setuid program: killpg says EPERM."""
    from jobyard.transports.base import CommandTimeout

    real_killpg = os.killpg

    def refused(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refused)
    began = time.monotonic()
    with pytest.raises(CommandTimeout):
        run(transport, "/bin/sh", "-c", 'echo $$ > "$1"; exec sleep 600', "sh", str(tmp_path / "pid"), timeout_s=3.0)
    assert time.monotonic() - began < 60
    pid = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{pid}").exists()
    monkeypatch.undo()
    real_killpg(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    run(transport, "/bin/true")
    assert not Path(f"/proc/{pid}").exists(), "it stays a zombie"
    assert not process_module._left


# In a process of its own: what else holds or ends processes and descriptors in this one is not looked at.
_LEFT = """
import os, sys
from jobyard.transports.base import Command
from jobyard.transports.local import LocalTransport
from jobyard.transports.watch import FolderWatch

transport = LocalTransport()
transport.run(Command(argv=("/bin/true",)))
before = set(os.listdir("/proc/self/fd"))
if sys.argv[1] == "run":
    for _ in range(20):
        transport.run(Command(argv=("/bin/sh", "-c", "exit 1")))
else:
    for _ in range(10):
        with transport.watch([sys.argv[2]]) as watch:
            watch.wait(0)
    forgotten = FolderWatch("local")
    del forgotten
print(sorted(set(os.listdir("/proc/self/fd")) - before))
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child")
"""


@pytest.mark.parametrize("what", ["run", "watch"])
def test_nothing_leaves_a_zombie_or_a_descriptor(tmp_path: Path, what: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _LEFT, what, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.stdout.splitlines(), ran.stderr) == (["[]", "no child"], "")


_INTERRUPTED = """
import os, sys
from jobyard.transports.local import LocalTransport
from jobyard.transports.base import Command
t = LocalTransport()
print("ready", flush=True)
try:
    if sys.argv[2] == "run":
        t.run(Command(argv=("/bin/sh", "-c", 'echo $$ > "$1"; exec sleep 600', "sh", sys.argv[1])))
    else:
        watch = t.watch([os.path.dirname(sys.argv[1])])
        open(sys.argv[1], "w").write("0")
        while True:
            watch.wait(None)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("what", ["run", "watch"])
def test_ctrl_c_interrupts_and_leaves_nothing_running(tmp_path: Path, what: str) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with subprocess.Popen([sys.executable, "-c", _INTERRUPTED, gate, what], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        pid = int(gate.read_text())
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
        assert child.wait(30) == 0
    if pid:
        assert_gone(pid)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    """A file-size limit stands for the full disk."""
    code = """
import os, resource, signal, sys
from jobyard.transports.local import LocalTransport
from jobyard.transports.base import PathError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
try:
    LocalTransport().write_file(sys.argv[1], b"x" * 1000000)
except PathError as error:
    print(error.errno, error)
"""
    result = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("27 local: cannot write ")
    assert os.listdir(tmp_path) == []


def test_variables_that_would_change_a_command_are_kept_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SQUEUE_STATES", "SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOB", "PLAIN"):
        monkeypatch.setenv(name, "kept")
    monkeypatch.setenv("PLAIN_TOO", "kept")
    made = LocalTransport(environment={"SQUEUE_NAMES": "x"})
    without = ("SQUEUE_", "SLURM_JOB_", "PLAIN", "NOSUCH")
    left = made.run(Command(argv=("/usr/bin/env",), without=without, environment={"SLURM_JOB_NAME": "ours"})).text.splitlines()
    made.close()
    names = {line.partition("=")[0] for line in left}
    assert {"SLURM_CONF", "SLURM_JOB", "PLAIN_TOO", "SLURM_JOB_NAME"} <= names, names
    assert not {"SQUEUE_STATES", "SQUEUE_NAMES", "SLURM_JOB_ID", "PLAIN"} & names


def test_the_environment_is_this_process_s_with_additions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "1")
    made = LocalTransport(environment={"ADDED": "2"})
    assert (made.environment()["FROM_OUTSIDE"], made.environment()["ADDED"]) == ("1", "2")
    assert (
        made.run(Command(argv=("/bin/sh", "-c", 'echo "$FROM_OUTSIDE$ADDED$THREE"'), environment={"THREE": "3"})).stdout == b"123\n"
    )


# The watch ----------------------------------------------------------------------------------------------------------


def test_an_overflow_of_the_kernels_queue_loses_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    with FolderWatch("local") as watch:
        watch.add(map(str, folders))
        assert watch.watcher._inotify is not None
        real = watch.watcher._inotify.read

        def overflown() -> list[tuple[int, int, bytes]]:
            lost = list(real())
            return [(-1, 0x4000, b"")] if lost else []

        monkeypatch.setattr(watch.watcher._inotify, "read", overflown)
        for folder in folders:
            (folder / f"f{folder.name}").write_bytes(b"")
        found = watch.wait(10)
    assert {(item.folder, item.name) for item in found} == {(str(folder), f"f{folder.name}") for folder in folders}


def test_folders_beyond_the_kernels_watches_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FolderWatch("local", look_every_s=0.01) as watch:
        assert watch.watcher._inotify is not None
        monkeypatch.setattr(watch.watcher._inotify, "add", lambda path: None)
        watch.add([str(tmp_path)])
        (tmp_path / "file").write_bytes(b"")
        await_names(watch, {"file"})


def test_a_folder_under_two_names_is_watched_under_both(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with FolderWatch("local", look_every_s=0.01) as watch:
        watch.add([str(tmp_path / "real"), str(tmp_path / "link")])
        (tmp_path / "real" / "file").write_bytes(b"")
        found = {item.folder for item in await_names(watch, {"file"})}
        while len(found) < 2:
            found |= {item.folder for item in watch.wait(10)}
    assert found == {str(tmp_path / "real"), str(tmp_path / "link")}


def test_looking_costs_one_stat_of_a_quiet_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobyard.node.watching._YOUNG_S", -1.0)  # a time stamp is fine enough here
    listings: list[bytes] = []
    real = os.listdir

    def listdir(path: bytes) -> list[bytes]:
        listings.append(path)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with FolderWatch("local", look_every_s=0.0, use_inotify=False) as watch:
        watch.add([str(tmp_path)])
        for _ in range(5):
            watch.wait(0)
        assert len(listings) == 1
        (tmp_path / "file").write_bytes(b"")
        assert [item.name for item in watch.wait(10)] == ["file"]


def test_a_coarse_time_stamp_hides_no_name(tmp_path: Path) -> None:
    """A second file within the time stamp of the first; and a clock of the file system that is years behind."""
    with FolderWatch("local", look_every_s=0.0, use_inotify=False) as watch:
        os.utime(tmp_path, (1e9, 1e9))
        watch.add([str(tmp_path)])
        watch.wait(0)
        (tmp_path / "file").write_bytes(b"")
        os.utime(tmp_path, (1e9, 1e9))
        assert [item.name for item in watch.wait(10)] == ["file"]


def test_a_shared_file_system_is_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another machine writes is seen, and what this one writes is told at once, and once."""
    monkeypatch.setattr("jobyard.node.watching.file_system", lambda folder: "nfs4")
    with FolderWatch("local", look_every_s=3600.0) as watch:
        watch.add([str(tmp_path)])
        watch.wait(0)
        (tmp_path / "here").write_bytes(b"")
        assert [item.name for item in watch.wait(10)] == ["here"]
        watch.watcher._look_every_s, watch.watcher._next_look = 0.0, 0.0
        assert list(watch.wait(0)) == []
        assert watch.watcher._inotify is not None
        watch.watcher._inotify.remove(watch.watcher._descriptors[os.fsencode(tmp_path)])  # from now on as if another machine wrote
        (tmp_path / "there").write_bytes(b"")
        assert [item.name for item in watch.wait(10)] == ["there"]


def test_the_file_system_is_told_by_the_longest_mount_point(tmp_path: Path) -> None:
    from jobyard.node.watching import file_system

    assert file_system(b"/proc/self") == "proc"
    assert file_system(os.fsencode(tmp_path)) not in ("", "proc")


def test_a_forked_child_neither_kills_nor_waits_for_what_is_its_parents(tmp_path: Path) -> None:
    code = """
import os, sys, threading, warnings
from jobyard.transports.base import Command
from jobyard.transports.local import LocalTransport
warnings.simplefilter("ignore")
transport = LocalTransport()
results = []
gate = sys.argv[1]
command = Command(argv=("/bin/sh", "-c", 'echo > "$1"; read x < "$1"', "sh", gate))
thread = threading.Thread(target=lambda: results.append(transport.run(command)))
thread.start()
open(gate).read()
transport._lock.acquire()
pid = os.fork()
if pid == 0:
    assert transport.run(Command(argv=("/bin/echo", "child"))).stdout == b"child\\n"
    transport.close()
    os._exit(0)
transport._lock.release()
assert os.waitpid(pid, 0)[1] == 0
open(gate, "w").write("go\\n")
thread.join()
print(results[0].returncode)
"""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    result = subprocess.run([sys.executable, "-c", code, gate], capture_output=True, text=True, check=False, timeout=60)
    assert (result.stdout, result.stderr) == ("0\n", "")


def test_a_folder_away_for_a_while_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system that fails for a moment: no name is lost, and nothing is raised."""
    real, away = os.stat, threading.Event()

    def stat(path: bytes, **more: object) -> os.stat_result:
        if away.is_set() and path == os.fsencode(tmp_path):
            raise OSError(116, "Stale file handle")
        return real(path)

    with FolderWatch("local", look_every_s=0.0, use_inotify=False) as watch:
        watch.add([str(tmp_path)])
        monkeypatch.setattr(os, "stat", stat)
        away.set()
        (tmp_path / "file").write_bytes(b"")
        assert list(watch.wait(0)) == []
        away.clear()
        assert [item.name for item in watch.wait(10)] == ["file"]


def test_one_thread_waits_at_a_time(tmp_path: Path) -> None:
    with FolderWatch("local") as watch:
        waiter = threading.Thread(target=watch.wait, args=(None,))
        waiter.start()
        while not watch.watcher._waiting:
            time.sleep(0.001)
        with pytest.raises(RuntimeError, match="one thread"):
            watch.wait(0)
        watch.wake()
        waiter.join(30)


def test_a_put_does_not_read_a_pipe(transport: Transport, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PathError, match="regular"):
        transport.put(str(tmp_path / "pipe"), str(tmp_path / "target"))
