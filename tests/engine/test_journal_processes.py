"""The journal under many threads and processes, kill -9, Ctrl-C, and forks."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.journaling import LOGIN, finish, intent, submit
from jobyard import journal_store, leases
from jobyard.errors import JournalError
from jobyard.job import JobState
from jobyard.journal import Journal
from jobyard.testing.polling import eventually

LONG = os.environ.get("FULL") == "1"
PATHS = f"import sys\nsys.path[:0] = {sys.path!r}\nfrom engine.journaling import *\n"
NETWORK = "from jobyard import journal_store\njournal_store.is_network = lambda folder: True\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = Journal(path)
    yield opened
    opened.close()


def start(program: str, path: Path, *words: object, head: str = "") -> subprocess.Popen[str]:
    opened = "journal = Journal(sys.argv[1])\n"
    command = [sys.executable, "-c", PATHS + head + opened + program, str(path), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, bufsize=1)


# Threads -----------------------------------------------------------------------------------------------------------------


class Held:
    """A write that stays within its transaction until it is let go, while others queue up behind it."""

    def __init__(self, journal: Journal) -> None:
        self._store = journal._store
        self._inside, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._store.write, args=(self._work,))

    def _work(self, db: sqlite3.Connection) -> None:
        self._inside.set()
        assert self._go.wait(60)

    def __enter__(self) -> Held:
        self._thread.start()
        assert self._inside.wait(60)
        return self

    def wait_for(self, writes: int) -> None:
        eventually(lambda: len(self._store._queue) == writes + 1)

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._thread.join(60)


def test_writes_that_wait_share_one_commit(journal: Journal) -> None:
    session = journal.create_session("slurm", LOGIN).id
    made: list[int] = []
    threads = [
        threading.Thread(target=lambda token=f"{number:032x}": made.extend(journal.intend([intent(session, token)])[0]))
        for number in range(12)
    ]
    before = journal.commits
    with Held(journal) as held:
        for thread in threads:
            thread.start()
        held.wait_for(12)
        assert journal.commits == before
    for thread in threads:
        thread.join(60)
    assert journal.commits == before + 2
    assert sorted(made) == list(range(1, 13))


def test_one_that_fails_in_a_shared_commit_fails_alone(journal: Journal) -> None:
    session = journal.create_session("slurm", LOGIN).id
    journal.intend([intent(session, "0" * 32)])
    failed: list[BaseException] = []

    def work(token: str, jobs: int) -> None:
        try:
            journal.intend([intent(session, token, jobs=jobs), intent(session, "0" * 32 if token < "4" else token[1:] + "f")])
        except JournalError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(str(number) * 32, 2)) for number in range(1, 8)]
    with Held(journal) as held:
        for thread in threads:
            thread.start()
        held.wait_for(7)
    for thread in threads:
        thread.join(60)
    assert len(failed) == 3
    other = Journal(journal.path)
    keys = {one.token[0]: (one.first_key, one.jobs) for one in map(other.submission, [str(n) * 32 for n in (4, 5, 6, 7)])}
    assert sorted(keys) == ["4", "5", "6", "7"]
    for number in (1, 2, 3):
        with pytest.raises(LookupError):
            other.submission(str(number) * 32)
    other.close()


def test_a_busy_file_is_waited_for_then_named(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_store, "BUSY_S", 0.1)
    monkeypatch.setattr(journal_store, "_SLICE_S", 0.05)
    impatient, other = Journal(journal.path), sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="another process has held the journal"):
        impatient.create_session("slurm", LOGIN)
    assert impatient.sessions() == []  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    impatient.create_session("slurm", LOGIN)
    impatient.close()


INTERRUPTED = """
import signal, threading, itertools
session = sys.argv[2]
stop = threading.Event()
made = [0, 0]
def work(number):
    for count in itertools.count():
        if stop.is_set():
            return
        journal.intend([intent(session, f"{number}{count:031x}")])
        made[number] = count + 1
threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
for thread in threads: thread.start()
interrupts, told, count, armed = 0, 0, 0, False
def interrupt(*_):
    global armed, interrupts
    if armed:
        armed = False
        interrupts += 1
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupt)
print("ready", flush=True)
while interrupts < 40:
    try:
        count += 1
        armed = True
        journal.intend([intent(session, f"2{count:031x}")])
        armed = False
        told += 1
    except KeyboardInterrupt:
        pass
signal.signal(signal.SIGINT, signal.SIG_IGN)
stop.set()
for thread in threads: thread.join()
after = journal.create_session("slurm", "after").id
print(made[0], made[1], told, count, flush=True)
journal.close()
"""


def test_ctrl_c_hangs_nobody_and_halves_nothing(journal: Journal, path: Path) -> None:
    """The main thread is interrupted again and again while others write: theirs are all there, its own whole or absent."""
    session = journal.create_session("slurm", LOGIN).id
    process = start(INTERRUPTED, path, session)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    chance = random.Random(4)
    while process.poll() is None:
        time.sleep(chance.uniform(0.001, 0.01))
        try:
            process.send_signal(signal.SIGINT)
        except ProcessLookupError:
            break
    words = process.communicate(timeout=60)[0].split()
    assert process.returncode == 0
    first, second, told, tried = map(int, words)
    tokens = [one.token for one in journal.stale_intents()]
    assert sorted(one for one in tokens if one[0] == "0") == [f"0{count:031x}" for count in range(first)]
    assert sorted(one for one in tokens if one[0] == "1") == [f"1{count:031x}" for count in range(second)]
    assert told <= len([one for one in tokens if one[0] == "2"]) <= tried
    assert journal.check() == []


# Processes -----------------------------------------------------------------------------------------------------------------

MANY = """
session, number, count = sys.argv[2], sys.argv[3], int(sys.argv[4])
sys.stdin.readline()
for step in range(count):
    token = f"{number}{step:031x}"
    (span,) = journal.intend([intent(session, token, jobs=2)])
    assert journal.accepted(token, [f"{number}.{step}.{position}" for position in range(2)])
    print(span.start, flush=True)
journal.close()
"""


def test_eight_processes_submit_at_once(journal: Journal, path: Path) -> None:
    session = journal.create_session("slurm", LOGIN).id
    processes = [start(MANY, path, session, number, 20) for number in range(8)]
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("go\n")
    told = [int(line) for one in processes for line in one.communicate(timeout=120)[0].split()]
    assert [one.returncode for one in processes] == [0] * 8
    assert len(told) == len(set(told)) == 160
    entries = journal.entries(session)
    assert [one.key for one in entries] == sorted([*told, *[key + 1 for key in told]])
    assert len({one.native_id for one in entries}) == 320
    for key in told:  # each submission's keys follow each other
        row = journal.rows([key])[0]
        assert (row.submission.first_key, row.submission.jobs) == (key, 2)
    assert journal.check() == []


def test_with_a_rollback_journal_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system, where readers and writers keep each other out for moments: nobody gives up."""
    monkeypatch.setattr(journal_store, "is_network", lambda folder: True)
    journal = Journal(path)
    session = journal.create_session("slurm", LOGIN).id
    processes = [start(MANY, path, session, number, 12, head=NETWORK) for number in range(4)]
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("go\n")
    seen = 0
    while any(one.poll() is None for one in processes):
        journal.changed()
        before, seen = seen, len(journal.states(session))
        assert seen >= before
    told = [line for one in processes for line in one.communicate(timeout=120)[0].split()]
    assert [one.returncode for one in processes] == [0] * 4
    assert len(told) == 48
    assert len(journal.states(session)) == 96
    assert journal.check() == []
    journal.close()


OPEN = """
print(journal.create_session("slurm", "x").id, flush=True)
journal.close()
"""


def test_eight_processes_make_the_journal_at_once(path: Path) -> None:
    processes = [start(OPEN, path) for _ in range(8)]
    told = [one.communicate(timeout=120)[0].strip() for one in processes]
    journal = Journal(path)
    assert sorted(one.id for one in journal.sessions()) == sorted(told)
    journal.close()


TAKE = """
sys.stdin.readline()
while (key := journal.take(sys.argv[2])) is not None:
    print(key, flush=True)
journal.close()
"""


def test_four_processes_take_each_job_once(journal: Journal, path: Path) -> None:
    session = journal.create_session("slurm", LOGIN).id
    keys = submit(journal, session, ids=[str(number) for number in range(120)], kind="like")
    finish(journal, keys)
    processes = [start(TAKE, path, session) for _ in range(4)]
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("go\n")
    taken = [int(line) for one in processes for line in one.communicate(timeout=120)[0].split()]
    assert sorted(taken) == keys


POLL = """
import time
sys.stdin.readline()
end = time.monotonic() + 1.5
while time.monotonic() < end:
    if journal.claim_poll("x", 0.25):
        print("asked", flush=True)
    time.sleep(0.01)
journal.close()
"""


def test_many_processes_make_one_query_an_interval(journal: Journal, path: Path) -> None:
    processes = [start(POLL, path) for _ in range(5)]
    began = time.monotonic()
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("go\n")
    asked = "".join(one.communicate(timeout=120)[0] for one in processes).count("asked")
    assert 1 <= asked <= (time.monotonic() - began) / 0.25 + 1


KILLED = """
import itertools
session, number = sys.argv[2], sys.argv[3]
print("ready", flush=True)
for step in itertools.count():
    token = f"{int(number):08x}{step:024x}"
    (span,) = journal.intend([intent(session, token, jobs=3)])
    print("intended", token, flush=True)
    if step % 3 == 2:
        journal.refused(token)
        print("refused", token, flush=True)
        continue
    journal.accepted(token, [f"{token}.{position}" for position in range(3)])
    print("accepted", token, flush=True)
    finish(journal, list(span))
    print("finished", token, flush=True)
"""


@pytest.mark.parametrize("rounds", [pytest.param(12, id="short"), pytest.param(150, id="long", marks=pytest.mark.long)])
def test_kill_9_loses_nothing_that_was_told(path: Path, rounds: int) -> None:
    chance = random.Random(rounds)
    journal = Journal(path)
    session = journal.create_session("slurm", LOGIN).id
    for number in range(rounds):
        process = start(KILLED, path, session, number)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.0, 0.05))  # the random moment
        process.kill()
        whole, _, _ = process.communicate()[0].rpartition("\n")  # an unbuffered line may be cut short
        told = {token: what for what, token in map(str.split, whole.splitlines())}
        _check_told(journal, session, told, f"{number:08x}")
    assert journal.check() == []
    journal.close()


def _check_told(journal: Journal, session: str, told: dict[str, str], prefix: str) -> None:
    intended = {one.token for one in journal.stale_intents() if one.token.startswith(prefix)}
    jobs: dict[str, list[Any]] = {}
    for one in journal.entries(session):
        if one.token.startswith(prefix):
            jobs.setdefault(one.token.partition(".")[0], []).append(one)
    for token, last in told.items():
        if last == "intended":  # what came next may have been done, and not told
            assert token in intended or token in jobs or int(token[8:], 16) % 3 == 2
        elif last == "refused":
            assert token not in intended
            assert token not in jobs
        else:
            states = {one.state for one in jobs[token]}
            assert states == {JobState.DONE} or (last == "accepted" and states == {JobState.NEW})
    for token, entries in jobs.items():  # whole, told or not
        assert [one.native_id for one in entries] == [f"{token}.{position}" for position in range(3)]
        assert len({one.state for one in entries}) == 1
        for one in entries:
            assert (one.ending is not None) == one.state.final
            assert len(journal.history(one.key)) == (3 if one.state.final else 0)


# Who lives -------------------------------------------------------------------------------------------------------------------

OWNER = """
journal.intend([intent(sys.argv[2], "a" * 32)])
assert journal.acquire("poller")
print("ready", flush=True)
sys.stdin.readline()
"""
PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="nothing can be proved of processes on this platform")


@PROC
def test_the_death_of_an_owner_is_proved_at_once(journal: Journal, path: Path) -> None:
    session = journal.create_session("slurm", LOGIN).id
    process = start(OWNER, path, session)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert journal.stale_intents() == []
    assert not journal.acquire("poller")
    os.kill(process.pid, signal.SIGSTOP)  # silent, but alive
    assert journal.stale_intents() == []
    process.kill()
    eventually(lambda: leases._started(process.pid) == "")  # dead, and not waited for: its id is still taken
    assert [one.token for one in journal.stale_intents()] == ["a" * 32]
    assert journal.claim_intent("a" * 32)
    assert journal.acquire("poller")
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@PROC
def test_a_process_that_got_the_same_id_is_not_the_owner(journal: Journal) -> None:
    me = journal._identity()
    session = journal.create_session("slurm", LOGIN).id
    journal.intend([intent(session)])
    other = Journal(journal.path)
    assert other.stale_intents() == []

    def pretend(column: str, value: object) -> None:
        journal._store.write(lambda db: db.execute(f"UPDATE leases SET {column} = ?", (value,)).rowcount)

    pretend("started", str(int(me.started) - 1))
    assert [one.token for one in other.stale_intents()] == ["a" * 32]
    for column in ("host", "boot"):  # of another machine, another boot, another container: nothing is proved
        pretend(column, "elsewhere")
        assert other.stale_intents() == []
        journal.renew()
        pretend("started", str(int(me.started) - 1))
    other.close()


FORKED = """
import os
session = sys.argv[2]
journal.intend([intent(session, "a" * 32)])
journal.states(session); journal.changed()
owner = journal.owner
child = os.fork()
if child == 0:
    journal.intend([intent(session, "b" * 32)])
    assert journal.owner != owner
    journal.close()
    os._exit(0)
for number in range(20):
    journal.intend([intent(session, f"{number:032x}")])
assert os.waitpid(child, 0)[1] == 0
journal.intend([intent(session, "c" * 32)])
assert journal.owner == owner
journal.close()
"""


def test_a_forked_child_has_a_journal_of_its_own(journal: Journal, path: Path) -> None:
    session = journal.create_session("slurm", LOGIN).id
    process = start(FORKED, path, session)
    process.communicate(timeout=60)
    assert process.returncode == 0
    tokens = {one.token for one in journal.stale_intents()}
    assert tokens == {one * 32 for one in "abc"} | {f"{number:032x}" for number in range(20)}
    assert journal.check() == []


def test_a_forked_child_that_can_open_nothing_does_not_use_its_parents_connection(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own rule: a connection is never carried across a fork."""
    store = journal._store
    parents = store._writer
    monkeypatch.setattr(store, "_pid", -1)  # as after a fork

    def full() -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_connect", full)
        for _ in range(2):
            with pytest.raises(JournalError, match="unable to open"):
                journal.sessions()
    assert journal.sessions() == []
    assert store._writer is not parents


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EPERM])
def test_what_cannot_be_looked_at_is_not_proved_to_be_gone(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """No descriptor is left, or /proc hides it: its intents are not taken from it."""
    session = journal.create_session("slurm", LOGIN).id
    journal.intend([intent(session)])
    other = Journal(path, clock=journal._clock)

    def refuse(self: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    try:
        monkeypatch.setattr(Path, "read_bytes", refuse)
        assert other.stale_intents() == []
        assert not other.claim_intent("a" * 32)
    finally:
        other.close()
