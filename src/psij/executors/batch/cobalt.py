"""The executor for Cobalt."""

from __future__ import annotations

import builtins
import contextlib
import stat
from pathlib import Path
from typing import ClassVar

from ...job import Job
from ...job_executor_config import JobExecutorConfig
from ._scheduler import SchedulerExecutor
from .batch_scheduler_executor import BatchSchedulerExecutorConfig

__all__ = ["CobaltExecutorConfig", "CobaltJobExecutor"]


class CobaltExecutorConfig(BatchSchedulerExecutorConfig):
    """The configuration of the executor for Cobalt."""


class CobaltJobExecutor(SchedulerExecutor):
    """Submits to Cobalt. Custom attributes are those with the prefix ``cobalt.``."""

    _SCHEDULER_: ClassVar[str] = "cobalt"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("cobalt",)

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config if config is not None else CobaltExecutorConfig())

    def get_submit_command(self, job: Job, submit_file_path: Path) -> builtins.list[str]:
        """The adapter's command, as with other schedulers. Cobalt runs the file itself: one that is there is made executable."""
        command = super().get_submit_command(job, submit_file_path)
        with contextlib.suppress(FileNotFoundError):
            submit_file_path.chmod(submit_file_path.stat().st_mode | stat.S_IXUSR)
        return command
