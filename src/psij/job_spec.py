"""What a job is to run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import EllipsisType
from typing import Any

from ._fields import Field, environment, flag, holds, optional_path, optional_text, same, text_list, wrong
from .job_attributes import JobAttributes
from .resource_spec import ResourceSpec
from .staging import StageIn, StageOut, StageOutFlags

__all__ = ["JobSpec"]

_NAMES = (
    "executable",
    "arguments",
    "directory",
    "_name",
    "inherit_environment",
    "environment",
    "stdin_path",
    "stdout_path",
    "stderr_path",
    "resources",
    "attributes",
    "pre_launch",
    "post_launch",
    "launcher",
    "stage_in",
    "stage_out",
    "cleanup",
    "cleanup_flags",
)


def _resources(label: str, value: ResourceSpec | None) -> ResourceSpec | None:
    if value is not None and not isinstance(value, ResourceSpec):
        raise wrong(label, "a ResourceSpec or None", value)
    return value


def _set_of(kind: type) -> Any:
    def convert(label: str, value: Iterable[Any] | None) -> set[Any] | None:
        if value is None:
            return None
        if not isinstance(value, set | frozenset | list | tuple):
            raise wrong(label, f"a set of {kind.__name__}, or None", value)
        for item in value:
            if not isinstance(item, kind):
                raise holds(label, f"a set of {kind.__name__}", item)
        return value if isinstance(value, set) else set(value)

    return convert


def _paths(label: str, value: Iterable[str | os.PathLike[str]] | None) -> set[Path] | None:
    if value is None:
        return None
    if not isinstance(value, set | frozenset | list | tuple):
        raise wrong(label, "a set of paths, or None", value)
    found = set()
    for item in value:
        if not isinstance(item, str | os.PathLike):
            raise holds(label, "a set of paths", item)
        found.add(Path(item))
    return found


def _flags(label: str, value: StageOutFlags) -> StageOutFlags:
    if not isinstance(value, StageOutFlags):
        raise wrong(label, "StageOutFlags", value)
    return value


Path_ = str | os.PathLike[str] | None
_KEYS = tuple(name if name.startswith("_") else f"_{name}" for name in _NAMES)


class JobSpec:
    """What a job is to run: executable, arguments, directory, environment, streams, resources, staging.

    Every parameter is also a property; wrong types raise TypeError when they are set. Paths are those of the machine
    that the job runs on, and best absolute. Streams left out are ``/dev/null``. ``pre_launch`` and ``post_launch`` are
    sourced by the shell that starts the launcher, once, on the job's first node. A specification may be shared by many
    jobs; submitting one never changes it.
    """

    # A program may have 100,000 of them. What few of them have lies in ``__dict__``, and what a program adds.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_arguments",
        "_attributes",
        "_directory",
        "_environment",
        "_executable",
        "_name",
        "_resources",
        "_stderr_path",
        "_stdout_path",
    )
    _inherit_environment = True
    _stdin_path = _pre_launch = _post_launch = _launcher = _stage_in = _stage_out = _cleanup = None
    _cleanup_flags = StageOutFlags.ALWAYS

    def __init__(
        self,
        executable: str | None = None,
        arguments: list[str] | None = None,
        directory: str | Path | None = None,
        name: str | None = None,
        inherit_environment: bool = True,
        environment: dict[str, str | int] | None = None,
        stdin_path: str | Path | None = None,
        stdout_path: str | Path | None = None,
        stderr_path: str | Path | None = None,
        resources: ResourceSpec | None = None,
        attributes: JobAttributes | None = None,
        pre_launch: str | Path | None = None,
        post_launch: str | Path | None = None,
        launcher: str | None = None,
        stage_in: set[StageIn] | None = None,
        stage_out: set[StageOut] | None = None,
        cleanup: set[str | Path] | None = None,
        cleanup_flags: StageOutFlags = StageOutFlags.ALWAYS,
    ) -> None:
        self.executable = executable
        self.arguments = arguments
        self.directory = directory
        self.name = name
        self.inherit_environment = inherit_environment
        self.environment = environment
        self.stdin_path = stdin_path
        self.stdout_path = stdout_path
        self.stderr_path = stderr_path
        self.resources = resources
        self._attributes: JobAttributes | EllipsisType | None = ...  # made when somebody asks for them
        if attributes is not None:
            self.attributes = attributes
        self.pre_launch = pre_launch
        self.post_launch = post_launch
        self.launcher = launcher
        self.stage_in = stage_in
        self.stage_out = stage_out
        self.cleanup = cleanup
        self.cleanup_flags = cleanup_flags

    executable = Field[str | None, str | None](optional_text, "The program to run, such as ``/bin/date``.")
    arguments = Field[list[str] | None, list[str] | None](text_list, "Its arguments; the first becomes ``argv[1]``.")
    directory = Field[Path | None, Path_](optional_path, "The directory, on the compute side, in which it runs.")
    inherit_environment = Field[bool, bool](flag, "False: only ``environment`` is seen by the job.")
    environment = Field[dict[str, str] | None, Any](environment, "Environment variables; numbers become text.")
    stdin_path = Field[Path | None, Path_](optional_path, "The file that is the job's standard input.")
    stdout_path = Field[Path | None, Path_](optional_path, "The file for the job's standard output.")
    stderr_path = Field[Path | None, Path_](optional_path, "The file for the job's standard error.")
    resources = Field[ResourceSpec | None, ResourceSpec | None](_resources, "What the job needs; None: one process.")
    pre_launch = Field[Path | None, Path_](optional_path, "A shell script, sourced before the launcher starts.")
    post_launch = Field[Path | None, Path_](optional_path, "A shell script, sourced after all processes have ended.")
    launcher = Field[str | None, str | None](optional_text, "The launcher's name; None: ``single``.")
    stage_in = Field[set[StageIn] | None, Any](_set_of(StageIn), "What is brought in before the job runs.")
    stage_out = Field[set[StageOut] | None, Any](_set_of(StageOut), "What is brought out after it has ended.")
    cleanup = Field[set[Path] | None, Any](_paths, "What is removed from the job's directory at the end.")
    cleanup_flags = Field[StageOutFlags, StageOutFlags](_flags, "When ``cleanup`` is done; IF_PRESENT is implied.")

    @property
    def attributes(self) -> JobAttributes | None:
        """Walltime, queue, account and the like."""
        if self._attributes is ...:
            self._attributes = JobAttributes()
        return self._attributes

    @attributes.setter
    def attributes(self, value: JobAttributes | None) -> None:
        if value is not None and not isinstance(value, JobAttributes):
            raise wrong("JobSpec.attributes", "JobAttributes or None", value)
        self._attributes = value

    @property
    def _attributes_seen(self) -> JobAttributes | None:
        """Its attributes, to be looked at and not changed: those of all who never touched theirs are one object."""
        return _UNTOUCHED if self._attributes is ... else self._attributes

    @property
    def name(self) -> str | None:
        """The job's name; the executable where none was given."""
        return self._name if self._name is not None else self.executable

    @name.setter
    def name(self, value: str | None) -> None:
        self._name = optional_text("JobSpec.name", value)

    def __eq__(self, other: object) -> bool:
        return same(self, other, _NAMES) if isinstance(other, JobSpec) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        told = [name for name in _NAMES if getattr(self, name) != getattr(_DEFAULTS, name)]
        return "JobSpec({})".format(", ".join(f"{name.lstrip('_')}={getattr(self, name)!r}" for name in told))

    __str__ = __repr__


_DEFAULTS = JobSpec()
_UNTOUCHED = JobAttributes()
_UNSET = tuple((key, getattr(_DEFAULTS, key)) for key in _KEYS if key not in ("_executable", "_arguments", "_attributes"))


def is_plain(spec: JobSpec) -> bool:
    """Whether it says nothing but a command; most jobs of a large number are such."""
    attributes = spec._attributes_seen
    if attributes is None or not attributes._duration_is_default or type(spec) is not JobSpec:
        return False
    return attributes == _UNTOUCHED and all(getattr(spec, key) == value for key, value in _UNSET)
