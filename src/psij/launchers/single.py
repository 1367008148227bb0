"""The launcher that runs the executable once."""

from __future__ import annotations

from pathlib import Path

from ..job_executor_config import JobExecutorConfig
from .script_based_launcher import ScriptBasedLauncher

__all__ = ["SingleLauncher"]


class SingleLauncher(ScriptBasedLauncher):
    """Runs the executable once, whatever the resources."""

    def __init__(self, config: JobExecutorConfig | None = None) -> None:
        super().__init__(Path(__file__).parent / "scripts" / "single_launch.sh", config)
