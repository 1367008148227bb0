"""Many files to and from a login host, each between two paths of its own: a few messages for hundreds of them.

The records of ``node/transfer.py`` bear numbers in place of names, so that nothing that the host says leads anywhere.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import TransportError
from ..node import receiving, transfer
from .base import FULL, Copy, PathError, absolute, path_error, printable
from .local import told
from .openssh_errors import LinkLost
from .openssh_sync import TRIES, as_wire, ask, give, is_entry, number_of, take

if TYPE_CHECKING:
    from .openssh import OpenSSHTransport

__all__ = ["get_many", "put_many"]

_BATCH = 500  # files of one message, whose names must find room in it
_HERE = "this machine"

# What went wrong with one file; None: it changed while it was sent, and is to be copied by itself.
Failed = list[tuple[Copy, PathError | None]]


def put_many(transport: OpenSSHTransport, copies: Sequence[Copy]) -> None:
    """``Transport.put_many``."""
    for copy in copies:
        absolute(_HERE, copy.source)
        absolute(transport.name, copy.target)

    def one(copy: Copy) -> None:
        transport.put(copy.source, copy.target, mode=copy.mode)

    _in_batches(copies, lambda batch, _: _put(transport, batch), one)


def get_many(transport: OpenSSHTransport, copies: Sequence[Copy]) -> None:
    """``Transport.get_many``."""
    for copy in copies:
        absolute(transport.name, copy.source)
        absolute(_HERE, copy.target)

    def one(copy: Copy) -> None:
        modified_at = transport.stat(copy.source).modified_at  # before it is read: what is added later is newer than the copy
        transport.get(copy.source, copy.target, mode=copy.mode)
        with told(_HERE, "write", copy.target):
            os.utime(copy.target, (modified_at, modified_at))

    _in_batches(copies, lambda batch, done: _get(transport, batch, done), one)


def _in_batches(copies: Sequence[Copy], bring: Callable[[list[Copy], set[Copy]], Failed], one: Callable[[Copy], None]) -> None:
    first: PathError | None = None
    for at in range(0, len(copies), _BATCH):
        done: set[Copy] = set()
        for left in reversed(range(TRIES)):
            try:
                failed = bring([copy for copy in copies[at : at + _BATCH] if copy not in done], done)
                break
            except LinkLost:
                if not left:
                    raise
                time.sleep(0.2)
        for copy, error in failed:
            if error is None:
                try:
                    one(copy)
                    continue
                except PathError as again:
                    error = again
            if error.errno in FULL:
                raise error
            first = first or error
    if first is not None:
        raise first


def _put(transport: OpenSSHTransport, copies: list[Copy]) -> Failed:
    failed: Failed = []
    entries: list[list[Any]] = []
    parts: dict[str, tuple[int, int]] = {}
    for number, copy in enumerate(copies):
        try:
            found = os.stat(copy.source)
        except OSError as error:
            failed.append((copy, path_error(_HERE, "read", copy.source, error)))
            continue
        if not stat.S_ISREG(found.st_mode):
            failed.append((copy, _irregular(_HERE, copy)))
            continue
        entry = [str(number), transfer.FILE, found.st_size, found.st_mtime_ns, copy.mode & 0o777, None]
        entries.append(entry)
        if found.st_size >= transfer.RESUMABLE:
            folder, name = os.path.split(copy.target)
            _, raw = ask(transport, "parts", "read", folder, {}, json.dumps([[as_wire(name), *entry[1:]]]).encode())
            size, crc = json.loads(raw)[0]
            parts[str(number)] = int(size), int(crc)
    if entries:
        sources = {entry[0]: as_wire(copies[int(entry[0])].source) for entry in entries}
        arguments = {"path": "/", "targets": [as_wire(copy.target) for copy in copies]}
        blocks = transfer.records(b"/", entries, parts, sources, follow=True)
        _, errors = give(transport, arguments, blocks, lambda _: None, "/", "/")
        failed += _said(errors, copies, _HERE, transport.name)
    return failed


def _get(transport: OpenSSHTransport, copies: list[Copy], done: set[Copy]) -> Failed:
    _, raw = ask(transport, "found", "read", "/", {}, json.dumps([as_wire(copy.source) for copy in copies]).encode())
    answer = json.loads(raw)
    if not isinstance(answer, list) or len(answer) != len(copies):
        raise TransportError(f"{transport.name}: what it says of {len(copies)} files makes no sense; nothing was brought")
    failed: Failed = []
    entries: list[list[Any]] = []
    parts: dict[str, tuple[int, int]] = {}
    for number, (copy, found) in enumerate(zip(copies, answer, strict=True)):
        if not is_entry(found):
            failed.append((copy, _refused(transport.name, "read", copy.source, str(found), None)))
            continue
        if found[1] != transfer.FILE:
            failed.append((copy, _irregular(transport.name, copy)))
            continue
        entry = [str(number), transfer.FILE, found[2], found[3], copy.mode & 0o777, None]
        entries.append(entry)
        if found[2] >= transfer.RESUMABLE:
            folder, name = os.path.split(os.fsencode(copy.target))
            part = transfer.part_there(folder, [transfer.text(name), *entry[1:]])
            if part[0]:
                parts[entry[0]] = part
    if entries:
        receiver = receiving.Placed([os.fsencode(copy.target) for copy in copies])
        receiver.on_file = lambda name: done.add(copies[int(name)])
        sources = {entry[0]: as_wire(copies[int(entry[0])].source) for entry in entries}
        body = {"entries": entries, "parts": parts, "sources": sources}
        try:
            take(transport, {"path": "/", "follow": True}, body, receiver, lambda _: None, "/")
        except OSError as error:
            if isinstance(error, TransportError) or not receiver.errors:
                raise
            raise path_error(_HERE, "write", copies[int(receiver.errors[-1][0])].target, error) from error
        failed += _said(receiver.errors, copies, transport.name, _HERE)
    return failed


def _said(errors: list[list[Any]], copies: list[Copy], there: str, here: str) -> Iterator[tuple[Copy, PathError | None]]:
    """What the writing side told of some files. ``there``: where they are read; ``here``: where they are written."""
    for one in errors:
        try:
            number, code, reason = int(one[0]), str(one[1]), str(one[2])
            copy = copies[number]
        except (IndexError, ValueError, TypeError) as error:
            raise TransportError(f"{there}: what came of the files makes no sense; try again") from error
        if reason == transfer.CHANGED:
            yield copy, None
        elif reason == transfer.UNREADABLE:
            yield copy, _refused(there, "read", copy.source, code, None)
        else:
            yield copy, _refused(here, "write", copy.target, code, reason)


def _refused(host: str, doing: str, path: str, code: str, reason: str | None) -> PathError:
    number = number_of(code) or 0
    return path_error(host, doing, path, OSError(number, reason or (os.strerror(number) if number else "it cannot be used")))


def _irregular(host: str, copy: Copy) -> PathError:
    return PathError(f"{host}: {printable(copy.source)} is not a regular file; only those are read", filename=copy.source)
