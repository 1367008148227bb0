"""Whatever a scheduler starts twice runs once, unless its description allows reruns."""

from __future__ import annotations

import json
import os
import posix
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobyard.job import Observation
from jobyard.node import process
from jobyard.schedulers.base import Kind
from jobyard.testing.polling import eventually
from node.rig import Rig, kill_session

RUNS = ["/bin/sh", "-c", "echo $JOBYARD_NATIVE_ID >> runs"]


def _runs(rig: Rig) -> list[str]:
    return (rig.home / "runs").read_text().split() if (rig.home / "runs").exists() else []


def _of(receipts: list[tuple[int, Observation]], what: str) -> list[Observation]:
    return [observation for _, observation in receipts if observation.what == what]


def test_one_of_twenty_at_once(rig: Rig) -> None:
    for _ in range(3):
        placed = rig.place(RUNS)
        processes = [placed.start(f"{number}") for number in range(20)]
        codes = [placed.finish(process).code for process in processes]
        receipts = placed.receipts()
        assert codes == [0] * 20
        assert len(_of(receipts, "begin")) == len(_of(receipts, "end")) == 1
        refused = _of(receipts, "refused")
        winner = _runs(rig)[-1]
        assert sorted([winner, *(str(each.native_id) for each in refused)], key=int) == [str(number) for number in range(20)]
        assert len({each.attempt for each in refused}) == 19
        assert not [name for name in os.listdir(placed.folder) if name.startswith(".")]
    assert len(_runs(rig)) == 3


def test_twenty_with_the_same_id_at_once(rig: Rig) -> None:
    """A scheduler that starts one job on several nodes: the begin receipt is made by one alone."""
    placed = rig.place(RUNS)
    processes = [placed.start("17") for _ in range(20)]
    assert [placed.finish(process).code for process in processes] == [0] * 20
    assert Counter(each.what for _, each in placed.receipts()) == {"begin": 1, "end": 1, "refused": 19}
    assert _runs(rig) == ["17"]


def test_another_id_is_refused_and_told_who_holds_it(rig: Rig) -> None:
    placed = rig.place(RUNS)
    placed.run("17")
    run = placed.run("18")
    assert run.code == 0
    (refused,) = _of(run.receipts, "refused")
    assert refused.native_id == "18"
    assert refused.attempt == 2
    assert refused.reason is not None
    assert "begun as 17" in refused.reason
    assert _runs(rig) == ["17"]


def test_the_same_id_again_is_refused(rig: Rig) -> None:
    placed = rig.place([*RUNS[:2], RUNS[2] + "; exit 3"])
    assert placed.run("17").code == 3
    assert placed.run("17").code == 0
    assert _runs(rig) == ["17"]
    assert len(_of(placed.receipts(), "refused")) == 1


def test_the_same_id_again_goes_on_where_it_may(rig: Rig) -> None:
    placed = rig.place([*RUNS[:2], "echo $$ > pid; " + RUNS[2] + "; [ -e second ] || exec sleep 60; exit 4"], rerunnable=True)
    process = placed.start("17")
    try:
        eventually(lambda: _runs(rig) == ["17"])
        (rig.home / "second").touch()
        os.killpg(process.pid, signal.SIGTERM)
        placed.finish(process)
        assert placed.run("17").code == 4
        assert [(each.what, each.attempt) for _, each in placed.receipts()] == [("begin", 1), ("end", 1), ("begin", 2), ("end", 2)]
        first, second = _of(placed.receipts(), "end")
        assert (first.clean, second.clean) == (False, True)
        assert second.ending is not None
        assert (second.ending.exit_code, second.ending.attempts) == (4, 2)
        assert placed.run("18").code == 0, "another id is still one too many"
        assert _runs(rig) == ["17", "17"]
    finally:
        kill_session(process)


def test_the_same_id_goes_on_where_nothing_had_run(rig: Rig) -> None:
    """Killed between claim and begin receipt: the run that follows is the first."""
    placed = rig.place(RUNS)
    placed.run("17")
    for name in os.listdir(placed.folder):
        if name.startswith("receipt"):
            (placed.folder / name).unlink()
    (rig.home / "runs").unlink()
    assert placed.run("18").kinds == ["refused"]
    run = placed.run("17")
    assert _runs(rig) == ["17"]
    assert [each.native_id for each in _of(run.receipts, "begin")] == ["17"]


def test_without_an_id_no_second_run_is_the_same(rig: Rig) -> None:
    placed = rig.place(RUNS, rerunnable=True)
    placed.run(None)
    assert Counter(placed.run(None).kinds) == {"begin": 1, "end": 1, "refused": 1}


def test_tasks_have_claims_of_their_own(rig: Rig) -> None:
    placed = rig.place(RUNS, kind=Kind.LIKE, indices=range(3))
    for number in (0, 1, 2, 1):
        placed.run(f"17_{number}", env={"RIG_INDEX": str(number)})
    assert _runs(rig) == ["17_0", "17_1", "17_2"]
    assert Counter((task, each.what) for task, each in placed.receipts())[1, "refused"] == 1


def test_the_claim_says_who(rig: Rig) -> None:
    placed = rig.place(RUNS)
    process = placed.start("17")
    placed.finish(process)
    claim = json.loads((placed.folder / "claim.0").read_text())
    assert claim["native_id"] == "17"
    assert claim["host"] == os.uname().nodename
    assert claim["pid"] == process.pid
    assert len(claim["random"]) == 16
    with open("/proc/sys/kernel/random/boot_id") as file:
        assert claim["boot_id"] == file.read().strip()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null"])
def test_a_damaged_claim_begins_nothing(rig: Rig, content: bytes) -> None:
    placed = rig.place(RUNS)
    (placed.folder / "claim.0").write_bytes(content)
    run = placed.run()
    assert run.code == 125
    assert _runs(rig) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_name_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """With hard links and on a file system that has none."""

    def refuse(source: bytes, target: bytes) -> None:
        raise PermissionError(1, "no links here")

    if not links:
        monkeypatch.setattr(posix, "link", refuse)
    folder = os.fsencode(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: process.publish(folder, b"claim.0", b"%d" % number), range(40)))
    assert won.count(True) == 1
    assert (tmp_path / "claim.0").read_text() == str(won.index(True))
    assert process.publish(folder, b"claim.0", b"again") is False
    assert process.publish(folder, b"claim.0", b"again", exclusive=False) is True
    assert (tmp_path / "claim.0").read_bytes() == b"again"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_link_that_was_made_although_it_is_said_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS sends a request again when the answer gets lost; the second answer is then: it exists."""
    link = os.link

    def lossy(source: bytes, target: bytes) -> None:
        link(source, target)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(posix, "link", lossy)
    assert process.publish(os.fsencode(tmp_path), b"claim.0", b"mine") is True


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(posix, "write", full)
    with pytest.raises(OSError, match="No space"):
        process.publish(os.fsencode(tmp_path), b"claim.0", b"x")
    assert os.listdir(tmp_path) == []
