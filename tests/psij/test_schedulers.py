"""What is asked of schedulers that are spoken to by commands: how many commands, and that they take what is rendered.

On a test bed the executor under test; elsewhere the stand-in for schedulers.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import jobyard
from jobyard.testing.standin import install
from psij import InvalidJobException, Job, JobAttributes, JobExecutor, JobExecutorConfig, JobSpec, JobState, ResourceSpecV1
from psij.executors.batch._scheduler import SchedulerExecutor
from psij_helpers import LONG, finished, open_executor, shell

# Beds start jobs at the pace of their schedulers.
MANY_S = 1200.0 if os.environ.get("FULL") == "1" else 250.0  # on a machine that other tests keep busy, one job a second
MANY = 1000 if os.environ.get("FULL") == "1" else 40 if os.environ.get("JOBYARD_BED") else 200

Opener = Callable[..., SchedulerExecutor]


class StandinExecutor(SchedulerExecutor):
    """As the built-in ones, on the stand-in for schedulers."""

    _SCHEDULER_ = "standin"
    _PREFIXES_ = ("standin",)


@pytest.fixture
def opened(executor_name: str, yard: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    """Makes executors on the scheduler under test; ``url`` begins with a question mark."""
    with contextlib.ExitStack() as stack:
        where = ""
        if executor_name == "local":  # it is not spoken to by commands
            cell = stack.enter_context(install(yard / "cell", slots=64))
            monkeypatch.setenv("PATH", cell.environment()["PATH"])
            where = f"?cell={cell.folder}"

        def make(url: str = "", config: JobExecutorConfig | None = None) -> SchedulerExecutor:
            made: JobExecutor
            if where:
                made = StandinExecutor(url=where + url.replace("?", "&"), config=config)
            else:
                made = open_executor(executor_name, url=url or None, config=config)
            assert isinstance(made, SchedulerExecutor)
            stack.enter_context(made)
            return made

        yield make


def commands(*executors: SchedulerExecutor) -> Counter[str]:
    """The commands that these have run, by purpose; a session that several share is counted once."""
    links = {id(executor._link()): executor for executor in executors}
    return sum((executor._scheduler().commands_run for executor in links.values()), Counter())


def dependencies(executor: SchedulerExecutor) -> frozenset[str]:
    return executor._link().session.capabilities.dependencies


def test_the_scheduler_takes_what_is_rendered(opened: Opener, tmp_path: Path) -> None:
    """All hooks, as a program would use them that submits by itself."""
    executor = opened()
    books_memory = "memory_bytes" in executor._link().session.capabilities.attributes
    spec = JobSpec(
        "/bin/sleep",
        ["600"],
        name="it's $(a) test",
        directory=tmp_path,
        resources=ResourceSpecV1(process_count=1, memory=64 << 20 if books_memory else None),
        attributes=JobAttributes(timedelta(minutes=3)),
    )
    job = Job(spec)
    path = tmp_path / "the script"
    with open(path, "w") as file:
        executor.generate_submit_script(job, executor._create_script_context(job), file)
    # What it starts is not there before a submission: something that waits takes its place.
    submission = executor._submission(job)
    os.makedirs(submission.folder, mode=0o700)
    script = Path(submission.folder) / "run.sh"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o700)
    words = shlex.split(path.read_text().splitlines()[-1])
    if words[0] == "exec" and words[-1] != str(script):
        shepherd = Path(words[-2])
        shepherd.parent.mkdir(parents=True)
        shepherd.write_text("import time\ntime.sleep(600)\n")
    command = executor.get_submit_command(job, path)
    sent = subprocess.run(command, capture_output=True, text=True, check=False)
    assert sent.returncode == 0, (sent, path.read_text())
    native_id = executor.job_id_from_submit_output(sent.stdout)
    try:
        listed = subprocess.run(executor.get_list_command(), capture_output=True, text=True, check=True)
        assert native_id in executor.parse_list_output(listed.stdout)
        asked = subprocess.run(executor.get_status_command([native_id]), capture_output=True, text=True, check=False)
        status = executor.parse_status_output(asked.returncode, asked.stdout)[native_id]
        assert status.state in (JobState.QUEUED, JobState.ACTIVE)
    finally:
        ended = subprocess.run(executor.get_cancel_command(native_id), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended


def test_twenty_executors_ask_as_often_as_one(opened: Opener, tmp_path: Path) -> None:
    """Ten share a session; ten have one each. One question an interval is asked for all of them."""
    executors = [opened("?poll=1s") for _ in range(10)]
    executors += [opened("?poll=1s", JobExecutorConfig(work_directory=tmp_path / f"w{n}")) for n in range(10)]
    jobs = [Job(shell("sleep 600")) for _ in executors]
    for executor, job in zip(executors, jobs, strict=True):
        executor.set_job_status_callback(lambda job, status: None)  # each follows its jobs
        executor.submit(job)
    before = commands(*executors)["query"]
    started_s = time.monotonic()
    time.sleep(6)  # what is counted is what happens in it
    asked = commands(*executors)["query"] - before
    passed_s = time.monotonic() - started_s
    for executor, job in zip(executors, jobs, strict=True):
        executor.cancel(job)
    assert 1 <= asked <= passed_s + 2, (asked, passed_s, before)
    assert [finished(job).state for job in jobs] == [JobState.CANCELED] * len(jobs)


@pytest.mark.timeout(MANY_S + 60)
def test_many_like_jobs_are_one_submission(opened: Opener, tmp_path: Path) -> None:
    executor = opened()
    jobs = [Job(JobSpec("/bin/sh", ["-c", f"exit {n % 4}"])) for n in range(MANY)]
    executor.submit_many(jobs)
    can = executor._link().session.capabilities
    together = can.arrays and can.per_task_control  # else each is a submission of its own
    assert commands(executor)["submit"] == (1 if together else MANY)
    assert len({job.native_id for job in jobs}) == MANY
    codes = [status.exit_code for status in executor.wait_all(jobs, timedelta(seconds=MANY_S)) or ()]
    assert codes == [n % 4 for n in range(MANY)]
    # Each is a job of its own: one of them is cancelled, by its own id, and the others are not.
    waiting = [Job(shell('until [ -e "$1" ]; do sleep 0.2; done; exit 7', str(tmp_path / "gate"))) for _ in range(4)]
    executor.submit_many(waiting)
    waiting[1].cancel()
    assert finished(waiting[1]).state is JobState.CANCELED
    (tmp_path / "gate").touch()
    assert [finished(job).exit_code for job in waiting if job is not waiting[1]] == [7, 7, 7]
    assert commands(executor)["submit"] == (2 if together else MANY + len(waiting))


def test_a_hundred_jobs_that_wait_for_others(opened: Opener, tmp_path: Path) -> None:
    """Ten layers of ten: each waits for three of the layer before, and none begins before those have ended."""
    executor = opened()
    when = "success" if "success" in dependencies(executor) else "any"
    if when not in dependencies(executor):
        pytest.skip(f"{executor.name} has no dependencies")
    layers: list[list[Job]] = []
    for layer in range(10):
        jobs = []
        for n in range(10):
            code = f'for m in $2; do [ -e "$1/$m" ] || exit 9; done; : > "$1/{layer}.{n}"'
            needed = [(layer - 1, (n + k) % 10) for k in range(3)] if layer else []
            job = Job(shell(code, str(tmp_path), " ".join(f"{a}.{b}" for a, b in needed)))
            if needed:
                executor.submit_after(job, [layers[a][b] for a, b in needed], when)
            else:
                executor.submit(job)
            jobs.append(job)
        layers.append(jobs)
    everyone = [job for layer in layers for job in layer]
    statuses = executor.wait_all(everyone, 2 * LONG)
    assert statuses is not None, Counter(str(job.status.state) for job in everyone)
    assert {status.exit_code for status in statuses} == {0}
    assert len([path for path in tmp_path.iterdir() if path.name[0].isdigit()]) == 100


def test_what_the_scheduler_cannot_wait_for_is_refused(opened: Opener) -> None:
    executor = opened()
    first = Job(JobSpec("/bin/true"))
    executor.submit(first)
    for when in {"success", "failure", "any"} - dependencies(executor):
        late = Job(JobSpec("/bin/true"))
        with pytest.raises(InvalidJobException, match="depend"):
            executor.submit_after(late, [first], when)
        assert (late.executor, late.status.state) == (None, JobState.NEW)
    assert finished(first).state is JobState.COMPLETED


def test_the_scheduler_itself_knows_who_failed(opened: Opener) -> None:
    """So that its own accounting, and what waits for success, see a job that failed."""
    executor = opened()
    if not executor._link().session.capabilities.accounting:
        pytest.skip("what waits for success is tested for itself; this scheduler has no accounting to ask")
    jobs = [Job(shell(f"exit {code}")) for code in (0, 7)]
    for job in jobs:
        executor.submit(job)
    assert [finished(job).exit_code for job in jobs] == [0, 7]
    ids = [job.native_id for job in jobs if job.native_id is not None]
    endings: dict[str, jobyard.Ending] = {}
    until = time.monotonic() + LONG.total_seconds()
    while len(endings) < len(jobs) and time.monotonic() < until:  # accounting may lag
        with contextlib.suppress(jobyard.SchedulerUnavailable):
            rows = executor._scheduler().account(ids).rows
            endings = {row.native_id: row.ending for row in rows if row.ended and row.ending is not None}
        time.sleep(0.2)
    assert [endings[native_id].state for native_id in ids] == [jobyard.JobState.DONE, jobyard.JobState.FAILED]
    assert endings[ids[1]].exit_code in (7, None)  # None: Slurm's accounting takes 128 off some, and cannot tell


def test_capabilities_are_the_adapters(opened: Opener) -> None:
    executor = opened()
    assert executor.capabilities == {str(action) for action in executor._link().session.capabilities.actions}
    assert isinstance(executor._scheduler(), jobyard.CommandScheduler)


def test_information_is_what_accounting_says(opened: Opener, executor_name: str) -> None:
    if executor_name != "slurm":
        pytest.skip("compares with Slurm's sacct")
    executor = opened()
    job = Job(shell("exit 2", name="told"))
    executor.submit(job)
    finished(job)
    info = job.info()
    argv = ["sacct", "-X", "-n", "-P", "-j", str(job.native_id), "-o", "JobName,User,Partition,NodeList,ExitCode,Submit,Start,End"]
    deadline = time.monotonic() + LONG.total_seconds()
    while True:  # accounting comes later
        said = subprocess.run(
            argv, env={**os.environ, "SLURM_TIME_FORMAT": "%s"}, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()
        if said and said.rpartition("|")[2].isdigit():
            break
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    name, user, partition, nodes, code, *times = said.split("|")
    assert (info.user, f"{info.exit_code}:0") == (user, code)
    assert name in (info.name, "allocation")  # which sacct of 22.05 says of a job that has just ended
    assert info.queue in (None, partition)
    assert info.hosts
    assert nodes
    for ours, theirs in zip((info.submit_time, info.start_time, info.end_time), times, strict=True):
        assert ours == pytest.approx(float(theirs), abs=2)
