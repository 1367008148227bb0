"""Frames between a client and its helper on a login host; both ends run this. Standard library only, Python 3.6 syntax.

A frame is a header (payload's length, number of the request, kind) and a payload. REQ, RES, ERR and EVENT carry one line of
JSON, and raw bytes behind it; DATA the number of a stream and bytes. Text that stands for bytes is UTF-8 with surrogates for
what is none. Of each stream so many bytes may be under way as its window says; CREDIT gives back what was consumed.
"""

import json
import os
import struct
import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Deque, Dict, Optional, Tuple

PROTOCOL = 1
REQ, DATA, EOF, CREDIT, CANCEL, RES, ERR, EVENT, PING, PONG, BYE = range(1, 12)

HEADER = struct.Struct(">IIB")
_CREDIT = struct.Struct(">BI")
LONGEST = 1 << 24  # no frame is longer; what says so is no frame
BLOCK = 1 << 17  # bytes of a stream in one frame
INLINE = 1 << 18  # up to here, content stands in the request or the answer itself
WINDOW = 3 << 18  # bytes of a stream under way; more makes other messages wait
WINDOW_FAR = 1 << 21  # where the round trip is long; ssh's own channel has no more
_JOINED = 1 << 14  # payloads up to here are sent with their header in one piece


class WireError(Exception):
    """What came is no frame."""


def as_text(data: "bytes") -> "str":
    """Bytes as text for JSON."""
    return data.decode("utf-8", "surrogateescape")


def as_bytes(text: "str") -> "bytes":
    """The bytes that a text of JSON stands for."""
    return text.encode("utf-8", "surrogateescape")


def head(value: "Any") -> "bytes":
    """The JSON line of a payload."""
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def split(payload: "bytes") -> "Tuple[Any, bytes]":
    """A payload's JSON and the raw bytes behind it. WireError: it has no JSON."""
    end = payload.find(b"\n")
    try:
        return json.loads(payload[:end].decode("ascii")), payload[end + 1 :]
    except (ValueError, RecursionError) as error:
        raise WireError("the line before the content is no JSON") from error


class FrameReader(object):
    """Reads frames from a descriptor; for one thread."""

    def __init__(self, fd: "int", start: "bytes" = b"") -> "None":
        self._fd = fd
        self._held = start
        self._at = 0

    def more(self) -> "None":
        """Called before each read that may wait."""

    def _fill(self) -> "bool":
        self.more()
        data = os.read(self._fd, 1 << 16)
        self._held = self._held[self._at :] + data
        self._at = 0
        return bool(data)

    def read(self) -> "Optional[Tuple[int, int, bytes]]":
        """Kind, request and payload of the next frame; None at the end of the stream. WireError: it ends within a frame."""
        while len(self._held) - self._at < HEADER.size:
            left = len(self._held) - self._at
            if not self._fill():
                if left:
                    raise WireError("the stream ended within a frame")
                return None
        length, request, kind = HEADER.unpack_from(self._held, self._at)
        if length > LONGEST:
            raise WireError("a frame of %d bytes was announced" % length)
        begin = self._at + HEADER.size
        if begin + length <= len(self._held):
            self._at = begin + length
            return kind, request, self._held[begin : begin + length]
        payload = bytearray(length)
        filled = len(self._held) - begin
        payload[:filled] = self._held[begin:]
        self._held, self._at = b"", 0
        view = memoryview(payload)
        while filled < length:
            self.more()
            count = os.readv(self._fd, [view[filled:]])
            if not count:
                raise WireError("the stream ended within a frame")
            filled += count
        return kind, request, payload  # type: ignore[return-value] # a bytearray: all that is done with it, bytes can do


class Sender(object):
    """Writes frames to a descriptor, whole, from any thread."""

    def __init__(self, fd: "int") -> "None":
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, kind: "int", request: "int" = 0, first: "bytes" = b"", second: "bytes" = b"") -> "None":
        """One frame; its payload is both parts. OSError: nobody reads any more."""
        header = HEADER.pack(len(first) + len(second), request, kind)
        if len(second) <= _JOINED:
            parts = [header + first + second]
        else:
            parts = [header + first, second]
        with self._lock:
            self._write(parts)

    def _write(self, parts: "Any") -> "None":
        while parts:
            written = os.writev(self._fd, parts)
            while parts and written >= len(parts[0]):
                written -= len(parts[0])
                del parts[0]
            if written:
                parts[0] = memoryview(parts[0])[written:]

    def credit(self, request: "int", stream: "int", count: "int") -> "None":
        """Give back what was consumed of a stream."""
        self.send(CREDIT, request, _CREDIT.pack(stream, count))


def credited(payload: "bytes") -> "Tuple[int, int]":
    """Stream and count of a CREDIT."""
    if len(payload) != _CREDIT.size:
        raise WireError("a credit of %d bytes" % len(payload))
    return _CREDIT.unpack(payload)


class Streams(object):
    """The streams of one request at one end: what came and was not consumed, and what may still be sent."""

    def __init__(self, sender: "Sender", request: "int", window: "int" = WINDOW) -> "None":
        self.sender = sender
        self.request = request
        self.window = window
        self._changed = threading.Condition()
        self._came: "Deque[Tuple[int, bytes]]" = deque()
        self._held = 0
        self._allowed: "Dict[int, int]" = {}
        self._owed: "Dict[int, int]" = {}
        self._ended = False
        self.over = False  # the request is done, or was given up: nobody waits any more
        self.end = b""  # what came with the end of the incoming stream

    def arrived(self, payload: "bytes") -> "None":
        """DATA came. WireError: more than the window allows."""
        if not payload:
            raise WireError("data without a stream's number")
        with self._changed:
            self._came.append((payload[0], payload))
            self._held += len(payload) - 1
            if self._held > 4 * self.window + BLOCK:
                raise WireError("more came than the window allows")
            self._changed.notify_all()

    def ended(self, payload: "bytes") -> "None":
        """EOF came."""
        with self._changed:
            self._ended, self.end = True, bytes(payload)
            self._changed.notify_all()

    def give(self, stream: "int", count: "int") -> "None":
        """CREDIT came."""
        with self._changed:
            self._allowed[stream] = self._allowed.get(stream, self.window) + count
            self._changed.notify_all()

    def stop(self) -> "None":
        """Nobody shall wait any more."""
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def next(self, timeout_s: "Optional[float]" = None) -> "Optional[Tuple[int, memoryview]]":
        """A stream's number and bytes; None at the end, when the time is over, or after ``stop``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._came or self._ended or self.over, timeout_s):
                return None
            if not self._came:
                return None
            stream, payload = self._came.popleft()
            return stream, memoryview(payload)[1:]

    @property
    def at_end(self) -> "bool":
        """EOF came, and all before it was taken."""
        with self._changed:
            return self._ended and not self._came

    def consumed(self, stream: "int", count: "int") -> "None":
        """So much of it was taken: the other end may send more."""
        with self._changed:
            self._held -= count
            owed = self._owed.get(stream, 0) + count
            if owed < self.window // 4:
                self._owed[stream] = owed
                return
            self._owed[stream] = 0
        self.sender.credit(self.request, stream, owed)

    def room(self, stream: "int", wanted: "int", timeout_s: "Optional[float]" = None) -> "int":
        """How many of ``wanted`` bytes may be sent now, waiting for at least one; 0 when the time is over, or after ``stop``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.over or self._allowed.get(stream, self.window) > 0, timeout_s) or self.over:
                return 0
            allowed = self._allowed.get(stream, self.window)
            count = min(wanted, allowed, BLOCK)
            self._allowed[stream] = allowed - count
            return count

    def send(self, stream: "int", data: "Any", timeout_s: "Optional[float]" = None) -> "bool":
        """Send all of it; False when the time is over, or after ``stop``."""
        view = memoryview(data)
        number = bytes((stream,))
        while view:
            count = self.room(stream, len(view), timeout_s)
            if not count:
                return False
            self.sender.send(DATA, self.request, number, view[:count])  # type: ignore[arg-type]
            view = view[count:]
        return True
