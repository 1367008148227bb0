"""How commands and files reach the host where a scheduler's commands run: the ``Transport`` protocol and its errors.

Paths and words are ``os.fsdecode`` text: any byte survives in them. Paths are absolute.

    TransportError
    ├── CommandRefused           the command could not be started: not executable, too long, no such directory
    │   └── ProgramMissing       its program is not on the host
    ├── CommandTimeout           it did not end in time; its process group was killed
    ├── OutputTooLarge           it wrote more than the transport takes; it was killed
    ├── TransferTimeout          a file did not arrive in time; nothing was left under its name
    ├── TransportClosed          the transport was closed
    └── PathError (OSError)      a file operation failed; errno says why
        ├── PathMissing (FileNotFoundError)
        ├── PathExists (FileExistsError)
        └── PathDenied (PermissionError)
"""

from __future__ import annotations

import enum
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, Self, runtime_checkable

import msgspec

from ..errors import TransportError
from ..schedulers.base import Command, Result

__all__ = [
    "Appeared",
    "Command",
    "CommandRefused",
    "CommandTimeout",
    "Copy",
    "FileKind",
    "FileStat",
    "OutputTooLarge",
    "PathDenied",
    "PathError",
    "PathExists",
    "PathMissing",
    "ProgramMissing",
    "Result",
    "Started",
    "StartsCommands",
    "Timeouts",
    "TransferTimeout",
    "Transport",
    "TransportClosed",
    "Watch",
    "path_error",
    "printable",
    "shown_command",
]


# Errors -------------------------------------------------------------------------------------------------------------


class CommandRefused(TransportError):
    """The host could not start the command; nothing ran."""

    retryable = False


class ProgramMissing(CommandRefused):
    """There is no such program on the host; ``program`` names it."""

    def __init__(self, message: str, *, program: str) -> None:
        super().__init__(message)
        self.program = program


class CommandTimeout(TransportError):
    """The command did not end in time. What it did before is not known; ``result`` holds what it wrote."""

    def __init__(self, message: str, *, result: Result) -> None:
        super().__init__(message)
        self.result = result


class OutputTooLarge(TransportError):
    """The command wrote more than the transport takes."""

    retryable = False


class TransferTimeout(TransportError):
    """A file did not arrive in time."""


class TransportClosed(TransportError):
    """The transport was closed."""

    retryable = False


class PathError(TransportError, OSError):
    """A file operation failed; ``errno``, ``strerror`` and ``filename`` as for any OSError."""

    retryable = False

    def __init__(self, message: str, *, errno: int | None = None, strerror: str = "", filename: str = "") -> None:
        super().__init__(message)
        self.errno = errno
        self.strerror = strerror
        self.filename = filename

    def __str__(self) -> str:  # OSError would print errno and file name only
        return str(self.args[0])


class PathMissing(PathError, FileNotFoundError):
    """There is no such file or folder."""


class PathExists(PathError, FileExistsError):
    """There is one already."""


class PathDenied(PathError, PermissionError):
    """The host does not allow it."""


def path_error(host: str, doing: str, path: str, error: OSError) -> PathError:
    """The PathError for what the operating system said while ``doing`` ("read", "write") something with a path."""
    kind: type[PathError] = PathError
    if isinstance(error, FileNotFoundError):
        kind, advice = PathMissing, "check the path, and that its file system is mounted on that host"
    elif isinstance(error, FileExistsError):
        kind, advice = PathExists, "remove it, or choose another name"
    elif isinstance(error, PermissionError):
        kind, advice = PathDenied, "check its owner and mode, and those of the folders above it"
    elif error.errno in FULL:
        advice = "free some space, or ask for more"
    else:
        advice = "check the path and its file system"
    reason = error.strerror or str(error) or type(error).__name__
    message = f"{host}: cannot {doing} {printable(path)}: {reason}; {advice}"
    return kind(message, errno=error.errno, strerror=reason, filename=path)


FULL = {28, 122}  # ENOSPC, EDQUOT


def printable(text: str, limit: int = 400) -> str:
    """Text of the host's, fit for a message: control characters and lone surrogates escaped, cut at ``limit`` characters."""
    cut = text if len(text) <= limit else text[:limit] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in cut)


def shown_command(argv: Sequence[str], limit: int = 200) -> str:
    """A command as one would type it, fit for a message."""
    return printable(shlex.join(argv), limit)


# Values -------------------------------------------------------------------------------------------------------------


class FileKind(enum.StrEnum):
    """What lies under a name."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


class FileStat(msgspec.Struct, frozen=True):
    """What the host knows of one name."""

    kind: FileKind
    size_bytes: int
    modified_at: float  # seconds since the epoch, by the clock of the file system
    mode: int  # permission bits
    uid: int


class Appeared(msgspec.Struct, frozen=True):
    """A name that appeared in a watched folder."""

    folder: str  # as it was given to the watch
    name: str


class Copy(msgspec.Struct, frozen=True):
    """One file on its way between this machine and the host: absolute paths, and the permission bits that it gets."""

    source: str
    target: str
    mode: int = 0o600


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Time limits by kind, in seconds; None: no limit of the transport's own."""

    connect_s: float | None = 20.0  # until the host answers at all
    command_s: float | None = None  # the longest that any command may take, beside its own ``timeout_s``
    transfer_s: float | None = 3600.0  # one file


# Protocols ----------------------------------------------------------------------------------------------------------


class Watch(Protocol):
    """Tells which names appeared in some folders. ``wait`` is for one thread; all else may be called from any.

    Each name that is in a folder when it is added, or comes later, is told at least once; one that was renamed into the
    folder, or linked there, is complete when it is told.
    """

    def add(self, folders: Iterable[str]) -> None:
        """Watch these too. PathMissing, PathDenied: one cannot be watched; those before it are."""

    def discard(self, folders: Iterable[str]) -> None:
        """Watch these no longer; unknown ones are ignored. A folder that vanishes is discarded by itself."""

    def wait(self, timeout_s: float | None) -> Sequence[Appeared]:
        """What appeared, as soon as there is any; empty when the time is over, or after ``wake``.

        Interruptible by signals. TransportError: the host cannot be reached; TransportClosed: closed meanwhile.
        """

    def wake(self) -> None:
        """Let ``wait`` return at once, now or the next time."""

    def close(self) -> None:
        """Let go; a thread that waits gets TransportClosed."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *args: object) -> None: ...


class Started(Protocol):
    """A command that has begun, and waits for its standard input. For one thread."""

    def current(self) -> bool:
        """Whether it would begin now as it did: in the same folder, with the same environment, limits and rights."""

    def finish(self, stdin: bytes) -> Result:
        """Give it this, and take its answer. Its time begins now; errors as those of ``Transport.run``."""

    def abandon(self) -> None:
        """End it: it has read nothing, and reads nothing any more. Nothing where it is finished."""


@runtime_checkable
class StartsCommands(Protocol):
    """A transport on which a command can begin before its standard input is there."""

    def start(self, command: Command) -> Started:
        """Begin it, with a standard input that stays open and empty; ``command.stdin`` is not looked at.

        Should this process end before ``finish``, the command finds its input empty. Errors as those of ``Transport.run``.
        """


@runtime_checkable
class Transport(Protocol):
    """Commands and files on one host, as one user. Every method may be called from any thread.

    Any method raises TransportError where the host cannot be reached, TransportClosed after ``close``.
    File methods raise PathError (an OSError) where the host's file system refuses.
    """

    name: str  # "local", "ssh://me@login.example.org"

    def run(self, command: Command) -> Result:
        """Run one command: an argv, never a shell. Both streams whole, of any size up to the transport's cap.

        In a process group of its own, which is killed after ``timeout_s`` (CommandTimeout), past the cap
        (OutputTooLarge), or when a signal's exception ends the call. ProgramMissing, CommandRefused: nothing ran.
        """

    def put(self, source: str, target: str, *, mode: int = 0o600) -> None:
        """Copy a file of this machine to the host. The target is replaced at once, or stays as it was."""

    def get(self, source: str, target: str, *, mode: int = 0o600) -> None:
        """Copy a file of the host to this machine. The target is replaced at once, or stays as it was."""

    def put_many(self, copies: Sequence[Copy]) -> None:
        """Copy files of this machine to the host, each as by ``put``, and with its time, in as few messages as can be.

        Folders that are missing on the way to a target are made, 0700. Where one cannot be copied the others are, as far as
        they can be, before its PathError is raised.
        """

    def get_many(self, copies: Sequence[Copy]) -> None:
        """Copy files of the host to this machine, as ``put_many``."""

    def write_file(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        """Write a file with these permission bits, whatever the umask; replaced at once, or left as it was."""

    def read_range(self, path: str, start: int = 0, length: int | None = None, *, follow: bool = True) -> bytes:
        """Up to ``length`` bytes of a regular file from byte ``start``: fewer at its end, b"" past it.

        ``follow``: False refuses a symbolic link under that name.
        """

    def stat(self, path: str, *, follow: bool = True) -> FileStat:
        """What lies there; ``follow``: False tells of a symbolic link itself. PathMissing where nothing does."""

    def list(self, folder: str) -> Mapping[str, FileStat]:
        """The names in a folder, links not followed."""

    def tree(self, folder: str) -> Mapping[str, FileStat]:
        """All that is below a folder, by names relative to it, links not followed."""

    def make_folder(self, path: str, *, mode: int = 0o700, parents: bool = False) -> None:
        """Make a folder with these permission bits. PathExists where the name is taken, save with ``parents``,
        which makes those above it too, with the same bits, and takes a folder that is there as it is."""

    def remove(self, path: str, *, tree: bool = False) -> None:
        """Remove a file, a link itself, or an empty folder; ``tree``: a folder with all in it, no link followed."""

    def rename(self, source: str, target: str) -> None:
        """Rename; what is at the target is replaced at once."""

    def watch(self, folders: Iterable[str] = (), *, prefix: str = "") -> Watch:
        """Watch folders for names that begin with ``prefix``. One watch is meant for thousands of folders."""

    def environment(self) -> Mapping[str, str]:
        """The environment in which commands run there."""

    def user(self) -> str:
        """The login name there."""

    def close(self) -> None:
        """Let go of the connection and of watches; commands that run are killed."""


def absolute(host: str, path: str) -> str:
    """The path; PathError where it is relative, for nobody can say what it would be relative to, or can be no path at all."""
    if not os.path.isabs(path):
        raise PathError(f"{host}: {printable(path)} is not an absolute path; give it whole", filename=path)
    try:
        if b"\0" not in os.fsencode(path):
            return path
    except UnicodeEncodeError:
        pass
    raise PathError(f"{host}: {printable(path)} can be no path: it holds a NUL, or what stands for no byte", filename=path)
