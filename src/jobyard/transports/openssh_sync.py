"""Files and folders to and from a login host: only what changed, checked, under a temporary name first, resumed after a cut.

The records of ``node/transfer.py`` go over the transport's connection. What the host sends is believed only as far as it was
asked for: its names lie below the target, and no link leads out of it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ..errors import TransportError
from ..node import receiving, transfer
from .base import PathError, PathMissing, TransferTimeout, absolute, path_error, printable
from .openssh import OpenSSHTransport
from .openssh_errors import LinkLost
from .openssh_link import Refusal

__all__ = ["Progress", "Transferred", "pull", "push"]

Progress = Callable[[int, int, str], None]
Entry = list[Any]

_LINE_BYTES = 256  # of a record, at most, beside its name, a link's target (each letter twelve bytes, escaped) and its content
TRIES = 3  # of a transfer whose connection breaks; each goes on where the one before it ended


class Transferred(msgspec.Struct, frozen=True):
    """What a transfer did."""

    files: int  # brought, links included
    unchanged: int
    size_bytes: int  # of content that was sent


class _Plan(msgspec.Struct):
    """What is to be sent, and from where to where."""

    source: str  # the folder that the entries' names are relative to
    target: str
    entries: list[Entry]
    parts: dict[str, tuple[int, int]]
    unchanged: int
    sources: dict[str, str]  # names of entries here, where they get another
    top: Entry | None = None  # of a folder: its mode and time come last

    @property
    def size_bytes(self) -> int:
        return sum(entry[2] - self.parts.get(entry[0], (0, 0))[0] for entry in self.entries if entry[1] == transfer.FILE)


def push(transport: OpenSSHTransport, source: str, target: str, progress: Progress | None = None) -> Transferred:
    """Bring a file or folder of this machine to the host; both paths are absolute.

    ``target`` is the name that it gets there; one that ends with "/" is a folder that it is put into, under its own name. Into a
    folder that is there already its entries are brought one by one; nothing is removed. ``progress``: called with the bytes
    sent so far, those that are to be sent, and a name.

    PathError: a name cannot be read or written, a link could lead out of the folder, a disk or quota is full; nothing is left
    half-done under its name. LinkLost: the connection broke more often than is tried; calling it again goes on.
    """
    return _tried(transport, lambda: _push(transport, source, target, progress))


def pull(transport: OpenSSHTransport, source: str, target: str, progress: Progress | None = None) -> Transferred:
    """Bring a file or folder of the host to this machine; as ``push``."""
    return _tried(transport, lambda: _pull(transport, source, target, progress))


def _tried(transport: OpenSSHTransport, call: Callable[[], Transferred]) -> Transferred:
    for _ in range(TRIES - 1):
        try:
            return call()
        except LinkLost:
            time.sleep(0.2)
    return call()


# Plans --------------------------------------------------------------------------------------------------------------


def _plan(
    transport: OpenSSHTransport, source: str, target: str, top: Entry, inner: Iterator[Entry], there: Callable[[str], _There]
) -> _Plan:
    """What has to be sent of a name. ``inner``: what is below it; ``there``: what the other side has under a name."""
    if target.endswith("/"):
        target += os.path.basename(source.rstrip("/"))
    target = target.rstrip("/") or "/"
    if top[1] == transfer.DIRECTORY:
        here = list(inner)
        _check(transport.name, source, here)
        known = there(target)
        if known.top is not None and known.top[1] != transfer.DIRECTORY:
            raise PathError(
                f"{printable(target)} is there already, and is no folder; remove it, or choose another name", filename=target
            )
        for entry in here:
            _check_there(os.path.join(target, _local(entry[0])), known.inner.get(entry[0]))
        changed = {entry[0] for entry in here if not transfer.same(entry, known.inner.get(entry[0]))}
        above = {name[:at] for name in changed for at, letter in enumerate(name) if letter == "/"}  # their times change, too
        entries = [entry for entry in here if entry[0] in changed or entry[0] in above]
        files = sum(entry[1] != transfer.DIRECTORY and entry[0] not in changed for entry in here)
        return _Plan(source, target, entries, {}, files, {}, top)
    if top[1] != transfer.FILE:
        raise PathError(f"{printable(source)} is neither a file nor a folder; only those are brought", filename=source)
    known = there(target)
    if known.top is not None and known.top[1] == transfer.DIRECTORY:
        raise PathError(
            f"{printable(target)} is a folder; write {printable(target)}/ to put {printable(os.path.basename(source))} into it",
            filename=target,
        )
    _check_there(target, known.top)
    name = os.path.basename(target)
    one = [as_wire(name), *top[1:]]
    if transfer.same(one, None if known.top is None else [as_wire(name), *known.top[1:]]):
        return _Plan(os.path.dirname(source), os.path.dirname(target), [], {}, 1, {})
    return _Plan(os.path.dirname(source), os.path.dirname(target), [one], {}, 0, {one[0]: as_wire(os.path.basename(source))})


class _There(msgspec.Struct):
    """What the other side has under a name."""

    top: Entry | None
    inner: dict[str, Entry]


def _check(host: str, source: str, entries: list[Entry]) -> None:
    """PathError for links that could lead out, and for what is neither file, folder nor link; before anything is sent."""
    for entry in entries:
        reason = None
        if (problem := transfer.name_problem(transfer.raw(entry[0]))) is not None:
            raise TransportError(f"{host}: it lists {printable(entry[0])}, and {problem}; nothing was brought")
        if entry[1] == transfer.LINK:
            reason = transfer.link_problem(transfer.raw(entry[0]), transfer.raw(str(entry[5])))
        elif entry[1] not in (transfer.FILE, transfer.DIRECTORY):
            reason = "it is neither a file, a folder nor a link"
        if reason is not None:
            path = os.path.join(source, entry[0])
            raise PathError(
                f"{printable(path)} cannot be brought: {printable(reason)}; remove it, or bring it by itself", filename=path
            )


def _check_there(target: str, there: Entry | None) -> None:
    """PathError: what has the name is nothing that a file may take the place of."""
    if there is not None and there[1] == transfer.OTHER:
        raise PathError(
            f"{printable(target)} is there already, and is a pipe, a socket or a device; remove it, or choose another name",
            filename=target,
        )


def as_wire(name: str) -> str:
    return transfer.text(os.fsencode(name))


def _local(name: str) -> str:
    return os.fsdecode(transfer.raw(name))


def _local_tree(path: str) -> _There:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return _There(None, {})
    top = transfer.entry_of(os.fsencode(os.path.basename(path)), os.fsencode(path), found)
    inner = {entry[0]: entry for entry in transfer.scan(os.fsencode(path))} if stat.S_ISDIR(found.st_mode) else {}
    return _There(top, inner)


def _host_tree(transport: OpenSSHTransport, path: str) -> _There:
    value, raw = ask(transport, "tree", "read", path, {})
    inner: dict[str, Entry] = {}
    for line in raw.splitlines():
        entry = json.loads(line)
        if not is_entry(entry):
            raise TransportError(f"{transport.name}: it lists {printable(path)} in a way that makes no sense; nothing was brought")
        inner[entry[0]] = entry
    top = value["top"]
    if top is not None and not is_entry(top):
        raise TransportError(f"{transport.name}: what it says of {printable(path)} makes no sense")
    return _There(top, inner)


def is_entry(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 6 or not isinstance(entry[0], str) or not isinstance(entry[1], str):
        return False
    numbers = all(isinstance(number, int) and number >= 0 for number in (entry[2], entry[4])) and isinstance(entry[3], int)
    return numbers and (entry[5] is None or isinstance(entry[5], str)) and (entry[1] != transfer.LINK or entry[5] is not None)


def ask(
    transport: OpenSSHTransport, op: str, doing: str, path: str, arguments: dict[str, Any], raw: bytes = b""
) -> tuple[Any, bytes]:
    try:
        return transport.call(op, {"path": as_wire(path), **arguments}, raw)
    except Refusal as refusal:
        raise _refused(transport, refusal, doing, path) from None


def _refused(transport: OpenSSHTransport, refusal: Refusal, doing: str, path: str) -> TransportError:
    if refusal.kind == "os":
        told = refusal.details.get("path")
        return path_error(transport.name, doing, _local(told) if isinstance(told, str) else path, refusal.os_error())
    if refusal.kind == "content":
        return TransportError(f"{transport.name}: {printable(path)}: {printable(str(refusal))}; try again")
    return transport.other_refusal(refusal)


# Up -----------------------------------------------------------------------------------------------------------------


def _push(transport: OpenSSHTransport, source: str, target: str, progress: Progress | None) -> Transferred:
    absolute("this machine", source)
    absolute(transport.name, target)
    source = source.rstrip("/") or "/"
    try:
        here = _local_tree(source)
    except OSError as error:
        raise _here_error("read", source, error) from error
    if here.top is None:
        raise path_error("this machine", "read", source, FileNotFoundError(2, "No such file or directory"))
    plan = _plan(transport, source, target, here.top, iter(here.inner.values()), lambda path: _host_tree(transport, path))
    large = [entry for entry in plan.entries if entry[1] == transfer.FILE and entry[2] >= transfer.RESUMABLE]
    if large:
        _, raw = ask(transport, "parts", "read", plan.target, {}, json.dumps(large).encode())
        plan.parts = {entry[0]: (int(size), int(crc)) for entry, (size, crc) in zip(large, json.loads(raw), strict=True) if size}
    files = 0
    if plan.entries or (plan.top is not None and _misses(transport, plan.target)):
        files = _send_records(transport, plan, progress)
    elif plan.top is not None:
        ask(transport, "set_times", "write", plan.target, _of_top(plan.top))
    return Transferred(files, plan.unchanged, plan.size_bytes)


def _here_error(doing: str, path: str, error: OSError) -> PathError:
    """What this machine's system refused; ``path``: where the error names none."""
    at = error.filename
    return path_error("this machine", doing, path if at is None else os.fsdecode(at), error)


def _of_top(top: Entry) -> dict[str, int]:
    return {"mode": top[4] & 0o777, "time_ns": top[3]}


def _misses(transport: OpenSSHTransport, path: str) -> bool:
    """There is nothing under that name."""
    try:
        transport.stat(path, follow=False)
    except PathMissing:
        return True
    return False


def _send_records(transport: OpenSSHTransport, plan: _Plan, progress: Progress | None) -> int:
    total, sent = plan.size_bytes, 0

    def told(size: int) -> None:
        nonlocal sent
        sent += size
        if progress is not None:
            progress(min(sent, total), total, plan.target)

    arguments = {"path": as_wire(plan.target), **({} if plan.top is None else _of_top(plan.top))}
    blocks = transfer.records(os.fsencode(plan.source), plan.entries, plan.parts, plan.sources)
    files, errors = give(transport, arguments, blocks, told, plan.source, plan.target)
    _raise_errors("this machine", transport.name, plan, errors)
    return files


def give(
    transport: OpenSSHTransport,
    arguments: dict[str, Any],
    blocks: Iterator[Any],
    told: Callable[[int], None],
    source: str,
    target: str,
) -> tuple[int, list[list[Any]]]:
    """Send records: how many files arrived, and what is to be said of others. ``source`` and ``target``: for errors."""
    pending = transport.send("receive", arguments)
    with transport.watched(pending):
        try:
            for block in blocks:
                sent = transport.send_part(pending, block, _deadline(transport))
                if pending.over:
                    break
                if not sent:
                    raise _stuck(transport, target)
                told(len(block))
        except OSError as error:
            if isinstance(error, TransportError):
                raise
            raise _here_error("read", source, error) from error
        if not pending.over:
            transport.send_end(pending)
        while (came := pending.next(transport.transfer_s)) is not None:
            pending.consumed(came[0], len(came[1]))
        if not pending.over:
            raise _stuck(transport, target)
        try:
            value, raw = pending.answer()
        except Refusal as refusal:
            raise _refused(transport, refusal, "write", target) from None
        return int(value["files"]), json.loads(raw)


def _deadline(transport: OpenSSHTransport) -> float | None:
    return None if transport.transfer_s is None else time.monotonic() + transport.transfer_s


def _stuck(transport: OpenSSHTransport, path: str) -> TransferTimeout:
    return TransferTimeout(
        f"{transport.name}: nothing moved for {transport.transfer_s:g} s while {printable(path)} was brought; look whether its "
        "file system answers, and try again, or allow more time"
    )


def _raise_errors(there: str, here: str, plan: _Plan, errors: list[list[Any]]) -> None:
    """PathError of the first. ``there``: where files are read; ``here``: where they are written."""
    if not errors:
        return
    name, code, reason = (str(part) for part in errors[0])
    host, path, advice = here, os.path.join(plan.target, _local(name)), ""
    if reason in (transfer.UNREADABLE, transfer.CHANGED):
        host, path = there, os.path.join(plan.source, _local(plan.sources.get(name, name)))
        advice = "; bring it again when nothing writes to it" if reason == transfer.CHANGED else "; check its owner and mode"
        advice = "; it went meanwhile" if code == "ENOENT" else advice
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    raise PathError(
        f"{host}: {printable(path)} was not brought: {printable(reason)} ({printable(code)}){advice}{more}; all others were",
        errno=number_of(code),
        strerror=reason,
        filename=path,
    )


def number_of(code: str) -> int | None:
    """This system's number of an error that a host names; None where it has none of that name."""
    found = getattr(errno, code, None)
    return found if isinstance(found, int) else None


# Down ---------------------------------------------------------------------------------------------------------------


def _pull(transport: OpenSSHTransport, source: str, target: str, progress: Progress | None) -> Transferred:
    absolute(transport.name, source)
    absolute("this machine", target)
    source = source.rstrip("/") or "/"
    there = _host_tree(transport, source)
    if there.top is None:
        raise path_error(transport.name, "read", source, FileNotFoundError(2, "No such file or directory"))
    try:
        plan = _plan(transport, source, target, there.top, iter(there.inner.values()), _local_tree)
    except PathError:
        raise
    except OSError as error:
        raise _here_error("read", target, error) from error
    try:
        files = _receive_records(transport, plan, progress)
    except PathError:
        raise
    except OSError as error:
        raise _here_error("write", plan.target, error) from error
    return Transferred(files, plan.unchanged, plan.size_bytes)


def _receive_records(transport: OpenSSHTransport, plan: _Plan, progress: Progress | None) -> int:
    os.makedirs(plan.target, exist_ok=True)
    for entry in plan.entries:
        if entry[1] == transfer.FILE and entry[2] >= transfer.RESUMABLE:
            part = transfer.part_there(os.fsencode(plan.target), entry)
            if part[0]:
                plan.parts[entry[0]] = part
    receiver = receiving.Receiver(os.fsencode(plan.target), {entry[0] for entry in plan.entries})
    if not plan.entries:
        with contextlib.closing(receiver):
            if plan.top is not None:
                receiver.set_folder(plan.top[4], plan.top[3])
        return 0
    if plan.top is not None:
        receiver.whole_folder()
    total, came_bytes = plan.size_bytes, 0

    def told(size: int) -> None:
        nonlocal came_bytes
        came_bytes += size
        if progress is not None:
            progress(min(came_bytes, total), total, plan.target)

    body = {"entries": plan.entries, "parts": plan.parts, "sources": plan.sources}
    try:
        take(transport, {"path": as_wire(plan.source)}, body, receiver, told, plan.source, plan.top)
    except OSError as error:
        if isinstance(error, TransportError) or not receiver.errors:
            raise
        raise path_error("this machine", "write", os.path.join(plan.target, _local(receiver.errors[-1][0])), error) from error
    _raise_errors(transport.name, "this machine", plan, receiver.errors)
    return receiver.files


def take(
    transport: OpenSSHTransport,
    arguments: dict[str, Any],
    body: dict[str, Any],
    receiver: receiving.Receiver,
    told: Callable[[int], None],
    source: str,
    top: Entry | None = None,
) -> None:
    """Ask for records, and write them; ``source``: for errors; ``top``: of the folder itself. The receiver is closed."""
    limit = came_bytes = 0  # parts are counted in: the host need not go on with one
    for entry in body["entries"]:
        limit += entry[2] + 12 * len(entry[0]) + 12 * len(entry[5] or "") + _LINE_BYTES
    try:
        pending = transport.send("send", arguments, json.dumps(body).encode())
        with transport.watched(pending):
            while (came := pending.next(transport.transfer_s)) is not None:
                data = came[1]
                came_bytes += len(data)
                if came_bytes > limit:
                    raise TransportError(f"{transport.name}: it sends more than was asked for; the transfer was ended")
                receiver.feed(data)
                size = len(data)
                pending.consumed(came[0], size)
                told(size)
            if not pending.over:
                raise _stuck(transport, source)
            try:
                _, rest = pending.answer()
            except Refusal as refusal:
                raise _refused(transport, refusal, "read", source) from None
            receiver.feed(rest)
            receiver.finish()
            if top is not None and not receiver.errors:
                receiver.set_folder(top[4], top[3])
    except transfer.TransferError as error:
        raise TransportError(f"{transport.name}: {printable(str(error))}; the transfer was ended") from error
    finally:
        receiver.close()
