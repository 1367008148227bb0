"""The executor for NEC NQSV."""

from __future__ import annotations

from typing import ClassVar

from ...job_executor_config import JobExecutorConfig
from ._scheduler import SchedulerExecutor
from .batch_scheduler_executor import BatchSchedulerExecutorConfig

__all__ = ["NQSVExecutorConfig", "NQSVJobExecutor"]


class NQSVExecutorConfig(BatchSchedulerExecutorConfig):
    """The configuration of the executor for NEC NQSV."""


class NQSVJobExecutor(SchedulerExecutor):
    """Submits to NEC NQSV. Custom attributes are those with the prefix ``nqsv.``."""

    _SCHEDULER_: ClassVar[str] = "nqsv"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("nqsv",)

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config if config is not None else NQSVExecutorConfig())
