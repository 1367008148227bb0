"""The answers of squeue and sacct, row by row. Pure.

Both commands are asked for fields that end with a mark which no job's name or folder can hold (``Marks``), and for a header, so
that an answer without one is none. A row that cannot be read costs that row; text without our marks is somebody else's (a
wrapper's greeting) and says nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

import msgspec

from ...errors import SchedulerUnavailable
from ...job import Usage
from ..base import Answer, Row
from .ids import expanded
from .states import BY_ITSELF, ending_of, said

__all__ = ["ACCOUNT_FIELDS", "QUEUE_FIELDS", "Marks", "account_answer", "account_format", "queue_answer", "queue_format"]

# By their names for squeue --Format, all of them in 20.11 and since. The state comes first: what the rest of another line before
# it makes of it is no state, while of an id it could make another id.
QUEUE_FIELDS = (
    "State", "JobArrayID", "Reason", "RestartCnt", "exit_code", "SubmitTime", "StartTime", "NodeList", "WorkDir", "Name",
)  # fmt: skip
# By their names for sacct --format, all of them in 20.11 and since.
ACCOUNT_FIELDS = (
    "State", "JobID", "ExitCode", "Reason", "Submit", "Start", "End", "ElapsedRaw", "UserCPU", "SystemCPU", "MaxRSS", "NodeList",
    "AllocTRES", "WorkDir", "JobName",
)  # fmt: skip

_TOKEN = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
_STEP = re.compile(r"([0-9]+(?:[_+][0-9]+)?)\.[A-Za-z0-9_+]+", re.ASCII)
_DURATION = re.compile(r"(?:([0-9]{1,6})-)?(?:([0-9]{1,3}):)?([0-9]{1,5}):([0-9]{1,2}(?:\.[0-9]{1,9})?)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([KMGTP]?)", re.ASCII)
_WORD = re.compile(r"[A-Z][A-Z0-9_,+]{0,80}(?: by [0-9]{1,10})?", re.ASCII)  # also one that no release has yet
_CUT = re.compile(r"[A-Z][A-Z0-9_]*(?: by [0-9]*)?", re.ASCII)  # a line of which only the first word is left
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


class Marks(msgspec.Struct, frozen=True):
    """What ends a field, and a row: made anew for each scheduler that is opened, so that nobody can have named a job so."""

    secret: str = "mark"

    @property
    def field(self) -> str:
        """Ends each field but the last."""
        return f"|{self.secret}|"

    @property
    def row(self) -> str:
        """Ends the last field of squeue's rows."""
        return f"#{self.secret}#"


def queue_format(marks: Marks) -> str:
    """The value of ``--Format``. Width 0: nothing is cut, nothing padded."""
    return ",".join(f"{field}:0{marks.row if field == QUEUE_FIELDS[-1] else marks.field}" for field in QUEUE_FIELDS)


def account_format() -> str:
    """The value of ``--format``."""
    return ",".join(ACCOUNT_FIELDS)


def queue_answer(text: str, marks: Marks) -> Answer:
    """The rows of squeue. SchedulerUnavailable where the header is missing."""
    rows: list[Row] = []
    unparsed: list[str] = []
    header = False
    *records, rest = text.split(marks.row)
    for record in records:
        damaged, record = _last_row(record, marks)
        if damaged:
            unparsed.append(damaged)
        fields = record.split(marks.field)
        before, _, fields[0] = fields[0].rpartition("\n")  # what a wrapper says
        unparsed.extend(line for line in before.split("\n") if _CUT.fullmatch(line))
        if len(fields) != len(QUEUE_FIELDS):
            unparsed.append(record)
        elif fields[:2] == ["STATE", "JOBID"]:
            header = True
        else:
            found = _queue_rows(fields)
            rows.extend(found)
            if not found:
                unparsed.append(record)
    if not header:
        raise SchedulerUnavailable("it printed no table")
    if marks.secret in rest:
        unparsed.append(rest)
    return Answer(rows=tuple(rows), unparsed=tuple(line.strip() for line in unparsed), complete=not unparsed)


def _last_row(record: str, marks: Marks) -> tuple[str, str]:
    """What ends with a row's mark: rows before it that lost theirs, and the row."""
    surplus = record.count(marks.field) - len(QUEUE_FIELDS) + 1
    at = -1
    while surplus > 0:
        at = record.find("\n", at + 1)
        if at < 0:
            return "", record
        surplus = record.count(marks.field, at + 1) - len(QUEUE_FIELDS) + 1
    return record[: at + 1], record[at + 1 :]


def _queue_rows(fields: Sequence[str]) -> list[Row]:
    """A row for each job that the line stands for."""
    word, native_id, reason, restarts, exit_text, submitted, started, nodes, folder, name = fields
    meaning = said(word, reason)
    if not _WORD.fullmatch(word):
        return []
    # While a run that is requeued is being ended, the count is the next run's.
    counted = word != "COMPLETING" and re.fullmatch(r"[0-9]{1,6}", restarts, re.ASCII)
    attempt = int(restarts) + 1 if counted else None
    submitted_at = _moment(submitted)
    # A job that waits shows when it may start, one cancelled in the queue when it was: neither has nodes.
    began_at = _moment(started) if nodes and word != "PENDING" else None
    ending = ending_of(
        meaning, word, reason, exit_text, submitted_at=submitted_at, began_at=began_at, host=nodes or None, attempt=attempt
    )
    return [
        Row(
            native_id=one,
            state=meaning.state,
            by=meaning.by,
            native_state=word,
            reason=None if reason in ("", "None", "(null)") else reason,
            token=_token(folder),
            name=name,
            attempt=attempt,
            ended=ending is not None,
            ending=ending,
            submitted_at=submitted_at,
            began_at=began_at,
        )
        for one in expanded(native_id)
    ]


def account_answer(text: str, marks: Marks, *, exact: bool) -> Answer:
    """The rows of sacct, each job's steps added up. SchedulerUnavailable where the header is missing.

    ``exact``: exit codes above 127 are shown as they are.

    Of several runs of a job it prints the last, unless it is asked for duplicates.
    """
    jobs: dict[str, Mapping[str, str]] = {}
    steps: dict[str, list[Mapping[str, str]]] = {}
    unparsed: list[str] = []
    header = False
    pending = ""
    for line in text.split("\n"):
        if pending and _begins(line, marks):  # the row before was cut short
            unparsed.append(pending)
            pending = ""
        record = pending + line
        missing = len(ACCOUNT_FIELDS) - record.count(marks.field)  # each field ends with it (--parsable)
        if marks.field not in record:
            if _CUT.fullmatch(line):
                unparsed.append(line)
            continue
        if missing > 0:
            pending = record + "\n"  # a folder's name may hold a new line
            continue
        pending = ""
        fields = record.split(marks.field)
        if missing < 0 or fields[-1]:
            unparsed.append(record)
            continue
        found = dict(zip(ACCOUNT_FIELDS, fields, strict=False))
        if fields[:2] == ["State", "JobID"]:
            header = True
        elif not _WORD.fullmatch(found["State"]):
            unparsed.append(record)
        elif step := _STEP.fullmatch(found["JobID"]):
            steps.setdefault(step[1], []).append(found)
        elif expanded(found["JobID"]):
            jobs[found["JobID"]] = found
        else:
            unparsed.append(record)
    if not header:
        raise SchedulerUnavailable("it printed no table")
    if pending:
        unparsed.append(pending)
    rows: dict[str, Row] = {}
    for native_id, record_of in sorted(jobs.items(), key=lambda job: "[" not in job[0]):  # a task's own line beats a list's
        rows.update((row.native_id, row) for row in _account_rows(native_id, record_of, steps.get(native_id, ()), exact))
    return Answer(rows=tuple(rows.values()), unparsed=tuple(line.strip() for line in unparsed), complete=not unparsed)


def _begins(line: str, marks: Marks) -> bool:
    """The line begins a row."""
    word, _, rest = line.partition(marks.field)
    native_id, mark, _ = rest.partition(marks.field)
    return bool(mark and _WORD.fullmatch(word) and (expanded(native_id) or _STEP.fullmatch(native_id)))


def _account_rows(native_id: str, found: Mapping[str, str], steps: Sequence[Mapping[str, str]], exact: bool) -> list[Row]:
    word, reason = found["State"], found["Reason"]
    host = found["NodeList"] if found["NodeList"] not in ("", "None assigned", "(null)") else None
    if word == "CANCELLED" and host is None:  # not "by 1001": by Slurm itself
        reason = "DependencyNeverSatisfied" if reason in ("Dependency", "DependencyNeverSatisfied") else BY_ITSELF
    meaning = said(word, reason)
    submitted_at, began_at = _moment(found["Submit"]), _moment(found["Start"]) if host is not None else None
    sizes = [size for step in steps if (size := _size(step["MaxRSS"])) is not None]
    native = {name: found[name] for name in ("State", "ExitCode", "ElapsedRaw", "AllocTRES", "NodeList") if found[name]}
    usage = Usage(
        wall_s=_moment(found["ElapsedRaw"]),
        user_s=_duration(found["UserCPU"]),
        system_s=_duration(found["SystemCPU"]),
        max_rss_bytes=max(sizes, default=None),
        native=native,
    )
    ending = ending_of(
        meaning,
        word,
        reason,
        found["ExitCode"],
        usage=usage,
        submitted_at=submitted_at,
        began_at=began_at,
        ended_at=_moment(found["End"]),
        host=host,
        exact=exact,
    )
    return [
        Row(
            native_id=one,
            state=meaning.state,
            by=meaning.by,
            native_state=word,
            reason=None if reason in ("", "None", "(null)") else reason,
            token=_token(found["WorkDir"]),
            name=found["JobName"],
            ended=ending is not None,
            ending=ending,
            submitted_at=submitted_at,
            began_at=began_at if meaning.state is None or not meaning.state.waiting else None,
        )
        for one in expanded(native_id)
    ]


# Fields -------------------------------------------------------------------------------------------------------------


def _token(folder: str) -> str | None:
    """The job's folder is the working directory; its last component is the token."""
    last = os.path.basename(folder)
    return last if _TOKEN.fullmatch(last) else None


def _moment(text: str) -> float | None:
    """Seconds since the epoch, or a number of seconds; None for ``N/A``, ``Unknown``, ``None``."""
    return float(text) if _TIME.fullmatch(text) else None


def _duration(text: str) -> float | None:
    """Seconds of ``[D-][HH:]MM:SS[.sss]``."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes = (int(part or 0) for part in match.groups()[:3])
    return days * 86400.0 + hours * 3600.0 + minutes * 60.0 + float(match[4])


def _size(text: str) -> int | None:
    """Bytes of ``3308K``, ``1.50M``."""
    match = _SIZE.fullmatch(text)
    return int(float(match[1]) * _UNITS[match[2]]) if match is not None else None
