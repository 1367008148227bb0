"""A child process of a transport: its streams pumped with a cap and a deadline, and its end, whatever it does."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Literal

__all__ = ["Pump", "end", "interrupted_later", "reap_left", "signal_group"]

_CHUNK = 1 << 18
_TERM_GRACE_S = 0.5  # between TERM and KILL of a command that has to go
_AFTER_EXIT_S = 0.5  # how long what a command left running may keep its streams open
_KILL_WAIT_S = 2.0  # how long a killed process may take to go
_EXIT_LOOK_S = 0.02  # how often an exit is looked for where the kernel cannot tell it

Over = Literal["exit", "time", "size"]


class Pump:
    """Feeds standard input to a process and takes both its streams, each up to ``cap`` bytes."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, cap: int) -> None:
        self._process = process
        self._stdin = memoryview(stdin)
        self._cap = cap
        self._taken: dict[int, list[bytes]] = {}
        self._sizes: dict[int, int] = {}
        self._fds = [stream.fileno() for stream in (process.stdout, process.stderr) if stream is not None]
        for fd in self._fds:
            self._taken[fd], self._sizes[fd] = [], 0

    def run(self, deadline: float) -> Over:
        """Until the process has ended and its streams are closed ("exit"), or it had to be ended: "time", "size"."""
        exit_fd = _exit_fd(self._process)
        try:
            with selectors.DefaultSelector() as selector:
                return self._run(selector, exit_fd, deadline)
        finally:
            if exit_fd is not None:
                os.close(exit_fd)
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                _close(stream)

    def _run(self, selector: selectors.BaseSelector, exit_fd: int | None, deadline: float) -> Over:
        for fd in self._fds:
            os.set_blocking(fd, False)
            selector.register(fd, selectors.EVENT_READ)
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)
            selector.register(self._process.stdin.fileno(), selectors.EVENT_WRITE)
        if exit_fd is not None:
            selector.register(exit_fd, selectors.EVENT_READ)
        open_fds, exited = set(self._fds), False
        while open_fds or not exited:
            now = time.monotonic()
            if now >= deadline:
                if exited:  # the command itself is done; something that it left holds its streams
                    return "exit"
                end(self._process)
                return "time"
            pause_s = deadline - now if exit_fd is not None or exited else min(_EXIT_LOOK_S, deadline - now)
            for key, _ in selector.select(pause_s):
                if key.fd == exit_fd:
                    selector.unregister(exit_fd)
                elif key.fd in self._taken:
                    if not self._read(key.fd):
                        selector.unregister(key.fd)
                        open_fds.discard(key.fd)
                    elif self._sizes[key.fd] > self._cap:
                        end(self._process)
                        return "size"
                elif not self._write(key.fd):
                    selector.unregister(key.fd)
                    _close(self._process.stdin)
            if not exited and self._process.poll() is not None:
                exited = True
                deadline = min(deadline, time.monotonic() + _AFTER_EXIT_S)
        return "exit"

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        self._taken[fd].append(data)
        self._sizes[fd] += len(data)
        return bool(data)

    def _write(self, fd: int) -> bool:
        try:
            written = os.write(fd, self._stdin[:_CHUNK])
        except BlockingIOError:
            return True
        except BrokenPipeError:  # it reads no further; how it ends says whether that matters
            return False
        self._stdin = self._stdin[written:]
        return bool(self._stdin)

    def output(self, which: int) -> bytes:
        """What came: 0 standard output, 1 standard error."""
        return b"".join(self._taken[self._fds[which]])


@contextmanager
def interrupted_later() -> Iterator[None]:
    """Ctrl-C comes after this block. One that came while a process begins would leave a process that nobody knows."""
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(handler):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])


def _exit_fd(process: subprocess.Popen[bytes]) -> int | None:
    """A descriptor that is ready once the process has ended; None where there are none (not Linux, an old kernel)."""
    if hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(process.pid)
        except OSError:
            return None
    return None


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None and not stream.closed:
        stream.close()


def signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to the process's group, if it has not been reaped; False where all of it is other users'."""
    if process.returncode is not None:
        return True
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:  # a setuid program (OAR's oarsub): it cannot be killed, only left
        return False
    return True


def end(process: subprocess.Popen[bytes]) -> None:
    """TERM, grace, KILL to its group, then reap it. One that cannot be killed is reaped when it ends by itself."""
    if process.returncode is None:
        signal_group(process, signal.SIGTERM)
        exit_fd = _exit_fd(process)
        try:  # without reaping: as long as the leader is not reaped, its group's number is not used again
            _wait_exit(exit_fd, _TERM_GRACE_S)
        finally:
            if exit_fd is not None:
                os.close(exit_fd)
        killed = signal_group(process, signal.SIGKILL)
        try:
            process.wait(_KILL_WAIT_S if killed else 0)
        except subprocess.TimeoutExpired:
            with _left_lock:
                _left.append(process)
    for stream in (process.stdin, process.stdout, process.stderr):
        _close(stream)


def _wait_exit(exit_fd: int | None, timeout_s: float) -> None:
    with selectors.DefaultSelector() as selector:
        if exit_fd is None:
            time.sleep(timeout_s)
        else:
            selector.register(exit_fd, selectors.EVENT_READ)
            selector.select(timeout_s)


_left: list[subprocess.Popen[bytes]] = []
_left_lock = threading.Lock()


def reap_left() -> None:
    """Reap those of the processes that could not be killed that have ended since."""
    if _left:
        with _left_lock:
            _left[:] = [process for process in _left if process.poll() is None]
