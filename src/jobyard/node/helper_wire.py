"""Frames between a client and its helper on a login host; both ends run this. Standard library only, Python 3.6 syntax.

A frame is a header (payload's length, number of the request, kind) and a payload. REQ, RES, ERR and EVENT carry one line of
JSON, and raw bytes behind it; DATA the number of a stream and bytes. Text that stands for bytes is UTF-8 with surrogates for
what is none. Of each stream so many bytes may be under way as its window says; CREDIT gives back what was consumed.
"""

import errno
import json
import os
import struct
import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Deque, Dict, List, Optional, Tuple

PROTOCOL = 1
REQ, DATA, EOF, CREDIT, CANCEL, RES, ERR, EVENT, PING, PONG, BYE = range(1, 12)

HEADER = struct.Struct(">IIB")
_CREDIT = struct.Struct(">BI")
LONGEST = 1 << 24  # no frame is longer; what says so is no frame
BLOCK = 1 << 17  # bytes of a stream in one frame
INLINE = 1 << 18  # up to here, content stands in the request or the answer itself
WINDOW = 1 << 19  # bytes of a stream under way; on a short way more only makes other messages wait
WINDOW_FAR = 1 << 21  # where the round trip is long; ssh's own channel has no more
BURST = WINDOW_FAR  # bytes of a stream under way at its beginning
FAR_S = 0.005  # a round trip from which on it is long
PIPE_BYTES = 1 << 20  # more than the window: who sends waits for what was consumed, not for each page of the pipe
_JOINED = 1 << 14  # payloads up to here are sent with their header in one piece
_SPARE = 16  # buffers that are kept for the next long frames


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
    """Reads frames from a descriptor; for one thread.

    What is long is read straight into a buffer, together with the next frame's header: one call, and no byte is moved twice.
    """

    def __init__(self, fd: "int", start: "bytes" = b"") -> "None":
        self._fd = fd
        self._held = start  # what came, and from where on it was not taken
        self._at = 0
        self._after = bytearray(HEADER.size)
        self.buffers = Buffers()

    def more(self) -> "None":
        """Called before each read that may wait."""

    def _into(self, views: "Any") -> "int":
        """Read what is there, waiting for at least one byte; 0 at the end of the stream."""
        self.more()
        return os.readv(self._fd, views)

    def _fill(self) -> "bool":
        self.more()
        data = os.read(self._fd, 1 << 16)
        self._held = self._held[self._at :] + data
        self._at = 0
        return bool(data)

    def read(self) -> "Optional[Tuple[int, int, Any]]":
        """Kind, request and payload (bytes, or a view of a buffer) of the next frame; None at the end of the stream.

        WireError: it ends within a frame.
        """
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
        view = self.buffers.take(length) if kind == DATA else memoryview(bytearray(length))
        filled = len(self._held) - begin
        view[:filled] = self._held[begin:]
        after = memoryview(self._after)
        while filled < length:
            count = self._into([view[filled:], after])
            if not count:
                raise WireError("the stream ended within a frame")
            filled += count
        self._held, self._at = bytes(after[: filled - length]), 0
        return kind, request, view if kind == DATA else bytes(view)


class Buffers(object):
    """Buffers of long frames, used again: fresh ones cost as much as what is done with them."""

    def __init__(self) -> "None":
        self._spare: "List[bytearray]" = []

    def take(self, length: "int") -> "memoryview":
        """A view of so many bytes."""
        if length > BLOCK + 1:
            return memoryview(bytearray(length))
        try:
            return memoryview(self._spare.pop())[:length]
        except IndexError:
            return memoryview(bytearray(BLOCK + 1))[:length]

    def give(self, view: "Any") -> "None":
        """Nobody looks at it any more."""
        buffer: "Any" = view.obj if isinstance(view, memoryview) else b""
        if len(buffer) == BLOCK + 1 and len(self._spare) < _SPARE:
            self._spare.append(buffer)


class Sender(object):
    """Writes frames to a descriptor, whole, from any thread."""

    def __init__(self, fd: "int") -> "None":
        self._fd = fd
        self._lock = threading.Lock()
        self._shut = False

    def shut(self, timeout_s: "float") -> "bool":
        """No frame is begun any more. True: nobody writes, so that the descriptor, whose number others get, can be closed."""
        self._shut = True
        free = self._lock.acquire(timeout=timeout_s)
        if free:
            self._lock.release()
        return free

    def send(self, kind: "int", request: "int" = 0, first: "bytes" = b"", second: "bytes" = b"") -> "None":
        """One frame; its payload is both parts. OSError: nobody reads any more, or an earlier frame was broken off."""
        header = HEADER.pack(len(first) + len(second), request, kind)
        if len(second) <= _JOINED:
            parts = [header + first + second]
        else:
            parts = [header + first, second]
        with self._lock:
            if self._shut:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            whole = False
            try:
                self._write(parts)
                whole = True
            finally:
                if not whole:  # Ctrl-C, perhaps within the frame: what came next would be taken for the rest of it
                    self._shut = True

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

    def __init__(
        self,
        sender: "Sender",
        request: "int",
        window: "int" = WINDOW,
        buffers: "Optional[Buffers]" = None,
        burst: "int" = 0,
    ) -> "None":
        """``burst``: what may be under way at first, if more than the window: what is short goes in one piece. The end that
        takes it gives half back until the rest is the window.
        """
        self.sender = sender
        self.request = request
        self.window = window
        self._buffers = buffers
        self._lent: "Any" = None  # what was taken and is being looked at
        self._changed = threading.Condition()
        self._came: "Deque[Tuple[int, bytes]]" = deque()
        self._held = 0
        self._burst = max(burst, window)
        self._allowed: "Dict[int, int]" = {}
        self._kept_back: "Dict[int, int]" = {}
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
            if self._held > max(4 * self.window, self._burst) + BLOCK:
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
            self._allowed[stream] = self._allowed.get(stream, self._burst) + count
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
            stream, self._lent = self._came.popleft()
            return stream, memoryview(self._lent)[1:]

    @property
    def at_end(self) -> "bool":
        """EOF came, and all before it was taken."""
        with self._changed:
            return self._ended and not self._came

    def consumed(self, stream: "int", count: "int") -> "None":
        """So much of it was taken: the other end may send more. What ``next`` gave is not looked at any more."""
        if self._buffers is not None:
            self._buffers.give(self._lent)
        self._lent = None
        with self._changed:
            self._held -= count
            kept = self._kept_back.get(stream, 0)
            if kept < self._burst - self.window:
                keep = min(count // 2, self._burst - self.window - kept)
                self._kept_back[stream] = kept + keep
                count -= keep
            owed = self._owed.get(stream, 0) + count
            if owed < self.window // 4:
                self._owed[stream] = owed
                return
            self._owed[stream] = 0
        self.sender.credit(self.request, stream, owed)

    def room(self, stream: "int", wanted: "int", timeout_s: "Optional[float]" = None) -> "int":
        """How many of ``wanted`` bytes may be sent now, waiting for at least one; 0 when the time is over, or after ``stop``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.over or self._allowed.get(stream, self._burst) > 0, timeout_s) or self.over:
                return 0
            allowed = self._allowed.get(stream, self._burst)
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
