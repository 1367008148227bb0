"""From what a template says to the engine's job description: placeholders, paths, times, limits. Nothing is submitted here;
on another host, its files may be looked at."""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jobyard import JobDescription, Limits
from jobyard.fronts import FileKind, Inherit, Placeholder, lies_there

from . import const
from ._times import moment
from .errors import (
    DeniedByDrmException,
    InvalidAttributeFormatException,
    coded,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobyard import Session

    from ._vendors import Vendor

_HD = const.PLACEHOLDER_HD.decode()
_WD = const.PLACEHOLDER_WD.decode()
_INCR = const.PLACEHOLDER_INCR.decode()
_NAME_BYTES = 200  # of the job's name in a default stream's name; file systems allow 255 in all

# Which field of a description an optional attribute needs.
FIELDS = {
    const.DEADLINE_TIME: "deadline_at",
    const.WCT_HLIMIT: "walltime_s",
    const.WCT_SLIMIT: "soft_walltime_s",
    const.DURATION_HLIMIT: "run_time_s",
    const.DURATION_SLIMIT: "soft_run_time_s",
}


class Files(Protocol):
    """What lies where jobs are submitted. Links are followed; home may stand in paths by its placeholder."""

    def folder(self, path: str) -> bool:
        """It is a folder."""

    def program(self, path: str) -> bool:
        """It is a file that can be executed."""


class Place(NamedTuple):
    """What a template is read for."""

    vendor: Vendor
    here: bool  # jobs are submitted on this very machine
    bulk: bool
    files: Files


class FilesHere:
    """``Files`` of this machine."""

    def folder(self, path: str) -> bool:
        """Files.folder."""
        return os.path.isdir(_as_seen(path))

    def program(self, path: str) -> bool:
        """Files.program."""
        path = _as_seen(path)
        return os.path.isfile(path) and os.access(path, os.X_OK)


class FilesThere:
    """``Files`` of a session's login host: a message over the connection for each look. TransportError."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def folder(self, path: str) -> bool:
        """Files.folder."""
        found = lies_there(self._session, path)
        return found is not None and found.kind is FileKind.FOLDER

    def program(self, path: str) -> bool:
        """Files.program."""
        found = lies_there(self._session, path)
        return found is not None and found.kind is FileKind.FILE and found.mode & 0o111 != 0


def describe(values: Mapping[bytes, Any], place: Place) -> JobDescription:
    """The job description of a template's values.

    DeniedByDrm (17): no command, a placeholder where it cannot stand, a name that is no file name; InvalidAttributeFormat
    (13): a path without its colon, a time that does not parse; the engine's own InvalidJob as it comes.
    """
    command = values.get(const.REMOTE_COMMAND)
    if not command:
        raise coded(DeniedByDrmException, "the job template has no remoteCommand; set it to the program's path")
    directory = _directory(values.get(const.WD), place)
    name = _name(values.get(const.JOB_NAME))
    join = values.get(const.JOIN_FILES) == "y"
    stream = _Streams(name or os.path.basename(command), values.get(const.TRANSFER_FILES) or "", directory, place)
    email = tuple(values.get(const.V_EMAIL) or ())
    native = _native(values.get(const.NATIVE_SPECIFICATION))
    if values.get(const.BLOCK_EMAIL) == "y":
        email = ()
        native += place.vendor.no_mail
    return JobDescription(
        argv=(_command(command, directory, place), *(values.get(const.V_ARGV) or ())),
        name=name,
        directory=directory,
        environment=dict(values.get(const.V_ENV) or {}),
        inherit=Inherit.NODE,
        stdin=stream.given("inputPath", "i", values.get(const.INPUT_PATH)),
        stdout=stream.given("outputPath", "o", values.get(const.OUTPUT_PATH)) or stream.default("o"),
        stderr=None if join else stream.given("errorPath", "e", values.get(const.ERROR_PATH)) or stream.default("e"),
        join_streams=join,
        hold=values.get(const.JS_STATE) == const.SUBMISSION_STATE_HOLD,
        begin_at=_begin(values.get(const.START_TIME)),
        deadline_at=_deadline(values.get(const.DEADLINE_TIME)),
        limits=_limits(values),
        category=values.get(const.JOB_CATEGORY) or None,
        native=native,
        email=email,
    )


def _name(name: str | None) -> str | None:
    if not name:
        return None
    if "/" in name or not name.isprintable():
        raise coded(DeniedByDrmException, f"jobName {name!r} holds '/' or a control character; write letters, digits and '_'")
    return name


def _native(text: str | None) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text or ""))
    except ValueError as error:
        raise coded(InvalidAttributeFormatException, f"nativeSpecification {text!r}: {error}; close the quotation") from error


def _begin(text: str | None) -> float | None:
    if not text:
        return None
    begin = moment(text, "startTime")
    return begin if begin > time.time() else None  # a moment that is past starts the job at once


def _deadline(text: str | None) -> float | None:
    return moment(text, "deadlineTime") if text else None


def _limits(values: Mapping[bytes, Any]) -> Limits:
    def seconds(name: bytes) -> float | None:
        return float(values[name]) if values.get(name) else None

    return Limits(
        walltime_s=seconds(const.WCT_HLIMIT),
        soft_walltime_s=seconds(const.WCT_SLIMIT),
        run_time_s=seconds(const.DURATION_HLIMIT),
        soft_run_time_s=seconds(const.DURATION_SLIMIT),
    )


# Directory and command ------------------------------------------------------------------------------------------------


def _directory(text: str | None, place: Place) -> str:
    if not text:
        if place.vendor.home or not place.here:
            return Placeholder.HOME
        try:
            return os.getcwd()
        except FileNotFoundError:
            raise coded(DeniedByDrmException, "workingDirectory: none is given, and the present one was removed") from None
    if _WD in text:
        raise coded(DeniedByDrmException, f"workingDirectory {text!r} holds {_WD}, which stands for itself; leave it out")
    at_home = text.startswith(_HD)
    rest = text[len(_HD) :] if at_home else text
    if _HD in rest:
        raise coded(DeniedByDrmException, f"workingDirectory {text!r}: {_HD} stands at the beginning only")
    if not at_home and not rest.startswith("/"):
        raise coded(InvalidAttributeFormatException, f"workingDirectory {text!r} is not absolute; begin it with '/' or with {_HD}")
    return (Placeholder.HOME if at_home else "") + _indexed(rest, "workingDirectory", place)


def _indexed(text: str, attribute: str, place: Place) -> str:
    if _INCR in text and not place.bulk:
        raise coded(
            DeniedByDrmException,
            f'{attribute} {text!r}: increment placeholder "{_INCR}" is only allowed in paths for bulk jobs; use runBulkJobs',
        )
    return text.replace(_INCR, Placeholder.INDEX)


def _command(command: str, directory: str, place: Place) -> str:
    """A bare name is looked for in the working directory first, as a path relative to it; then on the job's PATH."""
    if "/" not in command and Placeholder.INDEX not in directory and place.files.program(os.path.join(directory, command)):
        return f"./{command}"
    return command


def _as_seen(path: str) -> str:
    """The path on this machine, its home placeholder filled in: with the home of the user database, as jobs get it."""
    if Placeholder.HOME not in path:
        return path
    import pwd

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a user without an entry, as in some containers
        home = "/"
    return path.replace(Placeholder.HOME, home)


# Streams --------------------------------------------------------------------------------------------------------------


class _Streams:
    """Stream paths of one template."""

    def __init__(self, name: str, transfers: str, directory: str, place: Place) -> None:
        self._name = os.fsdecode(os.fsencode(name)[:_NAME_BYTES])
        self._transfers = transfers
        self._directory = directory
        self._place = place

    def default(self, letter: str) -> str:
        """``NAME.oID`` in the working directory; for a task ``NAME.oID.INDEX``."""
        return f"{Placeholder.DIRECTORY}/{self._file(letter)}"

    def _file(self, letter: str) -> str:
        index = f".{Placeholder.INDEX}" if self._place.bulk else ""
        return f"{self._name}.{letter}{Placeholder.NATIVE_ID}{index}"

    def given(self, attribute: str, letter: str, text: str | None) -> str | None:
        """``[host]:path``; a directory takes the default name within it. None where the attribute is not set."""
        if not text:
            return None
        host, colon, path = text.partition(":")
        if not colon or not path:
            what = "has no ':'" if not colon else "names no file"
            raise coded(
                InvalidAttributeFormatException, f"{attribute} {text!r} {what}; write '[host]:path', such as ':/tmp/output'"
            )
        if letter in self._transfers and not _is_this_host(host):
            raise coded(
                DeniedByDrmException, f"{attribute} {text!r}: files are not carried to or from {host!r}; leave the host out"
            )
        if path.startswith(_HD):
            path = Placeholder.HOME + path[len(_HD) :]
        elif path.startswith(_WD):
            path = Placeholder.DIRECTORY + path[len(_WD) :]
        elif not path.startswith("/"):
            path = f"{Placeholder.DIRECTORY}/{path}"
        path = self._words(_indexed(path, attribute, self._place))
        if letter != "i" and self._is_directory(path):
            path = f"{path.rstrip('/')}/{self._file(letter)}"
        return path

    def _words(self, path: str) -> str:
        """What the vendor's own scheduler would fill in; on others such words are left as they are."""
        vendor = self._place.vendor
        for words, value in (
            (vendor.id_words, Placeholder.NATIVE_ID),
            (vendor.index_words, Placeholder.INDEX),
            (vendor.name_words, self._name),
        ):
            for word in words:
                path = path.replace(word, value)
        return path

    def _is_directory(self, path: str) -> bool:
        if path.endswith("/"):
            return True
        path = path.replace(Placeholder.DIRECTORY, self._directory)
        if path.startswith("/dev/") or Placeholder.INDEX in path or Placeholder.NATIVE_ID in path:
            return False
        return self._place.files.folder(path)


def _is_this_host(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    import socket

    own = socket.gethostname()
    return host in (own, own.partition(".")[0])
