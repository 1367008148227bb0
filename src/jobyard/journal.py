"""The journal: what this user has submitted and what is known of it, durably, for all processes.

One SQLite file (journal_store.py; tables: journal_schema.py). A submission is recorded as *intended* before anything leaves,
then *accepted* with its native ids, or *refused*, which leaves no trace; a crash between leaves it intended, to be repaired by
whoever finds its owner gone (``stale_intents``). Each job's row carries a version: a change that was derived from an older one
is not written and has to be derived again, so every observer sees the same history.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from . import leases
from .errors import UnknownJob
from .evidence import JobFacts, Terms, seen_from_text, seen_to_text, tell
from .job import By, Ending, JobDescription, JobState, Observation, Transition, description_from_data, to_data
from .journal_store import Store, from_sql, to_sql
from .keeper import Entry, Evidence

__all__ = ["Change", "Fed", "Intent", "JobRow", "Journal", "SessionRow", "SubmissionRow"]

FOREIGN = "foreign"  # the kind of a submission that stands for an attached job
MOST_OBSERVATIONS = 64  # kept of one job; past that, those in the middle go
_FIRST, _LAST = 16, 32  # so many of the first and the last stay
_MANY = 500  # values in one SQL statement
_FINAL = "('done', 'failed', 'cancelled')"
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
    array: str | None = None  # the array's token

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
        return self.token if self.kind in ("single", FOREIGN) else f"{self.token}.{key - self.first_key}"


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


class Journal:
    """The journal in one file. Every method may be called from any thread; all raise JournalError where the file fails them.

    ``clock``: seconds since the epoch. A fork may use its parent's object: it opens the file anew.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self._store = Store(path)
        self._clock = clock
        self._seen_version = -1
        self._me = leases.Identity.of_this_process()

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self._store.path

    @property
    def owner(self) -> str:
        """The name of this process's own lease, which its intents carry."""
        return self._identity().name

    @property
    def commits(self) -> int:
        """Commits made by this object so far."""
        return self._store.commits

    def check(self) -> list[str]:
        """What is wrong with the file, as SQLite finds by reading all of it; empty: nothing."""
        return self._store.check()

    def close(self) -> None:
        """Release this process's lease and close the file. A second time does nothing."""
        self._store.close()

    def _identity(self) -> leases.Identity:
        if self._me.pid != os.getpid():
            self._me = leases.Identity.of_this_process()
        return self._me

    # sessions

    def create_session(self, contact: str, login: str) -> SessionRow:
        """A new session with an id of its own."""
        made = SessionRow(secrets.token_hex(8), contact, login, self._clock())

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO sessions (id, contact, login, created) VALUES (?, ?, ?, ?)",
                (made.id, to_sql(contact), to_sql(login), made.created),
            )

        self._store.write(work)
        return made

    def session(self, session_id: str) -> SessionRow:
        """The session of that id. UnknownJob where there is none."""
        with self._store.reading() as db:
            row = db.execute("SELECT id, contact, login, created FROM sessions WHERE id = ?", (to_sql(session_id),)).fetchone()
        if row is None:
            raise UnknownJob(f"no session {session_id!r} in the journal {self.path}; it was removed, or is in another journal")
        return SessionRow(row[0], from_sql(row[1]) or "", from_sql(row[2]) or "", row[3])

    def sessions(self) -> list[SessionRow]:
        """All sessions, oldest first."""
        with self._store.reading() as db:
            rows = db.execute("SELECT id, contact, login, created FROM sessions ORDER BY number").fetchall()
        return [SessionRow(row[0], from_sql(row[1]) or "", from_sql(row[2]) or "", row[3]) for row in rows]

    # submissions

    def intend(self, intents: Sequence[Intent]) -> list[range]:
        """Record submissions before anything of them is sent, in one durable commit: the keys of their jobs, in order.

        UnknownJob where a session is not there.
        """
        me, now = self._identity(), self._clock()
        prepared = [(intent, *_described(intent.description)) for intent in intents]

        def work(db: sqlite3.Connection) -> list[range]:
            leases.touch(db, me, me.name, now)
            return [self._insert(db, intent, digest, data, me.name, now) for intent, digest, data in prepared]

        made: list[range] = self._store.write(work)
        return made

    def _insert(self, db: sqlite3.Connection, intent: Intent, digest: bytes, data: str, owner: str | None, now: float) -> range:
        session = self._session_number(db, intent.session)
        db.execute("INSERT OR IGNORE INTO descriptions (digest, data) VALUES (?, ?)", (digest, data))
        described = db.execute("SELECT number FROM descriptions WHERE digest = ?", (digest,)).fetchone()[0]
        return self._insert_rows(db, intent, session, described, owner, now)

    def _session_number(self, db: sqlite3.Connection, session_id: str) -> int:
        row = db.execute("SELECT number FROM sessions WHERE id = ?", (session_id,)).fetchone()
        if row is None:
            raise UnknownJob(f"no session {session_id!r} in the journal {self.path}; it was removed, or is in another journal")
        return int(row[0])

    def _insert_rows(
        self, db: sqlite3.Connection, intent: Intent, session: int, described: int | None, owner: str | None, now: float
    ) -> range:
        last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
        first, count = (last[0] if last else 0) + 1, intent.count
        cursor = db.execute(
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
                described,
                to_sql(intent.description.shown_name),
                _dumps(to_data(intent.terms)),
                intent.max_running,
                owner,
                now,
                first,
                count,
            ),
        )
        number = cursor.lastrowid
        indices: Sequence[int | None] = intent.indices or [None] * count
        changes: Sequence[Mapping[str, Any]] = intent.changes or [{}] * count
        submitted = intent.terms.submitted_at if intent.terms.submitted_at is not None else now
        db.executemany(
            "INSERT INTO jobs (key, session, submission, idx, state, at, name, changes) VALUES (?, ?, ?, ?, 'new', ?, ?, ?)",
            [
                (
                    first + at,
                    session,
                    number,
                    indices[at],
                    submitted,
                    to_sql(_name(change)) if change else None,
                    _dumps(change) if change else None,
                )
                for at, change in zip(range(count), changes, strict=True)
            ],
        )
        return range(first, first + count)

    def accepted(
        self, token: str, native_ids: Sequence[str], transitions: Sequence[Transition] = (), *, array_id: str | None = None
    ) -> None:
        """The scheduler took a submission: its jobs' native ids in order, and the transitions that all of them made.

        UnknownJob where there is no such submission (it was refused, or removed).
        """

        def work(db: sqlite3.Connection) -> None:
            row = db.execute("SELECT number, first_key, jobs, accepted FROM submissions WHERE token = ?", (token,)).fetchone()
            if row is None:
                raise UnknownJob(f"no submission {token} in the journal {self.path}")
            number, first, count, already = row
            if len(native_ids) != count:
                raise ValueError(f"{len(native_ids)} native ids for {count} jobs of the submission {token}")
            if already:
                return  # another process found it first
            db.execute(
                "UPDATE submissions SET accepted = 1, owner = NULL, array_id = ? WHERE number = ?", (to_sql(array_id), number)
            )
            last = transitions[-1] if transitions else None
            if last is None:
                db.executemany(
                    "UPDATE jobs SET native_id = ? WHERE key = ?", [(to_sql(one), first + at) for at, one in enumerate(native_ids)]
                )
                return
            state, by = last.state.value, last.by.value if last.by else None
            db.executemany(
                "UPDATE jobs SET native_id = ?, state = ?, by = ?, at = ?, version = version + 1 WHERE key = ?",
                [(to_sql(one), state, by, last.at, first + at) for at, one in enumerate(native_ids)],
            )
            for one in transitions:
                db.execute(
                    "INSERT INTO transitions (key, observation, state, at, by, synthesised, reason)"
                    " SELECT key, 0, ?, ?, ?, ?, ? FROM jobs WHERE key BETWEEN ? AND ? ORDER BY key",
                    (*_transition_fields(one), first, first + count - 1),
                )

        self._store.write(work)

    def refused(self, token: str) -> None:
        """The scheduler did not take a submission: nothing of it stays. One that was accepted, or is not there, is left alone."""

        def work(db: sqlite3.Connection) -> None:
            row = db.execute("SELECT number FROM submissions WHERE token = ? AND accepted = 0", (token,)).fetchone()
            if row is not None:
                _delete_submissions(db, [row[0]])

        self._store.write(work)

    def adopt(self, session: str, native_id: str, name: str, terms: Terms) -> tuple[int, bool]:
        """Follow a foreign job: its key, and whether it is new here."""
        now = self._clock()
        intent = Intent(
            token=secrets.token_hex(16),
            nonce="",
            session=session,
            kind=FOREIGN,
            folder="",
            work_root="",
            description=JobDescription(argv=("?",), name=name or "?"),
            terms=terms,
        )

        def work(db: sqlite3.Connection) -> tuple[int, bool]:
            number = self._session_number(db, session)
            row = db.execute(
                "SELECT key FROM jobs WHERE session = ? AND native_id = ? ORDER BY key DESC LIMIT 1", (number, to_sql(native_id))
            ).fetchone()
            if row is not None:
                return int(row[0]), False
            key = self._insert_rows(db, intent, number, None, None, now).start
            db.execute("UPDATE submissions SET accepted = 1 WHERE first_key = ?", (key,))
            db.execute("UPDATE jobs SET native_id = ? WHERE key = ?", (to_sql(native_id), key))
            return key, True

        made: tuple[int, bool] = self._store.write(work)
        return made

    def stale_intents(self, login: str | None = None) -> list[SubmissionRow]:
        """Intended submissions whose owner is provably gone, or gave no sign for long: they may have been taken, or not."""
        now = self._clock()
        with self._store.reading() as db:
            found = self._submissions(
                db, "s.accepted = 0" + (" AND sessions.login = ?" if login is not None else ""), (to_sql(login),) if login else ()
            )
            mine = self.owner
            return [one for one in found if one.owner != mine and not leases.held(db, one.owner, now)]

    def claim_intent(self, token: str) -> bool:
        """Take over the repair of an intent whose owner is gone; False where somebody else has it, or it is settled."""
        me, now = self._identity(), self._clock()

        def work(db: sqlite3.Connection) -> bool:
            row = db.execute("SELECT owner FROM submissions WHERE token = ? AND accepted = 0", (token,)).fetchone()
            if row is None or (row[0] != me.name and leases.held(db, row[0], now)):
                return False
            leases.touch(db, me, me.name, now)
            db.execute("UPDATE submissions SET owner = ? WHERE token = ?", (me.name, token))
            return True

        return bool(self._store.write(work))

    # states

    def record(self, changes: Sequence[Change]) -> dict[int, JobRow | None]:
        """Write what was derived, for many jobs in one commit; the rows whose change was not written, as they are now.

        A change whose version is not the row's was derived from old facts: derive it again from the row returned. None: the
        job is no longer kept. A written change makes the version one more.
        """
        if not changes:
            return {}
        prepared = [(change, seen_to_text(change.facts.seen)) for change in changes]

        def work(db: sqlite3.Connection) -> list[int]:
            return [change.key for change, seen in prepared if not _write_change(db, change, seen)]

        missed: list[int] = self._store.write(work)
        if not missed:
            return {}
        rows = {row.key: row for row in self.rows(missed)}
        return {key: rows.get(key) for key in missed}

    def rows(self, keys: Iterable[int]) -> list[JobRow]:
        """These jobs, as far as they are kept, oldest first."""
        found: list[JobRow] = []
        with self._store.reading() as db:
            for chunk in _chunks(sorted(keys)):
                found += self._job_rows(db, f"jobs.key IN ({_marks(chunk)})", tuple(chunk))
        return found

    def unfinished(self, session: str | None = None, *, login: str | None = None) -> list[JobRow]:
        """Accepted jobs that have not ended: of one session, of all sessions of a login, or all; oldest first."""
        where, values = f"jobs.state NOT IN {_FINAL} AND s.accepted = 1", []
        if session is not None:
            where += " AND sessions.id = ?"
            values.append(to_sql(session))
        if login is not None:
            where += " AND sessions.login = ?"
            values.append(to_sql(login))
        with self._store.reading() as db:
            return self._job_rows(db, where, tuple(values))

    def submission(self, token: str) -> SubmissionRow:
        """The submission of that token. UnknownJob where there is none."""
        with self._store.reading() as db:
            found = self._submissions(db, "s.token = ?", (to_sql(token),))
        if not found:
            raise UnknownJob(f"no submission {token} in the journal {self.path}")
        return found[0]

    # what is known, for those who ask

    def states(self, session: str) -> list[tuple[int, JobState]]:
        """All accepted jobs of a session with their state, oldest first."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT key, state FROM jobs WHERE session = (SELECT number FROM sessions WHERE id = ?) ORDER BY key",
                (to_sql(session),),
            ).fetchall()
            hidden = self._intended(db, session)
        if hidden:
            return [(key, _STATES[state]) for key, state in rows if not any(key in keys for keys in hidden)]
        return [(key, _STATES[state]) for key, state in rows]

    def entries(self, session: str, keys: Iterable[int] | None = None, *, newest: int | None = None) -> list[Entry]:
        """These jobs of a session, or all, oldest first; ``newest``: only so many of the last ones."""
        where = "jobs.session = (SELECT number FROM sessions WHERE id = ?) AND s.accepted = 1"
        found: list[Entry] = []
        with self._store.reading() as db:
            if keys is not None:
                for chunk in _chunks(sorted(keys)):
                    found += self._entries(db, f"{where} AND jobs.key IN ({_marks(chunk)}) ORDER BY jobs.key", (session, *chunk))
                return found if newest is None else found[-newest:] if newest else []
            if newest is not None:
                return self._entries(db, f"{where} ORDER BY jobs.key DESC LIMIT ?", (session, newest))[::-1]
            return self._entries(db, f"{where} ORDER BY jobs.key", (session,))

    def find(self, session: str, name: str) -> list[int]:
        """Keys of the jobs of a session with that token or native id; an array's or a submission's: of all its jobs."""
        with self._store.reading() as db:
            row = db.execute("SELECT number FROM sessions WHERE id = ?", (to_sql(session),)).fetchone()
            if row is None:
                return []
            number, text = row[0], to_sql(name)
            found = db.execute(
                "SELECT first_key, jobs FROM submissions WHERE accepted = 1 AND session = ? AND (token = ? OR array = ?)"
                " ORDER BY first_key",
                (number, text, text),
            ).fetchall()
            if found:
                return [key for first, count in found for key in range(first, first + count) if self._kept(db, key)]
            token, dot, position = name.rpartition(".")
            if dot and position.isascii() and position.isdigit():
                one = db.execute(
                    "SELECT first_key FROM submissions WHERE accepted = 1 AND session = ? AND token = ? AND jobs > ?",
                    (number, to_sql(token), min(int(position), 2**62)),
                ).fetchone()
                if one is not None and self._kept(db, one[0] + int(position)):
                    return [one[0] + int(position)]
            # An id that came round belongs to the newest job that had it.
            keys = db.execute(
                "SELECT key FROM jobs WHERE session = ? AND native_id = ? ORDER BY key DESC LIMIT 1", (number, text)
            ).fetchall()
            if not keys:
                arrays = db.execute(
                    "SELECT first_key, jobs FROM submissions WHERE session = ? AND array_id = ? ORDER BY number DESC LIMIT 1",
                    (number, text),
                ).fetchall()
                return [key for first, count in arrays for key in range(first, first + count) if self._kept(db, key)]
            return [row[0] for row in keys]

    def _kept(self, db: sqlite3.Connection, key: int) -> bool:
        return db.execute("SELECT 1 FROM jobs WHERE key = ?", (key,)).fetchone() is not None

    def description(self, key: int) -> JobDescription:
        """What was submitted. UnknownJob where it is not kept any more, or the job is a foreign one."""
        with self._store.reading() as db:
            row = db.execute(
                "SELECT d.data, j.changes FROM jobs j JOIN submissions s ON s.number = j.submission"
                " LEFT JOIN descriptions d ON d.number = s.description WHERE j.key = ?",
                (key,),
            ).fetchone()
        if row is None or row[0] is None:
            raise UnknownJob("what was submitted is not kept of this job" if row is None else "this job was not submitted here")
        data = json.loads(row[0])
        if row[1] is not None:
            data.update(json.loads(row[1]))
        return description_from_data(data)

    def history(self, key: int) -> list[Transition]:
        """All transitions of a job, in order."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT t.state, t.at, t.by, t.synthesised, t.reason, j.ending FROM transitions t JOIN jobs j ON j.key = t.key"
                " WHERE t.key = ? ORDER BY t.number",
                (key,),
            ).fetchall()
        return [_transition(*row) for row in rows]

    def evidence(self, key: int) -> list[Evidence]:
        """Observations and transitions of a job, each transition after the observations that it followed from."""
        with self._store.reading() as db:
            observed = db.execute("SELECT number, data FROM observations WHERE key = ? ORDER BY number", (key,)).fetchall()
            moved = db.execute(
                "SELECT t.observation, t.state, t.at, t.by, t.synthesised, t.reason, j.ending FROM transitions t"
                " JOIN jobs j ON j.key = t.key WHERE t.key = ? ORDER BY t.number",
                (key,),
            ).fetchall()
        lines: list[tuple[int, int, Evidence]] = []
        for number, data in observed:
            seen = msgspec.convert(json.loads(data), Observation)
            lines.append((number, 0, Evidence(at=seen.at, text=tell(seen), observation=seen)))
        for number, *fields in moved:
            made = _transition(*fields)
            lines.append((number, 1, Evidence(at=made.at, text=tell(made), transition=made)))
        lines.sort(key=lambda line: line[:2])
        return [line[2] for line in lines]

    def changes_since(self, number: int, *, session: str | None = None, most: int = 10_000) -> list[Fed]:
        """Transitions of all sessions, or of one, that were written after that number, by whichever process, in order."""
        where, values = ("WHERE t.number > ?", [number])
        if session is not None:
            where += " AND j.session = (SELECT number FROM sessions WHERE id = ?)"
            values.append(to_sql(session))  # type: ignore[arg-type]
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT t.number, t.key, t.state, t.at, t.by, t.synthesised, t.reason, j.ending FROM transitions t"
                f" JOIN jobs j ON j.key = t.key {where} ORDER BY t.number LIMIT ?",
                (*values, most),
            ).fetchall()
        return [Fed(row[0], row[1], _transition(*row[2:])) for row in rows]

    def last_change(self) -> int:
        """The number of the newest transition: where a new reader of the feed begins."""
        with self._store.reading() as db:
            row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'transitions'").fetchone()
        return int(row[0]) if row else 0

    def changed(self) -> bool:
        """Whether anything was committed since the last call, by any process; costs microseconds."""
        version = self._store.data_version()
        before, self._seen_version = self._seen_version, version
        return version != before

    # finished jobs

    def reap(self, keys: Iterable[int]) -> None:
        """Hide finished jobs from those who wait for any."""
        self._update_many("UPDATE jobs SET reaped = 1 WHERE key IN ({marks})", keys)

    def take(self, session: str, keys: Iterable[int] | None = None) -> int | None:
        """Reap one finished, unreaped job of a session (of these) and return its key; None: there is none now.

        Among all processes each job is taken once.
        """
        chosen = None if keys is None else sorted(keys)

        def work(db: sqlite3.Connection) -> int | None:
            number = self._session_number(db, session)
            query = f"SELECT key FROM jobs WHERE session = ? AND reaped = 0 AND state IN {_FINAL}"
            row = None
            if chosen is None:
                row = db.execute(f"{query} ORDER BY key LIMIT 1", (number,)).fetchone()
            else:
                for chunk in _chunks(chosen):
                    row = db.execute(f"{query} AND key IN ({_marks(chunk)}) ORDER BY key LIMIT 1", (number, *chunk)).fetchone()
                    if row is not None:
                        break
            if row is None:
                return None
            db.execute("UPDATE jobs SET reaped = 1 WHERE key = ?", row)
            return int(row[0])

        taken: int | None = self._store.write(work)
        return taken

    def remove(self, keys: Iterable[int]) -> list[SubmissionRow]:
        """Forget finished jobs; those that are not are left. The submissions of which nothing is left: their folders can go."""
        chosen = sorted(keys)

        def work(db: sqlite3.Connection) -> list[SubmissionRow]:
            touched: set[int] = set()
            for chunk in _chunks(chosen):
                rows = db.execute(
                    f"SELECT key, submission FROM jobs WHERE key IN ({_marks(chunk)}) AND state IN {_FINAL}", chunk
                ).fetchall()
                touched.update(row[1] for row in rows)
                _delete_jobs(db, [row[0] for row in rows])
            return self._drop_empty(db, sorted(touched))

        gone: list[SubmissionRow] = self._store.write(work)
        return gone

    def prune(self, before: float, most: int = 500) -> list[SubmissionRow]:
        """Forget jobs that ended before then, at most so many in a call; the submissions of which nothing is left."""

        def work(db: sqlite3.Connection) -> list[SubmissionRow]:
            rows = db.execute(
                f"SELECT key, submission FROM jobs WHERE state IN {_FINAL} AND at < ? ORDER BY at LIMIT ?", (before, most)
            ).fetchall()
            _delete_jobs(db, [row[0] for row in rows])
            return self._drop_empty(db, sorted({row[1] for row in rows}))

        gone: list[SubmissionRow] = self._store.write(work)
        return gone

    def _drop_empty(self, db: sqlite3.Connection, numbers: Sequence[int]) -> list[SubmissionRow]:
        gone: list[SubmissionRow] = []
        for number in numbers:
            found = self._submissions(db, "s.number = ?", (number,))
            if not found:
                continue
            first, count = found[0].first_key, found[0].jobs
            left = db.execute("SELECT 1 FROM jobs WHERE key BETWEEN ? AND ? LIMIT 1", (first, first + count - 1)).fetchone()
            if left is None:
                gone.append(found[0])
                _delete_submissions(db, [number])
        return gone

    def _update_many(self, statement: str, keys: Iterable[int]) -> None:
        chosen = sorted(keys)
        if not chosen:
            return

        def work(db: sqlite3.Connection) -> None:
            for chunk in _chunks(chosen):
                db.execute(statement.format(marks=_marks(chunk)), chunk)

        self._store.write(work)

    # leases and polls

    def renew(self, *names: str) -> bool:
        """Show that this process lives: renew its own lease and these; False where one of these is no longer its own."""
        me, now = self._identity(), self._clock()

        def work(db: sqlite3.Connection) -> bool:
            leases.touch(db, me, me.name, now)
            kept = [leases.renew(db, me, name, now) for name in names]
            return all(kept)

        return bool(self._store.write(work))

    def acquire(self, name: str) -> bool:
        """Take a lease that is free, or whose holder is gone; True also where it is held by this object already."""
        me, now = self._identity(), self._clock()
        return bool(self._store.write(lambda db: leases.acquire(db, me, name, now)))

    def release(self, name: str) -> None:
        """Give a lease back, if it is held by this object."""
        me = self._identity()
        self._store.write(lambda db: leases.release(db, me, name))

    def claim_poll(self, login: str, interval_s: float) -> bool:
        """Whether this process is to ask the scheduler now: nobody has for so long. One process an interval is told so."""
        me, now = self._identity(), self._clock()
        with self._store.reading() as db:
            if not leases.poll_due(db, login, interval_s, now):
                return False
        return bool(self._store.write(lambda db: leases.claim_poll(db, me, login, interval_s, now)))

    def last_poll(self, login: str) -> float | None:
        """When the scheduler was last asked for that login, by any process; seconds since the epoch."""
        with self._store.reading() as db:
            row = db.execute("SELECT at FROM polls WHERE login = ?", (to_sql(login),)).fetchone()
        return float(row[0]) if row else None

    # rows

    def _intended(self, db: sqlite3.Connection, session: str) -> list[range]:
        rows = db.execute(
            "SELECT first_key, jobs FROM submissions WHERE accepted = 0 AND session = (SELECT number FROM sessions WHERE id = ?)",
            (to_sql(session),),
        ).fetchall()
        return [range(first, first + count) for first, count in rows]

    def _submissions(self, db: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> list[SubmissionRow]:
        rows = db.execute(f"{_SELECT_SUBMISSIONS} WHERE {where} ORDER BY s.number", values).fetchall()
        return [_submission(row) for row in rows]

    def _job_rows(self, db: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> list[JobRow]:
        rows = db.execute(
            "SELECT jobs.key, jobs.version, jobs.state, jobs.at, jobs.by, jobs.reason, jobs.native_id, jobs.ending, jobs.seen,"
            " jobs.idx, s.number FROM jobs JOIN submissions s ON s.number = jobs.submission"
            f" JOIN sessions ON sessions.number = s.session WHERE {where} ORDER BY jobs.key",
            values,
        ).fetchall()
        submissions: dict[int, SubmissionRow] = {}
        for chunk in _chunks(sorted({row[10] for row in rows})):
            for one in self._submissions(db, f"s.number IN ({_marks(chunk)})", tuple(chunk)):
                submissions[one.number] = one
        found: list[JobRow] = []
        for key, version, state, at, by, reason, native_id, ending, seen, index, number in rows:
            submission = submissions[number]
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

    def _entries(self, db: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> list[Entry]:
        rows = db.execute(
            "SELECT jobs.key, jobs.native_id, jobs.state, jobs.at, jobs.by, jobs.idx, jobs.ending, jobs.reaped, jobs.reason,"
            " coalesce(jobs.name, s.name), s.token, s.kind, s.first_key, s.array, s.at"
            f" FROM jobs JOIN submissions s ON s.number = jobs.submission WHERE {where}",
            values,
        )
        return [
            Entry(
                key=key,
                token=token if kind in ("single", FOREIGN) else f"{token}.{key - first}",
                native_id=from_sql(native_id),
                state=_STATES[state],
                at=at,
                submitted_at=submitted_at,
                name=from_sql(name) or "",
                by=_BYS[by],
                array=array,
                index=index,
                ending=_ending(ending),
                reaped=bool(reaped),
                foreign=kind == FOREIGN,
                reason=from_sql(reason),
            )
            for key, native_id, state, at, by, index, ending, reaped, reason, name, token, kind, first, array, submitted_at in rows
        ]


_SELECT_SUBMISSIONS = (
    "SELECT s.number, s.token, s.nonce, sessions.id, s.kind, s.array, s.folder, s.work_root, s.name, s.terms, s.max_running,"
    " s.accepted, s.owner, s.at, s.array_id, s.first_key, s.jobs FROM submissions s JOIN sessions ON sessions.number = s.session"
)


def _submission(row: Sequence[Any]) -> SubmissionRow:
    return SubmissionRow(
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


def _write_change(db: sqlite3.Connection, change: Change, seen: str | None) -> bool:
    facts, final = change.facts, change.facts.state.final
    cursor = db.execute(
        "UPDATE jobs SET state = ?, by = ?, at = ?, native_id = ?, reason = ?, seen = ?, ending = ?, version = version + 1,"
        " observed = observed + ? WHERE key = ? AND version = ?",
        (
            facts.state.value,
            facts.by.value if facts.by else None,
            facts.at,
            to_sql(facts.native_id),
            to_sql(facts.reason),
            None if final else seen,
            None if facts.ending is None else _dumps(to_data(facts.ending)),
            len(change.observations),
            change.key,
            change.version,
        ),
    )
    if cursor.rowcount != 1:
        return False
    for one in change.observations:
        db.execute("INSERT INTO observations (key, data) VALUES (?, ?)", (change.key, _dumps(to_data(one))))
    if change.transitions:
        row = db.execute("SELECT max(number) FROM observations WHERE key = ?", (change.key,)).fetchone()
        db.executemany(
            "INSERT INTO transitions (key, observation, state, at, by, synthesised, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(change.key, row[0] or 0, *_transition_fields(one)) for one in change.transitions],
        )
    if change.observations:
        _bound_observations(db, change.key)
    return True


def _bound_observations(db: sqlite3.Connection, key: int) -> None:
    count = db.execute("SELECT observed FROM jobs WHERE key = ?", (key,)).fetchone()[0]
    if count <= MOST_OBSERVATIONS:
        return
    db.execute(
        "DELETE FROM observations WHERE key = ?1"
        f" AND number NOT IN (SELECT number FROM observations WHERE key = ?1 ORDER BY number LIMIT {_FIRST})"
        f" AND number NOT IN (SELECT number FROM observations WHERE key = ?1 ORDER BY number DESC LIMIT {_LAST})",
        (key,),
    )
    db.execute("UPDATE jobs SET observed = ? WHERE key = ?", (_FIRST + _LAST, key))


def _transition_fields(one: Transition) -> tuple[Any, ...]:
    return (one.state.value, one.at, one.by.value if one.by else None, int(one.synthesised), to_sql(one.reason))


def _transition(state: str, at: float, by: str | None, synthesised: int, reason: Any, ending: str | None) -> Transition:
    known = _STATES[state]
    return Transition(
        state=known,
        at=at,
        by=_BYS[by],
        ending=_ending(ending) if known.final else None,
        reason=from_sql(reason),
        synthesised=bool(synthesised),
    )


def _ending(text: str | None) -> Ending | None:
    return None if text is None else msgspec.convert(json.loads(text), Ending)


def _dumps(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))


def _described(description: JobDescription) -> tuple[bytes, str]:
    data = _dumps(to_data(description))
    return hashlib.blake2b(data.encode("ascii"), digest_size=16).digest(), data


def _name(change: Mapping[str, Any]) -> str | None:
    """The name that a job's own fields give it, where they give it another."""
    name = change.get("name")
    if isinstance(name, str):
        return name
    argv = change.get("argv")
    return os.path.basename(argv[0]) or argv[0] if argv and "name" in change else None


def _delete_jobs(db: sqlite3.Connection, keys: Sequence[int]) -> None:
    for chunk in _chunks(keys):
        marks = _marks(chunk)
        for table in ("observations", "transitions", "jobs"):
            db.execute(f"DELETE FROM {table} WHERE key IN ({marks})", chunk)


def _delete_submissions(db: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Submissions with all their jobs, and their descriptions where nobody else has the same."""
    for number in numbers:
        row = db.execute("SELECT first_key, jobs, description FROM submissions WHERE number = ?", (number,)).fetchone()
        if row is None:
            continue
        first, count, described = row
        for table in ("observations", "transitions", "jobs"):
            db.execute(f"DELETE FROM {table} WHERE key BETWEEN ? AND ?", (first, first + count - 1))
        db.execute("DELETE FROM submissions WHERE number = ?", (number,))
        db.execute(
            "DELETE FROM descriptions WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM submissions WHERE description = ?1)",
            (described,),
        )


def _chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[at : at + _MANY] for at in range(0, len(values), _MANY))


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
