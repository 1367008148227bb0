"""The process that serves HyperQueue: started once by many, never half, found again, killed, joined, and lied to.

With the package installed (the extra ``hyperqueue``) real servers run here, with the package's own threads, and real jobs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conformance.yards import private_yard
from jobyard import Session
from jobyard.errors import NoScheduler, SchedulerUnavailable
from jobyard.job import Cause, JobState
from jobyard.schedulers.base import Action
from jobyard.schedulers.command import CommandScheduler
from jobyard.schedulers.hyperqueue import ask, room_of, stop
from jobyard.schedulers.hyperqueue.bindings import Counts, HyperQueueError, Refused, TaskRequest
from jobyard.schedulers.hyperqueue.records import Entry, Records
from jobyard.schedulers.hyperqueue.resident import Resident
from jobyard.testing.polling import eventually

PROGRAM = ask.__file__
LONG_S = 120.0
TOKENS = [f"{number:032x}" for number in range(10)]


def asked(room: str, question: Mapping[str, Any], *options: str) -> tuple[int, dict[str, Any]]:
    """One run of ask.py."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", PROGRAM, room, *options],
        input=json.dumps(question).encode(),
        stdout=subprocess.PIPE,
        check=False,
        timeout=LONG_S,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return done.returncode, found


# What it keeps, and answers: with bindings that are played ----------------------------------------------------------


class Played:
    """The bindings, without a server."""

    version = "0.27.0"

    def __init__(self) -> None:
        self.submitted: list[tuple[str, int, TaskRequest]] = []
        self.states: dict[int, Counts] = {}
        self.failed: dict[int, dict[int, str]] = {}
        self.forgotten: list[int] = []
        self.asked = 0
        self.away: str | None = None
        self.breaks_after_submit = False

    def _answer(self) -> None:
        if self.away is not None:
            raise HyperQueueError(self.away)

    def connect(self, server_dir: str) -> None:
        self._answer()

    def submit(self, name: str, count: int, task: TaskRequest) -> int:
        self._answer()
        self.submitted.append((name, count, task))
        job = len(self.submitted)
        self.states[job] = Counts(count, 0, 0, False)
        if self.breaks_after_submit:
            raise HyperQueueError("the connection was reset")
        return job

    def counts(self, jobs: list[int]) -> dict[int, Counts]:
        self._answer()
        self.asked += 1
        return {job: self.states[job] for job in jobs if job in self.states}

    def failures(self, jobs: list[int]) -> dict[int, dict[int, str]]:
        self._answer()
        self.asked += 1
        return {job: self.failed.get(job, {}) for job in jobs}

    def forget(self, job: int) -> None:
        self.forgotten.append(job)


def server_dir(folder: Path, uid: str) -> str:
    """The directory of a server, as far as it says who it is."""
    (folder / "hq-current").mkdir(parents=True, exist_ok=True)
    (folder / "hq-current" / "access.json").write_text(json.dumps({"server_uid": uid}))
    return str(folder)


@pytest.fixture
def room(tmp_path: Path) -> str:
    folder = tmp_path / "room"
    ask.make_room(str(folder))
    return str(folder)


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.fixture
def resident(room: str, tmp_path: Path, played: Played) -> Resident:
    """Of a joined server."""
    return Resident(room, played, join=server_dir(tmp_path / "hq", "uidA"), cores=2)  # type: ignore[arg-type]


def submission(tmp_path: Path, number: int = 0, count: int | None = None) -> dict[str, Any]:
    folder = tmp_path / TOKENS[number]
    folder.mkdir(exist_ok=True)
    plain = {"cores": 1, "resources": {}, "priority": 0, "walltime_s": None, "rerunnable": False}
    named = {"token": TOKENS[number], "folder": str(folder), "name": "x", "count": count or 1, "single": count is None}
    return {"ask": "submit", **plain, **named}


def shown(resident: Resident, *ids: str) -> dict[str, Any]:
    answer = resident.answer({"ask": "query", "ids": list(ids)})
    assert answer["unknown"] == []
    (one,) = answer["jobs"]
    assert isinstance(one, dict)
    return one


def test_submitted_twice_is_submitted_once(resident: Resident, played: Played, tmp_path: Path) -> None:
    """The first answer was lost on its way."""
    question = submission(tmp_path)
    assert resident.answer(question) == resident.answer(question) == {"id": "uidA-1"}
    assert len(played.submitted) == 1


def test_what_was_not_answered_is_doubtful_ever_after(resident: Resident, played: Played, room: str, tmp_path: Path) -> None:
    played.breaks_after_submit = True
    with pytest.raises(HyperQueueError, match="reset"):
        resident.answer(submission(tmp_path))
    played.breaks_after_submit = False
    with pytest.raises(HyperQueueError, match="not known"):
        resident.answer(submission(tmp_path))
    assert len(played.submitted) == 1, "never twice"
    next_one = Resident(room, played, join=resident.join, cores=2)  # type: ignore[arg-type]
    for each in (resident, next_one):
        assert each.answer({"ask": "find", "tokens": TOKENS[:2]}) == {"jobs": [], "doubtful": TOKENS[:1]}


def test_what_was_not_sent_is_refused_and_can_be_sent_again(resident: Resident, played: Played, tmp_path: Path) -> None:
    def refuse(*_: object) -> int:
        raise Refused("surrogates not allowed")

    good, played.submit = played.submit, refuse  # type: ignore[assignment, method-assign]
    assert resident.answer(submission(tmp_path)) == {"refused": "surrogates not allowed"}
    assert resident.answer({"ask": "find", "tokens": TOKENS[:1]}) == {"jobs": [], "doubtful": []}
    played.submit = good  # type: ignore[method-assign]
    assert resident.answer(submission(tmp_path)) == {"id": "uidA-1"}


def test_another_resident_goes_on(resident: Resident, played: Played, room: str, tmp_path: Path) -> None:
    """Whatever the first knew of a joined server, the next one knows, too; half a line at the end harms nothing."""
    resident.answer(submission(tmp_path))
    resident.answer(submission(tmp_path, 1, 3))
    resident.answer({"ask": "cancel", "ids": ["uidA-2.1"]})
    with open(f"{room}/jobs", "a", encoding="ascii") as file:
        file.write('{"server": "uidA", "tok')
    next_one = Resident(room, played, join=resident.join, cores=2)  # type: ignore[arg-type]
    assert shown(next_one, "uidA-1") == shown(resident, "uidA-1")
    assert shown(next_one, "uidA-2.0")["cancelled"] == [1]


def test_another_server_in_the_same_place(resident: Resident, played: Played, tmp_path: Path) -> None:
    """Its jobs are others, whatever their numbers; those of the one before are gone."""
    resident.answer(submission(tmp_path))
    server_dir(tmp_path / "hq", "uidB")
    assert resident.answer({"ask": "query", "ids": ["uidA-1"]}) == {"jobs": [], "unknown": []}
    played.submitted.clear()
    assert resident.answer(submission(tmp_path, 1)) == {"id": "uidB-1"}


def test_jobs_of_elsewhere_are_not_said_to_be_gone(resident: Resident, tmp_path: Path) -> None:
    resident.answer(submission(tmp_path))
    for elsewhere in ("uidZ-1", "uidA-77", "uidA-1.5", "nonsense"):
        assert resident.answer({"ask": "query", "ids": [elsewhere]})["unknown"] == [elsewhere]


def test_a_stale_server_directory(resident: Resident, played: Played, tmp_path: Path) -> None:
    played.away = "Error: No online server was found"
    with pytest.raises(HyperQueueError, match="No online server"):
        resident.answer({"ask": "query", "ids": []})
    played.away = None
    assert resident.answer({"ask": "about"})["server"] == "uidA"
    (tmp_path / "hq" / "hq-current" / "access.json").write_text('{"server_uid": 7}')
    with pytest.raises(HyperQueueError, match="no server UID"):
        resident.answer({"ask": "about"})
    (tmp_path / "hq" / "hq-current" / "access.json").write_text('{"server')
    with pytest.raises(HyperQueueError, match="hq server start"):
        resident.answer({"ask": "about"})


def test_an_outage_changes_nothing(resident: Resident, played: Played, tmp_path: Path) -> None:
    resident.answer(submission(tmp_path))
    before = shown(resident, "uidA-1")
    played.away = "the connection was reset"
    resident._looked = 0.0
    for question in ({"ask": "query", "ids": ["uidA-1"]}, {"ask": "cancel", "ids": ["uidA-1"]}):
        with pytest.raises(HyperQueueError):
            resident.answer(question)
    assert not list((tmp_path / TOKENS[0]).iterdir()), "nothing was cancelled"
    played.away = None
    assert shown(resident, "uidA-1") == before


def test_questions_do_not_grow_with_jobs(resident: Resident, played: Played, tmp_path: Path) -> None:
    ids = [resident.answer(submission(tmp_path, number))["id"] for number in range(10)]
    played.asked = 0
    resident.answer({"ask": "query", "ids": ids})
    assert played.asked == 1
    played.states = {job: Counts(1, 0, 1, True) for job in played.states}
    played.failed = {job: {0: "Program terminated with exit code 1."} for job in played.states}
    resident._looked = 0.0
    answer = resident.answer({"ask": "query", "ids": ids})
    assert played.asked == 3, "all counts in one question, all failures in another"
    assert all(one["failed"] for one in answer["jobs"])
    resident._looked = 0.0
    resident.answer({"ask": "query", "ids": ids})
    assert played.asked == 3, "what is over is not asked for again"


def test_cancel(resident: Resident, played: Played, tmp_path: Path) -> None:
    resident.answer(submission(tmp_path, 0, 3))
    folder = tmp_path / TOKENS[0]
    (folder / "claim.1").write_text("{}")  # it runs
    played.states[1] = Counts(3, 0, 1, False)
    played.failed[1] = {2: "Program terminated with exit code 1."}
    ids = ["uidA-1.0", "uidA-1.1", "uidA-1.2", "uidA-9", "uidA-1.0"]
    answers = resident.answer({"ask": "cancel", "ids": ids})["answers"]
    assert answers == {"uidA-1.0": None, "uidA-1.1": None, "uidA-1.2": "over", "uidA-9": "unknown"}
    assert sorted(path.name for path in folder.iterdir()) == ["claim.0", "claim.1", "stop.0", "stop.1"]
    one = shown(resident, "uidA-1.0")
    assert (one["cancelled"], one["begun"]) == ([0], [0, 1]), "the first never begins, the second is told to end"


def test_cancelled_when_its_folder_is_gone(resident: Resident, tmp_path: Path) -> None:
    resident.answer(submission(tmp_path))
    (tmp_path / TOKENS[0]).rmdir()
    assert resident.answer({"ask": "cancel", "ids": ["uidA-1"]})["answers"] == {"uidA-1": "over"}


def test_what_is_long_over_is_let_go(tmp_path: Path) -> None:
    records = Records(None)
    entry = Entry(token=TOKENS[0], folder=str(tmp_path), name="x", count=1, single=True, server="u")
    records.intend(entry)
    records.accepted(entry, 1)
    entry.take(Counts(1, 1, 0, True), 100.0)
    assert records.drop_old(200.0) == []
    assert records.drop_old(100.0 + 3601) == [entry]
    assert (records.by_id, records.by_token) == ({}, {})


# The way to it ------------------------------------------------------------------------------------------------------


def test_where_nobody_serves_nothing_is_started(tmp_path: Path) -> None:
    room = str(tmp_path / "room")
    code, answer = asked(room, {"ask": "query", "ids": ["aB3-1"]})
    assert (code, answer["jobs"], answer["unknown"]) == (0, [], ["aB3-1"])
    assert not os.path.exists(room)
    ask.make_room(room)
    Path(room, "servers").write_text("aB3\n")
    assert asked(room, {"ask": "query", "ids": ["aB3-1", "zZ9-1"]})[1]["unknown"] == ["zZ9-1"]


def test_a_room_that_others_can_open_is_not_used(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir(mode=0o755)
    code, answer = asked(str(room), {"ask": "submit"})
    assert code == 3
    assert "nobody else can open" in answer["error"]
    assert list(room.iterdir()) == []


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\0\0\0\0\x09{", b"\xff" * 8, b"\0\0\0\0\0\0\0\x02{]"])
def test_answers_that_are_cut_short(room: str, said: bytes) -> None:
    """A resident that dies, or lies, within an answer."""
    with ask.listen(room) as listening:

        def lie() -> None:
            client = listening.accept()[0]
            with client:
                ask.receive(client)
                client.sendall(said)

        liar = threading.Thread(target=lie)
        liar.start()
        code, answer = asked(room, {"ask": "query", "ids": []})
        liar.join(LONG_S)
    assert code == 3
    assert answer["error"]


# Real servers -------------------------------------------------------------------------------------------------------

real = pytest.mark.skipif(importlib.util.find_spec("hyperqueue") is None, reason="the extra hyperqueue is not installed")


@pytest.fixture
def state() -> Iterator[Path]:
    """A yard whose resident ends with it."""
    with private_yard() as folder:
        yield folder / "state"
        stop(folder / "state")


def pid_of(state: Path) -> int:
    return int(asked(room_of(state), {"ask": "about"})[1]["pid"])


@real
def test_many_start_one(state: Path, tmp_path: Path) -> None:
    """Six processes submit at once where nobody serves; all jobs are on one server."""
    room = room_of(state)
    script = "#!/bin/sh\nexit 0\n"
    questions = [submission(tmp_path, number) for number in range(6)]
    for one in questions:
        path = Path(one["folder"], "run.sh")
        path.write_text(script)
        path.chmod(0o700)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda one: asked(room, one, "--cores", "2"), questions))
    assert [code for code, _ in answers] == [0] * 6, answers
    assert len({answer["id"].partition("-")[0] for _, answer in answers}) == 1
    assert len({answer["id"] for _, answer in answers}) == 6


@real
def test_a_folder_that_the_package_cannot_name(state: Path, tmp_path: Path) -> None:
    """Its paths are UTF-8: another one is refused, and nothing is submitted."""
    question = {**submission(tmp_path), "folder": f"{tmp_path}/\udcff"}
    code, answer = asked(room_of(state), question, "--cores", "1")
    assert (code, list(answer)) == (0, ["refused"])
    assert asked(room_of(state), {"ask": "query", "ids": []})[1]["jobs"] == []


@real
def test_nobody_else_can_connect(state: Path) -> None:
    """Its server asks for no key: it must not listen."""
    with Session("hyperqueue?cores=2") as session:
        assert session.submit(["/bin/true"]).wait(timeout=LONG_S).success
        pid = pid_of(state)
        assert not listens(pid)
        (access,) = Path(room_of(state)).glob("server-*/001/access.json")
        ends = json.loads(access.read_text())
        for end in (ends["client"], ends["worker"]):
            with socket.socket() as stranger, pytest.raises(OSError):
                stranger.connect(("127.0.0.1", end["port"]))


def listens(pid: int) -> bool:
    """Whether a process holds a TCP socket that listens."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    listening = {f"socket:[{words[9]}]" for words in lines if words[3] == "0A"}
    held = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return bool(listening & held)


@pytest.mark.parametrize("stranger", ["none", "waits", "accepted"])
@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_closed_to_all_but_those_who_are_there(stranger: str, family: str) -> None:
    """In a process of its own: a listening socket, a connection of its own to it, and perhaps one of somebody else's, which the
    server has accepted (that is told), or not yet (then it never will)."""
    if family == "AF_INET6" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("there is no IPv6 here")
    code = f"""
import socket, sys
from jobyard.schedulers.hyperqueue.seal import Stranger, seal
with socket.socket(socket.{family}) as server, socket.socket() as client:
    server.bind(("", 0)); server.listen()
    port = server.getsockname()[1]
    client.connect(("127.0.0.1", port)) if server.family == socket.AF_INET else None
    accepted = server.accept()[0] if server.family == socket.AF_INET else None
    print(port, flush=True)
    sys.stdin.readline()
    other = server.accept()[0] if "{stranger}" == "accepted" else None
    try:
        print(seal() == [port], flush=True)
    except Stranger as error:
        print(f"stranger: {{error}}", flush=True)
    if accepted is not None:
        client.sendall(b"x")
        assert accepted.recv(1) == b"x", "what stands goes on"
    sys.stdin.readline()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process, socket.socket() as other, socket.socket() as late:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        if stranger != "none":
            other.connect(("127.0.0.1", port))  # also to a socket of IPv6, which takes both
        print(file=process.stdin, flush=True)
        said = process.stdout.readline()
        assert said.startswith("stranger: somebody connected") if stranger == "accepted" else said == "True\n"
        if stranger == "waits":
            with pytest.raises(ConnectionResetError):
                other.recv(1)
        with pytest.raises(ConnectionRefusedError):
            late.connect(("127.0.0.1", port))
        print(file=process.stdin, flush=True)
    assert process.returncode == 0


@real
def test_killed(state: Path, tmp_path: Path) -> None:
    """What ran is ended and told by its receipt; the next server takes new jobs; the old ones are not said to be waiting."""
    with Session("hyperqueue?cores=1") as session:
        pid = pid_of_first(session, state)
        runs = session.submit(["/bin/sh", "-c", ": > began; exec sleep 600"], directory=tmp_path)
        waits = session.submit(["/bin/sh", "-c", ": > never"], directory=tmp_path)
        eventually((tmp_path / "began").exists, "it began", LONG_S)
        os.kill(pid, signal.SIGKILL)
        ending = runs.wait(timeout=LONG_S)
        assert (ending.state, ending.cause) == (JobState.FAILED, Cause.NODE)
        assert "worker" in ending.message
        answer = session.scheduler.query([waits.native_id or ""])
        assert (answer.rows, answer.complete) == ((), True)
        assert session.submit(["/bin/true"]).wait(timeout=LONG_S).success
        assert pid_of(state) != pid
        assert not (tmp_path / "never").exists()
        assert not waits.state.final, "two minutes of good answers come first"


def pid_of_first(session: Session, state: Path) -> int:
    assert session.submit(["/bin/true"]).wait(timeout=LONG_S).success
    return pid_of(state)


@real
def test_the_client_goes_and_its_jobs_do_not(state: Path, tmp_path: Path) -> None:
    code = (
        "from jobyard import Session; import os, sys\n"
        "session = Session('hyperqueue?cores=2')\n"
        "session.submit(['/bin/sh', '-c', 'until [ -e go ]; do sleep 0.05; done; exit 5'], directory=sys.argv[1])\n"
        "print(session.contact, flush=True)\n"
        "os._exit(0)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    contact = subprocess.run(words, check=True, timeout=LONG_S, stdout=subprocess.PIPE).stdout.decode().strip()
    (tmp_path / "go").touch()
    with Session(contact) as session:
        (job,) = session.jobs()
        assert job.wait(timeout=LONG_S).exit_code == 5


@real
def test_idle_it_ends_and_leaves_no_process(state: Path) -> None:
    with Session("hyperqueue?cores=1&idle=1") as session:
        assert session.submit(["/bin/true"]).wait(timeout=LONG_S).success
        eventually(lambda: not ask.held(room_of(state)), "it ends when it is idle", LONG_S)
        assert not Path(room_of(state), "socket").exists()
        assert session.submit(["/bin/true"]).wait(timeout=LONG_S).success, "and is started again"


@real
def test_it_ends_with_its_room() -> None:
    with private_yard() as folder, Session("hyperqueue?cores=1") as session:
        pid = pid_of_first(session, folder / "state")
        session.submit_all([["/bin/sleep", "600"]] * 2)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "nobody could find it any more", LONG_S)


@real
def test_a_server_is_joined(state: Path, tmp_path: Path) -> None:
    """By its directory: somebody else's server and worker, which go on when our resident is killed."""
    with Hosted() as (host, directory):
        contact = f"hyperqueue?server_dir={directory.replace('/', '%2F')}"
        try:
            with Session(contact) as session:
                assert session.submit(["/bin/sh", "-c", "exit 6"]).wait(timeout=LONG_S).exit_code == 6
                job = session.submit(["/bin/sh", "-c", ": > began; exec sleep 600"], directory=tmp_path, walltime_s=500)
                eventually((tmp_path / "began").exists, "it began", LONG_S)
                os.kill(asked(room_of(state, directory), {"ask": "about"}, "--join", directory)[1]["pid"], signal.SIGKILL)
                scheduler = session.scheduler
                assert isinstance(scheduler, CommandScheduler)
                (row,) = scheduler.query([job.native_id or ""]).rows
                assert row.state is JobState.RUNNING
                job.cancel()
                assert job.wait(timeout=LONG_S).cause is Cause.CANCELLED
                host.kill()
                host.wait()
                with pytest.raises(SchedulerUnavailable):
                    scheduler.query([job.native_id or ""])
        finally:
            stop(state, directory)


class Hosted:
    """A server and a worker of somebody else's, by the package."""

    def __enter__(self) -> tuple[subprocess.Popen[bytes], str]:
        self.folder = tempfile.mkdtemp(prefix="hq-")
        code = (
            "import sys, time; from hyperqueue import LocalCluster; from hyperqueue.cluster import WorkerConfig\n"
            "cluster = LocalCluster(server_dir=sys.argv[1]); cluster.start_worker(WorkerConfig(cores=2))\n"
            "sys.stderr.write('up\\n'); sys.stderr.flush(); time.sleep(600)\n"
        )
        words = [sys.executable, "-c", code, self.folder]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        assert self.process.stderr.readline() == b"up\n"
        return self.process, self.folder

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@real
def test_over_ssh_it_is_refused(state: Path) -> None:
    with pytest.raises(NoScheduler, match="on this machine"), Session("hyperqueue+ssh://elsewhere"):
        pass


@real
def test_a_package_that_cannot_be_loaded_is_told(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resident's own interpreter fails: its last words come with the error, and nothing is left behind that waits."""
    room = room_of(state)
    ask.make_room(room)
    code, answer = asked(room, {"ask": "submit"}, "--cores", "none")
    assert code == 3
    assert "invalid int value" in answer["error"]
    assert not ask.held(room)


def test_actions_it_does_not_have(yard: Path) -> None:
    if importlib.util.find_spec("hyperqueue") is None:
        pytest.skip("the extra hyperqueue is not installed")
    with Session("hyperqueue") as session:
        answers = session.scheduler.control(Action.HOLD, ["aB3-1"])
        assert "cannot hold jobs; it starts what it can" in str(answers["aB3-1"])


@pytest.mark.parametrize("reused", [False, True])
def test_a_socket_that_the_server_closes_meanwhile(tmp_path: Path, reused: bool) -> None:
    """Its number is free, or another file's: neither is touched, and its port counts."""
    code = f"""
import os, socket
from jobyard.schedulers.hyperqueue import seal as room
server = socket.socket()
server.bind(("", 0)); server.listen()
port, fd, copy = server.getsockname()[1], server.fileno(), socket.socket(fileno=os.dup(server.fileno()))
server.close()
file = os.open({str(tmp_path / "file")!r}, os.O_WRONLY | os.O_CREAT) if {reused} else None
assert file in (None, fd)
room._sockets = lambda: [(fd, copy)]
assert room.seal() == [port]
if file is not None:
    os.write(file, b"mine")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert not reused or (tmp_path / "file").read_bytes() == b"mine"
