"""Files of a job's sandbox: fetching outputs, and looking into a file."""

from __future__ import annotations

import codecs
import dataclasses
import fnmatch
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from jobyard.fronts import Command, Copy, FileKind

from ..exceptions import InvalidValue
from ..url import Url

if TYPE_CHECKING:
    from jobyard.fronts import Transport

__all__ = ["Fetched", "checked_name", "fetch", "peek"]

_CHUNK = 1 << 20
_FEW = 8  # names that are looked at one by one; for more, or for a pattern, the whole sandbox is listed, in one message
_GLOB = frozenset("*?[")
_FARTHEST = 1 << 62  # byte of a file that can be asked for


@dataclasses.dataclass
class Fetched:
    """What ``get_results`` did, by names in the job's sandbox."""

    copied: list[str] = dataclasses.field(default_factory=list)
    kept: list[str] = dataclasses.field(default_factory=list)  # what was here already, and was not to be overwritten
    missing: list[str] = dataclasses.field(default_factory=list)  # outputs that the job did not make
    refused: list[str] = dataclasses.field(default_factory=list)  # links out of the sandbox, and what is neither file nor folder


def checked_name(name: Any) -> str:
    """A name in a sandbox, without ``.`` and ``..``; InvalidValue."""
    text = os.fsdecode(name)
    path = os.path.normpath(text) if text else ""
    if not path or path == "." or os.path.isabs(path) or ".." in text.split("/") or "\0" in path:
        raise InvalidValue(f"{text!r} is no file of a job's sandbox; write a relative name without '..'")
    return path


class _Sandbox:
    """A job's directory, as a transport shows it."""

    def __init__(self, transport: Transport, path: str) -> None:
        self.transport = transport
        self.path = path
        self._real: str | None = None
        self._tree: Mapping[str, Any] | None = None

    def list_all(self) -> None:
        """List it now; what lies where is known from then on."""
        try:
            self._tree = self.transport.tree(self.path)
        except FileNotFoundError:  # the job has not begun
            self._tree = {}

    def _listed(self, name: str) -> bool:
        """Whether the list says what lies there: no link is on the way."""
        if self._tree is None:
            return False
        ends = (at for at, letter in enumerate(name) if letter == "/")
        return all((one := self._tree.get(name[:at])) is None or one.kind != FileKind.LINK for at in ends)

    def stat(self, name: str) -> Any:
        """What lies there; None where nothing does. A link that leads out is told as itself."""
        if self._tree is not None and self._listed(name):
            found = self._tree.get(name)
            if found is None or found.kind != FileKind.LINK:
                return found
        try:
            found = self.transport.stat(f"{self.path}/{name}", follow=False)
            if found.kind == "link":
                return self.transport.stat(f"{self.path}/{name}") if self.inside(name) else found
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found

    def inside(self, name: str) -> bool:
        """Whether a link leads to something within the sandbox."""
        if self._real is None:
            self._real = self._resolved(self.path)
        return self._resolved(f"{self.path}/{name}").startswith(f"{self._real}/")

    def _resolved(self, path: str) -> str:
        result = self.transport.run(Command(argv=("readlink", "-f", "--", path)))
        return result.text.removesuffix("\n") if result.returncode == 0 else ""

    def files(self, name: str) -> Iterator[tuple[str, Any]]:
        """The files below a folder of it ("": all), in order, with what is known of each; links to folders are not walked."""
        if self._tree is not None and self._listed(f"{name}/"):
            start = f"{name}/" if name else ""
            below = {one: found for one, found in self._tree.items() if one.startswith(start)}
        else:
            tree = self.transport.tree(f"{self.path}/{name}".rstrip("/"))
            below = {f"{name}/{one}" if name else one: found for one, found in tree.items()}
        for one in sorted(below, key=lambda path: path.split("/")):
            if any(part in ("", ".", "..") for part in one.split("/")):
                continue  # no host has such names
            found = self.stat(one) if below[one].kind == FileKind.LINK else below[one]
            if found is not None and (found.kind != FileKind.FOLDER or below[one].kind == FileKind.LINK):
                yield one, found

    def digest(self, name: str) -> str:
        """SHA-256 of a file, in pieces."""
        whole = hashlib.sha256()
        for part in self.pieces(name, 0, None):
            whole.update(part)
        return whole.hexdigest()

    def pieces(self, name: str, start: int, size: int | None) -> Iterator[bytes]:
        """The bytes of a file from ``start``; at most ``size``."""
        left = size
        while left is None or left > 0:
            wanted = _CHUNK if left is None else min(_CHUNK, left)
            part = self.transport.read_range(f"{self.path}/{name}", start, wanted)
            if not part:
                return
            yield part
            start += len(part)
            left = None if left is None else left - len(part)


# Fetching -----------------------------------------------------------------------------------------------------------------


def fetch(
    transport: Transport,
    sandbox: str,
    outputs: Mapping[str, Url],
    folder: str,
    *,
    mapped: Callable[[str], str],
    overwrite: bool,
    changed_only: bool | str,
    exclude: Iterable[str] = (),
) -> Fetched:
    """Bring outputs to ``folder``; each arrives whole or not at all, with its permission bits and its time.

    ``mapped``: where a standard stream is, if not under its own name. ``changed_only="checksum"`` compares contents.
    OSError, TransportError: what was brought before stays, and fetching again goes on from there.
    """
    place = _Sandbox(transport, sandbox)
    done = Fetched()
    copies: dict[str, Copy] = {}  # by target: of several outputs for one file, the last is meant
    if len(outputs) > _FEW or any(not _GLOB.isdisjoint(name) for name in outputs):
        place.list_all()
    for name, target in outputs.items():
        found = list(_found(place, name, target.path, mapped))
        if not found:
            done.missing.append(name)
        for remote, local, what in found:
            if any(fnmatch.fnmatchcase(remote, one) or remote.startswith(one.rstrip("/") + "/") for one in exclude):
                continue
            path = os.path.join(folder, local)
            if what.kind != "file":
                done.refused.append(remote)
            elif _wanted(place, remote, what, path, overwrite, changed_only):
                copies[path] = Copy(f"{sandbox}/{remote}", path, what.mode | stat.S_IRUSR | stat.S_IWUSR)
                done.copied.append(remote)
            else:
                done.kept.append(remote)
    for above in dict.fromkeys(map(os.path.dirname, copies)):
        os.makedirs(above, exist_ok=True)
    transport.get_many(list(copies.values()))
    return done


def _found(place: _Sandbox, name: str, target: str, mapped: Callable[[str], str]) -> Iterator[tuple[str, str, Any]]:
    """(name in the sandbox, local path, what it is) of all files that an output stands for."""
    if name == "*":
        for remote, what in _all(place):
            yield remote, os.path.join(target, remote), what
        return
    for actual in dict.fromkeys((name, mapped(name))):
        what = place.stat(actual)
        if what is not None and what.kind == "folder":
            for remote, one in place.files(actual):
                yield remote, os.path.join(target, remote[len(actual) + 1 :]), one
            return
        if what is not None:
            yield actual, target, what
            return
    if _GLOB.isdisjoint(name):
        return
    into = "" if target == name else target
    for remote, what in _all(place):
        parts = name.split("/")
        own = remote.split("/")
        if len(own) >= len(parts) and all(fnmatch.fnmatchcase(one, part) for one, part in zip(own, parts, strict=False)):
            yield remote, os.path.join(into, remote), what


def _all(place: _Sandbox) -> Iterator[tuple[str, Any]]:
    try:
        yield from place.files("")
    except FileNotFoundError:
        return  # the job has not begun


def _wanted(place: _Sandbox, remote: str, what: Any, path: str, overwrite: bool, changed_only: bool | str) -> bool:
    """The table of GC3Pie: an absent file always, one that is here by ``overwrite`` and ``changed_only``."""
    try:
        here = os.stat(path)
    except FileNotFoundError:
        return True
    if not overwrite:
        return False
    if not changed_only:
        return True
    if here.st_size != what.size_bytes:
        return True
    if changed_only == "checksum":
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() != place.digest(remote)
    # Where a host tells whole seconds only, the part below a second is not to be compared.
    mine = float(int(here.st_mtime)) if what.modified_at == int(what.modified_at) else here.st_mtime
    return bool(what.modified_at > mine + 1e-6)


# Looking ------------------------------------------------------------------------------------------------------------------


def peek(transport: Transport, sandbox: str, names: Iterable[str], target: Any, offset: int, size: int | None) -> None:
    """Write ``size`` bytes of the first of these files that is there, from ``offset`` (from its end where negative), to a path
    or a file-like object that takes bytes or, if it does not, text. What lies beyond the file's ends is left out.

    FileNotFoundError: none is there.
    """
    place = _Sandbox(transport, sandbox)
    actual = found = None
    for name in names:
        actual, found = name, place.stat(name)
        if found is not None:
            break
    if found is None or actual is None:
        raise FileNotFoundError(2, "the job has no such file (yet)", actual)
    if found.kind == "link":
        raise PermissionError(1, "a link that leads out of the job's sandbox is not followed", actual)
    start = min(offset, _FARTHEST) if offset >= 0 else max(0, found.size_bytes + offset)
    pieces = place.pieces(actual, start, size)
    if isinstance(target, str | bytes | os.PathLike):
        first = next(pieces, b"")  # before the file here is emptied
        with open(target, "wb") as file:
            file.write(first)
            for part in pieces:
                file.write(part)
        return
    _write_all(target, pieces)


def _write_all(target: IO[Any], pieces: Iterable[bytes]) -> None:
    decoder: codecs.IncrementalDecoder | None = None
    for part in pieces:
        if decoder is None:
            try:
                while isinstance(count := target.write(part), int) and 0 < count < len(part):  # a raw stream takes what it can
                    part = part[count:]
                continue
            except TypeError:  # it takes text
                decoder = codecs.getincrementaldecoder("utf-8")("replace")
        target.write(decoder.decode(part))
    if decoder is not None and (rest := decoder.decode(b"", True)):
        target.write(rest)
