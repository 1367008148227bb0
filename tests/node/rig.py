"""Runs real shepherds: a work root, an interpreter, and folders that are started as a scheduler would start them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobyard.description import describe
from jobyard.job import JobDescription, Observation
from jobyard.receipts import read_receipts
from jobyard.schedulers.base import Kind, Submission, Traits
from jobyard.script import WorkRoot, new_token, render

THIS = os.path.realpath(sys.executable)
OLDEST = os.path.expanduser("~/.pyenv/versions/3.6.15/bin/python3")  # where it is found; the tests then run on it too
INTERPRETERS = [THIS, *([OLDEST] if os.path.exists(OLDEST) else [])]
TRAITS = Traits(native_id_variables=("RIG_ID",), index_variables=("RIG_INDEX",), variables=("RIG_", "RIGGED"))
NODE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "USER": "rig", "LOGNAME": "rig", "SHELL": "/bin/sh"}


class Placed(msgspec.Struct, frozen=True):
    """A job's folder, ready to be started."""

    folder: Path
    token: str
    nonce: str
    interpreter: str

    def start(
        self, native_id: str | None = "17", *, env: Mapping[str, str] | None = None, argument: str | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """run.sh in a session of its own, as a scheduler starts it; the environment is NODE's and this."""
        full = {**NODE, **(env or {})}
        if native_id is not None:
            full["RIG_ID"] = native_id
        words = [str(self.folder / "run.sh"), *([] if argument is None else [argument])]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(words, env=full, start_new_session=True, **options)

    def finish(self, process: subprocess.Popen[bytes]) -> Run:
        """Wait for it, and read what it left."""
        stdout, stderr = process.communicate(timeout=60)
        return Run(self.folder, process.returncode, stdout, stderr, self.receipts())

    def run(self, native_id: str | None = "17", **options: Any) -> Run:
        """Start it and wait for it."""
        return self.finish(self.start(native_id, **options))

    def receipts(self) -> list[tuple[int, Observation]]:
        """Its receipts, as the engine reads them."""
        return read_receipts(str(self.folder), nonce=self.nonce, token=self.token)

    def begun(self) -> bool:
        return any(name.endswith(".begin.json") for name in os.listdir(self.folder))


class Run(msgspec.Struct, frozen=True):
    """What one shepherd did. ``code``: as the scheduler sees it (negative: signal)."""

    folder: Path
    code: int
    out: bytes
    err: bytes
    receipts: list[tuple[int, Observation]]

    @property
    def end(self) -> Observation:
        """The only end receipt."""
        (found,) = [observation for _, observation in self.receipts if observation.what == "end"]
        assert found.ending is not None
        return found

    @property
    def kinds(self) -> list[str]:
        return [observation.what for _, observation in self.receipts]

    def stdout(self, name: str = "stdout") -> bytes:
        return (self.folder / name).read_bytes()


class Rig:
    """A work root below a folder, and an interpreter for it."""

    def __init__(self, folder: Path, interpreter: str = THIS) -> None:
        self.folder = folder
        self.interpreter = interpreter
        self.home = folder / "home"
        self.home.mkdir()
        self.root = WorkRoot(str(folder / "work"))
        self.shepherd = self.root.deploy()

    def close(self) -> None:
        self.root.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def place(
        self,
        command: Any,
        /,
        *,
        kind: Kind = Kind.SINGLE,
        indices: Sequence[int] = (),
        traits: Traits = TRAITS,
        tasks: Sequence[JobDescription] | None = None,
        environment_base: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Placed:
        """A folder of a job, whose directory is ``home`` unless told otherwise."""
        if not isinstance(command, JobDescription):
            fields.setdefault("directory", str(self.home))
        description = describe(command, **fields)
        token, nonce = new_token(), new_token()
        submission = Submission(
            token=token, folder=self.root.folder(token), description=description, kind=kind, indices=tuple(indices)
        )
        files = render(
            submission,
            traits,
            ["#RIG first", "#RIG second"],
            nonce=nonce,
            shepherd=self.shepherd,
            interpreter=self.interpreter,
            tasks=tasks,
            environment_base=environment_base,
        )
        return Placed(Path(self.root.create(token, files)), token, nonce, self.interpreter)

    def run(self, command: Any, /, **fields: Any) -> Run:
        """Place it and run it."""
        return self.place(command, **fields).run()

    def sh(self, text: str, /, **fields: Any) -> Run:
        """Run ``sh -c TEXT``."""
        return self.run(["/bin/sh", "-c", text], **fields)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """End what a test left running."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
