"""Observations to transitions: the only place that decides a job's state. Pure: no I/O, no clock of its own.

docs/states.md says every rule in words and tables. In short: *how* a job ended (exit code, signal, core, usage, a start that
failed) its receipt knows best; *why* it was cut short (cancelled, walltime, memory, node) the scheduler and our own acts do.
A receipt that is ``clean`` is final alone; any other waits for the scheduler's word that the job is over, or runs again.
Without a receipt the scheduler's word decides; without either, after a grace counted over good answers only, the job is lost.

``reconcile`` takes one observation after the other and decides after each, so folding in pieces is folding at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .evidence import JobFacts, Run, Seen, Terms, Word
from .job import By, Cause, Ending, JobState, Observation, Source, Transition
from .verdict import GRACE_S, decide, effective, settled, wants_accounting

__all__ = ["JobFacts", "Needs", "Terms", "follow", "needs", "notable", "reconcile"]

MOST_REFUSED = 8  # refused runs that are remembered
GAP_S = 40.0  # what the time between two good answers counts at most: queries that failed between them count nothing

CLOCK_SET_BACK_S = 60.0  # an act that lies so far ahead was noted before the clock was set back

_replace = msgspec.structs.replace
_STAGES = {
    "stage_in": JobState.STAGING_IN,
    "running": JobState.RUNNING,
    "stage_out": JobState.STAGING_OUT,
    "cleaning": JobState.CLEANING,
}
_RANK = {JobState.STAGING_IN: 1, JobState.RUNNING: 2, JobState.SUSPENDED: 2, JobState.STAGING_OUT: 3, JobState.CLEANING: 4}
_IDLE = frozenset({JobState.QUEUED, JobState.HELD})


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What would bring a job's state forward; nothing of it once the state is final."""

    queue: bool = False  # ask the queue
    accounting: bool = False  # ask accounting
    receipts: bool = False  # look into the job's folder now; a look that finds nothing is ``no_receipt``
    until_s: float | None = None  # reconcile again, without observations if need be, when the monotonic clock shows this


def reconcile(
    facts: JobFacts, observations: Sequence[Observation], now: float, *, clock_s: float, more: bool = False
) -> tuple[JobFacts, list[Transition]]:
    """Fold observations, in the order in which they were made, into what is known; the transitions that follow.

    ``now``: seconds since the epoch. ``clock_s``: seconds of a monotonic clock; only its differences count, and one that
    starts anew (another boot) starts waits anew. Without observations only time has passed. A final state never changes:
    then the facts come back as they are.
    """
    after, transitions, _ = follow(facts, observations, now, clock_s=clock_s, more=more)
    return after, transitions


def follow(
    facts: JobFacts, observations: Sequence[Observation], now: float, *, clock_s: float, more: bool = False
) -> tuple[JobFacts, list[Transition], list[Observation]]:
    """As ``reconcile``, and those of the observations that are worth keeping as evidence (``notable``)."""
    fold = _Fold(facts, now, clock_s)
    kept: list[Observation] = []
    if not observations and not fold.state.final:
        fold.conclude(now)
    before = facts
    for observation in observations:
        after = before
        if not before.state.final:
            fold.take(observation, conclude=not more)
            after = fold.facts()
        if notable(before, after, observation):
            kept.append(observation)
        before = after
    return (*fold.result(), kept)


def notable(before: JobFacts, after: JobFacts, observation: Observation) -> bool:
    """Whether an observation is worth keeping as evidence: it changed what is known, timers apart.

    Of what comes after the end, the words of an end are kept; they change nothing.
    """
    if before.state.final:
        return observation.ended or observation.what in ("end", "refused")
    return observation.source in (Source.ACT, Source.SUBMISSION) or _known(before) != _known(after)


def _known(facts: JobFacts) -> tuple[Any, ...]:
    seen = _replace(facts.seen, absent_clock_s=None, over_clock_s=None, absent_s=0.0)
    return facts.state, facts.by, facts.reason, facts.native_id, facts.seen.absent_clock_s is None, seen


def needs(facts: JobFacts) -> Needs:
    """What the tracker should do next for this job."""
    if facts.state.final:
        return Needs()
    seen, terms = facts.seen, facts.terms
    word = effective(facts)
    over = seen.over_clock_s is not None
    waits = over and terms.receipts and not settled(facts, seen.over_clock_s or 0.0)
    return Needs(
        queue=word is None,
        accounting=over and wants_accounting(facts),
        receipts=waits,
        until_s=(seen.over_clock_s or 0.0) + terms.settle_s if waits else None,
    )


def _copies(seen: Seen) -> tuple[str, ...]:
    """Native ids of second copies of the submission, which the claim refused; () while the holder is not known."""
    return tuple(one for one in seen.refused if one != seen.holder) if seen.holder else ()


class _Fold:
    """One call of ``reconcile`` at work."""

    def __init__(self, facts: JobFacts, now: float, clock_s: float) -> None:
        self.before = facts
        self.seen = facts.seen
        self.state, self.by, self.at, self.reason, self.ending = facts.state, facts.by, facts.at, facts.reason, facts.ending
        self.native_id = facts.native_id
        self.now, self.clock_s = now, clock_s
        self.transitions: list[Transition] = []
        if not facts.state.final:
            self.reset_clocks()

    def reset_clocks(self) -> None:
        """Clocks of another boot, or from before they were set back, measure nothing."""
        for name in ("over_clock_s", "absent_clock_s"):
            since_s = getattr(self.seen, name)
            if since_s is not None and since_s > self.clock_s:
                self.note(**{name: self.clock_s})
        if self.seen.act_at > self.now + CLOCK_SET_BACK_S:
            self.note(act_at=0.0)

    def result(self) -> tuple[JobFacts, list[Transition]]:
        same = not self.transitions and self.seen is self.before.seen and self.reason == self.before.reason
        if same and self.native_id == self.before.native_id:
            return self.before, []
        return self.facts(), self.transitions

    def facts(self) -> JobFacts:
        return JobFacts(
            state=self.state,
            at=self.at,
            by=self.by,
            reason=self.reason,
            native_id=self.native_id,
            ending=self.ending,
            terms=self.before.terms,
            seen=self.seen,
        )

    def note(self, **changes: Any) -> None:
        new = _replace(self.seen, **changes)
        if new != self.seen:
            self.seen = new

    # what comes in

    def take(self, one: Observation, *, conclude: bool = True) -> None:
        if one.source is Source.RECEIPT:
            self.receipt(one)
        elif one.source in (Source.QUEUE, Source.ACCOUNTING):
            self.row(one)
        elif one.source is Source.ABSENCE:
            self.absence(one)
        elif one.source is Source.ACT:
            self.act(one)
        elif one.source is Source.SUBMISSION:
            self.submission(one)
        if conclude and not self.state.final:
            self.conclude(one.at)

    def submission(self, one: Observation) -> None:
        if one.what == "refused":
            self.finish(
                Ending(
                    state=JobState.FAILED,
                    cause=Cause.REJECTED,
                    aborted=True,
                    message=one.reason or "",
                    submitted_at=self.before.terms.submitted_at,
                ),
                one.at,
            )
            return
        if one.native_id is not None and self.native_id is None:
            self.native_id = one.native_id
        if self.state is JobState.NEW:
            if self.before.terms.held:
                self.go(JobState.HELD, one.at, By.USER)
            else:
                self.go(JobState.QUEUED, one.at)

    def receipt(self, one: Observation) -> None:
        if one.what == "refused":
            self.refusal(one)
            return
        known, attempt = self.seen, one.attempt or 1
        if attempt < known.begun or (attempt == known.begun and known.end is not None):
            return  # of an earlier run, or after its own end: late, and void
        if attempt > known.begun:
            self.begin(one, attempt)
        if one.what == "end" and one.ending is not None:
            self.end(one, one.ending, attempt)
        else:
            stage = _STAGES.get(one.what, JobState.STAGING_IN if self.before.terms.stages_in else JobState.RUNNING)
            if self.seen.stage is None or _RANK[stage] > _RANK[self.seen.stage]:
                self.note(stage=stage)
            if one.what == "begin" and self.seen.began_at is None:
                self.note(began_at=one.at)
            if attempt > self.seen.void:
                self.stage(one)
        if self.seen is not known and self.seen.absent_s:  # a sign of life
            self.note(absent_s=0.0)

    def refusal(self, one: Observation) -> None:
        if one.holder is not None and self.seen.holder is None:
            self.note(holder=one.holder)
        if one.native_id is not None and one.native_id not in self.seen.refused:
            self.note(refused=(*self.seen.refused, one.native_id)[-MOST_REFUSED:])
        self.second_copy()

    def begin(self, one: Observation, attempt: int) -> None:
        """The first sign of a newer run: whatever ended an older one is void."""
        again = self.seen.begun > self.seen.void
        if again and self.before.terms.rerunnable and not self.state.waiting:
            self.go(JobState.QUEUED, one.at, synthesised=True)
        began_at = one.at if one.what == "begin" else None
        changes: dict[str, Any] = {"begun": attempt, "stage": None, "began_at": began_at, "end": None, "requeued": False}
        if one.native_id is not None:
            changes["holder"] = one.native_id
        if attempt > 1:  # words that were not numbered may speak of the earlier run; they will be said again
            for name in ("queue", "account"):
                word = getattr(self.seen, name)
                if word is not None and (word.attempt is None or word.attempt < attempt):
                    changes[name] = None
            changes.update(over_clock_s=None, looked=False, unaccounted=False)
        self.note(**changes)
        self.second_copy()

    def end(self, one: Observation, ending: Ending, attempt: int) -> None:
        began_at = ending.began_at if ending.began_at is not None else self.seen.began_at
        self.note(end=Run(attempt, ending, one.clean, one.signals), began_at=began_at)
        if self.state.waiting and attempt > self.seen.void and not ending.aborted:
            self.go(JobState.RUNNING, began_at if began_at is not None else one.at, synthesised=True)

    def second_copy(self) -> None:
        """A copy's words are not the job's; where it was the copy that was followed, the holder is followed from now on."""
        copies = _copies(self.seen)
        if self.native_id in copies:
            self.native_id = self.seen.holder
            self.note(absent_s=0.0, absent_clock_s=None, live=False)
        for name in ("queue", "account"):
            word = getattr(self.seen, name)
            if word is not None and word.native_id in copies:
                self.note(**{name: None, "over_clock_s": None, "looked": False, "unaccounted": False})

    def stage(self, one: Observation) -> None:
        stage = self.seen.stage
        if stage is None or self.state is stage:
            return
        if self.state is JobState.SUSPENDED and stage is JobState.RUNNING:
            return
        if self.state.waiting or _RANK[stage] > _RANK[self.state]:
            self.go(stage, one.at)

    def row(self, one: Observation) -> None:
        seen = self.seen
        if one.native_id is not None and one.native_id in _copies(seen):
            return
        if not one.ended and one.ending is not None and one.ending.cause is Cause.NODE:  # of a run, not of the job
            self.note(cut=Cause.NODE)
        if one.attempt is not None and one.attempt < seen.attempt:  # of an earlier run
            if one.ended:  # of the newest it says that there is none: it waited for that one, and went
                what = "absent" if one.source is Source.QUEUE else "unaccounted"
                self.absence(_replace(one, source=Source.ABSENCE, what=what))
            return
        if one.native_state is not None and one.native_state != seen.native_state and one.source is Source.QUEUE:
            self.note(native_state=one.native_state)
        if one.attempt is not None and one.attempt > seen.attempt:
            self.note(attempt=one.attempt)
        if one.ended:
            word = Word(one.state, one.attempt, one.ending, one.native_id, one.reason)
            if one.source is Source.QUEUE:
                self.note(queue=word, live=False)
            else:
                self.note(account=word)
            return
        if one.source is Source.QUEUE:
            self.sighting(one)

    def sighting(self, one: Observation) -> None:
        """The queue lists the job, and not as over."""
        for name in ("queue", "account"):
            word = getattr(self.seen, name)
            if word is not None and one.attempt is not None and word.attempt is not None and word.attempt < one.attempt:
                self.note(**{name: None})
        if self.seen.queue is not None:
            return  # the same run, after the queue's own word that it is over: an old answer
        self.note(live=True, absent_s=0.0, absent_clock_s=None)
        if one.state in _IDLE:
            self.idle(one)
        elif one.state is JobState.SUSPENDED:
            self.suspended(one)
        elif one.state is JobState.RUNNING:
            self.running(one)

    def idle(self, one: Observation) -> None:
        seen, state, by = self.seen, one.state or JobState.QUEUED, None
        if state is JobState.HELD:
            by = one.by or (self.by if self.state is JobState.HELD else By.SYSTEM)
        if self.state.waiting:
            self.reason = one.reason
            if one.at >= seen.act_at and (self.state, self.by) != (state, by):
                self.go(state, one.at, by)
            return
        newer = one.attempt is not None and one.attempt > max(seen.begun, 1)
        again = newer or (seen.requeued and one.at >= seen.act_at)
        if again and (self.before.terms.rerunnable or seen.begun == 0):
            self.note(stage=None, void=seen.begun, ran=False, suspended=False, requeued=False)
            self.reason = one.reason
            self.go(state, one.at, by)

    def running(self, one: Observation) -> None:
        terms = self.before.terms
        if not self.seen.ran:
            self.note(ran=True)
        if self.state is JobState.SUSPENDED:
            if (terms.shows_suspended and one.at >= self.seen.act_at) or not self.seen.suspended:
                self.note(suspended=False)
                self.go(JobState.RUNNING, one.at)
        elif self.state.waiting and not (terms.receipts and terms.stages_in):
            self.go(JobState.RUNNING, one.at)

    def suspended(self, one: Observation) -> None:
        self.note(ran=True)
        if self.state is JobState.SUSPENDED:
            if one.by is not None and one.by is not self.by:
                self.go(JobState.SUSPENDED, one.at, one.by)
        elif one.at >= self.seen.act_at and (
            self.state is JobState.RUNNING or (self.state.waiting and not self.before.terms.stages_in)
        ):
            self.go(JobState.SUSPENDED, one.at, one.by or By.SYSTEM)

    def absence(self, one: Observation) -> None:
        seen = self.seen
        if one.what == "absent":
            if seen.absent_clock_s is None:
                self.note(absent_clock_s=self.clock_s, live=False)
            else:
                gap = min(max(self.clock_s - seen.absent_clock_s, 0.0), GAP_S)
                # After a break accounting is asked anew: what it did not know then says nothing now.
                unaccounted = seen.unaccounted and self.clock_s - seen.absent_clock_s <= GAP_S
                self.note(absent_s=seen.absent_s + gap, absent_clock_s=self.clock_s, live=False, unaccounted=unaccounted)
        elif one.what in ("unaccounted", "untold") and seen.over_clock_s is not None:
            # Accounting that answers and cannot tell is switched off, or damaged. Who cancelled the job knows most without it.
            early = one.what == "unaccounted" or seen.cancelled
            wait_s = self.before.terms.accounting_late_s if early else GRACE_S
            # Of a job that is not listed, time counts in which the queue answered: after a break the next answer may tell.
            waited_s = self.clock_s - seen.over_clock_s if early or seen.absent_clock_s is None else seen.absent_s
            if waited_s >= wait_s:
                self.note(unaccounted=True)
        elif one.what == "no_receipt" and seen.over_clock_s is not None:
            self.note(looked=True)

    def act(self, one: Observation) -> None:
        if one.what == "cancel":
            self.note(cancelled=True)
            return
        if one.at <= self.seen.act_at:
            return  # told before
        if one.what == "hold" and self.state in (JobState.NEW, JobState.QUEUED):
            self.go(JobState.HELD, one.at, By.USER)
        elif one.what == "hold" and self.state is JobState.HELD and self.by is By.SYSTEM:
            self.go(JobState.HELD, one.at, By.BOTH)
        elif one.what == "release" and self.state is JobState.HELD:
            if self.by is By.BOTH:
                self.go(JobState.HELD, one.at, By.SYSTEM)
            elif self.by is not By.SYSTEM:
                self.go(JobState.QUEUED, one.at)
        elif one.what == "suspend" and self.state is JobState.RUNNING:
            self.note(suspended=True)
            self.go(JobState.SUSPENDED, one.at, By.USER)
        elif one.what == "resume" and self.state is JobState.SUSPENDED:
            self.note(suspended=False)
            self.go(JobState.RUNNING, one.at)
        elif one.what == "requeue":
            self.note(requeued=True)
        if one.what in ("hold", "release", "suspend", "resume", "requeue"):
            self.note(act_at=one.at)

    # what follows

    def conclude(self, at: float) -> None:
        """Finish the job if the evidence suffices; else start or stop the waits."""
        facts = self.facts()
        over = effective(facts) is not None or self.seen.absent_clock_s is not None
        if over and self.seen.over_clock_s is None:
            self.note(over_clock_s=self.clock_s)
            facts = self.facts()
        elif not over and self.seen.over_clock_s is not None:
            self.note(over_clock_s=None, looked=False, unaccounted=False)
            facts = self.facts()
        ending = decide(facts, self.clock_s)
        if ending is not None:
            self.finish(ending, at)

    def finish(self, ending: Ending, at: float) -> None:
        seen = self.seen
        began = seen.begun > 0 or ending.began_at is not None or ending.exit_code is not None or ending.signal is not None
        if 0 < seen.begun <= seen.void:  # it waited to run again
            began = False
        if self.state.waiting and began and not ending.aborted and ending.cause is not Cause.REJECTED:
            self.go(JobState.RUNNING, ending.began_at if ending.began_at is not None else at, synthesised=True)
        self.ending = ending
        self.go(ending.state, ending.ended_at if ending.ended_at is not None else at, ending=ending)

    def go(
        self, state: JobState, at: float, by: By | None = None, *, ending: Ending | None = None, synthesised: bool = False
    ) -> None:
        """Make a transition, and before it those that must have been passed."""
        rejected = ending is not None and ending.cause is Cause.REJECTED
        if self.state is JobState.NEW and state not in _IDLE and not rejected:
            self.step(JobState.QUEUED, self.before.terms.submitted_at or at, synthesised=True)
        passed = state in (JobState.SUSPENDED, JobState.STAGING_OUT, JobState.CLEANING)
        if passed and (self.state.waiting or self.state is JobState.STAGING_IN):
            began_at = self.seen.began_at
            self.step(JobState.RUNNING, began_at if began_at is not None else at, synthesised=True)
        self.step(state, at, by, ending=ending, synthesised=synthesised)

    def step(
        self, state: JobState, at: float, by: By | None = None, *, ending: Ending | None = None, synthesised: bool = False
    ) -> None:
        self.at = max(self.at, min(at, self.now))  # clocks differ and jump; a history never goes back
        if synthesised or state not in _IDLE:
            self.reason = None
        self.state, self.by = state, by
        self.transitions.append(
            Transition(state=state, at=self.at, by=by, ending=ending, reason=self.reason, synthesised=synthesised)
        )
