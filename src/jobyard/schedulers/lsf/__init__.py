"""IBM Spectrum LSF, by its commands (docs/lsf.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...transports.local import LocalTransport
from ..command import CommandScheduler
from .dialect import LsfDialect

__all__ = ["LsfDialect", "open_lsf"]


def open_lsf(state_dir: Path, options: Mapping[str, str]) -> CommandScheduler:
    """What the table of schedulers calls: LSF on this machine, by the commands on PATH."""
    return CommandScheduler(LsfDialect(), LocalTransport())
