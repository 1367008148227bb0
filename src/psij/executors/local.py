"""The executor for this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from .._engine_executor import EngineExecutor
from ..exceptions import InvalidJobException
from ..job import Job
from ..job_executor_config import JobExecutorConfig
from ..resource_spec import ResourceSpecV1

if TYPE_CHECKING:
    import jobyard

__all__ = ["LocalJobExecutor"]


class LocalJobExecutor(EngineExecutor):
    """Runs jobs on this machine, on jobyard's embedded scheduler: they outlive the program.

    A job starts at once, books nothing and waits for nothing: cores are those of the machine, shared by all (more of them
    for a process than there are is refused); memory is a limit that is enforced; GPUs are booked, and waited for;
    exclusive use is refused. With ``url="?slots=queue"`` jobs book what they ask for and wait for their turn, and exclusive
    use can be had. ``attributes.duration`` ends a job only where it was set; the default of ten minutes does not.
    """

    _SCHEDULER_: ClassVar[str] = "local"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("local",)

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config)
        import jobyard

        contact = jobyard.Contact.parse(self._contact)
        self._queued = contact.options.get("slots") == "queue"
        self._engine = contact_without(contact, "slots") if self._queued else self._contact

    def _engine_contact(self) -> str:
        return self._engine

    def _is_local(self) -> bool:
        return True

    def _describe(self, job: Job) -> tuple[jobyard.JobDescription, str | None]:
        description, log = super()._describe(job)
        spec = job.spec
        if self._queued or spec is None or not isinstance(spec.resources, ResourceSpecV1):
            return description, log
        _check(spec.resources)
        return description, log

    def _immediate(self, job: Job) -> bool:
        resources = job.spec.resources if job.spec is not None else None
        return not self._queued and not (isinstance(resources, ResourceSpecV1) and resources.gpu_cores_per_process)


def contact_without(contact: jobyard.Contact, option: str) -> str:
    """The contact without one of its options: this one says how jobs are submitted, and never how many slots there are."""
    import msgspec

    return str(msgspec.structs.replace(contact, options={key: value for key, value in contact.options.items() if key != option}))


def _check(asked: ResourceSpecV1) -> None:
    """InvalidJobException for what a job that starts at once cannot have."""
    if asked.exclusive_node_use:
        raise InvalidJobException(
            "JobSpec.resources.exclusive_node_use: jobs of the local executor start at once, beside each other; "
            'use url="?slots=queue"'
        )
    cores = os.cpu_count() or 1
    if (asked.cpu_cores_per_process or 1) > cores:
        raise InvalidJobException(
            f"JobSpec.resources.cpu_cores_per_process: {asked.cpu_cores_per_process} cores asked for, this machine has {cores}"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if (asked.memory or 0) > memory:
        raise InvalidJobException(f"JobSpec.resources.memory: {asked.memory} bytes are asked for, and this machine has {memory}")
