"""The connection to a login host breaks: at any byte, by force, or silently. No job is lost or doubled; silence says nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conformance.yards import private_yard
from jobyard import JobState, Session
from jobyard.contact import Contact
from jobyard.errors import JobyardError, TransportError
from jobyard.node.helper_wire import ERR, RES
from jobyard.testing import standin
from jobyard.testing.polling import assert_gone, eventually
from jobyard.transports.base import Command, CommandTimeout
from jobyard.transports.openssh_errors import HostUnreachable, LinkLost
from jobyard.transports.openssh_link import Link
from transports.sshd import Sshd, children, running_sshd

CUT = Path(__file__).with_name("cut.py")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """State, work and a cell of the stand-in."""
    with private_yard() as folder, standin.install(folder / "cell", slots=8) as cell:
        (folder / "there").mkdir()
        cell.jobs()  # its server runs
        yield folder


@pytest.fixture(scope="module")
def cell(place: Path) -> standin.Cell:
    return standin.Cell(place / "cell")


def contact_of(place: Path, config: Path, work: Path | None = None) -> str:
    options = {
        "cell": str(place / "cell"),
        "path": str(place / "cell" / "bin"),
        "work_dir": str(work or place / "there"),
        "ssh_config": str(config),
        "poll": "0.2",
        "connect_timeout": "60",
    }
    return str(Contact(scheduler="standin", host="bed", options=options))


def cutting_config(sshd: Sshd, folder: Path, way: str, at: int) -> tuple[Path, Path]:
    """ssh's settings with which the first connection breaks there; and the file whose absence says that it did."""
    armed, config = folder / "armed", folder / "config"
    armed.touch()
    proxy = f"{sys.executable} {CUT} {sshd.port} {way} {at} {armed} {folder / 'log'}"
    config.write_text(f"Host *\n    ProxyCommand {proxy}\n" + sshd.config.read_text().partition("\n")[2])
    return config, armed


def one_job(session: Session, runs: Path) -> str | None:
    """Submit a job that says that it ran, and wait for it: its token; None where the submission was refused."""
    try:
        job = session.submit(["/bin/sh", "-c", f'echo "$JOBYARD_JOB_ID" >> {runs}'])
    except JobyardError as error:
        if not error.retryable:
            raise
        return None
    ending = job.wait(timeout=60)
    assert ending.state is JobState.DONE, ending
    return job.token


def traffic(sshd: Sshd, place: Path, folder: Path) -> tuple[int, int]:
    """Bytes up and down of such a session that nothing breaks."""
    config, _ = cutting_config(sshd, folder, "up", 1 << 40)
    with Session(contact_of(place, config, folder / "work")) as session:
        assert one_job(session, folder / "runs") is not None
    eventually((folder / "log").exists, "the proxy ended")
    up, down = (folder / "log").read_text().split()
    return int(up), int(down)


def cut_everywhere(sshd: Sshd, place: Path, cell: standin.Cell, tmp_path: Path, cuts: int) -> None:
    measured = tmp_path / "measured"
    measured.mkdir()
    up, down = traffic(sshd, place, measured)
    before = set(cell.jobs())
    accepted: list[str] = []
    refused = broken = 0
    runs = tmp_path / "runs"
    runs.touch()
    for number in range(cuts):
        way, size = ("up", up) if number % 2 else ("down", down)
        at = max(1, size * (number // 2 + 1) // (cuts // 2 + 1))
        folder = tmp_path / f"cut{number}"
        folder.mkdir()
        config, armed = cutting_config(sshd, folder, way, at)
        with Session(contact_of(place, config, folder / "work")) as session:  # the shepherd is put there anew each time
            token = one_job(session, runs)
            if token is None:
                refused += 1
                # the connection breaks once; a host is not tried again within a second
                token = eventually(partial(one_job, session, runs), "a submission is accepted")
            accepted.append(token)
        broken += not armed.exists()
    ours = {name: told for name, told in cell.jobs().items() if name not in before}
    eventually(lambda: not any(cell.jobs()[name][0] in ("PENDING", "RUNNING") for name in ours), "all jobs ended")
    lines = runs.read_text().split()
    assert sorted(lines) == sorted(accepted), (refused, broken)
    assert broken >= cuts * 0.8, f"only {broken} of {cuts} connections broke"


def test_a_connection_that_breaks_at_any_byte(sshd: Sshd, place: Path, cell: standin.Cell, tmp_path: Path) -> None:
    cut_everywhere(sshd, place, cell, tmp_path, 10)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_fifty_cuts(sshd: Sshd, place: Path, cell: standin.Cell, tmp_path: Path) -> None:
    cut_everywhere(sshd, place, cell, tmp_path, 50)


class Steps:
    """Notes each request of all links, and breaks the link at one: before it is sent, once it is sent, or as its answer comes."""

    def __init__(self, patch: pytest.MonkeyPatch, phase: str) -> None:
        self.phase = phase
        self.at: int | None = None  # the request at which the link breaks, from 0
        self.seen: list[str] = []
        self._lock = threading.Lock()
        self._answer: tuple[Link, int] | None = None
        self._send, self._take = Link.send, Link._take

        def send(link: Link, op: str, *more: Any, **named: Any) -> Any:
            return self.send(link, op, *more, **named)

        def take(link: Link, kind: int, number: int, payload: bytes) -> None:
            self.take(link, kind, number, payload)

        patch.setattr(Link, "send", send)
        patch.setattr(Link, "_take", take)

    def begin(self, at: int | None) -> None:
        """Count from here."""
        with self._lock:
            self.at, self.seen, self._answer = at, [], None

    @property
    def broke(self) -> bool:
        """The link was broken since ``begin``."""
        return self.at is None

    def _cut(self, link: Link) -> None:
        self.at = None
        link.abort(LinkLost("the test broke it"))

    def send(self, link: Link, op: str, *more: Any, **named: Any) -> Any:
        with self._lock:
            here = len(self.seen) == self.at
            self.seen.append(op)
            if here and self.phase == "before":
                self._cut(link)
        pending = self._send(link, op, *more, **named)
        with self._lock:
            if here and self.phase == "sent":
                self._cut(link)
            elif here and self.phase == "answered":
                self._answer = (link, pending.request)
        return pending

    def take(self, link: Link, kind: int, number: int, payload: bytes) -> None:
        with self._lock:
            if self._answer == (link, number) and kind in (RES, ERR):
                self._answer = None
                self._cut(link)
                return
        self._take(link, kind, number, payload)


@pytest.mark.parametrize(
    "phase", [pytest.param("before", marks=pytest.mark.long), "sent", pytest.param("answered", marks=pytest.mark.long)]
)
@pytest.mark.timeout(900)
def test_a_connection_that_breaks_at_each_step(
    sshd: Sshd, place: Path, cell: standin.Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """Whatever was asked for when it broke: nothing is lost, nothing runs twice."""
    before = set(cell.jobs())
    steps, accepted, broken = Steps(monkeypatch, phase), [], []
    runs = tmp_path / "runs"
    runs.touch()
    steps.begin(None)
    with Session(contact_of(place, sshd.config, tmp_path / "whole")) as session:
        accepted.append(one_job(session, runs))
    whole = list(steps.seen)
    assert {"work_open", "work_create", "run", "watch", "work_receipts"} <= set(whole), whole
    # Every day the first request of each kind.
    numbers = list(range(len(whole))) if os.environ.get("FULL") == "1" else [whole.index(op) for op in dict.fromkeys(whole)]
    for number in numbers:
        steps.begin(number)
        with Session(contact_of(place, sshd.config, tmp_path / f"step{number}")) as session:  # the shepherd is put there anew
            token = one_job(session, runs)
            while token is None:  # a host is not tried again within a second
                token = eventually(partial(one_job, session, runs), "a submission is accepted")
            accepted.append(token)
            if steps.broke:
                broken.append(steps.seen[number])
    ours = {name: told for name, told in cell.jobs().items() if name not in before}
    eventually(lambda: not any(cell.jobs()[name][0] in ("PENDING", "RUNNING") for name in ours), "all jobs ended")
    assert sorted(runs.read_text().split()) == sorted(str(token) for token in accepted), (whole, broken)
    assert {"work_open", "work_create", "run"} <= set(broken), broken
    assert len(broken) >= len(numbers) * 0.6, (whole, broken)


def ssh_of(session_or_transport: object) -> int:
    """The process id of the ssh that a transport runs."""
    transport = getattr(getattr(session_or_transport, "scheduler", None), "transport", session_or_transport)
    link = transport.connection._link  # type: ignore[attr-defined]
    assert link is not None
    return int(link._process.pid)


def test_jobs_go_on_where_ssh_is_killed(sshd: Sshd, place: Path, tmp_path: Path) -> None:
    """The end of a job whose connection broke while it ran is told over the next one."""
    gate = tmp_path / "gate"
    with Session(contact_of(place, sshd.config)) as session:
        job = session.submit(["/bin/sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.02; done; exit 7"])
        states: list[JobState] = []
        watch = session.watch(lambda _job, transition: states.append(transition.state), [job])
        eventually(lambda: job.state is JobState.RUNNING, "it runs")
        os.kill(ssh_of(session), signal.SIGKILL)
        assert job.state is JobState.RUNNING
        gate.touch()
        assert job.wait(timeout=60).exit_code == 7
        eventually(lambda: JobState.FAILED in states, "its end is told to who watches, too")
        watch.close()
    assert states[-1] is JobState.FAILED
    assert states.count(JobState.FAILED) == 1


def test_silence_changes_no_state(place: Path, tmp_path: Path) -> None:
    """A login host that is away for a while: the job stays as it was, its end comes when the host is back."""
    gate = tmp_path / "gate"
    with running_sshd() as server, Session(contact_of(place, server.config)) as session:
        job = session.submit(["/bin/sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.02; done"])
        session.watch(lambda _job, _transition: None, [job])
        eventually(lambda: job.state is JobState.RUNNING, "it runs")
        port = server.port
        server.stop()
        gate.touch()
        with pytest.raises(TimeoutError):
            job.wait(timeout=3)
        assert job.state is JobState.RUNNING
        with pytest.raises(TransportError) as caught:
            session.submit(["/bin/true"])
        assert caught.value.retryable
        server.start(port=port)
        assert job.wait(timeout=90).state is JobState.DONE


def test_a_silent_link_is_given_up(sshd: Sshd, tmp_path: Path) -> None:
    """The server's process is stopped: nothing comes any more, and nothing is closed."""
    before = set(sshd.sessions())
    transport = sshd.transport(alive_s=1.0, dead_s=2.0)
    try:
        transport.link()
        (mine,) = set(sshd.sessions()) - before
        stopped = [mine, *children(mine)]
        stopped = [pid for pid in stopped if b"sshd" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(LinkLost):
                transport.run(Command(argv=("/bin/true",)))
            assert time.monotonic() - began < 60
            assert transport.run(Command(argv=("/bin/echo", "again"))).stdout == b"again\n"
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
    finally:
        transport.close()


def test_what_ran_is_ended_with_the_link_unless_it_must_finish(sshd: Sshd, tmp_path: Path) -> None:
    ends: list[BaseException] = []

    def run(transport: object, name: str, finish: bool) -> None:
        gate, done = tmp_path / f"gate.{name}", tmp_path / f"done.{name}"
        script = f"echo $$ > {gate}; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo > {done}; sleep 600"
        try:
            transport.run(Command(argv=("/bin/sh", "-c", script), finish=finish, timeout_s=120))  # type: ignore[attr-defined]
        except (LinkLost, CommandTimeout) as error:
            ends.append(error)

    transport = sshd.transport()
    try:
        pids = {}
        threads = []
        for name, finish in (("submission", True), ("question", False)):
            os.mkfifo(tmp_path / f"gate.{name}")
            threads.append(threading.Thread(target=run, args=(transport, name, finish)))
            threads[-1].start()
            pids[name] = int((tmp_path / f"gate.{name}").read_text())
        os.kill(ssh_of(transport), signal.SIGKILL)
        for thread in threads:
            thread.join(90)
        assert [type(error) for error in ends] == [LinkLost, LinkLost]
        assert_gone(pids["question"])
        (tmp_path / "go").touch()
        eventually((tmp_path / "done.submission").exists, "the submission went on")
        assert not (tmp_path / "done.question").exists()
        os.killpg(pids["submission"], signal.SIGKILL)
    finally:
        transport.close()


def test_a_killed_client_leaves_nothing_behind(sshd: Sshd, tmp_path: Path) -> None:
    """kill -9: the helper, ssh and the command that ran are gone."""
    before = set(sshd.sessions())
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = (
        "import sys\n"
        "from jobyard.transports.openssh import OpenSSHTransport, Settings\n"
        "from jobyard.transports.base import Command\n"
        "transport = OpenSSHTransport(Settings(host='bed', config=sys.argv[1], connect_s=60.0))\n"
        "transport.run(Command(argv=('/bin/sh', '-c', 'echo $$ > ' + sys.argv[2] + '; sleep 600'), timeout_s=600))\n"
    )
    client = subprocess.Popen([sys.executable, "-c", program, str(sshd.config), str(gate)], start_new_session=True)
    command = int(gate.read_text())
    client.kill()
    client.wait()
    assert_gone(command)
    eventually(lambda: not set(sshd.sessions()) - before, "the session ended")


def test_a_host_that_is_away_is_told_and_tried_again(tmp_path: Path) -> None:
    with running_sshd() as server:
        transport = server.transport()
        try:
            port = server.port
            server.stop()
            with pytest.raises(HostUnreachable, match="Connection refused"):
                transport.stat("/")
            with pytest.raises(HostUnreachable, match="a moment ago"):
                transport.stat("/")
            server.start(port=port)
            eventually(lambda: answers(transport), "it answers")
        finally:
            transport.close()


def answers(transport: object) -> bool:
    try:
        transport.stat("/")  # type: ignore[attr-defined]
    except HostUnreachable:
        return False
    return True


def test_a_watch_goes_on_over_the_next_connection(sshd: Sshd, tmp_path: Path) -> None:
    """What came while there was no connection is told, without anybody asking for one."""
    transport = sshd.transport()
    try:
        with transport.watch([str(tmp_path)]) as watch:
            assert list(watch.wait(0)) == []
            os.kill(ssh_of(transport), signal.SIGKILL)
            (tmp_path / "meanwhile").touch()
            found: set[str] = set()
            deadline = time.monotonic() + 60
            while "meanwhile" not in found:
                assert time.monotonic() < deadline
                found |= {item.name for item in watch.wait(5)}
            (tmp_path / "later").touch()
            while "later" not in found:
                assert time.monotonic() < deadline
                found |= {item.name for item in watch.wait(5)}
        assert transport.connection.links_made == 2
    finally:
        transport.close()


def test_who_looks_once_is_told(sshd: Sshd, place: Path, tmp_path: Path) -> None:
    """A fresh process that does not wait: what the receipts say is known at its first look."""
    with Session(contact_of(place, sshd.config)) as session:
        job = session.submit(["/bin/sh", "-c", "exit 5"])
        job.wait(timeout=60)
        going = session.submit(["/bin/sh", "-c", f"echo > {tmp_path}/ended"])
        contact, token = session.contact, going.token
        eventually((tmp_path / "ended").exists, "it ran")
    with Session(contact) as again:
        eventually(lambda: again.job(token).state is JobState.DONE, "its end is known")


def test_ctrl_c_when_the_job_has_begun_already(sshd: Sshd, place: Path, cell: standin.Cell) -> None:
    """What runs cannot be withdrawn any more: it is the session's, as one of a submission that nobody interrupted."""
    runs = place / "interrupted"
    cell.fault("submit", "late", times=1, seconds=3.0)
    with Session(contact_of(place, sshd.config)) as session:

        def interrupt() -> None:
            eventually(runs.exists, "the job has begun")
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            session.submit(["/bin/sh", "-c", f"echo x >> '{runs}'; exec sleep 1"])
        thread.join()
        eventually(lambda: bool(session.jobs()), "it is adopted")
        (job,) = session.jobs()
        assert job.wait(timeout=60).exit_code == 0
    assert runs.read_text() == "x\n"
