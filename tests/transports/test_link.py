"""A link by itself: what interrupts it, what a host may say over it, what a fork takes of it. In place of ssh a script that runs
the helper here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobyard.errors import TransportError
from jobyard.testing.polling import eventually
from jobyard.transports import openssh, openssh_link
from jobyard.transports.base import Command, CommandTimeout
from jobyard.transports.openssh import OpenSSHTransport, Settings
from jobyard.transports.openssh_errors import LinkLost
from jobyard.transports.openssh_link import Link
from jobyard.transports.openssh_start import helper_program

_SSH = '#!/bin/sh\nfor last; do :; done\nexec /bin/sh -c "$last"\n'
Made = Callable[..., OpenSSHTransport]


@pytest.fixture
def ssh(tmp_path: Path) -> str:
    """In place of ssh: the last of its words is what the host's shell gets."""
    path = tmp_path / "ssh"
    path.write_text(_SSH)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def make(ssh: str) -> Iterator[Made]:
    """Makes transports, and closes them."""
    made: list[OpenSSHTransport] = []

    def one(**settings: object) -> OpenSSHTransport:
        made.append(OpenSSHTransport(Settings(**{"host": "bed", "ssh": ssh, "connect_s": 60.0, **settings})))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for transport in made:
        transport.close()


def helper_that(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Hosts run another helper from now on."""
    program = helper_program()
    assert repr(old)[1:-1].encode() in program
    monkeypatch.setattr(openssh_link, "helper_program", lambda: program.replace(repr(old)[1:-1].encode(), repr(new)[1:-1].encode()))


def test_ctrl_c_within_a_message_does_not_spoil_the_next(make: Made, tmp_path: Path) -> None:
    """What comes behind half a message would be taken for its other half; so another connection is made."""
    transport = make()
    helper, interrupted, done = transport.identity.pid, False, threading.Event()
    os.kill(helper, signal.SIGSTOP)
    try:
        fd = transport.link()._in
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 4096)

        def interrupt() -> None:
            with contextlib.suppress(AssertionError):
                eventually(lambda: not select.select([], [fd], [], 0)[1], "the pipe is full of half a message")
            while not done.wait(0.5):  # a signal can come just before the call that waits
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            transport.write_file(str(tmp_path / "target"), b"x" * 3_000_000)
        except KeyboardInterrupt:
            interrupted = True
        done.set()
        with contextlib.suppress(KeyboardInterrupt):
            thread.join()
    finally:
        done.set()
        with contextlib.suppress(ProcessLookupError):  # it ended with the connection
            os.kill(helper, signal.SIGCONT)
    assert interrupted
    began = time.monotonic()
    assert transport.run(Command(argv=("/bin/echo", "on"))).stdout == b"on\n"
    assert time.monotonic() - began < 30  # of which a silent link would be given up after 45
    assert transport.connection.links_made == 2
    eventually(lambda: sorted(os.listdir(tmp_path)) == ["ssh"], "what was half written is gone")


def test_ctrl_c_while_a_long_request_goes_leaves_nothing_waiting(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = make()
    transport.link()

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(transport, "send_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        transport.call("parts", {"path": "/"}, b"[" + b" " * (1 << 20))
    assert not transport._mine
    assert not transport.link()._pending


@pytest.mark.parametrize("said", ["5", "[5]", "[[1, 2, 3]]", "[[[], []]]", "null"])
def test_what_no_helper_would_say_ends_the_link_and_hangs_nobody(make: Made, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    helper_that(monkeypatch, "wire.head([]))  # it is open", f'b"{said}\\n")')
    transport = make()
    ended: list[BaseException] = []

    def watch() -> None:
        try:
            transport.watch(["/"])
        except TransportError as error:
            ended.append(error)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert [type(error) for error in ended] == [LinkLost]


def test_a_child_that_is_forked_while_a_link_is_made_holds_nothing_of_it(make: Made, tmp_path: Path) -> None:
    """It would keep the helper alive."""
    gate, slow = tmp_path / "gate", tmp_path / "slow"
    slow.write_text(_SSH.replace("exec", f"while [ ! -e '{gate}' ]; do sleep 0.02; done\nexec"))
    slow.chmod(0o755)
    transport = make(ssh=str(slow))
    thread = threading.Thread(target=transport.link)
    thread.start()
    try:
        begun = eventually(
            lambda: next((link for link in list(openssh_link._links) if link.settings.ssh == str(slow)), None), "it has begun"
        )
        pipes = {os.readlink(f"/proc/self/fd/{fd}") for fd in (begun._in, begun._out, begun.stderr_fd)}
        pid = os.fork()
        if pid == 0:
            held = 99
            try:
                held = _held(pipes)
            finally:
                os._exit(held)
        _, status = os.waitpid(pid, 0)
    finally:
        gate.touch()
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
    assert transport.run(Command(argv=("/bin/echo", "on"))).stdout == b"on\n"


def _held(files: set[str]) -> int:
    """How many of these are open in this process."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    return len(files.intersection(names))


def test_a_program_in_the_background_is_told_why_and_not_stopped() -> None:
    """Setting a terminal from the background stops who does it."""
    program = (
        "import os, sys\n"
        "from jobyard.errors import TransportError\n"
        "from jobyard.transports.openssh import OpenSSHTransport, Settings\n"
        "os.setpgid(0, 0)\n"
        "try:\n    OpenSSHTransport(Settings(host='x', ssh='/bin/false')).stat('/')\n"
        "except TransportError as error:\n    sys.exit(7)\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:  # leads a session on the terminal, as a shell does
        status = -1
        with contextlib.suppress(BaseException):
            child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", program])
            _, status = os.waitpid(child, os.WUNTRACED)
            if os.WIFSTOPPED(status):
                os.kill(child, signal.SIGKILL)
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 99)
    with contextlib.suppress(OSError):  # the other end is closed
        while os.read(terminal, 4096):
            pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 7


def test_links_that_could_not_be_made_are_forgotten(ssh: str) -> None:
    before = len(openssh_link._links)
    with pytest.raises(TransportError):
        Link(Settings(host="bed", ssh="/bin/false"), ask=False)
    assert len(openssh_link._links) == before
    assert subprocess.run([ssh, "true"], check=True).returncode == 0


def test_a_command_that_cannot_even_begin_is_given_up(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper keeps time once it runs; where its folder's file system is dead it never does."""
    helper_that(monkeypatch, "running = _Running(request, _start(request))", "threading.Event().wait()")
    monkeypatch.setattr(openssh, "ANSWER_S", 0.3)
    with pytest.raises(CommandTimeout, match="gave no sign within") as caught:
        make().run(Command(argv=("/bin/true",), timeout_s=0.2))
    assert caught.value.result.returncode == -signal.SIGKILL
    assert caught.value.retryable


def test_a_shared_login_without_a_folder_of_the_session(make: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that outlived its folder, as after su, changes nothing; nor does a temporary folder that cannot be written."""
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "short"))
    assert make(share_s=60.0).run(Command(argv=("/bin/echo", "on"))).stdout == b"on\n"
    (tmp_path / "short").mkdir()
    assert make(share_s=61.0).run(Command(argv=("/bin/echo", "on"))).stdout == b"on\n"
    assert os.listdir(tmp_path / "short") == [f"jobyard-ssh-{os.getuid()}"]
