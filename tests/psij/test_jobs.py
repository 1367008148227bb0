"""Jobs on an executor: endings, streams, environment, callbacks, control. The executor is a parameter, ``local`` by default."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import jobyard
import psij
from psij import InvalidJobException, Job, JobAttributes, JobExecutor, JobSpec, JobState, ResourceSpecV1, SubmitException
from psij._engine_executor import EngineExecutor
from psij.staging import StageIn
from psij_helpers import ALL, LONG, Told, finished, open_executor, run, shell


def test_a_job_runs_and_passes_all_states(executor: JobExecutor) -> None:
    mine, everybody = Told(), Told()
    executor.set_job_status_callback(everybody)
    job = Job(JobSpec("/bin/true"))
    job.set_job_status_callback(mine)
    before = time.time()
    executor.submit(job)
    assert job.native_id
    assert job.executor is executor
    assert job.status.state is not JobState.NEW
    status = finished(job)
    assert (status.state, status.exit_code) == (JobState.COMPLETED, 0)
    for told in (mine, everybody):
        told.all_final(job)
        assert told.states(job) == ALL
        times = [one.time for one in told.by_job[job.id]]
        assert before - 1 <= times[0]
        assert times == sorted(times)
        marked = [bool((one.metadata or {}).get("synthesised")) for one in told.by_job[job.id]]
        assert marked[1] is marked[3] is marked[4] is True  # no staging was asked for
        assert marked[0] is marked[5] is False


@pytest.mark.parametrize("code", [1, 7, 99, 100, 126, 127, 128, 137, 255])
def test_exit_codes_are_exact(executor: JobExecutor, code: int) -> None:
    status = run(executor, shell(f"exit {code}"))
    assert (status.state, status.exit_code) == (JobState.FAILED, code)
    assert str(code) in (status.message or "")


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "USR1"])
def test_signals_are_told(executor: JobExecutor, name: str) -> None:
    status = run(executor, shell(f"kill -{name} $$"))
    assert (status.state, status.exit_code) == (JobState.FAILED, 128 + signal.Signals[f"SIG{name}"])
    assert status.metadata is not None
    assert status.metadata["signal"] == f"SIG{name}"


def test_a_failing_job_passes_all_states_too(executor: JobExecutor) -> None:
    told = Told()
    job = Job(shell("exit 3"))
    job.set_job_status_callback(told)
    executor.submit(job)
    told.all_final(job)
    assert told.states(job) == [*ALL[:-1], JobState.FAILED]


@pytest.mark.parametrize("spec", [JobSpec("/no/such/program"), JobSpec("/bin/true", directory="/no/such/directory")])
def test_what_cannot_be_started_fails_and_says_why(executor: JobExecutor, spec: JobSpec) -> None:
    told = Told()
    job = Job(spec)
    job.set_job_status_callback(told)
    executor.submit(job)
    told.all_final(job)
    assert told.states(job)[-1] is JobState.FAILED
    assert "/no/such" in (job.status.message or "")
    assert JobState.COMPLETED not in told.states(job)


HOSTILE = ["", " ", "a b", "it's", '"', "$HOME", "$(false)", "`x`", "a\nb", "\\", "-n", "ü", "*", "=", "x=y", "\udcff"]


def test_arguments_arrive_unchanged(executor: JobExecutor, tmp_path: Path) -> None:
    spec = shell('printf "%s\\0" "$@"', *HOSTILE, stdout_path=tmp_path / "o")
    assert run(executor, spec).state is JobState.COMPLETED
    assert (tmp_path / "o").read_bytes().split(b"\0")[:-1] == [os.fsencode(word) for word in HOSTILE]


def test_streams_directories_and_names(executor: JobExecutor, tmp_path: Path) -> None:
    folder = tmp_path / "a 'b' $(touch pwned) \"c\"\nd"
    folder.mkdir()
    (folder / "in put").write_bytes(bytes(range(256)))
    spec = shell(
        "cat; pwd >&2",
        directory=folder,
        name="na me",
        stdin_path=folder / "in put",
        stdout_path="out put",
        stderr_path=folder / "err",
    )
    assert run(executor, spec).state is JobState.COMPLETED
    assert (folder / "out put").read_bytes() == bytes(range(256))
    assert (folder / "err").read_text() == f"{folder}\n"


def test_both_streams_in_one_file(executor: JobExecutor, tmp_path: Path) -> None:
    run(executor, shell("echo one; echo two >&2; echo three", stdout_path=tmp_path / "o", stderr_path=tmp_path / "o"))
    assert (tmp_path / "o").read_text() == "one\ntwo\nthree\n"


def test_output_without_end(executor: JobExecutor, tmp_path: Path) -> None:
    size = 3 << 20
    status = run(executor, shell(f"head -c {size} /dev/zero; head -c {size} /dev/zero >&2", stdout_path=tmp_path / "o"))
    assert status.state is JobState.COMPLETED
    assert (tmp_path / "o").stat().st_size == size


def test_the_environment_is_exact(executor: JobExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {f"V{number}": value for number, value in enumerate(HOSTILE)}
    spec = JobSpec("/usr/bin/env", ["-0"], inherit_environment=False, environment={**values, "N": 5}, stdout_path=tmp_path / "o")
    assert run(executor, spec).state is JobState.COMPLETED
    found = dict(one.split(b"=", 1) for one in (tmp_path / "o").read_bytes().split(b"\0")[:-1])
    assert {key: found[os.fsencode(key)] for key in values} == {key: os.fsencode(value) for key, value in values.items()}
    assert found[b"N"] == b"5"
    assert b"HOME" not in found


def test_the_clients_environment_is_inherited_on_this_machine(yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_THE_CLIENT", "yes")
    with JobExecutor.get_instance("local") as executor:
        run(executor, shell("echo $FROM_THE_CLIENT $X", environment={"X": "y"}, stdout_path=tmp_path / "o"))
    assert (tmp_path / "o").read_text() == "yes y\n"


def test_relative_paths_are_the_clients(yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with JobExecutor.get_instance("local") as executor:
        run(executor, shell("pwd", stdout_path="here"))
        run(executor, shell("pwd", directory="sub", stdout_path="there"))
    assert (tmp_path / "here").read_text() == f"{tmp_path}\n"
    assert (tmp_path / "sub" / "there").read_text() == f"{tmp_path / 'sub'}\n"


def test_a_present_directory_that_was_removed(yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    stage_in = {StageIn("relative", "x")}
    with JobExecutor.get_instance("local") as executor:
        for spec in (JobSpec("/bin/true"), JobSpec("/bin/true", directory="sub"), shell("", directory=tmp_path, stage_in=stage_in)):
            job = Job(spec)
            with pytest.raises(InvalidJobException, match="the present directory, which was removed"):
                executor.submit(job)
            assert (job.executor, job.status.state) == (None, JobState.NEW)
        assert run(executor, JobSpec("/bin/true", directory=tmp_path)).state is JobState.COMPLETED


# Waiting and callbacks ---------------------------------------------------------------------------------------------------


def test_waiting(executor: JobExecutor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    job = Job(shell('read x < "$1"', str(tmp_path / "gate")))
    executor.submit(job)
    assert job.wait(timedelta(0)) is None
    status = job.wait(LONG, JobState.ACTIVE)
    assert status is not None
    assert status.state is JobState.ACTIVE
    assert job.wait(timedelta(milliseconds=20)) is None
    assert job.wait(timedelta(0), [JobState.QUEUED, JobState.COMPLETED]) is not None
    with open(tmp_path / "gate", "w") as gate:
        gate.write("\n")
    assert finished(job).state is JobState.COMPLETED


def test_callbacks_have_been_told_when_wait_returns(executor: JobExecutor) -> None:
    for code, last in ((0, JobState.COMPLETED), (1, JobState.FAILED)):
        mine, everybody = Told(), Told()
        job = Job(shell(f"exit {code}"))
        job.set_job_status_callback(mine)
        executor.set_job_status_callback(everybody)
        executor.submit(job)
        job.wait()
        assert mine.states(job) == everybody.states(job) == [*ALL[:-1], last]


def test_waiting_in_threads_and_in_a_callback(executor: JobExecutor) -> None:
    inner: list[psij.JobStatus | None] = []
    done = threading.Event()

    def submit_another(job: Job, status: psij.JobStatus) -> None:
        if status.state is JobState.ACTIVE:
            other = Job(JobSpec("/bin/true"))
            executor.submit(other)
            inner.append(other.wait(LONG))
            done.set()

    jobs = [Job(shell("sleep 0.2")) for _ in range(3)]
    jobs[0].set_job_status_callback(submit_another)
    for job in jobs:
        executor.submit(job)
    found: list[psij.JobStatus] = []
    threads = [threading.Thread(target=lambda job=job: found.append(finished(job))) for job in jobs for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status.state for status in found] == [JobState.COMPLETED] * 6
    assert done.wait(LONG.total_seconds())
    assert inner[0] is not None
    assert inner[0].state is JobState.COMPLETED


def test_a_slow_callback_delays_only_its_own_job(executor: JobExecutor) -> None:
    held, told = threading.Event(), Told()

    def slow(job: Job, status: psij.JobStatus) -> None:
        held.wait(LONG.total_seconds())

    lazy = Job(JobSpec("/bin/true"))
    lazy.set_job_status_callback(slow)
    executor.submit(lazy)
    executor.set_job_status_callback(told)
    others = [Job(JobSpec("/bin/true")) for _ in range(5)]
    executor.submit_many(others)
    told.all_final(*others)
    assert finished(lazy).state is JobState.COMPLETED
    held.set()


def test_callbacks_set_late_are_told_the_rest(executor: JobExecutor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    job = Job(shell('read x < "$1"', str(tmp_path / "gate")))
    executor.submit(job)
    assert job.wait(LONG, JobState.ACTIVE) is not None
    mine, everybody = Told(), Told()
    job.set_job_status_callback(mine)
    executor.set_job_status_callback(everybody)
    with open(tmp_path / "gate", "w") as gate:
        gate.write("\n")
    for told in (mine, everybody):
        told.all_final(job)
        assert told.states(job) == ALL[3:]


def test_a_job_that_nobody_holds_is_told_to_the_end(executor: JobExecutor) -> None:
    import gc

    told = Told()
    executor.set_job_status_callback(told)
    job = Job(shell("sleep 0.1"))
    executor.submit(job)
    name = job.id
    del job
    gc.collect()
    other = Job(shell("sleep 0.3"))
    executor.submit(other)
    told.all_final(other)
    told.final(name)
    assert [status.state for status in told.by_job[name]] == ALL


def test_throttling_by_a_callback(executor: JobExecutor) -> None:
    """Ten jobs, three at a time, the next submitted by the callback of one that ended."""
    lock, running, most, left, done = threading.Lock(), [0], [0], [10], threading.Event()

    def submit() -> None:
        job = Job(shell("sleep 0.02"))
        job.set_job_status_callback(changed)
        with lock:
            if not left[0]:
                return
            left[0] -= 1
            running[0] += 1
            most[0] = max(most[0], running[0])
        executor.submit(job)

    def changed(job: Job, status: psij.JobStatus) -> None:
        if status.final:
            with lock:
                running[0] -= 1
                over = not running[0] and not left[0]
            submit()
            if over:
                done.set()

    for _ in range(3):
        submit()
    assert done.wait(LONG.total_seconds())
    assert most[0] == 3


def test_a_job_that_ends_between_two_looks_is_told(common_yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state is read while it runs, its ending when it is over: whoever waits for the end hears of it all the same."""
    gate = tmp_path / "gate"
    with open_executor("local", url="?idle=97") as executor:  # a session of its own, which nobody watches yet
        job = Job(shell('until [ -e "$1" ]; do sleep 0.02; done', str(gate)))
        executor.submit(job)
        engine_job = job._engine_job
        assert engine_job is not None
        real = type(engine_job).state
        looks: list[object] = []

        def state(self: jobyard.Job) -> jobyard.JobState:
            if self is not engine_job or looks:
                return jobyard.JobState(real.__get__(self))
            looks.append(self)
            gate.touch()
            self.wait(LONG.total_seconds())
            return jobyard.JobState.RUNNING

        monkeypatch.setattr(type(engine_job), "state", property(state))
        status = job.future().result(LONG.total_seconds())
    assert looks
    assert status.state is JobState.COMPLETED


def test_awaiting(executor: JobExecutor) -> None:
    async def main() -> list[psij.JobStatus]:
        jobs = [Job(shell(f"sleep 0.0{n}; exit {n}")) for n in range(4)]
        executor.submit_many(jobs)
        return [await job for job in jobs]

    assert [status.exit_code for status in asyncio.run(main())] == [0, 1, 2, 3]


# Many jobs -----------------------------------------------------------------------------------------------------------------


def test_many_jobs_and_few_threads(executor: JobExecutor) -> None:
    told = Told()
    executor.set_job_status_callback(told)
    warm = Job(JobSpec("/bin/true"))
    executor.submit(warm)
    told.all_final(warm)
    jobs = [Job(shell(f"exit {n % 3}")) for n in range(60)]
    executor.submit_many(jobs)
    threads = threading.active_count()
    statuses = executor.wait_all(jobs, LONG)
    assert statuses is not None
    assert [status.exit_code for status in statuses] == [n % 3 for n in range(60)]
    told.all_final(*jobs)
    assert threading.active_count() <= threads + 4
    assert len({job.native_id for job in jobs}) == 60


def test_any_of_many(executor: JobExecutor) -> None:
    slow, quick = Job(shell("sleep 600")), Job(shell("exit 4"))
    executor.submit_many([slow, quick])
    assert executor.wait_any([slow, quick], LONG) is quick
    assert quick.status.exit_code == 4
    assert executor.wait_any([slow], timedelta(milliseconds=10)) is None
    assert executor.wait_all([slow, quick], timedelta(milliseconds=10)) is None
    iterator = executor.as_completed([slow, quick], LONG)
    assert next(iterator) is quick
    executor.cancel_many([slow, quick])
    assert next(iterator) is slow
    assert slow.status.state is JobState.CANCELED
    future = quick.future()
    assert future.result(0).exit_code == 4


def test_of_many_one_bad_one_stops_all_before_anything_is_sent(executor: JobExecutor) -> None:
    jobs = [Job(JobSpec("/bin/true")), Job(JobSpec()), Job(JobSpec("/bin/true"))]
    with pytest.raises(InvalidJobException, match="no executable"):
        executor.submit_many(jobs)
    assert [(job.status.state, job.executor, job.native_id) for job in jobs] == [(JobState.NEW, None, None)] * 3
    executor.submit_many([jobs[0], jobs[2]])
    assert executor.wait_all([jobs[0], jobs[2]], LONG) is not None
    executor.submit_many([])


def test_executors_share_a_session_and_close_apart(executor_name: str, yard: Path) -> None:
    before = threading.active_count()
    with contextlib.ExitStack() as left:  # the session that they share would be the next test's, too
        executors = [open_executor(executor_name) for _ in range(20)]
        for executor in executors:
            left.callback(executor.close)
        jobs = [Job(shell("sleep 0.1")) for _ in executors]
        for executor, job in zip(executors, jobs, strict=True):
            executor.submit(job)
            executor.set_job_status_callback(Told())
        assert len({executor.contact for executor in executors}) == 1
        # those that ask, those that call back, one that follows, one that tells, and one beside the next submission
        assert threading.active_count() - before <= 11
        for executor in executors[1:]:
            executor.close()
        assert [finished(job).state for job in jobs] == [JobState.COMPLETED] * 20
    with pytest.raises(SubmitException, match="closed"):
        executors[0].submit(Job(JobSpec("/bin/true")))


def test_jobs_that_wait_for_others(executor: JobExecutor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    assert isinstance(executor, EngineExecutor)
    known = executor._link().session.capabilities.dependencies
    first = Job(shell('read x < "$1"; exit 3', str(tmp_path / "gate")))
    executor.submit(first)
    ends = {"success": JobState.FAILED, "failure": JobState.COMPLETED, "any": JobState.COMPLETED}
    jobs = {when: Job(shell("exit 0")) for when in ends}
    for when, job in jobs.items():
        if when in known:
            executor.submit_after(job, [first], when)
        else:  # what a scheduler cannot wait for is refused, and leaves nothing
            with pytest.raises(InvalidJobException, match="depend"):
                executor.submit_after(job, [first], when)
            assert (job.executor, job.status.state) == (None, JobState.NEW)
    with pytest.raises(InvalidJobException, match="'later'"):
        executor.submit_after(Job(JobSpec("/bin/true")), [first], "later")
    with pytest.raises(InvalidJobException, match="was not submitted"):
        executor.submit_after(Job(JobSpec("/bin/true")), [Job()])
    if "any" in known:
        assert jobs["any"].wait(timedelta(milliseconds=100), JobState.ACTIVE) is None
    with open(tmp_path / "gate", "w") as gate:
        gate.write("\n")
    assert finished(first).exit_code == 3
    for when in known:
        status = finished(jobs[when])
        assert status.state is ends[when]
        assert (status.metadata or {})["cause"] == ("dependency" if when == "success" else "exited")


def test_a_closed_executor_tells_nothing_more(executor_name: str, yard: Path) -> None:
    executor = open_executor(executor_name)
    job = Job(shell("sleep 600"))
    executor.submit(job)
    assert job.wait(LONG, JobState.ACTIVE) is not None
    failed: list[SubmitException] = []

    def wait() -> None:
        try:
            job.wait()
        except SubmitException as error:
            failed.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    with open_executor(executor_name, url=executor.contact) as other:
        executor.close()
        thread.join(LONG.total_seconds())
        assert not thread.is_alive()
        assert "closed" in failed[0].message
        assert job.status.state is JobState.ACTIVE
        with pytest.raises(SubmitException, match="closed"):
            job.cancel()
        (again,) = other.reattach_all()
        again.cancel()
        assert finished(again).state is JobState.CANCELED


# Control ------------------------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_cancelled_means_dead(yard: Path, tmp_path: Path) -> None:
    code = (
        f"trap '' TERM; echo $$ > {tmp_path}/parent; sleep 600 & echo $! > {tmp_path}/child; : > {tmp_path}/ready; wait; sleep 600"
    )
    with JobExecutor.get_instance("local", url="?grace=0.2s") as executor:
        job = Job(shell(code))
        dead: list[bool] = []

        def ended(one: Job, status: psij.JobStatus) -> None:
            if status.final:
                dead.append(not any(alive(int((tmp_path / name).read_text())) for name in ("parent", "child")))

        job.set_job_status_callback(ended)
        executor.submit(job)
        assert job.wait(LONG, JobState.ACTIVE) is not None
        until((tmp_path / "ready").exists)
        job.cancel()
        status = finished(job)
        assert status.state is JobState.CANCELED
        executor.close()
    assert not alive(int((tmp_path / "parent").read_text()))


def test_cancelling(executor: JobExecutor) -> None:
    told = Told()
    job = Job(shell("sleep 600"))
    job.set_job_status_callback(told)
    executor.submit(job)
    assert job.wait(LONG, JobState.ACTIVE) is not None
    job.cancel()
    status = finished(job)
    assert (status.state, status.final) == (JobState.CANCELED, True)
    told.all_final(job)
    assert told.states(job) == [JobState.QUEUED, JobState.STAGE_IN, JobState.ACTIVE, JobState.CANCELED]
    job.cancel()  # again: nothing happens
    done = Job(JobSpec("/bin/true"))
    executor.submit(done)
    finished(done)
    done.cancel()
    assert done.status.state is JobState.COMPLETED


def test_whatever_a_cancel_ended_is_canceled(executor: JobExecutor) -> None:
    """A hundred, whether they wait or run: half by one request, half one by one."""
    jobs = [Job(shell("sleep 600")) for _ in range(20 if os.environ.get("JOBYARD_BED") else 100)]
    executor.submit_many(jobs)
    assert executor.wait_any(jobs, timedelta(0)) is None
    assert jobs[0].wait(LONG, JobState.ACTIVE) is not None
    half = len(jobs) // 2
    executor.cancel_many(jobs[half:])
    for job in jobs[:half]:
        job.cancel()
    statuses = executor.wait_all(jobs, LONG)
    assert statuses is not None
    assert [status.state for status in statuses] == [JobState.CANCELED] * len(jobs)
    executor.cancel_many(jobs)  # nothing happens to what has ended
    assert {job.status.state for job in jobs} == {JobState.CANCELED}


def until(true: Callable[[], bool]) -> None:
    """Wait for what nobody tells."""
    end = time.monotonic() + LONG.total_seconds()
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_suspending(executor: JobExecutor, tmp_path: Path) -> None:
    if "suspend" not in executor.capabilities:
        pytest.skip(f"{executor.name} cannot suspend")
    gate, told = tmp_path / "gate", tmp_path / "pid"
    os.mkfifo(gate)
    job = Job(shell('echo $$ > "$2.new"; mv "$2.new" "$2"; read x < "$1"; exit 5', str(gate), str(told)))
    executor.submit(job)
    assert job.wait(LONG, JobState.ACTIVE) is not None
    until(told.exists)
    job.suspend()
    # A scheduler may stop it some time after it said so. The shell starts no program meanwhile: it would wait for it in D.
    status = Path(f"/proc/{told.read_text().strip()}/status")
    until(lambda: "State:\tT" in status.read_text())
    opened = os.open(gate, os.O_RDWR)  # which waits for nobody
    os.write(opened, b"\n")
    assert job.wait(timedelta(seconds=0.6)) is None
    assert job.status.state is JobState.ACTIVE
    job.resume()
    assert finished(job).exit_code == 5
    os.close(opened)


def test_holding(yard: Path) -> None:
    with JobExecutor.get_instance("local", url="?slots=queue") as executor:
        cores = os.cpu_count() or 1
        blockers = [Job(shell("sleep 600")) for _ in range(cores)]
        executor.submit_many(blockers)
        job = Job(shell("exit 6"))
        executor.submit(job)
        assert job.wait(timedelta(milliseconds=100), JobState.ACTIVE) is None  # it waits for its turn
        job.hold()
        executor.cancel_many(blockers)
        assert executor.wait_all(blockers, LONG) is not None
        assert job.wait(timedelta(milliseconds=200)) is None
        assert job.status.state is JobState.QUEUED
        job.release()
        assert finished(job).exit_code == 6
        with pytest.raises(SubmitException):
            job.hold()


def test_immediate_jobs_wait_for_nothing(yard: Path) -> None:
    with JobExecutor.get_instance("local") as executor:
        jobs = [Job(shell("sleep 600")) for _ in range(2 * (os.cpu_count() or 1) + 2)]
        executor.submit_many(jobs)
        for job in jobs:
            assert job.wait(LONG, JobState.ACTIVE) is not None
        executor.cancel_many(jobs)
        assert executor.wait_all(jobs, LONG) is not None


def test_the_duration_ends_a_job_where_it_was_asked_for(executor: JobExecutor) -> None:
    job = Job(shell("sleep 600", attributes=JobAttributes(duration=timedelta(seconds=1))))
    executor.submit(job)
    status = job.wait(timedelta(seconds=270))  # a scheduler may count in minutes
    assert status is not None
    assert status.state is JobState.FAILED
    assert "walltime" in (status.message or "")
    assert (status.metadata or {})["cause"] == "walltime"


# Attaching ----------------------------------------------------------------------------------------------------------------


def test_attaching(executor_name: str, yard: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    with open_executor(executor_name) as first, open_executor(executor_name) as second:
        job = Job(shell('read x < "$1"; exit 7', str(tmp_path / "gate")))
        first.submit(job)
        assert job.native_id is not None
        assert job.native_id in second.list()
        attached, told = Job(), Told()
        attached.set_job_status_callback(told)
        second.attach(attached, job.native_id)
        assert attached.status.state is not JobState.NEW
        assert attached.native_id == job.native_id
        with open(tmp_path / "gate", "w") as gate:
            gate.write("\n")
        assert [finished(one).exit_code for one in (job, attached)] == [7, 7]
        told.all_final(attached)
        late = Job()
        second.attach(late, job.native_id)
        assert (late.status.state, late.status.exit_code) == (JobState.FAILED, 7)


def test_attaching_what_is_not_there(executor: JobExecutor) -> None:
    job = Job()
    with pytest.raises(SubmitException):
        executor.attach(job, "987654321")
    assert (job.status.state, job.executor, job.native_id) == (JobState.NEW, None, None)
    executor.submit(done := Job(JobSpec("/bin/true")))
    with pytest.raises(InvalidJobException, match="only a NEW job"):
        executor.attach(done, "1")
    with pytest.raises(TypeError, match="native_id"):
        executor.attach(job, 5)  # type: ignore[arg-type]  # what is tested


def test_a_session_opened_again_has_its_jobs(executor_name: str, yard: Path) -> None:
    with open_executor(executor_name) as executor:
        spec = shell("exit 9", name="again", resources=ResourceSpecV1(process_count=1))
        job = Job(spec)
        executor.submit(job)
        contact = executor.contact
        finished(job)
    with open_executor(executor_name, url=contact) as again:
        (found,) = again.reattach_all()
        assert (found.id, found.native_id, found.spec) == (job.id, job.native_id, spec)
        assert (found.status.state, found.status.exit_code) == (JobState.FAILED, 9)


def test_information(executor: JobExecutor) -> None:
    before = time.time()
    job = Job(shell("exit 2", name="told"))
    executor.submit(job)
    status = finished(job)
    info = job.info()
    assert (info.native_id, info.name, info.state, info.exit_code) == (job.native_id, "told", JobState.FAILED, 2)
    assert info.submit_time is not None
    assert info.end_time is not None
    assert before - 1 <= info.submit_time <= info.end_time <= time.time() + 1
    assert info.end_time == pytest.approx(status.time, abs=1)
    assert info.hosts
    assert info.user
    assert info.max_rss is None or info.max_rss > 0


# Refusals -----------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_submitted(executor: JobExecutor) -> None:
    for spec in (None, JobSpec(), JobSpec("")):
        with pytest.raises(InvalidJobException):
            executor.submit(Job(spec))
    job = Job(JobSpec("/bin/true", environment={"a": "b"}))
    assert job.spec is not None
    assert job.spec.environment is not None
    job.spec.environment["c"] = 1.5  # type: ignore[assignment]  # what is tested
    with pytest.raises(TypeError, match="environment"):
        executor.submit(job)
    del job.spec.environment["c"]
    for spec in (
        JobSpec("/bin/true", ["a\0b"]),
        JobSpec("/bin/true", environment={"a=b": "c"}),
        JobSpec("/bin/true", launcher="no"),
    ):
        bad = Job(spec)
        with pytest.raises(InvalidJobException):
            executor.submit(bad)
        assert (bad.executor, bad.status.state) == (None, JobState.NEW)
    executor.submit(job)
    with pytest.raises(InvalidJobException):
        executor.submit(job)
    assert finished(job).state is JobState.COMPLETED
    with pytest.raises(InvalidJobException, match="only a NEW"):
        executor.submit(job)
    with pytest.raises(TypeError):
        executor.submit("ls")  # type: ignore[arg-type]  # what is tested


def test_a_specification_is_shared_and_never_changed(executor: JobExecutor) -> None:
    import copy

    spec = JobSpec("/bin/true")
    before = copy.deepcopy(spec)
    jobs = [Job(spec) for _ in range(3)]
    executor.submit_many(jobs)
    assert executor.wait_all(jobs, LONG) is not None
    assert spec == before
    assert spec.resources is None


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("slurm", "a contact of slurm"),
        ("a,b", "url"),
        ("?flurb=1", "flurb"),
        ("local?slots=-1", "slots"),
        ("local+ssh://-x", "url"),
    ],
)
def test_urls_that_mean_nothing_here(url: str, what: str, yard: Path) -> None:
    with pytest.raises(InvalidJobException, match=what):
        JobExecutor.get_instance("local", url=url)


def test_what_a_program_does_at_its_end(yard: Path) -> None:
    """It may cancel its jobs, and wait for them, in a handler that was registered before its first submission."""
    program = (
        "import atexit, psij\n"
        "job = psij.Job(psij.JobSpec('/bin/sleep', ['600']))\n"
        "atexit.register(lambda: (job.cancel(), print(job.wait().state)))\n"
        "psij.JobExecutor.get_instance('local').submit(job)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "CANCELED\n", "")


def test_a_forked_child_works(yard: Path) -> None:
    with JobExecutor.get_instance("local") as executor:
        job = Job(shell("exit 3"))
        executor.submit(job)
        finished(job)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                mine = Job(shell("exit 4"))
                executor.submit(mine)
                status = mine.wait(LONG)
                os.write(write, b"%d" % (status.exit_code or 0 if status else 0))
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.read(read, 10) == b"4"
        os.close(read)
        other = Job(shell("exit 5"))
        executor.submit(other)
        assert finished(other).exit_code == 5
