"""What ``oarstat -f -J`` says of a job. Pure; measured on OAR 2.5.9.

OAR keeps all jobs in its database, ended ones too, so that the queue and the accounting are one question. ``exit_code`` is the
wait status of the command, and stands in the full view alone; a job that was killed has none, and its events say why.

A job that OAR runs again is a job of its own there, with a new id, but in the place of the first one in its array (each job is
in one, if only of itself). The ids of an array follow each other (OAR/IO.pm, add_micheline_simple_array_job, counts on it), so
``array_id + array_index - 1`` is the id of the first run, by which we know the job.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...job import By, Cause, Ending, JobState, Usage, signal_name
from ..base import Row

__all__ = ["ID", "MOST", "TOKEN", "current", "own_id", "records", "rows_of"]

ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
TOKEN = re.compile(r"[0-9a-f]{32}", re.ASCII)
MOST = 10**18  # ids are below

STATES: Mapping[str, tuple[JobState, By | None]] = {
    "Waiting": (JobState.QUEUED, None),
    "toAckReservation": (JobState.QUEUED, None),
    "Hold": (JobState.HELD, By.USER),
    "toLaunch": (JobState.QUEUED, None),
    "Launching": (JobState.QUEUED, None),
    "Running": (JobState.RUNNING, None),
    "Suspended": (JobState.SUSPENDED, By.SYSTEM),
    "Resuming": (JobState.SUSPENDED, By.SYSTEM),
    "Finishing": (JobState.RUNNING, None),
    "toError": (JobState.RUNNING, None),
}
OVER = ("Terminated", "Error")

# Types of events, in the order in which they decide. Those of the last two lines are what NodeChangeState takes nodes out of
# service for, and OAR/IO.pm (check_end_of_job) notes for a job that could not be started.
EVENTS: tuple[tuple[Cause, tuple[str, ...]], ...] = (
    (Cause.WALLTIME, ("WALLTIME",)),
    (Cause.PREEMPTED, ("BESTEFFORT_KILL",)),
    (Cause.CANCELLED, ("FRAG_JOB_REQUEST",)),
    (Cause.NOT_STARTED, ("WORKING_DIRECTORY", "OUTPUT_FILES")),
    (
        Cause.NODE,
        (
            *("EXTERMINATE_JOB", "PING_CHECKER_NODE_SUSPECTED", "CPUSET_ERROR", "PROLOGUE_ERROR", "CANNOT_WRITE_NODE_FILE"),
            *("CANNOT_WRITE_PID_FILE", "USER_SHELL", "CANNOT_CREATE_TMP_DIRECTORY", "SSH_TRANSFER_TIMEOUT", "BAD_HASHTABLE_DUMP"),
            *("LAUNCHING_OAREXEC_TIMEOUT", "EXIT_VALUE_OAREXEC", "FORCE_TERMINATE_FINISHING_JOB", "SERVER_PROLOGUE_TIMEOUT"),
            *("SERVER_PROLOGUE_EXIT_CODE_ERROR", "SERVER_PROLOGUE_ERROR"),
        ),
    ),
)
# Events after which OAR sends the job again, as a new one, when it has looked at them (NodeChangeState).
SENT_AGAIN = frozenset(
    {
        *("SERVER_PROLOGUE_TIMEOUT", "SERVER_PROLOGUE_EXIT_CODE_ERROR", "SERVER_PROLOGUE_ERROR", "PING_CHECKER_NODE_SUSPECTED"),
        *("CPUSET_ERROR", "PROLOGUE_ERROR", "CANNOT_WRITE_NODE_FILE", "CANNOT_WRITE_PID_FILE", "USER_SHELL"),
        *("CANNOT_CREATE_TMP_DIRECTORY", "LAUNCHING_OAREXEC_TIMEOUT"),
    }
)
RESUBMITTED = "RESUBMIT_JOB_AUTOMATICALLY"
KILLED = frozenset({Cause.WALLTIME, Cause.PREEMPTED, Cause.CANCELLED})
_NEVER = re.compile(r"will never run|cannot be satisfied|[Rr]eservation expired")

Record = Mapping[str, Any]


# Text -> records ----------------------------------------------------------------------------------------------------


def records(text: str) -> tuple[list[dict[str, Any]], list[str], bool]:
    """The jobs of one ``oarstat -J`` or several, what is none, and whether the answer is whole. Nothing at all is no jobs."""
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=_once)
    good: list[dict[str, Any]] = []
    unparsed: list[str] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        start = text.find("{", at)
        try:
            data, after = decoder.raw_decode(text, start) if start >= 0 else (None, end)
        except (ValueError, RecursionError):
            break
        if outside := text[at : start if start >= 0 else end].strip():
            unparsed.append(outside[:200])
        for key, one in data.items() if isinstance(data, dict) else ():
            if _is_job(key, one):
                good.append(one)
            else:
                unparsed.append(f"{key[:40]}: not a whole job")
        at = after
    else:
        return good, unparsed, not unparsed
    unparsed.append(text[at:].strip()[:200])
    for match in re.compile(r'^ *"([0-9]{1,18})" : (?=\{)', re.MULTILINE | re.ASCII).finditer(text, at):
        try:
            one = decoder.raw_decode(text, match.end())[0]
        except (ValueError, RecursionError):
            continue
        if _is_job(match[1], one):
            good.append(one)
    return good, unparsed, False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which a name comes twice is two that ran into each other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _is_job(key: str, one: object) -> bool:
    """It has what decides its state, and the place in its array by which we know it."""
    return (
        isinstance(one, dict)
        and all(_count(one.get(name)) is not None for name in ("Job_Id", "array_id", "array_index"))
        and str(one["Job_Id"]) == key
        and isinstance(one.get("state"), str)
        and bool(one["state"])
        and all(name in one for name in ("exit_code", "startTime", "stopTime", "submissionTime", "launchingDirectory"))
        and isinstance(one.get("events"), list)
    )


def own_id(one: Record) -> str:
    """The id of the job's first run."""
    return str((_count(one["array_id"]) or 0) + (_count(one["array_index"]) or 0) - 1)


def current(found: Iterable[Record]) -> dict[str, tuple[dict[str, Any], int]]:
    """The newest run of each job, and which run it is (1: the first), by the id of the first."""
    runs: dict[str, list[Record]] = {}
    for one in found:
        runs.setdefault(own_id(one), []).append(one)
    newest: dict[str, tuple[dict[str, Any], int]] = {}
    for native_id, several in runs.items():
        several.sort(key=lambda one: int(one["Job_Id"]))
        first = str(several[0]["Job_Id"]) == native_id
        newest[native_id] = (dict(several[-1]), len(several) + (not first))
    return newest


# Records -> rows ----------------------------------------------------------------------------------------------------


def rows_of(found: Iterable[Record]) -> list[Row]:
    """A row for each job, of its newest run."""
    return [_row(native_id, one, attempt) for native_id, (one, attempt) in current(found).items()]


def _row(native_id: str, one: Record, attempt: int) -> Row:
    word = one["state"]
    state, by = STATES.get(word, (None, None))
    if word in ("Waiting", "Hold") and _postponed(one):
        state, by = JobState.HELD, By.BOTH if word == "Hold" else By.SYSTEM
    over = word in OVER and not _goes_on(one)
    ending = _ending(one, attempt) if over else None
    began = _moment(one["startTime"]) if word in (*OVER, "Running", "Suspended", "Resuming", "Finishing") else None
    message = _text(one.get("message"))
    last = os.path.basename(_text(one["launchingDirectory"]))
    return Row(
        native_id=native_id,
        state=ending.state if ending is not None else state,
        by=by,
        native_state=word,
        reason=message or None if state in (JobState.QUEUED, JobState.HELD) else None,
        token=last if TOKEN.fullmatch(last) else None,
        name=_text(one.get("name")) or None,
        attempt=attempt,
        ended=over,
        ending=ending,
        submitted_at=_moment(one["submissionTime"]) if attempt == 1 else None,
        began_at=began,
    )


def _postponed(one: Record) -> bool:
    """It waits for a moment. Whether that has come OAR does not tell; the job soon runs then."""
    types = one.get("types")
    return isinstance(types, list) and any(_text(kind).startswith("postpone=") for kind in types)


def _goes_on(one: Record) -> bool:
    """This run, the newest that is listed, is over, but not the job: another comes, or OAR has yet to decide that."""
    return any(
        _kind(event) == RESUBMITTED or (_kind(event) in SENT_AGAIN and event.get("to_check") == "YES") for event in one["events"]
    )


def _ending(one: Record, attempt: int) -> Ending:
    began_at, ended_at = _moment(one["startTime"]), _moment(one["stopTime"])
    kinds = {kind: _text(event.get("description")) for event in one["events"] if (kind := _kind(event))}
    status = _count(one["exit_code"], least=0)
    state, cause, message = JobState.FAILED, Cause.UNKNOWN, ""
    exit_code = signal = None
    core = False
    if one["state"] == "Terminated" and status is not None and status < 1 << 16:
        cause = Cause.EXITED
        number = status & 127
        if number:
            signal, core = signal_name(number), bool(status & 128)
        else:
            exit_code = status >> 8
            state = JobState.DONE if exit_code == 0 else JobState.FAILED
    elif one["state"] == "Error":
        for cause_, types in EVENTS:
            hit = next((kind for kind in types if kind in kinds), None)
            if hit is not None:
                cause, message = cause_, kinds[hit]
                break
        else:
            message = _text(one.get("message"))
            if began_at is None and _NEVER.search(message):
                cause = Cause.REJECTED
        if cause is Cause.CANCELLED:
            state = JobState.CANCELLED
        if began_at is not None and "SEND_KILL_JOB" in kinds and cause in KILLED:
            signal = "SIGKILL"  # OAR has no other way to end a job that runs, and says that it took it
    never = began_at is None or (cause in (Cause.NODE, Cause.NOT_STARTED, Cause.REJECTED) and status is None)
    hosts = one.get("assigned_network_address")
    return Ending(
        state=state,
        cause=cause,
        exit_code=exit_code,
        signal=signal,
        core_dumped=core,
        aborted=never,
        message=message,
        usage=_usage(one, began_at, ended_at),
        submitted_at=_moment(one["submissionTime"]),
        began_at=None if never else began_at,
        ended_at=ended_at,
        host=hosts[0] if isinstance(hosts, list) and hosts and isinstance(hosts[0], str) else None,
        attempts=attempt,
    )


def _usage(one: Record, began_at: float | None, ended_at: float | None) -> Usage:
    """OAR measures nothing but when a job began and ended, in whole seconds."""
    native = {name: str(one[name]) for name in ("startTime", "stopTime", "exit_code") if one[name] is not None}
    wall_s = ended_at - began_at if began_at is not None and ended_at is not None and ended_at >= began_at else None
    return Usage(wall_s=wall_s, native=native)


def _kind(event: object) -> str:
    return _text(event.get("type")) if isinstance(event, dict) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object, least: int = 1) -> int | None:
    """A whole number; Perl may write one as text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
        value = int(value)
    return value if type(value) is int and least <= value < MOST else None


def _moment(value: object) -> float | None:
    number = _count(value)
    return float(number) if number is not None and number < 10**11 else None
