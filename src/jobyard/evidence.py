"""What is known of one job: the fold of all its observations, small enough to be kept for every tracked job.

``JobFacts`` is what ``reconcile`` takes and gives back. Its parts change at different speeds: ``Terms`` is fixed when the
job is submitted and shared by all jobs of a submission, ``Seen`` grows with each observation that says something new.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import msgspec

from .job import By, Cause, Ending, JobState, Observation, Source, Transition, to_data
from .schedulers.base import Row

__all__ = ["JobFacts", "Run", "Seen", "Terms", "Word", "from_row", "ours", "seen_from_text", "seen_to_text", "tell"]

SAME_SUBMISSION_S = 600.0  # two clocks and a slow submission; ids come round after days


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is fixed at submission and decides how evidence is read. Seconds throughout."""

    submitted_at: float | None = None  # since the epoch
    receipts: bool = True  # a shepherd reports; False: a foreign job
    rerunnable: bool = False
    stages_in: bool = False  # files are brought in before the command runs
    held: bool = False  # submitted held by its user
    accounting: bool = True  # the scheduler has accounting that can be asked
    accounting_late_s: float = 30.0  # how long after an end accounting may not know of it yet
    settle_s: float = 10.0  # how long after an end its receipts may not be visible here yet (network file systems)
    shows_suspended: bool = True  # the queue tells a suspended job from a running one


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """The end receipt of one run."""

    attempt: int
    ending: Ending
    clean: bool = False  # final alone
    signals: tuple[str, ...] = ()


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """The scheduler's word that a job is over, from the queue or from accounting."""

    state: JobState | None = None
    attempt: int | None = None  # None: this scheduler does not count
    ending: Ending | None = None
    native_id: str | None = None
    reason: str | None = None


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The evidence so far. Attempts by receipts and attempts by the scheduler are counted apart: they can differ."""

    # by receipts
    begun: int = 0  # the newest run that began; 0: none
    stage: JobState | None = None  # where that run is
    began_at: float | None = None
    holder: str | None = None  # the native id that holds the claim, as seen on the node
    end: Run | None = None  # the end receipt of the newest run
    void: int = 0  # runs up to this one are over, and the job waits to run again
    refused: tuple[str, ...] = ()  # native ids of runs that the claim refused
    # by the scheduler
    attempt: int = 0  # the newest run that it spoke of; 0: it does not count
    ran: bool = False  # it said that the job was running
    live: bool = False  # the queue's last good answer lists the job as not over
    queue: Word | None = None
    account: Word | None = None
    cut: Cause | None = None  # why an earlier run was cut short
    native_state: str | None = None  # its own word, last seen
    # by us
    cancelled: bool = False
    suspended: bool = False  # and not resumed
    requeued: bool = False  # and not seen in the queue again
    act_at: float = 0.0
    # timers; by the monotonic clock
    absent_s: float = 0.0  # of good answers without the job
    absent_clock_s: float | None = None  # of the last of them
    over_clock_s: float | None = None  # since when it is said, or seems, to be over
    looked: bool = False  # its folder was looked at since, and held nothing new
    unaccounted: bool = False  # accounting answered since, late enough, without the job, or never could tell


NOTHING = Seen()


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one job. ``at``: seconds since the epoch, of the last transition."""

    state: JobState = JobState.NEW
    at: float = 0.0
    by: By | None = None
    reason: str | None = None  # why it waits, in the scheduler's words
    native_id: str | None = None
    ending: Ending | None = None  # with final states
    terms: Terms = Terms()
    seen: Seen = NOTHING


def seen_to_text(seen: Seen) -> str | None:
    """Standard json, ASCII only, any text within survives; None where nothing was seen."""
    return None if seen == NOTHING else json.dumps(to_data(seen), separators=(",", ":"))


@functools.lru_cache(1024)  # jobs that wait in one queue have mostly seen the same
def seen_from_text(text: str | None) -> Seen:
    """What ``seen_to_text`` wrote. Raises msgspec.ValidationError or ValueError for anything else."""
    return NOTHING if text is None else msgspec.convert(json.loads(text), Seen)


def ours(row: Row, *, token: str | None = None, submitted_at: float | None = None, name: str | None = None) -> bool:
    """Whether a row of that native id speaks of our job, and not of another that got the same id.

    A token decides alone. Else a submission time more than ten minutes from ours contradicts; a name counts only where no time
    is given, since schedulers shorten and change names.
    """
    if row.token is not None and token is not None:
        return row.token == token
    if row.submitted_at is not None and submitted_at is not None:
        return abs(row.submitted_at - submitted_at) <= SAME_SUBMISSION_S
    if row.name and name:
        theirs, mine = _bare(row.name), _bare(name)
        return not theirs or not mine or theirs.startswith(mine) or mine.startswith(theirs)
    return True


def _bare(name: str) -> str:
    return "".join(c for c in name if c.isascii() and c.isalnum()).casefold()


def from_row(row: Row, source: Source, at: float) -> Observation:
    """The observation that a row of the queue or of accounting makes; ``at``: when the question was asked."""
    ending = row.ending
    if ending is None and row.began_at is not None and row.ended and row.state is not None and row.state.final:
        ending = Ending(state=row.state, cause=Cause.UNKNOWN, began_at=row.began_at)
    return Observation(
        source=source,
        at=at,
        what="row",
        state=row.state,
        by=row.by,
        native_state=row.native_state or None,
        reason=row.reason,
        native_id=row.native_id,
        attempt=row.attempt,
        ended=row.ended,
        ending=ending,
    )


# In words, for ``why`` ----------------------------------------------------------------------------------------------

_RECEIPTS = {
    "begin": "the node: the job began",
    "stage_in": "the node: files are brought in",
    "running": "the node: the command runs",
    "stage_out": "the node: files are brought out",
    "cleaning": "the node: files are cleaned away",
}
_ABSENCES = {
    "absent": "the queue does not list the job",
    "unaccounted": "accounting does not know the job",
    "untold": "accounting answers, but cannot tell of the job",
    "no_receipt": "the job's folder holds nothing further",
}


def tell(fact: Observation | Transition) -> str:
    """One line for people, in the order: who says it, what, the details."""
    if isinstance(fact, Transition):
        return _tell_transition(fact)
    attempt = f", run {fact.attempt}" if fact.attempt is not None and fact.attempt > 1 else ""
    if fact.source is Source.RECEIPT:
        if fact.what == "end":
            noted = f"; signals noted: {', '.join(fact.signals)}" if fact.signals else ""
            return f"the node: the command {fact.ending}{attempt}{noted}{'' if fact.clean else '; not final alone'}"
        if fact.what == "refused":
            by = f"; the job is that of {fact.holder}" if fact.holder else ""
            return f"the node: a further run was refused{_of(fact.native_id)}{by}"
        return _RECEIPTS.get(fact.what, f"the node: {fact.what}") + attempt + _of(fact.native_id)
    if fact.source is Source.ABSENCE:
        return _ABSENCES.get(fact.what, fact.what)
    if fact.source is Source.ACT:
        return f"we asked to {fact.what}, and it was acknowledged"
    if fact.source is Source.SUBMISSION:
        return f"the scheduler {fact.what} the job{_of(fact.native_id)}" + (f": {fact.reason}" if fact.reason else "")
    who = {Source.QUEUE: "the queue", Source.ACCOUNTING: "accounting"}.get(fact.source, "the server")
    shown = fact.native_state or (str(fact.state) if fact.state else "nothing that is understood")
    known = f" ({fact.state})" if fact.state and fact.native_state else ""
    over = f", over: {fact.ending}" if fact.ended and fact.ending else ", over" if fact.ended else ""
    why = f", {fact.reason}" if fact.reason else ""
    return f"{who}: {shown}{known}{attempt}{over}{why}"


def _of(native_id: Any) -> str:
    return f" as {native_id}" if native_id else ""


def _tell_transition(fact: Transition) -> str:
    by = f" by {fact.by}" if fact.by else ""
    unseen = " (not seen, but passed)" if fact.synthesised else ""
    ending = f": {fact.ending}" if fact.ending else ""
    return f"→ {fact.state}{by}{ending}{unseen}"
