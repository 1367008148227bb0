"""OpenPBS and PBS Professional, by their commands (docs/pbs.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...transports.local import LocalTransport
from ..command import CommandScheduler
from .dialect import PbsDialect

__all__ = ["PbsDialect", "open_pbs"]


def open_pbs(state_dir: Path, options: Mapping[str, str]) -> CommandScheduler:
    """What the table of schedulers calls: PBS on this machine, by the commands on PATH."""
    return CommandScheduler(PbsDialect(), LocalTransport())
