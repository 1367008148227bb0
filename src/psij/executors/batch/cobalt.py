"""The executor for Cobalt."""

from __future__ import annotations

from typing import ClassVar

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
