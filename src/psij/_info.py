"""What a backend knows of a job."""

from __future__ import annotations

from dataclasses import dataclass, field

from .job_state import JobState

__all__ = ["JobInfo"]


@dataclass(frozen=True, kw_only=True)
class JobInfo:
    """A job as its backend sees it; None: not known. Times in seconds since the epoch, durations in seconds."""

    native_id: str | None = None
    name: str | None = None
    user: str | None = None
    state: JobState = JobState.NEW
    queue: str | None = None
    account: str | None = None
    hosts: tuple[str, ...] = ()
    submit_time: float | None = None
    start_time: float | None = None
    end_time: float | None = None
    exit_code: int | None = None
    signal: str | None = None
    wall_time: float | None = None
    cpu_time: float | None = None
    max_rss: int | None = None  # bytes
    reason: str | None = None  # why it waits
    message: str | None = None
    native: dict[str, str] = field(default_factory=dict)  # the scheduler's own record of its usage
