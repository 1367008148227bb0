"""The helper by itself: what it leaves when its link goes, however that is cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobyard.node import helper_wire as wire
from jobyard.node.helper import Helper
from jobyard.testing.polling import assert_gone, eventually


class Link:
    """A helper of this machine, and the client's end of its link; nobody reads what it complains of."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from jobyard.node.helper import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=writing,
        )
        os.close(writing)
        os.close(reading)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.incoming, self.outgoing = self.process.stdout, self.process.stdin
        assert wire.FrameReader(self.incoming.fileno()).read() is not None, "it says who it is"

    def send(self, kind: int, payload: bytes, number: int = 1) -> None:
        """One frame of that request."""
        os.write(self.outgoing.fileno(), wire.HEADER.pack(len(payload), number, kind) + payload)

    def cut(self, where: str) -> None:
        """The link goes at the end of a frame, or within one; or what comes is no frame at all."""
        if where != "between":
            length = wire.LONGEST + 1 if where == "nonsense" else 1000
            os.write(self.outgoing.fileno(), wire.HEADER.pack(length, 1, wire.DATA) + b"half of it")
        self.incoming.close()
        self.outgoing.close()


@pytest.fixture
def link() -> Iterator[Link]:
    made = Link()
    yield made
    made.cut("between")
    try:
        made.process.wait(60)
    finally:
        made.process.kill()
        made.process.wait()


@pytest.mark.parametrize("where", ["between", "within", "nonsense"])
def test_a_file_that_is_not_whole_goes_with_the_link(link: Link, tmp_path: Path, where: str) -> None:
    request: dict[str, Any] = {"op": "write", "path": str(tmp_path / "target"), "mode": 0o600, "size": 1 << 20}
    link.send(wire.REQ, wire.head(request))
    link.send(wire.DATA, b"\x01" + b"x" * 1000)
    eventually(lambda: [path.stat().st_size for path in tmp_path.iterdir()] == [1000], "it is written")
    link.cut(where)
    assert link.process.wait(60) == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("where", ["between", "within", "nonsense"])
def test_a_command_ends_with_the_link(link: Link, tmp_path: Path, where: str) -> None:
    script = 'echo $$ > "$1.new"; mv "$1.new" "$1"; exec sleep 600'
    argv = ["/bin/sh", "-c", script, "sh", str(tmp_path / "pid")]
    link.send(wire.REQ, wire.head({"op": "run", "argv": argv, "environment": {}, "stdin": False, "timeout_s": 600, "cap": 1000}))
    eventually((tmp_path / "pid").exists, "it runs")
    link.cut(where)
    assert link.process.wait(60) == 0
    assert_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("finish", [False, True])
def test_a_command_whose_output_nobody_takes_ends_with_the_link(link: Link, tmp_path: Path, finish: bool) -> None:
    """The writing end of the link is found broken first, by the thread that serves the command. A submission finishes."""
    script = (
        'echo $$ >"$1/new"; mv "$1/new" "$1/pid"; while [ ! -e "$1/go" ]; do sleep 0.01; done; '
        'head -c 300000 /dev/zero && : >"$1/wrote"; [ -n "$2" ] || exec sleep 600; '
        'while [ ! -e "$1/on" ]; do sleep 0.01; done; : >"$1/done"'
    )
    argv = ["/bin/sh", "-c", script, "sh", str(tmp_path), "finish" if finish else ""]
    request = {"op": "run", "argv": argv, "environment": {}, "stdin": False, "timeout_s": 600, "cap": 1 << 20, "finish": finish}
    link.send(wire.REQ, wire.head(request))
    eventually((tmp_path / "pid").exists, "it runs")
    link.incoming.close()  # nobody reads any more
    (tmp_path / "go").touch()
    pid = int((tmp_path / "pid").read_text())
    if finish:
        eventually((tmp_path / "wrote").exists, "what it writes is taken")
        link.outgoing.close()
        (tmp_path / "on").touch()
    else:
        eventually(lambda: link.process.poll() is not None or not os.path.exists(f"/proc/{pid}"), "it is ended")
        link.outgoing.close()
    assert link.process.wait(60) == 0
    assert_gone(pid)
    assert (tmp_path / "done").exists() is finish


def test_faults_of_its_own_cost_no_thread(link: Link, tmp_path: Path) -> None:
    reader = wire.FrameReader(link.incoming.fileno())
    for _ in range(300):  # more than there are threads
        link.send(wire.REQ, wire.head({"op": "look"}))
        frame = reader.read()
        assert frame is not None
        assert frame[0] == wire.ERR
    link.send(wire.REQ, wire.head({"op": "look", "paths": [str(tmp_path)], "follow": True}))
    frame = reader.read()
    assert frame is not None
    assert frame[0] == wire.RES


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_helper_that_is_told_to_go_clears_up(link: Link, tmp_path: Path, number: int) -> None:
    """The host goes down, or ends what a login left: as where the link goes."""
    (tmp_path / "to").mkdir()
    link.send(wire.REQ, wire.head({"op": "write", "path": str(tmp_path / "to" / "x"), "mode": 0o600, "size": 1 << 20}))
    link.send(wire.DATA, b"\x01" + b"x" * 1000)
    argv = ["/bin/sh", "-c", 'echo $$ > "$1.new"; mv "$1.new" "$1"; exec sleep 600', "sh", str(tmp_path / "pid")]
    arguments = {"op": "run", "argv": argv, "environment": {}, "stdin": False, "timeout_s": 600, "cap": 1000}
    link.send(wire.REQ, wire.head(arguments), 2)
    eventually((tmp_path / "pid").exists, "the command runs")
    eventually(lambda: [path.stat().st_size for path in (tmp_path / "to").iterdir()] == [1000], "the file is written")
    link.process.send_signal(number)
    assert link.process.wait(60) == 0
    assert os.listdir(tmp_path / "to") == []
    assert_gone(int((tmp_path / "pid").read_text()))


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user's processes are too many there, the request is refused, and the helper lives."""
    reading, writing = os.pipe()
    try:
        helper = Helper(reading, writing)

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        for number in (1, 2):
            helper._take(wire.REQ, number, wire.head({"op": "look", "paths": ["/"], "follow": True}))
        monkeypatch.undo()
        helper._take(wire.REQ, 3, wire.head({"op": "look", "paths": ["/"], "follow": True}))
        reader = wire.FrameReader(reading)
        frames = [reader.read() for _ in range(3)]
        assert [frame[:2] for frame in frames if frame is not None] == [(wire.ERR, 1), (wire.ERR, 2), (wire.RES, 3)]
        assert frames[0] is not None
        assert wire.split(frames[0][2])[0]["kind"] == "resources"
    finally:
        os.close(reading)
        os.close(writing)
