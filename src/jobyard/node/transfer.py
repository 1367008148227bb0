"""Trees of files on their way between two machines: what both know of them, and the side that sends; ``receiving.py`` is the
other. The same code runs on both. Standard library only, Python 3.6 syntax. Paths are bytes, relative to the folder that is
sent or received.

A record is a line of JSON (name, kind, size, time, mode, target, offset), the content from the offset on, and behind a file's
content a byte that is 0 where it was read whole, and the crc32 of all of it. A file is written under a temporary name, checked,
given its mode and time, and renamed. A large one that was cut short is kept under a name that says of what it is a part.

A link is brought as a link, if it cannot lead out: its target is relative, no ``..`` follows a name in it, and those at its
beginning do not go above the folder. What lies on the way to a file is never reached through a link.
"""

import errno
import json
import os
import stat
import struct
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

    Entry = List[Any]  # name (text), kind, size, time in ns, mode, target of a link (text) or null

BLOCK = 1 << 17
RESUMABLE = 8 << 20  # files of this size and more are gone on with after a cut
TRAILER = struct.Struct(">BI")
FILE, DIRECTORY, LINK, OTHER, ERROR = "f", "d", "l", "o", "e"
UNREADABLE = "it cannot be read"
CHANGED = "it changed while it was sent"


class TransferError(Exception):
    """What came is no record, or not what was asked for."""


def text(path: "bytes") -> "str":
    """A path for JSON."""
    return path.decode("utf-8", "surrogateescape")


def raw(path: "str") -> "bytes":
    """A path of JSON."""
    return path.encode("utf-8", "surrogateescape")


def name_problem(name: "bytes") -> "Optional[str]":
    """Why a name cannot be written below a folder; None: it can."""
    if not name or name.startswith(b"/") or b"\0" in name:
        return "it is not a name below the folder"
    if any(part in (b"", b".", b"..") for part in name.split(b"/")):
        return "it could lead out of the folder"
    return None


def link_problem(name: "bytes", target: "bytes") -> "Optional[str]":
    """Why a link cannot be brought; None: it can."""
    if target.startswith(b"/"):
        return "it is a link to an absolute path (%s)" % text(target)
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    up = 0
    while up < len(parts) and parts[up] == b"..":
        up += 1
    if up > name.count(b"/") or b".." in parts[up:]:
        return "it is a link that could lead out of the folder (%s)" % text(target)
    return None


def entry_of(name: "bytes", path: "bytes", found: "os.stat_result") -> "Entry":
    """What is sent of one name."""
    kind, target = OTHER, None
    if stat.S_ISREG(found.st_mode):
        kind = FILE
    elif stat.S_ISDIR(found.st_mode):
        kind = DIRECTORY
    elif stat.S_ISLNK(found.st_mode):
        kind, target = LINK, text(os.readlink(path))
    return [text(name), kind, found.st_size if kind == FILE else 0, found.st_mtime_ns, stat.S_IMODE(found.st_mode), target]


def scan(folder: "bytes") -> "Iterator[Entry]":
    """All that is in a folder, each folder before what is in it; links are not followed. OSError."""
    todo = [b""]
    while todo:
        inner = todo.pop()
        try:
            names = sorted(os.listdir(os.path.join(folder, inner)))
        except (FileNotFoundError, NotADirectoryError):
            if not inner:
                raise
            continue  # it went meanwhile
        folders = []
        for one in names:
            name = inner + b"/" + one if inner else one
            path = os.path.join(folder, name)
            try:
                found = entry_of(name, path, os.lstat(path))
            except FileNotFoundError:  # it went meanwhile
                continue
            yield found
            if found[1] == DIRECTORY:
                folders.append(name)
        todo.extend(reversed(folders))


def same(here: "Entry", there: "Optional[Entry]") -> "bool":
    """Nothing of it has to be sent. Where one file system keeps whole seconds, these are compared."""
    if there is None or here[1] != there[1] or here[2] != there[2] or here[5] != there[5]:
        return False
    if here[1] == LINK:
        return True
    if here[4] & 0o777 != there[4] & 0o777:
        return False
    if here[3] % 1000000000 == 0 or there[3] % 1000000000 == 0:
        return bool(here[3] // 1000000000 == there[3] // 1000000000)
    return bool(abs(here[3] - there[3]) < 1000)


def part_name(name: "bytes", size: "int", time_ns: "int") -> "bytes":
    """Under which name (in the same folder) a part of a large file is kept."""
    folder, slash, last = name.rpartition(b"/")
    key = zlib.crc32(b"%d %d " % (size, time_ns) + last)
    return folder + slash + b"." + last[:200] + b".%08x.part" % key


def checksum(fd: "int", length: "int") -> "int":
    """The crc32 of the first bytes of an open file."""
    crc = at = 0
    while at < length:
        data = os.pread(fd, min(BLOCK, length - at), at)
        if not data:
            break
        crc, at = zlib.crc32(data, crc), at + len(data)
    return crc


def part_there(folder: "bytes", entry: "Entry") -> "Tuple[int, int]":
    """How much of a large file is there already, and the crc32 of that."""
    name = part_name(raw(entry[0]), entry[2], entry[3])
    try:
        fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return 0, 0
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_size > entry[2]:
            return 0, 0
        return found.st_size, checksum(fd, found.st_size)
    finally:
        os.close(fd)


# Sending -------------------------------------------------------------------------------------------------------------


def records(
    folder: "bytes",
    entries: "Sequence[Entry]",
    parts: "Dict[str, Tuple[int, int]]",
    sources: "Dict[str, str]",
    follow: "bool" = False,
) -> "Iterator[Any]":
    """The records of these, in blocks that are worth a message; each is to be used before the next is asked for.

    ``parts``: what of large files the other side has; ``sources``: names here of what gets another name there; ``follow``: a
    link is read as what it leads to.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    buffer = memoryview(bytearray(BLOCK))
    held: "List[bytes]" = []
    size = 0
    for entry in entries:
        path = os.path.join(folder, raw(str(sources.get(entry[0], entry[0]))))
        for piece in _record(path, entry, parts.get(entry[0], (0, 0)), buffer, flags):
            if len(piece) >= BLOCK // 2:
                if held:
                    yield b"".join(held)
                    held, size = [], 0
                yield piece
                continue
            held.append(bytes(piece))
            size += len(piece)
            if size >= BLOCK:
                yield b"".join(held)
                held, size = [], 0
    if held:
        yield b"".join(held)


def _line(entry: "List[Any]") -> "bytes":
    return json.dumps(entry, separators=(",", ":")).encode("ascii") + b"\n"


def _record(path: "bytes", entry: "Entry", part: "Tuple[int, int]", buffer: "memoryview", flags: "int") -> "Iterator[Any]":
    if entry[1] != FILE:
        yield _line([*entry, 0])
        return
    try:
        fd = os.open(path, flags)
    except OSError as error:
        yield _line([entry[0], ERROR, 0, 0, 0, errno.errorcode.get(error.errno or 0, ""), 0])
        return
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            yield _line([entry[0], ERROR, 0, 0, 0, "EINVAL", 0])
            return
        size, at, crc = entry[2], 0, 0
        if part[0] and part[0] <= size and checksum(fd, part[0]) == part[1]:
            at, crc = part
        yield _line([*entry[:3], found.st_mtime_ns, *entry[4:], at])
        good = found.st_mtime_ns == entry[3]
        if at:
            os.lseek(fd, at, os.SEEK_SET)
        while at < size:
            data = buffer[: size - at]
            try:
                count = os.readv(fd, [data])
            except OSError as error:
                error.filename = path
                raise
            if count:
                data = data[:count]
            else:  # it became shorter: what was announced is sent, and said to be nothing
                good = False
            crc, at = zlib.crc32(data, crc), at + len(data)
            yield data
        now = os.fstat(fd)
        good = good and now.st_size == size and now.st_mtime_ns == entry[3]
        yield TRAILER.pack(0 if good else 1, crc)
    finally:
        os.close(fd)
