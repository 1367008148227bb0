"""Signals that reach the shepherd are noted and change nothing; the command gets its signals as if nothing were around it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jobyard.job import Cause
from jobyard.schedulers.base import Traits
from jobyard.testing.polling import eventually
from node.rig import Rig, kill_session

NOTED = ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "XCPU")


@pytest.mark.parametrize("name", NOTED)
def test_the_whole_group_is_signalled(rig: Rig, name: str) -> None:
    """As schedulers do it: the command dies, the shepherd tells of it, and does not claim that this is the end."""
    placed = rig.place(["/bin/sh", "-c", "ulimit -c 0; : > ready; exec sleep 60"])
    process = placed.start()
    eventually((rig.home / "ready").exists)
    os.killpg(process.pid, getattr(signal, f"SIG{name}"))
    run = placed.finish(process)
    assert run.end.ending is not None
    assert run.end.ending.signal == f"SIG{name}"
    assert run.end.signals == (f"SIG{name}",)
    assert not run.end.clean
    assert not run.end.ended
    assert run.code == -getattr(signal, f"SIG{name}")


def test_a_command_that_exits_on_term(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", "trap 'exit 7' TERM; : > ready; while :; do sleep 0.01; done"])
    process = placed.start()
    eventually((rig.home / "ready").exists)
    os.killpg(process.pid, signal.SIGTERM)
    run = placed.finish(process)
    assert run.end.ending is not None
    assert (run.code, run.end.ending.exit_code, run.end.signals, run.end.clean) == (7, 7, ("SIGTERM",), False)


def test_what_reaches_the_shepherd_alone_is_noted_and_not_passed_on(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", ": > ready; until [ -e go ]; do sleep 0.01; done; exit 3"])
    process = placed.start()
    eventually((rig.home / "ready").exists)
    for name in NOTED:
        os.kill(process.pid, getattr(signal, f"SIG{name}"))
    (rig.home / "go").touch()
    run = placed.finish(process)
    assert run.end.ending is not None
    assert run.end.ending.exit_code == 3
    assert sorted(run.end.signals) == sorted(f"SIG{name}" for name in NOTED)
    assert not run.end.clean


def test_a_pause_before_the_receipt_of_a_command_that_failed(rig: Rig) -> None:
    """The command can be told to end milliseconds before the shepherd is: its own signal must have time to come."""

    def pauses(text: str) -> list[float]:
        ends = [rig.sh(text).end for _ in range(5)]
        return [end.at - end.ending.ended_at for end in ends if end.ending and end.ending.ended_at]

    assert min(pauses("exit 1")) >= 0.045
    assert min(pauses("kill -SEGV $$")) >= 0.045
    assert min(pauses("exit 0")) < 0.045


def test_own_group_gets_what_the_shepherd_gets(rig: Rig) -> None:
    """Where a scheduler signals the shepherd alone."""
    traits = Traits(native_id_variables=("RIG_ID",), own_group=True)
    text = "trap 'echo told >> told; exit 7' TERM; ps -o pgid= -p $$ > group; : > ready; while :; do sleep 0.01; done"
    placed = rig.place(["/bin/sh", "-c", text], traits=traits)
    process = placed.start()
    eventually((rig.home / "ready").exists)
    assert int((rig.home / "group").read_text()) != process.pid
    os.kill(process.pid, signal.SIGTERM)
    run = placed.finish(process)
    assert run.end.ending is not None
    assert (run.end.ending.exit_code, run.end.signals) == (7, ("SIGTERM",))
    assert (rig.home / "told").read_text() == "told\n"


def test_a_stop_that_reaches_the_shepherd_alone_stops_the_group(rig: Rig) -> None:
    """As OAR does it: the shepherd itself goes on, or nobody could let the command go on."""
    traits = Traits(native_id_variables=("RIG_ID",), own_group=True)
    text = "echo $$ > pid; sleep 60 & echo $! > child; : > ready; wait; exit 7"
    placed = rig.place(["/bin/sh", "-c", text], traits=traits)
    process = placed.start()
    eventually((rig.home / "ready").exists)
    both = [int((rig.home / name).read_text()) for name in ("pid", "child")]

    def states() -> set[str]:
        return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in both}

    for _ in range(2):
        os.kill(process.pid, signal.SIGTSTP)
        eventually(lambda: states() == {"T"})
        assert Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T"
        os.kill(process.pid, signal.SIGCONT)
        eventually(lambda: "T" not in states())
    os.kill(both[1], signal.SIGKILL)
    run = placed.finish(process)
    assert run.end.ending is not None
    assert (run.end.ending.exit_code, run.end.signals, run.end.clean) == (7, (), True)


def test_the_command_is_in_the_group_that_the_scheduler_gave(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", "ps -o pgid=,sid= -p $$ > group"])
    process = placed.start()
    placed.finish(process)
    assert [int(word) for word in (rig.home / "group").read_text().split()] == [process.pid, process.pid]


def test_every_signal_is_as_at_the_beginning(rig: Rig) -> None:
    """Ignored ones and blocked ones are not passed on, whatever Python or the scheduler set."""

    def worst() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGWINCH})

    run = rig.place(["/bin/cat", "/proc/self/status"]).run(preexec_fn=worst)
    assert run.end.ending is not None
    assert run.end.ending.exit_code == 0
    status = dict(line.split(":\t", 1) for line in run.stdout().decode().splitlines() if ":\t" in line)
    # 32 and 33 are glibc's own: no program can set them, and some makes leave them ignored for all that they start.
    assert [int(status[name], 16) & ~(0b11 << 31) for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")] == [0, 0, 0, 0]


def test_descriptors_above_two_are_closed(rig: Rig) -> None:
    for keep in (False, True):
        reading, writing = os.pipe()
        traits = Traits(native_id_variables=("RIG_ID",), keep_descriptors=keep)
        run = rig.place(["/bin/ls", "-l", "/proc/self/fd"], traits=traits).run(pass_fds=[writing])
        held = f"pipe:[{os.fstat(writing).st_ino}]"
        os.close(writing)
        os.close(reading)
        assert (held.encode() in run.stdout()) is keep
        own = [line.split()[-3] for line in run.stdout().decode().splitlines()[1:]]
        assert [fd for fd in own if fd not in ("0", "1", "2", "3", str(writing))] == []  # 3 is the listing's own


def _read_by_a_shell(path: Path) -> bool:
    """A shell has this file open."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            shell = (process / "comm").read_text().strip() in ("bash", "sh", "dash")
            if shell and any(os.readlink(fd) == str(path) for fd in (process / "fd").iterdir()):
                return True
        except OSError:
            continue  # it has gone, or is another user's
    return False


def test_term_before_the_command_begins(rig: Rig) -> None:
    """Told to end while files are brought in: nothing is begun any more."""
    os.mkfifo(rig.home / "slow")
    placed = rig.place(["touch", "ran"], pre_launch="slow")
    process = placed.start()
    try:
        with open(rig.home / "slow", "w") as script:  # the check opened it
            eventually(lambda: _read_by_a_shell(rig.home / "slow"))
            os.killpg(process.pid, signal.SIGTERM)
            script.write("sleep 0\n")
        run = placed.finish(process)
    finally:
        kill_session(process)
    assert not (rig.home / "ran").exists()
    assert run.end.ending is not None
    assert (run.end.ending.aborted, run.end.signals, run.end.clean) == (True, ("SIGTERM",), False)
    assert "SIGTERM" in run.end.ending.message
    assert run.end.ending.cause is Cause.UNKNOWN
    assert run.code == 125


def test_suspended_and_resumed(rig: Rig) -> None:
    os.mkfifo(rig.home / "go")
    placed = rig.place(["/bin/sh", "-c", "echo $$ > pid; : > ready; read x < go"])
    process = placed.start()
    eventually((rig.home / "ready").exists)
    pid = int((rig.home / "pid").read_text())
    os.killpg(process.pid, signal.SIGSTOP)
    eventually(lambda: _state(pid) == "T" and _state(process.pid) == "T")
    os.killpg(process.pid, signal.SIGCONT)
    (rig.home / "go").write_text("on\n")
    run = placed.finish(process)
    assert run.code == 0
    assert run.end.clean


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_the_oom_killer_takes_the_command_first(rig: Rig) -> None:
    if not os.path.exists("/proc/self/oom_score_adj"):
        pytest.skip("there is no oom_score_adj here: Linux has it")
    placed = rig.place(["/bin/sh", "-c", "cat /proc/$PPID/oom_score_adj /proc/$$/oom_score_adj"])
    shepherd, command = (int(word) for word in placed.run().stdout().split())
    assert command == min(shepherd + 100, 1000)
