"""HyperQueue's dialect: what it asks, what it reads, what it refuses; and answers of any kind. No server runs here."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.contact import Contact
from jobyard.description import describe
from jobyard.errors import (
    InvalidContact,
    InvalidJob,
    NoScheduler,
    SchedulerUnavailable,
    SubmitError,
    UnknownJob,
    UnsupportedAttribute,
    WrongState,
)
from jobyard.job import Cause, JobState, Limits, Resources
from jobyard.schedulers.base import Action, Answer, Command, Kind, Result, Submission
from jobyard.schedulers.checks import check_capabilities
from jobyard.schedulers.hyperqueue import HyperQueueDialect, open_hyperqueue, room_of
from schedulers.damage import damaged, noise
from schedulers.dialect_suite import TOKEN, anything, never_breaks, parsers, reader, truncated_is_none

FOLDER = f"/work/jobyard-7/01/{TOKEN}"
DIALECT = HyperQueueDialect(python="/usr/bin/python3", program="/x/ask.py", room="/state/own", cores=4)
JOINED = HyperQueueDialect(python="/usr/bin/python3", program="/x/ask.py", room="/state/1f", join="/home/me/.hq-server")


def described(kind: Kind = Kind.SINGLE, indices: tuple[int, ...] = (), **fields: Any) -> Submission:
    return Submission(token=TOKEN, folder=FOLDER, description=describe(["/bin/true"], **fields), kind=kind, indices=indices)


def said(value: Any, code: int = 0) -> Result:
    return Result(argv=("python3", "ask.py"), returncode=code, stdout=json.dumps(value).encode() + b"\n")


def job(**fields: Any) -> dict[str, Any]:
    start: dict[str, Any] = {
        "id": "aB3-7",
        "token": TOKEN,
        "name": "true",
        "count": None,
        "over": False,
        "finished": 0,
        "failed": {},
    }
    return {**start, "cancelled": [], "begun": None, **fields}


def row(**fields: Any) -> Any:
    (found,) = DIALECT.parse_query(said({"jobs": [job(**fields)], "unknown": []})).rows
    return found


# What is asked ------------------------------------------------------------------------------------------------------


def told(command: Command) -> Any:
    """The question that a command asks: its last word, or its standard input."""
    assert (command.argv[-2] == "--question") != bool(command.stdin)
    return json.loads(command.stdin or command.argv[-1])


def question(submission: Submission, dialect: HyperQueueDialect = DIALECT) -> dict[str, Any]:
    description = submission.description
    check_capabilities("hyperqueue", dialect.capabilities, description, kind=submission.kind, tasks=1, max_running=None)
    dialect.check(description, kind=submission.kind, tasks=max(len(submission.indices), 1), max_running=None)
    found = told(dialect.submit_command(submission, f"{FOLDER}/run.sh"))
    assert isinstance(found, dict)
    return found


def test_a_submission() -> None:
    asked = question(described(name='a "b"\n$c é', resources=Resources(processes=2, cores=2), priority=-3))
    assert asked == {
        "ask": "submit",
        "token": TOKEN,
        "folder": FOLDER,
        "name": 'a "b"_$c é',
        "count": 1,
        "single": True,
        "cores": 4,
        "resources": {},
        "priority": -3,
        "walltime_s": None,
        "rerunnable": False,
    }


def test_an_array_is_one_job() -> None:
    asked = question(described(Kind.ARRAY, (3, 5, 9), limits=Limits(walltime_s=1.5), rerunnable=True))
    assert (asked["count"], asked["single"], asked["walltime_s"], asked["rerunnable"]) == (3, False, 1.5, True)


def test_resources_of_a_joined_servers_workers() -> None:
    resources = Resources(processes=2, gpus=1, memory_bytes=(1 << 20) + 1)
    assert question(described(resources=resources), JOINED)["resources"] == {"gpus/nvidia": 2, "mem": 2}


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("memory_bytes", {"resources": Resources(memory_bytes=1)}),
        ("gpus", {"resources": Resources(gpus=1)}),
        ("queue", {"queue": "fast"}),
        ("account", {"account": "a"}),
        ("hold", {"hold": True}),
        ("begin_at", {"begin_at": 1e9}),
        ("native", {"native": ("--x",)}),
        ("exclusive", {"resources": Resources(exclusive=True)}),
        ("run_time", {"limits": Limits(run_time_s=5.0)}),
    ],
)
def test_what_is_refused_by_name(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedAttribute, match="hyperqueue cannot honour") as caught:
        question(described(**fields))
    assert caught.value.field == field


def test_what_can_never_run_is_refused() -> None:
    with pytest.raises(InvalidJob, match="asks for 5 cores, and the server that starts here has 4"):
        question(described(resources=Resources(cores=5)))
    assert question(described(resources=Resources(cores=5)), JOINED)["cores"] == 5
    with pytest.raises(UnsupportedAttribute, match="2 nodes"):
        question(described(resources=Resources(processes=4, processes_per_node=2)))
    with pytest.raises(InvalidJob, match="priority"):
        question(described(priority=1 << 31))


def test_no_cap_and_no_dependencies() -> None:
    one = describe(["true"])
    with pytest.raises(UnsupportedAttribute, match="cap on the running tasks"):
        check_capabilities("hyperqueue", DIALECT.capabilities, one, kind=Kind.ARRAY, tasks=3, max_running=2)
    assert DIALECT.capabilities.dependencies == frozenset()
    assert DIALECT.capabilities.actions == {Action.CANCEL}


def test_the_commands_are_few_however_many_jobs_there_are() -> None:
    """One question for all jobs, 5,000 ids in each cancel; where they are many, beyond the limits of a command line."""
    many = [f"aB3-{number}" for number in range(12_000)]
    assert told(DIALECT.query_command(many))["ids"] == many
    assert [len(ids) for _, ids in DIALECT.control_commands(Action.CANCEL, many, signal=None)] == [5000, 5000, 2000]
    assert len(DIALECT.find_commands([described(), described()])) == 1
    assert all(len(word) < 131_072 for word in DIALECT.query_command(many[:7000]).argv)


def test_words_that_are_no_ids_are_not_asked_for() -> None:
    assert told(DIALECT.query_command(["aB3-1", "aB3-1", "$(x)", "-1", "a b-1", "aB3-1.x"]))["ids"] == ["aB3-1"]


def test_the_batch_script_looks_whether_it_was_cancelled() -> None:
    lines = DIALECT.directives(described())
    assert any("stop.$HQ_TASK_ID" in line for line in lines)
    assert not any(FOLDER in line for line in lines)


# What is read -------------------------------------------------------------------------------------------------------


def test_ids() -> None:
    assert DIALECT.parse_submit(said({"id": "aB3-7"}), described()).native_ids == ("aB3-7",)
    accepted = DIALECT.parse_submit(said({"id": "aB3-7"}), described(Kind.ARRAY, (4, 9)))
    assert (accepted.native_ids, accepted.array_id) == (("aB3-7.0", "aB3-7.1"), "aB3-7")


def test_a_refusal_is_told_from_silence() -> None:
    with pytest.raises(SubmitError, match="no such resource"):
        DIALECT.parse_submit(said({"refused": "no such resource"}), described())
    for answer in (said({"error": "gone"}), said({"error": "gone"}, 3), said({}), said([]), said({"id": "x"}), said({"id": 7})):
        with pytest.raises(SchedulerUnavailable):
            DIALECT.parse_submit(answer, described())


def test_find() -> None:
    result = said({"jobs": [job()], "doubtful": []})
    assert DIALECT.parse_find([result], [described()])[TOKEN].native_ids == ("aB3-7",)
    assert DIALECT.parse_find([said({"jobs": []})], [described()]) == {}
    with pytest.raises(SchedulerUnavailable, match="not known"):
        DIALECT.parse_find([said({"jobs": [], "doubtful": [TOKEN]})], [described()])


def test_a_job_that_is_not_over_keeps_its_state() -> None:
    found = row()
    assert (found.state, found.ended, found.native_state, found.token) == (None, False, "waiting or running", TOKEN)


def test_what_began_is_known_by_its_claim() -> None:
    answer = DIALECT.parse_query(said({"jobs": [job(count=2, begun=[1])], "unknown": []}))
    assert [(one.state, one.native_state) for one in answer.rows] == [
        (JobState.QUEUED, "waiting"),
        (JobState.RUNNING, "running"),
    ]


def test_cancelled_before_it_began() -> None:
    found = row(cancelled=[0])
    assert (found.state, found.ended, found.ending.cause, found.ending.aborted) == (
        JobState.CANCELLED,
        True,
        Cause.CANCELLED,
        True,
    )


@pytest.mark.parametrize(
    ("text", "code", "signal", "cause"),
    [
        # As 0.27.0 says it.
        ("Program terminated with exit code 3.", 3, None, Cause.EXITED),
        ("Program terminated with exit code -1. Received signal 9 (SIGKILL).", None, "SIGKILL", Cause.EXITED),
        ('Cannot execute "/nonexist": No such file or directory (os error 2)', None, None, Cause.NOT_STARTED),
        ("something that nobody has seen", None, None, Cause.UNKNOWN),
    ],
)
def test_failures(text: str, code: int | None, signal: str | None, cause: Cause) -> None:
    found = row(over=True, failed={"0": text})
    assert (found.ending.exit_code, found.ending.signal, found.ending.cause) == (code, signal, cause)
    assert found.ended
    assert found.reason == text


def test_tasks_of_an_array() -> None:
    """While some go on, only those that failed are known; when all are over, the others ended well."""
    failed = {"1": "Program terminated with exit code 4."}
    going = DIALECT.parse_query(said({"jobs": [job(count=3, finished=1, failed=failed)], "unknown": []}))
    assert [(one.native_id, one.ended) for one in going.rows] == [("aB3-7.0", False), ("aB3-7.1", True), ("aB3-7.2", False)]
    over = DIALECT.parse_query(said({"jobs": [job(count=3, over=True, finished=2, failed=failed)], "unknown": []}))
    assert [one.state for one in over.rows] == [JobState.DONE, JobState.FAILED, JobState.DONE]


def test_over_by_somebody_elses_cancel_says_only_that() -> None:
    found = row(over=True, finished=0)
    assert (found.ended, found.state, found.ending) == (True, None, None)


def test_an_answer_that_does_not_know_all_is_not_complete() -> None:
    assert not DIALECT.parse_query(said({"jobs": [job()], "unknown": ["zz-1"]})).complete
    assert not DIALECT.parse_query(said({"jobs": [job(), {"id": 7}], "unknown": []})).complete
    assert DIALECT.parse_query(said({"jobs": [], "unknown": []})) == Answer()


def test_control() -> None:
    ids = ["a-1", "a-2", "a-3", "a-4", "a-5"]
    answers = {"a-1": None, "a-2": "over", "a-3": "unknown", "a-4": "failed: disk full"}
    found = DIALECT.parse_control(Action.CANCEL, said({"answers": answers}), ids)
    assert {one: type(error) for one, error in found.items()} | {"a-4": None} == {
        "a-1": type(None),
        "a-2": WrongState,
        "a-3": UnknownJob,
        "a-4": None,
    }
    assert "disk full" in str(found["a-4"])
    gone = DIALECT.parse_control(Action.CANCEL, said({"answers": {}}), ids[:1])
    assert isinstance(gone["a-1"], UnknownJob)


def test_version() -> None:
    assert DIALECT.parse_version(Result(argv=(), returncode=0, stdout=b"0.27.0\n")) == "hyperqueue 0.27.0"
    with pytest.raises(SchedulerUnavailable, match="pip install"):
        DIALECT.parse_version(Result(argv=(), returncode=1, stderr=b"PackageNotFoundError"))


# Whatever is printed ------------------------------------------------------------------------------------------------

WHOLE = {"jobs": [job(), job(id="aB3-8", count=4, finished=1, failed={"2": "x"}, cancelled=[3])], "unknown": []}
TEXT = json.dumps(WHOLE, indent=1).encode() + b"\n"
LINES = TEXT.splitlines(keepends=True)
ROWS = {one.native_id: one for one in DIALECT.parse_query(said(WHOLE)).rows}
results = anything(
    "ask",
    codes=[0, 0, 3, -9],
    out=st.one_of(noise(LINES, b'{}[]",: jobsidunkown0123456789\n\xff'), damaged(LINES)),
    err=st.just(b""),
)


queue = reader(DIALECT, "ask")
test_no_answer_breaks_a_parser = never_breaks(parsers(DIALECT, ["a-1"], described()), results, count=150)
test_a_truncated_answer_is_none = truncated_is_none(queue, TEXT, len(TEXT) - 2)

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.just([]),
    st.just([1]),
    st.just({}),
    st.just({"0": 1}),
)


@given(fields=st.dictionaries(st.sampled_from(list(job())), VALUES), count=st.one_of(st.none(), st.integers(-2, 5), VALUES))
@settings(max_examples=300, deadline=None)
def test_values_of_any_kind(fields: dict[str, Any], count: Any) -> None:
    answer = DIALECT.parse_query(said({"jobs": [job(count=count) | fields, job(id="aB3-9")], "unknown": []}))
    assert answer.rows[-1].native_id == "aB3-9", "one bad row costs one row"


@given(text=damaged(LINES))
@settings(max_examples=150, deadline=None)
def test_damage_makes_no_jobs_of_others(text: bytes) -> None:
    """Lines may be gone or mixed; what is read is of jobs that were in the answer, or the whole is none."""
    with contextlib.suppress(SchedulerUnavailable):
        for one in queue(text).rows:
            assert one.native_id.partition(".")[0] in {known.partition(".")[0] for known in ROWS}


# Opening ------------------------------------------------------------------------------------------------------------


def test_without_the_package(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NoScheduler, match=r"pip install 'jobyard\[hyperqueue\]'"):
        open_hyperqueue(yard / "state", {})


@pytest.mark.parametrize("options", ["server_dir=here", "cores=0", "cores=x", "idle=soon", "servers=1"])
def test_options_that_are_none(options: str) -> None:
    with pytest.raises(InvalidContact):
        Contact.parse(f"hyperqueue?{options}").check_options()


def test_each_server_has_a_room_of_its_own(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = yard / "state"
    rooms = {room_of(state), room_of(state, "/a"), room_of(state, "/b")}
    assert len(rooms) == 3
    assert room_of(state, "/a/../b") == room_of(state, "/b")
    assert not (state / "local").exists(), "opening makes nothing"
