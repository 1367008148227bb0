"""The helper by itself: what it leaves when its link goes, however that is cut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobyard.node import helper_wire as wire
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

    def send(self, kind: int, payload: bytes) -> None:
        """One frame of the first request."""
        os.write(self.outgoing.fileno(), wire.HEADER.pack(len(payload), 1, kind) + payload)

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
