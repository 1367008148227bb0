"""Specifications as text and back."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from .job_attributes import _DEFAULT_DURATION, JobAttributes
from .job_spec import JobSpec
from .resource_spec import ResourceSpec, ResourceSpecV1
from .staging import URI, StageIn, StageOut, StageOutFlags, StagingMode

__all__ = ["JSONSerializer", "Serializer"]

_TEXTS = ("executable", "name", "launcher")
_PATHS = ("directory", "stdin_path", "stdout_path", "stderr_path", "pre_launch", "post_launch")
_RESOURCES = (
    "node_count",
    "process_count",
    "processes_per_node",
    "cpu_cores_per_process",
    "gpu_cores_per_process",
    "exclusive_node_use",
    "memory",
)
_WORDS = ("queue_name", "account", "reservation_id")


class Serializer(ABC):
    """Turns a JobSpec into plain dicts, lists, text, numbers and booleans, and back; subclasses write and read those.

    What equals its default is left out. ValueError, naming the place, for what cannot be written, for unknown keys, and
    for values that are not what they should be.
    """

    @abstractmethod
    def _dump_dict(self, d: dict[str, object], stream: IO[Any]) -> None:
        """Write the plain form."""

    @abstractmethod
    def _load_dict(self, stream: IO[Any]) -> dict[str, object]:
        """Read the plain form."""

    def dump(self, spec: JobSpec, stream: IO[Any]) -> None:
        """Write the specification to a stream, a text or a binary one as the serializer's format asks."""
        self._dump_dict(self._to_dict(spec), stream)

    def load(self, stream: IO[Any]) -> JobSpec:
        """Read a specification from a stream."""
        return self._from_dict(self._load_dict(stream))

    def dumps(self, spec: JobSpec) -> str:
        """The specification as text."""
        from io import StringIO

        stream = StringIO()
        self.dump(spec, stream)
        return stream.getvalue()

    def loads(self, s: str) -> JobSpec:
        """The specification of such a text."""
        from io import StringIO

        return self.load(StringIO(s))

    def _to_dict(self, spec: JobSpec) -> dict[str, object]:
        if not isinstance(spec, JobSpec):
            raise TypeError(f"a serializer takes a JobSpec, not {type(spec).__name__}")
        d: dict[str, object] = {}
        for name in ("executable", "arguments", "environment", "launcher"):
            _put(d, name, getattr(spec, name))
        _put(d, "name", spec._name)
        for name in _PATHS:
            path = getattr(spec, name)
            _put(d, name, None if path is None else str(path))
        if not spec.inherit_environment:
            d["inherit_environment"] = False
        if spec.resources is not None:
            d["resources"] = _from_resources(spec.resources)
        seen = spec._attributes_seen
        if seen is None:
            d["attributes"] = None
        elif attributes := _from_attributes(seen):
            d["attributes"] = attributes
        if spec.stage_in is not None:
            d["stage_in"] = sorted((_from_stage_in(item) for item in spec.stage_in), key=repr)
        if spec.stage_out is not None:
            d["stage_out"] = sorted((_from_stage_out(item) for item in spec.stage_out), key=repr)
        if spec.cleanup is not None:
            d["cleanup"] = sorted(str(path) for path in spec.cleanup)
        if spec.cleanup_flags is not StageOutFlags.ALWAYS:
            d["cleanup_flags"] = spec.cleanup_flags.value
        return d

    def _from_dict(self, d: Mapping[str, object]) -> JobSpec:
        spec = JobSpec()
        for key, value in _items(d, "the specification"):
            if key in (*_TEXTS, *_PATHS, "arguments", "environment", "inherit_environment"):
                _set(spec, key, value)
            elif key == "resources":
                spec.resources = None if value is None else _to_resources(value)
            elif key == "attributes":
                spec.attributes = None if value is None else _to_attributes(value)
            elif key == "stage_in":
                spec.stage_in = {_to_stage_in(item) for item in _list(key, value)}
            elif key == "stage_out":
                spec.stage_out = {_to_stage_out(item) for item in _list(key, value)}
            elif key == "cleanup":
                spec.cleanup = {Path(_text(key, item)) for item in _list(key, value)}
            elif key == "cleanup_flags":
                spec.cleanup_flags = _flags(key, value)
            else:
                raise ValueError(f"a job specification has no {key!r}")
        return spec


class JSONSerializer(Serializer):
    """Specifications as JSON, on text streams. Reads what psij-python wrote."""

    def _dump_dict(self, d: dict[str, object], stream: IO[Any]) -> None:
        stream.write(json.dumps(d))  # twice as fast as json.dump, which has no use of the C encoder

    def _load_dict(self, stream: IO[Any]) -> dict[str, object]:
        try:
            data = json.load(stream)
        except json.JSONDecodeError as error:
            raise ValueError(f"this is not JSON: {error}") from error
        if not isinstance(data, dict):
            raise ValueError(f"a job specification is a JSON object, not {type(data).__name__}")
        return data


# Out ------------------------------------------------------------------------------------------------------------------


def _put(d: dict[str, object], name: str, value: object) -> None:
    if value is not None:
        d[name] = value


def _from_resources(resources: ResourceSpec) -> dict[str, object]:
    if not isinstance(resources, ResourceSpecV1):
        raise ValueError(f"resources: a {type(resources).__name__} cannot be written; ResourceSpecV1 can")
    d: dict[str, object] = {"__version": 1}
    for name in _RESOURCES:
        value = getattr(resources, name)
        if value is not None and value is not False:
            d[name] = value
    return d


def _from_attributes(attributes: JobAttributes) -> dict[str, object]:
    d: dict[str, object] = {}
    if not attributes._duration_is_default or attributes.duration != _DEFAULT_DURATION:
        seconds = attributes.duration.total_seconds()
        # psij-python reads '600 s' as it should, and '600.0 s' as 0: so no fraction where there is none.
        d["duration"] = f"{int(seconds) if seconds == int(seconds) else repr(seconds)} s"
    for name in _WORDS:
        _put(d, name, getattr(attributes, name))
    if attributes.custom_attributes is not None:
        d["custom_attributes"] = {
            key: _plain(f"custom_attributes[{key!r}]", value) for key, value in attributes.custom_attributes.items()
        }
    return d


def _plain(place: str, value: object) -> object:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list):
        return [_plain(f"{place}[{at}]", item) for at, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(f"{place}[{key!r}]", item) for key, item in value.items()}
    raise ValueError(f"{place}: a {type(value).__name__} cannot be written; text, numbers, booleans, None, lists and dicts can")


def _from_stage_in(item: StageIn) -> dict[str, object]:
    return {"source": str(item.source), "target": str(item.target), "mode": item.mode.name}


def _from_stage_out(item: StageOut) -> dict[str, object]:
    d = {"source": str(item.source), "target": str(item.target), "mode": item.mode.name}
    return {**d, "flags": item.flags.value}


# In -------------------------------------------------------------------------------------------------------------------


def _items(value: object, place: str) -> list[tuple[str, object]]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{place} is an object, not {type(value).__name__}")
    return list(value.items())


def _list(place: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{place} is a list, not {type(value).__name__}")
    return value


def _text(place: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{place} is text, not {type(value).__name__} {value!r}")
    return value


def _set(target: object, name: str, value: object) -> None:
    try:
        setattr(target, name, value)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _to_resources(value: object) -> ResourceSpec:
    items = dict(_items(value, "resources"))
    version = items.pop("__version", 1)
    if version != 1:
        raise ValueError(f"resources: version {version!r} is not known; version 1 is")
    for key in items:
        if key not in _RESOURCES:
            raise ValueError(f"resources have no {key!r}")
    try:
        return ResourceSpecV1(**items)  # type: ignore[arg-type]  # ResourceSpecV1 checks each
    except TypeError as error:
        raise ValueError(str(error)) from error


def _to_attributes(value: object) -> JobAttributes:
    attributes = JobAttributes()
    for key, item in _items(value, "attributes"):
        if key == "duration":
            attributes.duration = _duration(item)
        elif key in (*_WORDS, "custom_attributes"):
            _set(attributes, key, item)
        elif key == "project_name":  # psij-python writes the account under both names
            if item is not None and attributes.account is None:
                _set(attributes, "account", item)
        else:
            raise ValueError(f"attributes have no {key!r}")
    return attributes


def _duration(value: object) -> timedelta:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return timedelta(seconds=value)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"duration is a number of seconds, not {value!r}: {error}") from error
    text = _text("duration", value)
    if text.endswith(" s"):
        try:
            return timedelta(seconds=float(text[:-2]))
        except (ValueError, OverflowError):
            pass  # the error of parse_walltime says what to write
    return JobAttributes.parse_walltime(text)


def _mode(value: object) -> StagingMode:
    try:
        return StagingMode[value] if isinstance(value, str) else StagingMode(value)
    except (KeyError, ValueError):
        raise ValueError(f"mode is COPY, LINK or MOVE, not {value!r}") from None


def _flags(place: str, value: object) -> StageOutFlags:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 15:
        raise ValueError(f"{place} is a number from 0 to 15, not {value!r}")
    return StageOutFlags(value)


def _stage(value: object, known: tuple[str, ...]) -> dict[str, object]:
    items = dict(_items(value, "a staging directive"))
    for key in items:
        if key not in known:
            raise ValueError(f"a staging directive has no {key!r}")
    for key in ("source", "target"):
        if key not in items:
            raise ValueError(f"a staging directive needs its {key!r}")
    return items


def _to_stage_in(value: object) -> StageIn:
    items = _stage(value, ("source", "target", "mode"))
    source, target = URI(_text("source", items["source"])), Path(_text("target", items["target"]))
    return StageIn(source, target, _mode(items.get("mode", "COPY")))


def _to_stage_out(value: object) -> StageOut:
    items = _stage(value, ("source", "target", "mode", "flags"))
    source, target = Path(_text("source", items["source"])), URI(_text("target", items["target"]))
    return StageOut(source, target, _flags("flags", items.get("flags", 14)), _mode(items.get("mode", "COPY")))
