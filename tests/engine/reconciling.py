"""Observations in short, and a player that folds them while a clock runs."""

from __future__ import annotations

from collections.abc import Sequence

from jobyard.evidence import JobFacts, Terms
from jobyard.job import By, Cause, Ending, JobState, Observation, Source, Transition, Usage
from jobyard.reconcile import reconcile

T0 = 1_000_000.0
TERMS = Terms(submitted_at=T0)
RERUNNABLE = Terms(submitted_at=T0, rerunnable=True)
DONE, FAILED, CANCELLED = JobState.DONE, JobState.FAILED, JobState.CANCELLED
QUEUED, HELD, RUNNING, SUSPENDED = JobState.QUEUED, JobState.HELD, JobState.RUNNING, JobState.SUSPENDED
Step = Observation | float


def accepted(native_id: str = "7", at: float = T0 + 1) -> Observation:
    return Observation(source=Source.SUBMISSION, at=at, what="accepted", native_id=native_id)


def receipt(what: str, attempt: int = 1, *, at: float = T0 + 10, native_id: str | None = "7") -> Observation:
    return Observation(source=Source.RECEIPT, at=at, what=what, attempt=attempt, native_id=native_id)


def begin(attempt: int = 1, *, at: float = T0 + 10, native_id: str | None = "7") -> Observation:
    return receipt("begin", attempt, at=at, native_id=native_id)


def refused(native_id: str = "7", *, attempt: int = 2, at: float = T0 + 40, holder: str | None = None) -> Observation:
    return Observation(source=Source.RECEIPT, at=at, what="refused", attempt=attempt, native_id=native_id, holder=holder)


def end(
    code: int | str | None,
    *signals: str,
    attempt: int = 1,
    clean: bool | None = None,
    cause: Cause = Cause.EXITED,
    aborted: bool = False,
    core: bool = False,
    began: float = T0 + 10,
    ended: float = T0 + 20,
) -> Observation:
    """An end receipt: an exit code or a signal's name; not clean where signals are noted, or where it died of another's signal."""
    own = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSYS", "SIGPIPE"}
    alone = not signals and (not isinstance(code, str) or code in own)
    done = code == 0 and cause is Cause.EXITED
    ending = Ending(
        state=DONE if done else FAILED,
        cause=cause,
        exit_code=code if isinstance(code, int) else None,
        signal=code if isinstance(code, str) else None,
        core_dumped=core,
        aborted=aborted,
        usage=Usage(wall_s=ended - began, user_s=0.5),
        began_at=None if aborted else began,
        ended_at=ended,
        host="node1",
        attempts=attempt,
    )
    return Observation(
        source=Source.RECEIPT,
        at=ended,
        what="end",
        attempt=attempt,
        native_id="7",
        ending=ending,
        clean=alone if clean is None else clean,
        signals=signals,
    )


def row(
    state: JobState | None,
    *,
    attempt: int | None = None,
    source: Source = Source.QUEUE,
    by: By | None = None,
    reason: str | None = None,
    native_state: str | None = None,
    at: float = T0 + 30,
    native_id: str = "7",
    ending: Ending | None = None,
) -> Observation:
    """The scheduler lists the job, and not as over."""
    return Observation(
        source=source,
        at=at,
        what="row",
        state=state,
        attempt=attempt,
        by=by,
        reason=reason,
        native_state=native_state,
        native_id=native_id,
        ending=ending,
    )


def over(
    cause: Cause | None,
    code: int | str | None = None,
    *,
    attempt: int | None = None,
    source: Source = Source.QUEUE,
    at: float = T0 + 31,
    began: float | None = None,
    native_id: str = "7",
    state: JobState | None = None,
    aborted: bool = False,
) -> Observation:
    """The scheduler says that the job is over; the cause None: and no more than that."""
    known = CANCELLED if cause is Cause.CANCELLED else DONE if cause is Cause.EXITED and code == 0 else FAILED
    ending = None
    if cause is not None:
        ending = Ending(
            state=known,
            cause=cause,
            exit_code=code if isinstance(code, int) else None,
            signal=code if isinstance(code, str) else None,
            aborted=aborted,
            began_at=began,
            usage=Usage(native={"record": "yes"}),
        )
    return Observation(
        source=source, at=at, what="row", state=state or known, attempt=attempt, native_id=native_id, ended=True, ending=ending
    )


def account(
    cause: Cause | None,
    code: int | str | None = None,
    *,
    attempt: int | None = None,
    began: float | None = None,
    at: float = T0 + 32,
    native_id: str = "7",
) -> Observation:
    return over(cause, code, attempt=attempt, source=Source.ACCOUNTING, at=at, began=began, native_id=native_id)


def nothing(what: str = "absent", *, at: float = T0 + 33) -> Observation:
    return Observation(source=Source.ABSENCE, at=at, what=what)


def act(what: str, *, at: float = T0 + 15) -> Observation:
    return Observation(source=Source.ACT, at=at, what=what)


ABSENT, UNACCOUNTED, LOOKED = nothing("absent"), nothing("unaccounted"), nothing("no_receipt")
UNTOLD = nothing("untold")  # an answer of accounting without the job, which was not whole


def play(
    steps: Sequence[Step], terms: Terms = TERMS, *, facts: JobFacts | None = None, now: float = T0 + 1000, clock_s: float = 50.0
) -> tuple[JobFacts, list[Transition]]:
    """Fold step by step; a number lets the monotonic clock run on by so many seconds, and time alone decide."""
    facts = JobFacts(terms=terms, at=T0) if facts is None else facts
    history: list[Transition] = []
    for step in steps:
        if isinstance(step, float):
            clock_s += step
            now += step
            facts, made = reconcile(facts, [], now, clock_s=clock_s)
        else:
            facts, made = reconcile(facts, [step], now, clock_s=clock_s)
        history += made
    return facts, history


def absent(*waits: float) -> list[Step]:
    """Good answers without the job, with these times between them."""
    return [step for wait in waits for step in (wait, ABSENT)]


def states(history: Sequence[Transition]) -> list[JobState]:
    return [one.state for one in history]
