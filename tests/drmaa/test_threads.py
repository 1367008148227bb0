"""Cases with several threads and processes: each ending once, leaving while others wait, fork, Ctrl-C."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import drmaa
from drmaa_suite.run import (
    ALL,
    ANY,
    CHUNK,
    ENDED,
    FOREVER,
    NOW,
    PATIENCE_S,
    PROGRAM_S,
    SMALL,
    TERMINATE,
    THREADS,
    Place,
    fill,
    shell,
    sleeper,
    template,
    until,
)

Shared = type[drmaa.Session]
SOON_S = 1.0
AFTER_EXIT = (drmaa.NoActiveSessionException, drmaa.DrmCommunicationException, drmaa.ExitTimeoutException)


class Crew:
    """Threads whose errors the test sees."""

    def __init__(self, *jobs: Callable[[], None]) -> None:
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(job,)) for job in jobs]
        for thread in self._threads:
            thread.start()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            self.errors.append(error)

    def within(self, function: str) -> int:
        """How many of the threads are inside a function of that name."""
        count = 0
        frames = sys._current_frames()
        for thread in self._threads:
            frame = frames.get(thread.ident or 0)
            while frame is not None and frame.f_code.co_name != function:
                frame = frame.f_back
            count += frame is not None
        return count

    def join(self, timeout_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a thread hangs"
        for error in self.errors:
            raise error


def for_ever(call: Callable[[], object]) -> None:
    while True:
        call()


def test_submit_in_threads(session: Shared, folder: Path) -> None:
    """MT_SUBMIT_WAIT."""
    jobs: list[str] = []
    jt = template(folder)
    Crew(*[lambda: jobs.extend(session.runJob(jt) for _ in range(CHUNK))] * THREADS).join()
    assert len(set(jobs)) == THREADS * CHUNK
    assert Counter(session.wait(ANY, PATIENCE_S).jobId for _ in jobs) == Counter(jobs)


def test_submit_before_initialize(nobody: Place, folder: Path) -> None:
    """MT_SUBMIT_BEFORE_INIT_WAIT: only 5 before, then success."""
    jobs: list[str] = []
    tried = threading.Semaphore(0)

    def submit() -> None:
        while True:
            try:
                jobs.append(drmaa.Session.runJob(template(folder)))
                return
            except drmaa.NoActiveSessionException:
                tried.release()
                time.sleep(0.005)

    crew = Crew(*[submit] * THREADS)
    for _ in range(THREADS):
        assert tried.acquire(timeout=PATIENCE_S)
    drmaa.Session.initialize(nobody.contact)
    crew.join()
    drmaa.Session.synchronize(jobs, PATIENCE_S, True)
    assert len(set(jobs)) == THREADS


def test_exit_during_submit(nobody: Place, folder: Path) -> None:
    """MT_EXIT_DURING_SUBMIT: the threads get 5; what was acknowledged is there."""
    drmaa.Session.initialize(nobody.contact)
    contact = drmaa.Session.contact
    jobs: list[str] = []

    def submit() -> None:
        with pytest.raises(drmaa.NoActiveSessionException):
            for_ever(lambda: jobs.append(drmaa.Session.runJob(template(folder))))

    crew = Crew(*[submit] * THREADS)
    until(lambda: len(jobs) >= 3 * THREADS, "some jobs have been submitted")
    drmaa.Session.exit()
    crew.join()
    drmaa.Session.initialize(contact)
    drmaa.Session.synchronize([ALL], PATIENCE_S)
    assert {drmaa.Session.wait(ANY, NOW).jobId for _ in jobs} == set(jobs)
    with pytest.raises(drmaa.InvalidJobException):
        drmaa.Session.wait(ANY, NOW)


def test_submit_and_wait_in_threads(session: Shared, folder: Path) -> None:
    """MT_SUBMIT_MT_WAIT: each job is given to one waiter; those that come too late get 18."""
    jobs: list[str] = []
    taken: list[str] = []
    jt = sleeper(folder, 0.05)
    Crew(*[lambda: jobs.extend(session.runJob(jt) for _ in range(CHUNK))] * THREADS).join()

    def wait() -> None:
        with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
            for_ever(lambda: taken.append(session.wait(ANY, FOREVER).jobId))

    Crew(*[wait] * THREADS).join()
    assert Counter(taken) == Counter(jobs)


def test_fifty_threads(session: Shared, folder: Path) -> None:
    """Row 8: submission, status, control and waiting from fifty threads: none lost, none told twice."""
    jobs: list[str] = []
    infos: list[drmaa.JobInfo] = []
    count = 10 if SMALL else 50
    begun = threading.Barrier(count)
    quick = template(folder)
    slow = sleeper(folder, 600)

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            begun.wait(PATIENCE_S)
            job = session.runJob(slow if number % 5 == 0 else quick)
            jobs.append(job)
            if number % 5 == 0:
                session.jobStatus(job)  # nobody can have reaped this one yet
                session.control(job, TERMINATE)
            infos.append(session.wait(ANY, PATIENCE_S))

        return run

    Crew(*[work(number) for number in range(count)]).join()
    assert Counter(info.jobId for info in infos) == Counter(jobs)
    assert sum(info.wasAborted for info in infos) == count // 5
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(ANY, NOW)


def test_two_waiters_for_one_job(session: Shared, folder: Path) -> None:
    """One is told how it ended, the other gets 18."""
    job = session.runJob(shell(folder, f"while [ ! -e {folder}/go ]; do sleep 0.02; done"))
    told: list[str] = []
    refused: list[str] = []

    def wait() -> None:
        try:
            told.append(session.wait(job, FOREVER).jobId)
        except drmaa.InvalidJobException as error:
            refused.append(str(error))

    crew = Crew(wait, wait)
    (folder / "go").touch()
    crew.join()
    assert (told, len(refused)) == ([job], 1)


def test_two_synchronize_at_once(session: Shared, folder: Path) -> None:
    """Overlapping lists: both succeed."""
    jobs = [session.runJob(sleeper(folder, 0.1)) for _ in range(3)]
    Crew(lambda: session.synchronize(jobs[:2], PATIENCE_S), lambda: session.synchronize(jobs[1:], PATIENCE_S, True)).join()


def test_any_sees_jobs_submitted_later(session: Shared, folder: Path) -> None:
    session.runJob(sleeper(folder, 600))
    told: list[str] = []
    crew = Crew(lambda: told.append(session.wait(ANY, PATIENCE_S).jobId))
    later = session.runJob(template(folder))
    crew.join()
    assert told == [later]


@pytest.mark.parametrize("what", ["wait", "any", "synchronize"])
def test_exit_wakes_waiters(nobody: Place, folder: Path, what: str) -> None:
    """Row 9: within a second, with ExitTimeout; exit itself does not wait."""
    drmaa.Session.initialize(nobody.contact)
    contact = drmaa.Session.contact
    job = drmaa.Session.runJob(sleeper(folder, 600))
    call: Callable[[], object] = {
        "wait": lambda: drmaa.Session.wait(job, FOREVER),
        "any": lambda: drmaa.Session.wait(ANY, FOREVER),
        "synchronize": lambda: drmaa.Session.synchronize([job], FOREVER),
    }[what]

    def spent_s() -> float:
        woken: list[float] = []

        def wait() -> None:
            with pytest.raises(drmaa.ExitTimeoutException, match=r"^code 23: .*left by another thread"):
                call()
            woken.append(time.monotonic())

        crew = Crew(*[wait] * THREADS)
        until(lambda: crew.within("wait_until") == THREADS, "all threads wait")
        began = time.monotonic()
        drmaa.Session.exit()
        left = time.monotonic()
        crew.join()
        drmaa.Session.initialize(contact)
        assert drmaa.Session.jobStatus(job) not in ENDED
        return max(*woken, left) - began

    # A machine that has much else to do may be late by itself now and then; what is late by design always is.
    assert any(spent_s() < SOON_S for _ in range(5))


def test_exit_during_submit_or_wait(nobody: Place, folder: Path) -> None:
    """MT_EXIT_DURING_SUBMIT_OR_WAIT: only 5, 2, 23 and 18."""
    drmaa.Session.initialize(nobody.contact)
    submitted = threading.Semaphore(0)

    def submit_one() -> None:
        drmaa.Session.runJob(template(folder))
        submitted.release()

    def submit() -> None:
        with pytest.raises(AFTER_EXIT):
            for_ever(submit_one)

    def wait() -> None:
        while True:
            try:
                drmaa.Session.wait(ANY, FOREVER)
            except drmaa.InvalidJobException:
                continue  # the others have taken all for the moment
            except AFTER_EXIT:
                return

    crew = Crew(*[submit] * THREADS, *[wait] * THREADS)
    for _ in range(5 * THREADS):
        assert submitted.acquire(timeout=PATIENCE_S)
    drmaa.Session.exit()
    crew.join()


# Fork and signals ---------------------------------------------------------------------------------------------------------


def in_child(run: Callable[[], None]) -> int:
    """Run it in a forked child; its exit code. A child that hangs tells where, and ends with 1."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            faulthandler.dump_traceback_later(PROGRAM_S, exit=True, file=2)
            run()
            code = 0
        except BaseException:
            traceback.print_exc()  # pytest shows it where the test fails
            raise
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("again", [True, False])
def test_fork(session: Shared, place: Place, folder: Path, again: bool) -> None:
    """Row 7: a child may use the session, or begin one of its own; the parent's goes on."""
    job = session.runJob(shell(folder, f"while [ ! -e {folder}/go ]; do sleep 0.02; done; exit 2"))
    infos: list[drmaa.JobInfo] = []
    waiting = Crew(lambda: infos.append(session.wait(job, PATIENCE_S)))

    def child() -> None:
        if again:
            drmaa.Session.initialize(place.contact)
        else:
            assert drmaa.Session.jobStatus(job) not in ENDED
        jt = drmaa.Session.createJobTemplate()
        fill(jt, folder, "/bin/sh", "-c", "exit 7")
        own = drmaa.Session.runJob(jt)
        assert drmaa.Session.wait(own, PATIENCE_S).exitStatus == 7
        assert drmaa.Session.jobStatus(job) not in ENDED
        drmaa.Session.exit()

    assert in_child(child) == 0
    (folder / "go").touch()
    waiting.join()
    assert infos[0].exitStatus == 2
    assert session.wait(session.runJob(template(folder)), PATIENCE_S).exitStatus == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_threads_call(session: Shared, folder: Path) -> None:
    """A lock that another thread held at the fork does not hang the child."""
    job = session.runJob(sleeper(folder, 600))
    over = threading.Event()

    def poll() -> None:
        while not over.is_set():
            session.jobStatus(job)

    crew = Crew(*[poll] * THREADS)
    try:
        codes = [in_child(lambda: assert_(session.jobStatus(job) not in ENDED)) for _ in range(10)]
    finally:
        over.set()
    crew.join()
    assert codes == [0] * 10


def assert_(true: bool) -> None:
    assert true


PROGRAM = """
import os, signal, sys, threading, drmaa
what, folder = sys.argv[1:3]
s = drmaa.Session()
s.initialize(sys.argv[3])
jt = s.createJobTemplate()
jt.remoteCommand, jt.args = "/bin/sh", ["-c", f"while [ ! -e {folder}/go ]; do sleep 0.02; done; exit 9"]
jt.workingDirectory, jt.outputPath, jt.joinFiles = folder, ":/dev/null", True
job = s.runJob(jt)
handler = signal.getsignal(signal.SIGINT)
try:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    if what == "synchronize":
        s.synchronize([job])
    else:
        s.wait(s.JOB_IDS_SESSION_ANY if what == "any" else job)
except KeyboardInterrupt:
    open(f"{folder}/go", "w").close()
    print("interrupted", s.wait(job).exitStatus, signal.getsignal(signal.SIGINT) is handler)
s.exit()
"""


@pytest.mark.parametrize("what", ["wait", "any", "synchronize"])
def test_control_c(place: Place, folder: Path, what: str) -> None:
    """Row 10: Ctrl-C interrupts, the job is not lost, no handler was put in."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), what, str(folder), place.contact],
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted 9 True\n", "", 0)
