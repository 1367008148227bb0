"""What each executor submits: every attribute of a specification is honoured, or refused by its name; none is dropped."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import jobyard
from jobyard import fronts
from jobyard.testing import lookalike
from jobyard.testing.standin import install
from psij import (
    InvalidJobException,
    Job,
    JobAttributes,
    JobExecutor,
    JobSpec,
    JobState,
    JobStatus,
    ResourceSpecV1,
    SubmitException,
    _plugins,
)
from psij._engine_executor import EngineExecutor
from psij.executors.batch._scheduler import SchedulerExecutor
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutor, BatchSchedulerExecutorConfig
from psij_helpers import LONG, finished, shell

BATCH = [name for name in _plugins.EXECUTORS if name != "local"]
PREFIXES = {"pbs_classic": "pbs"}
ENGINE_NAMES = {"pbs_classic": "torque"}


def made(name: str) -> EngineExecutor:
    """An executor of the built-in class; its adapter is not needed until it submits."""
    module, _, cls = _plugins.EXECUTORS[name][0].rpartition(".")
    executor: EngineExecutor = getattr(importlib.import_module(module), cls)()
    return executor


def full(prefix: str) -> JobSpec:
    """Everything that can be asked of a scheduler."""
    return JobSpec(
        "/bin/date",
        ["-u"],
        "/a directory",
        "my job",
        environment={"A": "b"},
        stdout_path="/out",
        resources=ResourceSpecV1(2, 8, None, 3, 1, True, 5 << 30),
        attributes=JobAttributes(
            timedelta(hours=26),
            "long",
            "acc",
            "res",
            {f"{prefix}.constraint": "big", f"{prefix}.flag": True, f"{prefix.upper()}.n": 3},
        ),
    )


@pytest.mark.parametrize("name", BATCH)
def test_what_the_engine_is_told(name: str) -> None:
    description, _ = made(name)._describe(Job(full(PREFIXES.get(name, name))))
    scheduler = ENGINE_NAMES.get(name, name)
    assert {**description.tags, "psij.id": "", "psij.spec": ""} == {"psij.id": "", "psij.spec": ""}
    assert description == jobyard.JobDescription(
        argv=("/bin/date", "-u"),
        directory="/a directory",
        name="my job",
        environment={"A": "b"},
        inherit=fronts.Inherit.NODE,
        stdout="/out",
        stderr="/dev/null",
        resources=jobyard.Resources(nodes=2, processes=8, cores=3, gpus=1, memory_bytes=5 << 30, exclusive=True),
        limits=jobyard.Limits(walltime_s=93600.0),
        queue="long",
        account="acc",
        reservation="res",
        attributes={f"{scheduler}.constraint": "big", f"{scheduler}.flag": "", f"{scheduler}.n": "3"},
        tags=description.tags,
    )


@pytest.mark.parametrize("name", BATCH)
def test_ten_minutes_are_the_walltime_of_a_queue(name: str) -> None:
    description, _ = made(name)._describe(Job(JobSpec("/bin/true")))
    assert description.limits.walltime_s == 600.0
    assert description.resources == jobyard.Resources()


@pytest.mark.parametrize("name", [*BATCH, "local"])
@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"constraint": "gpu"}, "custom attribute 'constraint': write it with the name of the executor"),
        ({"flurbs.constraint": "gpu"}, "there is no executor 'flurbs'"),
    ],
)
def test_custom_attributes_that_nobody_would_read_are_refused(name: str, attributes: dict[str, object], what: str) -> None:
    with pytest.raises(InvalidJobException, match=what):
        made(name)._describe(Job(JobSpec("/bin/true", attributes=JobAttributes(custom_attributes=attributes))))


def test_custom_attributes_for_other_executors_are_passed_over() -> None:
    attributes = JobAttributes(custom_attributes={"slurm.constraint": "x", "torque.y": "z"})
    description, _ = made("lsf")._describe(Job(JobSpec("/bin/true", attributes=attributes)))
    assert description.attributes == {}
    bad = JobAttributes(custom_attributes={"lsf.x": [1]})
    with pytest.raises(InvalidJobException, match=r"'lsf.x' is text, a number, or True"):
        made("lsf")._describe(Job(JobSpec("/bin/true", attributes=bad)))


# A scheduler that is asked by commands ----------------------------------------------------------------------------------------


class StandinExecutor(SchedulerExecutor):
    """As the built-in ones, on the stand-in for schedulers."""

    _SCHEDULER_ = "standin"
    _PREFIXES_ = ("standin",)


@pytest.fixture
def standin(yard: Path, tmp_path: Path) -> Iterator[StandinExecutor]:
    cell = install(tmp_path / "cell")
    executor = StandinExecutor(url=f"?cell={cell.folder}")
    yield executor
    executor.close()
    cell.stop()


def adapters() -> list[str]:
    """Executors whose scheduler the engine speaks to."""
    known = fronts.scheduler_names()
    return [
        name for name in BATCH if ENGINE_NAMES.get(name, name) in known and fronts.find_known(ENGINE_NAMES.get(name, name)).target
    ]


ONE_BY_ONE: dict[str, dict[str, Any]] = {
    "resources.node_count": {"resources": ResourceSpecV1(node_count=2)},
    "resources.processes_per_node": {"resources": ResourceSpecV1(processes_per_node=2)},
    "resources.cpu_cores_per_process": {"resources": ResourceSpecV1(cpu_cores_per_process=3)},
    "resources.gpu_cores_per_process": {"resources": ResourceSpecV1(gpu_cores_per_process=2)},
    "resources.exclusive_node_use": {"resources": ResourceSpecV1(exclusive_node_use=True)},
    "resources.memory": {"resources": ResourceSpecV1(memory=3 << 30)},
    "attributes.duration": {"attributes": JobAttributes(timedelta(hours=3))},
    "attributes.queue_name": {"attributes": JobAttributes(queue_name="aqueue")},
    "attributes.account": {"attributes": JobAttributes(account="anaccount")},
    "attributes.reservation_id": {"attributes": JobAttributes(reservation_id="areservation")},
}


@pytest.mark.parametrize("name", [*adapters(), "standin"])
@pytest.mark.parametrize("field", ONE_BY_ONE)
def test_scripts_and_commands_say_it_or_refuse_it_by_name(
    name: str, field: str, yard: Path, request: pytest.FixtureRequest
) -> None:
    executor = request.getfixturevalue("standin") if name == "standin" else JobExecutor.get_instance(name)
    assert isinstance(executor, BatchSchedulerExecutor)
    if name in SITES:
        know_site(executor, *SITES[name])
    job, plain = Job(JobSpec("/bin/true", **ONE_BY_ONE[field])), Job(JobSpec("/bin/true"))
    said = submission_of(executor, job)
    assert said != submission_of(executor, plain)
    assert field in said or not isinstance(said, str)
    executor.close()


# Whose resources are the site's, and the recorded answer that tells them.
SITES = {"gridengine": ("gridengine", "site"), "oar": ("oar", "nodes-json")}


def know_site(executor: BatchSchedulerExecutor, bed: str, recorded: str) -> None:
    """What is asked of the site is answered as it was there."""
    answer = (Path(__file__).parents[2] / "testbeds" / bed / "samples" / f"{recorded}.out").read_bytes()
    scheduler: Any = executor._link().session.scheduler
    scheduler._run = lambda purpose, command: fronts.Result(argv=command.argv, returncode=0, stdout=answer)


def submission_of(executor: BatchSchedulerExecutor, job: Job) -> tuple[str, list[str]] | str:
    """The script, without the comments that tell the description, and the command; or why it is refused."""
    out = io.StringIO()
    executor.generate_submit_script(job, executor._create_script_context(job), out)
    lines = out.getvalue().splitlines()
    try:
        command = executor.get_submit_command(job, Path("/script"))
    except InvalidJobException as error:
        refused = error.message
        said = [line for line in lines if line.startswith("# refused: ")]
        assert (said, lines[-1]) == ([f"# refused: {refused}"], "exit 125")
        return refused
    return "\n".join(line for line in lines if not line.startswith("# ")), command


# This machine ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("resources.node_count", {"resources": ResourceSpecV1(node_count=2)}),
        ("resources.cpu_cores_per_process", {"resources": ResourceSpecV1(cpu_cores_per_process=9999)}),
        ("resources.gpu_cores_per_process", {"resources": ResourceSpecV1(gpu_cores_per_process=9999)}),
        ("resources.memory", {"resources": ResourceSpecV1(memory=1 << 60)}),
        ("attributes.queue_name", {"attributes": JobAttributes(queue_name="q")}),
        ("attributes.account", {"attributes": JobAttributes(account="a")}),
        ("attributes.reservation_id", {"attributes": JobAttributes(reservation_id="r")}),
        ("attributes.custom_attributes", {"attributes": JobAttributes(custom_attributes={"local.x": 1})}),
    ],
)
@pytest.mark.parametrize("url", [None, "?slots=queue"])
def test_what_this_machine_cannot_honour_is_refused_by_name(
    field: str, fields: dict[str, Any], url: str | None, common_yard: Path
) -> None:
    with JobExecutor.get_instance("local", url=url) as executor:
        job = Job(JobSpec("/bin/true", **fields))
        with pytest.raises(InvalidJobException) as caught:
            executor.submit(job)
        assert field in caught.value.message
        assert (job.executor, job.native_id, job.status.state) == (None, None, JobState.NEW)


def test_exclusive_use_needs_a_queue(common_yard: Path) -> None:
    spec = JobSpec("/bin/true", resources=ResourceSpecV1(exclusive_node_use=True))
    with (
        JobExecutor.get_instance("local") as executor,
        pytest.raises(InvalidJobException, match=r"exclusive_node_use.*slots=queue"),
    ):
        executor.submit(Job(spec))
    with JobExecutor.get_instance("local", url="?slots=queue") as executor:
        job = Job(spec)
        executor.submit(job)
        assert finished(job).state is JobState.COMPLETED


def test_memory_is_enforced_on_this_machine(common_yard: Path) -> None:
    code = "import time; block = bytearray(400 << 20); time.sleep(600)"
    spec = JobSpec("/usr/bin/env", ["python3", "-c", code], resources=ResourceSpecV1(memory=100 << 20))
    with JobExecutor.get_instance("local") as executor:
        job = Job(spec)
        executor.submit(job)
        status = finished(job)
    assert status.state is JobState.FAILED
    assert (status.metadata or {})["cause"] == "memory"
    assert "memory" in (status.message or "")


def test_what_the_local_scheduler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    executor = made("local")
    spec = JobSpec("/bin/date", name="n", directory="sub", resources=ResourceSpecV1(process_count=4))
    description, log = executor._describe(Job(spec))
    assert log is None
    assert description == jobyard.JobDescription(
        argv=("/bin/date",),
        name="n",
        directory=str(tmp_path / "sub"),
        inherit=fronts.Inherit.CLIENT,
        stdout="/dev/null",
        stderr="/dev/null",
        resources=jobyard.Resources(processes=4),
        immediate=True,
        tags=description.tags,
    )
    spec.attributes = JobAttributes(timedelta(minutes=10))
    assert executor._describe(Job(spec))[0].limits.walltime_s == 600.0
    gpus, _ = executor._describe(Job(JobSpec("/bin/date", resources=ResourceSpecV1(gpu_cores_per_process=1))))
    assert not gpus.immediate  # a GPU is booked, and waited for
    assert gpus.resources.gpus == 1


def test_the_script_tells_what_would_be_submitted(standin: StandinExecutor) -> None:
    spec = full("standin")
    assert spec.attributes is not None
    spec.attributes.reservation_id = None
    spec.attributes.custom_attributes = {"standin.cust_attr1": "value 1"}
    spec.resources = ResourceSpecV1(memory=1 << 20)
    spec.arguments = ["a b", "two\nlines", "rm -rf /"]
    job, out = Job(spec), io.StringIO()
    standin.generate_submit_script(job, standin._create_script_context(job), out)
    lines = out.getvalue().splitlines()
    assert lines[0] == "#!/bin/sh"
    assert lines[1] == "#STANDIN --rerun no"
    assert lines[-1].startswith("exec ")
    assert lines[-1].endswith(f"/00/{'0' * 32}")
    assert "/run.py " in lines[-1]
    assert all(line.startswith("#") for line in lines[:-1])
    for words in ("/bin/date", "/a directory", "my job", "long", "acc", "standin.cust_attr1: value 1", "'two\\nlines'"):
        assert any(words in line for line in lines), words
    command = standin.get_submit_command(job, Path("/script"))
    assert command[0] == "standin-submit"
    assert {"--queue=long", "--account=acc", "--name=my job", f"--memory={1 << 20}", "--walltime=93600.0"} <= set(command)
    assert command[-1] == "/script"


def test_the_script_is_the_one_that_is_submitted(standin: StandinExecutor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    job, out = Job(shell('read x < "$1"', str(tmp_path / "gate"), name="n")), io.StringIO()
    standin.submit(job)
    assert job.wait(LONG, JobState.ACTIVE) is not None
    standin.generate_submit_script(job, {}, out)
    assert job._engine_job is not None
    token = job._engine_job.token
    (sent,) = fronts.work_root().glob(f"{token[:2]}/{token}/run.sh")
    assert [
        line for line in out.getvalue().splitlines() if not line.startswith("# ") and line != "#"
    ] == sent.read_text().splitlines()
    (tmp_path / "gate").write_text("\n")
    assert finished(job).state is JobState.COMPLETED


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("attributes.reservation_id", {"attributes": JobAttributes(reservation_id="r")}),
        ("resources.exclusive_node_use", {"resources": ResourceSpecV1(exclusive_node_use=True)}),
    ],
)
def test_what_the_adapter_cannot_honour_is_refused_by_name(standin: StandinExecutor, field: str, fields: dict[str, Any]) -> None:
    job = Job(JobSpec("/bin/true", **fields))
    for act in (standin.submit, lambda one: standin.get_submit_command(one, Path("/script"))):
        with pytest.raises(InvalidJobException, match=field):
            act(job)
    assert (job.executor, job.status.state) == (None, JobState.NEW)


def test_jobs_on_a_scheduler_that_is_asked_by_commands(standin: StandinExecutor, tmp_path: Path) -> None:
    told: list[JobStatus] = []
    standin.set_job_status_callback(lambda _, status: told.append(status))
    job = Job(shell("echo out; exit 5", stdout_path=tmp_path / "o"))
    standin.submit(job)
    assert job.native_id is not None
    assert finished(job).exit_code == 5
    assert (tmp_path / "o").read_text() == "out\n"
    many = [Job(shell(f"exit {n}")) for n in range(4)]
    standin.submit_many(many)
    assert [finished(one).exit_code for one in many] == [0, 1, 2, 3]
    sleeper = Job(shell("sleep 600"))
    standin.submit(sleeper)
    assert sleeper.wait(LONG, JobState.ACTIVE) is not None
    assert sleeper.native_id in standin.list()
    sleeper.suspend()
    sleeper.resume()
    sleeper.cancel()
    assert finished(sleeper).state is JobState.CANCELED


def test_configured_intervals_and_kept_files(yard: Path, tmp_path: Path) -> None:
    cell = install(tmp_path / "cell")
    config = BatchSchedulerExecutorConfig(work_directory=tmp_path / "w", queue_polling_interval=2, keep_files=True)
    with StandinExecutor(url=f"?cell={cell.folder}", config=config) as executor:
        assert "poll=2s" in executor.contact
        job = Job(shell("exit 5", name="kept"))
        executor.submit(job)
        assert list((tmp_path / "w").glob("jobyard-*/??/*/job.json"))
        assert finished(job).exit_code == 5
        (script,) = (tmp_path / "w" / executor.name).iterdir()
        assert script.name == f"{job.id}.job"
        assert "name: kept" in script.read_text()
    cell.stop()


def test_the_hooks_answer_as_the_adapter_does(standin: StandinExecutor) -> None:
    assert standin.get_status_command(["1"])[0] == "standin-queue"
    assert standin.get_list_command()[0] == "standin-queue"
    assert standin.get_cancel_command("1")[:2] == ["standin-control", "cancel"]
    assert standin.job_id_from_submit_output("17\n") == "17"
    with pytest.raises(SubmitException, match="odd"):
        standin.process_cancel_command_output(1, "odd")
    with pytest.raises(SubmitException):
        standin.job_id_from_submit_output("")
    with pytest.raises(jobyard.SchedulerUnavailable):
        standin.parse_status_output(1, "")
    assert {"cancel", "hold", "suspend"} <= standin.capabilities


def test_the_client_s_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    description, _ = made("slurm")._describe(Job(JobSpec("/bin/true", directory="sub", stdout_path="o")))
    assert description.directory == os.path.join(tmp_path, "sub")
    assert description.stdout == "o"


def test_a_file_that_is_read_from_standard_input(yard: Path, tmp_path: Path) -> None:
    """``bsub < file``: bsub would take a file that it is told by name for the job's command, and evaluate its path."""
    with lookalike.install(tmp_path / "cell", "lsf") as cell, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{cell.bin}{os.pathsep}{os.environ['PATH']}")
        executor = JobExecutor.get_instance("lsf")
        assert isinstance(executor, SchedulerExecutor)
        job, path = Job(JobSpec("/bin/true", name="n")), tmp_path / "a $(b) file"
        submission = executor._submission(job)
        os.makedirs(submission.folder, mode=0o700)
        Path(submission.folder, "run.sh").write_text(f"#!/bin/sh\necho ran >'{tmp_path}/ran'\n")
        with open(path, "w") as file:
            executor.generate_submit_script(job, {}, file)
        assert path.read_text().startswith("#!/bin/sh\n#"), "what runs the script is in its first line"
        command = executor.get_submit_command(job, path)
        sent = subprocess.run(command, capture_output=True, text=True, check=False)
        assert sent.returncode == 0, sent
        native_id = executor.job_id_from_submit_output(sent.stdout)
        for _ in range(600):
            asked = subprocess.run(executor.get_status_command([native_id]), capture_output=True, text=True, check=True)
            if executor.parse_status_output(0, asked.stdout)[native_id].final:
                break
            time.sleep(0.05)
        executor.close()
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_file_that_the_scheduler_runs_itself_is_made_executable(common_yard: Path, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    path.touch(0o640)
    executor = JobExecutor.get_instance("cobalt")
    assert isinstance(executor, SchedulerExecutor)
    job = Job(JobSpec("/bin/true", attributes=JobAttributes(duration=timedelta(minutes=1))))
    command = executor.get_submit_command(job, path)
    assert (command[0], command[-1]) == ("qsub", str(path))
    assert path.stat().st_mode & 0o777 == 0o740
    assert executor.get_submit_command(job, tmp_path / "none")[-1] == str(tmp_path / "none"), "which need not be there yet"
