"""Schedulers that are away, lie, or say nothing; clients that die: no job is lost, doubled, or called what it is not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gc3.awaiting import ended, gated, reached, run
from gc3.standin_backend import BulkSystem, StandinSystem, application
from gc3libs import Run
from gc3libs.exceptions import LRMSError, LRMSSubmitError, TransportError
from jobyard.testing.polling import eventually
from jobyard.testing.standin import Cell
from jobyard.transports.base import Copy

Make = Callable[..., Any]
HERE = Path(__file__).parent


def queries(system: Any) -> int:
    return int(system._linked().session.scheduler.commands_run["query"])


def asked(system: Any, app: Any, times: int) -> None:
    """Poll until the scheduler was asked so many times more."""
    before = queries(system)
    eventually(lambda: system.update_job_state(app) and queries(system) >= before + times, "it is asked")


@pytest.mark.parametrize("kind", ["exit", "garbage", "empty", "truncated", "wrong_ids", "vanish"])
def test_a_query_that_fails_changes_no_state(either: Any, cell: Cell, tmp_path: Path, kind: str) -> None:
    app = application(gated(tmp_path, 3), tmp_path)
    either.submit_job(app)
    reached(either, app, Run.State.RUNNING)
    details: dict[str, Any] = {"exit": {"code": 1, "text": "slurm_load_jobs error: Unable to contact"}, "truncated": {"keep": 0.3}}
    cell.fault("queue", kind, **details.get(kind, {}))
    asked(either, app, 4)
    assert app.execution.state == Run.State.RUNNING
    cell.clear()
    (tmp_path / "gate").touch()
    assert ended(either, app).exitcode == 3


def test_a_status_command_that_hangs_delays_nobody(make: Make, cell: Cell, tmp_path: Path) -> None:
    system = make()
    first = application(gated(tmp_path), tmp_path)
    system.submit_job(first)
    reached(system, first, Run.State.RUNNING)
    cell.fault("queue", "hang", times=1)
    eventually(lambda: system.update_job_state(first) and cell.faults() == [], "it hangs")
    assert run(system, application(["/bin/sh", "-c", "exit 4"], tmp_path)).exitcode == 4
    assert system.cancel_job(first) == "cancelled"


def test_an_outage_with_accounting(system: Any, cell: Cell, tmp_path: Path) -> None:
    """All of it away while jobs run and end; nothing changes until it is back, or a receipt says it all."""
    apps = [application(gated(tmp_path, code), tmp_path) for code in (0, 7)]
    for app in apps:
        system.submit_job(app)
        reached(system, app, Run.State.RUNNING)
    cell.configure(away=True)
    asked(system, apps[0], 2)
    assert [app.execution.state for app in apps] == ["RUNNING", "RUNNING"]
    with pytest.raises(LRMSSubmitError, match="cannot contact"):
        system.submit_job(application(["/bin/true"], tmp_path))
    (tmp_path / "gate").touch()
    assert [ended(system, app).exitcode for app in apps] == [0, 7]
    cell.configure(away=False)


def test_two_blips_are_no_loss(make: Make, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grace begins again with every sighting: absences that are far apart do not add up."""
    monkeypatch.setattr("jobyard.verdict.GRACE_S", 3.0)
    system = make()
    app = application(gated(tmp_path), tmp_path)
    system.submit_job(app)
    reached(system, app, Run.State.RUNNING)
    for _ in range(2):
        cell.fault("queue", "vanish", times=2)
        eventually(lambda: system.update_job_state(app) and cell.faults() == [], "it is not shown twice")
        asked(system, app, 1)
        assert app.execution.state == Run.State.RUNNING
    (tmp_path / "gate").touch()
    assert ended(system, app).returncode == 0


def test_a_job_without_a_trace_is_lost(make: Make, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobyard.verdict.GRACE_S", 1.0)
    cell.configure(accounting=False)
    system = make()
    app = application(gated(tmp_path), tmp_path)
    system.submit_job(app)
    reached(system, app, Run.State.RUNNING)
    cell.fault("queue", "vanish")
    record = ended(system, app)
    assert (record.signal, record.exitcode) == (Run.Signals.Lost, 75)
    (tmp_path / "gate").touch()


def test_accounting_delay_is_counted_from_the_disappearance(
    make: Make, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A longer one than the engine's patience puts the loss off."""
    monkeypatch.setattr("jobyard.verdict.GRACE_S", 0.5)
    monkeypatch.setattr("gc3libs.backends._scheduler._GRACE_S", 0.5)
    cell.configure(accounting=False)
    system = make(accounting_delay=600)
    app = application(gated(tmp_path), tmp_path)
    system.submit_job(app)
    reached(system, app, Run.State.RUNNING)
    cell.fault("queue", "vanish")
    asked(system, app, 4)
    assert app.execution.state == Run.State.RUNNING
    system.accounting_delay = 0.0
    assert ended(system, app).signal == Run.Signals.Lost
    (tmp_path / "gate").touch()


def test_accounting_that_lags(make: Make, cell: Cell, tmp_path: Path) -> None:
    """It still shows the job as running after it was shot: that is no ending, and its own word comes later."""

    class Lagging(StandinSystem):
        late = 2

        def _parse_acct_output(self, stdout: str, stderr: str) -> dict[str, Any]:
            if Lagging.late:
                Lagging.late -= 1
                return super()._parse_acct_output(stdout.replace("TIMEOUT", "RUNNING"), stderr)
            return super()._parse_acct_output(stdout, stderr)

    from gc3libs.quantity import seconds

    record = run(make(Lagging), application(["/bin/sleep", "60"], tmp_path, requested_walltime=1 * seconds))
    assert (Lagging.late, record.signal) == (0, Run.Signals.RemoteKill)


@pytest.mark.parametrize("hook", ["_parse_stat_output", "_parse_acct_output", "_stat_command"])
def test_a_hook_that_raises_changes_nothing(make: Make, tmp_path: Path, hook: str) -> None:
    class Broken(StandinSystem):
        pass

    def fail(self: Any, *arguments: Any) -> Any:
        raise AssertionError("a parser of somebody else's")

    setattr(Broken, hook, fail)
    system = make(Broken)
    app = application(gated(tmp_path, 5), tmp_path)
    system.submit_job(app)
    reached(system, app, Run.State.RUNNING)
    (tmp_path / "gate").touch()
    assert ended(system, app).exitcode == 5


# Submission -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["die_after", "mute"])
def test_an_answer_that_is_lost(system: Any, cell: Cell, tmp_path: Path, yard: Path, fault: str) -> None:
    """Accepted, and nothing that can be read was printed: the job runs at most once, and the caller knows which."""
    cell.fault("submit", fault, times=1)
    app = application(["/bin/sh", "-c", f"echo x >> '{tmp_path}/runs'"], tmp_path)
    try:
        system.submit_job(app)
    except LRMSError:
        assert "lrms_jobid" not in app.execution
        expected = ""
    else:
        assert ended(system, app).returncode == 0
        expected = "x\n"
    assert ((tmp_path / "runs").read_text() if (tmp_path / "runs").exists() else "") == expected
    assert run(system, application(["/bin/true"], tmp_path)).returncode == 0


def test_an_id_that_is_none(make: Make, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes into command lines is checked."""
    monkeypatch.setattr("jobyard.submission.UNANSWERED_S", 1.0)

    class Careless(StandinSystem):
        def _parse_submit_output(self, stdout: str) -> str:
            return f"{stdout.strip()}; touch {tmp_path}/injected"

    cell.configure(slots=1)
    blocker = make()
    app = application(gated(tmp_path), tmp_path)
    blocker.submit_job(app)
    with pytest.raises(LRMSError, match="cannot be the id of a job"):
        make(Careless).submit_job(application(["/bin/touch", f"{tmp_path}/ran"], tmp_path))
    (tmp_path / "gate").touch()
    assert ended(blocker, app).returncode == 0
    assert run(blocker, application(["/bin/true"], tmp_path)).returncode == 0
    assert not (tmp_path / "injected").exists()
    assert not (tmp_path / "ran").exists()


def test_a_banner_around_the_id(system: Any, cell: Cell, tmp_path: Path) -> None:
    cell.fault("submit", "noise", times=1)
    assert run(system, application(["/bin/true"], tmp_path)).lrms_jobid == "1"


@pytest.mark.parametrize("number", [28, 122], ids=["disk", "quota"])
def test_a_full_disk_there(
    system: Any, cell: Cell, yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """In the middle of the inputs: the sandbox goes, the task stays as it was, and says why."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    inner = system.transport.inner
    put_many = inner.put_many

    def full(copies: Sequence[Copy]) -> None:
        put_many([one for one in copies if not one.source.endswith("b")])
        raise OSError(number, os.strerror(number), next(one.target for one in copies if one.source.endswith("b")))

    app = application(["/bin/true"], tmp_path, inputs=[tmp_path / "a", tmp_path / "b"])
    monkeypatch.setattr(inner, "put_many", full)
    with pytest.raises(LRMSSubmitError, match=os.strerror(number)):
        system.submit_job(app)
    assert list((yard / "work").glob("jobyard-*/??/*")) == []
    assert (app.execution.state, cell.jobs()) == (Run.State.NEW, {})
    monkeypatch.setattr(inner, "put_many", put_many)
    assert run(system, app).returncode == 0


def test_commands_that_are_not_there(make: Make, tmp_path: Path) -> None:
    with pytest.raises(LRMSSubmitError, match="127"):
        make(**{"standin-submit": "/no/such/qsub -A x"}).submit_job(application(["/bin/true"], tmp_path))


def test_a_spool_folder_of_somebody_elses(make: Make, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(LRMSError, match="can be changed by others"):
        make(spooldir=str(tmp_path / "open")).submit_job(application(["/bin/true"], tmp_path))
    with pytest.raises(LRMSError, match="no absolute path"):
        make(spooldir="$NOWHERE/x").submit_job(application(["/bin/true"], tmp_path))


# Clients that die -------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(1000)
def test_killed_at_any_line_every_task_runs_once(cell: Cell, tmp_path: Path) -> None:
    """``kill -9`` of the client anywhere in submit_job; the next process submits the same kept task again."""
    rounds = 150 if os.environ.get("FULL") == "1" else 25
    argv = [sys.executable, str(HERE / "kill_client.py"), str(cell.folder), str(tmp_path), str(rounds), "7"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr
    killed, labels = done.stdout.split(maxsplit=1)
    assert int(killed) >= rounds // 2
    assert sorted((tmp_path / "runs").read_text().split()) == sorted(labels.split()), done.stderr


def test_two_processes_of_one_resource(make: Make, cell: Cell, tmp_path: Path) -> None:
    """Each follows its own tasks, and both share one session."""
    first, second = make(BulkSystem), make(BulkSystem)
    apps = [(system, application(["/bin/sh", "-c", f"exit {code}"], tmp_path)) for code, system in enumerate((first, second))]
    for system, app in apps:
        system.submit_job(app)
    assert [ended(system, app).exitcode for system, app in apps] == [0, 1]
    assert first._linked().session.contact == second._linked().session.contact


def test_opened_at_the_same_moment_it_is_one_session(make: Make) -> None:
    systems = [make() for _ in range(6)]
    contacts: list[str] = []
    barrier = threading.Barrier(len(systems))

    def open_one(system: Any) -> None:
        barrier.wait()
        contacts.append(system._linked().session.contact)

    threads = [threading.Thread(target=open_one, args=(system,)) for system in systems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(contacts) == 6
    assert len(set(contacts)) == 1


def test_a_stopped_client_hurts_nobody(make: Make, cell: Cell, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a submission: nothing runs twice."""
    cell.fault("submit", "late", times=1, seconds=1.0)
    system = make()
    app = application(["/bin/sh", "-c", f"echo x >> '{tmp_path}/runs'"], tmp_path)
    timer = threading.Timer(0.4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with contextlib.suppress(KeyboardInterrupt):  # it comes while that submits, or, where that fails at once, after it
        timer.start()
        try:
            system.submit_job(app)
        finally:
            timer.join()
    system.submit_job(app)
    ended(system, app)
    assert (tmp_path / "runs").read_text() == "x\n"


def test_the_disk_here_is_full_while_the_host_is_asked(system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = application(["/bin/true"], tmp_path)
    run(system, app)

    def broken(path: str, **options: Any) -> Any:
        raise ConnectionError(104, "Connection reset by peer")

    monkeypatch.setattr(system.transport.inner, "stat", broken)
    with pytest.raises(TransportError, match="reset"):
        system.get_results(app, tmp_path / "o")
