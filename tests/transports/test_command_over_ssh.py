"""The command with a scheduler of another host: sites, output, files."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.yards import private_yard
from jobyard.testing import standin
from transports.sshd import Sshd


@pytest.fixture(scope="module")
def place(sshd: Sshd) -> Iterator[Path]:
    """A configured site over ssh."""
    with private_yard() as folder, standin.install(folder / "cell", slots=4) as cell:
        (folder / "there").mkdir()
        (folder / "config.toml").write_text(
            "[sites.far]\n"
            f'contact = "standin+ssh://bed?cell={cell.folder}"\n'
            "[sites.far.options]\n"
            f'path = "{cell.bin}"\nwork_dir = "{folder / "there"}"\nssh_config = "{sshd.config}"\n'
            'poll = "0.2"\nconnect_timeout = "60"\n'
        )
        yield folder


def jobyard(*words: str, status: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command, and expect that exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "jobyard", *words], capture_output=True, check=False, timeout=120, cwd=cwd, stdin=subprocess.DEVNULL
    )
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return done


def test_run_at_a_site_shows_output_and_ends_as_the_job(place: Path) -> None:
    done = jobyard("run", "--site", "far", "--", "/bin/sh", "-c", "printf 'out\\377'; echo err >&2; exit 9", status=9)
    assert done.stdout == b"out\xff"
    assert done.stderr == b"err\n"


def test_submit_wait_logs_and_ls(place: Path) -> None:
    native_id = jobyard("submit", "--site", "far", "--name", "far one", "--", "/bin/echo", "hello").stdout.decode().strip()
    jobyard("wait", "--site", "far", native_id)
    assert jobyard("logs", "--site", "far", native_id).stdout == b"hello\n"
    assert b"far one" in jobyard("ls", "--site", "far", "--all").stdout
    assert b"done" in jobyard("show", "--site", "far", native_id).stdout


def test_a_site_and_a_contact_are_not_both_given(place: Path) -> None:
    done = jobyard("ls", "--site", "far", "--contact", "local", status=2)
    assert b"--site" in done.stderr
    assert b"no site 'near'" in jobyard("ls", "--site", "near", status=2).stderr


def test_push_and_pull(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    for name in ("one", "two words"):
        (source / name).write_bytes(name.encode() * 1000)
    there = tmp_path / "there"
    done = jobyard("push", "--site", "far", "data", str(there / "copy"), cwd=tmp_path)
    assert done.stdout == b"data: 2 files, 12000 bytes\n"
    assert (there / "copy" / "two words").read_bytes() == (source / "two words").read_bytes()
    assert (
        jobyard("push", "--site", "far", "data", f"{there}/copy", cwd=tmp_path).stdout == b"data: 0 files, 0 bytes, 2 unchanged\n"
    )
    jobyard("pull", "--site", "far", f"{there}/copy/one", f"{there}/copy/two words", "back/", cwd=tmp_path)
    assert sorted(os.listdir(tmp_path / "back")) == ["one", "two words"]
    assert b"need a folder" in jobyard("pull", "--site", "far", "/a", "/b", "nowhere", status=2, cwd=tmp_path).stderr
    assert b"nothing" in jobyard("pull", "--site", "far", "/no/nothing", "x", status=1, cwd=tmp_path).stderr
    assert b"use cp" in jobyard("push", "--contact", "local", "data", "x", status=2, cwd=tmp_path).stderr


def on_a_terminal(*words: str, cwd: Path) -> bytes:
    """What the command shows there."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "jobyard", *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=cwd,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as running:
        os.close(slave)
        seen = b""
        with os.fdopen(master, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # the other end is closed
            while part := terminal.read(4096):
                seen += part
        assert running.wait(60) == 0, seen
    return seen


def test_a_bar_is_drawn_on_a_terminal_alone(place: Path, tmp_path: Path) -> None:
    """Of what is under way, how much of how much; the line that stays comes after it. A hostile name draws nothing."""
    name = "big \x1b[31mred"
    (tmp_path / name).write_bytes(os.urandom(1 << 20) * 20)
    for words in (("push", name, f"{tmp_path}/there/"), ("pull", f"{tmp_path}/there/{name}", f"{tmp_path}/back/")):
        seen = on_a_terminal(words[0], "--site", "far", *words[1:], cwd=tmp_path)
        assert "━".encode() in seen
        assert b"21.0 MB" in seen or b"21.0/21.0" in seen, seen
        assert seen.rstrip().endswith(b"1 file, 20971520 bytes")
        assert b"\x1b[31mred" not in seen
    assert (tmp_path / "back" / name).read_bytes() == (tmp_path / name).read_bytes()
    quiet = jobyard("push", "--site", "far", name, f"{tmp_path}/again/", cwd=tmp_path)
    assert quiet.stderr == b""
    assert quiet.stdout.count(b"\n") == 1


def test_what_cannot_be_brought_says_why(place: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "out").symlink_to("../../etc/passwd")
    said = jobyard("push", "--site", "far", "tree", f"{tmp_path}/there", status=1, cwd=tmp_path).stderr
    assert said.startswith(b"jobyard: ")
    assert b"tree/out" in said
    assert b"could lead out" in said
    assert said.count(b"\n") == 1
    assert not (tmp_path / "there").exists()
    said = jobyard("pull", "--site", "far", f"{tmp_path}/tree", f"{tmp_path}/here", status=1, cwd=tmp_path).stderr
    assert b"could lead out" in said
    assert not (tmp_path / "here").exists()


def test_files_of_a_job(place: Path, tmp_path: Path) -> None:
    """In the directory that it was given there, its own."""
    script = "for n in 1 2 3 4 5; do echo line $n >> result; done"
    native_id = jobyard("submit", "--site", "far", "--", "/bin/sh", "-c", script).stdout.decode().strip()
    jobyard("wait", "--site", "far", native_id)
    jobyard("pull", "--site", "far", "--job", native_id, "result", "got", cwd=tmp_path)
    assert (tmp_path / "got").read_bytes() == b"".join(b"line %d\n" % n for n in range(1, 6))
    assert jobyard("tail", "--site", "far", "-n", "2", native_id, "result").stdout == b"line 4\nline 5\n"
    assert jobyard("tail", "--site", "far", "-n", "0", native_id, "result").stdout == b""
    assert b"no file" in jobyard("tail", "--site", "far", native_id, "nothing", status=1).stderr


def test_tail_follows_a_running_job(place: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo first > log; while [ ! -e {gate} ]; do sleep 0.02; done; echo last >> log"
    native_id = jobyard("submit", "--site", "far", "--", "/bin/sh", "-c", script).stdout.decode().strip()
    deadline = time.monotonic() + 60
    while (
        subprocess.run(
            [sys.executable, "-m", "jobyard", "tail", "--site", "far", native_id, "log"], capture_output=True, check=False
        ).stdout
        != b"first\n"
    ):
        assert time.monotonic() < deadline
    with subprocess.Popen(
        [sys.executable, "-m", "jobyard", "tail", "--site", "far", "-f", native_id, "log"], stdout=subprocess.PIPE
    ) as following:
        try:
            assert following.stdout is not None
            assert following.stdout.readline() == b"first\n"
            gate.touch()
            assert following.stdout.read() == b"last\n"
            assert following.wait(60) == 0
        finally:
            if following.poll() is None:
                following.send_signal(signal.SIGKILL)
