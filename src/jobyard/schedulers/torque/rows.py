"""What Torque's qstat -x (XML) says of a job. Pure.

Several ids give one document after the other (qstat.c of Torque 6.1: each operand is displayed by itself), times are seconds
since the epoch, and text is not always escaped: so elements are read one by one, not as one document.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from ...job import By, Cause, Ending, JobState, Usage, signal_name
from ..base import Row
from ..pbs.rows import ID, Fields, clock_seconds, held_by, kib, number, token_of

__all__ = ["records", "row_of"]

STATES: Mapping[str, tuple[JobState, By | None]] = {
    "Q": (JobState.QUEUED, None),
    "T": (JobState.QUEUED, None),
    "W": (JobState.HELD, By.SYSTEM),
    "H": (JobState.HELD, By.SYSTEM),  # Hold_Types says by whom
    "R": (JobState.RUNNING, None),
    "E": (JobState.RUNNING, None),
    "S": (JobState.SUSPENDED, By.SYSTEM),
}
# Negative exit statuses (Torque's administrator guide, "Job exit status"); -1 to -9: it could not be started.
REASONS: Mapping[int, tuple[Cause, str]] = {
    -10: (Cause.MEMORY, "it used more memory than it asked for"),
    -11: (Cause.WALLTIME, "it ran longer than it asked for"),
    -12: (Cause.CPU_TIME, "it used more processor time than it asked for"),
}
LAST_START_REASON = -9
DELETED = 256 + 15  # qdel sends TERM to the job's shell

_TAG = re.compile(r"<(/?)([A-Za-z_][A-Za-z0-9_.-]*)>")


def records(text: str) -> tuple[list[tuple[str, dict[str, str]]], list[str]]:
    """Jobs, each an id and its fields (``resources_used.cput``); and what is no job.

    An element without its end was cut, and one with parts of two jobs is neither's: both are no job.
    """
    found: list[tuple[str, dict[str, str]]] = []
    unparsed: list[str] = []
    before, *jobs = text.split("<Job>")
    unparsed += _others(before)
    for job in jobs:
        inside, end, after = job.partition("</Job>")
        fields = _fields(inside) if end else None
        if fields is None or not ID.fullmatch(fields.get("Job_Id", "")) or not fields.get("job_state"):
            unparsed.append(f"<Job>{inside}")
        else:
            found.append((fields.pop("Job_Id"), fields))
        unparsed += _others(after)
    return found, unparsed


def _others(text: str) -> list[str]:
    """Lines that are neither blank nor part of the documents' frame."""
    bare = re.sub(r"</?Data>|<\?xml[^>]*\?>", "", text)
    return [line for line in bare.split("\n") if line.strip()]


def _fields(text: str) -> dict[str, str] | None:
    """Elements by name, nested ones with a dot; None where they do not close, or one stands there twice."""
    fields: dict[str, str] = {}
    way: list[str] = []
    begun = 0
    for match in _TAG.finditer(text):
        closes, name = match[1] == "/", match[2]
        if not closes:
            if not way and text[begun : match.start()].strip():
                return None
            way.append(name)
            begun = match.end()
            continue
        if not way or way[-1] != name:
            return None
        value = text[begun : match.start()]
        key = ".".join(way)
        if not value.endswith(">") and not any(one.startswith(f"{key}.") for one in fields):
            if key in fields:
                return None
            fields[key] = html.unescape(value)
        way.pop()
        begun = match.end()
    return None if way or text[begun:].strip() else fields


def row_of(native_id: str, fields: Fields) -> Row:
    """What they say of one job."""
    word = fields["job_state"]
    state, by = STATES.get(word, (None, None))
    if word in ("Q", "H", "W") and (holder := held_by(fields.get("Hold_Types", "n"))) is not None:
        state, by = JobState.HELD, holder
    ending = _ending(fields) if word == "C" else None
    if ending is not None:
        state = ending.state
    return Row(
        native_id=native_id,
        state=state,
        by=by,
        native_state=word,
        reason=fields.get("comment") if state in (JobState.QUEUED, JobState.HELD) else None,
        token=token_of(fields.get("Variable_List", "")),
        name=fields.get("Job_Name"),
        ended=word == "C",
        ending=ending,
        submitted_at=_moment(fields.get("ctime")),
        began_at=_moment(fields.get("start_time")),
    )


def _ending(fields: Fields) -> Ending:
    """How it ended, of state C. Without exit_status it never ran."""
    status, ran = number(fields.get("exit_status")), "start_time" in fields or "session_id" in fields
    state, cause, exit_code, signal, message = JobState.FAILED, Cause.EXITED, None, None, ""
    if status is None:
        # Deleted, or its dependency became impossible: Torque deletes that job too, and does not say which.
        waited = "after" in fields.get("depend", "")
        why = "it was deleted before it ran"
        cause, message = Cause.UNKNOWN, f"{why}, or what it waited for can no longer happen" if waited else why
    elif status < 0:
        cause, message = REASONS.get(status, (Cause.UNKNOWN, "it ended for a reason of Torque's own"))
        if status >= LAST_START_REASON:
            cause, message, ran = Cause.NOT_STARTED, "Torque could not start it", False
        message = f"{message} (exit_status {status})"
    elif status == DELETED and not (not ran and "after" in fields.get("depend", "")):
        state, cause, signal = JobState.CANCELLED, Cause.CANCELLED, "SIGTERM"
    elif status <= 255:
        exit_code, ran = status, True
        state = JobState.DONE if status == 0 else JobState.FAILED
    elif status == DELETED:
        cause, message = Cause.UNKNOWN, "it was deleted before it ran, or what it waited for can no longer happen"
    elif 256 < status <= 256 + 64:
        signal, ran = signal_name(status - 256), True
    else:
        cause = Cause.UNKNOWN
    native = {name: value for name, value in fields.items() if name.startswith("resources_used.")}
    return Ending(
        state=state,
        cause=cause,
        exit_code=exit_code,
        signal=signal,
        aborted=not ran,
        message=message,
        usage=Usage(
            wall_s=clock_seconds(native.get("resources_used.walltime")),
            max_rss_bytes=kib(native.get("resources_used.mem")) or None,
            native=native,
        ),
        submitted_at=_moment(fields.get("ctime")),
        began_at=_moment(fields.get("start_time")),
        ended_at=_moment(fields.get("comp_time")),
        host=fields.get("exec_host", "").partition("+")[0].partition("/")[0] or None,
    )


def _moment(text: str | None) -> float | None:
    found = re.fullmatch(r"[0-9]{1,12}", text or "", re.ASCII)
    return float(found[0]) if found else None
