"""Grid Engine as a Scheduler over commands that answer as recorded: what it asks when, and what it does by itself."""

from __future__ import annotations

import calendar
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from jobyard import Session
from jobyard.description import describe
from jobyard.errors import ControlError, SchedulerUnavailable, UnsupportedAttribute, WrongState
from jobyard.job import Cause, JobState
from jobyard.schedulers import gridengine
from jobyard.schedulers.base import Action, Command, Kind, Result, Submission
from jobyard.schedulers.gridengine import GridEngineScheduler
from jobyard.transports.local import LocalTransport
from schedulers.gridengine_samples import sample


class Answers:
    """A transport whose commands answer as they were recorded, by the program and what the command holds."""

    name = "answers"

    def __init__(self) -> None:
        self.asked: list[Command] = []
        self.said: dict[str, Callable[[Command], Result]] = {
            "qconf -sc": lambda _: sample("site"),
            "qconf -sconf": lambda _: sample("limits"),
            "qstat -u": lambda _: sample("query-states"),
            "qsub": lambda _: sample("qsub-single"),
        }

    def user(self) -> str:
        return "labuser"

    def close(self) -> None:
        pass

    def run(self, command: Command) -> Result:
        self.asked.append(command)
        text = " ".join(command.argv)
        return next(answer(command) for word, answer in self.said.items() if word in text)

    def calls(self, word: str) -> int:
        return sum(word in " ".join(command.argv) for command in self.asked)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def scheduler(answers: Answers) -> GridEngineScheduler:
    return GridEngineScheduler(answers)  # type: ignore[arg-type]


def submission(**fields: object) -> Submission:
    return Submission(token="a" * 32, folder=f"/w/{'a' * 32}", description=describe(["x"], **fields))


# The site ----------------------------------------------------------------------------------------------------------------


def test_the_site_is_asked_by_the_first_job_that_depends_on_it(scheduler: GridEngineScheduler, answers: Answers) -> None:
    scheduler.check(describe(["x"], walltime=60, queue="q"))
    assert answers.asked == []
    scheduler.check(describe(["x"], cores=4))
    scheduler.check(describe(["x"], memory="1GiB"))
    assert answers.calls("qconf -sc") == 1, "and remembered"
    with pytest.raises(UnsupportedAttribute):
        scheduler.check(describe(["x"], cores=65))


def test_a_job_sent_again_after_a_crash_asks_for_what_it_did(scheduler: GridEngineScheduler, answers: Answers) -> None:
    """Nobody has checked it in this process."""
    scheduler.submit(submission(cores=4, memory="1GiB"))
    sent = answers.asked[-1].argv
    assert sent[sent.index("-pe") + 1 :][:2] == ("smp", "4")
    assert "h_vmem=262144K" in sent


def test_a_site_that_does_not_answer_is_no_refusal(scheduler: GridEngineScheduler, answers: Answers) -> None:
    answers.said["qconf -sc"] = lambda _: sample("away-site")
    with pytest.raises(SchedulerUnavailable):
        scheduler.check(describe(["x"], gpus=1))
    answers.said["qconf -sc"] = lambda _: sample("site")
    scheduler.check(describe(["x"], gpus=1))


# The error state -----------------------------------------------------------------------------------------------------------


def deleted(command: Command) -> Result:
    lines = "".join(f"labuser has deleted job {one}\n" for one in command.argv[1:])
    return Result(argv=command.argv, returncode=0, stdout=lines.encode())


def test_ours_in_the_error_state_are_deleted_and_ended(scheduler: GridEngineScheduler, answers: Answers) -> None:
    answers.said["qdel"] = deleted
    rows = {row.native_id: row for row in scheduler.query(["4", "6"]).rows}
    assert [command.argv for command in answers.asked if command.argv[0] == "qdel"] == [("qdel", "4")]
    ending = rows["4"].ending
    assert rows["4"].ended
    assert ending is not None
    assert (ending.state, ending.cause, ending.aborted) == (JobState.FAILED, Cause.NOT_STARTED, True)
    assert "can't chdir" in ending.message
    assert not rows["6"].ended


def test_others_in_the_error_state_are_left(scheduler: GridEngineScheduler, answers: Answers) -> None:
    """Those that were not asked about, and those without a token of ours."""
    rows = {row.native_id: row for row in scheduler.query(["6"]).rows}
    assert rows["4"].state is JobState.HELD
    whole = sample("query-states")
    nobodys = msgspec.structs.replace(whole, stdout=whole.stdout.replace(b"c" * 32, b"theirs"))
    answers.said["qstat -u"] = lambda _: nobodys
    rows = {row.native_id: row for row in scheduler.query(["4"]).rows}
    assert rows["4"].state is JobState.HELD
    assert rows["4"].reason is not None
    assert answers.calls("qdel") == 0


@pytest.mark.parametrize("name", ["away-qdel", "notowner-qdel", "qdel-again"])
def test_what_could_not_be_deleted_has_not_ended(scheduler: GridEngineScheduler, answers: Answers, name: str) -> None:
    answers.said["qdel"] = lambda _: sample(name)
    rows = {row.native_id: row for row in scheduler.query(["4"]).rows}
    assert not rows["4"].ended
    assert rows["4"].state is JobState.HELD


# Which way tasks are counted -------------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A qsub that takes everything as job 7, and a queue that shows nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {
        "qsub": 'for word; do [ "$before" != -t ] || { echo "7.$word"; exit; }; before=$word; done; echo 7',
        "qstat": """printf "<?xml version='1.0'?>\\n<job_info>\\n</job_info>\\n" """,
        "qdel": 'for word; do echo "me has deleted job ${word%%.*}"; done',
        "qconf": "echo max_aj_tasks 75000",
        "qacct": "echo 'error: job id 7 not found' >&2; exit 1",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("indices", "positions", "ids"),
    [
        ([2, 4, 6], False, ["7.2", "7.4", "7.6"]),
        ([0, 1, 2], True, ["7.1", "7.2", "7.3"]),
        ([1, 2, 5], True, ["7.1", "7.2", "7.3"]),
    ],
)
def test_the_node_is_told_how_tasks_are_counted(
    yard: Path, programs: None, indices: list[int], positions: bool, ids: list[str]
) -> None:
    with Session("gridengine") as session:
        array = session.submit_array(["/bin/true"], indices)
        assert [task.native_id for task in array] == ids
        assert [task.task_index for task in array] == indices
        (folder,) = (yard / "work").glob("jobyard-*/*/*/job.json")
        job = json.loads(folder.read_text())
        assert (job["traits"]["positions"], job["traits"]["index_offset"]) == (positions, 1 if positions else 0)


def test_like_jobs_are_counted_from_one(yard: Path, programs: None) -> None:
    with Session("gridengine") as session:
        many = session.submit_all([["/bin/echo", str(n)] for n in range(3)])
        assert [job.native_id for job in many] == ["7.1", "7.2", "7.3"]
        (folder,) = (yard / "work").glob("jobyard-*/*/*/job.json")
        job = json.loads(folder.read_text())
        assert job["kind"] == Kind.LIKE.value
        assert (job["traits"]["positions"], job["traits"]["index_offset"]) == (True, 1)


# Debian's wrappers -----------------------------------------------------------------------------------------------------------


def test_wrappers_are_passed_by_only_where_they_are_debians(programs: None) -> None:
    """Another qsub, first on PATH, is the one that is meant."""
    assert gridengine._environment() == {}


# Suspended and resumed --------------------------------------------------------------------------------------------------------


def test_a_resume_waits_for_the_suspension_before_it(
    scheduler: GridEngineScheduler, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grid Engine would carry it out afterwards, and the job would stay stopped. Other jobs wait for nothing."""
    now_s = 1000.0
    slept: list[float] = []
    monkeypatch.setattr("jobyard.schedulers.gridengine.scheduler.time.monotonic", lambda: now_s)
    monkeypatch.setattr("jobyard.schedulers.gridengine.scheduler.time.sleep", slept.append)
    answers.said = {"qmod -sj": lambda _: sample("qmod-sj"), "qmod -usj": lambda _: sample("qmod-usj")}
    assert scheduler.control(Action.SUSPEND, ["1", "9"])["1"] is None
    now_s += 1.0
    scheduler.control(Action.RESUME, ["2.2"])
    scheduler.control(Action.RESUME, ["9"])  # it was not suspended
    assert slept == []
    scheduler.control(Action.RESUME, ["2.2", "1"])
    assert slept == [2.0]
    now_s += 2.5
    scheduler.control(Action.RESUME, ["1"])
    assert slept == [2.0]


# Run again --------------------------------------------------------------------------------------------------------------------


def first_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, programs: Mapping[str, str]) -> None:
    """Programs of a line of shell each."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(("report", "wait_s"), [("00:00:40", 50), ("00:01:30", 100), ("5", 15), ("", 50)])
def test_what_is_rescheduled_begins_after_its_host_has_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: str, wait_s: int
) -> None:
    """Grid Engine would keep the old process, or kill the new one. Jobs that were not rescheduled keep their start times."""
    programs = {
        "qconf": f"echo 'load_report_time             {report}'" if report else "exit 1",
        "qmod": f"echo \"$@\" >{tmp_path}/asked; echo 'Pushed rescheduling of job 5 on host localhost'; "
        "echo 'Pushed rescheduling of job-array task 13.2 on host localhost'; "
        "echo 'Modify operation can not be applied on job 7 in pending/hold state'; exit 1",
        "qalter": f'echo "$TZ $@" >>{tmp_path}/altered; echo "modified start time of job 5"',
    }
    first_on_path(monkeypatch, tmp_path, programs)
    before = time.time()
    said = GridEngineScheduler(LocalTransport()).control(Action.REQUEUE, ["5", "7", "13.2"])
    assert (said["5"], said["13.2"]) == (None, None)
    assert isinstance(said["7"], WrongState)
    assert (tmp_path / "asked").read_text().split() == ["-rj", "5", "7", "13.2"]
    zone, option, moment, ids = (tmp_path / "altered").read_text().split()
    assert (zone, option, ids) == ("UTC0", "-a", "13,5")
    at = calendar.timegm(time.strptime(moment, "%Y%m%d%H%M.%S"))
    assert -2 <= at - before - wait_s <= 30


def test_nothing_is_altered_where_nothing_was_rescheduled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {
        "qconf": "echo 'load_report_time 00:00:40'",
        "qmod": "echo 'The job 14 is not restartable'; exit 1",
        "qalter": f"touch {tmp_path}/altered",
    }
    first_on_path(monkeypatch, tmp_path, programs)
    said = GridEngineScheduler(LocalTransport()).control(Action.REQUEUE, ["14"])
    assert isinstance(said["14"], ControlError)
    assert not (tmp_path / "altered").exists()


def test_a_host_that_cannot_reckon_with_time_reschedules_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {
        "qconf": "echo 'qconf: strange' >&2; exit 1",
        "date": "echo 'date: illegal option -- d' >&2; exit 1",
        "qmod": "echo 'Pushed rescheduling of job 5 on host localhost'",
        "qalter": f"touch {tmp_path}/altered",
    }
    first_on_path(monkeypatch, tmp_path, programs)
    assert GridEngineScheduler(LocalTransport()).control(Action.REQUEUE, ["5", "6"])["5"] is None
    assert not (tmp_path / "altered").exists()
