"""One SQLite file, many threads and processes: opening it safely, reading, and commits that are shared.

Every error of SQLite becomes a JournalError that says what to do. A file that is damaged, newer, or not ours is never
written to.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from . import journal_schema as schema
from .errors import JournalError

__all__ = ["Store", "from_sql", "is_network", "to_sql"]

T = TypeVar("T")

BUSY_S = 60.0  # how long another process's transaction is waited for; each of ours takes milliseconds
_SLICE_S = 1.0  # SQLite waits that long at a time, so that Ctrl-C is heard between
_FORK_S = 5.0  # how long a fork waits for the transactions of other threads
_READERS = 4  # connections kept for reading
_OPENING: dict[int, threading.Lock] = {}  # by process: closing a descriptor of the file drops the process's locks on it
_LEFT_BEHIND: list[sqlite3.Connection] = []  # a forked child must neither use nor close its parent's connections

# fmt: off
NETWORK_TYPES = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "cvfs", "drvfs", "fhgfs", "fuse.ceph", "fuse.glusterfs", "fuse.gpfs",
    "fuse.juicefs", "fuse.s3fs", "fuse.sshfs", "gfs", "gfs2", "glusterfs", "gpfs", "ibrix", "lustre", "mmfs", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs",
})
# fmt: on


def is_network(path: str, mounts: str | None = None) -> bool:
    """Whether a folder lies on a network file system, where SQLite's shared memory (WAL) cannot work.

    ``mounts``: the text of ``/proc/self/mountinfo``, which is read where it is None. Where there is none (macOS): False.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        except OSError:
            return False
    best, kind = -1, ""
    real = os.path.realpath(path)
    for line in mounts.splitlines():
        words, _, rest = line.partition(" - ")
        fields = words.split(" ")
        if len(fields) < 5 or not rest:
            continue
        point = _unescape(fields[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:  # a later mount on the same point hides the earlier
            best, kind = len(point), rest.split(" ")[0]
    return kind in NETWORK_TYPES


def _unescape(point: str) -> str:
    for code in ("040", "011", "012", "134"):
        point = point.replace("\\" + code, chr(int(code, 8)))
    return point


def to_sql(text: str | None) -> str | bytes | None:
    """Text as SQLite takes it: a blob where lone surrogates (bytes that are not UTF-8) are in it."""
    if text is None or text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_sql(value: Any) -> str | None:
    """The text that ``to_sql`` wrote."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


class _Gate:
    """No fork while a thread is inside SQLite: its own locks are the process's, and a child would wait for them for ever."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._forking = False
        self._registered = False
        self._mine = threading.local()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What is done within calls SQLite."""
        depth: int = getattr(self._mine, "depth", 0)
        with self._changed:
            while self._forking and not depth:
                self._changed.wait()
            self._inside += 1
            self._mine.depth = depth + 1
        try:
            yield
        finally:
            with self._changed:
                self._mine.depth = depth
                self._inside -= 1
                if not self._inside:
                    self._changed.notify_all()

    def register(self) -> None:
        """From now on this process's forks wait: not at all, or for as long as a transaction takes."""
        with self._changed:
            if not self._registered:
                self._registered = True
                os.register_at_fork(before=self._before, after_in_parent=self._parent, after_in_child=self._child)

    def _before(self) -> None:
        self._changed.acquire()
        self._forking = True
        self._changed.wait_for(lambda: not self._inside, _FORK_S)

    def _parent(self) -> None:
        self._forking = False
        self._changed.notify_all()
        self._changed.release()

    def _child(self) -> None:
        self._changed = threading.Condition()
        self._inside, self._forking = 0, False
        self._mine.depth = 0


_GATE = _Gate()


class _Task:
    """A write that waits for its turn in a shared commit."""

    __slots__ = ("at_once", "done", "error", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any], at_once: bool) -> None:
        self.work = work
        self.at_once = at_once
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None


class Store:
    """The file. Every method may be called from any thread, and after a fork."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.commits = 0  # made by this object
        self._pid = os.getpid()
        self._closed = False
        self._broken: str | None = None
        self._reset()
        _GATE.register()
        with self.errors(), _GATE.inside():
            self._writer = self._open_first()

    def _reset(self) -> None:
        self._write_lock = threading.Lock()
        self._queue: deque[_Task] = deque()
        self._queue_lock = threading.Lock()
        self._batch: list[_Task] = []
        self._committing = False
        self._synced = True  # the writer's commits are; false while that is not certain
        self._failure: JournalError | None = None
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._watcher: sqlite3.Connection | None = None
        self._watcher_lock = threading.Lock()

    # opening

    def _open_first(self) -> sqlite3.Connection:
        folder = os.path.dirname(self.path)
        with _OPENING.setdefault(os.getpid(), threading.Lock()):
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                self._check_owner(folder, stat.S_ISDIR, "folder")
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
                self._check_owner(self.path, stat.S_ISREG, "file")
            except OSError as error:
                raise JournalError(
                    f"the journal {self.path} cannot be used: {error.strerror}. Make {folder} a folder that you can write to, "
                    "or set JOBYARD_STATE_DIR to another"
                ) from error
            connection = self._connect()
            try:
                self._check_version(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _check_owner(self, path: str, kind: Callable[[int], bool], name: str) -> None:
        found = os.lstat(path)
        if name == "folder" and stat.S_ISLNK(found.st_mode):
            found = os.stat(path)
        if not kind(found.st_mode):
            raise JournalError(f"{path} is in the journal's place and is no {name}; move it away, or set JOBYARD_STATE_DIR")
        if found.st_uid != os.geteuid():
            raise JournalError(
                f"the {name} {path} belongs to user {found.st_uid}, not to you ({os.geteuid()}): set JOBYARD_STATE_DIR to a folder "
                "of your own"
            )
        if found.st_mode & 0o077:
            os.chmod(path, 0o700 if name == "folder" else 0o600)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_SLICE_S, isolation_level=None, check_same_thread=False, cached_statements=256)

    def _check_version(self, connection: sqlite3.Connection) -> None:
        version, application, tables = self._patiently(lambda: _identity(connection))
        if version > schema.SCHEMA_VERSION and application in (0, schema.APPLICATION_ID):
            raise JournalError(
                f"the journal {self.path} was written by a newer release of jobyard (schema {version}; this one knows up to "
                f"{schema.SCHEMA_VERSION}). It was not changed: use that release, or set JOBYARD_STATE_DIR to another folder"
            )
        if tables and application != schema.APPLICATION_ID:
            raise JournalError(f"{self.path} is an SQLite file of another program; move it away, or set JOBYARD_STATE_DIR")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_spill = OFF")  # half a transaction in the file would lock out those who read
        self._wal = not is_network(os.path.dirname(self.path))
        mode = "WAL" if self._wal else "DELETE"
        if self._patiently(lambda: connection.execute("PRAGMA journal_mode").fetchone()[0]).upper() != mode:
            self._patiently(lambda: connection.execute(f"PRAGMA journal_mode = {mode}").fetchone())
        if version < schema.SCHEMA_VERSION:
            self._begin(connection)
            try:
                version, _, tables = _identity(connection)  # another process may have been first
                if version == 0 and not tables:
                    schema.create(connection)
                elif version < schema.SCHEMA_VERSION:
                    schema.migrate(connection, version)
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    # errors

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Make a JournalError of what SQLite raises."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> JournalError:
        text = str(error)
        code = getattr(error, "sqlite_errorname", "") or ""
        folder = os.path.dirname(self.path)
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "malformed" in text or "not a database" in text:
            self._broken = text
            return JournalError(
                f"the journal {self.path} is damaged ({text}). It was left as it is: move it away to begin anew (jobs that run go "
                "on), or put a copy of it back"
            )
        if code.startswith("SQLITE_FULL") or "is full" in text:
            return JournalError(f"the journal {self.path} cannot be written: the disk of {folder} is full ({text})")
        if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")) or "readonly" in text or "unable to open" in text:
            return JournalError(
                f"the journal {self.path} cannot be written ({text}): make {folder} and the file in it writable for you, or set "
                "JOBYARD_STATE_DIR to another folder"
            )
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or "locked" in text:
            return JournalError(f"another process has held the journal {self.path} for {BUSY_S:.0f} s ({text}); try again later")
        return JournalError(f"the journal {self.path} cannot be used: {text}")

    def _patiently(self, work: Callable[[], Any]) -> Any:
        """Do it again while another process holds the file."""
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                name = getattr(error, "sqlite_errorname", "") or ""
                if not name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or time.monotonic() > deadline:
                    raise

    def _begin(self, connection: sqlite3.Connection) -> None:
        self._patiently(lambda: connection.execute("BEGIN IMMEDIATE"))

    def _ready(self) -> None:
        if os.getpid() != self._pid:
            _LEFT_BEHIND.extend([self._writer, *self._readers, *([self._watcher] if self._watcher else [])])
            if not self._closed:
                with self.errors(), _GATE.inside():  # first: where that fails, the parent's is not taken for ours
                    writer = self._connect()
                    writer.execute("PRAGMA synchronous = FULL")
                self._writer = writer
            self._reset()
            self._pid = os.getpid()
        if self._closed:
            raise JournalError(f"the journal {self.path} was closed")
        if self._broken is not None:
            raise JournalError(f"the journal {self.path} is damaged ({self._broken}); nothing is written to it any more")

    # reading

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection in one read transaction: all that is read within belongs together."""
        self._ready()
        with self._readers_lock:
            connection = self._readers.pop() if self._readers else None
        with self.errors(), _GATE.inside():
            if connection is None:
                connection = self._connect()
            try:
                self._patiently(lambda: _begin_reading(connection))
                yield connection
            finally:
                _roll_back(connection)
                with self._readers_lock:
                    keep = len(self._readers) < _READERS and not self._closed
                    if keep:
                        self._readers.append(connection)
                if not keep:
                    connection.close()

    def data_version(self) -> int:
        """A number that changes when another connection, of any process, has committed."""
        self._ready()
        with self.errors(), self._watcher_lock, _GATE.inside():
            watcher = self._watcher = self._watcher or self._connect()
            return int(self._patiently(lambda: watcher.execute("PRAGMA data_version").fetchone()[0]))

    # writing

    def write(self, work: Callable[[sqlite3.Connection], T], *, at_once: bool = True) -> T:
        """Do it within a transaction, durable when this returns; threads that write at the same time share one commit.

        Without ``at_once`` it survives the end of every process when this returns, and a failure of power after the next write
        that is to be durable.
        ``work`` may be called again where its transaction had to be given up; it must touch nothing but the connection.
        """
        self._ready()
        task = _Task(work, at_once)
        with self._queue_lock:
            self._queue.append(task)
        try:
            while not task.done.is_set():
                with self._write_lock:
                    if not task.done.is_set():
                        with _GATE.inside():
                            self._turn()
        except BaseException:
            self._withdraw(task)
            raise
        if task.error is not None:
            raise task.error
        return cast(T, task.result)

    def _withdraw(self, task: _Task) -> None:
        """After Ctrl-C: a write that is not yet committed is not made."""
        with self._write_lock, _GATE.inside():
            self._finish()
            with self._queue_lock:
                if task in self._queue:
                    self._queue.remove(task)

    def _turn(self) -> None:
        """Commit all writes that wait. Ctrl-C may end this at any point; ``_finish`` then tells the state from the connection."""
        self._finish()
        with self._queue_lock:
            self._batch = list(self._queue)
        if not self._batch:
            return
        try:
            with self.errors():
                if self._closed:
                    raise JournalError(f"the journal {self.path} was closed")
                self._set_sync(any(task.at_once for task in self._batch))
                self._begin(self._writer)
                for task in self._batch:
                    self._run(task)
                self._committing = True
                self._patiently(lambda: self._writer.execute("COMMIT"))
        except JournalError as error:
            self._failure = error
        self._finish()

    def _set_sync(self, at_once: bool) -> None:
        """With a rollback journal every commit is synced: without that, a failure of power may harm the file itself."""
        if at_once or not self._wal:
            if not self._synced:
                self._writer.execute("PRAGMA synchronous = FULL")
                self._synced = True
        elif self._synced:
            self._synced = False  # first: Ctrl-C may come between
            self._writer.execute("PRAGMA synchronous = NORMAL")

    def _finish(self) -> None:
        """Tell the writes of the last turn how it ended, also where that turn was interrupted. May be interrupted itself."""
        open_ = not self._closed and self._writer.in_transaction
        committed = self._committing and not open_ and self._failure is None
        if open_:
            _roll_back(self._writer)
        if committed or self._failure is not None:
            for task in self._batch:
                if self._failure is not None:  # each thread raises an error of its own
                    task.error = JournalError(str(self._failure))
                    task.error.__cause__ = self._failure.__cause__
                task.done.set()
                with self._queue_lock:
                    if task in self._queue:
                        self._queue.remove(task)
        if committed and self._batch:
            self.commits += 1
        self._batch = []  # else they wait for the next turn
        self._committing, self._failure = False, None

    def _run(self, task: _Task) -> None:
        """One write in a savepoint of its own: its failure is not its neighbours'."""
        task.error, task.result = None, None
        self._writer.execute("SAVEPOINT one")
        try:
            task.result = task.work(self._writer)
        except (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError) as error:
            task.error = self._error(error)
            task.error.__cause__ = error
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - it is raised in the thread whose work it is
            task.error = error
        if task.error is not None:
            self._writer.execute("ROLLBACK TO one")
        self._writer.execute("RELEASE one")

    def check(self) -> list[str]:
        """What SQLite finds wrong with the whole file; empty: nothing."""
        with self.reading() as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)")]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._closed:
            return
        if os.getpid() != self._pid:
            _LEFT_BEHIND.extend([self._writer, *self._readers, *([self._watcher] if self._watcher else [])])
            self._closed = True
            return
        with self._write_lock, _GATE.inside():
            self._closed = True
            self._writer.close()
        with self._readers_lock, _GATE.inside():
            for connection in self._readers:
                connection.close()
            self._readers.clear()
        with self._watcher_lock, _GATE.inside():
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None


def _identity(connection: sqlite3.Connection) -> tuple[int, int, bool]:
    """Schema, application and whether there are tables, all at one moment: another process may be making the journal."""
    own = not connection.in_transaction
    try:
        if own:
            connection.execute("BEGIN")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]  # what follows is of the same moment
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        application = int(connection.execute("PRAGMA application_id").fetchone()[0])
        return version, application, bool(tables)
    finally:
        if own:
            _roll_back(connection)


def _begin_reading(connection: sqlite3.Connection) -> None:
    if not connection.in_transaction:
        connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only this takes the lock that may have to be waited for


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
