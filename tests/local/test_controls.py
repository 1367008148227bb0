"""Controls in each state, arrays, dependencies, begin times, priorities."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobyard.errors import InvalidJob, UnknownJob, WrongState
from jobyard.job import By, Cause, JobState
from jobyard.keeper import Placed
from jobyard.schedulers.base import Action
from jobyard.schedulers.local import kernel
from jobyard.schedulers.local.children import Child, Children
from jobyard.schedulers.local.spawner import end_sessions, kill_leftovers
from jobyard.testing.polling import LONG_S, eventually
from local.rig import Rig

FOREVER = ["/bin/sleep", "1000"]


def fill(rig: Rig, slots: int = 2) -> list[Placed]:
    """Jobs that have all slots until they are cancelled."""
    jobs = [rig.submit(FOREVER) for _ in range(slots)]
    for job in jobs:
        rig.until(job, JobState.RUNNING)
    return jobs


def pid_of(rig: Rig, job: Placed, path: Path) -> int:
    """The pid that a job wrote into a file."""
    return int(eventually(lambda: path.exists() and path.read_text().strip()))


def test_cancel_running(rig: Rig) -> None:
    job = rig.submit(FOREVER)
    rig.until(job, JobState.RUNNING)
    rig.control(Action.CANCEL, job)
    ending = rig.wait(job)
    assert ending.state is JobState.CANCELLED
    assert ending.cause is Cause.CANCELLED
    assert ending.began_at is not None


def test_cancel_queued_and_window(rig: Rig) -> None:
    running = fill(rig)
    waiting = rig.keeper.submit([rig.describe(FOREVER)] * 200)  # the first 64 lie with the spawner already
    rig.control(Action.CANCEL, *waiting)
    for ending in rig.wait_all(waiting):
        assert ending.state is JobState.CANCELLED
        assert ending.began_at is None
        assert ending.aborted
    assert not any(job.key in rig.endings for job in running)
    rig.control(Action.CANCEL, *running)
    rig.wait_all(running)


def test_cancel_kills_after_the_grace_and_takes_the_whole_session(rig: Rig, tmp_path: Path) -> None:
    loop = "while :; do sleep 1; done"
    deaf = f"trap '' TERM; (echo $$ >inner.tmp; mv inner.tmp inner; {loop}) & {loop}"
    job = rig.submit(deaf, directory=str(tmp_path))
    eventually((tmp_path / "inner").exists)
    before = time.monotonic()
    rig.control(Action.CANCEL, job)
    ending = rig.wait(job)
    assert time.monotonic() - before >= 0.9  # the grace
    assert ending.state is JobState.CANCELLED
    assert ending.signal == "SIGKILL"
    number = int((tmp_path / "inner").read_text())
    eventually(lambda: not kernel.session_members(number))


def test_wrong_states(rig: Rig) -> None:
    done = rig.submit(["/bin/true"])
    rig.wait(done)
    for action in Action:
        with pytest.raises(WrongState, match=done.native_id):
            rig.control(action, done, signal=signal.SIGTERM)
    job = rig.submit(FOREVER)
    rig.until(job, JobState.RUNNING)
    for action in (Action.HOLD, Action.RELEASE, Action.RESUME, Action.REQUEUE):
        with pytest.raises(WrongState):
            rig.control(action, job)
    rig.control(Action.CANCEL, job)
    rig.wait(job)
    rig.control(Action.CANCEL, job)  # cancelled twice is cancelled
    answers = rig.keeper.control(Action.CANCEL, [999_999])
    assert isinstance(answers[999_999], UnknownJob)


def test_hold_and_release(rig: Rig) -> None:
    running = fill(rig)
    job = rig.submit(["/bin/true"])
    rig.control(Action.HOLD, job)
    rig.until(job, JobState.HELD)
    assert rig.updates[-1].by is By.USER
    with pytest.raises(WrongState):
        rig.control(Action.SUSPEND, job)
    rig.control(Action.CANCEL, *running)
    rig.wait_all(running)
    assert rig.keeper.entries([job.key])[0].state is JobState.HELD
    rig.control(Action.RELEASE, job)
    assert rig.wait(job).state is JobState.DONE
    assert [t.state for t in rig.keeper.history(job.key)] == [
        JobState.QUEUED,
        JobState.HELD,
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.DONE,
    ]


def test_submitted_held(rig: Rig) -> None:
    job = rig.submit(["/bin/true"], hold=True)
    rig.until(job, JobState.HELD)
    rig.control(Action.RELEASE, job)
    assert rig.wait(job).success


def test_suspend_and_resume(rig: Rig, tmp_path: Path) -> None:
    job = rig.submit("sleep 1000 & echo $$ >pid.tmp; mv pid.tmp pid; wait", directory=str(tmp_path))
    pid = pid_of(rig, job, tmp_path / "pid")
    eventually(lambda: len(kernel.session_members(pid)) == 2)
    rig.control(Action.SUSPEND, job)
    rig.until(job, JobState.SUSPENDED)
    assert rig.updates[-1].by is By.USER
    eventually(lambda: {p.state for p in kernel.session_members(pid).values()} == {"T"})
    with pytest.raises(WrongState):
        rig.control(Action.SUSPEND, job)
    rig.control(Action.RESUME, job)
    rig.until(job, JobState.RUNNING)
    eventually(lambda: "T" not in {p.state for p in kernel.session_members(pid).values()})
    rig.control(Action.SUSPEND, job)
    rig.control(Action.CANCEL, job)  # a suspended job can be ended
    assert rig.wait(job).state is JobState.CANCELLED


def test_signal_reaches_the_group(rig: Rig, tmp_path: Path) -> None:
    job = rig.submit("trap 'exit 7' USR1; echo $$ >pid.tmp; mv pid.tmp pid; while :; do sleep 0.01; done", directory=str(tmp_path))
    pid_of(rig, job, tmp_path / "pid")
    rig.control(Action.SIGNAL, job, signal=signal.SIGUSR1)
    ending = rig.wait(job)
    # The shell's sleep gets the signal too; the shell's own trap decides.
    assert ending.exit_code == 7


def test_requeue(rig: Rig, tmp_path: Path) -> None:
    job = rig.submit("echo run >>runs; [ $(wc -l <runs) = 2 ] || exec sleep 1000", directory=str(tmp_path), rerunnable=True)
    eventually((tmp_path / "runs").exists)
    rig.until(job, JobState.RUNNING)
    rig.control(Action.REQUEUE, job)
    ending = rig.wait(job)
    assert ending.success
    assert ending.attempts == 2
    assert (tmp_path / "runs").read_text() == "run\nrun\n"


def test_array_order_environment_and_cap(rig: Rig, tmp_path: Path) -> None:
    script = (
        "echo $JOBYARD_TASK_INDEX $JOBYARD_ARRAY_ID $JOBYARD_NATIVE_ID $JOBYARD_JOB_ID;"
        "touch $$.run; ls *.run | wc -l >$$.seen; sleep 0.05; rm $$.run"
    )
    token, native_id, tasks = rig.keeper.submit_array(rig.describe(script, directory=str(tmp_path)), range(1, 16, 2), 1)
    assert all(ending.success for ending in rig.wait_all(tasks))
    for index, task in zip(range(1, 16, 2), tasks, strict=True):
        assert task.native_id == f"{native_id}_{index}"
        assert rig.output(task).split() == [str(index).encode(), native_id.encode(), task.native_id.encode(), task.token.encode()]
    assert {path.read_text().strip() for path in tmp_path.glob("*.seen")} == {"1"}  # one at a time
    keys = [task.key for task in tasks]
    assert list(rig.keeper.find(token)) == keys
    assert list(rig.keeper.find(native_id)) == keys
    assert list(rig.keeper.find(str(tasks[2].native_id))) == [keys[2]]
    entry = rig.keeper.entries([keys[3]])[0]
    assert (entry.array, entry.index) == (token, 7)


def test_a_capped_array_leaves_room_for_others(rig: Rig) -> None:
    tasks = rig.array(FOREVER, range(3), max_running=1)
    other = rig.submit(["/bin/true"])
    assert rig.wait(other).success
    rig.control(Action.CANCEL, *tasks)
    rig.wait_all(tasks)


def test_dependencies(rig: Rig) -> None:
    gate = rig.submit("read x <&0; exit 3", hold=True)
    good = rig.submit(["/bin/true"], hold=True)
    after_failure = rig.submit(["/bin/true"], after=[(gate.token, "failure")])
    after_success = rig.submit(["/bin/true"], after=[gate.token])
    after_any = rig.submit(["/bin/true"], after=[(gate.token, "any"), (good.token, "success")])
    rig.until(after_any, JobState.HELD)
    assert rig.updates[-1].by is By.SYSTEM
    rig.control(Action.RELEASE, gate, good)
    assert rig.wait(after_failure).success
    assert rig.wait(after_any).success
    ending = rig.wait(after_success)
    assert ending.cause is Cause.DEPENDENCY
    assert ending.aborted
    assert ending.state is JobState.FAILED
    late = rig.submit(["/bin/true"], after=[gate.token])  # known already
    assert rig.wait(late).cause is Cause.DEPENDENCY
    assert rig.wait(rig.submit(["/bin/true"], after=[good.token])).success
    with pytest.raises(InvalidJob, match="after"):
        rig.submit(["/bin/true"], after=["f" * 32])


def test_dependency_on_an_array(rig: Rig) -> None:
    token, _, tasks = rig.keeper.submit_array(rig.describe("exit $JOBYARD_TASK_INDEX"), range(3), None)
    failure = rig.submit(["/bin/true"], after=[(token, "failure")])
    success = rig.submit(["/bin/true"], after=[(token, "success")])
    every = rig.submit(["/bin/true"], after=[(token, "any")])
    assert rig.wait(failure).success
    assert rig.wait(success).cause is Cause.DEPENDENCY
    assert rig.wait(every).success
    assert [e.exit_code for e in rig.wait_all(tasks)] == [0, 1, 2]


def test_begin_time(rig: Rig) -> None:
    rig.run(["/bin/true"])  # the server is there
    begin = time.time() + 2.0
    job = rig.submit(["/bin/true"], begin_at=begin)
    rig.until(job, JobState.HELD)
    assert rig.updates[-1].by is By.SYSTEM
    ending = rig.wait(job)
    assert ending.began_at is not None
    assert begin <= ending.began_at < begin + 30


def test_held_by_both(rig: Rig) -> None:
    rig.run(["/bin/true"])  # the server is there
    job = rig.submit(["/bin/true"], begin_at=time.time() + 2.0, hold=True)
    rig.until(job, JobState.HELD)
    assert rig.updates[-1].by is By.BOTH
    assert rig.keeper.wait_until(lambda: rig.updates[-1].by is By.USER, LONG_S)
    rig.control(Action.RELEASE, job)
    assert rig.wait(job).success


def test_priority_passes_what_was_handed_over(rig: Rig, tmp_path: Path) -> None:
    running = fill(rig)
    common = {"directory": str(tmp_path), "stdout": "order", "append_streams": True}
    low = [rig.submit(["/bin/echo", "low"], **common) for _ in range(3)]
    high = rig.submit(["/bin/echo", "high"], priority=5, **common)
    rig.control(Action.CANCEL, running[0])
    rig.wait_all([*low, high])
    assert (tmp_path / "order").read_text().split() == ["high", "low", "low", "low"]
    rig.control(Action.CANCEL, running[1])
    rig.wait(running[1])


def test_first_come_first_served(open_rig: Callable[..., Rig], tmp_path: Path) -> None:
    rig = open_rig(slots=1)
    common = {"directory": str(tmp_path), "stdout": "order", "append_streams": True}
    rig.wait_all([rig.submit(["/bin/echo", str(n)], **common) for n in range(30)])
    assert [int(word) for word in (tmp_path / "order").read_text().split()] == list(range(30))


def test_immediate_books_nothing(rig: Rig) -> None:
    running = fill(rig)
    assert rig.run(["/bin/true"], immediate=True).success
    rig.control(Action.CANCEL, *running)
    rig.wait_all(running)


def test_reap_gives_each_to_one_caller(open_rig: Callable[..., Rig]) -> None:
    rig = open_rig()
    jobs = rig.keeper.submit([rig.describe(["/bin/true"])] * 3)
    rig.wait_all(jobs)
    other = open_rig(rig.keeper.session_id)
    assert list(rig.keeper.reap([jobs[0].key, jobs[1].key])) == [jobs[0].key, jobs[1].key]
    assert list(other.keeper.reap([jobs[1].key, jobs[2].key])) == [jobs[2].key]
    assert [entry.reaped for entry in other.keeper.entries()] == [True] * 3
    running = rig.submit(FOREVER)
    with pytest.raises(WrongState):
        rig.keeper.reap([running.key])
    rig.control(Action.CANCEL, running)
    rig.wait(running)


def test_remove_forgets_records_and_streams(rig: Rig) -> None:
    job = rig.submit(["/bin/echo", "x"])
    rig.wait(job)
    path = rig.keeper.streams(job.key)[0]
    assert path is not None
    rig.keeper.remove([job.key])
    assert not Path(path).exists()
    assert rig.keeper.entries([job.key]) == []
    assert rig.keeper.keys() == []
    with pytest.raises(UnknownJob):
        rig.keeper.history(job.key)
    with pytest.raises(UnknownJob):
        rig.keeper.streams(job.key)


def test_attach(open_rig: Callable[..., Rig]) -> None:
    first, second = open_rig(), open_rig()
    job = first.submit(FOREVER)
    second.submit(["/bin/true"])
    assert job.native_id in second.keeper.native_ids()
    key = second.keeper.attach(str(job.native_id))
    entry = second.keeper.entries([key])[0]
    assert entry.foreign
    first.control(Action.CANCEL, job)
    assert second.keeper.wait_until(lambda: key in second.endings, LONG_S)
    with pytest.raises(UnknownJob):
        second.keeper.attach("123456")


def test_control_of_many_ended_tasks_loads_their_array_once(rig: Rig) -> None:
    """A client may not have heard yet that the tasks of a large array have ended: each of them shares what the array is."""

    def peak_bytes() -> int:
        status = Path(f"/proc/{rig.pair()[0]}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    tasks = rig.array(FOREVER, range(1000, 5000), hold=True)
    rig.control(Action.CANCEL, *tasks)
    rig.wait_all(tasks)
    before = peak_bytes()
    rig.control(Action.CANCEL, *tasks)
    assert peak_bytes() - before < 64 << 20


def test_many_are_ended_with_two_looks_at_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are: a machine has thousands of processes. What left its leader's group is ended, too."""
    looks = 0
    all_pids = kernel.all_pids

    def counted() -> list[int]:
        nonlocal looks
        looks += 1
        return all_pids()

    monkeypatch.setattr(kernel, "all_pids", counted)
    epoll = select.epoll()
    children = Children(epoll)
    code = "import os; os.fork() or os.setpgid(0, 0); os.execvp('sleep', ['sleep', '600'])"
    started = [subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True) for _ in range(20)]
    try:
        for number, process in enumerate(started):
            children.add(Child(number, process.pid, 0.0, 0.0, 0))
        sessions = [process.pid for process in started]
        # Each has a process in a group of its own.
        eventually(lambda: len({process.pgrp for process in kernel.sessions_members(sessions).values()}) == 40)
        looks = 0
        end_sessions(children, list(children.by_number.values()), signal.SIGTERM)
        assert looks == 2
        for process in started:
            process.wait(30)
        eventually(lambda: not kernel.sessions_members(sessions))
    finally:
        epoll.close()
        for process in started:
            process.kill()
            process.wait(30)
        kill_leftovers([process.pid for process in started])
