"""Backends for the stand-in, written as users of GC3Pie write theirs: commands as text, parsers with regular expressions."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import gc3libs
from gc3libs import Run
from gc3libs.backends.batch import BatchSystem
from gc3libs.exceptions import UnexpectedJobState
from gc3libs.quantity import GB, Duration, Memory, hours
from gc3libs.utils import sh_quote_safe_cmdline, sh_quote_unsafe_cmdline
from jobyard.testing.standin import Cell

_STATES = {
    "PENDING": Run.State.SUBMITTED,
    "WAITING": Run.State.SUBMITTED,
    "HELD_USER": Run.State.STOPPED,
    "HELD_SYSTEM": Run.State.STOPPED,
    "RUNNING": Run.State.RUNNING,
    "ENDING": Run.State.RUNNING,
    "SUSPENDED": Run.State.STOPPED,
}
_JOBID = re.compile(r"(?P<jobid>[0-9]+)$")


class StandinSystem(BatchSystem):
    """One status command for each job, and accounting."""

    _batchsys_name = "standin"
    _jobid_variables = ("STANDIN_JOB_ID",)
    _commands = ("standin-submit", "standin-queue", "standin-account", "standin-control")
    interpreter = sys.executable

    def __init__(
        self, name: str, architecture: Any, max_cores: Any, max_cores_per_job: Any, max_memory_per_core: Any, max_walltime: Any,
        auth: Any, frontend: str, transport: Any, **extra_args: Any,
    ) -> None:  # fmt: skip
        BatchSystem.__init__(
            self, name, architecture, max_cores, max_cores_per_job, max_memory_per_core, max_walltime, auth, frontend, transport,
            **extra_args,
        )  # fmt: skip
        self._submit = self._get_command_argv("standin-submit")
        self._queue = self._get_command("standin-queue")
        self._account = self._get_command("standin-account")
        self._control = self._get_command("standin-control")

    def _submit_command(self, app: Any) -> tuple[str, str]:
        argv = [*self._submit, f"--name={app.jobname}", f"--cores={app.requested_cores}"]
        if app.stdout:
            argv.append(f"--out={app.stdout}")
        if app.stderr and not app.join:
            argv.append(f"--err={app.stderr}")
        if app.requested_walltime is not None:
            argv.append(f"--walltime={app.requested_walltime.amount('s', float)}")
        return sh_quote_safe_cmdline(argv), sh_quote_unsafe_cmdline(app.arguments)

    def _parse_submit_output(self, stdout: str) -> str:
        return self.get_jobid_from_submit_output(stdout, _JOBID)

    def _stat_command(self, job: Any) -> str:
        return f"{self._queue} | grep '^{job.lrms_jobid}|'"

    def _parse_stat_output(self, stdout: str, stderr: str) -> Any:
        word = stdout.split("|")[1]
        if word not in _STATES:  # it has ended
            return self._stat_result(Run.State.TERMINATING, None)
        return self._stat_result(_STATES[word], None)

    def _acct_command(self, job: Any) -> str | None:
        return f"echo {job.lrms_jobid} | {self._account} - | grep '^{job.lrms_jobid}|'"

    def _parse_acct_output(self, stdout: str, stderr: str) -> dict[str, Any]:
        fields = stdout.strip().split("|")
        word, code, signal = fields[1:4]
        if word in _STATES:
            raise UnexpectedJobState(word)
        found: dict[str, Any] = {"standin_state": word, "cores": 1, "termstatus": (int(signal or 0), int(code or 0))}
        if word in ("CANCELLED", "TIMEOUT"):
            found["termstatus"] = (Run.Signals.RemoteKill, 75)
        if word == "NODE_FAIL":
            found["termstatus"] = (Run.Signals.RemoteError, 75)
        if word == "LOST":
            del found["termstatus"]
        if fields[9] and fields[10]:
            found["used_cpu_time"] = Duration(float(fields[9]) + float(fields[10]), unit="s")
        if fields[11]:
            found["max_used_memory"] = Memory(int(fields[11]), unit="KiB")
        return found

    def _cancel_command(self, jobid: str) -> str:
        return f"echo {jobid} | {self._control} cancel -"


class BulkSystem(StandinSystem):
    """The same, with one status command for all jobs."""

    def _stat_all_command(self, jobs: list[Any]) -> str | None:
        return self._queue

    def _parse_stat_all_output(self, stdout: str, stderr: str) -> dict[str, Any]:
        lines = stdout.splitlines()
        if not lines or not re.fullmatch(r"END \d+", lines[-1]):
            raise ValueError("it was cut short")
        rows = [line.split("|") for line in lines[1:-1]]
        return {row[0]: (_STATES.get(row[1], Run.State.TERMINATING), None) for row in rows}


def resource(cell: Cell, kind: type[BatchSystem] = StandinSystem, name: str = "test cluster", **extra: Any) -> Any:
    """A resource whose commands are a cell's."""
    commands = {f"standin-{verb}": str(cell.bin / f"standin-{verb}") for verb in ("submit", "queue", "account", "control")}
    commands = {key: sh_quote_safe_cmdline([value]) for key, value in commands.items()}
    arguments = {
        "name": name, "architecture": {Run.Arch.X86_64}, "max_cores": 8, "max_cores_per_job": 4, "max_memory_per_core": 2 * GB,
        "max_walltime": 8 * hours, "auth": None, "frontend": "localhost", "transport": "local",
    }  # fmt: skip
    return kind(**{**arguments, **commands, **extra})


def application(arguments: Any, folder: Path, inputs: Any = (), outputs: Any = (), **extra: Any) -> gc3libs.Application:
    """An application with its streams in files of its own."""
    return gc3libs.Application(arguments, inputs, outputs, folder, **{"stdout": "out.txt", "stderr": "err.txt", **extra})
