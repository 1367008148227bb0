"""Each kind of ending is told apart, exactly."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jobyard.job import Cause, JobState
from local.rig import Rig

SIGNALS = ("HUP", "INT", "QUIT", "ILL", "ABRT", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "TERM")


def test_every_exit_code(rig: Rig) -> None:
    jobs = rig.keeper.submit([rig.describe(["/bin/sh", "-c", f"exit {code}"]) for code in range(256)])
    for code, ending in enumerate(rig.wait_all(jobs)):
        assert ending.exit_code == code
        assert ending.signal is None
        assert ending.cause is Cause.EXITED
        assert ending.state is (JobState.DONE if code == 0 else JobState.FAILED)
        assert not ending.aborted


def test_signals_by_name(rig: Rig) -> None:
    jobs = rig.keeper.submit([rig.describe(["/bin/sh", "-c", f"kill -{name} $$; sleep 60"]) for name in SIGNALS])
    for name, ending in zip(SIGNALS, rig.wait_all(jobs), strict=True):
        assert ending.signal == f"SIG{name}"
        assert ending.exit_code is None
        assert ending.state is JobState.FAILED
        assert ending.cause is Cause.EXITED


def test_core_dump(rig: Rig, tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if pattern.startswith("|"):
        pytest.skip("core dumps of this machine go to a program, not to a file")
    import resource

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard == 0:
        pytest.skip("the hard limit of core dumps is 0 here")
    ending = rig.run(f"ulimit -c {'unlimited' if hard == resource.RLIM_INFINITY else hard}; kill -SEGV $$", directory=str(tmp_path))
    assert ending.signal == "SIGSEGV"
    assert ending.core_dumped


def test_usage_and_times(rig: Rig) -> None:
    ending = rig.run("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
    usage = ending.usage
    assert usage.user_s is not None
    assert usage.user_s > 0.02
    assert usage.max_rss_bytes is None  # it was smaller than the spawner, whose image it began as
    assert usage.wall_s is not None
    assert usage.wall_s >= usage.user_s * 0.5
    assert ending.submitted_at is not None
    assert ending.began_at is not None
    assert ending.ended_at is not None
    assert ending.submitted_at <= ending.began_at <= ending.ended_at
    assert ending.host == os.uname().nodename


def not_started(rig: Rig, *parts: str, **fields: object) -> None:
    argv = fields.pop("argv", ["/bin/true"])
    ending = rig.run(argv, **fields)
    assert ending.cause is Cause.NOT_STARTED
    assert ending.state is JobState.FAILED
    assert ending.aborted
    assert ending.exit_code is None
    assert ending.signal is None
    for part in parts:
        assert part in ending.message


def test_bad_directory(rig: Rig, tmp_path: Path) -> None:
    not_started(rig, str(tmp_path / "none"), "No such file", directory=str(tmp_path / "none"))
    (tmp_path / "file").touch()
    not_started(rig, str(tmp_path / "file"), "Not a directory", directory=str(tmp_path / "file"))


def test_missing_command(rig: Rig, tmp_path: Path) -> None:
    not_started(rig, "/no/such/command", "No such file", argv=["/no/such/command"])
    not_started(rig, "nosuchcommand-xyz", "PATH", argv=["nosuchcommand-xyz"])
    plain = tmp_path / "plain"
    plain.write_text("x")
    not_started(rig, str(plain), "Permission denied", argv=[str(plain)])
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    not_started(rig, str(script), "interpreter", argv=[str(script)])


def test_unreadable_input(rig: Rig, tmp_path: Path) -> None:
    not_started(rig, str(tmp_path / "in"), "No such file", stdin=str(tmp_path / "in"))
    not_started(rig, str(tmp_path), "Is a directory", stdin=str(tmp_path))


def test_unwritable_output(rig: Rig, tmp_path: Path) -> None:
    not_started(rig, str(tmp_path / "d" / "out"), "No such file", stdout=str(tmp_path / "d" / "out"))
    not_started(rig, str(tmp_path), "Is a directory", stderr=str(tmp_path))


def test_the_next_job_starts_where_one_could_not(rig: Rig) -> None:
    jobs = rig.keeper.submit([rig.describe(["/no/such/command"] if n % 3 else ["/bin/true"]) for n in range(60)])
    endings = rig.wait_all(jobs)
    assert [ending.state is JobState.DONE for ending in endings] == [n % 3 == 0 for n in range(60)]


def test_running_is_told_before_the_end_or_follows_from_it(rig: Rig) -> None:
    job = rig.submit(["/bin/cat"], stdin="/dev/zero", stdout="/dev/null")
    rig.until(job, JobState.RUNNING)
    import contextlib

    from jobyard.schedulers.base import Action

    with contextlib.suppress(AssertionError):
        rig.control(Action.SIGNAL, job, signal=signal.SIGTERM)
    ending = rig.wait(job)
    assert ending.signal == "SIGTERM"
    assert ending.cause is Cause.EXITED
    states = [update.state for update in rig.updates if update.key == job.key]
    assert states == [JobState.RUNNING, JobState.FAILED]
