"""The pool of callbacks: in order for each job, a slow one delays only its own."""

from __future__ import annotations

import logging
import random
import threading

import pytest

from jobyard.callbacks import Callbacks


def test_in_order_for_each_lane_and_all_of_them() -> None:
    pool, done = Callbacks(), threading.Semaphore(0)
    seen: dict[int, list[int]] = {lane: [] for lane in range(50)}
    order = [(lane, n) for n in range(40) for lane in range(50)]

    def note(lane: int, n: int) -> None:
        seen[lane].append(n)
        done.release()

    for lane, n in order:
        pool.call(lane, note, lane, n)
    for _ in order:
        assert done.acquire(timeout=20)
    assert all(values == list(range(40)) for values in seen.values())
    pool.close()


def test_a_slow_callback_delays_only_its_own_lane() -> None:
    pool, block, others, mine = Callbacks(), threading.Event(), threading.Semaphore(0), threading.Event()
    pool.call("slow", block.wait)
    pool.call("slow", mine.set)
    for n in range(200):
        pool.call(n, others.release)
    for _ in range(200):
        assert others.acquire(timeout=20)
    assert not mine.is_set()
    block.set()
    assert mine.wait(20)
    pool.close()


def test_threads_stay_few_and_start_on_demand() -> None:
    before = threading.active_count()
    pool, gate, running = Callbacks(), threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        running.release()
        gate.wait()

    assert threading.active_count() == before
    for n in range(500):
        pool.call(n, hold)
    for _ in range(4):
        assert running.acquire(timeout=20)
    assert threading.active_count() == before + 4
    gate.set()
    pool.close()
    assert threading.active_count() == before


def test_no_thread_can_be_started_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has as many processes as may be: what is to be called waits, and whoever calls is not disturbed."""
    pool, called = Callbacks(), threading.Semaphore(0)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for lane in range(10):
            pool.call(lane, called.release)
        pool.nudge()
    pool.nudge()
    for _ in range(10):
        assert called.acquire(timeout=60)
    pool.close()


def test_what_a_callback_raises_is_logged_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    pool, done = Callbacks(), threading.Event()

    def fail() -> None:
        raise RuntimeError("on purpose")

    with caplog.at_level(logging.ERROR, "jobyard.session"):
        pool.call(1, fail)
        pool.call(1, done.set)
        assert done.wait(20)
    assert "on purpose" in caplog.text
    pool.close()


def test_a_callback_may_queue_and_close() -> None:
    pool, done = Callbacks(), threading.Event()

    def first() -> None:
        pool.call(1, second)
        pool.call(2, second)

    left = [2]

    def second() -> None:
        left[0] -= 1
        if not left[0]:
            pool.close()
            done.set()

    pool.call(1, first)
    assert done.wait(20)
    pool.call(3, pytest.fail, "called after close")


def test_random_load_from_many_threads() -> None:
    pool, lock, total = Callbacks(), threading.Lock(), threading.Semaphore(0)
    seen: dict[tuple[int, int], list[int]] = {}
    rng = random.Random(7)

    def note(key: tuple[int, int], n: int) -> None:
        with lock:
            seen.setdefault(key, []).append(n)
        total.release()

    def work(thread: int, lanes: list[int]) -> None:
        for n, lane in enumerate(lanes):
            pool.call((thread, lane), note, (thread, lane), n)

    threads = [threading.Thread(target=work, args=(t, [rng.randrange(5) for _ in range(300)])) for t in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(1800):
        assert total.acquire(timeout=20)
    for thread in threads:
        thread.join()
    assert all(values == sorted(values) for values in seen.values())
    pool.close()
