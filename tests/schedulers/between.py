"""For tests on a bed: programs between jobyard and a scheduler's own commands, and what is asserted of every scheduler with them.

The programs bear the commands' names and are first on PATH. Each notes that it was called, does what fault it was given, and
hands over to the command.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from faults.test_kill_client import kill_and_count
from jobyard import Job, JobState, SchedulerUnavailable, Session
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing import jobs
from jobyard.testing.polling import eventually

LIMIT_S = 240.0  # a small job has run within, on a bed that other tests keep busy


class Commands:
    """The commands in between. ``real``: by name, where the scheduler's own is. ``query``: how a query of the queue begins."""

    def __init__(self, folder: Path, real: Mapping[str, Path], query: str) -> None:
        self.folder = folder
        self.programs = tuple(real)
        self._query = query
        self._calls = folder / "calls"
        self._calls.touch()
        for program, path in real.items():
            script = folder / program
            script.write_text(
                f'#!/bin/sh\nreal={path}\nprintf "%s\\n" "{program} $*" >> "{folder}/calls"\n'
                f'[ ! -e "{folder}/{program}.fault" ] || . "{folder}/{program}.fault"\nexec "$real" "$@"\n'
            )
            script.chmod(0o755)

    def fault(self, script: str, *programs: str) -> None:
        """Let calls of these run this shell text first; it may exit."""
        for program in programs:
            new = self.folder / f"{program}.new"
            new.write_text(script)
            new.rename(self.folder / f"{program}.fault")

    def clear(self) -> None:
        """No more faults."""
        for path in self.folder.glob("*.fault"):
            path.unlink()

    def calls(self, begins: str) -> int:
        """How often a command was called that begins so."""
        return sum(line.startswith(begins) for line in self._calls.read_text().splitlines())

    def queries(self) -> int:
        """How often the queue was asked."""
        return self.calls(self._query)


def found(program: str) -> Path:
    """Where the scheduler's own command is; asked before ours is on PATH."""
    path = shutil.which(program)
    assert path is not None, f"{program} is not on PATH"
    return Path(path)


def put_between(folder: Path, patch: pytest.MonkeyPatch, real: Mapping[str, Path], query: str) -> Commands:
    """The commands in between, on PATH."""
    folder.mkdir()
    made = Commands(folder, real, query)
    patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return made


# Waiting ----------------------------------------------------------------------------------------------------------------------


def reached(session: Session, job: Job, *states: JobState, timeout_s: float = LIMIT_S) -> None:
    """Wait until the job was seen in one of these states."""
    event = threading.Event()
    watch = session.watch(lambda _, transition: event.set() if transition.state in states else None, [job])
    if job.state not in states:
        assert event.wait(timeout_s), (job.state, [line.text for line in job.why()])
    watch.close()


def begun(session: Session, tmp_path: Path) -> Job:
    """A job whose command runs, until there is a file ``gate``, and which is seen running.

    The queue's word alone does not say so much: it shows a job as running while the node still prepares it, and what ends it
    then finds nobody who could report it.
    """
    job = session.submit(jobs.gated(tmp_path / "gate", begun=tmp_path / "begun"))
    eventually((tmp_path / "begun").exists, "its command has begun", LIMIT_S)
    reached(session, job, JobState.RUNNING)
    return job


# A scheduler that is away -------------------------------------------------------------------------------------------------------

FAULTS = ("away", "garbage", "empty", "truncated", "killed", "slow")
_FAULTS = {
    "garbage": "echo '<html><body>503 Service Unavailable</body></html>'; exit 0\n",
    "empty": "exit 0\n",
    "truncated": '"$real" "$@" | head -c 300; exit 0\n',
    "killed": "kill -9 $$\n",
    "slow": "sleep 30; exit 1\n",
}


def assert_no_answer_changes_nothing(
    session: Session, commands: Commands, tmp_path: Path, kind: str, away: str, *, silent_s: float = 0.2 + 0.4
) -> None:
    """No state changes while the commands fail in this way, and all goes on by itself once they do not.

    ``session``: one that asks every 0.2 s. ``away``: the fault of that kind. ``silent_s``: three tries take longer.
    """
    scheduler = session.scheduler
    assert isinstance(scheduler, CommandScheduler)
    options = scheduler.options
    waiting, running = session.submit(jobs.succeed(), hold=True), session.submit(jobs.gated(tmp_path / "gate"))
    reached(session, running, JobState.RUNNING)
    reached(session, waiting, JobState.HELD)
    seen: list[tuple[str, JobState]] = []
    session.watch(lambda job, transition: seen.append((job.token, transition.state)))
    if kind == "slow":
        scheduler.options = msgspec.structs.replace(options, timeout_s=1.0)
    commands.fault(away if kind == "away" else _FAULTS[kind], *commands.programs)
    before = commands.queries()
    since_s = time.monotonic()
    eventually(lambda: commands.queries() >= before + 3, "it is asked again and again", 150)
    assert time.monotonic() - since_s > silent_s, "each time later"
    assert seen == []
    assert (waiting.state, running.state) == (JobState.HELD, JobState.RUNNING)
    (tmp_path / "gate").touch()
    assert running.wait(60).success, "a receipt that is final alone needs no scheduler"
    commands.clear()
    scheduler.options = options
    reached(session, waiting, JobState.HELD)
    waiting.release()
    assert waiting.wait(LIMIT_S).success


def assert_lost_answer(session: Session, commands: Commands, tmp_path: Path, submit: str, away: str, *, taken: bool) -> None:
    """A submission whose answer is lost is looked up by its token: adopted where it is there, called unavailable where it is not;
    never run twice, or later."""
    commands.fault(('"$real" "$@" >/dev/null\n' if taken else "") + away, submit)
    script = jobs.append(tmp_path / "log", "ran")
    if taken:
        job = session.submit(script)
        assert job.native_id
        assert job.wait(LIMIT_S).success
        assert (tmp_path / "log").read_text().count("begin") == 1
    else:
        with pytest.raises(SchedulerUnavailable):
            session.submit(script)
        commands.clear()
        session.submit(jobs.succeed()).wait(LIMIT_S).check()
        assert not (tmp_path / "log").exists()


# Cost -----------------------------------------------------------------------------------------------------------------------------


def assert_thousand_are_one(session: Session, commands: Commands, submit: str, cancel: str, *, count: int = 1000) -> None:
    """A thousand like jobs are one command to submit, and one to cancel; ``count``: fewer, where they take minutes."""
    many = session.submit_all([jobs.exit_with(n % 3) for n in range(count)], hold=True)
    assert len({job.native_id for job in many}) == count
    assert commands.calls(submit) == 1
    before = commands.calls(cancel)
    session.cancel(many)
    assert commands.calls(cancel) - before == 1
    session.wait_all(many, timeout=LIMIT_S)


_CLIENT = """
import json, sys
import jobyard
with jobyard.Session(sys.argv[1]) as session:
    many = session.submit_all([jobyard.JobDescription(argv=("/bin/true",))] * int(sys.argv[2]), hold=True)
    print(json.dumps([job.native_id for job in many]), flush=True)
    sys.stdin.readline()
    session.watch(lambda job, transition: None)
    try:
        session.wait_all(timeout=float(sys.argv[3]))
    except TimeoutError:
        pass
    print("waited", flush=True)
    sys.stdin.readline()
    session.cancel()
"""


def _say(one: subprocess.Popen[str]) -> None:
    assert one.stdin is not None
    one.stdin.write("\n")
    one.stdin.flush()


def _hear(one: subprocess.Popen[str]) -> str:
    assert one.stdout is not None
    return one.stdout.readline()


def follow(commands: Commands, contact: str, clients: int, jobs_each: int, wait_s: float) -> int:
    """So many processes follow their jobs for a while, all at once; how often the queue was asked meanwhile."""
    argv = [sys.executable, "-c", _CLIENT, contact, str(jobs_each), str(wait_s)]
    running = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(clients)]
    try:
        for one in running:
            assert len(json.loads(_hear(one))) == jobs_each
        before = commands.queries()
        for one in running:
            _say(one)
        for one in running:
            assert _hear(one) == "waited\n"
        asked = commands.queries() - before
        for one in running:
            one.communicate("\n", timeout=LIMIT_S)
        assert [one.returncode for one in running] == [0] * clients
    finally:
        for one in running:
            one.kill()
            one.wait()
    return asked


_STAMP = "import sys, time; time.sleep(0.3); open(sys.argv[1], 'w').write(repr(time.time()))"


def assert_told_at_once(session: Session, tmp_path: Path, times: int) -> None:
    """The median from a job's last act to the end of wait(): under 0.2 s.

    On a machine that others keep busy every process waits for its turn: beside each job a child of ours ends, and how late that is
    known says how busy the machine is. On the way from a job's end to wait() four wait so, one after the other: the shepherd, the
    thread that reads its receipt, the disk, and the caller.
    """
    late_s, child_s = [], []
    for n in range(times):
        stamp, other = tmp_path / f"end.{n}", tmp_path / f"child.{n}"
        job = session.submit([sys.executable, "-c", _STAMP, stamp])
        assert job.wait(LIMIT_S).success
        late_s.append(time.time() - float(stamp.read_text()))
        subprocess.run([sys.executable, "-c", _STAMP, other], check=True)
        child_s.append(time.time() - float(other.read_text()))
    assert statistics.median(late_s) < max(0.2, 5 * statistics.median(child_s)), (late_s, child_s)


# Crashes --------------------------------------------------------------------------------------------------------------------------


def assert_killed_clients_lose_nothing(contact: str, yard: Path, kills: int, seed: int) -> None:
    """As many runs as accepted jobs, none twice, all known, however often the client is killed around submission."""
    with Session(contact) as session:
        whole = session.contact  # with its session
    kill_and_count(whole, yard, kills, seed)
