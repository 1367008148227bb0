"""HTCondor's answers: ClassAds in JSON, and the rows that they make. Pure.

Measured on 23.9.6 and 25.14.1 (testbeds/htcondor/samples*): ``condor_q -json`` prints nothing at all where no job matches,
``condor_history -json`` ``[`` and ``]``; each ad begins with a line ``{`` and ends with a line ``}``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ...job import By, Cause, Ending, JobState, Usage, signal_name
from ..base import Answer, Row

__all__ = [
    "ATTRIBUTES",
    "BEGIN_ATTRIBUTE",
    "ENDING_HOLDS",
    "ONCE_ATTRIBUTE",
    "REASON_PREFIX",
    "TOKEN_ATTRIBUTE",
    "answer",
    "native_id",
    "read_ads",
    "whole",
]

Ad = Mapping[str, Any]

TOKEN_ATTRIBUTE = "JobyardToken"
BEGIN_ATTRIBUTE = "JobyardBeginAt"
ONCE_ATTRIBUTE = "JobyardOnce"  # true: it may run only once
UNMATERIALIZED = "UNMATERIALIZED"  # our word for tasks of capped arrays that are not in the queue yet
REASON_PREFIX = "jobyard: "  # of RemoveReason, where the job's own policy removed it (description.py)

ATTRIBUTES = (
    *("ClusterId", "ProcId", "JobStatus", "LastJobStatus", "NumShadowStarts", "EnteredCurrentStatus", TOKEN_ATTRIBUTE),
    *("JobBatchName", "Cmd", "Owner", "QDate", "JobCurrentStartDate", "JobCurrentStartExecutingDate", "CompletionDate"),
    *("ExitBySignal", "ExitCode", "ExitSignal", "JobCoreDumped", "HoldReason", "HoldReasonCode", "RemoveReason"),
    *("LastRejMatchReason", BEGIN_ATTRIBUTE, "LastRemoteHost", "RemoteHost", "RemoteWallClockTime", "RemoteUserCpu"),
    *("RemoteSysCpu", "ResidentSetSize_RAW", "NumJobStarts", "CumulativeSuspensionTime", "TotalSubmitProcs"),
    *("JobMaterializeNextProcId", "ServerTime"),
)
_NATIVE_USAGE = ("RemoteWallClockTime", "RemoteUserCpu", "RemoteSysCpu", "ResidentSetSize_RAW", "NumJobStarts", "NumShadowStarts",
                 "CumulativeSuspensionTime")  # fmt: skip

# JobStatus (manual, "Job ClassAd Attributes"): its word, and ours.
IDLE, RUNNING, REMOVED, COMPLETED, HELD, TRANSFERRING, SUSPENDED = 1, 2, 3, 4, 5, 6, 7
_STATES: dict[int, tuple[str, JobState | None]] = {
    IDLE: ("IDLE", JobState.QUEUED),
    RUNNING: ("RUNNING", JobState.RUNNING),
    REMOVED: ("REMOVED", None),  # in the queue: its processes are being ended
    COMPLETED: ("COMPLETED", None),
    HELD: ("HELD", JobState.HELD),
    TRANSFERRING: ("TRANSFERRING_OUTPUT", JobState.RUNNING),
    SUSPENDED: ("SUSPENDED", JobState.SUSPENDED),
}
_ON_MACHINE = (RUNNING, TRANSFERRING, SUSPENDED)
_BY_USER = (1, 15)  # HoldReasonCode: condor_hold; submitted held
# HoldReasonCode of a hold that is the end of a job, by the job's own policy: what ended it.
_HOLDS = {
    46: Cause.WALLTIME,  # allowed_job_duration
    47: Cause.WALLTIME,  # allowed_execute_duration
    34: Cause.MEMORY,  # more than was asked for, where the machine confines jobs
    6: Cause.SHEPHERD,  # the starter could not run the script,
    7: Cause.SHEPHERD,  # or open what the script writes,
    8: Cause.SHEPHERD,  # or what it reads,
    14: Cause.SHEPHERD,  # or enter the job's folder
}
_REASONS = {"walltime": Cause.WALLTIME, "deadline": Cause.WALLTIME, "rerun": Cause.REQUEUED}
_HELD = re.compile(r"held ([0-9]{1,4})\b", re.ASCII)
_BY = re.compile(r"\(by user ([^)\s]+)\)")
_TOKEN = re.compile(r"[0-9a-f]{32}")
_YEAR_10000 = 253402300800
_MOST_TASKS = 1_000_000  # of an array that an answer is believed
ENDING_HOLDS = tuple(_HOLDS)


# Ads ------------------------------------------------------------------------------------------------------------------


def read_ads(text: str) -> tuple[list[Ad], list[str], bool]:
    """The ads of a JSON answer, what is none, and whether the answer was whole. Nothing at all is a whole answer without ads."""
    if not text.strip():
        return [], [], True
    value = _decoded(text)
    if isinstance(value, list):
        return (
            [one for one in value if isinstance(one, dict)],
            [repr(one)[:200] for one in value if not isinstance(one, dict)],
            True,
        )
    ads: list[Ad] = []
    unparsed: list[str] = []
    lines: list[str] | None = None  # of the ad that was begun
    frame: list[str] = []  # what stands around ads
    for line in text.split("\n"):
        word = line.strip()
        if word == "{":
            if lines is not None:
                unparsed.append("\n".join(lines)[:200])
            lines = [line]
        elif lines is None:
            if word in ("[", "]"):
                frame.append(word)
            elif word not in ("", ","):
                unparsed.append(line[:200])
        else:
            lines.append(line)
            if word in ("}", "},"):
                ad = _decoded("\n".join(lines).rstrip().rstrip(","))
                if isinstance(ad, dict):
                    ads.append(ad)
                else:
                    unparsed.append("\n".join(lines)[:200])
                lines = None
    if lines is not None:
        unparsed.append("\n".join(lines)[:200])
    return ads, unparsed, frame == ["[", "]"] and not unparsed


def _decoded(text: str) -> Any:
    """The value of a JSON text; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def whole(ad: Ad, name: str) -> int | None:
    """An attribute that is a whole number, not negative."""
    value = ad.get(name)
    return value if type(value) is int and 0 <= value < 2**53 else None


def _number(ad: Ad, name: str) -> float | None:
    value = ad.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:  # NaN is neither
        return None
    return float(value)


def _time(ad: Ad, name: str) -> float | None:
    """Seconds since the epoch; 0 stands for none."""
    return _number(ad, name) or None


def _text(ad: Ad, name: str) -> str | None:
    value = ad.get(name)
    return value if isinstance(value, str) and value else None


def native_id(ad: Ad) -> str | None:
    """``CLUSTER.PROC``; None where the ad is not of a job."""
    cluster, proc = whole(ad, "ClusterId"), whole(ad, "ProcId")
    return f"{cluster}.{proc}" if cluster and proc is not None else None


# Rows -----------------------------------------------------------------------------------------------------------------


def answer(text: str, *, queue: bool) -> Answer:
    """The rows of an answer of condor_q, tasks that are still to be materialized included, or of condor_history."""
    ads, unparsed, complete = read_ads(text)
    rows: list[Row] = []
    for ad in ads:
        row = _row(ad, queue=queue)
        if row is None:
            unparsed.append(repr(dict(ad))[:200])
        else:
            rows.append(row)
    if queue:
        rows += _unmaterialized(ads, {row.native_id for row in rows})
    else:  # the newest record of a job comes first
        rows = list({(row.native_id, row.token): row for row in reversed(rows)}.values())
    return Answer(rows=tuple(rows), unparsed=tuple(unparsed), complete=complete and not unparsed)


def _row(ad: Ad, *, queue: bool) -> Row | None:
    job, status = native_id(ad), whole(ad, "JobStatus")
    if job is None or status is None:
        return None
    word, state = _STATES.get(status, (f"JobStatus {status}", None))
    if not queue and status not in (REMOVED, COMPLETED):
        return None
    ended = status == COMPLETED or (status == REMOVED and not queue)
    ending = _ending(ad, status) if ended else None
    by = By.USER if state is JobState.SUSPENDED else None
    if state is JobState.HELD:
        by = _holder(ad)
    if status in (IDLE, HELD) and _before_its_time(ad):  # idle to HTCondor, which has no such state
        state, by = JobState.HELD, By.BOTH if by is By.USER else By.SYSTEM
    return Row(
        native_id=job,
        state=ending.state if ending is not None else state,
        by=by,
        native_state=word,
        reason=_reason(ad, status),
        token=_token(ad),
        name=_name(ad),
        attempt=_attempt(ad, status),
        ended=ended,
        ending=ending,
        submitted_at=_time(ad, "QDate"),
        began_at=_began_at(ad),
    )


def _token(ad: Ad) -> str | None:
    token = _text(ad, TOKEN_ATTRIBUTE)
    return token if token is not None and _TOKEN.fullmatch(token) else None


def _name(ad: Ad) -> str | None:
    name = _text(ad, "JobBatchName")
    if name is None and (command := _text(ad, "Cmd")) is not None:
        name = os.path.basename(command) or None
    return name


def _attempt(ad: Ad, status: int) -> int | None:
    """Which run this is. A shadow is started for each run, and counted at once; NumJobStarts comes minutes late.

    A hold ends a run: what is held waits for the next one, unless the hold is the end of the job.
    """
    shadows = whole(ad, "NumShadowStarts") or 0
    if status in (HELD, REMOVED):
        last = whole(ad, "LastJobStatus")
        if last in _ON_MACHINE:
            over = status == REMOVED or (_token(ad) is not None and whole(ad, "HoldReasonCode") in _HOLDS)
            status = RUNNING if over else IDLE
        elif last == IDLE or (last is None and not shadows):
            status = IDLE
        else:
            return None
    return shadows + 1 if status == IDLE else max(shadows, 1)


def _began_at(ad: Ad) -> float | None:
    """When the newest run began: its execution where the shadow has told that, else its shadow."""
    shadow, execution = _time(ad, "JobCurrentStartDate"), _time(ad, "JobCurrentStartExecutingDate")
    if shadow is None or execution is None:
        return shadow
    return max(shadow, execution)


def _holder(ad: Ad) -> By:
    if whole(ad, "HoldReasonCode") not in _BY_USER:
        return By.SYSTEM
    said, owner = _BY.search(_text(ad, "HoldReason") or ""), _text(ad, "Owner")
    return By.SYSTEM if said is not None and owner is not None and said[1] != owner else By.USER


def _reason(ad: Ad, status: int) -> str | None:
    if status == HELD:
        return _text(ad, "HoldReason")
    if status == REMOVED:
        return _text(ad, "RemoveReason")
    if status != IDLE:
        return None
    begin_at = _time(ad, BEGIN_ATTRIBUTE)
    if begin_at is not None and _before_its_time(ad):
        return f"not before {datetime.fromtimestamp(begin_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return _text(ad, "LastRejMatchReason")


def _before_its_time(ad: Ad) -> bool:
    begin_at, now = _time(ad, BEGIN_ATTRIBUTE), _time(ad, "ServerTime")
    return begin_at is not None and now is not None and now < begin_at < _YEAR_10000


def _ending(ad: Ad, status: int) -> Ending:
    message = _text(ad, "RemoveReason") or ""
    exit_code = signal = None
    cause = Cause.EXITED if status == COMPLETED else _removal(message)
    # ExitStatus is never read: it stays 0 for signals. A job that was removed did not exit by itself, whatever its ad shows.
    if status == COMPLETED:
        if ad.get("ExitBySignal") is True:
            number = whole(ad, "ExitSignal")
            signal = signal_name(number) if number else None
        else:
            exit_code = whole(ad, "ExitCode")
        if exit_code is None and signal is None:
            cause = Cause.UNKNOWN
    state = JobState.DONE if exit_code == 0 else JobState.CANCELLED if cause is Cause.CANCELLED else JobState.FAILED
    began_at = _began_at(ad)
    host = _text(ad, "LastRemoteHost") or _text(ad, "RemoteHost")
    memory = whole(ad, "ResidentSetSize_RAW")
    return Ending(
        state=state,
        cause=cause,
        exit_code=exit_code,
        signal=signal,
        core_dumped=ad.get("JobCoreDumped") is True,
        aborted=began_at is None,
        message=message.removeprefix(REASON_PREFIX),
        usage=Usage(
            wall_s=_number(ad, "RemoteWallClockTime"),
            user_s=_number(ad, "RemoteUserCpu"),
            system_s=_number(ad, "RemoteSysCpu"),
            max_rss_bytes=None if memory is None else memory * 1024,
            native={name: str(ad[name]) for name in _NATIVE_USAGE if _number(ad, name) is not None},
        ),
        submitted_at=_time(ad, "QDate"),
        began_at=began_at,
        ended_at=_time(ad, "CompletionDate") or _time(ad, "EnteredCurrentStatus"),
        host=host.rpartition("@")[2] if host is not None else None,
    )


def _removal(reason: str) -> Cause:
    """Why a job was removed: by its own policy (description.py), else because somebody wanted it."""
    if not reason.startswith(REASON_PREFIX):
        return Cause.CANCELLED
    said = reason.removeprefix(REASON_PREFIX)
    if (held := _HELD.match(said)) is not None:
        cause = _HOLDS.get(int(held[1]), Cause.UNKNOWN)
        # One code stands for everything that a machine can run out of; its text says what.
        return Cause.UNKNOWN if cause is Cause.MEMORY and "memory" not in said.lower() else cause
    return _REASONS.get(said.partition(":")[0], Cause.CANCELLED)


def _unmaterialized(ads: Sequence[Ad], seen: set[str]) -> list[Row]:
    """Tasks of capped arrays that are not in the queue yet: those from JobMaterializeNextProcId on."""
    clusters: dict[int, Ad] = {}
    for ad in ads:
        cluster, following = whole(ad, "ClusterId"), whole(ad, "JobMaterializeNextProcId")
        if not cluster or following is None or whole(ad, "TotalSubmitProcs") is None or _token(ad) is None:
            continue
        known = clusters.get(cluster)
        if known is None or following > known["JobMaterializeNextProcId"]:
            clusters[cluster] = ad
    rows = []
    for cluster, ad in clusters.items():
        for proc in range(ad["JobMaterializeNextProcId"], min(ad["TotalSubmitProcs"], _MOST_TASKS)):
            if f"{cluster}.{proc}" not in seen:
                rows.append(
                    Row(
                        native_id=f"{cluster}.{proc}",
                        state=JobState.QUEUED,
                        native_state=UNMATERIALIZED,
                        reason="as many run as may at a time",
                        token=_token(ad),
                        name=_name(ad),
                        attempt=1,
                        submitted_at=_time(ad, "QDate"),
                    )
                )
    return rows
