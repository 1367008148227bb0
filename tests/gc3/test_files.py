"""Files of a job's sandbox, on both transports: get_results, peek, free."""

from __future__ import annotations

import io
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gc3.awaiting import asked, ended, gated, reached, run
from gc3.standin_backend import application
from gc3libs import ANY_OUTPUT, Application, Run
from gc3libs.backends.transport import Transport
from gc3libs.exceptions import InvalidOperation, InvalidValue, LRMSSubmitError, TransportError, UnrecoverableDataStagingError

OLD = 1_500_000_000.25


class Done:
    """A finished job whose sandbox a test fills as it likes, seen through one of the transports."""

    def __init__(self, system: Any, tmp_path: Path, transport: Transport) -> None:
        self.system = system
        self.here = tmp_path / "here"
        self.app = application(["/bin/true"], self.here, outputs=["data"])
        run(system, self.app)
        system.transport = transport
        self.sandbox = Path(self.app.execution.ssh_remote_folder)

    def write(self, name: str, content: bytes, at: float = OLD) -> Path:
        path = self.sandbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (at, at))
        return path

    def fetch(self, outputs: Any = None, **options: Any) -> Any:
        if outputs is not None:
            self.app.outputs = Application(["x"], [], outputs, "").outputs
        return self.system.get_results(self.app, self.here, **options)


@pytest.fixture
def done(system: Any, tmp_path: Path, transport: Transport) -> Done:
    return Done(system, tmp_path, transport)


# get_results --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [-3600.0, 0.0, 3600.0], ids=["behind", "same", "ahead"])
def test_the_table(done: Done, shift: float) -> None:
    """Facts 2.6, whatever the clock of the other host shows."""
    at = OLD + shift
    done.write("data", b"first", at)
    mine = done.here / "data"
    assert done.fetch(["data"]).copied == ["data"]  # absent: copied, whatever is asked
    assert os.stat(mine).st_mtime == pytest.approx(at, abs=1e-3)

    def again(**options: Any) -> tuple[bool, bytes]:
        return "data" in done.fetch(**options).copied, mine.read_bytes()

    assert again(overwrite=True, changed_only=True) == (False, b"first")  # the same
    done.write("data", b"newer", at + 10)
    assert again() == (False, b"first")
    assert again(overwrite=False, changed_only=False) == (False, b"first")
    assert again(overwrite=True, changed_only=True) == (True, b"newer")  # later
    done.write("data", b"longer than before", at - 10)
    assert again(overwrite=True, changed_only=True) == (True, b"longer than before")  # of another size
    done.write("data", b"LONGER THAN BEFORE", at - 10)
    assert again(overwrite=True, changed_only=True) == (False, b"longer than before")
    assert again(overwrite=True, changed_only="checksum") == (True, b"LONGER THAN BEFORE")
    assert again(overwrite=True, changed_only="checksum") == (False, b"LONGER THAN BEFORE")
    assert again(overwrite=True, changed_only=False) == (True, b"LONGER THAN BEFORE")  # in any case


def test_absent_files_are_copied_beside_others(done: Done) -> None:
    done.here.mkdir()
    (done.here / "data").write_text("mine")
    done.write("data", b"theirs")
    done.write("more", b"new")
    result = done.fetch(["data", "more"])
    assert (result.copied, result.kept) == (["more"], ["data"])
    assert (done.here / "data").read_text() == "mine"


def test_modes_and_times_come_along(done: Done) -> None:
    done.write("tool", b"#!/bin/sh\n").chmod(0o750)
    done.fetch(["tool"])
    found = os.stat(done.here / "tool")
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o750, OLD)


def test_what_is_missing_is_told_and_what_is_required_is_an_error(done: Done) -> None:
    done.write("there", b"x")
    done.app.required_outputs = ["must"]
    done.app.outputs = Application(["x"], [], ["must", "may", "there"], "").outputs
    with pytest.raises(UnrecoverableDataStagingError, match="must"):
        done.fetch()
    assert (done.here / "there").exists()
    done.app.required_outputs = []
    result = done.fetch()
    assert (result.missing, result.kept) == (["must", "may"], ["there"])


def test_folders_patterns_and_exclusions(done: Done) -> None:
    for name in ("a.log", "b.log", "run/1/x.dat", "run/2/x.dat", "run/2/y.tmp", ".hidden"):
        done.write(name, name.encode())
    assert done.fetch(["run"]).copied == ["run/1/x.dat", "run/2/x.dat", "run/2/y.tmp"]
    assert sorted(done.fetch([("*.log", "logs")]).copied) == ["a.log", "b.log"]
    assert (done.here / "logs" / "a.log").exists()
    assert done.fetch([("run/*/x.dat", "picked")]).copied == ["run/1/x.dat", "run/2/x.dat"]
    done.app.outputs_exclude = ["*.tmp", "run/1"]
    shutil.rmtree(done.here)
    assert set(done.fetch(ANY_OUTPUT).copied) == {".hidden", "a.log", "b.log", "err.txt", "out.txt", "run/2/x.dat"}
    assert done.fetch([("[x]*", "none")]).missing == ["[x]*"]


@pytest.mark.parametrize("transport", ["ssh"], indirect=True)
@pytest.mark.parametrize("make", ["local"], indirect=True)
def test_a_thousand_files_take_few_messages(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        done.write(f"run/{number % 7}/f{number}", b"%d" % number * 100)
    requests = asked(done.system.transport.inner, monkeypatch)
    copied = done.fetch({f"run/{number % 7}/f{number}": f"all/{number}" for number in range(1000)}).copied
    assert len(copied) == 1000
    assert len(requests) < 20, requests
    for number in range(1000):
        assert (done.here / "all" / str(number)).read_bytes() == b"%d" % number * 100
    requests.clear()
    assert len(done.fetch(ANY_OUTPUT).copied) == 1002
    done.system.transport.put(str(done.here / "run"), str(tmp_path / "there"))
    done.system.transport.get(str(tmp_path / "there"), str(tmp_path / "back"))
    assert len(requests) < 40, requests
    assert sum(path.is_file() for path in (tmp_path / "back").rglob("*")) == 1000


def test_a_name_that_looks_like_a_pattern_is_itself_first(done: Done) -> None:
    done.write("x[1]*", b"literal")
    done.write("x1y", b"other")
    assert done.fetch([("x[1]*", "got")]).copied == ["x[1]*"]
    assert (done.here / "got").read_bytes() == b"literal"


def test_an_absolute_target(done: Done, tmp_path: Path) -> None:
    done.write("data", b"x")
    done.fetch([("data", tmp_path / "elsewhere" / "d")])
    assert (tmp_path / "elsewhere" / "d").read_bytes() == b"x"


def test_links_lead_nowhere_but_into_the_sandbox(done: Done, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    done.write("real", b"real")
    (done.sandbox / "good").symlink_to("real")
    (done.sandbox / "bad").symlink_to(tmp_path / "secret")
    (done.sandbox / "tricky").symlink_to("../../../../secret")
    (done.sandbox / "broken").symlink_to("nothing")
    (done.sandbox / "loop").symlink_to(".")
    os.mkfifo(done.sandbox / "pipe")
    result = done.fetch(ANY_OUTPUT)
    assert "good" in result.copied
    assert (done.here / "good").read_bytes() == b"real"
    assert {"bad", "tricky", "loop", "pipe"} <= set(result.refused)
    assert sorted(os.listdir(done.here)) == ["err.txt", "good", "out.txt", "real"]
    with pytest.raises(TransportError, match="leads out"):
        done.system.peek(done.app, "bad", io.BytesIO())


def test_fetching_again_and_again_renames_nothing(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five that break off, and one that does not: one folder, whole files."""
    for number in range(3):
        done.write(f"f{number}", b"x" * 1000)
    inner = done.system.transport.inner
    get_many = inner.get_many
    left = [1]

    def breaking(copies: Any) -> None:
        get_many(copies[: left[0]])
        if len(copies) > left[0]:
            raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(inner, "get_many", breaking)
    for _ in range(2):
        left[0] = 1
        with pytest.raises(TransportError, match="Connection reset"):
            done.fetch(["f0", "f1", "f2"])
    left[0] = 9
    assert done.fetch().copied == ["f2"]
    assert sorted(os.listdir(done.here)) == ["f0", "f1", "f2"]
    assert os.listdir(done.here.parent / "here") == os.listdir(done.here)


def test_a_full_disk_here(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    done.write("data", b"x")
    inner = done.system.transport.inner

    def full(copies: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inner, "get_many", full)
    with pytest.raises(TransportError, match="No space left") as caught:
        done.fetch(["data"])
    assert caught.value.errno == 28


def test_streams_that_the_scheduler_named(done: Done) -> None:
    record = done.app.execution
    done.write(f"{record.lrms_jobname}.o{record.lrms_jobid}", b"by the scheduler")
    assert done.fetch([f"{record.lrms_jobname}.out"]).missing == []
    assert (done.here / f"{record.lrms_jobname}.out").read_bytes() == b"by the scheduler"


def test_outputs_go_to_files_only(done: Done) -> None:
    done.app.outputs = Application(["x"], [], [("data", "swift://h/c")], "").outputs
    with pytest.raises(UnrecoverableDataStagingError, match="only files"):
        done.fetch()


def test_a_relative_folder(done: Done, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done.write("data", b"x")
    monkeypatch.chdir(tmp_path)
    assert done.system.get_results(done.app, "some/where").copied == ["data", "out.txt", "err.txt"]
    assert (tmp_path / "some" / "where" / "data").read_bytes() == b"x"
    (tmp_path / "up").write_bytes(b"y")
    done.system.transport.put("up", f"{done.sandbox}/up")
    done.system.transport.get(f"{done.sandbox}/up", "down")
    assert (tmp_path / "down").read_bytes() == b"y"


def test_by_the_documented_names(done: Done) -> None:
    done.write("data", b"x")
    assert done.system.get_results(job=done.app, download_dir=str(done.here), overwrite=False, changed_only=True).copied


# peek ---------------------------------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 10
PEEKS = [
    ((0, None), CONTENT),
    ((10, 5), CONTENT[10:15]),
    ((-10, None), CONTENT[-10:]),
    ((-10, 4), CONTENT[-10:-6]),
    ((0, 0), b""),
    ((-(10**9), 3), CONTENT[:3]),
    ((10**9, None), b""),
    ((10**30, 10**30), b""),
    ((-(10**30), None), CONTENT),
    ((2555, 1000), CONTENT[2555:]),
]


@pytest.mark.parametrize(("asked", "expected"), PEEKS, ids=[str(asked) for asked, _ in PEEKS])
def test_peeking(done: Done, tmp_path: Path, asked: tuple[int, int | None], expected: bytes) -> None:
    offset, size = asked
    done.write("deep/data", CONTENT)
    stream = io.BytesIO(b"before")
    stream.seek(0, os.SEEK_END)
    done.system.peek(done.app, "deep/data", stream, offset, size)
    assert stream.getvalue() == b"before" + expected
    assert stream.tell() == len(b"before") + len(expected)
    target = tmp_path / "target"
    target.write_bytes(b"x" * 99999)
    done.system.peek(done.app, "./deep//data", str(target), offset, size)
    assert target.read_bytes() == expected
    done.system.peek(done.app, remote_filename="deep/data", local_file=target, offset=offset, size=size)
    assert target.read_bytes() == expected


def test_peeking_into_text(done: Done, tmp_path: Path) -> None:
    text = "é€😀\n" * 300_000  # more than one piece, and characters that stand across two
    done.write("words", text.encode())
    stream = io.StringIO()
    done.system.peek(done.app, "words", stream)
    assert stream.getvalue() == text
    with open(tmp_path / "t", "w+", encoding="utf-8") as file:
        done.system.peek(done.app, "words", file, -5)
        file.flush()
        assert file.tell() == 5
    assert (tmp_path / "t").read_bytes() == "😀\n".encode()
    broken = io.StringIO()
    done.system.peek(done.app, "words", broken, 1, 2)
    assert broken.getvalue() == "\ufffd\ufffd"


def test_peeking_into_a_stream_that_takes_what_it_can(done: Done) -> None:
    taken: list[bytes] = []

    class Slow(io.RawIOBase):
        def write(self, data: Any) -> int:
            taken.append(bytes(data)[:7])
            return len(taken[-1])

    done.write("data", CONTENT)
    done.system.peek(done.app, "data", Slow())
    assert b"".join(taken) == CONTENT


def test_inputs_whose_links_lead_in_a_circle(system: Any, tmp_path: Path) -> None:
    """Two of them would be more files than any disk holds."""
    (tmp_path / "tree").mkdir()
    for name in ("one", "two"):
        (tmp_path / "tree" / name).symlink_to(".")
    with pytest.raises(LRMSSubmitError, match="a link to a folder that it lies in"):
        system.submit_job(application(["/bin/true"], tmp_path, inputs=[tmp_path / "tree"]))


def test_peeking_errors_are_raised(done: Done, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    with pytest.raises(TransportError, match="no such file") as caught:
        done.system.peek(done.app, "nothing", target)
    assert caught.value.errno == 2
    assert target.read_text() == "kept"
    for name in ("../job.json", "/etc/passwd", "a/../../job.json", "", ".", "a\0b"):
        with pytest.raises(InvalidValue):
            done.system.peek(done.app, name, io.BytesIO())
    for offset, size in ((1.5, None), (0, -1), (0, True)):
        with pytest.raises(InvalidValue):
            done.system.peek(done.app, "out.txt", io.BytesIO(), offset, size)

    class Failing(io.RawIOBase):
        def write(self, data: Any) -> int:
            raise OSError(5, "Input/output error")

    done.write("data", b"x")
    with pytest.raises(TransportError, match="Input/output"):
        done.system.peek(done.app, "data", Failing())


def test_peeking_into_a_running_job(system: Any, tmp_path: Path, transport: Transport) -> None:
    app = application(
        ["/bin/sh", "-c", 'echo early; touch "\\$1/begun"; until [ -e "\\$1/gate" ]; do sleep 0.02; done', "sh", str(tmp_path)],
        tmp_path,
    )
    system.submit_job(app)
    reached(system, app, Run.State.RUNNING)
    local, system.transport = system.transport, transport
    while not (tmp_path / "begun").exists():
        reached(system, app, Run.State.RUNNING)
    stream = io.BytesIO()
    system.peek(app, app.stdout, stream)
    assert stream.getvalue() == b"early\n"
    (tmp_path / "gate").touch()
    ended(system, app)
    local.close()


# free -----------------------------------------------------------------------------------------------------------------------


def test_freeing_a_running_job_is_refused_unless_forced(system: Any, tmp_path: Path) -> None:
    app = application(gated(tmp_path), tmp_path)
    system.submit_job(app)
    reached(system, app, Run.State.RUNNING)
    with pytest.raises(InvalidOperation, match="running"):
        system.free(app)
    assert os.path.isdir(app.execution.ssh_remote_folder)
    system.free(app, force=True)
    assert not os.path.exists(os.path.dirname(app.execution.ssh_remote_folder))
    system.free(app)


@pytest.mark.parametrize("wrong", ["/", "/etc", "..", "{}/..", "{}/../../x"])
def test_a_record_that_was_tampered_with(done: Done, wrong: str) -> None:
    done.app.execution.ssh_remote_folder = wrong.format(done.sandbox)
    done.write("data", b"x")
    for call in (done.system.free, lambda app: done.system.peek(app, "data", io.BytesIO()), lambda app: done.fetch()):
        with pytest.raises(InvalidOperation, match="its own is"):
            call(done.app)
    assert (done.sandbox / "data").exists()


def test_freeing_follows_no_link(done: Done, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").write_text("x")
    (done.sandbox / "link").symlink_to(tmp_path / "home")
    done.system.free(done.app)
    assert (tmp_path / "home" / "precious").exists()
    assert not done.sandbox.parent.exists()


def test_freeing_that_fails_is_told_and_repeated(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = done.system.transport.inner
    real: Callable[..., None] = inner.remove

    def refuse(path: str, **options: Any) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(inner, "remove", refuse)
    with pytest.raises(TransportError, match="Permission denied"):
        done.system.free(done.app)
    assert done.sandbox.exists()
    monkeypatch.setattr(inner, "remove", real)
    done.system.free(done.app)
    assert not done.sandbox.parent.exists()
