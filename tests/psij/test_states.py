"""States, their order, statuses, and the job's state machine under races."""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import psij
from psij import Job, JobSpec, JobState, JobStatus, SubmitException
from psij.job_state import JobStateOrder

ORDER = ["NEW", "QUEUED", "STAGE_IN", "ACTIVE", "STAGE_OUT", "CLEANUP", "COMPLETED"]
RACES = 100_000


def test_values_and_names() -> None:
    assert [(state.name, state.value) for state in JobState] == [
        *((name, number) for number, name in enumerate(ORDER)),
        ("FAILED", 7),
        ("CANCELED", 8),
    ]
    for state in JobState:
        assert (str(state), repr(state), hash(state), bool(state)) == (state.name, state.name, state.value, True)
        assert JobState.from_name(str(state)) is state
        assert pickle.loads(pickle.dumps(state)) is state
        assert isinstance(state, bytes)
        assert state.final == (state.name in ("COMPLETED", "FAILED", "CANCELED"))
    assert len(set(JobState)) == 9
    with pytest.raises(KeyError):
        JobState.from_name("DONE")


def test_the_order() -> None:
    finals = [JobState.COMPLETED, JobState.FAILED, JobState.CANCELED]
    for one, other in itertools.product(JobState, repeat=2):
        expected: bool | None
        if one is other:
            expected = False
        elif one in finals and other in finals:
            expected = None
        else:
            rank = [ORDER.index("COMPLETED") if state in finals else ORDER.index(state.name) for state in (one, other)]
            expected = rank[0] > rank[1]
        assert one.is_greater_than(other) is expected, (one, other)


def test_the_state_before() -> None:
    before = {state.name: JobStateOrder.prev(state) for state in JobState}
    assert {name: str(state) for name, state in before.items() if state} == dict(itertools.pairwise(reversed(ORDER)))
    assert [name for name, state in before.items() if state is None] == ["NEW", "FAILED", "CANCELED"]


def test_a_status() -> None:
    now = time.time()
    status = JobStatus(JobState.ACTIVE)
    assert now <= status.time <= time.time()
    assert (status.message, status.exit_code, status.metadata, status.final) == (None, None, None, False)
    status = JobStatus(JobState.FAILED, 5.0, "why", 7, {"a": 1})
    assert (status.time, status.message, status.exit_code, status.metadata, status.final) == (5.0, "why", 7, {"a": 1}, True)
    assert "FAILED" in str(status)
    assert "why" in str(status)
    with pytest.raises(TypeError, match="JobState"):
        JobStatus("ACTIVE")  # type: ignore[arg-type]  # what is tested


def watched(job: Job) -> list[JobStatus]:
    """The statuses that a callback of the job is told."""
    told: list[JobStatus] = []
    job.set_job_status_callback(lambda _, status: told.append(status))
    return told


def test_states_left_out_are_passed_at_the_next_ones_time() -> None:
    job = Job(JobSpec("/bin/true"))
    told = watched(job)
    job.status = JobStatus(JobState.COMPLETED, 42.0, "done", 0)
    assert [status.state.name for status in told] == ORDER[1:]
    assert {status.time for status in told} == {42.0}
    assert [bool(status.metadata and status.metadata.get("synthesised")) for status in told] == [True] * 5 + [False]
    assert [status.message for status in told] == [None] * 5 + ["done"]


def test_final_is_final() -> None:
    for final, later in itertools.product([JobState.COMPLETED, JobState.FAILED, JobState.CANCELED], JobState):
        job = Job()
        job.status = JobStatus(final, exit_code=3)
        told = watched(job)
        job.status = JobStatus(later, exit_code=4)
        assert (job.status.state, job.status.exit_code, told) == (final, 3, [])


def test_nothing_goes_back_and_nothing_comes_twice() -> None:
    job = Job()
    told = watched(job)
    for name in ("QUEUED", "QUEUED", "ACTIVE", "STAGE_IN", "QUEUED", "NEW", "ACTIVE", "FAILED"):
        job.status = JobStatus(JobState[name])
    assert [status.state.name for status in told] == ["QUEUED", "STAGE_IN", "ACTIVE", "FAILED"]


@given(st.lists(st.sampled_from(list(JobState)), max_size=30))
def test_any_sequence_is_told_in_order(states: list[JobState]) -> None:
    job = Job()
    told = watched(job)
    for state in states:
        job.status = JobStatus(state)
    seen = [status.state for status in told]
    assert len(set(seen)) == len(seen)
    assert all(later.is_greater_than(earlier) for earlier, later in itertools.pairwise(seen))
    assert job.status.state is (seen[-1] if seen else JobState.NEW)


class Recorder(psij.JobStatusCallback):
    """What an observer was told, by job."""

    def __init__(self) -> None:
        self.told: dict[str, list[JobState]] = {}

    def job_status_changed(self, job: Job, job_status: JobStatus) -> None:
        self.told.setdefault(job.id, []).append(job_status.state)


class Idle(psij.JobExecutor):
    """An executor that does nothing: statuses are assigned by the test."""

    def submit(self, job: Job) -> None:
        self._check_job(job)

    def cancel(self, job: Job) -> None:
        raise NotImplementedError

    def list(self) -> list[str]:
        return []

    def attach(self, job: Job, native_id: str) -> None:
        raise NotImplementedError


def test_racing_transitions() -> None:
    """Four threads set every state of many jobs in different orders: no duplicate, no inversion, nothing after an end."""
    executor = Idle()
    everybody, own = Recorder(), Recorder()
    executor.set_job_status_callback(everybody)
    states = list(JobState)[1:]
    jobs = []
    for _ in range(RACES // (4 * len(states)) + 1):
        job = Job(JobSpec("/bin/true"))
        job.set_job_status_callback(own)
        executor.submit(job)
        jobs.append(job)
    barrier = threading.Barrier(4)
    transitions: Counter[int] = Counter()
    finals: dict[str, set[JobState]] = {}

    def race(number: int) -> None:
        barrier.wait()
        turned = states[number:] + states[:number] if number % 2 else states
        for job in jobs:
            for state in turned:
                job.status = JobStatus(state)
                transitions[number] += 1
                if job._status.state.final:
                    finals.setdefault(job.id, set()).add(job._status.state)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(transitions.values()) >= RACES
    for told in (own.told, everybody.told):
        assert len(told) == len(jobs)
        for seen in told.values():
            assert len(set(seen)) == len(seen)
            assert all(later.is_greater_than(earlier) for earlier, later in itertools.pairwise(seen))
            assert seen[-1].final
    assert own.told == everybody.told
    assert all(len(seen) == 1 for seen in finals.values())
    assert all(finals[job.id] == {job.status.state} for job in jobs)


def test_order_of_callbacks_and_their_errors(caplog: pytest.LogCaptureFixture) -> None:
    executor = Idle()
    calls: list[str] = []

    def mine(job: Job, status: JobStatus) -> None:
        calls.append(f"job {status.state}")
        raise RuntimeError("mine")

    job = Job(JobSpec("/bin/true"))
    job.set_job_status_callback(mine)
    executor.set_job_status_callback(lambda _, status: calls.append(f"executor {status.state}"))
    executor.submit(job)
    job.status = JobStatus(JobState.STAGE_IN)
    assert calls == ["job QUEUED", "executor QUEUED", "job STAGE_IN", "executor STAGE_IN"]
    assert caplog.text.count("RuntimeError: mine") == 2
    job.set_job_status_callback(None)
    executor.set_job_status_callback(None)
    job.status = JobStatus(JobState.COMPLETED)
    assert len(calls) == 4


def test_a_callback_may_change_the_status_and_wait() -> None:
    job = Job()
    told: list[JobState] = []

    def advance(one: Job, status: JobStatus) -> None:
        told.append(status.state)
        if status.state is JobState.ACTIVE:
            one.status = JobStatus(JobState.COMPLETED)
            assert one.wait(timedelta(seconds=30)) is one.status

    job.set_job_status_callback(advance)
    job.status = JobStatus(JobState.ACTIVE)
    assert [str(state) for state in told] == ORDER[1:]


def test_waiting_lets_callbacks_be_told_however_late_their_thread_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not so in a callback: there as many may wait as there are threads that call back."""
    from psij import _dispatch

    monkeypatch.setattr("psij.job._BEGUN_S", 60.0)
    told: list[JobState] = []
    inner_s: list[float] = []
    job, other = Job(), Job()
    job.set_job_status_callback(lambda _, status: told.append(status.state))
    other.set_job_status_callback(lambda _, status: None)
    job._advance(JobStatus(JobState.QUEUED))
    late = threading.Timer(1.0, _dispatch.tell, (job,))
    late.start()
    status = job.wait(JobState.QUEUED)
    assert told == [status.state] == [JobState.QUEUED]
    late.join()

    def within(_: Job, status: JobStatus) -> None:
        began = time.monotonic()
        other.wait(JobState.QUEUED)
        inner_s.append(time.monotonic() - began)

    other._advance(JobStatus(JobState.QUEUED))  # nobody tells of this
    job.set_job_status_callback(within)
    job._advance(JobStatus(JobState.ACTIVE))
    _dispatch.tell(job)
    job.wait(JobState.ACTIVE)
    for _ in range(1000):
        if inner_s:
            break
        time.sleep(0.02)
    assert 0.5 <= inner_s[0] < 60.0


def test_what_is_no_callback_is_refused() -> None:
    for target in (Job(), Idle()):
        with pytest.raises(TypeError, match="status callback"):
            target.set_job_status_callback(3)  # type: ignore[arg-type]  # what is tested


def test_waiting() -> None:
    job = Job()
    assert job.wait(timedelta(0)) is None
    assert job.wait(timedelta(seconds=-1)) is None
    began = time.monotonic()
    assert job.wait(timedelta(milliseconds=20)) is None
    assert time.monotonic() - began >= 0.02
    job.status = JobStatus(JobState.QUEUED)
    assert job.wait(timedelta(0), JobState.QUEUED) is job.status
    assert job.wait(timedelta(0), [JobState.ACTIVE]) is None
    assert job.wait(timedelta(0), []) is None
    job.status = JobStatus(JobState.CANCELED)
    for target in (JobState.COMPLETED, JobState.ACTIVE):
        status = job.wait(target_states=target)
        assert status is not None
        assert status.state is JobState.CANCELED


def test_wait_takes_a_state_alone() -> None:
    job = Job()
    timer = threading.Timer(0.02, lambda: setattr(job, "status", JobStatus(JobState.ACTIVE)))
    timer.start()
    status = job.wait(JobState.ACTIVE)
    assert status is not None
    assert status.state is JobState.ACTIVE
    timer.join()
    for wrong in (5, 5.0, "ACTIVE"):
        with pytest.raises(TypeError):
            job.wait(wrong)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError):
        job.wait(None, ["ACTIVE"])  # type: ignore[list-item]  # what is tested


def test_waiters_in_many_threads() -> None:
    jobs = [Job() for _ in range(4)]
    found: dict[int, JobStatus | None] = {}
    ready = threading.Barrier(9)

    def wait(number: int) -> None:
        ready.wait()
        found[number] = jobs[number % 4].wait(timedelta(seconds=20))

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    ready.wait()
    for job in jobs:
        job.status = JobStatus(JobState.FAILED)
    for thread in threads:
        thread.join()
    assert [found[number] is jobs[number % 4].status for number in range(8)] == [True] * 8


def test_futures_need_no_threads() -> None:
    executor = Idle()
    jobs = [Job() for _ in range(1000)]
    before = threading.active_count()
    futures = [job.future() for job in jobs]
    for job in jobs:
        job.status = JobStatus(JobState.COMPLETED, exit_code=0)
    assert threading.active_count() <= before  # those of earlier tests go when they have been idle for a while
    assert {future.result(0).state for future in futures} == {JobState.COMPLETED}
    assert jobs[0].future().result(0) is jobs[0].status
    assert executor.wait_any(jobs) is jobs[0]
    statuses = executor.wait_all(jobs, timedelta(0))
    assert statuses is not None
    assert len(statuses) == 1000
    assert set(executor.as_completed(jobs)) == set(jobs)


def test_waiting_for_some_of_many() -> None:
    executor = Idle()
    jobs = [Job() for _ in range(5)]
    assert executor.wait_any(jobs, timedelta(0)) is None
    assert executor.wait_all(jobs, timedelta(0)) is None
    timer = threading.Timer(0.02, lambda: setattr(jobs[3], "status", JobStatus(JobState.FAILED)))
    timer.start()
    assert executor.wait_any(jobs, timedelta(seconds=20)) is jobs[3]
    with pytest.raises(TimeoutError):
        list(executor.as_completed(jobs, timedelta(milliseconds=1)))
    for job in jobs:
        job.status = JobStatus(JobState.FAILED)
    for forever in (timedelta.max, None):
        assert executor.wait_any(jobs, forever) is jobs[0]
        assert executor.wait_all(jobs, forever) == [job.status for job in jobs]
        late = Job()
        setting = threading.Timer(0.02, lambda late=late: setattr(late, "status", JobStatus(JobState.FAILED)))
        setting.start()
        assert list(executor.as_completed([late], forever)) == [late]
        setting.join()
    with pytest.raises(SubmitException, match="no job"):
        executor.wait_any([])
    timer.join()


def test_a_job_that_was_not_submitted() -> None:
    job = Job(JobSpec("/bin/true"))
    for act in (job.cancel, job.hold, job.release, job.suspend, job.resume, job.info):
        with pytest.raises(SubmitException, match="was not submitted"):
            act()
    job.status = JobStatus(JobState.COMPLETED)
    job.cancel()  # a final state: nothing happens
    with pytest.raises(TypeError, match="JobSpec"):
        Job("ls")  # type: ignore[arg-type]  # what is tested


def test_identity() -> None:
    one, other = Job(), Job()
    assert one != other
    assert len({one, other, one}) == 2
    assert one.id != other.id
    assert len(one.id) == 36
    assert one.native_id is None
    assert one.id in str(one)


def test_a_submission_that_fails_leaves_the_job_as_it_was() -> None:
    class Refusing(Idle):
        refuse = True

        def submit(self, job: Job) -> None:
            super().submit(job)
            if self.refuse:
                job._native_id = "half"
                raise SubmitException("not now", transient=True)

    executor = Refusing()
    job = Job(JobSpec("/bin/true"))
    with pytest.raises(SubmitException) as caught:
        executor.submit(job)
    assert caught.value.transient
    assert (job.executor, job.native_id, job.status.state) == (None, None, JobState.NEW)
    executor.refuse = False
    executor.submit(job)
    assert job.executor is executor
    with pytest.raises(psij.InvalidJobException, match="given to"):
        executor.submit(job)
    assert job.executor is executor


@pytest.mark.parametrize("action", ["hold", "release", "suspend", "resume"])
def test_what_an_executor_cannot_do_it_says(action: str) -> None:
    executor = Idle()
    job = Job(JobSpec("/bin/true"))
    executor.submit(job)
    assert executor.capabilities == {"cancel"}
    with pytest.raises(SubmitException, match=f"cannot {action} jobs; it can: cancel"):
        getattr(job, action)()
    assert job.info().state is JobState.NEW
