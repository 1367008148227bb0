"""JobTemplate: what a program fills in and submits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import const
from .errors import InvalidJobTemplateException, coded
from .helpers import (
    MANDATORY,
    OPTIONAL,
    Attribute,
    BoolConverter,
    DictAttribute,
    FlagsConverter,
    IntConverter,
    VectorAttribute,
    WordConverter,
    _known,
)

if TYPE_CHECKING:
    from ._core import SessionCore


class JobTemplate:
    """A job to be submitted; any number of times, each a copy of what the template says at that moment.

    Keywords set attributes. Needs an active session: NoActiveSession (5). An optional attribute that the session's scheduler
    cannot honour is refused when it is set: UnsupportedAttribute. Types are checked when an attribute is set, the rest when
    the job is submitted.
    """

    HOME_DIRECTORY = const.PLACEHOLDER_HD.decode()
    WORKING_DIRECTORY = const.PLACEHOLDER_WD.decode()
    PARAMETRIC_INDEX = const.PLACEHOLDER_INCR.decode()

    remoteCommand = Attribute(const.REMOTE_COMMAND)
    args = VectorAttribute(const.V_ARGV)
    jobSubmissionState = Attribute(const.JS_STATE, WordConverter(const.SUBMISSION_STATE_ACTIVE, const.SUBMISSION_STATE_HOLD))
    jobEnvironment = DictAttribute(const.V_ENV)
    workingDirectory = Attribute(const.WD)
    jobCategory = Attribute(const.JOB_CATEGORY)
    nativeSpecification = Attribute(const.NATIVE_SPECIFICATION)
    email = VectorAttribute(const.V_EMAIL)
    blockEmail = Attribute(const.BLOCK_EMAIL, BoolConverter())
    startTime = Attribute(const.START_TIME)
    jobName = Attribute(const.JOB_NAME)
    inputPath = Attribute(const.INPUT_PATH)
    outputPath = Attribute(const.OUTPUT_PATH)
    errorPath = Attribute(const.ERROR_PATH)
    joinFiles = Attribute(const.JOIN_FILES, BoolConverter())
    transferFiles = Attribute(const.TRANSFER_FILES, FlagsConverter())
    deadlineTime = Attribute(const.DEADLINE_TIME)
    hardWallclockTimeLimit = Attribute(const.WCT_HLIMIT, IntConverter)
    softWallclockTimeLimit = Attribute(const.WCT_SLIMIT, IntConverter)
    hardRunDurationLimit = Attribute(const.DURATION_HLIMIT, IntConverter)
    softRunDurationLimit = Attribute(const.DURATION_SLIMIT, IntConverter)
    # As GFD.143's own file spells them.
    hardWallClockTimeLimit = Attribute(const.WCT_HLIMIT, IntConverter)
    softWallClockTimeLimit = Attribute(const.WCT_SLIMIT, IntConverter)

    _values: dict[bytes, Any]
    _deleted: bool
    _core: SessionCore

    def __init__(self, **kwargs: Any) -> None:
        from .session import _SHARED

        _SHARED.require_active()
        self._begin(_SHARED)
        for name, value in kwargs.items():
            setattr(self, name, value)

    @classmethod
    def _of(cls, core: SessionCore) -> JobTemplate:
        template = cls.__new__(cls)
        template._begin(core)
        return template

    def _begin(self, core: SessionCore) -> None:
        self._values = {}
        self._deleted = False
        self._core = core

    def delete(self) -> None:
        """Let go of the template; jobs are not touched. Doing so twice is harmless."""
        self._deleted = True
        self._values = {}

    def __copy__(self) -> JobTemplate:
        """A template of its own that says the same."""
        self._alive()
        made = type(self)._of(self._core)
        vars(made).update(vars(self))
        made._values = dict(self._values)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> JobTemplate:
        return self.__copy__()

    def __enter__(self) -> JobTemplate:
        return self

    def __exit__(self, *exc: object) -> None:
        self.delete()

    def __repr__(self) -> str:
        if self._deleted:
            return "<drmaa.JobTemplate, deleted>"
        values = ", ".join(f"{name.decode().removeprefix('drmaa_')}={value!r}" for name, value in self._values.items())
        return f"<drmaa.JobTemplate {values}>"

    @property
    def attributeNames(self) -> list[str]:
        """C names of the scalar attributes that the session's scheduler supports."""
        return self._core.attribute_names()

    def set_attribute(self, name: str | bytes, value: Any) -> None:
        """Set a scalar attribute by its C name. InvalidArgument (4) for a name that is none; else as the attribute."""
        self._descriptor(name).__set__(self, value)

    def get_attribute(self, name: str | bytes) -> Any:
        """Read a scalar attribute by its C name. InvalidArgument (4) for a name that is none."""
        return self._descriptor(name).__get__(self, type(self))

    @classmethod
    def _descriptor(cls, name: str | bytes) -> Attribute:
        raw = _known(name, MANDATORY + OPTIONAL)
        return next(d for d in vars(JobTemplate).values() if isinstance(d, Attribute) and d.name == raw)

    def _store(self, name: bytes, value: Any, attribute: str) -> None:
        self._alive()
        if name in OPTIONAL and value:
            self._core.require_supported(name, attribute)
        self._values[name] = value

    def _fetch(self, name: bytes) -> Any:
        self._alive()
        return self._values.get(name)

    def _alive(self) -> None:
        if self._deleted:
            raise coded(InvalidJobTemplateException, "the job template was deleted; create another one")
