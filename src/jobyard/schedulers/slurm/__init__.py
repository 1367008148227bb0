"""Slurm 20.11 and newer, by its commands (docs/slurm.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...transports.local import LocalTransport
from .dialect import SlurmDialect
from .scheduler import SlurmScheduler

__all__ = ["SlurmDialect", "SlurmScheduler", "open_slurm"]


def open_slurm(state_dir: Path, options: Mapping[str, str]) -> SlurmScheduler:
    """What the table of schedulers calls for the contact ``slurm``. Slurm's own settings (SLURM_CONF, SLURM_CLUSTERS) count."""
    return SlurmScheduler(LocalTransport())
