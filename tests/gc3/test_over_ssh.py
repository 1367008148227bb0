"""Tasks on a login host: everything goes over the connection; the program's own machine keeps the records."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gc3.awaiting import asked, ended, gated, reached, run
from gc3.standin_backend import StandinSystem, application, resource
from gc3.test_engine_backends import StandinLrms, made
from gc3libs import Run
from gc3libs.exceptions import LRMSSubmitError
from jobyard.testing.standin import Cell

Make = Callable[..., Any]


@pytest.fixture(params=["hooks", "engine"])
def there(request: pytest.FixtureRequest, cell: Cell, sshd: Any, yard: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A resource whose commands are the cell's, reached over the loopback; its sandboxes lie in a folder of their own."""
    (yard / "there").mkdir()

    class Auth:
        username = None
        port = None
        keyfile = None
        ssh_config = str(sshd.config)
        timeout = 20

    options: dict[str, Any] = {"transport": "ssh", "frontend": "bed", "auth": Auth, "spooldir": str(yard / "there")}
    if request.param == "hooks":
        system = resource(cell, StandinSystem, **options)
    else:
        # The stand-in's adapter looks for its cell here before it is told of the other host.
        monkeypatch.setenv("PATH", f"{cell.bin}:{os.environ['PATH']}")
        system = made(StandinLrms, **options, **{"standin-submit": f"'{cell.bin}/standin-submit'"})
    yield system
    system.close()


def test_a_whole_life(there: Any, tmp_path: Path, yard: Path) -> None:
    (tmp_path / "tree" / "o'dd $name").mkdir(parents=True)
    (tmp_path / "tree" / "o'dd $name" / "x").write_text("from here\n")
    app = application(["/bin/sh", "-c", "cat t/*/x; exit 3"], tmp_path / "o", inputs=[(tmp_path / "tree", "t")], outputs=["t"])
    record = run(there, app)
    assert (record.exitcode, record.execution_target) == (3, "bed")
    assert record.ssh_remote_folder.startswith(str(yard / "there"))
    assert there.get_results(app, tmp_path / "o").missing == []
    assert (tmp_path / "o" / "out.txt").read_text() == "from here\n"
    assert there.cancel_job(app) == "already_finished"
    there.free(app)
    assert not os.path.exists(os.path.dirname(record.ssh_remote_folder))


def test_a_thousand_inputs_take_few_messages(there: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree" / "empty").mkdir(parents=True)
    for number in range(1000):
        (tmp_path / "tree" / f"f{number}").write_bytes(b"x" * 1000)
    there.transport.connect()
    requests = asked(there.transport.inner, monkeypatch)
    app = application(["/bin/sh", "-c", "ls t/empty && ls t | wc -l"], tmp_path / "o", inputs=[(tmp_path / "tree", "t")])
    there.submit_job(app)
    assert len(requests) < 50, requests
    ended(there, app)
    assert there.get_results(app, tmp_path / "o").missing == []
    assert (tmp_path / "o" / "out.txt").read_text().split() == ["1001"]


def test_cancelling_and_another_process(there: Any, tmp_path: Path) -> None:
    app = application(gated(tmp_path) if isinstance(there, StandinSystem) else ["/bin/sleep", "60"], tmp_path)
    there.submit_job(app)
    reached(there, app, Run.State.RUNNING)
    there.close()  # as another process would begin
    assert there.cancel_job(app) == "cancelled"
    assert ended(there, app).signal == Run.Signals.Cancelled


def test_a_refusal_leaves_nothing_there(there: Any, cell: Cell, tmp_path: Path, yard: Path) -> None:
    cell.fault("submit", "refuse", times=1, text="no account")
    (tmp_path / "in").write_text("x")
    with pytest.raises(LRMSSubmitError, match="no account"):
        there.submit_job(application(["/bin/true"], tmp_path, inputs=[tmp_path / "in"]))
    assert list((yard / "there").glob("jobyard-*/??/*")) == []


def test_a_connection_that_is_cut_between_two_calls(there: Any, tmp_path: Path, sshd: Any) -> None:
    app = application(["/bin/sh", "-c", "sleep 1; exit 6"], tmp_path)
    there.submit_job(app)
    for pid in sshd.sessions():
        os.kill(pid, 9)
    assert ended(there, app).exitcode == 6
    for pid in sshd.sessions():
        os.kill(pid, 9)
    assert there.get_results(app, tmp_path / "o").missing == []


def test_programs_are_found_by_their_interpreter(there: Any) -> None:
    assert there.interpreter == sys.executable
