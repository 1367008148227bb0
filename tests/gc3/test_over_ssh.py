"""Tasks on a login host: everything goes over the connection; the program's own machine keeps the records."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gc3.awaiting import asked, ended, gated, reached, run
from gc3.conftest import over_ssh
from gc3.standin_backend import BulkSystem, StandinSystem, application, resource
from gc3.test_engine_backends import StandinLrms, made
from gc3libs import Run
from gc3libs.backends.transport import SshTransport
from gc3libs.exceptions import LRMSSubmitError, TransportError
from jobyard.testing.polling import eventually
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


# The connection -------------------------------------------------------------------------------------------------------------


def test_resources_and_threads_share_one_connection(cell: Cell, sshd: Any, yard: Path, tmp_path: Path) -> None:
    """Three resources of one login, with tasks of several threads: the server sees one login."""
    before = sshd.log.count("Accepted publickey")
    systems = [resource(cell, BulkSystem, name=f"cluster {number}", **over_ssh(sshd, yard / "work")) for number in range(3)]
    lived: list[int] = []

    def live(system: Any, number: int) -> None:
        app = application(["/bin/sh", "-c", f"exit {number}"], tmp_path / f"{system.name} {number}")
        if run(system, app).exitcode == number:
            system.get_results(app, app.output_dir)
            system.free(app)
            lived.append(number)

    threads = [threading.Thread(target=live, args=(system, number)) for system in systems for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for system in systems:
        system.close()
    assert sorted(lived) == sorted([0, 1, 2, 3] * 3)
    assert sshd.log.count("Accepted publickey") == before + 1


def test_a_hundred_peeks_at_once(cell: Cell, sshd: Any, yard: Path, tmp_path: Path) -> None:
    """More than a server has sessions for one connection (MaxSessions, ten)."""
    system = resource(cell, **over_ssh(sshd, yard / "work"))
    app = application(["/bin/sh", "-c", "echo a line"], tmp_path)
    run(system, app)
    seen: list[bytes] = []

    def peek() -> None:
        stream = io.BytesIO()
        system.peek(app, "out.txt", stream)
        seen.append(stream.getvalue())

    threads = [threading.Thread(target=peek) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    system.close()
    assert seen == [b"a line\n"] * 100


@pytest.mark.parametrize("way", ["put", "get"])
@pytest.mark.parametrize("old", [b"", b"what was there"])
def test_a_link_that_breaks_within_a_file(sshd: Any, tmp_path: Path, way: str, old: bytes) -> None:
    """Its name stands for the whole file, for the old one, or for none: never for a part."""
    source, target = tmp_path / "source", tmp_path / "to" / "target"
    source.write_bytes(b"0123456789abcdef" * 4_000_000)
    target.parent.mkdir()
    if old:
        target.write_bytes(old)
    with SshTransport("bed", ssh_config=str(sshd.config)) as transport:
        transport.connect()
        stopped = threading.Event()
        cut: list[int] = []

        def watch() -> None:
            while not stopped.is_set():
                sizes = [path.lstat().st_size for path in target.parent.iterdir() if path.name != "target"]
                if sizes and max(sizes) > 8_000_000:
                    cut.append(max(sizes))
                    transport.inner.connection.abort()  # type: ignore[attr-defined]
                    return

        def broken() -> bool:
            thread = threading.Thread(target=watch)
            thread.start()
            try:
                getattr(transport, way)(str(source), str(target), overwrite=True)
            except TransportError:
                return True
            finally:
                stopped.set()
                thread.join()
            return False

        if broken():
            assert cut
            assert (target.read_bytes() if target.exists() else b"") == old
            eventually(lambda: not broken(), "the next connection brings it")
    assert target.read_bytes() == source.read_bytes()
    eventually(lambda: os.listdir(target.parent) == ["target"], "the broken one is cleaned away")  # by the helper, as it ends
