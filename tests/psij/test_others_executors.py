"""An executor and a launcher of somebody else's, on a queue whose jobs wait, run, fail, vanish and reappear."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import psij
from jobyard.testing.polling import eventually
from psij import InvalidJobException, Job, JobAttributes, JobExecutor, JobSpec, JobState, ResourceSpecV1, SubmitException
from psij.executors.batch.batch_scheduler_executor import (
    BatchSchedulerExecutor,
    BatchSchedulerExecutorConfig,
    check_status_exit_code,
)
from psij.staging import StageIn, StageOut, StageOutFlags, StagingMode
from psij_helpers import ALL, LONG, Told, finished, run, shell

PROJECT = Path(__file__).parent / "fake_project"


class Queue:
    """The fake queue's folder, and its faults."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[JobExecutor] = []

    def set(self, name: str, text: str = "") -> None:
        """Switch a fault on."""
        (self.folder / f".{name}").write_text(text)
        (self.folder / f".{name}").rename(self.folder / name)

    def clear(self, name: str) -> None:
        """Switch it off."""
        (self.folder / name).unlink()

    def executor(self, name: str = "fake", **options: Any) -> BatchSchedulerExecutor:
        """An executor on this queue."""
        config = options.pop("config", None) or self.config(**options)
        made = JobExecutor.get_instance(name, url=str(self.folder), config=config)
        assert isinstance(made, BatchSchedulerExecutor)
        self.made.append(made)
        return made

    @staticmethod
    def config(**options: Any) -> BatchSchedulerExecutorConfig:
        """One that asks often."""
        return BatchSchedulerExecutorConfig(**{"queue_polling_interval": 0.1, **options})

    def asked(self) -> list[str]:
        """The questions so far."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for something that the queue does in a process of its own, which tells nobody."""
        eventually(true, what)

    def questions(self, count: int) -> None:
        """Wait until it was asked so many times more."""
        before = len(self.asked())
        self.until(lambda: len(self.asked()) >= before + count, "no more questions came")


@pytest.fixture
def queue(yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    monkeypatch.setattr(sys, "path", [*sys.path, str(PROJECT)])
    folder = tmp_path / "the queue"
    folder.mkdir()
    made = Queue(folder)
    yield made
    for executor in made.made:
        executor.close()
    for path in folder.glob("*.pid"):
        try:
            os.killpg(int(path.read_text()), 9)
        except ProcessLookupError:
            pass  # it has ended


@pytest.fixture(params=["fake", "fake-old"])
def either(request: pytest.FixtureRequest, queue: Queue) -> JobExecutor:
    """With the shared parts of scripts, and without any."""
    return queue.executor(request.param)


def test_it_is_found_and_is_itself(queue: Queue) -> None:
    executor = queue.executor("pretend")
    import fake_batch.executor  # type: ignore[import-not-found]  # beside the tests, on sys.path by the fixture

    assert isinstance(executor, fake_batch.executor.FakeExecutor)
    assert (executor.name, str(executor.version)) == ("fake", "1.2")


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_codes(either: JobExecutor, code: int) -> None:
    told = Told()
    job = Job(shell(f"exit {code}"))
    job.set_job_status_callback(told)
    either.submit(job)
    status = finished(job)
    assert (status.state, status.exit_code) == (JobState.FAILED if code else JobState.COMPLETED, code)
    told.all_final(job)
    assert told.states(job) == [*ALL[:-1], status.state]


def test_waiting_and_running(queue: Queue, tmp_path: Path) -> None:
    queue.set("hold")
    os.mkfifo(tmp_path / "gate")
    executor = queue.executor()
    told = Told()
    executor.set_job_status_callback(told)
    job = Job(shell('read x < "$1"', str(tmp_path / "gate")))
    executor.submit(job)
    queue.questions(2)
    assert job.status.state is JobState.QUEUED
    queue.clear("hold")
    active = job.wait(LONG, JobState.ACTIVE)
    assert active is not None
    assert active.state is JobState.ACTIVE
    assert executor.list() == [job.native_id]
    with open(tmp_path / "gate", "w") as gate:
        gate.write("\n")
    told.all_final(job)
    assert told.states(job) == ALL


def test_cancelling(either: JobExecutor) -> None:
    job = Job(shell("sleep 600"))
    either.submit(job)
    assert job.wait(LONG, JobState.ACTIVE) is not None
    job.cancel()
    assert finished(job).state is JobState.CANCELED
    done = Job(JobSpec("/bin/true"))
    either.submit(done)
    finished(done)
    done.cancel()
    assert done.status.state is JobState.COMPLETED
    with pytest.raises(SubmitException, match="cannot hold"):
        Job.hold(submitted(either, "sleep 600"))


def submitted(executor: JobExecutor, code: str) -> Job:
    job = Job(shell(code))
    executor.submit(job)
    return job


def test_a_job_that_vanishes_and_reappears(either: JobExecutor, queue: Queue, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    job = submitted(either, f"read x < '{tmp_path}/gate'; exit 5")
    assert job.wait(LONG, JobState.ACTIVE) is not None
    queue.set("hidden", str(job.native_id))
    queue.questions(3)
    assert job.status.state is JobState.ACTIVE
    queue.clear("hidden")
    queue.questions(2)
    assert job.status.state is JobState.ACTIVE
    with open(tmp_path / "gate", "w") as gate:
        gate.write("\n")
    assert finished(job).exit_code == 5


def test_a_job_that_is_forgotten_at_its_end(either: JobExecutor, queue: Queue) -> None:
    queue.set("purge")
    jobs = [submitted(either, f"exit {code}") for code in (0, 7)]
    assert [finished(job).exit_code for job in jobs] == [0, 7]
    assert [job.status.state for job in jobs] == [JobState.COMPLETED, JobState.FAILED]


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_job_that_is_gone_for_good_has_failed(either: JobExecutor, queue: Queue) -> None:
    job = submitted(either, "sleep 600")
    assert job.wait(LONG, JobState.ACTIVE) is not None
    queue.set("vanish", str(job.native_id))
    status = job.wait(timedelta(seconds=300))
    assert status is not None
    assert (status.state, status.exit_code) == (JobState.FAILED, None)
    assert (status.metadata or {})["cause"] == "lost"


def test_a_queue_that_is_away_changes_nothing(either: JobExecutor, queue: Queue, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    job = submitted(either, f"read x < '{tmp_path}/gate'; exit 4")
    assert job.wait(LONG, JobState.ACTIVE) is not None
    queue.set("down")
    queue.questions(4)
    assert job.status.state is JobState.ACTIVE
    queue.clear("down")
    with open(tmp_path / "gate", "w") as gate:
        gate.write("\n")
    assert finished(job).exit_code == 4


def test_one_odd_line_costs_one_job(either: JobExecutor, queue: Queue, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    odd = submitted(either, f"read x < '{tmp_path}/gate'; exit 2")
    assert odd.wait(LONG, JobState.ACTIVE) is not None
    queue.set("odd", str(odd.native_id))
    other = submitted(either, "exit 3")
    assert finished(other).exit_code == 3
    assert odd.status.state is JobState.ACTIVE
    with open(tmp_path / "gate", "w") as gate:
        gate.write("\n")
    queue.clear("odd")
    assert finished(odd).exit_code == 2


def test_a_refused_submission_leaves_nothing(queue: Queue, yard: Path) -> None:
    queue.set("refuse")
    executor = queue.executor()
    job = Job(JobSpec("/bin/true"))
    with pytest.raises(SubmitException, match="no jobs are taken today") as caught:
        executor.submit(job)
    assert not caught.value.transient
    assert (job.status.state, job.executor, job.native_id) == (JobState.NEW, None, None)
    assert job_folders(yard / "work") == []
    queue.clear("refuse")
    executor.submit(job)
    assert finished(job).state is JobState.COMPLETED


def test_of_many_those_accepted_before_a_refusal_stay(queue: Queue, yard: Path) -> None:
    queue.set("quota", "2")
    executor = queue.executor()
    jobs = [Job(shell(f"exit {n}")) for n in range(4)]
    with pytest.raises(SubmitException, match="no jobs are taken today"):
        executor.submit_many(jobs)
    assert [job.native_id is not None for job in jobs] == [True, True, False, False]
    assert [(job.executor, job.status.state) for job in jobs[2:]] == [(None, JobState.NEW)] * 2
    queue.clear("quota")
    executor.submit_many(jobs[2:])
    assert [finished(job).exit_code for job in jobs] == [0, 1, 2, 3]


def test_what_subclasses_find_in_the_base(queue: Queue, tmp_path: Path) -> None:
    import pwd

    executor = queue.executor(config=queue.config(work_directory=tmp_path / "w"))
    assert executor._current_user() == pwd.getpwuid(os.geteuid()).pw_name
    assert executor._run_command(["/bin/sh", "-c", "echo out; echo err >&2"]) == "out\nerr\n"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        executor._run_command(["/bin/sh", "-c", "echo out; exit 3"])
    assert (caught.value.returncode, caught.value.output) == (3, "out\n")
    durations = (timedelta(0), timedelta(seconds=61.5), timedelta(days=2, seconds=1))
    assert [executor._format_duration(one) for one in durations] == ["0:00:00", "0:01:02", "48:00:01"]
    (tmp_path / "file").write_text("x")
    executor._delete_aux_file(path=tmp_path / "file")
    executor._delete_aux_file(path=tmp_path / "file")
    assert not (tmp_path / "file").exists()
    executor._clean_submit_script(Job())
    with pytest.raises(RuntimeError, match="'q' exited with 1 and output 'odd'"):
        check_status_exit_code("q", 1, "odd")
    check_status_exit_code("q", 0, "odd")


def test_a_plain_configuration_is_taken_too(queue: Queue, tmp_path: Path) -> None:
    plain = psij.JobExecutorConfig(tmp_path / "log", tmp_path / "work")
    executor = queue.executor(config=plain)
    assert isinstance(executor.config, BatchSchedulerExecutorConfig)
    assert (executor.config.work_directory, executor.config.launcher_log_file) == (tmp_path / "work", tmp_path / "log")
    assert executor.work_directory == tmp_path / "work" / "fake"
    assert executor.config.queue_polling_interval == 30
    executor.work_directory = tmp_path / "elsewhere"
    assert executor.work_directory == tmp_path / "elsewhere"


def job_folders(root: Path) -> list[str]:
    """Folders of jobs below a work folder."""
    return [str(path) for path in root.glob("jobyard-*/??/*") if len(path.name) == 32]


def test_no_residue(either: JobExecutor, queue: Queue, yard: Path) -> None:
    jobs = [Job(shell(f"exit {n % 2}")) for n in range(10)]
    either.submit_many(jobs)
    assert either.wait_all(jobs, LONG) is not None
    queue.until(lambda: job_folders(yard / "work") == [], "folders of finished jobs stay")


def test_one_question_for_all_jobs(queue: Queue) -> None:
    queue.set("hold")
    executor = queue.executor()
    jobs = [Job(JobSpec("/bin/true")) for _ in range(12)]
    executor.submit_many(jobs)
    executor.set_job_status_callback(Told())
    queue.questions(2)
    assert set(queue.asked()[-1].split()) == {str(job.native_id) for job in jobs}
    queue.clear("hold")
    assert executor.wait_all(jobs, LONG) is not None


def test_attaching(either: JobExecutor, queue: Queue, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    job = submitted(either, f"read x < '{tmp_path}/gate'; exit 6")
    attached = Job()
    assert job.native_id is not None
    queue.executor(either.name).attach(attached, job.native_id)
    assert attached.status.state is not JobState.NEW
    with open(tmp_path / "gate", "w") as gate:
        gate.write("\n")
    assert [finished(one).exit_code for one in (job, attached)] == [6, 6]
    with pytest.raises(SubmitException):
        either.attach(Job(), "99999")


HOSTILE = ["", "a b", "it's", '"', "$HOME", "$(touch pwned)", "`x`", "a\nb", "\\", "!", "ü", "#"]


def test_values_pass_through_templates_unchanged(either: JobExecutor, tmp_path: Path) -> None:
    folder = tmp_path / "a 'b' $(touch pwned) \"c\""
    folder.mkdir()
    spec = shell(
        'printf "%s\\0" "$@" "$A"; pwd',
        *HOSTILE,
        directory=folder,
        environment={"A": "x 'y' \"z\" $(touch pwned) \\ \n ü"},
        stdout_path=folder / "out put",
    )
    assert run(either, spec).state is JobState.COMPLETED
    *words, end = (folder / "out put").read_text().split("\0")
    assert words == [*HOSTILE, "x 'y' \"z\" $(touch pwned) \\ \n ü"]
    assert end == f"{folder}\n"
    assert sorted(path.name for path in folder.iterdir()) == ["out put"]


GOLDEN = """#!/bin/bash
#FAKE --name="my job"
#FAKE --nodes=2
#FAKE --processes=4
#FAKE --cores=3
#FAKE --gpus=1
#FAKE --memory=1024k
#FAKE --exclusive
#FAKE --time=26:03:05
#FAKE --queue="long queue"
#FAKE --account="acc"
#FAKE --reservation="res"
#FAKE --constraint="big & fast"
"""


def full_spec() -> JobSpec:
    return JobSpec(
        "/bin/date",
        name="my job",
        resources=ResourceSpecV1(2, 4, None, 3, 1, True, 1 << 20),
        attributes=JobAttributes(
            timedelta(days=1, hours=2, minutes=3, seconds=5), "long queue", "acc", "res", {"fake.constraint": "big & fast"}
        ),
    )


def test_the_script_says_everything(queue: Queue) -> None:
    import io

    executor = queue.executor()
    job, out = Job(full_spec()), io.StringIO()
    executor.generate_submit_script(job, executor._create_script_context(job), out)
    assert out.getvalue().startswith(GOLDEN)
    executor.submit(job)
    finished(job)
    assert (queue.folder / f"{job.native_id}.script").read_text().startswith(GOLDEN)


@pytest.mark.parametrize("queue_name", ["a\nb", 'a"b'])
def test_what_a_directive_cannot_hold_is_refused_by_value(queue: Queue, yard: Path, queue_name: str) -> None:
    executor = queue.executor()
    job = Job(JobSpec("/bin/true", attributes=JobAttributes(queue_name=queue_name)))
    with pytest.raises(InvalidJobException, match="cannot be written"):
        executor.submit(job)
    assert (job.executor, job.status.state) == (None, JobState.NEW)
    assert job_folders(yard / "work") == []


def test_a_launcher_of_others(queue: Queue, tmp_path: Path) -> None:
    executor = queue.executor()
    spec = shell(
        "echo $_PSI_J_PROCESS_INDEX_; cat $PSIJ_NODEFILE | wc -l; exit 3",
        launcher="fake",
        resources=ResourceSpecV1(process_count=2),
        stdout_path=tmp_path / "o",
    )
    assert run(executor, spec).exit_code == 3
    assert (tmp_path / "o").read_text() == "helped: extra word\n1\n2\nhelped: extra word\n2\n2\n"
    with pytest.raises(InvalidJobException, match="8 processes at most"):
        run(executor, JobSpec("/bin/true", launcher="fake", resources=ResourceSpecV1(process_count=9)))


def test_a_launcher_of_others_on_the_local_executor(queue: Queue, tmp_path: Path, yard: Path) -> None:
    with JobExecutor.get_instance("local") as executor:
        spec = shell("echo $1; exit 3", "x", launcher="fake", stdout_path=tmp_path / "o")
        status = run(executor, spec)
        assert (status.state, status.exit_code) == (JobState.FAILED, 3)
        assert (tmp_path / "o").read_text() == "helped: extra word\nx\n"
        broken = run(executor, JobSpec("/bin/true", launcher="fake", pre_launch="/no/such/script"))
        assert broken.state is JobState.FAILED
        assert "/no/such/script" in (broken.message or "")
    assert list((yard / "work").glob("jobyard-*/psij/log/*")) == []


def test_what_launchers_print_is_told_with_a_failure(either: JobExecutor, tmp_path: Path) -> None:
    (tmp_path / "pre.sh").write_text("echo 'no licence today' >&2; false\n")
    status = run(either, JobSpec("/bin/true", pre_launch=tmp_path / "pre.sh"))
    assert status.state is JobState.FAILED
    assert "no licence today" in (status.message or "")


def test_the_launchers_log(queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "pre.sh").write_text("echo from-pre\n")
    executor = queue.executor(config=queue.config(launcher_log_file=tmp_path / "launcher.log"))
    assert run(executor, JobSpec("/bin/true", pre_launch=tmp_path / "pre.sh")).state is JobState.COMPLETED
    assert "from-pre" in (tmp_path / "launcher.log").read_text()


def test_the_work_directory(queue: Queue, tmp_path: Path, yard: Path) -> None:
    work = tmp_path / "our work"
    executor = queue.executor(config=queue.config(work_directory=work))
    job = submitted(executor, "sleep 600")
    assert job.wait(LONG, JobState.ACTIVE) is not None
    (folder,) = job_folders(work)
    for path in [work / f"jobyard-{os.getuid()}", Path(folder), Path(folder) / "job.json", Path(folder) / "run.sh"]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert job_folders(yard / "work") == []
    job.cancel()
    finished(job)
    queue.until(lambda: job_folders(work) == [], "the folder stays")


def test_files_that_are_kept(queue: Queue, tmp_path: Path) -> None:
    executor = queue.executor(config=queue.config(work_directory=tmp_path / "w", keep_files=True))
    job = submitted(executor, "exit 8")
    assert finished(job).exit_code == 8
    kept = {path.name: path for path in (tmp_path / "w" / "fake").iterdir()}
    assert {f"{job.id}.job", f"{job.native_id}.ec", f"{job.native_id}.out"} <= set(kept)
    assert kept[f"{job.native_id}.ec"].read_text() == "8\n"
    assert stat.S_IMODE(kept[f"{job.id}.job"].stat().st_mode) == 0o600


def test_staging_by_the_shared_parts(queue: Queue, tmp_path: Path) -> None:
    here = tmp_path / "jo b"
    here.mkdir()
    (tmp_path / "in put").write_text("data")
    spec = shell(
        "cat sub/in; echo out > 'the result'; echo scratch > tmp.1; exit 3",
        directory=here,
        stdout_path=here / "o",
        stage_in={StageIn(tmp_path / "in put", "sub/in"), StageIn(tmp_path / "in put", "link", StagingMode.LINK)},
        stage_out={
            StageOut("the result", tmp_path / "got it", mode=StagingMode.MOVE),
            StageOut("the result", tmp_path / "never", StageOutFlags.ON_SUCCESS),
            StageOut("missing", tmp_path / "missing", StageOutFlags.IF_PRESENT),
        },
        cleanup={"tmp.1", "sub"},
    )
    told = Told()
    executor = queue.executor()
    job = Job(spec)
    job.set_job_status_callback(told)
    executor.submit(job)
    assert finished(job).exit_code == 3
    assert (here / "o").read_text() == "data"
    assert (tmp_path / "got it").read_text() == "out\n"
    assert (here / "link").is_symlink()
    assert sorted(path.name for path in here.iterdir()) == ["link", "o"]
    assert not (tmp_path / "never").exists()
    told.all_final(job)
    assert told.states(job) == [*ALL[:-1], JobState.FAILED]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"stage_in": {StageIn("/no/such/file", "x")}}, "/no/such/file"),
        ({"stage_out": {StageOut("never-made", "x")}}, "never-made"),
        ({"cleanup": {"../outside"}}, "outside of the job's directory"),
        ({"cleanup": {"."}}, "no file of the job's directory"),
    ],
)
def test_staging_that_fails_says_why(queue: Queue, tmp_path: Path, fields: dict[str, Any], what: str) -> None:
    here = tmp_path / "job"
    here.mkdir()
    (tmp_path / "outside").write_text("x")
    status = run(queue.executor(), JobSpec("/bin/true", directory=here, **fields))
    assert status.state is JobState.FAILED
    assert what in (status.message or "")
    assert (tmp_path / "outside").exists()
    assert here.is_dir()


def test_staging_by_other_schemes_is_refused_at_submission(queue: Queue) -> None:
    for fields in ({"stage_in": {StageIn("http://host/x", "x")}}, {"stage_out": {StageOut("x", "file://elsewhere/x")}}):
        with pytest.raises(InvalidJobException, match="stage_"):
            queue.executor().submit(Job(JobSpec("/bin/true", **fields)))


def test_jobs_of_an_earlier_process(queue: Queue, tmp_path: Path) -> None:
    """A program submits and is killed; another opens its session and has its jobs with their endings."""
    code = (
        "import os, signal, sys\n"
        "import psij\n"
        "from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig as Config\n"
        f"ex = psij.JobExecutor.get_instance(sys.argv[1], url={str(queue.folder)!r}, config=Config(queue_polling_interval=0.1))\n"
        "jobs = [psij.Job(psij.JobSpec('/bin/sh', ['-c', 'exit %d' % n])) for n in range(3)]\n"
        "ex.submit_many(jobs)\n"
        "print(ex.contact, *[job.id for job in jobs], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(PROJECT), str(Path(psij.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", code, "fake"], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    contact, *ids = done.stdout.split()
    jobs = queue.executor().reattach_all(contact)
    assert [job.id for job in jobs] == ids
    assert [finished(job).exit_code for job in jobs] == [0, 1, 2]
