"""The server's journal: SQLite with a write-ahead log, one transaction a round, each on the disk before anything is said.

Jobs that came in one request are one batch: session, place, environment and time stand there once. Numbers of a batch are
consecutive. (session, place) is unique: a request that comes twice is recognised.

Small transactions go to the log (log.py) and are taken into the database many at a time: before anything is read from it, before
a large transaction, where the log is full, and when there is time. A successor takes in what the log still holds.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ...errors import JournalError
from .kernel import boot_id
from .log import Log
from .wire import pack, unpack

__all__ = ["SCHEMA_VERSION", "Store"]

SCHEMA_VERSION = 2  # 1: without a log
CHECKED_BYTES = 4 << 20  # a larger file is not read through at each start; damage shows where it is met
SMALL_BYTES, SMALL_ROWS = 16 << 10, 100  # of a transaction that goes to the log
APPLICATION_ID = 0x6A79_6C31  # "jyl1"

# Batches and environments that nothing refers to any more; bounded.
TIDY_BATCHES = (
    "DELETE FROM batches WHERE no IN (SELECT no FROM batches b WHERE NOT EXISTS "
    "(SELECT 1 FROM jobs WHERE number BETWEEN b.first AND b.first+b.count-1) ORDER BY no LIMIT 1000)"
)
TIDY_ENVIRONMENTS = (
    "DELETE FROM environments WHERE no NOT IN (SELECT DISTINCT environment FROM batches WHERE environment IS NOT NULL)"
)

_SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
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


Rows = Sequence[Sequence[Any]]


class Store:
    """The open journal. Between ``begin`` and ``end``, ``write`` and ``many`` collect what ``end`` makes durable together."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._log: Log | None = None
        self._collected: list[tuple[str, Rows]] | None = None
        self._beyond: dict[int, int] = {}  # by session: a place from which on no batch was ever kept
        self._waiting: list[tuple[str, Rows]] = []  # in the log, not yet in the database
        self._shown: list[tuple[str, Rows]] = []  # in the log, and in the database's open transaction
        fresh = not os.path.exists(path) or os.path.getsize(path) == 0
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        except sqlite3.Error as error:
            raise JournalError(f"{path} cannot be opened: {error}") from error
        try:
            self._open(fresh)
        except sqlite3.DatabaseError as error:
            self._let_go()
            raise JournalError(f"{path} cannot be used: {error}. It was not changed; move it away to begin a new one") from error
        except JournalError:
            self._let_go()
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
            for key, value in (("boot", boot_id()), ("generation", 0), ("number", 0), ("created", time.time())):
                db.execute(_SET_META, (key, value))
            db.execute("COMMIT")
        elif version < SCHEMA_VERSION:
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.execute(
            "CREATE TABLE IF NOT EXISTS answers (nonce BLOB PRIMARY KEY, at REAL NOT NULL, answer BLOB NOT NULL) WITHOUT ROWID"
        )
        self._open_log()

    def _open_log(self) -> None:
        """Take in what an earlier server left in the log. Where no log can be made, each transaction goes to the database."""
        row = self._db.execute("SELECT value FROM meta WHERE key='mark'").fetchone()
        if row is None:
            row = (os.urandom(16),)
            self._db.execute(_SET_META, ("mark", row[0]))
        taken = self._db.execute("SELECT value FROM meta WHERE key='log'").fetchone()
        try:
            log = self._log = Log(f"{self.path}-log", row[0], taken[0] if taken else 0)
            for data in log.rest():
                self._waiting.extend(unpack(data))
        except OSError as error:
            if self._log is not None:
                raise JournalError(f"{self._log.path} cannot be read: {error}. It was not changed") from error
        self._settle()

    def close(self) -> None:
        """Close; both logs are folded into the file, where that can be done."""
        try:
            self._settle()
        except sqlite3.Error:
            pass  # a full disk; the log stays
        self._let_go()

    def _let_go(self) -> None:
        self._db.close()
        if self._log is not None:
            self._log.close(remove=not self._waiting and not self._shown)
            self._log = None

    # Transactions -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a transaction."""
        self._collected = []

    def write(self, statement: str, values: Sequence[Any] = ()) -> None:
        """One statement, within the present transaction."""
        self.many(statement, (values,))

    def many(self, statement: str, rows: Rows) -> None:
        """One statement for each row, within the present transaction."""
        assert self._collected is not None
        self._collected.append((statement, rows))

    def set_meta(self, key: str, value: Any) -> None:
        """Set a fact about the whole, within the present transaction."""
        self.write(_SET_META, (key, value))

    def end(self) -> None:
        """On the disk when this returns. sqlite3.Error: nothing is."""
        assert self._collected is not None
        log, collected, self._collected = self._log, self._collected, None
        if log is not None and sum(len(rows) for _, rows in collected) <= SMALL_ROWS:
            data = pack(collected)
            if len(data) <= SMALL_BYTES:
                if not log.room(len(data)):
                    self._settle()
                try:
                    log.add(data)
                except OSError as error:
                    raise sqlite3.OperationalError(f"{log.path}: {error}") from error
                self._waiting.extend(collected)
                return
        self._take_in(collected)

    def undo(self) -> None:
        """Forget the present transaction."""
        self._collected = None

    def _show(self) -> None:
        """Let questions see what is in the log: an open transaction of the database needs no room on the disk."""
        if not self._waiting:
            return
        db = self._db
        try:
            if not db.in_transaction:
                db.execute("BEGIN IMMEDIATE")
            for statement, rows in self._waiting:
                db.executemany(statement, rows)
        except sqlite3.Error:
            self._give_up()
            raise
        self._shown += self._waiting
        self._waiting.clear()

    def _take_in(self, statements: Iterable[tuple[str, Rows]] = ()) -> None:
        """What is in the log, and these, on the disk in one transaction of the database; the log is free then.

        sqlite3.Error: nothing of it is; the log has what it had.
        """
        self._show()
        db, log = self._db, self._log
        try:
            if not db.in_transaction:
                db.execute("BEGIN IMMEDIATE")
            for statement, rows in statements:
                db.executemany(statement, rows)
            if log is not None:
                db.execute(_SET_META, ("log", log.number))
            db.execute("COMMIT")
        except sqlite3.Error:
            self._give_up()
            raise
        self._shown.clear()
        if log is not None:
            log.taken_in()

    def _give_up(self) -> None:
        """The database could not be written; the log still has what it lacks."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._waiting = self._shown + self._waiting
        self._shown = []

    def _settle(self) -> None:
        """Take in what is in the log, if anything is."""
        if self._waiting or self._shown:
            self._take_in()

    def fold(self) -> None:
        """Move both logs into the file. Whether that succeeds changes nothing: they are as durable."""
        try:
            self._settle()
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.OperationalError:
            pass  # a full disk; the logs stay

    # Reading ------------------------------------------------------------------------------------------------------------

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """A question, to all that was committed."""
        if self._waiting:
            self._show()
        return self._db.execute(statement, values)

    def meta(self, key: str, default: Any = None) -> Any:
        """A fact about the whole."""
        row = self.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return default if row is None else row[0]

    # Sessions -----------------------------------------------------------------------------------------------------------

    def session(self, name: str) -> int | None:
        """A session's number."""
        row = self.execute("SELECT no FROM sessions WHERE id=?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def session_id(self, no: int) -> str:
        """A session's id."""
        return str(self.execute("SELECT id FROM sessions WHERE no=?", (no,)).fetchone()[0])

    def ranges(self, session: int) -> list[tuple[int, int]]:
        """The numbers of a session's jobs: (first, last) in order, neighbours joined. Some may have been removed."""
        found: list[tuple[int, int]] = []
        query = "SELECT first, first+count-1 FROM batches WHERE session=? AND count>0 ORDER BY first"
        for first, last in self.execute(query, (session,)):
            if found and found[-1][1] + 1 == first:
                found[-1] = (found[-1][0], last)
            else:
                found.append((first, last))
        query = "SELECT number FROM attached WHERE session=? ORDER BY number"
        attached = [number for (number,) in self.execute(query, (session,))]
        if attached:
            found = sorted([*found, *((number, number) for number in attached)])
        return found

    def place(self, session: int, place: int) -> tuple[int, int, int, int] | None:
        """The batch that holds a place: (its first place, first number, count, array number or 0)."""
        if place >= self._beyond.get(session, place + 1):
            return None
        row = self.execute(
            "SELECT place, first, count, array FROM batches WHERE session=? AND place<=? ORDER BY place DESC LIMIT 1",
            (session, place),
        ).fetchone()
        if row is None:
            return None
        begin, first, count, array = row
        return (begin, first, count, array) if place < begin + count + (1 if array else 0) else None

    def comes(self, session: int, end: int) -> None:
        """A batch that ends before that place is about to be kept: of places beyond all of them, nobody need be asked."""
        known = self._beyond.get(session)
        if known is None:
            query = "SELECT place+count+(array>0) FROM batches WHERE session=? ORDER BY place DESC LIMIT 1"
            row = self.execute(query, (session,)).fetchone()
            known = 0 if row is None else int(row[0])
        self._beyond[session] = max(known, end)

    def environment(self, digest: bytes) -> int | None:
        """The number of a kept environment."""
        row = self.execute("SELECT no FROM environments WHERE hash=?", (digest,)).fetchone()
        return None if row is None else int(row[0])

    def environment_data(self, no: int) -> bytes:
        """A kept environment."""
        return bytes(self.execute("SELECT data FROM environments WHERE no=?", (no,)).fetchone()[0])

    # Pruning ------------------------------------------------------------------------------------------------------------

    def expired(self, after: int, before: float, most: int) -> tuple[list[int], int]:
        """Finished jobs that ended before a time, among the ``most`` after a number; and the number to go on from (0: the end)."""
        rows = self.execute("SELECT number, ended FROM jobs WHERE number>? ORDER BY number LIMIT ?", (after, most)).fetchall()
        old = [number for number, ended in rows if ended is not None and ended < before]
        return old, (rows[-1][0] if len(rows) == most else 0)

    def remove(self, numbers: Sequence[int]) -> None:
        """Forget jobs, within the present transaction."""
        rows = [(number,) for number in numbers]
        self.many("DELETE FROM jobs WHERE number=?", rows)
        self.many("DELETE FROM events WHERE number=?", rows)
        self.many("DELETE FROM attached WHERE number=?", rows)
