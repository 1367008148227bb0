"""Places that pass from job to job: never more jobs than places, and none lost, whatever both halves say past each other."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobyard.schedulers.local.bookings import Bookings
from jobyard.schedulers.local.machine import Machine, Settings
from jobyard.schedulers.local.queue import Need
from local.rig import Rig

PLACES = 2


@dataclass
class Spawner:
    """What the real one does with places, over two channels that each keep their order: messages in, records and answers out."""

    ahead: deque[int] = field(default_factory=deque)
    running: set[int] = field(default_factory=set)
    records: deque[tuple[str, int, bool]] = field(default_factory=deque)
    answers: deque[tuple[bool, int]] = field(default_factory=deque)  # of "go", and how many records came before it
    written: int = 0

    def write(self, kind: str, number: int, passed: bool = False) -> None:
        self.records.append((kind, number, passed))
        self.written += 1

    def start(self, number: int) -> None:
        self.write("spawning", number)
        self.running.add(number)
        assert len(self.running) <= PLACES + 1  # one that has ended may not have been written yet

    def end(self, number: int) -> None:
        following = self.ahead.popleft() if self.ahead else None
        self.running.remove(number)
        if following is not None:
            self.start(following)
        self.write("end", number, following is not None)
        assert len(self.running) <= PLACES

    def hear(self, what: str, numbers: list[int]) -> None:
        if what == "run":
            for number in numbers:
                self.start(number)
        elif what == "ahead":
            self.ahead.extend(numbers)
        else:
            used = bool(self.ahead)
            if used:
                self.start(self.ahead.popleft())
            self.answers.append((used, self.written))
        assert len(self.running) <= PLACES


@given(st.integers(min_value=0, max_value=2**32), st.integers(min_value=1, max_value=60))
def test_no_place_is_lost_and_none_is_given_twice(seed: int, count: int) -> None:
    chance = random.Random(seed)
    machine = Machine(Settings({"slots": str(PLACES), "memory": "1GiB"}))
    bookings, spawner = Bookings(machine), Spawner()
    messages: deque[tuple[str, list[int]]] = deque()
    jobs: dict[int, Any] = {}
    queue: deque[int] = deque()
    read = ended = submitted = 0

    def submit() -> None:
        nonlocal submitted
        number = submitted = submitted + 1
        traits = SimpleNamespace(immediate=False)
        need = Need(1, 0, 0)
        jobs[number] = SimpleNamespace(number=number, need=need, cap=None, traits=traits, estimate_s=1.0, run=None)
        queue.append(number)

    def look() -> None:
        nonlocal read, ended
        for _ in range(chance.randint(0, len(spawner.records))):
            kind, number, passed = spawner.records.popleft()
            read += 1
            job = jobs[number]
            if kind == "spawning":
                bookings.take_over(job)
            else:
                if passed:
                    bookings.passed(job)
                bookings.unbook(job)
                ended += 1
        while spawner.answers and spawner.answers[0][1] <= read:
            bookings.went(1, spawner.answers.popleft()[0])

    def schedule() -> None:
        bookings.settle()
        messages.extend(("go", []) for _ in bookings.to_go())
        while queue and machine.free.cores > 0:
            job = jobs[queue.popleft()]
            kind = bookings.kind(job)
            job.run = SimpleNamespace(kind=kind, gpus=None, booted=0.0)
            bookings.book(job, kind)
            messages.append(("run", [job.number]))
        for kind, _, most in bookings.window():
            taken = [queue.popleft() for _ in range(min(most, len(queue)))]
            for number in taken:
                jobs[number].run = SimpleNamespace(kind=kind, gpus=None, booted=0.0)
                bookings.put_ahead(jobs[number], kind)
            if taken:
                messages.append(("ahead", taken))

    def hear() -> None:
        if messages:
            spawner.hear(*messages.popleft())

    def finish() -> None:
        if spawner.running:
            spawner.end(chance.choice(sorted(spawner.running)))

    acts: list[Callable[[], None]] = [look, schedule, hear, finish]
    while ended < count:
        if submitted < count and chance.random() < 0.3:
            submit()
        chance.choice(acts)()
        if not messages and not spawner.records and not spawner.answers:  # all is said: no place may lie idle
            schedule()
            if not messages:
                assert len(spawner.running) == min(PLACES, len(spawner.running) + len(spawner.ahead) + len(queue))
    for _ in range(3):
        schedule()
        while messages:
            hear()
        while spawner.records or spawner.answers:
            look()
    assert machine.free == machine.total


def test_a_stream_of_jobs_fills_its_places_and_no_more(rig: Rig, tmp_path: Path) -> None:
    running, counts = tmp_path / "running", tmp_path / "counts"
    running.mkdir()
    script = f"set -- {running}/*; : >{running}/$$; set -- {running}/*; echo $# >>{counts}; rm {running}/$$"
    jobs = [rig.submit(script) for _ in range(300)]
    assert all(ending.success for ending in rig.wait_all(jobs))
    seen = [int(line) for line in counts.read_text().split()]
    assert len(seen) == len(jobs)
    assert max(seen) <= PLACES
    meet = f"touch {tmp_path}/$0; while [ ! -e {tmp_path}/a ] || [ ! -e {tmp_path}/b ]; do sleep 0.01; done"
    both = [rig.submit(["/bin/sh", "-c", meet, name]) for name in "ab"]  # each waits for the other: there are two places
    assert all(ending.success for ending in rig.wait_all(both))
