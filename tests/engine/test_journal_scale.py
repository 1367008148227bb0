"""The journal with 100,000 jobs in one session: what is asked often stays cheap. Bounds are wide; the usual figures are a third."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from engine.journaling import LOGIN, finish, submit
from engine.reconciling import QUEUED
from jobyard.journal import Journal

JOBS = 100_000


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Journal, str]]:
    journal = Journal(tmp_path_factory.mktemp("big") / "state" / "journal.db")
    session = journal.create_session("slurm", LOGIN).id
    keys = submit(journal, session, ids=[f"7_{n}" for n in range(JOBS)], kind="array", indices=range(JOBS), array="a" * 32)
    finish(journal, keys[:1000])
    yield journal, session
    journal.close()


def best(work: Callable[[], object]) -> float:
    """The shortest of several times, in seconds: other work on the machine makes only the others longer."""
    times = []
    for _ in range(7):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def plain(journal: Journal) -> float:
    """What SQLite alone takes to count and add up all jobs: the measure for the others, on this machine and now."""
    with journal._store.reading() as db:
        return best(lambda: db.execute("SELECT sum(length(state)), sum(at) FROM jobs").fetchone())


def test_reopening_a_session(big: tuple[Journal, str]) -> None:
    journal, session = big

    def reopen() -> None:
        again = Journal(journal.path)
        again.session(session)
        found = again.states(session)
        assert len(found) == JOBS
        assert found[-1] == (JOBS, QUEUED)
        again.close()

    assert best(reopen) < 40 * plain(journal)


def test_the_newest_fifty(big: tuple[Journal, str]) -> None:
    journal, session = big
    assert [one.index for one in journal.entries(session, newest=50)] == list(range(JOBS - 50, JOBS))
    assert best(lambda: journal.entries(session, newest=50)) < plain(journal)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT key, state FROM jobs WHERE session = 1 ORDER BY key",
        "SELECT key FROM jobs WHERE session = 1 ORDER BY key DESC LIMIT 50",
        "SELECT key FROM jobs WHERE session = 1 AND state NOT IN ('done', 'failed', 'cancelled') ORDER BY key",
        "SELECT key FROM jobs WHERE session = 1 AND reaped = 0 AND state IN ('done', 'failed', 'cancelled') ORDER BY key LIMIT 1",
        "SELECT key FROM jobs WHERE state IN ('done', 'failed', 'cancelled') AND at < 1 ORDER BY at LIMIT 5",
        "SELECT key FROM jobs WHERE session = 1 AND native_id = '7' ORDER BY key DESC LIMIT 1",
        "SELECT number FROM submissions WHERE accepted = 0",
        "SELECT data FROM observations WHERE key = 1 ORDER BY number",
        "SELECT state FROM transitions WHERE key = 1 ORDER BY number",
    ],
)
def test_queries_neither_scan_nor_sort(big: tuple[Journal, str], query: str) -> None:
    with big[0]._store.reading() as db:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert all(line.startswith("SEARCH") for line in plan), plan


def test_looking_one_up_costs_nothing(big: tuple[Journal, str]) -> None:
    journal, session = big
    assert journal.find(session, "7_99999") == journal.find(session, "a" * 32 + ".99999") == [JOBS]
    assert best(lambda: journal.find(session, "7_99999")) < 0.02
    assert best(lambda: journal.take(session, [JOBS])) < 0.06
    assert best(journal.changed) < 0.005


def test_a_job_takes_a_few_hundred_bytes(big: tuple[Journal, str]) -> None:
    journal, _ = big
    with journal._store.reading() as db:
        pages, size = db.execute("PRAGMA page_count").fetchone()[0], db.execute("PRAGMA page_size").fetchone()[0]
    assert pages * size / JOBS < 250
