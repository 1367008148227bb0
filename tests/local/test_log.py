"""The log before the journal: what was committed is there after any end, once, and nothing else is."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.errors import JournalError
from jobyard.schedulers.local.log import LOG_BYTES, Log
from jobyard.schedulers.local.store import SMALL_BYTES, SMALL_ROWS, Store

MARK = b"m" * 16
EVENT = "INSERT INTO events VALUES (?,?,?,?,?)"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db")


def add(store: Store, *numbers: int, text: bytes = b"") -> None:
    """One transaction with an event for each number."""
    store.begin()
    store.many(EVENT, [(number, 1.5, 2, 3, text) for number in numbers])
    store.end()


def kept(store: Store) -> list[int]:
    return [number for (number,) in store.execute("SELECT number FROM events ORDER BY rowid")]


def killed(store: Store) -> None:
    """What SIGKILL leaves: nothing is closed, an open transaction is not finished."""
    store._db.rollback() if store._db.in_transaction else None
    store._db.close()
    assert store._log is not None
    os.close(store._log._fd)


# The file ------------------------------------------------------------------------------------------------------------


def test_records_come_back_in_order(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), MARK, 0)
    for data in (b"one", b"", b"three"):
        log.add(data)
    log.close()
    again = Log(str(tmp_path / "log"), MARK, 0)
    assert list(again.rest()) == [b"one", b"", b"three"]
    again.add(b"four")
    assert again.number == 4
    again.close()
    later = Log(str(tmp_path / "log"), MARK, 3)  # the journal has the first three, which stand before it still
    assert list(later.rest()) == []
    later.close()


def test_what_was_taken_in_is_written_over_and_never_comes_back(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), MARK, 0)
    for data in (b"a" * 10, b"b" * 10, b"c" * 10):
        log.add(data)
    log.taken_in()
    log.add(b"d" * 10)  # over the first; the others still stand behind it
    log.close()
    again = Log(str(tmp_path / "log"), MARK, 3)
    assert list(again.rest()) == [b"d" * 10]
    again.close()


@settings(max_examples=300)
@given(
    records=st.lists(st.binary(max_size=40), min_size=1, max_size=6),
    cut=st.integers(min_value=0, max_value=400),
    junk=st.binary(max_size=8),
)
def test_a_record_that_is_not_whole_is_none(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], cut: int, junk: bytes
) -> None:
    name = tmp_path_factory.mktemp("log") / "log"
    log = Log(str(name), MARK, 0)
    ends = []
    for data in records:
        log.add(data)
        ends.append(log._at)
    log.close()
    content = bytearray(name.read_bytes())
    at = 32 + cut
    harmed = bytes(content[at : at + len(junk)]) != junk
    content[at : at + len(junk)] = junk
    name.write_bytes(bytes(content))
    again = Log(str(name), MARK, 0)
    found = list(again.rest())
    again.close()
    assert found == records[: len(found)]  # never anything but what was added, in order
    whole = sum(end <= at for end in ends) if harmed else len(records)
    assert len(found) >= whole


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * LOG_BYTES, b"jobyard log 1\n\0\0" + b"n" * (LOG_BYTES - 16)])
def test_a_file_that_is_none_of_this_journal_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log").write_bytes(content)
    log = Log(str(tmp_path / "log"), MARK, 7)
    assert list(log.rest()) == []
    log.add(b"eight")
    log.close()
    assert os.path.getsize(tmp_path / "log") == LOG_BYTES
    again = Log(str(tmp_path / "log"), MARK, 7)
    assert list(again.rest()) == [b"eight"]
    again.close()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / "log").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="log"):
        Log(str(tmp_path / "log"), MARK, 0)
    assert (tmp_path / "other").read_text() == "mine"


# The journal over it -------------------------------------------------------------------------------------------------


def test_what_was_committed_is_there_after_a_kill_once(path: str) -> None:
    store = Store(path)
    add(store, 1)
    assert kept(store) == [1]  # in an open transaction
    add(store, 2, 3)
    killed(store)
    again = Store(path)
    assert kept(again) == [1, 2, 3]
    add(again, 4)
    killed(again)
    last = Store(path)
    assert kept(last) == [1, 2, 3, 4]
    last.close()
    assert not os.path.exists(f"{path}-log")
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert [number for (number,) in db.execute("SELECT number FROM events")] == [1, 2, 3, 4]


def test_a_large_transaction_takes_the_log_along(path: str) -> None:
    store = Store(path)
    add(store, 1)
    add(store, *range(2, SMALL_ROWS + 10))
    add(store, 1000, text=b"x" * SMALL_BYTES)
    add(store, 1001)
    killed(store)
    again = Store(path)
    assert kept(again) == [*range(1, SMALL_ROWS + 10), 1000, 1001]
    again.close()


def test_more_than_the_log_holds(path: str) -> None:
    store = Store(path)
    numbers = list(range(3 * LOG_BYTES // 4000))
    for number in numbers:
        add(store, number, text=b"y" * 4000)
    killed(store)
    again = Store(path)
    assert kept(again) == numbers
    again.close()


def test_a_transaction_that_was_given_up_leaves_nothing(path: str) -> None:
    store = Store(path)
    store.begin()
    store.many(EVENT, [(1, 1.0, 1, 1, b"")])
    store.undo()
    add(store, 2)
    assert kept(store) == [2]
    store.close()


def test_a_log_that_cannot_be_written_refuses_and_recovers(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(path)
    add(store, 1)
    real = os.fdatasync

    def fails(_fd: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(sqlite3.OperationalError, match="input/output"):
        add(store, 2)
    store.undo()
    monkeypatch.setattr(os, "fdatasync", real)
    killed(store)
    again = Store(path)
    assert kept(again) == [1]  # what was refused never comes back
    add(again, 3)
    killed(again)
    last = Store(path)
    assert kept(last) == [1, 3]
    last.close()


class Refusing:
    """A database connection that lets no transaction end."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.full = True

    def execute(self, statement: str, *values: Any) -> Any:
        if self.full and statement == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self.db.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)


def test_a_full_disk_hides_nothing(path: str) -> None:
    store = Store(path)
    add(store, 1)
    refusing: Any = Refusing(store._db)
    store._db = refusing
    add(store, 2)
    assert kept(store) == [1, 2]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        add(store, *range(3, SMALL_ROWS + 10))
    assert kept(store) == [1, 2]
    store.fold()
    assert kept(store) == [1, 2]
    refusing.full = False
    add(store, *range(3, SMALL_ROWS + 10))
    assert kept(store) == list(range(1, SMALL_ROWS + 10))
    store.close()


def test_without_a_log_every_transaction_goes_to_the_database(path: str) -> None:
    os.mkdir(f"{path}-log")  # no file can be made there
    store = Store(path)
    add(store, 1)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT number FROM events").fetchall() == [(1,)]
    store.close()


def test_a_journal_of_the_first_format_goes_on(path: str) -> None:
    store = Store(path)
    add(store, 1)
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM meta WHERE key IN ('mark', 'log')")
        db.execute("PRAGMA user_version=1")
        db.commit()
    again = Store(path)
    add(again, 2)
    killed(again)
    last = Store(path)
    assert kept(last) == [1, 2]
    last.close()


def test_a_log_does_not_reach_another_journal(path: str) -> None:
    store = Store(path)
    add(store, 1)
    killed(store)
    for end in ("", "-wal", "-shm"):
        if os.path.exists(path + end):
            os.unlink(path + end)  # moved away, as the error for a damaged journal says
    fresh = Store(path)
    assert kept(fresh) == []
    fresh.close()


def test_no_place_is_asked_for_that_never_was(path: str) -> None:
    store = Store(path)
    batch = "INSERT INTO batches (no, session, place, first, count, at, array) VALUES (?,?,?,?,?,?,?)"
    store.begin()
    store.write(batch, (1, 1, 0, 1, 3, 1.0, 0))
    store.write(batch, (2, 1, 3, 5, 2, 1.0, 4))
    store.end()
    store.comes(1, 9)
    assert store.place(1, 2) == (0, 1, 3, 0)
    assert store.place(1, 5) == (3, 5, 2, 4)
    assert store.place(1, 6) is None
    assert store.place(1, 9) is None
    store.close()
    Path(path).write_bytes(b"nonsense" * 1000)
    with pytest.raises(JournalError):
        Store(path)
