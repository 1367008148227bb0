"""Launcher scripts: their command line, streams, exit codes, logs, and what mpirun makes of them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from psij import InvalidJobException, Job, JobExecutorConfig, JobSpec, Launcher, ResourceSpecV1
from psij.launchers import MultipleLauncher
from psij.launchers.script_based_launcher import ScriptBasedLauncher

PROTOCOL = ["job", "log", "pre", "post", "stdin", "stdout", "stderr"]


@pytest.fixture
def config(tmp_path: Path) -> JobExecutorConfig:
    return JobExecutorConfig(work_directory=tmp_path / "work dir")


def launch(name: str, config: JobExecutorConfig, spec: JobSpec, **environment: str) -> subprocess.CompletedProcess[str]:
    command = Launcher.get_instance(name, config=config).get_launch_command(Job(spec))
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_the_command_line(config: JobExecutorConfig) -> None:
    spec = JobSpec("/bin/x", ["a b", ""], resources=ResourceSpecV1(process_count=3), pre_launch="/p", stdout_path="/o o")
    job = Job(spec)
    words = MultipleLauncher(config=config).get_launch_command(job)
    assert words[0] == "/bin/bash"
    assert Path(words[1]).name == "multi_launch.sh"
    assert words[2:] == [job.id, "", "/p", "", "/dev/null", "/o o", "/dev/null", "3", "/bin/x", "a b", ""]
    single = Launcher.get_instance("single", config=config).get_launch_command(job)
    assert single[2:] == [job.id, "", "/p", "", "/dev/null", "/o o", "/dev/null", "/bin/x", "a b", ""]


def test_scripts_are_deployed_once_and_privately(config: JobExecutorConfig) -> None:
    launcher = Launcher.get_instance("single", config=config)
    script = Path(launcher.get_launch_command(Job(JobSpec("/bin/true")))[1])
    before = script.stat()
    again = Launcher.get_instance("single", config=config).get_launch_command(Job(JobSpec("/bin/true")))
    assert Path(again[1]) == script
    assert script.stat().st_ino == before.st_ino
    assert {path.name for path in script.parent.iterdir()} == {"single_launch.sh", "launcher_lib.sh"}
    assert stat.S_IMODE(script.parent.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in script.parent.iterdir())
    assert {path.name for path in config.work_directory.iterdir()} == {script.parent.name}


def test_large_files_are_deployed_whole(tmp_path: Path, config: JobExecutorConfig) -> None:
    big = tmp_path / "big.sh"
    big.write_text("# " + "x" * 100_000 + "\nexit 9\n")
    launcher = type("Big", (ScriptBasedLauncher,), {})(big, config)
    done = subprocess.run(launcher.get_launch_command(Job(JobSpec("/bin/true"))), check=False)
    assert done.returncode == 9


@pytest.mark.parametrize("name", ["single", "multiple"])
@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_codes(name: str, code: int, config: JobExecutorConfig) -> None:
    done = launch(name, config, JobSpec("/bin/sh", ["-c", f"exit {code}"]))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_signal_shows_as_128_and_its_number(config: JobExecutorConfig) -> None:
    assert launch("single", config, JobSpec("/bin/sh", ["-c", "kill -9 $$"])).returncode == 137


def test_streams_with_hostile_names(tmp_path: Path, config: JobExecutorConfig) -> None:
    folder = tmp_path / "a 'b' $(touch pwned) \"c\""
    folder.mkdir()
    (folder / "in put").write_text("hello\n")
    spec = JobSpec(
        "/bin/sh",
        ["-c", 'cat; printf "%s|" "$@"; echo err >&2', "sh", "x y", "$HOME", ""],
        stdin_path=folder / "in put",
        stdout_path=folder / "out put",
        stderr_path=folder / "err put",
    )
    assert launch("single", config, spec).returncode == 0
    assert (folder / "out put").read_text() == "hello\nx y|$HOME||"
    assert (folder / "err put").read_text() == "err\n"
    assert not Path("pwned").exists()


def test_both_streams_in_one_file(tmp_path: Path, config: JobExecutorConfig) -> None:
    spec = JobSpec("/bin/sh", ["-c", "echo one; echo two >&2; echo three"], stdout_path=tmp_path / "o", stderr_path=tmp_path / "o")
    launch("single", config, spec)
    assert (tmp_path / "o").read_text() == "one\ntwo\nthree\n"


def test_a_stream_that_cannot_be_opened_says_so(tmp_path: Path, config: JobExecutorConfig) -> None:
    done = launch("single", config, JobSpec("/bin/true", stdout_path=tmp_path / "no" / "o"))
    assert done.returncode == 1
    assert "No such file" in done.stderr


def test_multiple_processes(tmp_path: Path, config: JobExecutorConfig) -> None:
    spec = JobSpec(
        "/bin/sh",
        ["-c", "echo $_PSI_J_PROCESS_INDEX_/$_PSI_J_PROCESS_COUNT"],
        resources=ResourceSpecV1(process_count=4),
        stdout_path=tmp_path / "o",
    )
    (tmp_path / "o").write_text("old")
    assert launch("multiple", config, spec).returncode == 0
    assert sorted((tmp_path / "o").read_text().split()) == ["1/4", "2/4", "3/4", "4/4"]


def test_of_many_the_first_failure_counts(config: JobExecutorConfig) -> None:
    code = "test $_PSI_J_PROCESS_INDEX_ -lt 2 || exit $((10 + $_PSI_J_PROCESS_INDEX_))"
    spec = JobSpec("/bin/sh", ["-c", code], resources=ResourceSpecV1(process_count=4))
    assert launch("multiple", config, spec).returncode == 12


def scripts(folder: Path) -> dict[str, Any]:
    (folder / "pre.sh").write_text(
        "echo pre-out; echo pre-err >&2; function greet() { echo hi $1; }; export -f greet\nexport FROM_PRE=1\n"
    )
    (folder / "post.sh").write_text("echo post-out $FROM_PRE\n")
    return {"pre_launch": folder / "pre.sh", "post_launch": folder / "post.sh"}


def test_pre_and_post_launch_and_the_log(tmp_path: Path) -> None:
    config = JobExecutorConfig(tmp_path / "the log", tmp_path / "work")
    spec = JobSpec("/bin/bash", ["-c", "greet you; echo $FROM_PRE"], stdout_path=tmp_path / "o", **scripts(tmp_path))
    job = Job(spec)
    done = subprocess.run(
        Launcher.get_instance("single", config=config).get_launch_command(job), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "o").read_text() == "hi you\n1\n"
    log = (tmp_path / "the log").read_text()
    assert log.index("pre-out") < log.index("post-out 1")
    assert "pre-err" in log
    assert f" {job.id} Running pre-launch" in log
    assert f" {job.id} Command done, exit code 0" in log


def test_without_a_log_their_output_is_the_launchers_own(tmp_path: Path, config: JobExecutorConfig) -> None:
    done = launch("single", config, JobSpec("/bin/true", stdout_path=tmp_path / "o", **scripts(tmp_path)))
    assert done.stdout == "pre-out\npost-out 1\n"
    assert done.stderr == "pre-err\n"
    assert (tmp_path / "o").read_text() == ""


@pytest.mark.parametrize("text", ["false\n", "exit 5\n", "return 6\n"])
def test_a_failing_pre_launch_stops_the_job(text: str, tmp_path: Path, config: JobExecutorConfig) -> None:
    (tmp_path / "pre.sh").write_text("echo broken >&2\n" + text)
    done = launch(
        "single", config, JobSpec("/bin/sh", ["-c", "echo ran"], stdout_path=tmp_path / "o", pre_launch=tmp_path / "pre.sh")
    )
    assert done.returncode in (1, 5, 6)
    assert "broken" in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("name", "words"), [("srun", []), ("jsrun", ["-n", "3", "-a", "1"]), ("aprun", ["-n", "3"])])
def test_launchers_of_schedulers_call_their_program(name: str, words: list[str], tmp_path: Path, config: JobExecutorConfig) -> None:
    program = tmp_path / "bin" / name
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 4\n')
    program.chmod(0o700)
    spec = JobSpec("/bin/x", ["a b"], resources=ResourceSpecV1(process_count=3), stdout_path=tmp_path / "o")
    done = launch(name, config, spec, PATH=f"{program.parent}:{os.environ['PATH']}")
    assert done.returncode == 4
    assert (tmp_path / "o").read_text() == "".join(f"{word}|" for word in [*words, "/bin/x", "a b"])


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ("mpirun (Open MPI) 4.1.4", ["--oversubscribe"]),
        ("mpirun (Open MPI) 5.0.3", ["--map-by", ":OVERSUBSCRIBE"]),
        ("HYDRA build details:", []),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.9", []),
    ],
)
def test_each_mpirun_gets_its_options(said: str, options: list[str], tmp_path: Path, config: JobExecutorConfig) -> None:
    program = tmp_path / "bin" / "mpirun"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{said}"; exit 0; fi\nprintf "%s|" "$@"\n')
    program.chmod(0o700)
    spec = JobSpec("/bin/x", ["y"], resources=ResourceSpecV1(process_count=2), stdout_path=tmp_path / "o")
    assert launch("mpirun", config, spec, PATH=f"{program.parent}:{os.environ['PATH']}").returncode == 0
    assert (tmp_path / "o").read_text() == "".join(f"{word}|" for word in [*options, "-n", "2", "/bin/x", "y"])


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun here: apt-get install openmpi-bin")
def test_the_output_of_all_ranks_is_complete(tmp_path: Path, config: JobExecutorConfig) -> None:
    # mpirun may cut one rank's lines by another's; so each has bytes of its own, which must all be there, in their order.
    code = "r=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}; i=0; "
    code += 'while [ $i -lt 2000 ]; do printf "%s" "$r$r$r$r$r$r$r$r$r"; echo; i=$((i+1)); done; printf "%s" $((r + 5))'
    spec = JobSpec("/bin/sh", ["-c", code], resources=ResourceSpecV1(process_count=3), stdout_path=tmp_path / "o")
    # Open MPI refuses root, who runs tests in containers, unless told twice.
    done = launch("mpirun", config, spec, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "o").read_text()
    for rank in "012":
        end = str(int(rank) + 5)
        assert "".join(c for c in text if c in (rank, end)) == rank * 9 * 2000 + end
    assert text.count("\n") == 3 * 2000


def test_a_job_without_an_executable(config: JobExecutorConfig) -> None:
    for job in (Job(), Job(JobSpec())):
        with pytest.raises(InvalidJobException, match="no executable"):
            Launcher.get_instance("single", config=config).get_launch_command(job)
