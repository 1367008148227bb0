"""The scheduling decisions, pure: nothing is overbooked, order is kept, backfill delays nobody."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.schedulers.local.queue import Booking, Need, Queue

NEVER = math.inf


@dataclass
class Cap:
    """An array."""

    max_running: int | None
    running: int = 0


ONE = Need()
Row = tuple[int, Need, float, int | None]  # priority, need, estimate, which array


@dataclass(eq=False)
class Task:
    """A waiting job."""

    number: int
    priority: int = 0
    need: Need = ONE
    estimate_s: float = NEVER
    cap: Cap | None = None
    queued: bool = False
    listed: bool = False


needs = st.builds(Need, st.integers(1, 4), st.integers(0, 3), st.integers(0, 2))
tasks = st.lists(
    st.tuples(st.integers(-1, 1), needs, st.sampled_from([NEVER, 1.0, 5.0, 20.0]), st.sampled_from([None, 0, 1])), max_size=30
)
TOTAL = Need(4, 3, 2)


def fill(rows: list[Row]) -> tuple[Queue[Task], list[Task]]:
    caps = [Cap(1), Cap(2)]
    queue: Queue[Task] = Queue()
    made = [
        Task(number, priority, need, estimate, None if cap is None else caps[cap])
        for number, (priority, need, estimate, cap) in enumerate(rows)
    ]
    for task in made:
        queue.add(task)
    return queue, made


@given(tasks)
@settings(max_examples=300, deadline=None)
def test_everything_runs_once_and_nothing_is_overbooked(rows: list[Row]) -> None:
    queue, made = fill(rows)
    free, now = TOTAL, 0.0
    running: list[tuple[float, Task]] = []
    started: list[Task] = []
    while len(queue) or running:
        for task in queue.choose(free, [Booking(until, one.need) for until, one in running], now):
            assert task not in started
            started.append(task)
            free = free.minus(task.need)
            assert min(free) >= 0
            running.append((now + min(task.estimate_s, 50.0), task))
            if task.cap is not None and task.cap.max_running is not None:
                assert task.cap.running <= task.cap.max_running
        assert running, "jobs wait though nothing runs"
        running.sort(key=lambda pair: pair[0])
        now, ended = running.pop(0)
        free = free.plus(ended.need)
        if ended.cap is not None:
            ended.cap.running -= 1
    assert sorted(task.number for task in started) == list(range(len(made)))


@given(tasks, st.lists(st.tuples(needs, st.sampled_from([NEVER, 2.0, 10.0])), max_size=3))
@settings(max_examples=300, deadline=None)
def test_the_first_that_waits_is_not_delayed(rows: list[Row], busy: list[tuple[Need, float]]) -> None:
    rows = [(priority, need, estimate, None) for priority, need, estimate, _ in rows]
    queue, made = fill(rows)
    free = TOTAL
    bookings = []
    for need, until in busy:
        if need.within(free):
            free = free.minus(need)
            bookings.append(Booking(until, need))
    chosen = queue.choose(free, bookings, 0.0)
    order = sorted(made, key=lambda task: (-task.priority, task.number))
    waiting = [task for task in order if task not in chosen]
    if not waiting:
        return
    head = waiting[0]
    before = order[: order.index(head)]
    assert all(task in chosen for task in before)

    def begins(others: list[Task]) -> float:
        """When the head can start, if these run to their estimates."""
        left = free
        for task in others:
            left = left.minus(task.need)
        ends = sorted([*bookings, *(Booking(task.estimate_s, task.need) for task in others)], key=lambda one: one.until)
        if head.need.within(left):
            return 0.0
        for until, need in ends:
            left = left.plus(need)
            if head.need.within(left):
                return until
        return NEVER

    assert begins(chosen) <= begins(before)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["add", "discard", "remove", "ahead"])), max_size=60))
def test_order_survives_holding_and_releasing(steps: list[tuple[int, str]]) -> None:
    queue: Queue[Task] = Queue()
    pool = [Task(number) for number in range(10)]
    waiting: set[int] = set()
    for number, act in steps:
        task = pool[number]
        if act == "add":
            queue.add(task)
            waiting.add(number)
        elif act == "ahead":
            taken = [one.number for one in queue.ahead(Need(), 2)]
            assert taken == sorted(waiting)[:2]
            waiting -= set(taken)
        else:
            (queue.discard if act == "discard" else queue.remove)(task)
            waiting.discard(number)
        assert len(queue) == len(waiting)
        assert {one.number for one in queue} == waiting
    assert [task.number for task in queue.choose(Need(100, 0, 0), [], 0.0)] == sorted(waiting)


def test_ahead_stops_where_another_need_or_priority_comes_first() -> None:
    queue: Queue[Task] = Queue()
    pool = [Task(0), Task(1), Task(2, need=Need(2)), Task(3), Task(4, priority=1, need=Need(3))]
    for task in pool:
        queue.add(task)
    assert queue.ahead(Need(), 10) == []
    queue.discard(pool[4])
    assert queue.ahead(Need(), 10) == pool[:2]
    assert len(queue) == 2
