"""Whatever Grid Engine's commands print, no parser raises but for "no answer", and no job is changed by another's damage."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.errors import JobyardError, SchedulerUnavailable
from jobyard.schedulers.base import Action, Answer, Result, Row
from jobyard.schedulers.gridengine import GridEngineDialect
from jobyard.schedulers.gridengine.queue import state_of, task_numbers
from schedulers.dialect_suite import ARRAY, SINGLE, Parser, parsers
from schedulers.gridengine_samples import index, sample

DIALECT = GridEngineDialect()
NAMES = sorted(index())


PARSERS = parsers(DIALECT, ["1", "2.2", "2.4"], SINGLE, ARRAY) | {
    "find-records": Parser(lambda result: DIALECT.parse_find([sample("find-empty"), result], [SINGLE, ARRAY])),
    "site": Parser(DIALECT.parse_site),
}
ROUNDS = settings(max_examples=1000 if os.environ.get("FULL") == "1" else 40, deadline=None)


@st.composite
def damaged(draw: st.DrawFn) -> Result:
    """A recorded answer of any command, cut, spliced with another, with lines put in, doubled, or turned round."""
    first, second = sample(draw(st.sampled_from(NAMES))), sample(draw(st.sampled_from(NAMES)))
    data, other = first.stdout, second.stdout
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        piece = draw(st.integers(0, len(other)))
        end = draw(st.integers(piece, min(len(other), piece + 400)))
        match draw(st.integers(0, 5)):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + other[piece:end] + data[at:]
            case 2:
                data = data[:at] + draw(st.binary(max_size=40)) + data[at:]
            case 3:
                data = data[:at] + data[at + (end - piece) :]
            case 4:
                lines = data.split(b"\n")
                lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
                data = b"\n".join(lines)
            case _:
                data = data[at:] + data[:at]
    code = draw(st.sampled_from([first.returncode, 0, 1, -9, 127]))
    stderr = draw(st.sampled_from([first.stderr, second.stderr, b"", b"\xff\n"]))
    return Result(argv=first.argv, returncode=code, stdout=data, stderr=stderr)


@pytest.mark.parametrize("name", sorted(PARSERS))
@ROUNDS
@given(result=damaged())
def test_no_parser_raises_on_damaged_answers(name: str, result: Result) -> None:
    PARSERS[name].read(result)


@pytest.mark.parametrize("name", sorted(PARSERS))
@ROUNDS
@given(text=st.binary(max_size=400), code=st.integers(-64, 255))
def test_no_parser_raises_on_garbage(name: str, text: bytes, code: int) -> None:
    PARSERS[name].read(Result(argv=("x",), returncode=code, stdout=text, stderr=text[::-1]))


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_silence_is_no_answer(name: str) -> None:
    """An empty answer of a command that says it did well."""
    made = PARSERS[name].read(Result(argv=("x",), returncode=0))
    # qhold and qrls pass over in silence what is as it should be; of others nothing is said of no job.
    if name in ("control-hold", "control-release"):
        assert made == dict.fromkeys(("1", "2.2", "2.4"))
    else:
        assert not made


def rows(answer: object) -> dict[str, Row]:
    assert isinstance(answer, Answer)
    return {row.native_id: row for row in answer.rows}


@ROUNDS
@given(data=st.data())
def test_damage_in_one_row_of_the_queue_changes_no_other(data: st.DataObject) -> None:
    """What is hit becomes a line that is not understood, or is gone; who is not hit is told as before; nobody is called absent."""
    whole = sample("query-states")
    before = rows(DIALECT.parse_query(whole))
    text = whole.stdout
    main = text.index(b"#jobyard# ha")
    at = data.draw(st.integers(text.index(b"<job_list"), main - 80))
    length = data.draw(st.integers(1, 60))
    put = data.draw(
        st.sampled_from([b"", b"<", b"\n", b"</job_list>", b'<job_list state="x">', b"#", b"job 7 is fine\n", b"\0\xff"])
    )
    hit_from = max(0, text.rfind(b"<job_list", 0, at + len(b"<job_list")))
    hit_to = text.find(b"</job_list>", at + length)
    hit = set()
    for piece in text[hit_from : hit_to + 11].split(b"</job_list>"):
        if b"<JB_job_number>" in piece:
            number = piece.split(b"<JB_job_number>")[1].split(b"<")[0].decode()
            hit |= {native_id for native_id in before if native_id.partition(".")[0] == number}
    answer = DIALECT.parse_query(msgspec.structs.replace(whole, stdout=text[:at] + put + text[at + length :]))
    after = rows(answer)
    for native_id, row in before.items():
        if native_id in hit:
            continue
        assert after.get(native_id) == row
    lost = set(before) - set(after)
    assert not (lost - hit)


@ROUNDS
@given(data=st.data())
def test_damage_in_one_record_changes_no_other(data: st.DataObject) -> None:
    whole = sample("account-many")
    before = rows(DIALECT.parse_account(whole))
    pieces = whole.stdout.split(b"=" * 62)
    number = data.draw(st.integers(1, len(pieces) - 2))
    piece = pieces[number]
    at = data.draw(st.integers(0, len(piece)))
    end = data.draw(st.integers(at, len(piece)))
    # Where a rule is damaged two records grow together, and neither can be believed.
    near = pieces[max(1, number - 1) : number + 1 + (end == len(piece))]
    hit = {one.split(b"jobnumber")[1].split()[0].decode() for one in near}
    put = data.draw(
        st.sampled_from([b"", b"\n", b"Warning: tonight\n", b"exit_status 0\n", b"failed 0\n", b"\xff", b"jobnumber 16\n"])
    )
    pieces[number] = piece[:at] + put + piece[end:]
    try:
        answer = DIALECT.parse_account(msgspec.structs.replace(whole, stdout=(b"=" * 62).join(pieces)))
    except SchedulerUnavailable:
        return
    after = rows(answer)
    for native_id, row in before.items():
        if native_id.partition(".")[0] not in {*hit, "16"}:
            assert after[native_id] == row


@given(word=st.text(max_size=10))
def test_states_and_tasks_of_any_text(word: str) -> None:
    state_of(word)
    assert all(number >= 0 for number in task_numbers(word))


@given(lists=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.integers(1, 5)), min_size=1, max_size=5))
def test_lists_of_tasks_as_qstat_writes_them(lists: list[tuple[int, int, int]]) -> None:
    text = ",".join(f"{first}-{first + count * step}:{step}" if count else str(first) for first, count, step in lists)
    assert task_numbers(text) == [first + n * step for first, count, step in lists for n in range(count + 1)]


@given(ids=st.lists(st.from_regex(r"[1-9][0-9]{0,3}(\.[1-9][0-9]{0,1})?", fullmatch=True), max_size=40))
def test_every_job_is_in_exactly_one_control_command(ids: list[str]) -> None:
    told = [one for _, concerned in DIALECT.control_commands(Action.CANCEL, ids, signal=None) for one in concerned]
    assert sorted(told) == sorted(set(ids))


@ROUNDS
@given(result=damaged(), action=st.sampled_from([Action.CANCEL, Action.SUSPEND, Action.HOLD]))
def test_control_answers_only_of_what_was_asked(result: Result, action: Action) -> None:
    try:
        answers = DIALECT.parse_control(action, result, ["1", "2.2"])
    except SchedulerUnavailable:
        return
    assert set(answers) <= {"1", "2.2"}
    assert all(error is None or isinstance(error, JobyardError) for error in answers.values())
