"""The job's folder: what is written in it (pure), and where it lies (``WorkRoot``).

The format is set out in docs/architecture.md, "The job's folder". Nothing of the user's is ever pasted into shell text: it
stands in ``job.json`` and ``tasks.jsonl``, which only the shepherd reads.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from .errors import ConfigurationError
from .job import JobDescription, to_data
from .launchers import launch_data
from .node.staging import remove_tree
from .schedulers.base import Kind, Submission, Traits

__all__ = ["WorkRoot", "batch_script", "job_files", "new_token", "node_files", "node_name", "render", "task_token"]

FORMAT = 1
INTERPRETER = "/usr/bin/python3"  # what every node has; sites say otherwise in config.toml
_NODE_MODULES = ("__init__.py", "launch.py", "process.py", "shepherd.py", "staging.py")


def new_token() -> str:
    """A fresh token, or nonce: 128 random bits as 32 hexadecimal digits."""
    return os.urandom(16).hex()


def task_token(token: str, number: int) -> str:
    """The token of task ``number`` (from 0) of an array or of like jobs."""
    return f"{token}.{number}"


# What stands in the folder ------------------------------------------------------------------------------------------


def render(
    submission: Submission,
    traits: Traits,
    directives: Sequence[str],
    *,
    nonce: str,
    shepherd: str,
    interpreter: str = INTERPRETER,
    tasks: Sequence[JobDescription] | None = None,
    environment_base: Mapping[str, str] | None = None,
) -> dict[str, bytes]:
    """All files of the job's folder by name: ``job.json``, ``run.sh``, and ``tasks.jsonl`` where tasks differ.

    ``tasks``: each task's own description, in order (None: all are the submission's). ``shepherd``: the path of ``run.py``
    as the nodes see it (``WorkRoot.deploy``). ``environment_base``: the client's environment, for those that inherit it;
    None where the scheduler passes it. Raises InvalidJob for a launcher that does not exist.
    """
    files = job_files(submission, traits, nonce=nonce, tasks=tasks, environment_base=environment_base)
    files["run.sh"] = batch_script(
        directives, submission.folder, shepherd=shepherd, interpreter=interpreter, index_argument=traits.index_argument
    )
    return files


def job_files(
    submission: Submission,
    traits: Traits,
    *,
    nonce: str,
    tasks: Sequence[JobDescription] | None = None,
    environment_base: Mapping[str, str] | None = None,
) -> dict[str, bytes]:
    """``job.json`` and, where tasks differ, ``tasks.jsonl``; as ``render``."""
    description = submission.description
    overrides = _overrides(description, tasks) if tasks is not None else None
    inherits = description.inherit == "client" or (tasks is not None and any(task.inherit == "client" for task in tasks))
    job: dict[str, Any] = {
        "format": FORMAT,
        "token": submission.token,
        "nonce": nonce,
        "kind": submission.kind.value,
        "indices": None if submission.kind is Kind.SINGLE else _runs(submission.indices),
        "traits": to_data(traits),
        "tasks": overrides is not None,
        "environment_base": dict(environment_base) if environment_base is not None and inherits else None,
        "description": to_data(description),
        "launch": launch_data(description),
    }
    files = {"job.json": _line(job)}
    if overrides is not None:
        files["tasks.jsonl"] = overrides
    return files


def batch_script(
    directives: Sequence[str], folder: str, *, shepherd: str, interpreter: str = INTERPRETER, index_argument: bool = False
) -> bytes:
    """``run.sh``: the dialect's directives, and one line that execs the shepherd."""
    words = [interpreter, "-I", "-S", shepherd, folder]
    rest = ' "$@"' if index_argument else ""
    lines = ["#!/bin/sh", *directives, "exec " + " ".join(shlex.quote(word) for word in words) + rest, ""]
    return os.fsencode("\n".join(lines))


def _line(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"))
    if sys.getfilesystemencoding() != "utf-8":  # the node reads UTF-8; text here stands for bytes in the locale's encoding
        text = json.dumps(_as_utf8(value), separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def _as_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return os.fsencode(value).decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {_as_utf8(key): _as_utf8(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_utf8(item) for item in value]
    return value


def _runs(indices: Sequence[int]) -> list[tuple[int, int, int]]:
    """Indices as runs of (first, step, count): an array of 100,000 stays a few bytes."""
    runs: list[tuple[int, int, int]] = []
    at = 0
    while at < len(indices):
        first = indices[at]
        step = indices[at + 1] - first if at + 1 < len(indices) else 1
        count = 1
        while at + count < len(indices) and indices[at + count] - indices[at + count - 1] == step:
            count += 1
        runs.append((first, step or 1, count))
        at += count
    return runs


def _overrides(base: JobDescription, tasks: Sequence[JobDescription]) -> bytes | None:
    """A line for each task: its fields that differ from ``base``'s. None where no task differs."""
    fields = JobDescription.__struct_fields__
    base_launch = launch_data(base)
    lines: list[bytes] = []
    known: dict[int, bytes] = {}  # one object is often many tasks
    for task in tasks:
        if task is base:
            lines.append(b"{}\n")
            continue
        line = known.get(id(task))
        if line is None:
            changed: dict[str, Any] = {}
            for name in fields:
                mine, common = getattr(task, name), getattr(base, name)
                if mine is not common and mine != common:
                    changed[name] = mine if type(mine) is str or type(mine) is dict else msgspec.to_builtins(mine)
            if changed and (launch := launch_data(task)) != base_launch:
                changed["launch"] = launch
            known[id(task)] = line = _line(changed)
        lines.append(line)
    return b"".join(lines) if any(line != b"{}\n" for line in lines) else None


# What the nodes need of ours ----------------------------------------------------------------------------------------


@cache
def node_files() -> Mapping[str, bytes]:
    """The shepherd's files, by their path below ``WORK_ROOT/node/HASH``."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node")
    found: dict[str, bytes] = {}
    for name in ("run.py", *_NODE_MODULES):
        with open(os.path.join(source, name), "rb") as file:
            found[name if name == "run.py" else f"node/{name}"] = file.read()
    return found


@cache
def node_name() -> str:
    """The name of the folder that holds them: a hash of all, so that releases live side by side."""
    import hashlib

    digest = hashlib.sha256()
    for name, data in sorted(node_files().items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


# Where it lies ------------------------------------------------------------------------------------------------------


class WorkRoot:
    """``BASE/jobyard-UID`` on this machine: the folders of all jobs, and the shepherd.

    The rule for the way there: it is walked from ``/``, one open folder at a time. Each folder on it belongs to root or to
    us, and nobody else may write to it, unless its sticky bit keeps others from renaming what is ours (``/tmp``); the user's
    private group does not count as somebody else. A symbolic link on the way is followed only where root or we made it. The
    last folder is ours and 0700.
    """

    def __init__(self, base: str) -> None:
        """Open it, making what is missing. ConfigurationError where somebody else could change what lies there."""
        self.path, self._fd = _open_root(base)
        self._deployed: str | None = None

    def __enter__(self) -> WorkRoot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder. Nothing is removed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def folder(self, token: str) -> str:
        """The absolute path of a job's folder, there or not. The token is that of the submission, not of a task."""
        return f"{self.path}/{_checked(token)[:2]}/{token}"

    def deploy(self) -> str:
        """Put the shepherd in place, once; the path of its ``run.py``. OSError where it cannot be written."""
        if self._deployed is None:
            with _made(self._fd, "node") as node, _made(node, node_name()) as top, _made(top, "node") as package:
                for name, data in node_files().items():
                    folder, _, file = name.rpartition("/")
                    _keep_file(package if folder else top, file, data)
            self._deployed = f"{self.path}/node/{node_name()}/run.py"
        return self._deployed

    def create(self, token: str, files: Mapping[str, bytes]) -> str:
        """Write a job's folder whole, or not at all: its path. FileExistsError where it is there already; OSError."""
        path, temporary = self.folder(token), f".new-{token}"
        with _made(self._fd, token[:2]) as parent:
            os.mkdir(temporary, 0o700, dir_fd=parent)
            try:
                with _opened(parent, temporary) as folder:
                    for name, data in files.items():
                        _write(folder, name, data, 0o700 if name == "run.sh" else 0o600)
                os.rename(temporary, token, src_dir_fd=parent, dst_dir_fd=parent)
            except OSError as error:
                remove_tree(parent, os.fsencode(temporary))
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    raise FileExistsError(errno.EEXIST, "the job's folder is there already", path) from error
                raise
        return path

    def remove(self, token: str) -> None:
        """Remove a job's folder with all that is in it; links in it are removed, not followed. Missing is no error."""
        with contextlib.suppress(FileNotFoundError), _opened(self._fd, _checked(token)[:2]) as parent:
            # Renamed first: nobody reads half of a folder, and what cannot be removed is not taken for a job's.
            temporary = f".old-{token}"
            with contextlib.suppress(FileNotFoundError):
                os.rename(token, temporary, src_dir_fd=parent, dst_dir_fd=parent)
            remove_tree(parent, os.fsencode(temporary))

    def tokens(self) -> Iterator[str]:
        """The tokens of all folders that are here."""
        for part in _names(self._fd):
            if len(part) == 2:
                with contextlib.suppress(FileNotFoundError), _opened(self._fd, part) as parent:
                    yield from (name for name in _names(parent) if len(name) == 32 and name.startswith(part))


def _checked(token: str) -> str:
    if len(token) != 32 or not set(token) <= set("0123456789abcdef"):
        raise ValueError(f"{token!r} is not the token of a submission (32 hexadecimal digits)")
    return token


def _names(fd: int) -> Iterable[str]:
    return sorted(os.listdir(fd))


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def _opened(parent: int, name: str) -> Iterator[int]:
    """A folder of ours, open."""
    fd = os.open(name, _FOLDER, dir_fd=parent)
    try:
        if os.fstat(fd).st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "the folder belongs to somebody else", name)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _made(parent: int, name: str) -> Iterator[int]:
    """A folder of ours, made where it is missing, open."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    with _opened(parent, name) as fd:
        yield fd


def _write(folder: int, name: str, data: bytes, mode: int) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        os.fchmod(fd, mode)  # whatever the umask
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _keep_file(folder: int, name: str, data: bytes) -> None:
    """Make sure that a file holds exactly this."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        pass
    else:
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if found.st_uid == os.getuid() and not found.st_mode & 0o022 and file.read(len(data) + 1) == data:
                return
    temporary = f".tmp-{os.urandom(8).hex()}"
    _write(folder, temporary, data, 0o600)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


# The way to the work root


def _refused(path: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the work folder cannot be used: {path!r} {why}. Set JOBYARD_WORK_DIR to a folder that only you can change, "
        "and that the compute nodes see"
    )


def _open_root(base: str) -> tuple[str, int]:
    if not os.path.isabs(base):
        raise _refused(base, "is not an absolute path")
    name = f"jobyard-{os.getuid()}"
    try:
        walked, fd = _walk(base)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=fd)
            root = os.open(name, _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _refused(base, f"cannot be opened: {error.strerror} ({error.filename})") from error
    path = f"{walked.rstrip('/')}/{name}"
    found = os.fstat(root)
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(root)
        raise _refused(path, "must belong to you and be closed to all others (chmod 700)")
    return path, root


def _walk(base: str) -> tuple[str, int]:
    """The folder, open, and its path without links; the missing are made."""
    parts = [part for part in reversed(base.split("/")) if part not in ("", ".")]
    path, links = "", 0
    fds = [os.open("/", _FOLDER)]  # of each folder on the way, so that .. goes back to where we came from
    try:
        _trust("/", os.fstat(fds[0]))
        while parts:
            part = parts.pop()
            if part == "..":
                if len(fds) > 1:
                    os.close(fds.pop())
                    path = path.rpartition("/")[0]
                continue
            try:
                found = os.stat(part, dir_fd=fds[-1], follow_symlinks=False)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=fds[-1])
                found = os.stat(part, dir_fd=fds[-1], follow_symlinks=False)
            here = f"{path}/{part}"
            if stat.S_ISLNK(found.st_mode):
                links += 1
                if links > 40:
                    raise _refused(base, "leads through too many links")
                if found.st_uid not in (0, os.getuid()):
                    raise _refused(here, "is a link that somebody else made")
                target = os.readlink(part, dir_fd=fds[-1])
                if target.startswith("/"):
                    while len(fds) > 1:
                        os.close(fds.pop())
                    path = ""
                parts.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
                continue
            fds.append(os.open(part, _FOLDER, dir_fd=fds[-1]))
            path = here
            _trust(path, os.fstat(fds[-1]))
        return path or "/", fds.pop()
    finally:
        for fd in fds:
            os.close(fd)


def _trust(path: str, found: os.stat_result) -> None:
    """ConfigurationError where somebody besides root and us could put something else in this folder's place."""
    if found.st_uid not in (0, os.getuid()):
        raise _refused(path, "belongs to somebody else, who could put another folder there")
    if found.st_mode & stat.S_ISVTX:
        return
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _private_group(found.st_gid)):
        raise _refused(path, "can be changed by others, and has no sticky bit")


def _private_group(gid: int) -> bool:
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
