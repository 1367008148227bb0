"""Defects that a second reading found: each of these tests failed before its cure."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobyard.errors import ControlError, InvalidJob, SchedulerUnavailable, SessionClosed, SubmitError, WrongState
from jobyard.job import By, Cause, Inherit, JobState, Placeholder
from jobyard.keeper import Placed
from jobyard.schedulers.base import Action
from jobyard.schedulers.local import client as client_module
from jobyard.schedulers.local import connection as connection_module
from jobyard.schedulers.local import kernel, paths
from jobyard.schedulers.local.connection import Connection
from jobyard.schedulers.local.engine import TIMERS, Engine
from jobyard.schedulers.local.jobs import CANCEL, REQUEUE, Batch, Job, Traits
from jobyard.schedulers.local.launch import Launcher
from jobyard.schedulers.local.link import Link
from jobyard.schedulers.local.machine import Machine, Settings
from jobyard.schedulers.local.protocol import DONE
from jobyard.schedulers.local.requests import Requests
from jobyard.schedulers.local.ring import END, PID, SPAWNING, Record
from jobyard.schedulers.local.wire import frame, pack
from jobyard.testing.polling import eventually
from local.killing import find_pair
from local.rig import Rig

FOREVER = ["/bin/sleep", "1000"]


def kill_server(rig: Rig) -> None:
    """Kill the server that this client speaks to; the next request meets its successor."""
    os.kill(rig.pair()[0], signal.SIGKILL)


# The connection -----------------------------------------------------------------------------------------------------


def test_a_submission_that_failed_is_never_sent_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rig.submit(["/bin/true"])
    rig.wait(first)
    connection = rig.keeper._connection

    def away() -> paths.StateFolder:
        raise SchedulerUnavailable("nobody is there")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_folder_of", away)
        with connection._sending:
            connection._drop()
        with pytest.raises(SchedulerUnavailable):
            rig.submit(["/bin/true"])
    second = rig.submit(["/bin/true"])
    rig.wait(second)
    assert set(rig.keeper.keys()) == {first.key, second.key}


class Watched(Connection):
    """Tells when somebody looked whether others wait."""

    def __init__(self) -> None:
        self.looked = threading.Event()
        self._count = 0
        super().__init__(lambda: paths.StateFolder("/nonexistent"), {})

    @property
    def _followers(self) -> int:
        self.looked.set()
        return self._count

    @_followers.setter
    def _followers(self, value: int) -> None:
        self._count = value


def test_news_between_the_last_look_and_the_wait_wakes_a_follower() -> None:
    import select
    import socket

    connection = Watched()
    ours, theirs = socket.socketpair()
    connection._socket = ours
    connection._poll = select.poll()
    connection._poll.register(ours.fileno(), select.POLLIN)
    told = threading.Event()
    stop = threading.Event()
    connection.follow("s", lambda entries: stop.set() if entries else told.set())
    leader = threading.Thread(target=connection.wait_until, args=(stop.is_set, 20.0))
    leader.start()
    eventually(connection._reading.locked)
    looks = 0

    def done() -> bool:
        nonlocal looks
        looks += 1
        seen = told.is_set()
        if looks == 2:  # the last look before the wait
            connection.looked.clear()
            theirs.sendall(frame([0, None, []]))
            connection.looked.wait(20.0)
        return seen

    try:
        begun = time.monotonic()
        assert connection.wait_until(done, 10.0)
        assert time.monotonic() - begun < 5.0  # woken, not timed out
    finally:
        theirs.sendall(frame([0, None, [1]]))
        leader.join()
        connection.close()
        theirs.close()


def test_closing_ends_one_who_waits_for_a_server(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_dir.mkdir()
    asked = threading.Event()

    def start(*_: Any) -> bool:
        asked.set()
        return False

    monkeypatch.setattr(connection_module, "start_pair", start)
    folder = paths.state_folder(state_dir, create=True)
    connection = Connection(lambda: folder, {})
    found: list[BaseException] = []

    def ask() -> None:
        try:
            connection.request("hello", 1)
        except SessionClosed as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    asked.wait(20.0)
    connection.close()
    thread.join(10.0)
    assert not thread.is_alive()
    assert len(found) == 1
    assert connection._socket is None


def test_a_request_that_no_frame_can_hold_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.run(["/bin/true"])
    monkeypatch.setattr(connection_module, "MAX_FRAME", 10_000)
    with pytest.raises(SubmitError, match="more than one request may hold"):
        rig.submit(["/bin/echo", "x" * 20_000])
    assert len(rig.keeper.keys()) == 1


# Files that cannot be made ------------------------------------------------------------------------------------------


def test_streams_that_cannot_be_kept_end_no_process_of_the_pair(rig: Rig, state_dir: Path) -> None:
    rig.run(["/bin/true"])
    pair = rig.pair()
    blocked = state_dir / "local" / "streams"
    assert not blocked.exists()
    blocked.write_text("a file where a folder is needed")
    for _ in range(3):
        assert rig.run("echo lost").exit_code == 0
    job = rig.submit(FOREVER)
    rig.until(job, JobState.RUNNING)
    for key in (job.key, job.key - 1):
        with pytest.raises(ControlError):
            rig.keeper.streams(key)
    rig.control(Action.CANCEL, job)
    rig.wait(job)
    assert find_pair(state_dir) == {"server": [pair[0]], "spawner": [pair[1]]}
    blocked.unlink()
    kept = rig.submit("echo kept")
    rig.wait(kept)
    assert rig.output(kept) == b"kept\n"


# A child that waits for a FIFO before its exec ----------------------------------------------------------------------


@pytest.mark.parametrize("both", [False, True])
def test_a_child_that_waits_for_a_fifo_hides_no_death(rig: Rig, tmp_path: Path, both: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    job = rig.submit(["/bin/cat"], stdin=str(tmp_path / "fifo"), stdout=str(tmp_path / "out"))
    rig.until(job, JobState.RUNNING)
    server, spawner = rig.pair()
    os.kill(spawner, signal.SIGKILL)
    if both:
        os.kill(server, signal.SIGKILL)
    assert rig.run(["/bin/true"]).exit_code == 0
    (tmp_path / "fifo").write_text("hello")
    rig.wait(job)
    assert (tmp_path / "out").read_text() == "hello"


# Requests that come twice -------------------------------------------------------------------------------------------


def test_controls_are_done_once_however_often_they_are_sent(rig: Rig, tmp_path: Path) -> None:
    busy = [rig.submit(FOREVER), rig.submit(FOREVER)]
    held = rig.submit(["/bin/true"])
    ask = rig.keeper._connection.request
    assert ask("control", "hold", [held.key], None, b"first") == [None]
    assert ask("control", "hold", [held.key], None, b"first") == [None]
    assert ask("control", "hold", [held.key], None, b"other")[0][0] == "WrongState"
    kill_server(rig)
    assert ask("control", "hold", [held.key], None, b"first") == [None]
    rig.control(Action.CANCEL, *busy, held)
    rig.wait_all([*busy, held])
    script = "trap 'echo x >>caught' USR1; touch ready; while [ ! -e over ]; do sleep 0.01; done"
    job = rig.submit(script, directory=str(tmp_path))
    eventually((tmp_path / "ready").exists)
    for _ in range(3):
        assert ask("control", "signal", [job.key], int(signal.SIGUSR1), b"signal") == [None]
    eventually((tmp_path / "caught").exists)
    kill_server(rig)
    assert ask("control", "signal", [job.key], int(signal.SIGUSR1), b"signal") == [None]
    (tmp_path / "over").touch()
    rig.wait(job)
    assert (tmp_path / "caught").read_text() == "x\n"


def test_suspend_sent_again_after_the_servers_death(rig: Rig) -> None:
    job = rig.submit(FOREVER)
    rig.until(job, JobState.RUNNING)
    ask = rig.keeper._connection.request
    assert ask("control", "suspend", [job.key], None, b"stop") == [None]
    kill_server(rig)
    assert ask("control", "suspend", [job.key], None, b"stop") == [None]
    assert ask("control", "resume", [job.key], None, b"go") == [None]
    assert ask("control", "resume", [job.key], None, b"go") == [None]
    rig.control(Action.CANCEL, job)
    rig.wait(job)


def test_reaping_is_whole_and_repeatable(rig: Rig) -> None:
    done, running = rig.submit(["/bin/true"]), rig.submit(FOREVER)
    rig.wait(done)
    with pytest.raises(WrongState):
        rig.keeper.reap([done.key, running.key])
    ask = rig.keeper._connection.request
    assert ask("reap", [done.key, done.key], b"mine") == [done.key]
    assert ask("reap", [done.key], b"theirs") == []
    kill_server(rig)
    assert ask("reap", [done.key], b"mine") == [done.key]  # the answer was lost: it is this one's all the same
    assert ask("reap", [done.key], b"theirs") == []


def test_removing_many_goes_in_parts_and_removes_none_where_one_runs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_PART", 10)
    done = rig.keeper.submit([rig.describe(["/bin/true"])] * 25)
    rig.wait_all(done)
    running = rig.submit(FOREVER)
    keys = [job.key for job in done]
    with pytest.raises(WrongState):
        rig.keeper.remove([*keys, running.key])
    assert len(rig.keeper.keys()) == 26
    asked: list[int] = []
    ask = rig.keeper._connection.request

    def count(operation: str, *arguments: Any) -> Any:
        if operation == "remove":
            asked.append(len(arguments[0]))
        return ask(operation, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(rig.keeper._connection, "request", count)
        rig.keeper.remove(keys)
    assert asked == [10, 10, 5]
    assert rig.keeper.keys() == [running.key]
    rig.control(Action.CANCEL, running)


def test_what_was_removed_leaves_no_batch_and_no_environment(rig: Rig, state_dir: Path) -> None:
    job = rig.submit(["/bin/true"])
    rig.wait(job)
    rig.keeper.remove([job.key])
    kill_server(rig)
    rig.keeper.keys()

    def left() -> int:
        database = sqlite3.connect(f"file:{state_dir}/local/journal.db?mode=ro", uri=True)
        try:
            return sum(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("batches", "environments"))
        finally:
            database.close()

    eventually(lambda: not left())
    assert rig.run(["/bin/true"]).exit_code == 0  # with an environment that it had to learn again


# Dependencies -------------------------------------------------------------------------------------------------------


def test_tasks_that_were_removed_do_not_fail_who_waits_for_their_array(open_rig: Callable[..., Rig], tmp_path: Path) -> None:
    rig = open_rig(slots=3)
    script = '[ "$JOBYARD_TASK_INDEX" = 1 ] || while [ ! -e go ]; do sleep 0.01; done'
    array, _, tasks = rig.keeper.submit_array(rig.describe(["/bin/sh", "-c", script], directory=str(tmp_path)), [1, 2], None)
    after = rig.submit(["/bin/true"], after=[array])
    rig.wait(tasks[0])
    rig.keeper.remove([tasks[0].key])
    kill_server(rig)
    rig.keeper.keys()
    with pytest.raises(InvalidJob, match="there is no job"):
        rig.submit(["/bin/true"], after=[tasks[0].token])
    (tmp_path / "go").touch()
    assert rig.wait(after).state is JobState.DONE


def test_an_end_of_the_same_round_is_known_to_who_waits_for_it() -> None:
    engine, _ = make_engine()
    target = accept(engine)
    target.state, target.ended = DONE, time.time()
    del engine.jobs[target.number]  # as _finish leaves it until the commit
    stale = SimpleNamespace(execute=lambda *_: pytest.fail("the journal does not know it yet"))
    requests = Requests.__new__(Requests)
    requests._server = cast(Any, SimpleNamespace(engine=engine, store=stale))
    vars(requests)["_targets"] = lambda _: [target.number]
    engine.dirty[target.number] = target
    waiting = accept(engine)
    requests.depend(waiting, 0, "token", "success")
    engine.pass_time()
    assert waiting.waits == 0
    assert waiting.ended is None


# Ending jobs --------------------------------------------------------------------------------------------------------


def test_the_kill_comes_though_the_server_dies_in_the_grace(rig: Rig, tmp_path: Path) -> None:
    job = rig.submit("trap '' TERM; touch ready; while :; do sleep 0.1; done", directory=str(tmp_path))
    eventually((tmp_path / "ready").exists)
    rig.control(Action.CANCEL, job)
    kill_server(rig)
    ending = rig.wait(job, 20.0)
    assert ending.state is JobState.CANCELLED
    assert ending.signal == "SIGKILL"


def test_a_deadline_in_the_window_starts_nothing(open_rig: Callable[..., Rig], tmp_path: Path) -> None:
    rig = open_rig(slots=1)
    first = rig.submit(FOREVER)
    rig.until(first, JobState.RUNNING)
    late = rig.submit("touch ran", directory=str(tmp_path), deadline_at=time.time() + 0.3)
    ending = rig.wait(late, 20.0)  # before the first has ended
    assert (ending.cause, ending.began_at, ending.aborted) == (Cause.WALLTIME, None, True)
    rig.control(Action.CANCEL, first)
    rig.wait(first)
    assert not (tmp_path / "ran").exists()


# The engine alone ---------------------------------------------------------------------------------------------------


class Spoken:
    """A spawner's link that keeps what was said."""

    generation = 1
    ready = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, Callable[[Any], None]]] = []

    def say(self, *message: Any) -> None:
        """Nothing hears it."""

    def ask(self, what: str, value: Any, then: Callable[[Any], None]) -> None:
        """Kept, to be answered by the test."""
        self.asked.append((what, value, then))


def make_engine(**options: str) -> tuple[Engine, Spoken]:
    """An engine with a machine of one slot."""
    engine, link = Engine(Machine(Settings({"slots": "1", **options})), 1.0), Spoken()
    engine.link = cast(Link, link)
    return engine, link


def accept(engine: Engine, count: int = 1, **traits: Any) -> Job:
    """New jobs in the engine; the last one."""
    shared = Traits(pack(traits))
    first = engine.next_number
    batch = Batch(1, 1, "0" * 16, 0, first, count, None, time.time(), traits=shared)
    jobs = [Job(first + at, batch, pack({"a": [b"x"]}), shared) for at in range(count)]
    engine.next_number += count
    engine.accept(batch, jobs)
    return jobs[-1]


def told(kind: int, job: Job, status: int = 0) -> Record:
    """A record of the spawner's."""
    return Record._make([kind, 0, 0, 77, job.number, time.time(), kernel.boot_now(), status, 0, *[0] * 10])


def run(engine: Engine, job: Job) -> None:
    """Hand a job over and let it start."""
    engine.schedule()
    assert [item[0] for item in engine.hand_over] == [job.number]
    engine.hand_over.clear()
    engine.record(told(SPAWNING, job))
    engine.record(told(PID, job))


def test_a_requeued_job_is_handed_over_in_a_later_commit_than_its_end() -> None:
    engine, _ = make_engine()
    job = accept(engine, R=True)
    run(engine, job)
    engine.terminate(job, REQUEUE)
    engine.record(told(END, job, int(signal.SIGTERM)))
    engine.schedule()
    assert not engine.hand_over  # a successor may read that END again; the job must have no run then
    assert job.run is None
    acts, engine.after_commit = engine.after_commit, []
    for act in acts:
        act()
    engine.schedule()
    assert [item[0] for item in engine.hand_over] == [job.number]


def test_a_kill_that_the_spawner_took_to_its_grave_is_sent_again() -> None:
    engine, link = make_engine()
    job = accept(engine)
    run(engine, job)
    engine._end(job, signal.SIGKILL)
    sent: list[int] = []

    def end(_: Job, signum: int, __: float) -> bool:
        sent.append(signum)
        return True

    engine.own_end = end
    what, _, then = link.asked[-1]
    assert what == "end"
    then(None)
    assert sent == [signal.SIGKILL]


def test_what_was_cancelled_while_it_was_handed_over_is_not_queued_again() -> None:
    engine, _ = make_engine()
    job = accept(engine)
    engine.schedule()
    engine.terminate(job, CANCEL)
    engine.unhand(job)
    assert job.ended is not None
    assert state_of(job) is JobState.CANCELLED
    assert not len(engine.queue)


def state_of(job: Job) -> JobState:
    """The state of a job, decoded."""
    from jobyard.schedulers.local.protocol import STATES

    return STATES[job.state]


def test_many_jobs_of_higher_priority_ask_the_window_back_once() -> None:
    engine, link = make_engine()
    first = accept(engine, 50)
    del first
    engine.schedule()
    assert engine.bookings.ahead()
    accept(engine, 500, p=5)
    assert [what for what, _, _ in link.asked] == ["recall"]
    _, numbers, then = link.asked[0]
    then(numbers)
    accept(engine, 1, p=6)
    assert not engine._recalling_all


def test_refusing_many_new_jobs_takes_no_time_for_each_pair_of_them() -> None:
    engine, _ = make_engine()
    job = accept(engine, 20_000, h=True)
    begun = time.monotonic()
    engine.forget(engine.new_batches[0][1])
    assert time.monotonic() - begun < 3.0
    assert not engine.jobs
    assert not engine.events
    assert not engine.told
    assert not job.queued


def test_timers_of_jobs_that_have_ended_are_thrown_out() -> None:
    engine, _ = make_engine()
    jobs = accept(engine, TIMERS + 100, h=True).batch
    for number in range(jobs.first, jobs.first + jobs.count):
        job = engine.jobs[number]
        engine.timer(kernel.boot_now() + 1e6, job, lambda one: None, -1)
        if number % 100:
            engine.drop(job, DONE, Cause.EXITED, "")
    assert len(engine._timers) < TIMERS


def test_kinds_of_places_that_nobody_has_cost_nothing() -> None:
    engine, _ = make_engine()
    for memory in range(1, 300):
        job = accept(engine, m=memory)
        run(engine, job)
        engine.record(told(END, job))
    engine.bookings.settle()
    assert not engine.bookings._at_spawner
    assert not engine.bookings._credit


# Environments, usage, the shepherd ----------------------------------------------------------------------------------


def test_a_spawner_forgets_environments_that_nobody_waits_for() -> None:
    before = os.umask(0o022)
    try:
        launcher = Launcher(())
    finally:
        os.umask(before)
    for number in range(5):
        launcher.learn(number, pack({b"N": b"%d" % number}))
    launcher.forget({3, None})
    assert launcher._environments == {3: {b"N": b"3"}}


def test_more_environments_than_are_remembered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = []
    for number in range(520):
        monkeypatch.setenv("REVIEW_NUMBER", str(number))
        jobs.append(rig.submit(["/bin/sh", "-c", f'[ "$REVIEW_NUMBER" = {number} ]']))
    assert all(ending.exit_code == 0 for ending in rig.wait_all(jobs))


def test_the_spawners_own_size_is_not_taken_for_a_jobs(rig: Rig) -> None:
    assert rig.run(["/bin/true"]).usage.max_rss_bytes is None
    assert rig.run(["/bin/true"], open_files=200).usage.max_rss_bytes is None
    large = rig.run([sys.executable, "-I", "-S", "-c", "x = bytearray(60 << 20)"]).usage.max_rss_bytes
    assert large is not None
    assert 60 << 20 <= large < 120 << 20


def test_a_task_through_the_shepherd_knows_its_own_token_and_devices(open_rig: Callable[..., Rig], tmp_path: Path) -> None:
    (tmp_path / "pre").write_text("true\n")
    rig = open_rig(gpus="7+9")
    tasks = rig.array(
        ["/bin/sh", "-c", "echo $JOBYARD_JOB_ID $CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES"],
        [3, 4],
        inherit=Inherit.NONE,
        gpus=1,
        pre_launch=str(tmp_path / "pre"),
        stdout=f"{tmp_path}/out.{Placeholder.INDEX}",
    )
    rig.wait_all(tasks)
    found = [(tmp_path / f"out.{index}").read_text().split() for index in (3, 4)]
    assert [one[0] for one in found] == [task.token for task in tasks]
    assert {one[1] for one in found} == {"7", "9"}
    assert all(one[1] == one[2] for one in found)


def test_held_by_both_then_by_the_one_that_is_left(rig: Rig) -> None:
    rig.run(["/bin/true"])  # the server is there
    job: Placed = rig.submit(["/bin/true"], hold=True, begin_at=time.time() + 2.0)
    assert [told.by for told in rig.keeper.history(job.key)][:1] == [By.BOTH]
    eventually(lambda: rig.keeper.entries([job.key])[0].by is By.USER)
    rig.control(Action.RELEASE, job)
    assert rig.wait(job).state is JobState.DONE


def test_the_folder_of_an_array_goes_with_the_last_of_its_tasks(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "pre").write_text("true\n")
    tasks = rig.array(["/bin/true"], [1, 2, 3], pre_launch=str(tmp_path / "pre"))
    rig.wait_all(tasks)
    folder = Path(str(rig.keeper.streams(tasks[0].key)[0])).parent
    rig.keeper.remove([tasks[0].key])
    assert folder.exists()
    rig.keeper.remove([task.key for task in tasks[1:]])
    assert not folder.exists()


def test_a_job_without_gpus_sees_none(open_rig: Callable[..., Rig], tmp_path: Path) -> None:
    rig = open_rig(gpus="2", slots=1)
    script = 'echo "<${CUDA_VISIBLE_DEVICES-unset}>" >>seen'
    jobs = rig.keeper.submit([rig.describe(["/bin/sh", "-c", script], directory=str(tmp_path))] * 3)  # one at once, two ahead
    jobs = [*jobs, rig.submit(script, directory=str(tmp_path), environment={"CUDA_VISIBLE_DEVICES": "own"})]
    jobs.append(rig.submit(script, directory=str(tmp_path), gpus=2))
    rig.wait_all(jobs)
    assert (tmp_path / "seen").read_text().split() == ["<>"] * 3 + ["<own>", "<0,1>"]
