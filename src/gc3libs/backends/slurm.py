"""``SlurmLrms``: Slurm, by jobyard's own dialect."""

from __future__ import annotations

from ._engine import EngineSystem

__all__ = ["SlurmLrms"]


class SlurmLrms(EngineSystem):
    """Slurm, on this machine or behind a login host."""

    _batchsys_name = "Slurm"
    _scheduler = "slurm"
    _commands = ("sbatch", "squeue", "sacct", "scancel", "srun")
