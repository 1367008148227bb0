"""Torque, by its commands (docs/torque.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...transports.local import LocalTransport
from ..command import CommandScheduler
from .dialect import TorqueDialect

__all__ = ["TorqueDialect", "open_torque"]


def open_torque(state_dir: Path, options: Mapping[str, str]) -> CommandScheduler:
    """What the table of schedulers calls: Torque on this machine, by the commands on PATH."""
    return CommandScheduler(TorqueDialect(), LocalTransport())
