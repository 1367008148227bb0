"""The executor for HTCondor."""

from __future__ import annotations

from typing import ClassVar

from ...job_executor_config import JobExecutorConfig
from ._scheduler import SchedulerExecutor
from .batch_scheduler_executor import BatchSchedulerExecutorConfig

__all__ = ["HTCondorExecutorConfig", "HTCondorJobExecutor"]


class HTCondorExecutorConfig(BatchSchedulerExecutorConfig):
    """The configuration of the executor for HTCondor."""


class HTCondorJobExecutor(SchedulerExecutor):
    """Submits to HTCondor. Custom attributes are those with the prefix ``htcondor.``."""

    _SCHEDULER_: ClassVar[str] = "htcondor"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("htcondor",)

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config if config is not None else HTCondorExecutorConfig())
