"""Commands that the helper runs: each in a process group of its own, both streams passed on, three ways to end it."""

import os
import select
import signal
import subprocess
import sys
import threading
import time

from . import helper_wire as wire
from .helper import Refused, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from .helper import Answer, Request

TERM_GRACE_S = 0.5  # between TERM and KILL of a command that has to go
AFTER_EXIT_S = 0.5  # how long what a command left running may keep its streams open
KILL_WAIT_S = 2.0  # how long a killed process may take to go
LOOK_S = 0.02  # how often an exit is looked for where the kernel cannot tell it
HELD = 1 << 16  # output up to here comes with the answer
_CHUNK = 1 << 16
_NO_RESOURCES = (11, 12, 23, 24, 35)  # EAGAIN, ENOMEM, ENFILE, EMFILE; EAGAIN on macOS


def run(request: "Request") -> "Answer":
    """Run one command; its exit code, and what of its output was not sent already."""
    arguments = request.arguments
    if arguments.get("finish"):
        request.helper.finishing.add(request.request)
    try:
        running = _Running(request, _start(request))
        request.on_cancel = running.cancel
        if request.cancelled:
            running.cancel()
        return running.run(float(arguments["timeout_s"]), int(arguments["cap"]))
    finally:
        request.helper.finishing.discard(request.request)


def _start(request: "Request") -> "subprocess.Popen[bytes]":
    if request.cancelled:  # before it began, perhaps with the link
        raise Refused("cancelled", "it was given up")
    arguments = request.arguments
    without = [wire.as_bytes(name) for name in arguments.get("without", ())]
    environment = {
        name: value
        for name, value in request.helper.environment.items()
        if not any(name == one or (one.endswith(b"_") and name.startswith(one)) for one in without)
    }
    for name, value in arguments["environment"].items():
        environment[wire.as_bytes(name)] = wire.as_bytes(value)
    directory = arguments.get("directory")
    directory = None if directory is None else wire.as_bytes(directory)
    more: "Dict[str, Any]" = {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
    try:
        return subprocess.Popen(
            [wire.as_bytes(word) for word in arguments["argv"]],
            stdin=subprocess.PIPE if arguments["stdin"] else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env=environment,
            bufsize=0,
            **more
        )  # fmt: skip
    except OSError as error:
        at = "directory" if directory is not None and error.filename in (directory, wire.as_text(directory)) else "program"
        kind = "start"
        if at == "program" and error.errno in _NO_RESOURCES:
            kind = "resources"
        elif at == "program" and isinstance(error, FileNotFoundError):
            kind = "missing"
        raise Refused(kind, error.strerror or str(error), at=at, path=shown(error.filename)) from error
    except ValueError as error:
        raise Refused("start", str(error), at="words", path=None) from error


class _Running(object):
    """One command that runs."""

    def __init__(self, request: "Request", process: "subprocess.Popen[bytes]") -> "None":
        self._request = request
        self._process = process
        self._lock = threading.Lock()  # held where the process is reaped or signalled
        self._over = "exit"
        self._held: "Dict[int, List[bytes]]" = {1: [], 2: []}
        self._held_size = 0
        self._sizes = {1: 0, 2: 0}
        self._taken = True  # somebody may read what it writes

    def cancel(self) -> "None":
        """End it: nobody wants its answer."""
        self._over = "cancel"
        thread = threading.Thread(target=self._end)
        thread.daemon = True
        try:
            thread.start()
        except RuntimeError:  # as many as this login may have: who cancels it waits for its end
            self._end()

    def run(self, timeout_s: "float", cap: "int") -> "Answer":
        began = time.monotonic()
        process = self._process
        assert process.stdout is not None
        assert process.stderr is not None
        exit_fd = None
        try:
            if process.stdin is not None:
                thread = threading.Thread(target=self._feed)
                thread.daemon = True
                thread.start()
            exit_fd = _exit_fd(process)
            self._pump(time.monotonic() + timeout_s, cap, exit_fd)
        except BaseException:  # the link above all: nobody would end it any more
            self._end()
            raise
        finally:
            if exit_fd is not None:
                os.close(exit_fd)
            process.stdout.close()
            process.stderr.close()
            self._request.stop()  # the feeder goes
        out, err = b"".join(self._held[1]), b"".join(self._held[2])
        code = process.returncode
        value = {
            "returncode": -signal.SIGKILL if code is None else code,
            "over": self._over,
            "duration_s": time.monotonic() - began,
            "out": len(out),
        }
        return value, out + err

    def _pump(self, deadline: "float", cap: "int", exit_fd: "Optional[int]") -> "None":
        process = self._process
        fds = {process.stdout.fileno(): 1, process.stderr.fileno(): 2}  # type: ignore[union-attr]
        poll = select.poll()
        for fd in fds:
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        if exit_fd is not None:
            poll.register(exit_fd, select.POLLIN)
        exited = False
        while fds or not exited:
            left = deadline - time.monotonic()
            if left <= 0:
                if not exited:  # else the command itself is done; something that it left holds its streams
                    self._over = "time" if self._over == "exit" else self._over
                    self._end()
                return
            wait_s = left if exit_fd is not None or exited else min(LOOK_S, left)
            for fd, _ in poll.poll(wait_s * 1000 + 1):
                if fd == exit_fd:
                    poll.unregister(fd)
                elif not self._read(fd, fds[fd], deadline):
                    poll.unregister(fd)
                    del fds[fd]
                elif self._sizes[fds[fd]] > cap:
                    self._over = "size"
                    self._end()
                    return
            if not exited:
                with self._lock:
                    exited = process.poll() is not None
                if exited:
                    deadline = min(deadline, time.monotonic() + AFTER_EXIT_S)

    def _read(self, fd: "int", stream: "int", deadline: "float") -> "bool":
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        self._sizes[stream] += len(data)
        if self._held_size + len(data) <= HELD:
            self._held[stream].append(data)
            self._held_size += len(data)
            return bool(data)
        for number, held in self._held.items():
            for part in held:
                self._send(number, part, deadline)
            held[:] = []
        self._held_size = HELD  # from now on everything is sent at once
        self._send(stream, data, deadline)
        return bool(data)

    def _send(self, stream: "int", data: "bytes", deadline: "float") -> "None":
        if self._taken:
            try:
                self._request.send(stream, data, max(0.0, deadline - time.monotonic()))
            except OSError:  # the link is gone: a submission goes on, and what it says is nobody's
                if self._request.request not in self._request.helper.finishing:
                    raise
                self._taken = False

    def _feed(self) -> "None":
        """Standard input, from the request itself or as it comes."""
        stdin = self._process.stdin
        assert stdin is not None
        fd = stdin.fileno()
        os.set_blocking(fd, False)
        try:
            if self._write(fd, memoryview(self._request.raw)):
                while not self._request.arguments.get("whole"):
                    came = self._request.next()
                    if came is None:
                        break
                    if not self._write(fd, came[1]):
                        break
                    self._request.consumed(0, len(came[1]))
        finally:
            stdin.close()
        while not self._request.over:  # what comes for a command that does not read it
            came = self._request.next()
            if came is None:
                break
            self._request.consumed(0, len(came[1]))

    def _write(self, fd: "int", data: "memoryview") -> "bool":
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        while len(data):
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                poll.poll(200)
                if self._request.over:
                    return False
            except OSError:  # it reads no further; how it ends says whether that matters
                return False
        return True

    def _end(self) -> "None":
        """TERM, grace, KILL to its group, then reap it. One that cannot be killed is left to end by itself."""
        self._signal(signal.SIGTERM)
        if not self._gone(TERM_GRACE_S, reap=False):
            killed = self._signal(signal.SIGKILL)
        else:
            killed = self._signal(signal.SIGKILL)  # what is left of its group
        self._gone(KILL_WAIT_S if killed else 0.0, reap=True)

    def _signal(self, number: "int") -> "bool":
        with self._lock:
            if self._process.returncode is not None:
                return True
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return True
            except PermissionError:  # a setuid program: it cannot be killed, only left
                return False
        return True

    def _gone(self, within_s: "float", reap: "bool") -> "bool":
        """Whether it ends within that time. Not reaped, its group's number is not used again."""
        end = time.monotonic() + within_s
        while True:
            with self._lock:
                if self._process.returncode is not None:
                    return True
                if reap:
                    gone = self._process.poll() is not None
                else:
                    try:
                        gone = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
                    except ChildProcessError:
                        gone = True
            if gone or time.monotonic() >= end:
                return gone
            time.sleep(0.005)


def _exit_fd(process: "subprocess.Popen[bytes]") -> "Optional[int]":
    """A descriptor that is ready once the process has ended; None where there are none (Python 3.8, an old kernel)."""
    if hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(process.pid)
        except OSError:
            return None
    return None


def environment(request: "Request") -> "Answer":
    """What the login gave."""
    return {wire.as_text(name): wire.as_text(value) for name, value in request.helper.environment.items()}, b""


OPERATIONS = {"run": run, "environment": environment}
