"""Launchers, pre- and post-launch scripts, staging and clean-up, by the engine. The executor is a parameter."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from psij import InvalidJobException, Job, JobExecutor, JobExecutorConfig, JobSpec, JobState, ResourceSpecV1
from psij.staging import StageIn, StageOut, StageOutFlags, StagingMode
from psij_helpers import ALL, LONG, Told, finished, open_executor, run, shell

COPY, LINK, MOVE = StagingMode


def test_each_launcher_runs_the_command(executor: JobExecutor, launcher: str, tmp_path: Path) -> None:
    spec = shell('printf "%s|" "$@"; exit 4', "a b", "", launcher=launcher, stdout_path=tmp_path / "o")
    assert run(executor, spec).exit_code == 4
    assert (tmp_path / "o").read_text() == "a b||"


def test_multiple_processes(executor: JobExecutor, tmp_path: Path) -> None:
    spec = shell(
        "echo $_PSI_J_PROCESS_INDEX_ $_PSI_J_PROCESS_COUNT $(wc -l < $PSIJ_NODEFILE)",
        launcher="multiple",
        resources=ResourceSpecV1(process_count=3),
        stdout_path=tmp_path / "o",
    )
    assert run(executor, spec).state is JobState.COMPLETED
    assert sorted((tmp_path / "o").read_text().splitlines()) == ["1 3 3", "2 3 3", "3 3 3"]


def test_of_many_the_first_failure_counts(executor: JobExecutor) -> None:
    code = "test $_PSI_J_PROCESS_INDEX_ -lt 2 || exit $((10 + $_PSI_J_PROCESS_INDEX_))"
    assert run(executor, shell(code, launcher="multiple", resources=ResourceSpecV1(process_count=4))).exit_code == 12


def test_single_runs_once_whatever_the_resources(executor: JobExecutor, tmp_path: Path) -> None:
    run(executor, shell("echo once", resources=ResourceSpecV1(process_count=4), stdout_path=tmp_path / "o"))
    assert (tmp_path / "o").read_text() == "once\n"


MPI = {name: shutil.which(f"mpirun.{name}") for name in ("openmpi", "mpich")}


def test_there_is_an_mpi_to_test_with() -> None:
    if not any(MPI.values()):
        pytest.skip("no mpirun here: apt-get install openmpi-bin, and mpich beside it")


@pytest.mark.parametrize("name", [name for name, path in MPI.items() if path])
def test_the_output_of_mpi_ranks_is_complete(executor: JobExecutor, name: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "mpirun"
    if name == "openmpi":  # it tells what it is by the name that it is called by
        program.symlink_to(str(MPI[name]))
    else:  # this one finds its other programs by that name
        program.write_text(f'#!/bin/sh\nexec {MPI[name]} "$@"\n')
        program.chmod(0o700)
    # mpirun may cut one rank's lines by another's; so each has bytes of its own, which must all be there, in their order.
    code = "r=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}; i=0; "
    code += 'while [ $i -lt 2000 ]; do printf "%s" "$r$r$r$r$r$r$r$r$r"; echo; i=$((i+1)); done; printf "%s" $((r + 5))'
    spec = shell(
        code,
        launcher="mpirun",
        resources=ResourceSpecV1(process_count=3),
        stdout_path=tmp_path / "o",
        stderr_path=tmp_path / "e",
        environment={
            "PATH": f"{tmp_path}/bin:{os.environ.get('PATH', os.defpath)}",  # both find the scheduler's own programs there
            # Open MPI refuses root, who runs tests in containers, unless told twice.
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        },
    )
    status = run(executor, spec)
    assert status.state is JobState.COMPLETED, (status, (tmp_path / "e").read_text())
    text = (tmp_path / "o").read_text()
    for rank in "012":
        end = str(int(rank) + 5)
        assert "".join(c for c in text if c in (rank, end)) == rank * 9 * 2000 + end
    assert text.count("\n") == 3 * 2000


@pytest.mark.parametrize(("name", "program"), [("srun", "srun"), ("jsrun", "jsrun"), ("jrun", "jsrun"), ("aprun", "aprun")])
def test_launchers_of_schedulers_call_their_program(executor: JobExecutor, name: str, program: str, tmp_path: Path) -> None:
    stand_in = tmp_path / "bin" / program
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 6\n')
    stand_in.chmod(0o700)
    spec = JobSpec(
        "/bin/x",
        ["a b"],
        launcher=name,
        resources=ResourceSpecV1(process_count=3),
        stdout_path=tmp_path / "o",
        environment={"PATH": f"{stand_in.parent}:/usr/bin:/bin"},
    )
    assert run(executor, spec).exit_code == 6
    words = (tmp_path / "o").read_text().split("|")
    assert words[-3:] == ["/bin/x", "a b", ""]
    assert any("3" in word for word in words)


# Scripts ------------------------------------------------------------------------------------------------------------------


def scripts(folder: Path) -> dict[str, Any]:
    (folder / "pre.sh").write_text("export FROM_PRE=1; function greet() { echo hi $1; }; export -f greet; echo pre-out\n")
    (folder / "post.sh").write_text(f"echo $FROM_PRE > '{folder}/post-ran'\n")
    return {"pre_launch": folder / "pre.sh", "post_launch": folder / "post.sh"}


def test_pre_and_post_launch(executor: JobExecutor, launcher: str, tmp_path: Path) -> None:
    spec = JobSpec(
        "/bin/bash", ["-c", "greet you; echo $FROM_PRE"], launcher=launcher, stdout_path=tmp_path / "o", **scripts(tmp_path)
    )
    assert run(executor, spec).state is JobState.COMPLETED
    assert (tmp_path / "o").read_text() == "hi you\n1\n"  # what the scripts print is not the job's
    assert (tmp_path / "post-ran").read_text() == "1\n"


def test_a_failing_pre_launch_says_what_it_printed(executor: JobExecutor, tmp_path: Path) -> None:
    (tmp_path / "pre.sh").write_text("echo 'no licence today' >&2; false\n")
    status = run(executor, shell("echo ran", stdout_path=tmp_path / "o", pre_launch=tmp_path / "pre.sh"))
    assert status.state is JobState.FAILED
    assert "no licence today" in (status.message or "")
    assert not (tmp_path / "o").exists() or (tmp_path / "o").read_text() == ""


def test_output_that_is_no_text_harms_nobody(executor: JobExecutor, tmp_path: Path) -> None:
    (tmp_path / "pre.sh").write_bytes(b"printf '\\377\\376\\n' >&2; head -c 200000 /dev/zero; false\n")
    status = run(executor, JobSpec("/bin/true", pre_launch=tmp_path / "pre.sh"))
    assert status.state is JobState.FAILED
    assert run(executor, JobSpec("/bin/true")).state is JobState.COMPLETED


def test_the_launchers_log(executor_name: str, yard: Path, launcher: str, tmp_path: Path) -> None:
    (tmp_path / "pre.sh").write_text("echo from-pre; echo err-pre >&2\n")
    (tmp_path / "post.sh").write_text("echo from-post\n")
    config = JobExecutorConfig(launcher_log_file=tmp_path / "the log")
    with open_executor(executor_name, config=config) as executor:
        spec = shell(
            "echo out; exit 3",
            launcher=launcher,
            stdout_path=tmp_path / "o",
            pre_launch=tmp_path / "pre.sh",
            post_launch=tmp_path / "post.sh",
        )
        assert run(executor, spec).exit_code == 3
    assert (tmp_path / "o").read_text() == "out\n"
    log = (tmp_path / "the log").read_text()
    assert log.index("from-pre") < log.index("from-post")
    assert "err-pre" in log


# Staging ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [COPY, LINK, MOVE])
def test_staging_in(executor: JobExecutor, mode: StagingMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "jo b"
    here.mkdir()
    source = tmp_path / "in put"
    source.mkdir()
    (source / "file").write_text("data")
    (tmp_path / "one file").write_text("one")
    monkeypatch.chdir(tmp_path)
    told = Told()
    job = Job(
        shell(
            "cat 'sub/folder/file' single",
            directory=here,
            stdout_path=tmp_path / "o",
            # relative sources are the program's, relative targets the job's
            stage_in={StageIn("in put", "sub/folder", mode), StageIn(f"file://localhost{tmp_path}/one%20file", "single", mode)},
        )
    )
    job.set_job_status_callback(told)
    executor.submit(job)
    assert finished(job).state is JobState.COMPLETED, job.status
    assert (tmp_path / "o").read_text() == "dataone"
    assert (here / "single").is_symlink() is (mode is LINK)
    assert (tmp_path / "one file").exists() is (mode is not MOVE)
    told.all_final(job)
    assert told.states(job) == ALL
    stage_in = told.by_job[job.id][1]
    assert not (stage_in.metadata or {}).get("synthesised"), "files were staged in: the state was seen"


@pytest.mark.parametrize("mode", [COPY, LINK, MOVE])
@pytest.mark.parametrize("code", [0, 3])
def test_staging_out(executor: JobExecutor, mode: StagingMode, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "job"
    here.mkdir()
    monkeypatch.chdir(tmp_path)
    flags = {"always": StageOutFlags.ALWAYS, "well": StageOutFlags.ON_SUCCESS, "ill": StageOutFlags.ON_ERROR}
    stage_out = {StageOut(f"{name} out", f"got/{name}", flag, mode) for name, flag in flags.items()}
    stage_out.add(StageOut("never made", "got/never", StageOutFlags.IF_PRESENT, mode))
    spec = shell(
        f'for n in always well ill; do echo $n > "$n out"; done; exit {code}',
        directory=here,
        stage_out=stage_out,
        cleanup={"well out" if code == 3 else "ill out"},
    )
    assert run(executor, spec).exit_code == code
    got = {path.name: path.read_text() for path in (tmp_path / "got").iterdir()}
    assert got == {"always": "always\n", **({"ill": "ill\n"} if code else {"well": "well\n"})}
    left = {path.name for path in here.iterdir()}
    assert left == (set() if mode is MOVE else {"always out", "ill out" if code else "well out"})


def test_cleaning_up(executor: JobExecutor, tmp_path: Path) -> None:
    here = tmp_path / "job"
    (here / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (here / "link").symlink_to(tmp_path / "precious")
    spec = shell("touch 'a file' keep", directory=here, cleanup={"a file", "tree", "link", "never there"})
    assert run(executor, spec).state is JobState.COMPLETED
    assert [path.name for path in here.iterdir()] == ["keep"]
    assert (tmp_path / "precious" / "file").exists()
    flagged = shell("touch x; exit 1", directory=here, cleanup={"x", "keep"}, cleanup_flags=StageOutFlags.ON_SUCCESS)
    assert run(executor, flagged).exit_code == 1
    assert sorted(path.name for path in here.iterdir()) == ["keep", "x"]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"stage_in": {StageIn("/no/such/file", "x")}}, "/no/such/file"),
        ({"stage_out": {StageOut("never-made", "x")}}, "never-made"),
    ],
)
def test_staging_that_fails_says_why(executor: JobExecutor, fields: dict[str, Any], what: str, tmp_path: Path) -> None:
    here = tmp_path / "job"
    here.mkdir()
    status = run(executor, JobSpec("/bin/true", directory=here, **fields))
    assert status.state is JobState.FAILED
    assert what in (status.message or "")


@pytest.mark.parametrize(
    "fields",
    [
        {"stage_in": {StageIn("http://host/path", "x")}},
        {"stage_in": {StageIn("file://elsewhere/path", "x")}},
        {"stage_out": {StageOut("x", "s3://bucket/x")}},
        {"cleanup": {"../outside"}},
    ],
)
def test_what_cannot_be_staged_or_cleaned_is_refused_at_submission(executor: JobExecutor, fields: dict[str, Any]) -> None:
    job = Job(JobSpec("/bin/true", **fields))
    with pytest.raises(InvalidJobException, match=next(iter(fields))):
        executor.submit(job)
    assert (job.executor, job.status.state) == (None, JobState.NEW)


def test_files_of_a_cancelled_job_are_brought_out(executor: JobExecutor, tmp_path: Path) -> None:
    here = tmp_path / "job"
    here.mkdir()
    os.mkfifo(tmp_path / "ready")
    spec = shell(
        'echo partial > out; echo scratch > tmp; echo > "$1"; exec sleep 600',
        str(tmp_path / "ready"),
        directory=here,
        stage_out={
            StageOut("out", tmp_path / "got", StageOutFlags.ON_CANCEL),
            StageOut("out", tmp_path / "not", StageOutFlags.ON_ERROR | StageOutFlags.ON_SUCCESS),
        },
        cleanup={"tmp"},
        cleanup_flags=StageOutFlags.ON_CANCEL,
    )
    job = Job(spec)
    executor.submit(job)
    (tmp_path / "ready").read_text()
    job.cancel()
    assert finished(job).state is JobState.CANCELED
    assert (tmp_path / "got").read_text() == "partial\n"
    assert not (tmp_path / "not").exists()
    assert not (here / "tmp").exists()


def test_files_of_a_job_that_was_killed_are_brought_out_too(yard: Path, tmp_path: Path) -> None:
    """One that does not heed TERM is killed with all that is around it: the program that follows it does the work."""
    here = tmp_path / "job"
    here.mkdir()
    os.mkfifo(tmp_path / "ready")
    code = "trap '' TERM; echo partial > out; echo scratch > tmp; echo > \"$1\"; sleep 600 & wait; sleep 600"
    spec = shell(
        code,
        str(tmp_path / "ready"),
        directory=here,
        stage_out={StageOut("out", tmp_path / "got", StageOutFlags.ON_CANCEL, MOVE), StageOut("tmp", "no", StageOutFlags.ON_ERROR)},
        cleanup={"tmp"},
    )
    told = Told()
    with JobExecutor.get_instance("local", url="?grace=0.2s") as executor:
        job = Job(spec)
        job.set_job_status_callback(told)
        executor.submit(job)
        (tmp_path / "ready").read_text()
        job.cancel()
        assert finished(job).state is JobState.CANCELED
        told.all_final(job)
    assert told.states(job) == [*ALL[:-1], JobState.CANCELED]
    assert (tmp_path / "got").read_text() == "partial\n"
    assert list(here.iterdir()) == []


def test_nothing_is_left(executor_name: str, yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After jobs of every kind have ended the work folder holds launchers and node files only, however many jobs there were."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))

    def files() -> set[str]:
        found = set()
        for folder, _, names in os.walk(yard / "work"):  # folders go while it looks
            found |= {os.path.relpath(os.path.join(folder, name), yard) for name in names}
        return found

    def left() -> set[str]:
        return {name for name in files() if "/psij/" not in name and "/node/" not in name}

    def settled() -> None:
        until = time.monotonic() + LONG.total_seconds()
        while left() and time.monotonic() < until:
            time.sleep(0.05)  # folders go soon after the end was told
        assert left() == set()

    def batch(executor: JobExecutor) -> None:
        (tmp_path / "in").write_text("x")
        specs = [
            JobSpec("/bin/true"),
            shell("exit 3"),
            JobSpec("/no/such/program"),
            shell("true", launcher="multiple", resources=ResourceSpecV1(process_count=2)),
            JobSpec("/bin/true", directory=tmp_path, stage_in={StageIn(tmp_path / "in", "staged")}, cleanup={"staged"}),
        ]
        jobs = [Job(spec) for spec in specs]
        executor.submit_many(jobs)
        assert executor.wait_all(jobs, LONG) is not None

    with open_executor(executor_name) as executor:
        batch(executor)
        settled()
        before = files()
        for _ in range(4):
            batch(executor)
        settled()
        assert files() == before
        assert list(home.iterdir()) == []  # no ~/.psij
