"""Copying what jobs write, while they write it: raw bytes, to the stream of ours that corresponds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import BinaryIO

from ..errors import TransportError
from ..session import Job, Session
from ..transports.base import Transport

__all__ = ["Follower", "HostFollower", "Pace", "Streams", "follower"]

_CHUNK = 1 << 16


class Follower:
    """Copies a growing file to a stream of ours. A file that is not there yet has nothing to copy; one that was cut short, or that
    another has taken the place of, is copied from its beginning."""

    def __init__(self, path: str, target: BinaryIO, before: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._target = target
        self._before = before  # called before anything is written
        self._file: BinaryIO | None = None

    @property
    def seen(self) -> bool:
        """The file was there."""
        return self._file is not None

    def skip_to_last(self, lines: int) -> None:
        """Leave out all but the last so many lines of what is there now."""
        if self._open():
            assert self._file is not None
            self._file.seek(_start_of_last(self._file, lines))

    def copy(self) -> bool:
        """Copy what is new; True if there was any."""
        if not self._open():
            return False
        anything = False
        while chunk := self._next():
            if not anything:
                self._before()
            self._target.write(chunk)
            anything = True
        if anything:
            self._target.flush()
        return anything

    def _next(self) -> bytes:
        assert self._file is not None
        chunk = self._file.read(_CHUNK)
        if chunk:
            return chunk
        found = os.fstat(self._file.fileno())
        if found.st_size < self._file.tell():
            self._file.seek(0)
            return self._file.read(_CHUNK)
        try:
            named = os.stat(self.path)
        except FileNotFoundError:  # moved away, and none has its name yet
            return b""
        if (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino):
            return b""
        self._file.close()
        self._file = None
        return self._file.read(_CHUNK) if self._open() and self._file is not None else b""

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> bool:
        if self._file is None:
            try:
                self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 - close() closes it
            except FileNotFoundError:
                return False
        return True


class HostFollower(Follower):
    """Copies a growing file of a login host. While the host cannot be reached there is nothing to copy. A file that became shorter
    is copied from its beginning."""

    def __init__(self, transport: Transport, path: str, target: BinaryIO, before: Callable[[], None] = lambda: None) -> None:
        super().__init__(path, target, before)
        self._transport = transport
        self._at = 0
        self._found = False

    @property
    def seen(self) -> bool:
        return self._found

    def skip_to_last(self, lines: int) -> None:
        try:
            size = self._transport.stat(self.path).size_bytes
        except FileNotFoundError:
            return
        start, held = size, b""
        while lines and start > 0 and held.count(b"\n") <= lines:
            begin = max(0, start - _CHUNK)
            held = self._transport.read_range(self.path, begin, start - begin) + held
            start = begin
        held = held[: size - start]
        kept = held.splitlines(keepends=True)[-lines:] if lines else []
        self._at = size - sum(map(len, kept))

    def copy(self) -> bool:
        anything = False
        while True:
            try:
                chunk = self._transport.read_range(self.path, self._at, _CHUNK)
                if not chunk and self._at and self._transport.stat(self.path).size_bytes < self._at:
                    self._at = 0
                    continue
            except FileNotFoundError:
                return False
            except TransportError as error:
                if not error.retryable:
                    raise
                return False
            self._found = True
            if not chunk:
                break
            if not anything:
                self._before()
            self._target.write(chunk)
            self._at += len(chunk)
            anything = True
        if anything:
            self._target.flush()
        return anything


def follower(session: Session, path: str, target: BinaryIO, before: Callable[[], None] = lambda: None) -> Follower:
    """What copies a file of a job's, wherever it is."""
    transport = getattr(session.scheduler, "transport", None)
    if session._remote and transport is not None:
        return HostFollower(transport, path, target, before)
    return Follower(path, target, before)


def _start_of_last(file: BinaryIO, lines: int) -> int:
    """Where the last so many lines begin, read from the end in pieces."""
    end = file.seek(0, os.SEEK_END)
    if lines == 0:
        return end
    at, missing = end, lines + 1  # the line break that ends the last line does not begin one
    while at > 0:
        start = max(0, at - _CHUNK)
        file.seek(start)
        piece = file.read(at - start)
        if at == end and not piece.endswith(b"\n"):
            missing -= 1
        while missing > 0 and (position := piece.rfind(b"\n")) >= 0:
            missing -= 1
            if missing == 0:
                return start + position + 1
            piece = piece[:position]
        at = start
    return 0


class Pace:
    """How long to wait before the next look: short after something came, then longer and longer."""

    def __init__(self, least_s: float = 0.02, most_s: float = 0.25) -> None:
        self._least_s, self._most_s = least_s, most_s
        self._now_s = least_s

    def next(self, anything: bool) -> float:
        """Seconds until the next look."""
        self._now_s = self._least_s if anything else min(self._most_s, self._now_s * 1.5)
        return self._now_s


class Streams:
    """What one job writes. Its files are looked for until they are known: a job has none before it begins."""

    def __init__(self, job: Job, *, out: bool = True, err: bool = True, before: Callable[[], None] = lambda: None) -> None:
        self._job = job
        self._before = before
        self._missing = {name for name, wanted in (("out", out), ("err", err)) if wanted}
        self._joined = out and err
        self.followers: list[Follower] = []

    def look(self) -> None:
        """Find files that were not known yet."""
        if not self._missing:
            return
        out, err = self._job._session._keeper_now().streams(self._job._key)  # both at one moment
        if self._joined and err is not None and out == err:
            self._missing.discard("err")  # joined streams are one file, which is copied once
        for name, path, target in (("out", out, sys.stdout.buffer), ("err", err, sys.stderr.buffer)):
            if name in self._missing and path is not None:
                self._missing.discard(name)
                self.followers.append(follower(self._job._session, path, target, self._before))

    def copy(self) -> bool:
        """Copy what is new; True if there was any."""
        self.look()
        copied = [follower.copy() for follower in self.followers]
        return True in copied

    def close(self) -> None:
        """Let go of the files."""
        for follower in self.followers:
            follower.close()
