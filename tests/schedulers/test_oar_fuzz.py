"""Whatever OAR's commands print, no parser raises but for "no answer", and no job is changed by another's damage."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.errors import SchedulerUnavailable
from jobyard.job import JobState
from jobyard.schedulers.base import Answer, Result
from schedulers.damage import damaged, hurt_once, noise
from schedulers.dialect_suite import Parser, anything, never_breaks, parsers
from schedulers.oar_samples import ARRAY, DIALECT, IN_FOLDER, SINGLE, names, sample

SAMPLES = names()
TABLES = [name for name in SAMPLES if sample(name).argv[:3] == ("oarstat", "-f", "-J") and sample(name).stdout.startswith(b"{")]
ROUNDS = settings(max_examples=60, deadline=None)


PARSERS = parsers(DIALECT, ["18", "22", "999999"], SINGLE, ARRAY, IN_FOLDER) | {"site": Parser(DIALECT.parse_site)}
OUTPUTS = st.one_of(
    st.sampled_from(SAMPLES).flatmap(lambda one: damaged(sample(one).stdout.splitlines(keepends=True) or [b""])),
    st.sampled_from(SAMPLES).flatmap(lambda one: damaged(sample(one).stderr.splitlines(keepends=True) or [b""])),
    noise([line for one in TABLES[:6] for line in sample(one).stdout.splitlines(keepends=True)], b'{}[]":, 0123Jobid\n'),
)


test_no_parser_raises = never_breaks(
    PARSERS, anything("oarstat", codes=[0, 0, 0, 1, 8, 9, 77, 255, -9], out=OUTPUTS, err=OUTPUTS), codes_tell=True
)


def parsed(data: bytes) -> Answer | None:
    """What a damaged answer says; None: no answer."""
    try:
        return DIALECT.parse_query(Result(argv=(), returncode=0, stdout=data))
    except SchedulerUnavailable:
        return None


@pytest.mark.parametrize("name", TABLES)
@ROUNDS
@given(data=st.data())
def test_damage_costs_rows_and_changes_none(name: str, data: st.DataObject) -> None:
    """A row is as it was, or is not there, and an answer that lost one does not call itself whole."""
    whole = sample(name)
    good = {row.native_id: row for row in DIALECT.parse_query(whole).rows}
    text = data.draw(hurt_once(whole.stdout.splitlines(keepends=True))).text
    answer = parsed(text)
    if answer is None or not text.strip():
        return
    words = {row.native_id: (row.state, row.native_state, row.ended, row.attempt) for row in answer.rows}
    expected = {native_id: (row.state, row.native_state, row.ended, row.attempt) for native_id, row in good.items()}
    damage_within_a_value = {one for one in words if words[one] != expected.get(one)}
    assert not {one for one in damage_within_a_value if not _unknown(answer, one)}
    if not set(expected) <= set(words):
        assert not answer.complete


def _unknown(answer: Answer, native_id: str) -> bool:
    """Its word for the state is none that we know: damage within the word, or an id that lost a digit within its object."""
    return all(row.state is None and not row.ended for row in answer.rows if row.native_id == native_id)


@pytest.mark.parametrize("name", TABLES)
def test_an_answer_that_ends_too_early_is_not_whole(name: str) -> None:
    text = sample(name).stdout.rstrip()
    for end in range(1, len(text), 7):
        answer = parsed(text[:end])
        assert answer is None or not answer.complete


def test_two_answers_mixed_line_by_line_change_no_job() -> None:
    one, two = (sample(name).stdout.splitlines(keepends=True) for name in ("done-exit3-json", "done-walltime-json"))
    good = {
        row.native_id: row for name in ("done-exit3-json", "done-walltime-json") for row in DIALECT.parse_query(sample(name)).rows
    }
    for ahead in range(1, len(one)):
        mixed = one[:ahead] + two[:ahead] + one[ahead:] + two[ahead:]
        answer = parsed(b"".join(mixed))
        if answer is not None:
            assert all(row == good[row.native_id] for row in answer.rows)


@given(st.text(max_size=40))
def test_any_word_of_a_state(word: str) -> None:
    text = json.dumps(_with(state=word))
    answer = parsed(text.encode())
    if answer is not None and answer.rows:
        (row,) = answer.rows
        assert row.state is None or isinstance(row.state, JobState)


@given(st.one_of(st.integers(-5, 1 << 70), st.text(max_size=8), st.none(), st.lists(st.integers(), max_size=2)))
def test_any_exit_code(value: object) -> None:
    answer = parsed(json.dumps(_with(exit_code=value)).encode())
    assert answer is not None
    (row,) = answer.rows
    assert row.ending is not None
    assert row.ending.exit_code is None or 0 <= row.ending.exit_code <= 255
    assert row.ending.exit_code is None or row.ending.signal is None
    assert (row.ending.state is JobState.DONE) == (row.ending.exit_code == 0)


def _with(**changes: object) -> dict[str, object]:
    """A job that ended, some of its fields changed."""
    ((key, job),) = json.loads(sample("done-exit3-json").text).items()
    return {key: {**job, **changes}}


@pytest.mark.parametrize("word", ["Quiescing", "RUNNING", ""])
def test_an_unknown_state_is_kept_as_text(word: str) -> None:
    answer = parsed(json.dumps(_with(state=word or "?")).encode())
    assert answer is not None
    (row,) = answer.rows
    assert (row.state, row.native_state, row.ended) == (None, word or "?", False)
