"""Whether the evidence for a job's end suffices, and which ending it makes. Pure; a part of ``reconcile`` (docs/states.md)."""

from __future__ import annotations

from .evidence import JobFacts, Run, Word
from .job import Cause, Ending, JobState, Usage

__all__ = ["GRACE_S", "decide", "effective", "settled", "wants_accounting"]

GRACE_S = 120.0  # of good answers without the job, before it is lost
SHORT_GRACE_S = 30.0  # the same where an end receipt is there, and only the scheduler's word is missing
SAME_RUN_S = 2.0  # how far the clocks of a node and of the scheduler's host may be apart

# Causes that only the scheduler can know; they explain the ending whatever the command did about it.
CUTS = frozenset(
    {Cause.WALLTIME, Cause.MEMORY, Cause.CPU_TIME, Cause.NODE, Cause.PREEMPTED, Cause.DEPENDENCY, Cause.REJECTED, Cause.REQUEUED}
)
_TO_END = frozenset({"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGALRM", "SIGXCPU"})  # signals by which a scheduler ends a job
_NEVER_STARTED = frozenset({125, 126, 127})  # the batch script could not run the shepherd


def decide(facts: JobFacts, clock_s: float) -> Ending | None:
    """The ending, once the evidence suffices; None before."""
    seen = facts.seen
    end = seen.end
    if end is not None and end.clean:
        return _from_receipt(facts, end, None, end.ending.cause)
    word = effective(facts)
    if word is None and seen.absent_clock_s is None:
        return None
    if not settled(facts, clock_s):
        return None
    if wants_accounting(facts):
        return None
    if word is None:
        known = seen.cancelled or _refused(facts, None)
        if not known and seen.absent_s < (GRACE_S if end is None else SHORT_GRACE_S):
            return None
    return _conclude(facts, word)


def effective(facts: JobFacts) -> Word | None:
    """The scheduler's word that this job is over, as far as it says anything of the newest run."""
    queue, account = facts.seen.queue, _accounted(facts)
    if queue is not None and queue.attempt is not None and queue.attempt < facts.seen.attempt:
        queue = None
    if queue is None:
        return account
    return account if account is not None and account.ending is not None and not _complete(queue) else queue


def _accounted(facts: JobFacts) -> Word | None:
    """Accounting's word on the newest run. Not numbered, it may speak of an earlier one while the queue still lists the job."""
    seen, word = facts.seen, facts.seen.account
    if word is None or (seen.live if word.attempt is None else word.attempt < seen.attempt):
        return None
    return word


def settled(facts: JobFacts, clock_s: float) -> bool:
    """Whether receipts that are still to come would have come."""
    seen, terms = facts.seen, facts.terms
    if not terms.receipts or seen.looked:
        return True
    if seen.over_clock_s is not None and clock_s - seen.over_clock_s >= terms.settle_s:
        return True
    word = effective(facts)
    if word is None or seen.end is None:
        return False
    if terms.rerunnable and (word.attempt is None or seen.end.attempt < max(word.attempt, seen.attempt)):
        return False  # a newer run's receipts may lie beside those that were read
    # A word that is numbered, or names what cut the job short, leaves no doubt about which run it speaks of.
    return word.attempt is not None or _cause(word) in CUTS or _cause(word) is Cause.CANCELLED


def wants_accounting(facts: JobFacts) -> bool:
    """Whether accounting's word is missing and can still come."""
    seen, terms = facts.seen, facts.terms
    if not terms.accounting or _accounted(facts) is not None or seen.unaccounted:
        return False
    word = effective(facts)
    if word is not None and _complete(word):
        return False
    # A job cancelled in the queue may have no record at all (Grid Engine).
    return not (seen.cancelled and seen.begun == 0 and not seen.ran)


def _cause(word: Word) -> Cause | None:
    """What the scheduler gives as the cause; None where it says only that the job is over."""
    if word.ending is not None and word.ending.cause is not Cause.UNKNOWN:
        return word.ending.cause
    return Cause.CANCELLED if word.state is JobState.CANCELLED else None


def _complete(word: Word) -> bool:
    cause = _cause(word)
    if cause is Cause.EXITED:
        return word.ending is not None and (word.ending.exit_code is not None or word.ending.signal is not None)
    return cause is not None


def _refused(facts: JobFacts, word: Word | None) -> bool:
    """Whether a later run of this very job was refused, so that the scheduler's word is not about the job's own run."""
    seen, terms = facts.seen, facts.terms
    if not terms.receipts:
        return False
    if (seen.holder or facts.native_id) in seen.refused:
        return True
    if terms.rerunnable or word is None or (word.attempt or 0) <= 1:
        return False
    if seen.begun == 0 and (word.ending is None or word.ending.exit_code != 0):
        return False  # nothing ever began; but an exit 0 may be the refusal's, whose receipt is not seen
    # A second run of a job that may run once can only have been refused, unless the first never got as far as the shepherd.
    return _cause(word) in (None, Cause.EXITED) and not _same_run(facts, word)


def _same_run(facts: JobFacts, word: Word) -> bool:
    """Whether the end receipt and the scheduler's word agree on when the run began."""
    seen = facts.seen
    theirs = word.ending.began_at if word.ending is not None else None
    mine = seen.end.ending.began_at if seen.end is not None and seen.end.ending.began_at is not None else seen.began_at
    if theirs is None or mine is None or abs(mine - theirs) > SAME_RUN_S:
        return False
    if seen.end is None or seen.end.ending.success or word.ending is None or word.ending.exit_code != 0:
        return True
    # A refused run ends with 0. It may have begun within those seconds, but after the end of the run that it followed.
    return seen.end.ending.ended_at is None or theirs < seen.end.ending.ended_at


def _trusted(facts: JobFacts, word: Word | None) -> Run | None:
    """The end receipt, unless it may be of a run before the one that the scheduler speaks of."""
    seen, end = facts.seen, facts.seen.end
    if end is None or not facts.terms.rerunnable or (word is not None and _same_run(facts, word)):
        return end
    newest = max(seen.attempt, (word.attempt or 0) if word is not None else 0)
    if newest > end.attempt:
        return None
    record = word.ending if word is not None and word.attempt is None else None
    known = record is not None and (record.exit_code is not None or record.signal is not None)
    if known and record is not None and not seen.cancelled and end.ending.exit_code == 0 and record.exit_code != 0:
        return None  # a run that trapped the signal of its requeue, and then one that failed
    return end


def _conclude(facts: JobFacts, word: Word | None) -> Ending:
    seen = facts.seen
    said = _cause(word) if word is not None else None
    if _refused(facts, word):
        cause = Cause.CANCELLED if seen.cancelled else seen.cut or Cause.REQUEUED
        return _from_receipt(facts, seen.end, None, cause) if seen.end is not None else _from_word(facts, None, cause)
    end = _trusted(facts, word)
    if end is None:
        return _without_receipt(facts, word, said)
    how = end.ending
    if said in CUTS:
        cause = said
    elif seen.cancelled:
        cause = how.cause if _finished(end, word) else Cause.CANCELLED
    elif said is Cause.CANCELLED:
        cause = said
    elif said is None and how.cause is Cause.EXITED and _cut_short(end):
        cause = Cause.UNKNOWN  # something cut it short, and nobody says what
    else:
        cause = how.cause
    return _from_receipt(facts, end, word, cause)


def _cut_short(end: Run) -> bool:
    """Whether the receipt alone shows that something was to end the command. One that was told to and went with 0 is no success."""
    if end.ending.exit_code == 0:
        return bool(_TO_END.intersection(end.signals))
    return end.ending.signal is not None or bool(end.signals)


def _finished(end: Run, word: Word | None) -> bool:
    """Whether a job that we cancelled was through before that reached it: receipt and scheduler say exit 0, and nothing told it to
    end."""
    record = word.ending if word is not None else None
    agreed = record is not None and record.cause is Cause.EXITED and record.exit_code == 0
    return agreed and end.ending.exit_code == 0 and end.ending.cause is Cause.EXITED and not _TO_END.intersection(end.signals)


def _without_receipt(facts: JobFacts, word: Word | None, said: Cause | None) -> Ending:
    seen, terms = facts.seen, facts.terms
    exit_code = word.ending.exit_code if word is not None and word.ending is not None else None
    if said in CUTS:
        return _from_word(facts, word, said)
    if said is Cause.CANCELLED:
        return _from_word(facts, word, said)
    if seen.cancelled and exit_code != 0:
        return _from_word(facts, word, Cause.CANCELLED)
    if word is None:
        return _from_word(facts, None, Cause.LOST)
    if terms.receipts and seen.begun == 0 and exit_code in _NEVER_STARTED:
        return _from_word(facts, word, Cause.SHEPHERD)
    return _from_word(facts, word, said or Cause.UNKNOWN)


def _state(cause: Cause | None, exit_code: int | None) -> JobState:
    if cause is Cause.CANCELLED:
        return JobState.CANCELLED
    return JobState.DONE if cause is Cause.EXITED and exit_code == 0 else JobState.FAILED


def _from_receipt(facts: JobFacts, end: Run, word: Word | None, cause: Cause) -> Ending:
    """How it ended by the receipt; the scheduler's record fills what the receipt leaves open."""
    seen, how = facts.seen, end.ending
    record = word.ending if word is not None and word.ending is not None else None
    usage = how.usage if record is None else merge_usage(how.usage, record.usage)
    message = " ".join(part for part in (how.message, record.message if record is not None else "") if part)
    return Ending(
        state=_state(cause, how.exit_code),
        cause=cause,
        exit_code=how.exit_code,
        signal=how.signal,
        core_dumped=how.core_dumped,
        aborted=how.aborted,
        message=message,
        usage=usage,
        submitted_at=facts.terms.submitted_at,
        began_at=how.began_at if how.began_at is not None else seen.began_at,
        ended_at=how.ended_at,
        host=how.host,
        attempts=max(seen.begun, end.attempt),
    )


def _from_word(facts: JobFacts, word: Word | None, cause: Cause) -> Ending:
    """All by the scheduler's record; what it does not say stays open."""
    seen, terms = facts.seen, facts.terms
    record = word.ending if word is not None and word.ending is not None else None
    exit_code, signal = (record.exit_code, record.signal) if record is not None else (None, None)
    began_at = record.began_at if record is not None and record.began_at is not None else seen.began_at
    shepherd = cause is Cause.SHEPHERD
    began = seen.begun > 0 or seen.ran or began_at is not None or exit_code is not None or signal is not None
    if record is not None and record.aborted and not seen.begun:
        began = False  # a queue may show as running what it could then not start
    message = record.message if record is not None else ""
    if shepherd:
        message = message or _SHEPHERD[exit_code or 125]
        exit_code = signal = None
    elif cause is Cause.LOST:
        message = "neither queue nor accounting knows the job any more, and it left no receipt"
    elif not message and word is not None and word.reason:
        message = word.reason
    return Ending(
        state=_state(cause, exit_code),
        cause=cause,
        exit_code=exit_code,
        signal=signal,
        core_dumped=record.core_dumped if record is not None else False,
        aborted=shepherd or not began,
        message=message,
        usage=record.usage if record is not None else Usage(),
        submitted_at=terms.submitted_at,
        began_at=began_at,
        ended_at=record.ended_at if record is not None else None,
        host=record.host if record is not None else None,
        attempts=max(seen.begun, 0 if terms.receipts and not terms.rerunnable else seen.attempt, 1),
    )


_SHEPHERD = {
    125: "the batch script could not run the shepherd on the node",
    126: "the shepherd's interpreter on the node cannot be executed",
    127: "the shepherd's interpreter was not found on the node",
}


def merge_usage(first: Usage, second: Usage) -> Usage:
    """What the first leaves open is taken from the second; ``native`` is the second's, the first's names on top."""
    names = [name for name in Usage.__struct_fields__ if name != "native"]
    fields = {name: getattr(first, name) if getattr(first, name) is not None else getattr(second, name) for name in names}
    return Usage(**fields, native={**second.native, **first.native})
