"""The stand-in's commands: standin-submit, -queue, -account, -control and -limits are this one program.

It hands its words to the cell's server over a Unix socket, and prints what that answers. Standard library only, and
little of that, so that a command costs hardly more than the start of Python.

A request is five fields, each with its length before it: program, folder of the caller, words (separated by NUL),
standard input, and the caller's mark. An answer is exit code, fate, and what goes to both streams.
"""

from __future__ import annotations

import _socket
import errno
import os
import sys


def pack(*fields: bytes) -> bytes:
    """Fields as they go over the socket."""
    body = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return len(body).to_bytes(4, "big") + body


def unpack(body: bytes) -> list[bytes]:
    """The fields again."""
    fields, at = [], 0
    while at < len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        fields.append(body[at + 4 : at + 4 + length])
        at += 4 + length
    return fields


def receive(connection: _socket.socket) -> list[bytes] | None:
    """One whole message; None where the other side closed before its end."""
    data, length = b"", None
    while length is None or len(data) < length:
        part = connection.recv(1 << 16)
        if not part:
            return None
        data += part
        if length is None and len(data) >= 4:
            length = int.from_bytes(data[:4], "big")
            data = data[4:]
    return unpack(data)


def connect(cell: str) -> _socket.socket:
    """A connection to the cell's server, which is started where there is none."""
    os.chdir(cell)  # a socket's path may be 107 bytes long; the name in its folder never is too long
    for _ in range(20):  # a server may end, being idle, between its start and our call
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.connect("socket")
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            start(cell)
    raise ConnectionRefusedError(errno.ECONNREFUSED, "it does not stay")


def start(cell: str) -> None:
    """Start the server, unless another command has done so meanwhile; returns when it listens."""
    import fcntl

    lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        probe.connect("socket")
        return
    except OSError:
        pass
    finally:
        probe.close()
    ready, tell = os.pipe()
    if os.fork() == 0:
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            log = os.open("server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for fd, here in ((0, null), (1, null), (2, log)):
                os.dup2(here, fd)
            os.dup2(tell, 3)
            os.closerange(4, 256)
            os.set_inheritable(3, True)
            environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}  # a job never sees the environment of whoever came first
            server = os.path.join(cell, "lib", "serve.py")
            os.execve(sys.executable, [sys.executable, "-I", "-S", server, cell], environment)
        finally:
            os._exit(127)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    os.close(lock)


def main(cell: str) -> int:
    program = os.path.basename(sys.argv[0])
    words = [os.fsencode(word) for word in sys.argv[1:]]
    stdin = sys.stdin.buffer.read() if "-" in sys.argv[1:] else b""
    folder = os.getcwdb()
    try:
        connection = connect(cell)
        connection.sendall(pack(program.encode(), folder, b"\0".join(words), stdin, b"%d" % os.getuid()))
        answer = receive(connection)
    except OSError as error:
        os.write(2, f"{program}: error: cannot reach the server of {cell}: {error.strerror}\n".encode())
        return 1
    if answer is None:
        os.write(2, f"{program}: error: the server closed the connection\n".encode())
        return 1
    code, fate, out, err = answer
    for fd, data in ((1, out), (2, err)):
        while data:
            data = data[os.write(fd, data) :]
    if fate == b"die":
        os.kill(os.getpid(), 9)
    return int(code)


def run(cell: str) -> None:
    """What each of the commands does."""
    os._exit(main(cell))  # nothing was printed through Python's own streams, and nothing is left to be closed
