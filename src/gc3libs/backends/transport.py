"""Commands and files on the host of a batch system: ``LocalTransport`` for this machine, ``SshTransport`` for another.

Both stand on the engine's transports (``inner``), which backends use themselves; the methods here are for programs and
subclasses that call GC3Pie's. Whatever fails raises ``gc3libs.exceptions.TransportError`` with what the host said.
"""

from __future__ import annotations

import io
import os
import stat as _stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

import jobyard
from jobyard import fronts
from jobyard.fronts import Command, Copy

from ..exceptions import InvalidValue, TransportError
from ._words import translated

if TYPE_CHECKING:
    from jobyard.fronts import FileStat
    from jobyard.fronts import Transport as Inner

__all__ = ["LocalTransport", "SshTransport", "Stat", "Transport"]


class Login(NamedTuple):
    """Where a transport leads; a host of None is this machine."""

    host: str | None
    user: str | None
    port: int | None


class Stat(NamedTuple):
    """What a host tells of a file, with the names of ``os.stat``."""

    st_mode: int
    st_size: int
    st_mtime: float
    st_uid: int


class Transport:
    """Commands and files on a host. Opened by the first use; ``close`` lets go, and the next use opens it again."""

    def __init__(self) -> None:
        self._inner: Inner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self, path: str | None = None) -> Inner:
        raise NotImplementedError

    @property
    def inner(self) -> Inner:
        """The engine's transport."""
        if self._inner is None:
            self._inner = self._open()
        return self._inner

    def another(self, path: str | None = None) -> Inner:
        """One of the engine's transports to the same host, for somebody who closes it; over SSH they share a connection.
        ``path``: folders put before PATH there."""
        return self._open(path)

    @contextmanager
    def _told(self, doing: str) -> Iterator[Inner]:
        try:
            yield self.inner
        except (jobyard.JobyardError, OSError) as error:
            if isinstance(error, TransportError):
                raise
            found = translated(error, doing)
            raise found if isinstance(found, TransportError) else TransportError(str(found)) from error

    @property
    def login(self) -> Login:
        """The host, and as whom it is reached."""
        raise NotImplementedError

    # Connection

    def connect(self) -> None:
        """Open it now. TransportError: the host cannot be reached."""
        with self._told("connecting") as inner:
            inner.user()

    def close(self) -> None:
        """Let go of the connection."""
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.close()

    def get_remote_username(self) -> str:
        """The login name there."""
        with self._told("asking for the login name") as inner:
            return inner.user()

    def set_connection_params(self, hostname: str, **parameters: Any) -> None:
        """Another host from now on."""
        raise InvalidValue(f"{type(self).__name__} has no other host")

    # Commands

    def execute_command(self, command: str, detach: bool = False, timeout: float = 3600.0) -> tuple[int, str, str]:
        """Have the host's shell run a command line: exit code, standard output, standard error.

        ``detach``: it goes on by itself, and what it writes is discarded. ``timeout``: seconds after which it is killed.
        """
        if detach:
            argv: tuple[str, ...] = ("/bin/sh", "-c", 'nohup /bin/sh -c "$1" </dev/null >/dev/null 2>&1 &', "sh", command)
        else:
            argv = ("/bin/sh", "-c", command)
        with self._told(f"running {command!r}") as inner:
            result = inner.run(Command(argv=argv, timeout_s=timeout))
        return result.returncode, result.text, result.stderr.decode("utf-8", "surrogateescape")

    # Files

    def exists(self, path: str) -> bool:
        """Whether something is there."""
        return self._stat(path) is not None

    def isdir(self, path: str) -> bool:
        """Whether a folder is there."""
        found = self._stat(path)
        return found is not None and _stat.S_ISDIR(found.st_mode)

    def _stat(self, path: str) -> Stat | None:
        try:
            return self.stat(path)
        except TransportError as error:
            if error.errno in (2, 20):  # no such file; something on the way is no folder
                return None
            raise

    def stat(self, path: str) -> Stat:
        """What the host tells of a file or folder."""
        with self._told("looking at a file") as inner:
            return _as_stat(inner.stat(path))

    def listdir(self, path: str) -> list[str]:
        """The names in a folder, in order."""
        with self._told("listing a folder") as inner:
            return sorted(inner.list(path))

    def makedirs(self, path: str, mode: int = 0o777) -> None:
        """Make a folder, and those above it. One that is there stays as it is. The path is absolute."""
        with self._told("making a folder") as inner:
            inner.make_folder(path, mode=mode & ~0o022, parents=True)

    def chmod(self, path: str, mode: int) -> None:
        """Set permission bits."""
        code, _, said = self.execute_command(f"chmod {mode:o} -- {_quoted(path)}")
        if code != 0:
            raise TransportError(f"the mode of {path!r} cannot be set: {said.strip()}", transient=False)

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._told("removing a file") as inner:
            inner.remove(path)

    def remove_tree(self, path: str) -> None:
        """Remove a folder with all in it; links in it are removed, not followed."""
        with self._told("removing a folder") as inner:
            inner.remove(path, tree=True)

    def open(self, path: str, mode: str = "r", bufsize: int = -1) -> IO[Any]:
        """A file there as a file-like object: read as a whole now, or written as a whole when it is closed."""
        text = "b" not in mode
        kind = mode.replace("b", "").replace("t", "")
        if kind not in ("r", "w", "a"):
            raise InvalidValue(f"a file is opened to be read ('r'), written ('w') or added to ('a'), not {mode!r}")
        before = b""
        if kind == "r" or (kind == "a" and self.exists(path)):
            with self._told("reading a file") as inner:
                before = inner.read_range(path)
        if kind == "r":
            data: IO[bytes] = io.BytesIO(before)
        else:
            data = _Sent(before, lambda content: self._write(path, content))
            data.seek(0, os.SEEK_END)
        return io.TextIOWrapper(data, encoding="utf-8", errors="surrogateescape", newline="") if text else data

    def _write(self, path: str, content: bytes) -> None:
        with self._told("writing a file") as inner:
            inner.write_file(path, content, mode=0o644)

    def put(
        self, source: str, destination: str, ignore_nonexisting: bool = False, overwrite: bool = False, changed_only: bool = True
    ) -> None:
        """Copy a file, or a folder with all in it, to the host, with their times; links are read as what they lead to.
        ``overwrite`` and ``changed_only`` as for ``get_results``."""
        try:
            found = os.stat(source)
        except FileNotFoundError:
            if ignore_nonexisting:
                return
            raise TransportError(f"{source!r} is not there", errno=2, transient=False) from None
        except OSError as error:
            raise TransportError(f"{source!r} cannot be read: {error.strerror}", errno=error.errno, transient=False) from error
        if _stat.S_ISDIR(found.st_mode):
            with self._told("sending files"):
                self._put_folder(source, destination, ignore_nonexisting, overwrite, changed_only)
            return
        if self.isdir(destination):
            destination = f"{destination}/{os.path.basename(source)}"
        there = self._stat(destination)
        if there is None or _wanted(Stat(0, found.st_size, found.st_mtime, 0), there, overwrite, changed_only):
            with self._told("sending a file") as inner:
                inner.put_many([Copy(os.path.abspath(source), destination, _stat.S_IMODE(found.st_mode))])

    def get(
        self, source: str, destination: str, ignore_nonexisting: bool = False, overwrite: bool = False, changed_only: bool = True
    ) -> None:
        """Copy a file, or a folder with all in it, from the host; as ``put``."""
        with self._told("fetching files"):
            self._get(source, destination, ignore_nonexisting, overwrite, changed_only, ())

    def _get(
        self, source: str, destination: str, ignore_nonexisting: bool, overwrite: bool, changed_only: bool, within: tuple[str, ...]
    ) -> None:
        """``within``: the folders, by their own names, that hold the links by which it is reached."""
        found = self._stat(source)
        if found is None:
            if ignore_nonexisting:
                return
            raise TransportError(f"{source!r} is not there", errno=2, transient=False)
        if _stat.S_ISDIR(found.st_mode):
            own = self._resolved(source) if within else ""
            if any(f"{one}/".startswith(f"{own}/") for one in within):
                raise _loop(source)
            links = self._get_folder(source, destination, overwrite, changed_only)
            own = own or (self._resolved(source) if links else "")
            for name in links:
                holder = os.path.dirname(f"{own}/{name}")
                below = f"{source}/{name}", f"{destination}/{name}"
                self._get(*below, ignore_nonexisting, overwrite, changed_only, (*within, holder))
            return
        target = _target(found, os.path.basename(source), destination, overwrite, changed_only)
        if target is not None:
            with self._told("fetching a file") as inner:
                inner.get(source, os.path.abspath(target), mode=_stat.S_IMODE(found.st_mode))
                os.utime(target, (found.st_mtime, found.st_mtime))

    def _resolved(self, path: str) -> str:
        """The path without links."""
        code, out, said = self.execute_command(f"readlink -f -- {_quoted(path)}")
        if code != 0:
            raise TransportError(f"it cannot be told where {path!r} leads: {said.strip()}", transient=False)
        return out.removesuffix("\n")

    def _put_folder(self, source: str, destination: str, ignore_nonexisting: bool, overwrite: bool, changed_only: bool) -> None:
        """All that is in a folder, in a few messages; links are read as what they lead to."""
        there = self._tree(destination)
        folders, copies = [destination], []
        todo: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(os.path.abspath(source), "", ())]
        while todo:
            folder, prefix, above = todo.pop()
            itself = os.stat(folder)
            if (itself.st_dev, itself.st_ino) in above:
                raise _loop(folder)
            above = (*above, (itself.st_dev, itself.st_ino))
            for name in sorted(os.listdir(folder)):
                path, below = f"{folder}/{name}", f"{prefix}{name}"
                try:
                    found = os.stat(path)
                except FileNotFoundError:
                    if ignore_nonexisting:
                        continue
                    raise
                old = there.get(below)
                if _stat.S_ISDIR(found.st_mode):
                    if old is None or not _stat.S_ISDIR(old.st_mode):
                        folders.append(f"{destination}/{below}")
                    todo.append((path, f"{below}/", above))
                    continue
                if old is not None and _stat.S_ISDIR(old.st_mode):
                    below = f"{below}/{name}"
                    old = there.get(below)
                if old is not None and _stat.S_ISLNK(old.st_mode):
                    old = self._stat(f"{destination}/{below}")
                if old is None or _wanted(Stat(0, found.st_size, found.st_mtime, 0), old, overwrite, changed_only):
                    copies.append(Copy(path, f"{destination}/{below}", _stat.S_IMODE(found.st_mode)))
        for one in folders:
            self.makedirs(one)
        with self._told("sending files") as inner:
            inner.put_many(copies)

    def _get_folder(self, source: str, destination: str, overwrite: bool, changed_only: bool) -> list[str]:
        """As ``_put_folder``; the names of links, which are left to be fetched one by one."""
        copies, links = [], []
        os.makedirs(destination, exist_ok=True)
        for name, found in sorted(self._tree(source).items()):
            if any(part in ("", ".", "..") for part in name.split("/")):
                continue  # no host has such names
            target = os.path.abspath(f"{destination}/{name}")
            if _stat.S_ISDIR(found.st_mode):
                os.makedirs(target, exist_ok=True)
                continue
            if not _stat.S_ISREG(found.st_mode):
                links.append(name)
                continue
            place = _target(found, os.path.basename(name), target, overwrite, changed_only)
            if place is not None:
                copies.append(Copy(f"{source}/{name}", place, _stat.S_IMODE(found.st_mode)))
        with self._told("fetching files") as inner:
            inner.get_many(copies)
        return links

    def _tree(self, folder: str) -> dict[str, Stat]:
        """All below a folder of the host; nothing where it is not there."""
        with self._told("listing a folder") as inner:
            try:
                return {name: _as_stat(found) for name, found in inner.tree(folder).items()}
            except FileNotFoundError:
                return {}


def _as_stat(found: FileStat) -> Stat:
    kinds = {"file": _stat.S_IFREG, "folder": _stat.S_IFDIR, "link": _stat.S_IFLNK}
    return Stat(kinds.get(str(found.kind), 0) | found.mode, found.size_bytes, found.modified_at, found.uid)


def _target(found: Stat, name: str, destination: str, overwrite: bool, changed_only: bool) -> str | None:
    """Where a file of the host is fetched to: the destination, or below it where that is a folder. None: what is there may stay."""
    target = f"{destination}/{name}" if os.path.isdir(destination) else destination
    try:
        here = os.stat(target)
    except FileNotFoundError:
        return target
    return target if _wanted(found, Stat(0, here.st_size, here.st_mtime, 0), overwrite, changed_only) else None


def _wanted(source: Stat, target: Stat, overwrite: bool, changed_only: bool) -> bool:
    if not overwrite:
        return False
    return not changed_only or source.st_size != target.st_size or source.st_mtime > target.st_mtime


def _loop(path: str) -> TransportError:
    return TransportError(f"{path!r} is a link to a folder that it lies in: all in it would come again and again", transient=False)


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "'\\''") + "'"


class _Sent(io.BytesIO):
    """Bytes that are sent when it is closed."""

    def __init__(self, content: bytes, send: Callable[[bytes], None]) -> None:
        super().__init__(content)
        self._send = send

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._send(content)


class LocalTransport(Transport):
    """This machine."""

    def _open(self, path: str | None = None) -> Inner:
        return fronts.local_transport(path=path)

    @property
    def login(self) -> Login:
        """This machine, as whoever runs this."""
        return Login(None, None, None)


class SshTransport(Transport):
    """A login host, reached by the system's OpenSSH: its configuration, agent, jump hosts and host keys are the user's own.

    ``login``: a function that tells what is not given here (``username``, ``port``, ``keyfile``, ``ssh_config``, ``timeout``),
    called when the host is first needed. ``ssh_config``: a file in place of the user's. ``timeout``: seconds for connecting.
    ``ignore_ssh_host_keys``: whoever answers is taken for the host; connecting warns. Sizes of large files are accepted and have no
    effect: files of any size travel in pieces.
    """

    def __init__(
        self,
        remote_frontend: str,
        port: Any = None,
        username: str | None = None,
        keyfile: str | None = None,
        ssh_config: str | None = None,
        timeout: float | None = None,
        ignore_ssh_host_keys: bool = False,
        large_file_threshold: Any = None,
        large_file_chunk_size: Any = None,
        *,
        login: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__()
        self.remote_frontend = remote_frontend
        self._given = {"port": port, "username": username, "keyfile": keyfile, "ssh_config": ssh_config, "timeout": timeout}
        self._ask = login
        self._ignore_host_keys = ignore_ssh_host_keys

    def set_connection_params(self, hostname: str, **parameters: Any) -> None:
        """Another host from now on, or other parameters."""
        self.close()
        self.remote_frontend = hostname
        for name, value in parameters.items():
            if name not in self._given:
                raise InvalidValue(f"{name!r} is none of {', '.join(self._given)}")
            self._given[name] = value

    def _parameters(self) -> dict[str, Any]:
        found = dict(self._given)
        if self._ask is not None and None in found.values():
            told = self._ask()
            for name, value in found.items():
                found[name] = getattr(told, name, None) if value is None else value
        if found["port"] is not None:
            try:
                found["port"] = int(found["port"])
            except (TypeError, ValueError):
                raise InvalidValue(f"port is a number, not {found['port']!r}") from None
        return found

    @property
    def login(self) -> Login:
        """The host, and as whom it is reached."""
        found = self._parameters()
        return Login(self.remote_frontend, found["username"], found["port"])

    def _open(self, path: str | None = None) -> Inner:
        found = self._parameters()
        for name in ("keyfile", "ssh_config"):
            if found[name] is not None:
                found[name] = os.path.expanduser(found[name])
        return fronts.ssh_transport(
            self.remote_frontend,
            user=found["username"],
            port=found["port"],
            config=found["ssh_config"],
            keyfile=found["keyfile"],
            connect_s=None if found["timeout"] is None else float(found["timeout"]),
            ignore_host_keys=self._ignore_host_keys,
            path=path,
        )
