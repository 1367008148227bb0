"""The journal's records as values, and how they stand in its tables."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from .evidence import JobFacts, Terms, seen_from_text, tell
from .job import By, Ending, JobDescription, JobState, Observation, Source, Transition, to_data
from .journal_store import from_sql, to_sql
from .keeper import Entry, Evidence

__all__ = [
    "FINAL",
    "FOREIGN",
    "Change",
    "Fed",
    "Intent",
    "JobRow",
    "SessionRow",
    "SubmissionRow",
    "described",
    "dumps",
    "entries",
    "evidence",
    "fed",
    "history",
    "in_chunks",
    "job_rows",
    "marks",
    "shown_name",
    "submissions",
    "transition_fields",
]

FOREIGN = "foreign"  # the kind of a submission that stands for an attached job
FINAL = "('done', 'failed', 'cancelled')"
_MANY = 500  # values in one SQL statement
_STATES = {state.value: state for state in JobState}
_BYS: dict[str | None, By | None] = {None: None, **{by.value: by for by in By}}


class SessionRow(msgspec.Struct, frozen=True):
    """A session. ``login``: what sessions share that ask the same scheduler as the same user."""

    id: str
    contact: str
    login: str
    created: float


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """One submission, before anything is sent."""

    token: str
    nonce: str
    session: str
    kind: str  # a Kind
    folder: str
    work_root: str
    description: JobDescription
    terms: Terms
    indices: Sequence[int] = ()  # ARRAY: the user's
    changes: Sequence[Mapping[str, Any]] = ()  # of each job in order: the fields, as to_data writes them, that it has otherwise
    jobs: int = 1  # how many; with ``indices`` or ``changes``, their number
    max_running: int | None = None
    array: str | None = None  # the array's token; the same for all parts of an array

    @property
    def count(self) -> int:
        """Its number of jobs."""
        return len(self.indices) or len(self.changes) or self.jobs


class SubmissionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A submission as recorded; shared by the rows of its jobs, whose keys follow each other from ``first_key``."""

    number: int
    token: str
    nonce: str
    session: str
    kind: str
    array: str | None
    folder: str
    work_root: str
    name: str
    terms: Terms
    max_running: int | None
    accepted: bool
    owner: str | None
    at: float
    array_id: str | None
    first_key: int
    jobs: int

    def job_token(self, key: int) -> str:
        """The token of one of its jobs: the submission's, and the job's number where it is one of several."""
        return _job_token(self.token, self.kind, key - self.first_key)


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job as recorded. ``version`` goes with each Change that is derived from it."""

    key: int
    version: int
    facts: JobFacts
    submission: SubmissionRow
    index: int | None = None

    @property
    def position(self) -> int:
        """Its number within the submission, from 0."""
        return self.key - self.submission.first_key

    @property
    def token(self) -> str:
        """The job's token."""
        return self.submission.job_token(self.key)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reconcile`` made of one job: new facts, the transitions, and the observations worth keeping."""

    key: int
    version: int  # of the row that it was derived from
    facts: JobFacts
    transitions: Sequence[Transition] = ()
    observations: Sequence[Observation] = ()


class Fed(msgspec.Struct, frozen=True):
    """One line of the feed of changes. ``number`` grows with each; the next look asks for those after it."""

    number: int
    key: int
    transition: Transition


# Out of the tables --------------------------------------------------------------------------------------------------


def submissions(db: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[SubmissionRow]:
    """Submissions (``s``) of sessions (``sessions``) where that holds, in order."""
    rows = db.execute(
        "SELECT s.number, s.token, s.nonce, sessions.id, s.kind, s.array, s.folder, s.work_root, s.name, s.terms, s.max_running,"
        " s.accepted, s.owner, s.at, s.array_id, s.first_key, s.jobs"
        f" FROM submissions s JOIN sessions ON sessions.number = s.session WHERE {where} ORDER BY s.number",
        values,
    )
    return [
        SubmissionRow(
            number=row[0],
            token=row[1],
            nonce=row[2],
            session=row[3],
            kind=row[4],
            array=row[5],
            folder=from_sql(row[6]) or "",
            work_root=from_sql(row[7]) or "",
            name=from_sql(row[8]) or "",
            terms=msgspec.convert(json.loads(row[9]), Terms),
            max_running=row[10],
            accepted=bool(row[11]),
            owner=row[12],
            at=row[13],
            array_id=from_sql(row[14]),
            first_key=row[15],
            jobs=row[16],
        )
        for row in rows
    ]


def job_rows(db: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[JobRow]:
    """Jobs (``jobs``) of accepted submissions where that holds, oldest first."""
    rows = db.execute(
        "SELECT key, version, state, at, by, reason, native_id, ending, seen, idx, submission"
        f" FROM jobs WHERE {where} ORDER BY key",
        values,
    ).fetchall()
    known: dict[int, SubmissionRow] = {}
    for chunk in in_chunks(sorted({row[10] for row in rows})):
        for one in submissions(db, f"s.accepted = 1 AND s.number IN ({marks(chunk)})", chunk):
            known[one.number] = one
    found: list[JobRow] = []
    for key, version, state, at, by, reason, native_id, ending, seen, index, number in rows:
        submission = known.get(number)
        if submission is None:
            continue
        facts = JobFacts(
            state=_STATES[state],
            at=at,
            by=_BYS[by],
            reason=from_sql(reason),
            native_id=from_sql(native_id),
            ending=_ending(ending),
            terms=submission.terms,
            seen=seen_from_text(seen),
        )
        found.append(JobRow(key=key, version=version, facts=facts, submission=submission, index=index))
    return found


def endings(db: sqlite3.Connection, login: str, native_ids: Sequence[str]) -> dict[str, Ending]:
    """How jobs with these native ids ended, whichever session of that login submitted them; the newest of each id."""
    found: dict[str, Ending] = {}
    for chunk in in_chunks(native_ids):
        rows = db.execute(
            "SELECT jobs.native_id, jobs.ending FROM jobs JOIN submissions s ON s.number = jobs.submission"
            " JOIN sessions ON sessions.number = s.session"
            f" WHERE jobs.native_id IN ({marks(chunk)}) AND jobs.ending IS NOT NULL AND s.kind <> ? AND sessions.login = ?"
            " ORDER BY jobs.key",
            (*(to_sql(one) for one in chunk), FOREIGN, to_sql(login)),
        )
        for native_id, ending in rows:
            if (ended := _ending(ending)) is not None:
                found[from_sql(native_id) or ""] = ended
    return found


def namesakes(db: sqlite3.Connection, login: str, session: str, native_ids: Sequence[str]) -> dict[int, str]:
    """Unfinished jobs with these native ids in that login's other sessions: key -> native id."""
    found: dict[int, str] = {}
    for chunk in in_chunks(native_ids):
        rows = db.execute(
            "SELECT jobs.key, jobs.native_id FROM jobs JOIN sessions ON sessions.number = jobs.session"
            f" WHERE jobs.native_id IN ({marks(chunk)}) AND jobs.state NOT IN {FINAL} AND sessions.login = ? AND sessions.id <> ?",
            (*(to_sql(one) for one in chunk), to_sql(login), to_sql(session)),
        )
        found.update({key: from_sql(native_id) or "" for key, native_id in rows})
    return found


def entries(db: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Entry]:
    """Jobs (``jobs``) of submissions (``s``) as listed; ``where`` says the order too."""
    rows = db.execute(
        "SELECT jobs.key, jobs.native_id, jobs.state, jobs.at, jobs.by, jobs.idx, jobs.ending, jobs.reaped, jobs.reason,"
        " coalesce(jobs.name, s.name), s.token, s.kind, s.first_key, s.array, s.at, s.array_id"
        f" FROM jobs JOIN submissions s ON s.number = jobs.submission WHERE {where}",
        values,
    )
    return [
        Entry(
            key=key,
            token=_job_token(token, kind, key - first),
            native_id=from_sql(native_id),
            state=_STATES[state],
            at=at,
            submitted_at=submitted_at,
            name=from_sql(name) or "",
            by=_BYS[by],
            array=array,
            array_id=from_sql(array_id) if array is not None else None,
            index=index,
            ending=_ending(ending),
            reaped=bool(reaped),
            foreign=kind == FOREIGN,
            reason=from_sql(reason),
        )
        for (
            key,
            native_id,
            state,
            at,
            by,
            index,
            ending,
            reaped,
            reason,
            name,
            token,
            kind,
            first,
            array,
            submitted_at,
            array_id,
        ) in rows
    ]


_TRANSITIONS = (
    "SELECT t.number, t.key, t.observation, t.state, t.at, t.by, t.synthesised, t.reason, j.ending"
    " FROM transitions t JOIN jobs j ON j.key = t.key"
)


def fed(db: sqlite3.Connection, number: int, session: str | None, most: int) -> list[Fed]:
    """Transitions after that number."""
    where, values = "t.number > ?", [number, most]
    if session is not None:
        where += " AND j.session = (SELECT number FROM sessions WHERE id = ?)"
        values.insert(1, to_sql(session))  # type: ignore[arg-type] # text beside numbers
    rows = db.execute(f"{_TRANSITIONS} WHERE {where} ORDER BY t.number LIMIT ?", values)
    return [Fed(row[0], row[1], _transition(row)) for row in rows]


def history(db: sqlite3.Connection, key: int) -> list[tuple[int, Transition]]:
    """A job's transitions in order, each with the number of the last observation before it."""
    rows = db.execute(f"{_TRANSITIONS} WHERE t.key = ? ORDER BY t.number", (key,))
    return [(row[2], _transition(row)) for row in rows]


def evidence(db: sqlite3.Connection, key: int) -> list[Evidence]:
    """A job's observations and transitions, each transition after the observations that it followed from."""
    lines: list[tuple[int, int, Evidence]] = []
    for number, data in db.execute("SELECT number, data FROM observations WHERE key = ? ORDER BY number", (key,)):
        seen = msgspec.convert(json.loads(data), Observation)
        lines.append((number, 0, Evidence(at=seen.at, text=tell(seen), observation=seen)))
    moved = history(db, key)
    row = db.execute(
        "SELECT jobs.native_id, s.kind FROM jobs JOIN submissions s ON s.number = jobs.submission WHERE jobs.key = ?", (key,)
    ).fetchone()
    if moved and row is not None and row[1] != FOREIGN and moved[0][0] == 0:  # what Journal.accepted told of all its jobs
        said = Observation(source=Source.SUBMISSION, at=moved[0][1].at, what="accepted", native_id=from_sql(row[0]))
        lines.append((-1, 0, Evidence(at=said.at, text=tell(said), observation=said)))
    for number, made in moved:
        lines.append((number, 1, Evidence(at=made.at, text=tell(made), transition=made)))
    lines.sort(key=lambda line: line[:2])
    return [line[2] for line in lines]


def _transition(row: Sequence[Any]) -> Transition:
    state = _STATES[row[3]]
    return Transition(
        state=state,
        at=row[4],
        by=_BYS[row[5]],
        ending=_ending(row[8]) if state.final else None,
        reason=from_sql(row[7]),
        synthesised=bool(row[6]),
    )


def _ending(text: str | None) -> Ending | None:
    return None if text is None else msgspec.convert(json.loads(text), Ending)


def _job_token(token: str, kind: str, position: int) -> str:
    return token if kind in ("single", FOREIGN) else f"{token}.{position}"


# Into them ----------------------------------------------------------------------------------------------------------


def transition_fields(one: Transition) -> tuple[Any, ...]:
    """State, at, by, synthesised, reason: as the columns stand."""
    return (one.state.value, one.at, one.by.value if one.by else None, int(one.synthesised), to_sql(one.reason))


def dumps(data: Any) -> str:
    """Standard json on one line, ASCII: any text survives in it."""
    return json.dumps(data, separators=(",", ":"))


def described(description: JobDescription) -> tuple[bytes, str]:
    """A description's digest and text; equal descriptions are kept once."""
    data = dumps(to_data(description))
    return hashlib.blake2b(data.encode("ascii"), digest_size=16).digest(), data


def shown_name(base: JobDescription, change: Mapping[str, Any]) -> str | None:
    """The name that a job's own fields give it; None: the submission's."""
    name = change.get("name", base.name)
    if name is None:
        argv = change.get("argv") or base.argv
        name = os.path.basename(argv[0]) or argv[0]
    return None if name == base.shown_name else str(name)


def in_chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Parts that fit in one statement."""
    return (values[at : at + _MANY] for at in range(0, len(values), _MANY))


def marks(values: Sequence[Any]) -> str:
    """So many question marks."""
    return ",".join("?" * len(values))
