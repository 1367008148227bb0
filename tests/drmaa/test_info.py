"""JobInfo, final states and resource usage of every kind of ending."""

from __future__ import annotations

from typing import Any

import pytest

import drmaa
from drmaa._info import final_state, job_info, unknown_ending
from jobyard import Cause, Ending, JobState, Usage


def ended(state: JobState = JobState.FAILED, cause: Cause = Cause.EXITED, **fields: Any) -> Ending:
    return Ending(state=state, cause=cause, **fields)


OK = ended(JobState.DONE, exit_code=0)
# ending -> (exited, signalled, name, core, aborted, status), state where a failure is a failure, state as Grid Engine has it
ENDINGS = [
    (OK, (True, False, "", False, False, 0), "done", "done"),
    (ended(exit_code=1), (True, False, "", False, False, 1), "failed", "done"),
    (ended(exit_code=99), (True, False, "", False, False, 99), "failed", "done"),
    (ended(exit_code=255), (True, False, "", False, False, 255), "failed", "done"),
    (ended(signal="SIGUSR1"), (False, True, "SIGUSR1", False, False, 0), "failed", "done"),
    (ended(signal="SIGSEGV", core_dumped=True), (False, True, "SIGSEGV", True, False, 0), "failed", "done"),
    (ended(cause=Cause.WALLTIME, signal="SIGKILL"), (False, True, "SIGKILL", False, False, 0), "failed", "done"),
    (ended(cause=Cause.MEMORY, signal="SIGKILL"), (False, True, "SIGKILL", False, False, 0), "failed", "done"),
    (ended(cause=Cause.NODE), (False, False, "", False, False, 0), "failed", "failed"),
    (ended(cause=Cause.REQUEUED, signal="SIGTERM"), (False, True, "SIGTERM", False, False, 0), "failed", "failed"),
    (
        ended(JobState.CANCELLED, Cause.CANCELLED, signal="SIGTERM", began_at=1.0),
        (False, False, "", False, True, 0),
        "failed",
        "failed",
    ),
    (ended(JobState.CANCELLED, Cause.CANCELLED, aborted=True), (False, False, "", False, True, 0), "failed", "failed"),
    (ended(cause=Cause.NOT_STARTED, aborted=True), (False, False, "", False, True, 0), "failed", "failed"),
    (ended(cause=Cause.NOT_STARTED), (False, False, "", False, True, 0), "failed", "failed"),
    (ended(cause=Cause.DEPENDENCY), (False, False, "", False, True, 0), "failed", "failed"),
    (ended(cause=Cause.WALLTIME), (False, False, "", False, False, 0), "failed", "failed"),
]


@pytest.mark.parametrize(("ending", "fields", "state", "gridengine"), ENDINGS)
def test_ending(ending: Ending, fields: tuple[Any, ...], state: str, gridengine: str) -> None:
    info = job_info("17", ending)
    shown = (info.hasExited, info.hasSignal, info.terminatedSignal, info.hasCoreDump, info.wasAborted, info.exitStatus)
    assert shown == fields
    assert info.jobId == "17"
    assert [type(value) for value in info] == [str, bool, bool, str, bool, bool, int, dict]
    assert sum((info.hasExited, info.hasSignal, info.wasAborted)) <= 1
    assert final_state(ending, nonzero_done=False) == state
    assert final_state(ending, nonzero_done=True) == gridengine
    assert not unknown_ending(ending)


def test_nothing_known() -> None:
    """Code 24: only where nothing is known. Never done."""
    for ending in (ended(cause=Cause.LOST), ended(cause=Cause.UNKNOWN), None):
        assert unknown_ending(ending)
        assert final_state(ending, nonzero_done=True) == drmaa.JobState.FAILED
    assert not unknown_ending(ended(cause=Cause.LOST, signal="SIGKILL"))
    assert not unknown_ending(ended(cause=Cause.UNKNOWN, exit_code=1))


def test_usage_under_both_kinds_of_names() -> None:
    usage = Usage(
        wall_s=2.5,
        user_s=1.0,
        system_s=0.25,
        max_rss_bytes=4096 * 1024,
        minor_faults=10,
        major_faults=1,
        read_blocks=2,
        written_blocks=3,
        voluntary_switches=4,
        involuntary_switches=5,
    )
    found = job_info(
        "1", ended(exit_code=3, usage=usage, submitted_at=10.0, began_at=11.0, ended_at=13.5, host="node1")
    ).resourceUsage
    assert type(found) is dict
    assert all(type(value) is str for value in found.values())
    assert found["wallclock"] == found["ru_wallclock"] == found["walltime"] == "2.5000"
    assert found["cpu"] == found["acct_cpu"] == "1.2500"
    assert (found["ru_utime"], found["ru_stime"]) == ("1.0000", "0.2500")
    assert found["ru_maxrss"] == "4096.0000"
    assert found["maxvmem"] == found["acct_maxvmem"] == "4194304.0000"
    assert (found["submission_time"], found["start_time"], found["end_time"]) == ("10.0000", "11.0000", "13.5000")
    assert (found["exit_status"], found["signal"]) == ("3.0000", "0.0000")
    assert (found["ru_minflt"], found["ru_majflt"], found["ru_inblock"], found["ru_oublock"]) == (
        "10.0000",
        "1.0000",
        "2.0000",
        "3.0000",
    )
    assert (found["ru_nvcsw"], found["ru_nivcsw"], found["hostname"]) == ("4.0000", "5.0000", "node1")


def test_what_is_not_known_is_left_out() -> None:
    found = job_info("1", ended(JobState.CANCELLED, Cause.CANCELLED, aborted=True)).resourceUsage
    assert found == {}
    assert job_info("1", ended(exit_code=0, began_at=1.0, ended_at=3.0)).resourceUsage["ru_wallclock"] == "2.0000"


@pytest.mark.parametrize(("name", "number"), [("SIGKILL", 9), ("SIGRTMIN+3", 37), ("64", 64)])
def test_signal_in_usage(name: str, number: int) -> None:
    found = job_info("1", ended(signal=name)).resourceUsage
    assert float(found["signal"]) == number
    assert float(found["exit_status"]) == 128 + number


def test_the_schedulers_own_record_stands_beside() -> None:
    native = {"maxvmem": "4.5M", "qname": "all.q", "arid": "undefined", "odd": "a=b"}
    found = job_info("1", ended(exit_code=0, usage=Usage(max_rss_bytes=1, native=native))).resourceUsage
    assert found["maxvmem"] == f"{4.5 * 2**20:.4f}"
    assert (found["qname"], found["odd"]) == ("all.q", "a=b")
    found = job_info("1", ended(exit_code=0, usage=Usage(max_rss_bytes=7, native={"maxvmem": "N/A"}))).resourceUsage
    assert found["maxvmem"] == "7.0000"
