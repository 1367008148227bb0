"""However a command ends, its receipt says exactly so, and the shepherd ends the same way."""

from __future__ import annotations

import os
import random
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jobyard.job import Cause, JobState
from jobyard.schedulers.base import Traits
from jobyard.testing.polling import eventually
from node.rig import NODE, TRAITS, Placed, Rig, Run, kill_session

SIGNALS = ("KILL", "TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "SEGV", "ABRT", "BUS", "FPE", "ILL", "SYS", "PIPE", "XCPU")
FAULTS = ("SEGV", "ABRT", "BUS", "FPE", "ILL", "SYS", "PIPE")


def test_every_exit_code(one_rig: Rig) -> None:
    for first in range(0, 256, 32):  # side by side: each that fails is given its pause
        started = []
        for code in range(first, first + 32):
            placed = one_rig.place(["/bin/sh", "-c", f"exit {code}"])
            started.append((code, placed, placed.start()))
        for code, placed, process in started:
            run = placed.finish(process)
            assert (run.code, run.end.ending.exit_code if run.end.ending else None) == (code, code)
            assert run.end.clean
            assert run.kinds == ["begin", "end"]


@pytest.mark.parametrize("code", [0, 1, 3, 126, 127, 128, 137, 255])
def test_exit_code(rig: Rig, code: int) -> None:
    run = rig.sh(f"exit {code}")
    ending = run.end.ending
    assert ending is not None
    assert (run.code, ending.exit_code, ending.signal, ending.cause) == (code, code, None, Cause.EXITED)
    assert ending.state is (JobState.FAILED if code else JobState.DONE)
    assert run.end.ended
    assert not ending.aborted
    assert (run.out, run.err) == (b"", b"")


@pytest.mark.parametrize("name", SIGNALS)
def test_signal(rig: Rig, name: str) -> None:
    run = rig.sh(f"ulimit -c 0; kill -{name} $$")
    ending = run.end.ending
    assert ending is not None
    assert (ending.exit_code, ending.signal, ending.core_dumped) == (None, f"SIG{name}", False)
    assert run.code == -getattr(signal, f"SIG{name}")
    assert run.end.clean is (name in FAULTS)
    assert run.end.signals == ()


def test_core_dump_is_told_and_not_repeated(rig: Rig) -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("core dumps are forbidden here; raise the hard limit (ulimit -Hc unlimited)")
    placed = rig.place(["/bin/sh", "-c", "ulimit -c unlimited; kill -ABRT $$"])
    process = placed.start()
    _, status, _ = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    run = placed.finish(process)
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status), "the shepherd dumped core as well"
    assert run.end.ending is not None
    assert (run.end.ending.signal, run.end.ending.core_dumped) == ("SIGABRT", True)
    assert not list(placed.folder.glob("core*"))


def test_usage_and_times(rig: Rig) -> None:
    run = rig.run([sys.executable, "-c", "x = bytearray(80_000_000); [i * i for i in range(2_000_000)]"])
    ending = run.end.ending
    assert ending is not None
    usage = ending.usage
    assert usage.wall_s is not None
    assert usage.cpu_s is not None
    assert 0.01 < usage.cpu_s < usage.wall_s + 1
    assert usage.max_rss_bytes is not None
    assert 80_000_000 < usage.max_rss_bytes < 800_000_000
    assert ending.began_at is not None
    assert ending.ended_at is not None
    assert abs(ending.ended_at - ending.began_at - usage.wall_s) < 1
    assert ending.host == os.uname().nodename
    assert None not in (usage.minor_faults, usage.major_faults, usage.voluntary_switches, usage.involuntary_switches)


def test_codes_that_the_scheduler_takes_for_its_own_are_mapped(rig: Rig) -> None:
    traits = Traits(native_id_variables=("RIG_ID",), exit_map={"99": 1, "100": 2})
    for code, seen in ((99, 1), (100, 2), (98, 98)):
        run = rig.sh(f"exit {code}", traits=traits)
        assert run.end.ending is not None
        assert (run.code, run.end.ending.exit_code) == (seen, code)


# What does not start -------------------------------------------------------------------------------------------------


def _not_started(run: Run, code: int, *words: str) -> None:
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.aborted, ending.exit_code, ending.signal) == (Cause.NOT_STARTED, True, None, None)
    assert ending.state is JobState.FAILED
    assert run.code == code
    assert run.end.clean
    for word in words:
        assert word in ending.message, ending.message


def test_missing_command(rig: Rig) -> None:
    _not_started(rig.run(["/nowhere/program"]), 127, "'/nowhere/program'", "No such file")
    _not_started(rig.run(["no-such-program"]), 127, "'no-such-program'", "PATH")


def test_command_that_cannot_be_executed(rig: Rig) -> None:
    plain = rig.home / "plain"
    plain.write_text("#!/bin/sh\n")
    _not_started(rig.run([str(plain)]), 126, "plain", "Permission denied")
    _not_started(rig.run(["plain"], environment={"PATH": f"/nowhere:{rig.home}"}), 126, "plain", "Permission denied")
    plain.chmod(0o755)
    plain.write_text("true\n")
    _not_started(rig.run([str(plain)]), 126, "#!")
    plain.write_text("#!/nowhere/shell\n")
    _not_started(rig.run([str(plain)]), 127, "plain", "first line")


def test_missing_directory(rig: Rig) -> None:
    _not_started(rig.run(["true"], directory="/nowhere/here"), 125, "directory '/nowhere/here'", "No such file")


def test_missing_input(rig: Rig) -> None:
    _not_started(rig.run(["true"], stdin="in.txt"), 125, f"stdin '{rig.home}/in.txt'", "No such file")


def test_output_that_cannot_be_written(rig: Rig) -> None:
    _not_started(rig.run(["true"], stdout="sub/out.txt"), 125, f"stdout '{rig.home}/sub/out.txt'", "No such file")
    _not_started(rig.run(["true"], stderr="/"), 125, "stderr '/'", "directory")


def test_too_long_a_command_line(rig: Rig) -> None:
    _not_started(rig.run(["true", *(["x" * 100_000] * 60)]), 126, "Argument list too long")


def test_limit_that_the_node_does_not_allow(one_rig: Rig) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    placed = one_rig.place(["true"], open_files=hard + 1)
    as_anyone(one_rig, placed)
    end = next(placed.folder.glob("receipt.0.1.end.json")).read_text()
    assert f"open_files={hard + 1} is more than this node allows" in end


def test_a_damaged_folder_begins_nothing(rig: Rig) -> None:
    for text in (b"", b"{", b"[]", b"{}", b'{"format": 2}'):
        placed = rig.place(["touch", "ran"])
        (placed.folder / "job.json").write_bytes(text)
        run = placed.run()
        assert run.code == 125
        assert run.err
        assert run.receipts == []
    assert not (rig.home / "ran").exists()


def test_nothing_runs_where_its_begin_cannot_be_written(one_rig: Rig) -> None:
    """A folder that takes no receipt: the job is not run unseen."""
    placed = one_rig.place(["touch", "ran"])
    code, err = as_anyone(one_rig, placed, readonly=True)
    assert code == 125
    assert b"cannot begin" in err
    assert not (one_rig.home / "ran").exists()


# What is left behind -------------------------------------------------------------------------------------------------


def test_a_child_left_behind_does_not_hold_the_receipt(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", "sleep 60 & echo $! > child; exit 4"])
    process = placed.start()
    try:
        run = placed.finish(process)
        assert run.code == 4
        assert os.path.exists(f"/proc/{(rig.home / 'child').read_text().strip()}"), "it was to outlive the job here"
    finally:
        kill_session(process)


def test_killed_shepherd_leaves_a_beginning_and_no_half_receipt(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", "echo $$ > pid; exec sleep 60"])
    process = placed.start()
    try:
        eventually(lambda: (rig.home / "pid").exists() and (rig.home / "pid").read_text().strip())
        process.kill()
        run = placed.finish(process)
        assert run.kinds == ["begin"]
        assert not [name for name in os.listdir(placed.folder) if name.startswith(".")]
    finally:
        kill_session(process)


def test_shepherds_killed_at_any_moment(one_rig: Rig) -> None:
    """Run again by the same scheduler: the command runs once, or has begun before; whatever can be read is whole."""
    for number in range(40):
        placed = one_rig.place(["/bin/sh", "-c", f"echo x >> runs{number}"])
        process = placed.start()
        time.sleep(random.Random(number).uniform(0, 0.016))
        process.kill()
        before = placed.finish(process)
        after = placed.run()
        runs = one_rig.home / f"runs{number}"
        assert len(after.kinds) == len(set(after.kinds)) == sum(name.startswith("receipt.") for name in os.listdir(placed.folder))
        if "begin" in before.kinds:
            assert "refused" in after.kinds
            kill_session(process)
        else:
            assert after.kinds == ["begin", "end"]
            assert runs.read_text() == "x\n"
        assert not runs.exists() or runs.read_text() in ("", "x\n")


def test_a_folder_that_is_gone_changes_nothing_for_the_command(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", "rm -rf $FOLDER; exit 9"], cleanup=["x"])
    run = placed.run(env={"FOLDER": str(placed.folder)})
    assert run.code == 9
    assert b"could not be written" in run.err


def test_complaints_that_nobody_takes_change_no_ending(rig: Rig) -> None:
    """On a full disk neither the receipt nor the script's standard error can be written."""
    gone = rig.place(["/bin/sh", "-c", "rm -rf $FOLDER; exit 9"], cleanup=["x"])
    damaged = rig.place(["touch", "ran"])
    (damaged.folder / "job.json").write_bytes(b"{}")
    faulty = rig.place(["touch", "ran"], environment={"A": "b"})
    job = faulty.folder / "job.json"
    job.write_text(job.read_text().replace('"environment":{"A":"b"}', '"environment":{"A":3}'))
    for placed, code in ((gone, 9), (damaged, 125), (faulty, 125)):
        with open("/dev/full", "wb") as full:
            assert placed.finish(placed.start(env={"FOLDER": str(gone.folder)}, stderr=full)).code == code
    assert [observation.what for _, observation in faulty.receipts()] == ["begin", "end"]
    assert not (rig.home / "ran").exists()


def test_what_it_writes_can_be_read_whatever_the_umask(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", "umask >u; exit 3"], directory=None)
    text = 'umask 0777; exec "$0"'
    done = subprocess.run(["/bin/sh", "-c", text, str(placed.folder / "run.sh")], env={**NODE, "RIG_ID": "1"}, check=False)
    assert done.returncode == 3
    modes = {name: stat.S_IMODE((placed.folder / name).stat().st_mode) for name in os.listdir(placed.folder)}
    receipts = ["receipt.0.1.begin.json", "receipt.0.1.end.json"]
    assert [modes[name] for name in ("claim.0", *receipts, "work")] == [0o600, 0o600, 0o600, 0o700]
    assert (placed.folder / "work" / "u").exists()


def as_anyone(rig: Rig, placed: Placed, *, readonly: bool = False) -> tuple[int, bytes]:
    """Run a folder as an ordinary user, who owns it: exit code and standard error. Root becomes ``nobody`` for that."""
    options: dict[str, Any] = {}
    if os.getuid() == 0:
        if not os.path.exists("/usr/bin/python3"):
            pytest.skip("no python3 that everybody may run; install the system's (apt install python3)")
        script = placed.folder / "run.sh"
        script.write_text(script.read_text().replace(rig.interpreter, "/usr/bin/python3"))
        options = {"user": 65534, "group": 65534, "extra_groups": []}
        rig.folder.chmod(0o755)
        for path in rig.folder.rglob("*"):
            os.chown(path, 65534, 65534)
    if readonly:
        placed.folder.chmod(0o500)
    process = placed.start(**options)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_an_ordinary_user(one_rig: Rig) -> None:
    placed = one_rig.place(["/bin/sh", "-c", "id -u; exit 5"], open_files=100)
    assert as_anyone(one_rig, placed) == (5, b"")
    me = os.getuid() or 65534
    assert (placed.folder / "stdout").read_text() == f"{me}\n"
    assert (placed.folder / "receipt.0.1.end.json").stat().st_uid == me
    assert bool(placed.receipts()) is (me == os.getuid()), "receipts of somebody else's are none"


def test_standard_descriptors_may_be_closed(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", "echo out; echo err >&2; exit 6"])
    text = 'exec "$0" <&- >&- 2>&-'
    done = subprocess.run(["/bin/sh", "-c", text, str(placed.folder / "run.sh")], env={**NODE, "RIG_ID": "1"}, check=False)
    assert done.returncode == 6
    assert (placed.folder / "stdout").read_bytes() == b"out\n"
    assert (placed.folder / "stderr").read_bytes() == b"err\n"


def test_a_folder_with_any_name(tmp_path: Path) -> None:
    place = tmp_path / 'it\'s a "place" $HOME `id`\n\u00e9'
    place.mkdir()
    rig = Rig(place)
    try:
        assert rig.sh("exit 9").code == 9
    finally:
        rig.close()


def test_the_batch_script_holds_nothing_of_the_users(rig: Rig) -> None:
    placed = rig.place(["echo", "mine-a"], name="mine-b", environment={"X": "mine-c"}, stdout="mine-d")
    text = (placed.folder / "run.sh").read_text()
    assert "mine" not in text
    assert text.startswith("#!/bin/sh\n#RIG first\n#RIG second\nexec ")
    assert text.count("\n") == 4
    assert TRAITS.index_argument is False
    assert '"$@"' not in text


def test_a_fault_of_the_shepherds_own_is_told(rig: Rig) -> None:
    """After the command: its ending is kept. Before it: nobody makes one up."""
    placed = rig.place(["/bin/sh", "-c", "exit 0"], cleanup=["x"])
    job = placed.folder / "job.json"
    job.write_text(job.read_text().replace('"cleanup":["x"]', '"cleanup":[3]'))
    run = placed.run()
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.exit_code, ending.success, run.code) == (Cause.SHEPHERD, 0, False, 125)
    assert "the shepherd failed: AttributeError" in ending.message
    assert b"the shepherd failed" in run.err
    placed = rig.place(["/bin/sh", "-c", "exit 0"], environment={"A": "b"})
    job = placed.folder / "job.json"
    job.write_text(job.read_text().replace('"environment":{"A":"b"}', '"environment":{"A":3}'))
    run = placed.run()
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.exit_code, ending.aborted, run.end.clean, run.code) == (Cause.SHEPHERD, None, False, False, 125)
