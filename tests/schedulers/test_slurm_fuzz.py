"""Whatever Slurm's commands print, no parser raises but for "no answer", and no job is changed by another's damage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.errors import SchedulerUnavailable
from jobyard.job import JobState
from jobyard.schedulers.base import Answer, Result, Row
from jobyard.schedulers.slurm import SlurmDialect
from jobyard.schedulers.slurm.states import exit_of, said
from schedulers.damage import FOREIGN, damaged, hurt_once, noise
from schedulers.dialect_suite import ARRAY, SINGLE, Parser, anything, never_breaks, parsers
from schedulers.slurm_samples import RELEASES, index, sample

DIALECT = SlurmDialect()
SAMPLES = [(release, name) for release in RELEASES for name in sorted(index(release))]
TABLES = [(release, name) for release, name in SAMPLES if name in ("query-early", "query-live", "query-ended", "account")]
ROUNDS = settings(max_examples=60, deadline=None)
PARSERS = parsers(DIALECT, ["1", "2_2", "2_4"], SINGLE, ARRAY) | {"most-jobs": Parser(DIALECT.parse_most_jobs)}
OUTPUTS = st.one_of(
    st.sampled_from(SAMPLES).flatmap(lambda one: damaged(sample(*one).stdout.splitlines(keepends=True) or [b""])),
    noise([line for one in TABLES[:4] for line in sample(*one).stdout.splitlines(keepends=True)], b"|mark#\n_[]1,:%. ABC"),
)


def results(program: str) -> st.SearchStrategy[Result]:
    return anything(program, codes=[0, 0, 0, 1, 124, 228, 255, -9], out=OUTPUTS, err=OUTPUTS)


test_no_parser_raises = never_breaks(PARSERS, st.one_of(results("squeue"), results("sacct")), codes_tell=True)


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
    no_fields = [one for one in FOREIGN if b"|" not in one]
    hurt = data.draw(hurt_once(whole.stdout.splitlines(keepends=True), no_fields))
    answer = parsed(name, hurt.text)
    if answer is None:
        return
    changed = [row for row in answer.rows if row != good.get(row.native_id) and not _less(row, good.get(row.native_id))]
    assert not changed
    if hurt.kind == "foreign" and not _within_a_name(hurt.lines, hurt.at):
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
