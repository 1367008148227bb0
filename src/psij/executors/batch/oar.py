"""The executor for OAR."""

from __future__ import annotations

from typing import ClassVar

from ...job_executor_config import JobExecutorConfig
from ._scheduler import SchedulerExecutor
from .batch_scheduler_executor import BatchSchedulerExecutorConfig

__all__ = ["OARExecutorConfig", "OARJobExecutor"]


class OARExecutorConfig(BatchSchedulerExecutorConfig):
    """The configuration of the executor for OAR."""


class OARJobExecutor(SchedulerExecutor):
    """Submits to OAR. Custom attributes are those with the prefix ``oar.``."""

    _SCHEDULER_: ClassVar[str] = "oar"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("oar",)

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config if config is not None else OARExecutorConfig())
