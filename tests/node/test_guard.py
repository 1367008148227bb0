"""A guarded job: the shepherd keeps its walltime, ends it where ``stop.N`` appears, and where the worker that ran it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from jobyard.job import Cause, Limits
from jobyard.schedulers.base import Traits
from jobyard.testing.polling import eventually
from node.rig import NODE, Rig, kill_session

GUARDED = Traits(native_id_variables=("RIG_ID",), guarded=True)


def test_a_job_that_ends_by_itself_is_left_alone(rig: Rig) -> None:
    """Longer than a few looks, with a child that an alarm would have killed."""
    run = rig.sh("/bin/sleep 0.8; exit 3", traits=GUARDED, limits=Limits(walltime_s=60.0))
    assert run.end.ending is not None
    assert (run.code, run.end.ending.exit_code, run.end.ending.cause, run.end.clean) == (3, 3, Cause.EXITED, True)
    assert run.end.signals == ()


def test_the_walltime(rig: Rig) -> None:
    began = time.monotonic()
    run = rig.sh("/bin/sleep 60", traits=GUARDED, limits=Limits(walltime_s=1.5))
    assert time.monotonic() - began < 50
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.signal, run.end.clean, run.end.ended) == (Cause.WALLTIME, "SIGTERM", True, True)
    assert "walltime of 1.5 s" in ending.message


def test_the_walltime_of_one_that_heeds_no_term(one_rig: Rig) -> None:
    """KILL follows, for the command and for what it started; the shepherd lives on and tells of it."""
    text = "trap '' TERM; /bin/sleep 61 & echo $! > child; while :; do /bin/sleep 1; done"
    run = one_rig.sh(text, traits=GUARDED, limits=Limits(walltime_s=3.0))  # time for the trap
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.signal, run.end.clean) == (Cause.WALLTIME, "SIGKILL", True)
    child = int((one_rig.home / "child").read_text())
    eventually(lambda: _is_over(child))


def _is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_cancelled_while_it_runs(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", ": > ready; exec /bin/sleep 60"], traits=GUARDED)
    process = placed.start()
    eventually((rig.home / "ready").exists)
    (placed.folder / "stop.0").touch()
    run = placed.finish(process)
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.signal, ending.aborted, run.end.clean) == (Cause.CANCELLED, "SIGTERM", False, True)


def test_cancelled_before_it_begins(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", ": > ran"], traits=GUARDED)
    (placed.folder / "stop.0").touch()
    ending = placed.run().end.ending
    assert ending is not None
    assert (ending.cause, ending.aborted) == (Cause.CANCELLED, True)
    assert not (rig.home / "ran").exists()


def test_another_tasks_stop_is_not_ours(rig: Rig) -> None:
    placed = rig.place(["/bin/sleep", "0.4"], traits=GUARDED)
    (placed.folder / "stop.1").touch()
    assert placed.run().code == 0


def test_the_worker_dies(rig: Rig) -> None:
    """Killed without a word: what it ran ends, and the receipt says why."""
    placed = rig.place(["/bin/sh", "-c", "echo $$ > pid; exec /bin/sleep 60"], traits=GUARDED)
    text = "import subprocess,sys; subprocess.Popen(sys.argv[1:], start_new_session=True).wait()"
    words = [sys.executable, "-c", text, str(placed.folder / "run.sh")]
    worker = subprocess.Popen(words, env={**NODE, "RIG_ID": "17"}, start_new_session=True)
    try:
        eventually(lambda: (rig.home / "pid").exists() and (rig.home / "pid").read_text().strip())
        worker.kill()
        worker.wait()
        eventually(lambda: any(one.what == "end" for _, one in placed.receipts()))
    finally:
        kill_session(worker)
    (end,) = [one for _, one in placed.receipts() if one.what == "end"]
    assert end.ending is not None
    assert (end.ending.cause, end.clean) == (Cause.NODE, True)
    assert "worker" in end.ending.message


def test_an_alarm_from_elsewhere_is_a_look_and_no_more(one_rig: Rig) -> None:
    placed = one_rig.place(["/bin/sh", "-c", ": > ready; until [ -e go ]; do /bin/sleep 0.01; done; exit 4"], traits=GUARDED)
    process = placed.start()
    eventually((one_rig.home / "ready").exists)
    for _ in range(20):
        os.kill(process.pid, signal.SIGALRM)
    (one_rig.home / "go").touch()
    run = placed.finish(process)
    assert (run.code, run.end.clean) == (4, True)
