"""Where the embedded scheduler keeps its state: private, on a local file system, reached whatever the path's length."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import JournalError, NoScheduler

__all__ = ["StateFolder", "connect", "listen", "state_folder"]

# File systems on which locks, shared mappings and SQLite's write-ahead log cannot be trusted, by the kernel's names.
_NETWORK_NAMES = (
    "nfs nfs4 cifs smb3 smbfs smb2 ncpfs afs ceph lustre gpfs beegfs beegfs_nodev pvfs2 orangefs panfs wekafs 9p glusterfs coda "
    "fuse.sshfs fuse.glusterfs fuse.ceph fuse.s3fs fuse.juicefs fuse.lustre fuse fuse.gcsfuse fuse.rclone fuse.davfs davfs"
)
_NETWORK = frozenset(_NETWORK_NAMES.split())


class StateFolder:
    """The folder of one embedded scheduler and the names in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.journal = os.path.join(path, "journal.db")
        self.lock = os.path.join(path, "lock")
        self.socket = os.path.join(path, "socket")
        self.slots = os.path.join(path, "slots")  # default stream files in use
        self.streams = os.path.join(path, "streams")  # default streams kept, by job
        self.folders = os.path.join(path, "jobs")  # of jobs that go through the shepherd

    def ring(self, generation: int) -> str:
        """The ring file of a spawner's generation."""
        return os.path.join(self.path, f"ring.{generation}")

    def slot_files(self, stream: int) -> tuple[str, str]:
        """The pair of default stream files with that number."""
        return os.path.join(self.slots, f"{stream}.out"), os.path.join(self.slots, f"{stream}.err")

    def kept_files(self, number: int) -> tuple[str, str]:
        """Where the default streams of a job are kept."""
        base = os.path.join(self.streams, str(number // 1000), str(number))
        return base + ".out", base + ".err"


def file_system(path: str) -> str:
    """The kernel's name of the file system on which a path lies; "" where that cannot be told."""
    try:
        device = os.stat(path).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                if before.split()[2] == wanted:
                    return after.split()[0]
    except (OSError, IndexError):
        return ""
    return ""


def state_folder(state_dir: Path, *, create: bool) -> StateFolder:
    """The state folder for that state directory: ``local`` in it, or one in /var/tmp where it is on a network file system.

    NoScheduler: the folder is not ours alone, and nothing was touched. JournalError: it cannot be made or looked at.
    """
    try:
        return _state_folder(os.path.abspath(state_dir), create)
    except OSError as error:
        at = error.filename if isinstance(error.filename, str) else str(state_dir)
        raise JournalError(
            f"the embedded scheduler's state cannot be kept in {state_dir}: {error.strerror or error} ({at}). Make it a "
            "folder that you can write to, or set JOBYARD_STATE_DIR to another"
        ) from error


def _state_folder(state_dir: str, create: bool) -> StateFolder:
    base = state_dir
    near = base
    while not os.path.exists(near):
        near = os.path.dirname(near)
    if file_system(near) in _NETWORK:
        import hashlib

        base = f"/var/tmp/jobyard-{os.getuid()}"
        _own(base, create)
        path = os.path.join(base, hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16])
    else:
        if create:
            os.makedirs(base, mode=0o700, exist_ok=True)
        path = os.path.join(base, "local")
    _own(path, create)
    return StateFolder(path)


def _own(path: str, create: bool) -> None:
    if create:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass  # checked below, whoever made it
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise NoScheduler(f"{path} is not a folder of yours; the embedded scheduler keeps nothing there")
    if info.st_mode & 0o077:
        raise NoScheduler(f"{path} is open to others (mode {info.st_mode & 0o777:o}); make it 0700, or set JOBYARD_STATE_DIR")


@contextmanager
def _short(path: str) -> Iterator[str]:
    """A name of a socket that fits into 108 bytes, however long its folder's path is."""
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def listen(path: str) -> socket.socket:
    """A listening socket at a path; one that is there goes."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _short(path) as name:
            server.bind(name)
        os.chmod(path, 0o600)
        server.listen(128)
    except BaseException:
        server.close()
        raise
    return server


def connect(path: str) -> socket.socket:
    """A connection to the socket at a path. OSError where nobody listens; PermissionError where that is not us."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            client.connect(name)
        if peer_uid(client) != os.getuid():
            raise PermissionError(f"{path} is served by another user")
    except BaseException:
        client.close()
        raise
    return client


def peer_uid(sock: socket.socket) -> int:
    """The user at the other end of a Unix socket."""
    import struct

    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("=iII", data)[1])
