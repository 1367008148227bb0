"""The staging rules: what is brought, how, when; and what is never touched."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from jobyard.errors import InvalidJob
from jobyard.job import Cause, JobDescription, StageIn, StageMode, StageOut, StageWhen
from jobyard.staging import StagingError, clean_up, problem, remove_tree, stage_in, stage_out
from jobyard.testing.polling import eventually
from node.rig import Rig, Run, kill_session

ODD = os.fsdecode(b"a 'b' \"c\" $d `e`\n*\xff")
MODES = list(StageMode)


def _in(directory: Path, source: object, target: object, mode: str = "copy") -> None:
    stage_in([{"source": os.fsencode(str(source)), "target": os.fsencode(str(target)), "mode": mode}], os.fsencode(directory))


def _litter(folder: Path) -> list[str]:
    return [name for _, folders, files in os.walk(folder) for name in (*folders, *files) if name.startswith(".jobyard")]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


# Bringing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["plain", ODD])
def test_a_file(tmp_path: Path, here: Path, mode: StageMode, name: str) -> None:
    source = tmp_path / name
    source.write_bytes(b"content")
    source.chmod(0o640)
    os.utime(source, ns=(10**18, 10**18 + 123))
    _in(here, source, f"sub/{name}", mode)
    target = here / "sub" / name
    assert target.read_bytes() == b"content"
    assert target.is_symlink() is (mode is StageMode.LINK)
    assert source.exists() is (mode is not StageMode.MOVE)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.stat().st_mtime_ns == 10**18 + 123
    assert not _litter(tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_a_folder(tmp_path: Path, here: Path, mode: StageMode) -> None:
    source = tmp_path / "folder"
    (source / "deep" / ODD).mkdir(parents=True)
    (source / "deep" / ODD / "file").write_text("x")
    (source / "program").write_text("#!")
    (source / "program").chmod(0o755)
    (source / "link").symlink_to("program")
    (source / "deep").chmod(0o500)
    _in(here, source, "target", mode)
    target = here / "target"
    assert (target / "deep" / ODD / "file").read_text() == "x"
    assert os.readlink(target / "link") == "program"
    assert os.access(target / "program", os.X_OK)
    assert stat.S_IMODE((target / "deep").stat().st_mode) == 0o500
    assert source.exists() is (mode is not StageMode.MOVE)
    (target / "deep").chmod(0o700)


@pytest.mark.parametrize("mode", [StageMode.COPY, StageMode.MOVE])
def test_into_a_folder_that_is_there(tmp_path: Path, here: Path, mode: StageMode) -> None:
    source, target = tmp_path / "source", here / "target"
    (source / "sub").mkdir(parents=True)
    (target / "sub").mkdir(parents=True)
    (source / "sub" / "new").write_text("new")
    (source / "sub" / "both").write_text("new")
    (target / "sub" / "both").write_text("old")
    (target / "sub" / "old").write_text("old")
    _in(here, source, "target", mode)
    assert {path.name: path.read_text() for path in (target / "sub").iterdir()} == {"new": "new", "both": "new", "old": "old"}
    assert source.exists() is (mode is StageMode.COPY)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_there_is_replaced(tmp_path: Path, here: Path, mode: StageMode) -> None:
    source, victim = tmp_path / "source", tmp_path / "victim"
    source.write_text("new")
    victim.write_text("victim")
    (here / "file").write_text("old")
    (here / "link").symlink_to(victim)
    for name in ("file", "link"):
        _in(here, source, name, mode)
        assert (here / name).read_text() == "new"
        source.write_text("new")
    assert victim.read_text() == "victim", "the link was replaced, not what it leads to"


def test_a_target_may_be_the_folder_to_put_it_into(tmp_path: Path, here: Path) -> None:
    (tmp_path / "name").write_text("x")
    _in(here, tmp_path / "name", "into/this/")
    assert (here / "into" / "this" / "name").read_text() == "x"


def test_file_names(tmp_path: Path, here: Path) -> None:
    (tmp_path / "a b%").write_text("x")
    for number, prefix in enumerate(("file:", "file://", "file://localhost", "FILE://")):
        _in(here, f"{prefix}{tmp_path}/a%20b%25", f"t{number}")
        assert (here / f"t{number}").read_text() == "x"
    _in(here, tmp_path / "a b%", "with:colon")
    assert (here / "with:colon").exists()


def test_a_link_that_is_named_is_followed(tmp_path: Path, here: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    _in(here, tmp_path / "link", "copy")
    assert not (here / "copy").is_symlink()
    _in(here, tmp_path / "link", "linked", "link")
    assert os.readlink(here / "linked") == str(tmp_path / "real")


@pytest.mark.parametrize("mode", ["copy", "link", "move"])
@pytest.mark.parametrize("name", ["file", "./file", "here/file"])
def test_a_file_that_is_in_its_place_already_stays(here: Path, mode: StageMode, name: str) -> None:
    """Brought to where it lies, by whatever way; a link in its place would lead to itself, and the file be lost."""
    (here / "file").write_bytes(b"precious")
    (here / "here").symlink_to(".")
    _in(here, here / "file", name, mode)
    assert not (here / "file").is_symlink()
    assert (here / "file").read_bytes() == b"precious"
    assert sorted(os.listdir(here)) == ["file", "here"]


def test_large_and_empty_files(tmp_path: Path, here: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(3 << 20))
    (tmp_path / "empty").write_bytes(b"")
    for name in ("large", "empty"):
        _in(here, tmp_path / name, name)
        assert (here / name).read_bytes() == (tmp_path / name).read_bytes()
    _in(here, "/proc/self/status", "status")  # a file whose size is told as 0
    assert b"Pid:" in (here / "status").read_bytes()


# What fails ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_missing_file_is_named(tmp_path: Path, here: Path, mode: StageMode) -> None:
    with pytest.raises(StagingError, match=r"'.*/missing' cannot be (copied|linked|moved) to '.*/target': No such file"):
        _in(here, tmp_path / "missing", "target", mode)
    assert os.listdir(here) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path, here: Path, mode: StageMode) -> None:
    (tmp_path / "file").write_text("x")
    (here / "folder" / "keep").mkdir(parents=True)
    with pytest.raises(StagingError, match="there is a folder of that name"):
        _in(here, tmp_path / "file", "folder", mode)
    assert (tmp_path / "file").exists()
    assert os.listdir(here) == ["folder"]
    assert (here / "folder" / "keep").exists()


def test_nothing_half_done_is_left(tmp_path: Path, here: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("x")
    with socket.socket(socket.AF_UNIX) as server:
        cwd = os.getcwd()
        os.chdir(source)
        try:
            server.bind("b")
        finally:
            os.chdir(cwd)
    with pytest.raises(StagingError, match=r"neither a file, a folder nor a link \('.*/source/b'\)"):
        _in(here, source, "target")
    assert os.listdir(here) == []


def test_a_folder_is_not_put_into_itself(tmp_path: Path) -> None:
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    for mode in ("copy", "move"):
        with pytest.raises(StagingError, match="into itself"):
            _in(tmp_path, tmp_path / "folder", tmp_path / "folder" / "sub" / "again", mode)
    assert os.listdir(tmp_path / "folder" / "sub") == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("http://host/x", "no transfer by http:"),
        ("s3://bucket/x", "no transfer by s3:"),
        ("file://other/x", "reaches this host only"),
        ("file://", "no path"),
        ("file:", "no path"),
        ("file:/a%00b", "NUL"),
    ],
)
def test_other_schemes_are_refused_when_described(name: str, said: str) -> None:
    for fields in (
        {"stage_in": (StageIn(source=name, target="x"),)},
        {"stage_in": (StageIn(source="x", target=name),)},
        {"stage_out": (StageOut(source="x", target=name),)},
        {"cleanup": (name,)},
    ):
        with pytest.raises(InvalidJob, match=said) as caught:
            JobDescription(argv=("true",), **fields)
        assert caught.value.field == next(iter(fields))
    with pytest.raises(StagingError, match=said):
        _in(Path("/"), name, "x")


def test_plain_names_are_no_schemes() -> None:
    for name in ("a:b", "C:/x", ":x", "1:2", "a b://", "x/y://z", "", "file", "../x"):
        assert problem(name) is None
    with pytest.raises(InvalidJob, match=r"without '\.\.'"):
        JobDescription(argv=("true",), cleanup=("a/../b",))


# Away and when -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["success", "error", "cancel"])
@pytest.mark.parametrize("when", [StageWhen(value) for value in range(16)])
def test_when(tmp_path: Path, here: Path, outcome: str, when: StageWhen) -> None:
    asked = {"success": StageWhen.ON_SUCCESS, "error": StageWhen.ON_ERROR, "cancel": StageWhen.ON_CANCEL}[outcome]
    due = bool(when & asked) or not when & StageWhen.ALWAYS  # no outcome named: always
    (here / "out").write_text("x")
    item: dict[str, Any] = {"source": b"out", "target": os.fsencode(tmp_path / "out"), "when": int(when)}
    stage_out([item], os.fsencode(here), outcome)
    assert (tmp_path / "out").exists() is due
    missing = [{**item, "source": b"missing"}]
    if due and not when & StageWhen.IF_PRESENT:
        with pytest.raises(StagingError, match="missing"):
            stage_out(missing, os.fsencode(here), outcome)
    else:
        stage_out(missing, os.fsencode(here), outcome)
    clean_up([b"out"], os.fsencode(here), outcome, int(when))
    assert (here / "out").exists() is not due


def test_all_are_brought_away_although_one_fails(tmp_path: Path, here: Path) -> None:
    (here / "b").write_text("x")
    items = [{"source": name, "target": os.fsencode(tmp_path) + b"/" + name} for name in (b"a", b"b", b"c")]
    with pytest.raises(StagingError, match=r"/a'.*; .*/c'"):
        stage_out(items, os.fsencode(here), "success")
    assert (tmp_path / "b").exists()


# Cleaning ------------------------------------------------------------------------------------------------------------


def _clean(here: Path, *names: object) -> None:
    clean_up([os.fsencode(str(name)) for name in names], os.fsencode(here), "success", 14)


def test_what_lies_in_the_directory_is_removed(here: Path) -> None:
    (here / "sub" / ODD).mkdir(parents=True)
    (here / "sub" / ODD / "file").write_text("x")
    (here / "other").write_text("x")
    (here / "keep").write_text("x")
    (here / "sub" / ODD).chmod(0)
    _clean(here, "sub", here / "other", "missing", "missing/deeper", "./sub/./x")
    assert os.listdir(here) == ["keep"]


def test_links_are_removed_and_not_followed(tmp_path: Path, here: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").write_text("x")
    (here / "link").symlink_to(outside)
    (here / "sub").mkdir()
    (here / "sub" / "inner").symlink_to(outside / "deep")
    for name in ("link/deep/file", "link/deep", "sub/inner/file"):
        with pytest.raises(StagingError, match="reached through a link"):
            _clean(here, name)
    _clean(here, "link", "sub")
    assert (outside / "deep" / "file").read_text() == "x"
    assert os.listdir(here) == []


def test_nothing_outside_is_cleaned(tmp_path: Path, here: Path) -> None:
    sibling = tmp_path / "job-other"
    sibling.mkdir()
    (sibling / "v").write_text("x")
    for name in (sibling, sibling / "v", "/", tmp_path, here, ".", "..", "../job-other", f"{here}/../job-other/v"):
        with pytest.raises(StagingError, match="is not cleaned"):
            _clean(here, name)
    assert (sibling / "v").exists()
    assert here.exists()


def test_the_directory_may_be_named_by_a_link(tmp_path: Path, here: Path) -> None:
    (tmp_path / "alias").symlink_to(here)
    (here / "a").write_text("x")
    (here / "b").write_text("x")
    clean_up([os.fsencode(here / "a"), os.fsencode(tmp_path / "alias" / "b")], os.fsencode(tmp_path / "alias"), "success", 14)
    assert os.listdir(here) == []


def test_remove_tree_takes_what_is_missing_as_removed(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        remove_tree(fd, b"missing")
    finally:
        os.close(fd)


# Through the shepherd ------------------------------------------------------------------------------------------------


def _staged(rig: Rig, text: str, **fields: Any) -> Run:
    return rig.sh(text, stage_out=(StageOut(source="out", target=str(rig.folder / "away" / "out"), **fields),))


def test_stages_are_told_in_order(rig: Rig) -> None:
    (rig.folder / "source").write_text("in")
    run = rig.sh(
        "cat in > out",
        stage_in=(StageIn(source=f"file://{rig.folder}/source", target="in"),),
        stage_out=(StageOut(source="out", target=f"{rig.folder}/result"),),
        cleanup=("in", "out"),
    )
    assert run.kinds == ["begin", "stage_in", "running", "stage_out", "cleaning", "end"]
    assert [str(each.state) for _, each in run.receipts][:5] == ["staging_in", "staging_in", "running", "staging_out", "cleaning"]
    assert (rig.folder / "result").read_text() == "in"
    assert os.listdir(rig.home) == []
    assert run.code == 0


def test_only_stages_that_are_described_are_told(rig: Rig) -> None:
    assert rig.sh("exit 0", cleanup=("x",)).kinds == ["begin", "cleaning", "end"]
    assert rig.sh("exit 0").kinds == ["begin", "end"]


def test_files_that_cannot_be_brought_in(rig: Rig) -> None:
    run = rig.sh(
        "touch ran", stage_in=(StageIn(source="/nowhere/file", target="x"),), stage_out=(StageOut(source="o", target="p"),)
    )
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.aborted, run.code) == (Cause.STAGING, True, 125)
    assert "'/nowhere/file'" in ending.message
    assert run.kinds == ["begin", "stage_in", "end"]
    assert not (rig.home / "ran").exists()


def test_files_that_cannot_be_brought_away(rig: Rig) -> None:
    run = _staged(rig, "exit 0")
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.exit_code, ending.success, run.code) == (Cause.STAGING, 0, False, 125)
    assert "No such file" in ending.message
    run = _staged(rig, "exit 3")
    ending = run.end.ending
    assert ending is not None
    assert (ending.cause, ending.exit_code, run.code) == (Cause.EXITED, 3, 3)
    assert "No such file" in ending.message


@pytest.mark.parametrize(("text", "when"), [("touch out", StageWhen.ON_SUCCESS), ("touch out; exit 1", StageWhen.ON_ERROR)])
def test_the_commands_ending_decides(rig: Rig, text: str, when: StageWhen) -> None:
    _staged(rig, text, when=(StageWhen.ON_SUCCESS | StageWhen.ON_ERROR) & ~when)
    assert not (rig.folder / "away" / "out").exists()
    _staged(rig, text, when=when)
    assert (rig.folder / "away" / "out").exists()


def test_told_to_end_is_cancelled(rig: Rig) -> None:
    import signal

    stages = tuple(
        StageOut(source="out", target=f"{rig.folder}/{when.name}", when=when)
        for when in (StageWhen.ON_SUCCESS, StageWhen.ON_ERROR, StageWhen.ON_CANCEL)
    )
    placed = rig.place(
        ["/bin/sh", "-c", "trap 'exit 0' TERM; touch out; : > ready; while :; do sleep 0.01; done"], stage_out=stages
    )
    process = placed.start()
    try:
        eventually((rig.home / "ready").exists)
        os.killpg(process.pid, signal.SIGTERM)
        placed.finish(process)
    finally:
        kill_session(process)
    assert [when.name for when in StageWhen if (rig.folder / str(when.name)).exists()] == ["ON_CANCEL"]
