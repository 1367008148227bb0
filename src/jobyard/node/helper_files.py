"""Files that the helper reads and writes. What is written takes its name when it is whole, or is gone."""

import errno
import os
import stat
import zlib

from . import helper_wire as wire
from .helper import Refused
from .staging import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List

    from .helper import Answer, Request

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def write(request: "Request") -> "Answer":
    """A file's new content: in the request, or as a stream, with its checksum at the end."""
    path, mode = request.path(), request.arguments["mode"]
    part = os.path.join(os.path.dirname(path), b".%s.part" % os.urandom(8).hex().encode())
    fd = os.open(part, _NEW, 0o600)
    request.part = part
    try:
        try:
            if "size" in request.arguments:
                _receive(request, fd)
            else:
                _write_all(fd, request.raw)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
        os.rename(part, path)
    except BaseException:
        os.unlink(part)
        raise
    finally:
        request.part = None
    return {}, b""


def _receive(request: "Request", fd: "int") -> "None":
    size, crc = 0, 0
    expected = request.arguments["size"]
    while True:
        came = request.next()
        if came is None:
            break
        data = came[1]
        size += len(data)
        if expected is not None and size > expected:
            raise Refused("content", "more came than was announced")
        _write_all(fd, data)
        crc = zlib.crc32(data, crc)
        request.consumed(0, len(data))
    if request.cancelled or not request.at_end:
        raise Refused("cancelled", "it was given up")
    said = wire.split(request.end + b"\n")[0]
    if [size, crc] != said or os.fstat(fd).st_size != size:
        raise Refused("content", "what was written is not what was sent")


def _write_all(fd: "int", data: "Any") -> "None":
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read(request: "Request") -> "Answer":
    """A range of a regular file: its size and checksum, the content as a stream, or with the answer where it is short."""
    arguments = request.arguments
    # without O_NONBLOCK the opening of a pipe waits for its writer
    fd = os.open(request.path(), os.O_RDONLY | os.O_NONBLOCK | (0 if arguments["follow"] else os.O_NOFOLLOW))
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Refused("irregular", "it is not a regular file")
        start, left, size, crc = arguments["start"], arguments["length"], 0, 0
        first = True
        while left is None or left > 0:
            data = os.pread(fd, wire.BLOCK if left is None else min(left, wire.BLOCK), start)
            if not data:
                break
            crc, size, start = zlib.crc32(data, crc), size + len(data), start + len(data)
            left = None if left is None else left - len(data)
            if first and (left == 0 or len(data) < wire.BLOCK) and not os.pread(fd, 1, start):
                return {"size": size, "crc": crc}, data
            first = False
            if not request.send(1, data):
                raise Refused("cancelled", "it was given up")
        return {"size": size, "crc": crc}, b""
    finally:
        os.close(fd)


def _stat(found: "os.stat_result") -> "List[Any]":
    if stat.S_ISREG(found.st_mode):
        kind = "file"
    elif stat.S_ISDIR(found.st_mode):
        kind = "folder"
    else:
        kind = "link" if stat.S_ISLNK(found.st_mode) else "other"
    return [kind, found.st_size, found.st_mtime, stat.S_IMODE(found.st_mode), found.st_uid]


def look(request: "Request") -> "Answer":
    """What is under each of several names; null where nothing is. One name that is not there is an error."""
    paths, follow = request.arguments["paths"], request.arguments["follow"]
    if len(paths) == 1:
        return [_stat(os.stat(wire.as_bytes(paths[0]), follow_symlinks=follow))], b""
    found: "List[Any]" = []
    for path in paths:
        try:
            found.append(_stat(os.stat(wire.as_bytes(path), follow_symlinks=follow)))
        except (FileNotFoundError, NotADirectoryError):
            found.append(None)
    return {}, wire.head(found)


def entries(request: "Request") -> "Answer":
    """The names in a folder, with what is under them."""
    found = {}
    for name in os.listdir(request.path()):
        try:
            found[wire.as_text(name)] = _stat(os.lstat(os.path.join(request.path(), name)))
        except FileNotFoundError:  # it went meanwhile
            continue
    return {}, wire.head(found)


def below(request: "Request") -> "Answer":
    """All that is below a folder, links not followed: a line for each name."""
    todo, held, size, first = [b""], [], 0, True
    while todo:
        inner = todo.pop()
        try:
            names = os.listdir(os.path.join(request.path(), inner))
        except (FileNotFoundError, NotADirectoryError):
            if first:
                raise
            continue  # it went meanwhile
        first = False
        for one in names:
            name = inner + b"/" + one if inner else one
            try:
                found = os.lstat(os.path.join(request.path(), name))
            except FileNotFoundError:  # it went meanwhile
                continue
            if stat.S_ISDIR(found.st_mode):
                todo.append(name)
            held.append(wire.head([wire.as_text(name), *_stat(found)]))
            size += len(held[-1])
        if size >= wire.BLOCK:
            if not request.send(1, b"".join(held)):
                raise Refused("cancelled", "it was given up")
            held, size = [], 0
    return {}, b"".join(held)


def make_folder(request: "Request") -> "Answer":
    """A folder, with those above it where ``parents`` says so; each with these bits, whatever the umask."""
    path, mode, parents = request.path(), request.arguments["mode"], request.arguments["parents"]
    missing = [path]
    if parents:
        while not os.path.isdir(os.path.dirname(missing[-1].rstrip(b"/"))):
            missing.append(os.path.dirname(missing[-1].rstrip(b"/")))
    for folder in reversed(missing):
        try:
            os.mkdir(folder, mode)
            os.chmod(folder, mode)
        except FileExistsError:
            if not parents or not os.path.isdir(folder):
                raise
    return {}, b""


def remove(request: "Request") -> "Answer":
    """A file, a link itself, an empty folder; or a folder with all in it, no link followed."""
    path = request.path().rstrip(b"/") or b"/"
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
    elif not request.arguments["tree"]:
        os.rmdir(path)
    else:
        parent = os.open(os.path.dirname(path), _FOLDER)
        try:
            remove_tree(parent, os.path.basename(path))
        finally:
            os.close(parent)
    return {}, b""


def rename(request: "Request") -> "Answer":
    """Rename; what is at the target is replaced at once."""
    try:
        os.rename(request.path("source"), request.path("target"))
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise OSError(error.errno, "it lies on another file system", request.path("target")) from error
        raise
    return {}, b""


OPERATIONS = {
    "write": write,
    "read": read,
    "look": look,
    "entries": entries,
    "below": below,
    "make_folder": make_folder,
    "remove": remove,
    "rename": rename,
}
