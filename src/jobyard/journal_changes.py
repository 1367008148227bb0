"""What is written to the journal's tables, within a transaction that is open."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import UnknownJob
from .evidence import Terms
from .job import Transition, to_data
from .journal_rows import (
    FINAL,
    Change,
    Intent,
    SessionRow,
    SubmissionRow,
    dumps,
    in_chunks,
    marks,
    shown_name,
    submissions,
    transition_fields,
)
from .journal_store import to_sql

__all__ = [
    "accept",
    "change",
    "drop_empty",
    "drop_jobs",
    "drop_sessions",
    "drop_submissions",
    "insert",
    "keep_session",
    "session_number",
    "take",
]

MOST_OBSERVATIONS = 64  # kept of one job; past that, those in the middle go
FIRST, LAST = 16, 32  # so many of the first and the last stay


def session_number(db: sqlite3.Connection, session_id: str) -> int:
    """The row of that session; UnknownJob where there is none."""
    row = db.execute("SELECT number FROM sessions WHERE id = ?", (to_sql(session_id),)).fetchone()
    if row is None:
        raise UnknownJob(f"no session {session_id!r} in this journal; it was removed, or is in another state folder")
    return int(row[0])


def insert(db: sqlite3.Connection, intent: Intent, description: tuple[bytes, str] | None, owner: str | None, now: float) -> range:
    """A submission and its jobs, intended: their keys. UnknownJob where the session is not there."""
    session = session_number(db, intent.session)
    number = None
    if description is not None:
        db.execute("INSERT OR IGNORE INTO descriptions (digest, data) VALUES (?, ?)", description)
        number = db.execute("SELECT number FROM descriptions WHERE digest = ?", description[:1]).fetchone()[0]
    last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
    first, count = (last[0] if last else 0) + 1, intent.count
    submission = db.execute(
        "INSERT INTO submissions (token, nonce, session, kind, array, folder, work_root, description, name, terms, max_running,"
        " accepted, owner, at, first_key, jobs) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
        (
            intent.token,
            intent.nonce,
            session,
            str(intent.kind),
            intent.array,
            to_sql(intent.folder),
            to_sql(intent.work_root),
            number,
            to_sql(intent.description.shown_name),
            dumps(to_data(intent.terms)),
            intent.max_running,
            owner,
            now,
            first,
            count,
        ),
    ).lastrowid
    indices: Sequence[int | None] = intent.indices or [None] * count
    changes: Sequence[Mapping[str, Any]] = intent.changes or [{}] * count
    at = _submitted(intent.terms, now)
    base = intent.description
    db.executemany(
        "INSERT INTO jobs (key, session, submission, idx, state, at, name, changes) VALUES (?, ?, ?, ?, 'new', ?, ?, ?)",
        [
            (
                first + position,
                session,
                submission,
                index,
                at,
                to_sql(shown_name(base, own)) if own else None,
                dumps(own) if own else None,
            )
            for position, (index, own) in enumerate(zip(indices, changes, strict=True))
        ],
    )
    return range(first, first + count)


def _submitted(terms: Terms, now: float) -> float:
    return terms.submitted_at if terms.submitted_at is not None else now


def accept(
    db: sqlite3.Connection, token: str, native_ids: Sequence[str | None], transitions: Sequence[Transition], array_id: str | None
) -> bool:
    """Native ids, and the transitions that all jobs of the submission made; False where it was accepted already."""
    row = db.execute("SELECT number, first_key, jobs, accepted FROM submissions WHERE token = ?", (token,)).fetchone()
    if row is None:
        raise UnknownJob(f"no submission {token} in this journal: it was refused, or removed")
    number, first, count, already = row
    if len(native_ids) != count:
        raise ValueError(f"{len(native_ids)} native ids for {count} jobs of the submission {token}")
    if already:
        return False
    db.execute("UPDATE submissions SET accepted = 1, owner = NULL, array_id = ? WHERE number = ?", (to_sql(array_id), number))
    ids = [(to_sql(native_id), first + position) for position, native_id in enumerate(native_ids)]
    db.executemany("UPDATE jobs SET native_id = ? WHERE key = ?", ids)
    span = (first, first + count - 1)
    for one in transitions:
        fields = transition_fields(one)
        db.execute(
            "INSERT INTO transitions (key, observation, state, at, by, synthesised, reason)"
            " SELECT key, 0, ?, ?, ?, ?, ? FROM jobs WHERE key BETWEEN ? AND ? ORDER BY key",
            (*fields, *span),
        )
        db.execute(
            "UPDATE jobs SET state = ?, at = ?, by = ?, version = version + 1 WHERE key BETWEEN ? AND ?", (*fields[:3], *span)
        )
    return True


def change(db: sqlite3.Connection, one: Change, seen: str | None) -> bool:
    """Write one change; False where the row is no longer the one that it was derived from."""
    facts = one.facts
    cursor = db.execute(
        "UPDATE jobs SET state = ?, by = ?, at = ?, native_id = ?, reason = ?, seen = ?, ending = ?, version = version + 1,"
        " observed = observed + ? WHERE key = ? AND version = ?",
        (
            facts.state.value,
            facts.by.value if facts.by else None,
            facts.at,
            to_sql(facts.native_id),
            to_sql(facts.reason),
            None if facts.state.final else seen,
            None if facts.ending is None else dumps(to_data(facts.ending)),
            len(one.observations),
            one.key,
            one.version,
        ),
    )
    if cursor.rowcount != 1:
        return False
    for observation in one.observations:
        db.execute("INSERT INTO observations (key, data) VALUES (?, ?)", (one.key, dumps(to_data(observation))))
    if one.transitions:
        row = db.execute("SELECT max(number) FROM observations WHERE key = ?", (one.key,)).fetchone()
        db.executemany(
            "INSERT INTO transitions (key, observation, state, at, by, synthesised, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(one.key, row[0] or 0, *transition_fields(transition)) for transition in one.transitions],
        )
    if one.observations:
        _bound_observations(db, one.key)
    return True


def _bound_observations(db: sqlite3.Connection, key: int) -> None:
    count = db.execute("SELECT observed FROM jobs WHERE key = ?", (key,)).fetchone()[0]
    if count <= MOST_OBSERVATIONS:
        return
    db.execute(
        "DELETE FROM observations WHERE key = :key"
        f" AND number NOT IN (SELECT number FROM observations WHERE key = :key ORDER BY number LIMIT {FIRST})"
        f" AND number NOT IN (SELECT number FROM observations WHERE key = :key ORDER BY number DESC LIMIT {LAST})",
        {"key": key},
    )
    db.execute("UPDATE jobs SET observed = ? WHERE key = ?", (FIRST + LAST, key))


def keep_session(db: sqlite3.Connection, session: SessionRow) -> None:
    """Make sure that a session is there: one that lived on without a job may have been pruned."""
    db.execute(
        "INSERT OR IGNORE INTO sessions (id, contact, login, created) VALUES (?, ?, ?, ?)",
        (session.id, to_sql(session.contact), to_sql(session.login), session.created),
    )


def drop_sessions(db: sqlite3.Connection, before: float, most: int) -> None:
    """Sessions from before then that have no jobs."""
    db.execute(
        "DELETE FROM sessions WHERE number IN (SELECT number FROM sessions s WHERE created < ?"
        " AND NOT EXISTS (SELECT 1 FROM submissions WHERE session = s.number) LIMIT ?)",
        (before, most),
    )


def take(db: sqlite3.Connection, session_id: str, keys: Sequence[int] | None) -> int | None:
    """Reap one finished, unreaped job of a session, the oldest (of these); None: there is none."""
    query = f"SELECT key FROM jobs WHERE session = ? AND reaped = 0 AND state IN {FINAL}"
    number, row = session_number(db, session_id), None
    if keys is None:
        row = db.execute(f"{query} ORDER BY key LIMIT 1", (number,)).fetchone()
    else:
        for chunk in in_chunks(keys):
            row = db.execute(f"{query} AND key IN ({marks(chunk)}) ORDER BY key LIMIT 1", (number, *chunk)).fetchone()
            if row is not None:
                break
    if row is None:
        return None
    db.execute("UPDATE jobs SET reaped = 1 WHERE key = ?", row)
    return int(row[0])


def drop_jobs(db: sqlite3.Connection, keys: Sequence[int]) -> None:
    """Jobs with all that is known of them."""
    for chunk in in_chunks(keys):
        for table in ("observations", "transitions", "jobs"):
            db.execute(f"DELETE FROM {table} WHERE key IN ({marks(chunk)})", chunk)


def drop_empty(db: sqlite3.Connection, numbers: Sequence[int]) -> list[SubmissionRow]:
    """Those of these submissions that have no job left; they go."""
    gone: list[SubmissionRow] = []
    for chunk in in_chunks(numbers):
        for one in submissions(db, f"s.number IN ({marks(chunk)})", chunk):
            span = (one.first_key, one.first_key + one.jobs - 1)
            if db.execute("SELECT 1 FROM jobs WHERE key BETWEEN ? AND ? LIMIT 1", span).fetchone() is None:
                gone.append(one)
    drop_submissions(db, [one.number for one in gone])
    return gone


def drop_submissions(db: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Submissions with all their jobs, and their descriptions where no other has the same."""
    for number in numbers:
        row = db.execute("SELECT first_key, jobs, description FROM submissions WHERE number = ?", (number,)).fetchone()
        if row is None:
            continue
        first, count, description = row
        for table in ("observations", "transitions", "jobs"):
            db.execute(f"DELETE FROM {table} WHERE key BETWEEN ? AND ?", (first, first + count - 1))
        db.execute("DELETE FROM submissions WHERE number = ?", (number,))
        db.execute(
            "DELETE FROM descriptions WHERE number = :number"
            " AND NOT EXISTS (SELECT 1 FROM submissions WHERE description = :number)",
            {"number": description},
        )
