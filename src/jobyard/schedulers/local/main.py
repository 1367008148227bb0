"""The two programs of the pair, as link.start_python runs them: ``server`` and ``spawner``."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import select
import socket
import sqlite3
import sys
import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING

from ...errors import JobyardError
from . import kernel
from .paths import StateFolder
from .ring import Ring, RingHeldError
from .spawner import IGNORED, Spawner

if TYPE_CHECKING:
    from .server import Server

__all__ = ["server", "spawner"]

HELD = b"held"  # what a server that is not needed tells its starter
READY = b"ready"
LARGEST_LOG = 1 << 20


def server(path: str, options: str, ready: str) -> None:
    """Become the server of a state folder, unless there is one. Tells its starter ``ready``, ``held``, or an error."""
    told = int(ready)
    _close_others(told)
    if os.fork():  # the starter waits for this process only
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    kernel.reset_signals(IGNORED)
    kernel.set_comm("jobyard-server")
    kernel.become_subreaper()
    folder = StateFolder(path)
    _keep_traces(folder)
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.write(told, HELD)
        return
    try:
        serving = _made(folder, json.loads(options), None)
    except RingHeldError:
        os.write(told, HELD)  # a spawner lives, and takes its server's place
        return
    except (JobyardError, sqlite3.Error, OSError) as error:
        if told >= 0:
            try:
                os.write(told, f"{type(error).__name__} {error}".encode("utf-8", "surrogateescape"))
            except OSError:
                pass  # the starter left
        raise SystemExit(1) from error
    if told >= 0:
        try:
            os.write(told, READY)
        except OSError:
            pass  # the starter left; others will come
        os.close(told)
    # From here on its number is another file's: what goes wrong is told in crash.log alone.
    _run(serving)


def _keep_traces(folder: StateFolder) -> None:
    """What neither program expected is written to ``crash.log`` in the state folder before it dies of it."""
    path = os.path.join(folder.path, "crash.log")

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "a", encoding="utf-8", errors="backslashreplace") as file:
            if file.tell() > LARGEST_LOG:
                file.truncate(0)
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} pid {os.getpid()}\n")
            file.writelines(traceback.format_exception(kind, error, trace))

    sys.excepthook = hook


def _close_others(*kept: int) -> None:
    """Close what our starter left open beyond the standard streams; what is kept is not passed on."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd in kept:
            os.set_inheritable(fd, False)
        elif fd > 2:
            try:
                os.close(fd)
            except OSError:
                pass  # that of the listing itself


def _made(folder: StateFolder, options: dict[str, str], promoted: Spawner | None) -> Server | None:
    """The server, which has picked up what there was; None: another one did."""
    from .machine import Settings
    from .server import Server
    from .store import Store

    store = Store(folder.journal)
    generation = int(store.meta("generation", 0))
    if promoted is None:
        # Whoever holds the last ring is a spawner that takes its server's place; we leave, and hold the ring if nobody does,
        # so that a spawner that was only being started finds it taken.
        held = None
        if os.path.exists(folder.ring(generation)):
            held = Ring(folder.ring(generation))
            held.lock()
        epoll, children = select.epoll(), None
        store.begin()
        store.set_meta("options", json.dumps(options))
        store.end()
    else:
        if generation != promoted.generation:
            return None  # another server came before us, and has adopted what we had
        options = json.loads(store.meta("options", "{}"))
        epoll, children = promoted.epoll, promoted.children
        promoted.slots.close()
    return Server(folder, store, Settings(options), epoll, children)


def _run(serving: Server | None) -> None:
    if serving is not None:
        gc.collect()
        gc.freeze()
        serving.run()


def spawner(path: str, generation: str, server_fd: str, bell_fd: str) -> None:
    """Become a spawner; later perhaps the server."""
    gc.disable()  # nothing here makes cycles, and a collection would delay a start
    _close_others(int(server_fd), int(bell_fd))
    os.chdir("/")
    kernel.reset_signals(IGNORED)
    kernel.set_comm(kernel.COMM)
    kernel.become_subreaper()
    folder = StateFolder(path)
    _keep_traces(folder)
    sock = socket.socket(fileno=int(server_fd))
    try:
        spawning = Spawner(folder, int(generation), sock, int(bell_fd))
    except (RingHeldError, FileNotFoundError):
        return  # the server that started us is dead, and its successor did not wait
    if not spawning.run():
        return
    _promote(folder, spawning, sock, int(bell_fd))


def _promote(folder: StateFolder, spawning: Spawner, sock: socket.socket, bell: int) -> None:
    """The server is dead: take its place."""
    kernel.reset_signals(IGNORED)
    kernel.set_comm("jobyard-server")
    kernel.set_mark(0)
    os.chdir("/")
    os.umask(0o077)
    gc.enable()
    spawning.epoll.unregister(sock.fileno())
    sock.close()
    os.close(bell)
    try:
        lock = os.open(folder.lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return  # the state folder has gone: nobody wants us
    fcntl.flock(lock, fcntl.LOCK_EX)  # a fresh server that has it sees that our ring is held, and leaves
    try:
        if os.stat(folder.lock).st_ino != os.fstat(lock).st_ino:
            return
    except FileNotFoundError:
        return
    _run(_made(folder, {}, spawning))


if __name__ == "__main__":
    sys.exit("this module is started by the embedded scheduler itself")
