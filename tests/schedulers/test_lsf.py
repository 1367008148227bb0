"""The dialect of LSF: what it makes of bjobs' records, of damage, and its commands.

No output of an LSF is recorded here. The records are our own, in the form that users published (docs/lsf.md).
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from jobyard.errors import NotPermitted, SchedulerUnavailable, SubmitError, UnknownJob, WrongState
from jobyard.job import By, Cause, JobState, Limits, Resources
from jobyard.schedulers.base import Action, Answer, Dialect, Kind, Result, Row
from jobyard.schedulers.lsf import LsfDialect
from jobyard.schedulers.lsf.rows import FIELDS
from schedulers import dialect_suite as suite
from schedulers.damage import noise
from schedulers.dialect_suite import TOKEN, described

DIALECT: Dialect = LsfDialect()
FOLDER = f"/scratch/my home/jobyard-1000/01/{TOKEN}"


def record(number: str, stat: str, **fields: str) -> dict[str, str]:
    blank = {name.upper(): "" for name in FIELDS.split()}
    return {**blank, "JOBID": number, "JOBINDEX": "0", "STAT": stat, "JOB_NAME": "job", "JOB_DESCRIPTION": TOKEN, **fields}


def printed(*records: dict[str, str]) -> str:
    """As bjobs lays it out: a line for each field."""
    lines = ["{", '  "COMMAND":"bjobs",', f'  "JOBS":{len(records)},', '  "RECORDS":[']
    for number, one in enumerate(records, 1):
        pairs = [f"      {json.dumps(key)}:{json.dumps(value)}" for key, value in one.items()]
        lines += ["    {", *(f"{pair}," for pair in pairs[:-1]), pairs[-1], "    }" + ("," if number < len(records) else "")]
    return "\n".join([*lines, "  ]", "}", ""])


asked = partial(suite.asked, DIALECT, ("bjobs", "-a"))


def only(one: dict[str, str]) -> Row:
    (row,) = asked(printed(one)).rows
    return row


RAN = {"START_TIME": "Dec 28 19:56", "EXEC_HOST": "4*tbi-cn019:tbi-cn020", "RUN_TIME": "12 second(s)"}
RECORDS = [
    record("1", "RUN", **RAN),
    record("2", "EXIT", EXIT_CODE="3", MAX_MEM="1.5 Gbytes", **RAN),
    record("7", "PEND", JOBINDEX="1", JOB_NAME="job[1]", PEND_REASON="New job is waiting for scheduling;"),
    record("7", "DONE", JOBINDEX="2", JOB_NAME="job[2]", **RAN),
]
IDS = ("1", "2", "7")


def test_records() -> None:
    answer = asked(printed(*RECORDS), *IDS)
    assert answer.complete
    assert [row.native_id for row in answer.rows] == ["1", "2", "7[1]", "7[2]"]
    assert {(row.token, row.name) for row in answer.rows} == {(TOKEN, "job")}
    running, failed, waiting, done = answer.rows
    assert (running.state, waiting.state) == (JobState.RUNNING, JobState.QUEUED)
    assert waiting.reason == "New job is waiting for scheduling"
    assert done.ending is not None
    assert done.ending.success
    assert failed.ending is not None
    assert (failed.ending.exit_code, failed.ending.host) == (3, "tbi-cn019")
    assert (failed.ending.usage.wall_s, failed.ending.usage.max_rss_bytes) == (12.0, 3 << 29)


@pytest.mark.parametrize(
    ("reason", "code", "state", "cause", "shown"),
    [
        ("", "137", JobState.FAILED, Cause.EXITED, 137),
        ("TERM_OWNER: job killed by owner", "130", JobState.CANCELLED, Cause.CANCELLED, None),
        ("TERM_ADMIN: job killed by root or LSF administrator", "130", JobState.CANCELLED, Cause.CANCELLED, None),
        ("TERM_RUNLIMIT: job killed after reaching LSF run time limit", "140", JobState.FAILED, Cause.WALLTIME, None),
        ("TERM_MEMLIMIT: job killed after reaching LSF memory usage limit", "137", JobState.FAILED, Cause.MEMORY, None),
        ("TERM_ORPHAN_SYSTEM: The orphan job was automatically terminated by LSF", "", JobState.FAILED, Cause.DEPENDENCY, None),
        ("TERM_UNKNOWN: unknown reason", "1", JobState.FAILED, Cause.UNKNOWN, None),
        ("", "", JobState.FAILED, Cause.UNKNOWN, None),
    ],
)
def test_endings(reason: str, code: str, state: JobState, cause: Cause, shown: int | None) -> None:
    ending = only(record("1", "EXIT", EXIT_REASON=reason, EXIT_CODE=code, **RAN)).ending
    assert ending is not None
    assert (ending.state, ending.cause, ending.exit_code, ending.aborted) == (state, cause, shown, False)
    assert ending.message == ("" if cause is Cause.EXITED else reason)
    never = only(record("1", "EXIT", EXIT_REASON=reason, EXIT_CODE=code)).ending
    assert never is not None
    assert never.aborted


@pytest.mark.parametrize(
    ("word", "state", "by"),
    [
        ("PSUSP", JobState.HELD, By.USER),
        ("USUSP", JobState.SUSPENDED, By.USER),
        ("SSUSP", JobState.SUSPENDED, By.SYSTEM),
        ("UNKWN", None, None),
        ("ZOMBI", None, None),
        ("NEWWORD", None, None),
    ],
)
def test_states(word: str, state: JobState | None, by: By | None) -> None:
    row = only(record("1", word))
    assert (row.state, row.by, row.native_state, row.ended) == (state, by, word, False)


def test_what_is_not_there() -> None:
    error = {"JOBID": "99", "ERROR": "Job <99> is not found"}
    answer = asked(printed(RECORDS[0], error), "1", "99")
    assert answer.complete
    assert [row.native_id for row in answer.rows] == ["1"]
    assert asked("", "99", code=255, err="Job <99> is not found\n") == Answer()
    assert asked("", err="No job found\n") == Answer()
    assert not asked(printed(RECORDS[0]), "1", "2").complete, "not a word of the second"
    assert not asked(printed(*RECORDS).replace('"JOBS":4', '"JOBS":5'), *IDS).complete
    for code, err in ((255, ""), (0, ""), (255, "LSF is down. Please wait ..."), (-9, "")):
        for text in ("", WAITING):
            with pytest.raises(SchedulerUnavailable):
                asked(text, "1", code=code, err=err)


WAITING = "Cannot connect to LSF. Please wait ...\n" * 3


def test_a_command_that_had_to_wait_for_its_answer() -> None:
    """As users published it: the same lines stand before an answer that came in the end, on either stream."""
    for text, err in ((WAITING + TEXT, ""), (TEXT, WAITING), (TEXT, "batch system daemon not responding ... still trying\n")):
        answer = asked(text, *IDS, err=err)
        assert answer.complete
        assert {row.native_id: row for row in answer.rows} == ROWS
    with pytest.raises(SchedulerUnavailable):
        asked(TEXT[: len(TEXT) // 2], *IDS, err=WAITING)
    taken = Result(argv=("bsub",), returncode=0, stdout=f"{WAITING}Job <15> is submitted to queue <normal>.\n".encode())
    assert DIALECT.parse_submit(taken, described()).native_ids == ("15",)
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_submit(Result(argv=("bsub",), returncode=255, stdout=WAITING.encode()), described())


def test_none_at_all() -> None:
    assert asked('{"COMMAND":"bjobs","JOBS":0,"RECORDS":[]}') == Answer()
    counted = printed(*RECORDS).replace('"JOBS":4', '"JOBS":"4"')
    assert asked(counted, *IDS).complete, "the count was published as text, too"


@pytest.mark.parametrize(("text", "wall_s"), [("16038 second(s)", 16038.0), ("00:00:01", 1.0), ("27:10:00", 97800.0), ("-", None)])
def test_run_times(text: str, wall_s: float | None) -> None:
    ending = only(record("1", "DONE", **{**RAN, "RUN_TIME": text})).ending
    assert ending is not None
    assert ending.usage.wall_s == wall_s


def test_one_bad_record_costs_one_row() -> None:
    text = printed(*RECORDS).replace('"STAT":"RUN",\n', "")
    answer = asked(text, *IDS)
    assert [row.native_id for row in answer.rows] == ["2", "7[1]", "7[2]"]
    assert not answer.complete


def test_a_record_with_parts_of_two_is_none() -> None:
    text = printed(*RECORDS).replace('"JOBID":"1",\n', '"JOBID":"1",      "JOBID":"7",\n')
    answer = asked(text, *IDS)
    assert [row.native_id for row in answer.rows] == ["2", "7[1]", "7[2]"]
    assert not answer.complete


def test_control_answers_each_job() -> None:
    out = b"Job <1> is being terminated\nJob <7[2]> is being terminated\n"
    err = b"Job <2>: Job has already finished\nJob <3>: No matching job found\nJob <4>: User permission denied\n"
    answers = DIALECT.parse_control(
        Action.CANCEL, Result(argv=("bkill",), returncode=255, stdout=out, stderr=err), ["1", "7[2]", "2", "3", "4", "5"]
    )
    kinds = {one: type(error) for one, error in answers.items()}
    assert kinds == {"1": type(None), "7[2]": type(None), "2": WrongState, "3": UnknownJob, "4": NotPermitted}


def test_submissions_that_are_refused_or_not_known() -> None:
    submit = partial(suite.submitted, DIALECT)
    assert submit(0, "a word of the site\nJob <15> is submitted to default queue <normal>.\n").native_ids == ("15",)
    with pytest.raises(SubmitError, match="No such queue") as caught:
        submit(255, "", "nosuch: No such queue. Job not submitted.")
    assert not caught.value.retryable
    for words in ("train: No matching job found", "Job array index too large", "Request aborted by esub"):
        with pytest.raises(SubmitError, match=words) as caught:
            submit(255, "", f"{words}. Job not submitted.\n")
        assert not caught.value.retryable
    for words in ("User's job limit reached", "The destination queue has reached its job limit"):
        with pytest.raises(SubmitError) as caught:
            submit(255, "", f"{words}. Job not submitted.")
        assert caught.value.retryable
    for words in (
        "Contacting batch daemon: Communication timeout",
        "Timeout on connect call to server",
        "Connection refused by server",
    ):
        with pytest.raises(SchedulerUnavailable):
            submit(255, "", f"{words}. Job not submitted.")
    for code, out, err in ((-9, "", ""), (255, "", "batch system daemon not responding ... still trying"), (0, "", "")):
        with pytest.raises(SchedulerUnavailable):
            submit(code, out, err)


# Whatever is printed ------------------------------------------------------------------------------------------------

TEXT = printed(*RECORDS)
LINES = TEXT.encode().splitlines(keepends=True)
ROWS = {row.native_id: row for row in asked(TEXT, *IDS).rows}
results = suite.anything(
    "bjobs",
    ids=[*IDS, "99"],
    codes=[0, 0, 0, 255, 1, -9],
    out=noise(LINES, b'{}[]",:JOBIDSTAEXPN0123456789\n\\u\x00\xff'),
    err=noise([b"Job <1> is not found\n", b"No job found\n", b"LSF is down\n"], b"Job <>12[]: not found"),
)


queue = suite.reader(DIALECT, "bjobs", *IDS)
test_no_answer_breaks_a_parser = suite.never_breaks(suite.parsers(DIALECT, ["1", "2[3]"], described()), results)
# A record that lost a line is none; one that was mixed of two is neither.
test_damage_costs_only_what_it_touches = suite.damage_costs_only_what_it_touches(queue, LINES, ROWS, parts=True)
test_truncated_answers = suite.truncated_is_not_whole(queue, TEXT.encode(), len(TEXT.rstrip()), ROWS)


# Commands -----------------------------------------------------------------------------------------------------------


def bsub(**fields: Any) -> tuple[str, ...]:
    command = suite.command_for(DIALECT, described(folder=FOLDER, **fields))
    assert command.stdin.decode() == f"#!/bin/sh\nexec /bin/sh '{FOLDER}/run.sh'\n", "by standard input, its path quoted"
    return command.argv[1:]


def always(name: str = "true") -> tuple[str, ...]:
    return ("-J", name, "-Jd", TOKEN, "-o", "/dev/null", "-cwd", FOLDER, "-env", "none", "-rn")


test_submissions = suite.tells(
    bsub,
    ({}, always()),
    ({"resources": Resources(cores=4)}, (*always(), "-n", "4", "-R", "span[hosts=1]")),
    (
        {"resources": Resources(nodes=2, processes_per_node=4, cores=2, gpus=1, memory_bytes=1025)},
        (*always(), "-n", "16", "-R", "span[ptile=8]", "-R", "rusage[mem=2KB/job]", "-gpu", "num=4"),
    ),
    ({"resources": Resources(processes=6)}, (*always(), "-n", "6")),
    ({"resources": Resources(processes=3, cores=2)}, (*always(), "-n", "6", "-R", "span[block=2]")),
    ({"resources": Resources(exclusive=True)}, (*always(), "-x")),
    ({"limits": Limits(walltime_s=3661)}, (*always(), "-W", "1:02")),
    ({"queue": "short", "account": "p 1", "reservation": "r#1"[:1]}, (*always(), "-q", "short", "-P", "p 1", "-U", "r")),
    ({"hold": True}, (*always(), "-H")),
    ({"native": ("-sp", "5", "-B")}, ("-sp", "5", "-B", *always())),
    ({"attributes": {"lsf.app": "x", "lsf.B": "", "pbs.l": "y"}}, ("-app", "x", "-B", *always())),
    (
        {"after": (("48", "success"), ("7[2]", "failure"), ("50", "any"))},
        (*always(), "-ti", "-w", "done(48) && exit(7[2]) && ended(50)"),
    ),
    ({"kind": Kind.ARRAY, "indices": (3, 4, 9), "max_running": 2}, always("true[1-3]%2")),
    ({"name": "a[1-9]%2:x"}, always("a_1-9__2_x")),
    ({"name": "17"}, always("_17")),
)


def test_a_job_that_may_run_twice() -> None:
    assert "-r" in bsub(rerunnable=True)


test_what_is_refused = suite.refuses(
    "lsf",
    bsub,
    ("queue", {"queue": "a b"}),
    ("account", {"account": "-x"}),
    ("native", {"native": ("-J", "x[1-3]")}),
    ("native", {"native": ("-Is", "bash")}),
    ("native", {"native": ("-K",)}),
    ("native", {"native": ("-q", "short", "./run")}),
    ("native", {"native": ("-B", "./run")}),
    ("lsf.o", {"attributes": {"lsf.o": "/x"}}),
    ("lsf.app", {"attributes": {"lsf.app": ""}}),
    ("lsf.a b", {"attributes": {"lsf.a b": "x"}}),
)


def test_questions_name_an_array_once_and_never_what_is_no_id() -> None:
    assert DIALECT.query_command(["15[1]", "15[2]", "7", "-h", "$(id)"]).argv == ("bjobs", "-a", "-json", "-o", FIELDS, "15", "7")
    assert DIALECT.query_command(["no id"]).argv == DIALECT.list_command().argv


def test_one_command_acts_on_many() -> None:
    suite.check_acts_on_many(DIALECT, [500, 200])
    (command,) = DIALECT.control_commands(Action.SIGNAL, ["7[2]"], signal=12)
    assert command[0].argv == ("bkill", "-s", "USR2", "7[2]")
