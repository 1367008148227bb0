"""The server's journal: SQLite with a write-ahead log, one transaction a round, each on the disk before anything is said.

Jobs that came in one request are one batch: session, place, environment and time stand there once. Numbers of a batch are
consecutive. (session, place) is unique: a request that comes twice is recognised.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ...errors import JournalError
from .kernel import boot_id

__all__ = ["SCHEMA_VERSION", "Store"]

SCHEMA_VERSION = 1
CHECKED_BYTES = 4 << 20  # a larger file is not read through at each start; damage shows where it is met
APPLICATION_ID = 0x6A79_6C31  # "jyl1"

# Batches and environments that nothing refers to any more; bounded.
TIDY_BATCHES = (
    "DELETE FROM batches WHERE no IN (SELECT no FROM batches b WHERE NOT EXISTS "
    "(SELECT 1 FROM jobs WHERE number BETWEEN b.first AND b.first+b.count-1) ORDER BY no LIMIT 1000)"
)
TIDY_ENVIRONMENTS = (
    "DELETE FROM environments WHERE no NOT IN (SELECT DISTINCT environment FROM batches WHERE environment IS NOT NULL)"
)

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE sessions (no INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, created REAL NOT NULL);
CREATE TABLE environments (no INTEGER PRIMARY KEY, hash BLOB UNIQUE NOT NULL, data BLOB NOT NULL);
CREATE TABLE batches (no INTEGER PRIMARY KEY, session INTEGER NOT NULL, place INTEGER NOT NULL, first INTEGER NOT NULL,
    count INTEGER NOT NULL, environment INTEGER, at REAL NOT NULL, array INTEGER NOT NULL, max_running INTEGER, indices BLOB,
    blob BLOB, traits BLOB, UNIQUE (session, place));
CREATE INDEX batch_numbers ON batches (session, first);
CREATE TABLE jobs (number INTEGER PRIMARY KEY, batch INTEGER NOT NULL, state INTEGER NOT NULL, flags INTEGER NOT NULL,
    blob BLOB, traits BLOB, run BLOB, ending BLOB, ended REAL);
CREATE INDEX unfinished ON jobs (number) WHERE ended IS NULL;
CREATE TABLE events (number INTEGER NOT NULL, at REAL NOT NULL, state INTEGER NOT NULL, by INTEGER NOT NULL, text BLOB NOT NULL);
CREATE INDEX event_numbers ON events (number);
CREATE TABLE attached (session INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (session, number)) WITHOUT ROWID;
"""


class Store:
    """The open journal. ``changes`` collects statements; ``commit`` makes them durable together."""

    def __init__(self, path: str) -> None:
        self.path = path
        fresh = not os.path.exists(path) or os.path.getsize(path) == 0
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        except sqlite3.Error as error:
            raise JournalError(f"{path} cannot be opened: {error}") from error
        try:
            self._open(fresh)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise JournalError(f"{path} cannot be used: {error}. It was not changed; move it away to begin a new one") from error
        except JournalError:
            self._db.close()
            raise

    def _open(self, fresh: bool) -> None:
        db = self._db
        if not fresh:
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (application,) = db.execute("PRAGMA application_id").fetchone()
            fresh = not tables and not application  # ended before its first commit
        if not fresh:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if application != APPLICATION_ID:
                raise JournalError(f"{self.path} is not a journal of jobyard's; it was not changed")
            if version > SCHEMA_VERSION:
                raise JournalError(
                    f"{self.path} was written by a newer jobyard (format {version}; this release reads {SCHEMA_VERSION}). "
                    "It was not changed; use the newer release, or another JOBYARD_STATE_DIR"
                )
            small = os.path.getsize(self.path) < CHECKED_BYTES
            if small and (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise JournalError(f"{self.path} is damaged ({found}). It was not changed; move it away to begin a new one")
        os.chmod(self.path, 0o600)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA cache_size=-8000")
        db.execute("PRAGMA wal_autocheckpoint=8000")  # pages; ``fold`` comes before that, in a quiet moment
        db.execute("PRAGMA journal_size_limit=33554432")
        if fresh:
            db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    db.execute(statement)
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self.set_meta("boot", boot_id())
            self.set_meta("generation", 0)
            self.set_meta("number", 0)
            self.set_meta("created", time.time())
            db.execute("COMMIT")
        db.execute(
            "CREATE TABLE IF NOT EXISTS answers (nonce BLOB PRIMARY KEY, at REAL NOT NULL, answer BLOB NOT NULL) WITHOUT ROWID"
        )

    def close(self) -> None:
        """Close; the log is folded into the file."""
        self._db.close()

    def meta(self, key: str, default: Any = None) -> Any:
        """A fact about the whole."""
        row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return default if row is None else row[0]

    def set_meta(self, key: str, value: Any) -> None:
        """Set one, within the present transaction."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def begin(self) -> None:
        """Begin a transaction. sqlite3.Error where that fails."""
        self._db.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        """On the disk when this returns. sqlite3.Error: nothing is."""
        self._db.execute("COMMIT")

    def undo(self) -> None:
        """Forget the present transaction."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def fold(self) -> None:
        """Move the write-ahead log into the file. Whether that succeeds changes nothing: the log is as durable."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.OperationalError:
            pass  # a full disk; the log stays

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """One statement."""
        return self._db.execute(statement, values)

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """One statement for each row."""
        self._db.executemany(statement, rows)

    # Sessions -----------------------------------------------------------------------------------------------------------

    def session(self, name: str) -> int | None:
        """A session's number."""
        row = self._db.execute("SELECT no FROM sessions WHERE id=?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def add_session(self, name: str) -> int:
        """A new session, within the present transaction."""
        cursor = self._db.execute("INSERT INTO sessions (id, created) VALUES (?, ?)", (name, time.time()))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def session_id(self, no: int) -> str:
        """A session's id."""
        return str(self._db.execute("SELECT id FROM sessions WHERE no=?", (no,)).fetchone()[0])

    def ranges(self, session: int) -> list[tuple[int, int]]:
        """The numbers of a session's jobs: (first, last) in order, neighbours joined. Some may have been removed."""
        found: list[tuple[int, int]] = []
        query = "SELECT first, first+count-1 FROM batches WHERE session=? AND count>0 ORDER BY first"
        for first, last in self._db.execute(query, (session,)):
            if found and found[-1][1] + 1 == first:
                found[-1] = (found[-1][0], last)
            else:
                found.append((first, last))
        query = "SELECT number FROM attached WHERE session=? ORDER BY number"
        attached = [number for (number,) in self._db.execute(query, (session,))]
        if attached:
            found = sorted([*found, *((number, number) for number in attached)])
        return found

    def place(self, session: int, place: int) -> tuple[int, int, int, int] | None:
        """The batch that holds a place: (its first place, first number, count, array number or 0)."""
        row = self._db.execute(
            "SELECT place, first, count, array FROM batches WHERE session=? AND place<=? ORDER BY place DESC LIMIT 1",
            (session, place),
        ).fetchone()
        if row is None:
            return None
        begin, first, count, array = row
        return (begin, first, count, array) if place < begin + count + (1 if array else 0) else None

    def environment(self, digest: bytes) -> int | None:
        """The number of a kept environment."""
        row = self._db.execute("SELECT no FROM environments WHERE hash=?", (digest,)).fetchone()
        return None if row is None else int(row[0])

    def environment_data(self, no: int) -> bytes:
        """A kept environment."""
        return bytes(self._db.execute("SELECT data FROM environments WHERE no=?", (no,)).fetchone()[0])

    # Pruning ------------------------------------------------------------------------------------------------------------

    def expired(self, after: int, before: float, most: int) -> tuple[list[int], int]:
        """Finished jobs that ended before a time, among the ``most`` after a number; and the number to go on from (0: the end)."""
        rows = self._db.execute("SELECT number, ended FROM jobs WHERE number>? ORDER BY number LIMIT ?", (after, most)).fetchall()
        old = [number for number, ended in rows if ended is not None and ended < before]
        return old, (rows[-1][0] if len(rows) == most else 0)

    def remove(self, numbers: Sequence[int]) -> None:
        """Forget jobs, within the present transaction."""
        rows = [(number,) for number in numbers]
        self.many("DELETE FROM jobs WHERE number=?", rows)
        self.many("DELETE FROM events WHERE number=?", rows)
        self.many("DELETE FROM attached WHERE number=?", rows)
