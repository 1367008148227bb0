"""Cells of the stand-in: a folder with its programs, its server and its jobs; and what tests may tell it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...errors import NoScheduler
from ...schedulers.command import CommandOptions, CommandScheduler
from ...transports.local import LocalTransport
from .dialect import StandinDialect

__all__ = ["Cell", "install", "open_standin", "standin_scheduler"]

_PROGRAMS = Path(__file__).parent / "programs"
_COMMANDS = (*StandinDialect.programs, "standin-admin")
_MODULES = ("__init__.py", "client.py", "faults.py", "jobs.py", "machine.py", "server.py")


class Cell:
    """One stand-in scheduler, in a folder. Its server starts with the first command and ends when idle, or by ``stop``."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(os.path.abspath(folder))

    @property
    def bin(self) -> Path:
        """The folder of its programs, for PATH."""
        return self.folder / "bin"

    @property
    def contact(self) -> str:
        """Opens a session on it."""
        from ...contact import Contact

        return str(Contact(scheduler="standin", options={"cell": str(self.folder)}))

    def environment(self) -> dict[str, str]:
        """PATH with its programs first."""
        return {"PATH": f"{self.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}

    def configure(self, **config: Any) -> None:
        """Change settings: ``slots``, ``linger_s``, ``queue_lag_s``, ``accounting``, ``away``, ... (programs/server.py has all)."""
        self._admin(op="configure", config=config)

    def fault(self, program: str | None, kind: str, *, times: int | None = None, skip: int = 0, **details: Any) -> None:
        """Let calls of a program (None: of any) go wrong: the next ``times`` (None: all until ``clear``), after ``skip`` good ones.

        ``program``: submit, queue, account, control, limits. ``kind``: one of those in programs/faults.py, with its details.
        """
        wrong = self._admin(op="fault", fault={"program": program, "kind": kind, "times": times, "skip": skip, **details})
        if wrong is not None:
            raise ValueError(wrong)

    def clear(self) -> None:
        """No more faults."""
        self._admin(op="clear")

    def faults(self) -> Sequence[Mapping[str, Any]]:
        """Those that are still to happen."""
        return list(self._admin(op="faults"))

    def fault_kinds(self) -> Mapping[str, str]:
        """The kinds of faults, each with what it does."""
        return dict(self._admin(op="kinds"))

    def next_number(self, number: int) -> None:
        """The native id of the next submission; one that was used before is used again."""
        self._admin(op="number", number=number)

    def operate(self, action: str, *ids: str) -> list[str]:
        """What an operator does: ``hold``, ``release``, ``cancel``, ``requeue`` (of any job), ``fail-node``. The answer's lines."""
        return list(self._admin(op="operate", action=action, ids=list(ids)))

    def jobs(self) -> Mapping[str, tuple[str, int, str]]:
        """The truth about all jobs, by native id: the state's word, how often it was begun, its folder."""
        return {job_id: (state, runs, folder) for job_id, (state, runs, folder) in self._admin(op="jobs").items()}

    def crash(self) -> None:
        """``kill -9`` of the server. Its jobs run on; the next command starts another, which cannot learn how they end."""
        pid = self._pid()
        if pid is not None:
            with _following(pid) as ended:
                os.kill(pid, signal.SIGKILL)
                ended.wait()

    def stop(self) -> None:
        """End the server and all its jobs. What was kept stays in the folder."""
        pid = self._pid()
        if pid is None:
            return
        with _following(pid) as ended:
            self._admin(op="stop")
            ended.wait()

    def remove(self) -> None:
        """Stop, and remove the folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _pid(self) -> int | None:
        """The server that runs now."""
        try:
            pid = int((self.folder / "server.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return None
        return pid if os.fsencode(self.folder) in words else None

    def _admin(self, **request: Any) -> Any:
        result = subprocess.run(
            [self.bin / "standin-admin", "-"], input=json.dumps(request).encode(), capture_output=True, check=False
        )
        if result.returncode != 0:
            raise RuntimeError(f"the stand-in in {self.folder} does not answer: {result.stderr.decode(errors='replace')}")
        return json.loads(result.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


class _following:
    """Waits for the end of a process that is not our child."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def wait(self, timeout_s: float = 30.0) -> None:
        import select

        if not select.select([self._fd], [], [], timeout_s)[0]:
            raise TimeoutError(f"the stand-in's server did not end within {timeout_s:g} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        os.close(self._fd)


def install(folder: str | os.PathLike[str], **config: Any) -> Cell:
    """Put the stand-in into a folder, which is made; the settings as in ``Cell.configure``. Nothing runs yet."""
    cell = Cell(folder)
    library = cell.folder / "lib"
    for path in (cell.folder, cell.bin, library, library / "programs"):
        path.mkdir(mode=0o700, exist_ok=True)
    for name in _MODULES:
        shutil.copyfile(_PROGRAMS / name, library / "programs" / name)
    start = f"import sys\nsys.path.insert(0, {str(library)!r})\n"
    (library / "serve.py").write_text(f"{start}from programs.server import main\nmain()\n")
    for name in _COMMANDS:  # a few lines each, so that what they share is compiled once
        program = cell.bin / name
        program.write_text(
            f"#!{os.path.realpath(sys.executable)} -IS\n{start}from programs.client import run\nrun({str(cell.folder)!r})\n"
        )
        program.chmod(0o700)
    if config:
        (cell.folder / "config.json").write_text(json.dumps(config))
    return cell


def standin_scheduler(cell: Cell, options: CommandOptions | None = None) -> CommandScheduler:
    """The scheduler of a cell."""
    transport = LocalTransport(environment=cell.environment())
    return CommandScheduler(StandinDialect(), transport, options or CommandOptions(interpreter=os.path.realpath(sys.executable)))


def open_standin(state_dir: Path, options: Mapping[str, str]) -> CommandScheduler:
    """What the table of schedulers calls: ``standin?cell=/path``; without it, the cell whose programs are on PATH."""
    folder = options.get("cell")
    if folder is None:
        program = shutil.which("standin-submit")
        if program is None:
            raise NoScheduler(f"standin: standin-submit is not on PATH; {StandinDialect.hint}, or name one: standin?cell=/path")
        folder = os.path.dirname(os.path.dirname(os.path.realpath(program)))
    cell = Cell(folder)
    if not (cell.bin / "standin-submit").exists():
        raise NoScheduler(f"standin: there is no cell in {cell.folder}; {StandinDialect.hint}")
    return standin_scheduler(cell)
