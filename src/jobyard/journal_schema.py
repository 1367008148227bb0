"""The journal's tables, and the chain of migrations from every released schema to this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

__all__ = ["APPLICATION_ID", "MIGRATIONS", "SCHEMA_VERSION", "create", "migrate"]

APPLICATION_ID = 0x6A6F6279  # "joby": says that an SQLite file is a journal of ours
SCHEMA_VERSION = 2

_SILENCES = """
CREATE TABLE silences (
    login PRIMARY KEY,
    since REAL NOT NULL,            -- when the first question was asked that got no answer
    last REAL NOT NULL,             -- when the last of them was given up
    reason NOT NULL
) WITHOUT ROWID;
"""
# Text of the user's or of a scheduler's that is not valid Unicode stands as a blob (journal_store.to_sql).
# Keys of jobs and numbers of transitions are never given twice (AUTOINCREMENT), also when the last rows were removed.
_TABLES = """
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    contact NOT NULL,
    login NOT NULL,                 -- sessions of one login share its queries
    created REAL NOT NULL
);
CREATE TABLE descriptions (
    number INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    data TEXT NOT NULL              -- standard json, ASCII
);
CREATE TABLE submissions (
    number INTEGER PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    nonce TEXT NOT NULL,
    session INTEGER NOT NULL REFERENCES sessions(number),
    kind TEXT NOT NULL,             -- a Kind, or 'foreign'
    array TEXT,                     -- the array's token; an array in parts has one for all of them
    folder NOT NULL,
    work_root NOT NULL,
    description INTEGER REFERENCES descriptions(number),
    name NOT NULL,
    terms TEXT NOT NULL,            -- json of evidence.Terms
    max_running INTEGER,
    accepted INTEGER NOT NULL,      -- 0: intended
    owner TEXT,                     -- the lease of the process that intends it
    at REAL NOT NULL,
    array_id,                       -- the native id of the array itself
    first_key INTEGER NOT NULL,     -- its jobs have consecutive keys
    jobs INTEGER NOT NULL
);
CREATE INDEX submissions_session ON submissions(session);
CREATE INDEX submissions_array ON submissions(array) WHERE array IS NOT NULL;
CREATE INDEX submissions_intended ON submissions(accepted) WHERE accepted = 0;
CREATE INDEX submissions_description ON submissions(description);
CREATE INDEX submissions_array_id ON submissions(array_id) WHERE array_id IS NOT NULL;
CREATE TABLE jobs (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    session INTEGER NOT NULL,
    submission INTEGER NOT NULL,
    idx INTEGER,                    -- the user's index of a task
    native_id,
    state TEXT NOT NULL,
    by TEXT,
    at REAL NOT NULL,
    version INTEGER NOT NULL DEFAULT 0,
    reaped INTEGER NOT NULL DEFAULT 0,
    observed INTEGER NOT NULL DEFAULT 0,
    reason,
    seen TEXT,                      -- json of evidence.Seen; null: nothing
    ending TEXT,                    -- json of job.Ending
    name,                           -- null: the submission's
    changes TEXT                    -- json: the fields of the description that this job has otherwise
);
CREATE INDEX jobs_session ON jobs(session);
CREATE INDEX jobs_native_id ON jobs(native_id) WHERE native_id IS NOT NULL;
CREATE INDEX jobs_unfinished ON jobs(session) WHERE state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX jobs_unreaped ON jobs(session) WHERE reaped = 0 AND state IN ('done', 'failed', 'cancelled');
CREATE INDEX jobs_ended ON jobs(at) WHERE state IN ('done', 'failed', 'cancelled');
CREATE TABLE observations (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key INTEGER NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX observations_key ON observations(key);
CREATE TABLE transitions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key INTEGER NOT NULL,
    observation INTEGER NOT NULL,   -- the last one that was known when it was made
    state TEXT NOT NULL,
    at REAL NOT NULL,
    by TEXT,
    synthesised INTEGER NOT NULL DEFAULT 0,
    reason
);
CREATE INDEX transitions_key ON transitions(key);
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started TEXT NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE polls (
    login PRIMARY KEY,
    at REAL NOT NULL,
    holder TEXT NOT NULL
) WITHOUT ROWID;
"""


def create(connection: sqlite3.Connection) -> None:
    """All tables, within the transaction that is open."""
    _run(connection, _TABLES + _SILENCES)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


# MIGRATIONS[n] brings a journal of schema n to schema n + 1, within the transaction that is open.
MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: lambda connection: _run(connection, _SILENCES)}


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a journal of an older schema to this one, within the transaction that is open."""
    for number in range(version, SCHEMA_VERSION):
        MIGRATIONS[number](connection)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Statement by statement: ``executescript`` would commit the transaction that is open."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
