"""How the helper is started on a login host: the words of the ssh command, and the program that follows on standard input."""

from __future__ import annotations

import os
from functools import cache

import msgspec

__all__ = ["Settings", "helper_program", "remote_command", "ssh_command"]

PYTHONS = ("/usr/bin/python3", "python3", "/usr/libexec/platform-python", "python")
# Nothing in it that any login shell, tcsh included, would take for its own; the program follows on standard input.
_START = (
    "import sys,os;os.write(1,bytes(1)+sys.argv[1].encode()+bytes([10]));i=sys.stdin.buffer;"
    "exec(compile(i.read(int(i.readline())),sys.argv[2],sys.argv[3]))"
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Which login, and how it is reached. Two transports with equal settings share one connection."""

    host: str
    user: str | None = None
    port: int | None = None
    config: str | None = None  # a configuration file in place of the user's and the system's (ssh -F)
    python: str | None = None  # of the helper
    ignore_host_keys: bool = False
    share_s: float | None = None  # how long a login is kept for other programs of this user
    ciphers: str | None = None  # in place of those that ssh would choose
    options: tuple[str, ...] = ()  # further "Name=value" for ssh -o
    connect_s: float = 20.0
    alive_s: float = 15.0  # silence after which the helper is asked whether it is there
    dead_s: float = 45.0  # silence after which the link is given up
    ssh: str = "ssh"

    @property
    def name(self) -> str:
        """How it is written: ``ssh://me@login.example.org:22``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else f"{self.user}@"
        return f"ssh://{user}{host}" + ("" if self.port is None else f":{self.port}")


def ssh_command(settings: Settings, remote: str, *, ask: bool, share_path: str | None = None) -> list[str]:
    """The words of the ssh command. The first value wins, so that these beat the user's file; what users tune is left alone."""
    words = [settings.ssh, "-T"]
    if settings.config is not None:
        words += ["-F", settings.config]
    options = [
        "ClearAllForwardings=yes",
        "ForwardX11=no",
        "RemoteCommand=none",
        "PermitLocalCommand=no",
        "EscapeChar=none",
        f"ServerAliveInterval={max(1, round(settings.alive_s))}",
        f"ServerAliveCountMax={max(1, round(settings.dead_s / settings.alive_s))}",
        f"ConnectTimeout={max(1, round(settings.connect_s))}",
    ]
    if share_path is None:
        options.append("ControlMaster=no")
    else:
        options += ["ControlMaster=auto", f"ControlPath={share_path}", f"ControlPersist={round(settings.share_s or 0)}"]
    if not ask:
        options.append("BatchMode=yes")
    if settings.ignore_host_keys:
        options += ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null"]
    if settings.ciphers is not None:
        options.append(f"Ciphers={settings.ciphers}")
    for option in (*options, *settings.options):
        words += ["-o", option]
    if settings.port is not None:
        words += ["-p", str(settings.port)]
    if settings.user is not None:
        words += ["-l", settings.user]
    return [*words, "--", settings.host, remote]


def remote_command(nonce: str, python: str | None) -> str:
    """What the login shell is given: one command in single quotes, which every shell takes."""
    pythons = " ".join((python,) if python is not None else PYTHONS)
    return (
        f"exec /bin/sh -c 'for p in {pythons}; do command -v $p >/dev/null 2>&1 && "
        f'exec $p -I -S -u -c "{_START}" {nonce} jobyard-helper exec; done; echo NOPYTHON >&2; exit 127\''
    )


_LOADER = """
import sys
from _frozen_importlib import ModuleSpec as _spec
class _Finder(object):
    def find_spec(self, name, path=None, target=None):
        if name in SOURCES:
            return _spec(name, self, is_package=name == "jobyard_node")
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(SOURCES[module.__name__], module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, _Finder())
from jobyard_node import helper
helper.main()
"""
_MODULES = (
    "staging",
    "watching",
    "process",
    "workroot",
    "helper_wire",
    "helper",
    "helper_run",
    "helper_files",
    "helper_watch",
    "helper_work",
    "transfer",
    "receiving",
    "helper_transfer",
)


@cache
def helper_program() -> bytes:
    """The helper's program: its modules' texts, and a few lines that import them from there."""
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node")
    sources = {"jobyard_node": ""}
    for name in _MODULES:
        with open(os.path.join(folder, f"{name}.py"), encoding="utf-8") as file:
            sources[f"jobyard_node.{name}"] = file.read()
    return f"SOURCES = {sources!r}\n{_LOADER}".encode()
