"""The dialect of Cobalt: what it makes of blocks as its qstat prints them, of damage, and its commands.

No output of a Cobalt is kept here. The blocks are our own, in the form that its source prints (docs/cobalt.md).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobyard.contact import Contact
from jobyard.errors import (
    InvalidContact,
    InvalidJob,
    SchedulerUnavailable,
    SubmitError,
    WrongState,
)
from jobyard.job import By, JobState, Limits, Resources
from jobyard.schedulers import open_scheduler
from jobyard.schedulers.base import Action, Answer, Dialect, Result, Submission
from jobyard.schedulers.cobalt import CobaltDialect
from jobyard.schedulers.command import CommandScheduler
from schedulers import dialect_suite as suite
from schedulers.damage import noise
from schedulers.dialect_suite import FOLDER, TOKEN, described

DIALECT: Dialect = CobaltDialect(walltime_s=3600.0)


def block(number: str, state: str, *, name: str = "job", folder: str = FOLDER) -> str:
    return f"""\
JobID: {number:>4}
    JobName   : {name}
    State     : {state}
    OutputDir : {folder}
    Location  : None

"""


asked = partial(suite.asked, DIALECT, ("/bin/sh", "-c", "...", "sh"))

OTHER = "f" * 32
TEXT = (
    block("7", "running")
    + block("1007", "queued", name="a : b", folder=f"/scratch/me/ff/{OTHER}")
    + block("12", "user_hold", folder="/home/somebody")
)
IDS = ("7", "1007", "12", "99")


def test_blocks() -> None:
    answer = asked(suite.marked(TEXT), *IDS)
    assert answer.complete, "qstat is silent on what is not there"
    running, waiting, held = answer.rows
    assert (running.native_id, running.state, running.token, running.name) == ("7", JobState.RUNNING, TOKEN, "job")
    assert (waiting.native_id, waiting.state, waiting.name) == ("1007", JobState.QUEUED, "a : b")
    assert (held.state, held.by, held.token) == (JobState.HELD, By.USER, None)
    assert not any(row.ended for row in answer.rows)


@pytest.mark.parametrize(
    ("word", "state", "by"),
    [
        ("starting", JobState.QUEUED, None),
        ("maxrun_hold", JobState.QUEUED, None),
        ("dep_hold", JobState.HELD, By.SYSTEM),
        ("dep_fail", JobState.HELD, By.SYSTEM),
        ("admin_hold", JobState.HELD, By.SYSTEM),
        ("killing", JobState.RUNNING, None),
        ("exiting", JobState.RUNNING, None),
        ("preempted", JobState.QUEUED, None),
        ("a new word", None, None),
    ],
)
def test_states(word: str, state: JobState | None, by: By | None) -> None:
    (row,) = asked(suite.marked(block("7", word)), "7").rows
    assert (row.state, row.by, row.native_state) == (state, by, word)


def test_what_is_not_there() -> None:
    assert asked(suite.marked("", 1), "99", code=1) == Answer()
    assert asked(suite.marked("")) == Answer(), "a user without jobs"
    for text, code, err in (
        (TEXT, 0, ""),  # no end
        (suite.marked(""), 0, ""),  # of a question that named jobs, qstat would have said so by its exit code
        (suite.marked("", 1), 1, "component error: Failed to connect to queue-manager"),
        (suite.marked("", 1), 1, "*** FATAL EXCEPTION: x ***"),
        (suite.marked(TEXT, 1), 1, ""),
        (suite.marked("", 127), 127, "sh: 1: qstat: not found"),
        ("", -9, ""),
    ):
        with pytest.raises(SchedulerUnavailable):
            asked(text, *IDS, code=code, err=err)


def test_one_bad_block_costs_one_row() -> None:
    for damage in ("    State     : running\n", "    OutputDir : "):
        answer = asked(suite.marked(TEXT.replace(damage, "", 1)), *IDS)
        assert [row.native_id for row in answer.rows] == ["1007", "12"]
        assert not answer.complete


def test_a_new_job_is_found_by_its_folder() -> None:
    result = Result(argv=("/bin/sh",), returncode=0, stdout=suite.marked(TEXT).encode())
    assert DIALECT.parse_find([result], [described()])[TOKEN].native_ids == ("7",)
    broken = Result(argv=("/bin/sh",), returncode=0, stdout=suite.marked(TEXT[10:]).encode())
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_find([broken], [Submission(token="1" * 32, folder="/" + "1" * 32, description=described().description)])


def test_cancel_is_a_table_of_those_that_were_there() -> None:
    out = b"      Deleted Jobs\nJobID  User  \n=============\n7      me    \n12     me    \n"
    answers = DIALECT.parse_control(Action.CANCEL, Result(argv=("qdel",), returncode=0, stdout=out), ["7", "12", "99"])
    assert {one: type(error) for one, error in answers.items()} == {"7": type(None), "12": type(None), "99": WrongState}
    none = DIALECT.parse_control(Action.CANCEL, Result(argv=("qdel",), returncode=0), ["7"])
    assert isinstance(none["7"], WrongState)


def test_hold_and_release_answer_each_job() -> None:
    out = b"""\
   Failed to place user hold on jobs:
      job 1 not found
      job 2 has already completed
      job 3 already in state 'user hold'
      job 4 encountered an unexpected problem while attempting to place the 'user hold'
Placed user hold on jobs:
      5
      6 (pending)
"""
    answers = DIALECT.parse_control(Action.HOLD, Result(argv=("qhold",), returncode=0, stdout=out), list("1234567"))
    kinds = {one: type(error).__name__ for one, error in answers.items()}
    assert kinds == {
        "1": "WrongState", "2": "WrongState", "3": "NoneType", "4": "ControlError", "5": "NoneType", "6": "WrongState"
    }  # fmt: skip
    for code, err in ((1, b"component error: Failed to connect to queue-manager"), (-9, b""), (2, b"")):
        with pytest.raises(SchedulerUnavailable):
            DIALECT.parse_control(Action.HOLD, Result(argv=("qhold",), returncode=code, stderr=err), ["1"])


def test_submissions_that_are_refused_or_not_known() -> None:
    submit = partial(suite.submitted, DIALECT)
    filters = 'Job routed to queue "debug".\nMemory mode set to cache quad for queue debug\n'
    assert submit(0, filters + "547797\n").native_ids == ("547797",)
    assert submit(0, "547797\n", filters).native_ids == ("547797",)
    with pytest.raises(SubmitError, match="out of realistic range") as caught:
        submit(1, "", "walltime is 5 minutes\nnode count out of realistic range\n\n")
    assert not caught.value.retryable
    with pytest.raises(SubmitError) as caught:
        submit(1, "", "The limit of 20 jobs per user in the 'default' queue has been reached")
    assert caught.value.retryable
    for code, out, err in ((-9, "", ""), (1, "", "component error: Failed to connect to x"), (0, "", ""), (0, "1\n2\n", "")):
        with pytest.raises(SchedulerUnavailable):
            submit(code, out, err)


def test_the_version() -> None:
    def version(text: str, code: int = 0) -> str:
        return DIALECT.parse_version(Result(argv=("qsub", "--version"), returncode=code, stdout=text.encode()))

    assert version("qsub 1.0.29, Cobalt  1.0.29\n") == "cobalt 1.0.29"
    assert version("qsub $Revision: 559 $\ncobalt $Version$\n", 1) == "cobalt of no version"
    with pytest.raises(SchedulerUnavailable):
        version("pbs_version = 23.06.06\n")


# Whatever is printed ------------------------------------------------------------------------------------------------

WHOLE = suite.marked(TEXT)
LINES = WHOLE.encode().splitlines(keepends=True)
ROWS = {row.native_id: row for row in asked(WHOLE, *IDS).rows}
results = suite.anything(
    "/bin/sh",
    ids=IDS,
    codes=[0, 0, 0, 1, 2, -9],
    out=noise(LINES, b"JobID: StateOutputDir0123456789\n\x00\xff"),
    err=noise([b"component error: Failed to connect to x\n", b"jobid must be an integer: x\n"], b"job 7 not found"),
)


queue = suite.reader(DIALECT, "/bin/sh", *IDS)
test_no_answer_breaks_a_parser = suite.never_breaks(suite.parsers(DIALECT, ["7", "8"], described()), results)
test_damage_never_makes_a_job_of_another = suite.damage_never_makes_a_job_of_another(queue, LINES, ROWS, cut_ids=True)
test_a_truncated_answer_is_none = suite.truncated_is_none(queue, WHOLE.encode(), len(WHOLE))


# Commands -----------------------------------------------------------------------------------------------------------


def qsub(dialect: Dialect = DIALECT, **fields: Any) -> tuple[str, ...]:
    command = suite.command_for(dialect, described(**fields))
    assert command.argv[-1] == f"{FOLDER}/run.sh"
    return command.argv[1:-1]


NULL = ("-o", "/dev/null", "-e", "/dev/null", "--debuglog", "/dev/null")


def always(minutes: int = 60, nodes: int = 1, *more: str) -> tuple[str, ...]:
    return ("--mode", "script", "-t", str(minutes), "-n", str(nodes), *more, "--cwd", FOLDER, "--jobname", "true", *NULL)


test_submissions = suite.tells(
    qsub,
    ({}, always()),
    ({"limits": Limits(walltime_s=61)}, always(2)),
    ({"resources": Resources(nodes=2, processes_per_node=4)}, always(60, 2, "--proccount", "8")),
    ({"queue": "debug", "account": "P 1"}, (*always(), "-q", "debug", "-A", "P 1")),
    ({"reservation": "R.mine"}, (*always(), "-q", "R.mine")),
    ({"hold": True}, (*always(), "-h")),
    (
        {"native": ("--attrs", "mcdram=flat:numa=quad", "-M", "a@b.c")},
        ("--attrs", "mcdram=flat:numa=quad", "-M", "a@b.c", *always()),
    ),
    ({"attributes": {"cobalt.attrs": "ngpus=1", "pbs.l": "x"}}, ("--attrs=ngpus=1", *always())),
)


def test_a_name_that_no_qsub_takes() -> None:
    words = qsub(name="a b:c/d\n$jobid")
    assert words[words.index("--jobname") + 1] == "a_b_c_d__jobid"


def test_each_job_needs_a_walltime() -> None:
    """Cobalt takes none without; what the contact says is that of all that do not say theirs."""
    with pytest.raises(InvalidJob, match=r"cobalt\?walltime=1h") as caught:
        qsub(CobaltDialect())
    assert caught.value.field == "walltime"
    assert "-t" in qsub(CobaltDialect(), limits=Limits(walltime_s=60))


def test_the_contacts_walltime(yard: Path) -> None:
    scheduler = open_scheduler(Contact.parse("cobalt?walltime=90m"))
    assert isinstance(scheduler, CommandScheduler)
    assert isinstance(scheduler.dialect, CobaltDialect)
    assert scheduler.dialect.walltime_s == 5400.0
    scheduler.close()
    with pytest.raises(InvalidContact, match="walltime"):
        open_scheduler(Contact.parse("cobalt?walltime=soon"))


test_what_is_refused = suite.refuses(
    "cobalt",
    qsub,
    ("queue", {"queue": "a b"}),
    ("reservation", {"queue": "a", "reservation": "R.b"}),
    ("native", {"native": ("-t", "5")}),
    ("native", {"native": ("--nodecount=5",)}),
    ("native", {"native": ("-do", "x")}),
    ("native", {"native": ("--attrs",)}),
    ("native", {"native": ("./run",)}),
    ("native", {"native": ("--debug", "./run")}),
    ("cobalt.o", {"attributes": {"cobalt.o": "/x"}}),
    ("cobalt.attrs", {"attributes": {"cobalt.attrs": ""}}),
    ("cobalt.a b", {"attributes": {"cobalt.a b": "x"}}),
)


test_what_it_does_not_have = suite.lacks(
    "cobalt",
    qsub,
    ({"resources": Resources(cores=4)}, "nodes"),
    ({"resources": Resources(memory_bytes=1)}, "nodes"),
    ({"resources": Resources(gpus=1)}, "--attrs"),
    ({"email": ("a@b.c",)}, "-M"),
    ({"priority": 5}, "it honours"),
)


def test_questions_never_name_what_is_no_id() -> None:
    command = DIALECT.query_command(["7", "7", "12", "-h", "$(id)"])
    assert command.argv[3:] == ("sh", "7", "12")
    assert "$(id)" not in command.argv[2]
    assert DIALECT.query_command(["no id"]).argv == DIALECT.list_command().argv
    assert "QSTAT_HEADER" in command.without


def test_one_command_acts_on_many() -> None:
    suite.check_acts_on_many(DIALECT, [200, 200, 50])
