"""What the executors for the PBS family have in common."""

from __future__ import annotations

from ...job_executor_config import JobExecutorConfig
from ._scheduler import SchedulerExecutor
from .batch_scheduler_executor import BatchSchedulerExecutorConfig

__all__ = ["GenericPBSJobExecutor", "PBSExecutorConfig"]


class PBSExecutorConfig(BatchSchedulerExecutorConfig):
    """The configuration of the executors for the PBS family."""


class GenericPBSJobExecutor(SchedulerExecutor):
    """The base of the executors for the PBS family. Custom attributes are those with the prefix ``pbs.``."""

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config if config is not None else PBSExecutorConfig())
