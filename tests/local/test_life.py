"""The pair itself: on demand, private, gone when idle; clients come, go, fork, are interrupted, and come back."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from jobyard.errors import ControlError, InvalidContact, JournalError, NoScheduler, SessionClosed
from jobyard.job import JobDescription, JobState
from jobyard.keeper import Update
from jobyard.schedulers.base import Action
from jobyard.schedulers.local import LocalScheduler, kernel, paths, stop
from jobyard.schedulers.local.jobs import Run
from jobyard.schedulers.local.recover import is_it
from jobyard.schedulers.local.store import Store
from jobyard.testing.polling import LONG_S, eventually
from local.killing import find_pair
from local.rig import Rig

FOREVER = ["/bin/sleep", "1000"]


def test_nothing_starts_before_the_first_use(state_dir: Path) -> None:
    scheduler = LocalScheduler(state_dir, {})
    scheduler.check(JobDescription(argv=("x",)))
    keeper = scheduler.open_keeper(None, lambda updates: None)
    threads = threading.active_count()
    assert not state_dir.exists()
    assert keeper.states() == []
    assert threading.active_count() == threads
    keeper.close()
    scheduler.close()


def test_private_folder_and_files(rig: Rig) -> None:
    job = rig.submit(["/bin/echo", "x"])
    rig.wait(job)
    rig.output(job)
    folder = rig.state_dir / "local"
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_folder_of_others_is_refused(state_dir: Path) -> None:
    (state_dir / "local").mkdir(parents=True)
    (state_dir / "local").chmod(0o755)
    keeper = LocalScheduler(state_dir, {}).open_keeper(None, lambda updates: None)
    with pytest.raises(NoScheduler, match="0700"):
        keeper.states()
    keeper.close()
    (state_dir / "local").rmdir()
    (state_dir / "elsewhere").mkdir(mode=0o700)
    (state_dir / "local").symlink_to(state_dir / "elsewhere")
    keeper = LocalScheduler(state_dir, {}).open_keeper(None, lambda updates: None)
    with pytest.raises(NoScheduler, match="local"):
        keeper.states()
    keeper.close()
    assert not list((state_dir / "elsewhere").iterdir())
    (state_dir / "local").unlink()


def test_a_state_folder_with_a_long_name(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120) / ("y" * 120)
    rig = Rig(long)
    try:
        assert rig.run(["/bin/true"]).success
    finally:
        rig.close()
        stop(long)


def test_gone_when_idle_and_back_on_demand(open_rig: Callable[..., Rig]) -> None:
    rig = open_rig(idle="0.3")
    job = rig.submit(["/bin/true"])
    rig.wait(job)
    pair = rig.pair()
    session = rig.keeper.session_id
    rig.close()
    for pid in pair:
        eventually(lambda pid=pid: kernel.read_process(pid) is None)  # type: ignore[misc]
    assert not list((rig.state_dir / "local").glob("ring.*"))
    again = open_rig(session)
    assert again.keeper.states() == [(job.key, JobState.DONE)]
    assert again.pair() != pair
    entry = again.keeper.entries()[0]
    assert entry.ending is not None
    assert entry.ending.exit_code == 0


def test_jobs_outlive_the_client_and_keep_the_pair(open_rig: Callable[..., Rig], tmp_path: Path) -> None:
    rig = open_rig(idle="0.2", slots=1)
    os.mkfifo(tmp_path / "gate")
    jobs = [rig.submit(f"read x <{tmp_path}/gate; exit 5"), rig.submit("exit 6")]
    session = rig.keeper.session_id
    rig.close()
    (tmp_path / "gate").write_text("\n")
    again = open_rig(session)
    entries = {entry.key: entry for entry in again.keeper.entries()}
    waiting = [job for job in jobs if not entries[job.key].state.final]
    again.wait_all(waiting)
    assert [again.keeper.entries([job.key])[0].ending.exit_code for job in jobs] == [5, 6]  # type: ignore[union-attr]


def test_unknown_sessions(open_rig: Callable[..., Rig]) -> None:
    for name in ("0123456789abcdef", "nonsense", "../../etc"):
        with pytest.raises(InvalidContact):
            open_rig(name)


def test_two_clients_start_one_pair(state_dir: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from jobyard.schedulers.local import LocalScheduler\n"
        "k = LocalScheduler(Path(sys.argv[1]), {}).open_keeper(None, lambda u: None); k.states()\n"
        "print(k._connection.server_pid); sys.stdin.read(); k.close()"
    )
    pipe = subprocess.PIPE
    clients = [subprocess.Popen([sys.executable, "-c", script, str(state_dir)], stdout=pipe, stdin=pipe) for _ in range(4)]
    said = set()
    for client in clients:
        assert client.stdout is not None
        said.add(client.stdout.readline())
    for client in clients:
        client.communicate(b"")
    assert len(said) == 1


def test_news_of_one_client_reach_another(open_rig: Callable[..., Rig]) -> None:
    first = open_rig()
    first.run(["/bin/true"])
    second = open_rig(first.keeper.session_id)
    job = first.submit("exit 9")
    assert second.keeper.wait_until(lambda: job.key in second.endings, LONG_S)
    assert second.endings[job.key].exit_code == 9


def test_a_forked_child_has_a_connection_of_its_own(rig: Rig) -> None:
    before = rig.submit("exit 1")
    rig.wait(before)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            job = rig.submit("exit 12")
            rig.wait(job)
            os.write(write, f"{job.key} {rig.endings[job.key].exit_code}".encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    mine = rig.submit("exit 11")
    assert rig.wait(mine).exit_code == 11
    with open(read, "rb") as file:
        key, code_ = file.read().split()
    os.waitpid(child, 0)
    assert int(code_) == 12
    assert int(key) not in (mine.key, before.key)
    assert {state for _, state in rig.keeper.states()} == {JobState.FAILED}
    assert len(rig.keeper.states()) == 3


def test_an_interrupt_ends_a_wait_and_nothing_is_lost(rig: Rig, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    job = rig.submit(f"read x <{tmp_path}/gate")
    rig.until(job, JobState.RUNNING)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        rig.keeper.wait_until(lambda: job.key in rig.endings, 30)
    timer.join()
    (tmp_path / "gate").write_text("\n")
    assert rig.wait(job).success


def test_many_threads_wait_and_submit(rig: Rig) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(10):
                job = rig.submit(["/bin/sh", "-c", f"exit {number}"])
                assert rig.wait(job).exit_code == number
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert len(rig.endings) == 60


def test_background_feeds_without_a_waiter(rig: Rig) -> None:
    heard = threading.Event()

    def sink(updates: Sequence[Update]) -> None:
        rig.sink(updates)
        if rig.endings:
            heard.set()

    rig.keeper._sink = sink
    rig.keeper.background()
    count = threading.active_count()
    rig.keeper.background()
    assert threading.active_count() == count
    job = rig.submit(["/bin/true"])
    assert heard.wait(20)
    assert rig.endings[job.key].success


def test_close_ends_waiters(rig: Rig) -> None:
    job = rig.submit(FOREVER)
    rig.until(job, JobState.RUNNING)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            rig.keeper.wait_until(lambda: False, None)
        except SessionClosed as error:
            caught.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: rig.keeper._connection._followers == 2)
    rig.keeper.close()
    for thread in threads:
        thread.join(10)
    assert len(caught) == 3
    with pytest.raises(SessionClosed):
        rig.keeper.states()


def test_a_damaged_journal_is_left_alone(open_rig: Callable[..., Rig], state_dir: Path) -> None:
    rig = open_rig(idle="0.1")
    rig.run(["/bin/true"])
    session = rig.keeper.session_id
    rig.close()
    stop(state_dir)
    journal = state_dir / "local" / "journal.db"
    good = journal.read_bytes()
    for bad in (b"nonsense" * 1000, good[:100] + os.urandom(len(good) - 100)):
        journal.write_bytes(bad)
        with pytest.raises(JournalError, match=r"journal\.db"):
            open_rig(session)
        assert journal.read_bytes() == bad
    journal.write_bytes(good)
    assert len(open_rig(session).keeper.states()) == 1


def test_a_newer_journal_is_left_alone(open_rig: Callable[..., Rig], state_dir: Path) -> None:
    rig = open_rig(idle="0.1")
    rig.run(["/bin/true"])
    rig.close()
    stop(state_dir)
    database = sqlite3.connect(state_dir / "local" / "journal.db")
    database.execute("PRAGMA user_version=99")
    database.commit()
    database.close()
    with pytest.raises(JournalError, match="newer"):
        open_rig().keeper.states()


def test_another_boot_makes_what_ran_lost(open_rig: Callable[..., Rig], state_dir: Path) -> None:
    rig = open_rig(slots=1)
    running = rig.submit(FOREVER)
    again = rig.submit("exit 3", rerunnable=True)
    rig.until(running, JobState.RUNNING)
    queued = rig.submit("exit 4", hold=True)
    session = rig.keeper.session_id
    server, spawner = rig.pair()
    rig.close()
    sleeper = [pid for pid in kernel.children_of(spawner) if not kernel.read_process(pid).zombie]  # type: ignore[union-attr]
    for pid in (server, spawner, *sleeper):
        os.kill(pid, signal.SIGKILL)
    for pid in (server, spawner, *sleeper):
        eventually(lambda pid=pid: (found := kernel.read_process(pid)) is None or found.zombie)  # type: ignore[misc]
    store = Store(str(state_dir / "local" / "journal.db"))
    store.begin()
    store.set_meta("boot", "another")
    store.end()
    store.close()
    later = open_rig(session)
    later.control(Action.RELEASE, queued)
    assert later.wait(queued).exit_code == 4
    entries = {entry.key: entry for entry in later.keeper.entries()}
    ending = entries[running.key].ending
    assert ending is not None
    assert ending.cause == "lost"
    assert ending.exit_code is None
    assert later.keeper.wait_until(lambda: again.key in later.endings, LONG_S) or entries[again.key].ending is not None
    assert later.keeper.entries([again.key])[0].ending.exit_code == 3  # type: ignore[union-attr]


def test_both_killed_adopts_what_runs(open_rig: Callable[..., Rig], state_dir: Path, tmp_path: Path) -> None:
    rig = open_rig(slots=3)
    os.mkfifo(tmp_path / "gate")
    job = rig.submit(f"read x <{tmp_path}/gate; echo late; exit 21")
    limited = rig.submit(FOREVER, walltime=4)
    stopped = rig.submit(FOREVER)
    for one in (job, limited, stopped):
        rig.until(one, JobState.RUNNING)
    rig.control(Action.SUSPEND, stopped)
    queued = rig.submit("exit 22")
    for pid in rig.pair():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(find_pair(state_dir).values()))
    assert {entry.key: entry.state for entry in rig.keeper.entries([job.key, limited.key, stopped.key])} == {
        job.key: JobState.RUNNING,
        limited.key: JobState.RUNNING,
        stopped.key: JobState.SUSPENDED,
    }
    (tmp_path / "gate").write_text("\n")
    ending = rig.wait(job)
    assert ending.exit_code == 21 or ending.cause == "lost"
    assert rig.output(job) == b"late\n"
    assert rig.wait(queued).exit_code == 22
    assert rig.wait(limited).cause == "walltime"
    rig.control(Action.CANCEL, stopped)
    assert rig.wait(stopped).state is JobState.CANCELLED


def test_what_ended_unseen_is_lost_and_nothing_else(open_rig: Callable[..., Rig], state_dir: Path, tmp_path: Path) -> None:
    rig = open_rig(slots=2)
    os.mkfifo(tmp_path / "gate")
    job = rig.submit(f"echo $$ >{tmp_path}/pid; read x <{tmp_path}/gate; echo done; exit 77")
    rig.until(job, JobState.RUNNING)
    session = rig.keeper.session_id
    number = int(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
    pair = rig.pair()
    rig.close()
    for pid in pair:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(find_pair(state_dir).values()))
    (tmp_path / "gate").write_text("\n")
    eventually(lambda: (found := kernel.read_process(number)) is None or found.zombie)
    later = open_rig(session)
    ending = later.keeper.entries([job.key])[0].ending
    if ending is None:  # PID 1 has not reaped it: the kernel still knows
        ending = later.wait(job)
    assert ending.exit_code == 77 or (ending.cause == "lost" and ending.exit_code is None and ending.signal is None)
    assert later.output(job) == b"done\n"
    assert later.run(["/bin/true"]).success  # its place is free


def test_only_the_job_itself_is_adopted() -> None:
    before = kernel.boot_now()
    kernel.set_mark(4711)
    try:
        marked = subprocess.Popen(["/bin/sleep", "100"], start_new_session=True)
        other = subprocess.Popen(["/bin/sleep", "100"])
    finally:
        kernel.set_mark(0)
    plain = subprocess.Popen(["/bin/sleep", "100"], start_new_session=True)
    took = kernel.boot_now() - before
    try:

        def adopted(pid: int, number: int, booted: float) -> bool:
            run = Run(1, 1)
            run.pid, run.booted, run.took_s = pid, booted, took
            process = kernel.read_process(pid)
            assert process is not None
            return is_it(number, run, process)

        assert adopted(marked.pid, 4711, before)
        assert not adopted(marked.pid, 4712, before)  # another job's mark
        assert not adopted(marked.pid, 4711, before - 60)  # a process of another time
        assert not adopted(other.pid, 4711, before)  # a descendant: it bears the mark and leads nothing
        assert not adopted(plain.pid, 4711, before)  # a stranger
    finally:
        for process in (marked, other, plain):
            process.kill()
            process.wait()


def test_a_full_disk_refuses_and_recovers(state_dir: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs a small file system of its own, which only root can mount")
    state_dir.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", str(state_dir)], check=True)
    try:
        rig = Rig(state_dir, slots=1)
        try:
            _fill_and_free(rig, state_dir)
        finally:
            rig.close()
            stop(state_dir)
    finally:
        subprocess.run(["umount", "-l", str(state_dir)], check=True)


def _fill_and_free(rig: Rig, state_dir: Path) -> None:
    from jobyard.errors import SubmitError

    assert rig.run(["/bin/true"], directory="/").success
    running = rig.submit(FOREVER, directory="/")
    rig.until(running, JobState.RUNNING)
    ballast = state_dir / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    big = {"X": "y" * 100_000}
    refused: SubmitError | None = None
    for _ in range(100):
        try:
            rig.submit(["/bin/true"], directory="/", environment=big, hold=True)
        except SubmitError as error:
            refused = error
            break
    assert refused is not None
    assert "journal" in str(refused)
    assert refused.retryable
    server = rig.pair()[0]
    rig.control(Action.CANCEL, running)  # what runs can be ended all the same
    ballast.unlink()
    assert rig.wait(running).state is JobState.CANCELLED
    assert rig.run(["/bin/true"], directory="/").success
    assert rig.pair()[0] == server


def test_retention(open_rig: Callable[..., Rig]) -> None:
    rig = open_rig()
    old = [rig.submit(["/bin/echo", "x"]) for _ in range(3)]
    rig.wait_all(old)
    session = rig.keeper.session_id
    path = Path(rig.keeper.streams(old[0].key)[0] or "")
    assert path.exists()
    rig.close()
    stop(rig.state_dir)
    later = open_rig(session, retention="0.001")
    assert len(later.keeper.states()) == 3
    eventually(lambda: not later.keeper.states())
    assert not path.exists()
    new = later.submit(["/bin/true"])
    assert new.key > max(job.key for job in old)  # numbers are never given twice
    later.wait(new)


def test_peer_is_checked(rig: Rig) -> None:
    rig.run(["/bin/true"])
    sock = paths.connect(str(rig.state_dir / "local" / "socket"))
    try:
        assert paths.peer_uid(sock) == os.getuid()
        sock.sendall(b"\xff\xff\xff\xffnonsense")
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        assert poll.poll(10_000)
        assert sock.recv(10) == b""  # thrown out, and the server lives
    finally:
        sock.close()
    assert rig.run(["/bin/true"]).success


def test_a_request_without_sense_is_answered_and_harms_nobody(rig: Rig) -> None:
    rig.run(["/bin/true"])
    server = rig.pair()[0]
    for operation, arguments in (
        ("states", [1, 2, 3]),
        ("no such thing", []),
        ("control", ["?", [1], None]),
    ):
        with pytest.raises(ControlError):
            rig.keeper._connection.request(operation, *arguments)
    assert rig.run(["/bin/true"]).success
    assert rig.pair()[0] == server


def test_listing_is_fast(rig: Rig) -> None:
    count = 20_000
    rig.keeper.submit([rig.describe(["/bin/true"], hold=True)] * count)
    listed, newest = list[float](), list[float]()
    for _ in range(5):  # the quickest of each: a loaded machine delays it least
        begun = time.perf_counter()
        assert len(rig.keeper.states()) == count
        listed.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        assert len(rig.keeper.entries(newest=50)) == 50
        newest.append(time.perf_counter() - begun)
    assert min(listed) < 1.0
    assert min(newest) < 0.3
    rig.control(Action.CANCEL, *rig.keeper.submit([rig.describe(["/bin/true"], hold=True)]))
