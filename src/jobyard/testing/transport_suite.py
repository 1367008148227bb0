"""What every transport must do: inherit ``TransportSuite`` in a test module, and give it the fixture ``transport``.

``host_path`` (a folder on the host, as both sides see it) defaults to ``tmp_path``: for transports to this machine.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ..errors import TransportError
from ..transports.base import (
    Command,
    CommandRefused,
    CommandTimeout,
    Copy,
    FileKind,
    PathDenied,
    PathError,
    PathExists,
    PathMissing,
    ProgramMissing,
    Result,
    Transport,
    TransportClosed,
)
from .polling import assert_gone
from .watch_suite import HOSTILE, NAMES, WatchSuite, await_names

__all__ = ["TransportSuite", "assert_gone", "await_names", "run"]

_ECHO = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(os.fsencode(w) for w in sys.argv[1:]))"
_BOTH = """
import os, sys, threading
def write(fd, letter, size):
    block = letter * 65536
    while size:
        size -= os.write(fd, block[:size])
threads = [threading.Thread(target=write, args=(fd, letter, int(sys.argv[1]))) for fd, letter in ((1, b"o"), (2, b"e"))]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def _python(code: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code, *words)


def run(transport: Transport, *argv: str, timeout_s: float = 60.0) -> Result:
    """One command, without more."""
    return transport.run(Command(argv=argv, timeout_s=timeout_s))


class TransportSuite(WatchSuite):
    """Inherit it, and define the fixture ``transport``."""

    # Commands

    def test_tells_exit_code_and_both_streams(self, transport: Transport) -> None:
        result = run(transport, "/bin/sh", "-c", "echo out; echo err >&2; exit 7")
        assert (result.returncode, result.stdout, result.stderr) == (7, b"out\n", b"err\n")
        assert result.argv[0] == "/bin/sh"
        assert 0 < result.duration_s < 30

    @pytest.mark.parametrize("code", [0, 1, 127, 128, 137, 255])
    def test_tells_every_exit_code(self, transport: Transport, code: int) -> None:
        assert run(transport, "/bin/sh", "-c", f"exit {code}").returncode == code

    @pytest.mark.parametrize("number", [1, 9, 11, 15])
    def test_tells_the_signal(self, transport: Transport, number: int) -> None:
        assert run(transport, "/bin/sh", "-c", f"kill -{number} $$").returncode == -number

    def test_takes_output_of_any_size_on_both_streams(self, transport: Transport) -> None:
        size = 50_000_000
        result = run(transport, *_python(_BOTH, str(size)))
        assert result.returncode == 0, result.stderr[-500:]
        assert result.stdout.count(b"o") == len(result.stdout) == size
        assert result.stderr.count(b"e") == len(result.stderr) == size

    def test_gives_standard_input_of_any_size(self, transport: Transport) -> None:
        data = os.urandom(1 << 20) * 20
        result = transport.run(Command(argv=("/bin/cat",), stdin=data))
        assert result.stdout == data

    def test_gives_an_empty_standard_input_where_there_is_none(self, transport: Transport) -> None:
        assert run(transport, "/bin/cat").stdout == b""

    def test_a_command_that_does_not_read_its_input_is_no_error(self, transport: Transport) -> None:
        result = transport.run(Command(argv=("/bin/true",), stdin=b"x" * 10_000_000))
        assert result.returncode == 0

    def test_words_arrive_unchanged(self, transport: Transport) -> None:
        result = run(transport, *_python(_ECHO, *HOSTILE))
        assert result.stdout.split(b"\0") == [os.fsencode(word) for word in HOSTILE]

    def test_variables_arrive_unchanged(self, transport: Transport) -> None:
        environment = {f"V{number}": word for number, word in enumerate(HOSTILE)}
        result = transport.run(Command(argv=("/usr/bin/env", "-0"), environment=environment))
        got = dict(item.split(b"=", 1) for item in result.stdout.split(b"\0") if item)
        for key, value in environment.items():
            assert got[key.encode()] == os.fsencode(value)

    def test_variables_are_added_to_the_hosts_own(self, transport: Transport) -> None:
        result = transport.run(Command(argv=("/usr/bin/env", "-0"), environment={"ADDED": "1"}))
        got = dict(item.split(b"=", 1) for item in result.stdout.split(b"\0") if item)
        assert got.pop(b"ADDED") == b"1"
        assert got[b"PATH"] == os.fsencode(transport.environment()["PATH"])

    def test_variables_are_kept_from_a_command(self, transport: Transport) -> None:
        command = Command(argv=("/usr/bin/env",), without=("HO_", "PATH", "HOME_"), environment={"HOME_OF": "ours"})
        names = {line.partition(b"=")[0] for line in transport.run(command).stdout.splitlines()}
        assert b"PATH" not in names
        assert {b"HOME", b"HOME_OF"} <= names

    def test_runs_in_a_directory_of_any_name(self, transport: Transport, host_path: Path) -> None:
        for name in NAMES:
            folder = host_path / f"d{name}"
            folder.mkdir()
            result = transport.run(Command(argv=("/bin/pwd", "-P"), directory=str(folder)))
            assert result.stdout == os.fsencode(f"{folder.resolve()}\n")

    def test_finds_programs_on_the_hosts_path(self, transport: Transport) -> None:
        assert run(transport, "true").returncode == 0

    def test_a_missing_program_is_named(self, transport: Transport) -> None:
        with pytest.raises(ProgramMissing, match=f"(?s){transport.name}.*no-such-program.*install") as info:
            run(transport, "no-such-program", "-x")
        assert info.value.program == "no-such-program"
        assert not info.value.retryable

    def test_what_cannot_be_executed_is_refused(self, transport: Transport, host_path: Path) -> None:
        path = host_path / "plain"
        path.write_text("no program")
        path.chmod(0o600)
        with pytest.raises(CommandRefused, match="plain"):
            run(transport, str(path))

    def test_a_missing_directory_is_told_apart_from_a_missing_program(self, transport: Transport, host_path: Path) -> None:
        with pytest.raises(CommandRefused, match="nowhere") as info:
            transport.run(Command(argv=("/bin/true",), directory=str(host_path / "nowhere")))
        assert not isinstance(info.value, ProgramMissing)

    def test_control_characters_in_errors_are_escaped(self, transport: Transport) -> None:
        with pytest.raises(ProgramMissing) as info:
            run(transport, "no\x1b[31m\nsuch\udcff")
        assert str(info.value).isprintable()

    def test_a_time_out_kills_the_whole_process_group(self, transport: Transport, host_path: Path) -> None:
        pid_file = host_path / "pid"
        began = time.monotonic()
        with pytest.raises(CommandTimeout, match=r"within 0\.5 s") as info:
            run(transport, "/bin/sh", "-c", 'echo before; sleep 600 & echo $! > "$1"; wait', "sh", str(pid_file), timeout_s=0.5)
        assert time.monotonic() - began < 20
        assert info.value.result.stdout == b"before\n"
        assert info.value.retryable
        assert_gone(int(pid_file.read_text()))

    def test_a_time_out_ends_what_ignores_term(self, transport: Transport, host_path: Path) -> None:
        pid_file = host_path / "pid"
        with pytest.raises(CommandTimeout):
            run(
                transport,
                "/bin/sh",
                "-c",
                'trap "" TERM; echo $$ > "$1"; while :; do sleep 600; done',
                "sh",
                str(pid_file),
                timeout_s=0.5,
            )
        assert_gone(int(pid_file.read_text()))

    def test_what_a_command_leaves_behind_does_not_delay_its_answer(self, transport: Transport) -> None:
        result = run(transport, "/bin/sh", "-c", "sleep 20 & echo $!; exit 3")
        try:
            assert result.returncode == 3
            assert result.duration_s < 10
        finally:
            os.kill(int(result.stdout), 9)

    def test_a_slow_command_delays_no_other(self, transport: Transport, host_path: Path) -> None:
        gate = host_path / "gate"
        os.mkfifo(gate)
        results: list[Result] = []
        slow = threading.Thread(target=lambda: results.append(run(transport, "/bin/cat", str(gate))))
        slow.start()
        try:
            for _ in range(5):
                assert run(transport, "/bin/echo", "x").stdout == b"x\n"
            assert not results
        finally:
            gate.write_bytes(b"open")
            slow.join(30)
        assert results[0].stdout == b"open"

    def test_many_commands_at_a_time(self, transport: Transport) -> None:
        outputs: dict[int, bytes] = {}

        def one(number: int) -> None:
            outputs[number] = run(transport, "/bin/echo", str(number)).stdout

        threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert outputs == {number: f"{number}\n".encode() for number in range(16)}

    # Files

    def test_put_and_get_bring_bytes_and_mode(self, transport: Transport, host_path: Path, tmp_path: Path) -> None:
        data = os.urandom(3_000_001)
        here, there, back = tmp_path / "here", host_path / "there", tmp_path / "back"
        here.write_bytes(data)
        transport.put(str(here), str(there), mode=0o640)
        assert there.read_bytes() == data
        assert stat.S_IMODE(there.stat().st_mode) == 0o640
        transport.get(str(there), str(back), mode=0o400)
        assert back.read_bytes() == data
        assert stat.S_IMODE(back.stat().st_mode) == 0o400

    @pytest.mark.parametrize("name", NAMES)
    def test_names_arrive_unchanged(self, transport: Transport, host_path: Path, tmp_path: Path, name: str) -> None:
        folder = host_path / "names"
        transport.make_folder(str(folder))
        path = f"{folder}/n{name}"
        transport.write_file(path, b"1")
        assert os.listdir(os.fsencode(folder)) == [os.fsencode(f"n{name}")]
        assert list(transport.list(str(folder))) == [f"n{name}"]
        assert transport.read_range(path) == b"1"
        transport.get(path, str(tmp_path / "got"))
        transport.put(str(tmp_path / "got"), f"{folder}/m{name}")
        transport.rename(f"{folder}/m{name}", path)
        assert transport.stat(path).size_bytes == 1
        transport.remove(path)
        assert transport.list(str(folder)) == {}

    def test_many_files_are_brought_with_modes_and_times(self, transport: Transport, host_path: Path, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "link").symlink_to("n0")
        up, down = [], []
        for number, name in enumerate([*NAMES, "link"]):
            source = tmp_path / "mine" / (name if name == "link" else f"n{number}")
            if name != "link":
                source.write_bytes(os.urandom(number * 10_000))
            os.utime(source, ns=(10**18, 10**18 + number * 1_000_000))
            up.append(Copy(str(source), str(host_path / "made" / f"d{number % 3}" / f"x{name}"), 0o640 + number % 2))
            down.append(Copy(up[-1].target, str(tmp_path / "back" / f"{number % 2}" / str(number)), 0o600 + number % 2))
        up.append(Copy(str(tmp_path / "long"), str(host_path / "made" / "long"), 0o600))
        (tmp_path / "long").write_bytes(os.urandom(10_000_000))
        down.append(Copy(up[-1].target, str(tmp_path / "back" / "long"), 0o600))
        transport.put_many(up)
        transport.get_many(down)
        for there, back in zip(up, down, strict=True):
            for copy in (there, back):
                found = os.lstat(copy.target)
                assert stat.S_IMODE(found.st_mode) == copy.mode
                assert abs(found.st_mtime_ns - os.stat(there.source).st_mtime_ns) < 1_000_000
                assert Path(copy.target).read_bytes() == Path(there.source).read_bytes()
        assert stat.S_IMODE(os.stat(host_path / "made").st_mode) == 0o700
        assert sorted(os.listdir(tmp_path / "back")) == ["0", "1", "long"]
        transport.put_many([])
        transport.get_many([])

    def test_of_many_files_those_that_cannot_be_brought_are_told(
        self, transport: Transport, host_path: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "mine").write_bytes(b"x")
        (host_path / "a folder").mkdir()
        mine, fine = str(tmp_path / "mine"), str(host_path / "fine")
        for bad, kind in (
            (Copy(str(tmp_path / "nothing"), str(host_path / "t")), PathMissing),
            (Copy(str(tmp_path), str(host_path / "t")), PathError),
            (Copy(mine, str(host_path / "a folder")), PathError),
            (Copy(mine, str(tmp_path / "mine" / "below")), PathError),
        ):
            for call in (transport.put_many, transport.get_many):
                with pytest.raises(kind) as caught:
                    call([bad, Copy(mine, fine)])
                assert caught.value.filename in (bad.source, bad.target, os.path.dirname(bad.target))
                assert Path(fine).read_bytes() == b"x"
                os.unlink(fine)
        assert not (host_path / "t").exists()
        with pytest.raises(PathError, match="absolute"):
            transport.put_many([Copy("mine", fine)])
        with pytest.raises(PathError, match="absolute"):
            transport.get_many([Copy(mine, "fine")])

    def test_a_tree_is_all_that_is_below(self, transport: Transport, host_path: Path) -> None:
        (host_path / "top" / "deep").mkdir(parents=True)
        for name in NAMES:
            (host_path / "top" / "deep" / f"n{name}").write_bytes(b"xyz")
        (host_path / "top" / "link").symlink_to("deep")
        found = transport.tree(str(host_path / "top"))
        assert set(found) == {"deep", "link", *(f"deep/n{name}" for name in NAMES)}
        assert found == {name: transport.stat(str(host_path / "top" / name), follow=False) for name in found}
        assert found["link"].kind is FileKind.LINK
        with pytest.raises(PathMissing):
            transport.tree(str(host_path / "nothing"))

    def test_write_replaces_whole_files_with_their_mode(self, transport: Transport, host_path: Path) -> None:
        path = host_path / "file"
        old = os.umask(0o077)
        try:
            transport.write_file(str(path), b"first, and longer", mode=0o755)
            inode = path.stat().st_ino
            transport.write_file(str(path), b"second", mode=0o644)
        finally:
            os.umask(old)
        assert path.read_bytes() == b"second"
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert path.stat().st_ino != inode
        assert os.listdir(host_path) == ["file"]

    def test_a_failed_write_leaves_nothing(self, transport: Transport, host_path: Path, tmp_path: Path) -> None:
        (host_path / "taken").mkdir()
        (host_path / "taken" / "file").write_bytes(b"")
        with pytest.raises(PathError):
            transport.write_file(str(host_path / "taken"), b"x")
        with pytest.raises(PathMissing):
            transport.put(str(tmp_path / "nothing"), str(host_path / "new"))
        with pytest.raises(PathMissing):
            transport.get(str(host_path / "nothing"), str(tmp_path / "new"))
        assert sorted(os.listdir(host_path)) == ["taken"]

    def test_read_range(self, transport: Transport, host_path: Path) -> None:
        path = host_path / "file"
        path.write_bytes(bytes(range(256)) * 4000)
        whole = path.read_bytes()
        assert transport.read_range(str(path)) == whole
        assert transport.read_range(str(path), 1000, 10) == whole[1000:1010]
        assert transport.read_range(str(path), len(whole) - 5, 100) == whole[-5:]
        assert transport.read_range(str(path), len(whole) + 5) == b""
        assert transport.read_range(str(path), 0, 0) == b""

    def test_only_regular_files_are_read(self, transport: Transport, host_path: Path) -> None:
        os.mkfifo(host_path / "pipe")
        with pytest.raises(PathError, match="pipe"):
            transport.read_range(str(host_path / "pipe"))
        with pytest.raises(PathError, match="not a regular file"):
            transport.read_range(str(host_path))

    def test_links_are_followed_only_where_asked(self, transport: Transport, host_path: Path) -> None:
        (host_path / "file").write_bytes(b"data")
        (host_path / "link").symlink_to("file")
        (host_path / "dangling").symlink_to("nothing")
        link = str(host_path / "link")
        assert transport.stat(link).kind is FileKind.FILE
        assert transport.stat(link, follow=False).kind is FileKind.LINK
        assert transport.read_range(link) == b"data"
        with pytest.raises(PathError):
            transport.read_range(link, follow=False)
        with pytest.raises(PathMissing):
            transport.stat(str(host_path / "dangling"))
        assert transport.stat(str(host_path / "dangling"), follow=False).kind is FileKind.LINK
        listed = transport.list(str(host_path))
        assert {name: found.kind for name, found in listed.items()} == {
            "file": FileKind.FILE,
            "link": FileKind.LINK,
            "dangling": FileKind.LINK,
        }

    def test_a_write_replaces_a_link_and_not_what_it_leads_to(self, transport: Transport, host_path: Path) -> None:
        (host_path / "file").write_bytes(b"data")
        (host_path / "link").symlink_to("file")
        transport.write_file(str(host_path / "link"), b"new")
        assert (host_path / "file").read_bytes() == b"data"
        assert not (host_path / "link").is_symlink()

    def test_stat_tells_size_time_mode_and_owner(self, transport: Transport, host_path: Path) -> None:
        path = host_path / "file"
        path.write_bytes(b"12345")
        path.chmod(0o604)
        os.utime(path, (1e9, 1e9 + 0.5))
        found = transport.stat(str(path))
        assert (found.kind, found.size_bytes, found.modified_at, found.mode) == (FileKind.FILE, 5, 1e9 + 0.5, 0o604)
        assert found.uid == path.stat().st_uid
        assert transport.stat(str(host_path)).kind is FileKind.FOLDER
        assert transport.stat("/dev/null").kind is FileKind.OTHER

    def test_folders(self, transport: Transport, host_path: Path) -> None:
        deep = host_path / "a" / "b" / "c"
        with pytest.raises(PathMissing):
            transport.make_folder(str(deep))
        old = os.umask(0o077)
        try:
            transport.make_folder(str(deep), mode=0o755, parents=True)
        finally:
            os.umask(old)
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o755 for path in (deep, deep.parent))
        transport.make_folder(str(deep), parents=True)
        with pytest.raises(PathExists):
            transport.make_folder(str(deep))
        (deep / "file").write_bytes(b"")
        with pytest.raises(PathExists):
            transport.make_folder(str(deep / "file"), parents=True)

    def test_remove_takes_a_link_for_one_whatever_stands_behind_it(self, transport: Transport, host_path: Path) -> None:
        (host_path / "kept").mkdir()
        (host_path / "kept" / "file").touch()
        (host_path / "link").symlink_to("kept")
        transport.remove(f"{host_path}/link/", tree=True)
        assert os.listdir(host_path) == ["kept"]
        assert os.listdir(host_path / "kept") == ["file"]

    def test_what_a_job_closed_against_itself_is_removed(self, transport: Transport, host_path: Path) -> None:
        (host_path / "tree" / "closed" / "deep").mkdir(parents=True)
        (host_path / "tree" / "closed" / "deep" / "file").touch()
        (host_path / "tree" / "closed" / "deep").chmod(0o000)
        (host_path / "tree" / "closed").chmod(0o500)
        transport.remove(str(host_path / "tree"), tree=True)
        assert os.listdir(host_path) == []

    def test_what_can_be_no_path_is_told(self, transport: Transport, host_path: Path) -> None:
        for name in ("a\0b", "a\ud800b"):
            path = str(host_path / name)
            calls = (
                lambda path=path: transport.stat(path),
                lambda path=path: transport.read_range(path),
                lambda path=path: transport.write_file(path, b""),
                lambda path=path: transport.make_folder(path, parents=True),
                lambda path=path: transport.remove(path),
                lambda path=path: transport.tree(path),
            )
            for call in calls:
                with pytest.raises(PathError, match="can be no path"):
                    call()
        assert os.listdir(host_path) == []

    def test_remove_follows_no_link(self, transport: Transport, host_path: Path) -> None:
        kept = host_path / "kept"
        kept.mkdir()
        (kept / "file").write_bytes(b"")
        tree = host_path / "tree"
        (tree / "sub").mkdir(parents=True)
        (tree / "link").symlink_to(kept)
        (host_path / "direct").symlink_to(kept)
        with pytest.raises(PathError):
            transport.remove(str(tree))
        transport.remove(str(tree), tree=True)
        transport.remove(str(host_path / "direct"), tree=True)
        assert os.listdir(host_path) == ["kept"]
        assert os.listdir(kept) == ["file"]
        with pytest.raises(PathMissing):
            transport.remove(str(tree), tree=True)

    def test_rename_replaces(self, transport: Transport, host_path: Path) -> None:
        (host_path / "a").write_bytes(b"a")
        (host_path / "b").write_bytes(b"b")
        transport.rename(str(host_path / "a"), str(host_path / "b"))
        assert os.listdir(host_path) == ["b"]
        assert (host_path / "b").read_bytes() == b"a"
        with pytest.raises(PathMissing, match="rename"):
            transport.rename(str(host_path / "a"), str(host_path / "b"))

    def test_relative_paths_are_refused(self, transport: Transport) -> None:
        for call in (transport.stat, transport.read_range, transport.list, transport.make_folder, transport.remove):
            with pytest.raises(PathError, match="absolute"):
                call("relative/path")

    def test_errors_name_host_path_and_advice(self, transport: Transport, host_path: Path) -> None:
        with pytest.raises(PathMissing) as info:
            transport.stat(str(host_path / "a\nb"))
        error = info.value
        assert isinstance(error, FileNotFoundError)
        assert isinstance(error, TransportError)
        assert not error.retryable
        assert error.errno == 2
        assert error.filename == str(host_path / "a\nb")
        assert transport.name in str(error)
        assert "a\\nb" in str(error)
        assert "check the path" in str(error)

    def test_what_is_not_allowed(self, transport: Transport, host_path: Path) -> None:
        if run(transport, "/usr/bin/id", "-u").stdout.strip() == b"0":
            path, call = "/proc/sys/kernel/ostype", "new"  # root may all but this
            with pytest.raises((PathDenied, PathMissing, PathExists)):
                transport.make_folder(f"/proc/{call}")
            with pytest.raises(PathError):
                transport.remove(path)
            return
        closed = host_path / "closed"
        closed.mkdir(mode=0o000)
        try:
            with pytest.raises(PathDenied, match="owner and mode"):
                transport.list(str(closed))
        finally:
            closed.chmod(0o700)

    # The transport itself

    def test_knows_its_user_and_environment(self, transport: Transport) -> None:
        assert run(transport, "/usr/bin/id", "-un").stdout.decode().strip() == transport.user()
        assert transport.environment()["PATH"]
        assert transport.name

    def test_after_close_everything_is_refused(self, transport: Transport, host_path: Path) -> None:
        watch = transport.watch([str(host_path)])
        transport.close()
        transport.close()
        calls: Sequence[object] = (
            lambda: run(transport, "/bin/true"),
            lambda: transport.stat("/"),
            lambda: transport.write_file(str(host_path / "x"), b""),
            transport.watch,
            lambda: watch.wait(0),
        )
        for call in calls:
            assert callable(call)
            with pytest.raises(TransportClosed):
                call()
        assert os.listdir(host_path) == []

    def test_close_kills_commands_that_run(self, transport: Transport, host_path: Path) -> None:
        os.mkfifo(host_path / "gate")
        ends: list[BaseException] = []

        def hang() -> None:
            try:
                run(transport, "/bin/sh", "-c", 'echo $$ > "$1"; exec sleep 600', "sh", str(host_path / "gate"))
            except TransportClosed as error:
                ends.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        pid = int((host_path / "gate").read_text())
        transport.close()
        thread.join(30)
        assert not thread.is_alive()
        assert len(ends) == 1
        assert_gone(pid)
