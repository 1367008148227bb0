"""Launchers and the scripts around them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobyard import launchers
from jobyard.description import describe
from jobyard.errors import InvalidJob
from jobyard.job import Cause
from jobyard.launchers import COMMAND, MPI, OPTIONS, Launch, launch_data, launch_for, launcher_names, register_launcher
from jobyard.node.launch import hosts_of
from jobyard.schedulers.base import Capabilities, Kind, Traits
from jobyard.schedulers.checks import check_capabilities
from jobyard.testing.polling import eventually
from node.programs import install, recorded
from node.rig import Rig, Run

OPEN_MPI_4 = "mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/"
OPEN_MPI_5 = "mpirun (Open MPI) 5.0.3"
HYDRA = "HYDRA build details:\n    Version:                                 4.0.2"
INTEL = "Intel(R) MPI Library for Linux* OS, Version 2021.8"


def _argv(launcher: str, **fields: Any) -> tuple[str, ...]:
    launch = launch_for(describe(["/bin/prog", "x"], launcher=launcher, **fields))
    assert launch is not None
    return launch.argv


# What they say -------------------------------------------------------------------------------------------------------


def test_there_are_six() -> None:
    assert launcher_names() == ("aprun", "jsrun", "mpirun", "multiple", "single", "srun")


def test_argv_of_each() -> None:
    assert launch_for(describe(["x"])) is None
    assert _argv("mpirun", processes=4) == ("mpirun", MPI, "-n", "4", OPTIONS, COMMAND)
    assert _argv("srun") == ("srun", "--ntasks=1", OPTIONS, COMMAND)
    assert _argv("srun", nodes=2, processes_per_node=3, cores=4) == (
        *("srun", "--ntasks=6", "--nodes=2", "--ntasks-per-node=3", "--cpus-per-task=4"),
        *(OPTIONS, COMMAND),
    )
    assert _argv("jsrun", processes=8) == ("jsrun", "--np=8", OPTIONS, COMMAND)
    assert _argv("jsrun", nodes=2, processes_per_node=3, cores=7, gpus=1) == (
        *("jsrun", "--nrs=6", "--tasks_per_rs=1", "--cpu_per_rs=7", "--gpu_per_rs=1", "--rs_per_host=3"),
        *(OPTIONS, COMMAND),
    )
    assert _argv("aprun", processes=8, processes_per_node=4, cores=2) == (
        *("aprun", "-n", "8", "-N", "4", "-d", "2"),
        *(OPTIONS, COMMAND),
    )


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(InvalidJob, match=r"'mpiexec'.*aprun, jsrun, mpirun, multiple, single, srun") as caught:
        launch_data(describe(["x"], launcher="mpiexec"))
    assert caught.value.field == "launcher"


def test_what_a_launcher_would_misread_is_refused() -> None:
    with pytest.raises(InvalidJob, match="takes no options"):
        launch_data(describe(["x"], launcher_options=["-v"]))
    with pytest.raises(InvalidJob, match=r"write \./-prog"):
        launch_data(describe(["-prog"], launcher="srun"))


@pytest.fixture
def registry() -> Iterator[None]:
    saved = dict(launchers._LAUNCHERS)
    yield
    launchers._LAUNCHERS.clear()
    launchers._LAUNCHERS.update(saved)


@pytest.mark.usefixtures("registry")
def test_others_can_be_added(rig: Rig) -> None:
    job = describe(["a"], launcher="ibrun")
    with pytest.raises(InvalidJob, match="ibrun"):
        check_capabilities("x", Capabilities(), job, kind=Kind.SINGLE, tasks=1, max_running=None)
    register_launcher("ibrun", lambda job: Launch(argv=("/usr/bin/env", "ADDED=1", COMMAND)))
    assert "ibrun" in launcher_names()
    check_capabilities("x", Capabilities(), job, kind=Kind.SINGLE, tasks=1, max_running=None)
    run = rig.sh("echo $ADDED", launcher="ibrun")
    assert run.stdout() == b"1\n"
    with pytest.raises(ValueError, match="needs a name"):
        register_launcher("", lambda job: None)


# What they run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "per_node", "added"),
    [
        (OPEN_MPI_4, None, ["--oversubscribe"]),
        (OPEN_MPI_4, 2, ["--oversubscribe", "--map-by", "ppr:2:node"]),
        (OPEN_MPI_5, None, ["--map-by", ":OVERSUBSCRIBE"]),
        (OPEN_MPI_5, 2, ["--map-by", "ppr:2:node:OVERSUBSCRIBE"]),
        ("mpirun (Open MPI) 10.0.0rc1", None, ["--map-by", ":OVERSUBSCRIBE"]),
        (HYDRA, None, []),
        (HYDRA, 2, ["-ppn", "2"]),
        (INTEL, 2, ["-ppn", "2"]),
        ("something else", 2, []),
    ],
)
def test_mpirun_is_asked_which_it_is(rig: Rig, version: str, per_node: int | None, added: list[str]) -> None:
    record = install(rig.folder / "bin", "mpirun", version)
    run = rig.sh(
        "exit 6",
        launcher="mpirun",
        processes=4,
        processes_per_node=per_node,
        launcher_options=["--tag", "a b"],
        environment={"PATH": f"{rig.folder}/bin:/usr/bin:/bin"},
    )
    assert recorded(record) == [*added, "-n", "4", "--tag", "a b", "/bin/sh", "-c", "exit 6"]
    assert run.code == 6


def test_a_mapping_of_the_users_is_left_alone(rig: Rig) -> None:
    record = install(rig.folder / "bin", "mpirun", OPEN_MPI_5)
    environment = {"PATH": f"{rig.folder}/bin:/usr/bin:/bin"}
    rig.sh("exit 0", launcher="mpirun", launcher_options=["--map-by", "core"], environment=environment)
    assert recorded(record)[:4] == ["-n", "1", "--map-by", "core"]


@pytest.mark.parametrize("name", ["srun", "jsrun", "aprun"])
def test_launchers_of_schedulers(rig: Rig, name: str) -> None:
    record = install(rig.folder / "bin", name)
    hostile = ["$HOME", "a b", "", "'\"", "\n"]
    run = rig.run(
        ["/bin/sh", "-c", 'printf "%s\\0" "$@"; kill -USR1 $$', "-", *hostile],
        launcher=name,
        processes=2,
        launcher_options=["-x"],
        environment={"PATH": f"{rig.folder}/bin:/usr/bin:/bin"},
    )
    assert recorded(record)[-len(hostile) - 5 :][0] == "-x"
    assert run.stdout() == "".join(word + "\0" for word in hostile).encode()
    assert run.end.ending is not None
    assert run.end.ending.signal == "SIGUSR1"


def test_a_missing_launcher(rig: Rig) -> None:
    for name in ("mpirun", "srun"):
        run = rig.sh("exit 0", launcher=name, environment={"PATH": "/nowhere"})
        assert run.end.ending is not None
        assert (run.end.ending.cause, run.code) == (Cause.NOT_STARTED, 127)
        assert f"'{name}': not found on PATH" in run.end.ending.message


def test_launched_jobs_keep_the_schedulers_variables(rig: Rig) -> None:
    """Whatever they inherit: no launcher works without."""
    install(rig.folder / "bin", "srun")
    placed = rig.place(
        ["/bin/sh", "-c", "echo $SLURM_JOB_ID $OTHER"],
        launcher="srun",
        inherit="none",
        environment={"PATH": f"{rig.folder}/bin:/usr/bin:/bin"},
    )
    assert placed.run(env={"SLURM_JOB_ID": "5", "OTHER": "x"}).stdout() == b"5\n"


def test_real_mpirun(rig: Rig) -> None:
    if shutil.which("mpirun") is None:
        pytest.skip("there is no mpirun here; get one with: apt install openmpi-bin")
    run = rig.run(
        ["/bin/sh", "-c", "echo rank ${OMPI_COMM_WORLD_RANK-$PMI_RANK} of ${OMPI_COMM_WORLD_SIZE-$PMI_SIZE}; exit 7"],
        launcher="mpirun",
        processes=3,
        environment={"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_btl": "self,vader"},
    )
    assert run.end.ending is not None
    assert run.end.ending.exit_code == 7, run.stdout("stderr")
    lines = run.stdout().split(b"\n")
    assert set(lines) <= {b"rank 0 of 3", b"rank 1 of 3", b"rank 2 of 3", b""}
    assert b"rank" in run.stdout()


def test_real_mpirun_loses_no_output(rig: Rig) -> None:
    if shutil.which("mpirun") is None:
        pytest.skip("there is no mpirun here; get one with: apt install openmpi-bin")
    run = rig.run(
        ["/bin/sh", "-c", "seq 1 20000"],
        launcher="mpirun",
        processes=2,
        environment={"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"},
    )
    assert run.code == 0, run.stdout("stderr")
    one = "".join(f"{number}\n" for number in range(1, 20001)).encode()
    assert Counter(run.stdout()) == Counter(one * 2), "mpirun mixes lines of two processes, but drops nothing"


# Several copies ------------------------------------------------------------------------------------------------------


def test_copies_know_who_they_are(rig: Rig) -> None:
    run = rig.sh("echo $JOBYARD_PROCESS_INDEX of $JOBYARD_PROCESS_COUNT; echo e >&2", launcher="multiple", processes=4)
    assert sorted(run.stdout().splitlines()) == [b"0 of 4", b"1 of 4", b"2 of 4", b"3 of 4"]
    assert run.stdout("stderr") == b"e\n" * 4
    assert run.kinds == ["begin", "end"]


def test_the_first_copy_that_failed_decides(rig: Rig) -> None:
    text = "case $JOBYARD_PROCESS_INDEX in 0) ;; 1) sleep 0.1; exit 5 ;; 2) exit 6 ;; 3) kill -KILL $$ ;; esac"
    run = rig.sh(text, launcher="multiple", processes=4)
    assert run.code == 5
    run = rig.sh("[ $JOBYARD_PROCESS_INDEX != 2 ] || kill -SEGV $$", launcher="multiple", processes=3)
    assert run.code == -signal.SIGSEGV


def test_copies_do_not_overwrite_each_other(rig: Rig) -> None:
    (rig.home / "out").write_text("old\n")
    for _ in range(3):
        rig.sh("seq 1 2000", launcher="multiple", processes=3, stdout="out")
        assert (rig.home / "out").read_text().count("\n") == 6000
    rig.sh("echo more", launcher="multiple", processes=2, stdout="out", append_streams=True)
    assert (rig.home / "out").read_text().count("\n") == 6002


def test_the_usage_of_copies_is_taken_together(rig: Rig) -> None:
    run = rig.run([sys.executable, "-c", "[i * i for i in range(500_000)]"], launcher="multiple", processes=2)
    alone = rig.run([sys.executable, "-c", "[i * i for i in range(500_000)]"])
    together, one = run.end.ending, alone.end.ending
    assert together is not None
    assert one is not None
    assert together.usage.minor_faults is not None
    assert one.usage.minor_faults is not None
    assert together.usage.minor_faults > 1.5 * one.usage.minor_faults


def test_copies_that_do_not_start(rig: Rig) -> None:
    run = rig.run(["/nowhere"], launcher="multiple", processes=3)
    assert run.code == 127


def test_copies_in_a_group_of_their_own(rig: Rig) -> None:
    traits = Traits(native_id_variables=("RIG_ID",), own_group=True)
    text = "trap 'exit 7' TERM; : > ready$JOBYARD_PROCESS_INDEX; while :; do sleep 0.01; done"
    placed = rig.place(["/bin/sh", "-c", text], traits=traits, launcher="multiple", processes=3)
    process = placed.start()
    eventually(lambda: len(list(rig.home.glob("ready*"))) == 3)
    os.kill(process.pid, signal.SIGTERM)
    assert placed.finish(process).code == 7


# Scripts around ------------------------------------------------------------------------------------------------------


def _script(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def _around(rig: Rig, text: str, pre: str | None = None, post: str | None = None, **fields: Any) -> Run:
    odd = rig.folder / 'it\'s $a "place"'
    odd.mkdir(exist_ok=True)
    if pre is not None:
        fields["pre_launch"] = _script(odd / "pre; `touch x`.sh", pre)
    if post is not None:
        fields["post_launch"] = _script(odd / "post.sh", post)
    return rig.sh(text, **fields)


def test_what_the_first_script_exports_reaches_the_command_and_the_second(rig: Rig) -> None:
    run = _around(
        rig,
        'echo "$FROM_PRE"; echo err >&2; cat; exit 3',
        pre="read x; echo pre; echo pre >&2; export FROM_PRE='a b'\nunexported=1",
        post='echo "post $FROM_PRE $unexported" > post',
        stdin="/etc/hostname",
    )
    assert run.code == 3
    assert run.stdout() == b"a b\n" + Path("/etc/hostname").read_bytes(), "the scripts' output is not the job's"
    assert run.stdout("stderr") == b"err\n"
    assert run.stdout("launch.0.log") == b"pre\npre\n"
    assert (rig.home / "post").read_text() == "post a b 1\n"
    assert not (rig.home / "x").exists()
    assert not [name for name in os.listdir(run.folder) if name.startswith(".")]


def test_functions_and_places_of_the_first_script(rig: Rig) -> None:
    if not os.path.exists("/bin/bash"):
        pytest.skip("functions are exported by bash; get it with: apt install bash")
    (rig.home / "sub").mkdir()
    run = rig.run(
        ["/bin/bash", "-c", "f 1; pwd"],
        pre_launch=_script(rig.home / "pre.sh", "f() { echo f $1; }; export -f f; cd sub; set -- x y"),
        stdout="out",
    )
    assert run.code == 0
    assert (rig.home / "out").read_text() == f"f 1\n{rig.home}/sub\n"


@pytest.mark.parametrize("ending", ["exit 137", "kill -KILL $$", "kill -SEGV $$", "exit 0"])
def test_the_ending_is_exact_behind_a_shell(rig: Rig, ending: str) -> None:
    run = _around(rig, f"ulimit -c 0; {ending}", pre="true", post="true")
    alone = rig.sh(f"ulimit -c 0; {ending}")
    assert run.end.ending is not None
    assert alone.end.ending is not None
    assert (run.code, run.end.ending.exit_code, run.end.ending.signal) == (
        alone.code,
        alone.end.ending.exit_code,
        alone.end.ending.signal,
    )
    assert run.end.clean is alone.end.clean


@pytest.mark.parametrize(
    ("pre", "said"),
    [
        ("echo broken >&2; false", "exited with 1: broken"),
        ("exit 5", "exited with 5"),
        ("exit 0", "exited with 0"),
        ("kill -KILL $$", "was ended by signal 9"),
        ("if", "syntax error"),
    ],
)
def test_a_first_script_that_fails(rig: Rig, pre: str, said: str) -> None:
    run = _around(rig, "touch ran", pre=pre)
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.aborted, run.code) == (Cause.LAUNCH_SCRIPT, True, 125)
    assert "pre-launch script" in ending.message
    assert said in ending.message
    assert not (rig.home / "ran").exists()


def test_a_second_script_that_fails(rig: Rig) -> None:
    run = _around(rig, "exit 0", post="echo oh no; false")
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.exit_code, ending.success, run.code) == (Cause.LAUNCH_SCRIPT, 0, False, 125)
    assert "post-launch script" in ending.message
    assert "oh no" in ending.message
    run = _around(rig, "exit 4", post="false")
    assert run.end.ending is not None
    assert (run.code, run.end.ending.cause) == (4, Cause.EXITED)


def test_missing_scripts(rig: Rig) -> None:
    for field in ("pre_launch", "post_launch"):
        run = rig.sh("touch ran", **{field: "/nowhere/script"})
        assert run.end.ending is not None
        assert run.end.ending.cause is Cause.LAUNCH_SCRIPT
        assert "'/nowhere/script': No such file" in run.end.ending.message
    assert not (rig.home / "ran").exists()


def test_what_does_not_start_behind_a_shell(rig: Rig) -> None:
    run = rig.run(["/nowhere/program"], pre_launch=_script(rig.home / "pre", "true"))
    assert run.end.ending is not None
    assert (run.end.ending.cause, run.code) == (Cause.NOT_STARTED, 127)
    assert "'/nowhere/program'" in run.end.ending.message
    run = rig.run(["true"], pre_launch=_script(rig.home / "pre", "true"), stdin="missing")
    assert run.end.ending is not None
    assert "stdin" in run.end.ending.message


def test_hostile_bytes_behind_a_shell(rig: Rig) -> None:
    words = ["", " ", "'", "$(touch hacked)", "\n", "\udcff", "-n", "x" * 100_000]
    environment = {"A": "a\nb", "B": "$(touch hacked)", "\u00e9": "\udcff", "p%q": "1"}
    run = rig.run(
        ["/bin/sh", "-c", "cat /proc/$$/cmdline > argv; cat /proc/$$/environ > environment", "-", *words],
        environment=environment,
        pre_launch=_script(rig.home / "pre", "true"),
    )
    assert run.code == 0
    assert (rig.home / "argv").read_bytes().split(b"\0")[4:-1] == [os.fsencode(word) for word in words]
    seen = dict(item.split(b"=", 1) for item in (rig.home / "environment").read_bytes().split(b"\0") if item)
    assert {key: seen.get(os.fsencode(key)) for key in ("A", "B")} == {"A": b"a\nb", "B": b"$(touch hacked)"}
    assert not (rig.home / "hacked").exists()


def test_term_behind_a_shell(rig: Rig) -> None:
    """The shell lives through it, waits for a command that ends in its own time, and runs the second script."""
    text = "trap 'sleep 0.2; exit 7' TERM; : > ready; while :; do sleep 0.01; done"
    placed = rig.place(
        ["/bin/sh", "-c", text],
        pre_launch=_script(rig.home / "pre", "true"),
        post_launch=_script(rig.home / "post.sh", "touch post"),
    )
    process = placed.start()
    eventually((rig.home / "ready").exists)
    os.killpg(process.pid, signal.SIGTERM)
    run = placed.finish(process)
    assert run.end.ending is not None
    assert (run.code, run.end.ending.exit_code, run.end.signals, run.end.clean) == (7, 7, ("SIGTERM",), False)
    assert (rig.home / "post").exists()


def test_what_stands_between_the_scripts_is_killed(rig: Rig) -> None:
    """No script is blamed, and nobody makes up how the command ended."""
    run = _around(rig, "kill -KILL $PPID", pre="yes long line | head -c 100000")
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.exit_code, ending.signal, run.code) == (Cause.SHEPHERD, None, None, 125)
    assert "was killed" in ending.message
    assert (ending.aborted, run.end.clean) == (False, False)


@pytest.mark.parametrize("setting", ["set -e", "set -u", "set -eu", "IFS=/", "set -a", "cd /", "exec >/dev/null", "trap - TERM"])
def test_what_a_first_script_sets(rig: Rig, setting: str) -> None:
    assert (
        _around(rig, "exit 3", pre=setting, post='touch "$HOME_OF_TEST/post"', environment={"HOME_OF_TEST": str(rig.home)}).code
        == 3
    )
    assert (rig.home / "post").exists()


def test_several_copies_behind_a_shell(rig: Rig) -> None:
    run = _around(
        rig, "echo $X$JOBYARD_PROCESS_INDEX; exit $JOBYARD_PROCESS_INDEX", pre="export X=x", launcher="multiple", processes=3
    )
    assert sorted(run.stdout().split()) == [b"x0", b"x1", b"x2"]
    assert run.code == 1


def test_mpirun_may_come_from_the_first_script(rig: Rig) -> None:
    record = install(rig.folder / "bin", "mpirun", OPEN_MPI_4)
    run = _around(rig, "exit 2", pre=f"PATH={rig.folder}/bin:$PATH", launcher="mpirun", processes=2)
    assert run.code == 2
    assert recorded(record)[0] == "--oversubscribe"


# Hosts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "processes", "hosts"),
    [
        ({}, 3, "here here here"),
        ({"SLURM_JOB_NODELIST": "node1", "SLURM_TASKS_PER_NODE": "4"}, 4, "node1 node1 node1 node1"),
        ({"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_TASKS_PER_NODE": "2(x2)"}, 4, "node1 node1 node2 node2"),
        ({"SLURM_JOB_NODELIST": "n[1-2,09-10],gpu3", "SLURM_TASKS_PER_NODE": "2,1(x4)"}, 6, "n1 n1 n2 n09 n10 gpu3"),
        ({"SLURM_JOB_NODELIST": "r[1-2]n[3,5]-ib", "SLURM_TASKS_PER_NODE": "1(x4)"}, 4, "r1n3-ib r1n5-ib r2n3-ib r2n5-ib"),
        ({"SLURM_JOB_NODELIST": "a,b"}, 2, "a b"),
        ({"SLURM_JOB_NODELIST": "a,b", "SLURM_TASKS_PER_NODE": "1,1"}, 5, "a a a b b"),
        ({"PE_HOSTFILE": "one.site 2 all.q@one.site UNDEFINED\ntwo 1 all.q@two UNDEFINED\n"}, 3, "one.site one.site two"),
        ({"PE_HOSTFILE": "one 4 all.q@one UNDEFINED\ntwo 4 all.q@two UNDEFINED\n"}, 2, "one two"),
        ({"PBS_NODEFILE": "x\nx\ny\n"}, 3, "x x y"),
        ({"OAR_NODEFILE": "x\ny\n"}, 2, "x y"),
        ({"PBS_NODEFILE": None}, 1, "here"),
        ({"PE_HOSTFILE": "one\n"}, 1, "here"),
        ({"SLURM_JOB_NODELIST": "n[1-x]"}, 2, "here here"),
        ({"SLURM_JOB_NODELIST": "n1", "SLURM_TASKS_PER_NODE": "many"}, 1, "here"),
    ],
)
def test_a_host_for_each_process(own: dict[str, str | None], processes: int, hosts: str, tmp_path: Path) -> None:
    given = {}
    for name, text in own.items():
        if name.endswith("FILE"):
            path = tmp_path / name
            if text is not None:
                path.write_text(text)
            text = str(path)
        given[name.encode()] = os.fsencode(text or "")
    assert hosts_of(given, processes, b"here") == hosts.encode().split()


def test_the_command_finds_its_hosts_in_a_file(rig: Rig) -> None:
    run = rig.sh(
        '[ $JOBYARD_PROCESS_INDEX != 0 ] || cat "$JOBYARD_HOST_FILE"; echo $PSIJ_NODEFILE', launcher="multiple", processes=3
    )
    here = os.uname().nodename.encode()
    lines = run.stdout().splitlines()
    assert lines.count(here) == 3
    assert len({line for line in lines if line != here}) == 1
    own = rig.sh("echo $PSIJ_NODEFILE", launcher="multiple", processes=1, environment={"PSIJ_NODEFILE": "mine"})
    assert own.stdout() == b"mine\n"
