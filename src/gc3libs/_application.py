"""``Application``: a program to be run, its files, and what it needs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from . import _options
from ._run import Run
from .exceptions import DuplicateEntryError, InvalidArgument, InvalidType, InvalidValue
from .quantity import Duration, Memory, hours
from .url import Url
from .utils import Struct

__all__ = ["ANY_OUTPUT", "Application", "Default", "Task"]

_STDOUT = -2  # subprocess.STDOUT, which would be a heavy import
ANY_OUTPUT = "*"  # as outputs: all that lies in the job's directory


class Default:
    """What applications that do not say otherwise ask for."""

    JOB_NAME = "GC3Pie"


class Task(Struct):
    """Something with an execution record, ``execution``, whose changes of state call the hooks below."""

    def __init__(self, **extra: Any) -> None:
        self.changed = True
        self.execution = Run(attach=self)
        super().__init__(**extra)

    def new(self) -> None:
        """Called when the state becomes NEW."""

    def submitted(self) -> None:
        """Called when the state becomes SUBMITTED."""

    def running(self) -> None:
        """Called when the state becomes RUNNING."""

    def stopped(self) -> None:
        """Called when the state becomes STOPPED."""

    def terminating(self) -> None:
        """Called when the state becomes TERMINATING: it has ended, and its output has not been fetched."""

    def terminated(self) -> None:
        """Called when the state becomes TERMINATED."""

    def unknown(self) -> None:
        """Called when the state becomes UNKNOWN."""


class Application(Task):
    """A program to be run by a scheduler.

    ``arguments``: its words, the program first; a text is split as a shell would. One that begins with ``./`` is a file of the
    job's directory, and made executable there.
    ``inputs``: files and folders of this machine: pairs, or a mapping, of local path (or ``Url``) and name in the job's
    directory; a path alone keeps its last component. ``outputs``: the same the other way round; names may hold ``*``, ``?`` and
    ``[...]``; ``ANY_OUTPUT``: everything. ``output_dir``: where they go here, unless a pair says otherwise.

    Further keywords: ``requested_cores``, ``requested_memory`` (in all), ``requested_walltime``, ``requested_architecture``,
    ``environment``, ``stdin``, ``stdout``, ``stderr`` (relative names), ``join``, ``jobname``, ``tags``, ``output_base_url``,
    ``outputs_exclude`` (patterns that are never fetched), ``required_outputs`` (names without which fetching is an error).
    Any other becomes an attribute.

    InvalidArgument, InvalidType, InvalidValue, DuplicateEntryError: what makes no sense, by name.
    """

    application_name = "generic"

    def __init__(self, arguments: Any, inputs: Any, outputs: Any, output_dir: Any, **extra: Any) -> None:
        self.arguments: list[str] = _arguments(arguments)
        self.inputs: dict[Url, str] = _inputs(inputs)
        self.outputs: dict[str, Url] = _outputs(outputs)
        self.output_dir: str = os.fsdecode(output_dir)
        base = extra.pop("output_base_url", None)
        self.output_base_url: Url | None = None if base is None else Url(base)
        self.requested_cores: int = _cores(extra.pop("requested_cores", 1))
        self.requested_memory: Memory | None = _quantity(Memory, "requested_memory", extra.pop("requested_memory", None))
        self.requested_walltime: Duration | None = _walltime(extra.pop("requested_walltime", None))
        self.requested_architecture: str | None = _architecture(extra.pop("requested_architecture", None))
        self.environment: dict[str, str] = _environment(extra.pop("environment", None))
        self.join: bool = bool(extra.pop("join", False))
        self.stdin: str | None = self._stdin(extra.pop("stdin", None))
        self.stdout: str | None = _relative("stdout", extra.pop("stdout", None))
        self.stderr: str | None = self._stderr(extra.pop("stderr", None))
        for name in (self.stdout, self.stderr):
            if name is not None and name not in self.outputs and ANY_OUTPUT not in self.outputs:
                self.outputs[name] = Url(name, force_abs=False)
        self.jobname: str = _jobname(extra.pop("jobname", None) or type(self).__name__)
        self.tags: list[str] = list(extra.pop("tags", ()))
        self.outputs_exclude: list[str] = [os.fsdecode(name) for name in extra.pop("outputs_exclude", ())]
        self.required_outputs: list[str] = [os.fsdecode(name) for name in extra.pop("required_outputs", ())]
        for name in self.required_outputs:
            if name not in self.outputs and ANY_OUTPUT not in self.outputs:
                raise InvalidValue(f"required_outputs: {name!r} is not among the outputs")
        super().__init__(**extra)

    def __repr__(self) -> str:
        return f"<gc3libs.{type(self).__name__} {self.jobname} {self.execution.state}>"

    def _stdin(self, value: Any) -> str | None:
        """The name in the job's directory; a file that is not among the inputs is brought there."""
        if value is None:
            return None
        path = os.fsdecode(value)
        if path in self.inputs.values():
            return _relative("stdin", path)
        name = self.inputs.get(Url(path))
        if name is None:
            name = _relative("stdin", os.path.basename(path)) or ""
            if name in self.inputs.values():
                raise DuplicateEntryError(f"stdin {path!r} would overwrite the input {name!r}; give it among the inputs")
            self.inputs[Url(path)] = name
        return name

    def _stderr(self, value: Any) -> str | None:
        if value == _STDOUT or (value is not None and value == self.stdout):
            self.join = True
        return self.stdout if self.join else _relative("stderr", value)

    def compatible_resources(self, resources: Iterable[Any]) -> list[Any]:
        """Those of the resources that have the cores, memory, time and architecture that it asks for."""
        return [one for one in resources if one.why_not(self) is None]

    # What backends ask of it ------------------------------------------------------------------------------------------

    def cmdline(self, resource: Any) -> list[str]:
        """The words of the command line: ``/usr/bin/env NAME=VALUE ...`` where there is an environment, and the arguments."""
        prefix = [f"{name}={value}" for name, value in self.environment.items()]
        return [*(["/usr/bin/env", *prefix] if prefix else []), *self.arguments]

    def sbatch(self, resource: Any) -> tuple[list[str], list[str]]:
        """Words of ``sbatch`` and of the program, for Slurm."""
        return _options.sbatch(self, resource)

    def qsub_sge(self, resource: Any) -> tuple[list[str], list[str]]:
        """Words of ``qsub`` and of the program, for Grid Engine. InvalidValue: more than one core, and no parallel environment."""
        return _options.qsub_sge(self, resource)

    def qsub_pbs(self, resource: Any) -> tuple[list[str], list[str]]:
        """Words of ``qsub`` and of the program, for PBS and Torque. InvalidValue: it has a standard input."""
        return _options.qsub_pbs(self, resource)

    def bsub(self, resource: Any) -> tuple[list[str], list[str]]:
        """Words of ``bsub`` and of the program, for LSF."""
        return _options.bsub(self, resource)


def _arguments(value: Any) -> list[str]:
    words = shlex.split(value) if isinstance(value, str) else value
    if not isinstance(words, Iterable) or isinstance(words, bytes | Mapping):
        raise InvalidType(f"arguments is a list of words, or a text that is split as a shell would, not {value!r}")
    found = [os.fsdecode(word) if isinstance(word, bytes | os.PathLike) else str(word) for word in words]
    if not found or not found[0]:
        raise InvalidValue("arguments is empty: it begins with the program")
    return found


def _pairs(what: str, value: Any) -> list[tuple[Any, Any]]:
    if value is None:
        return []
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, str | bytes | os.PathLike) or not isinstance(value, Iterable):
        raise InvalidType(f"{what} is a mapping or a list of names and pairs, not {value!r}")
    found: list[tuple[Any, Any]] = []
    for item in value:
        if isinstance(item, tuple | list) and len(item) == 2 and not isinstance(item, Url):
            found.append((item[0], item[1]))
        elif isinstance(item, str | bytes | os.PathLike | Url):
            found.append((item, None))
        else:
            raise InvalidType(f"{what}: {item!r} is neither a name nor a pair of names")
    return found


def _inputs(value: Any) -> dict[Url, str]:
    found: dict[Url, str] = {}
    for source, target in _pairs("inputs", value):
        url = Url(source)
        name = _relative("inputs", os.path.basename(url.path.rstrip("/")) if target is None else target) or ""
        if url in found or name in found.values():
            raise DuplicateEntryError(f"inputs: {name!r} ({url.path}) stands there twice")
        found[url] = name
    return found


def _outputs(value: Any) -> dict[str, Url]:
    if value in (ANY_OUTPUT, [ANY_OUTPUT], (ANY_OUTPUT,)):
        return {ANY_OUTPUT: Url("", force_abs=False)}
    found: dict[str, Url] = {}
    for source, target in _pairs("outputs", value):
        name = _relative("outputs", source) or ""
        if name in found:
            raise DuplicateEntryError(f"outputs: {name!r} stands there twice")
        found[name] = Url(("" if name == ANY_OUTPUT else name) if target is None else target, force_abs=False)
    return found


def _relative(what: str, value: Any) -> str | None:
    """A path below the job's directory, without ``.`` and doubled slashes."""
    if value is None:
        return None
    text = value.path if isinstance(value, Url) else os.fsdecode(value)
    path = os.path.normpath(text) if text else ""
    if not path or path == "." or os.path.isabs(path) or path.split("/")[0] == ".." or "\0" in path:
        raise InvalidArgument(f"{what}: {text!r} is no name in the job's directory; write a relative one without '..'")
    return path


def _cores(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidValue(f"requested_cores is a whole number of 1 or more, not {value!r}")
    return value


def _quantity(kind: Any, what: str, value: Any) -> Any:
    if value is None or isinstance(value, kind):
        found = value
    else:
        try:
            found = kind(value)
        except (TypeError, ValueError) as error:
            raise InvalidType(f"{what}: {error}") from error
    if found is not None and not found > kind(0, unit=found):
        raise InvalidValue(f"{what} must be more than 0, not {found}")
    return found


def _walltime(value: Any) -> Duration | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = value * hours  # as it was before durations had units
    found: Duration | None = _quantity(Duration, "requested_walltime", value)
    return found


def _architecture(value: Any) -> str | None:
    if value is not None and value not in Run.Arch:
        raise InvalidValue(f"requested_architecture is one of {', '.join(sorted(Run.Arch))}, not {value!r}")
    return None if value is None else str(value)


def _environment(value: Any) -> dict[str, str]:
    found = {str(name): str(text) for name, text in dict(value or {}).items()}
    for name, text in found.items():
        if not name or "=" in name or "\0" in name + text:
            raise InvalidValue(f"environment: {name!r}={text!r} cannot be a variable")
    return found


def _jobname(value: Any) -> str:
    """A name that every scheduler takes: ASCII, a letter first."""
    text = str(value)
    if not text.isascii():
        raise InvalidValue(f"jobname: {text!r} holds other characters than ASCII ones")
    return text if text[:1].isalpha() else f"{Default.JOB_NAME}.{text}"
