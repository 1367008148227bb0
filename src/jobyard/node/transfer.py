"""Trees of files on their way between two machines: the same code sends and receives on both. Standard library only, Python 3.6
syntax. Paths are bytes, relative to the folder that is sent or received.

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
    from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

    Entry = List[Any]  # name (text), kind, size, time in ns, mode, target of a link (text) or null

BLOCK = 1 << 17
RESUMABLE = 8 << 20  # files of this size and more are gone on with after a cut
_TRAILER = struct.Struct(">BI")
_LONGEST_LINE = 1 << 18
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_STOP = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
FILE, DIRECTORY, LINK, OTHER, ERROR = "f", "d", "l", "o", "e"
UNREADABLE = "it cannot be read there"
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
        names = sorted(os.listdir(os.path.join(folder, inner)))
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
            count = os.readv(fd, [data])
            if count:
                data = data[:count]
            else:  # it became shorter: what was announced is sent, and said to be nothing
                good = False
            crc, at = zlib.crc32(data, crc), at + len(data)
            yield data
        now = os.fstat(fd)
        good = good and now.st_size == size and now.st_mtime_ns == entry[3]
        yield _TRAILER.pack(0 if good else 1, crc)
    finally:
        os.close(fd)


# Receiving -----------------------------------------------------------------------------------------------------------


class Receiver(object):
    """Writes the records that come below a folder. ``expected``: names that were asked for; None: all are."""

    def __init__(self, folder: "bytes", expected: "Optional[Set[str]]" = None) -> "None":
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._expected = expected
        self._held = b""
        self._entry: "Optional[Entry]" = None
        self._left = 0
        self._fd = -1
        self._crc = 0
        self._part = b""
        self._last = b""  # of the file's path
        self._mark, self._parts = os.urandom(8).hex().encode(), 0  # temporary names: nobody else's, and each new
        self._parent = b""
        self._parent_fd = self._root
        self._finish: "List[Entry]" = []  # folders: their modes and times come last
        self._failed: "Optional[OSError]" = None  # of the file that is coming
        self.errors: "List[List[Any]]" = []  # name, errno's name, reason
        self.files = 0
        self.on_file: "Optional[Callable[[str], None]]" = None

    def feed(self, data: "Any") -> "None":
        """Some of the stream. TransferError: it is no such stream. OSError: nothing more can be written (disk, quota)."""
        view = memoryview(data)
        while view:
            if self._entry is not None and self._left:
                taken = view[: self._left]
                self._write(taken)
                self._left -= len(taken)
                view = view[len(taken) :]
            elif self._entry is not None:
                need = _TRAILER.size - len(self._held)
                self._held += bytes(view[:need])
                view = view[need:]
                if len(self._held) == _TRAILER.size:
                    held, self._held = self._held, b""
                    self._end_file(*_TRAILER.unpack(held))
            else:
                view = self._head(view)

    def _head(self, view: "memoryview") -> "memoryview":
        """The line of the next record; what is behind it."""
        block = bytes(view[:1024])
        end = block.find(b"\n")
        if end < 0 and len(view) > len(block):
            block = bytes(view[:_LONGEST_LINE])
            end = block.find(b"\n")
        self._held += block if end < 0 else block[:end]
        if len(self._held) > _LONGEST_LINE:
            raise TransferError("a record's line is too long")
        if end < 0:
            return view[len(block) :]
        held, self._held = self._held, b""
        try:
            entry = json.loads(held.decode("ascii"))
            name, kind, size, time_ns, mode, target, offset = entry
            if not (isinstance(name, str) and all(isinstance(one, int) for one in (size, time_ns, mode, offset))):
                raise ValueError
        except (ValueError, TypeError, RecursionError) as error:
            raise TransferError("a record begins with no record's line") from error
        self._begin(name, kind, size, mode, target, offset, entry[:6])
        return view[end + 1 :]

    def _begin(self, name: "str", kind: "str", size: "int", mode: "int", target: "Any", offset: "int", entry: "Entry") -> "None":
        path = raw(name)
        problem = name_problem(path)
        if problem is not None or (self._expected is not None and name not in self._expected):
            raise TransferError("%r came: %s" % (name, problem or "it was not asked for"))
        if kind == ERROR:
            self.errors.append([name, target, UNREADABLE])
            return
        if size < 0 or not 0 <= offset <= size:
            raise TransferError("%r came with sizes that make no sense" % name)
        self._failed = None
        try:
            if kind == DIRECTORY:
                self._make_folder(path)
                self._finish.append(entry)
            elif kind == LINK:
                problem = link_problem(path, raw(target))
                if problem is not None:
                    self.errors.append([name, "EPERM", problem])
                    return
                self._make_link(path, raw(target))
            elif kind == FILE:
                self._entry, self._left = entry, size - offset
                self._begin_file(path, entry, offset)
            else:
                self.errors.append([name, "EINVAL", "it is neither a file, a folder nor a link"])
        except OSError as error:
            self._fails(name, error)

    def _fails(self, name: "str", error: "OSError") -> "None":
        self.errors.append([name, errno.errorcode.get(error.errno or 0, ""), error.strerror or str(error)])
        self._discard()
        self._failed = error
        if error.errno in _STOP:
            raise error

    def _open_parent(self, path: "bytes") -> "bytes":
        """Go to the folder that a name lies in, through no link; its last part."""
        folder, _, last = path.rpartition(b"/")
        if folder != self._parent:
            fd = os.dup(self._root)
            try:
                for part in folder.split(b"/") if folder else ():
                    inner = os.open(part, _FOLDER, dir_fd=fd)
                    os.close(fd)
                    fd = inner
            except BaseException:
                os.close(fd)
                raise
            self._leave_parent()
            self._parent, self._parent_fd = folder, fd
        return last

    def _leave_parent(self) -> "None":
        if self._parent_fd != self._root:
            os.close(self._parent_fd)
        self._parent, self._parent_fd = b"", self._root

    def _temporary(self) -> "bytes":
        self._parts += 1
        return b".%s.%d.part" % (self._mark, self._parts)

    def _make_folder(self, path: "bytes") -> "None":
        last = self._open_parent(path)
        try:
            os.mkdir(last, 0o700, dir_fd=self._parent_fd)
        except FileExistsError:
            fd = os.open(last, _FOLDER, dir_fd=self._parent_fd)  # a folder, and no link to one
            try:
                if os.fstat(fd).st_mode & 0o700 != 0o700:
                    os.fchmod(fd, os.fstat(fd).st_mode & 0o777 | 0o700)
            finally:
                os.close(fd)

    def _make_link(self, path: "bytes", target: "bytes") -> "None":
        last = self._open_parent(path)
        temporary = self._temporary()
        os.symlink(target, temporary, dir_fd=self._parent_fd)
        try:
            os.rename(temporary, last, src_dir_fd=self._parent_fd, dst_dir_fd=self._parent_fd)
        except OSError:
            os.unlink(temporary, dir_fd=self._parent_fd)
            raise
        self.files += 1

    def _begin_file(self, path: "bytes", entry: "Entry", offset: "int") -> "None":
        last = self._last = self._open_parent(path)
        self._crc = 0
        if entry[2] >= RESUMABLE:
            self._part = part_name(last, entry[2], entry[3])
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            self._fd = os.open(self._part, flags, 0o600, dir_fd=self._parent_fd)
            found = os.fstat(self._fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_size < offset:
                raise OSError(errno.EINVAL, "its part is not what was said")
            os.ftruncate(self._fd, offset)
            self._crc = checksum(self._fd, offset)
            os.lseek(self._fd, offset, os.SEEK_SET)
        else:
            if offset:
                raise TransferError("a small file began in its middle")
            self._part = self._temporary()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._fd = os.open(self._part, flags, 0o600, dir_fd=self._parent_fd)

    def _write(self, data: "memoryview") -> "None":
        if self._failed is not None:
            return
        try:
            self._crc = zlib.crc32(data, self._crc)
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            assert self._entry is not None
            self._fails(self._entry[0], error)

    def _end_file(self, changed: "int", crc: "int") -> "None":
        entry, self._entry = self._entry, None
        assert entry is not None
        if self._failed is not None:
            return
        name = entry[0]
        try:
            if changed:
                self._discard()
                self.errors.append([name, "EAGAIN", CHANGED])
                return
            if crc != self._crc or os.fstat(self._fd).st_size != entry[2]:
                self._discard()
                self.errors.append([name, "EIO", "what was written is not what was sent"])
                return
            os.fchmod(self._fd, entry[4] & 0o777)
            os.utime(self._fd, ns=(entry[3], entry[3]))
            os.close(self._fd)
            self._fd = -1
            os.rename(self._part, self._last, src_dir_fd=self._parent_fd, dst_dir_fd=self._parent_fd)
            self._part = b""
            self.files += 1
            if self.on_file is not None:
                self.on_file(name)
        except OSError as error:
            self._fails(name, error)

    def _discard(self) -> "None":
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._part:
            try:
                os.unlink(self._part, dir_fd=self._parent_fd)
            except FileNotFoundError:
                pass  # it was not made
            self._part = b""

    def finish(self) -> "None":
        """All came: folders get their modes and times. TransferError: the stream ended within a record."""
        if self._entry is not None or self._held:
            raise TransferError("the stream ended within a record")
        for entry in reversed(self._finish):
            try:
                last = self._open_parent(raw(entry[0]))
                fd = os.open(last, _FOLDER, dir_fd=self._parent_fd)
                try:
                    os.fchmod(fd, entry[4] & 0o777)
                    os.utime(fd, ns=(entry[3], entry[3]))
                finally:
                    os.close(fd)
            except OSError as error:
                self._fails(entry[0], error)

    def close(self) -> "None":
        """Let go. A part of a large file stays, to be gone on with; any other is removed."""
        if self._entry is not None and self._entry[2] >= RESUMABLE and self._failed is None and self._fd >= 0:
            os.close(self._fd)
            self._fd, self._part = -1, b""
        self._discard()
        self._leave_parent()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1


class Placed(Receiver):
    """Writes files that are named by their number, each to a path of its own, as ``open`` finds it. Missing folders are made."""

    def __init__(self, targets: "Sequence[bytes]") -> "None":
        Receiver.__init__(self, b"/", {str(number) for number in range(len(targets))})
        self._targets = targets

    def _begin(self, name: "str", kind: "str", size: "int", mode: "int", target: "Any", offset: "int", entry: "Entry") -> "None":
        if kind not in (FILE, ERROR):
            raise TransferError("%r came, and is no file" % name)
        Receiver._begin(self, name, kind, size, mode, target, offset, entry)

    def _open_parent(self, path: "bytes") -> "bytes":
        folder, _, last = self._targets[int(path)].rpartition(b"/")
        folder = folder or b"/"
        if last in (b"", b".", b".."):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if folder != self._parent:
            make_folders(folder)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            self._leave_parent()
            self._parent, self._parent_fd = folder, fd
        return last


def make_folders(folder: "bytes") -> "None":
    """Make what is missing of a path, for nobody but its owner."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for one in reversed(missing):
        try:
            os.mkdir(one, 0o700)
        except FileExistsError:
            if not os.path.isdir(one):
                raise
