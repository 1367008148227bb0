"""Waiting: with and without a time limit, from many threads, in asyncio; and being told by callbacks."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobyard import Ending, Job, JobState, Session
from jobyard.errors import UnknownJob
from jobyard.job import Transition

from .. import jobs
from .support import Features, finish, open_gate, reach


class Waiting:
    """Waiting for endings."""

    def test_time_limits(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.gated(tmp_path / "gate"))
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match="is still"):
            job.wait(timeout=0)
        assert time.monotonic() - begin < 2
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            job.wait(timeout=0.3)
        assert 0.29 <= time.monotonic() - begin < 5
        for bad in (-1, "soon", True):
            with pytest.raises((ValueError, TypeError)):
                job.wait(timeout=bad)  # type: ignore[arg-type]
        open_gate(tmp_path / "gate")
        assert finish(job, features).success
        assert job.wait(timeout=0).success
        assert job.wait().success

    def test_many_threads_wait_for_one(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.gated(tmp_path / "gate", 5))
        endings: list[Ending] = []
        threads = [threading.Thread(target=lambda: endings.append(finish(job, features))) for _ in range(10)]
        for thread in threads:
            thread.start()
        open_gate(tmp_path / "gate")
        for thread in threads:
            thread.join(features.deadline_s)
        assert [ending.exit_code for ending in endings] == [5] * 10

    def test_threads_wait_for_their_own(self, session: Session, features: Features, tmp_path: Path) -> None:
        many = session.submit_all([jobs.gated(tmp_path / f"gate{n}", n) for n in range(4)])
        codes: dict[int, int | None] = {}
        order = threading.Event()

        def wait(n: int) -> None:
            codes[n] = finish(many[n], features).exit_code
            order.set()

        threads = [threading.Thread(target=wait, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for n in (2, 0, 3, 1):
            order.clear()
            open_gate(tmp_path / f"gate{n}")
            assert order.wait(features.deadline_s)
            assert codes[n] == n
        for thread in threads:
            thread.join(features.deadline_s)
        assert codes == {0: 0, 1: 1, 2: 2, 3: 3}

    def test_wait_all_and_any(self, session: Session, features: Features, tmp_path: Path) -> None:
        first, second = session.submit_all([jobs.gated(tmp_path / "never"), jobs.gated(tmp_path / "gate", 4)])
        with pytest.raises(TimeoutError):
            session.wait_all([first, second], timeout=0.05)
        with pytest.raises(TimeoutError):
            session.wait_any([first, second], timeout=0.05)
        open_gate(tmp_path / "gate")
        assert session.wait_any([first, second], timeout=features.deadline_s) is second
        with pytest.raises(TimeoutError):
            session.wait_all(timeout=0)
        open_gate(tmp_path / "never")
        assert [ending.exit_code for ending in session.wait_all(timeout=features.deadline_s)] == [0, 4]
        assert session.wait_all([], timeout=0) == []
        with pytest.raises(UnknownJob):
            session.wait_any([])

    def test_as_completed(self, session: Session, features: Features, tmp_path: Path) -> None:
        many = session.submit_all([jobs.gated(tmp_path / f"gate{n}") for n in range(3)])
        seen = []
        open_gate(tmp_path / "gate1")
        for job, following in zip(session.as_completed(many, timeout=features.deadline_s * 3), (2, 0, None), strict=False):
            seen.append(many.index(job))
            assert job.ending is not None
            if following is not None:
                open_gate(tmp_path / f"gate{following}")
        assert seen == [1, 2, 0]
        assert len(list(session.as_completed(many, timeout=0))) == 3
        assert len(list(session.as_completed([many[0], many[0]], timeout=0))) == 1
        other = session.submit(jobs.gated(tmp_path / "other"))
        with pytest.raises(TimeoutError):
            list(session.as_completed([other], timeout=0.05))
        open_gate(tmp_path / "other")
        finish(other, features)

    def test_take_gives_each_job_once(self, session: Session, features: Features) -> None:
        many = session.submit_all([jobs.exit_with(n % 3) for n in range(40)])
        taken: list[Job] = []
        missing: list[UnknownJob] = []

        def work() -> None:
            while True:
                try:
                    taken.append(session.take(timeout=features.deadline_s))
                except UnknownJob as error:
                    missing.append(error)
                    return

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * features.deadline_s)
        assert len(missing) == 4
        assert sorted(job.token for job in taken) == sorted(job.token for job in many)
        assert all(job.reaped for job in many)
        assert session.jobs(unreaped=True) == []

    def test_take_of_some(self, session: Session, features: Features, tmp_path: Path) -> None:
        mine, other = session.submit(jobs.exit_with(2)), session.submit(jobs.gated(tmp_path / "gate"))
        assert session.take([mine], timeout=features.deadline_s) is mine
        with pytest.raises(UnknownJob):
            session.take([mine], timeout=0)
        with pytest.raises(TimeoutError):
            session.take([other], timeout=0)
        open_gate(tmp_path / "gate")
        assert session.take(timeout=features.deadline_s) is other
        with pytest.raises(UnknownJob):
            session.take(timeout=0)

    def test_reap_is_for_one(self, session: Session, features: Features) -> None:
        job = session.submit(jobs.succeed())
        finish(job, features)
        assert [other.reaped for other in session.jobs()] == [False]
        assert [job.reap(), job.reap()] == [True, False], "one call gets it"
        assert job.reaped
        assert session.jobs(unreaped=True) == []
        assert session.jobs() == [job]

    def test_futures(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.gated(tmp_path / "gate", 3))
        future = job.future()
        assert not future.done()
        assert job.future() is future
        told = threading.Event()
        future.add_done_callback(lambda _: told.set())
        open_gate(tmp_path / "gate")
        assert future.result(features.deadline_s).exit_code == 3
        assert told.wait(5)
        assert job.future().result(0).exit_code == 3

    def test_a_cancelled_future_cancels_no_job(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.gated(tmp_path / "gate", 3))
        assert job.future().cancel()
        open_gate(tmp_path / "gate")
        assert finish(job, features).exit_code == 3
        assert job.future().result(0).exit_code == 3

    def test_in_asyncio(self, session: Session, features: Features, tmp_path: Path) -> None:
        many = session.submit_all([jobs.gated(tmp_path / "gate", n) for n in range(3)])

        async def main() -> list[Ending]:
            ticks = 0

            async def ticking() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0)

            beside = asyncio.ensure_future(ticking())

            async def wait(job: Job) -> Ending:
                return await job

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wait(many[0]), 0.05)
            assert ticks > 1, "waiting blocks the loop"
            open_gate(tmp_path / "gate")
            endings = await asyncio.wait_for(asyncio.gather(*(wait(job) for job in many)), features.deadline_s)
            beside.cancel()
            return endings

        assert [ending.exit_code for ending in asyncio.run(main())] == [0, 1, 2]

    @pytest.mark.parametrize("how", ["wait", "wait_all", "take", "as_completed"])
    def test_ctrl_c_interrupts(self, session: Session, features: Features, tmp_path: Path, how: str) -> None:
        job = session.submit(jobs.gated(tmp_path / "gate"))
        reach(session, job, JobState.RUNNING, features=features)
        timer = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        begin = time.monotonic()
        wait: dict[str, Callable[[], object]] = {
            "wait": lambda: job.wait(timeout=30),
            "wait_all": lambda: session.wait_all(timeout=30),
            "take": lambda: session.take(timeout=30),
            "as_completed": lambda: list(session.as_completed(timeout=30)),
        }
        with pytest.raises(KeyboardInterrupt):
            wait[how]()
        assert time.monotonic() - begin < 10
        timer.join()
        open_gate(tmp_path / "gate")
        assert finish(job, features).success, "the session goes on"

    def test_submitting_beside_waiting(self, session: Session, features: Features, tmp_path: Path) -> None:
        """A waiting thread keeps nobody from submitting, and nobody waits longer for it."""
        job = session.submit(jobs.gated(tmp_path / "gate"))
        waiter = threading.Thread(target=lambda: finish(job, features))
        waiter.start()
        codes = [finish(session.submit(jobs.exit_with(n)), features).exit_code for n in range(3)]
        assert codes == [0, 1, 2]
        open_gate(tmp_path / "gate")
        waiter.join(features.deadline_s)
        assert job.state is JobState.DONE

    def test_threads_submit_at_once(self, session: Session, features: Features) -> None:
        codes: dict[int, list[int | None]] = {}

        def work(n: int) -> None:
            many = [session.submit(jobs.exit_with(n)) for _ in range(5)]
            codes[n] = [ending.exit_code for ending in session.wait_all(many, timeout=2 * features.deadline_s)]

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * features.deadline_s)
        assert codes == {n: [n] * 5 for n in range(6)}
        assert len(session.jobs()) == 30


class Callbacks:
    """Being told of each transition."""

    def test_each_once_and_in_order(self, session: Session, features: Features) -> None:
        told: dict[str, list[JobState]] = {}
        over = threading.Semaphore(0)

        def callback(job: Job, transition: Transition) -> None:
            state = transition.state
            told.setdefault(job.token, []).append(state)
            if state.final:
                over.release()

        session.watch(callback)
        many = session.submit_all([jobs.exit_with(n % 2) for n in range(12)])
        for _ in many:
            assert over.acquire(timeout=features.deadline_s)
        for n, job in enumerate(many):
            states = told[job.token]
            assert len(states) == len(set(states)), states
            assert states[-1] is (JobState.FAILED if n % 2 else JobState.DONE)
            assert JobState.RUNNING in states
            assert [state for state in (t.state for t in job.history) if state in states] == states

    def test_only_the_jobs_asked_for(self, session: Session, features: Features, tmp_path: Path) -> None:
        told: list[Job] = []
        mine, other = session.submit_all([jobs.gated(tmp_path / "gate")] * 2)
        watch = session.watch(lambda job, _: told.append(job), [mine])
        open_gate(tmp_path / "gate")
        finish(other, features)
        finish(mine, features)
        late = session.submit(jobs.succeed())
        finish(late, features)
        watch.close()
        assert set(told) <= {mine}

    def test_none_after_close(self, session: Session, features: Features, tmp_path: Path) -> None:
        told: list[Job] = []
        watch = session.watch(lambda job, _: told.append(job))
        job = session.submit(jobs.gated(tmp_path / "gate"))
        reach(session, job, JobState.RUNNING, features=features)
        watch.close()
        count = len(told)
        open_gate(tmp_path / "gate")
        finish(job, features)
        seen = threading.Event()
        with_other = session.watch(lambda *_: seen.set())
        finish(session.submit(jobs.succeed()), features)
        assert seen.wait(features.deadline_s)
        with_other.close()
        assert len(told) == count

    def test_a_slow_one_delays_only_its_own_job(self, session: Session, features: Features, tmp_path: Path) -> None:
        blocked, go_on, other_over = threading.Event(), threading.Event(), threading.Event()
        after_block: list[JobState] = []
        slow = session.submit(jobs.gated(tmp_path / "slow"))

        def callback(job: Job, transition: Transition) -> None:
            state = transition.state
            if job is slow:
                blocked.set()
                assert go_on.wait(2 * features.deadline_s)
                after_block.append(state)
            elif state.final:
                other_over.set()

        session.watch(callback)
        open_gate(tmp_path / "slow")
        assert blocked.wait(features.deadline_s)
        other = session.submit(jobs.succeed())
        assert other_over.wait(features.deadline_s), "the callback of another job waits for the slow one"
        assert finish(other, features).success
        assert finish(slow, features).success, "waiting waits for no callback"
        assert after_block == []
        go_on.set()

    def test_submit_and_wait_inside_one(self, session: Session, features: Features) -> None:
        """More callbacks than there are threads for them, each waiting for a job of its own."""
        codes: list[int | None] = []
        over = threading.Semaphore(0)
        outer: set[str] = set()

        def callback(job: Job, transition: Transition) -> None:
            if job.name == "outer" and transition.state.final:
                codes.append(session.submit(jobs.exit_with(6), name="inner").wait(timeout=features.deadline_s).exit_code)
                outer.add(job.token)
                over.release()

        session.watch(callback)
        many = session.submit_all([jobs.succeed()] * 6, name="outer")
        for _ in many:
            assert over.acquire(timeout=2 * features.deadline_s)
        assert codes == [6] * 6
        assert outer == {job.token for job in many}

    def test_one_that_raises_is_logged(self, session: Session, features: Features, caplog: pytest.LogCaptureFixture) -> None:
        over = threading.Event()

        def callback(_job: Job, transition: Transition) -> None:
            if transition.state.final:
                over.set()
            raise RuntimeError("a mistake in a callback")

        session.watch(callback)
        first = session.submit(jobs.succeed())
        assert finish(first, features).success
        assert over.wait(features.deadline_s), "after one has raised, the next is still called"
        session.close()
        assert "a mistake in a callback" in caplog.text
