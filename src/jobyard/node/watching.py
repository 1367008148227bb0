"""A watch over folders: inotify where the file system has it, a cheap look where it has not. It runs on the user's machine
and on login hosts. Standard library only, Python 3.6 syntax.

inotify tells only of this kernel's own writes, so folders on network file systems are looked at besides. A look is one
``stat`` of the folder; its names are read only where its time moved, or did so lately that a later change may not move it.
"""

import ctypes
import errno
import os
import re
import select
import struct
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Optional, Tuple

    Found = List[Tuple[bytes, bytes]]  # folder, as it was given, and name

_IN_CREATE, _IN_MOVED_TO, _IN_Q_OVERFLOW, _IN_IGNORED = 0x100, 0x80, 0x4000, 0x8000
_IN_ONLYDIR, _IN_NONBLOCK, _IN_CLOEXEC = 0x1000000, 0o4000, 0o2000000
_EVENT = struct.Struct("iIII")

# File systems that other machines write too (mount(8), proc_pid_mountinfo(5)).
_SHARED = frozenset([
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "mmfs", "ncpfs",
    "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "virtiofs", "vboxsf",
])  # fmt: skip
_YOUNG_S = 2.0  # the time stamps of file systems are as coarse as this


class WatchClosed(Exception):
    """The watch was closed."""


class FolderWatcher(object):
    """Tells names that appear in folders; paths and names are bytes. ``wait`` is for one thread, all else for any.

    ``look_every_s``: between two looks where there is no inotify; longer where looking takes long, so that it costs at
    most a twentieth of one processor.
    """

    def __init__(self, prefix: "bytes" = b"", look_every_s: "float" = 0.5, use_inotify: "bool" = True) -> "None":
        self._prefix = prefix
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self._closed = False
        self._waiting = False
        self._found: "Found" = []  # by add, told by the next wait
        self._descriptors: "Dict[bytes, int]" = {}  # folder -> watch descriptor
        self._folders: "Dict[int, bytes]" = {}
        self._looked: "Dict[bytes, _Looked]" = {}  # folders without inotify
        self._next_look = 0.0
        self._shared: "Dict[int, bool]" = {}  # device -> other machines write there
        self._inotify = Inotify.open() if use_inotify else None
        self._wake_read, self._wake_write = _pipe()

    def add(self, folders: "Iterable[bytes]") -> "None":
        """Watch these too. OSError with the folder's name: one cannot be watched; those before it are."""
        try:
            for folder in folders:
                self._add(folder)
        finally:
            with self._lock:
                if self._waiting:  # it shall look at these too
                    _fill(self._wake_write, b"l")

    def _add(self, folder: "bytes") -> "None":
        with self._lock:
            self._check_open()
            if folder in self._descriptors or folder in self._looked:
                return
            try:
                shared = self._is_shared(os.stat(folder).st_dev, folder)
                descriptor = self._inotify.add(folder) if self._inotify is not None else None
                if descriptor is not None and descriptor not in self._folders:  # else the same folder by another name
                    self._descriptors[folder] = descriptor
                    self._folders[descriptor] = folder
                    if not shared:
                        self._found += self._names(folder)
                        return
                looked = self._looked[folder] = _Looked()
                self._found += self._look(folder, looked)
            except OSError as error:
                self._forget(folder)
                if error.filename is None:
                    error.filename = folder
                raise

    def discard(self, folders: "Iterable[bytes]") -> "None":
        """Watch these no longer; unknown ones are ignored."""
        with self._lock:
            for folder in folders:
                descriptor = self._forget(folder)
                if descriptor is not None and self._inotify is not None:
                    self._inotify.remove(descriptor)

    def _forget(self, folder: "bytes") -> "Optional[int]":
        self._looked.pop(folder, None)
        descriptor = self._descriptors.pop(folder, None)
        if descriptor is not None:
            self._folders.pop(descriptor, None)
        return descriptor

    def wait(self, timeout_s: "Optional[float]") -> "Found":
        """What appeared; empty when the time is over, or after ``wake``. WatchClosed: closed meanwhile."""
        with self._lock:
            self._check_open()
            if self._waiting:
                raise RuntimeError("another thread waits on this watch; wait is for one thread at a time")
            self._waiting = True
        try:
            return self._wait(None if timeout_s is None else time.monotonic() + timeout_s)
        finally:
            with self._lock:
                self._waiting = False
                if self._closed:
                    self._release()

    def _wait(self, deadline: "Optional[float]") -> "Found":
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if self._inotify is not None:
            poll.register(self._inotify.fd, select.POLLIN)
        while True:
            with self._lock:
                self._check_open()
                woken = b"w" in _drain(self._wake_read)
                found = self._collect()
                next_look = self._next_look if self._looked else None
            now = time.monotonic()
            if found or woken or (deadline is not None and now >= deadline):
                return found
            pauses_s = [max(0.0, moment - now) for moment in (deadline, next_look) if moment is not None]
            poll.poll(min(pauses_s) * 1000 + 0.999 if pauses_s else None)

    def _collect(self) -> "Found":
        found, self._found = self._found, []
        if self._inotify is not None:
            for descriptor, mask, name in self._inotify.read():
                if mask & _IN_Q_OVERFLOW:
                    for folder in list(self._descriptors):
                        found += self._names_or_none(folder)
                elif mask & _IN_IGNORED:  # the folder is gone
                    gone = self._folders.pop(descriptor, None)
                    if gone is not None:
                        self._descriptors.pop(gone, None)
                elif descriptor in self._folders:
                    folder = self._folders[descriptor]
                    if name.startswith(self._prefix):
                        found.append((folder, name))
                        if folder in self._looked:
                            self._looked[folder].names |= frozenset([name])
        if self._looked and time.monotonic() >= self._next_look:
            began = time.monotonic()
            for folder, looked in list(self._looked.items()):
                try:
                    found += self._look(folder, looked)
                except FileNotFoundError:
                    del self._looked[folder]
                except OSError:
                    looked.modified_at = None  # away for now: a failed look says nothing, the next one is thorough
            ended = time.monotonic()
            self._next_look = ended + max(self._look_every_s, 20 * (ended - began))
        return found

    def _look(self, folder: "bytes", looked: "_Looked") -> "Found":
        modified_at, now = os.stat(folder).st_mtime, time.monotonic()
        if modified_at != looked.modified_at:
            looked.modified_at, looked.moved_at = modified_at, now
        elif now - looked.moved_at > _YOUNG_S:
            return []
        here = self._names(folder)
        fresh = [item for item in here if item[1] not in looked.names]
        looked.names = frozenset(item[1] for item in here)
        return fresh

    def _names(self, folder: "bytes") -> "Found":
        return [(folder, name) for name in os.listdir(folder) if name.startswith(self._prefix)]

    def _names_or_none(self, folder: "bytes") -> "Found":
        try:
            return self._names(folder)
        except OSError:  # gone; its own event follows
            return []

    def _is_shared(self, device: "int", folder: "bytes") -> "bool":
        known = self._shared.get(device)
        if known is None:
            known = self._shared[device] = is_shared(folder)
        return known

    def wake(self) -> "None":
        """Let ``wait`` return at once, now or the next time."""
        with self._lock:
            if not self._closed:
                _fill(self._wake_write, b"w")

    def close(self) -> "None":
        """Let go; a thread that waits gets WatchClosed."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._descriptors.clear()
                self._folders.clear()
                self._looked.clear()
                if self._waiting:
                    _fill(self._wake_write, b"w")  # that thread releases: a number still polled must not be used again
                else:
                    self._release()

    def _release(self) -> "None":
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        os.close(self._wake_read)
        os.close(self._wake_write)

    @property
    def closed(self) -> "bool":
        """``close`` was called."""
        return self._closed

    def _check_open(self) -> "None":
        if self._closed:
            raise WatchClosed

    def __del__(self) -> "None":
        if hasattr(self, "_wake_write"):  # else __init__ failed
            self.close()


class _Looked(object):
    """What the last look at a folder saw."""

    __slots__ = ("modified_at", "moved_at", "names")

    def __init__(self) -> "None":
        self.modified_at: "Optional[float]" = None  # by the clock of the file system
        self.moved_at = 0.0  # when that was seen to move, by the monotonic clock
        self.names: "FrozenSet[bytes]" = frozenset()


class Inotify(object):
    """inotify(7) through the C library."""

    def __init__(self, libc: "Any", fd: "int") -> "None":
        self._libc = libc
        self.fd = fd

    @classmethod
    def open(cls) -> "Optional[Inotify]":
        """None where the platform has no inotify, or the user's instances are used up."""
        if not sys.platform.startswith("linux"):
            return None
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        return cls(libc, fd) if fd >= 0 else None

    def add(self, path: "bytes") -> "Optional[int]":
        """A watch descriptor; None where the user's watches are used up, or the file system has no inotify."""
        descriptor = int(self._libc.inotify_add_watch(self.fd, path, _IN_CREATE | _IN_MOVED_TO | _IN_ONLYDIR))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ELOOP):
            raise OSError(number, os.strerror(number), path)
        return None

    def remove(self, descriptor: "int") -> "None":
        """EINVAL is no matter: the folder is gone, and so is its watch."""
        self._libc.inotify_rm_watch(self.fd, descriptor)

    def read(self) -> "Iterator[Tuple[int, int, bytes]]":
        """Watch descriptor, mask and name of each event that has come."""
        while True:
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                descriptor, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                yield descriptor, mask, data[at - length : at].rstrip(b"\0")
            if len(data) < 1 << 15:  # nearly empty: leave the next events to the next time
                return

    def close(self) -> "None":
        """Let go of it."""
        os.close(self.fd)


def is_shared(folder: "bytes") -> "bool":
    """Other machines write to the file system that a folder lies on."""
    kind = file_system(folder)
    return kind in _SHARED or kind.startswith("fuse")


def file_system(folder: "bytes") -> "str":
    """The type of the file system that a folder lies on; "" where that cannot be told."""
    best, kind = b"", b""
    path = os.path.realpath(folder)
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            for line in table:
                before, _, after = line.partition(b" - ")
                point = _OCTAL.sub(lambda match: bytes((int(match.group(1), 8),)), before.split()[4])
                if len(point) >= len(best) and (path == point or path.startswith(point.rstrip(b"/") + b"/")):
                    best, kind = point, after.split()[0]
    except (OSError, IndexError):
        return ""
    return kind.decode("ascii", "replace")


_OCTAL = re.compile(rb"\\([0-7]{3})")


def _fill(fd: "int", data: "bytes") -> "None":
    try:
        os.write(fd, data)
    except BlockingIOError:  # it is full: the wait is woken already
        pass


def _drain(fd: "int") -> "bytes":
    try:
        return os.read(fd, 4096)
    except BlockingIOError:
        return b""


def _pipe() -> "Tuple[int, int]":
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends
