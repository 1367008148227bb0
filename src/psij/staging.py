"""What is brought to a job before it runs, and away from it afterwards."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ._fields import same, wrong

if TYPE_CHECKING:
    from urllib.parse import ParseResult

__all__ = ["URI", "StageIn", "StageOut", "StageOutFlags", "StagingMode"]


class URI(str):
    """A path or a URI, with its parts as properties."""

    __slots__ = ("_parts",)

    _parts: ParseResult

    def __new__(cls, urlstring: str) -> URI:
        """Parse ``urlstring``; ValueError where it is no URI (a port that is no number)."""
        from urllib.parse import urlparse  # 4 ms that a program without staging need not spend

        if not isinstance(urlstring, str):
            raise wrong("URI", "a str", urlstring)
        uri = super().__new__(cls, urlstring)
        # '#', '?' and ';' belong to the name of a plain path, as everywhere else where a path is written.
        head, _, _ = urlstring.partition("/")
        uri._parts = urlparse(urlstring) if ":" in head else urlparse("")._replace(path=urlstring)
        _ = uri._parts.port
        return uri

    def __getnewargs__(self) -> tuple[str]:
        return (str(self),)

    @property
    def scheme(self) -> str:
        """``http`` of ``http://host/path``; "" for a path."""
        return self._parts.scheme

    @property
    def netloc(self) -> str:
        """User, host and port together."""
        return self._parts.netloc

    @property
    def hostname(self) -> str | None:
        """The host; None for a path."""
        return self._parts.hostname

    @property
    def port(self) -> int | None:
        """The port, where one is given."""
        return self._parts.port

    @property
    def path(self) -> str:
        """The path."""
        return self._parts.path

    @property
    def params(self) -> str:
        """What follows ``;``."""
        return self._parts.params

    @property
    def query(self) -> str:
        """What follows ``?``."""
        return self._parts.query

    @property
    def fragment(self) -> str:
        """What follows ``#``."""
        return self._parts.fragment

    @property
    def username(self) -> str | None:
        """The user, where one is given."""
        return self._parts.username

    @property
    def password(self) -> str | None:
        """The password, where one is given."""
        return self._parts.password


class StagingMode(enum.Enum):
    """How a file is brought: copied, linked (symbolic), or moved."""

    COPY = 1
    LINK = 2
    MOVE = 3


class StageOutFlags(enum.Flag):
    """When a file is brought out. IF_PRESENT: a missing file is no failure."""

    NONE = 0
    IF_PRESENT = 1
    ON_SUCCESS = 2
    ON_ERROR = 4
    ON_CANCEL = 8
    ALWAYS = 14


def normalised(flags: StageOutFlags) -> StageOutFlags:
    """The flags, with ALWAYS where no ON_... is among them."""
    if not isinstance(flags, StageOutFlags):
        raise wrong("flags", "StageOutFlags", flags)
    return flags if flags & StageOutFlags.ALWAYS else flags | StageOutFlags.ALWAYS


def _uri(label: str, value: URI | Path | str) -> URI:
    if isinstance(value, URI):
        return value
    if isinstance(value, str | os.PathLike):
        return URI(os.fspath(value))
    raise wrong(label, "a str, a path or a URI", value)


def _path(label: str, value: str | Path) -> Path:
    if isinstance(value, str | os.PathLike):
        return Path(value)
    raise wrong(label, "a str or a path", value)


class StageIn:
    """A file or folder that is brought to the job before it runs.

    ``source`` is a path or URI; a relative one is taken from the current directory of the submitting program.
    ``target`` is a path; a relative one lies in the job's directory.
    """

    def __init__(self, source: URI | Path | str, target: str | Path, mode: StagingMode = StagingMode.COPY) -> None:
        if not isinstance(mode, StagingMode):
            raise wrong("StageIn.mode", "a StagingMode", mode)
        self.source = _uri("StageIn.source", source)
        self.target = _path("StageIn.target", target)
        self.mode = mode

    def __eq__(self, other: object) -> bool:
        return same(self, other, ("source", "target", "mode")) if isinstance(other, StageIn) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.source, self.target, self.mode))

    def __repr__(self) -> str:
        return f"StageIn({str(self.source)!r}, {str(self.target)!r}, {self.mode})"


class StageOut:
    """A file or folder that is brought away after the job has run.

    ``source`` is a path; a relative one lies in the job's directory. ``target`` is a path or URI; a relative one is
    taken from the current directory of the submitting program. ``flags`` without any ON_... mean ALWAYS.
    """

    def __init__(
        self,
        source: str | Path,
        target: str | Path | URI,
        flags: StageOutFlags = StageOutFlags.ALWAYS,
        mode: StagingMode = StagingMode.COPY,
    ) -> None:
        if not isinstance(mode, StagingMode):
            raise wrong("StageOut.mode", "a StagingMode", mode)
        self.source = _path("StageOut.source", source)
        self.target = _uri("StageOut.target", target)
        self.flags = normalised(flags)
        self.mode = mode

    def __eq__(self, other: object) -> bool:
        return same(self, other, ("source", "target", "flags", "mode")) if isinstance(other, StageOut) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.source, self.target, self.flags, self.mode))

    def __repr__(self) -> str:
        return f"StageOut({str(self.source)!r}, {str(self.target)!r}, {self.flags}, {self.mode})"
