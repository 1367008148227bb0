"""The launcher that calls ``srun``."""

from __future__ import annotations

from pathlib import Path

from ..job_executor_config import JobExecutorConfig
from .multiple import MultipleLauncher

__all__ = ["SrunLauncher"]


class SrunLauncher(MultipleLauncher):
    """Starts the processes with srun of Slurm, inside the allocation of the job."""

    def __init__(self, config: JobExecutorConfig | None = None) -> None:
        super().__init__(Path(__file__).parent / "scripts" / "srun_launch.sh", config)
