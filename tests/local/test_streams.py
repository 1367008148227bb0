"""Streams, environment, directories, placeholders; bytes arrive as they are."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobyard.job import Inherit, JobState, Placeholder
from jobyard.schedulers.base import Action
from jobyard.testing.polling import eventually
from local.rig import Rig

HOSTILE = b"".join(bytes([byte]) for byte in range(1, 256))
DUMP = "import os,sys; sys.stdout.buffer.write(b'\\0'.join(k+b'='+v for k,v in sorted(os.environb.items())))"


def environment(rig: Rig, **fields: object) -> dict[bytes, bytes]:
    job = rig.submit([sys.executable, "-I", "-S", "-c", DUMP], **fields)
    assert rig.wait(job).success
    pairs = [item.partition(b"=") for item in rig.output(job).split(b"\0")]
    return {key: value for key, _, value in pairs if key != b"LC_CTYPE"}  # which Python sets itself


def test_arguments_arrive_unchanged(rig: Rig) -> None:
    words = [b"", b" ", b"$HOME", b"`id`", b"a'b\"c\\", b"\n", b"*", b"--", b"=", HOSTILE, "ü€".encode()]
    script = "import os,sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    job = rig.submit([sys.executable, "-I", "-S", "-c", script, *words])
    assert rig.wait(job).success
    assert rig.output(job).split(b"\0") == words
    assert [os.fsencode(word) for word in rig.keeper.description(job.key).argv[5:]] == words


def test_environment_of_the_client(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_CLIENT", os.fsdecode(HOSTILE))
    seen = environment(rig, environment={"OWN": os.fsdecode(HOSTILE), "EMPTY": ""})
    assert seen[b"FROM_CLIENT"] == HOSTILE
    assert seen[b"OWN"] == HOSTILE
    assert seen[b"EMPTY"] == b""
    assert seen[b"PATH"] == os.environb[b"PATH"]
    monkeypatch.setenv("FROM_CLIENT", "changed")  # captured at each submission
    assert environment(rig)[b"FROM_CLIENT"] == b"changed"


def test_environment_of_the_node(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_CLIENT", "x")
    entry = pwd.getpwuid(os.getuid())
    seen = environment(rig, inherit=Inherit.NODE, environment={"OWN": "1"})
    assert set(seen) == {b"HOME", b"USER", b"LOGNAME", b"SHELL", b"PATH", b"OWN", b"JOBYARD_JOB_ID", b"JOBYARD_NATIVE_ID"}
    assert seen[b"HOME"] == os.fsencode(entry.pw_dir)
    assert seen[b"LOGNAME"] == seen[b"USER"] == os.fsencode(entry.pw_name)


def test_no_environment(rig: Rig) -> None:
    assert set(environment(rig, inherit=Inherit.NONE)) == {b"JOBYARD_JOB_ID", b"JOBYARD_NATIVE_ID"}


def test_the_starters_environment_does_not_leak(open_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_STARTER", "1")
    first = open_rig()
    assert first.run(["/bin/true"]).success
    monkeypatch.delenv("SECRET_OF_THE_STARTER")
    assert b"SECRET_OF_THE_STARTER" not in environment(open_rig())
    for pid in first.pair():
        assert b"SECRET_OF_THE_STARTER" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_hostile_names_of_files(rig: Rig, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(HOSTILE.replace(b"/", b"")[:200])
    folder.mkdir()
    source = folder / "in put'\n"
    source.write_bytes(HOSTILE)
    ending = rig.run(
        ["/bin/sh", "-c", "cat; pwd >&2"],
        directory=str(folder),
        stdin=str(source),
        stdout="out $x\n",
        stderr=str(folder / "err\udcff"),
    )
    assert ending.success, ending.message
    assert (folder / "out $x\n").read_bytes() == HOSTILE
    assert (folder / "err\udcff").read_bytes() == os.fsencode(folder) + b"\n"


def test_placeholders(rig: Rig, tmp_path: Path) -> None:
    tasks = rig.array(
        "echo out; echo err >&2",
        (3, 5),
        directory=str(tmp_path),
        stdout=f"{Placeholder.DIRECTORY}/{Placeholder.NATIVE_ID}.o.{Placeholder.INDEX}",
        stderr=f"e.{Placeholder.INDEX}",
    )
    rig.wait_all(tasks)
    array = str(tasks[0].native_id).partition("_")[0]
    for index, task in zip((3, 5), tasks, strict=True):
        assert (tmp_path / f"{array}.o.{index}").read_text() == "out\n"
        assert (tmp_path / f"e.{index}").read_text() == "err\n"
        assert rig.keeper.streams(task.key) == (str(tmp_path / f"{array}.o.{index}"), str(tmp_path / f"e.{index}"))


def test_truncate_append_join(rig: Rig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("old, and longer\n")
    rig.run("echo new", stdout=str(out))
    assert out.read_text() == "new\n"
    rig.run("echo more; echo error >&2", stdout=str(out), append_streams=True, join_streams=True)
    assert out.read_text() == "new\nmore\nerror\n"
    job = rig.submit("echo a; echo b >&2", join_streams=True)
    rig.wait(job)
    assert rig.output(job) == b"a\nb\n"
    assert rig.keeper.streams(job.key)[0] == rig.keeper.streams(job.key)[1]


def test_default_streams_are_kept_apart(rig: Rig) -> None:
    scripts = ["echo o", "echo e >&2", ":", "echo o; echo e >&2"] * 10
    jobs = rig.keeper.submit([rig.describe(script + f" #{n}") for n, script in enumerate(scripts)])
    rig.wait_all(jobs)
    for job, script in zip(jobs, scripts, strict=True):
        out, err = rig.keeper.streams(job.key)
        assert out is not None
        assert err is not None
        assert Path(out).read_text() == ("o\n" if "echo o" in script else "")
        assert Path(err).read_text() == ("e\n" if "echo e" in script else "")


def test_a_background_child_writes_into_its_own_jobs_file(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = rig.submit(f"(read x <{gate}; echo late) & exit 0")
    assert rig.wait(job).success
    others = [rig.submit("echo other") for _ in range(5)]
    rig.wait_all(others)
    path = rig.keeper.streams(job.key)[0]
    assert path is not None
    gate.write_text("\n")
    eventually(lambda: Path(path).read_text() == "late\n")
    assert all(rig.output(other) == b"other\n" for other in others)


def test_streams_of_a_running_job_stay_its_own(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = rig.submit(f"read x <{gate}")
    rig.until(job, JobState.RUNNING)
    path = rig.keeper.streams(job.key)[0]
    assert path is not None
    gate.write_text("\n")
    rig.wait(job)
    rig.run("echo other")  # would get the same file, had it not been asked for
    assert Path(path).read_bytes() == b""
    assert rig.keeper.streams(job.key)[0] == path


def test_no_file_is_made_for_a_silent_job(rig: Rig) -> None:
    rig.wait_all(rig.keeper.submit([rig.describe(["/bin/true"])] * 100))
    folder = rig.state_dir / "local"
    assert len(list((folder / "slots").iterdir())) <= 8
    assert not (folder / "streams").exists()


def test_a_fifo_blocks_only_its_own_job(rig: Rig, tmp_path: Path) -> None:
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    reader = rig.submit(["/bin/cat"], stdin=str(tmp_path / "in"), stdout=str(tmp_path / "got"))
    writer = rig.submit(["/bin/echo", "through"], stdout=str(tmp_path / "out"))
    assert rig.run(["/bin/true"], immediate=True).success
    assert (tmp_path / "out").read_text() == "through\n"
    (tmp_path / "in").write_text("text")
    assert rig.wait(reader).success
    assert rig.wait(writer).success
    assert (tmp_path / "got").read_text() == "text"


def test_what_a_job_starts_with(rig: Rig, tmp_path: Path) -> None:
    script = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')), os.getsid(0) == os.getpid())"
    job = rig.submit([sys.executable, "-I", "-S", "-c", script])
    assert rig.wait(job).success
    assert rig.output(job).decode().strip() == "[0, 1, 2, 3] True"  # 3: the listing itself
    shell = rig.submit("grep -E 'Sig(Ign|Blk)' /proc/self/status; readlink /proc/$$/fd/0")
    rig.wait(shell)
    _, blocked, _, ignored, stdin = rig.output(shell).decode().split()
    assert int(blocked, 16) == 0
    assert int(ignored, 16) & ~(3 << 31) == 0  # but for 32 and 33, which are the C library's own and which it ignores
    assert stdin == "/dev/null"


def test_umask_of_the_submitter(open_rig: Callable[..., Rig], tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        rig = open_rig()
    finally:
        os.umask(before)
    rig.run("touch made", directory=str(tmp_path), stdout=str(tmp_path / "out"))
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_commands_are_found_from_the_jobs_own_place(rig: Rig, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    for argv, fields in (
        (["./tool"], {}),
        (["tool"], {"environment": {"PATH": f"/nowhere:{tmp_path}"}}),
        (["tool"], {"environment": {"PATH": "/nowhere:."}}),
    ):
        job = rig.submit(argv, directory=str(tmp_path), **fields)
        assert rig.wait(job).success
        assert rig.output(job) == b"found\n"


def test_requeued_output_is_the_last_runs(rig: Rig, tmp_path: Path) -> None:
    job = rig.submit("echo $$; echo x >>runs; [ $(wc -l <runs) = 2 ] || exec sleep 1000", directory=str(tmp_path), rerunnable=True)
    eventually((tmp_path / "runs").exists)
    rig.until(job, JobState.RUNNING)
    rig.control(Action.REQUEUE, job)
    rig.wait(job)
    assert len(rig.output(job).split()) == 1
