"""The spawner: starts jobs, waits for them, and writes down what became of them. One thread, no database.

For each job: SPAWNING into the ring, the start, PID into the ring; at its end: END into the ring, then the reap. When its
server dies the spawner becomes the server in place (``main`` returns what it holds to server.py).
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Collection
from typing import Any

from . import kernel
from .children import GROUP, Child, Children, ended_at, signal_sessions
from .launch import Launcher, NotStartedError
from .paths import StateFolder
from .ring import FAIL, PASSED, PID, SPAWNING, Ring
from .streams import Slots
from .wire import Frames, frame

__all__ = ["Spawner", "due_leftovers", "end_sessions", "kill_leftovers", "own_usage", "read_fault", "reap_strangers"]

IGNORED = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGXCPU,
    signal.SIGIO,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
SWEEP_S = 1.0
SHORT = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # what the machine, or the user, has too little of for a process
SHORT_S, AGAIN_S = 30.0, 0.25  # how long that may last while no job of ours runs; between two tries
FILES_BESIDE, FILES_OF_JOB = 24, 4  # descriptors of this process, and of each job here
PEAK_MARGIN_KIB = 1024  # the kernel's counters are that far apart


class Spawner:
    """One generation of spawner. ``run`` returns True where the server died and we must take its place."""

    def __init__(self, folder: StateFolder, generation: int, server: socket.socket, bell: int) -> None:
        self.folder = folder
        self.generation = generation
        self.ring = Ring(folder.ring(generation))
        self.ring.lock()
        self.epoll = select.epoll()
        self.children = Children(self.epoll)
        self.slots = Slots(folder, generation)
        self.launcher = Launcher(IGNORED, self.ring.close)
        self._server = server
        self._bell = bell
        self._frames = Frames()
        self._out: list[bytes] = []
        self._starts: deque[list[Any]] = deque()
        self._ends: list[tuple[Any, int, int, float]] = []  # reference, number, signal, grace: asked for, not yet done
        self._ahead: dict[int, deque[list[Any]]] = {}
        self._taking: set[int] = set()  # of those in _starts: jobs that lay ahead, and have a place that passed to them
        self._leftovers: dict[int, float] = {}  # sessions whose leader was ended by us -> when the others are killed
        self._peak_kib = kernel.own_peak_kib()
        self._most = most_jobs(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._short_since = self._not_before = 0.0  # processes are short; when to try again
        self._dry = False
        self._leave = False
        self._next_sweep = time.monotonic() + SWEEP_S

    def run(self) -> bool:
        """Serve until the server says goodbye (False) or dies (True)."""
        server = self._server
        server.setblocking(False)
        self.epoll.register(server.fileno(), select.EPOLLIN)
        self._say(["ready"])
        self._flush()
        by_fd, poll = self.children.by_fd, self.epoll.poll
        heard = server.fileno()
        while True:
            wrote = False
            hear = False
            for fd, _ in poll(self._timeout()):
                child = by_fd.get(fd)
                if child is not None:
                    self._ended(child)
                    wrote = True
                elif fd == heard:
                    hear = True
            if hear and not self._hear():
                return not self._leave
            while self._starts and self.ring.room() and len(by_fd) < self._most and self._may_try():
                self._start(self._starts.popleft())
                wrote = True
            if wrote and (self.ring.reader_sleeps() or self._dry or self._starts):
                self._dry = False
                os.eventfd_write(self._bell, 1)
            if self._out:
                self._flush()
            now = time.monotonic()
            if now >= self._next_sweep:
                self._next_sweep = now + SWEEP_S
                self._sweep(now)

    def _timeout(self) -> float:
        if self._starts:
            return 0.005  # the ring is full, as the server is behind; or there is no more of something for now
        return SWEEP_S

    def _may_try(self) -> bool:
        return not self._not_before or time.monotonic() >= self._not_before

    def _later(self, item: list[Any]) -> bool:
        """There is no process for a job now. It waits until one of ours has ended, or a moment; False: long enough."""
        now = time.monotonic()
        self._short_since = self._short_since or now
        if not self.children and now - self._short_since > SHORT_S:
            self._short_since = self._not_before = 0.0
            return False
        self._not_before = now + AGAIN_S
        self._starts.appendleft(item)
        return True

    def _sweep(self, now: float) -> None:
        """Reap what orphans of jobs left to us, and end what outlived a terminated leader's grace."""
        reap_strangers(self.children)
        kill_leftovers(due_leftovers(self._leftovers, now))
        if not self.children:
            os.chdir("/")  # keep nobody's folder busy

    # The server -------------------------------------------------------------------------------------------------------

    def _hear(self) -> bool:
        while True:
            try:
                data = self._server.recv(1 << 16)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            for message in self._frames.feed(data):
                self._do(message)
            self._end()
            if self._leave:
                return False

    def _do(self, message: list[Any]) -> None:
        what = message[0]
        if what == "end":  # TERM or KILL for all of a job
            self._ends.append((message[1], *message[2]))
            return
        self._end()
        if what == "run":
            self._starts.extend(message[1])
        elif what == "ahead":
            for item in message[1]:
                self._ahead.setdefault(item[3], deque()).append(item)
        elif what == "go":
            following = self._following(message[2])
            if following is not None:
                self._take(following)
            self._say(["done", message[1], following is not None])
        elif what == "environment":
            self.launcher.learn(message[1], message[2])
        elif what == "forget":
            self.launcher.forget({item[2] for waiting in [*self._ahead.values(), self._starts] for item in waiting})
        elif what == "recall":
            wanted, recalled, kinds = set(message[2]), list[int](), list[int]()
            for waiting in [*self._ahead.values(), self._starts]:
                for item in [item for item in waiting if item[0] in wanted]:
                    waiting.remove(item)
                    recalled.append(item[0])
                    if item[0] in self._taking:
                        self._taking.remove(item[0])
                        kinds.append(item[3])
            for kind in kinds:  # where nobody follows, the server sees that the place is nobody's
                if (following := self._following(kind)) is not None:
                    self._take(following)
            self._say(["recalled", message[1], recalled])
        elif what == "signal":
            for number, signum, whom in message[2]:
                self.children.signal(number, signum, whom)
            self._say(["done", message[1]])
        elif what == "pin":
            child = self.children.by_number.get(message[2])
            if child is not None and child.stream:
                self.slots.pin(child.stream, child.number)
            self._say(["done", message[1]])
        elif what == "bye":
            self._leave = True

    def _end(self) -> None:
        """End the jobs that the server asked for together: a look at all processes is for all of them."""
        asked, self._ends = self._ends, []
        by_signal: dict[int, list[Child]] = {}
        for _, number, signum, grace_s in asked:
            child = self.children.by_number.get(number)
            if child is not None:
                self._leftovers[child.pid] = time.monotonic() + grace_s
                by_signal.setdefault(signum, []).append(child)
        for signum, ended in by_signal.items():
            end_sessions(self.children, ended, signum)
        for reference, *_ in asked:
            self._say(["done", reference])

    def _following(self, kind: int) -> list[Any] | None:
        """The next job that lies ahead of a place of that kind. Where there is none, the server must hear of the place."""
        waiting = self._ahead.get(kind) if kind else None
        if waiting:
            return waiting.popleft()
        self._dry = True
        return None

    def _take(self, item: list[Any]) -> None:
        self._taking.add(item[0])
        self._starts.append(item)

    def _fail(self, kind: int, number: int, what: int, error: int, pid: int = 0) -> None:
        """A job could not be started; the next takes its place."""
        following = self._following(kind)
        self.ring.write(FAIL, what | (PASSED if following else 0), error, pid, number, time.time())
        if following is not None:
            self._take(following)

    def _say(self, message: list[Any]) -> None:
        self._out.append(frame(message))

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        self._server.setblocking(True)  # short answers; the server always reads
        try:
            self._server.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # seen by the next recv
        finally:
            self._server.setblocking(False)

    # Jobs ---------------------------------------------------------------------------------------------------------------

    def _start(self, item: list[Any]) -> None:
        number, _, _, kind, _, _ = item
        ring, stream = self.ring, 0
        self._taking.discard(number)
        try:
            prepared = self.launcher.prepare(item)
        except NotStartedError as failure:
            self._fail(kind, number, failure.what, failure.errno)
            return
        if prepared.default_streams:
            try:
                stream = self.slots.take()
            except OSError as error:  # the disk is full, or the folder went
                prepared.close()
                self._fail(kind, number, 0, error.errno or errno.EIO)
                return
            prepared.use(self.slots.paths[stream])
        began, booted = time.time(), kernel.boot_now()
        ring.write(SPAWNING, 0, 0, 0, number, began, booted, 0, stream)
        try:
            pid, fault = self._launch(prepared, stream)
        except NotStartedError as failure:
            if stream:
                self.slots.give_back(stream)
            if failure.errno not in SHORT or not self._later(item):
                self._fail(kind, number, failure.what, failure.errno)
            return
        self._short_since = self._not_before = 0.0
        took = int((kernel.boot_now() - booted) * 1e6) + 1
        ring.write(PID, 0, 0, pid, number, began, booted, 0, stream, took)
        child = Child(number, pid, began, booted, stream, kind)
        child.fault = fault
        self.children.add(child)

    def _launch(self, prepared: Any, stream: int) -> tuple[int, int]:
        try:
            return self.launcher.launch(prepared)
        except NotStartedError:
            if not stream or all(os.path.exists(path) for path in self.slots.paths[stream]):
                raise
            self.slots.repair(stream)
            return self.launcher.launch(prepared)

    def _ended(self, child: Child) -> None:
        found = kernel.peek(child.pid)
        if found is None:
            return
        # The next of its kind starts first: what is left to do for this one is done while that one runs.
        following = self._following(child.kind)
        passed = PASSED if following is not None else 0
        if following is not None:
            if self._starts or not self.ring.room() or len(self.children) > self._most:
                self._take(following)
            else:
                self._start(following)
        flags = self.slots.finish(child.stream, child.number, alone=self.children.alone()) if child.stream else 0
        fault = read_fault(child)
        now = ended_at(child)
        if found[3] > self._peak_kib + PEAK_MARGIN_KIB:
            self._peak_kib = kernel.own_peak_kib()
        if fault is not None:
            self.ring.write(FAIL, fault[0] | passed, fault[1], child.pid, child.number, now)
        else:
            usage = own_usage(found, self._peak_kib)
            self.ring.write_end(flags | passed, child.pid, child.number, now, found[0], child.stream, usage)
        os.waitpid(child.pid, 0)
        self.children.forget(child)
        self._not_before = 0.0


def most_jobs(open_files: int) -> int:
    """How many jobs may run where so many descriptors may be open: what could not be watched must wait, not fail."""
    if open_files == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, (open_files - FILES_BESIDE) // FILES_OF_JOB)


def own_usage(found: tuple[int, ...], peak_kib: int) -> tuple[int, ...]:
    """What a job used, as kernel.peek says it, without the status. A child begins as its parent's image, whose peak the
    kernel counts as the child's own: a peak that is no larger says nothing of the job, and is 0, not known."""
    peak = found[3] if found[3] > peak_kib + PEAK_MARGIN_KIB else 0
    return found[1], found[2], peak, *found[4:]


def read_fault(child: Child) -> tuple[int, int] | None:
    """What a forked child could not do before its exec: (what, errno)."""
    if child.fault < 0:
        return None
    try:
        data = os.read(child.fault, 64)
    except OSError:
        data = b""
    os.close(child.fault)
    child.fault = -1
    if not data:
        return None
    what, _, number = data.partition(b" ")
    return int(what), int(number)


def end_sessions(children: Children, ended: Collection[Child], signum: int) -> None:
    """Send TERM or KILL to all of these jobs; what is stopped is woken, so that it can obey."""
    sessions = frozenset(child.pid for child in ended)
    for each in (signum,) if signum == signal.SIGKILL else (signum, signal.SIGCONT):
        for child in ended:
            children.signal(child.number, each, GROUP)
        signal_sessions(sessions, each)


def due_leftovers(leftovers: dict[int, float], now: float) -> list[int]:
    """Take out the sessions whose time has come."""
    due = [session for session, at in leftovers.items() if now >= at]
    for session in due:
        del leftovers[session]
    return due


def kill_leftovers(sessions: Collection[int]) -> None:
    """Kill what is left of sessions whose leaders we ended and reaped."""
    # Where the leader's number has a new owner, the session is another.
    gone = [session for session in sessions if kernel.read_process(session) is None]
    if gone:
        signal_sessions(gone, signal.SIGKILL, skip_group=False)


def reap_strangers(children: Children, others: frozenset[int] = frozenset()) -> None:
    """Reap dead orphans that came to us as a subreaper; never a job, whose end is recorded first, nor ``others``."""
    pids = {child.pid for child in children.by_number.values()} | others
    while True:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if info is None or info.si_pid in pids:
            return
        os.waitpid(info.si_pid, 0)
