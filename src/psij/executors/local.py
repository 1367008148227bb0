"""The executor for this machine."""

from __future__ import annotations

from typing import ClassVar

from .._engine_executor import EngineExecutor
from ..job_executor_config import JobExecutorConfig

__all__ = ["LocalJobExecutor"]


class LocalJobExecutor(EngineExecutor):
    """Runs jobs on this machine, on jobyard's embedded scheduler: they outlive the program.

    A job starts at once, books nothing and waits for nothing; with ``url="?slots=queue"`` it waits for its turn.
    ``attributes.duration`` ends a job only where it was set; the default of ten minutes does not. ``native_id`` is the
    embedded scheduler's number of the job.
    """

    _SCHEDULER_: ClassVar[str] = "local"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("local",)

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config)
        import jobyard

        contact = jobyard.Contact.parse(self._contact)
        self._queued = contact.options.get("slots") == "queue"

    def _is_local(self) -> bool:
        return True

    def _immediate(self) -> bool:
        return not self._queued
