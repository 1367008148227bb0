"""What the resident's answers say. Pure. HyperQueue's own words on failures are those of 0.27.0 (docs/hyperqueue.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ...errors import SchedulerUnavailable
from ...job import By, Cause, Ending, JobState, signal_name
from ..base import Result, Row

__all__ = ["ID", "accepted_ids", "answer_of", "rows_of"]

ID = re.compile(r"[A-Za-z0-9]{1,32}-[0-9]{1,10}(\.[0-9]{1,10})?", re.ASCII)
_TOKEN = re.compile(r"[0-9a-f]{32}", re.ASCII)
_EXITED = re.compile(r"Program terminated with exit code (-?[0-9]{1,5})\.(?: Received signal ([0-9]{1,3}))?")
_NOT_STARTED = re.compile(r"Cannot (execute|create|change|open)|was not found")
_WORKER = re.compile(r"worker .*(lost|crash|fail)|(lost|crash)\w* .*worker", re.IGNORECASE)
_LATE = re.compile(r"time ?limit", re.IGNORECASE)
MOST_TASKS = 10_000_000  # more is no count of tasks


def answer_of(result: Result) -> dict[str, Any]:
    """The answer. SchedulerUnavailable: there is none, with the reason that was given."""
    try:
        answer = json.loads(result.text)
    except (ValueError, RecursionError):
        raise SchedulerUnavailable("what it printed is no answer") from None
    if not isinstance(answer, dict):
        raise SchedulerUnavailable("what it printed is no answer")
    error = answer.get("error")
    if error is not None or result.returncode != 0:
        raise SchedulerUnavailable(str(error) if error else "it was not asked to the end")
    return answer


def rows_of(answer: Mapping[str, Any], asked: Collection[str] | None = None) -> tuple[list[Row], list[str]]:
    """Rows of all jobs and tasks that it lists (of those ``asked`` for, where it is given), and what is none."""
    rows: list[Row] = []
    unparsed: list[str] = []
    found = answer.get("jobs")
    for one in found if isinstance(found, list) else []:
        try:
            made = list(_rows(one, asked))
        except (ValueError, TypeError, KeyError, AttributeError):
            unparsed.append(json.dumps(one, default=str)[:200])
        else:
            rows += made
    return rows, unparsed


def accepted_ids(native_id: object, count: int | None) -> tuple[str, ...]:
    """The ids of a submission's tasks; of a single job, its own (``count`` None). () for what is no id."""
    if not isinstance(native_id, str) or not ID.fullmatch(native_id) or "." in native_id:
        return ()
    return (native_id,) if count is None else tuple(f"{native_id}.{task}" for task in range(count))


def _rows(one: Mapping[str, Any], asked: Collection[str] | None) -> Iterator[Row]:
    """ValueError, TypeError, KeyError, AttributeError: it is no job."""
    count, over, finished = one["count"], one["over"], one["finished"]
    token, name = one["token"], one["name"]
    if not isinstance(over, bool) or not isinstance(token, str) or not _TOKEN.fullmatch(token) or not isinstance(name, str):
        raise ValueError(one)
    if count is not None and (type(count) is not int or not 0 < count <= MOST_TASKS):
        raise ValueError(one)
    if type(finished) is not int:
        raise ValueError(one)
    ids = accepted_ids(one["id"], count)
    if not ids:
        raise ValueError(one)
    failed = {int(task): str(text) for task, text in one["failed"].items()}
    cancelled = {int(task) for task in one["cancelled"]}
    begun = None if one["begun"] is None else {int(task) for task in one["begun"]}
    # Of several tasks HyperQueue counts those that ended well; which they are is known once all are over.
    for task, native_id in enumerate(ids):
        if asked is not None and native_id not in asked:
            continue
        state: JobState | None = None
        by, word, ending = None, "waiting or running", None
        if begun is not None:
            state, word = (JobState.RUNNING, "running") if task in begun else (JobState.QUEUED, "waiting")
        if task in cancelled:
            state, by, word = JobState.CANCELLED, By.USER, "cancelled"
            ending = Ending(state=state, cause=Cause.CANCELLED, aborted=True)
        elif task in failed:
            state, word, ending = JobState.FAILED, "failed", _failure(failed[task])
        elif over:
            # All that did not fail are counted as finished; else some were cancelled, nobody says which.
            known = finished + len(failed) >= (count or 1)
            state = JobState.DONE if known else None
            word = "finished" if known else "over"
            ending = Ending(state=JobState.DONE, cause=Cause.EXITED, exit_code=0) if known else None
        yield Row(
            native_id=native_id,
            state=state,
            by=by,
            native_state=word,
            reason=failed.get(task),
            token=token if count is None else None,
            name=name,
            ended=ending is not None or word == "over",
            ending=ending,
        )


def _failure(text: str) -> Ending:
    """HyperQueue's words on a task that failed. An exit code of -1 stands for a signal."""
    exited = _EXITED.search(text)
    if exited and exited[2]:
        return Ending(state=JobState.FAILED, cause=Cause.EXITED, signal=signal_name(int(exited[2])))
    if exited and 0 < int(exited[1]) < 256:
        return Ending(state=JobState.FAILED, cause=Cause.EXITED, exit_code=int(exited[1]))
    if _NOT_STARTED.search(text):
        return Ending(state=JobState.FAILED, cause=Cause.NOT_STARTED, aborted=True, message=text)
    if _LATE.search(text):
        return Ending(state=JobState.FAILED, cause=Cause.WALLTIME, message=text)
    if _WORKER.search(text):
        return Ending(state=JobState.FAILED, cause=Cause.NODE, message=text)
    return Ending(state=JobState.FAILED, cause=Cause.UNKNOWN, message=text)
