"""What the watch of every transport must do: a part of ``TransportSuite``; and what all of that shares."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from ..transports.base import Appeared, PathMissing, Transport, TransportClosed, Watch
from .polling import LONG_S

__all__ = ["HOSTILE", "NAMES", "WatchSuite", "await_names"]

# What must arrive unchanged: each is a word, a variable's value and a file's name.
HOSTILE = (
    "",
    " ",
    "a b",
    "-n",
    "--",
    "$HOME `id` $(id) ${x}",
    "'\"\\",
    "a\nb\n",
    "\t\r\x01\x1b[31m",
    "é∀🦉",
    "\udcff\udc80",
    "*?[a-z]~",
    "a=b;c&d|e>f<g",
    "%d%s%n",
    "x" * 100_000,
)
NAMES = tuple(word for word in HOSTILE if word not in ("", "-n") and len(word) < 200)


def await_names(watch: Watch, wanted: set[str], timeout_s: float = LONG_S) -> list[Appeared]:
    """All that the watch tells until these names are among it."""
    found: list[Appeared] = []
    deadline = time.monotonic() + timeout_s
    while not wanted <= {item.name for item in found}:
        assert time.monotonic() < deadline, f"{wanted - {item.name for item in found}} did not appear within {timeout_s:g} s"
        found += watch.wait(deadline - time.monotonic())
    return found


def _file(path: Path) -> Path:
    path.write_bytes(b"")
    return path


class WatchSuite:
    """Inherited by ``TransportSuite``, which says how it is used."""

    latency_s = 0.5  # from a name's appearance to its being told, at most, on a busy machine

    @pytest.fixture
    def transport(self) -> Transport:
        raise NotImplementedError("define the fixture 'transport'")

    @pytest.fixture
    def host_path(self, tmp_path: Path) -> Path:
        return tmp_path

    def test_a_watch_tells_names_at_once(self, transport: Transport, host_path: Path) -> None:
        late: list[float] = []
        with transport.watch([str(host_path)]) as watch:
            for number in range(20):
                written: list[float] = []

                def write(number: int = number, written: list[float] = written) -> None:
                    (host_path / "temporary").write_bytes(b"x")
                    written.append(time.monotonic())
                    os.rename(host_path / "temporary", host_path / f"name{number}")

                timer = threading.Timer(0.01, write)
                timer.start()
                await_names(watch, {f"name{number}"})
                late.append(time.monotonic() - written[0])
                timer.join()
        assert sorted(late)[len(late) // 4] < self.latency_s, late  # who only looks now and then is late each time

    def test_a_watch_tells_what_is_there_already(self, transport: Transport, host_path: Path) -> None:
        (host_path / "early").write_bytes(b"")
        with transport.watch([str(host_path)]) as watch:
            assert await_names(watch, {"early"}) == [Appeared(str(host_path), "early")]

    def test_a_watch_tells_links_and_folders(self, transport: Transport, host_path: Path) -> None:
        (host_path / "sub").mkdir()
        folder = host_path / "folder"
        folder.mkdir()
        with transport.watch([str(folder)]) as watch:
            os.link(_file(host_path / "file"), folder / "hard")
            (folder / "made").mkdir()
            await_names(watch, {"hard", "made"})

    def test_a_watch_tells_only_the_names_asked_for(self, transport: Transport, host_path: Path) -> None:
        with transport.watch([str(host_path)], prefix="receipt.") as watch:
            for name in ("other", "receipt.1", "xreceipt.2", "receipt.3"):
                _file(host_path / name)
            found = await_names(watch, {"receipt.1", "receipt.3"})
        assert {item.name for item in found} == {"receipt.1", "receipt.3"}

    @pytest.mark.parametrize("name", NAMES)
    def test_a_watch_tells_names_unchanged(self, transport: Transport, host_path: Path, name: str) -> None:
        with transport.watch([str(host_path)]) as watch:
            _file(host_path / f"n{name}")
            await_names(watch, {f"n{name}"})

    def test_a_watch_of_many_folders(self, transport: Transport, host_path: Path) -> None:
        folders = [host_path / str(number) for number in range(1000)]
        for folder in folders:
            folder.mkdir()
        with transport.watch(map(str, folders)) as watch:
            for folder in folders[::100]:
                _file(folder / f"in{folder.name}")
            found = await_names(watch, {f"in{folder.name}" for folder in folders[::100]})
            assert {(item.folder, item.name) for item in found} == {(str(folder), f"in{folder.name}") for folder in folders[::100]}
            watch.discard(map(str, folders[:500]))
            _file(folders[0] / "unseen")
            _file(folders[999] / "seen")
            assert {item.name for item in await_names(watch, {"seen"})} == {"seen"}

    def test_a_watched_folder_may_vanish_and_come_again(self, transport: Transport, host_path: Path) -> None:
        folder = host_path / "folder"
        folder.mkdir()
        with transport.watch([str(folder), str(host_path)]) as watch:
            folder.rmdir()
            _file(host_path / "other")
            await_names(watch, {"other"})
            folder.mkdir()
            watch.discard([str(folder)])
            watch.add([str(folder)])
            _file(folder / "again")
            await_names(watch, {"again"})

    def test_a_missing_folder_cannot_be_watched(self, transport: Transport, host_path: Path) -> None:
        with transport.watch() as watch:
            with pytest.raises(PathMissing, match="nothing"):
                watch.add([str(host_path / "nothing")])
            watch.add([str(host_path)])
            _file(host_path / "file")
            await_names(watch, {"file"})

    def test_folders_are_added_while_another_thread_waits(self, transport: Transport, host_path: Path) -> None:
        with transport.watch() as watch:
            found: list[Appeared] = []
            waiter = threading.Thread(target=lambda: found.extend(await_names(watch, {"file"})))
            waiter.start()
            watch.add([str(host_path)])
            _file(host_path / "file")
            waiter.join(30)
        assert {item.name for item in found} == {"file"}

    def test_a_wait_ends_by_time_by_wake_and_by_close(self, transport: Transport, host_path: Path) -> None:
        watch = transport.watch([str(host_path)])
        began = time.monotonic()
        assert list(watch.wait(0.05)) == []
        assert 0.04 < time.monotonic() - began < 20
        watch.wake()
        assert list(watch.wait(None)) == []
        timer = threading.Timer(0.05, watch.wake)
        timer.start()
        assert list(watch.wait(None)) == []
        timer.join()
        timer = threading.Timer(0.05, watch.close)
        timer.start()
        with pytest.raises(TransportClosed):
            watch.wait(None)
        timer.join()
        for call in (lambda: watch.add([str(host_path)]), lambda: watch.wait(0)):
            with pytest.raises(TransportClosed):
                call()
        watch.discard([str(host_path)])
        watch.close()
