"""The executor for Flux."""

from __future__ import annotations

from typing import ClassVar

from ..job_executor_config import JobExecutorConfig
from .batch._scheduler import SchedulerExecutor
from .batch.batch_scheduler_executor import BatchSchedulerExecutorConfig

__all__ = ["FluxExecutorConfig", "FluxJobExecutor"]


class FluxExecutorConfig(BatchSchedulerExecutorConfig):
    """The configuration of the executor for Flux."""


class FluxJobExecutor(SchedulerExecutor):
    """Submits to Flux. Custom attributes are those with the prefix ``flux.``."""

    _SCHEDULER_: ClassVar[str] = "flux"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("flux",)

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config if config is not None else FluxExecutorConfig())
