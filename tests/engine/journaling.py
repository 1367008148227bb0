"""Journals to test with: submissions in short, and one filled with a bit of everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.reconciling import RUNNING, T0, accepted, begin, end, over, row
from jobyard.evidence import JobFacts, Terms
from jobyard.job import By, Cause, JobDescription, JobState, Limits, Observation, Resources, Source
from jobyard.journal import Change, Intent, JobRow, Journal
from jobyard.reconcile import follow, reconcile

LOGIN = "slurm@here"
TERMS = Terms(submitted_at=T0)
ODD = "caf\udce9 \udcff\n'\"$"  # bytes that are not UTF-8, as os.fsdecode gives them, and what shells trip over


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self, now: float = T0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def intent(session: str, token: str = "a" * 32, **fields: Any) -> Intent:
    given: dict[str, Any] = {
        "nonce": "0" * 32,
        "kind": "single",
        "folder": f"/work/{token[:2]}/{token}",
        "work_root": "/work",
        "description": JobDescription(argv=("/bin/true",)),
        "terms": TERMS,
    }
    return Intent(session=session, token=token, **{**given, **fields})


def submit(journal: Journal, session: str, token: str = "a" * 32, ids: Sequence[str] = ("7",), **fields: Any) -> list[int]:
    """A submission that was accepted: its keys."""
    keys = journal.intend([intent(session, token, jobs=len(ids), **fields)])[0]
    _, made = reconcile(JobFacts(terms=TERMS, at=T0), [accepted(ids[0])], T0 + 2, clock_s=0.0)
    assert journal.accepted(token, ids, made, array_id=fields.get("array") and ids[0].partition("_")[0])
    return list(keys)


def observe(journal: Journal, observed: dict[int, list[Observation]], now: float = T0 + 100) -> dict[int, JobRow | None]:
    """What a tracker does with observations: derive, record."""
    changes = []
    for one in journal.rows(observed):
        facts, made, kept = follow(one.facts, observed[one.key], now, clock_s=0.0)
        changes.append(Change(key=one.key, version=one.version, facts=facts, transitions=made, observations=kept))
    return journal.record(changes)


def finish(journal: Journal, keys: Sequence[int], code: int = 0, now: float = T0 + 100) -> None:
    assert not observe(journal, {key: [begin(), end(code)] for key in keys}, now)


def fill(journal: Journal) -> str:
    """A bit of everything that a journal can hold; the session's id."""
    session = journal.create_session(f"slurm+ssh://me@login/{ODD}", LOGIN).id
    description = JobDescription(
        argv=("/bin/echo", ODD),
        name=ODD,
        environment={"A": ODD},
        resources=Resources(cores=2, memory_bytes=2**40),
        limits=Limits(walltime_s=600.0),
        tags={"x": "y"},
    )
    (single,) = submit(journal, session, "a" * 32, ["7"], description=description, folder=f"/work/{ODD}")
    tasks = submit(
        journal, session, "b" * 32, ["8_1", "8_3", "8_5"], kind="array", array="b" * 32, indices=[1, 3, 5], max_running=2
    )
    like = submit(
        journal,
        session,
        "c" * 32,
        ["9_0", "9_1"],
        kind="like",
        changes=[{}, {"argv": ["/bin/false", ODD], "name": "other", "environment": {"B": "c"}}],
    )
    journal.intend([intent(session, "d" * 32)])
    foreign, _ = journal.adopt(session, "1234", "theirs", Terms(receipts=False, submitted_at=None))
    observe(journal, {single: [begin(), end("SIGTERM", "SIGTERM"), over(Cause.CANCELLED)]})
    observe(journal, {tasks[0]: [begin(), end(0)], tasks[1]: [row(RUNNING)]})
    held = row(JobState.HELD, by=By.BOTH, reason=ODD)
    odd = Observation(source=Source.QUEUE, at=T0 + 40, what="row", native_state=ODD, native_id="9_1")
    observe(journal, {like[1]: [held, odd], foreign: [row(RUNNING, native_id="1234")]})
    journal.reap([tasks[0]])
    return session
