"""Frames: what client, server and spawner send each other.

A frame is four bytes of length (little-endian) and one msgpack value. Text of the user's travels as bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

__all__ = ["VERSION", "Frames", "frame", "pack", "unpack"]

VERSION = 2
MAX_FRAME = 1 << 30

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_length = struct.Struct("<I")


def pack(value: Any) -> bytes:
    """One value in msgpack."""
    return _encode(value)


def unpack(data: bytes | memoryview) -> Any:
    """One value of msgpack."""
    return _decode(data)


def frame(value: Any) -> bytes:
    """A frame, ready to send."""
    data = _encode(value)
    return _length.pack(len(data)) + data


class Frames:
    """Cuts a stream of bytes into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The frames that are complete now. ValueError: this is no stream of frames."""
        found: list[Any] = []
        buffer = self._buffer
        if not buffer and len(data) >= 4 and _length.unpack_from(data)[0] == len(data) - 4:
            return [_decode(data[4:])]  # exactly one, as most often
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            (length,) = _length.unpack_from(buffer, at)
            if length > MAX_FRAME:
                raise ValueError(f"a frame of {length} bytes")
            if len(buffer) - at - 4 < length:
                break
            found.append(_decode(memoryview(buffer)[at + 4 : at + 4 + length]))
            at += 4 + length
        if at:
            del buffer[:at]
        return found
