"""Cobalt, by its commands (docs/cobalt.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...contact import register_options
from ...transports.local import LocalTransport
from ...units import parse_duration
from ..command import CommandScheduler
from .dialect import CobaltDialect

__all__ = ["CobaltDialect", "open_cobalt"]

register_options("cobalt", {"walltime": parse_duration})


def open_cobalt(state_dir: Path, options: Mapping[str, str]) -> CommandScheduler:
    """What the table of schedulers calls: ``cobalt?walltime=1h``, that of jobs which do not say theirs."""
    walltime = options.get("walltime")
    dialect = CobaltDialect(walltime_s=None if walltime is None else parse_duration(walltime))
    return CommandScheduler(dialect, LocalTransport())
