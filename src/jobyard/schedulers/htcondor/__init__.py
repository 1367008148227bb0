"""HTCondor 23 and newer, by its commands. docs/htcondor.md says what maps to what, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...contact import register_options
from ...transports.local import LocalTransport
from .dialect import HTCondorDialect
from .scheduler import HTCondorScheduler

__all__ = ["HTCondorDialect", "HTCondorScheduler", "open_htcondor"]


def _host(value: str) -> str:
    if not value or value.startswith("-") or not all(c.isalnum() or c in "@._-:#?=&<>[]" for c in value):
        raise ValueError(f"{value!r} is no name of a daemon or host")
    return value


register_options("htcondor", {"schedd": _host, "pool": _host})


def open_htcondor(state_dir: Path, options: Mapping[str, str]) -> HTCondorScheduler:
    """What the table of schedulers calls: ``htcondor?schedd=NAME&pool=HOST``; without them, this machine's own."""
    dialect = HTCondorDialect(schedd=options.get("schedd"), pool=options.get("pool"))
    return HTCondorScheduler(dialect, LocalTransport())
