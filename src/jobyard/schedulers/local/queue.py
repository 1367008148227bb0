"""Which jobs start now: first come first served within a priority, with backfill. Pure: no clock, no I/O.

The first job that does not fit keeps a reservation: the moment when, by the known time limits of what runs, enough will be
free. Others may start before it only if they end by then, or use what it will not need. A job without a limit is taken to
run for ever, so a stream of short ones cannot starve a wide one for longer than the longest of them.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

__all__ = ["Booking", "Need", "Queue", "Waiting"]

BACKFILL_GROUPS = 200  # groups of like jobs that are looked at behind the first one that does not fit
NEVER = float("inf")


class Need(NamedTuple):
    """What a job books. Equal needs can take each other's place."""

    cores: int = 1
    memory: int = 0
    gpus: int = 0

    def within(self, other: Need) -> bool:
        """It fits into that."""
        return self.cores <= other.cores and self.memory <= other.memory and self.gpus <= other.gpus

    def plus(self, other: Need) -> Need:
        """Both together."""
        return Need(self.cores + other.cores, self.memory + other.memory, self.gpus + other.gpus)

    def minus(self, other: Need) -> Need:
        """What is left; may be negative where bookings passed a machine that has shrunk."""
        return Need(self.cores - other.cores, self.memory - other.memory, self.gpus - other.gpus)


class Cap(Protocol):
    """An array with a cap on its running tasks."""

    running: int

    @property
    def max_running(self) -> int | None:
        """As many at a time."""


class Waiting(Protocol):
    """A job as the queue sees it. The queue alone writes ``queued`` and ``listed``."""

    @property
    def number(self) -> int:
        """Its place among those of its priority."""

    @property
    def priority(self) -> int:
        """Higher is sooner."""

    @property
    def need(self) -> Need:
        """What it books."""

    @property
    def estimate_s(self) -> float:
        """Of its run; inf where unknown."""

    @property
    def cap(self) -> Cap | None:
        """The array that it belongs to, where that has a cap."""

    queued: bool  # it may be chosen
    listed: bool  # it stands in a group, perhaps struck out


W = TypeVar("W", bound=Waiting)


class Booking(NamedTuple):
    """What runs: until when at the latest, and what it has booked."""

    until: float
    need: Need


class _Group(Generic[W]):
    """Waiting jobs that are alike for the decision, in the order of their numbers."""

    __slots__ = ("cap", "estimate_s", "jobs", "key", "need", "priority")

    def __init__(self, key: object, job: W) -> None:
        self.key = key
        self.priority, self.need, self.estimate_s, self.cap = job.priority, job.need, job.estimate_s, job.cap
        self.jobs: deque[W] = deque()

    def first(self) -> W | None:
        """The first that is not struck out."""
        jobs = self.jobs
        while jobs:
            if jobs[0].queued:
                return jobs[0]
            jobs.popleft().listed = False
        return None

    def blocked(self) -> bool:
        """Its array runs as many tasks as it may."""
        cap = self.cap
        return cap is not None and cap.max_running is not None and cap.running >= cap.max_running


class Queue(Generic[W]):
    """The waiting jobs that nothing holds back but room."""

    def __init__(self) -> None:
        self._groups: dict[object, _Group[W]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, job: W) -> None:
        """Let a job wait, in the place that its number gives it."""
        if job.queued:
            return
        job.queued = True
        self._count += 1
        if job.listed:
            return  # its struck-out place counts again
        job.listed = True
        key = (job.priority, job.need, job.estimate_s, id(job.cap) if job.cap is not None else 0)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group[W](key, job)
        jobs = group.jobs
        if not jobs or jobs[-1].number < job.number:
            jobs.append(job)
        elif job.number < jobs[0].number:
            jobs.appendleft(job)
        else:
            later = []
            while jobs[-1].number > job.number:
                later.append(jobs.pop())
            jobs.append(job)
            jobs.extend(reversed(later))

    def discard(self, job: W) -> None:
        """Strike a job out; before its priority or need changes, too."""
        if job.queued:
            job.queued = False
            self._count -= 1

    def remove(self, job: W) -> None:
        """Take a job out altogether: its place must not count again (it will be added with other properties)."""
        self.discard(job)
        if job.listed:
            key = (job.priority, job.need, job.estimate_s, id(job.cap) if job.cap is not None else 0)
            self._groups[key].jobs.remove(job)
            job.listed = False

    def _firsts(self) -> list[tuple[int, int, _Group[W]]]:
        """A heap of groups by the job that comes first."""
        heap = []
        for key, group in list(self._groups.items()):
            job = group.first()
            if job is None:
                del self._groups[key]
            else:
                heap.append((-group.priority, job.number, group))
        heapq.heapify(heap)
        return heap

    def choose(self, free: Need, running: Iterable[Booking], now: float) -> list[W]:
        """Jobs to start now, in order; they leave the queue. Their arrays' counts of running tasks are raised."""
        chosen: list[W] = []
        if not self._count or free.cores < 1:
            return chosen
        heap = self._firsts()
        shadow: float | None = None
        extra = Need(0, 0, 0)
        looked = 0
        while heap and free.cores > 0 and looked < BACKFILL_GROUPS:
            group = heap[0][2]
            job = group.first()
            if job is None or group.blocked():
                heapq.heappop(heap)
                continue
            fits = group.need.within(free)
            if shadow is None and not fits:
                booked = [*running, *(Booking(now + one.estimate_s, one.need) for one in chosen)]
                shadow, extra = _reservation(group.need, free, booked)
            in_time = shadow is not None and group.estimate_s < NEVER and now + group.estimate_s <= shadow
            if not fits or (shadow is not None and not in_time and not group.need.within(extra)):
                heapq.heappop(heap)
                looked += 1
                continue
            if shadow is not None and not in_time:
                extra = extra.minus(group.need)
            free = free.minus(group.need)
            group.jobs.popleft()
            job.listed = False
            self.discard(job)
            if group.cap is not None:
                group.cap.running += 1
            chosen.append(job)
            following = group.first()
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (-group.priority, following.number, group))
        return chosen

    def ahead(self, need: Need, most: int) -> list[W]:
        """Up to so many of the very next jobs, as long as each books exactly ``need``: they may take over such a booking when
        it ends. They leave the queue."""
        taken: list[W] = []
        if not self._count or most < 1:
            return taken
        heap = self._firsts()
        while heap and len(taken) < most:
            group = heap[0][2]
            job = group.first()
            if job is None or group.need != need or group.cap is not None:
                break
            group.jobs.popleft()
            job.listed = False
            self.discard(job)
            taken.append(job)
            following = group.first()
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (-group.priority, following.number, group))
        return taken

    def __iter__(self) -> Iterator[W]:
        for group in self._groups.values():
            for job in group.jobs:
                if job.queued:
                    yield job


def _reservation(need: Need, free: Need, running: Iterable[Booking]) -> tuple[float, Need]:
    """When ``need`` will be free at the latest known moment, and what is left beside it then."""
    now_free = free
    for until, booked in sorted(running, key=lambda booking: booking.until):
        now_free = now_free.plus(booked)
        if need.within(now_free):
            return until, now_free.minus(need)
    return NEVER, now_free.minus(need)
