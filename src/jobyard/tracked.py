"""One job that is followed, and what new observations make of it: the tracker's step between evidence and record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import JobyardError, NoScheduler, SchedulerUnavailable, TransportError
from .evidence import from_row, ours
from .job import Cause, Ending, JobState, Observation, Source, Transition
from .journal import Change, JobRow
from .journal_rows import FOREIGN
from .reconcile import notable, reconcile
from .schedulers.base import Answer

__all__ = ["Tracked", "answered", "decided", "observed_by", "removed"]

_logger = logging.getLogger("jobyard.tracker")


class Tracked:
    """One unfinished job."""

    __slots__ = ("facts", "since_s", "submission", "version")

    def __init__(self, row: JobRow, since_s: float) -> None:
        self.version = row.version
        self.facts = row.facts
        self.submission = row.submission
        self.since_s = since_s  # by the monotonic clock: questions asked before that know nothing of it


def decided(
    key: int, tracked: Tracked, observations: Sequence[Observation], now: float, clock_s: float, *, conclude: bool = True
) -> Change | None:
    """What is to be written of a job; None where nothing that matters is new."""
    facts = tracked.facts
    kept: list[Observation] = []
    transitions: list[Transition] = []
    left = len(observations)
    for batch in [[one] for one in observations] or [[]]:
        before, left = facts, left - 1
        # What was read at one time is weighed as a whole: the first of several receipts must not end a wait for the others.
        facts, made = reconcile(before, batch, now, clock_s=clock_s, more=left > 0 or not conclude)
        transitions += made
        kept += [one for one in batch if notable(before, facts, one)]
    if facts == tracked.facts and not kept:
        return None
    return Change(key=key, version=tracked.version, facts=facts, transitions=transitions, observations=kept)


def answered(ask: Callable[[], Any], whom: str) -> Any:
    """What the question brings; an error that is no answer is returned, whatever it was."""
    try:
        return ask()
    except (SchedulerUnavailable, TransportError, NoScheduler) as error:
        return error
    except JobyardError as error:
        return SchedulerUnavailable(str(error))
    except Exception as error:
        # An adapter's mistake must not end the polling: it is no answer, and the question is asked again.
        _logger.exception("asking %s failed", whom)
        return SchedulerUnavailable(f"{type(error).__name__}: {error}")


def observed_by(source: Source, answer: Answer, group: Mapping[int, Tracked], at: float) -> dict[int, list[Observation]]:
    """What an answer of the queue or of accounting, asked at ``at``, says of these jobs: their rows, and the absence of those
    that a whole answer leaves out; of those that accounting's leaves out where it is not whole, that it could not tell."""
    by_id: dict[str, list[int]] = {}
    for key, tracked in group.items():
        if tracked.facts.native_id is not None:
            by_id.setdefault(tracked.facts.native_id, []).append(key)
    observed: dict[int, list[Observation]] = {}
    for row in answer.rows:
        for key in by_id.get(row.native_id, ()):
            submission, terms = group[key].submission, group[key].facts.terms
            token = submission.token if submission.kind != FOREIGN else None
            if ours(row, token=token, submitted_at=terms.submitted_at, name=submission.name):
                observed.setdefault(key, []).append(from_row(row, source, at))
    if answer.whole or source is Source.ACCOUNTING:
        what = "absent" if source is Source.QUEUE else "unaccounted" if answer.whole else "untold"
        absent = Observation(source=Source.ABSENCE, at=at, what=what)
        for keys in by_id.values():
            for key in keys:
                observed.setdefault(key, [absent])
    return observed


def removed(now: float) -> Ending:
    """What is told of a job whose record another process removed before this one heard of its end."""
    message = "the job's record was removed before this process heard how it ended"
    return Ending(state=JobState.FAILED, cause=Cause.UNKNOWN, message=message, ended_at=now)
