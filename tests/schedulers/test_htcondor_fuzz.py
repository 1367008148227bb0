"""Whatever HTCondor's commands print, no parser raises but for "no answer", and damage to one job's ad changes no other job."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.errors import JobyardError
from jobyard.schedulers.base import Answer, Result, Row
from jobyard.schedulers.htcondor import HTCondorDialect
from schedulers.damage import damaged, noise
from schedulers.dialect_suite import ARRAY, SINGLE, Parser, parsers

DIALECT = HTCondorDialect()
FOLDER = Path(__file__).resolve().parent.parent.parent / "testbeds" / "htcondor" / "samples-25"
ROUNDS = settings(max_examples=1000 if os.environ.get("FULL") == "1" else 60, deadline=None)
NAMES = sorted(path.stem for path in FOLDER.glob("*.out"))
LINES = {name: (FOLDER / f"{name}.out").read_bytes().splitlines(keepends=True)[:400] for name in NAMES}
ALL = sorted({line for lines in LINES.values() for line in lines})
ALPHABET = b'{}[]",:.0123456789abJob ProcId\n\r\t\x00\x1b\xff\xc3\xa9-+e$()'


PARSERS = parsers(DIALECT, ["1.0", "2.2", "2.4"], SINGLE, ARRAY) | {
    "states": Parser(DIALECT.parse_states),
    "capabilities": Parser(DIALECT.parse_capabilities),
    "factory": Parser(DIALECT.parse_factory),
}


def read(name: str, code: int, out: bytes, err: bytes = b"") -> object:
    """What the parser makes of it; None for "no answer" and for a refusal."""
    return PARSERS[name].read(Result(argv=("condor_q",), returncode=code, stdout=out, stderr=err))


def check(name: str, value: object) -> None:
    """What a parser may give back."""
    rows = value.rows if isinstance(value, Answer) else value if isinstance(value, list | tuple) else ()
    for row in rows:
        assert isinstance(row, Row)
        cluster, _, proc = row.native_id.partition(".")
        assert cluster.isdigit()
        assert proc.isdigit()
        assert row.ended == (row.ending is not None)
        assert row.attempt is None or row.attempt >= 1
    if name.startswith("control") and isinstance(value, dict):
        assert set(value) <= {"1.0", "2.2", "2.4"}
        assert all(error is None or isinstance(error, JobyardError) for error in value.values())


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
@ROUNDS
def test_anything_at_all(name: str, data: st.DataObject) -> None:
    out, err = data.draw(noise(ALL[::7], ALPHABET)), data.draw(noise(ALL[::97], ALPHABET))
    check(name, read(name, data.draw(st.sampled_from([0, 0, 0, 1, 127, -9])), out, err))


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
@ROUNDS
def test_damaged_answers(name: str, data: st.DataObject) -> None:
    check(name, read(name, data.draw(st.sampled_from([0, 0, 1])), data.draw(damaged(LINES[data.draw(st.sampled_from(NAMES))]))))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
ATTRIBUTES = (
    *("ClusterId", "ProcId", "JobStatus", "LastJobStatus", "NumShadowStarts", "JobyardToken", "QDate", "ExitCode", "ExitSignal"),
    *("ExitBySignal", "HoldReason", "HoldReasonCode", "RemoveReason", "JobBatchName", "Cmd", "JobCurrentStartDate", "Owner"),
    *("JobCurrentStartExecutingDate", "CompletionDate", "JobyardBeginAt", "ServerTime", "LastRemoteHost", "ResidentSetSize_RAW"),
    *("RemoteWallClockTime", "TotalSubmitProcs", "JobMaterializeNextProcId", "JobMaterializePaused", "LastRejMatchReason"),
)


@pytest.mark.parametrize("name", ["query", "account", "find", "states"])
@given(ads=st.lists(st.dictionaries(st.sampled_from(ATTRIBUTES), JSON | st.integers(0, 9), max_size=12), max_size=4))
@ROUNDS
def test_ads_of_any_types(name: str, ads: list[dict[str, object]]) -> None:
    check(name, read(name, 0, json.dumps(ads).encode()))


def blocks(name: str) -> list[list[bytes]]:
    """The ads of an answer, as lines."""
    found: list[list[bytes]] = []
    for line in (FOLDER / f"{name}.out").read_bytes().splitlines(keepends=True):
        if line == b"{\n":
            found.append([])
        if found and line not in (b",\n", b"[\n", b"]\n"):
            found[-1].append(line)
    return found


@pytest.mark.parametrize("name", ["query", "account"])
@given(data=st.data())
@ROUNDS
def test_one_damaged_ad_changes_no_other_job(name: str, data: st.DataObject) -> None:
    ads = blocks("queue" if name == "query" else "history")
    whole = read(name, 0, b"[\n" + b",\n".join(b"".join(ad) for ad in ads) + b"]\n")
    assert isinstance(whole, Answer)
    assert whole.complete
    at = data.draw(st.integers(0, len(ads) - 1))
    hurt = json.loads(b"".join(ads[at]))
    mine = f"{hurt['ClusterId']}.{hurt['ProcId']}"
    inner = data.draw(damaged(ads[at][1:-1]))
    text = b"[\n" + b",\n".join(b"{\n" + inner + b"\n}\n" if n == at else b"".join(ad) for n, ad in enumerate(ads)) + b"]\n"
    answer = read(name, 0, text)
    assert isinstance(answer, Answer)
    before = {row.native_id: row for row in whole.rows if row.native_id != mine and row.native_state != "UNMATERIALIZED"}
    after = {row.native_id: row for row in answer.rows}
    assert {job: after[job] for job in before} == before
    assert mine in after or answer.unparsed or not answer.complete


@given(cut=st.integers(1, 2000))
@ROUNDS
def test_a_cut_answer_is_not_complete(cut: int) -> None:
    text = (FOLDER / "queue.out").read_bytes().rstrip()
    answer = read("query", 0, text[:-cut])
    assert isinstance(answer, Answer)
    assert not answer.complete
    whole = read("query", 0, text)
    assert isinstance(whole, Answer)
    rows = {row.native_id: row for row in whole.rows}
    assert all(rows[row.native_id] == row for row in answer.rows if row.native_state != "UNMATERIALIZED")
