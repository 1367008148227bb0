"""What HTCondor takes and forgets, is told again; what it says of several arrays at once, is looked at. Played commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from jobyard.errors import ControlError, JobyardError, SchedulerUnavailable, UnsupportedAttribute, WrongState
from jobyard.job import JobDescription
from jobyard.schedulers.base import Action, Command, Kind, Result
from jobyard.schedulers.htcondor import HTCondorDialect, HTCondorScheduler, scheduler
from jobyard.transports.local import LocalTransport


class Played(LocalTransport):
    """Answers as the test says; what was asked is kept."""

    def __init__(self, answer: Callable[[Command], str]) -> None:
        super().__init__()
        self.answer = answer
        self.asked: list[tuple[str, ...]] = []

    def run(self, command: Command) -> Result:
        self.asked.append(command.argv)
        return Result(argv=command.argv, returncode=0, stdout=self.answer(command).encode())

    def count(self, program: str) -> int:
        return sum(argv[0] == program for argv in self.asked)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "PAUSE_S", 0.0)
    monkeypatch.setattr(scheduler, "PATIENCE_S", 0.2)


def ads(states: Mapping[str, int]) -> str:
    """condor_q's answer; nothing at all where there is no job."""
    found = []
    for job, status in states.items():
        cluster, _, proc = job.partition(".")
        found.append({"ClusterId": int(cluster), "ProcId": int(proc), "JobStatus": status})
    return json.dumps(found) if found else ""


def asked(played: Played, action: Action, *jobs: str) -> Mapping[str, JobyardError | None]:
    return HTCondorScheduler(HTCondorDialect(), played).control(action, jobs)


def test_a_suspension_that_was_forgotten_is_told_again() -> None:
    def answer(command: Command) -> str:
        if command.argv[0] == "condor_suspend":
            return "Job 5.0 suspended\n"
        return ads({"5.0": 7 if played.count("condor_suspend") == 3 else 2})

    played = Played(answer)
    assert asked(played, Action.SUSPEND, "5.0") == {"5.0": None}
    assert played.count("condor_suspend") == 3


def test_a_suspension_that_never_comes() -> None:
    played = Played(lambda command: "Job 5.0 suspended\n" if command.argv[0] == "condor_suspend" else ads({"5.0": 2}))
    error = asked(played, Action.SUSPEND, "5.0")["5.0"]
    assert isinstance(error, ControlError)
    assert "5.0" in str(error)
    assert "queue shows nothing of it" in str(error)


@pytest.mark.parametrize(
    ("action", "program", "word", "error"),
    [(Action.SUSPEND, "condor_suspend", "suspended", WrongState), (Action.RESUME, "condor_continue", "continued", None)],
)
def test_one_that_ends_meanwhile(action: Action, program: str, word: str, error: type[ControlError] | None) -> None:
    """One that could end was not suspended; one that was resumed may end at once."""
    played = Played(lambda command: f"Job 5.0 {word}\n" if command.argv[0] == program else "")
    answer = asked(played, action, "5.0")["5.0"]
    assert (type(answer) if answer is not None else None) is error


def test_what_came_of_a_suspension_cannot_be_told() -> None:
    played = Played(lambda command: "Job 5.0 suspended\n" if command.argv[0] == "condor_suspend" else "<html>503</html>")
    assert isinstance(asked(played, Action.SUSPEND, "5.0")["5.0"], SchedulerUnavailable)


def test_only_what_was_acknowledged_is_followed_up() -> None:
    said = "Job 5.0 suspended\nJob 6.0 not running to be suspended\n"
    played = Played(lambda command: said if command.argv[0] == "condor_suspend" else ads({"5.0": 7, "6.0": 1}))
    answers = asked(played, Action.SUSPEND, "5.0", "6.0")
    assert answers["5.0"] is None
    assert isinstance(answers["6.0"], WrongState)
    assert "6.0" not in played.asked[1]


def factories(*clusters: tuple[int, int, int, int]) -> str:
    names = ("ClusterId", "JobMaterializeNextProcId", "TotalSubmitProcs", "JobFactoryPaused")
    return json.dumps([dict(zip(names, values, strict=True)) for values in clusters])


def test_a_task_that_is_still_to_come_cannot_be_cancelled_alone() -> None:
    played = Played(lambda command: "Job 5.3 not found\n" if command.argv[0] == "condor_rm" else factories((5, 2, 6, 0)))
    error = asked(played, Action.CANCEL, "5.3")["5.3"]
    assert isinstance(error, ControlError)
    assert not isinstance(error, WrongState), "that would be passed over as a job that is over"


@pytest.mark.parametrize("answer", ["", factories((5, 6, 6, 2)), factories((5, 2, 6, 3))], ids=["gone", "whole", "removed"])
def test_a_task_that_is_over_has_no_use_for_a_cancel(answer: str) -> None:
    played = Played(lambda command: "Job 5.3 not found\n" if command.argv[0] == "condor_rm" else answer)
    assert isinstance(asked(played, Action.CANCEL, "5.3")["5.3"], WrongState)


def test_one_answer_for_two_arrays_is_looked_at_again() -> None:
    """The rest of array 5 is removed, the middle of array 6 is not; condor_rm says one thing for both."""
    said = (
        "Job 5.4 not found\nJob 5.5 not found\nJob 6.4 not found\nAll jobs matching constraint (x) have been marked for removal\n"
    )
    played = Played(lambda command: said if command.argv[0] == "condor_rm" else factories((5, 4, 6, 3), (6, 2, 9, 0)))
    answers = asked(played, Action.CANCEL, "5.4", "5.5", "6.4")
    assert (answers["5.4"], answers["5.5"]) == (None, None)
    assert isinstance(answers["6.4"], ControlError)


def test_cancelling_single_jobs_asks_nothing_more() -> None:
    played = Played(lambda command: "Job 5.0 marked for removal\nJob 6.0 marked for removal\n")
    assert asked(played, Action.CANCEL, "5.0", "6.0") == {"5.0": None, "6.0": None}
    assert [argv[0] for argv in played.asked] == ["condor_rm"]


@pytest.mark.parametrize(("paused", "rows"), [(0, 6), (3, 2)])
def test_tasks_of_a_removed_array_are_not_listed(paused: int, rows: int) -> None:
    def answer(command: Command) -> str:
        if "-factory" in command.argv:
            return factories((5, 2, 6, paused))
        more = {"JobMaterializeNextProcId": 2, "TotalSubmitProcs": 6, "JobyardToken": "a" * 32}
        return json.dumps([{"ClusterId": 5, "ProcId": proc, "JobStatus": 2, **more} for proc in range(2)])

    played = Played(answer)
    found = HTCondorScheduler(HTCondorDialect(), played).query(["5.0"])
    assert len(found.rows) == rows
    assert found.complete
    assert played.count("condor_q") == 2


def test_without_capped_arrays_there_is_one_question() -> None:
    played = Played(lambda command: ads({"5.0": 2}))
    assert len(HTCondorScheduler(HTCondorDialect(), played).query(["5.0"]).rows) == 1
    assert played.count("condor_q") == 1


@pytest.mark.parametrize(("said", "can"), [(" Has Late Materialization enabled\n", True), ("", False)])
def test_a_cap_is_refused_where_the_schedd_has_none(said: str, can: bool) -> None:
    played = Played(lambda command: f"Schedd x\n{said}")
    one = HTCondorScheduler(HTCondorDialect(), played)
    job = JobDescription(argv=("x",))
    for _ in range(2):
        if can:
            one.check(job, kind=Kind.ARRAY, tasks=3, max_running=2)
        else:
            with pytest.raises(UnsupportedAttribute) as caught:
                one.check(job, kind=Kind.ARRAY, tasks=3, max_running=2)
            assert caught.value.field == "max_running"
    assert len(played.asked) == 1, "it is asked once"
    one.check(job, kind=Kind.ARRAY, tasks=3)
    assert len(played.asked) == 1
