"""The log before the journal: what was committed, on the disk in one write each, until the journal has taken it in.

A small commit to SQLite's own write-ahead log costs eight pages and the growth of a file. This log is a file of one size, whose
blocks were written when it was made: a commit is one write over them and one fdatasync. Records carry consecutive numbers
and a checksum; the journal holds the number of the last that it took in, so what follows it, unbroken, is what it still lacks.
The head bears the journal's own mark: the log of another journal is none of ours.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator

__all__ = ["LOG_BYTES", "Log"]

LOG_BYTES = 256 << 10
_MAGIC = b"jobyard log 1\n\0\0"
_MARK = 16  # bytes of the journal's mark
_HEAD = len(_MAGIC) + _MARK
_record = struct.Struct("<QII")  # number, bytes, checksum of both and of the bytes


class Log:
    """An open log. ``mark``: 16 bytes that the journal alone has. OSError where the disk refuses."""

    def __init__(self, path: str, mark: bytes, number: int) -> None:
        """``number``: of the last record that the journal has."""
        self.path = path
        self._mark = mark
        self._number = number
        self._at = _HEAD
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.pread(self._fd, _HEAD, 0) != _MAGIC + mark or os.fstat(self._fd).st_size != LOG_BYTES:
                self._make()
        except OSError:
            os.close(self._fd)
            raise

    def _make(self) -> None:
        """Blocks that are there already are written over faster than new ones are found."""
        os.ftruncate(self._fd, 0)
        data = (_MAGIC + self._mark).ljust(LOG_BYTES, b"\0")
        at = 0
        while at < len(data):
            at += os.pwrite(self._fd, data[at:], at)
        os.fsync(self._fd)
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @property
    def number(self) -> int:
        """Of the last record."""
        return self._number

    def room(self, size: int) -> bool:
        """A record of so many bytes can be added."""
        return self._at + _record.size + size <= LOG_BYTES

    def add(self, data: bytes) -> None:
        """On the disk when this returns. OSError: it is not, as far as the disk can still be told."""
        number = self._number + 1
        whole = _record.pack(number, len(data), _checksum(number, data)) + data
        try:
            if os.pwrite(self._fd, whole, self._at) != len(whole):
                raise OSError(errno.ENOSPC, "it was not written whole")
            os.fdatasync(self._fd)
        except OSError:
            try:
                os.pwrite(self._fd, bytes(_record.size), self._at)
            except OSError:
                pass  # the next record comes over it
            raise
        self._number = number
        self._at += len(whole)

    def rest(self) -> Iterator[bytes]:
        """The records that the journal lacks, in order; new ones come after them."""
        content = os.pread(self._fd, LOG_BYTES, 0)
        while self._at + _record.size <= len(content):
            number, size, checksum = _record.unpack_from(content, self._at)
            data = content[self._at + _record.size : self._at + _record.size + size]
            if number != self._number + 1 or len(data) != size or checksum != _checksum(number, data):
                return
            self._number = number
            self._at += _record.size + size
            yield data

    def taken_in(self) -> None:
        """The journal has all of it, durably: the next record goes over the first."""
        self._at = _HEAD

    def close(self, *, remove: bool = False) -> None:
        """Let go of it; ``remove`` where the journal has all of it."""
        os.close(self._fd)
        if remove:
            try:
                os.unlink(self.path)
            except OSError:
                pass  # what it holds is known to the journal


def _checksum(number: int, data: bytes) -> int:
    return zlib.crc32(data, number & 0xFFFFFFFF)
