"""Files that are copied while they grow: what is read, and what happens where they are cut short or replaced."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobyard.cli.follow import Follower, HostFollower
from jobyard.transports.local import LocalTransport


class Counting(LocalTransport):
    """Counts the bytes that are read."""

    moved = 0

    def read_range(self, path: str, start: int = 0, length: int | None = None, *, follow: bool = True) -> bytes:
        data = super().read_range(path, start, length, follow=follow)
        self.moved += len(data)
        return data


Make = Callable[[Path, io.BytesIO], Follower]


@pytest.fixture(params=["here", "host"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    transport = Counting()
    if request.param == "here":
        yield lambda path, target: Follower(str(path), target)
    else:
        yield lambda path, target: HostFollower(transport, str(path), target)
    transport.close()


def test_a_file_that_comes_later_and_grows(make: Make, tmp_path: Path) -> None:
    path, target = tmp_path / "log", io.BytesIO()
    copying = make(path, target)
    copying.skip_to_last(3)
    assert not copying.copy()
    assert copying.seen is False
    for number in range(5):
        with open(path, "ab") as file:
            file.write(b"line %d\n\xff" % number)
        assert copying.copy()
        assert not copying.copy()
    assert target.getvalue() == path.read_bytes()
    copying.close()


def test_a_file_that_is_cut_short(make: Make, tmp_path: Path) -> None:
    path, target = tmp_path / "log", io.BytesIO()
    path.write_bytes(b"old old old\n")
    copying = make(path, target)
    copying.skip_to_last(9)
    assert copying.copy()
    path.write_bytes(b"new\n")
    assert copying.copy()
    with open(path, "ab") as file:
        file.write(b"more\n")
    assert copying.copy()
    assert target.getvalue() == b"old old old\nnew\nmore\n"
    path.write_bytes(b"")
    assert not copying.copy()
    path.write_bytes(b"again\n")
    assert copying.copy()
    assert target.getvalue().endswith(b"more\nagain\n")
    copying.close()


def test_a_file_that_another_takes_the_place_of(make: Make, tmp_path: Path) -> None:
    path, target = tmp_path / "log", io.BytesIO()
    path.write_bytes(b"a long first log\n")
    copying = make(path, target)
    assert copying.copy()
    path.rename(tmp_path / "log.1")
    assert not copying.copy()
    path.write_bytes(b"second\n")
    assert copying.copy()
    assert target.getvalue() == b"a long first log\nsecond\n"
    copying.close()


@pytest.mark.parametrize("lines", [0, 1, 3])
def test_the_last_lines_of_a_large_file_and_what_comes_then(tmp_path: Path, lines: int) -> None:
    """Nothing else is brought: a gigabyte before it costs nothing."""
    path, target, transport = tmp_path / "log", io.BytesIO(), Counting()
    with open(path, "wb") as file:
        file.truncate(1 << 30)
        file.seek(0, 2)
        file.write(b"\n" + b"x" * 999 + b"\n" + b"y" * 999 + b"\n" + b"z" * 999 + b"\n")
    copying = HostFollower(transport, str(path), target)
    copying.skip_to_last(lines)
    copying.copy()
    assert len(target.getvalue()) == lines * 1000
    first = transport.moved
    assert first <= (1 << 16) + lines * 1000
    added = 0
    for _ in range(50):
        with open(path, "ab") as file:
            added += file.write(b"n" * 1023 + b"\n")
        assert copying.copy()
    assert transport.moved - first < 2 * added
    assert len(target.getvalue()) == lines * 1000 + added
    copying.close()
    transport.close()
