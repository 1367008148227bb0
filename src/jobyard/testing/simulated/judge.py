"""The verdict of the engine against the truth of the world: what must not differ, by the invariants of the design."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...job import Cause, Ending, JobState, signal_name
from .scheduler import SimulatedScheduler
from .world import Run, SimulatedJob, Task

__all__ = ["judge"]


def judge(
    ending: Ending, task: Task, copies: Sequence[SimulatedJob], scheduler: SimulatedScheduler, *, read: bool, ours: bool
) -> Iterator[str]:
    """What is wrong with this verdict on one job of ours; nothing: it may stand.

    ``copies``: the scheduler's jobs with its token and number, in order (more than one where it was sent twice). ``read``: an end
    receipt of its last run was visible when the verdict was given. ``ours``: we cancelled it, and that was acknowledged.
    """
    run = task.runs[-1] if task.runs else None
    told = [word for job in copies for word in scheduler.shown.get((job.native_id, job.submitted_at), ())]
    cancelled = any(job.cancelled for job in copies)
    yield from _state(ending, run, told, read=read)
    yield from _how(ending, run)
    yield from _cause(
        ending, task, run, cancelled=cancelled, quiet=cancelled and not ours and not scheduler.world.style.says_cancelled
    )
    if ending.cause is Cause.LOST:
        if read:
            yield "it is called lost, though its end receipt was there"
        own = [job for job in copies if task.holder in (None, job.native_id)]  # what is said of a refused copy is not about the job
        known = [word for job in own for word in scheduler.known.get((job.native_id, job.submitted_at), ())]
        if any(word is not None for word in known):
            yield f"it is called lost, though the scheduler said how it ended: {known}"
        if scheduler.world.style.accounting and any(job.over for job in copies):
            yield "it is called lost, though accounting knows it"
    hosts = {one.host for job in copies for one in job.runs}
    if ending.host is not None and ending.host not in hosts:
        yield f"it ran on {sorted(hosts)}, not on {ending.host}: that is another job's ending"
    if not task.rerunnable and len(task.runs) > 1:
        yield f"its command ran {len(task.runs)} times"


def _state(ending: Ending, run: Run | None, told: Sequence[Ending | None], *, read: bool) -> Iterator[str]:
    if ending.state is not JobState.DONE:
        return
    if run is None or run.exit_code != 0 or run.cause is not Cause.EXITED:
        yield f"it is called a success, and is none: {run}"
    if not read and not any(word is not None and word.exit_code == 0 for word in told):
        yield "it is called a success, and nothing that arrived said so"


def _how(ending: Ending, run: Run | None) -> Iterator[str]:
    if run is None:
        if ending.exit_code is not None or ending.signal is not None:
            yield f"it never ran, and is said to have ended by {ending.exit_code} {ending.signal}"
        if not ending.aborted:
            yield "it never ran, and is not called aborted"
        return
    if ending.exit_code is not None and ending.exit_code != run.exit_code:
        yield f"its exit code was {run.exit_code} (signal {run.signal}), not {ending.exit_code}"
    if ending.signal is not None and (run.signal is None or ending.signal != signal_name(run.signal)):
        yield f"its signal was {run.signal} (exit code {run.exit_code}), not {ending.signal}"
    if ending.aborted and not run.aborted and ending.cause is not Cause.LOST:
        yield "its command began, and it is called aborted"
    if ending.core_dumped != run.core and ending.signal is not None and ending.core_dumped:
        yield "it dumped no core"


def _cause(ending: Ending, task: Task, run: Run | None, *, cancelled: bool, quiet: bool) -> Iterator[str]:
    # quiet: nobody but us knows that it was cancelled, and our note of it was lost in a crash
    cause, true = ending.cause, run.cause if run is not None else None
    if cause in (Cause.LOST, Cause.UNKNOWN):
        return
    if cause is Cause.CANCELLED:
        if not cancelled:
            yield "nobody cancelled it"
        if true is Cause.EXITED and run is not None and run.exit_code == 0:
            yield "it had ended well before it was cancelled"
    elif cause in (Cause.WALLTIME, Cause.MEMORY, Cause.NODE, Cause.NOT_STARTED):
        if true is not cause:
            yield f"the cause was {true}, not {cause}"
    elif cause is Cause.REQUEUED:
        if true is not Cause.REQUEUED and not any(name.endswith(".refused.json") for name in task.receipts):
            yield f"it was not run again: {true}"
    elif cause is Cause.EXITED:
        if true is not Cause.EXITED and not (true is Cause.CANCELLED and quiet):
            yield f"it did not end by itself: {true}"
    else:
        yield f"nothing here ends so: {cause}"
