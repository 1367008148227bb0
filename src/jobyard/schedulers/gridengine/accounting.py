"""What qacct says: records of ``qacct -j``, read as rows. Pure.

How each ending looks there was measured (a signal is ``failed 100`` and 128+n, for a kill by qdel and by the job itself alike;
a limit is ``failed 37``; a job that was deleted before it ran has no record); the codes are those of sge_status(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from ...errors import SchedulerUnavailable
from ...job import Cause, Ending, JobState, Usage, signal_name
from ..base import Answer, Result, Row
from .queue import MARK, token_of

__all__ = ["accounts", "parse_accounting"]

_SUMMARY = re.compile(r"(OWNER|ACCOUNT) +WALLCLOCK |Total System Usage")
_RULE = re.compile(r"={62,}")
_LINE = re.compile(r"([a-z_]\w*)(?:\s+(.*))?")
_NUMBER = re.compile(r"[0-9]{1,10}")
_CODE = re.compile(r"\s*([0-9]{1,3})\b")
_QUANTITY = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)([A-Za-z]*)", re.IGNORECASE)
_SCALES = {"": 1.0, "b": 1.0, "s": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15, "bs": 1.0, "gbs": 1e9}
_REQUEST = re.compile(r"\b(h_rt|h_cpu|h_vmem)=([0-9:.]+[kKmMgGtT]?)")
_FACTORS = {"k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LONG_DATE = re.compile(r"[A-Z][a-z]{2} +([A-Z][a-z]{2}) +([0-9]{1,2}) +([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)? +([0-9]{4})")
_SHORT_DATE = re.compile(r"([0-9]{2})/([0-9]{2})/([0-9]{4}) +([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?")
_UNKNOWN = re.compile(r"error: job (?:id|name) .* not found")
_NONE = frozenset({"", "NONE", "undefined", "unknown"})
_RAN_AGAIN = frozenset({24, 25})  # of a run that was not the last: migrated, rescheduled
_NOT_BEGUN = frozenset({1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 26, 27, 28, 29, 31, 32, 33, 34, 35, 36, 38})
_NODE_FAILED = frozenset({18, 19, 20, 21, 22})
_LIMIT = 37
# Without these a record says nothing.
_NEEDED = ("owner", "jobnumber", "failed", "exit_status")


def parse_accounting(result: Result) -> Answer:
    """A row for each job or task of which there is a record: of its last run.

    Where there is no accounting file the answer is empty and not complete. SchedulerUnavailable: this is no answer.
    """
    text, mark, _ = result.text.rpartition(f"{MARK} end")
    if not mark:
        raise SchedulerUnavailable("qacct's answer does not end as it should")
    if result.returncode != 0:
        raise SchedulerUnavailable("qacct failed")
    wrong = [line for line in result.error_text.splitlines() if line.strip() and not _UNKNOWN.fullmatch(line.strip())]
    if any("/accounting" in line and "No such file" in line for line in wrong):
        return Answer(complete=False)
    if wrong:
        raise SchedulerUnavailable(wrong[0])
    unparsed: list[str] = []
    last: dict[tuple[str, str | None], Row] = {}  # numbers come round: two tokens are two jobs
    again: dict[tuple[str, str | None], int] = {}  # how many runs were followed by another
    for record in _records(text, unparsed):
        row = _row(record)
        if row is None:
            unparsed.append(" ".join(f"{key} {value}" for key, value in list(record.items())[:12])[:200])
            continue
        job = (row.native_id, row.token)
        before = last.get(job)
        if before is not None and (before.ending is None or before.ending.cause in (Cause.NODE, Cause.NOT_STARTED)):
            again[job] = again.get(job, 0) + 1  # other records before the last are of a parallel job's slaves
        last[job] = row
    rows = (_counted(row, again[job]) if row.ended and job in again else row for job, row in last.items())
    return Answer(rows=tuple(rows), unparsed=tuple(unparsed), complete=not unparsed)


def _counted(row: Row, again: int) -> Row:
    """The row of a run after the first. Its time of submission is that of the rescheduling (measured on 8.1.9)."""
    return msgspec.structs.replace(row, attempt=again + 1, submitted_at=None)


def accounts(result: Result) -> Iterator[tuple[str, str]]:
    """Of each record the token and the job's number."""
    for record in _records(result.text, []):
        token = token_of(record.get("account", ""), "")
        if token is not None and _NUMBER.fullmatch(record.get("jobnumber", "")):
            yield token, record["jobnumber"]


def _records(text: str, unparsed: list[str]) -> Iterator[Mapping[str, str]]:
    record: dict[str, str] | None = None
    summary = head = False  # qacct adds one, where it was not asked for a single job
    for line in text.splitlines():
        if _RULE.fullmatch(line.strip()) and not head:
            if record:
                yield record
            record, summary = {}, False
        elif head or _SUMMARY.match(line):
            summary, head = True, not head  # its own rule follows its head
        elif summary or not line.strip() or line.startswith(MARK):
            continue
        elif record is None or (match := _LINE.fullmatch(line.rstrip())) is None:
            unparsed.append(line.strip()[:200])
        elif match[1] in record:  # two records grew together: neither can be believed
            record["failed"] = ""
        else:
            record[match[1]] = (match[2] or "").strip()
    if record:
        yield record


def _row(record: Mapping[str, str]) -> Row | None:
    number, failed, status = (
        record.get("jobnumber", ""),
        _CODE.match(record.get("failed", "")),
        _CODE.match(record.get("exit_status", "")),
    )
    if any(not record.get(name) for name in _NEEDED) or not _NUMBER.fullmatch(number) or failed is None or status is None:
        return None
    task = record.get("taskid", "undefined")
    if task not in _NONE and not _NUMBER.fullmatch(task):
        return None
    native_id = number if task in _NONE else f"{number}.{task}"
    submitted_at = _moment(record.get("qsub_time", record.get("submission_time", "")))
    token = token_of(record.get("account", ""), "")
    code = int(failed[1])
    shown = f"failed {record['failed']}" if code else f"exit_status {status[1]}"
    if code in _RAN_AGAIN:  # a run is over, not the job
        return Row(native_id=native_id, native_state=shown, token=token, name=record.get("jobname"))
    ending = _ending(record, code, int(status[1]), submitted_at)
    return Row(
        native_id=native_id,
        state=ending.state,
        native_state=shown,
        token=token,
        name=record.get("jobname"),
        ended=True,
        ending=ending,
        submitted_at=submitted_at,
        began_at=ending.began_at,
    )


def _ending(record: Mapping[str, str], code: int, status: int, submitted_at: float | None) -> Ending:
    exit_code: int | None = status
    signal: str | None = None
    aborted = False
    cause = Cause.EXITED
    message = ""
    if code:
        message = record["failed"].partition(":")[2].strip()
    if code == _LIMIT:
        cause = _limit(record)
        exit_code, signal = (None, signal_name(status - 128)) if 128 < status <= 192 else (status, None)
    elif code in (17, 100):
        # 128+n: a signal. Which of the job's own, qdel's and a crash's it was, nobody says.
        exit_code, signal = (None, signal_name(status - 128)) if 128 < status <= 192 else (status, None)
        message = ""
        if exit_code == 0:  # it did not end by itself, whatever the status is
            cause, exit_code = Cause.UNKNOWN, None
    elif code in _NOT_BEGUN:
        cause, exit_code, aborted = Cause.NOT_STARTED, None, True
    elif code in _NODE_FAILED:
        cause, exit_code = Cause.NODE, None
    elif code:
        message = f"Grid Engine: {message}" if message else ""
    done = cause is Cause.EXITED and exit_code == 0
    began_at = None if aborted else _moment(record.get("start_time", ""))
    return Ending(
        state=JobState.DONE if done else JobState.FAILED,
        cause=cause,
        exit_code=exit_code,
        signal=signal,
        aborted=aborted,
        message=message,
        usage=_usage(record, aborted=aborted),
        submitted_at=submitted_at,
        began_at=began_at,
        ended_at=_moment(record.get("end_time", "")),
        host=record.get("hostname") if record.get("hostname") not in _NONE else None,
    )


def _limit(record: Mapping[str, str]) -> Cause:
    """Which of its limits ended the job: qacct names three at once, the job's own requests say which it can have been."""
    asked = dict(_REQUEST.findall(record.get("category", "")))
    wall_s = _quantity(record.get("ru_wallclock", ""))
    if "h_rt" not in asked or (wall_s is not None and wall_s + 1 < _seconds(asked["h_rt"])):
        used = _quantity(record.get("maxvmem", ""))
        if "h_vmem" in asked and used is not None and used >= 0.95 * _bytes(asked["h_vmem"]):
            return Cause.MEMORY
        if "h_cpu" in asked:
            return Cause.CPU_TIME
        if "h_vmem" in asked and "h_rt" not in asked:
            return Cause.MEMORY
    return Cause.WALLTIME


def _usage(record: Mapping[str, str], *, aborted: bool) -> Usage:
    native = {key: value for key, value in record.items() if value not in _NONE}
    if aborted:
        return Usage(native=native)
    rss_kib = _quantity(record.get("ru_maxrss", ""))
    return Usage(
        wall_s=_quantity(record.get("ru_wallclock", "")),
        user_s=_quantity(record.get("ru_utime", "")),
        system_s=_quantity(record.get("ru_stime", "")),
        # The kernel counts KiB; 8.1 takes them for bytes when it adds units: 4416 KiB are shown as 4.416KB.
        max_rss_bytes=None if rss_kib is None or rss_kib <= 0 else round(rss_kib * 1024),
        minor_faults=_count(record, "ru_minflt"),
        major_faults=_count(record, "ru_majflt"),
        read_blocks=_count(record, "ru_inblock"),
        written_blocks=_count(record, "ru_oublock"),
        voluntary_switches=_count(record, "ru_nvcsw"),
        involuntary_switches=_count(record, "ru_nivcsw"),
        native=native,
    )


def _count(record: Mapping[str, str], name: str) -> int | None:
    value = _quantity(record.get(name, ""))
    return None if value is None or value < 0 else int(value)


def _quantity(text: str) -> float | None:
    """A number of seconds, bytes or times, whatever unit it is shown in; some versions add units, some do not."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or (scale := _SCALES.get(match[2].lower())) is None:
        return None
    value = float(match[1]) * scale
    return value if value < 1e18 else None


def _seconds(text: str) -> float:
    """A request's time: seconds, or ``[h:]m:s``."""
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + (float(part) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", part) else 0.0)
    return total


def _bytes(text: str) -> float:
    factor = _FACTORS.get(text[-1:], 1)
    digits = text.rstrip("kKmMgGtT")
    return float(digits) * factor if re.fullmatch(r"[0-9]+(\.[0-9]+)?", digits) else 0.0


def _moment(text: str) -> float | None:
    """Seconds since the epoch; commands are run with UTC as their zone. None where the record has no such time."""
    if long := _LONG_DATE.fullmatch(text.strip()):
        month, day, clock, year = long.groups()
        number = _MONTHS.index(month) + 1 if month in _MONTHS else 0
    elif short := _SHORT_DATE.fullmatch(text.strip()):
        shown, day, year, clock = short.groups()
        number = int(shown)
    else:
        return None
    try:
        at = datetime.fromisoformat(f"{year}-{number:02}-{int(day):02}T{clock}+00:00").timestamp()
    except ValueError:
        return None
    return at if at > 0 else None  # a run that did not begin has the epoch
