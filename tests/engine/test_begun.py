"""Submissions whose command begins while their intent is made durable: the scheduler hears of nothing that is not in it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobyard import Job, JobDescription, Session, ahead
from jobyard.errors import JournalError, NoScheduler, SubmitError
from jobyard.journal import Journal
from jobyard.schedulers.base import BeginsSubmissions, Begun, Submission
from jobyard.schedulers.command import CommandScheduler
from jobyard.schedulers.slurm import SlurmScheduler
from jobyard.testing.polling import assert_gone, eventually
from jobyard.transports.base import Command, ProgramMissing, StartsCommands, TransportClosed
from jobyard.transports.local import LocalTransport

# As sbatch does it: what it was told, then the script, and "empty" where none came.
SBATCH = """#!/bin/sh
case "$*" in *--version*) echo slurm 24.11.5; exit;; esac
echo "$$ $*" >>{log}/begun
script=$(cat)
if [ -z "$script" ]; then
    echo empty >>{log}/empty
    echo "sbatch: error: Batch script is empty!" >&2
    exit 1
fi
case "$* $script" in *"$REFUSED"*) echo "sbatch: error: Batch job submission failed: Invalid qos specification" >&2; exit 1;; esac
printf '%s\\n' "$script" >>{log}/taken
echo "$*" >>{log}/told
echo $$
"""
OTHER = "#!/bin/sh\nexit 0\n"


@pytest.fixture
def log(tmp_path: Path, yard: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the programs leave their traces; they are the only Slurm on PATH."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    log.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct"):
        (programs / name).write_text(SBATCH.format(log=log) if name == "sbatch" else OTHER)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("REFUSED", "nothing has this")
    return log


@pytest.fixture
def session(log: Path) -> Iterator[Session]:
    with Session("slurm") as session:
        yield session


def _all_gone(log: Path) -> None:
    for line in (log / "begun").read_text().splitlines():
        assert_gone(int(line.split()[0]))


def test_the_script_comes_by_the_input(session: Session, log: Path) -> None:
    job = session.submit(["true"])
    assert job.native_id == (log / "begun").read_text().split()[0]
    assert (log / "taken").read_text().startswith("#!/bin/sh\n")
    assert job.token in (log / "taken").read_text()
    assert isinstance(session.scheduler, BeginsSubmissions)
    _all_gone(log)


def test_the_command_begins_before_the_intent_is_durable(session: Session, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what it is for; and where the intent cannot be written, the scheduler never hears of the job."""

    def full(self: Journal, intents: object) -> None:
        raise JournalError("the disk is full")

    monkeypatch.setattr(Journal, "intend", full)
    with pytest.raises(JournalError, match="full"):
        session.submit(["true"])
    assert not (log / "taken").exists()
    assert not session.jobs()
    scheduler = session.scheduler
    assert isinstance(scheduler, CommandScheduler)
    assert scheduler.commands_run["submit"] == 1
    monkeypatch.undo()


def test_a_folder_that_cannot_be_written(session: Session, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session.submit(["true"])

    def denied(self: object, token: str, files: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("jobyard.job_folders.LocalFolders.create", denied)
    with pytest.raises(SubmitError, match="cannot be written"):
        session.submit(["true"])
    assert (log / "taken").read_text().count("#!/bin/sh") == 1
    assert len(session.jobs()) == 1, "nothing half-done stays"
    _all_gone(log)


def test_a_refusal_is_told(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSED", "exec")
    with pytest.raises(SubmitError, match="Invalid qos"):
        session.submit(["true"])
    assert not session.jobs()


def test_many_places_are_given_back(session: Session, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login has four places for commands: what was begun, abandoned, refused or taken holds none."""
    monkeypatch.setattr(ahead, "HURRY_S", 0.0)
    for number in range(12):
        monkeypatch.setenv("REFUSED", "exec" if number % 2 else "nothing has this")
        if number % 2:
            with pytest.raises(SubmitError):
                session.submit(["true"])
        else:
            session.submit(["true"])
    assert len((log / "begun").read_text().splitlines()) == 12


KILLED = """
import os, signal, sys
from jobyard import Session
from jobyard.journal import Journal

def die(self, intents):
    with open(sys.argv[1]) as begun:  # a FIFO: until the command has begun
        begun.read(1)
    os.kill(os.getpid(), signal.SIGKILL)

with Session("slurm") as session:
    Journal.intend = die
    session.submit(["true"])
"""


def test_a_client_that_is_killed_before_its_intent_is_durable(log: Path) -> None:
    """The command finds its input empty, and says nothing to the scheduler."""
    os.mkfifo(log / "begun")
    os.mkfifo(log / "empty")
    done = subprocess.run([sys.executable, "-c", KILLED, str(log / "begun")], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    said = subprocess.run(["timeout", "60", "cat", str(log / "empty")], stdout=subprocess.PIPE, check=True)
    assert said.stdout == b"empty\n"
    assert not (log / "taken").exists()
    with Session("slurm") as session:
        assert not session.jobs()


# Begun ahead --------------------------------------------------------------------------------------------------------


@pytest.fixture
def looping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever submits is in a loop, however slow this machine is."""
    monkeypatch.setattr(ahead, "HURRY_S", 3600.0)
    monkeypatch.setattr(ahead, "IDLE_S", 3600.0)


def _begun(log: Path) -> int:
    return len((log / "begun").read_text().splitlines())


def _each_ran_as_it_is(log: Path, jobs: list[Job]) -> None:
    """One script for each job, with the options of that job."""
    assert len({job.token for job in jobs}) == len(jobs)
    scripts, told = (log / "taken").read_text().split("#!/bin/sh\n")[1:], (log / "told").read_text().splitlines()
    assert len(scripts) == len(told) == len(jobs)
    for job, script, options in zip(jobs, scripts, told, strict=True):
        assert job.token in script
        assert f"/{job.token} " in options
        assert f"--job-name={job.name} " in options


@pytest.mark.usefixtures("looping")
def test_in_a_loop_the_next_command_is_there_already(session: Session, log: Path) -> None:
    jobs = [session.submit(["true"], name="same") for _ in range(6)]
    _each_ran_as_it_is(log, jobs)
    assert len({job.native_id for job in jobs}) == 6
    eventually(lambda: _begun(log) == 7, "one more is there")
    session.close()
    _all_gone(log)
    scheduler = session.scheduler
    assert isinstance(scheduler, CommandScheduler)
    assert scheduler.commands_run["submit"] == 6


def test_who_does_not_loop_begins_nothing(session: Session, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "HURRY_S", 0.0)
    for _ in range(3):
        session.submit(["true"])
    assert _begun(log) == 3


@pytest.mark.usefixtures("looping")
def test_what_nobody_comes_for_is_ended(session: Session, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "IDLE_S", 0.05)
    session.submit(["true"])
    _all_gone(log)
    session.submit(["true"])
    _all_gone(log)
    eventually(lambda: all(thread.name != "jobyard-ahead" for thread in threading.enumerate()), "its thread ends")


@pytest.mark.usefixtures("looping")
def test_where_no_thread_can_be_started_nothing_waits(session: Session, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has as many processes as may be: a job that was accepted is, and no command is left that nobody ends."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        jobs = [session.submit(["true"], name="same") for _ in range(3)]
    _all_gone(log)
    jobs.append(session.submit(["true"], name="same"))
    _each_ran_as_it_is(log, jobs)


@pytest.mark.usefixtures("looping")
@pytest.mark.parametrize("what", ["name", "cores", "environment", "folder", "limit"])
def test_another_command_is_not_taken_for_it(
    session: Session, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Neither other options, nor what sbatch takes from the process that starts it."""
    jobs = [session.submit(["true"], name="one"), session.submit(["true"], name="one")]
    eventually(lambda: _begun(log) == 3, "one more is there")
    fields = {"name": "one"}
    if what == "name":
        fields["name"] = "two"
    elif what == "cores":
        fields["cores"] = 2  # type: ignore[assignment]
    elif what == "environment":
        monkeypatch.setenv("SBATCH_QOS", "another")
    elif what == "folder":
        monkeypatch.chdir(tmp_path)
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0 if soft else 4096, hard))
    try:
        jobs.append(session.submit(["true"], **fields))
    finally:
        if what == "limit":
            resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    _each_ran_as_it_is(log, jobs)
    assert ("--cpus-per-task=2" in (log / "told").read_text().splitlines()[-1]) == (what == "cores")
    assert _begun(log) == 4
    session.close()
    _all_gone(log)


@pytest.mark.usefixtures("looping")
def test_what_never_fits_is_begun_less_and_less(session: Session, log: Path) -> None:
    jobs = [session.submit(["true"], name=f"job{number}") for number in range(20)]
    _each_ran_as_it_is(log, jobs)
    assert _begun(log) <= 20 + 4


@pytest.mark.usefixtures("looping")
def test_a_refusal_in_a_loop(session: Session, log: Path) -> None:
    jobs = []
    for number in range(6):
        if number % 2:
            with pytest.raises(SubmitError, match="Invalid qos"):
                session.submit(["true"], name="nothing has this")
        else:
            jobs.append(session.submit(["true"], name="same"))
    assert len(session.jobs()) == 3
    assert {job.token for job in session.jobs()} == {job.token for job in jobs}


@pytest.mark.usefixtures("looping")
def test_many_threads_submit_each_its_own(session: Session, log: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(lambda number: session.submit(["true"], name="same"), range(40)))
    assert len({job.token for job in jobs}) == len({job.native_id for job in jobs}) == 40
    scripts = (log / "taken").read_text()
    assert all(job.token in scripts for job in jobs)
    session.close()
    _all_gone(log)


@pytest.mark.usefixtures("looping")
def test_a_forked_child_keeps_no_command_waiting(session: Session, log: Path) -> None:
    """The script ends where nobody can write any more of it; the child could."""
    session.submit(["true"])
    session.submit(["true"])
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        session.submit(["true"])
    finally:
        os.close(writing)
        os.waitpid(child, 0)
    assert (log / "taken").read_text().count("#!/bin/sh") == 3


AHEAD = """
import os, signal, sys
from jobyard import Session, ahead

ahead.HURRY_S = ahead.IDLE_S = 3600.0
session = Session("slurm")
session.submit(["true"])
session.submit(["true"])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_client_that_is_killed_while_one_waits(log: Path) -> None:
    done = subprocess.run([sys.executable, "-c", AHEAD], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    eventually((log / "empty").exists, "it finds its input empty")
    assert (log / "taken").read_text().count("#!/bin/sh") == 2
    _all_gone(log)


# The parts ----------------------------------------------------------------------------------------------------------


def _cat(script: str = "cat") -> Command:
    return Command(argv=("/bin/sh", "-c", script))


def test_a_started_command_gets_its_input_later() -> None:
    transport = LocalTransport()
    assert isinstance(transport, StartsCommands)
    started = transport.start(_cat("echo begun; cat; exit 3"))
    result = started.finish(b"said later")
    assert (result.returncode, result.stdout) == (3, b"begun\nsaid later")
    started.abandon()
    empty = transport.start(_cat())
    assert empty.finish(b"").stdout == b""


def test_an_abandoned_command_is_ended_and_reads_nothing(tmp_path: Path) -> None:
    transport = LocalTransport()
    started = transport.start(_cat(f"echo $$ >'{tmp_path}/pid'; trap '' TERM; cat >'{tmp_path}/read'; echo >'{tmp_path}/after'"))
    while not (tmp_path / "read").exists():
        os.sched_yield()
    started.abandon()
    started.abandon()
    assert_gone(int((tmp_path / "pid").read_text()))
    assert (tmp_path / "read").read_bytes() == b""


def test_a_command_that_reads_nothing_and_ends(tmp_path: Path) -> None:
    started = LocalTransport().start(_cat("exec <&-; echo refused >&2; exit 1"))
    result = started.finish(b"x" * 100_000)
    assert (result.returncode, result.stderr) == (1, b"refused\n")


def test_a_program_that_is_missing() -> None:
    with pytest.raises(ProgramMissing):
        LocalTransport().start(Command(argv=("no-such-program",)))


def test_a_closed_transport_starts_nothing() -> None:
    transport = LocalTransport()
    transport.close()
    with pytest.raises(TransportClosed):
        transport.start(_cat())


def test_closing_ends_what_was_started(tmp_path: Path) -> None:
    transport = LocalTransport()
    started = transport.start(_cat(f"echo $$ >'{tmp_path}/pid'; cat"))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        os.sched_yield()
    transport.close()
    with pytest.raises(TransportClosed):
        started.finish(b"late")
    assert_gone(int((tmp_path / "pid").read_text()))


def test_without_slurm_the_error_is_that_of_submit(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = SlurmScheduler(LocalTransport(environment={"PATH": "/nonexistent"}))
    submission = Submission(token="a" * 32, folder="/w/" + "a" * 32, description=JobDescription(argv=("x",)))
    begun: Begun | None = scheduler.begin_submission(submission)
    assert begun is None
    with pytest.raises(NoScheduler, match="sbatch"):
        scheduler.submit(submission)
