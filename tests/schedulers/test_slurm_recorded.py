"""What the parsers make of recorded answers of Slurm 20.11, 22.05, 24.11 and 26.05 (testbeds/slurm/samples.sh records them)."""

from __future__ import annotations

import msgspec
import pytest

from jobyard.errors import (
    ControlError,
    JobyardError,
    NotPermitted,
    SchedulerUnavailable,
    SubmitError,
    UnknownJob,
    WrongState,
)
from jobyard.job import By, Cause, Ending, JobDescription, JobState
from jobyard.schedulers.base import Action, Kind, Result, Row, SiteLimits, Submission
from jobyard.schedulers.slurm import SlurmDialect
from jobyard.schedulers.slurm.answers import release_of
from schedulers.slurm_samples import RELEASES, fates, sample

EACH = pytest.mark.parametrize("release", RELEASES)
SINGLE = Submission(token="a1" * 16, folder="/w", description=JobDescription(argv=("x",)))
ARRAY = Submission(token="b2" * 16, folder="/w", description=JobDescription(argv=("x",)), kind=Kind.ARRAY, indices=(5, 7, 9))


def sent(release: str) -> tuple[Submission, str, Submission, str]:
    """The two submissions whose tokens were recorded, each with its number."""
    single, array = (next(one for one in fates(release) if one.startswith(f"token-{kind}-")) for kind in ("single", "array"))
    return (
        msgspec.structs.replace(SINGLE, token=single.rpartition("-")[2]),
        fates(release)[single],
        msgspec.structs.replace(ARRAY, token=array.rpartition("-")[2]),
        fates(release)[array],
    )


TABLES = ("query-early", "query-live", "query-ended", "account-early", "account", "find-queue", "find-account")


def dialect(release: str) -> SlurmDialect:
    return SlurmDialect(release=release_of(f"slurm {release}"))


def row(release: str, name: str, fate: str, task: int | None = None) -> Row:
    """What a query or accounting said of one job."""
    made = dialect(release)
    parse = made.parse_account if name.startswith("account") else made.parse_query
    native_id = fates(release)[fate] + ("" if task is None else f"_{task}")
    (found,) = (one for one in parse(sample(release, name)).rows if one.native_id == native_id)
    return found


def ending(release: str, name: str, fate: str, task: int | None = None) -> Ending:
    found = row(release, name, fate, task)
    assert found.ended
    assert found.ending is not None
    return found.ending


# The queue ----------------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize(
    "name", ["query-early", "query-live", "query-ended", "account-early", "account", "find-queue", "find-account"]
)
def test_every_line_is_read(release: str, name: str) -> None:
    made = dialect(release)
    answer = (made.parse_account if "account" in name else made.parse_query)(sample(release, name))
    assert answer.complete
    assert not answer.unparsed
    assert len({one.native_id for one in answer.rows}) == len(answer.rows) > 20
    assert all(one.state is not None for one in answer.rows)


@EACH
@pytest.mark.parametrize(
    ("fate", "task", "state", "by"),
    [
        ("held", None, JobState.HELD, By.USER),
        ("begin", None, JobState.HELD, By.SYSTEM),
        ("depends", None, JobState.HELD, By.SYSTEM),
        ("requeued", None, JobState.HELD, By.SYSTEM),  # two minutes, by Slurm's own rule
        ("stopped", None, JobState.SUSPENDED, By.USER),
        ("timeout", None, JobState.RUNNING, None),
        ("array", 1, JobState.RUNNING, None),
        ("array", 5, JobState.QUEUED, None),
        ("array", 6, JobState.HELD, By.USER),
    ],
)
def test_states(release: str, fate: str, task: int | None, state: JobState, by: By | None) -> None:
    found = row(release, "query-live", fate, task)
    assert (found.state, found.by, found.ended, found.ending) == (state, by, False, None)


@EACH
def test_reasons_and_attempts(release: str) -> None:
    assert row(release, "query-live", "held").reason == "JobHeldUser"
    assert row(release, "query-live", "array", 5).reason == "JobArrayTaskLimit"
    assert row(release, "query-live", "requeued").attempt == 2
    assert row(release, "query-live", "stopped").attempt == 1
    assert row(release, "query-live", "requeued").began_at is None, "when it may start is not when it began"


@EACH
def test_hostile_names_and_folders_stay_their_own(release: str) -> None:
    found = row(release, "query-early", "hostile")
    assert found.state in (JobState.RUNNING, JobState.DONE)
    assert found.name == "x\n1|1|COMPLETED|1|None|1|0#1#\n"
    assert row(release, "account", "hostile").state is JobState.DONE
    assert not [one for one in dialect(release).parse_query(sample(release, "query-early")).rows if one.native_id == "1"]


@EACH
def test_an_empty_queue(release: str) -> None:
    answer = dialect(release).parse_query(sample(release, "query-empty"))
    assert answer.complete
    assert answer.rows == ()


# Endings ------------------------------------------------------------------------------------------------------------

CODES = (0, 3, 99, 100, 128, 137, 255)
SIGNALS = ("KILL", "TERM", "SEGV", "USR1")


@EACH
@pytest.mark.parametrize("code", CODES)
def test_exit_codes_in_the_queue(release: str, code: int) -> None:
    told = ending(release, "query-ended", f"exit-{code}")
    assert (told.exit_code, told.signal, told.cause) == (code, None, Cause.EXITED)
    assert told.state is (JobState.DONE if code == 0 else JobState.FAILED)
    assert not told.aborted
    assert told.message == ""


@EACH
@pytest.mark.parametrize("code", CODES)
def test_exit_codes_in_accounting(release: str, code: int) -> None:
    """Up to 24.11 sacct takes 128 off; then nothing but the message tells."""
    told = ending(release, "account", f"exit-{code}")
    assert told.state is (JobState.DONE if code == 0 else JobState.FAILED)
    if code == 0 or release == "26.05":
        assert (told.exit_code, told.cause) == (code, Cause.EXITED)
    else:
        assert told.exit_code is None
        assert str(code) in told.message
    assert told.usage.wall_s is not None
    assert told.host is not None


@EACH
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("source", ["query-ended", "account"])
def test_signals(release: str, name: str, source: str) -> None:
    told = ending(release, source, f"signal-{name}")
    assert (told.signal, told.exit_code, told.cause) == (f"SIG{name}", None, Cause.EXITED)
    assert told.state is JobState.FAILED
    assert told.message == ""


@EACH
@pytest.mark.parametrize("source", ["query-ended", "account"])
@pytest.mark.parametrize(
    ("fate", "state", "cause", "aborted"),
    [
        ("timeout", JobState.FAILED, Cause.WALLTIME, False),
        ("cancelled-running", JobState.CANCELLED, Cause.CANCELLED, False),
        ("cancelled-held", JobState.CANCELLED, Cause.CANCELLED, True),
        ("begin", JobState.CANCELLED, Cause.CANCELLED, True),
        ("no-output", JobState.FAILED, Cause.NOT_STARTED, True),
    ],
)
def test_other_ends(release: str, source: str, fate: str, state: JobState, cause: Cause, aborted: bool) -> None:
    told = ending(release, source, fate)
    if fate == "no-output" and release == "20.11":  # it says that the script ended with exit code 1
        assert (told.state, told.cause, told.aborted) == (JobState.FAILED, Cause.EXITED, False)
        return
    assert (told.state, told.cause, told.aborted) == (state, cause, aborted)
    assert (told.exit_code, told.signal) == (None, None)


@EACH
def test_a_dependency_that_can_no_longer_be(release: str) -> None:
    assert ending(release, "query-ended", "never").cause is Cause.DEPENDENCY
    late = ending(release, "account", "never")
    assert late.cause in (Cause.DEPENDENCY, Cause.REJECTED), "accounting does not always keep the reason"
    assert late.aborted
    assert late.state is JobState.FAILED


@pytest.mark.parametrize("release", ["20.11", "24.11", "26.05"])  # the bed of 22.05 was at work for others
def test_a_node_that_failed(release: str) -> None:
    for source in ("query-ended", "account"):
        assert ending(release, source, "node").cause is Cause.NODE


def test_memory() -> None:
    """Only the bed of 22.05 confines it."""
    for source in ("query-ended", "account"):
        assert ending("22.05", source, "memory").cause is Cause.MEMORY


@EACH
def test_a_missing_program_is_the_shells_127(release: str) -> None:
    assert ending(release, "query-ended", "no-program").exit_code == 127


@EACH
def test_tasks_cancelled_together(release: str) -> None:
    """The last that wait, cancelled with their array, are one line of accounting: N_[7,9]. The queue shows the array alone."""
    for task in (7, 9):
        told = ending(release, "account", "array-cancelled", task)
        assert (told.state, told.aborted) == (JobState.CANCELLED, True)


@EACH
def test_some_of_those_that_wait_leave_no_trace(release: str) -> None:
    """Tasks 4, 5, 6 and 8 were cancelled while others of their array waited."""
    made = dialect(release)
    gone = {f"{fates(release)['array-cancelled']}_{task}" for task in (4, 5, 6, 8)}
    queue, account = made.parse_query(sample(release, "query-ended")), made.parse_account(sample(release, "account"))
    assert not gone & {one.native_id for one in (*queue.rows, *account.rows)}


@EACH
def test_usage(release: str) -> None:
    usage = row(release, "account", "timeout").ending
    assert usage is not None
    assert usage.usage.wall_s is not None
    assert usage.usage.wall_s > 50
    assert usage.usage.user_s is not None
    assert usage.usage.native["State"] == "TIMEOUT"


@EACH
def test_accounting_has_not_lost_or_made_up_jobs(release: str) -> None:
    assert dialect(release).parse_account(sample(release, "account-unknown")).rows == ()
    assert dialect(release).parse_account(sample(release, "account-unknown")).complete
    off = dialect(release).parse_account(sample(release, "account-off"))
    assert not off.complete
    assert off.rows == ()


# Submission ---------------------------------------------------------------------------------------------------------


@EACH
def test_accepted(release: str) -> None:
    made = dialect(release)
    single, number, array, array_number = sent(release)
    assert made.parse_submit(sample(release, "submit-single"), single).native_ids == (number,)
    accepted = made.parse_submit(sample(release, "submit-array"), array)
    assert accepted.array_id == array_number
    assert accepted.native_ids == (f"{array_number}_0", f"{array_number}_1", f"{array_number}_2"), "9 is over three tasks"


@EACH
@pytest.mark.parametrize("name", ["queue", "reservation", "constraint", "option", "time", "priority", "array-too-large"])
def test_refused(release: str, name: str) -> None:
    result = sample(release, f"submit-{name}")
    if result.returncode == 0:
        assert name == "array-too-large"  # sent as positions 0 and 1
        return
    with pytest.raises(SubmitError) as caught:
        dialect(release).parse_submit(result, SINGLE)
    assert not caught.value.retryable
    assert caught.value.output


@EACH
def test_nobody_there(release: str) -> None:
    made = dialect(release)
    with pytest.raises(SchedulerUnavailable):
        made.parse_submit(sample(release, "submit-away"), SINGLE)
    with pytest.raises(SchedulerUnavailable):
        made.parse_query(sample(release, "query-away"))
    with pytest.raises(SchedulerUnavailable):
        made.parse_account(sample(release, "account-away"))
    with pytest.raises(SchedulerUnavailable):
        made.parse_limits(sample(release, "limits-away"))
    for action in (Action.CANCEL, Action.HOLD, Action.SIGNAL):
        with pytest.raises(SchedulerUnavailable):
            made.parse_control(action, sample(release, f"control-{action}-away"), ["1", "2"])


@EACH
def test_tokens_are_found(release: str) -> None:
    made = dialect(release)
    single, number, array, array_number = sent(release)
    wanted = {single.token: number, array.token: f"{array_number}_0"}
    for names in (("find-queue",), ("find-queue", "find-account"), ("find-account",)):
        found = made.parse_find([sample(release, name) for name in names], [single, array])
        assert {token: accepted.native_ids[0] for token, accepted in found.items()} == wanted


# Control ------------------------------------------------------------------------------------------------------------


def said(release: str, name: str, *jobs: str) -> list[type[JobyardError] | None]:
    """What a control said of these: fates, tasks of the array as ``array_5``, or ids."""
    ids = []
    for job in jobs:
        fate, mark, task = job.partition("_")
        ids.append(fates(release)[fate] + mark + task if fate in fates(release) else job)
    action = Action(name.partition("-")[0])
    answers = dialect(release).parse_control(action, sample(release, f"control-{name}"), ids)
    told = [answers[one] for one in ids]
    return [None if error is None else type(error) for error in told]


@EACH
def test_hold_and_release(release: str) -> None:
    jobs: tuple[str, ...] = ("depends", "array_5", "array_6", "99999999", "array_77", "exit-0")
    assert said(release, "hold-some", *jobs)[:5] == [None, None, None, UnknownJob, UnknownJob]
    assert said(release, "hold-some", *jobs)[5] in (WrongState, UnknownJob)
    jobs = ("depends", "array_5", "99999999", "array_77")
    assert said(release, "release-some", *jobs) == [None, None, UnknownJob, UnknownJob]
    assert said(release, "release-one-unknown", "99999999") == [UnknownJob]


@EACH
def test_signals_sent(release: str) -> None:
    assert said(release, "suspend-running", "stopped") == [None]
    assert said(release, "suspend-tasks", "array_1", "array_2") == [None, None], "though others of the array wait"
    assert said(release, "resume-tasks", "array_1", "array_2") == [None, None]
    assert said(release, "signal-some", "exit-0", "99999999", "running") == [UnknownJob, UnknownJob, None]


@EACH
def test_requeue(release: str) -> None:
    assert said(release, "requeue-forbidden", "running") == [WrongState]
    requeued, held, unknown, over = said(release, "requeue-some", "requeued", "held", "99999999", "exit-3")
    assert requeued is None
    assert held is WrongState
    assert unknown is UnknownJob
    assert over in (WrongState, UnknownJob)


@EACH
def test_cancel(release: str) -> None:
    jobs = ("cancelled-running", "cancelled-held", "99999999")
    assert said(release, "cancel-some", *jobs, "exit-0") == [None] * 4, "also what is over, or forgotten"
    assert said(release, "cancel-array", *[f"array-cancelled_{n}" for n in (1, 4, 5, 6, 8)]) == [None] * 5
    assert said(release, "cancel-garbage", "no such job") == [UnknownJob]


@EACH
@pytest.mark.parametrize("action", ["cancel", "hold", "signal"])
def test_somebody_elses_job(release: str, action: str) -> None:
    result = sample(release, f"control-{action}-foreign")
    foreign = result.argv[-1]
    (error,) = dialect(release).parse_control(Action(action), result, [foreign]).values()
    assert isinstance(error, NotPermitted)
    assert isinstance(error, ControlError)


# The site -----------------------------------------------------------------------------------------------------------


def test_limits() -> None:
    large = SiteLimits(max_array_size=20000, max_index=20000, max_jobs=50000)
    small = SiteLimits(max_array_size=1000, max_index=1000, max_jobs=50000)
    found = {release: dialect(release).parse_limits(sample(release, "limits")) for release in RELEASES}
    assert found == {"20.11": small, "22.05": large, "24.11": small, "26.05": small}


@EACH
def test_version(release: str) -> None:
    assert dialect(release).parse_version(sample(release, "version")).startswith(f"slurm {release}.")


def test_array_limit_of_the_scheduler() -> None:
    text = b"MaxArraySize            = 1001\nMaxJobCount = 10000\nSchedulerParameters = bf_interval=1,max_array_tasks=200,x\n"
    answer = SlurmDialect().parse_limits(Result(argv=("scontrol",), returncode=0, stdout=text))
    assert answer == SiteLimits(max_array_size=200, max_index=1000, max_jobs=10000)


@pytest.mark.parametrize(
    ("text", "most"), [(b"\n", None), (b"100\n200\n", 200), (b"100\n\n", None), (b"", None), (b"sacctmgr: error\n", None)]
)
def test_the_users_limit_of_jobs(text: bytes, most: int | None) -> None:
    assert SlurmDialect().parse_most_jobs(Result(argv=("sacctmgr",), returncode=0, stdout=text)) == most
    assert SlurmDialect().parse_most_jobs(Result(argv=("sacctmgr",), returncode=1, stdout=text)) is None
