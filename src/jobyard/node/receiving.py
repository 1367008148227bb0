"""Trees of files on their way between two machines: the side that writes the records of ``transfer.py``, here or on a login host.
Standard library only, Python 3.6 syntax.

What is written takes its name when it is whole. Of a large file that did not come to its end a part is kept, whose name says of
what; two that bring the same file at a time write the same bytes to it, so that neither cuts off what the other wrote.
"""

import errno
import json
import os
import stat
import zlib

from .transfer import (
    CHANGED,
    DIRECTORY,
    ERROR,
    FILE,
    LINK,
    RESUMABLE,
    TRAILER,
    UNREADABLE,
    TransferError,
    checksum,
    link_problem,
    name_problem,
    part_name,
    raw,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional, Sequence, Set

    from .transfer import Entry

_LONGEST_LINE = 1 << 18
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_STOP = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Receiver(object):
    """Writes the records that come below a folder. ``expected``: names that were asked for; None: all are."""

    def __init__(self, folder: "bytes", expected: "Optional[Set[str]]" = None) -> "None":
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._closed_mode: "Optional[int]" = None  # of the folder itself, where it had to be opened
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

    def whole_folder(self) -> "None":
        """The folder itself is brought, too: it may be written to though its mode forbids that, until ``set_folder``."""
        self._closed_mode = _open_up(self._root)

    def set_folder(self, mode: "int", time_ns: "int") -> "None":
        """Give the folder itself its mode and time. OSError."""
        os.fchmod(self._root, mode & 0o777)
        os.utime(self._root, ns=(time_ns, time_ns))
        self._closed_mode = None

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
                need = TRAILER.size - len(self._held)
                self._held += bytes(view[:need])
                view = view[need:]
                if len(self._held) == TRAILER.size:
                    held, self._held = self._held, b""
                    self._end_file(*TRAILER.unpack(held))
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
            if abs(time_ns) >= 1 << 63 or mode < 0 or (kind == LINK and b"\0" in raw(target)):
                raise ValueError
            path = raw(name)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise TransferError("a record begins with no record's line") from error
        self._begin(name, path, kind, size, target, offset, entry[:6])
        return view[end + 1 :]

    def _begin(self, name: "str", path: "bytes", kind: "str", size: "int", target: "Any", offset: "int", entry: "Entry") -> "None":
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
                _open_up(fd)
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
            if found.st_size > entry[2]:  # else another may be writing there, the same bytes, and be further on
                os.ftruncate(self._fd, entry[2])
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
            written = os.fstat(self._fd)
            os.close(self._fd)
            self._fd = -1
            try:
                os.rename(self._part, self._last, src_dir_fd=self._parent_fd, dst_dir_fd=self._parent_fd)
            except FileNotFoundError:  # unless another that brought it was quicker
                there = os.stat(self._last, dir_fd=self._parent_fd, follow_symlinks=False)
                if (there.st_dev, there.st_ino) != (written.st_dev, written.st_ino):
                    raise
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
            except OSError:
                pass  # it was not made; or what went wrong before this is what is told
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
            try:
                if self._closed_mode is not None:
                    os.fchmod(self._root, self._closed_mode)
            finally:
                os.close(self._root)
                self._root = -1


def _open_up(fd: "int") -> "Optional[int]":
    """Let us write to an open folder of ours; the mode that it had, where that forbade it."""
    found = os.fstat(fd)
    if found.st_mode & 0o700 == 0o700 or found.st_uid != os.getuid():
        return None
    os.fchmod(fd, found.st_mode & 0o777 | 0o700)
    return found.st_mode & 0o777


class Placed(Receiver):
    """Writes files that are named by their number, each to a path of its own, as ``open`` finds it. Missing folders are made."""

    def __init__(self, targets: "Sequence[bytes]") -> "None":
        Receiver.__init__(self, b"/", {str(number) for number in range(len(targets))})
        self._targets = targets

    def _begin(self, name: "str", path: "bytes", kind: "str", size: "int", target: "Any", offset: "int", entry: "Entry") -> "None":
        if kind not in (FILE, ERROR):
            raise TransferError("%r came, and is no file" % name)
        Receiver._begin(self, name, path, kind, size, target, offset, entry)

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
