"""Files and folders to and from a login host: what is brought, what is not, and what is left when it goes wrong."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.errors import TransportError
from jobyard.node import helper_wire as wire
from jobyard.node import receiving, transfer
from jobyard.testing.watch_suite import NAMES
from jobyard.transports import openssh_many, openssh_sync
from jobyard.transports.base import Copy, PathError, PathMissing, Timeouts, TransferTimeout
from jobyard.transports.openssh import OpenSSHTransport
from jobyard.transports.openssh_sync import Transferred, pull, push
from transports.sshd import Sshd

Bring = Callable[..., Transferred]
BOTH = pytest.mark.parametrize("bring", [push, pull], ids=["push", "pull"])


@pytest.fixture
def transport(sshd: Sshd) -> Iterator[OpenSSHTransport]:
    made = sshd.transport()
    yield made
    made.close()


def tree(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """All that is in a folder, as it is."""
    found: dict[bytes, tuple[object, ...]] = {}
    top = os.fsencode(folder)
    for where, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = os.path.join(where, name)
            one = os.lstat(path)
            key = os.path.relpath(path, top)
            if stat.S_ISLNK(one.st_mode):
                found[key] = ("link", os.readlink(path))
            elif stat.S_ISDIR(one.st_mode):
                found[key] = ("folder", stat.S_IMODE(one.st_mode), one.st_mtime_ns)
            else:
                with open(path, "rb") as file:
                    found[key] = ("file", stat.S_IMODE(one.st_mode), one.st_mtime_ns, file.read())
    return found


def plant(folder: Path) -> Path:
    """A tree with all that can be brought."""
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "empty").mkdir(mode=0o750)
    for number, name in enumerate(NAMES):
        (folder / f"n{name}").write_bytes(os.urandom(number * 1000))
    (folder / "deep" / "large").write_bytes(os.urandom(1_000_003))
    (folder / "deep" / "program").write_bytes(b"#!/bin/sh\n")
    (folder / "deep" / "program").chmod(0o755)
    (folder / "deep" / "deeper" / "up").symlink_to("../../deep/large")
    (folder / "dangling").symlink_to("nothing/here")
    os.utime(folder / "deep" / "large", ns=(10**18 + 7, 10**18 + 123456789))
    (folder / "deep" / "deeper").chmod(0o500)
    os.utime(folder / "empty", ns=(10**18, 10**18))
    return folder


@BOTH
def test_a_tree_is_brought_as_it_is_and_only_once(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    source, target = plant(tmp_path / "from"), tmp_path / "to" / "there"
    calls: list[tuple[int, int]] = []
    done = bring(transport, str(source), str(target), lambda sent, total, _name: calls.append((sent, total)))
    assert tree(target) == tree(source)
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(source.stat().st_mode)
    files = sum(kind[0] != "folder" for kind in tree(source).values())
    assert (done.files, done.unchanged) == (files, 0)
    assert done.size_bytes == sum(path.lstat().st_size for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    assert calls[-1][0] == calls[-1][1] == done.size_bytes
    assert [sent for sent, _ in calls] == sorted(sent for sent, _ in calls)
    again = bring(transport, str(source), str(target))
    assert again == Transferred(0, files, 0)
    (source / "deep" / "program").write_bytes(b"#!/bin/bash\n")
    assert bring(transport, str(source), str(target)).files == 1
    assert tree(target) == tree(source)


@BOTH
def test_one_file_under_a_name_and_into_a_folder(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"content")
    os.utime(source, ns=(10**18, 10**18 + 5))
    (tmp_path / "folder").mkdir()
    bring(transport, str(source), str(tmp_path / "made" / "other name"))
    bring(transport, str(source), f"{tmp_path / 'folder'}/")
    for target in (tmp_path / "made" / "other name", tmp_path / "folder" / "file"):
        assert target.read_bytes() == b"content"
        assert target.stat().st_mtime_ns == 10**18 + 5
    assert bring(transport, str(source), f"{tmp_path / 'folder'}/") == Transferred(0, 1, 0)
    with pytest.raises(PathError, match="is a folder"):
        bring(transport, str(source), str(tmp_path / "folder"))
    with pytest.raises(PathError, match="no folder"):
        bring(transport, str(tmp_path / "folder"), str(source))
    with pytest.raises(PathMissing, match="nothing"):
        bring(transport, str(tmp_path / "nothing"), str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


@BOTH
@pytest.mark.parametrize("link", ["/etc/passwd", "..", "../out", "deep/../../out", "deep/../x"])
def test_links_that_could_lead_out_are_refused_before_anything_is_sent(
    transport: OpenSSHTransport, bring: Bring, tmp_path: Path, link: str
) -> None:
    source = tmp_path / "from"
    (source / "deep").mkdir(parents=True)
    (source / "a file").write_bytes(b"x")
    (source / "link").symlink_to(link)
    with pytest.raises(PathError, match="link"):
        bring(transport, str(source), str(tmp_path / "to"))
    assert not (tmp_path / "to").exists()


@BOTH
def test_nothing_is_written_through_a_link_that_is_there(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    source, target, outside = tmp_path / "from", tmp_path / "to", tmp_path / "outside"
    for folder in (source / "deep", target, outside):
        folder.mkdir(parents=True)
    (source / "deep" / "file").write_bytes(b"x")
    (target / "deep").symlink_to(outside)
    with pytest.raises(PathError):
        bring(transport, str(source), str(target))
    assert os.listdir(outside) == []


@BOTH
def test_a_pipe_is_not_brought(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    os.mkfifo(tmp_path / "from" / "pipe")
    with pytest.raises(PathError, match="pipe"):
        bring(transport, str(tmp_path / "from"), str(tmp_path / "to"))


@BOTH
def test_a_large_file_goes_on_where_it_was_cut(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    """The connection breaks in the middle: the next one sends the rest. Nothing else than the file is left."""
    source, target = tmp_path / "large", tmp_path / "to" / "large"
    source.write_bytes(os.urandom(1 << 20) * 60)
    size = source.stat().st_size
    totals: list[int] = []

    def cut(sent: int, total: int, _name: str) -> None:
        if total not in totals:
            totals.append(total)
        if len(totals) == 1 and sent > size // 2:
            transport.connection.abort()

    bring(transport, str(source), str(target), cut)
    assert target.read_bytes() == source.read_bytes()
    assert os.listdir(target.parent) == ["large"]
    assert transport.connection.links_made == 2
    assert totals[0] == size
    assert 0 < totals[-1] < size


@BOTH
def test_a_host_on_which_nothing_moves_is_told(sshd: Sshd, bring: Bring, tmp_path: Path) -> None:
    """Its helper stands still in the middle, while the connection lives; the next try goes on."""
    source, target = tmp_path / "large", tmp_path / "to" / "large"
    source.write_bytes(os.urandom(1 << 20) * 20)
    transport = OpenSSHTransport(sshd.settings(), timeouts=Timeouts(transfer_s=1.0))
    helper = transport.identity.pid
    stopped: list[int] = []

    def stop(sent: int, _total: int, _name: str) -> None:
        if sent > 5 << 20 and not stopped:
            os.kill(helper, signal.SIGSTOP)
            stopped.append(sent)

    try:
        with pytest.raises(TransferTimeout, match="nothing moved for 1 s"):
            bring(transport, str(source), str(target), stop)
        assert not target.exists()
    finally:
        os.kill(helper, signal.SIGCONT)
        transport.close()
    again = sshd.transport()
    try:
        bring(again, str(source), str(target))
    finally:
        again.close()
    assert target.read_bytes() == source.read_bytes()
    assert os.listdir(target.parent) == ["large"]


@BOTH
def test_a_part_that_is_not_of_this_file_is_not_used(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    source, target = tmp_path / "large", tmp_path / "to" / "large"
    source.write_bytes(os.urandom(1 << 20) * 10)
    target.parent.mkdir()
    found = source.stat()
    part = target.parent / os.fsdecode(transfer.part_name(b"large", found.st_size, found.st_mtime_ns))
    part.write_bytes(b"something else" * 1000)
    bring(transport, str(source), str(target))
    assert target.read_bytes() == source.read_bytes()
    assert os.listdir(target.parent) == ["large"]


@BOTH
def test_a_file_that_cannot_be_read_is_named_and_the_others_come(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    source = tmp_path / "from"
    source.mkdir()
    for name in ("a", "closed", "z"):
        (source / name).write_bytes(name.encode())
    (source / "closed").chmod(0)
    with pytest.raises(PathError, match="closed"):
        bring(transport, str(source), str(tmp_path / "to"))
    assert sorted(os.listdir(tmp_path / "to")) == ["a", "z"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.getuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@BOTH
@pytest.mark.parametrize("size", [3_000_000, 20_000_000])
def test_a_full_disk_is_told_and_nothing_half_done_is_left(
    transport: OpenSSHTransport, bring: Bring, tmp_path: Path, small_disk: Path, size: int
) -> None:
    source = tmp_path / "from"
    source.mkdir()
    (source / "large").write_bytes(b"x" * size)
    with pytest.raises(PathError, match=r"(?i)no space left") as caught:
        bring(transport, str(source), str(small_disk / "to"))
    assert "free some space" in str(caught.value)
    assert caught.value.errno == 28
    assert caught.value.filename == str(small_disk / "to" / "large")
    assert os.listdir(small_disk / "to") == []
    with pytest.raises(PathError, match=r"(?i)no space left"):
        transport.put(str(source / "large"), str(small_disk / "put"))
    assert os.listdir(small_disk) == ["to"]


@BOTH
def test_a_target_that_cannot_be_is_told(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "tree").mkdir()
    for source in ("file", "tree"):
        with pytest.raises(PathError, match="Not a directory") as caught:
            bring(transport, str(tmp_path / source), str(tmp_path / "file" / "below"))
        assert caught.value.filename == str(tmp_path / "file" / "below")


@BOTH
def test_a_link_may_name_the_folder_that_is_brought_to(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    source, real = plant(tmp_path / "from"), tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to("real")
    bring(transport, str(source), str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert tree(real) == tree(source)
    assert stat.S_IMODE(real.stat().st_mode) == stat.S_IMODE(source.stat().st_mode)
    assert bring(transport, str(source), str(tmp_path / "link")).files == 0


@BOTH
def test_no_file_takes_the_place_of_a_pipe(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    """Nor of a device, which root could replace."""
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "pipe").write_bytes(b"x")
    (tmp_path / "to").mkdir()
    os.mkfifo(tmp_path / "to" / "pipe")
    for source, target in (("from/pipe", "to/pipe"), ("from/pipe", "to/"), ("from", "to")):
        with pytest.raises(PathError, match="is there already"):
            bring(transport, str(tmp_path / source), f"{tmp_path}/{target}")
    assert stat.S_ISFIFO((tmp_path / "to" / "pipe").stat().st_mode)
    assert os.listdir(tmp_path / "to") == ["pipe"]


@BOTH
def test_a_folder_that_is_closed_to_writing_is_brought_again(transport: OpenSSHTransport, bring: Bring, tmp_path: Path) -> None:
    """Its own mode comes last, and does not forbid what is brought into it, then or later."""
    source, target = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    for content in (b"one", b"other"):
        source.chmod(0o700)
        (source / "file").write_bytes(content)
        source.chmod(0o500)
        bring(transport, str(source), str(target))
        assert (target / "file").read_bytes() == content
        assert stat.S_IMODE(target.stat().st_mode) == 0o500
    source.chmod(0o700)
    target.chmod(0o700)


def test_what_went_and_what_breaks_while_it_is_read_is_named(
    transport: OpenSSHTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "from"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_bytes(b"x")
    records = transfer.records

    def going(*words: Any) -> Iterator[Any]:
        (source / "a").unlink()
        return records(*words)

    monkeypatch.setattr(transfer, "records", going)
    with pytest.raises(PathError, match=r"meanwhile.*all others were") as caught:
        push(transport, str(source), str(tmp_path / "to"))
    assert (caught.value.filename, caught.value.errno) == (str(source / "a"), 2)
    assert os.listdir(tmp_path / "to") == ["b"]
    monkeypatch.undo()

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    (source / "b").write_bytes(b"longer")
    monkeypatch.setattr(os, "readv", _broken_for(source / "b", os.readv, broken))
    with pytest.raises(PathError, match="Input/output") as caught:
        push(transport, str(source), str(tmp_path / "to"))
    assert caught.value.filename == str(source / "b")
    assert (tmp_path / "to" / "b").read_bytes() == b"x"


def _broken_for(path: Path, real: Callable[..., int], broken: Callable[..., int]) -> Callable[..., int]:
    def readv(fd: int, buffers: Any) -> int:
        return broken() if os.readlink(f"/proc/self/fd/{fd}") == str(path) else real(fd, buffers)

    return readv


def test_two_that_bring_the_same_long_file_do_not_spoil_it(tmp_path: Path) -> None:
    """They write to the same part, and one of them is done, or given up, before the other."""
    source = tmp_path / "from"
    source.mkdir()
    (source / "long").write_bytes(os.urandom(1 << 20) * 10)
    entries = list(transfer.scan(os.fsencode(source)))
    stream = b"".join(map(bytes, transfer.records(os.fsencode(source), entries, {}, {})))
    half = len(stream) // 2
    for end in ("given up", "done"):
        target = tmp_path / end
        target.mkdir()
        one, other = (receiving.Receiver(os.fsencode(target)) for _ in range(2))
        one.feed(stream[:half])
        other.feed(stream[: half // 2])
        one.feed(stream[half:])
        one.finish()
        one.close()
        assert (target / "long").read_bytes() == (source / "long").read_bytes()
        if end == "done":
            other.feed(stream[half // 2 :])
            other.finish()
        other.close()
        assert one.errors == other.errors == []
        assert (target / "long").read_bytes() == (source / "long").read_bytes()
        assert os.listdir(target) == ["long"]


def test_a_file_that_changes_while_it_is_sent_is_not_taken(transport: OpenSSHTransport, tmp_path: Path) -> None:
    source = tmp_path / "from"
    source.mkdir()
    (source / "log").write_bytes(b"x" * 3_000_000)

    def change(sent: int, _total: int, _name: str) -> None:
        with open(source / "log", "ab") as file:
            file.write(b"more")

    with pytest.raises(PathError, match="changed"):
        push(transport, str(source), str(tmp_path / "to"), change)
    assert os.listdir(tmp_path / "to") == []


def test_a_long_way_takes_a_wider_window(sshd: Sshd, tmp_path: Path) -> None:
    """As far as answers show it; before that, and near by, the window is the smaller one."""
    config = tmp_path / "config"
    proxy = f"{sys.executable} {Path(__file__).with_name('far.py')} {sshd.port} 0.01"
    config.write_text(f"Host *\n    ProxyCommand {proxy}\n" + sshd.config.read_text().partition("\n")[2])
    transport = sshd.transport(config=str(config))
    try:
        assert transport.link().window == wire.WINDOW
        source = tmp_path / "from"
        source.write_bytes(os.urandom(3 * wire.WINDOW_FAR))
        push(transport, str(source), str(tmp_path / "there"))
        assert transport.link().window == wire.WINDOW_FAR
        pull(transport, str(tmp_path / "there"), str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == source.read_bytes()
    finally:
        transport.close()


def test_commands_go_on_while_a_file_is_sent(transport: OpenSSHTransport, tmp_path: Path) -> None:
    source = tmp_path / "large"
    with open(source, "wb") as file:
        file.truncate(200_000_000)
    thread = threading.Thread(target=push, args=(transport, str(source), str(tmp_path / "to" / "large")))
    transport.link()
    thread.start()
    looks = 0
    while thread.is_alive():
        transport.stat("/")
        looks += 1
    thread.join()
    assert looks > 3
    assert (tmp_path / "to" / "large").stat().st_size == 200_000_000


def test_many_files_arrive_though_the_connection_breaks(
    transport: OpenSSHTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of going up, and of coming down; those that came before the cut are not brought again."""
    up, down = [], []
    (tmp_path / "from").mkdir()
    for number in range(40):
        source = tmp_path / "from" / f"f{number}"
        source.write_bytes(os.urandom(100_000))
        up.append(Copy(str(source), str(tmp_path / "there" / source.name)))
        down.append(Copy(up[-1].target, str(tmp_path / "back" / source.name)))
    send_part, sent = transport.send_part, iter(range(1000))

    def cutting(*words: Any) -> bool:
        if next(sent) == 5:
            transport.connection.abort()
        return send_part(*words)

    monkeypatch.setattr(transport, "send_part", cutting)
    transport.put_many(up)
    ended: list[str] = []
    end_file = receiving.Placed._end_file

    def noting(self: receiving.Placed, *words: int) -> None:
        assert self._entry is not None
        ended.append(self._targets[int(self._entry[0])].decode())
        end_file(self, *words)
        if len(ended) == 7:
            transport.connection.abort()

    monkeypatch.setattr(receiving.Placed, "_end_file", noting)
    transport.get_many(down)
    assert transport.connection.links_made == 3
    assert len(ended) == len(set(ended)) == 40
    for name in ("there", "back"):
        assert tree(tmp_path / name).keys() == tree(tmp_path / "from").keys()
    for copy in down:
        assert Path(copy.target).read_bytes() == Path(copy.source).read_bytes()


@pytest.mark.parametrize("way", ["put_many", "get_many"])
def test_among_many_a_long_file_goes_on_and_one_that_grows_is_taken(
    transport: OpenSSHTransport, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, log = tmp_path / "long", tmp_path / "log"
    long.write_bytes(os.urandom(1 << 20) * 40)
    log.write_bytes(b"line\n" * 100)
    os.utime(log, ns=(10**18, 10**18))
    (tmp_path / "to").mkdir()
    found = long.stat()
    part = tmp_path / "to" / os.fsdecode(transfer.part_name(b"long", found.st_size, found.st_mtime_ns))
    part.write_bytes(long.read_bytes()[: 30 << 20])
    moved: list[int] = []
    give, take = openssh_sync.give, openssh_sync.take

    def given(transport: Any, arguments: Any, blocks: Any, told: Any, *more: Any) -> Any:
        return give(transport, arguments, growing(blocks), moved.append, *more)

    def growing(blocks: Iterator[Any]) -> Iterator[Any]:
        log.write_bytes(b"line\n" * 200)
        yield from blocks

    def taken(transport: Any, arguments: Any, body: Any, receiver: Any, told: Any, source: Any) -> None:
        log.write_bytes(b"line\n" * 200)
        take(transport, arguments, body, receiver, moved.append, source)

    monkeypatch.setattr(openssh_many, "give", given)
    monkeypatch.setattr(openssh_many, "take", taken)
    copies = [Copy(str(one), str(tmp_path / "to" / one.name), 0o600) for one in (long, log)]
    getattr(transport, way)(copies)
    assert (tmp_path / "to" / "long").read_bytes() == long.read_bytes()
    assert (tmp_path / "to" / "log").read_bytes() == b"line\n" * 200
    assert sorted(os.listdir(tmp_path / "to")) == ["log", "long"]
    assert 10 << 20 <= sum(moved) < 11 << 20


# What a host may send -------------------------------------------------------------------------------------------------

ENTRY = ["a", "f", 3, 5, 0o644, None]


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../b", "a//b", ".", "a/.", "x\0y"])
def test_names_that_lead_out_are_not_written(tmp_path: Path, name: str) -> None:
    import json

    receiver = receiving.Receiver(os.fsencode(tmp_path))
    with pytest.raises(transfer.TransferError):
        receiver.feed(json.dumps([name, "d", 0, 0, 0o700, None, 0]).encode() + b"\n")
    receiver.close()
    assert os.listdir(tmp_path) == []


def test_what_was_not_asked_for_is_not_written(tmp_path: Path) -> None:
    receiver = receiving.Receiver(os.fsencode(tmp_path), {"wanted"})
    with pytest.raises(transfer.TransferError, match="not asked"):
        receiver.feed(b'["other","d",0,0,448,null,0]\n')
    receiver.close()
    assert os.listdir(tmp_path) == []


@given(
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace") + b"\n"), st.integers(1, 50)
)
def test_any_bytes_are_records_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, step: int) -> None:
    folder = tmp_path_factory.mktemp("records")
    receiver = receiving.Receiver(os.fsencode(folder))
    try:
        for at in range(0, len(data), step):
            receiver.feed(data[at : at + step])
        receiver.finish()
    except (transfer.TransferError, OSError):
        pass
    finally:
        receiver.close()
    assert os.listdir(folder.parent / folder.name) == []


@given(st.lists(st.sampled_from([b"..", b".", b"", b"a", b"b"]), min_size=1, max_size=6), st.integers(0, 3))
def test_a_link_that_is_brought_cannot_lead_out(parts: list[bytes], depth: int) -> None:
    """Whatever the names in its target are: links to folders of the tree at any depth, the rule holds for each step."""
    target, name = b"/".join(parts) or b".", b"/".join([b"d"] * depth + [b"link"])
    if transfer.link_problem(name, target) is not None:
        return
    at = depth
    for part in [one for one in target.split(b"/") if one not in (b"", b".")]:
        at = at - 1 if part == b".." else 0  # a name may be a link to the top itself
        assert at >= 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.binary(max_size=300), st.integers(0, 0o777), st.integers(0, 2**60)),
        unique_by=lambda one: one[0],
    ),
    st.integers(1, 400),
)
def test_records_arrive_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes, int, int]], step: int
) -> None:
    source, target = tmp_path_factory.mktemp("from"), tmp_path_factory.mktemp("to")
    for name, content, mode, time_ns in files:
        (source / name).write_bytes(content)
        (source / name).chmod(mode | 0o400)
        os.utime(source / name, ns=(time_ns, time_ns))
    records = transfer.records(os.fsencode(source), list(transfer.scan(os.fsencode(source))), {}, {})
    stream = b"".join(map(bytes, records))
    receiver = receiving.Receiver(os.fsencode(target))
    for at in range(0, len(stream), step):
        receiver.feed(stream[at : at + step])
    receiver.finish()
    receiver.close()
    assert receiver.errors == []
    assert tree(target) == tree(source)


def test_a_long_file_is_read_into_one_buffer(tmp_path: Path) -> None:
    """Its blocks are whole whatever the size, and what is sent of a file that became shorter is said to be nothing."""
    source, target = tmp_path / "from", tmp_path / "to"
    for folder in (source, target):
        folder.mkdir()
    size = 3 * transfer.BLOCK + 17
    (source / "long").write_bytes(os.urandom(size))
    (source / "shorter").write_bytes(os.urandom(size))
    receiver = receiving.Receiver(os.fsencode(target))
    for block in transfer.records(os.fsencode(source), list(transfer.scan(os.fsencode(source))), {}, {}):
        receiver.feed(block)
        os.truncate(source / "shorter", transfer.BLOCK)
    receiver.finish()
    receiver.close()
    assert [error[:2] for error in receiver.errors] == [["shorter", "EAGAIN"]]
    assert os.listdir(target) == ["long"]
    assert (target / "long").read_bytes() == (source / "long").read_bytes()


def test_a_transport_error_is_not_an_os_error_of_ours() -> None:
    assert issubclass(PathError, TransportError)
    assert issubclass(PathError, OSError)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**62, 2**70)
    | st.text(max_size=3)
    | st.lists(st.integers(), max_size=2)
)
KINDS = st.sampled_from(["f", "d", "l", "o", "e"])
HOSTILE_NAMES = st.sampled_from(["a", "a/b", "\ud800", "\udcff", "x\0y", "..", ""])


@given(
    st.lists(st.tuples(HOSTILE_NAMES | VALUES, KINDS | VALUES, VALUES, VALUES, VALUES, HOSTILE_NAMES | VALUES, VALUES), max_size=5)
)
def test_records_with_any_values_are_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[Any, ...]]
) -> None:
    """Nothing but what callers expect is raised, and nothing is left outside, or half-written."""
    import json

    folder = tmp_path_factory.mktemp("records")
    (folder / "in").mkdir()
    receiver = receiving.Receiver(os.fsencode(folder / "in"))
    try:
        for line in lines:
            receiver.feed(json.dumps(line).encode() + b"\n")
        receiver.finish()
    except (transfer.TransferError, OSError):
        pass
    finally:
        receiver.close()
    assert os.listdir(folder) == ["in"]
    assert not [name for name in os.listdir(folder / "in") if name.endswith(".part")]


def test_among_many_one_that_goes_keeps_none_of_the_others(
    transport: OpenSSHTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changed, was to be copied by itself, and was gone by then."""
    (tmp_path / "stays").write_bytes(b"x")
    copies = [Copy(str(tmp_path / name), str(tmp_path / "to" / name)) for name in ("goes", "stays")]
    put = openssh_many._put

    def changed(transport: OpenSSHTransport, batch: list[Copy]) -> Any:
        return [(copies[0], None)] if batch == copies[:1] else put(transport, batch)

    monkeypatch.setattr(openssh_many, "_put", changed)
    monkeypatch.setattr(openssh_many, "_BATCH", 1)
    with pytest.raises(PathMissing, match="goes"):
        transport.put_many(copies)
    assert os.listdir(tmp_path / "to") == ["stays"]
