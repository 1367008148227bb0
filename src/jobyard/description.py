"""Making and checking job descriptions from what people write.

``describe`` takes the flat keywords of the Python API and the command; ``check`` runs whenever a JobDescription is made.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .errors import InvalidJob
from .job import After, Inherit, JobDescription, Limits, Placeholder, Resources, StageIn, StageOut, StageWhen
from .units import parse_duration, parse_memory

__all__ = ["check", "describe", "describe_all"]

_PATHS = ("directory", "stdin", "stdout", "stderr", "pre_launch", "post_launch")
_WORDS = ("name", "queue", "account", "reservation", "category")
_FLAGS = ("join_streams", "append_streams", "hold", "rerunnable", "immediate")
EMAIL_EVENTS = ("begin", "end", "fail")


def check(job: JobDescription) -> None:
    """Raise InvalidJob, naming the field, where a value of the description makes no sense."""
    argv = job.argv
    if type(argv) is not tuple or not argv:
        raise InvalidJob("argv is a tuple of at least one word, the command first", field="argv")
    for word in argv:
        if type(word) is not str:
            raise InvalidJob(f"argv holds text only, not {type(word).__name__} {word!r}", field="argv")
        if "\0" in word:
            raise InvalidJob(f"an argument cannot hold a NUL: {word!r}", field="argv")
    if not argv[0]:
        raise InvalidJob("the command is empty", field="argv")
    for field in _PATHS:
        if (value := getattr(job, field)) is not None:
            _check_path(field, value)
    for field in _WORDS:
        if (value := getattr(job, field)) is not None:
            _check_text(field, value)
    for field in _FLAGS:
        if type(getattr(job, field)) is not bool:
            raise InvalidJob(f"{field} is True or False, not {getattr(job, field)!r}", field=field)
    _check_mapping("environment", job.environment)
    for key in job.environment:
        if not key or "=" in key:
            raise InvalidJob(f"{key!r} cannot be the name of an environment variable", field="environment")
    if job.inherit is not None and not isinstance(job.inherit, Inherit):
        raise InvalidJob("inherit is 'client', 'node' or 'none'", field="inherit")
    if type(job.resources) is not Resources:
        raise InvalidJob("resources is a Resources", field="resources")
    if type(job.limits) is not Limits:
        raise InvalidJob("limits is a Limits", field="limits")
    _check_rest(job)


def _check_rest(job: JobDescription) -> None:
    if job.priority is not None and (type(job.priority) is not int or abs(job.priority) > 2**31):
        raise InvalidJob(f"priority is a whole number, not {job.priority!r}", field="priority")
    for field in ("begin_at", "deadline_at"):
        value = getattr(job, field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
            raise InvalidJob(f"{field} is seconds since the epoch, not {value!r}", field=field)
    if job.join_streams and job.stderr is not None:
        raise InvalidJob("stderr cannot have a path of its own when it is joined to stdout", field="stderr")
    if job.after:
        _check_items("after", job.after, After)
    if job.stage_in or job.stage_out or job.cleanup:
        _check_items("stage_in", job.stage_in, StageIn)
        _check_items("stage_out", job.stage_out, StageOut)
        for field, stages in (("stage_in", job.stage_in), ("stage_out", job.stage_out)):
            for stage in stages:
                _check_path(field, stage.source)
                _check_path(field, stage.target)
        for path in job.cleanup:
            _check_path("cleanup", path)
        from .staging import check_stages

        check_stages(job.stage_in, job.stage_out, job.cleanup)
    if not isinstance(job.launcher, str) or not job.launcher:
        raise InvalidJob("launcher is a launcher's name, such as 'single' or 'mpirun'", field="launcher")
    for field in ("launcher_options", "native", "email"):
        values = getattr(job, field)
        if type(values) is not tuple:
            raise InvalidJob(f"{field} is a tuple of text", field=field)
        for value in values:
            _check_text(field, value)
    for event in job.email_on:
        if event not in EMAIL_EVENTS:
            raise InvalidJob(f"email_on: mail is sent on {', '.join(EMAIL_EVENTS)}, not on {event!r}", field="email_on")
    _check_mapping("attributes", job.attributes)
    _check_mapping("tags", job.tags)


def _check_text(field: str, value: Any) -> None:
    if type(value) is not str:
        raise InvalidJob(f"{field} is text, not {type(value).__name__} {value!r}", field=field)
    if "\0" in value:
        raise InvalidJob(f"{field} cannot hold a NUL: {value!r}", field=field)


def _check_path(field: str, value: Any) -> None:
    if type(value) is not str:
        raise InvalidJob(f"{field} is a path, not {type(value).__name__} {value!r}", field=field)
    if not value:
        raise InvalidJob(f"{field} is an empty path", field=field)
    if "\0" in value:
        bare = value
        for mark in Placeholder.ALL:
            bare = bare.replace(mark, "")
        if "\0" in bare:
            raise InvalidJob(f"{field} cannot hold a NUL: {value!r}", field=field)


def _check_mapping(field: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise InvalidJob(f"{field} is a mapping of text to text, not {type(value).__name__}", field=field)
    for key, item in value.items():
        _check_text(field, key)
        _check_text(field, item)


def _check_items(field: str, value: Any, kind: type) -> None:
    if type(value) is not tuple or any(type(item) is not kind for item in value):
        raise InvalidJob(f"{field} is a tuple of {kind.__name__}", field=field)


# What people write -------------------------------------------------------------------------------------------------


def describe(command: JobDescription | str | bytes | os.PathLike[Any] | Iterable[Any], /, **fields: Any) -> JobDescription:
    """A description from a command (a list of words, or one path) and flat keywords.

    Besides the fields of JobDescription: those of Resources (``cores=2``, ``memory="512MiB"``) and of Limits
    (``walltime="10m"``, ``cpu_time``, ``core``, ...), ``environment`` with int and path values, ``after=`` jobs or tokens,
    ``begin_at=`` a datetime or seconds since the epoch, ``stderr="stdout"``-like joins by ``join_streams=True``.
    Given a JobDescription, returns it with the keywords changed. Raises InvalidJob naming the field.
    """
    if isinstance(command, JobDescription):
        if not fields:
            return command
        import msgspec

        return msgspec.structs.replace(command, **_convert(fields, command))
    return JobDescription(argv=_words(command), **_convert(fields, None))


def describe_all(items: Iterable[Any], common: Mapping[str, Any]) -> list[JobDescription]:
    """Descriptions of many commands. ``common`` holds for all commands; a JobDescription among the items takes from it
    only its ``directory`` and ``inherit``, and only where it says none itself."""
    fields = _convert(dict(common), None)
    directory, inherit = fields.get("directory"), fields.get("inherit")
    changes = {name: value for name, value in common.items() if name not in ("directory", "inherit")}
    made: list[JobDescription] = []
    last: JobDescription | None = None
    for item in items:
        if not isinstance(item, JobDescription):
            words = _words(item)
            if last is None or words != last.argv:  # many of the same command are one description
                last = JobDescription(argv=words, **fields)
            made.append(last)
        else:
            made.append(_with_defaults(describe(item, **changes), directory, inherit))
    return made


def _with_defaults(job: JobDescription, directory: str | None, inherit: Inherit | None) -> JobDescription:
    if (job.directory is not None or directory is None) and (job.inherit is not None or inherit is None):
        return job
    import msgspec

    return msgspec.structs.replace(job, directory=job.directory or directory, inherit=job.inherit or inherit)


def _words(command: Any) -> tuple[str, ...]:
    if isinstance(command, str | bytes | os.PathLike):
        text = os.fsdecode(command)
        if isinstance(command, str) and any(c in text for c in " \t\n") and not os.path.exists(text):
            words = ", ".join(repr(word) for word in _split(text))
            raise InvalidJob(f"{text!r} is one word; nothing here is given to a shell. Write a list: [{words}]", field="argv")
        return (text,)
    try:
        return tuple([word if type(word) is str else _word(word) for word in command])
    except TypeError as error:
        raise InvalidJob(f"a command is a list of words, not {type(command).__name__}", field="argv") from error


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _word(word: Any, field: str = "argv", what: str = "an argument") -> str:
    if isinstance(word, str | bytes | os.PathLike):
        return str(os.fsdecode(word))
    if isinstance(word, int | float) and not isinstance(word, bool):
        return str(word)
    raise InvalidJob(f"{what} is text, bytes, a path or a number, not {type(word).__name__} {word!r}", field=field)


def _path(value: Any) -> str:
    return os.fsdecode(value)


def _text(value: Any) -> str:
    return os.fsdecode(value)


def _mapping(field: str) -> Callable[[Any], dict[str, str]]:
    def convert(value: Mapping[Any, Any]) -> dict[str, str]:
        what = f"a value of {field}"
        return {os.fsdecode(key): item if type(item) is str else _word(item, field, what) for key, item in value.items()}

    return convert


def _texts(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _after(value: Any) -> tuple[After, ...]:
    if isinstance(value, str | After) or hasattr(value, "token"):
        value = (value,)
    found: list[After] = []
    for item in value:
        if isinstance(item, After):
            found.append(item)
            continue
        one, when = item if isinstance(item, tuple) and len(item) == 2 else (item, "success")
        token: Any = getattr(one, "token", one)
        found.append(After(token, when))
    if any(type(item.token) is not str for item in found):
        raise InvalidJob("after takes jobs, tokens, or pairs of one and 'success', 'failure' or 'any'", field="after")
    return tuple(found)


def _moment(value: Any) -> Any:
    stamp = getattr(value, "timestamp", None)
    return float(stamp()) if callable(stamp) else value


def _stages(kind: type[StageIn] | type[StageOut]) -> Callable[[Any], tuple[Any, ...]]:
    def convert(value: Any) -> tuple[Any, ...]:
        pairs = value.items() if isinstance(value, Mapping) else value
        return tuple(item if type(item) is kind else kind(source=_path(item[0]), target=_path(item[1])) for item in pairs)

    return convert


_CONVERT: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_PATHS, _path),
    **dict.fromkeys(_WORDS, _text),
    "environment": _mapping("environment"),
    "inherit": Inherit,
    "after": _after,
    "begin_at": _moment,
    "deadline_at": _moment,
    "launcher_options": _texts,
    "native": _texts,
    "email": _texts,
    "email_on": _texts,
    "stage_in": _stages(StageIn),
    "stage_out": _stages(StageOut),
    "cleanup": lambda value: tuple(_path(item) for item in value),
    "cleanup_when": StageWhen,
    "attributes": _mapping("attributes"),
    "tags": _mapping("tags"),
}
_RESOURCES: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    **{name: (name, None) for name in ("nodes", "processes", "processes_per_node", "cores", "gpus", "exclusive")},
    "memory": ("memory_bytes", parse_memory),
    "memory_bytes": ("memory_bytes", parse_memory),
}
_LIMITS: dict[str, tuple[str, Callable[[Any], Any] | None]] = {"open_files": ("open_files", None)}
for _name in ("walltime", "soft_walltime", "run_time", "soft_run_time", "cpu_time"):
    _LIMITS[_name] = _LIMITS[_name + "_s"] = (_name + "_s", parse_duration)
for _name in ("core", "file", "stack"):
    _LIMITS[_name + "_size"] = _LIMITS[_name + "_bytes"] = (_name + "_bytes", parse_memory)
_PLAIN = frozenset(JobDescription.__struct_fields__) - {"argv"}


def _convert(fields: dict[str, Any], base: JobDescription | None) -> dict[str, Any]:
    """The keywords of JobDescription for flat keywords; those left None are left out."""
    result: dict[str, Any] = {}
    resources: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None and base is None:
            if name not in _PLAIN and name not in _RESOURCES and name not in _LIMITS:
                raise _unknown(name)
            continue
        try:
            if name in _RESOURCES:
                key, convert = _RESOURCES[name]
                resources[key] = convert(value) if convert and value is not None else value
            elif name in _LIMITS:
                key, convert = _LIMITS[name]
                limits[key] = convert(value) if convert and value is not None else value
            elif name in _PLAIN:
                known = _CONVERT.get(name)
                result[name] = known(value) if known and value is not None else value
            elif name == "argv":
                result[name] = _words(value)
            else:
                raise _unknown(name)
        except InvalidJob as error:
            raise error if error.field else InvalidJob(f"{name}: {error}", field=name) from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise InvalidJob(f"{name}={value!r}: {error}", field=name) from error
    if resources:
        result["resources"] = _merged(Resources, result.get("resources") or (base.resources if base else None), resources)
    if limits:
        result["limits"] = _merged(Limits, result.get("limits") or (base.limits if base else None), limits)
    return result


def _merged(kind: Any, old: Any, changes: dict[str, Any]) -> Any:
    import msgspec

    return kind(**changes) if old is None else msgspec.structs.replace(old, **changes)


def _unknown(name: str) -> InvalidJob:
    import difflib

    names = sorted({*_PLAIN, *_RESOURCES, *_LIMITS})
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return InvalidJob(f"a job has no {name!r}{hint} It has: {', '.join(names)}", field=name)
