"""Session, Job and JobArray over a keeper that the test plays: waiting, taking, watching, controlling."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.fake_keeper import FakeKeeper, opened
from jobyard import (
    ControlError,
    Ending,
    InvalidJob,
    Job,
    JobArray,
    JobDescription,
    JobFailed,
    JobState,
    NotPermitted,
    Session,
    SessionClosed,
    UnknownJob,
    WrongState,
)
from jobyard.job import By, Inherit, Placeholder, Transition
from jobyard.schedulers.base import Action

DONE, FAILED, RUNNING, QUEUED, HELD = JobState.DONE, JobState.FAILED, JobState.RUNNING, JobState.QUEUED, JobState.HELD


@pytest.fixture
def opened_session(yard: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Session, FakeKeeper]]:
    session, keeper = opened(monkeypatch)
    with session:
        yield session, keeper


@pytest.fixture
def session(opened_session: tuple[Session, FakeKeeper]) -> Session:
    return opened_session[0]


@pytest.fixture
def keeper(opened_session: tuple[Session, FakeKeeper]) -> FakeKeeper:
    return opened_session[1]


def test_what_is_submitted_is_complete(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["./x"], name="n")
    assert job.description.directory == os.getcwd()
    assert job.description.inherit is Inherit.CLIENT
    assert (job.name, job.native_id, job.state) == ("n", "1", QUEUED)
    many = session.submit_all([["a"], job.description], cores=2)
    assert [one.description.resources.cores for one in many] == [2, 2]
    assert session.submit_all([]) == []


def test_the_present_directory_may_be_gone(
    session: Session, keeper: FakeKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only jobs that say no directory of their own need it."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ready = JobDescription(argv=("a",), directory="/tmp", inherit=Inherit.NODE)
    assert session.submit(ready).description == ready
    assert session.submit(["a"], directory="/tmp").description.directory == "/tmp"
    assert [job.description.directory for job in session.submit_all([["a"], ready], directory="/tmp")] == ["/tmp", "/tmp"]
    assert session.submit_array(ready, range(2))[0].description == ready
    sent = len(keeper.records)
    for submit in (lambda: session.submit(["a"]), lambda: session.submit_all([ready, ["a"]]), lambda: session.check(["a"])):
        with pytest.raises(InvalidJob, match="the present one was removed") as caught:
            submit()
        assert caught.value.field == "directory"
    assert len(keeper.records) == sent


def test_an_array_has_its_indices(session: Session, keeper: FakeKeeper) -> None:
    array = session.submit_array(["./x"], range(1, 8, 3), max_running=2)
    assert isinstance(array, JobArray)
    assert [task.task_index for task in array] == [1, 4, 7]
    assert len(array) == 3
    assert array[1:] == [array[1], array[2]]
    assert JobArray.INDEX == Placeholder.INDEX
    assert [job.native_id for job in session.array(array.token)] == [job.native_id for job in array]
    with pytest.raises(UnknownJob, match="use array"):
        session.job(array.token)


@pytest.mark.parametrize("indices", [[], [2, 1], [1, 1], [-1, 0], ["1"], [True], 5, [2**31], range(4_000_002)])
def test_bad_indices(session: Session, indices: object) -> None:
    with pytest.raises(InvalidJob) as caught:
        session.submit_array(["x"], indices)  # type: ignore[arg-type]
    assert caught.value.field == "indices"


@pytest.mark.parametrize("cap", [0, -1, 1.5, True, "2"])
def test_bad_caps(session: Session, cap: object) -> None:
    with pytest.raises(InvalidJob) as caught:
        session.submit_array(["x"], [1], max_running=cap)  # type: ignore[arg-type]
    assert caught.value.field == "max_running"


def test_final_is_final_and_nothing_comes_twice(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"])
    seen: list[Transition] = []
    over = threading.Event()

    def note(_: Job, transition: Transition) -> None:
        seen.append(transition)
        if transition.state.final:
            over.set()

    session.watch(note)
    keeper.tell((1, RUNNING))
    keeper.tell((1, RUNNING))
    keeper.tell((1, DONE))
    keeper.tell((1, FAILED))
    keeper.tell((1, RUNNING))
    assert over.wait(20)
    assert job.state is DONE
    assert job.wait().exit_code == 0
    assert [transition.state for transition in seen] == [RUNNING, DONE]


def test_a_run_between_two_looks_is_told_as_both(session: Session, keeper: FakeKeeper) -> None:
    session.submit(["x"])
    seen: list[JobState] = []
    over = threading.Event()

    def note(_: Job, transition: Transition) -> None:
        seen.append(transition.state)
        if transition.state.final:
            over.set()

    session.watch(note)
    keeper.tell((1, DONE))
    assert over.wait(20)
    assert seen == [RUNNING, DONE]


def test_by_is_told(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"], hold=True)
    keeper.tell((1, HELD), by=By.USER)
    assert (job.state, job.by) == (HELD, By.USER)
    keeper.tell((1, HELD), by=By.BOTH)
    assert job.by is By.BOTH
    keeper.tell((1, QUEUED))
    assert job.by is None


def test_reading_why_a_job_waits_looks_for_news(session: Session, keeper: FakeKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    job = session.submit(["./x"])
    looks: list[str] = []
    monkeypatch.setattr(keeper, "poll", lambda: looks.append("look"))
    assert job.reason is None
    assert looks == ["look"]


def test_wait_times_out_and_can_be_called_again(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"])
    with pytest.raises(TimeoutError, match="job 1 is still queued"):
        job.wait(0)
    with pytest.raises(TimeoutError):
        job.wait(timeout=0.01)
    for bad in (-1, "1", True):
        with pytest.raises(ValueError, match="timeout"):
            job.wait(bad)  # type: ignore[arg-type]
    keeper.tell((1, FAILED))
    with pytest.raises(JobFailed, match="exited with 3") as caught:
        job.wait(0).check()
    assert caught.value.ending is job.ending


def test_many_wait_for_one(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"])
    got: list[Ending] = []
    threads = [threading.Thread(target=lambda: got.append(job.wait(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    keeper.tell((1, DONE))
    for thread in threads:
        thread.join()
    assert got == [job.ending] * 8


def test_as_completed_and_wait_any_in_order_of_ending(session: Session, keeper: FakeKeeper) -> None:
    jobs = session.submit_all([["x"]] * 4)
    keeper.tell((3, DONE))
    order = session.as_completed(jobs, timeout=60)
    assert next(order) is jobs[2]
    assert session.wait_any(jobs) is jobs[2]
    keeper.tell((1, DONE), (4, FAILED))
    assert [next(order), next(order)] == [jobs[0], jobs[3]]
    with pytest.raises(TimeoutError):
        session.wait_any([jobs[1]], timeout=0)
    with pytest.raises(UnknownJob):
        session.wait_any([])
    with pytest.raises(TimeoutError, match="1 jobs have not ended"):
        list(session.as_completed(jobs, timeout=0.01))
    keeper.tell((2, DONE))
    assert list(order) == [jobs[1]]
    assert [ending.exit_code for ending in session.wait_all(timeout=0)] == [0, 0, 0, 3]


def test_take_gives_each_to_one(session: Session, keeper: FakeKeeper) -> None:
    jobs = session.submit_all([["x"]] * 200)
    taken: list[Job] = []

    def taker() -> None:
        while True:
            try:
                taken.append(session.take(timeout=20))
            except UnknownJob:
                return

    threads = [threading.Thread(target=taker) for _ in range(6)]
    for thread in threads:
        thread.start()
    for start in range(1, 201, 7):
        keeper.tell(*[(key, DONE) for key in range(start, min(start + 7, 201))])
    for thread in threads:
        thread.join()
    assert Counter(taken) == Counter(jobs)
    assert all(job.reaped for job in jobs)
    with pytest.raises(UnknownJob):
        session.take(timeout=0)


def test_take_of_some_leaves_the_others(session: Session, keeper: FakeKeeper) -> None:
    jobs = session.submit_all([["x"]] * 3)
    keeper.tell((1, DONE), (2, DONE))
    assert session.take([jobs[1]]) is jobs[1]
    with pytest.raises(UnknownJob):
        session.take([jobs[1]], timeout=0)
    with pytest.raises(TimeoutError):
        session.take([jobs[2]], timeout=0)
    assert session.take(timeout=0) is jobs[0]
    assert jobs[0].wait(0).success


def test_reaping_by_hand(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"])
    with pytest.raises(WrongState):
        job.reap()
    keeper.tell((1, DONE))
    assert job.reap() is True
    assert job.reap() is False
    with pytest.raises(UnknownJob):
        session.take(timeout=0)
    assert job.wait(0).exit_code == 0


def test_reaping_many(session: Session, keeper: FakeKeeper) -> None:
    jobs = session.submit_all([["x"]] * 3)
    keeper.tell((1, DONE), (2, DONE))
    with pytest.raises(WrongState):
        session.reap(jobs)
    assert jobs[1].reap()
    assert session.reap(jobs[:2]) == [jobs[0]]
    assert session.reap([]) == []
    keeper.tell((3, DONE))
    assert session.take(timeout=0) is jobs[2]


def test_reopened_jobs_can_be_taken_unless_reaped(session: Session, keeper: FakeKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    session.submit_all([["x"]] * 3)
    keeper.tell((1, DONE), (2, DONE))
    keeper.reaped.add(1)
    other, second = opened(monkeypatch)
    second.records, second.reaped = keeper.records, keeper.reaped
    with other:
        assert [job.native_id for job in other.jobs()] == ["1", "2", "3"]
        assert other.take(timeout=0).native_id == "2"
        with pytest.raises(TimeoutError):
            other.take(timeout=0)
        assert [job.native_id for job in other.jobs(unreaped=True)] == ["3"]
        assert [job.native_id for job in other.jobs(unfinished=True)] == ["3"]
        assert [job.native_id for job in other.jobs(newest=2)] == ["2", "3"]


def test_futures_and_await(session: Session, keeper: FakeKeeper) -> None:
    one, two = session.submit_all([["x"]] * 2)
    future = one.future()
    assert one.future() is future
    assert keeper.in_background

    async def both() -> list[Ending]:
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, lambda: threading.Thread(target=keeper.tell, args=((1, DONE), (2, FAILED))).start())
        return list(await asyncio.gather(one, two))

    endings = asyncio.run(both())
    assert [ending.exit_code for ending in endings] == [0, 3]
    assert future.result(0) is one.ending
    assert two.future().result(0).exit_code == 3


def test_a_cancelled_future_does_not_cancel_the_job(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"])
    first = job.future()
    assert first.cancel()
    second = job.future()
    keeper.tell((1, DONE))
    assert second.result(5).exit_code == 0
    assert keeper.acts == []


def test_control_of_one_and_many(session: Session, keeper: FakeKeeper) -> None:
    jobs = session.submit_all([["x"]] * 3)
    session.hold()
    jobs[0].signal("usr1")
    session.signal(9, jobs[:2])
    keeper.tell((3, DONE))
    session.cancel()
    assert keeper.acts == [
        (Action.HOLD, (1, 2, 3), None),
        (Action.SIGNAL, (1,), int(signal.SIGUSR1)),
        (Action.SIGNAL, (1, 2), 9),
        (Action.CANCEL, (1, 2), None),
    ]
    for bad in ("nonsense", 0, 65, True, "SIG_DFL", 1.5):
        with pytest.raises(ControlError, match="signal"):
            jobs[0].signal(bad)  # type: ignore[arg-type]


def test_control_errors(session: Session, keeper: FakeKeeper) -> None:
    jobs = session.submit_all([["x"]] * 3)
    keeper.answers = {1: WrongState("job 1 runs"), 2: NotPermitted("operators only")}
    with pytest.raises(WrongState, match="job 1 runs"):
        jobs[0].hold()
    with pytest.raises(NotPermitted):
        session.hold()  # one worked, one runs already, one was refused: only the refusal is told
    assert session.control(Action.HOLD)[jobs[2]] is None
    keeper.answers = {1: WrongState("job 1 has ended")}
    jobs[0].cancel()  # ended already: nothing to do
    keeper.answers = {n: WrongState(f"job {n} runs") for n in (1, 2, 3)}
    with pytest.raises(WrongState, match="and 2 more of 3 jobs"):
        session.hold()


def test_nothing_to_control(session: Session) -> None:
    session.cancel()
    with pytest.raises(WrongState):
        session.hold()


def test_jobs_of_other_sessions_are_refused(session: Session, yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, _ = opened(monkeypatch)
    with other:
        job = other.submit(["x"])
        with pytest.raises(UnknownJob, match="not a job of this session"):
            session.cancel([job])


def test_watch_can_be_closed_and_chosen(session: Session, keeper: FakeKeeper) -> None:
    jobs = session.submit_all([["x"]] * 2)
    chosen: list[int] = []
    everything = threading.Semaphore(0)
    watch = session.watch(lambda job, _: chosen.append(int(job.native_id)), [jobs[1]])
    session.watch(lambda job, _: everything.release())
    keeper.tell((1, RUNNING), (2, RUNNING))
    assert everything.acquire(timeout=20)
    assert everything.acquire(timeout=20)
    watch.close()
    keeper.tell((1, DONE), (2, DONE))
    assert everything.acquire(timeout=20)
    assert everything.acquire(timeout=20)
    assert chosen == [2]


def test_a_callback_may_submit_and_wait(session: Session, keeper: FakeKeeper) -> None:
    session.submit(["x"])
    done = threading.Event()

    def again(job: Job, transition: Transition) -> None:
        if job.native_id == "1" and transition.state is DONE:
            follower = session.submit(["y"])
            threading.Thread(target=keeper.tell, args=((2, DONE),)).start()
            follower.wait(20)
            done.set()

    session.watch(again)
    keeper.tell((1, DONE))
    assert done.wait(20)


def test_clean_forgets(session: Session, keeper: FakeKeeper) -> None:
    jobs = session.submit_all([["x"]] * 3)
    keeper.tell((1, DONE))
    with pytest.raises(WrongState):
        session.clean(jobs)
    assert len(keeper.records) == 3
    session.clean()
    assert list(keeper.records) == [2, 3]
    with pytest.raises(UnknownJob, match="no longer kept"):
        _ = jobs[0].name


def test_a_closed_session_says_so(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"])
    future = job.future()
    result: list[BaseException] = []

    def waiter() -> None:
        try:
            job.wait()
        except SessionClosed as error:
            result.append(error)

    thread = threading.Thread(target=waiter)
    thread.start()
    session.close()
    session.close()
    thread.join(20)
    assert not thread.is_alive()
    assert len(result) == 1
    with pytest.raises(SessionClosed):
        future.result(0)
    with pytest.raises(SessionClosed):
        session.submit(["x"])
    assert session.contact == "local/s1"


def test_ctrl_c_interrupts_a_wait(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"])
    timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        job.wait(20)
    timer.join()
    keeper.tell((1, DONE))
    assert job.wait(0).success


def test_a_child_of_a_fork_is_not_stuck(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"])
    keeper.tell((1, DONE))
    with session._board._lock:  # as if another thread were in there
        child = os.fork()
        if not child:
            os._exit(0 if job.wait(0).success and session.job("1") is job else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_large_waits_are_linear(session: Session, keeper: FakeKeeper) -> None:
    jobs = session.submit_all([["x"]] * 3000)
    looks = 0
    wait_until = keeper.wait_until

    def counted(done: object, timeout_s: float | None) -> bool:
        def count() -> bool:
            nonlocal looks
            looks += 1
            return bool(done())  # type: ignore[operator]

        return wait_until(count, timeout_s)

    keeper.wait_until = counted  # type: ignore[method-assign]

    def finish() -> None:
        for key in range(1, 3001):
            keeper.tell((key, DONE))

    thread = threading.Thread(target=finish)
    started = time.process_time()
    thread.start()
    assert len(session.wait_all(jobs, timeout=60)) == 3000
    thread.join()
    assert looks <= 3002
    assert time.process_time() - started < 20
