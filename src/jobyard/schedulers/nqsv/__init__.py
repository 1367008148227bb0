"""NEC NQSV, by its commands (docs/nqsv.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...transports.local import LocalTransport
from ..command import CommandScheduler
from .dialect import NqsvDialect

__all__ = ["NqsvDialect", "open_nqsv"]


def open_nqsv(state_dir: Path, options: Mapping[str, str]) -> CommandScheduler:
    """What the table of schedulers calls: NQSV on this machine, by the commands on PATH."""
    return CommandScheduler(NqsvDialect(), LocalTransport())
