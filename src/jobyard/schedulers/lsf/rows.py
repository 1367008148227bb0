"""What ``bjobs -json`` says of a job. Pure.

Every value is text, and empty where there is none. Dates have no year unless a site asks for it: they are not used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ...job import By, Cause, Ending, JobState, Usage
from ..base import Row

__all__ = ["FIELDS", "ID", "records", "row_of"]

ID = re.compile(r"[0-9]{1,18}(\[[0-9]{1,9}\])?", re.ASCII)
FIELDS = (
    "jobid jobindex stat job_name job_description exit_code exit_reason pend_reason start_time run_time cpu_used max_mem exec_host"
)

STATES: Mapping[str, tuple[JobState, By | None]] = {
    "PEND": (JobState.QUEUED, None),
    "PROV": (JobState.QUEUED, None),  # its host is being started
    "WAIT": (JobState.QUEUED, None),  # for the next of a chunk of jobs
    "PSUSP": (JobState.HELD, By.USER),  # by its owner or an administrator: which of them is not said
    "RUN": (JobState.RUNNING, None),
    "USUSP": (JobState.SUSPENDED, By.USER),
    "SSUSP": (JobState.SUSPENDED, By.SYSTEM),
}  # UNKWN and ZOMBI: its host is not heard of; the last state stays
# Why a job was ended (LSF reference, "Termination reasons displayed by bacct, bhist and bjobs").
REASONS: Mapping[str, Cause] = {
    "TERM_OWNER": Cause.CANCELLED,
    "TERM_FORCE_OWNER": Cause.CANCELLED,
    "TERM_ADMIN": Cause.CANCELLED,
    "TERM_FORCE_ADMIN": Cause.CANCELLED,
    "TERM_RUNLIMIT": Cause.WALLTIME,
    "TERM_DEADLINE": Cause.WALLTIME,
    "TERM_MEMLIMIT": Cause.MEMORY,
    "TERM_SWAP": Cause.MEMORY,
    "TERM_CPULIMIT": Cause.CPU_TIME,
    "TERM_PREEMPT": Cause.PREEMPTED,
    "TERM_RC_RECLAIM": Cause.PREEMPTED,
    "TERM_ORPHAN_SYSTEM": Cause.DEPENDENCY,
    "TERM_CWD_NOTEXIST": Cause.NOT_STARTED,
    "TERM_ZOMBIE": Cause.NODE,
    "TERM_REQUEUE_OWNER": Cause.REQUEUED,
    "TERM_REQUEUE_ADMIN": Cause.REQUEUED,
}

_OBJECT = re.compile(r"\{[^{}]*\}")
_TOKEN = re.compile(r"[0-9a-f]{32}")
_SECONDS = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) second\(s\)", re.ASCII)
_CLOCK = re.compile(r"([0-9]{1,6}):([0-9]{2}):([0-9]{2})", re.ASCII)  # both forms were published
_MEMORY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ([KMGT])bytes", re.ASCII)
_SHIFT = {"K": 10, "M": 20, "G": 30, "T": 40}

Fields = Mapping[str, str]


def records(text: str) -> tuple[list[dict[str, str]], list[str], bool]:
    """The records, what is none, and whether the answer is whole (it counts its records)."""
    start = text.find("{")
    try:
        data = json.JSONDecoder(strict=False, object_pairs_hook=_once).raw_decode(text, start)[0] if start >= 0 else None
        found = data.get("RECORDS") if isinstance(data, dict) else None
        if isinstance(data, dict) and isinstance(found, list):
            good = [record for one in found if (record := _record(one)) is not None]
            whole = str(data.get("JOBS")) == str(len(found)) and len(good) == len(found)
            return good, [] if len(good) == len(found) else ["a record that is none"], whole
    except (ValueError, RecursionError):
        pass
    good, unparsed = [], [text[:200].strip()] if text.strip() else list[str]()
    for match in _OBJECT.finditer(text):  # damaged: each record that is whole by itself still counts
        try:
            record = _record(json.loads(match[0], strict=False, object_pairs_hook=_once))
        except (ValueError, RecursionError):
            record = None
        if record is not None:
            good.append(record)
    return good, unparsed, False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("parts of two records")
    return dict(pairs)


def _record(value: object) -> dict[str, str] | None:
    """One record: every field that was asked for, as text; or an id and an error."""
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        return None
    wanted = {"JOBID"} if "ERROR" in value else {name.upper() for name in FIELDS.split()}
    return value if wanted <= value.keys() else None


def row_of(fields: Fields) -> Row | None:
    """What one record says; None where it names no job."""
    number, index = fields["JOBID"].partition("[")[0], fields["JOBINDEX"]
    native_id = f"{number}[{index}]" if index not in ("", "0", "-") else number
    if not ID.fullmatch(native_id):
        return None
    word, token = fields["STAT"], fields["JOB_DESCRIPTION"]
    state, by = STATES.get(word, (None, None))
    ending = _ending(fields) if word in ("DONE", "EXIT") else None
    return Row(
        native_id=native_id,
        state=ending.state if ending is not None else state,
        by=by,
        native_state=word,
        reason=fields["PEND_REASON"].rstrip("; ") or None if state in (JobState.QUEUED, JobState.HELD) else None,
        token=token if _TOKEN.fullmatch(token) else None,
        name=re.sub(r"\[[0-9]+\]$", "", fields["JOB_NAME"]) or None,
        ended=ending is not None,
        ending=ending,
    )


def _ending(fields: Fields) -> Ending:
    text, reason = fields["EXIT_CODE"], fields["EXIT_REASON"]
    word = reason.partition(":")[0].strip()
    began = fields["START_TIME"] not in ("", "-")
    exit_code = int(text) if re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) and int(text) < 256 else None
    if fields["STAT"] == "DONE":
        state, cause, exit_code = JobState.DONE, Cause.EXITED, 0
    else:
        cause = REASONS.get(word, Cause.UNKNOWN if word.startswith("TERM_") or exit_code in (None, 0) else Cause.EXITED)
        state = JobState.CANCELLED if cause is Cause.CANCELLED else JobState.FAILED
        if cause is not Cause.EXITED:
            exit_code = None  # of the signal by which it was ended
    used = ("RUN_TIME", "CPU_USED", "MAX_MEM")
    memory = _MEMORY.fullmatch(fields["MAX_MEM"])
    return Ending(
        state=state,
        cause=cause,
        exit_code=exit_code,
        aborted=not began,
        message=reason if cause is not Cause.EXITED else "",
        usage=Usage(
            wall_s=_seconds(fields["RUN_TIME"]),
            max_rss_bytes=int(float(memory[1]) * (1 << _SHIFT[memory[2]])) if memory else None,
            native={name.lower(): fields[name] for name in used if fields[name]},
        ),
        host=fields["EXEC_HOST"].partition(":")[0].rpartition("*")[2] or None,
    )


def _seconds(text: str) -> float | None:
    """``16038 second(s)`` or ``00:00:01``."""
    if match := _SECONDS.fullmatch(text):
        return float(match[1])
    match = _CLOCK.fullmatch(text)
    return float(int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])) if match else None
