"""HyperQueue, by its Python package (docs/hyperqueue.md)."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ...contact import register_options
from ...errors import NoScheduler
from ...transports.base import Transport
from ...transports.local import LocalTransport
from ...units import parse_duration
from ..command import CommandScheduler
from ..local.paths import state_folder
from .dialect import HINT, HyperQueueDialect

__all__ = ["HyperQueueDialect", "HyperQueueScheduler", "open_hyperqueue", "room_of", "stop"]


class HyperQueueScheduler(CommandScheduler):
    """Scheduler of jobyard.schedulers.base for HyperQueue, on this machine alone."""

    def reach_over(self, transport: Transport) -> None:
        """NoScheduler: the package is asked by a process on this machine."""
        self.close()
        transport.close()
        raise NoScheduler(
            "hyperqueue is asked through its Python package on this machine, and cannot be reached over ssh; run jobyard on that "
            "host itself"
        )


def _server_dir(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise ValueError(f"{value!r} is not an absolute path of a server directory")
    return value


def _cores(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 1 << 20:
        raise ValueError(f"{value!r} is no number of cores")
    return int(value)


register_options("hyperqueue", {"server_dir": _server_dir, "cores": _cores, "idle": parse_duration})


def open_hyperqueue(state_dir: Path, options: Mapping[str, str]) -> HyperQueueScheduler:
    """What the table of schedulers calls: the server that ``server_dir`` or HQ_SERVER_DIR names, else one that starts on demand.

    NoScheduler: the Python package is not here. InvalidContact comes before, for options that are wrong.
    """
    if importlib.util.find_spec("hyperqueue") is None:
        raise NoScheduler(f"hyperqueue: its Python package is not here; {HINT}")
    join = options.get("server_dir") or os.environ.get("HQ_SERVER_DIR") or None
    cores = None if join is not None else _cores(options["cores"]) if "cores" in options else len(os.sched_getaffinity(0))
    dialect = HyperQueueDialect(
        python=sys.executable,
        program=os.path.join(os.path.dirname(os.path.abspath(__file__)), "ask.py"),
        room=room_of(state_dir, join),
        join=None if join is None else os.path.abspath(join),
        cores=cores,
        idle_s=parse_duration(options["idle"]) if "idle" in options else None,
    )
    return HyperQueueScheduler(dialect, LocalTransport())


def room_of(state_dir: Path, join: str | None = None) -> str:
    """Where the resident for a server has its socket: on a local file system, as the embedded scheduler's state. NoScheduler: in
    a folder that is not ours alone."""
    place = "own" if join is None else hashlib.sha256(os.fsencode(os.path.realpath(join))).hexdigest()[:16]
    return os.path.join(state_folder(state_dir, create=False).path, "hyperqueue", place)


def stop(state_dir: Path, join: str | None = None) -> None:
    """End the resident, and with it its own server and all jobs there; a joined server goes on. Nothing where there is none."""
    from . import ask

    room = room_of(state_dir, join)
    try:
        with ask.connect(room) as sock:
            ask.send(sock, {"ask": "stop"})
            ask.receive(sock)
    except OSError:
        pass  # nobody is there, or it went before it had answered
    end = time.monotonic() + 30.0
    while ask.held(room) and time.monotonic() < end:
        time.sleep(0.01)
