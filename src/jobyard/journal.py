"""The journal: what this user has submitted and what is known of it, durably, for all processes.

One SQLite file (journal_store.py; tables: journal_schema.py). A submission is recorded as *intended* before anything leaves,
then *accepted* with its native ids, or *refused*, which leaves no trace; a crash between leaves it intended, to be repaired by
whoever finds its owner gone (``stale_intents``). Each job's row carries a version: a change that was derived from an older one
is not written and has to be derived again, so every observer sees the same history.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from . import journal_changes as changes_
from . import leases
from .errors import UnknownJob
from .evidence import Terms, seen_to_text
from .job import Ending, JobDescription, JobState, Transition, description_from_data, to_data
from .journal_rows import (
    FINAL,
    FOREIGN,
    Change,
    Fed,
    Intent,
    JobRow,
    SessionRow,
    SubmissionRow,
    described,
    dumps,
    endings,
    entries,
    evidence,
    fed,
    history,
    in_chunks,
    job_rows,
    marks,
    namesakes,
    submissions,
)
from .journal_store import Store, from_sql, to_sql
from .keeper import Entry, Evidence, Silence

__all__ = ["Change", "Fed", "Intent", "JobRow", "Journal", "SessionRow", "SubmissionRow"]

_SESSION = "(SELECT number FROM sessions WHERE id = ?)"
_SESSIONS = "SELECT id, contact, login, created FROM sessions"


class Journal:
    """The journal in one file. Every method may be called from any thread; all raise JournalError where the file fails them.

    ``clock``: seconds since the epoch. A forked child may go on using its parent's object: it opens the file anew.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self._store = Store(path)
        self._clock = clock
        self._data_version = -1
        self._sessions: dict[str, SessionRow] = {}  # those that this object made or opened
        self._me = leases.Identity.of_this_process()

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self._store.path

    @property
    def owner(self) -> str:
        """The name of this object's own lease, which its intents carry."""
        return self._identity().name

    @property
    def commits(self) -> int:
        """Commits made by this object so far."""
        return self._store.commits

    def check(self) -> list[str]:
        """What is wrong with the file, as SQLite finds by reading all of it; empty: nothing."""
        return self._store.check()

    def close(self) -> None:
        """Close the file. A second time does nothing; any other call then raises JournalError."""
        self._store.close()

    def _identity(self) -> leases.Identity:
        if self._me.pid != os.getpid():
            self._me = leases.Identity.of_this_process()
        return self._me

    # sessions

    def create_session(self, contact: str, login: str) -> SessionRow:
        """A new session with an id of its own."""
        made = SessionRow(secrets.token_hex(8), contact, login, self._clock())
        self._store.write(lambda db: changes_.keep_session(db, made))
        self._sessions[made.id] = made
        return made

    def session(self, session_id: str) -> SessionRow:
        """The session of that id. UnknownJob where there is none."""
        with self._store.reading() as db:
            row = db.execute(f"{_SESSIONS} WHERE id = ?", (to_sql(session_id),)).fetchone()
        if row is None:
            raise UnknownJob(f"no session {session_id!r} in the journal {self.path}; it was removed, or is in another state folder")
        found = self._sessions[row[0]] = SessionRow(row[0], from_sql(row[1]) or "", from_sql(row[2]) or "", row[3])
        return found

    def sessions(self) -> list[SessionRow]:
        """All sessions, oldest first."""
        with self._store.reading() as db:
            rows = db.execute(f"{_SESSIONS} ORDER BY number").fetchall()
        return [SessionRow(row[0], from_sql(row[1]) or "", from_sql(row[2]) or "", row[3]) for row in rows]

    def recent_sessions(self, login: str, newest: int | None = None) -> list[str]:
        """Ids of the sessions of a login that the ``newest`` so many of its jobs belong to; None: all that have jobs."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT DISTINCT s.id FROM (SELECT session FROM jobs WHERE session IN (SELECT number FROM sessions WHERE login = ?)"
                " ORDER BY key DESC LIMIT ?) j JOIN sessions s ON s.number = j.session",
                (to_sql(login), -1 if newest is None else newest),
            ).fetchall()
        return [row[0] for row in rows]

    def session_of(self, login: str, name: str) -> str | None:
        """Id of the session of a login that has the job or array with that native id, or with a token that begins so."""
        text = to_sql(name)
        own = "session IN (SELECT number FROM sessions WHERE login = ?)"
        asked: list[tuple[str, tuple[Any, ...]]] = [
            (f"SELECT session FROM jobs WHERE {own} AND native_id = ? ORDER BY key DESC LIMIT 1", (text,)),
            (f"SELECT session FROM submissions WHERE {own} AND array_id = ? ORDER BY number DESC LIMIT 1", (text,)),
        ]
        if name and not set(name) - set("0123456789abcdef."):
            begins = (name.partition(".")[0], name.partition(".")[0] + "g")  # "g" comes after every hexadecimal digit
            asked += [
                (f"SELECT session FROM submissions WHERE {own} AND {key} >= ? AND {key} < ? LIMIT 1", begins)
                for key in ("token", "array")
            ]
        with self._store.reading() as db:
            for query, values in asked:
                row = db.execute(f"SELECT id FROM sessions WHERE number = ({query})", (to_sql(login), *values)).fetchone()
                if row is not None:
                    return str(row[0])
        return None

    # submissions

    def intend(self, intents: Sequence[Intent]) -> list[range]:
        """Record submissions before anything of them is sent, in one durable commit: the keys of their jobs, in order.

        UnknownJob where a session is not there; then nothing is written.
        """
        me, now = self._identity(), self._clock()
        prepared = [(intent, described(intent.description)) for intent in intents]
        known = [self._sessions[one] for one in {intent.session for intent in intents} if one in self._sessions]

        def work(db: sqlite3.Connection) -> list[range]:
            leases.touch(db, me, me.name, now)
            for session in known:
                changes_.keep_session(db, session)
            return [changes_.insert(db, intent, description, me.name, now) for intent, description in prepared]

        return self._store.write(work)

    def accepted(
        self, token: str, native_ids: Sequence[str | None], transitions: Sequence[Transition] = (), *, array_id: str | None = None
    ) -> bool:
        """The scheduler took a submission: its jobs' native ids in order, and the transitions that all of them made.

        Each transition makes the version of each row one more. False where it was accepted already (another process repaired
        it first): nothing is written. UnknownJob where there is no such submission; ValueError where ids and jobs differ in number.
        """
        # That it was to be sent is on the disk. Were power to fail now, it would be looked up by its token.
        return self._store.write(lambda db: changes_.accept(db, token, native_ids, transitions, array_id), at_once=False)

    def refused(self, token: str) -> None:
        """The scheduler did not take a submission: nothing of it stays. One that was accepted, or is not there, is left alone."""

        def work(db: sqlite3.Connection) -> None:
            rows = db.execute("SELECT number FROM submissions WHERE token = ? AND accepted = 0", (token,)).fetchall()
            changes_.drop_submissions(db, [row[0] for row in rows])

        self._store.write(work)

    def adopt(self, session: str, native_id: str, name: str, terms: Terms) -> tuple[int, bool]:
        """Follow a job that was not submitted here: its key, and whether it is new in this session."""
        now = self._clock()
        intent = Intent(
            token=secrets.token_hex(16),
            nonce="",
            session=session,
            kind=FOREIGN,
            folder="",
            work_root="",
            description=JobDescription(argv=("?",), name=name or native_id),
            terms=terms,
        )

        def work(db: sqlite3.Connection) -> tuple[int, bool]:
            if session in self._sessions:
                changes_.keep_session(db, self._sessions[session])
            row = db.execute(
                f"SELECT key FROM jobs WHERE session = ? AND native_id = ? AND state NOT IN {FINAL} ORDER BY key DESC LIMIT 1",
                (changes_.session_number(db, session), to_sql(native_id)),
            ).fetchone()
            if row is not None:
                return int(row[0]), False
            key = changes_.insert(db, intent, None, None, now).start
            changes_.accept(db, intent.token, [native_id], (), None)
            return key, True

        return self._store.write(work)

    def submission(self, token: str) -> SubmissionRow:
        """The submission of that token. UnknownJob where there is none."""
        with self._store.reading() as db:
            found = submissions(db, "s.token = ?", (to_sql(token),))
        if not found:
            raise UnknownJob(f"no submission {token} in the journal {self.path}")
        return found[0]

    def indices(self, submission: SubmissionRow) -> tuple[int | None, ...]:
        """The indices of a submission's jobs in order, accepted or not."""
        span = (submission.first_key, submission.first_key + submission.jobs - 1)
        with self._store.reading() as db:
            return tuple(row[0] for row in db.execute("SELECT idx FROM jobs WHERE key BETWEEN ? AND ? ORDER BY key", span))

    def stale_intents(self, login: str | None = None) -> list[SubmissionRow]:
        """Intended submissions whose owner is provably gone, or gave no sign for long: the scheduler may have them, or not."""
        now, mine = self._clock(), self.owner
        where, values = ("s.accepted = 0", ()) if login is None else ("s.accepted = 0 AND sessions.login = ?", (to_sql(login),))
        with self._store.reading() as db:
            found = submissions(db, where, values)
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

        return self._store.write(work)

    def sent_again(self, token: str, terms: Terms) -> None:
        """An intent is about to be sent once more, on these terms."""
        text = dumps(to_data(terms))
        self._store.write(lambda db: db.execute("UPDATE submissions SET terms = ? WHERE token = ? AND accepted = 0", (text, token)))

    # states

    def record(self, changes: Sequence[Change]) -> dict[int, JobRow | None]:
        """Write what was derived, for many jobs in one commit; the rows whose change was not written, as they are now.

        A change whose version is not the row's was derived from old facts: derive it again from the row returned. None: the
        job is no longer kept. A written change makes the version one more.
        """
        if not changes:
            return {}
        prepared = [(change, seen_to_text(change.facts.seen)) for change in changes]
        missed = self._store.write(lambda db: [one.key for one, seen in prepared if not changes_.change(db, one, seen)])
        if not missed:
            return {}
        now = {row.key: row for row in self.rows(missed)}
        return {key: now.get(key) for key in missed}

    def rows(self, keys: Iterable[int]) -> list[JobRow]:
        """These jobs, as far as they are kept and accepted, oldest first."""
        found: list[JobRow] = []
        with self._store.reading() as db:
            for chunk in in_chunks(sorted(keys)):
                found += job_rows(db, f"key IN ({marks(chunk)})", chunk)
        return found

    def unfinished(self, session: str | None = None, *, login: str | None = None) -> list[JobRow]:
        """Accepted jobs that have not ended: of one session, of all sessions of a login, or all; oldest first."""
        where, values = f"state NOT IN {FINAL}", []
        if session is not None:
            where += f" AND session = {_SESSION}"
            values.append(to_sql(session))
        if login is not None:
            where += " AND session IN (SELECT number FROM sessions WHERE login = ?)"
            values.append(to_sql(login))
        with self._store.reading() as db:
            return job_rows(db, where, values)

    # what is known, for those who ask

    def states(self, session: str) -> list[tuple[int, JobState]]:
        """All accepted jobs of a session with their state, oldest first."""
        known = {state.value: state for state in JobState}
        with self._store.reading() as db:
            rows = db.execute(f"SELECT key, state FROM jobs WHERE session = {_SESSION} ORDER BY key", (to_sql(session),)).fetchall()
            intended = db.execute(
                f"SELECT first_key, jobs FROM submissions WHERE accepted = 0 AND session = {_SESSION}", (to_sql(session),)
            ).fetchall()
        hidden = {key for first, count in intended for key in range(first, first + count)}
        return [(key, known[state]) for key, state in rows if key not in hidden]

    def intended(self, session: str) -> list[int]:
        """The first jobs of a session's submissions of which it is not known (yet) whether they arrived."""
        query = f"SELECT first_key FROM submissions WHERE accepted = 0 AND session = {_SESSION} ORDER BY first_key"
        with self._store.reading() as db:
            return [key for (key,) in db.execute(query, (to_sql(session),))]

    def entries(self, session: str, keys: Iterable[int] | None = None, *, newest: int | None = None) -> list[Entry]:
        """These jobs of a session, or all, oldest first; ``newest``: only so many of the last ones."""
        where, name = f"jobs.session = {_SESSION} AND s.accepted = 1", to_sql(session)
        with self._store.reading() as db:
            if keys is not None:
                chosen = sorted(keys)
                found: list[Entry] = []
                for chunk in in_chunks(chosen if newest is None else chosen[max(len(chosen) - newest, 0) :]):
                    found += entries(db, f"{where} AND jobs.key IN ({marks(chunk)}) ORDER BY jobs.key", (name, *chunk))
                return found
            if newest is not None:
                return entries(db, f"{where} ORDER BY jobs.key DESC LIMIT ?", (name, max(newest, 0)))[::-1]
            return entries(db, f"{where} ORDER BY jobs.key", (name,))

    def endings(self, login: str, native_ids: Sequence[str]) -> dict[str, Ending]:
        """How jobs with these native ids ended, whichever session of that login submitted them; those that are known."""
        with self._store.reading() as db:
            return endings(db, login, native_ids)

    def namesakes(self, login: str, session: str, native_ids: Sequence[str]) -> dict[int, str]:
        """Unfinished jobs with these native ids in that login's other sessions: key -> native id. They are the same jobs,
        submitted there or followed there."""
        with self._store.reading() as db:
            return namesakes(db, login, session, native_ids)

    def find(self, session: str, name: str) -> list[int]:
        """Keys of the jobs of a session with that token or native id; an array's or a submission's: of all its jobs, in order.

        A native id that came round means the newest job that had it.
        """
        text = to_sql(name)
        with self._store.reading() as db:
            row = db.execute("SELECT number FROM sessions WHERE id = ?", (to_sql(session),)).fetchone()
            if row is None:
                return []
            tokens = "session = ? AND accepted = 1 AND (token = ? OR array = ?)"
            spans = db.execute(f"SELECT first_key, jobs FROM submissions WHERE {tokens} ORDER BY first_key", (row[0], text, text))
            if found := _kept(db, spans.fetchall()):
                return found
            token, _, position = name.rpartition(".")
            if token and position.isascii() and position.isdigit() and len(position) < 10:
                spans = db.execute(
                    "SELECT first_key + :position, 1 FROM submissions WHERE session = :session AND accepted = 1"
                    " AND token = :token AND jobs > :position AND kind <> 'single'",
                    {"session": row[0], "position": int(position), "token": to_sql(token)},
                )
                if found := _kept(db, spans.fetchall()):
                    return found
            spans = db.execute(
                "SELECT key, 1 FROM jobs WHERE session = ? AND native_id = ? ORDER BY key DESC LIMIT 1", (row[0], text)
            )
            if found := _kept(db, spans.fetchall()):
                return found
            spans = db.execute("SELECT first_key, jobs FROM submissions WHERE session = ? AND array_id = ?", (row[0], text))
            return _kept(db, sorted(spans.fetchall())[-1:])

    def description(self, key: int) -> JobDescription:
        """What was submitted. UnknownJob where it is not kept any more, or the job was not submitted here."""
        with self._store.reading() as db:
            row = db.execute(
                "SELECT d.data, jobs.changes FROM jobs JOIN submissions s ON s.number = jobs.submission"
                " LEFT JOIN descriptions d ON d.number = s.description WHERE jobs.key = ?",
                (key,),
            ).fetchone()
        if row is None or row[0] is None:
            raise UnknownJob("nothing is kept of this job" if row is None else "this job was not submitted here")
        data = json.loads(row[0])
        if row[1] is not None:
            data.update(json.loads(row[1]))
        return description_from_data(data)

    def history(self, key: int) -> list[Transition]:
        """All transitions of a job, in order."""
        with self._store.reading() as db:
            return [transition for _, transition in history(db, key)]

    def evidence(self, key: int) -> list[Evidence]:
        """Observations and transitions of a job, each transition after the observations that it followed from."""
        with self._store.reading() as db:
            return evidence(db, key)

    def changes_since(self, number: int, *, session: str | None = None, most: int = 10_000) -> list[Fed]:
        """Transitions of all sessions, or of one, that were written after that number, by whichever process, in order."""
        with self._store.reading() as db:
            return fed(db, number, session, most)

    def last_change(self) -> int:
        """The number of the newest transition: where a new reader of the feed begins."""
        with self._store.reading() as db:
            row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'transitions'").fetchone()
        return int(row[0]) if row else 0

    def news(
        self, number: int, session: str, keys: Collection[int] = (), most: int = 10_000
    ) -> tuple[int, list[Fed], list[JobRow], bool]:
        """All at one moment: the newest transition's number; a session's transitions after that number, at most so many; the rows
        of these jobs; and whether there may be more transitions."""
        rows: list[JobRow] = []
        with self._store.reading() as db:
            newest = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'transitions'").fetchone()
            found = fed(db, number, session, most)
            for chunk in in_chunks(sorted(keys)):
                rows += job_rows(db, f"key IN ({marks(chunk)})", chunk)
        return (int(newest[0]) if newest else 0), found, rows, len(found) == most

    def changed(self) -> bool:
        """Whether anything was committed since the last call, by any process; costs microseconds. The first call says True."""
        version = self._store.data_version()
        before, self._data_version = self._data_version, version
        return version != before

    # finished jobs

    def reap(self, keys: Iterable[int]) -> list[int]:
        """Hide finished jobs from those who wait for any, in one commit: the keys that this call hid. Those that are not finished
        are left."""
        chosen = sorted(keys)

        def work(db: sqlite3.Connection) -> list[int]:
            fresh: list[int] = []
            for chunk in in_chunks(chosen):
                where = f"key IN ({marks(chunk)}) AND reaped = 0 AND state IN {FINAL}"
                fresh += [row[0] for row in db.execute(f"SELECT key FROM jobs WHERE {where}", chunk)]
                db.execute(f"UPDATE jobs SET reaped = 1 WHERE {where}", chunk)
            return fresh

        return self._store.write(work)

    def take(self, session: str, keys: Iterable[int] | None = None) -> int | None:
        """Reap one finished, unreaped job of a session (of these), the oldest, and return its key; None: there is none now.

        Among all processes each job is taken once.
        """
        chosen = None if keys is None else sorted(keys)
        return self._store.write(lambda db: changes_.take(db, session, chosen))

    def remove(self, keys: Iterable[int]) -> list[SubmissionRow]:
        """Forget finished jobs; those that are not are left. The submissions of which nothing is left: their folders can go."""
        chosen = sorted(keys)

        def work(db: sqlite3.Connection) -> list[SubmissionRow]:
            touched: set[int] = set()
            for chunk in in_chunks(chosen):
                query = f"SELECT key, submission FROM jobs WHERE key IN ({marks(chunk)}) AND state IN {FINAL}"
                rows = db.execute(query, chunk).fetchall()
                touched.update(row[1] for row in rows)
                changes_.drop_jobs(db, [row[0] for row in rows])
            return changes_.drop_empty(db, sorted(touched))

        return self._store.write(work)

    def prune(self, before: float, most: int = 500) -> list[SubmissionRow]:
        """Forget jobs that ended before then, at most so many in a call; the submissions of which nothing is left.

        Sessions from before then that have no jobs go as well; one that is open in some process comes back with its next job.
        """
        now = self._clock()

        def work(db: sqlite3.Connection) -> list[SubmissionRow]:
            rows = db.execute(
                f"SELECT key, submission FROM jobs WHERE state IN {FINAL} AND at < ? ORDER BY at LIMIT ?", (before, most)
            ).fetchall()
            changes_.drop_jobs(db, [row[0] for row in rows])
            gone = changes_.drop_empty(db, sorted({row[1] for row in rows}))
            changes_.drop_sessions(db, before, most)
            leases.drop_old(db, now)
            return gone

        return self._store.write(work)

    # leases and polls

    def renew(self, *names: str) -> bool:
        """Show that this process lives: renew its own lease and these; False where one of these is no longer its own."""
        me, now = self._identity(), self._clock()

        def work(db: sqlite3.Connection) -> bool:
            leases.touch(db, me, me.name, now)
            kept = [leases.renew(db, me, name, now) for name in names]
            return all(kept)

        return self._store.write(work)

    def acquire(self, name: str) -> bool:
        """Take a lease that is free, or whose holder is gone; True also where this object holds it already."""
        me, now = self._identity(), self._clock()
        return self._store.write(lambda db: leases.acquire(db, me, name, now))

    def release(self, *names: str) -> None:
        """Give leases back, as far as this object holds them; its own too where that is named."""
        me = self._identity()

        def work(db: sqlite3.Connection) -> None:
            for name in names:
                leases.release(db, me, name)

        self._store.write(work)

    def claim_poll(self, login: str, interval_s: float) -> bool:
        """Whether this process is to ask the scheduler now: nobody has for so long. One process an interval is told so."""
        me, now = self._identity(), self._clock()
        with self._store.reading() as db:
            if not leases.poll_due(db, login, interval_s, now):
                return False
        return self._store.write(lambda db: leases.claim_poll(db, me, login, interval_s, now))

    def last_poll(self, login: str) -> float | None:
        """When the scheduler was last asked for that login, by any process; seconds since the epoch."""
        with self._store.reading() as db:
            row = db.execute("SELECT at FROM polls WHERE login = ?", (to_sql(login),)).fetchone()
        return float(row[0]) if row else None

    def silence(self, login: str) -> Silence | None:
        """Since when the scheduler does not answer that login, whichever process asked; None: it does."""
        with self._store.reading() as db:
            return leases.silence(db, login, self._clock())

    def silent(self, login: str, asked: float, reason: str) -> Silence:
        """A question that was asked at ``asked`` got no answer; the silence that it belongs to."""
        now = self._clock()
        return self._store.write(lambda db: leases.silent(db, login, asked, now, reason))

    def answering(self, login: str) -> None:
        """The scheduler answers that login."""
        if self.silence(login) is not None:
            self._store.write(lambda db: leases.answering(db, login))


def _kept(db: sqlite3.Connection, spans: Sequence[tuple[int, int]]) -> list[int]:
    """The keys in these spans whose jobs are kept."""
    found: list[int] = []
    for first, count in spans:
        rows = db.execute("SELECT key FROM jobs WHERE key BETWEEN ? AND ? ORDER BY key", (first, first + count - 1))
        found += [row[0] for row in rows]
    return found
