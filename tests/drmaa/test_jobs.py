"""Cases about submitting and waiting, one thread: single jobs, bulk jobs, mixtures, endings, hold, files that fail."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import drmaa
from drmaa import JobState
from drmaa_suite.run import (
    ACTIONS,
    ALL,
    ANY,
    BULKS,
    CHUNK,
    ENDED,
    FOREVER,
    LOCAL,
    NOW,
    PATIENCE_S,
    RELEASE,
    SMALL,
    TERMINATE,
    array_of,
    shell,
    sleeper,
    take_all,
    template,
    until,
    until_state,
)

Shared = type[drmaa.Session]


def mixture(session: Shared, folder: Path) -> list[str]:
    """Bulk jobs, then single ones."""
    jt = sleeper(folder, 0.05)
    jobs = [job for _ in range(BULKS) for job in session.runBulkJobs(jt, 1, CHUNK, 1)]
    jobs += [session.runJob(jt) for _ in range(CHUNK)]
    assert len(set(jobs)) == (BULKS + 1) * CHUNK
    assert all(type(job) is str for job in jobs)
    return jobs


# The empty session --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [FOREVER, NOW, 5])
def test_empty_session_wait(session: Shared, timeout: float) -> None:
    """ST_EMPTY_SESSION_WAIT."""
    with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
        session.wait(ANY, timeout)


@pytest.mark.parametrize("dispose", [True, False])
def test_empty_session_synchronize(session: Shared, dispose: bool) -> None:
    """ST_EMPTY_SESSION_SYNCHRONIZE_DISPOSE, _NODISPOSE."""
    session.synchronize([ALL], FOREVER, dispose)
    session.synchronize([], FOREVER, dispose)


@pytest.mark.parametrize("action", ACTIONS)
def test_empty_session_control(session: Shared, action: str) -> None:
    """ST_EMPTY_SESSION_CONTROL."""
    session.control(ALL, action)


# Submitting and waiting ---------------------------------------------------------------------------------------------------


def test_submit_wait(session: Shared, folder: Path) -> None:
    """ST_SUBMIT_WAIT: each job is told once."""
    jt = sleeper(folder, 0.05)
    jobs = [session.runJob(jt) for _ in range(CHUNK)]
    assert Counter(info.jobId for info in take_all(CHUNK)) == Counter(jobs)
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(ANY, FOREVER)


def test_bulk_submit_wait(session: Shared, folder: Path) -> None:
    """ST_BULK_SUBMIT_WAIT."""
    jobs = [job for _ in range(BULKS) for job in session.runBulkJobs(template(folder), 1, CHUNK, 1)]
    assert len(jobs) == BULKS * CHUNK
    assert Counter(info.jobId for info in take_all(len(jobs))) == Counter(jobs)


def test_bulk_and_single_wait_individually(session: Shared, folder: Path) -> None:
    """ST_BULK_SINGLESUBMIT_WAIT_INDIVIDUAL."""
    for job in mixture(session, folder):
        info = session.wait(job, PATIENCE_S)
        assert (info.jobId, info.hasExited, info.exitStatus) == (job, True, 0)


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("dispose", [True, False])
def test_mixture_synchronize(session: Shared, folder: Path, everything: bool, dispose: bool) -> None:
    """ST_SUBMITMIXTURE_SYNC_ALL_DISPOSE, _NODISPOSE, _ALLIDS_DISPOSE, _ALLIDS_NODISPOSE."""
    jobs = mixture(session, folder)
    session.synchronize([ALL] if everything else jobs, PATIENCE_S, dispose)
    if dispose:
        for job in jobs:
            with pytest.raises(drmaa.InvalidJobException):
                session.wait(job, NOW)
    elif everything:
        assert Counter(info.jobId for info in take_all(len(jobs))) == Counter(jobs)
    else:
        assert all(session.jobStatus(job) == JobState.DONE for job in jobs)
        assert [session.wait(job, NOW).jobId for job in jobs] == jobs
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(ANY, FOREVER)


def test_synchronize_of_what_nobody_submitted(session: Shared) -> None:
    """ST_SYNCHRONIZE_NONEXISTANT."""
    session.synchronize(["999999", "999998.7"], NOW, True)


def test_synchronize_lists(session: Shared, folder: Path) -> None:
    """ALL stands anywhere; ids are read from the left; ANY, malformed ids and negative timeouts are 4."""
    job = session.runJob(template(folder))
    session.synchronize([job, ALL, "bogus"], PATIENCE_S)
    session.synchronize((j for j in [job]), PATIENCE_S)
    wrong: list[Any] = [[b"bogus", ALL], [ANY], "bogus", [None], None]
    for bad in wrong:
        with pytest.raises(drmaa.InvalidArgumentException, match=r"^code 4: "):
            session.synchronize(bad, PATIENCE_S)
    with pytest.raises(drmaa.InvalidArgumentException, match="Negative timeout"):
        session.synchronize([job], -2)


def test_all_is_a_snapshot(session: Shared, folder: Path) -> None:
    """ALL means the jobs submitted until the call; a list of ids means those alone."""
    session.runJob(sleeper(folder, 600))
    quick = session.runJob(template(folder))
    session.synchronize([quick], PATIENCE_S, True)
    with pytest.raises(drmaa.ExitTimeoutException):
        session.synchronize([ALL], 0.05)


@pytest.mark.parametrize("form", ["text", "bytes", "list", "tuple"])
def test_synchronize_one_id(session: Shared, folder: Path, form: str) -> None:
    """Row 13: synchronize("17") waits for job 17, which drmaa-python takes for jobs 1 and 7."""
    job = session.runJob(shell(folder, f"while [ ! -e {folder}/go ]; do sleep 0.02; done"))
    ids: Any = {"text": job, "bytes": job.encode(), "list": [job], "tuple": (job,)}[form]
    with pytest.raises(drmaa.ExitTimeoutException, match=r"^code 23: "):
        session.synchronize(ids, NOW)
    (folder / "go").touch()
    session.synchronize(ids, PATIENCE_S)
    assert session.jobStatus(job) == JobState.DONE


@pytest.mark.parametrize("timeout", [NOW, 0.05])
def test_polling_wait(session: Shared, folder: Path, timeout: float) -> None:
    """ST_SUBMIT_POLLING_WAIT_TIMEOUT, _ZEROTIMEOUT: only 23 before success, and nothing is reaped by it."""
    job = session.runJob(shell(folder, f"while [ ! -e {folder}/go ]; do sleep 0.02; done"))
    told = []

    def attempt() -> drmaa.JobInfo | None:
        try:
            return session.wait(job, timeout)
        except drmaa.ExitTimeoutException as error:
            told.append(str(error))
            (folder / "go").touch()
            return None

    assert until(attempt, "the job has ended").jobId == job
    assert told
    assert all(text.startswith("code 23: ") for text in told)


@pytest.mark.parametrize("timeout", [NOW, 0.05])
@pytest.mark.parametrize("dispose", [True, False])
def test_polling_synchronize(session: Shared, folder: Path, timeout: float, dispose: bool) -> None:
    """ST_SUBMIT_POLLING_SYNCHRONIZE_TIMEOUT, _ZEROTIMEOUT. A timeout reaps nothing, even of those that have ended."""
    jobs = [session.runJob(shell(folder, f"while [ ! -e {folder}/go ]; do sleep 0.02; done")), session.runJob(template(folder))]
    timeouts = 0  # those after the end of one

    def attempt() -> bool:
        nonlocal timeouts
        try:
            session.synchronize(jobs, timeout, dispose)
            return True
        except drmaa.ExitTimeoutException:
            states = [session.jobStatus(job) for job in jobs]  # still there
            timeouts += states[1] in ENDED
            if timeouts == 2:
                (folder / "go").touch()
            return False

    until(attempt, "both jobs have ended")
    assert timeouts >= 2
    if not dispose:
        take_all(2)


def test_wait_arguments(session: Shared, folder: Path) -> None:
    job = session.runJob(template(folder))
    with pytest.raises(drmaa.InvalidArgumentException, match=r"^code 4: .*ANY"):
        session.wait(ALL)
    for bad in ("abc", "", None, "None"):
        with pytest.raises(drmaa.InvalidArgumentException, match=r"^code 4: "):
            session.wait(bad)  # type: ignore[arg-type]
        with pytest.raises(drmaa.InvalidArgumentException, match=r"^code 4: "):
            session.jobStatus(bad)  # type: ignore[arg-type]
        with pytest.raises(drmaa.InvalidArgumentException, match=r"^code 4: "):
            session.control(bad, TERMINATE)  # type: ignore[arg-type]
    for timeout in (-2, -0.5, "5", None):
        with pytest.raises(drmaa.InvalidArgumentException, match=r"^code 4: "):
            session.wait(job, timeout)  # type: ignore[arg-type]
    # A real scheduler is asked for each.
    for unknown in (999999, "999999.5", "0") if SMALL else ("999999", b"999999", 999999, "12.5", "1.1.1", "0", "-1"):
        with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
            session.wait(unknown, NOW)
        with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
            session.jobStatus(unknown)
        for action in ACTIONS:
            with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
                session.control(unknown, action)
    assert session.wait(jobName=job, timeout=PATIENCE_S).jobId == job  # type: ignore[call-arg]  # GFD.143's keyword


def test_ids_of_several_types(session: Shared, folder: Path) -> None:
    """Row 13: int, bytes and text."""
    jobs = [session.runJob(sleeper(folder, 600)) for _ in range(3)]
    given = [jobs[0], jobs[1].encode(), int(jobs[2]) if jobs[2].isdigit() else jobs[2]]
    for job in given:
        assert session.jobStatus(job) not in ENDED
        session.control(job, TERMINATE)
    session.synchronize(given, PATIENCE_S)
    for job, text in zip(given, jobs, strict=True):
        assert session.wait(job, NOW).jobId == text


def test_reaped(session: Shared, folder: Path) -> None:
    """A reaped job is unknown; a finished one that nobody waited for stays readable."""
    first, second = session.runJob(template(folder)), session.runJob(shell(folder, "exit 1"))
    until_state(first, JobState.DONE)
    until_state(second, *ENDED)
    assert session.jobStatus(first) == JobState.DONE
    session.wait(first, NOW)
    for call in (lambda: session.jobStatus(first), lambda: session.wait(first), lambda: session.control(first, TERMINATE)):
        with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
            call()
    assert session.jobStatus(second) in ENDED


def test_later_changes_of_the_template(session: Shared, folder: Path) -> None:
    """A job is a copy; the template serves any number of times, and may be deleted."""
    jt = shell(folder, "exit 1")
    first = session.runJob(jt)
    jt.args = ["-c", "exit 2"]
    second, third = session.runJob(jt), session.runJob(jt)
    session.deleteJobTemplate(jt)
    assert [session.wait(job, PATIENCE_S).exitStatus for job in (first, second, third)] == [1, 2, 2]


def test_templates_that_are_none(session: Shared, folder: Path) -> None:
    """Foreign and deleted templates are InvalidJobTemplate everywhere."""
    deleted = template(folder)
    session.deleteJobTemplate(deleted)
    for bad in (None, object(), "template", deleted):
        for call in (
            lambda bad=bad: session.runJob(bad),
            lambda bad=bad: session.runBulkJobs(bad, 1, 2, 1),
            lambda bad=bad: session.deleteJobTemplate(bad),
        ):
            with pytest.raises(drmaa.InvalidJobTemplateException, match=r"^code 4: "):
                call()
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(ANY, NOW)  # nothing was submitted


@pytest.mark.skipif(not LOCAL, reason="needs a request that this scheduler is known not to meet")
def test_a_job_that_cannot_be_run(session: Shared, folder: Path) -> None:
    """ST_SUBMIT_NO_RUN_WAIT: one that will never be scheduled ends all the same, and wait tells that it never ran."""
    job = session.runJob(template(folder, deadlineTime=soon(1), startTime="2090/01/01 00:00"))
    info = session.wait(job, PATIENCE_S)
    assert (info.wasAborted, info.hasExited) == (True, False)


def soon(seconds: int) -> str:
    return time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(time.time() + seconds))


# Bulk jobs ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "end", "step", "indices"),
    [
        (1, 1, 1, [1]),
        (5, 5, 1, [5]),
        (2, 6, 2, [2, 4, 6]),
        (2, 7, 2, [2, 4, 6]),
        (1, 10, 3, [1, 4, 7, 10]),
    ],
)
def test_bulk_ids(session: Shared, folder: Path, begin: int, end: int, step: int, indices: list[int]) -> None:
    """ST_GET_NUM_JOBIDS: one id for each index, in their order, each with a task's suffix."""
    jobs = session.runBulkJobs(shell(folder, "exit $JOBYARD_TASK_INDEX"), begin, end, step)
    assert len(jobs) == len(indices)
    told = [session.wait(job, PATIENCE_S) for job in jobs]
    assert [(info.hasExited, info.exitStatus) for info in told] == [(True, index) for index in indices]


@pytest.mark.parametrize("given", [(0, 2, 1), (-1, 2, 1), (1, 2, 0), (3, 1, 1), (3, 1, -1), ("1", 2, 1), (1, 2.5, 1)])
def test_bad_ranges(session: Shared, folder: Path, given: tuple[int, int, int]) -> None:
    with pytest.raises(drmaa.InvalidArgumentException, match=r"^code 4: "):
        session.runBulkJobs(template(folder), *given)
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(ANY, NOW)


def test_bulk_placeholders(session: Shared, folder: Path) -> None:
    """ST_BULK_SUBMIT_INCRPH: one file for each index; the index stands anywhere in a path."""
    jt = shell(folder, "cat; echo $JOBYARD_TASK_INDEX; pwd >&2")
    wd, incr = drmaa.JobTemplate.WORKING_DIRECTORY, drmaa.JobTemplate.PARAMETRIC_INDEX
    for index in (1, 2, 3):
        (folder / f"dir{index}").mkdir()
        (folder / f"in.{index}").write_text(f"input {index}\n")
    jt.workingDirectory = f"{folder}/dir{incr}"
    jt.inputPath = f":{folder}/in.{incr}"
    jt.outputPath = f":{wd}/out.{incr}.txt"
    jt.errorPath = f":{folder}/{incr}.err"
    jt.joinFiles = False
    jobs = session.runBulkJobs(jt, 1, 3, 1)
    session.synchronize(jobs, PATIENCE_S, True)
    for index in (1, 2, 3):
        assert (folder / f"dir{index}" / f"out.{index}.txt").read_text() == f"input {index}\n{index}\n"
        assert (folder / f"{index}.err").read_text() == f"{folder}/dir{index}\n"


def test_bare_array_id(session: Shared, folder: Path) -> None:
    """Of an array's own id: status 18, control of all tasks, wait and synchronize for all of them."""
    jobs = session.runBulkJobs(sleeper(folder, 600), 1, 3, 1)
    array = session.runBulkJobs(sleeper(folder, 600), 1, 1, 1)
    bare, single = array_of(jobs[0]), array_of(array[0])
    for own in (bare, single):
        with pytest.raises(drmaa.InvalidJobException):
            session.jobStatus(own)
        with pytest.raises(drmaa.ExitTimeoutException):
            session.wait(own, NOW)
        with pytest.raises(drmaa.ExitTimeoutException):
            session.synchronize([own], NOW)
        session.control(own, TERMINATE)
        session.synchronize([own], PATIENCE_S)
    assert all(session.jobStatus(job) == JobState.FAILED for job in jobs)
    assert session.wait(bare, PATIENCE_S).wasAborted
    for job in jobs:
        with pytest.raises(drmaa.InvalidJobException):
            session.wait(job, NOW)
    assert session.wait(array[0], NOW).wasAborted
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(single, NOW)


def test_ids_that_look_like_others(session: Shared, folder: Path) -> None:
    """Issue 1892: a real id and one more digit, a task's suffix on a plain job: 18."""
    job = session.runJob(sleeper(folder, 600))
    for wrong in (f"{job}0", f"{job}.1", f"{job}_1"):
        with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
            session.jobStatus(wrong)
        with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
            session.control(wrong, TERMINATE)
    assert session.jobStatus(job) not in ENDED


@pytest.mark.skipif(not LOCAL, reason="says how the embedded scheduler writes its ids")
def test_an_id_is_written_in_one_way(session: Shared, folder: Path) -> None:
    """What Python reads as the same number is no id: another spelling must not give the ending of the job a second time."""
    job = session.runJob(template(folder))
    tasks = session.runBulkJobs(template(folder), 1, 10, 1)
    session.synchronize([ALL], PATIENCE_S)
    arabic = "".join(chr(0x660 + int(digit)) for digit in job)
    for wrong in (f"0{job}", f"+{job}", arabic, tasks[0].replace("_", "_+"), f"{array_of(tasks[0])}_1_0"):
        with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
            session.jobStatus(wrong)
        with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
            session.wait(wrong, NOW)


# Hold -----------------------------------------------------------------------------------------------------------------------


def test_hold_and_release(session: Shared, folder: Path) -> None:
    """ST_SUBMIT_IN_HOLD_RELEASE."""
    job = session.runJob(template(folder, jobSubmissionState=drmaa.JobSubmissionState.HOLD_STATE))
    assert session.jobStatus(job) in (JobState.USER_ON_HOLD, JobState.USER_SYSTEM_ON_HOLD)
    with pytest.raises(drmaa.ExitTimeoutException):
        session.wait(job, 0.05)
    session.control(job, RELEASE)
    assert session.wait(job, PATIENCE_S).exitStatus == 0


def test_hold_and_terminate(session: Shared, folder: Path) -> None:
    """ST_SUBMIT_IN_HOLD_DELETE."""
    job = session.runJob(template(folder, jobSubmissionState="drmaa_hold"))
    session.control(job, TERMINATE)
    session.synchronize([job], PATIENCE_S)
    assert session.jobStatus(job) == JobState.FAILED
    info = session.wait(job, NOW)
    assert (info.wasAborted, info.hasExited, info.hasSignal) == (True, False, False)


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("release", [True, False])
def test_bulk_hold(session: Shared, folder: Path, each: bool, release: bool) -> None:
    """ST_BULK_SUBMIT_IN_HOLD_SESSION_RELEASE, _SESSION_DELETE, _SINGLE_RELEASE, _SINGLE_DELETE."""
    jobs = session.runBulkJobs(template(folder, jobSubmissionState="drmaa_hold"), 1, CHUNK, 1)
    assert all(session.jobStatus(job) == JobState.USER_ON_HOLD for job in jobs)
    for job in jobs if each else [ALL]:
        session.control(job, RELEASE if release else TERMINATE)
    session.synchronize(jobs, PATIENCE_S)
    for job in jobs:
        assert session.jobStatus(job) == (JobState.DONE if release else JobState.FAILED)
        assert session.wait(job, NOW).wasAborted is not release


# Times ----------------------------------------------------------------------------------------------------------------------


def test_start_time(session: Shared, folder: Path) -> None:
    """A start in the future is a system hold (ST_ATTRIBUTE_CHECK: it runs when its time has come)."""
    far = session.runJob(template(folder, startTime="2090/01/01 00:00"))
    until_state(far, JobState.SYSTEM_ON_HOLD)
    later = soon(2)
    job = session.runJob(template(folder, startTime=later))
    info = session.wait(job, PATIENCE_S)
    assert info.exitStatus == 0
    assert float(info.resourceUsage["start_time"]) >= time.mktime(time.strptime(later, "%Y/%m/%d %H:%M:%S"))
    past = session.runJob(template(folder, startTime="1999/01/02 03:04"))
    assert session.wait(past, PATIENCE_S).exitStatus == 0
