"""What the tests of all dialects ask alike. A function that returns a test makes it of what is the scheduler's own; a module names
it ``test_...``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobyard.errors import InvalidJob, JobyardError, SchedulerUnavailable, SubmitError, UnsupportedAttribute
from jobyard.job import JobDescription
from jobyard.schedulers.base import Accepted, Action, Answer, Command, Dialect, Kind, Result, Row, Submission
from jobyard.schedulers.checks import check_capabilities
from schedulers.damage import damaged

__all__ = [
    "ARRAY",
    "FOLDER",
    "SINGLE",
    "TOKEN",
    "Parser",
    "anything",
    "asked",
    "check_acts_on_many",
    "command_for",
    "damage_costs_only_what_it_touches",
    "damage_never_makes_a_job_of_another",
    "described",
    "examples",
    "lacks",
    "marked",
    "never_breaks",
    "parsers",
    "reader",
    "refuses",
    "submitted",
    "tells",
    "truncated_is_none",
    "truncated_is_not_whole",
]

Test = Callable[..., None]
Fields = dict[str, Any]
Query = Callable[[bytes], Answer]  # what is read of the queue's output

TOKEN = "0123456789abcdef0123456789abcdef"
FOLDER = f"/scratch/me/jobyard-1000/01/{TOKEN}"
# For dialects to which the rest of a submission does not matter.
SINGLE = Submission(token="a1" * 16, folder="/w", description=JobDescription(argv=("x",)))
ARRAY = Submission(token="b2" * 16, folder="/w", description=JobDescription(argv=("x",)), kind=Kind.ARRAY, indices=(2, 4))


def described(kind: Kind = Kind.SINGLE, indices: tuple[int, ...] = (), *, folder: str = FOLDER, **fields: Any) -> Submission:
    """A submission; ``fields``: its own ``max_running`` and ``after``, and those of the description."""
    extra = {name: fields.pop(name) for name in ("max_running", "after") if name in fields}
    description = JobDescription(argv=("/bin/true",), **fields)
    return Submission(token=TOKEN, folder=folder, description=description, kind=kind, indices=indices, **extra)


# Commands -----------------------------------------------------------------------------------------------------------


def command_for(dialect: Dialect, submission: Submission) -> Command:
    """The command that submits it, checked as the engine checks it before; it runs in the job's folder."""
    tasks = len(submission.indices) or 1
    more: dict[str, Any] = {"kind": submission.kind, "tasks": tasks, "max_running": submission.max_running}
    check_capabilities(dialect.name, dialect.capabilities, submission.description, **more)
    dialect.check(submission.description, **more)
    command = dialect.submit_command(submission, f"{submission.folder}/run.sh")
    assert command.directory == submission.folder
    return command


def tells(words_of: Callable[..., tuple[str, ...]], *cases: tuple[Fields, tuple[str, ...]]) -> Test:
    """A test: a job of these fields is told to the scheduler in these words."""

    @pytest.mark.parametrize(("fields", "words"), cases)
    def test(fields: Fields, words: tuple[str, ...]) -> None:
        assert words_of(**fields) == words

    return test


def refuses(scheduler: str, words_of: Callable[..., object], *cases: tuple[str, Fields]) -> Test:
    """A test: a job of these fields is refused, by the name of the field, and of the scheduler."""

    @pytest.mark.parametrize(("field", "fields"), cases)
    def test(field: str, fields: Fields) -> None:
        with pytest.raises(InvalidJob) as caught:
            words_of(**fields)
        assert caught.value.field == field
        assert scheduler in str(caught.value)

    return test


def lacks(scheduler: str, words_of: Callable[..., object], *cases: tuple[Fields, str]) -> Test:
    """A test: what the scheduler does not have is refused, with what there is instead."""

    @pytest.mark.parametrize(("fields", "instead"), cases)
    def test(fields: Fields, instead: str) -> None:
        with pytest.raises(UnsupportedAttribute, match=f"{scheduler}.*{instead}"):
            words_of(**fields)

    return test


def check_acts_on_many(dialect: Dialect, sizes: Sequence[int], after: str = "") -> None:
    """Whatever is done to jobs 1, 2, ..., so many are named by one command. ``after``: what follows the number in an id."""
    ids = [f"{number}{after}" for number in range(1, sum(sizes) + 1)]
    for action in dialect.capabilities.actions:
        commands = dialect.control_commands(action, ids, signal=10)
        assert [len(concerned) for _, concerned in commands] == list(sizes)
        assert [one for _, concerned in commands for one in concerned] == ids


# Answers ------------------------------------------------------------------------------------------------------------


def submitted(dialect: Dialect, code: int, out: str, err: str = "") -> Accepted:
    """What is read of the answer to a submission of one job."""
    return dialect.parse_submit(Result(argv=("submit",), returncode=code, stdout=out.encode(), stderr=err.encode()), described())


def asked(dialect: Dialect, words: Sequence[str], text: str, *ids: str, code: int = 0, err: str = "") -> Answer:
    """What is read of the answer to a question about these jobs; ``words``: the command before them."""
    out = text.encode("utf-8", "surrogateescape")
    return dialect.parse_query(Result(argv=(*words, *ids), returncode=code, stdout=out, stderr=err.encode()))


def marked(text: str, code: int = 0) -> str:
    """As what a command of the shell printed that says itself where it ends (jobyard.schedulers.pbs.long_options)."""
    return f"{text}\njobyard: answered with {code}\n"


def reader(dialect: Dialect, *argv: str) -> Query:
    """What reads the output of the command that asks for these jobs, the last words."""
    return lambda text: dialect.parse_query(Result(argv=argv, returncode=0, stdout=text))


class Parser(NamedTuple):
    """One of a dialect's parsers, and the errors by which it may say that there is no answer."""

    parse: Callable[[Result], Any]
    errors: tuple[type[JobyardError], ...] = (SchedulerUnavailable,)

    def read(self, result: Result) -> Any:
        """What it makes of an answer; None where it says that this is none."""
        try:
            return self.parse(result)
        except self.errors:
            return None


def parsers(dialect: Dialect, ids: Sequence[str], single: Submission, *others: Submission) -> dict[str, Parser]:
    """All of a dialect's; ``ids``: the jobs that were acted on. ``others``: submissions that are looked for, the first an array."""

    def submission(of: Submission) -> Parser:
        return Parser(lambda result: dialect.parse_submit(result, of), (SchedulerUnavailable, SubmitError))

    def control(action: Action, result: Result) -> Mapping[str, JobyardError | None]:
        return dialect.parse_control(action, result, ids)

    return {
        "query": Parser(dialect.parse_query),
        "account": Parser(dialect.parse_account),
        "list": Parser(dialect.parse_list),
        "submit": submission(single),
        **({"submit-array": submission(others[0])} if others else {}),
        "find": Parser(lambda result: dialect.parse_find([result], [single, *others])),
        "limits": Parser(dialect.parse_limits),
        "version": Parser(dialect.parse_version),
        **{f"control-{action}": Parser(partial(control, action)) for action in sorted(dialect.capabilities.actions)},
    }


def anything(
    *words: str, ids: Collection[str] = (), codes: Sequence[int], out: st.SearchStrategy[bytes], err: st.SearchStrategy[bytes]
) -> st.SearchStrategy[Result]:
    """Answers of any kind to a command that names some of ``ids``."""
    named = st.lists(st.sampled_from(list(ids)), max_size=3) if ids else st.just([])
    return st.builds(
        lambda code, out, err, asked: Result(argv=(*words, *asked), returncode=code, stdout=out, stderr=err),
        st.sampled_from(codes),
        out,
        err,
        named,
    )


def examples(count: int) -> settings:
    """So many, however slow the machine is."""
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def never_breaks(
    parsers: Mapping[str, Parser], results: st.SearchStrategy[Result], *, count: int = 60, codes_tell: bool = False
) -> Test:
    """A test: whatever is printed, a parser reads it, or says that it is no answer.

    ``codes_tell``: by its exit code a command says that it has not told all.
    """

    @pytest.mark.parametrize("name", parsers)
    @examples(count)
    @given(result=results)
    def test(name: str, result: Result) -> None:
        read = parsers[name].read(result)
        if codes_tell and isinstance(read, Answer):
            assert not (result.returncode and read.complete), "a command that failed has not told all"

    made: Test = test
    return made


def damage_costs_only_what_it_touches(
    query: Query, lines: Sequence[bytes], rows: Mapping[str, Row], *, parts: bool = False, always: bool = False
) -> Test:
    """A test: of damaged output each row is as it was, or is not there. ``parts``: as in ``damaged``; ``always``: there always is
    an answer."""

    @examples(150)
    @given(text=damaged(lines, parts=parts))
    def test(text: bytes) -> None:
        with contextlib.suppress(*(() if always else (SchedulerUnavailable,))):
            for row in query(text).rows:
                assert row == rows.get(row.native_id)

    return test


def damage_never_makes_a_job_of_another(
    query: Query, lines: Sequence[bytes], rows: Mapping[str, Row], *, cut_ids: bool = False
) -> Test:
    """A test, where a job is several lines: parts of a row may be lost with their lines, but none is another's.

    ``cut_ids``: nothing in the output shows that an id was cut.
    """

    @examples(150)
    @given(text=damaged(lines, parts=True))
    def test(text: bytes) -> None:
        with contextlib.suppress(SchedulerUnavailable):
            for row in query(text).rows:
                good = rows.get(row.native_id)
                if good is None:
                    assert cut_ids
                    assert any(native_id.startswith(row.native_id) for native_id in rows)
                else:
                    assert row.state in (good.state, None)
                    assert row.token in (good.token, None)

    return test


def truncated_is_none(query: Query, text: bytes, end: int) -> Test:
    """A test: output of which less than ``end`` bytes came is no answer."""

    @examples(100)
    @given(st.integers(0, end - 1))
    def test(at: int) -> None:
        with pytest.raises(SchedulerUnavailable):
            query(text[:at])

    return test


def truncated_is_not_whole(query: Query, text: bytes, end: int, rows: Mapping[str, Row], *, always: bool = False) -> Test:
    """A test: an answer of which less than ``end`` bytes came is not complete, and its rows are good.

    ``query`` asks for all jobs by their ids. ``always``: there always is an answer.
    """

    @examples(100)
    @given(st.integers(0, end - 1))
    def test(at: int) -> None:
        with contextlib.suppress(*(() if always else (SchedulerUnavailable,))):
            answer = query(text[:at])
            assert not answer.complete
            assert all(row == rows[row.native_id] for row in answer.rows)

    return test
