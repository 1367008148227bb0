"""The ring: the spawner's receipts, in a file that both halves map. One writer, one reader.

A store into a shared file mapping survives the death of every process and costs less than a microsecond. It does not
survive the machine, whose death ends the jobs too. Each spawner has a ring file of its own (its generation), which it
locks for as long as it lives: whoever wants to read a ring as a successor takes that lock first.

A record is published by its sequence number, which is written last; a stale record of an earlier round has another one.
The reader's tail moves only after what was read is committed, and never past a start whose outcome is not known.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from typing import NamedTuple

__all__ = ["DIRECTORY", "END", "FAIL", "PASSED", "PID", "PROGRAM", "SPAWNING", "STDERR", "STDIN", "STDOUT", "Record", "Ring"]

# Kinds of records.
SPAWNING, PID, END, FAIL = 1, 2, 3, 4
# What could not be used, in the flags of FAIL.
DIRECTORY, STDIN, STDOUT, STDERR, PROGRAM = 1, 2, 3, 4, 5
# Flags of END: these default streams were kept under the job's own name.
KEPT_OUT, KEPT_ERR = 1, 2
# In the flags of END and FAIL: the job's place passed to the next of its kind.
PASSED = 64

_FIELDS = struct.Struct("=BBHiQddiIQQQIIIIIIQ")
RECORD_BYTES = _FIELDS.size
_SHORT = struct.Struct("=BBHiQddiIQ")
_SHORT_BYTES = _SHORT.size
_pack_short = _SHORT.pack_into
_pack_usage = struct.Struct("=QQIIIIII").pack_into
_HEADER_BYTES = RECORD_BYTES  # tail, sleeping
_WORDS = RECORD_BYTES // 8
RECORDS = 4096
SPARE = 256  # the writer stops starting jobs while fewer are free; endings must always find room


class Record(NamedTuple):
    """One receipt. Which fields count depends on the kind."""

    kind: int
    flags: int
    errno: int  # FAIL
    pid: int  # PID, END
    number: int  # of the job
    at: float  # seconds since the epoch
    booted: float  # PID: seconds since boot just before the start
    status: int  # END: wait status
    stream: int  # SPAWNING, PID: which default stream files; 0: none
    user_us: int  # END; PID: microseconds that the start took
    system_us: int
    maxrss_kib: int
    minor_faults: int
    major_faults: int
    read_blocks: int
    written_blocks: int
    voluntary: int
    involuntary: int
    sequence: int


class RingHeldError(Exception):
    """The spawner of this ring lives."""


class Ring:
    """One mapped ring file. ``create`` makes it, the spawner ``lock``s it and writes, the server reads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._map = mmap.mmap(self._fd, _HEADER_BYTES + RECORDS * RECORD_BYTES)
        self._words = memoryview(self._map).cast("Q")
        self._next = 0  # the writer's position
        self._read = int(self._words[0])  # the reader's, at or after the tail

    @classmethod
    def create(cls, path: str) -> Ring:
        """A new, empty ring, its blocks allocated: a full disk must not end a writer (SIGBUS)."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, _HEADER_BYTES + RECORDS * RECORD_BYTES)
        finally:
            os.close(fd)
        return cls(path)

    def lock(self) -> None:
        """Hold the ring for as long as this process lives. RingHeldError where another one does."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RingHeldError(self.path) from error

    def close(self) -> None:
        """Unmap; lets go of the lock."""
        self._words.release()
        self._map.close()
        os.close(self._fd)

    # Writing ----------------------------------------------------------------------------------------------------------

    def room(self) -> bool:
        """Another job may be started."""
        return self._next - int(self._words[0]) < RECORDS - SPARE

    def write(
        self,
        kind: int,
        flags: int,
        errno: int,
        pid: int,
        number: int,
        at: float,
        booted: float = 0.0,
        status: int = 0,
        stream: int = 0,
        took_us: int = 0,
    ) -> int:
        """Publish a record without usage; returns its position. There is room for endings as long as ``room`` was asked
        before each start."""
        position = self._next
        slot = 1 + position % RECORDS
        _pack_short(self._map, slot * RECORD_BYTES, kind, flags, errno, pid, number, at, booted, status, stream, took_us)
        self._next = position + 1
        self._words[slot * _WORDS + _WORDS - 1] = position + 1  # one aligned store: published
        return position

    def write_end(self, flags: int, pid: int, number: int, at: float, status: int, stream: int, usage: tuple[int, ...]) -> int:
        """Publish an END with what the job used (as kernel.peek says it); returns its position."""
        position = self._next
        slot = 1 + position % RECORDS
        offset = slot * RECORD_BYTES
        _pack_short(self._map, offset, END, flags, 0, pid, number, at, 0.0, status, stream, usage[0])
        try:
            _pack_usage(self._map, offset + _SHORT_BYTES, *usage[1:])
        except struct.error:  # a count of more than 32 bits
            _pack_usage(self._map, offset + _SHORT_BYTES, *usage[1:3], *(min(one, 0xFFFFFFFF) for one in usage[3:]))
        self._next = position + 1
        self._words[slot * _WORDS + _WORDS - 1] = position + 1
        return position

    @property
    def tail(self) -> int:
        """Records before this position were read, and are in the journal."""
        return int(self._words[0])

    def reader_sleeps(self) -> bool:
        """The reader asked to be woken; asking clears it."""
        if self._words[1]:
            self._words[1] = 0
            return True
        return False

    # Reading ----------------------------------------------------------------------------------------------------------

    def read(self) -> list[Record]:
        """What was published since the last call; the tail does not move."""
        found: list[Record] = []
        position, words = self._read, self._words
        while True:
            slot = 1 + position % RECORDS
            if words[slot * _WORDS + _WORDS - 1] != position + 1:
                break
            found.append(Record._make(_FIELDS.unpack_from(self._map, slot * RECORD_BYTES)))
            position += 1
        self._read = position
        return found

    def waiting(self) -> bool:
        """Something is there to read."""
        position = self._read
        return bool(self._words[(1 + position % RECORDS) * _WORDS + _WORDS - 1] == position + 1)

    def sleep(self, asleep: bool) -> None:
        """Ask to be woken by the next record, or no longer."""
        self._words[1] = int(asleep)

    def commit(self, position: int) -> None:
        """Records before ``position`` are in the journal."""
        self._words[0] = position

    @property
    def position(self) -> int:
        """The position after the last record read."""
        return self._read
