"""The executor for Slurm."""

from __future__ import annotations

from typing import ClassVar

from ...job_executor_config import JobExecutorConfig
from ._scheduler import SchedulerExecutor
from .batch_scheduler_executor import BatchSchedulerExecutorConfig

__all__ = ["SlurmExecutorConfig", "SlurmJobExecutor"]


class SlurmExecutorConfig(BatchSchedulerExecutorConfig):
    """The configuration of the executor for Slurm."""


class SlurmJobExecutor(SchedulerExecutor):
    """Submits to Slurm. Custom attributes are those with the prefix ``slurm.``."""

    _SCHEDULER_: ClassVar[str] = "slurm"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("slurm",)

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config if config is not None else SlurmExecutorConfig())
