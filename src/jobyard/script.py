"""The job's folder: what is written in it (pure), and where it lies (``WorkRoot``).

The format is set out in docs/architecture.md, "The job's folder". Nothing of the user's is ever pasted into shell text: it
stands in ``job.json`` and ``tasks.jsonl``, which only the shepherd reads.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from .errors import ConfigurationError
from .job import JobDescription, to_data
from .launchers import launch_data
from .node import workroot
from .schedulers.base import Kind, Submission, Traits

__all__ = ["WorkRoot", "batch_script", "job_files", "new_token", "node_files", "node_name", "render", "task_token", "untrusted"]

FORMAT = 1
INTERPRETER = "/usr/bin/python3"  # what every node has; sites say otherwise in config.toml
_NODE_MODULES = ("__init__.py", "guard.py", "launch.py", "process.py", "shepherd.py", "staging.py")


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
    """``BASE/jobyard-UID`` on this machine: the folders of all jobs, and the shepherd. JobFolders of jobyard.job_folders.

    Who may change what lies on the way there is set out in ``node/workroot.py``, which does the work, here as on login hosts.
    """

    def __init__(self, base: str) -> None:
        """Open it, making what is missing. ConfigurationError where somebody else could change what lies there."""
        try:
            self._root = workroot.Root(os.fsencode(base))
        except workroot.Untrusted as error:
            raise untrusted(os.fsdecode(error.path), error.why) from error
        self.path = os.fsdecode(self._root.path)

    def __enter__(self) -> WorkRoot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder. Nothing is removed."""
        self._root.close()

    def connect_once(self) -> bool:
        """JobFolders: this machine was reached always."""
        return False

    def home(self) -> str:
        """The user's home folder."""
        return os.path.expanduser("~")

    def folder(self, token: str) -> str:
        """The absolute path of a job's folder, there or not. The token is that of the submission, not of a task."""
        return os.fsdecode(self._root.folder(os.fsencode(token)))

    def deploy(self) -> str:
        """Put the shepherd in place, once; the path of its ``run.py``. OSError where it cannot be written."""
        return os.fsdecode(self._root.deploy(node_name().encode(), node_files()))

    def create(self, token: str, files: Mapping[str, bytes]) -> str:
        """Write a job's folder whole, or not at all: its path. FileExistsError where it is there already; OSError."""
        return os.fsdecode(self._root.create(os.fsencode(token), files))

    def is_whole(self, folder: str) -> bool:
        """A job's folder was written, and is there."""
        return os.path.exists(f"{folder}/run.sh")

    def remove(self, token: str) -> None:
        """Remove a job's folder with all that is in it; links in it are removed, not followed. Missing is no error."""
        self._root.remove(os.fsencode(token))

    def remove_elsewhere(self, folder: str, work_root: str) -> None:
        """Remove a job's folder that lies in another work root: JOBYARD_WORK_DIR was another then."""
        if os.path.isdir(folder):
            with WorkRoot(os.path.dirname(work_root)) as other:
                other.remove(os.path.basename(folder))

    def names(self, folder: str) -> Sequence[str]:
        """What is in a job's folder. OSError."""
        return os.listdir(folder)

    def remove_file(self, path: str) -> None:
        """Remove one file of a job's folder. OSError."""
        os.unlink(path)

    def tokens(self) -> Iterator[str]:
        """The tokens of all folders that are here."""
        return map(os.fsdecode, self._root.tokens())

    # Claims

    def withdraw(self, folder: str, tasks: int) -> list[str | None]:
        """Make the claims of all tasks of a folder ourselves, so that none of them runs any more.

        For each task whose claim somebody else had made: the native id that it runs as (None where the claim does not say).
        """
        return workroot.withdraw(os.fsencode(folder), tasks)

    def was_withdrawn(self, folder: str, tasks: int) -> bool:
        """Whether ``withdraw`` made any task's claim."""
        return workroot.was_withdrawn(os.fsencode(folder), tasks)

    def claimants(self, folder: str, tasks: int) -> list[str | None]:
        """For each task the native id that it runs as, or ran; None where it never began, or the claim does not say."""
        return workroot.claimants(os.fsencode(folder), tasks)


def untrusted(path: str, why: str) -> ConfigurationError:
    """The error for a work folder that cannot be used."""
    return ConfigurationError(
        f"the work folder cannot be used: {path!r} {why}. Set JOBYARD_WORK_DIR to a folder that only you can change, "
        "and that the compute nodes see"
    )
