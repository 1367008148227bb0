"""Receipts as the engine reads them: exactly what they say, and nothing from what cannot be believed."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.job import Cause, Ending, JobState, Observation, Source
from jobyard.node import helper_work
from jobyard.receipts import MAX_BYTES, describe_receipt, parse_receipt, read_receipts, receipt_order
from node.rig import Rig

TOKEN, NONCE = "a" * 32, "b" * 32
BASE: dict[str, Any] = {
    **{
        "format": 1,
        "nonce": NONCE,
        "token": TOKEN,
        "task": 3,
        "attempt": 2,
        "native_id": "17_3",
        "host": "n1",
        "pid": 99,
        "at": 1e9,
    },
}
END: dict[str, Any] = {
    **BASE,
    **{"kind": "end", "exit_code": 0, "signal": None, "core": False, "cause": None, "message": None, "signals": [], "clean": True},
    **{"usage": {"wall_s": 1.5, "max_rss_bytes": 4096}, "began_at": 9.0e8, "ended_at": 9.5e8, "aborted": False},
}


def _parse(value: object, name: str = "receipt.3.2.end.json") -> tuple[int, Observation] | None:
    return parse_receipt(name, json.dumps(value).encode(), nonce=NONCE, token=TOKEN)


def _end(**fields: object) -> Ending:
    parsed = _parse({**END, **fields})
    assert parsed is not None
    assert parsed[1].ending is not None
    return parsed[1].ending


def test_an_end() -> None:
    parsed = _parse({**END, "exit_code": 4, "signals": [["SIGTERM", 1.0], ["SIGUSR1", 2.0]], "clean": False})
    assert parsed is not None
    task, seen = parsed
    assert task == 3
    assert (seen.source, seen.what, seen.at, seen.native_id, seen.attempt) == (Source.RECEIPT, "end", 1e9, "17_3", 2)
    assert (seen.clean, seen.ended, seen.signals) == (False, False, ("SIGTERM", "SIGUSR1"))
    ending = seen.ending
    assert ending is not None
    assert (ending.state, ending.cause, ending.exit_code, ending.signal) == (JobState.FAILED, Cause.EXITED, 4, None)
    assert (ending.began_at, ending.ended_at, ending.host, ending.attempts) == (9.0e8, 9.5e8, "n1", 2)
    assert (ending.usage.wall_s, ending.usage.max_rss_bytes) == (1.5, 4096)


def test_endings() -> None:
    assert _end().state is JobState.DONE
    assert _end(exit_code=None, signal=11, core=True).signal == "SIGSEGV"
    assert _end(exit_code=None, signal=11, core=True).core_dumped
    assert _end(exit_code=None, signal=36).signal == "SIGRTMIN+2"
    staged = _end(cause="staging", message="no file")
    assert (staged.state, staged.cause, staged.exit_code, staged.message) == (JobState.FAILED, Cause.STAGING, 0, "no file")
    missing = _end(exit_code=None, aborted=True, cause="not_started")
    assert (missing.state, missing.cause, missing.aborted) == (JobState.FAILED, Cause.NOT_STARTED, True)
    assert _end(exit_code=None, aborted=True).cause is Cause.UNKNOWN
    unknown = _end(exit_code=None, cause="shepherd", clean=False)
    assert (unknown.state, unknown.exit_code, unknown.signal, unknown.aborted) == (JobState.FAILED, None, None, False)


@pytest.mark.parametrize(
    ("kind", "fields", "state"),
    [
        ("begin", {"stages": False}, JobState.RUNNING),
        ("begin", {"stages": True}, JobState.STAGING_IN),
        ("stage_in", {}, JobState.STAGING_IN),
        ("running", {}, JobState.RUNNING),
        ("stage_out", {}, JobState.STAGING_OUT),
        ("cleaning", {}, JobState.CLEANING),
        ("refused", {"holder": {"native_id": "16", "host": "n0", "pid": 5}}, None),
    ],
)
def test_stages(kind: str, fields: dict[str, object], state: JobState | None) -> None:
    parsed = _parse({**BASE, "kind": kind, **fields}, f"receipt.3.2.{kind}.json")
    assert parsed is not None
    assert (parsed[1].what, parsed[1].state, parsed[1].ending, parsed[1].ended) == (kind, state, None, False)
    assert "n1" in (parsed[1].reason or "")
    if kind == "refused":
        assert "16 on n0" in (parsed[1].reason or "")


@pytest.mark.parametrize(
    "change",
    [
        *({"format": 2}, {"format": "1"}, {"nonce": "c" * 32}, {"token": "c" * 32}, {"task": 4}, {"attempt": 1}, {"kind": "begin"}),
        *({"exit_code": 256}, {"exit_code": -1}, {"exit_code": "0"}, {"exit_code": 1.5}, {"exit_code": True}, {"exit_code": None}),
        *({"signal": 9}, {"exit_code": None, "signal": 0}, {"exit_code": None, "signal": 129}, {"cause": "bad luck"}),
        *({"at": "now"}, {"at": float("nan")}, {"at": float("inf")}, {"at": -1}, {"ended_at": float("nan")}, {"host": None}),
        *({"usage": []}, {"signals": [1]}, {"clean": 1}, {"native_id": 17}, {"core": None}),
    ],
)
def test_what_is_not_believed(change: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "jobyard.receipts")
    assert _parse({**END, **change}) is None
    assert "not taken for a receipt" in caplog.text
    assert _parse(END) is not None


@pytest.mark.parametrize("key", [key for key in BASE if key != "pid"])
def test_what_lacks_a_part_is_not_believed(key: str) -> None:
    assert _parse({name: value for name, value in END.items() if name != key}) is None


@pytest.mark.parametrize(
    "name",
    [
        *("receipt.3.2.end", "receipt.3.2.end.json.tmp", ".receipt.3.2.end.json", "receipt.03.2.end.json", "receipt.3.0.end.json"),
        *(
            "receipt.-1.2.end.json",
            "receipt.3.2.other.json",
            "receipt.3.end.json",
            "job.json",
            "",
            "receipt.3.2.end.json\n",
            "receipt.³.2.end.json",
        ),
    ],
)
def test_names_that_are_no_receipts(name: str) -> None:
    assert _parse(END, name) is None
    assert receipt_order(name)[0] == -1


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    assert parse_receipt("receipt.3.2.end.json", data, nonce=NONCE, token=TOKEN) is None


_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(END)), _VALUE, max_size=4), st.text(max_size=20))
def test_any_values(changes: dict[str, object], name: str) -> None:
    """Whatever stands in it: an observation that is one, or none, and never an error."""
    assert _parse(END, name) is None
    parsed = _parse({**END, **changes})
    if parsed is not None and parsed[1].ending is not None:
        assert parsed[0] == 3
        ending = parsed[1].ending
        assert ending.exit_code is None or 0 <= ending.exit_code <= 255
        assert ending.exit_code is None or ending.signal is None
        assert describe_receipt(parsed[1])


@given(st.integers(0, len(json.dumps(END)) - 1))
def test_a_receipt_that_is_cut_is_none(length: int) -> None:
    assert parse_receipt("receipt.3.2.end.json", json.dumps(END).encode()[:length], nonce=NONCE, token=TOKEN) is None


def test_deep_nesting_is_none() -> None:
    data = b"[" * 20_000 + b"]" * 20_000
    assert parse_receipt("receipt.3.2.end.json", data, nonce=NONCE, token=TOKEN) is None


# In a folder ---------------------------------------------------------------------------------------------------------


def _write(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value))


def _read(folder: Path, seen: set[str] | None = None) -> list[tuple[int, str]]:
    return [(task, each.what) for task, each in read_receipts(str(folder), nonce=NONCE, token=TOKEN, seen=seen)]


def test_those_already_seen_are_skipped(tmp_path: Path) -> None:
    seen: set[str] = set()
    _write(tmp_path, "receipt.3.2.begin.json", {**BASE, "kind": "begin"})
    assert _read(tmp_path, seen) == [(3, "begin")]
    assert _read(tmp_path, seen) == []
    _write(tmp_path, "receipt.3.2.end.json", END)
    _write(tmp_path, "receipt.0.10.begin.json", {**BASE, "kind": "begin", "task": 0, "attempt": 10})
    _write(tmp_path, "receipt.0.9.begin.json", {**BASE, "kind": "begin", "task": 0, "attempt": 9})
    assert _read(tmp_path, seen) == [(0, "begin"), (0, "begin"), (3, "end")]
    assert [each.attempt for _, each in read_receipts(str(tmp_path), nonce=NONCE, token=TOKEN)] == [9, 10, 2, 2]


@pytest.mark.parametrize("where", ["open", "read"])
def test_one_that_cannot_be_read_now_costs_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A network file system that fails for a moment, or no descriptor left: what was read before it is not lost."""
    placed = rig.place(["/bin/true"])
    placed.run()
    seen: set[str] = set()
    real = getattr(os, where)
    calls = 0

    def failing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:  # the folder and the first receipt were opened; the first was read, to its end
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(*arguments, **named)

    def read() -> list[str]:
        found = read_receipts(str(placed.folder), nonce=placed.nonce, token=placed.token, seen=seen)
        return [observation.what for _, observation in found]

    with monkeypatch.context() as patch:
        patch.setattr(os, where, failing)
        with pytest.raises(OSError, match="Stale"):
            read()
    assert read() == ["begin", "end"]
    assert read() == []


def test_one_that_a_helper_cannot_read_now_costs_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on a login host: what was not sent has not been told."""
    placed = rig.place(["/bin/true"])
    placed.run()
    asked = {"reader": "r", "fresh": False}
    request: Any = SimpleNamespace(arguments=asked, path=lambda name: os.fsencode(placed.folder))
    real, calls = os.read, 0

    def failing(fd: int, count: int) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(fd, count)

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", failing)
        with pytest.raises(OSError, match="Stale"):
            helper_work.receipts(request)
    assert len(helper_work.receipts(request)[0]["files"]) == 2
    assert helper_work.receipts(request)[0]["files"] == []
    helper_work.forget(request)


def test_only_regular_files_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    _write(tmp_path, "outside", END)
    (folder / "receipt.3.2.end.json").symlink_to(tmp_path / "outside")
    (folder / "receipt.4.1.end.json").mkdir()
    os.mkfifo(folder / "receipt.5.1.end.json")
    (folder / "receipt.6.1.end.json").write_text(json.dumps({**END, "task": 6, "attempt": 1}) + " " * MAX_BYTES)
    assert _read(folder) == []
    assert _read(tmp_path / "missing") == []
    (tmp_path / "alias").symlink_to(folder)
    with pytest.raises(OSError, match="alias"):
        _read(tmp_path / "alias")


def test_those_of_somebody_else_are_none(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to give files away")
    _write(tmp_path, "receipt.3.2.end.json", END)
    os.chown(tmp_path / "receipt.3.2.end.json", 65534, 65534)
    assert _read(tmp_path) == []
    os.chown(tmp_path / "receipt.3.2.end.json", 0, 0)
    assert _read(tmp_path) == [(3, "end")]
    os.chown(tmp_path, 65534, 65534)
    assert _read(tmp_path) == []


def test_of_another_job_with_the_same_folder(rig: Rig) -> None:
    run = rig.sh("exit 0")
    assert read_receipts(str(run.folder), nonce=NONCE, token=run.folder.name) == []


def test_what_they_say_in_words(rig: Rig) -> None:
    begin, end = (describe_receipt(each) for _, each in rig.sh("kill -TERM $$").receipts)
    host = os.uname().nodename
    assert begin == f"receipt, run 1 as 17 on {host}: began"
    assert end.startswith(f"receipt, run 1 as 17 on {host}: the command was ended by SIGTERM")
    assert end.endswith("; not final by itself")
