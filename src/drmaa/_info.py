"""JobInfo: how a job ended, and what it used, in DRMAA's words."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NamedTuple

from .const import JobState

if TYPE_CHECKING:
    from jobyard import Ending, Usage


class _Fields(NamedTuple):
    jobId: str
    hasExited: bool
    hasSignal: bool
    terminatedSignal: str
    hasCoreDump: bool
    wasAborted: bool
    exitStatus: int
    resourceUsage: dict[str, str]


class JobInfo(_Fields):
    """How a job ended. ``resourceUsage`` is a plain dict of text, the caller's to change."""

    __slots__ = ()

    @property
    def hasSignaled(self) -> bool:
        """``hasSignal``, as GFD.143 spells it."""
        return self.hasSignal

    @property
    def terminatingSignal(self) -> str:
        """``terminatedSignal``, as GFD.143 spells it."""
        return self.terminatedSignal


# Endings of a command that was run to its own end, or cut short while it ran; "done" where the vendor's library says so.
_RAN = frozenset({"exited", "walltime", "cpu_time", "memory"})
_NEVER_RAN = frozenset({"not_started", "dependency", "rejected"})


def final_state(ending: Ending | None, nonzero_done: bool) -> str:
    """DONE or FAILED. ``nonzero_done``: a command that ran is done, as Grid Engine's library has it."""
    if ending is None:
        return JobState.FAILED
    if ending.success:
        return JobState.DONE
    ran = ending.exit_code is not None or ending.signal is not None
    if nonzero_done and ran and not ending.aborted and ending.cause in _RAN and ending.state == "failed":
        return JobState.DONE
    return JobState.FAILED


def unknown_ending(ending: Ending | None) -> bool:
    """Nothing is known of how it ended: code 24."""
    if ending is None:
        return True
    known = ending.exit_code is not None or ending.signal is not None or ending.aborted or ending.state == "cancelled"
    return not known and ending.cause in ("lost", "unknown")


def job_info(job_id: str, ending: Ending, record: Usage | None = None) -> JobInfo:
    """JobInfo of an ending; ``record`` is what accounting says of its usage.

    At most one of exited, signalled and aborted is true; none where it is not known how it ended.
    """
    aborted = ending.aborted or ending.state == "cancelled" or ending.cause in _NEVER_RAN
    exited = ending.exit_code is not None and not aborted
    signaled = ending.signal is not None and not aborted and not exited
    return JobInfo(
        jobId=job_id,
        hasExited=exited,
        hasSignal=signaled,
        terminatedSignal=ending.signal or "" if signaled else "",
        hasCoreDump=bool(signaled and ending.core_dumped),
        wasAborted=bool(aborted),
        exitStatus=ending.exit_code if exited and ending.exit_code is not None else 0,
        resourceUsage=resource_usage(ending, record),
    )


def resource_usage(ending: Ending, record: Usage | None = None) -> dict[str, str]:
    """Usage under the names of the vendors' libraries and under normalised ones; what is not known is left out.

    Times are seconds (since the epoch for submission_time, start_time, end_time), ru_maxrss is KiB, maxvmem and acct_maxvmem
    are bytes: the scheduler's own figure where it has one, else the peak of resident memory. Numbers have four decimals, as
    Grid Engine's. The scheduler's own record stands beside these, its names unchanged.
    """
    usage = ending.usage
    native = usage.native if record is None else {**usage.native, **record.native}

    def figure(name: str) -> float | None:
        """The receipt's figure, else accounting's."""
        value: float | None = getattr(usage, name)
        return getattr(record, name) if value is None and record is not None else value

    number = _signal_number(ending.signal)
    wall = figure("wall_s")
    if wall is None and ending.began_at is not None and ending.ended_at is not None:
        wall = max(0.0, ending.ended_at - ending.began_at)
    resident = figure("max_rss_bytes")
    peak = _bytes(native.get("maxvmem"))
    if peak is None:
        peak = resident
    user, system = figure("user_s"), figure("system_s")
    cpu = None if user is None and system is None else (user or 0.0) + (system or 0.0)
    known: dict[str, float | None] = {
        "submission_time": ending.submitted_at,
        "start_time": ending.began_at,
        "end_time": ending.ended_at,
        "exit_status": ending.exit_code if number is None else 128 + number,
        "signal": 0 if number is None and ending.exit_code is not None else number,
        "wallclock": wall,
        "walltime": wall,
        "ru_wallclock": wall,
        "cpu": cpu,
        "acct_cpu": cpu,
        "ru_utime": user,
        "ru_stime": system,
        "ru_maxrss": None if resident is None else resident / 1024,
        "maxvmem": peak,
        "acct_maxvmem": peak,
        "ru_minflt": figure("minor_faults"),
        "ru_majflt": figure("major_faults"),
        "ru_inblock": figure("read_blocks"),
        "ru_oublock": figure("written_blocks"),
        "ru_nvcsw": figure("voluntary_switches"),
        "ru_nivcsw": figure("involuntary_switches"),
    }
    found = dict(native)
    found.update({name: f"{value:.4f}" for name, value in known.items() if value is not None})
    if ending.host is not None:
        found["hostname"] = found["hosts"] = ending.host
    return found


def _signal_number(name: str | None) -> int | None:
    if name is None:
        return None
    if name.isdigit():
        return int(name)
    base, _, offset = name.partition("+")
    number = getattr(signal, base, None)
    return None if number is None else int(number) + int(offset or 0)


def _bytes(text: str | None) -> float | None:
    """A scheduler's size, such as ``4.012M``, in bytes; None where it is no size."""
    if not text:
        return None
    scale = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}.get(text[-1].upper())
    digits = text[:-1] if scale else text
    return float(digits) * (scale or 1) if digits.replace(".", "", 1).isdigit() else None
