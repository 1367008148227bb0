"""The server's clients: their connections, and who follows which session. Nothing here waits."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Any

from ...errors import ControlError
from . import paths
from .protocol import encode_error
from .wire import Frames, frame

__all__ = ["Client", "Clients"]

PIECE = 1 << 20
RECEIVED = 1 << 16  # at a time: a larger buffer would be mapped and unmapped for each message
PIECES = 128  # read from one client before the others have their turn


class Client:
    """One connection."""

    __slots__ = ("closing", "frames", "out", "sessions", "socket")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.frames = Frames()
        self.out = bytearray()
        self.sessions: set[int] = set()  # those of whose jobs it hears
        self.closing = False


def _framed(message: Any) -> bytes:
    """The frame of an answer, or of news. What cannot be sent must not end the server: it would be asked of the next one, too."""
    try:
        return frame(message)
    except UnicodeEncodeError as error:
        return frame([message[0], encode_error(ControlError(f"the answer cannot be sent: {error!r}")), None])


class Clients:
    """All connections, and the socket on which they come."""

    def __init__(self, epoll: select.epoll, path: str, answer: Callable[[Client, list[Any]], None]) -> None:
        self._epoll = epoll
        self._path = path
        self._answer = answer
        self.by_fd: dict[int, Client] = {}
        self.followers: dict[int, set[Client]] = {}  # by session
        self.listener = paths.listen(path)
        epoll.register(self.listener.fileno(), select.EPOLLIN)

    def follow(self, client: Client, session: int) -> None:
        """From now on it hears of that session's jobs."""
        client.sessions.add(session)
        self.followers.setdefault(session, set()).add(client)

    def welcome(self) -> None:
        """Take in those who knock."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            except OSError:
                return  # out of descriptors: it stays in the backlog
            if paths.peer_uid(sock) != os.getuid():
                sock.close()
                continue
            sock.setblocking(False)
            self.by_fd[sock.fileno()] = Client(sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def event(self, fd: int, mask: int) -> None:
        """Something happened on a connection."""
        client = self.by_fd[fd]
        if mask & select.EPOLLOUT:
            self._send(client)
        if mask & ~select.EPOLLOUT:
            self._hear(client)

    def _hear(self, client: Client) -> None:
        for _ in range(PIECES):
            if client.closing:
                return
            try:
                data = client.socket.recv(RECEIVED)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.part(client)
                return
            try:
                messages = client.frames.feed(data)
            except (ValueError, TypeError):
                self.part(client)  # no client of ours
                return
            for message in messages:
                if type(message) is not list or len(message) != 3:
                    self.part(client)
                    return
                self._answer(client, message)
            if len(data) < RECEIVED:
                return

    def part(self, client: Client) -> None:
        """The client left."""
        if client.closing:
            return
        client.closing = True
        fd = client.socket.fileno()
        self._epoll.unregister(fd)
        del self.by_fd[fd]
        client.socket.close()
        for session in client.sessions:
            self.followers[session].discard(client)

    def _send(self, client: Client) -> None:
        if client.closing:
            return
        try:
            while client.out:
                sent = client.socket.send(memoryview(client.out)[:PIECE])
                del client.out[:sent]
        except BlockingIOError:
            return
        except OSError:
            self.part(client)
            return
        self._epoll.modify(client.socket.fileno(), select.EPOLLIN)

    def together(self, messages: list[tuple[Client, Any]]) -> None:
        """Send frames in order, those of a client as one piece."""
        pieces: dict[Client, list[bytes]] = {}
        for client, message in messages:
            pieces.setdefault(client, []).append(_framed(message))
        for client, frames in pieces.items():
            self._put(client, b"".join(frames))

    def say(self, client: Client, message: Any) -> None:
        """Send a frame, now or when there is room."""
        self._put(client, _framed(message))

    def _put(self, client: Client, data: bytes) -> None:
        if client.closing:
            return
        if not client.out:
            try:
                sent = client.socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.part(client)
                return
            if sent == len(data):
                return
            data = data[sent:]
        client.out += data
        self._epoll.modify(client.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def stop_listening(self) -> None:
        """Nobody can come any more."""
        self.listener.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass  # somebody removed it

    def close(self) -> None:
        """Part from all."""
        for client in list(self.by_fd.values()):
            self.part(client)
