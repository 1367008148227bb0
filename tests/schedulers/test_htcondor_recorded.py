"""What HTCondor printed, read by every parser. ``testbeds/htcondor/samples.sh`` records it again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import msgspec
import pytest

from jobyard.errors import SchedulerUnavailable, SubmitError, WrongState
from jobyard.job import By, Cause, JobDescription, JobState
from jobyard.schedulers.base import Action, Kind, Result, Row, Submission
from jobyard.schedulers.htcondor import HTCondorDialect

BEDS = Path(__file__).resolve().parent.parent.parent / "testbeds" / "htcondor"
DIALECT = HTCondorDialect()
QUEUED, HELD, RUNNING, SUSPENDED = JobState.QUEUED, JobState.HELD, JobState.RUNNING, JobState.SUSPENDED


class Samples:
    """One release's recorded answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, list[str]] = json.loads((folder / "jobs.json").read_text())

    def __getitem__(self, name: str) -> Result:
        stem, err = self.folder / name, self.folder / f"{name}.err"
        return Result(
            argv=tuple(shlex.split(stem.with_suffix(".cmd").read_text())),
            returncode=int(stem.with_suffix(".rc").read_text()),
            stdout=stem.with_suffix(".out").read_bytes(),
            stderr=err.read_bytes() if err.exists() else b"",
        )


@pytest.fixture(params=["samples", "samples-25"])
def samples(request: pytest.FixtureRequest) -> Samples:
    return Samples(BEDS / request.param)


def submission(count: int = 0, token: str = "0" * 32, cap: int | None = None) -> Submission:
    return Submission(
        token=token,
        folder=f"/work/{token}",
        description=JobDescription(argv=("x",)),
        kind=Kind.ARRAY if count else Kind.SINGLE,
        indices=tuple(range(1, count + 1)),
        max_running=cap,
    )


# Submission -----------------------------------------------------------------------------------------------------------


def test_the_version(samples: Samples) -> None:
    version = {"samples": "htcondor 23.9.6", "samples-25": "htcondor 25.14.1"}[samples.folder.name]
    assert DIALECT.parse_version(samples["version"]) == version


def test_the_limits(samples: Samples) -> None:
    limits = DIALECT.parse_limits(samples["limits"])
    assert (limits.max_array_size, limits.max_jobs, limits.max_index) == (2_000, 100_000, None)


def test_whether_arrays_are_capped(samples: Samples) -> None:
    assert DIALECT.parse_capabilities(samples["capabilities"])
    off = samples["capabilities"].text.splitlines()[0]  # all that is printed where it is off
    assert not DIALECT.parse_capabilities(msgspec.structs.replace(samples["capabilities"], stdout=off.encode()))
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_capabilities(samples["away-capabilities"])


@pytest.mark.parametrize(
    "name", ["done", "exit3", "kill", "segv", "walltime", "unreadable", "held", "later", "no-room", "rerunnable"]
)
def test_the_id_of_a_job(samples: Samples, name: str) -> None:
    accepted = DIALECT.parse_submit(samples[f"submit-{name}"], submission())
    assert list(accepted.native_ids) == samples.jobs[name]
    assert accepted.array_id is None


@pytest.mark.parametrize(("name", "count"), [("array", 3), ("capped", 6)])
def test_the_ids_of_an_array(samples: Samples, name: str, count: int) -> None:
    accepted = DIALECT.parse_submit(samples[f"submit-{name}"], submission(count))
    assert list(accepted.native_ids) == samples.jobs[name]
    assert {native_id.partition(".")[0] for native_id in accepted.native_ids} == {accepted.array_id}


def test_another_number_of_tasks_than_was_sent(samples: Samples) -> None:
    with pytest.raises(SchedulerUnavailable, match="other jobs than"):
        DIALECT.parse_submit(samples["submit-array"], submission(4))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("refused-expression", "RequestCpus = many and more"),
        ("refused-option", "Usage: condor_submit"),
        ("refused-many", "MAX_JOBS_PER_SUBMISSION"),
    ],
)
def test_a_refusal_says_why(samples: Samples, name: str, said: str) -> None:
    with pytest.raises(SubmitError) as caught:
        DIALECT.parse_submit(samples[name], submission())
    assert said in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize("name", ["away-submit", "gone-submit", "closed-submit"])
def test_a_schedd_that_is_away_refuses_nothing(samples: Samples, name: str) -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_submit(samples[name], submission())


def test_the_description_that_was_sent(samples: Samples) -> None:
    """No text of the user's is a macro, a command or the end of a string."""
    sent = (samples.folder / "submit-done.in").read_text().splitlines()
    assert '+JobBatchName = "a \\"b\\" $(DOLLAR)(c) \\d"' in sent
    assert sent[-1] == "queue 1"
    ids = set(samples.jobs["done"])
    (row,) = [row for row in DIALECT.parse_account(samples["history"]).rows if row.native_id in ids]
    assert row.name == 'a "b" $(c) \\d'


def test_tokens_are_found_in_queue_and_history(samples: Samples) -> None:
    results = [samples[f"find-{number}"] for number in range(3)]
    token = json.loads(results[0].text)[0]["JobyardToken"]
    wanted = [submission(4, token, cap=1), submission(token="f" * 32)]
    commands = DIALECT.find_commands(wanted)
    assert [command.argv[:2] for command in commands] == [
        ("condor_q", "-json"),
        ("condor_q", "-factory"),
        ("condor_history", "-json"),
    ]
    for several in (results[:1], results[:2], results):
        found = DIALECT.parse_find(several, wanted)
        assert set(found) == {token}
        assert len(found[token].native_ids) == 4
        assert found[token].array_id == found[token].native_ids[0].partition(".")[0]


# Queue and history ----------------------------------------------------------------------------------------------------


def rows(samples: Samples, name: str) -> dict[str, Row]:
    """The rows of the queue's answer, by what they are examples of."""
    answer = DIALECT.parse_query(samples[name])
    assert answer.complete
    assert answer.unparsed == ()
    by_id = {row.native_id: row for row in answer.rows}
    assert len(by_id) == len(answer.rows)
    named = {f"{word}.{n}": by_id.get(job) for word, jobs in samples.jobs.items() for n, job in enumerate(jobs)}
    return {word: row for word, row in named.items() if row is not None}


def test_nothing_at_all_is_an_empty_queue(samples: Samples) -> None:
    assert samples["queue-empty"].stdout == b""
    answer = DIALECT.parse_query(samples["queue-empty"])
    assert (answer.rows, answer.unparsed, answer.complete) == ((), (), True)


def test_states_in_the_queue(samples: Samples) -> None:
    seen = {word: (row.state, row.by, row.native_state, row.attempt) for word, row in rows(samples, "queue").items()}
    assert seen == {
        "held.0": (HELD, By.USER, "HELD", 1),
        "later.0": (HELD, By.SYSTEM, "IDLE", 1),
        "no-room.0": (HELD, By.USER, "HELD", 1),
        "array.0": (RUNNING, None, "RUNNING", 1),
        "array.1": (RUNNING, None, "RUNNING", 1),
        "array.2": (SUSPENDED, By.USER, "SUSPENDED", 1),
        "capped.0": (RUNNING, None, "RUNNING", 1),
        "capped.1": (RUNNING, None, "RUNNING", 1),
        "capped.2": (QUEUED, None, "UNMATERIALIZED", 1),
        "capped.3": (QUEUED, None, "UNMATERIALIZED", 1),
        "capped.4": (QUEUED, None, "UNMATERIALIZED", 1),
        "capped.5": (QUEUED, None, "UNMATERIALIZED", 1),
        "rerunnable.0": (RUNNING, None, "RUNNING", 1),
    }


def test_reasons_for_waiting(samples: Samples) -> None:
    reasons = {word: row.reason for word, row in rows(samples, "queue").items()}
    assert reasons["held.0"] == "submitted on hold at user's request"
    assert (reasons["later.0"] or "").startswith("not before 20")
    assert reasons["no-room.0"] == "via condor_hold (by user labuser)"
    assert reasons["capped.5"] == "as many run as may at a time"
    assert reasons["array.0"] is None


def test_rows_carry_token_name_and_times(samples: Samples) -> None:
    for word, row in rows(samples, "queue").items():
        assert row.token is not None
        assert row.token.startswith("0" * 28), word
        assert row.name == "sample"
        assert row.submitted_at is not None
        running = row.native_state in ("RUNNING", "SUSPENDED")
        assert (row.began_at is not None) == running, word
        if row.began_at is not None:
            assert 0 <= row.began_at - row.submitted_at < 60
        assert not row.ended
        assert row.ending is None


def test_one_that_was_removed_from_the_queue_is_not_over_while_it_is_listed(samples: Samples) -> None:
    seen = rows(samples, "queue-some")
    assert "held.0" not in seen or not seen["held.0"].ended
    assert seen["array.0"].state is RUNNING
    assert seen["rerunnable.0"].attempt in (1, 2)


def endings(samples: Samples) -> dict[str, Row]:
    answer = DIALECT.parse_account(samples["history"])
    assert answer.complete
    assert answer.unparsed == ()
    by_id = {row.native_id: row for row in answer.rows}
    return {f"{word}.{n}": by_id[job] for word, jobs in samples.jobs.items() for n, job in enumerate(jobs) if job in by_id}


def test_how_jobs_ended(samples: Samples) -> None:
    seen = {}
    for word, row in endings(samples).items():
        assert row.ended
        assert row.ending is not None
        assert row.state is row.ending.state
        seen[word] = (row.ending.state, row.ending.cause, row.ending.exit_code, row.ending.signal)
    gone = (JobState.CANCELLED, Cause.CANCELLED, None, None)
    assert seen == {
        "done.0": (JobState.DONE, Cause.EXITED, 0, None),
        "exit3.0": (JobState.FAILED, Cause.EXITED, 3, None),
        "kill.0": (JobState.FAILED, Cause.EXITED, None, "SIGKILL"),
        "segv.0": (JobState.FAILED, Cause.EXITED, None, "SIGSEGV"),
        "walltime.0": (JobState.FAILED, Cause.WALLTIME, None, None),
        "unreadable.0": (JobState.FAILED, Cause.SHEPHERD, None, None),
        **dict.fromkeys(("held.0", "later.0", "no-room.0", "array.0", "array.1", "array.2", "rerunnable.0"), gone),
        **dict.fromkeys(("capped.0", "capped.1"), gone),
    }, "tasks that never came into the queue have no record"


def test_messages_and_attempts_of_endings(samples: Samples) -> None:
    seen = endings(samples)
    assert {word: row.attempt for word, row in seen.items() if row.attempt != 1} == {
        "rerunnable.0": 2,
        "unreadable.0": None,
        "held.0": None,
    }
    messages = {word: row.ending.message for word, row in seen.items() if row.ending is not None}
    assert messages["walltime.0"] == "walltime: it ran for 2 s"
    assert messages["unreadable.0"].startswith("held 6: Error from ")
    assert "run.sh" in messages["unreadable.0"]
    assert messages["array.0"] == "via condor_rm (by user labuser)"
    assert messages["done.0"] == ""


def test_times_usage_and_hosts_of_endings(samples: Samples) -> None:
    for word, row in endings(samples).items():
        ending = row.ending
        assert ending is not None
        assert ending.submitted_at is not None
        assert ending.ended_at is not None
        assert ending.ended_at >= ending.submitted_at
        never = word in ("held.0", "later.0", "no-room.0")
        assert ending.aborted == never, word
        assert (ending.began_at is None) == never, word
        assert (ending.host is None) == never, word
        assert ending.usage.wall_s is not None
        assert ending.usage.native["RemoteWallClockTime"] == str(ending.usage.wall_s)
    memory = endings(samples)["array.0"].ending
    assert memory is not None
    assert memory.usage.max_rss_bytes is not None
    assert memory.usage.max_rss_bytes % 1024 == 0


def test_an_unknown_job_has_no_record(samples: Samples) -> None:
    answer = DIALECT.parse_account(samples["history-unknown"])
    assert (answer.rows, answer.complete) == ((), True)


@pytest.mark.parametrize("name", ["away-queue", "gone-queue", "closed-queue"])
def test_a_schedd_that_is_away_lists_nothing(samples: Samples, name: str) -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_query(samples[name])
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_list(samples[name])
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_find([samples[name]], [submission()])


@pytest.mark.parametrize("name", ["gone-history", "closed-history"])
def test_history_is_read_without_the_schedd(samples: Samples, name: str) -> None:
    (row,) = DIALECT.parse_account(samples[name]).rows
    assert row.native_id == samples.jobs["exit3"][0]
    assert row.ending is not None
    assert row.ending.exit_code == 3


def test_a_site_without_history(samples: Samples) -> None:
    result = msgspec.structs.replace(
        samples["history-unknown"], returncode=1, stdout=b"", stderr=b"Error: No history file is defined\n"
    )
    answer = DIALECT.parse_account(result)
    assert (answer.rows, answer.complete) == ((), True)
    assert DIALECT.parse_find([samples["queue-empty"], result], [submission()]) == {}


# Control --------------------------------------------------------------------------------------------------------------


def control(samples: Samples, name: str, action: Action, *words: str) -> dict[str, object]:
    """By what the jobs are examples of: None, or the kind of refusal."""
    shown = {word: samples.jobs[word.partition(".")[0]][int(word.partition(".")[2])] for word in words if "." in word}
    shown |= {word: "999999.0" for word in words if "." not in word}
    answers = DIALECT.parse_control(action, samples[name], list(shown.values()))
    assert set(answers) <= set(shown.values())
    return {word: type(answers[job]) if answers[job] is not None else None for word, job in shown.items() if job in answers}


def test_each_job_has_its_own_answer(samples: Samples) -> None:
    assert control(samples, "suspend", Action.SUSPEND, "array.2", "held.0") == {"array.2": None, "held.0": WrongState}
    assert control(samples, "resume", Action.RESUME, "array.2", "array.0") == {"array.2": None, "array.0": WrongState}
    assert control(samples, "release", Action.RELEASE, "no-room.0", "array.0", "unknown") == {
        "no-room.0": None,
        "array.0": WrongState,
        "unknown": WrongState,
    }


def test_a_hold_is_what_the_queue_says_it_is(samples: Samples) -> None:
    """condor_hold prints one line for all; a job that runs was left alone."""
    assert control(samples, "hold-1", Action.HOLD, "no-room.0", "array.0", "unknown") == {
        "no-room.0": None,
        "array.0": WrongState,
        "unknown": WrongState,
    }
    assert control(samples, "hold-again-1", Action.HOLD, "no-room.0") == {"no-room.0": None}
    assert DIALECT.parse_control(Action.HOLD, samples["hold"], []) == {}


def test_only_rerunnable_jobs_are_requeued(samples: Samples) -> None:
    assert control(samples, "requeue-1", Action.REQUEUE, "rerunnable.0", "array.0", "held.0") == {
        "rerunnable.0": None,
        "array.0": WrongState,
        "held.0": WrongState,
    }


def test_a_task_that_is_still_to_come_is_not_cancelled_alone(samples: Samples) -> None:
    assert control(samples, "cancel-some", Action.CANCEL, "held.0", "unknown", "capped.4") == {
        "held.0": None,
        "unknown": WrongState,
        "capped.4": WrongState,
    }


def test_the_rest_of_a_capped_array_is_cancelled_whole(samples: Samples) -> None:
    words = [*(f"capped.{n}" for n in range(1, 6)), "array.0", "array.1", "array.2", "later.0", "no-room.0", "rerunnable.0"]
    assert control(samples, "cancel-rest", Action.CANCEL, *words) == dict.fromkeys(words)


@pytest.mark.parametrize("name", ["gone-release", "closed-release"])
def test_control_while_the_schedd_is_away(samples: Samples, name: str) -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_control(Action.RELEASE, samples[name], ["1.0"])


def test_cancel_at_a_schedd_that_nobody_knows(samples: Samples) -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_control(Action.CANCEL, samples["away-cancel"], ["1.0"])
