"""Which submissions a call becomes: like jobs together, arrays in parts where a site's limits ask for it. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec

from .job import JobDescription
from .schedulers.base import Capabilities, Kind, SiteLimits

__all__ = ["Part", "lay_out_array", "lay_out_jobs"]

LEAST_TOGETHER = 2  # like jobs that are worth one submission of their own kind


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One submission to be: ``positions`` say which jobs of the call (or tasks of the array) it holds, in order."""

    kind: Kind
    description: JobDescription  # the first one's; the scheduler sees the same of all
    positions: Sequence[int]
    descriptions: Sequence[JobDescription]  # of each position; one object many times where all are equal
    indices: tuple[int, ...] = ()  # ARRAY: the user's; LIKE: 0, 1, ...
    max_running: int | None = None
    chained: bool = False  # begins only when the part before it has ended


def seen_by_scheduler(job: JobDescription) -> Hashable:
    """What a scheduler sees of a job besides its name: jobs that are equal in it can go as one submission."""
    return (
        job.resources,
        job.limits,
        job.queue,
        job.account,
        job.reservation,
        job.priority,
        job.begin_at,
        job.deadline_at,
        job.hold,
        job.after,
        job.rerunnable,
        job.immediate,
        job.native,
        job.category,
        job.email,
        job.email_on,
        tuple(sorted(job.attributes.items())),
        bool(job.stage_in),  # not seen by it, but how its word "running" is read is the same for all jobs of a submission
    )


def lay_out_jobs(jobs: Sequence[JobDescription], can: Capabilities, limits: SiteLimits) -> list[Part]:
    """Like jobs as one submission, in parts that the site allows; the others one by one. In the order of their first jobs."""
    if not (can.arrays and can.per_task_control):
        return [_single(position, job) for position, job in enumerate(jobs)]
    groups: dict[Hashable, list[int]] = {}
    for position, job in enumerate(jobs):
        groups.setdefault(seen_by_scheduler(job), []).append(position)
    parts: list[Part] = []
    for positions in groups.values():
        if len(positions) < LEAST_TOGETHER:
            parts.extend(_single(position, jobs[position]) for position in positions)
            continue
        for chunk in _chunks(positions, limits):
            if len(chunk) < LEAST_TOGETHER:
                parts.extend(_single(position, jobs[position]) for position in chunk)
                continue
            members = [jobs[position] for position in chunk]
            parts.append(
                Part(
                    kind=Kind.LIKE,
                    description=members[0],
                    positions=chunk,
                    descriptions=members,
                    indices=tuple(range(len(chunk))),
                )
            )
    parts.sort(key=lambda part: part.positions[0])
    return parts


def lay_out_array(job: JobDescription, indices: Sequence[int], max_running: int | None, limits: SiteLimits) -> list[Part]:
    """An array as one submission, or as few as the site's limits allow.

    A cap is shared out among the parts, so that together they never pass it. Where there are more parts than it allows
    tasks, each part has the whole cap and waits for the one before it.
    """
    chunks = _chunks(list(range(len(indices))), limits)
    chained = max_running is not None and len(chunks) > max_running
    parts: list[Part] = []
    for number, chunk in enumerate(chunks):
        cap = max_running
        if max_running is not None and not chained:
            share, extra = divmod(max_running, len(chunks))
            cap = share + (number < extra)
        parts.append(
            Part(
                kind=Kind.ARRAY,
                description=job,
                positions=chunk,
                descriptions=[job] * len(chunk),
                indices=tuple(indices[position] for position in chunk),
                max_running=cap,
                chained=chained and number > 0,
            )
        )
    return parts


def _single(position: int, job: JobDescription) -> Part:
    return Part(kind=Kind.SINGLE, description=job, positions=(position,), descriptions=(job,))


def _chunks(positions: list[int], limits: SiteLimits) -> list[list[int]]:
    """Positions in runs of at most the largest array. Where an index is over the largest one, the scheduler is sent
    positions (Traits.positions) and the shepherd finds the user's index, so only the count matters here."""
    most = limits.max_array_size or len(positions)
    return [positions[at : at + most] for at in range(0, len(positions), most)]
