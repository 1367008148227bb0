"""Where the waist could lose, double or misorder something: Session and its handles, on a keeper that the test plays."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from engine.fake_keeper import FakeKeeper, opened
from jobyard import Capabilities, InvalidJob, JobDescription, Session, UnknownJob
from jobyard.callbacks import Callbacks
from jobyard.job import JobState, StageIn
from jobyard.layout import lay_out_jobs
from jobyard.schedulers.base import SiteLimits
from jobyard.testing import standin

DONE, RUNNING = JobState.DONE, JobState.RUNNING


@pytest.fixture
def yielded(yard: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Session, FakeKeeper]]:
    session, keeper = opened(monkeypatch)
    with session:
        yield session, keeper


@pytest.fixture
def session(yielded: tuple[Session, FakeKeeper]) -> Session:
    return yielded[0]


@pytest.fixture
def keeper(yielded: tuple[Session, FakeKeeper]) -> FakeKeeper:
    return yielded[1]


def test_common_fields_leave_a_description_s_own_directory(session: Session, keeper: FakeKeeper) -> None:
    session.submit_all([JobDescription(argv=("x",), directory="/own")], cores=2)
    assert keeper.descriptions[1].directory == "/own"
    assert keeper.descriptions[1].resources.cores == 2


def test_who_stops_awaiting_stops_nobody_else(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"])

    async def both() -> int | None:
        patient = asyncio.ensure_future(_awaited(job))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_awaited(job), 0.01)
        keeper.tell((1, DONE))
        return await patient

    async def _awaited(one: object) -> int | None:
        ending = await job
        return ending.exit_code

    assert asyncio.run(both()) == 0
    assert job.future().result(0).exit_code == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_job_that_could_not_be_reaped_can_be_taken_again(
    session: Session, keeper: FakeKeeper, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    job = session.submit(["x"])
    keeper.tell((1, DONE))

    def interrupted(keys: Iterable[int]) -> Sequence[int]:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(keeper, "reap", interrupted)
        with pytest.raises(error):
            session.take(timeout=0)
    assert session.take(timeout=0) is job


def test_what_others_reaped_is_asked_once(session: Session, keeper: FakeKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    session.submit_all([["x"]] * 500)
    keeper.tell(*((key, DONE) for key in range(1, 501)))
    keeper.reaped.update(range(1, 500))
    asked: list[int] = []
    reap = keeper.reap

    def noted(keys: Sequence[int]) -> Sequence[int]:
        asked.extend(keys)
        return reap(keys)

    monkeypatch.setattr(keeper, "reap", noted)
    assert session.take(timeout=0).native_id == "500"
    assert len(asked) < 10


def test_timeouts_that_are_no_numbers_and_endless_ones(session: Session, keeper: FakeKeeper) -> None:
    job = session.submit(["x"])
    with pytest.raises(ValueError, match="nan"):
        job.wait(float("nan"))
    keeper.tell((1, RUNNING))
    threading.Timer(0.05, lambda: keeper.tell((1, DONE))).start()
    assert job.wait(float("inf")).exit_code == 0


def test_errors_name_jobs_that_were_only_listed(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, keeper = opened(monkeypatch)
    session.submit(["x"])
    with Session(session.contact) as other:
        keeper.sink = other._board.deliver
        (job,) = other.jobs()
        with pytest.raises(TimeoutError, match="job 1 is still queued"):
            job.wait(0)
    session.close()


def test_a_part_s_id_stands_for_the_whole_array(session: Session, keeper: FakeKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    array = session.submit_array(["x"], range(4))
    monkeypatch.setattr(
        keeper,
        "find",
        lambda name: {"part": [3, 4], array.token: [1, 2, 3, 4]}.get(name, []),  # as a split array's keeper
    )
    for key in (3, 4):
        keeper.records[key] = msgspec.structs.replace(keeper.records[key], array_id="part")
    found = session.array("part")
    assert len(found) == 4
    assert found.native_id == array.native_id


def test_check_refuses_what_submit_would(session: Session, keeper: FakeKeeper) -> None:
    for fields, field in (
        ({"launcher": "nonesuch"}, "launcher"),
        ({"launcher_options": ["-v"]}, "launcher_options"),
        ({"launcher": "multiple", "launcher_options": ["-v"]}, "launcher_options"),
        ({"after": "f" * 32}, "after"),
        ({"stage_in": {"ftp://far/away": "x"}}, "stage_in"),
    ):
        with pytest.raises(InvalidJob) as caught:
            session.check(["x"], **fields)
        assert caught.value.field == field
    with pytest.raises(InvalidJob):
        session.submit(["x"], launcher_options=["-v"])
    assert keeper.records == {}


def test_a_long_range_is_checked_by_its_ends(session: Session) -> None:
    from jobyard.session import _check_indices

    assert len(_check_indices(range(0, 2**31 - 1, 2))) == 2**30
    for bad in (range(0, 2**32, 2), range(-1, 100), range(100, 0, -1)):
        with pytest.raises(InvalidJob):
            _check_indices(bad)


def test_stages_decide_which_jobs_go_together() -> None:
    """How ``running`` is read is recorded once for a submission: a job that brings files in is not like one that does not."""
    plain = JobDescription(argv=("x",))
    staged = JobDescription(argv=("x",), stage_in=(StageIn(source="/a", target="a"),))
    can = Capabilities(arrays=True, per_task_control=True)
    assert [list(part.positions) for part in lay_out_jobs([plain, staged, plain, staged], can, SiteLimits())] == [[0, 2], [1, 3]]


def test_a_callback_that_exits_takes_nobody_along(caplog: pytest.LogCaptureFixture) -> None:
    pool, after = Callbacks(1), threading.Event()
    pool.call("lane", sys.exit, 3)
    pool.call("lane", after.set)
    assert after.wait(10)
    pool.close()
    assert "a callback failed" in caplog.text


def test_a_session_that_is_never_closed_lets_the_program_end(yard: Path) -> None:
    with standin.install(yard / "cell", slots=1) as cell:
        for program in (
            "session = jobyard.Session(sys.argv[1]); jobs = session.submit_all([['/bin/true']] * 2); session.wait_all()",
            "jobyard.Session(sys.argv[1]).jobs(); gc.collect()",
            "session = jobyard.Session(sys.argv[1]); session.watch(print); session.submit(['/bin/sleep', '60'])",
            "session = jobyard.Session('local'); session.watch(lambda *told: None); session.submit(['/bin/true']).wait()",
        ):
            argv = [sys.executable, "-X", "dev", "-W", "error", "-c", f"import gc, sys, jobyard\n{program}", cell.contact]
            ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
            assert (ended.returncode, ended.stderr) == (0, ""), program


def test_wait_any_of_no_job(session: Session) -> None:
    with pytest.raises(UnknownJob):
        session.wait_any([])
