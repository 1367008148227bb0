"""The folder of all job folders, and what is written there: on the user's machine, or by the helper on a login host. Standard
library only, Python 3.6 syntax. Paths and names are bytes.

The rule for the way there: it is walked from ``/``, one open folder at a time. Each folder on it belongs to root or to us, and
nobody else may write to it, unless its sticky bit keeps others from renaming what is ours (``/tmp``); the user's private group
does not count as somebody else. A symbolic link on the way is followed only where root or we made it. The last folder is ours
and 0700.
"""

import contextlib
import errno
import json
import os
import stat

from .staging import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_WITHDRAWN = "withdrawn"
_CLAIM_BYTES = 65536
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR)  # of a moment: try again


class Untrusted(Exception):
    """The way to the folder cannot be trusted, or walked: ``path`` says where, ``why`` what is wrong."""

    def __init__(self, path: "bytes", why: "str") -> None:
        Exception.__init__(self, path, why)
        self.path = path
        self.why = why


class Root(object):
    """``BASE/jobyard-UID``, open. Raises Untrusted where somebody else could change what lies there."""

    def __init__(self, base: "bytes") -> "None":
        self.path, self.fd = _open_root(base)
        self._deployed: "Optional[bytes]" = None

    def close(self) -> "None":
        """Let go of the folder. Nothing is removed."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def folder(self, token: "bytes") -> "bytes":
        """The path of a job's folder, there or not. ValueError: that is no token of a submission."""
        return self.path + b"/" + checked(token)[:2] + b"/" + token

    def deploy(self, name: "bytes", files: "Mapping[str, bytes]") -> "bytes":
        """Put the shepherd's files in place, once; the path of its ``run.py``. OSError where it cannot be written."""
        if self._deployed is None:
            with _made(self.fd, b"node") as node, _made(node, name) as top, _made(top, b"node") as package:
                for path, data in files.items():
                    folder, _, file = path.rpartition("/")
                    _keep_file(package if folder else top, file.encode(), data)
            self._deployed = self.path + b"/node/" + name + b"/run.py"
        return self._deployed

    def create(self, token: "bytes", files: "Mapping[str, bytes]") -> "bytes":
        """Write a job's folder whole, or not at all: its path. FileExistsError where it is there already; OSError."""
        path, temporary = self.folder(token), b".new-" + token
        with _made(self.fd, token[:2]) as parent:
            os.mkdir(temporary, 0o700, dir_fd=parent)
            try:
                with _opened(parent, temporary) as folder:
                    for name, data in files.items():
                        _write(folder, os.fsencode(name), data, 0o700 if name == "run.sh" else 0o600)
                os.rename(temporary, token, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException as error:  # Ctrl-C too
                remove_tree(parent, temporary)
                if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    raise FileExistsError(errno.EEXIST, "the job's folder is there already", path) from error
                raise
        return path

    def remove(self, token: "bytes") -> "None":
        """Remove a job's folder with all that is in it; links in it are removed, not followed. Missing is no error."""
        with contextlib.ExitStack() as stack:
            try:
                parent = stack.enter_context(_opened(self.fd, checked(token)[:2]))
            except FileNotFoundError:
                return
            remove_tree(parent, b".new-" + token)  # of a call that was cut short
            # Renamed first: nobody reads half of a folder, and what cannot be removed is not taken for a job's.
            temporary = b".old-" + token
            try:
                os.rename(token, temporary, src_dir_fd=parent, dst_dir_fd=parent)
            except FileNotFoundError:
                pass  # it may be an earlier try's
            remove_tree(parent, temporary)

    def tokens(self) -> "Iterator[bytes]":
        """The tokens of all folders that are here."""
        for part in _names(self.fd):
            if len(part) == 2:
                try:
                    with _opened(self.fd, part) as parent:
                        names = _names(parent)
                except FileNotFoundError:
                    continue
                for name in names:
                    if len(name) == 32 and name.startswith(part):
                        yield name


def checked(token: "bytes") -> "bytes":
    """The token of a submission. ValueError: it is none."""
    if len(token) != 32 or not set(token) <= set(b"0123456789abcdef"):
        raise ValueError("%r is not the token of a submission (32 hexadecimal digits)" % os.fsdecode(token))
    return token


def _names(fd: "int") -> "List[bytes]":
    return sorted(os.fsencode(name) for name in os.listdir(fd))


@contextlib.contextmanager
def _opened(parent: "int", name: "bytes") -> "Iterator[int]":
    """A folder of ours, open."""
    fd = os.open(name, _FOLDER, dir_fd=parent)
    try:
        if os.fstat(fd).st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "the folder belongs to somebody else", name)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _made(parent: "int", name: "bytes") -> "Iterator[int]":
    """A folder of ours, made where it is missing, open."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass  # of an earlier job
    with _opened(parent, name) as fd:
        yield fd


def _write(folder: "int", name: "bytes", data: "bytes", mode: "int") -> "None":
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
    try:
        os.fchmod(fd, mode)  # whatever the umask
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _keep_file(folder: "int", name: "bytes", data: "bytes") -> "None":
    """Make sure that a file holds exactly this."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        pass
    else:
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if found.st_uid == os.getuid() and not found.st_mode & 0o022 and file.read(len(data) + 1) == data:
                return
    temporary = b".tmp-" + os.urandom(8).hex().encode()
    _write(folder, temporary, data, 0o600)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


# The way there -------------------------------------------------------------------------------------------------------


def _open_root(base: "bytes") -> "Tuple[bytes, int]":
    if not base.startswith(b"/"):
        raise Untrusted(base, "is not an absolute path")
    name = b"jobyard-%d" % os.getuid()
    try:
        walked, fd = _walk(base)
        try:
            try:
                os.mkdir(name, 0o700, dir_fd=fd)
            except FileExistsError:
                pass  # of an earlier session
            root = os.open(name, _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
    except OSError as error:
        at = error.filename
        shown = os.fsdecode(at) if isinstance(at, bytes) else str(at)
        raise Untrusted(base, "cannot be opened: %s (%s)" % (error.strerror, shown)) from error
    path = walked.rstrip(b"/") + b"/" + name
    found = os.fstat(root)
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(root)
        raise Untrusted(path, "must belong to you and be closed to all others (chmod 700)")
    return path, root


def _walk(base: "bytes") -> "Tuple[bytes, int]":
    """The folder, open, and its path without links; the missing are made."""
    parts = [part for part in reversed(base.split(b"/")) if part not in (b"", b".")]
    path, links = b"", 0
    fds = [os.open("/", _FOLDER)]  # of each folder on the way, so that .. goes back to where we came from
    try:
        _trust(b"/", os.fstat(fds[0]))
        while parts:
            part = parts.pop()
            if part == b"..":
                if len(fds) > 1:
                    os.close(fds.pop())
                    path = path.rpartition(b"/")[0]
                continue
            try:
                found = os.stat(part, dir_fd=fds[-1], follow_symlinks=False)
            except FileNotFoundError:
                try:
                    os.mkdir(part, 0o700, dir_fd=fds[-1])
                except FileExistsError:
                    pass  # somebody was quicker
                found = os.stat(part, dir_fd=fds[-1], follow_symlinks=False)
            here = path + b"/" + part
            if stat.S_ISLNK(found.st_mode):
                links += 1
                if links > 40:
                    raise Untrusted(base, "leads through too many links")
                if found.st_uid not in (0, os.getuid()):
                    raise Untrusted(here, "is a link that somebody else made")
                target = os.fsencode(os.readlink(part, dir_fd=fds[-1]))
                if target.startswith(b"/"):
                    while len(fds) > 1:
                        os.close(fds.pop())
                    path = b""
                parts.extend(piece for piece in reversed(target.split(b"/")) if piece not in (b"", b"."))
                continue
            fds.append(os.open(part, _FOLDER, dir_fd=fds[-1]))
            path = here
            _trust(path, os.fstat(fds[-1]))
        return path or b"/", fds.pop()
    finally:
        for fd in fds:
            os.close(fd)


def _trust(path: "bytes", found: "os.stat_result") -> "None":
    """Untrusted where somebody besides root and us could put something else in this folder's place."""
    if found.st_uid not in (0, os.getuid()):
        raise Untrusted(path, "belongs to somebody else, who could put another folder there")
    if found.st_mode & stat.S_ISVTX:
        return
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _private_group(found.st_gid)):
        raise Untrusted(path, "can be changed by others, and has no sticky bit")


def _private_group(gid: "int") -> "bool":
    """The group is root's, or holds the user alone, as many systems arrange it."""
    import grp
    import pwd

    if gid == 0:
        return True
    try:
        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and user.pw_name == group.gr_name and not set(group.gr_mem) - {user.pw_name}


# Claims --------------------------------------------------------------------------------------------------------------


def withdraw(folder: "bytes", tasks: "int") -> "List[Optional[str]]":
    """Make the claims of all tasks of a folder ourselves, so that none of them runs any more.

    For each task whose claim somebody else had made: the native id that it runs as (None where the claim does not say).
    """
    held: "List[Optional[str]]" = []
    if not os.path.isdir(folder):
        return held
    from .process import publish  # here: a helper rarely needs it

    content = json.dumps({"native_id": None, _WITHDRAWN: True, "host": None}).encode()
    for task in range(tasks):
        if not publish(folder, b"claim.%d" % task, content):  # as the shepherd makes its own
            found = claim(folder, task)
            if not found.get(_WITHDRAWN):
                held.append(found.get("native_id"))
    return held


def was_withdrawn(folder: "bytes", tasks: "int") -> "bool":
    """Whether ``withdraw`` made any task's claim."""
    return any(claim(folder, task).get(_WITHDRAWN) for task in range(tasks))


def claimants(folder: "bytes", tasks: "int") -> "List[Optional[str]]":
    """For each task the native id that it runs as, or ran; None where it never began, or the claim does not say."""
    return [claim(folder, task).get("native_id") for task in range(tasks)]


def claim(folder: "bytes", task: "int") -> "Dict[str, Any]":
    """What a task's claim says; nothing where there is none that can be read."""
    try:
        with open(os.open(folder + b"/claim.%d" % task, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            data = json.loads(file.read(_CLAIM_BYTES).decode())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


# Receipts ------------------------------------------------------------------------------------------------------------


def open_own_folder(folder: "bytes") -> "Optional[int]":
    """A folder of ours, open; None where it is not there, or somebody else's. OSError where it cannot be opened."""
    try:
        fd = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return None
    if os.fstat(fd).st_uid != os.getuid():
        os.close(fd)
        return None
    return fd


def read_own_file(parent: "int", name: "bytes", limit: "int") -> "Optional[bytes]":
    """The content of a regular file of ours in an open folder, one byte more than ``limit`` where it is larger; else None.

    OSError where it cannot be read now.
    """
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
    except OSError as error:
        if error.errno in PASSING:
            raise
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            return None
        data = b""
        while len(data) <= limit:
            part = os.read(fd, limit + 1 - len(data))
            if not part:
                break
            data += part
        return data
    finally:
        os.close(fd)
