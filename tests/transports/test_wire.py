"""Messages between client and helper: frames arrive whole whatever the pieces, and what is none is refused; windows hold."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.node import helper_wire as wire

FRAMES = st.lists(st.tuples(st.integers(1, 11), st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=8)


def read_all(data: bytes, step: int) -> list[tuple[int, int, bytes]]:
    """All frames of a stream that comes in pieces."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):
            for at in range(0, len(data), step):
                os.write(writing, data[at : at + step])
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        reader, found = wire.FrameReader(reading), []
        while (frame := reader.read()) is not None:
            found.append((frame[0], frame[1], bytes(frame[2])))
        return found
    finally:
        os.close(reading)
        thread.join()


@settings(deadline=None)
@given(FRAMES, st.integers(1, 400))
def test_frames_arrive_whatever_the_pieces(frames: list[tuple[int, int, bytes]], step: int) -> None:
    data = b"".join(wire.HEADER.pack(len(payload), number, kind) + payload for kind, number, payload in frames)
    assert read_all(data, step) == frames


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(1, 100))
def test_any_bytes_are_frames_or_refused(data: bytes, step: int) -> None:
    with contextlib.suppress(wire.WireError):
        for _, _, payload in read_all(data, step):
            with contextlib.suppress(wire.WireError):
                wire.split(payload)
            with contextlib.suppress(wire.WireError):
                wire.credited(payload)


LENGTHS = [0, 1, 1 << 14, (1 << 16) - 9, 1 << 16, (1 << 16) + 1, wire.BLOCK - 1, wire.BLOCK + 1, wire.BLOCK + 2, 1 << 18]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([wire.DATA, wire.RES]), st.sampled_from(LENGTHS)), min_size=1, max_size=6),
    st.sampled_from([1000, 4096, 65_537, 200_000]),
)
def test_long_frames_arrive_whatever_the_pieces(frames: list[tuple[int, int]], step: int) -> None:
    """Also in buffers that are used again."""
    sent = [(kind, number, bytes([number + 1]) * length) for number, (kind, length) in enumerate(frames)]
    data = b"".join(wire.HEADER.pack(len(payload), number, kind) + payload for kind, number, payload in sent)
    assert read_all(data, step) == sent


def test_a_buffer_is_used_again_only_when_it_was_consumed() -> None:
    reading, writing = os.pipe()
    blocks = [bytes([number]) * (wire.BLOCK + 1) for number in range(5)]

    def write() -> None:
        for block in blocks:
            os.write(writing, wire.HEADER.pack(len(block), 1, wire.DATA) + block)
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        reader = wire.FrameReader(reading)
        streams = wire.Streams(wire.Sender(nowhere), 1, buffers=reader.buffers)
        buffers, kept = set(), []
        for block in blocks:
            frame = reader.read()
            assert frame is not None
            streams.arrived(frame[2])
            came = streams.next(0)
            assert came is not None
            assert bytes(came[1]) == block[1:]
            if block[0] < 2:  # these two are held on to
                kept.append(came[1])
                continue
            buffers.add(id(came[1].obj))
            streams.consumed(came[0], len(came[1]))
        assert [bytes(one) for one in kept] == [block[1:] for block in blocks[:2]]
        assert len(buffers) == 1
    finally:
        thread.join()
        for fd in (reading, nowhere):
            os.close(fd)


def test_a_frame_longer_than_any_is_refused() -> None:
    with pytest.raises(wire.WireError, match="announced"):
        read_all(wire.HEADER.pack(wire.LONGEST + 1, 1, wire.DATA) + b"x" * 100, 50)


def test_a_stream_that_ends_within_a_frame_is_refused() -> None:
    for end in (3, 12):
        with pytest.raises(wire.WireError, match="ended"):
            read_all((wire.HEADER.pack(10, 1, wire.DATA) + b"x" * 10)[:end], 5)


@pytest.mark.parametrize("payload", [b"", b"no json\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_what_has_no_json_is_refused(payload: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.split(payload)


@given(st.binary())
def test_any_bytes_pass_as_text(data: bytes) -> None:
    assert wire.as_bytes(wire.split(wire.head(wire.as_text(data)))[0]) == data


def test_more_than_the_window_is_refused() -> None:
    reading, writing = os.pipe()
    try:
        streams = wire.Streams(wire.Sender(writing), 1, window=1000)
        streams.arrived(b"\1" + b"x" * wire.BLOCK)  # one block may have been on its way
        with pytest.raises(wire.WireError, match="window"):
            streams.arrived(b"\1" + b"x" * wire.BLOCK)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("burst", [0, 4000])
def test_a_sender_waits_for_what_was_consumed(burst: int) -> None:
    """So much is under way as the window says, and never more; at the beginning, as the burst says."""
    reading, writing = os.pipe()
    sending = wire.Streams(wire.Sender(writing), 7, window=1000, burst=burst)
    taking = wire.Streams(wire.Sender(writing), 7, window=1000, burst=burst)
    done = threading.Event()

    def send() -> None:
        assert sending.send(0, b"x" * 20_000)
        done.set()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        reader, under_way, total = wire.FrameReader(reading), 0, 0
        while total < 20_000:
            frame = reader.read()
            assert frame is not None
            kind, number, payload = frame
            assert number == 7
            if kind == wire.CREDIT:
                stream, count = wire.credited(payload)
                sending.give(stream, count)
                continue
            taking.arrived(payload)
            under_way += len(payload) - 1
            total += len(payload) - 1
            assert under_way <= (1000 if total > 8000 else max(burst, 1000))
            came = taking.next(0)
            assert came is not None
            under_way -= len(came[1])
            taking.consumed(came[0], len(came[1]))
        assert done.wait(60)
    finally:
        sending.stop()
        thread.join()
        os.close(reading)
        os.close(writing)


def test_a_sender_that_was_shut_writes_nothing() -> None:
    """The number of its descriptor may be another file's by now."""
    reading, writing = os.pipe()
    sender = wire.Sender(writing)
    filling = threading.Thread(target=lambda: sender.send(wire.DATA, 1, b"\0", b"x" * (1 << 20)))
    filling.start()
    try:
        os.read(reading, 1)  # it has begun
        assert not sender.shut(0)
        left = wire.HEADER.size + (1 << 20)
        while left:
            left -= len(os.read(reading, left))
        assert sender.shut(60)
        filling.join()
        with pytest.raises(BrokenPipeError):
            sender.credit(1, 0, 1)
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
    finally:
        filling.join()
        for fd in (reading, writing):
            os.close(fd)


@pytest.mark.parametrize("window", [1000, wire.WINDOW, wire.BURST])
def test_what_may_be_under_way_at_first_comes_down_to_the_window(window: int) -> None:
    """And never to nothing, though all is consumed only when no more may be sent."""
    reading, writing = os.pipe()
    burst = max(4000, wire.BURST if window > 1000 else 0)
    sending = wire.Streams(wire.Sender(writing), 7, window=window, burst=burst)
    taking = wire.Streams(wire.Sender(writing), 7, window=window, burst=burst)
    reader, rounds = wire.FrameReader(reading), []
    try:
        for _ in range(30):
            rounds.append(0)
            blocks = []
            while size := sending.room(0, 1 << 30, 0):
                blocks.append(size)
                taking.arrived(b"\0" + b"x" * size)
                rounds[-1] += size
            for size in blocks:
                came = taking.next(0)
                assert came is not None
                taking.consumed(came[0], size)
            taking.sender.send(wire.PONG)
            while (frame := reader.read()) is not None and frame[0] == wire.CREDIT:
                sending.give(*wire.credited(frame[2]))
    finally:
        os.close(reading)
        os.close(writing)
    assert rounds[0] == burst
    assert all(window * 3 // 4 < one <= window for one in rounds[10:]), rounds


def test_a_frame_that_is_broken_off_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever came behind half of one would be taken for its other half."""
    reading, writing = os.pipe()
    sender = wire.Sender(writing)
    writev = os.writev

    def interrupted(fd: int, parts: list[bytes]) -> int:
        writev(fd, [bytes(parts[0])[:20]])
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "writev", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            sender.send(wire.DATA, 1, b"\0", b"x" * 100)
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            sender.send(wire.CANCEL, 1)
        assert len(os.read(reading, 1000)) == 20
    finally:
        os.close(reading)
        os.close(writing)
