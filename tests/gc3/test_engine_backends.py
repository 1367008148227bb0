"""Backends on the engine's own dialects, tried on the stand-in's; and which scheduler each of the ready ones speaks to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gc3.awaiting import ended, gated, reached, run
from gc3.standin_backend import application
from gc3libs import Application, Run
from gc3libs.backends._engine import EngineSystem
from gc3libs.backends.lsf import LsfLrms
from gc3libs.backends.pbs import PbsLrms
from gc3libs.backends.sge import SgeLrms
from gc3libs.backends.slurm import SlurmLrms
from gc3libs.exceptions import InvalidType, InvalidValue, LRMSError
from gc3libs.quantity import GB, Duration, Memory, hours
from jobyard import Session
from jobyard.testing.polling import eventually
from jobyard.testing.standin import Cell

Make = Callable[..., Any]


class StandinLrms(EngineSystem):
    """What a ready backend for the stand-in would be."""

    _scheduler = "standin"
    _commands = ("standin-submit", "standin-queue", "standin-account", "standin-control")
    interpreter = sys.executable


def made(kind: Any, **extra: Any) -> Any:
    arguments = {
        "name": "ready", "architecture": "x86_64", "max_cores": 8, "max_cores_per_job": 4, "max_memory_per_core": 2 * GB,
        "max_walltime": 8 * hours, "auth": None, "frontend": "localhost", "transport": "local",
    }  # fmt: skip
    return kind(**{**arguments, **extra})


@pytest.fixture
def ready(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes backends on the cell."""
    systems: list[Any] = []
    monkeypatch.setenv("PATH", f"{cell.bin}:{os.environ['PATH']}")

    def one(**extra: Any) -> Any:
        systems.append(made(StandinLrms, **extra))
        return systems[-1]

    yield one
    for system in systems:
        system.close()


def test_a_whole_life(ready: Make, tmp_path: Path) -> None:
    system = ready(prologue_content="echo prologue", epilogue_content='echo "epilogue $JOBYARD_NATIVE_ID"')
    (tmp_path / "in").write_text("data\n")
    app = Application(
        ["/bin/sh", "-c", 'cat in; printf "%s|" "$@" >&2', "sh", "$HOME", "a  b", ""],
        [tmp_path / "in"],
        ["in"],
        tmp_path / "o",
        jobname="x",
    )
    record = run(system, app)
    assert (record.returncode, record.stdout_filename) == (0, f"x.o{record.lrms_jobid}")
    app.outputs.update(Application(["x"], [], [("x.out", "out"), ("x.err", "err")], "").outputs)
    system.get_results(app, tmp_path / "o")
    assert (tmp_path / "o" / "out").read_text() == f"prologue\ndata\nepilogue {record.lrms_jobid}\n"
    assert (tmp_path / "o" / "err").read_text() == "$HOME|a  b||"  # nothing is expanded
    system.free(app)
    assert not os.path.exists(record.ssh_remote_folder)


@pytest.mark.parametrize(
    ("script", "expected"),
    [("exit 137", (0, 137)), ("kill -9 $$", (9, 255)), ("kill -SEGV $$", (11, 255)), ("sleep 60", (Run.Signals.RemoteKill, 75))],
)
def test_endings_are_exact(ready: Make, tmp_path: Path, script: str, expected: tuple[int, int]) -> None:
    app = application(["/bin/sh", "-c", script], tmp_path, requested_walltime=Duration("1s") if "sleep" in script else None)
    record = run(ready(), app)
    assert (record.signal, record.exitcode) == expected


def test_what_cannot_start(ready: Make, tmp_path: Path) -> None:
    record = run(ready(), application(["/no/such/program"], tmp_path))
    assert (record.signal, record.exitcode) == (Run.Signals.RemoteError, 69)
    assert "/no/such/program" in str(record.history)
    record = run(ready(prologue_content="exit 7"), application(["/bin/true"], tmp_path))
    assert (record.signal, record.exitcode) == (Run.Signals.RemoteError, 7)


def test_resources_reach_the_scheduler(ready: Make, tmp_path: Path) -> None:
    system = ready()
    app = application(
        ["/bin/true"], tmp_path, requested_cores=2, requested_memory=Memory("1 GiB"), requested_walltime=Duration("30s")
    )
    described = system._described(app)
    assert (described.resources.cores, described.resources.memory_bytes, described.limits.walltime_s) == (2, 2**30, 30.0)
    assert run(system, app).returncode == 0
    with pytest.raises(LRMSError, match="cores 5"):
        system.submit_job(application(["/bin/true"], tmp_path, requested_cores=5))


def test_five_hundred_tasks_cost_two_commands_a_poll(ready: Make, cell: Cell, tmp_path: Path) -> None:
    cell.configure(slots=2)
    system = ready()
    blockers = [application(gated(tmp_path), tmp_path) for _ in range(2)]
    apps = [*blockers, *[application(["/bin/true"], tmp_path) for _ in range(498 if os.environ.get("FULL") == "1" else 118)]]
    for app in apps:
        system.submit_job(app)
    commands = system._linked().session.scheduler.commands_run
    reached(system, blockers[0], Run.State.RUNNING)
    before, seen = commands["query"], dict(commands)
    eventually(lambda: [system.update_job_state(app) for app in apps] and commands["query"] >= before + 2, "it is asked twice")
    asked = commands["query"] - seen["query"] + commands["account"] - seen.get("account", 0)
    assert asked <= 2 * (commands["query"] - before)
    assert {app.execution.state for app in apps} <= {"SUBMITTED", "RUNNING"}
    system.cancel_jobs(apps)
    for app in apps:
        assert ended(system, app).signal == Run.Signals.Cancelled


def test_command_overrides(cell: Cell, tmp_path: Path) -> None:
    """A folder that is not on PATH, and an option for every job."""
    system = made(StandinLrms, **{"standin-submit": f"'{cell.bin}/standin-submit' --hold=user"})
    app = application(["/bin/true"], tmp_path)
    described = system._described(app)
    assert (described.native, system._path) == (("--hold=user",), str(cell.bin))
    system.close()
    for wrong in (
        {"standin-queue": "standin-queue --all"},
        {"standin-submit": "bin/standin-submit"},
        {"standin-submit": "/bin/other"},
    ):
        with pytest.raises(InvalidValue):
            made(StandinLrms, **wrong)


def test_hooks_are_refused(tmp_path: Path) -> None:
    class Mixed(SlurmLrms):
        def _parse_stat_output(self, stdout: str, stderr: str) -> Any:
            return None

    with pytest.raises(InvalidType, match=r"_parse_stat_output.*BatchSystem"):
        made(Mixed)


@pytest.mark.parametrize(
    ("kind", "name", "submit"),
    [(SlurmLrms, "slurm", "sbatch"), (SgeLrms, "gridengine", "qsub"), (PbsLrms, "pbs", "qsub"), (LsfLrms, "lsf", "bsub")],
)
def test_the_ready_ones(yard: Path, tmp_path: Path, kind: Any, name: str, submit: str) -> None:
    system = made(kind, default_pe="smp", queue="long", account="project", **{submit: f"/nowhere/bin/{submit}"})
    app = application(["/bin/true"], tmp_path, requested_cores=2)
    described = system._described(app)
    assert (described.queue, described.account, described.resources.cores) == ("long", "project", 2)
    assert described.attributes == ({"gridengine.pe": "smp"} if kind is SgeLrms else {})
    session: Session = system._linked().session
    assert (session.contact.startswith(f"{name}/"), session.scheduler.name) == (True, name)
    system.close()


def test_cores_without_a_parallel_environment(yard: Path, tmp_path: Path) -> None:
    system = made(SgeLrms, mine_pe="mpi")
    app = application(["/bin/true"], tmp_path, requested_cores=2)
    with pytest.raises(InvalidValue, match="generic_pe"):
        system.submit_job(app)
    app.application_name = "mine"
    assert system._described(app).attributes == {"gridengine.pe": "mpi"}
