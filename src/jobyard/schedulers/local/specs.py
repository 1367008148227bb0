"""A job description as it travels: the spec that the spawner reads, and the traits that the server schedules by.

The spec is one msgpack map with short keys, opaque to the server: ``a`` argv, ``d`` directory, ``i`` what is inherited
(absent: the client's environment; ``n`` node, ``z`` none), ``e`` environment, ``0`` ``1`` ``2`` streams, ``j`` joined, ``A``
appended, ``l`` limits, ``u`` umask, ``n`` name, ``x`` every other field as JSON. Traits stand in jobs.Traits.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ...job import Inherit, JobDescription, Limits, Resources, description_from_data, to_data
from .wire import pack, unpack

if TYPE_CHECKING:
    from .shepherded import Launch

__all__ = ["decode", "encode", "folder_of", "name_of", "shown_streams"]

_SPEC_FIELDS = frozenset(
    ("argv", "name", "directory", "environment", "inherit", "stdin", "stdout", "stderr", "join_streams", "append_streams")
)
_REST = tuple(name for name in JobDescription.__struct_fields__ if name not in _SPEC_FIELDS)
_REST_DEFAULTS: tuple[tuple[str, Any], ...] = tuple(
    (name, getattr(JobDescription(argv=("x",)), name)) for name in _REST if name not in ("resources", "limits")
)
_NO_RESOURCES, _NO_LIMITS = Resources(), Limits()
_fs = os.fsencode


def encode(job: JobDescription, umask: int, launch: Launch | None = None) -> bytes | list[bytes | None]:
    """The spec of a description; with its traits where it has any that matter before it starts.

    ``launch``: the shepherd's argv, the job's folder, and further traits, for jobs that go through it.
    """
    spec: dict[str, Any] = {"a": [word.encode("utf-8", "surrogateescape") for word in job.argv]}
    if job.directory is not None:
        spec["d"] = _fs(job.directory)
    if job.inherit is not None and job.inherit is not Inherit.CLIENT:
        spec["i"] = "n" if job.inherit is Inherit.NODE else "z"
    if job.environment:
        spec["e"] = {_fs(key): _fs(value) for key, value in job.environment.items()}
    if job.stdin is not None:
        spec["0"] = _fs(job.stdin)
    if job.stdout is not None:
        spec["1"] = _fs(job.stdout)
    if job.stderr is not None:
        spec["2"] = _fs(job.stderr)
    if job.join_streams:
        spec["j"] = True
    if job.append_streams:
        spec["A"] = True
    if umask != 0o022:
        spec["u"] = umask
    if job.name is not None:
        spec["n"] = _fs(job.name)
    if job.resources == _NO_RESOURCES and job.limits == _NO_LIMITS:
        for name, default in _REST_DEFAULTS:
            if getattr(job, name) != default:
                break
        else:
            return pack(spec)
    data = {key: value for key, value in to_data(job).items() if key not in _SPEC_FIELDS}
    spec["x"] = json.dumps(data, separators=(",", ":")).encode()
    traits = _traits(job)
    if launch is None:
        limits = _limits(job.limits)
        if limits:
            spec["l"] = limits
    else:
        spec["D"] = dict(spec)  # the description's own; what is run is the shepherd
        spec["a"], spec["d"], more = launch
        traits.update(more)
        for key in ("e", "0", "1", "2", "j", "A"):
            spec.pop(key, None)
    return [pack(spec), pack(traits) if traits else None]


def _limits(limits: Limits) -> dict[str, float]:
    found = {
        "cpu": limits.cpu_time_s,
        "core": limits.core_bytes,
        "file": limits.file_bytes,
        "open_files": limits.open_files,
        "stack": limits.stack_bytes,
    }
    return {name: value for name, value in found.items() if value is not None}


def _traits(job: JobDescription) -> dict[str, Any]:
    resources, limits = job.resources, job.limits
    estimates = [value for value in (limits.soft_walltime_s, limits.soft_run_time_s) if value is not None]
    found: dict[str, Any] = {
        "c": resources.total_cores if resources.total_cores != 1 else None,
        "m": resources.memory_bytes,
        "g": resources.total_gpus or None,
        "x": resources.exclusive or None,
        "p": job.priority or None,
        "b": job.begin_at,
        "D": job.deadline_at,
        "h": job.hold or None,
        "d": [(after.token, after.when) for after in job.after] or None,
        "w": limits.walltime_s,
        "r": limits.run_time_s,
        "t": limits.cpu_time_s,
        "e": min(estimates) if estimates else None,
        "R": job.rerunnable or None,
        "I": job.immediate or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def decode(blob: bytes) -> JobDescription:
    """The description that was encoded."""
    spec = unpack(blob)
    spec = spec.get("D", spec)
    data: dict[str, Any] = json.loads(spec["x"]) if "x" in spec else {}
    text = os.fsdecode
    data["argv"] = [text(word) for word in spec["a"]]
    for key, field in (("d", "directory"), ("0", "stdin"), ("1", "stdout"), ("2", "stderr"), ("n", "name")):
        if key in spec:
            data[field] = text(spec[key])
    if "e" in spec:
        data["environment"] = {text(key): text(value) for key, value in spec["e"].items()}
    data["inherit"] = {None: "client", "n": "node", "z": "none"}[spec.get("i")]
    data["join_streams"] = spec.get("j", False)
    data["append_streams"] = spec.get("A", False)
    return description_from_data(data)


def name_of(blob: bytes) -> str:
    """The shown name of an encoded description."""
    spec = unpack(blob)
    spec = spec.get("D", spec)
    if "n" in spec:
        return os.fsdecode(spec["n"])
    first = os.fsdecode(spec["a"][0])
    return os.path.basename(first) or first


def folder_of(blob: bytes) -> str | None:
    """The folder of a job that goes through the shepherd."""
    spec = unpack(blob)
    return os.fsdecode(spec["d"]) if "D" in spec else None


def shown_streams(job: JobDescription, kept: list[str | None], native_id: str, index: int | None) -> tuple[str | None, str | None]:
    """Where a job's output and error are, given the paths of its default streams; None: discarded, or not known yet."""
    from .launch import expand, passwd_entry

    home = passwd_entry()[1]
    array = os.fsencode(native_id.partition("_")[0])
    task = b"" if index is None else b"%d" % index
    directory = expand(_fs(job.directory), home, b"", task, array) if job.directory is not None else home

    def whole(path: str | None, default: str | None) -> str | None:
        if path is None:
            return default
        if path == os.devnull:
            return None
        return os.fsdecode(os.path.join(directory, expand(_fs(path), home, directory, task, array)))

    out = whole(job.stdout, kept[0])
    return out, out if job.join_streams else whole(job.stderr, kept[1])
