"""Default streams without a file made for each job: files in use by slot, kept under the job's own name only if need be.

A job writes into the pair of files of a stream number. When it ends, a file that is empty and that nobody else has open (a
write lease, fcntl(2), tells: a background child that was left over, or a reader) serves the next job. Any other is renamed to
the job's own name. The job opens the files itself, so the lease sees its descriptions, not ours.
"""

from __future__ import annotations

import fcntl
import os

from .paths import StateFolder
from .ring import KEPT_ERR, KEPT_OUT

__all__ = ["Slots", "make_private", "settle", "sweep"]

_CREATE = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_LOW = 20  # bits of a stream number that count within a spawner's generation


class Slots:
    """The pairs of stream files of one spawner."""

    def __init__(self, folder: StateFolder, generation: int) -> None:
        self._folder = folder
        self._base = (generation & 0xFFF) << _LOW
        self._made = 0
        self._free: list[int] = []
        self._fds: dict[int, tuple[int, int]] = {}  # ours, read-only
        self.paths: dict[int, tuple[str, str]] = {}

    def take(self) -> int:
        """The number of a pair whose files are there, empty, and nobody's. OSError where none can be made."""
        if self._free:
            return self._free.pop()
        self._made += 1
        stream = self._base + self._made
        self.paths[stream] = self._folder.slot_files(stream)
        try:
            self._make(stream)
        except OSError:
            self._made -= 1
            raise
        return stream

    def _make(self, stream: int) -> None:
        out, err = self.paths[stream]
        first = _create(out)
        try:
            self._fds[stream] = first, _create(err)
        except OSError:
            os.close(first)
            raise

    def repair(self, stream: int) -> None:
        """Make the files again, should somebody have removed them."""
        for fd in self._fds.pop(stream, ()):
            os.close(fd)
        make_private(self._folder.slots)
        self._make(stream)

    def give_back(self, stream: int) -> None:
        """It was not used."""
        self._free.append(stream)

    def finish(self, stream: int, number: int, *, alone: bool) -> int:
        """The job has ended: keep what must be kept. Returns the flags of what was.

        ``alone``: no process of any job was left over, so that nobody can have the files open.
        """
        kept = 0
        out, err = self._fds[stream]
        test = _touched if alone else _in_use
        if test(out):
            kept |= KEPT_OUT
        if test(err):
            kept |= KEPT_ERR
        if not kept:
            self._free.append(stream)
            return 0
        paths, own = self.paths[stream], self._folder.kept_files(number)
        try:
            if kept & KEPT_OUT:
                _rename(paths[0], own[0])
            if kept & KEPT_ERR:
                _rename(paths[1], own[1])
        except OSError:  # a full disk: what was written stays where it is, and this pair is not used again
            for fd in self._fds.pop(stream):
                os.close(fd)
            return 0
        if kept & KEPT_OUT:
            os.close(out)
            out = -1
        if kept & KEPT_ERR:
            os.close(err)
            err = -1
        try:
            self._fds[stream] = (
                _create(paths[0]) if out < 0 else out,
                _create(paths[1]) if err < 0 else err,
            )
        except OSError:  # a full disk: this pair is not used again
            del self._fds[stream]
            return kept
        self._free.append(stream)
        return kept

    def close(self) -> None:
        """Let go of all files; ``settle`` looks after them from now on."""
        while self._fds:
            for fd in self._fds.popitem()[1]:
                os.close(fd)

    def pin(self, stream: int, number: int) -> None:
        """Give the files of a running job their own names already, so that one who opens them cannot meet another job's."""
        for path, own in zip(self.paths[stream], self._folder.kept_files(number), strict=True):
            try:
                _link(path, own)
            except OSError:
                pass  # a full disk, which the server meets too, and tells


def _create(path: str) -> int:
    fd = os.open(path, _CREATE, 0o600)
    os.fchmod(fd, 0o600)  # the umask is the last job's
    return fd


def make_private(path: str) -> None:
    """Make a folder, and those above it that are missing, for ourselves alone."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_private(os.path.dirname(path))
        make_private(path)
        return
    os.chmod(path, 0o700)


def _touched(fd: int) -> bool:
    """Something was written, or it has another name (which a reader was told)."""
    info = os.fstat(fd)
    return info.st_size != 0 or info.st_nlink != 1


def _in_use(fd: int) -> bool:
    """Something was written, somebody else has it open, or it has another name."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return True  # open elsewhere; or no leases here, which asks for the same care
    info = os.fstat(fd)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return info.st_size != 0 or info.st_nlink != 1


def _rename(path: str, own: str) -> None:
    for _ in range(2):
        try:
            if os.path.exists(own) and os.path.samefile(path, own):
                os.unlink(path)  # pinned: rename(2) would leave both names
            else:
                os.rename(path, own)
            return
        except FileNotFoundError:
            if not os.path.exists(path):
                return  # removed by somebody, or renamed by the spawner whom we succeed
            make_private(os.path.dirname(own))


def _link(path: str, own: str) -> None:
    make_private(os.path.dirname(own))
    try:
        if os.path.exists(own):
            if os.path.samefile(path, own):
                return
            os.unlink(own)  # of an earlier run
        os.link(path, own)
    except FileNotFoundError:
        pass  # removed by somebody


def settle(folder: StateFolder, stream: int, number: int) -> int:
    """As ``Slots.finish``, for a job of an earlier spawner whose files we do not hold. Repeatable."""
    kept = 0
    for flag, path, own in zip((KEPT_OUT, KEPT_ERR), folder.slot_files(stream), folder.kept_files(number), strict=True):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            kept |= flag if os.path.exists(own) else 0
            continue
        try:
            if _in_use(fd):
                _rename(path, own)
                kept |= flag
            else:
                os.unlink(path)
        except OSError:
            pass  # a full disk: it stays where it is
        finally:
            os.close(fd)
    return kept


def sweep(folder: StateFolder, in_use: set[int]) -> None:
    """Remove stream files that no running job has, left by an earlier spawner."""
    try:
        names = os.listdir(folder.slots)
    except FileNotFoundError:
        return
    for name in names:
        stream = name.partition(".")[0]
        if not stream.isdecimal() or int(stream) not in in_use:
            try:
                os.unlink(os.path.join(folder.slots, name))
            except FileNotFoundError:
                pass  # gone already
