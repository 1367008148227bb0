"""The engine's states and endings in PSI/J's words."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import jobyard

from .job_state import JobState
from .job_status import JobStatus

if TYPE_CHECKING:
    from jobyard.fronts import Transition

__all__ = ["STATES", "exit_code", "signal_number", "statuses"]

STATES = {
    jobyard.JobState.NEW: JobState.QUEUED,  # accepted by the engine, not yet by the scheduler
    jobyard.JobState.QUEUED: JobState.QUEUED,
    jobyard.JobState.HELD: JobState.QUEUED,
    jobyard.JobState.STAGING_IN: JobState.STAGE_IN,
    jobyard.JobState.RUNNING: JobState.ACTIVE,
    jobyard.JobState.SUSPENDED: JobState.ACTIVE,
    jobyard.JobState.STAGING_OUT: JobState.STAGE_OUT,
    jobyard.JobState.CLEANING: JobState.CLEANUP,
    jobyard.JobState.DONE: JobState.COMPLETED,
    jobyard.JobState.FAILED: JobState.FAILED,
    jobyard.JobState.CANCELLED: JobState.CANCELED,
}


def statuses(transition: Transition, native_id: str | None, stderr: str | None = None) -> list[JobStatus]:
    """The statuses that a transition stands for, those that must have been passed before it included.

    ``stderr``: what the launcher and its scripts printed, for the message of one that failed.
    """
    state = STATES[transition.state]
    ending = transition.ending
    if ending is None:
        by = None if transition.by is None else (str(transition.state), str(transition.by))  # held, suspended: by whom
        more = _shared(transition.synthesised, by, ("reason", transition.reason) if transition.reason else None)
        return [JobStatus._of(native_id, more, state, transition.at, transition.reason)]
    found: list[JobStatus] = []
    if state is JobState.FAILED and ran_to_its_end(ending):
        # It ended by itself and went through all that comes after the executable, too.
        for passed in (JobState.QUEUED, JobState.STAGE_IN, JobState.ACTIVE, JobState.STAGE_OUT, JobState.CLEANUP):
            found.append(_passed(passed, ending, transition.at))
    elif ending.began_at is not None and not ending.aborted:
        for passed in (JobState.QUEUED, JobState.STAGE_IN, JobState.ACTIVE):
            found.append(_passed(passed, ending, transition.at))
    more = _shared(
        transition.synthesised,
        ("cause", str(ending.cause)),
        ("signal", ending.signal) if ending.signal is not None else None,
        ("host", ending.host) if ending.host is not None else None,
    )
    found.append(JobStatus._of(native_id, more, state, transition.at, _message(state, ending, stderr), exit_code(ending)))
    return found


@lru_cache(1024)
def _shared(synthesised: bool, *more: tuple[str, object] | None) -> tuple[tuple[str, object], ...]:
    """Metadata that many statuses have alike."""
    return ((("synthesised", True),) if synthesised else ()) + tuple(one for one in more if one is not None)


def ran_to_its_end(ending: jobyard.Ending) -> bool:
    """The executable ran, and what it ended by was its own."""
    return not ending.aborted and ending.cause in (
        jobyard.Cause.EXITED,
        jobyard.Cause.STAGING,
        jobyard.Cause.LAUNCH_SCRIPT,
    )


def _passed(state: JobState, ending: jobyard.Ending, at: float) -> JobStatus:
    time = at
    if state is JobState.QUEUED and ending.submitted_at is not None:
        time = ending.submitted_at
    elif state in (JobState.STAGE_IN, JobState.ACTIVE) and ending.began_at is not None:
        time = ending.began_at
    return JobStatus(state, time, metadata={"synthesised": True})


def exit_code(ending: jobyard.Ending) -> int | None:
    """The exit code; 128 + n where signal n ended the job; None where neither is known."""
    if ending.exit_code is not None:
        return ending.exit_code
    number = signal_number(ending.signal)
    return None if number is None else 128 + number


def signal_number(name: str | None) -> int | None:
    """The number of a signal, by its name or as the text of a number."""
    if name is None:
        return None
    import signal

    if match := re.fullmatch(r"SIGRTMIN\+([0-9]+)", name):
        return int(getattr(signal, "SIGRTMIN", 34)) + int(match[1])
    if name.isdecimal():
        return int(name)
    found = getattr(signal, name, None)
    return int(found) if isinstance(found, int) else None


def _message(state: JobState, ending: jobyard.Ending, stderr: str | None) -> str | None:
    if state is JobState.COMPLETED:
        return ending.message or None
    text = f"The job {ending}"
    return f"{text}\n{stderr.strip()}" if stderr and stderr.strip() else text
