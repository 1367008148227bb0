"""What qstat says: its XML, read as rows. Pure.

qstat's XML is read job by job and not as a document: an answer that was cut short, or that somebody's wrapper wrote into, costs
the jobs that it damaged and no others. It escapes ``<`` as ``%lt;`` (measured on 8.1.9), which no XML reader would undo.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import msgspec

from ...errors import SchedulerUnavailable
from ...job import By, JobState
from ..base import Answer, Result, Row

__all__ = ["Details", "parse_details", "parse_queue", "state_of", "task_numbers", "token_of"]

MARK = "#jobyard#"  # begins the lines that part the answers of several qstat commands

_TOKEN = re.compile(r"[0-9a-f]{32}")
_FIELD = re.compile(r"<(\w+)(?: [^<>]*)?>([^<>]*)</\1>")
_STATE = re.compile(r"[hqwrtRsSTEdPN]{1,8}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10})(?::([0-9]{1,10}))?)?")
_WRAPPING = re.compile(r"</?(?:job_info|queue_info|cluster_queue_summary)(?: [^<>]*)?/?>|<\?xml[^<>]*\?>")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&apos;": "'", "&quot;": '"', "&amp;": "&", "%lt;": "<"}
_ENTITY = re.compile("|".join(_ENTITIES))
_DETAILED = "</detailed_job_info>"
_BY_SYSTEM = ("ho", "hs", "hj", "ha")
_MOST_TASKS = 2_000_000  # in one answer; the largest array that a site allows is far below


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What ``qstat -j`` tells of one job beyond its state."""

    number: str
    token: str | None = None
    submitted_at: float | None = None
    begin_at: float | None = None  # not before
    messages: tuple[str, ...] = ()  # why it waits, where the site lets the scheduler say so (schedd_job_info)
    error: str | None = None  # why it is in the error state


def parse_queue(result: Result) -> Answer:
    """The rows of the user's jobs, a row for each task.

    The answer has parts, each begun by a line with MARK: ``queue`` (all jobs); ``hu``, ``ho``, ``hs``, ``hj``, ``ha`` (those that a
    user, operator or system hold, another job, or a begin time keeps); ``details`` (qstat -j); ``now``; ``end``. Only the first
    must be there, and the last for the answer to be complete. SchedulerUnavailable where the first is no answer.
    """
    parts = _parts(result)
    if "queue" not in parts or result.returncode != 0:
        raise SchedulerUnavailable("qstat failed" if result.returncode else "this is not qstat's XML")
    text = parts["queue"]
    if "<job_info" not in text:
        raise SchedulerUnavailable("this is not qstat's XML")
    holds = {kind: frozenset(_ids(parts[kind])) for kind in ("hu", *_BY_SYSTEM) if _whole(parts.get(kind, ""))}
    details = parse_details(parts["details"]) if "details" in parts else {}
    now = parts.get("now", "").strip()
    listed = holds.get("ha", frozenset())
    # Without what tells the time from the begin time, nobody knows whether a job waits for it.
    unsure = frozenset() if _NUMBER.fullmatch(now) and parts.get("details", "").rstrip().endswith(_DETAILED) else listed
    if "ha" in holds and not unsure:
        holds["ha"] = frozenset(native_id for native_id in listed if _too_early(details.get(native_id.partition(".")[0]), now))
    rows: list[Row] = []
    unparsed: list[str] = []
    for body in _jobs(text, unparsed):
        fields = _fields(body)
        made = list(_rows(fields, holds, details, unsure))
        if not made:
            unparsed.append(_shown(body))
        rows += made
        if len(rows) > _MOST_TASKS:
            raise SchedulerUnavailable(f"it lists more than {_MOST_TASKS} tasks")
    return Answer(rows=tuple(rows), unparsed=tuple(unparsed), complete=_whole(text) and "end" in parts and not unparsed)


def _too_early(known: Details | None, now: str) -> bool:
    """Whether a job that is listed with a begin time still waits for it: qstat goes on listing it (measured on 8.1.9)."""
    return known is None or known.begin_at is None or known.begin_at > int(now or "0")


def _whole(text: str) -> bool:
    """The document was not cut short."""
    return text.rstrip().endswith("</job_info>")


def _parts(result: Result) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in ("\n" + result.text).split(f"\n{MARK} ")[1:]:
        name, _, text = part.partition("\n")
        found.setdefault(name.strip(), text)
    return found


def _jobs(text: str, unparsed: list[str]) -> Iterator[str]:
    """The text of each job; what is neither a job nor the document around them is not understood."""
    rest: list[str] = []
    pieces = text.split("</job_list>")
    for piece in pieces[:-1]:
        before, begin, body = piece.rpartition("<job_list ")
        rest.append(before if begin else piece)
        if begin:
            yield body
    rest.append(pieces[-1])
    for line in _WRAPPING.sub("\n", "\n".join(rest)).split("\n"):
        if line.strip():
            unparsed.append(_shown(line))


def _fields(body: str) -> dict[str, str]:
    """Of a job's elements each one's text; the first where there are several of a name."""
    found: dict[str, str] = {}
    for name, value in _FIELD.findall(body):
        found.setdefault(name, value)
    return found


def _rows(
    fields: Mapping[str, str], holds: Mapping[str, frozenset[str]], details: Mapping[str, Details], unsure: frozenset[str]
) -> Iterator[Row]:
    number, word = fields.get("JB_job_number", ""), fields.get("state", "")
    if not _NUMBER.fullmatch(number) or not re.fullmatch(r"[A-Za-z]{1,12}", word):
        return
    tasks = fields.get("tasks")
    ids = [number] if tasks is None else [f"{number}.{task}" for task in task_numbers(tasks)]
    name = fields.get("full_job_name") or fields.get("JB_name")
    known = details.get(number)
    submitted_at = _moment(fields.get("JB_submission_time", ""))
    began_at = _moment(fields.get("JAT_start_time", ""))
    for native_id in ids:
        state, by = state_of(word)
        reason = None
        if state is JobState.QUEUED and native_id in holds.get("ha", ()):  # qstat shows it as plain waiting
            state, by = (None, None) if native_id in unsure else (JobState.HELD, By.SYSTEM)
        elif state is JobState.HELD and by is None:
            by = _holder(native_id, holds)
        if known is not None and state in (JobState.QUEUED, JobState.HELD):
            reason = known.error if "E" in word and known.error else "; ".join(known.messages) or None
        if "E" in word and reason is None:
            reason = "it is in the error state"
        yield Row(
            native_id=native_id,
            state=state,
            by=by,
            native_state=word,
            reason=reason,
            token=known.token if known is not None else None,
            name=_unescaped(name) if name is not None else None,
            attempt=2 if "R" in word else None,  # at least: it is shown that a job runs again, not how often
            # A job that runs again shows when it was rescheduled (measured on 8.1.9).
            submitted_at=None if "R" in word else submitted_at or (known.submitted_at if known is not None else None),
            began_at=began_at if state in (JobState.RUNNING, JobState.SUSPENDED) else None,
        )


def state_of(word: str) -> tuple[JobState | None, By | None]:
    """What qstat's letters say (sge_status(5)); None where there are others."""
    if not _STATE.fullmatch(word) or word.strip("hdRE") == "":
        return None, None
    if "E" in word:  # kept out of the queue until somebody clears it
        return JobState.HELD, By.SYSTEM
    if "q" in word or "w" in word:
        return (JobState.HELD, None) if "h" in word else (JobState.QUEUED, None)
    system = "S" in word or "T" in word  # its queue: by its owner, or for its load
    if "s" in word:
        return JobState.SUSPENDED, By.BOTH if system else By.USER
    if system:
        return JobState.SUSPENDED, By.SYSTEM
    if "t" in word and "r" not in word:  # on its way to the node: nothing of it has begun
        return JobState.QUEUED, None
    return JobState.RUNNING, None


def _holder(native_id: str, holds: Mapping[str, frozenset[str]]) -> By | None:
    """Who holds it; None where it was not told."""
    if "hu" not in holds:
        return None
    if native_id not in holds["hu"]:
        return By.SYSTEM
    if any(native_id in holds.get(kind, ()) for kind in _BY_SYSTEM):
        return By.BOTH
    return By.USER if all(kind in holds for kind in _BY_SYSTEM) else None


def task_numbers(text: str) -> list[int]:
    """Tasks as qstat lists them: ``1-3:1,6,7``. Nothing where it is not such a list."""
    found: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return []
        first = int(match[1])
        last, step = int(match[2] or first), int(match[3] or 1)
        if step < 1 or last < first or (last - first) // step >= _MOST_TASKS:
            return []
        found.extend(range(first, last + 1, step))
    return found


def _ids(text: str) -> Iterator[str]:
    for body in _jobs(text, []):
        fields = _fields(body)
        number, tasks = fields.get("JB_job_number", ""), fields.get("tasks")
        if tasks is None:
            yield number
        else:
            yield from (f"{number}.{task}" for task in task_numbers(tasks))


# qstat -j ----------------------------------------------------------------------------------------------------------------

_TASKS = re.compile(r"<JB_ja_tasks>.*?</JB_ja_tasks>", re.DOTALL)
_MESSAGE = re.compile(r"<MES_job_number_list>(.*?)</MES_job_number_list>.*?<MES_message>([^<>]*)</MES_message>", re.DOTALL)
_LISTED = re.compile(r"<ULNG_value>([0-9]{1,10})</ULNG_value>")
_FORCED = re.compile(r"does not request 'forced' resource")  # of queues that are kept for others
_MESSAGES_MOST = 4  # one for each queue that does not suit would fill pages


def parse_details(text: str) -> dict[str, Details]:
    """By job number. What cannot be read is left out."""
    found: dict[str, Details] = {}
    messages: dict[str, list[str]] = {}
    for document in text.split(_DETAILED):
        jobs, _, rest = document.partition("<messages>")
        for numbers, message in _MESSAGE.findall(rest):
            for number in _LISTED.findall(numbers):
                said = messages.setdefault(number, [])
                shown = _unescaped(message)
                if len(said) < _MESSAGES_MOST and shown not in said and not _FORCED.search(shown):
                    said.append(shown)
        for piece in jobs.split("<JB_job_number>")[1:]:
            number, _, body = piece.partition("</JB_job_number>")
            if not _NUMBER.fullmatch(number) or "<JB_owner>" not in body:
                continue
            errors = re.findall(r"<QIM_message>([^<>]*)</QIM_message>", "".join(_TASKS.findall(body)))
            fields = _fields(_TASKS.sub("", body))
            submitted = fields.get("JB_submission_time", "")
            found[number] = Details(
                number=number,
                token=token_of(fields.get("JB_account", ""), fields.get("JB_cwd", "")),
                submitted_at=float(submitted) if _NUMBER.fullmatch(submitted) else None,
                begin_at=_begin_at(fields.get("JB_execution_time", "")),
                error=_unescaped(" ".join(errors[0].split())) if errors else None,
            )
    return {number: msgspec.structs.replace(one, messages=tuple(messages.get(number, ()))) for number, one in found.items()}


def _begin_at(text: str) -> float | None:
    """A begin time; it has 32 bits, and those after 2038 are shown as negative."""
    return float(int(text) % 2**32) if re.fullmatch(r"-?[0-9]{1,10}", text) and int(text) else None


def token_of(account: str, directory: str) -> str | None:
    """The submission's token: the account (-A), where the user has not set one, and the name of the working directory."""
    for text in (os.path.basename(_unescaped(directory)), account):
        if _TOKEN.fullmatch(text):
            return text
    return None


# Values ------------------------------------------------------------------------------------------------------------------


def _moment(text: str) -> float | None:
    """Seconds since the epoch of qstat's ``2026-11-20T04:14:51``; commands are run with UTC as their zone."""
    try:
        return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp() if text else None
    except ValueError:
        return None


def _unescaped(text: str) -> str:
    return _ENTITY.sub(lambda match: _ENTITIES[match[0]], text)


def _shown(text: str) -> str:
    return " ".join(text.split())[:200]
