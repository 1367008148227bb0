"""Arguments, environment and streams reach the command byte for byte; ids and indices are told as promised."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobyard.job import Placeholder
from jobyard.node.shepherd import SCHEDULER_VARIABLES
from jobyard.schedulers.base import Kind, Traits
from node.rig import NODE, TRAITS, Placed, Rig

SHOW = "cat /proc/$$/cmdline > argv; cat /proc/$$/environ > environment"
HOSTILE = [
    *("", " ", "a b", "'", '"', "$HOME", "`id`", "\\", "\n", "a\nb\n", "\t", "*", "~", "#", "-n", "--", "=", "a=b", ";", "&&", "|"),
    *("%s", "{}", "\0".join([]), "é", "日本", "\udcff\udc80", "x" * 100_000, "!", "$(touch hacked)", "\x1b[31m", "\x7f"),
]
_TEXT = st.binary(max_size=40).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
_NAME = _TEXT.filter(lambda text: text and "=" not in text and not text.startswith("JOBYARD_") and text != "PWD")


def _environment(rig: Rig) -> dict[bytes, bytes]:
    found = (rig.home / "environment").read_bytes()
    return dict(item.split(b"=", 1) for item in found.split(b"\0") if item)


def _ids(placed: Placed) -> dict[bytes, bytes]:
    return {b"JOBYARD_JOB_ID": placed.token.encode(), b"JOBYARD_NATIVE_ID": b"17"}


def _show(rig: Rig, *, env: dict[str, str] | None = None, argument: str | None = None, **fields: Any) -> dict[bytes, bytes]:
    run = rig.place(["/bin/sh", "-c", SHOW], **fields).run(env=env, argument=argument)
    assert run.code == 0, run.receipts
    return _environment(rig)


# Bytes ---------------------------------------------------------------------------------------------------------------


def test_hostile_arguments(rig: Rig) -> None:
    run = rig.run(["/bin/sh", "-c", SHOW, *HOSTILE])
    assert run.code == 0
    assert (rig.home / "argv").read_bytes().split(b"\0")[3:-1] == [os.fsencode(word) for word in HOSTILE]
    assert not (rig.home / "hacked").exists()


def test_hostile_environment(rig: Rig) -> None:
    given_ = {f"V{number}": value for number, value in enumerate(HOSTILE)}
    given_ |= {"with space": "1", "p%q": "2", "é": "3", "\udcfe": "4", "9": "5", "a-b": "6", "BASH_FUNC_x%%": "() { echo x; }"}
    placed = rig.place(["/bin/sh", "-c", SHOW], environment=given_, inherit="none")
    assert placed.run().code == 0
    expected = {os.fsencode(key): os.fsencode(value) for key, value in given_.items()}
    assert _environment(rig) == {**expected, **_ids(placed)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(_TEXT, max_size=6), environment=st.dictionaries(_NAME, _TEXT, max_size=6), captured=st.dictionaries(_NAME, _TEXT)
)
def test_any_bytes(one_rig: Rig, words: list[str], environment: dict[str, str], captured: dict[str, str]) -> None:
    # PATH: the script that shows what it got finds its programs by it.
    captured = {
        key: value for key, value in captured.items() if not os.fsencode(key).startswith(SCHEDULER_VARIABLES) and key != "PATH"
    }
    environment = {key: value for key, value in environment.items() if key != "PATH"}
    command = ["/bin/sh", "-c", SHOW, *words]
    placed = one_rig.place(command, environment=environment, inherit="client", environment_base=captured)
    assert placed.run().code == 0
    assert (one_rig.home / "argv").read_bytes().split(b"\0")[3:-1] == [os.fsencode(word) for word in words]
    expected = {**NODE, "RIG_ID": "17", **captured, **environment}
    seen = _environment(one_rig)
    assert seen.pop(b"PWD", None) in (None, os.fsencode(one_rig.home))
    for name in (b"OLDPWD", b"SHLVL", b"_"):  # what the shell of run.sh leaves, where it is bash
        if os.fsdecode(name) not in expected:
            seen.pop(name, None)
    assert seen == {**{os.fsencode(k): os.fsencode(v) for k, v in expected.items()}, **_ids(placed)}


def test_names_with_any_bytes(rig: Rig) -> None:
    odd = "a 'b' \"c\" $d `e`\n\udcff"
    folder = rig.home / odd
    folder.mkdir()
    (folder / odd).write_bytes(b"in")
    program = folder / "program"
    program.write_text("#!/bin/sh\ncat; echo err >&2\n")
    program.chmod(0o755)
    run = rig.run([str(program)], directory=str(folder), stdin=odd, stdout=f"out{odd}", stderr=f"err{odd}")
    assert run.code == 0
    assert (folder / f"out{odd}").read_bytes() == b"in"
    assert (folder / f"err{odd}").read_bytes() == b"err\n"


# What it inherits ----------------------------------------------------------------------------------------------------


def test_none_is_nothing(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", "/usr/bin/env -0 > environment"], inherit="none", environment={"A": "1"})
    placed.run()
    assert set(_environment(rig)) - {b"PWD", b"_", b"SHLVL", b"OLDPWD"} == {b"A", *_ids(placed)}


def test_node_is_completed_where_the_scheduler_gives_nothing(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", SHOW], inherit="node")
    process = placed.start()
    placed.finish(process)
    assert {key: _environment(rig)[os.fsencode(key)].decode() for key in NODE} == NODE
    import subprocess

    placed = rig.place(["/bin/sh", "-c", SHOW], inherit="node")
    subprocess.run([str(placed.folder / "run.sh")], env={"RIG_ID": "17"}, check=True)
    seen = _environment(rig)
    import pwd

    me = pwd.getpwuid(os.getuid())
    assert seen[b"HOME"].decode() == me.pw_dir
    assert seen[b"USER"].decode() == seen[b"LOGNAME"].decode() == me.pw_name
    assert seen[b"SHELL"]
    assert b"/usr/bin" in seen[b"PATH"]
    assert b"LC_CTYPE" not in seen, "Python's own addition"


def test_client_is_captured(rig: Rig) -> None:
    captured = {"PATH": "/mine:/bin", "HOME": "/home/mine", "SLURM_JOB_ID": "1", "PBS_JOBID": "2", "TMPDIR": "/mine/tmp", "X": "y"}
    seen = _show(
        rig,
        env={"SLURM_JOB_ID": "17", "TMPDIR": "/scratch/17", "NODE_OWN": "z", "X": "other"},
        inherit="client",
        environment_base=captured,
    )
    assert (seen[b"PATH"], seen[b"HOME"], seen[b"X"]) == (b"/mine:/bin", b"/home/mine", b"y")
    assert (seen[b"SLURM_JOB_ID"], seen[b"TMPDIR"], seen[b"NODE_OWN"]) == (b"17", b"/scratch/17", b"z")
    assert b"PBS_JOBID" not in seen, "the client's own job is not this one"


def test_client_as_the_scheduler_passes_it(rig: Rig) -> None:
    seen = _show(rig, env={"FROM_CLIENT": "1", "PWD": "/elsewhere"}, inherit="client")
    assert seen[b"FROM_CLIENT"] == b"1"
    assert seen[b"PWD"] == os.fsencode(rig.home)


def test_a_captured_environment_is_kept_only_for_those_who_inherit_it(one_rig: Rig) -> None:
    for inherit, kept in (("client", True), ("node", False), ("none", False)):
        placed = one_rig.place(["true"], inherit=inherit, environment_base={"SECRET": "hunter2"})
        assert (b"hunter2" in (placed.folder / "job.json").read_bytes()) is kept


# Ids and indices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inherit", ["node", "client", "none"])
def test_srun_in_a_job_passes_its_environment_on(rig: Rig, inherit: str) -> None:
    text = "env | grep ^SLURM_ | sort"
    own = {"SLURM_EXPORT_ENV": "NIL", "SLURM_JOB_ID": "3"}
    placed = rig.place(["/bin/sh", "-c", text], inherit=inherit, launcher="multiple", processes=1)
    assert placed.run(env=own).stdout() == b"SLURM_JOB_ID=3\n"


def test_ids_of_an_outer_job_are_replaced(rig: Rig) -> None:
    outer = {"JOBYARD_JOB_ID": "o", "JOBYARD_ARRAY_ID": "o", "JOBYARD_TASK_INDEX": "9", "JOBYARD_NATIVE_ID": "o"}
    seen = _show(rig, env=outer)
    assert seen[b"JOBYARD_NATIVE_ID"] == b"17"
    assert len(seen[b"JOBYARD_JOB_ID"]) == 32
    assert b"JOBYARD_ARRAY_ID" not in seen
    assert b"JOBYARD_TASK_INDEX" not in seen


@pytest.mark.parametrize("shown", [3, 5, 11])
def test_tasks_of_an_array(rig: Rig, shown: int) -> None:
    traits = Traits(
        native_id_variables=("RIG_ID",),
        index_variables=("RIG_INDEX",),
        task_id_template="{RIG_ARRAY}_{RIG_INDEX}",
        array_id_variables=("RIG_ARRAY",),
    )
    placed = rig.place(["/bin/sh", "-c", SHOW], kind=Kind.ARRAY, indices=[1, 3, 5, 10, 11, 12], traits=traits)
    run = placed.run("raw", env={"RIG_INDEX": str(shown), "RIG_ARRAY": "40"})
    seen = _environment(rig)
    number = [1, 3, 5, 10, 11, 12].index(shown)
    assert seen[b"JOBYARD_TASK_INDEX"] == seen[b"RIG_INDEX"] == str(shown).encode()
    assert seen[b"JOBYARD_ARRAY_ID"] == b"40"
    assert seen[b"JOBYARD_NATIVE_ID"] == f"40_{shown}".encode()
    assert seen[b"JOBYARD_JOB_ID"] == f"{placed.token}.{number}".encode()
    assert [(task, each.native_id) for task, each in run.receipts] == [(number, f"40_{shown}")] * 2
    assert (placed.folder / f"stdout.{shown}").exists()


def test_a_split_array_shows_the_users_index(rig: Rig) -> None:
    """Where positions are sent: the second task of indices 100, 110, ... is shown as 2 and is 110."""
    traits = Traits(native_id_variables=("RIG_ID",), index_variables=("RIG_INDEX",), positions=True, index_offset=1)
    placed = rig.place(["/bin/sh", "-c", SHOW], kind=Kind.ARRAY, indices=range(100, 200, 10), traits=traits)
    run = placed.run(env={"RIG_INDEX": "2"})
    seen = _environment(rig)
    assert seen[b"RIG_INDEX"] == seen[b"JOBYARD_TASK_INDEX"] == b"110"
    assert run.receipts[0][0] == 1


def test_the_index_may_be_an_argument(rig: Rig) -> None:
    traits = Traits(native_id_variables=("RIG_ID",), index_argument=True)
    placed = rig.place(["/bin/sh", "-c", SHOW], kind=Kind.ARRAY, indices=range(4), traits=traits)
    assert placed.run(argument="3").receipts[0][0] == 3
    assert _environment(rig)[b"JOBYARD_TASK_INDEX"] == b"3"


@pytest.mark.parametrize("shown", ["undefined", "", "0", "99", "x", None])
def test_an_index_that_is_none_of_the_jobs(rig: Rig, shown: str | None) -> None:
    placed = rig.place(["touch", "ran"], kind=Kind.ARRAY, indices=[1, 2])
    run = placed.run(env={} if shown is None else {"RIG_INDEX": shown})
    assert run.code == 125
    assert b"cannot begin" in run.err
    assert run.receipts == []
    assert not (rig.home / "ran").exists()


def test_like_jobs_are_jobs_of_their_own(rig: Rig) -> None:
    from jobyard.description import describe

    tasks = [
        describe(["/bin/sh", "-c", SHOW, "first"], directory=str(rig.home), environment={"N": "0"}),
        describe(
            ["/bin/sh", "-c", SHOW, "second\n"],
            directory=str(rig.home),
            environment={"N": "1", "é": "\udcff"},
            stdin="/etc/hostname",
        ),
        describe(["/bin/sh", "-c", SHOW, "third"], directory=str(rig.home)),
    ]
    placed = rig.place(tasks[0], kind=Kind.LIKE, indices=range(3), tasks=tasks)
    for number in (2, 0, 1):
        run = placed.run(env={"RIG_INDEX": str(number), "RIGGED": "x", "RIGGED_NOT": "y"})
        assert [task for task, _ in run.receipts].count(number) == 2
        argv = (rig.home / "argv").read_bytes().split(b"\0")
        assert argv[3:-1] == [os.fsencode(tasks[number].argv[3])]
        seen = _environment(rig)
        assert not [name for name in seen if name.startswith(b"RIG_") or name == b"RIGGED"], "the scheduler's array shows"
        assert seen[b"RIGGED_NOT"] == b"y"
        assert b"JOBYARD_TASK_INDEX" not in seen
        assert seen[b"JOBYARD_JOB_ID"] == f"{placed.token}.{number}".encode()
        assert (placed.folder / f"stdout.{number}").exists()
        assert seen.get(b"N") == ([b"0", b"1", None])[number]


# Streams, directory, limits ------------------------------------------------------------------------------------------


def test_streams_are_kept_in_the_folder(rig: Rig) -> None:
    run = rig.sh("echo out; echo err >&2; cat")
    assert (run.stdout(), run.stdout("stderr")) == (b"out\n", b"err\n")
    for name in ("stdout", "stderr", "job.json", "claim.0", "receipt.0.1.end.json"):
        assert (run.folder / name).stat().st_mode & 0o777 == 0o600


def test_files_of_the_users_follow_the_umask(rig: Rig) -> None:
    placed = rig.place(["/bin/sh", "-c", "umask; echo x"], stdout="out", stderr="err")
    placed.run(umask=0o027)
    assert (rig.home / "out").read_bytes() == b"0027\nx\n"
    assert (rig.home / "out").stat().st_mode & 0o777 == 0o640


def test_joined_streams_and_the_same_path_keep_their_order(rig: Rig) -> None:
    text = "echo 1; echo 2 >&2; echo 3"
    assert rig.sh(text, join_streams=True).stdout() == b"1\n2\n3\n"
    rig.sh(text, stdout="both", join_streams=True)
    assert (rig.home / "both").read_bytes() == b"1\n2\n3\n"
    rig.sh(text, stdout="same", stderr=f"{rig.home}/./same")
    assert (rig.home / "same").read_bytes() == b"1\n2\n3\n"


def test_append(rig: Rig) -> None:
    (rig.home / "out").write_text("before\n")
    rig.sh("echo 1", stdout="out", append_streams=True)
    rig.sh("echo 2", stdout="out", append_streams=True)
    assert (rig.home / "out").read_bytes() == b"before\n1\n2\n"
    rig.sh("echo 3", stdout="out")
    assert (rig.home / "out").read_bytes() == b"3\n"


def test_unset_stdin_is_empty(rig: Rig) -> None:
    placed = rig.place(["cat"])
    process = placed.start(stdin=-1)
    assert process.stdin is not None
    run = placed.finish(process)
    assert run.stdout() == b""


def test_placeholders(rig: Rig) -> None:
    traits = Traits(native_id_variables=("RIG_ID",), index_variables=("RIG_INDEX",), array_id_variables=("RIG_ARRAY",))
    placed = rig.place(
        ["/bin/sh", "-c", "pwd; echo e >&2"],
        kind=Kind.ARRAY,
        indices=[4],
        traits=traits,
        directory=Placeholder.HOME + "/sub",
        stdout=f"{Placeholder.DIRECTORY}/name.o{Placeholder.NATIVE_ID}.{Placeholder.INDEX}",
        stderr=f"{Placeholder.HOME}/e{Placeholder.INDEX}",
    )
    (rig.home / "sub").mkdir()
    placed.run("17.4", env={"HOME": str(rig.home), "RIG_INDEX": "4", "RIG_ARRAY": "17"})
    assert (rig.home / "sub" / "name.o17.4").read_text() == f"{rig.home}/sub\n"
    assert (rig.home / "e4").read_text() == "e\n"


def test_a_job_without_directory_has_one_in_its_folder(rig: Rig) -> None:
    run = rig.sh("pwd", directory=None)
    assert run.stdout().decode() == f"{run.folder}/work\n"
    assert (run.folder / "work").stat().st_mode & 0o777 == 0o700
    placed = rig.place(["/bin/sh", "-c", "pwd"], kind=Kind.ARRAY, indices=[4, 8], directory=None)
    run = placed.run(env={"RIG_INDEX": "8"})
    assert run.stdout("stdout.8").decode() == f"{run.folder}/work.8\n"


def test_relative_commands_are_found_from_the_jobs_directory(rig: Rig) -> None:
    program = rig.home / "program"
    program.write_text("#!/bin/sh\necho $0\n")
    program.chmod(0o755)
    assert rig.run(["./program"]).stdout() == b"./program\n"
    assert rig.run(["program"], environment={"PATH": f"/nowhere::{'/bin'}"}).code == 0
    (rig.home / "sub").mkdir()
    os.rename(program, rig.home / "sub" / "program")
    assert rig.run(["program"], environment={"PATH": f"/bin:{rig.home}/sub"}).stdout() == f"{rig.home}/sub/program\n".encode()


def test_limits(rig: Rig) -> None:
    script = "ulimit -H -c; ulimit -S -c; ulimit -H -f; ulimit -H -n; ulimit -H -s; ulimit -H -t; ulimit -S -t"
    run = rig.sh(script, core_size=0, file_size="1MiB", open_files=64, stack_size="1MiB", cpu_time=90)
    assert run.stdout().split() == [b"0", b"0", b"2048", b"64", b"1024", b"92", b"90"]


def test_cpu_time_is_a_cause(rig: Rig) -> None:
    run = rig.sh("ulimit -c 0; while :; do :; done", cpu_time=1)
    assert run.end.ending is not None
    assert (run.end.ending.signal, run.end.ending.cause.value) == ("SIGXCPU", "cpu_time")
    assert not run.end.clean


def test_the_environment_may_be_large(rig: Rig) -> None:
    values = {f"V{number}": "x" * 100_000 for number in range(8)}
    if resource.getrlimit(resource.RLIMIT_STACK)[0] not in (resource.RLIM_INFINITY, 8 << 20):
        pytest.skip("a small stack limits the environment here; raise it (ulimit -s 8192)")
    seen = _show(rig, inherit="client", environment_base=values)
    assert {key: seen[key.encode()] for key in values} == {key: value.encode() for key, value in values.items()}


def test_the_traits_of_the_rig_are_those_that_the_tests_speak_of() -> None:
    assert TRAITS.variables == ("RIG_", "RIGGED")
    assert Path("/proc/self/environ").exists()


@pytest.mark.parametrize(("native_id", "array_id"), [("7[2].srv", "7[].srv"), ("7.srv", "7.srv")])
def test_the_id_of_an_array_by_its_brackets(rig: Rig, native_id: str, array_id: str) -> None:
    """Torque tells a task its own id alone."""
    traits = Traits(native_id_variables=("RIG_ID",), index_variables=("RIG_INDEX",), array_id_brackets=True)
    placed = rig.place(["/bin/sh", "-c", 'echo "$JOBYARD_ARRAY_ID"'], kind=Kind.ARRAY, indices=[2, 3], traits=traits)
    assert placed.run(native_id, env={"RIG_INDEX": "2"}).stdout("stdout.2").decode() == f"{array_id}\n"


@pytest.mark.parametrize(
    ("shown", "native_id"), [("ƒD1D5jb5", "456961032192"), ("fTw9GFNo", "1025322778624"), ("1025322778624", "1025322778624")]
)
def test_the_id_that_flux_writes_in_base_58(rig: Rig, shown: str, native_id: str) -> None:
    """The recordings of Flux hold both forms of these."""
    traits = Traits(native_id_variables=("RIG_ID",), native_id_base58=True)
    placed = rig.place(["/bin/sh", "-c", 'echo "$JOBYARD_NATIVE_ID"'], traits=traits)
    assert placed.run(shown).stdout().decode() == f"{native_id}\n"


@pytest.mark.parametrize(("shown", "native_id"), [("0:949573.nqsv", "949573.nqsv"), ("7.nqsv", "7.nqsv")])
def test_the_id_behind_the_number_of_a_host(rig: Rig, shown: str, native_id: str) -> None:
    """NQSV's PBS_JOBID tells the job's number on its host, too."""
    traits = Traits(native_id_variables=("RIG_ID",), native_id_after=":")
    placed = rig.place(["/bin/sh", "-c", 'echo "$JOBYARD_NATIVE_ID"'], traits=traits)
    assert placed.run(shown).stdout().decode() == f"{native_id}\n"
