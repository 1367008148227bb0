"""Slurm's words for what a job is at and how it ended (squeue(1), sacct(1), "JOB STATE CODES"), and what they are to us. Pure."""

from __future__ import annotations

import re

import msgspec

from ...job import By, Cause, Ending, JobState, Usage, signal_name

__all__ = ["BY_ITSELF", "HELD_BY_USER", "SIGNALING", "STOPPED", "Said", "ending_of", "exit_of", "said"]

HELD_BY_USER = "JobHeldUser"
BY_ITSELF = "cancelled by Slurm itself before it began"  # accounting names nobody; its reason is not kept by all releases

SIGNALING = "SIGNALING"  # a signal is on its way: the word hides whether the job is stopped, so it is no state
STOPPED = "STOPPED"

# States of jobs that are not over: ours, and who holds or suspends it.
_LIVE: dict[str, tuple[JobState, By | None]] = {
    "PENDING": (JobState.QUEUED, None),
    "CONFIGURING": (JobState.QUEUED, None),  # nodes are being made ready
    "POWER_UP_NODE": (JobState.QUEUED, None),
    "REQUEUED": (JobState.QUEUED, None),  # a run is over, the job is not
    "REQUEUE_FED": (JobState.QUEUED, None),
    "REQUEUE_HOLD": (JobState.HELD, By.SYSTEM),
    "SPECIAL_EXIT": (JobState.HELD, By.SYSTEM),
    "RESV_DEL_HOLD": (JobState.HELD, By.SYSTEM),
    "RUNNING": (JobState.RUNNING, None),
    "RESIZING": (JobState.RUNNING, None),
    "STAGE_OUT": (JobState.RUNNING, None),
    "COMPLETING": (JobState.RUNNING, None),  # its processes are being ended; the final state follows
    STOPPED: (JobState.SUSPENDED, By.USER),  # by a signal of its owner's
    "SUSPENDED": (JobState.SUSPENDED, By.SYSTEM),  # by an operator, or for another job
}
# States of jobs that are over.
_OVER: dict[str, tuple[JobState, Cause]] = {
    "COMPLETED": (JobState.DONE, Cause.EXITED),
    "FAILED": (JobState.FAILED, Cause.EXITED),
    "CANCELLED": (JobState.CANCELLED, Cause.CANCELLED),
    "TIMEOUT": (JobState.FAILED, Cause.WALLTIME),
    "DEADLINE": (JobState.FAILED, Cause.WALLTIME),
    "OUT_OF_MEMORY": (JobState.FAILED, Cause.MEMORY),
    "NODE_FAIL": (JobState.FAILED, Cause.NODE),
    "BOOT_FAIL": (JobState.FAILED, Cause.NODE),
    "PREEMPTED": (JobState.FAILED, Cause.PREEMPTED),
    "LAUNCH_FAILED": (JobState.FAILED, Cause.NOT_STARTED),
    "RECONFIG_FAIL": (JobState.FAILED, Cause.NODE),
}
# Reasons of pending jobs that are a hold (squeue(1), "JOB REASON CODES").
_HELD_BY_SYSTEM = frozenset({
    "JobHeldAdmin", "BeginTime", "Dependency", "DependencyNeverSatisfied", "JobHoldMaxRequeue", "DeadLine", "SystemFailure",
    "ReservationDeleted",
})  # fmt: skip
_NO_REASON = frozenset({"", "None", "(null)", "N/A", "NonZeroExitCode"})
# The batch step could not be set up: no output file, no user, ... Slurm shows the low bits of its own error number 4021
# (ESLURMD_IO_ERROR) as a signal, which no process dies of by chance.
_IO_ERROR_SIGNAL = 53

_EXIT = re.compile(r"([0-9]{1,10}):([0-9]{1,3})", re.ASCII)


class Said(msgspec.Struct, frozen=True):
    """What a state's word means. ``cause``: of jobs that are over."""

    state: JobState | None
    by: By | None = None
    cause: Cause | None = None


def said(word: str, reason: str) -> Said:
    """The meaning of a state with its reason; ``state`` None where the word is not known."""
    word = word.split(" ", 1)[0]  # "CANCELLED by 1001"
    over = _OVER.get(word)
    if over is not None:
        state, cause = over
        if word == "CANCELLED" and reason == "DependencyNeverSatisfied":  # by Slurm: --kill-on-invalid-dep
            return Said(JobState.FAILED, None, Cause.DEPENDENCY)
        if reason == BY_ITSELF:
            return Said(JobState.FAILED, None, Cause.REJECTED)
        return Said(state, None, cause)
    state_by = _LIVE.get(word)
    if state_by is None:
        return Said(None)
    if word == "PENDING":
        if reason == HELD_BY_USER:
            return Said(JobState.HELD, By.USER)
        if reason in _HELD_BY_SYSTEM or "held" in reason.lower().split():  # "launch failed requeued held"
            return Said(JobState.HELD, By.SYSTEM)
    return Said(*state_by)


def exit_of(text: str) -> tuple[int | None, int | None]:
    """Exit code and signal: of ``3:0``, or of the wait status that squeue of 22.05 prints. (None, None): not told."""
    if match := _EXIT.fullmatch(text):
        code, signal = int(match[1]), int(match[2])
    elif re.fullmatch(r"[0-9]{1,10}", text, re.ASCII):
        status = int(text)
        signal, code = status & 0x7F, status >> 8
    else:
        return None, None
    if signal:
        return None, signal
    return (code, None) if code < 256 else (None, None)


def ending_of(
    meaning: Said,
    word: str,
    reason: str,
    exit_text: str,
    *,
    usage: Usage | None = None,
    submitted_at: float | None = None,
    began_at: float | None = None,
    ended_at: float | None = None,
    host: str | None = None,
    attempt: int | None = None,
    exact: bool = True,
) -> Ending | None:
    """The ending that a row of a job that is over tells; None for one that is not.

    ``exact``: False where 128 may have been taken off the exit code; then it stands in the message alone.
    """
    if meaning.cause is None or meaning.state is None:
        return None
    code, signal = exit_of(exit_text)
    state, cause, message = meaning.state, meaning.cause, "" if reason in _NO_REASON else reason
    aborted = began_at is None
    if cause is Cause.EXITED:
        if state is JobState.DONE:
            code, signal = 0, None
        elif signal == _IO_ERROR_SIGNAL:
            code, signal, cause, aborted = None, None, Cause.NOT_STARTED, True
            message = "Slurm could not set up the batch script on the node (its output file, its user, or its environment)"
        elif code == 0:
            code, cause = None, Cause.UNKNOWN  # failed with exit code 0: not what the command said
            message = message or ("" if exact else "exit code 128, or Slurm's own failure: its accounting shows 0")
        elif code is not None and not exact and code < 128:
            message, code = f"exit code {code} or {code + 128}: Slurm's accounting takes 128 off those above", None
        if signal is not None and (reason == "JobLaunchFailure" or reason.startswith("RaisedSignal:")):
            message = ""  # said by the signal itself
    else:
        code = signal = None  # what Slurm shows then is its own doing
    by = word.partition(" by ")[2]
    if cause is Cause.CANCELLED and by:
        message = f"cancelled by uid {by}"
    return Ending(
        state=state,
        cause=cause,
        exit_code=code,
        signal=None if signal is None else signal_name(signal),
        aborted=aborted,
        message=message,
        usage=usage or Usage(),
        submitted_at=submitted_at,
        began_at=began_at,
        ended_at=ended_at,
        host=host,
        attempts=attempt or 1,
    )
