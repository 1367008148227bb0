"""Whatever Slurm's commands print, no parser raises but for "no answer", and no job is changed by another's damage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.errors import SchedulerUnavailable, SubmitError
from jobyard.job import JobDescription, JobState
from jobyard.schedulers.base import Action, Answer, Kind, Result, Row, Submission
from jobyard.schedulers.slurm import SlurmDialect
from jobyard.schedulers.slurm.states import exit_of, said
from schedulers.damage import FOREIGN, damaged, noise
from schedulers.slurm_samples import RELEASES, index, sample

DIALECT = SlurmDialect()
SINGLE = Submission(token="a1" * 16, folder="/w", description=JobDescription(argv=("x",)))
ARRAY = Submission(token="b2" * 16, folder="/w", description=JobDescription(argv=("x",)), kind=Kind.ARRAY, indices=(2, 4))
SAMPLES = [(release, name) for release in RELEASES for name in sorted(index(release))]
TABLES = [(release, name) for release, name in SAMPLES if name in ("query-early", "query-live", "query-ended", "account")]
ROUNDS = settings(max_examples=60, deadline=None)
CODES = st.sampled_from([0, 0, 0, 1, 124, 228, 255, -9])


def read_control(action: Action, result: Result) -> object:
    return DIALECT.parse_control(action, result, ["1", "2_2", "2_4"])


PARSERS: dict[str, Callable[[Result], object]] = {
    "query": DIALECT.parse_query,
    "account": DIALECT.parse_account,
    "list": DIALECT.parse_list,
    "submit": lambda result: DIALECT.parse_submit(result, SINGLE),
    "submit-array": lambda result: DIALECT.parse_submit(result, ARRAY),
    "find": lambda result: DIALECT.parse_find([result], [SINGLE, ARRAY]),
    "limits": DIALECT.parse_limits,
    "most-jobs": DIALECT.parse_most_jobs,
    "version": DIALECT.parse_version,
    **{f"control-{action}": partial(read_control, action) for action in Action},
}
OUTPUTS = st.one_of(
    st.sampled_from(SAMPLES).flatmap(lambda one: damaged(sample(*one).stdout.splitlines(keepends=True) or [b""])),
    noise([line for one in TABLES[:4] for line in sample(*one).stdout.splitlines(keepends=True)], b"|mark#\n_[]1,:%. ABC"),
)


@pytest.mark.parametrize("name", PARSERS)
@ROUNDS
@given(
    out=OUTPUTS,
    err=OUTPUTS,
    code=CODES,
    argv=st.sampled_from([("squeue",), ("sacct",)]),
)
def test_no_parser_raises(name: str, out: bytes, err: bytes, code: int, argv: tuple[str, ...]) -> None:
    result = Result(argv=argv, returncode=code, stdout=out, stderr=err)
    try:
        made = PARSERS[name](result)
    except (SchedulerUnavailable, SubmitError):
        return
    if isinstance(made, Answer):
        assert not (code and made.complete), "a command that failed has not told all"


def parsed(name: str, data: bytes) -> Answer | None:
    """What a damaged table says; None: no answer."""
    parse = DIALECT.parse_account if name == "account" else DIALECT.parse_query
    try:
        return parse(Result(argv=(), returncode=0, stdout=data))
    except SchedulerUnavailable:
        return None


@pytest.mark.parametrize(("release", "name"), TABLES)
@ROUNDS
@given(data=st.data())
def test_damage_costs_rows_and_changes_none(release: str, name: str, data: st.DataObject) -> None:
    """A row is as it was, or is not there; what is nobody's row hides none."""
    whole = sample(release, name)
    good = {row.native_id: row for row in parsed(name, whole.stdout).rows}  # type: ignore[union-attr]
    lines = whole.stdout.splitlines(keepends=True)
    at, place = data.draw(st.integers(0, len(lines) - 1)), data.draw(st.integers(0, 200))
    kind = data.draw(st.sampled_from(["cut", "end", "foreign", "twice", "mixed"]))
    if kind == "cut":  # the line lost its end, as where two writers share a pipe
        lines[at] = lines[at][:place].rstrip(b"\n") + b"\n"
    elif kind == "end":  # the output ends there
        lines[at:] = [lines[at][:place]]
    elif kind == "foreign":
        lines.insert(at, data.draw(st.sampled_from([one for one in FOREIGN if b"|" not in one])))
    elif kind == "twice":
        lines.insert(at, lines[at])
    else:
        lines[at] = lines[at][:place].rstrip(b"\n") + data.draw(st.sampled_from(lines))
    answer = parsed(name, b"".join(lines))
    if answer is None:
        return
    changed = [row for row in answer.rows if row != good.get(row.native_id) and not _less(row, good.get(row.native_id))]
    assert not changed
    if kind == "foreign" and not _within_a_name(lines, at):
        assert answer.complete, "what is nobody's row hides nobody's"
        assert {row.native_id for row in answer.rows} == set(good)


def _less(row: Row, good: Row | None) -> bool:
    """The row with less of what steps, names and folders tell, its state and ending the same; or with a state that is none."""
    if row.state is None and not row.ended:
        return True
    if good is None or (row.state, row.by, row.native_state, row.ended, row.attempt) != (
        good.state, good.by, good.native_state, good.ended, good.attempt,
    ):  # fmt: skip
        return False
    if row.ending is None or good.ending is None:
        return row.ending is good.ending
    return (row.ending.exit_code, row.ending.signal, row.ending.cause) == (
        good.ending.exit_code, good.ending.signal, good.ending.cause,
    )  # fmt: skip


def _within_a_name(lines: list[bytes], at: int) -> bool:
    """The line was put between two lines of one row, whose name holds a new line."""
    return any(b"b|1|" in line or line[-2:] == b"x\n" or line.startswith(b"1|1|") for line in lines[max(0, at - 4) : at + 5])


@given(st.text(max_size=60), st.text(max_size=30))
def test_any_word_of_a_state(word: str, reason: str) -> None:
    meaning = said(word, reason)
    assert meaning.state is None or isinstance(meaning.state, JobState)


@given(st.text(max_size=20))
def test_any_exit_code(text: str) -> None:
    code, signal = exit_of(text)
    assert code is None or 0 <= code <= 255
    assert code is None or signal is None


@pytest.mark.parametrize("word", ["EXPEDITING", "A_STATE_OF_SLURM_30", "RUNNING,EXPEDITING"])
def test_an_unknown_state_is_kept_as_text(word: str) -> None:
    text = sample("24.11", "query-live").text.replace("\nRUNNING|", f"\n{word}|")
    answer = parsed("query-live", text.encode())
    assert answer is not None
    assert answer.complete
    rows = [row for row in answer.rows if row.native_state == word]
    assert rows
    assert all(row.state is None and not row.ended for row in rows)
