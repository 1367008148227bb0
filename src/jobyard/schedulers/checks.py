"""What a scheduler cannot honour is refused here, once for all that are asked by commands. Pure."""

from __future__ import annotations

from ..errors import InvalidJob, UnsupportedAttribute
from ..job import JobDescription
from ..launchers import is_added
from .base import Capabilities, Kind

__all__ = ["check_capabilities"]

# What only the scheduler can do for a job; the rest of a description is the shepherd's work, the same everywhere.
# The second value is one that asks for nothing, besides the default.
_RESOURCES = {
    "nodes": 1,
    "processes": 1,
    "processes_per_node": 1,
    "cores": 1,
    "gpus": 0,
    "memory_bytes": None,
    "exclusive": False,
}
_LIMITS = ("walltime_s", "soft_walltime_s", "run_time_s", "soft_run_time_s", "cpu_time_s")
_JOB = {
    "queue": None,
    "account": None,
    "reservation": None,
    "priority": 0,
    "begin_at": None,
    "deadline_at": None,
    "hold": False,
    "rerunnable": False,
    "immediate": False,
    "native": (),
    "category": None,
    "email": (),
}


def check_capabilities(
    scheduler: str, can: Capabilities, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None
) -> None:
    """UnsupportedAttribute names the attribute, the scheduler, and what it can do instead."""
    for name, nothing in _RESOURCES.items():
        value = getattr(description.resources, name)
        if value is not None and value != nothing:
            _check(scheduler, can, name, value)
    for name in _LIMITS:
        value = getattr(description.limits, name)
        if value is not None:
            _check(scheduler, can, name, value)
    for name, unset in _JOB.items():
        value = getattr(description, name)
        if value is not None and value != unset:
            _check(scheduler, can, name, value)
    if description.launcher not in can.launchers and not is_added(description.launcher):
        raise _refusal(scheduler, can, "launcher", f"the launcher {description.launcher!r}", f"it has {_listed(can.launchers)}")
    for after in description.after:
        if after.when not in can.dependencies:
            what = f"a dependency on the {after.when} of another job" if can.dependencies else "dependencies between jobs"
            raise _refusal(scheduler, can, "after", what, f"it knows those on: {_listed(can.dependencies)}")
    if kind is not Kind.SINGLE:
        if tasks < 1:
            raise InvalidJob("an array has at least one task", field="indices")
        if not can.arrays:
            raise _refusal(scheduler, can, "arrays", "array jobs", "submit single jobs")
    if max_running is not None:
        if max_running < 1:
            raise InvalidJob(f"max_running must be 1 or more, not {max_running}", field="max_running")
        if not can.max_running:
            raise _refusal(scheduler, can, "max_running", "a cap on the running tasks of an array", "leave it out")


def _check(scheduler: str, can: Capabilities, name: str, value: object) -> None:
    if name not in can.attributes:
        known = _listed(can.attributes)
        raise _refusal(scheduler, can, name, f"{name}={value!r}", f"it honours: {known}")


def _refusal(scheduler: str, can: Capabilities, name: str, what: str, instead: str) -> UnsupportedAttribute:
    return UnsupportedAttribute(
        f"{scheduler} cannot honour {what}; {can.notes.get(name, instead)}", field=name.removesuffix("_s"), scheduler=scheduler
    )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"
