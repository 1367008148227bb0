"""The executor for LSF."""

from __future__ import annotations

from typing import ClassVar

from ...job_executor_config import JobExecutorConfig
from ._scheduler import SchedulerExecutor
from .batch_scheduler_executor import BatchSchedulerExecutorConfig

__all__ = ["LsfExecutorConfig", "LsfJobExecutor"]


class LsfExecutorConfig(BatchSchedulerExecutorConfig):
    """The configuration of the executor for LSF."""


class LsfJobExecutor(SchedulerExecutor):
    """Submits to LSF. Custom attributes are those with the prefix ``lsf.``."""

    _SCHEDULER_: ClassVar[str] = "lsf"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("lsf",)

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config if config is not None else LsfExecutorConfig())
