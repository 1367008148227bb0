"""The executor for Grid Engine."""

from __future__ import annotations

from typing import ClassVar

from ...job_executor_config import JobExecutorConfig
from ._scheduler import SchedulerExecutor
from .batch_scheduler_executor import BatchSchedulerExecutorConfig

__all__ = ["GridEngineExecutorConfig", "GridEngineJobExecutor"]


class GridEngineExecutorConfig(BatchSchedulerExecutorConfig):
    """The configuration of the executor for Grid Engine."""


class GridEngineJobExecutor(SchedulerExecutor):
    """Submits to Grid Engine. Custom attributes are those with the prefix ``gridengine.``."""

    _SCHEDULER_: ClassVar[str] = "gridengine"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("gridengine", "sge")

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config if config is not None else GridEngineExecutorConfig())
