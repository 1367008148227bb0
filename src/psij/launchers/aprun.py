"""The launcher that calls ``aprun``."""

from __future__ import annotations

from pathlib import Path

from ..job_executor_config import JobExecutorConfig
from .multiple import MultipleLauncher

__all__ = ["AprunLauncher"]


class AprunLauncher(MultipleLauncher):
    """Starts the processes with aprun of ALPS on Cray systems."""

    def __init__(self, config: JobExecutorConfig | None = None) -> None:
        super().__init__(Path(__file__).parent / "scripts" / "aprun_launch.sh", config)
