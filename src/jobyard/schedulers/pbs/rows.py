"""What qstat -f says of a job, in fields; and the row that they make. Pure.

Measured on OpenPBS 23.06. ``Exit_status`` is trusted in states F and X alone (it shows in E already). 0 to 255 is the exit
code, 256+n a signal that ended the job's top shell, 128+n one that ended what the shell ran, less than 0 PBS's own reason
(job.h). Substate 91: deleted, whatever ``Exit_status`` says. None at all: the job never ran, even with substate 92, "finished".
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping

from ...job import By, Cause, Ending, JobState, Usage, signal_name
from ..base import Row

__all__ = ["ID", "PARENT", "Fields", "clock_seconds", "held_by", "kib", "records", "row_of", "timestamp", "token_of"]

Fields = Mapping[str, str]

ID = re.compile(r"[0-9]{1,18}(\[[0-9]{0,9}\])?(\.[A-Za-z0-9_][A-Za-z0-9_.-]*)?", re.ASCII)
PARENT = "[]"  # in the id of an array itself

DELETED = 91  # substate of what qdel ended
STATES: Mapping[str, tuple[JobState, By | None]] = {
    "Q": (JobState.QUEUED, None),
    "T": (JobState.QUEUED, None),  # on its way to another queue
    "W": (JobState.HELD, By.SYSTEM),  # for its time
    "H": (JobState.HELD, By.SYSTEM),  # Hold_Types says by whom
    "R": (JobState.RUNNING, None),
    "E": (JobState.RUNNING, None),  # its output is brought home; up to 30 s
    "S": (JobState.SUSPENDED, By.SYSTEM),
    "U": (JobState.SUSPENDED, By.SYSTEM),  # its workstation is in use
}
# Negative exit statuses: PBS's own reasons (OpenPBS, src/include/job.h; -25, -27 and -29 also in sites' pages).
REASONS: Mapping[int, tuple[Cause, str]] = {
    -20: (Cause.NODE, "the connection to its first node was lost"),
    -24: (Cause.UNKNOWN, "it used more processors at once than it asked for"),
    -25: (Cause.UNKNOWN, "it used more processors than it asked for"),
    -26: (Cause.MEMORY, "it used more virtual memory than it asked for"),
    -27: (Cause.MEMORY, "it used more memory than it asked for"),
    -28: (Cause.CPU_TIME, "it used more processor time than it asked for"),
    -29: (Cause.WALLTIME, "it ran longer than it asked for"),
}
LAST_START_REASON = -23  # -1 to this: it could not be started

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +([0-9]{1,2}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([0-9]{4})", re.ASCII)
_CLOCK = re.compile(r"(?:([0-9]{1,6}):)?([0-9]{1,9}):([0-9]{2}):([0-9]{2})", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,18})(b|kb|mb|gb|tb|pb)?", re.ASCII)
_UNITS = {"b": 0, "kb": 10, "mb": 20, "gb": 30, "tb": 40, "pb": 50}
_TOKEN = re.compile(r"(?:^|,)PBS_O_WORKDIR=[^=]*/([0-9a-f]{32})(?:,|$)", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,9}", re.ASCII)


# Text -> fields -----------------------------------------------------------------------------------------------------


def records(text: str) -> tuple[list[tuple[str, dict[str, str]]], list[str]]:
    """Jobs of ``qstat -f -F dsv``, each an id and its fields; and what is no job.

    A job is one line, ``Job Id: ID|name=value|...``; a line break within a value goes on in the next. A line without its end
    was cut, and one that holds parts of two jobs is neither's: both are no job.
    """
    found: list[tuple[str, dict[str, str]]] = []
    unparsed: list[str] = []
    before, *jobs = re.split(r"^Job Id: ", text, flags=re.MULTILINE)
    unparsed += [line for line in before.split("\n") if line.strip()]
    for job in jobs:
        words = re.split(r"(?<!\\)\|", job.rstrip("\n"))
        fields: dict[str, str] = {}
        whole = job.endswith("\n") and ID.fullmatch(words[0]) is not None and "Job Id: " not in job
        for word in words[1:]:
            name, equals, value = word.partition("=")
            whole = whole and bool(equals) and name not in fields
            fields[name] = value.replace("\\|", "|")
        # The fields that stand last in every record of a job that is over.
        ends = fields.get("job_state") not in ("F", "X") or "project" in fields or "Submit_arguments" in fields
        if whole and ends and fields.get("job_state"):
            found.append((words[0], fields))
        else:
            unparsed.append(f"Job Id: {job}".rstrip("\n"))
    return found, unparsed


# Fields -> row ------------------------------------------------------------------------------------------------------


def row_of(native_id: str, fields: Fields) -> Row:
    """What they say of one job."""
    word = fields.get("job_state", "")
    runs = number(fields.get("run_count"))
    ran = runs is not None and runs > 0  # a task that has not begun shows its array's stime
    state, by = STATES.get(word, (None, None))
    ending = None
    if word in ("F", "X"):
        ending = _ending(word, fields, ran)
        state = ending.state if ending is not None else None
    elif word in ("Q", "H", "W"):
        # A task that never began shows what its array shows, but for the state (seen of one in an array that had begun).
        holder = held_by(fields.get("Hold_Types", "n"))
        if holder is not None:
            state, by = JobState.HELD, holder
        if ran and runs is not None:
            runs += 1  # the run that it waits for
    return Row(
        native_id=native_id,
        state=state,
        by=by,
        native_state=f"{word}/{fields['substate']}" if fields.get("substate") else word,
        reason=fields.get("comment") if state in (JobState.QUEUED, JobState.HELD) else None,
        token=token_of(fields.get("Variable_List", "")),
        name=fields.get("Job_Name"),
        attempt=runs or None,
        ended=word in ("F", "X"),
        ending=ending,
        submitted_at=timestamp(fields.get("ctime")),
        began_at=timestamp(fields.get("stime")) if ran else None,
    )


def _ending(word: str, fields: Fields, ran: bool) -> Ending | None:
    """How it ended; None: only that it did (accounting is asked, and may say no more)."""
    status, substate = number(fields.get("Exit_status")), number(fields.get("substate"))
    state, cause, exit_code, signal, message = JobState.FAILED, Cause.EXITED, None, None, ""
    if status is not None and 256 < status <= 256 + 64:
        signal = signal_name(status - 256)
    if substate == DELETED:
        state, cause = JobState.CANCELLED, Cause.CANCELLED
    elif status is None:
        if "history_timestamp" not in fields:
            return None  # it stands behind Exit_status in whole records: this one is not whole
        waited = fields.get("depend", "").startswith("after")
        cause, message = (
            (Cause.DEPENDENCY, "what it waited for can no longer happen") if waited else (Cause.UNKNOWN, "it never ran")
        )
    elif word == "X" and not ran:
        return None  # "Subjob finished": its Exit_status is the array's
    elif status < 0:
        cause, message = REASONS.get(status, (Cause.UNKNOWN, "it ended for a reason of PBS's own"))
        if status >= LAST_START_REASON and status not in REASONS:
            cause, message, ran = Cause.NOT_STARTED, "PBS could not start it", False
        message = f"{message} (Exit_status {status})"
    elif status <= 255:
        exit_code = status
        state = JobState.DONE if status == 0 else JobState.FAILED
    elif signal is None:
        cause = Cause.UNKNOWN
    return Ending(
        state=state,
        cause=cause,
        exit_code=exit_code,
        signal=signal,
        aborted=not ran,
        message=message,
        usage=_usage(fields),
        submitted_at=timestamp(fields.get("ctime")),
        began_at=timestamp(fields.get("stime")) if ran else None,
        ended_at=timestamp(fields.get("obittime") or fields.get("mtime")),
        host=_host(fields.get("exec_host", "")),
        attempts=number(fields.get("run_count")) or 1,
    )


def _usage(fields: Fields) -> Usage:
    native = {name: value for name, value in fields.items() if name.startswith("resources_used.")}
    return Usage(
        wall_s=clock_seconds(native.get("resources_used.walltime")),
        max_rss_bytes=kib(native.get("resources_used.mem")) or None,  # 0kb: it ended before MOM looked
        native=native,
    )


def _host(text: str) -> str | None:
    """The first of ``host/0*2+host2/0``."""
    return text.partition("+")[0].partition("/")[0] or None


def held_by(types: str) -> By | None:
    """Who holds it: ``n`` nobody, ``u`` its user, ``o`` an operator, ``s`` the system (a dependency too), ``p`` a bad password."""
    user, other = "u" in types, any(letter in types for letter in "osp")
    return By.BOTH if user and other else By.USER if user else By.SYSTEM if other else None


def token_of(variables: str) -> str | None:
    """The submission's token: the last part of the folder in which qsub was run (PBS_O_WORKDIR)."""
    match = _TOKEN.search(variables)
    return match[1] if match else None


def number(text: str | None) -> int | None:
    """A whole number; None for anything else."""
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def timestamp(text: str | None) -> float | None:
    """``Fri Nov 20 03:50:26 2026`` as seconds since the epoch; the commands run with TZ=UTC0."""
    match = _DATE.fullmatch(text or "")
    if match is None or match[1] not in _MONTHS:
        return None
    day, hour, minute, second, year = (int(match[n]) for n in (2, 3, 4, 5, 6))
    if year < 1970 or not 1 <= day <= 31:
        return None
    return float(calendar.timegm((year, _MONTHS.index(match[1]) + 1, day, hour, minute, second, 0, 0, 0)))


def clock_seconds(text: str | None) -> float | None:
    """``HH:MM:SS`` or ``DD:HH:MM:SS``; None for anything else."""
    match = _CLOCK.fullmatch(text or "")
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def kib(text: str | None) -> int | None:
    """``7036kb`` in bytes; None for anything else."""
    match = _SIZE.fullmatch(text or "")
    return None if match is None else int(match[1]) << _UNITS[match[2] or "b"]
