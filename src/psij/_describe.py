"""A PSI/J specification as the engine's job description. Nothing is dropped: what cannot be said is refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import jobyard
from jobyard import fronts

from .exceptions import InvalidJobException
from .job_spec import JobSpec
from .resource_spec import ResourceSpecV1
from .staging import URI, StageOutFlags, StagingMode

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FIELDS", "attributes", "cleanup_flags", "describe", "local_path", "spec_name"]

_DEFAULT = jobyard.Resources()
_UNLIMITED = jobyard.Limits()
_MODES = {
    StagingMode.COPY: fronts.StageMode.COPY,
    StagingMode.LINK: fronts.StageMode.LINK,
    StagingMode.MOVE: fronts.StageMode.MOVE,
}

FIELDS = {
    "argv": "executable",
    "directory": "directory",
    "environment": "environment",
    "inherit": "inherit_environment",
    "stdin": "stdin_path",
    "stdout": "stdout_path",
    "stderr": "stderr_path",
    "nodes": "resources.node_count",
    "processes": "resources.process_count",
    "processes_per_node": "resources.processes_per_node",
    "cores": "resources.cpu_cores_per_process",
    "gpus": "resources.gpu_cores_per_process",
    "memory": "resources.memory",
    "memory_bytes": "resources.memory",
    "exclusive": "resources.exclusive_node_use",
    "walltime": "attributes.duration",
    "queue": "attributes.queue_name",
    "account": "attributes.account",
    "reservation": "attributes.reservation_id",
    "attributes": "attributes.custom_attributes",
}
"""The engine's name of each field, and where a JobSpec has it."""


def spec_name(field: str | None) -> str | None:
    """Where a JobSpec has what the engine calls ``field``."""
    return FIELDS.get(field, field) if field is not None else None


def describe(
    spec: JobSpec, *, here: bool, remote: bool, immediate: bool, prefixes: Sequence[str], scheduler: str, tags: dict[str, str]
) -> jobyard.JobDescription:
    """The description of one job.

    ``here``: the job runs on this very machine, so that the environment is the program's own. ``remote``: the scheduler is
    on another host; else a relative directory is taken from the program's current one.
    ``prefixes``: those of custom attributes that are meant for this executor; ``scheduler``: the engine's name of its own.
    InvalidJobException names what cannot be said. Launchers are left to the caller.
    """
    directory, given = spec.directory, spec._attributes_seen
    stdout = "/dev/null" if spec.stdout_path is None else str(spec.stdout_path)
    stderr = "/dev/null" if spec.stderr_path is None else str(spec.stderr_path)
    joined = stdout == stderr and stdout != "/dev/null"
    try:
        return jobyard.JobDescription(
            argv=(spec.executable or "", *(spec.arguments or ())),
            name=spec._name,
            directory=_directory(directory, remote),
            environment=spec.environment or {},
            inherit=_inherit(spec, here),
            stdin=None if spec.stdin_path is None else str(spec.stdin_path),
            stdout=stdout,
            stderr=None if joined else stderr,
            join_streams=joined,
            resources=_resources(spec),
            limits=_limits(spec, here),
            queue=given.queue_name if given else None,
            account=given.account if given else None,
            reservation=given.reservation_id if given else None,
            immediate=immediate,
            pre_launch=None if spec.pre_launch is None else str(spec.pre_launch),
            post_launch=None if spec.post_launch is None else str(spec.post_launch),
            attributes=attributes(spec, prefixes, scheduler),
            tags=tags,
            **_staging(spec),
        )
    except jobyard.InvalidJob as error:
        raise refusal(error) from error
    except FileNotFoundError as error:
        raise InvalidJobException("JobSpec: a path is taken from the present directory, which was removed", error) from error


def described_for_script(spec: JobSpec, tags: dict[str, str]) -> jobyard.JobDescription:
    """The description of a job whose script a third party's executor writes: what is in that script is its own affair."""
    given = spec._attributes_seen
    try:
        return jobyard.JobDescription(
            argv=(spec.executable or "", *(spec.arguments or ())),
            name=spec._name,
            directory=None if spec.directory is None else str(spec.directory.absolute()),
            inherit=fronts.Inherit.NODE,
            stdout="/dev/null",
            stderr="/dev/null",
            resources=_resources(spec),
            limits=_limits(spec, False),
            queue=given.queue_name if given else None,
            account=given.account if given else None,
            reservation=given.reservation_id if given else None,
            tags=tags,
        )
    except jobyard.InvalidJob as error:
        raise refusal(error) from error
    except FileNotFoundError as error:
        raise InvalidJobException("JobSpec: a path is taken from the present directory, which was removed", error) from error


def refusal(error: jobyard.InvalidJob) -> InvalidJobException:
    """The engine's refusal in PSI/J's words."""
    name = spec_name(error.field)
    text = str(error)
    return InvalidJobException(text if name is None or name in text else f"JobSpec.{name}: {text}", error)


def _directory(directory: Path | None, remote: bool) -> str | None:
    if remote:
        return None if directory is None else str(directory)
    return os.getcwd() if directory is None else str(directory.absolute())


def _inherit(spec: JobSpec, here: bool) -> fronts.Inherit:
    if not spec.inherit_environment:
        return fronts.Inherit.NONE
    return fronts.Inherit.CLIENT if here else fronts.Inherit.NODE


def _resources(spec: JobSpec) -> jobyard.Resources:
    asked = spec.resources
    if asked is None:
        return _DEFAULT
    if not isinstance(asked, ResourceSpecV1):
        raise InvalidJobException(f"resources: a {type(asked).__name__} is not understood; ResourceSpecV1 is")
    asked._layout()
    return jobyard.Resources(
        nodes=asked.node_count,
        processes=asked.process_count,
        processes_per_node=asked.processes_per_node,
        cores=asked.cpu_cores_per_process,
        gpus=asked.gpu_cores_per_process,
        memory_bytes=asked.memory,
        exclusive=asked.exclusive_node_use,
    )


def _limits(spec: JobSpec, here: bool) -> jobyard.Limits:
    given = spec._attributes_seen
    # Every specification has a duration; the ten minutes that nobody asked for are for queues, not for this machine.
    if given is None or (here and given._duration_is_default):
        return _UNLIMITED
    return jobyard.Limits(walltime_s=given.duration.total_seconds())


def attributes(spec: JobSpec, prefixes: Sequence[str], scheduler: str) -> dict[str, str]:
    """Custom attributes for the engine: those with one of these prefixes, under its own name of the scheduler."""
    seen = spec._attributes_seen
    found: dict[str, str] = {}
    for key, value in ((seen.custom_attributes if seen else None) or {}).items():
        prefix, dot, name = key.partition(".")
        prefix = prefix.lower()
        if not dot or not name:
            raise InvalidJobException(
                f"custom attribute {key!r}: write it with the name of the executor that it is for, such as '{prefixes[0]}.{key}'"
            )
        if prefix in prefixes:
            found[f"{scheduler}.{name}"] = _attribute(key, value)
        elif not _known_prefix(prefix):
            raise InvalidJobException(f"custom attribute {key!r}: there is no executor {prefix!r}; this one takes '{prefixes[0]}.'")
    return found


def _known_prefix(prefix: str) -> bool:
    from . import _plugins

    return _plugins.executors().known(prefix) or prefix in _plugins.executors().names()


def _attribute(key: str, value: object) -> str:
    if value is None or value is True:
        return ""  # a flag
    if isinstance(value, str | int | float) and value is not False:
        return str(value)
    raise InvalidJobException(f"custom attribute {key!r} is text, a number, or True for a flag, not {value!r}")


# Staging --------------------------------------------------------------------------------------------------------------


def _staging(spec: JobSpec) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if spec.stage_in:
        found["stage_in"] = tuple(
            fronts.StageIn(source=local_path("stage_in", item.source), target=str(item.target), mode=_MODES[item.mode])
            for item in sorted(spec.stage_in, key=repr)
        )
    if spec.stage_out:
        found["stage_out"] = tuple(
            fronts.StageOut(
                source=str(item.source),
                target=local_path("stage_out", item.target),
                mode=_MODES[item.mode],
                when=fronts.StageWhen(item.flags.value),
            )
            for item in sorted(spec.stage_out, key=repr)
        )
    if spec.cleanup:
        found["cleanup"] = tuple(sorted(str(path) for path in spec.cleanup))
        found["cleanup_when"] = fronts.StageWhen(cleanup_flags(spec))
    return found


def cleanup_flags(spec: JobSpec) -> int:
    """When to clean: IF_PRESENT is implied, and no ON_... at all means ALWAYS."""
    return (spec.cleanup_flags & StageOutFlags.ALWAYS).value or StageOutFlags.ALWAYS.value


def local_path(what: str, uri: URI) -> str:
    """The absolute path that a staging URI means; a relative one is taken from the program's current directory.

    InvalidJobException where its scheme or host is none of ours.
    """
    if uri.scheme not in ("", "file"):
        raise InvalidJobException(f"{what}: {str(uri)!r}: files cannot be staged by {uri.scheme!r}; paths and file: URIs can")
    if uri.hostname not in (None, "", "localhost"):
        raise InvalidJobException(f"{what}: {str(uri)!r}: files can be staged on 'localhost' only, not on {uri.hostname!r}")
    path = unquote(uri.path, errors="surrogateescape") if uri.scheme else uri.path
    if not path:
        raise InvalidJobException(f"{what}: {str(uri)!r} has no path")
    return os.path.abspath(path)
