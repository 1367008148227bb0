"""Leases in the journal: who does what, and whether they still live. And who asks the scheduler next, and whether it answers.

A holder is gone when that can be proved (same host, same boot, same namespace of process ids, and the process is not there or
its id was given to another), or when it gave no sign for ``SILENCE_S``. Nothing is concluded from less.
"""

from __future__ import annotations

import os
import secrets
import socket
import sqlite3
from pathlib import Path

import msgspec

from .journal_store import from_sql, to_sql
from .keeper import Silence

__all__ = [
    "SILENCE_S",
    "Identity",
    "acquire",
    "answering",
    "claim_poll",
    "drop_old",
    "held",
    "poll_due",
    "release",
    "renew",
    "silence",
    "silent",
    "touch",
]

SILENCE_S = 120.0
APART_S = 180.0  # unanswered questions that are further apart belong to different silences


class Identity(msgspec.Struct, frozen=True):
    """A process as others can check on it. ``boot`` is empty where the platform tells too little: then nothing is proved."""

    name: str  # of this process's own lease
    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def of_this_process(cls) -> Identity:
        """This process, with a name of its own."""
        pid = os.getpid()
        try:
            started = _started(pid)
        except OSError:
            started = ""
        return cls(f"process:{secrets.token_hex(8)}", socket.gethostname(), _boot(), pid, started)


def _boot() -> str:
    """The boot, and the namespace in which process ids count (containers share the boot, not the ids)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except (OSError, ValueError):
        return ""


def _started(pid: int) -> str:
    """When a process started, in the kernel's clock ticks; empty: it is not there, or is dead and not yet waited for.

    OSError where that cannot be told.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = text.rpartition(b")")[2].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode("ascii")


def _gone(host: str, boot: str, pid: int, started: str) -> bool:
    """Whether it is proved that a process is no more."""
    if not boot or not started or host != socket.gethostname() or boot != _boot():
        return False
    try:
        return _started(pid) != started
    except OSError:  # hidden from us, or no descriptor is left: that proves nothing
        return False


def held(db: sqlite3.Connection, name: str | None, now: float) -> bool:
    """Whether somebody holds that lease and may be alive."""
    row = db.execute("SELECT host, boot, pid, started, at FROM leases WHERE name = ?", (name,)).fetchone()
    if row is None:
        return False
    host, boot, pid, started, at = row
    # A sign from the future is as old as it is ahead: a clock was set back.
    return abs(now - at) <= SILENCE_S and not _gone(host, boot, pid, started)


def touch(db: sqlite3.Connection, me: Identity, name: str, now: float) -> None:
    """Write a lease as one's own, whoever had it."""
    db.execute(
        "INSERT INTO leases (name, holder, host, boot, pid, started, at) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, host = excluded.host, boot = excluded.boot,"
        " pid = excluded.pid, started = excluded.started, at = excluded.at",
        (name, me.name, me.host, me.boot, me.pid, me.started, now),
    )


def acquire(db: sqlite3.Connection, me: Identity, name: str, now: float) -> bool:
    """Take a lease that is free, one's own, or whose holder is gone."""
    row = db.execute("SELECT holder FROM leases WHERE name = ?", (name,)).fetchone()
    if row is not None and row[0] != me.name and held(db, name, now):
        return False
    touch(db, me, name, now)
    return True


def renew(db: sqlite3.Connection, me: Identity, name: str, now: float) -> bool:
    """Give a sign for a lease that is still one's own; False where it is not."""
    return db.execute("UPDATE leases SET at = ? WHERE name = ? AND holder = ?", (now, name, me.name)).rowcount == 1


def release(db: sqlite3.Connection, me: Identity, name: str) -> None:
    """Give a lease back, if it is one's own."""
    db.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, me.name))


def drop_old(db: sqlite3.Connection, now: float) -> None:
    """Leases of which nothing was heard for a day."""
    db.execute("DELETE FROM leases WHERE abs(? - at) > ?", (now, 86400.0))


def poll_due(db: sqlite3.Connection, login: str, interval_s: float, now: float) -> bool:
    """Whether nobody has asked that login's scheduler for so long."""
    row = db.execute("SELECT at FROM polls WHERE login = ?", (to_sql(login),)).fetchone()
    return row is None or abs(now - row[0]) >= interval_s


def claim_poll(db: sqlite3.Connection, me: Identity, login: str, interval_s: float, now: float) -> bool:
    """Be the one who asks now, unless somebody else was meanwhile."""
    if not poll_due(db, login, interval_s, now):
        return False
    db.execute(
        "INSERT INTO polls (login, at, holder) VALUES (?, ?, ?)"
        " ON CONFLICT (login) DO UPDATE SET at = excluded.at, holder = excluded.holder",
        (to_sql(login), now, me.name),
    )
    return True


def silence(db: sqlite3.Connection, login: str, now: float) -> Silence | None:
    """Since when that login's scheduler does not answer; None: it does, or nobody has asked for a while."""
    row = db.execute("SELECT since, last, reason FROM silences WHERE login = ?", (to_sql(login),)).fetchone()
    if row is None or abs(now - row[1]) > APART_S:
        return None
    return Silence(row[0], row[1], from_sql(row[2]) or "")


def silent(db: sqlite3.Connection, login: str, asked: float, now: float, reason: str) -> Silence:
    """A question asked at ``asked`` got no answer: one more of the same silence, or the first of another."""
    known = silence(db, login, asked)
    found = Silence(asked if known is None else min(known.since, asked), now, reason)
    db.execute(
        "INSERT INTO silences (login, since, last, reason) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (login) DO UPDATE SET since = excluded.since, last = excluded.last, reason = excluded.reason",
        (to_sql(login), found.since, found.last, to_sql(found.reason)),
    )
    return found


def answering(db: sqlite3.Connection, login: str) -> None:
    """That login's scheduler answers."""
    db.execute("DELETE FROM silences WHERE login = ?", (to_sql(login),))
