"""The executor for HyperQueue."""

from __future__ import annotations

from typing import ClassVar

from ..job_executor_config import JobExecutorConfig
from .batch._scheduler import SchedulerExecutor
from .batch.batch_scheduler_executor import BatchSchedulerExecutorConfig

__all__ = ["HyperQueueExecutorConfig", "HyperQueueJobExecutor"]


class HyperQueueExecutorConfig(BatchSchedulerExecutorConfig):
    """The configuration of the executor for HyperQueue."""


class HyperQueueJobExecutor(SchedulerExecutor):
    """Submits to HyperQueue. Custom attributes are those with the prefix ``hyperqueue.``."""

    _SCHEDULER_: ClassVar[str] = "hyperqueue"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("hyperqueue",)

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config if config is not None else HyperQueueExecutorConfig())
