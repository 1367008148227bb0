"""What ``flux jobs --json`` says of a job. Pure; measured on Flux 0.88.

``result`` decides, not ``returncode``: -128 and 1 also stand for jobs that never ran. ``waitstatus`` is that of the job's shell,
so a signal shows as 128+n. An exception with a severity above 0 is only a note.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from ...job import By, Cause, Ending, JobState, Usage
from ..base import Row

__all__ = ["ID", "TOKEN", "decimal", "records", "row_of"]

ID = re.compile(r"[0-9]{1,20}", re.ASCII)
TOKEN = re.compile(r"[0-9a-f]{32}", re.ASCII)
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SHOWN = re.compile(rf"[fƒ][{_BASE58}]{{1,12}}")

STATES: Mapping[str, tuple[JobState, By | None]] = {
    "DEPEND": (JobState.HELD, By.SYSTEM),  # for another job, or for its time
    "PRIORITY": (JobState.QUEUED, None),
    "SCHED": (JobState.QUEUED, None),
    "RUN": (JobState.RUNNING, None),
    "CLEANUP": (JobState.RUNNING, None),
}
EXCEPTIONS: Mapping[str, Cause] = {"dependency": Cause.DEPENDENCY, "alloc": Cause.REJECTED, "cancel": Cause.CANCELLED}


def decimal(shown: str) -> str | None:
    """``ƒD1D5jb5``, ``fD1D5jb5`` or a decimal number as a decimal number; None for anything else."""
    if ID.fullmatch(shown):
        return str(int(shown))
    if not _SHOWN.fullmatch(shown):
        return None
    value = 0
    for letter in shown[1:]:
        value = value * 58 + _BASE58.index(letter)
    return str(value)


def records(text: str) -> tuple[list[dict[str, Any]], list[str], bool]:
    """The jobs (one alone is printed bare, others in a list), what is none, and whether the answer is whole."""
    start = text.find("{")
    if start < 0:
        return [], [], not text.strip()
    try:
        data, end = json.JSONDecoder(strict=False).raw_decode(text, start)
        found = data.get("jobs", [data]) if isinstance(data, dict) else None
        if isinstance(found, list):
            good = [one for one in found if _is_job(one)]
            frame = text[:start] + text[end:]
            unparsed = [] if len(good) == len(found) else ["a job without id and state"]
            return good, unparsed, not unparsed and not frame.strip()
    except (ValueError, RecursionError):
        pass
    good, unparsed, decoder = [], [text[:200].strip()], json.JSONDecoder(strict=False)
    for match in re.finditer(r'\{"t_depend"', text):  # damaged: each job that is whole by itself still counts
        try:
            one = decoder.raw_decode(text, match.start())[0]
        except (ValueError, RecursionError):
            continue
        if _is_job(one):
            good.append(one)
    return good, unparsed, False


def _is_job(one: object) -> bool:
    return (
        isinstance(one, dict)
        and type(one.get("id")) is int
        and 0 < one["id"] < 1 << 64
        and isinstance(one.get("state"), str)
        and isinstance(one.get("exception", {}), dict)
        and "exception" in one  # it stands last
    )


def row_of(job: Mapping[str, Any]) -> Row:
    """What is said of one job."""
    word, urgency = job["state"], job.get("urgency")
    state, by = STATES.get(word, (None, None))
    if word in ("SCHED", "PRIORITY") and urgency == 0:
        state, by = JobState.HELD, By.USER
    elif word == "DEPEND" and urgency == 0:
        by = By.BOTH
    over = word == "INACTIVE"
    ending = _ending(job) if over else None
    last = os.path.basename(_text(job.get("cwd")))
    waits = job.get("dependencies")
    return Row(
        native_id=str(job["id"]),
        state=ending.state if ending is not None else state,
        by=by,
        native_state=f"{word} {_text(job.get('result'))}".rstrip(),
        reason=", ".join(map(_text, waits)) or None if isinstance(waits, list) and state is JobState.HELD else None,
        token=last if TOKEN.fullmatch(last) else None,
        name=_text(job.get("name")) or None,
        ended=over,
        ending=ending,
        submitted_at=_moment(job.get("t_submit")),
        began_at=_moment(job.get("t_run")),
    )


def _ending(job: Mapping[str, Any]) -> Ending | None:
    """How it ended; None: a result that is not known."""
    result, exception = job.get("result"), job["exception"]
    began_at = _moment(job.get("t_run"))
    fatal = exception.get("occurred") is True and exception.get("severity") == 0
    kind = _text(exception.get("type")) if fatal else ""
    message = _text(exception.get("note")) if fatal else ""
    code = job.get("returncode")
    exit_code = code if type(code) is int and 0 <= code <= 255 and "waitstatus" in job else None
    state, cause = JobState.FAILED, Cause.EXITED
    if result == "COMPLETED":
        state, exit_code = JobState.DONE, 0
    elif result == "CANCELED":
        state, cause, exit_code = JobState.CANCELLED, Cause.CANCELLED, None
    elif result == "TIMEOUT":
        cause, exit_code = Cause.WALLTIME, None
    elif result != "FAILED":
        return None
    elif began_at is None or exit_code is None:
        cause, exit_code = EXCEPTIONS.get(kind, Cause.UNKNOWN), None
    runtime = job.get("runtime")
    host = re.match(r"[A-Za-z0-9_.-]+", _text(job.get("nodelist")))
    return Ending(
        state=state,
        cause=cause,
        exit_code=exit_code,
        aborted=began_at is None,
        message=message,
        usage=Usage(wall_s=float(runtime) if isinstance(runtime, float | int) and 0 <= runtime < 1e10 else None),
        submitted_at=_moment(job.get("t_submit")),
        began_at=began_at,
        ended_at=_moment(job.get("t_cleanup") if began_at is not None else job.get("t_inactive")),
        host=host[0] if host else None,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _moment(value: object) -> float | None:
    return float(value) if isinstance(value, float | int) and not isinstance(value, bool) and 0 < value < 1e11 else None
