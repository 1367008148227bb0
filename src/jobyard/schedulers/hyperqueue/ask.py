"""Ask the resident that serves HyperQueue to this user one question, and start it where it is not there.

    PYTHON -I -S ask.py ROOM [--join SERVER_DIR] [--cores N] [--idle SECONDS] [--question QUESTION] > ANSWER

Question and answer are one JSON object each (resident.py lists them); without the option, standard input is the question. The exit
code is 0 for any answer, 3 where nobody could be asked; ``{"error": TEXT}`` says why. Standard library only: it runs once for each
command of the dialect, and must be quick.

ROOM is a folder of the user's own, on a local file system, one for each HyperQueue server:

    lock      held by the resident for as long as it lives; who has it may start a server
    socket    where it listens; there once all else is ready
    servers   a line for each server that was served from here: its UID
    jobs      joined servers only: what was submitted (records.py)
    log       what the resident and the bindings wrote
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ACCEPTED_S", "OWN", "RoomError", "connect", "held", "listen", "main", "make_room", "receive", "send", "servers"]

READY_S = 45.0  # a resident has started within; the bindings are loaded in 0.4 s on an idle machine
ACCEPTED_S = 10.0  # a question is sent, or an answer begins to be read, within
PAUSE_S = 0.02
MOST_BYTES = 1 << 28
# What the resident's jobs may see of whoever happened to start it: nothing but what a login gives.
KEPT = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR")
OWN = ("PYTHONPATH",)  # where the package may lie; the resident takes it out of its environment before anything else
MOST_LOGGED = 1 << 20  # bytes
PATH = "/usr/local/bin:/usr/bin:/bin"


class RoomError(Exception):
    """Nobody can be asked; the text says what is in the way."""


# The room -----------------------------------------------------------------------------------------------------------


def make_room(room: str) -> None:
    """Make it, 0700. RoomError: it is somebody else's, or open to others."""
    mask = os.umask(0o077)  # for the folders on the way, too
    try:
        os.makedirs(room, exist_ok=True)
    finally:
        os.umask(mask)
    info = os.lstat(room)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise RoomError(f"{room} must be a folder of yours that nobody else can open (mode 0700); nothing was started there")


def held(room: str) -> bool:
    """Whether a resident lives, be it one that only starts or ends."""
    try:
        fd = os.open(os.path.join(room, "lock"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def servers(room: str) -> set[str]:
    """UIDs of all servers that were served from this room."""
    try:
        with open(os.path.join(room, "servers"), encoding="ascii", errors="replace") as file:
            return set(file.read().split())
    except FileNotFoundError:
        return set()


@contextmanager
def _short(room: str) -> Iterator[str]:
    """A name of the socket that fits into 108 bytes, however long its folder's path is."""
    folder = os.open(room, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/socket"
    finally:
        os.close(folder)


def listen(room: str) -> socket.socket:
    """The socket, in place of one that a dead resident left; for who holds the lock."""
    path = os.path.join(room, "socket")
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _short(room) as name:
        server.bind(name)
    os.chmod(path, 0o600)
    server.listen(128)
    return server


def connect(room: str) -> socket.socket:
    """A connection to the resident. OSError where nobody listens, PermissionError where that is not us."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(room) as name:
            client.connect(name)
        if peer_uid(client) != os.getuid():
            raise PermissionError(f"{room} is served by another user")
    except BaseException:
        client.close()
        raise
    return client


def peer_uid(sock: socket.socket) -> int:
    """The user at the other end."""
    return int(struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])


def send(sock: socket.socket, value: Any) -> None:
    """One message: eight bytes of length, then JSON."""
    data = json.dumps(value).encode("ascii")
    sock.sendall(struct.pack("!Q", len(data)) + data)


def receive(sock: socket.socket) -> Any:
    """One message. ConnectionError where it is cut short, ValueError where it is none."""
    (size,) = struct.unpack("!Q", _exactly(sock, 8))
    if size > MOST_BYTES:
        raise ValueError(f"a message of {size} bytes")
    return json.loads(_exactly(sock, size))


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            raise ConnectionError("the connection ended within a message")
        data += part
    return bytes(data)


# Asking -------------------------------------------------------------------------------------------------------------


def ask(room: str, question: dict[str, Any], options: dict[str, str]) -> Any:
    """The answer. Raises RoomError, and OSError."""
    end = time.monotonic() + READY_S
    starts = options.get("join") is not None or question["ask"] == "submit"
    began = None
    while True:
        try:
            with connect(room) as sock:
                send(sock, question)
                return receive(sock)
        except (FileNotFoundError, ConnectionRefusedError):
            pass  # nobody listens; any other end of a connection leaves open what was done
        except ConnectionError as error:
            raise RoomError(f"the resident for HyperQueue went away without an answer ({error}); see {room}/log") from error
        if not held(room):
            if not starts:
                return _nobody(room, question)
            if began is not None:
                raise RoomError(f"the resident for HyperQueue ended as soon as it began: {_last_words(room)}")
            began = _start(room, options)
        elif time.monotonic() > end:
            raise RoomError(f"the resident for HyperQueue is not ready after {READY_S:g} s; see {room}/log")
        else:
            time.sleep(PAUSE_S)


def _nobody(room: str, question: dict[str, Any]) -> dict[str, Any]:
    """The answer where no server runs: jobs of servers that ran here are gone; of others nothing is known."""
    gone = servers(room)
    unknown = [one for one in question.get("ids", ()) if str(one).partition("-")[0] not in gone]
    return {"jobs": [], "unknown": unknown, "answers": {}, "cores": None}


def _start(room: str, options: dict[str, str]) -> int:
    """Start a resident, and wait until it is ready or gone; one that finds another at work goes. Its process id."""
    import subprocess

    make_room(room)
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from jobyard.schedulers.hyperqueue.resident import main; main()"
    words = [sys.executable, "-P", "-c", program, source, room]
    for name, value in options.items():
        words += [f"--{name}", value]
    environment = {name: os.environ[name] for name in (*KEPT, *OWN) if name in os.environ}
    environment["PATH"] = PATH
    ready, theirs = os.pipe()
    with open(os.path.join(room, "log"), "ab", opener=_private) as log:
        if log.tell() > MOST_LOGGED:
            log.truncate(0)
        process = subprocess.Popen(
            [*words, "--ready", str(theirs)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            pass_fds=(theirs,),
            start_new_session=True,
        )
    os.close(theirs)
    with open(ready, "rb") as file:
        file.read()  # its end: it is ready, or gone
    return process.pid


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _last_words(room: str) -> str:
    try:
        with open(os.path.join(room, "log"), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else f"it wrote nothing to {room}/log"


def main() -> None:
    """The program."""
    room, *rest = sys.argv[1:]
    options = {rest[at].removeprefix("--"): rest[at + 1] for at in range(0, len(rest), 2)}
    code = 0
    try:
        text = options.pop("question", None)
        question = json.loads(sys.stdin.read() if text is None else text)
        answer = ask(room, question, options)
    except (RoomError, OSError, ValueError) as error:
        code, answer = 3, {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
