"""The dialect of Torque: what it makes of documents as Torque's qstat writes them, of damage, and its commands.

No output of a Torque server is recorded here. The documents are our own, in the form that qstat.c writes and that users
published (docs/torque.md).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from jobyard.errors import NotPermitted, SchedulerUnavailable, SubmitError, UnknownJob, WrongState
from jobyard.job import By, Cause, JobState, Limits, Resources
from jobyard.schedulers.base import Action, Dialect, Kind, Result, Row
from jobyard.schedulers.torque import TorqueDialect
from schedulers import dialect_suite as suite
from schedulers.damage import noise
from schedulers.dialect_suite import FOLDER, TOKEN, described

DIALECT: Dialect = TorqueDialect()


def element(native_id: str, state: str, more: str = "", *, name: str = "job", token: str = TOKEN) -> str:
    return (
        f"<Job><Job_Id>{native_id}</Job_Id><Job_Name>{name}</Job_Name><job_state>{state}</job_state><queue>batch</queue>"
        f"<ctime>1577049180</ctime><Hold_Types>n</Hold_Types><Resource_List><mem>2gb</mem><nodes>1:ppn=1</nodes></Resource_List>"
        f"<Variable_List>PBS_O_HOME=/home/me,PBS_O_WORKDIR=/scratch/me/{token[:2]}/{token},PBS_O_HOST=a &amp; b</Variable_List>"
        f"{more}</Job>"
    )


RAN = "<start_time>1577049181</start_time><session_id>7</session_id><exec_host>comp014/21+comp015/0</exec_host>"
USED = "<resources_used><cput>00:00:05</cput><mem>544560kb</mem><walltime>01:00:07</walltime></resources_used>"
DOCUMENTS = [
    f"<Data>{element('1.srv', 'R', RAN)}</Data>\n",
    f"<Data>{element('2.srv', 'C', RAN + USED + '<exit_status>3</exit_status><comp_time>1577049199</comp_time>')}</Data>\n",
    f"<Data>{element('7[0].srv', 'Q')}{element('7[1].srv', 'C', RAN + '<exit_status>-11</exit_status>')}</Data>\n",
    f"<Data>{element('9.srv', 'C', RAN + '<exit_status>0</exit_status>', name='n')}</Data>\n",
]
IDS = ("1.srv", "2.srv", "7[].srv", "9.srv")


asked = partial(suite.asked, DIALECT, ("qstat", "-x", "-t"))


def only(text: str) -> Row:
    (row,) = asked(text).rows
    return row


def test_several_documents_are_one_answer() -> None:
    answer = asked("".join(DOCUMENTS), *IDS)
    assert answer.complete
    assert [row.native_id for row in answer.rows] == ["1.srv", "2.srv", "7[0].srv", "7[1].srv", "9.srv"]
    assert {row.token for row in answer.rows} == {TOKEN}
    running, ended = answer.rows[:2]
    assert (running.state, running.began_at, running.submitted_at) == (JobState.RUNNING, 1577049181.0, 1577049180.0)
    assert ended.ending is not None
    assert (ended.ending.exit_code, ended.ending.host, ended.ending.ended_at) == (3, "comp014", 1577049199.0)
    assert (ended.ending.usage.wall_s, ended.ending.usage.max_rss_bytes) == (3607.0, 544560 << 10)


@pytest.mark.parametrize(
    ("more", "state", "cause", "code", "signal", "aborted"),
    [
        (RAN + "<exit_status>0</exit_status>", JobState.DONE, Cause.EXITED, 0, None, False),
        (RAN + "<exit_status>137</exit_status>", JobState.FAILED, Cause.EXITED, 137, None, False),
        (RAN + "<exit_status>271</exit_status>", JobState.CANCELLED, Cause.CANCELLED, None, "SIGTERM", False),
        (RAN + "<exit_status>265</exit_status>", JobState.FAILED, Cause.EXITED, None, "SIGKILL", False),
        (RAN + "<exit_status>-11</exit_status>", JobState.FAILED, Cause.WALLTIME, None, None, False),
        (RAN + "<exit_status>-10</exit_status>", JobState.FAILED, Cause.MEMORY, None, None, False),
        ("<exit_status>-2</exit_status>", JobState.FAILED, Cause.NOT_STARTED, None, None, True),
        ("", JobState.FAILED, Cause.UNKNOWN, None, None, True),
        ("<exit_status>271</exit_status>", JobState.CANCELLED, Cause.CANCELLED, None, "SIGTERM", True),
        ("<depend>afterok:1.srv</depend><exit_status>271</exit_status>", JobState.FAILED, Cause.UNKNOWN, None, None, True),
    ],
)
def test_endings(more: str, state: JobState, cause: Cause, code: int | None, signal: str | None, aborted: bool) -> None:
    row = only(f"<Data>{element('1.srv', 'C', more)}</Data>")
    assert row.ended
    assert row.ending is not None
    found = row.ending
    assert (found.state, found.cause, found.exit_code, found.signal, found.aborted) == (state, cause, code, signal, aborted)


@pytest.mark.parametrize(
    ("letter", "state", "by"),
    [
        ("Q", JobState.QUEUED, None),
        ("W", JobState.HELD, By.SYSTEM),
        ("E", JobState.RUNNING, None),
        ("S", JobState.SUSPENDED, By.SYSTEM),
        ("Z", None, None),
    ],
)
def test_states(letter: str, state: JobState | None, by: By | None) -> None:
    row = only(f"<Data>{element('1.srv', letter)}</Data>")
    assert (row.state, row.by, row.native_state, row.ended) == (state, by, letter, False)


def test_who_holds_it() -> None:
    held = element("1.srv", "H").replace("<Hold_Types>n<", "<Hold_Types>us<")
    row = only(f"<Data>{held}</Data>")
    assert (row.state, row.by) == (JobState.HELD, By.BOTH)


def test_what_is_not_there() -> None:
    answer = asked(DOCUMENTS[0], "1.srv", "99.srv", code=153, err="qstat: Unknown Job Id Error 99.srv\n")
    assert answer.complete
    assert [row.native_id for row in answer.rows] == ["1.srv"]
    assert not asked(DOCUMENTS[0], "1.srv", "99.srv").complete
    assert not asked("<Data>" + element("7[0].srv", "Q"), "7[].srv").complete, "cut between two tasks"
    for code, err in ((153, ""), (1, "x")):
        with pytest.raises(SchedulerUnavailable):
            asked("", "1.srv", code=code, err=err)
    # As users published it; the numbers of exit codes are not known.
    err = "Unable to communicate with srv(10.1.1.1)\nCannot connect to specified server host 'srv'.\n"
    err += "qstat: cannot connect to server srv (errno=111) Connection refused\n"
    with pytest.raises(SchedulerUnavailable, match=r"qstat: cannot connect to server srv \(errno=111\) Connection refused"):
        asked("", "1.srv", code=255, err=err)


def test_there_is_no_accounting() -> None:
    assert DIALECT.account_command(["1.srv"]) is None


def test_control_answers_each_job() -> None:
    err = b"qdel: Unknown Job Id Error 1.s\nqdel: Request invalid for state of job MSG=invalid state for job - COMPLETE 2.s\n"
    err += b"qdel: Unauthorized Request  MSG=operation not permitted 3.s\nqdel: nonexistent job id: 5.s\n"
    result = Result(argv=("qdel",), returncode=159, stderr=err)
    answers = DIALECT.parse_control(Action.CANCEL, result, ["1.s", "2.s", "3.s", "4.s", "5.s"])
    assert [type(answers[one]) for one in answers] == [UnknownJob, WrongState, NotPermitted, type(None), UnknownJob]


def test_submissions_that_are_refused_or_not_known() -> None:
    submit = partial(suite.submitted, DIALECT)
    assert submit(0, "welcome\n15.srv\n").native_ids == ("15.srv",)
    with pytest.raises(SubmitError, match="Unknown queue"):
        submit(170, "", "qsub: submit error (Unknown queue MSG=requested queue not found)")
    with pytest.raises(SubmitError, match="requested queue not found") as caught:
        submit(1, "", "qsub: submit error (No default queue specified MSG=requested queue not found)")
    assert not caught.value.retryable
    with pytest.raises(SubmitError, match="cannot queue job 21927"):
        submit(208, "", "qsub: submit error (Invalid Job Dependency MSG=cannot queue job 21927.admin1)")
    full = "total number of current user's jobs exceeds the queue limit: user me@srv, queue batch"
    with pytest.raises(SubmitError, match="already in queue") as caught:
        submit(1, "", f"qsub: submit error (Maximum number of jobs already in queue for user MSG={full})")
    assert caught.value.retryable
    trqauthd = (
        "socket_connect_unix failed: 15137\nqsub: cannot connect to server (null) (errno=15137) could not connect to trqauthd"
    )
    busy = "qsub: submit error (Pbs Server is currently too busy to service this request. Please retry this request.)"
    for code, out, err in ((-9, "", ""), (33, "", trqauthd), (1, "", busy), (0, "", ""), (0, "1.s\n2.s\n", "")):
        with pytest.raises(SchedulerUnavailable):
            submit(code, out, err)


# Whatever is printed ------------------------------------------------------------------------------------------------

LINES = [line.encode() for document in DOCUMENTS for line in document.replace("<Job>", "\n<Job>").splitlines(keepends=True)]
ROWS = {row.native_id: row for row in asked("".join(DOCUMENTS), *IDS).rows}
results = suite.anything(
    "qstat",
    "-x",
    ids=[*IDS, "99"],
    codes=[0, 0, 0, 153, 1, 255, -9],
    out=noise(LINES, b"</>JobDataId_.0123456789[] QRCHE\n\x00\xff"),
    err=noise([b"qstat: Unknown Job Id Error 1.srv\n", b"Cannot connect\n"], b"qstat: UnkowJbI"),
)
TEXT = "".join(DOCUMENTS).encode()


queue = suite.reader(DIALECT, "qstat", "-x", *IDS)
test_no_answer_breaks_a_parser = suite.never_breaks(suite.parsers(DIALECT, ["1.s", "2[3].s"], described()), results)
test_damage_costs_only_what_it_touches = suite.damage_costs_only_what_it_touches(queue, LINES, ROWS, always=True)
test_truncated_answers = suite.truncated_is_not_whole(queue, TEXT, len(TEXT) - len("</Data>\n") + 1, ROWS, always=True)


# Commands -----------------------------------------------------------------------------------------------------------


def qsub(**fields: Any) -> tuple[str, ...]:
    command = suite.command_for(DIALECT, described(**fields))
    assert command.environment == {"TZ": "UTC0"}
    assert command.argv[-1] == f"{FOLDER}/run.sh"
    return command.argv[1:-1]


ALWAYS = ("-m", "n", "-N", "true", "-j", "oe", "-o", "/dev/null", "-r", "n")


test_submissions = suite.tells(
    qsub,
    ({}, ALWAYS),
    (
        {
            "resources": Resources(nodes=2, processes_per_node=4, cores=2, gpus=1, memory_bytes=1000),
            "limits": Limits(walltime_s=9.1),
        },
        (*ALWAYS, "-l", "nodes=2:ppn=8:gpus=4,mem=1000b,walltime=10"),
    ),
    ({"resources": Resources(processes=6)}, (*ALWAYS, "-l", "nodes=1:ppn=6")),
    ({"kind": Kind.ARRAY, "indices": (0, 1, 2, 7), "max_running": 2}, (*ALWAYS, "-t", "0-2,7%2")),
    ({"kind": Kind.ARRAY, "indices": (7,)}, (*ALWAYS, "-t", "7")),
    (
        {"after": (("48.s", "success"), ("15[].s", "failure"))},
        (*ALWAYS, "-W", "depend=afterok:48.s,afternotokarray:15[].s"),
    ),
    ({"name": "9 lives and more than these"}, (*ALWAYS[:3], "j9_lives_and_mo", *ALWAYS[4:])),
)


test_what_is_refused = suite.refuses(
    "torque",
    qsub,
    ("queue", {"queue": "a b"}),
    ("native", {"native": ("-t", "1-3")}),
    ("native", {"native": ("-F", "x")}),
    ("native", {"native": ("-W", "depend=afterok:1")}),
    ("torque.o", {"attributes": {"torque.o": "/x"}}),
)


def test_questions_name_an_array_once_and_never_what_is_no_id() -> None:
    assert DIALECT.query_command(["15[0].s", "15[1].s", "7.s", "-h", "$(id)"]).argv == ("qstat", "-x", "-t", "15[].s", "7.s")
    assert DIALECT.query_command(["no id"]).argv[:2] == ("/bin/sh", "-c")


def test_one_command_acts_on_many() -> None:
    suite.check_acts_on_many(DIALECT, [500, 200], ".s")
