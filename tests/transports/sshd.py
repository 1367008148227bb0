"""An sshd for tests: the bed of testbeds/ssh, in a folder of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobyard.transports.openssh import OpenSSHTransport, Settings

BED = Path(__file__).resolve().parents[2] / "testbeds" / "ssh"
HERE = "no sshd here; install Debian's openssh-server (testbeds/ssh/up.sh does it as root)"


def available() -> bool:
    """There is an sshd to start, and an ssh to reach it."""
    return (BED / "up.sh").exists() and shutil.which("ssh") is not None and Path(shutil.which("sshd") or "/usr/sbin/sshd").exists()


class Sshd:
    """One server, and how to reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *, settings: str = "", environment: str = "", port: int = 0) -> None:
        """Start it, or start it again on the same port."""
        more = {"SSHD_SETTINGS": settings, "SSH_ENVIRONMENT": environment, "LAB_INSTALL": "0"}
        done = subprocess.run(
            [str(BED / "up.sh"), str(self.folder), str(port or self.port or 0)],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    @property
    def port(self) -> int:
        """0 before it was started."""
        try:
            return int((self.folder / "port").read_text())
        except FileNotFoundError:
            return 0

    @property
    def config(self) -> Path:
        """For ssh -F."""
        return self.folder / "config"

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def stop(self) -> None:
        """Stop it, and all its sessions."""
        subprocess.run([str(BED / "down.sh"), str(self.folder)], check=True, timeout=60)

    def sessions(self) -> list[int]:
        """Its processes that each serve a connection."""
        pid = int((self.folder / "pid").read_text())
        return children(pid)

    def settings(self, **more: Any) -> Settings:
        """To reach it as whoever runs this."""
        return Settings(**{"host": "bed", "config": str(self.config), "connect_s": 60.0, **more})  # a login may be slow here

    def transport(self, **more: Any) -> OpenSSHTransport:
        """A transport to it."""
        return OpenSSHTransport(self.settings(**more))


def children(pid: int) -> list[int]:
    """Processes whose parent it is."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_bytes()
            except OSError:
                continue
            if int(stat.rpartition(b") ")[2].split()[1]) == pid:
                found.append(int(name))
    return found


@contextmanager
def running_sshd(**start: Any) -> Iterator[Sshd]:
    """A server for as long as the block lasts."""
    if not available():
        pytest.skip(HERE)
    folder = Path(tempfile.mkdtemp(prefix="sshd-"))
    server = Sshd(folder)
    try:
        server.start(**start)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def stop_process(pid: int) -> None:
    """SIGSTOP, which nothing can refuse."""
    os.kill(pid, signal.SIGSTOP)
