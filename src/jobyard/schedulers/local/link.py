"""The server's side of a spawner: its process, its ring, and what is said to it."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections.abc import Callable
from typing import Any

from .paths import StateFolder
from .ring import Ring
from .wire import Frames, frame

__all__ = ["Link", "start_python"]

# The package's own __init__ loads the whole waist, which neither program needs: an empty module takes its place.
_BOOT = (
    "import sys,json,types;top,sys.path[:]=json.loads(sys.argv[1]);package=types.ModuleType('jobyard');package.__path__=[top];"
    "sys.modules['jobyard']=package;from jobyard.schedulers.local.main import {0};{0}(*sys.argv[2:])"
)
_TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NULL = ((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2))


def start_python(function: str, *arguments: str, passed: int = -1) -> int:
    """Start a function of main.py in a Python of its own, with a clean environment and ``passed`` as descriptor 3.

    Returns the pid.
    """
    path = json.dumps([_TOP, [os.path.abspath(entry) for entry in sys.path if entry]])
    argv = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT.format(function), path, *arguments]
    actions: list[Any] = list(NULL)
    if passed >= 0:
        actions.append((os.POSIX_SPAWN_DUP2, passed, 3))
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return os.posix_spawn(sys.executable, argv, environment, file_actions=actions, setsid=True)


class Link:
    """One spawner."""

    def __init__(self, folder: StateFolder, generation: int, epoll: select.epoll) -> None:
        self.generation = generation
        self.ready = False
        self.ring = Ring.create(folder.ring(generation))
        self._epoll = epoll
        self._frames = Frames()
        self._out = bytearray()
        self._acts: dict[int, Callable[[Any], None]] = {}
        self._next = 0
        self.environments: set[int] = set()  # those that it knows
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        os.set_inheritable(theirs.fileno(), True)
        os.set_inheritable(self.bell, True)
        self.pid = start_python("spawner", folder.path, str(generation), str(theirs.fileno()), str(self.bell))
        os.set_inheritable(self.bell, False)
        theirs.close()
        self.socket.setblocking(False)
        epoll.register(self.socket.fileno(), select.EPOLLIN)
        epoll.register(self.bell, select.EPOLLIN)

    def say(self, *message: Any) -> None:
        """Send a message, now or as soon as there is room."""
        waited = bool(self._out)
        self._out += frame(message)
        if not waited:
            self.flush()

    def ask(self, what: str, value: Any, then: Callable[[Any], None]) -> None:
        """Send a request; ``then`` gets the answer. Where the spawner dies it gets None."""
        self._next += 1
        self._acts[self._next] = then
        self.say(what, self._next, value)

    def flush(self) -> None:
        """Send what waits."""
        try:
            while self._out:
                sent = self.socket.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            self._out.clear()  # its end is seen by the next recv
        wanted = select.EPOLLIN | (select.EPOLLOUT if self._out else 0)
        self._epoll.modify(self.socket.fileno(), wanted)

    def hear(self) -> list[tuple[Callable[[Any], None], Any]] | None:
        """Answers that came, each with who waits for it; None: the spawner died."""
        answers: list[tuple[Callable[[Any], None], Any]] = []
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return answers
            except ConnectionResetError:
                return None
            if not data:
                return None
            for message in self._frames.feed(data):
                if message[0] == "ready":
                    self.ready = True
                else:
                    then = self._acts.pop(message[1], None)
                    if then is not None:
                        answers.append((then, message[2] if len(message) > 2 else True))

    def unanswered(self) -> list[Callable[[Any], None]]:
        """Those who wait for answers that will not come."""
        waiting, self._acts = list(self._acts.values()), {}
        return waiting

    def close(self) -> None:
        """Let go. The ring's file stays until its last record is in the journal."""
        for fd in (self.socket.fileno(), self.bell):
            self._epoll.unregister(fd)
        self.socket.close()
        os.close(self.bell)
        self.ring.close()
