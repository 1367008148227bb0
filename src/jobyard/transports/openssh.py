"""The transport to a login host by the system's OpenSSH: commands and files as messages to a helper that is sent over it.

The user's ssh does the connecting, so that configuration, agent, jump hosts, host keys, certificates, second factors and
Kerberos work as in a terminal. One connection and one helper for each login and process.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from ..errors import TransportError
from ..node import helper_wire as wire
from ..schedulers.base import Command, Result
from .base import (
    CommandRefused,
    CommandTimeout,
    Copy,
    FileStat,
    OutputTooLarge,
    PathError,
    ProgramMissing,
    Timeouts,
    TransferTimeout,
    TransportClosed,
    absolute,
    path_error,
    printable,
    shown_command,
)
from .local import named, reading, replacing, told, write_all
from .openssh_connection import connection
from .openssh_errors import LinkLost
from .openssh_link import Identity, Link, Pending, Refusal
from .openssh_start import Settings
from .openssh_watch import OpenSSHWatch

__all__ = ["OpenSSHTransport", "Settings"]

T = TypeVar("T")
_SECRETS = 0o600
ANSWER_S = 60.0  # beyond a command's own limit, which the helper keeps, unless it cannot even begin it (a dead file system)


class OpenSSHTransport:
    """Transport of jobyard.transports.base to a login host. Nothing is connected before it is needed.

    ``environment``: added to what the login gives, for every command. ``path``: folders put before PATH there.
    ``output_cap_bytes``: of each stream of a command.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environment: Mapping[str, str] | None = None,
        path: str | None = None,
        timeouts: Timeouts | None = None,
        output_cap_bytes: int = 1 << 28,
        look_every_s: float = 0.5,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self._extra = dict(environment or {})
        self._path = path
        self._timeouts = timeouts or Timeouts()
        self._cap = output_cap_bytes
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self._mine: set[Pending] = set()
        self._watches: weakref.WeakSet[OpenSSHWatch] = weakref.WeakSet()
        self._login: tuple[str, dict[str, str]] | None = None  # boot id of the helper that told it, and its environment
        self._closed = False
        self._pid = os.getpid()
        self.connection = connection(settings)

    # The connection

    @property
    def identity(self) -> Identity:
        """Who and where the helper is; connects where there is no connection."""
        return self.link().identity

    @property
    def transfer_s(self) -> float | None:
        """How long one file may take; of many, how long nothing may move."""
        return self._timeouts.transfer_s

    def link(self, *, background: bool = False) -> Link:
        """The connection to the helper. TransportClosed; TransportError where the host cannot be reached."""
        self.check_open()
        return self.connection.link(background=background)

    def call(self, op: str, arguments: Mapping[str, Any], raw: bytes = b"", *, background: bool = False) -> tuple[Any, bytes]:
        """Have the helper do something that takes and gives no stream of more than the window. Refusal, TransportError."""
        pending = self.send(op, arguments, raw, background=background)
        with self.watched(pending):
            parts: list[bytes] = []
            while (came := pending.next()) is not None:
                parts.append(bytes(came[1]))
                pending.consumed(came[0], len(came[1]))
            value, rest = pending.answer()
            return value, b"".join([*parts, rest]) if parts else rest

    def send(self, op: str, arguments: Mapping[str, Any], raw: bytes = b"", *, background: bool = False) -> Pending:
        """Send a request; content of more than one message goes after it. For use within ``watched``."""
        link = self.link(background=background)
        streamed = len(raw) > wire.INLINE
        pending = link.send(op, {**arguments, "streamed": True} if streamed else arguments, b"" if streamed else raw)
        try:
            with self._lock:
                self._mine.add(pending)
            if self._closed:
                pending.finish(self._was_closed())
            if streamed and self.send_part(pending, raw):
                self.send_end(pending)
        except BaseException:  # Ctrl-C, LinkLost: nobody gets to know of it
            with self.watched(pending):
                raise
        return pending

    def send_part(self, pending: Pending, data: Any, deadline: float | None = None) -> bool:
        """Send a part of a request's stream; False where nobody takes it any more, or the time is over. LinkLost."""
        try:
            return pending.send(0, data, _left(deadline))
        except OSError as error:
            pending.link.abort()
            raise LinkLost(f"{self.name}: the connection ended") from error

    def send_end(self, pending: Pending, said: Any = None) -> None:
        """End a request's stream, with what is to be said of it. LinkLost."""
        try:
            pending.sender.send(wire.EOF, pending.request, b"" if said is None else wire.head(said)[:-1])
        except OSError as error:
            pending.link.abort()
            raise LinkLost(f"{self.name}: the connection ended") from error

    @contextmanager
    def watched(self, pending: Pending) -> Iterator[None]:
        """What a request left there is ended, whatever ends the call."""
        try:
            yield
        finally:
            with self._lock:
                self._mine.discard(pending)
            if not pending.done.is_set() or self._closed:
                pending.cancel()

    def _again(self, call: Callable[[], T]) -> T:
        """Once more where the connection ended meanwhile: for what can be done twice."""
        try:
            return call()
        except LinkLost:
            return call()

    # Commands

    def run(self, command: Command) -> Result:
        began = time.monotonic()
        limit_s = min(command.timeout_s, self._timeouts.command_s or command.timeout_s)
        shown = shown_command(command.argv)
        whole = len(command.stdin) <= wire.INLINE
        additions = {name: value for name, value in self._additions().items() if not named(name, command.without)}
        arguments = {
            "argv": [_text(word) for word in command.argv],
            "environment": {_text(k): _text(v) for k, v in {**additions, **command.environment}.items()},
            "without": [_text(name) for name in command.without],
            "directory": None if command.directory is None else _text(command.directory),
            "timeout_s": limit_s,
            "cap": self._cap,
            "stdin": bool(command.stdin),
            "whole": whole,
            "finish": command.finish,
        }
        pending = self.send("run", arguments, command.stdin if whole else b"")
        with self.watched(pending):
            if not whole:
                feeder = threading.Thread(target=_feed, args=(pending, command.stdin), name="jobyard-ssh-stdin", daemon=True)
                feeder.start()
            taken: dict[int, list[bytes]] = {1: [], 2: []}
            sizes = {1: 0, 2: 0}
            due = time.monotonic() + limit_s
            while (came := pending.next(min(max(0.0, due - time.monotonic()) + ANSWER_S, threading.TIMEOUT_MAX))) is not None:
                stream, data = came
                if stream not in taken:
                    continue
                taken[stream].append(bytes(data))
                sizes[stream] += len(data)
                if sizes[stream] > 2 * self._cap + wire.WINDOW_FAR:
                    raise OutputTooLarge(f"{self.name}: {shown} sends more than it said; ask it for less")
                pending.consumed(stream, len(data))
            if not pending.over:
                raise CommandTimeout(
                    f"{self.name}: {shown} gave no sign within {limit_s + ANSWER_S:g} s, and was given up; look whether the file "
                    "systems of its program and its folder answer there",
                    result=Result(
                        argv=command.argv,
                        returncode=-signal.SIGKILL,
                        stdout=b"".join(taken[1]),
                        stderr=b"".join(taken[2]),
                        duration_s=time.monotonic() - began,
                    ),
                )
            try:
                value, rest = pending.answer()
            except Refusal as refusal:
                raise self._refused_start(refusal, command, shown) from None
        out = int(value["out"])
        result = Result(
            argv=command.argv,
            returncode=int(value["returncode"]),
            stdout=b"".join([*taken[1], rest[:out]]),
            stderr=b"".join([*taken[2], rest[out:]]),
            duration_s=time.monotonic() - began,
        )
        self.check_open()
        if value["over"] == "time":
            raise CommandTimeout(
                f"{self.name}: {shown} did not end within {limit_s:g} s and was killed; "
                "try it by hand, and look whether the service behind it answers",
                result=result,
            )
        if value["over"] == "size":
            raise OutputTooLarge(f"{self.name}: {shown} wrote more than {self._cap} bytes and was killed; ask it for less")
        if value["over"] == "cancel":
            raise LinkLost(f"{self.name}: {shown} was ended there before it was done")
        return result

    def _refused_start(self, refusal: Refusal, command: Command, shown: str) -> TransportError:
        reason, at = printable(str(refusal)), refusal.details.get("at")
        if refusal.kind == "missing":
            program = command.argv[0]
            return ProgramMissing(
                f"{self.name}: there is no program {printable(program)}; install it, or put its folder on PATH", program=program
            )
        if refusal.kind == "resources":
            return TransportError(f"{self.name}: no process for {shown} now: {reason}; end some, and try again")
        if refusal.kind == "start" and at == "directory":
            return CommandRefused(
                f"{self.name}: {shown} cannot be run in {printable(command.directory or '')}: {reason}; make it, or choose another"
            )
        if refusal.kind == "start":
            return CommandRefused(f"{self.name}: {shown} cannot be run: {reason}; check its mode and its words")
        return self.other_refusal(refusal)

    def other_refusal(self, refusal: Refusal) -> TransportError:
        """The error for a refusal that no call expects."""
        if refusal.kind == "os":
            return path_error(self.name, "use", str(refusal.details.get("path") or ""), refusal.os_error())
        if refusal.kind == "resources":
            return TransportError(f"{self.name}: {printable(str(refusal))}; end some, and try again")
        return TransportError(f"{self.name}: the helper failed: {printable(str(refusal), 1000)}")

    def environment(self) -> Mapping[str, str]:
        return {**self._base(), **self._additions()}

    def _base(self) -> Mapping[str, str]:
        boot_id = self.link().identity.boot_id
        if self._login is None or self._login[0] != boot_id:
            value, _ = self._again(lambda: self.call("environment", {}))
            self._login = (boot_id, {_here(name): _here(text) for name, text in value.items()})
        return self._login[1]

    def _additions(self) -> Mapping[str, str]:
        if self._path is None:
            return self._extra
        return {"PATH": f"{self._path}:{self._base().get('PATH', '/usr/local/bin:/usr/bin:/bin')}", **self._extra}

    def user(self) -> str:
        return self.identity.user

    # Files

    def _file(self, op: str, doing: str, path: str, arguments: Mapping[str, Any], raw: bytes = b"") -> tuple[Any, bytes]:
        try:
            return self.call(op, {"path": _text(absolute(self.name, path)), **arguments}, raw)
        except Refusal as refusal:
            raise self._refused_path(refusal, doing, path) from None

    def _refused_path(self, refusal: Refusal, doing: str, path: str) -> TransportError:
        if refusal.kind == "os":
            told = refusal.details.get("path")
            error = refusal.os_error()
            inner = doing in ("make the folder", "watch", "remove", "list")
            at = _here(told) if inner and isinstance(told, str) and told.startswith("/") else path
            return path_error(self.name, doing, at, error)
        if refusal.kind == "irregular":
            return PathError(f"{self.name}: {printable(path)} is not a regular file; only those are read", filename=path)
        if refusal.kind == "content":
            return TransportError(f"{self.name}: {printable(path)} was not written: {printable(str(refusal))}; try again")
        return self.other_refusal(refusal)

    def put(self, source: str, target: str, *, mode: int = _SECRETS) -> None:
        self.check_open()
        absolute("this machine", source)
        absolute(self.name, target)
        self._again(lambda: self._put(source, target, mode))

    def _put(self, source: str, target: str, mode: int) -> None:
        deadline = self._deadline()
        with reading("this machine", source) as reader:
            found = os.fstat(reader)
            if found.st_size <= wire.INLINE:
                with told("this machine", "read", source):
                    content = os.pread(reader, wire.INLINE + 1, 0)
                if len(content) <= wire.INLINE:
                    self._file("write", "write", target, {"mode": mode}, content)
                    return
            arguments = {"path": _text(target), "mode": mode, "size": None}
            pending = self.send("write", arguments)
            with self.watched(pending):
                size, crc, buffer = 0, 0, memoryview(bytearray(wire.BLOCK))
                while True:
                    with told("this machine", "read", source):
                        count = os.readv(reader, [buffer])
                    if not count:
                        break
                    chunk = buffer[:count]
                    size, crc = size + count, zlib.crc32(chunk, crc)
                    if not self.send_part(pending, chunk, deadline):
                        break
                self._in_time(deadline, source, target)
                if not pending.over:
                    self.send_end(pending, [size, crc])
                try:
                    pending.answer()
                except Refusal as refusal:
                    raise self._refused_path(refusal, "write", target) from None

    def get(self, source: str, target: str, *, mode: int = _SECRETS) -> None:
        self.check_open()
        absolute(self.name, source)
        absolute("this machine", target)
        self._again(lambda: self._get(source, target, mode))

    def _get(self, source: str, target: str, mode: int) -> None:
        deadline = self._deadline()
        pending = self.send("read", {"path": _text(source), "start": 0, "length": None, "follow": True})
        with self.watched(pending), replacing("this machine", target, mode) as writer:
            size, crc = 0, 0
            while (came := pending.next(_left(deadline))) is not None:
                data = came[1]
                size, crc = size + len(data), zlib.crc32(data, crc)
                with told("this machine", "write", target):
                    write_all(writer, data)
                pending.consumed(came[0], len(data))
                self._in_time(deadline, source, target)
            self._in_time(deadline, source, target)
            try:
                value, rest = pending.answer()
            except Refusal as refusal:
                raise self._refused_path(refusal, "read", source) from None
            with told("this machine", "write", target):
                write_all(writer, rest)
            if [size + len(rest), zlib.crc32(rest, crc)] != [value["size"], value["crc"]]:
                raise TransportError(f"{self.name}: {printable(source)} did not arrive as it was sent; try again")

    def _deadline(self) -> float | None:
        limit_s = self._timeouts.transfer_s
        return None if limit_s is None else time.monotonic() + limit_s

    def _in_time(self, deadline: float | None, source: str, target: str) -> None:
        if deadline is not None and time.monotonic() >= deadline:
            raise TransferTimeout(
                f"{self.name}: {printable(source)} was not copied to {printable(target)} within {self._timeouts.transfer_s:g} s; "
                "try again, or allow more time"
            )

    def put_many(self, copies: Sequence[Copy]) -> None:
        from .openssh_many import put_many  # here: it stands on this module

        self.check_open()
        put_many(self, copies)

    def get_many(self, copies: Sequence[Copy]) -> None:
        from .openssh_many import get_many

        self.check_open()
        get_many(self, copies)

    def write_file(self, path: str, content: bytes, *, mode: int = _SECRETS) -> None:
        self.check_open()
        absolute(self.name, path)
        if len(content) <= wire.INLINE:
            self._again(lambda: self._file("write", "write", path, {"mode": mode}, content))
            return
        self._again(lambda: self._write_long(path, content, mode))

    def _write_long(self, path: str, content: bytes, mode: int) -> None:
        pending = self.send("write", {"path": _text(path), "mode": mode, "size": len(content)})
        with self.watched(pending):
            if self.send_part(pending, content):
                self.send_end(pending, [len(content), zlib.crc32(content)])
            try:
                pending.answer()
            except Refusal as refusal:
                raise self._refused_path(refusal, "write", path) from None

    def read_range(self, path: str, start: int = 0, length: int | None = None, *, follow: bool = True) -> bytes:
        self.check_open()
        arguments = {"start": start, "length": length, "follow": follow}
        value, data = self._again(lambda: self._file("read", "read", path, arguments))
        if [len(data), zlib.crc32(data)] != [value["size"], value["crc"]]:
            raise TransportError(f"{self.name}: {printable(path)} did not arrive as it was sent; try again")
        return data

    def stat(self, path: str, *, follow: bool = True) -> FileStat:
        self.check_open()
        text = _text(absolute(self.name, path))
        value, _ = self._again(lambda: self._file("look", "look at", path, {"paths": [text], "follow": follow}))
        return _file_stat(value[0])

    def list(self, folder: str) -> Mapping[str, FileStat]:
        self.check_open()
        _, raw = self._again(lambda: self._file("entries", "list", folder, {}))
        return {_here(name): _file_stat(found) for name, found in json.loads(raw).items()}

    def tree(self, folder: str) -> Mapping[str, FileStat]:
        self.check_open()
        _, raw = self._again(lambda: self._file("below", "list", folder, {}))
        lines = map(json.loads, raw.splitlines())
        return {_here(name): _file_stat(found) for name, *found in lines}

    def make_folder(self, path: str, *, mode: int = 0o700, parents: bool = False) -> None:
        self.check_open()
        self._file("make_folder", "make the folder", path, {"mode": mode, "parents": parents})

    def remove(self, path: str, *, tree: bool = False) -> None:
        self.check_open()
        self._file("remove", "remove", path, {"tree": tree})

    def rename(self, source: str, target: str) -> None:
        self.check_open()
        texts = {"source": _text(absolute(self.name, source)), "target": _text(absolute(self.name, target))}
        self._file("rename", "rename", source, texts)

    def watch(self, folders: Iterable[str] = (), *, prefix: str = "") -> OpenSSHWatch:
        self.check_open()
        watch = OpenSSHWatch(self, prefix, self._look_every_s)
        try:
            watch.add(folders)
        except BaseException:
            watch.close()
            raise
        with self._lock:
            self._watches.add(watch)
        return watch

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            mine, watches = list(self._mine), list(self._watches)
        if self._pid != os.getpid():  # a forked child: the connection is its parent's, or was made anew by nobody
            return
        for watch in watches:
            watch.close()
        for pending in mine:
            pending.cancel()
            pending.finish(self._was_closed())
        self.connection.leave()

    def check_open(self) -> None:
        """TransportClosed after ``close``."""
        if self._pid != os.getpid():  # what the parent's threads held when it forked is nobody's here
            self._pid, self._lock, self._mine = os.getpid(), threading.Lock(), set()
            self._watches = weakref.WeakSet()
        if self._closed:
            raise self._was_closed()

    def _was_closed(self) -> TransportClosed:
        return TransportClosed(f"{self.name}: this transport was closed; open another")


# Helpers ------------------------------------------------------------------------------------------------------------


def _text(name: str) -> str:
    """Text as messages have it: UTF-8, whatever this locale's encoding is."""
    return wire.as_text(os.fsencode(name)) if os.fsencode("é") != b"\xc3\xa9" else name


def _here(text: str) -> str:
    """Text of a message as this locale has it."""
    return os.fsdecode(wire.as_bytes(text)) if os.fsencode("é") != b"\xc3\xa9" else text


def _file_stat(found: list[Any]) -> FileStat:
    return msgspec.convert(dict(zip(("kind", "size_bytes", "modified_at", "mode", "uid"), found, strict=True)), FileStat)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _feed(pending: Pending, data: bytes) -> None:
    try:
        if pending.send(0, data):
            pending.sender.send(wire.EOF, pending.request)
    except OSError:  # the link is gone; the answer says so
        pass
