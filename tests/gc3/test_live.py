"""On real schedulers: the ready backends, and hooks as users of GC3Pie write them. Collected where JOBYARD_BED names a bed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gc3.awaiting import ended, reached
from gc3.standin_backend import application
from gc3libs import Run
from gc3libs.backends.batch import BatchSystem
from gc3libs.backends.sge import SgeLrms
from gc3libs.backends.slurm import SlurmLrms
from gc3libs.quantity import GB, hours
from gc3libs.utils import sh_quote_safe_cmdline, sh_quote_unsafe_cmdline

BED = os.environ.get("JOBYARD_BED", "")
pytestmark = pytest.mark.skipif(
    not BED.startswith(("slurm", "gridengine")), reason="JOBYARD_BED names no bed of Slurm or Grid Engine"
)


class SlurmHooks(BatchSystem):
    """Slurm by hooks."""

    _states = {  # noqa: RUF012 - as users write it
        "PENDING": Run.State.SUBMITTED, "CONFIGURING": Run.State.SUBMITTED, "RUNNING": Run.State.RUNNING,
        "COMPLETING": Run.State.RUNNING, "SUSPENDED": Run.State.STOPPED,
    }  # fmt: skip

    def _submit_command(self, app: Any) -> tuple[str, str]:
        submit, program = app.sbatch(self)
        return sh_quote_safe_cmdline(submit), sh_quote_unsafe_cmdline(program)

    def _parse_submit_output(self, stdout: str) -> str:
        return self.get_jobid_from_submit_output(stdout, r"Submitted batch job (?P<jobid>\d+)")

    def _stat_command(self, job: Any) -> str:
        return f"squeue --noheader -o %T -j {job.lrms_jobid}"

    def _parse_stat_output(self, stdout: str, stderr: str) -> Any:
        return self._stat_result(self._states.get(stdout.strip(), Run.State.TERMINATING), None)

    def _acct_command(self, job: Any) -> str:
        return f"sacct --noheader --parsable2 --format jobid,state,exitcode -j {job.lrms_jobid}"

    def _parse_acct_output(self, stdout: str, stderr: str) -> dict[str, Any]:
        for line in stdout.splitlines():
            jobid, state, code = line.split("|")
            if "." not in jobid and state.split()[0] not in self._states:
                exitcode, signal = map(int, code.split(":"))
                cut = state.split()[0] in ("CANCELLED", "TIMEOUT")
                return {"termstatus": (Run.Signals.RemoteKill, 75) if cut else (signal, exitcode)}
        return {}

    def _cancel_command(self, jobid: str) -> str:
        return f"scancel {jobid}"


class SgeHooks(BatchSystem):
    """Grid Engine by hooks."""

    def _submit_command(self, app: Any) -> tuple[str, str]:
        submit, program = app.qsub_sge(self)
        return sh_quote_safe_cmdline(submit), sh_quote_unsafe_cmdline(program)

    def _parse_submit_output(self, stdout: str) -> str:
        return self.get_jobid_from_submit_output(stdout, r"Your job (?P<jobid>\d+) ")

    def _stat_command(self, job: Any) -> str:
        return f"qstat | egrep '^ *{job.lrms_jobid} '"

    def _parse_stat_output(self, stdout: str, stderr: str) -> Any:
        word = stdout.split()[4]
        if "q" in word:
            return self._stat_result(Run.State.STOPPED if "h" in word else Run.State.SUBMITTED, None)
        return self._stat_result(Run.State.STOPPED if set(word) & set("sST") else Run.State.RUNNING, None)

    def _acct_command(self, job: Any) -> str:
        return f"qacct -j {job.lrms_jobid}"

    def _parse_acct_output(self, stdout: str, stderr: str) -> dict[str, Any]:
        fields = dict(re.findall(r"^(\S+) +(.*?) *$", stdout, re.MULTILINE))
        return {"termstatus": Run.shellexit_to_returncode(int(fields["exit_status"].split()[0])), "sge_qname": fields["qname"]}

    def _cancel_command(self, jobid: str) -> str:
        return f"qdel {jobid}"


LONG_S = 280.0  # others' jobs may be first


def run(system: Any, app: Any) -> Any:
    """Submit, and wait for the end."""
    system.submit_job(app)
    return ended(system, app, LONG_S)


@pytest.fixture(params=["hooks", "engine"])
def live(request: pytest.FixtureRequest, yard: Path) -> Iterator[Any]:
    """A resource on the bed."""
    kinds: dict[str, Any] = (
        {"hooks": SlurmHooks, "engine": SlurmLrms} if BED.startswith("slurm") else {"hooks": SgeHooks, "engine": SgeLrms}
    )
    system = kinds[request.param](
        "bed", {"x86_64"}, 4, 2, 2 * GB, 8 * hours, None, "localhost", "local", prologue_content="echo prologue", default_pe="smp"
    )  # fmt: skip
    yield system
    system.close()


def test_a_whole_life(live: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("data\n")
    app = application(["/bin/sh", "-c", "cat in; echo error >&2; exit 3"], tmp_path, inputs=[tmp_path / "in"], jobname="gc3")
    record = run(live, app)
    assert (record.signal, record.exitcode) == (0, 3)
    live.get_results(app, tmp_path / "o")
    assert (tmp_path / "o" / "out.txt").read_text() == "prologue\ndata\n"
    assert "error\n" in (tmp_path / "o" / "err.txt").read_text()
    live.free(app)
    assert not os.path.exists(record.ssh_remote_folder)


@pytest.mark.timeout(600)
def test_cancelled(live: Any, tmp_path: Path) -> None:
    app = application(["/bin/sleep", "300"], tmp_path)
    live.submit_job(app)
    reached(live, app, Run.State.RUNNING, timeout_s=LONG_S)
    assert live.cancel_job(app) == "cancelled"
    assert ended(live, app, LONG_S).signal == Run.Signals.Cancelled


def test_streams_without_names(live: Any, tmp_path: Path) -> None:
    from gc3libs import Application

    app = Application(["/bin/echo", "hello"], [], [], tmp_path, jobname="gc3")
    record = run(live, app)
    name = (
        record.stdout_filename
        if os.path.exists(f"{record.ssh_remote_folder}/{record.stdout_filename}")
        else f"slurm-{record.lrms_jobid}.out"
    )
    live.peek(app, name, tmp_path / "seen")
    assert (tmp_path / "seen").read_text() == "prologue\nhello\n"
