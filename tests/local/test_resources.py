"""Slots, memory, GPUs, limits: booked, enforced, and refused where the machine has less."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobyard.errors import InvalidContact, UnsupportedAttribute
from jobyard.job import Cause, JobState
from jobyard.schedulers.base import Action
from jobyard.testing.polling import eventually
from local.rig import Rig

FOREVER = ["/bin/sleep", "1000"]


def written(path: Path) -> str:
    """What a job wrote into a file, once it is there."""
    return str(eventually(lambda: path.exists() and path.read_text().strip()))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cores": 3}, "cores"),
        ({"processes": 2, "cores": 2}, "cores"),
        ({"gpus": 3}, "gpus"),
        ({"memory": "1000TiB"}, "memory"),
        ({"queue": "fast"}, "queue"),
        ({"account": "me"}, "account"),
        ({"nodes": 2}, "nodes"),
        ({"email": ["me@example.org"]}, "email"),
        ({"native": ["-x"]}, "native"),
    ],
)
def test_more_than_there_is_is_refused(open_rig: Callable[..., Rig], fields: dict[str, object], named: str) -> None:
    rig = open_rig(gpus="2")
    with pytest.raises(UnsupportedAttribute, match=named) as caught:
        rig.submit(["/bin/true"], **fields)
    assert "local" in str(caught.value)
    assert rig.keeper.keys() == []


def test_options_are_checked(open_rig: Callable[..., Rig]) -> None:
    for option, value in (("slots", "0"), ("slots", "x"), ("memory", "much"), ("colour", "red"), ("gpus", "0+0")):
        with pytest.raises(InvalidContact, match=option):
            open_rig(**{option: value})


def test_a_second_contact_does_not_change_the_slots(open_rig: Callable[..., Rig]) -> None:
    first = open_rig(slots=2)
    first.run(["/bin/true"])
    second = open_rig(slots=64)
    with pytest.raises(UnsupportedAttribute):
        second.submit(["/bin/true"], cores=3)


def test_cores_are_booked(rig: Rig) -> None:
    wide = rig.submit(FOREVER, cores=2)
    rig.until(wide, JobState.RUNNING)
    narrow = rig.submit(["/bin/true"])
    assert rig.keeper.entries([narrow.key])[0].state is JobState.QUEUED
    rig.control(Action.CANCEL, wide)
    assert rig.wait(narrow).success


def test_backfill_needs_a_limit(open_rig: Callable[..., Rig]) -> None:
    rig = open_rig(slots=2)
    long = rig.submit(FOREVER, walltime=600)
    rig.until(long, JobState.RUNNING)
    wide = rig.submit(FOREVER, cores=2)
    unlimited = rig.submit(["/bin/true"])
    short = rig.submit(["/bin/true"], walltime=10)
    assert rig.wait(short).success
    assert unlimited.key not in rig.endings
    rig.control(Action.CANCEL, long)
    rig.until(wide, JobState.RUNNING)
    assert unlimited.key not in rig.endings
    rig.control(Action.CANCEL, wide)
    assert rig.wait(unlimited).success


def test_memory_is_booked_and_enforced(open_rig: Callable[..., Rig]) -> None:
    rig = open_rig(memory="300MiB")
    first = rig.submit(FOREVER, memory="200MiB")
    rig.until(first, JobState.RUNNING)
    second = rig.submit(["/bin/true"], memory="200MiB")
    assert rig.keeper.entries([second.key])[0].state is JobState.QUEUED
    rig.control(Action.CANCEL, first)
    assert rig.wait(second).success
    eater = rig.run([sys.executable, "-c", "import time; x = bytearray(250 << 20); time.sleep(1000)"], memory="100MiB")
    assert eater.cause is Cause.MEMORY
    assert eater.state is JobState.FAILED
    assert eater.signal == "SIGKILL"


def test_gpus_are_handed_out(open_rig: Callable[..., Rig], tmp_path: Path) -> None:
    rig = open_rig(slots=4, gpus="7+9")
    script = "echo $CUDA_VISIBLE_DEVICES >$JOBYARD_NATIVE_ID.gpus; sleep 1000"
    jobs = [rig.submit(script, gpus=1, directory=str(tmp_path)) for _ in range(3)]
    files = [tmp_path / f"{job.native_id}.gpus" for job in jobs]
    assert {written(path) for path in files[:2]} == {"7", "9"}
    assert rig.keeper.entries([jobs[2].key])[0].state is JobState.QUEUED
    had = files[0].read_text().strip()
    rig.control(Action.CANCEL, jobs[0])
    assert written(files[2]) == had
    rig.control(Action.CANCEL, *jobs[1:])
    rig.wait_all(jobs)


def test_walltime_counts_suspended_time(rig: Rig) -> None:
    job = rig.submit(FOREVER, walltime=3.0)
    rig.until(job, JobState.RUNNING)
    rig.control(Action.SUSPEND, job)
    ending = rig.wait(job)
    assert ending.cause is Cause.WALLTIME
    assert ending.state is JobState.FAILED
    assert ending.usage.wall_s is not None
    assert 2.99 <= ending.usage.wall_s < 60


def test_run_time_leaves_suspended_time_out(rig: Rig) -> None:
    job = rig.submit(FOREVER, run_time=2.5)
    rig.until(job, JobState.RUNNING)
    rig.control(Action.SUSPEND, job)
    assert not rig.keeper.wait_until(lambda: job.key in rig.endings, 2.8)
    rig.control(Action.RESUME, job)
    ending = rig.wait(job)
    assert ending.cause is Cause.WALLTIME
    assert ending.usage.wall_s is not None
    assert ending.usage.wall_s > 5.1


def test_deadline(rig: Rig) -> None:
    job = rig.submit(FOREVER, deadline_at=time.time() + 0.5)
    held = rig.submit(["/bin/true"], deadline_at=time.time() + 0.5, hold=True)
    assert rig.wait(job).cause is Cause.WALLTIME
    ending = rig.wait(held)
    assert ending.cause is Cause.WALLTIME
    assert ending.aborted


def test_hard_limits(rig: Rig) -> None:
    job = rig.submit(
        "ulimit -c; ulimit -f; ulimit -n; ulimit -s; ulimit -t; ulimit -Hn; ulimit -Hs",
        core_size=0,
        file_size=1 << 20,
        open_files=77,
        stack_size=4 << 20,
        cpu_time=100,
    )
    assert rig.wait(job).success
    assert rig.output(job).split() == [b"0", b"2048", b"77", b"4096", b"100", b"77", b"4096"]
    after = rig.submit("ulimit -n; ulimit -s")  # nothing of it stays with the spawner
    rig.wait(after)
    assert rig.output(after).split()[0] != b"77"


def test_cpu_time(rig: Rig) -> None:
    ending = rig.run("while :; do :; done", cpu_time=1)
    assert ending.cause is Cause.CPU_TIME
    assert ending.signal == "SIGXCPU"


def test_limited_job_that_cannot_start(rig: Rig) -> None:
    ending = rig.run(["/no/such/command"], open_files=50)
    assert ending.cause is Cause.NOT_STARTED
    assert ending.aborted
    assert "/no/such/command" in ending.message
