"""Who has booked what: jobs that run, jobs handed to the spawner ahead of free places, and places that pass from one to the next.

Bookings are of a kind where nothing but cores and memory is needed: the next job of a kind may take over the place of one that
ends, and the spawner lets it do so by itself. The record of the ending says whether it did; nothing is inferred from what either
half may have known at that time. A *credit* is a place that passed to a job whose start has not been read yet; it is negative for
a moment where the start was read before the ending. What the spawner is told to start besides (``to_go``) it says it has, or not.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import kernel
from .jobs import Job
from .machine import Machine
from .queue import Booking, Need

__all__ = ["NO_KIND", "Bookings"]

WINDOW = 64  # jobs handed over ahead of free places
NO_KIND = 0  # a place that nobody may take over


class Bookings:
    """The places of one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._booked: dict[int, Job] = {}
        self._kinds: dict[Need, int] = {}
        self._needs: dict[int, Need] = {}
        self._ahead: dict[int, dict[int, Job]] = {}  # by kind: handed over, not started
        self._credit: dict[int, int] = {}  # by kind
        self._gone: dict[int, int] = {}  # by kind: places of which the spawner has not said yet whether a job took them
        self._at_spawner: dict[int, int] = {}  # by kind: jobs that run there, or start at once

    def kind(self, job: Job) -> int:
        """The kind of place that a job needs."""
        need = job.need
        if need.gpus or job.cap is not None or job.traits.immediate:
            return NO_KIND
        kind = self._kinds.get(need)
        if kind is None:
            kind = self._kinds[need] = len(self._kinds) + 1
            self._needs[kind] = need
        return kind

    def running(self) -> Iterator[Booking]:
        """What is booked, and until when at the latest."""
        now = kernel.boot_now()
        for job in self._booked.values():
            run = job.run
            yield Booking((run.booted if run is not None and run.booted else now) + job.estimate_s, job.need)

    def busy(self) -> bool:
        """The spawner has so much in hand that it need not be looked after at each ending."""
        return sum(map(len, self._ahead.values())) > self.machine.total.cores

    # Places -------------------------------------------------------------------------------------------------------------

    def book(self, job: Job, kind: int) -> list[bytes] | None:
        """A place for a job that starts at once; its GPUs."""
        gpus = self.machine.book(job.need)
        self._booked[job.number] = job
        self._at_spawner[kind] = self._at_spawner.get(kind, 0) + 1
        return gpus

    def unbook(self, job: Job) -> None:
        """A job has ended, or was recalled: its place is free, unless it passed to the next one."""
        run = job.run
        assert run is not None
        if self._ahead.get(run.kind, {}).pop(job.number, None) is not None or not self._leave(job, run.kind):
            return
        self.machine.release(job.need, run.gpus)
        if job.cap is not None:
            job.batch.running -= 1

    def passed(self, job: Job) -> None:
        """A job has ended, and the spawner gave its place to the next of its kind."""
        run = job.run
        assert run is not None
        if self._leave(job, run.kind):
            self._credit[run.kind] = self._credit.get(run.kind, 0) + 1

    def _leave(self, job: Job, kind: int) -> bool:
        if self._booked.pop(job.number, None) is None:
            return False
        if self._at_spawner.get(kind):
            self._at_spawner[kind] -= 1
            if not self._at_spawner[kind]:
                del self._at_spawner[kind]  # kinds can be as many as jobs
        return True

    def take_over(self, job: Job) -> None:
        """The spawner started a job that it had been handed ahead."""
        run = job.run
        assert run is not None
        kind = run.kind
        if self._ahead.get(kind, {}).pop(job.number, None) is not None:
            self._credit[kind] = self._credit.get(kind, 0) - 1
            self._booked[job.number] = job
            self._at_spawner[kind] = self._at_spawner.get(kind, 0) + 1

    def settle(self) -> None:
        """Free the places that nobody is left to take over: the jobs to which they had passed were recalled."""
        for kind, credit in list(self._credit.items()):
            there = len(self._ahead.get(kind, ()))
            while credit > there:
                self.machine.release(self._needs[kind], None)
                credit -= 1
            if credit or there:
                self._credit[kind] = credit
            else:
                del self._credit[kind]
                self._ahead.pop(kind, None)

    # Ahead --------------------------------------------------------------------------------------------------------------

    def ahead(self) -> list[Job]:
        """All jobs that were handed over ahead of free places, and as far as is known have not started."""
        return [job for jobs in self._ahead.values() for job in jobs.values()]

    def to_go(self) -> list[int]:
        """Kinds of which one more job that lies ahead can start: there is room besides the places that end."""
        found = []
        for kind, waiting in self._ahead.items():
            need = self._needs[kind]
            while self._credit.get(kind, 0) + self._gone.get(kind, 0) < len(waiting) and need.within(self.machine.free):
                self.machine.book(need)
                self._gone[kind] = self._gone.get(kind, 0) + 1
                found.append(kind)
        return found

    def went(self, kind: int, used: bool | None) -> None:
        """What the spawner says of a place of ``to_go``: a job that lay ahead took it, or none was left. None: it died, and all its
        places are accounted for."""
        if used is None:
            return
        self._gone[kind] -= 1
        if not self._gone[kind]:
            del self._gone[kind]
        if used:
            self._credit[kind] = self._credit.get(kind, 0) + 1
        else:
            self.machine.release(self._needs[kind], None)

    def window(self) -> list[tuple[int, Need, int]]:
        """(kind, need, how many more) that may be handed over ahead: of the kinds that run at the spawner."""
        found = []
        for kind, count in self._at_spawner.items():
            if count and kind:
                there = len(self._ahead.get(kind, ()))
                if there <= WINDOW // 2:
                    found.append((kind, self._needs[kind], WINDOW - there))
        return found

    def put_ahead(self, job: Job, kind: int) -> None:
        """A job is handed over ahead of a free place."""
        self._ahead.setdefault(kind, {})[job.number] = job

    # Spawners that die --------------------------------------------------------------------------------------------------

    def spawner_lost(self) -> None:
        """Its jobs are accounted for by somebody else from now on: no credit, no window. Its words on places are not awaited."""
        for kind, ahead in self._ahead.items():
            places = self._credit.pop(kind, 0) + self._gone.get(kind, 0)
            for _ in range(places):
                self.machine.release(self._needs[kind], None)
            for _ in range(-places):  # a start was read, and the ending whose place it took never will be
                self.machine.book(self._needs[kind])
            ahead.clear()
        self._gone.clear()
        self._at_spawner.clear()

    def found(self, job: Job) -> None:
        """A job that was found running has what it had; nobody takes its place over."""
        assert job.run is not None
        job.run.kind = NO_KIND
        if job.number in self._booked:
            return
        self.machine.book_again(job.need, job.run.gpus)
        self._booked[job.number] = job
        if job.cap is not None:
            job.batch.running += 1
