"""The launcher that calls ``jsrun``."""

from __future__ import annotations

from pathlib import Path

from ..job_executor_config import JobExecutorConfig
from .multiple import MultipleLauncher

__all__ = ["JsrunLauncher"]


class JsrunLauncher(MultipleLauncher):
    """Starts the processes with jsrun of LSF on IBM systems."""

    def __init__(self, config: JobExecutorConfig | None = None) -> None:
        super().__init__(Path(__file__).parent / "scripts" / "jsrun_launch.sh", config)
