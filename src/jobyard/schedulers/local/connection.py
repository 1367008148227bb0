"""A client's connection: requests that survive a lost server, and waiting without a thread of our own.

Whoever waits first reads for all (the leader); the others sleep until it has delivered something, and the next of them leads
when it goes. Every request has an id and is sent again to the next server until it is answered. A child made by fork makes
a connection of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import JobyardError, JournalError, NoScheduler, SchedulerUnavailable, SessionClosed, SubmitError
from . import paths
from .protocol import decode_error
from .wire import MAX_FRAME, VERSION, Frames, frame

__all__ = ["Connection", "start_pair"]

START_S = 30.0  # a server is there after that time, or something is wrong


class _Pending:
    __slots__ = ("data", "error", "result", "state", "then")

    def __init__(self, data: bytes, then: Callable[[Any], None] | None = None) -> None:
        self.data = data
        self.state = 0  # 1: answered
        self.error: list[Any] | None = None
        self.result: Any = None
        self.then = then


class Connection:
    """Requests to, and news from, the server of a state folder. Thread-safe."""

    def __init__(self, folder: Callable[[], paths.StateFolder], options: dict[str, str]) -> None:
        self._folder_of = folder
        self._options = options
        self._updates: Callable[[Sequence[Any]], None] = lambda entries: None
        self.session: str | None = None
        self.machine: tuple[int, int, int] = (0, 0, 0)
        self.server_pid = self.spawner_pid = 0
        self._closed = False
        self._fresh()

    def _fresh(self) -> None:
        """No connection yet; in a forked child nothing of the parent's."""
        self._pid = os.getpid()
        self._socket: socket.socket | None = None
        self._frames = Frames()
        self._next = 0
        self._pending: dict[int, _Pending] = {}
        self._sending = threading.RLock()  # the socket's writing end, and who makes it
        self._reading = threading.Lock()  # held by the leader
        self._turn = threading.Condition(threading.Lock())
        self._followers = 0
        self._thread: threading.Thread | None = None
        self._poll: select.poll | None = None

    def folder(self) -> paths.StateFolder:
        """The state folder, made where it is missing."""
        return self._folder_of()

    def follow(self, session: str, updates: Callable[[Sequence[Any]], None]) -> None:
        """Hear of that session's jobs from now on, after every reconnection too."""
        self.session = session
        self._updates = updates

    def _mine(self) -> None:
        if self._pid != os.getpid():
            parent = self._socket
            had_thread = self._thread is not None
            self._fresh()
            if parent is not None:
                parent.close()  # only our copy
            if had_thread:
                self.background()
        if self._closed:
            raise SessionClosed("the session is closed; open it again by its contact")

    # Requests -----------------------------------------------------------------------------------------------------------

    def request(self, operation: str, *arguments: Any) -> Any:
        """Ask, and wait for the answer. Raises what the server answered; SchedulerUnavailable where there is none."""
        self._mine()
        with self._sending:
            self._next += 1
            number = self._next
            pending = _Pending(frame([number, operation, arguments]))
            if len(pending.data) > MAX_FRAME:
                raise SubmitError(f"{len(pending.data)} bytes are more than one request may hold ({MAX_FRAME}); submit in parts")
            self._pending[number] = pending
            try:
                if self._socket is not None:
                    self._send(pending.data)
                else:
                    self._connect(None)
            except BaseException:
                self._pending.pop(number, None)  # what was given up is never sent again behind the caller's back
                raise
        try:
            self._drive(lambda: pending.state != 0, None)
        finally:
            self._pending.pop(number, None)
        if pending.error is not None:
            raise decode_error(pending.error)
        return pending.result

    def _send(self, data: bytes) -> None:
        sock = self._socket
        assert sock is not None
        try:
            sock.sendall(data)
        except OSError:
            self._shut(sock)  # the reader sees it, reconnects, and sends all again
        except BaseException:
            self._shut(sock)  # half a frame: this connection cannot be used any more
            raise

    @staticmethod
    def _shut(sock: socket.socket) -> None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # gone already

    # Waiting ------------------------------------------------------------------------------------------------------------

    def wait_until(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Block until ``done()``; False when the time is over."""
        self._mine()
        return self._drive(done, None if timeout_s is None else time.monotonic() + timeout_s)

    def poll(self) -> None:
        """Deliver what has arrived."""
        self._mine()
        if self._reading.acquire(blocking=False):
            try:
                while self._socket is not None and self._read(time.monotonic()):
                    pass
            finally:
                self._pass_on()

    def background(self) -> None:
        """Let a thread lead from now on."""
        self._mine()
        with self._sending:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._lead, name="jobyard-local", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # there can be none now: the next who asks tries again
                self._thread = None
                raise

    def _lead(self) -> None:
        pid = os.getpid()
        try:
            self._drive(lambda: self._closed or self._pid != pid, None)
        except (JobyardError, OSError):
            self._thread = None  # those who wait themselves meet the error, and raise it

    def _drive(self, done: Callable[[], bool], deadline: float | None) -> bool:
        while not done():
            if self._closed:
                raise SessionClosed("the session was closed while waiting")
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            with self._turn:
                self._followers += 1  # before the last look: a leader that delivers after it sees that somebody waits
                try:
                    if done():
                        return True
                    if not self._reading.acquire(blocking=False):
                        self._turn.wait(left)
                        continue
                finally:
                    self._followers -= 1
            try:
                while not done():
                    if self._closed:
                        raise SessionClosed("the session was closed while waiting")
                    if not self._read(deadline) and deadline is not None and time.monotonic() >= deadline:
                        return done()
            finally:
                self._pass_on()
        return True

    def _pass_on(self) -> None:
        with self._turn:
            self._reading.release()
            self._turn.notify_all()

    def _read(self, deadline: float | None) -> bool:
        """As the leader, wait for something and deliver it; False where nothing came in time."""
        sock = self._socket
        if sock is None:
            with self._sending:
                if self._socket is None and not self._connect(deadline):
                    return False
            return True
        if deadline is not None or self._thread is not None:
            assert self._poll is not None
            left = None if deadline is None else max(0.0, (deadline - time.monotonic()) * 1000)
            if not self._poll.poll(left):
                return False
        try:
            data = sock.recv(1 << 16)
        except OSError:
            data = b""
        if self._closed:
            return True
        if not data:
            with self._sending:
                if self._socket is sock:
                    self._drop()
            return True
        try:
            for number, error, result in self._frames.feed(data):
                if number == 0:
                    self._updates(result)
                else:
                    self._answered(number, error, result)
        except BaseException:
            # An interrupt may have cost a message: begin again, and ask for all that may have been missed.
            with self._sending:
                if self._socket is sock:
                    self._drop()
            raise
        if self._followers:
            with self._turn:
                self._turn.notify_all()
        return True

    def _answered(self, number: int, error: list[Any] | None, result: Any) -> None:
        pending = self._pending.get(number)
        if pending is None:
            return  # nobody waits any more
        pending.error, pending.result = error, result
        pending.state = 1
        if pending.then is not None:
            del self._pending[number]
            pending.then(result)

    def _drop(self) -> None:
        sock, self._socket = self._socket, None
        self._frames = Frames()
        if sock is not None:
            sock.close()

    # Connecting ---------------------------------------------------------------------------------------------------------

    def _connect(self, deadline: float | None) -> bool:
        """Reach the server, starting it where there is none; send again what was not answered. Holding ``_sending``."""
        folder = self._folder_of()
        give_up = time.monotonic() + START_S
        pause, start_at = 0.001, 0.0
        why: str | None = None
        while True:
            now = time.monotonic()
            self._still_open()
            if deadline is not None and now >= deadline:
                return False
            try:
                sock = paths.connect(folder.socket)
            except (ConnectionRefusedError, FileNotFoundError, BlockingIOError, ConnectionResetError):
                if now >= start_at:
                    start_at = now + 1.0
                    try:
                        if start_pair(folder, self._options):
                            continue
                    except OSError as error:  # no process, or no descriptor, is left to us
                        raise SchedulerUnavailable(
                            f"the local scheduler at {folder.path} could not be started: {error.strerror or error}; "
                            "end what you need no more, and try again"
                        ) from error
            except OSError as error:
                raise SchedulerUnavailable(
                    f"the local scheduler at {folder.path} cannot be reached: {error.strerror or error}"
                ) from error
            else:
                try:
                    self._greet(sock)
                    if self._closed:  # in the meantime: nobody else lets go of it
                        self._drop()
                        continue
                    return True
                except (OSError, ValueError) as error:
                    why = str(error)
                except BaseException:
                    sock.close()
                    raise
                sock.close()
            if now >= give_up:
                raise SchedulerUnavailable(f"the local scheduler at {folder.path} cannot be reached{f': {why}' if why else ''}")
            time.sleep(pause)  # a server is on its way: there is nothing to wait on before its socket is there
            pause = min(pause * 2, 0.05)

    def _still_open(self) -> None:
        if self._closed:
            raise SessionClosed("the session was closed while waiting")

    def _greet(self, sock: socket.socket) -> None:
        frames = Frames()
        first: list[Any] = []

        def ask(number: int, *words: Any) -> Any:
            sock.sendall(frame([number, words[0], words[1:]]))
            while not first:
                data = sock.recv(1 << 16)
                if not data:
                    raise ConnectionResetError("the local scheduler closed the connection")
                first.extend(frames.feed(data))
            while True:
                for at, message in enumerate(first):
                    if message[0] == number:
                        del first[at]
                        if message[1] is not None:
                            raise decode_error(message[1])
                        return message[2]
                data = sock.recv(1 << 16)
                if not data:
                    raise ConnectionResetError("the local scheduler closed the connection")
                first.extend(frames.feed(data))

        sock.settimeout(START_S)
        version, self.server_pid, machine, self.spawner_pid = ask(-1, "hello", VERSION)
        if version != VERSION:
            raise SchedulerUnavailable(
                f"the local scheduler that runs here speaks version {version}, this release {VERSION}; "
                "it leaves when its jobs have ended and its clients have gone"
            )
        self.machine = (machine[0], machine[1], machine[2])
        if self.session is not None:
            # Created already, and durably: a server that does not know it has another journal.
            ask(-2, "open", self.session, False)
            first.extend([0, None, part] for part in ask(-3, "resync", self.session))
        sock.settimeout(None)
        for _, pending in sorted(self._pending.items()):
            if not pending.state:
                sock.sendall(pending.data)
        self._frames = frames
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        self._socket = sock
        for number, error, result in first:
            if number == 0:
                self._updates(result)
            else:
                self._answered(number, error, result)

    def close(self) -> None:
        """Let go; those who wait end with SessionClosed."""
        if self._closed:
            return
        self._closed = True
        sock = self._socket
        if self._pid == os.getpid() and sock is not None:
            self._shut(sock)  # wakes the leader
            with self._turn:
                self._turn.notify_all()
            thread = self._thread
            if thread is not None and thread is not threading.current_thread():
                thread.join(5.0)
        if sock is not None:
            sock.close()
        self._socket = None


def start_pair(folder: paths.StateFolder, options: dict[str, str]) -> bool:
    """Start the pair. True: it is ready; False: another one is, or is becoming so. Errors as the server met them."""
    import sys

    from .link import start_python

    if not sys.executable or not sys.platform.startswith("linux"):
        raise NoScheduler("the embedded scheduler needs Linux and a Python program to run (sys.executable is not set)")
    read, low = os.pipe()
    try:
        write = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10)
        os.close(low)
        try:
            pid = start_python("server", folder.path, json.dumps(options), "3", passed=write)
        finally:
            os.close(write)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # somebody in this process waits for all children
        said = b""
        poll = select.poll()
        poll.register(read, select.POLLIN)
        while poll.poll(START_S * 1000):
            data = os.read(read, 4096)
            if not data:
                break
            said += data
            if said == b"ready":
                return True
    finally:
        os.close(read)
    if said in (b"held", b""):
        return False  # b"": it died; perhaps the next one is luckier
    name, _, text = said.decode("utf-8", "surrogateescape").partition(" ")
    if name in ("JournalError", "DatabaseError", "OperationalError"):
        raise JournalError(text)
    raise SchedulerUnavailable(f"the local scheduler could not start: {name}: {text}")
