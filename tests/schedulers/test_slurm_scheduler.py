"""What SlurmScheduler adds to its dialect: it looks before it acts, and asks the site once. On a transport that is played."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from jobyard.errors import NotPermitted, SchedulerUnavailable, SubmitError, UnknownJob, WrongState
from jobyard.job import Cause, JobDescription, JobState
from jobyard.schedulers.base import Action, Command, Kind, Result, SiteLimits, Submission
from jobyard.schedulers.slurm import SlurmScheduler
from jobyard.schedulers.slurm.tables import ACCOUNT_FIELDS, QUEUE_FIELDS
from jobyard.transports.base import ProgramMissing
from jobyard.transports.local import LocalTransport

CONFIG = "MaxArraySize            = 1001\nMaxJobCount             = 10000\n"


@dataclasses.dataclass
class Played:
    """Answers by program; what was run is kept."""

    answers: dict[str, Callable[[Command], Result]]
    version: str = "slurm-wlm 24.11.5"
    asked_versions: int = 0
    ran: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def run(self, command: Command) -> Result:
        if command.argv == ("sbatch", "--version"):
            self.asked_versions += 1
            return Result(argv=command.argv, returncode=0, stdout=f"{self.version}\n".encode())
        self.ran.append(command.argv)
        program = next(word for word in command.argv if word not in ("timeout", "3"))
        return self.answers[program](command)


def answer(text: str = "", code: int = 0, error: str = "") -> Callable[[Command], Result]:
    return lambda command: Result(argv=command.argv, returncode=code, stdout=text.encode(), stderr=error.encode())


def queue(*rows: tuple[str, ...]) -> Callable[[Command], Result]:
    """squeue's answer, in the format that it is asked for: state, id, reason of each."""

    def made(command: Command) -> Result:
        form = next(word for word in command.argv if word.startswith("--Format=")).partition("=")[2]
        ends = [field.partition(":0")[2] for field in form.split(",")]
        header = ("STATE", "JOBID", "REASON", "RESTARTS", "EXIT_CODE", "SUBMIT_TIME", "START_TIME", "NODELIST", "WORK_DIR", "NAME")
        assert len(header) == len(ends) == len(QUEUE_FIELDS)
        text = "".join(value + end for value, end in zip(header, ends, strict=True)) + "\n"
        for state, native_id, reason in rows:
            nodes = "" if state == "PENDING" else "n1"
            values = (state, native_id, reason, "0", "0:0", "1795160000", "1795160001", nodes, "/home", "x")
            text += "".join(value + end for value, end in zip(values, ends, strict=True)) + "\n"
        return Result(argv=command.argv, returncode=0, stdout=text.encode())

    return made


def accounting(*rows: tuple[str, str, str]) -> Callable[[Command], Result]:
    """sacct's answer: state, id, exit code of each."""

    def made(command: Command) -> Result:
        mark = next(word for word in command.argv if word.startswith("--delimiter=")).partition("=")[2]
        lines: list[tuple[str, ...]] = [ACCOUNT_FIELDS]
        for state, native_id, code in rows:
            known = {"State": state, "JobID": native_id, "ExitCode": code, "NodeList": "n1", "Start": "1795160001"}
            lines.append(tuple(known.get(field, "") for field in ACCOUNT_FIELDS))
        text = "".join("".join(value + mark for value in line) + "\n" for line in lines)
        return Result(argv=command.argv, returncode=0, stdout=text.encode())

    return made


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[SlurmScheduler, Played]]:
    """A scheduler whose commands are answered by the test."""

    def made(**answers: Callable[[Command], Result]) -> tuple[SlurmScheduler, Played]:
        transport, played = LocalTransport(), Played(answers)
        monkeypatch.setattr(transport, "run", played.run)
        return SlurmScheduler(transport), played

    return made


Play = Callable[..., tuple[SlurmScheduler, Played]]
ROWS = (
    ("PENDING", "1", "JobHeldUser"),
    ("PENDING", "2", "Priority"),
    ("RUNNING", "3", "None"),
    ("STOPPED", "4", "None"),
    ("SUSPENDED", "5", "None"),
    ("COMPLETED", "6", "None"),
    ("PENDING", "7", "JobHeldAdmin"),
    ("SOME_NEW_STATE", "8", "None"),
    ("PENDING", "9_1", "Dependency"),
    ("RUNNING", "9_2", "None"),
)
ABLE = {
    Action.HOLD: {"1", "2", "7", "9_1"},
    Action.RELEASE: {"1"},
    Action.SUSPEND: {"3", "9_2"},
    Action.RESUME: {"4"},
    Action.SIGNAL: {"3", "4", "5", "9_2"},
    Action.REQUEUE: {"3", "4", "5", "9_2"},
}


@pytest.mark.parametrize("action", list(ABLE))
def test_only_jobs_in_the_right_state_are_acted_on(play: Play, action: Action) -> None:
    scheduler, played = play(squeue=queue(*ROWS), scancel=answer(), scontrol=answer())
    ids = [row[1] for row in ROWS] + ["99"]
    answers = scheduler.control(action, ids, signal=10)
    assert list(answers) == ids
    assert {one for one, error in answers.items() if error is None} == ABLE[action] | {"8"}, "Slurm judges what nobody knows"
    assert isinstance(answers["99"], UnknownJob)
    wrong = [error for one, error in answers.items() if one != "99" and error is not None]
    assert all(isinstance(error, WrongState) and f"job {one}" in str(error) for one, error in answers.items() if error in wrong)
    asked, acted = played.ran
    assert asked[0] == "squeue"
    words = acted[2:] if acted[0] == "timeout" else acted
    named = {one for word in words for one in word.replace("[", "").replace("]", "").split(",")}
    assert {*ABLE[action], "8"} <= named
    assert not named & ({row[1] for row in ROWS} - ABLE[action] - {"8"})


def test_nothing_is_sent_where_no_job_can_be_acted_on(play: Play) -> None:
    scheduler, played = play(squeue=queue(*ROWS))
    assert isinstance(scheduler.control(Action.RELEASE, ["3"])["3"], WrongState)
    assert scheduler.control(Action.RELEASE, []) == {}
    assert len(played.ran) == 1


def test_cancel_asks_nothing_first(play: Play) -> None:
    scheduler, played = play(scancel=answer(error="scancel: Terminating job 3\n"))
    assert scheduler.control(Action.CANCEL, ["3", "99"]) == {"3": None, "99": None}
    assert played.ran == [("scancel", "--verbose", "3", "99")]


@pytest.mark.parametrize("action", [Action.CANCEL, Action.SUSPEND])
def test_what_is_no_id_spoils_nothing(play: Play, action: Action) -> None:
    """One such word, and scancel does nothing at all."""
    scheduler, played = play(squeue=queue(("RUNNING", "3", "None")), scancel=answer())
    answers = scheduler.control(action, ["no such job", "3", "-h", ""])
    assert [type(answers[one]) for one in ("no such job", "-h", "")] == [UnknownJob] * 3
    assert answers["3"] is None
    assert played.ran[-1][-1] == "3"
    assert not {"no such job", "-h", ""} & set(played.ran[-1])
    assert scheduler.control(action, ["-h"]).keys() == {"-h"}


def test_a_queue_that_is_away_is_no_refusal(play: Play) -> None:
    away = answer(code=1, error="slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    scheduler, _ = play(squeue=away)
    assert isinstance(scheduler.control(Action.HOLD, ["3"])["3"], SchedulerUnavailable)


def test_an_operators_refusal_is_told(play: Play) -> None:
    scheduler, _ = play(
        squeue=queue(("RUNNING", "3", "None")),
        scancel=answer(code=210, error="scancel: error: Kill job error on job id 3: Access/permission denied\n"),
    )
    assert isinstance(scheduler.control(Action.SUSPEND, ["3"])["3"], NotPermitted)


def test_a_signal_that_scancel_would_send_again_counts_as_sent(play: Play) -> None:
    retrying = "scancel: Signal 10 to full job 9_2\nscancel: Job is in transitional state, retrying\n"
    scheduler, _ = play(squeue=queue(("RUNNING", "9_2", "None")), scancel=answer(code=124, error=retrying))
    assert scheduler.control(Action.SIGNAL, ["9_2"], signal=10) == {"9_2": None}


def test_a_signal_of_which_nobody_knows_is_an_error(play: Play) -> None:
    scheduler, _ = play(
        squeue=queue(("RUNNING", "3", "None")), scancel=answer(code=124, error="scancel: Signal 10 to full job 3\n")
    )
    assert isinstance(scheduler.control(Action.SIGNAL, ["3"], signal=10)["3"], SchedulerUnavailable)


def test_a_signal_on_its_way_is_waited_for(play: Play) -> None:
    """The word SIGNALING hides whether the job is stopped; and of two signals the later can come first."""
    words = iter(["SIGNALING", "SIGNALING", "STOPPED"])

    def squeue(command: Command) -> Result:
        return queue((next(words), "3", "None"))(command)

    scheduler, played = play(squeue=squeue, scancel=answer())
    assert scheduler.control(Action.RESUME, ["3"]) == {"3": None}
    assert [argv[0] for argv in played.ran] == ["squeue", "squeue", "squeue", "timeout"]


def test_a_signal_that_never_arrives_is_not_waited_for_for_ever(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobyard.schedulers.slurm.scheduler.SIGNALLED_S", 0.3)
    scheduler, played = play(squeue=queue(("SIGNALING", "3", "None")), scancel=answer())
    assert scheduler.control(Action.RESUME, ["3"]) == {"3": None}, "Slurm judges"
    assert played.ran[-1][0] == "timeout"


def test_signaling_is_no_state(play: Play) -> None:
    scheduler, _ = play(squeue=queue(("SIGNALING", "3", "None")))
    (row,) = scheduler.query(["3"]).rows
    assert (row.state, row.native_state, row.ended) == (None, "SIGNALING", False)


# Jobs that are over, and shown as stopped ---------------------------------------------------------------------------


def test_an_ended_job_that_the_queue_shows_as_stopped(play: Play) -> None:
    """Seen with 22.05: the answer to a STOP came after the job's cancellation."""
    word = "RUNNING"

    def sacct(command: Command) -> Result:
        return accounting((word, "3", "0:15"), ("RUNNING", "4", "0:0"))(command)

    scheduler, played = play(
        squeue=queue(("STOPPED", "3", "None"), ("STOPPED", "4", "None"), ("RUNNING", "5", "None")),
        sacct=sacct,
        scancel=answer(),
    )

    def states() -> list[JobState | None]:
        return [row.state for row in scheduler.query(["3", "4", "5"]).rows]

    assert states() == [JobState.SUSPENDED, JobState.SUSPENDED, JobState.RUNNING]
    assert states() == [JobState.SUSPENDED, JobState.SUSPENDED, JobState.RUNNING]
    assert [argv[0] for argv in played.ran] == ["squeue", "sacct", "squeue"], "once a minute is enough"
    assert scheduler.control(Action.CANCEL, ["3"]) == {"3": None}
    assert states()[0] is JobState.SUSPENDED, "its end has not come to accounting yet"
    word = "CANCELLED by 1001"
    for _ in range(2):
        assert states() == [JobState.CANCELLED, JobState.SUSPENDED, JobState.RUNNING]
    asked = [argv for argv in played.ran if argv[0] == "sacct"]
    assert all("--jobs=3" in argv for argv in asked[1:]), "nobody cancelled the other"


def test_stopped_jobs_of_a_site_without_accounting(play: Play) -> None:
    scheduler, _ = play(
        squeue=queue(("STOPPED", "3", "None")),
        sacct=answer(code=1, error="Slurm accounting storage is disabled\n"),
    )
    assert scheduler.query(["3"]).rows[0].state is JobState.SUSPENDED


# The site -----------------------------------------------------------------------------------------------------------


def test_limits_of_controller_and_user(play: Play) -> None:
    scheduler, played = play(scontrol=answer(CONFIG), sacctmgr=answer("500\n"))
    wanted = SiteLimits(max_array_size=1000, max_index=1000, max_jobs=500)
    assert scheduler.limits() == wanted
    assert scheduler.limits() == wanted
    assert [argv[0] for argv in played.ran] == ["scontrol", "sacctmgr"], "asked once"


@pytest.mark.parametrize("missing", [True, False])
def test_a_site_without_sacctmgr(play: Play, missing: bool) -> None:
    def gone(command: Command) -> Result:
        raise ProgramMissing("no sacctmgr", program="sacctmgr")

    scheduler, _ = play(scontrol=answer(CONFIG), sacctmgr=gone if missing else answer(code=1, error="sacctmgr: error: not running"))
    assert scheduler.limits() == SiteLimits(max_array_size=1000, max_index=1000, max_jobs=10000)


@pytest.mark.parametrize(
    ("version", "code"),
    [("slurm-wlm 22.05.8", None), ("slurm 24.11.5", None), ("slurm 26.05.5", 9), ("slurm 27.11", 9), ("slurm trunk", None)],
)
def test_exit_codes_of_accounting_are_read_by_release(play: Play, version: str, code: int | None) -> None:
    scheduler, played = play(sacct=accounting(("FAILED", "3", "9:0")))
    played.version = version
    for _ in range(2):
        (row,) = scheduler.account(["3"]).rows
        assert row.ending is not None
        assert (row.ending.exit_code, row.ending.cause) == (code, Cause.EXITED)
        assert ("137" in row.ending.message) == (code is None)
    assert [argv[0] for argv in played.ran] == ["sacct", "sacct"]
    assert played.asked_versions == 1


@pytest.mark.parametrize(
    ("version", "whole"), [("slurm 20.11.4", False), ("slurm 22.05.8", True), ("slurm 26.05.1", True), ("slurm x", True)]
)
def test_stopped_jobs_are_asked_for_by_name_where_all_are_not_all(play: Play, version: str, whole: bool) -> None:
    scheduler, played = play(squeue=queue(("STOPPED", "3", "None")), sacct=accounting(("RUNNING", "3", "0:0")))
    played.version = version
    scheduler.query(["3"])
    scheduler.query(["3"])
    (states,) = {word for argv in played.ran for word in argv if word.startswith("--states=")}
    assert (states == "--states=all") is whole
    assert whole or {"STOPPED", "PENDING", "TIMEOUT", "COMPLETING"} <= set(states.partition("=")[2].split(","))


# Submission ---------------------------------------------------------------------------------------------------------

SINGLE = Submission(token="a" * 32, folder="/w/" + "a" * 32, description=JobDescription(argv=("x",), priority=5))
PAIR = Submission(token="a" * 32, folder="/w", description=JobDescription(argv=("x",)), kind=Kind.LIKE, indices=(0, 1))


@pytest.mark.parametrize(
    "text", ["4269\n", "4269;cluster\n", "Welcome to the site\n4269\nremember the maintenance on the 3rd\n", "  4269  "]
)
def test_an_id_among_what_wrappers_say(play: Play, text: str) -> None:
    scheduler, _ = play(sbatch=answer(text))
    assert scheduler.submit(SINGLE).native_ids == ("4269",)
    assert scheduler.submit(PAIR).native_ids == ("4269_0", "4269_1")


@pytest.mark.parametrize(
    ("text", "code", "error"),
    [
        ("", 0, ""),
        ("Welcome\n", 0, ""),
        ("1\n2\n", 0, ""),
        ("4269\n", 1, "broken"),
        ("", -9, ""),
        ("", 1, "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"),
        ("", 1, "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"),
    ],
)
def test_submissions_of_which_nobody_knows(play: Play, text: str, code: int, error: str) -> None:
    scheduler, _ = play(sbatch=answer(text, code, error))
    with pytest.raises(SchedulerUnavailable):
        scheduler.submit(SINGLE)


@pytest.mark.parametrize(
    ("error", "retryable", "shown"),
    [
        ("sbatch: error: Batch job submission failed: Invalid qos specification", False, "Invalid qos specification"),
        ("sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy"
         " (job submit limit, user's size and/or time limits)", True, "AssocMaxSubmitJobLimit"),
        ("sbatch: error: Batch job submission failed: Resource temporarily unavailable", True, "temporarily"),
        ("sbatch: error: Batch job submission failed: Invalid --nice value", False, "priority=5"),
        ("", False, "exit code 1"),
    ],
)  # fmt: skip
def test_refusals(play: Play, error: str, retryable: bool, shown: str) -> None:
    scheduler, _ = play(sbatch=answer(code=1, error=error))
    with pytest.raises(SubmitError) as caught:
        scheduler.submit(SINGLE)
    assert caught.value.retryable is retryable
    assert shown in str(caught.value)


def fields(commands: Sequence[Command]) -> list[str]:
    return [word for command in commands for word in command.argv if word.startswith(("--Format=", "--delimiter="))]


def test_marks_are_made_anew() -> None:
    one, other = SlurmScheduler(LocalTransport()), SlurmScheduler(LocalTransport())
    assert not set(fields(one.dialect.find_commands([]))) & set(fields(other.dialect.find_commands([])))
