"""The stand-in's dialect: golden samples, whatever else may be printed, and the commands that it makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.record_golden import GOLDEN, SUBMISSION, parsed, read
from jobyard.errors import SchedulerUnavailable
from jobyard.job import After, JobDescription, JobState, Limits, Resources
from jobyard.schedulers.base import Answer, Dialect, Kind, Result, Row, Submission
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing.standin import StandinDialect
from jobyard.transports.local import LocalTransport
from schedulers.dialect_suite import Parser, never_breaks, parsers

DIALECT: Dialect = StandinDialect()
SAMPLES = sorted(path.stem for path in GOLDEN.glob("*.out"))


@pytest.mark.parametrize("name", SAMPLES)
def test_golden_samples(name: str) -> None:
    """As recorded by record_golden.py."""
    assert parsed(name, read(name)) == json.loads((GOLDEN / f"{name}.json").read_text())


def test_the_samples_hold_what_they_are_for() -> None:
    assert len(SAMPLES) == len(list(GOLDEN.glob("*.json"))) >= 20
    answer = DIALECT.parse_query(read("queue"))
    assert answer.complete
    words = {row.native_state for row in answer.rows}
    assert words >= {"COMPLETED", "FAILED", "SIGNALED", "TIMEOUT", "RUNNING", "HELD_USER", "WAITING"}
    assert answer.rows[0].name == "a|b%c\nd é"
    assert {row.token for row in answer.rows} == {SUBMISSION.token}
    assert DIALECT.parse_submit(read("submit-array"), SUBMISSION).native_ids == ("2.1", "2.3", "2.5")


# Whatever is printed ------------------------------------------------------------------------------------------------

GOOD = read("queue")
LINES = GOOD.stdout.splitlines()
ROWS = DIALECT.parse_query(GOOD).rows
ALPHABET = b"|%.0123456789ENDRUI \n\r\x00\x1b\xff\xc3\xa9ae-+\xd9\xa7"

returncodes = st.sampled_from([0, 0, 0, 1, 2, 127, 255, -9, -15])
texts = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from([*LINES, b"", b"END 3", b"1 ok", b"7", b"1 denied no", b"max_array=7"]), max_size=12).map(b"\n".join),
    st.lists(st.sampled_from(list(ALPHABET)), max_size=200).map(bytes),
)
results = st.builds(
    lambda code, out, err: Result(argv=("standin-x",), returncode=code, stdout=out, stderr=err), returncodes, texts, texts
)
PARSERS = parsers(DIALECT, ["1", "2.1"], SUBMISSION) | {
    "find": Parser(lambda result: DIALECT.parse_find([result, result], [SUBMISSION])),
}
test_no_parser_raises_on_what_it_reads = never_breaks(PARSERS, results, count=300)


def honest(text: bytes) -> Answer | None:
    """The answer as CommandScheduler passes it on."""

    class Prints(LocalTransport):
        def run(self, command: Any) -> Result:
            return Result(argv=command.argv, returncode=0, stdout=text)

    try:
        return CommandScheduler(DIALECT, Prints()).query([])
    except SchedulerUnavailable:
        return None


def by_id(answer: Answer) -> dict[str, Row]:
    """What it says of the jobs of the sample; a row without a token may be any job's of that id."""
    rows = [row for row in answer.rows if row.token in (None, SUBMISSION.token)]
    found = {row.native_id: row for row in rows}
    assert len(found) == len(rows), "one row for each job"
    return found


TRUTH = {row.native_id: row for row in ROWS}


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_damaged_line_changes_no_other_job(data: st.DataObject) -> None:
    which = data.draw(st.integers(1, len(ROWS)), "line")
    line = LINES[which]
    for _ in range(data.draw(st.integers(1, 4), "edits")):
        at = data.draw(st.integers(0, len(line)), "at")
        cut = data.draw(st.integers(0, 5), "cut")
        put = bytes(data.draw(st.lists(st.sampled_from([b for b in ALPHABET if b != 10]), max_size=5), "put"))
        line = line[:at] + put + line[at + cut :]
    answer = honest(b"\n".join([*LINES[:which], line, *LINES[which + 1 :], b""]))
    assert answer is not None
    found = by_id(answer)
    for native_id, row in TRUTH.items():
        if native_id != ROWS[which - 1].native_id:
            # its own row, or, where the damaged line seems to speak of it too, none at all
            assert found.get(native_id, row) == row
            assert native_id in found or not answer.complete


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD.stdout) - 2))
def test_an_answer_cut_anywhere_is_never_complete(at: int) -> None:
    answer = honest(GOOD.stdout[:at])
    if answer is not None:
        assert not answer.complete
        for native_id, row in by_id(answer).items():
            assert (row.native_state, row.ended, row.ending) == (
                TRUTH[native_id].native_state,
                TRUTH[native_id].ended,
                TRUTH[native_id].ending,
            )


@settings(max_examples=200, deadline=None)
@given(st.permutations(LINES[1:-1]), st.lists(st.sampled_from([b"", b"   ", b"\t"]), max_size=3))
def test_order_and_blank_lines_do_not_matter(lines: list[bytes], blanks: list[bytes]) -> None:
    answer = honest(b"\n".join([*blanks, LINES[0], *blanks, *lines, *blanks, LINES[-1], b""]))
    assert answer is not None
    assert answer.complete
    assert by_id(answer) == TRUTH


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(LINES[1:-1]), min_size=1, max_size=30))
def test_the_count_must_agree(lines: list[bytes]) -> None:
    answer = honest(b"\n".join([LINES[0], *lines, b"END %d" % (len(lines) + 1), b""]))
    assert answer is not None
    assert not answer.complete


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60))
def test_any_name_comes_back(name: str) -> None:
    from jobyard.testing.standin.programs.jobs import Job, Spec, table

    spec = Spec(number=5, name=name, folder=f"/work/{name}/{SUBMISSION.token}", submitted=1.0)
    row = Job(spec, None).row(2.0)
    assert row is not None
    answer = honest(table([row]))
    assert answer is not None
    assert answer.complete
    assert (answer.rows[0].name, answer.rows[0].token) == (name, SUBMISSION.token)


# The commands that it makes -----------------------------------------------------------------------------------------


def make(kind: Kind = Kind.SINGLE, indices: tuple[int, ...] = (), **fields: Any) -> Submission:
    mine = {name: fields.pop(name) for name in ("max_running", "after_ids") if name in fields}
    return Submission(
        token=SUBMISSION.token,
        folder=SUBMISSION.folder,
        description=JobDescription(argv=("x",), **fields),
        kind=kind,
        indices=indices,
        max_running=mine.get("max_running"),
        after=mine.get("after_ids", ()),
    )


def words(submission: Submission) -> tuple[str, ...]:
    command = DIALECT.submit_command(submission, f"{submission.folder}/run.sh")
    assert command.argv[0] == "standin-submit"
    assert command.argv[-2:] == ("--", f"{submission.folder}/run.sh")
    return command.argv[1:-2]


def test_a_plain_submission() -> None:
    folder = SUBMISSION.folder
    assert words(make()) == (f"--chdir={folder}", f"--out={folder}/batch.log", "--name=x", "--cores=1")
    assert DIALECT.directives(make()) == ["#STANDIN --rerun no"]
    assert DIALECT.directives(make(rerunnable=True)) == ["#STANDIN --rerun yes"]


def test_everything_at_once() -> None:
    got = words(
        make(
            name="a b",
            resources=Resources(nodes=2, processes_per_node=2, cores=1, gpus=1, memory_bytes=1000),
            limits=Limits(walltime_s=90, run_time_s=1.5),
            queue="short",
            account="lab",
            priority=-3,
            begin_at=5.5,
            hold=True,
            after=(After("0" * 32),),
            after_ids=(("7", "success"), ("8", "any")),
            native=("--memory=5",),
        )
    )
    assert got[0] == "--memory=5", "native options come first, so that ours count"
    assert set(got[3:]) == {
        *("--name=a b", "--cores=4", "--queue=short", "--account=lab", "--priority=-3", "--gpus=4", "--memory=1000"),
        *("--walltime=90", "--run-time=1.5", "--begin=5.5", "--hold=user", "--after=success:7,any:8"),
    }


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ((5,), "5"),
        ((1, 2, 3), "1-3:1"),
        (tuple(range(1, 31, 2)), "1-29:2"),
        ((1, 2, 3, 10, 20, 30, 7), "1-3:1,10-30:10,7"),
        ((9, 5, 1), "9,5,1"),
    ],
)
def test_indices(indices: tuple[int, ...], text: str) -> None:
    assert f"--array={text}%4" in words(make(Kind.ARRAY, indices, max_running=4))


@settings(max_examples=200)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=40, unique=True))
def test_any_indices_are_read_back_by_the_stand_in(indices: list[int]) -> None:
    from jobyard.testing.standin.programs.server import _indices

    (option,) = [word for word in words(make(Kind.ARRAY, tuple(indices))) if word.startswith("--array=")]
    assert _indices(option.removeprefix("--array="), 1000) == (indices, None)


def test_states_are_all_mapped() -> None:
    """Every word of the stand-in's is one that the dialect knows."""
    from jobyard.testing.standin.dialect import _ENDINGS, _STATES
    from jobyard.testing.standin.programs.jobs import ACTIVE, WAITING

    assert {*ACTIVE, *WAITING} == set(_STATES)
    assert all(state.final for state, _ in _ENDINGS.values())
    assert not any(state.final for state, _ in _STATES.values())
    assert JobState.NEW not in {state for state, _ in _STATES.values()}
    assert Path(GOLDEN).is_dir()
