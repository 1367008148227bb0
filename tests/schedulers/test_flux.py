"""The dialect of Flux: what it makes of the outputs of a real instance, whatever else may be printed, and its commands."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.contact import Contact
from jobyard.errors import InvalidContact, UnknownJob, UnsupportedAttribute, WrongState
from jobyard.job import By, Cause, JobState, Limits, Resources
from jobyard.schedulers.base import Action, Answer, Dialect, Kind, Result, Row
from jobyard.schedulers.flux import FluxDialect
from jobyard.schedulers.flux.rows import decimal
from schedulers import dialect_suite as suite
from schedulers.damage import noise
from schedulers.dialect_suite import FOLDER, TOKEN, described
from schedulers.recordings import golden, made, names, recording

DIALECT: Dialect = FluxDialect()


def parsed(name: str) -> Any:
    """What the dialect makes of a recording. Kill and urgency take one id: a script asks, and puts id and exit code first."""
    result = recording("flux", name)
    words = [word for word in result.argv if word != "flux"]
    if "--version" in words:
        return made(lambda: DIALECT.parse_version(result))
    if words[0] == "submit":
        array = next((word for word in words if word.startswith("--cc=")), None)
        submission = described(Kind.ARRAY, (0, 1, 2, 3)) if array else described()
        return made(lambda: DIALECT.parse_submit(result, submission))
    if words[0] == "cancel":
        native_id = decimal(words[1]) or ""
        return made(lambda: DIALECT.parse_control(Action.CANCEL, result, [native_id]))
    if words[0] == "job":
        native_id = next(one for word in words if (one := decimal(word)) and word[0] in "fƒ")
        action = Action.SIGNAL if words[1] == "kill" else Action.RELEASE
        line = f"{native_id} {result.returncode} ".encode() + result.stderr.replace(b"\n", b" ") + b"\n"
        return made(lambda: DIALECT.parse_control(action, Result(argv=("sh",), returncode=0, stdout=line), [native_id]))
    return made(lambda: DIALECT.parse_query(result))


@pytest.mark.parametrize("name", names("flux"))
def test_recorded_outputs(name: str) -> None:
    assert parsed(name) == golden("flux")[name]


def test_every_recording_has_its_golden_value_and_its_line() -> None:
    assert sorted(golden("flux")) == names("flux")
    index = (recording.__globals__["DATA"] / "flux" / "INDEX.md").read_text()
    assert sorted(re.findall(r"^- `([^`]+)`", index, re.MULTILINE)) == names("flux")
    assert len(names("flux")) >= 40


def rows(name: str) -> dict[str, Row]:
    return {row.name or "": row for row in DIALECT.parse_query(recording("flux", name)).rows}


# What is not obvious, said one by one -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state", "cause", "code", "aborted"),
    [
        ("ok", JobState.DONE, Cause.EXITED, 0, False),
        ("exit3", JobState.FAILED, Cause.EXITED, 3, False),
        ("selfkill", JobState.FAILED, Cause.EXITED, 137, False),
        ("notfound", JobState.FAILED, Cause.EXITED, 127, False),
        ("timeout", JobState.FAILED, Cause.WALLTIME, None, False),
        ("cancelrun", JobState.CANCELLED, Cause.CANCELLED, None, False),
        ("queued", JobState.CANCELLED, Cause.CANCELLED, None, True),
        ("unsat", JobState.FAILED, Cause.REJECTED, None, True),
    ],
)
def test_endings(name: str, state: JobState, cause: Cause, code: int | None, aborted: bool) -> None:
    row = rows("jobs-all.json")[name]
    ending = row.ending
    assert row.ended
    assert ending is not None
    assert (ending.state, ending.cause, ending.exit_code, ending.aborted) == (state, cause, code, aborted)


def test_a_dependency_that_can_no_longer_be_met() -> None:
    found = rows("depend-after.json")
    ending = found["depok"].ending
    assert ending is not None
    assert (ending.cause, ending.aborted) == (Cause.DEPENDENCY, True)
    noted = found["depafter"].ending
    assert noted is not None
    assert noted.success, "an exception of severity 3 is a note"


def test_a_timeout_that_was_trapped_is_one_all_the_same() -> None:
    (row,) = rows("timeout-trapped.json").values()
    assert row.ending is not None
    assert (row.ending.cause, row.ending.exit_code) == (Cause.WALLTIME, None)


def test_states() -> None:
    active = rows("jobs-active.json")
    shown = {name: (row.state, row.by) for name, row in active.items()}
    assert shown["queued"] == (JobState.QUEUED, None)
    assert shown["held"] == (JobState.HELD, By.USER)
    assert shown["dep"] == shown["begin"] == (JobState.HELD, By.SYSTEM)
    assert active["begin"].reason == "begin@05:03:34"
    assert shown["fill"] == (JobState.RUNNING, None)
    (stopped,) = rows("jobs-stopped.json").values()
    assert stopped.state is JobState.RUNNING, "SIGSTOP is not shown"
    (cleaning,) = rows("cancel-trapped-state.json").values()
    assert (cleaning.state, cleaning.ended) == (JobState.RUNNING, False)


def test_one_job_is_printed_bare() -> None:
    one, two = recording("flux", "jobs-one.json"), recording("flux", "jobs-two.json")
    assert [row.native_id for row in DIALECT.parse_query(one).rows] == ["1953421590528"]
    assert [row.native_id for row in DIALECT.parse_query(two).rows] == ["1953421590528", "1949864820736"]
    assert DIALECT.parse_query(recording("flux", "jobs-empty.json")) == Answer()


def test_ids_in_every_form() -> None:
    for name in ("jobs-all.json", "depend-after.json"):
        for job in json.loads(recording("flux", name).stdout)["jobs"]:
            assert decimal(job["jobid"]) == decimal("f" + job["jobid"][1:]) == decimal(str(job["id"])) == str(job["id"])
    assert [decimal(word) for word in ("", "f", "ƒ0", "x1", "ƒl", "-1", "1" * 21)] == [None] * 7


def test_unknown_ids() -> None:
    unknown = recording("flux", "err-jobs-unknown-json.txt")
    answer = DIALECT.parse_query(msgspec.structs.replace(unknown, argv=("flux", "jobs", "--json", decimal("f999999") or "")))
    assert answer == Answer()
    mixed = recording("flux", "jobs-mixed.txt")
    ids = ("1953421590528", decimal("f99999") or "")
    assert DIALECT.parse_query(msgspec.structs.replace(mixed, argv=("flux", "jobs", "--json", *ids))).complete
    assert not DIALECT.parse_query(msgspec.structs.replace(mixed, argv=("flux", "jobs", "--json", *ids, "17"))).complete


@pytest.mark.parametrize("name", ["err-instance-gone.txt", "err-no-broker.txt", "err-no-uri.txt"])
def test_an_instance_that_is_away_is_no_answer(name: str) -> None:
    assert parsed(name)["error"] == "SchedulerUnavailable"


def test_control_answers_each_job() -> None:
    finished = recording("flux", "cancel-finished.txt")
    ids = [decimal("ƒU8GArxo") or "", "17"]
    answers = DIALECT.parse_control(Action.CANCEL, finished, ids)
    assert isinstance(answers[ids[0]], WrongState)
    assert answers["17"] is None
    text = b"1 0 \n2 1 flux-job: kill 2: unknown job id\n3 1 flux-job: kill 3: job is not running\n"
    answers = DIALECT.parse_control(Action.SIGNAL, Result(argv=("sh",), returncode=0, stdout=text), ["1", "2", "3", "4"])
    assert {one: type(error) for one, error in answers.items()} == {"1": type(None), "2": UnknownJob, "3": WrongState}


def test_half_an_array_is_none() -> None:
    """``--cc`` that was killed: what it left is refused by the claim, and the array is sent again."""
    array = described(Kind.ARRAY, (0, 1, 2))
    jobs = json.loads(recording("flux", "jobs-all.json").stdout)["jobs"]
    ours = [dict(job, cwd=FOLDER) for job in jobs if job["name"].startswith("cc")]

    def found(count: int) -> Any:
        text = json.dumps({"jobs": ours[:count]}).encode()
        return DIALECT.parse_find([Result(argv=("flux", "jobs"), returncode=0, stdout=text)], [array])

    assert found(2) == {}
    assert [int(one) for one in found(3)[TOKEN].native_ids] == sorted(job["id"] for job in ours[:3])


# Whatever is printed ------------------------------------------------------------------------------------------------

TEXT = json.dumps(json.loads(recording("flux", "jobs-active.json").stdout)).replace('{"t_depend"', '\n{"t_depend"') + "\n"
LINES = TEXT.encode().splitlines(keepends=True)
ROWS = {row.native_id: row for row in DIALECT.parse_query(Result(argv=("flux",), returncode=0, stdout=TEXT.encode())).rows}
results = suite.anything(
    "flux",
    "jobs",
    ids=[*ROWS, "99"],
    codes=[0, 0, 0, 1, 2, -9],
    out=noise(LINES, b'{}[]",: jobsidstate0123456789eINACTV\n\\u\x00\xff'),
    err=noise([b"JobID f999999 unknown\n", b"flux-jobs: ERROR: Unable to connect to Flux: broker\n"], b"JobID f123 unknown"),
)
test_no_answer_breaks_a_parser = suite.never_breaks(suite.parsers(DIALECT, ["1", "2"], described()), results)


@given(
    st.dictionaries(
        st.sampled_from(
            ["t_run", "name", "cwd", "result", "runtime", "exception", "urgency", "dependencies", "returncode", "nodelist"]
        ),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}), st.just([1])
        ),
    ),
    st.sampled_from(["INACTIVE", "RUN", "SCHED", "DEPEND", "", "NEW"]),
)
@suite.examples(150)
def test_values_of_any_kind(fields: dict[str, Any], state: str) -> None:
    job = {"t_depend": 1.0, "id": 7, "state": state, "exception": {"occurred": False}, **fields}
    text = json.dumps({"jobs": [job]}).encode()
    DIALECT.parse_query(Result(argv=("flux", "jobs", "7"), returncode=0, stdout=text))


queue = suite.reader(DIALECT, "flux", "jobs", *ROWS)
test_damage_costs_only_what_it_touches = suite.damage_costs_only_what_it_touches(queue, LINES, ROWS)
test_truncated_answers = suite.truncated_is_not_whole(queue, TEXT.encode(), len(TEXT.rstrip()), ROWS)


# Commands -----------------------------------------------------------------------------------------------------------


def submit(**fields: Any) -> tuple[str, ...]:
    command = suite.command_for(DIALECT, described(**fields))
    assert command.argv[-1] == f"{FOLDER}/run.sh"
    assert command.argv[:2] == ("flux", "submit")
    return command.argv[2:-1]


def always(name: str = "true") -> tuple[str, ...]:
    return (f"--job-name={name}", f"--cwd={FOLDER}", "--env=-*", "--output=/dev/null", "--error=/dev/null")


test_submissions = suite.tells(
    submit,
    ({}, (*always(), "-n1", "-c1")),
    ({"resources": Resources(processes=2, cores=3, gpus=1)}, (*always(), "-n1", "-c6", "-g2")),
    ({"resources": Resources(exclusive=True)}, (*always(), "-N1", "--exclusive", "-n1", "-c1")),
    ({"limits": Limits(walltime_s=90.5)}, (*always(), "-n1", "-c1", "--time-limit=90.500s")),
    ({"queue": "batch", "account": "bank1"}, (*always(), "-n1", "-c1", "--queue=batch", "--bank=bank1")),
    ({"hold": True}, (*always(), "-n1", "-c1", "--urgency=0")),
    ({"priority": -5}, (*always(), "-n1", "-c1", "--urgency=11")),
    ({"begin_at": 1795147414.5}, (*always(), "-n1", "-c1", "--dependency=begin-time:1795147414.5")),
    (
        {"after": (("48", "success"), ("50", "any"))},
        (*always(), "-n1", "-c1", "--dependency=afterok:48", "--dependency=afterany:50"),
    ),
    (
        {"kind": Kind.ARRAY, "indices": (0, 1, 2, 7)},
        (*always(), "-n1", "-c1", "--cc=0-2,7", f"--env=JOBYARD_FLUX_ARRAY={TOKEN}"),
    ),
    ({"native": ("--setattr=user.k=v", "-x")}, ("--setattr=user.k=v", "-x", *always(), "-n1", "-c1")),
    ({"attributes": {"flux.requires": "host:a", "pbs.l": "x"}}, ("--requires=host:a", *always(), "-n1", "-c1")),
    ({"name": 'na {id} "q"\n'}, (*always('na _id_ "q"_'), "-n1", "-c1")),
)


def test_after_an_array() -> None:
    command = DIALECT.submit_command(described(after=((TOKEN, "success"), ("48", "any"))), "/x/run.sh")
    assert command.argv[:2] == ("/bin/sh", "-c")
    assert command.argv[4:8] == (f"afterok:{TOKEN}", "/x/run.sh", "flux", "submit")
    assert command.argv[-1] == "--dependency=afterany:48"
    for script in (command.argv[2], DIALECT.control_commands(Action.HOLD, ["7"], signal=None)[0][0].argv[2]):
        assert subprocess.run(["/bin/sh", "-n", "-c", script], check=False).returncode == 0


test_what_is_refused = suite.refuses(
    "flux",
    submit,
    ("queue", {"queue": "a b"}),
    ("account", {"account": "-x"}),
    ("priority", {"priority": 16}),
    ("priority", {"priority": 3, "hold": True}),
    ("native", {"native": ("--cc=1-3",)}),
    ("native", {"native": ("--time=5",)}),
    ("native", {"native": ("-N2",)}),
    ("native", {"native": ("--setattr=a=b", "./run")}),
    ("native", {"native": ("--", "./run")}),
    ("flux.output", {"attributes": {"flux.output": "/x"}}),
    ("flux.A", {"attributes": {"flux.A": "x"}}),
)


def test_several_nodes_are_refused() -> None:
    with pytest.raises(UnsupportedAttribute, match="flux cannot honour 2 nodes"):
        submit(resources=Resources(processes=4, processes_per_node=2))


def test_questions_and_control() -> None:
    assert DIALECT.query_command(["15", "ƒD1D5jb5", "-h", "$(id)"]).argv == ("flux", "jobs", "--json", "15")
    assert DIALECT.query_command(["no id"]).argv == DIALECT.list_command().argv == ("flux", "jobs", "--json", "-a", "-c", "0")
    suite.check_acts_on_many(DIALECT, [500, 200])
    (command,) = DIALECT.control_commands(Action.SUSPEND, ["7"], signal=None)
    assert command[0].argv[-3:] == ("kill", "SIGSTOP", "7")


def test_the_instance_is_named_by_the_contact() -> None:
    import jobyard.schedulers.flux  # its options are known once it is there

    contact = Contact.parse("flux?server=local%3A%2F%2F%2Frun%2Fflux%2Flocal")
    contact.check_options()
    dialect = jobyard.schedulers.flux.open_flux(Path(), contact.options).dialect
    commands = [dialect.list_command(), dialect.submit_command(described(), "/x"), dialect.version_command()]
    commands += [dialect.query_command(["7"]), dialect.control_commands(Action.HOLD, ["7"], signal=None)[0][0]]
    assert [command.environment for command in commands] == [{"FLUX_URI": "local:///run/flux/local"}] * 5
    assert DIALECT.list_command().environment == {}
    with pytest.raises(InvalidContact, match="no URI of a Flux instance"):
        Contact.parse("flux?server=here").check_options()
