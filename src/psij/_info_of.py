"""What the engine knows of a job, as JobInfo."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import jobyard

from ._info import JobInfo
from ._states import exit_code

if TYPE_CHECKING:
    from .job import Job

__all__ = ["info_of"]


def info_of(job: Job, engine_job: jobyard.Job) -> JobInfo:
    """Engine errors as the session raises them."""
    status = job.status
    ending = engine_job.ending
    usage = ending.usage if ending is not None else jobyard.Usage()
    try:
        description: jobyard.JobDescription | None = engine_job.description
    except jobyard.UnknownJob:
        description = None  # submitted by others
    began = ending.began_at if ending is not None else None
    if began is None:
        began = next((one.at for one in engine_job.history if one.state is jobyard.JobState.RUNNING), None)
    return JobInfo(
        native_id=job.native_id,
        name=engine_job.name or None,
        user=getpass.getuser() if description is not None else None,
        state=status.state,
        queue=description.queue if description else None,
        account=description.account if description else None,
        hosts=(ending.host,) if ending is not None and ending.host else (),
        submit_time=engine_job.submitted_at,
        start_time=began,
        end_time=ending.ended_at if ending is not None else None,
        exit_code=exit_code(ending) if ending is not None else None,
        signal=ending.signal if ending is not None else None,
        wall_time=usage.wall_s,
        cpu_time=usage.cpu_s,
        max_rss=usage.max_rss_bytes,
        reason=engine_job.reason,
        message=status.message,
        native=dict(usage.native),
    )
