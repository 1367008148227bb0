"""One ssh process, and the helper at its other end: how they are started, and messages between here and there.

A link is made once and dies once. What is under way when it dies ends with LinkLost. ``OpenSSHTransport`` makes links anew.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ..errors import TransportError
from ..node import helper_wire as wire
from .base import TransportClosed, printable
from .openssh_errors import HostUnreachable, LinkLost, explain
from .openssh_start import Settings, helper_program, remote_command, ssh_command

__all__ = ["Identity", "Link", "Pending", "Refusal"]

ASKING_S = 180.0  # how long a person may take to answer ssh
_NOISE_BYTES = 1 << 16  # kept of what a login shell writes before the helper's mark; twice as much ends the attempt
_F_SETPIPE_SZ = 1031


class Identity(msgspec.Struct, frozen=True):
    """Who and where the helper is, as it says itself."""

    protocol: int
    python: str
    host: str
    boot_id: str
    uid: int
    user: str
    home: str
    umask: int
    clock: float
    pid: int


class Refusal(TransportError):
    """What the helper answered in place of a result; the transport makes the fitting error of it."""

    def __init__(self, kind: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.kind = kind
        self.details = details

    def os_error(self) -> OSError:
        """The operating system's error, with this system's number of it."""
        found = getattr(errno, str(self.details.get("errno")), 0)
        number = found if isinstance(found, int) else 0
        path = self.details.get("path")
        return OSError(number, str(self), *((path,) if isinstance(path, str) else ()))


def _resize(fd: int) -> None:
    import fcntl

    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):  # the user's share of pipe memory is used up
            fcntl.fcntl(fd, _F_SETPIPE_SZ, wire.PIPE_BYTES)


# Requests -----------------------------------------------------------------------------------------------------------


class Pending(wire.Streams):
    """A request that was sent: its streams, and its answer when it comes."""

    def __init__(self, link: Link, number: int, window: int) -> None:
        super().__init__(link.sender, number, window, link.buffers, wire.BURST)
        self.link = link
        self.done = threading.Event()
        self.sent_at_s = time.monotonic()
        self.value: Any = None
        self.raw: bytes = b""
        self.error: BaseException | None = None
        self.on_event: Callable[[Any], None] | None = None

    def finish(self, error: BaseException | None = None) -> None:
        """It is over: with the answer that was set, or with an error."""
        if not self.done.is_set():
            self.error = error
            self.done.set()
            self.stop()

    def consumed(self, stream: int, count: int) -> None:
        """So much was taken. That the connection has ended, ``next`` and ``answer`` tell."""
        try:
            super().consumed(stream, count)
        except OSError:
            self.link.abort()

    def answer(self) -> tuple[Any, bytes]:
        """The answer's JSON and raw bytes. Raises Refusal, LinkLost, TransportClosed."""
        self.done.wait()
        if self.error is not None:
            raise self.error
        return self.value, self.raw

    def cancel(self) -> None:
        """Nobody wants the answer any more; what it does there is ended."""
        self.link.forget(self)
        if not self.done.is_set():
            try:
                self.sender.send(wire.CANCEL, self.request)
            except OSError:  # it is gone, or Ctrl-C broke off a message: the next call makes another
                self.link.abort()


class _Reader(wire.FrameReader):
    """Reads frames; keeps watch over ssh's standard error and over silence while it waits."""

    def __init__(self, link: Link, fd: int, start: bytes) -> None:
        super().__init__(fd, start)
        self._link = link
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._stdout = fd
        self._stderr = link.stderr_fd
        self._poll.register(self._stderr, select.POLLIN)
        os.set_blocking(fd, False)

    def _into(self, views: Sequence[Any]) -> int:
        with contextlib.suppress(BlockingIOError):  # nothing there yet: look at ssh's standard error, too
            return os.readv(self._stdout, views)
        return super()._into(views)

    def more(self) -> None:
        settings = self._link.settings
        asked = False
        heard_s = time.monotonic()
        while True:
            silent_s = time.monotonic() - heard_s
            due_s = settings.dead_s if asked else settings.alive_s
            ready = self._poll.poll(max(0.0, due_s - silent_s) * 1000 + 1)
            for fd, _ in ready:
                if fd == self._stderr and not self._link.take_stderr():
                    self._poll.unregister(fd)
            if any(fd == self._stdout for fd, _ in ready):
                return
            if ready:
                continue
            if asked:
                raise LinkLost(f"{settings.name}: nothing came for {settings.dead_s:g} s; the connection was given up")
            self._link.ask_alive()
            asked = True


class Link:
    """One connection to one helper. ``lost`` is called once, in its own thread, when it has ended."""

    def __init__(
        self,
        settings: Settings,
        *,
        ask: bool,
        lost: Callable[[Link], None] = lambda link: None,
        share_path: str | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Connect. Raises what ``explain`` makes of ssh's words; HostUnreachable, LoginShellFailed after the time-outs.

        ``ask``: ssh may ask the user, on the terminal or by SSH_ASKPASS. ``stop``: asked now and then; True gives up.
        """
        self.settings = settings
        self.name = settings.name
        self._lost = lost
        self._lock = threading.Lock()
        self._pending: dict[int, Pending] = {}
        self._numbers = itertools.count(1)
        self._dead: TransportError | None = None
        self._said = b""
        self._stop = stop
        self._nearest_s = float("inf")  # the shortest time that any answer took
        nonce = os.urandom(16).hex()
        words = ssh_command(settings, remote_command(nonce, settings.python), ask=ask, share_path=share_path)
        # Ctrl-C goes to the whole foreground group; ssh stays in it, for its prompts, but must not end by it.
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", 'trap "" INT QUIT; exec "$@"', "ssh", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except OSError as error:
            raise TransportError(f"{self.name}: no process for ssh: {error.strerror}; end some, and try again") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        self.stderr_fd = self._process.stderr.fileno()
        os.set_blocking(self.stderr_fd, False)
        for fd in (self._in, self._out):
            _resize(fd)
        self.sender = wire.Sender(self._in)
        _links.add(self)  # a child that is forked from now on must let go of its pipes
        try:
            with _terminal_kept(ask):
                self.identity, start = self._greet(nonce, ask)
        except BaseException:
            self._kill()
            raise
        self._reader = _Reader(self, self._out, start)
        self.buffers = self._reader.buffers
        self._thread = threading.Thread(target=self._read, name="jobyard-ssh", daemon=True)
        self._thread.start()

    # Connecting

    def _greet(self, nonce: str, ask: bool) -> tuple[Identity, bytes]:
        """Wait for the helper's mark, send its program, and hear who it is."""
        asking = ask and (_has_terminal() or bool(os.environ.get("SSH_ASKPASS")))
        limit_s = ASKING_S if asking else self.settings.connect_s
        deadline = time.monotonic() + limit_s
        mark = b"\0" + nonce.encode() + b"\n"
        came = b""
        show = asking and sys.stderr is not None and sys.stderr.isatty()
        while mark not in came:
            part = self._some(deadline, limit_s, came, show)
            came += part
            if len(came) > 2 * _NOISE_BYTES and mark not in came:
                came = came[-_NOISE_BYTES:]
        noise, _, rest = came.partition(mark)
        try:
            program = helper_program()
            self._write(b"%d\n" % len(program) + program, deadline)
            while len(rest) < wire.HEADER.size or len(rest) < wire.HEADER.size + wire.HEADER.unpack_from(rest)[0]:
                rest += self._some(max(deadline, time.monotonic() + 1.0), limit_s, noise, False)
                if len(rest) > wire.LONGEST:
                    raise wire.WireError("too much came before the greeting")
            length, _, kind = wire.HEADER.unpack_from(rest)
            if kind != wire.EVENT:
                raise wire.WireError("it began with another message")
            body, _ = wire.split(rest[wire.HEADER.size : wire.HEADER.size + length])
            identity = msgspec.convert(body, Identity)
            if identity.protocol != wire.PROTOCOL:
                raise wire.WireError(f"it speaks protocol {identity.protocol}")
        except (wire.WireError, msgspec.ValidationError, OSError) as error:
            if isinstance(error, TransportError):
                raise
            self._collect_stderr()
            said = printable(self._said.decode("utf-8", "replace")[-400:])
            raise explain(self.name, f"the helper did not start: {error}; {said}", returncode=self._ended(), noise=noise) from error
        return identity, rest[wire.HEADER.size + length :]

    def _some(self, deadline: float, limit_s: float, noise: bytes, show: bool) -> bytes:
        """Something from standard output; standard error is kept, and shown where somebody may have to read it."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        poll.register(self.stderr_fd, select.POLLIN)
        errors_open = True
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self._stop():
                raise explain(self.name, self._stderr_text(), returncode=None, noise=noise, timeout_s=limit_s)
            for fd, _ in poll.poll(min(left_s, 0.25) * 1000 + 1):
                if fd == self.stderr_fd:
                    before = len(self._said)
                    if errors_open and not self.take_stderr():
                        errors_open = False
                        poll.unregister(fd)
                    if show:
                        sys.stderr.write(self._said[before:].decode("utf-8", "replace"))
                        sys.stderr.flush()
                    continue
                part = os.read(self._out, 1 << 16)
                if not part:
                    code = self._ended()
                    self._collect_stderr()
                    raise explain(self.name, self._stderr_text(), returncode=code, noise=noise)
                return part

    def _write(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        poll = select.poll()
        poll.register(self._in, select.POLLOUT)
        while view:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000 + 1):
                raise HostUnreachable(f"{self.name}: the helper could not be sent in time")
            view = view[os.write(self._in, view[:4096]) :]

    def _ended(self) -> int | None:
        """ssh's exit code, which comes at once after its streams are closed; None where it does not."""
        try:
            return self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            return None

    def take_stderr(self) -> bool:
        """Keep what ssh, or the helper, says; False at its end."""
        try:
            part = os.read(self.stderr_fd, 1 << 14)
        except BlockingIOError:
            return True
        self._said = (self._said + part)[-_NOISE_BYTES:]
        return bool(part)

    def _collect_stderr(self) -> None:
        deadline = time.monotonic() + 0.5
        poll = select.poll()
        poll.register(self.stderr_fd, select.POLLIN)
        while time.monotonic() < deadline and poll.poll(100):
            if not self.take_stderr():
                return

    def _stderr_text(self) -> str:
        return self._said.decode("utf-8", "surrogateescape")

    # Messages

    def ask_alive(self) -> None:
        """Have the helper say that it is there. From another thread than the reader's, for a full pipe must not stop that one."""
        threading.Thread(target=self._ping, name="jobyard-ssh-ping", daemon=True).start()

    def _ping(self) -> None:
        with contextlib.suppress(OSError):
            self.sender.send(wire.PING)

    def send(
        self, op: str, arguments: Mapping[str, Any], raw: bytes = b"", on_event: Callable[[Any], None] | None = None
    ) -> Pending:
        """Send a request. LinkLost: the link has ended."""
        number, window = next(self._numbers), self.window
        pending = Pending(self, number, window)
        pending.on_event = on_event
        with self._lock:
            if self._dead is not None:
                raise self._gone()
            self._pending[number] = pending
        try:
            self.sender.send(wire.REQ, number, wire.head({"op": op, "window": window, **arguments}), raw)
        except OSError as error:
            self.forget(pending)
            lost = LinkLost(f"{self.name}: the connection ended")
            self.abort(lost)  # whoever tries again must not find it alive, though its reader has not seen the end yet
            raise lost from error
        except BaseException:  # Ctrl-C, perhaps within a message: no other can follow it
            self.forget(pending)
            self.abort()
            raise
        return pending

    def forget(self, pending: Pending) -> None:
        """Its answer is not waited for any more."""
        with self._lock:
            self._pending.pop(pending.request, None)

    @property
    def window(self) -> int:
        """How many bytes of a stream may be under way, by how far the host is, as far as answers have shown it."""
        return wire.WINDOW_FAR if wire.FAR_S < self._nearest_s < float("inf") else wire.WINDOW

    @property
    def alive(self) -> bool:
        """Messages can be sent."""
        return self._dead is None

    def _gone(self) -> TransportError:
        assert self._dead is not None
        return type(self._dead)(str(self._dead))

    def _read(self) -> None:
        why: TransportError | None = None
        try:
            while (frame := self._reader.read()) is not None:
                self._take(*frame)
        except LinkLost as error:
            why = error
        except (wire.WireError, OSError, msgspec.MsgspecError, ValueError, TypeError, LookupError, AttributeError) as error:
            why = LinkLost(f"{self.name}: what came is no message ({error}); the connection was closed")
        finally:  # whatever ends this thread: nobody waits for what cannot come
            self._die(why)

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind in (wire.PONG, wire.PING, wire.BYE):
            return
        with self._lock:
            pending = self._pending.get(number)
            if kind in (wire.RES, wire.ERR):
                self._pending.pop(number, None)
        if pending is None:
            return
        if kind == wire.DATA:
            pending.arrived(payload)
        elif kind == wire.CREDIT:
            pending.give(*wire.credited(payload))
        elif kind == wire.EVENT:
            if pending.on_event is not None:
                pending.on_event(wire.split(payload)[0])
        elif kind == wire.RES:
            self._nearest_s = min(self._nearest_s, time.monotonic() - pending.sent_at_s)
            pending.value, pending.raw = wire.split(payload)
            pending.finish()
        elif kind == wire.ERR:
            details, _ = wire.split(payload)
            if not isinstance(details, dict):
                raise wire.WireError("an error without details")
            pending.finish(Refusal(str(details.get("kind")), str(details.get("message")), details))

    def _die(self, why: TransportError | None) -> None:
        if why is None:
            self._ended()
            self._collect_stderr()
            said = printable(" / ".join(self._stderr_text().split("\n")[-4:]).strip(" /"), 300)
            why = LinkLost(f"{self.name}: the connection ended" + (f": {said}" if said else ""))
        with self._lock:
            if self._dead is None:
                self._dead = why
            waiting, self._pending = list(self._pending.values()), {}
        for pending in waiting:
            pending.finish(self._gone())
        self._kill()
        self._lost(self)

    def abort(self, why: TransportError | None = None) -> None:
        """End it at once: requests that wait get an error, the helper sees the end of its input."""
        with self._lock:
            if self._dead is None:
                self._dead = why or LinkLost(f"{self.name}: the connection was closed")
        self._process.kill()  # the reader sees the end and clears up

    def close(self) -> None:
        """End it in good order: the helper goes, and ssh with it."""
        with self._lock:
            if self._dead is None:
                self._dead = TransportClosed(f"{self.name}: the connection was closed")
        with contextlib.suppress(OSError):
            # a full pipe must not keep us: the end of its input says the same
            if select.select([], [self._in], [], 0)[1]:
                os.write(self._in, wire.HEADER.pack(0, 0, wire.BYE))
        if not self.sender.shut(0.5):
            self._process.kill()  # somebody writes what is not read
            self.sender.shut(2.0)
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._thread is not threading.current_thread():
            self._thread.join(2.0)
        if self._process.poll() is None:
            self._process.kill()
            self._thread.join(2.0)

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)
        self.sender.shut(2.0)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        _links.discard(self)

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the pipes, which would keep the parent's helper alive, and touch nothing else."""
        self._dead = LinkLost(f"{self.name}: the connection is the parent's")
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in (self._in, self._out, self.stderr_fd):
            os.dup2(nothing, fd, inheritable=False)
        os.close(nothing)
        _orphans.append(self)  # its process is not ours to wait for


_links: weakref.WeakSet[Link] = weakref.WeakSet()
_orphans: list[object] = []


def _leave_links() -> None:
    for link in list(_links):
        link.leave_to_parent()
    _links.clear()


os.register_at_fork(after_in_child=_leave_links)


# The terminal -------------------------------------------------------------------------------------------------------


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _terminal_kept(ask: bool) -> Iterator[None]:
    """Where ssh is ended at its prompt, the terminal shows again what is typed."""
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY) if ask else -1
    except OSError:
        fd = -1
    if fd < 0:
        yield
        return
    import termios

    try:
        saved: Sequence[Any] = termios.tcgetattr(fd)
        try:
            yield
        except BaseException:
            with contextlib.suppress(termios.error, OSError):
                if os.tcgetpgrp(fd) == os.getpgrp():  # in the background, setting it would stop this program
                    termios.tcsetattr(fd, termios.TCSANOW, list(saved))
            raise
    finally:
        os.close(fd)
