"""The journal's file: what it is made as, what it refuses, and that what it refuses it never touches."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from engine.journaling import LOGIN, Clock, fill, intent, submit
from jobyard import journal_schema, journal_store
from jobyard.errors import JournalError
from jobyard.journal import Journal
from jobyard.journal_store import from_sql, is_network, to_sql

RELEASED = Path(__file__).resolve().parent.parent / "data" / "journals"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def filled(path: Path) -> Path:
    """A journal with content, closed."""
    journal = Journal(path)
    fill(journal)
    journal.close()
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refuses(path: Path, words: str) -> None:
    """Opening says why not, and leaves the file as it is."""
    before = digest(path)
    with pytest.raises(JournalError, match=words) as raised:
        Journal(path)
    assert str(path) in str(raised.value) or str(path.parent) in str(raised.value)
    assert digest(path) == before


# As it is made -----------------------------------------------------------------------------------------------------------


def test_it_is_private_and_durable(path: Path) -> None:
    old = os.umask(0)
    try:
        journal = Journal(path)
        journal.create_session("slurm", LOGIN)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        for one in path.parent.iterdir():
            assert stat.S_IMODE(one.stat().st_mode) == 0o600, one
    finally:
        os.umask(old)
    with journal._store.reading() as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._store._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    journal.close()
    assert [one.name for one in path.parent.iterdir()] == ["journal.db"]


@pytest.mark.parametrize("network", [False, True])
def test_only_what_can_be_looked_up_again_waits_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch, network: bool) -> None:
    monkeypatch.setattr("jobyard.journal_store.is_network", lambda folder: network)
    journal = Journal(path)
    store = journal._store

    def sync(db: sqlite3.Connection) -> int:
        return int(db.execute("PRAGMA synchronous").fetchone()[0])

    full, normal = 2, 2 if network else 1  # with a rollback journal, an unsynced commit may harm the file
    assert store.write(sync) == full
    assert store.write(sync, at_once=False) == normal
    assert store.write(sync, at_once=False) == normal
    assert store.write(sync) == full
    store.write(sync, at_once=False)
    pid = os.fork()
    if not pid:  # a child has a connection of its own
        os._exit(store.write(sync) != full)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.write(sync) == full
    journal.close()


def test_what_others_could_read_is_closed_to_them(filled: Path) -> None:
    filled.chmod(0o644)
    filled.parent.chmod(0o755)
    Journal(filled).close()
    assert stat.S_IMODE(filled.stat().st_mode) == 0o600
    assert stat.S_IMODE(filled.parent.stat().st_mode) == 0o700


def test_a_network_file_system_gets_a_rollback_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobyard.journal_store.is_network", lambda folder: True)
    journal = Journal(path)
    fill(journal)
    assert journal._store._writer.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert {one.name for one in path.parent.iterdir()} == {"journal.db"}
    journal.close()
    monkeypatch.undo()
    again = Journal(path)  # moved to a local disk: the other mode, the same content
    assert again._store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert len(again.sessions()) == 1
    again.close()


MOUNTS = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:40 / /home rw,nosuid shared:9 - nfs4 server:/home rw,vers=4.2
31 30 254:1 / /home/me/scratch rw - xfs /dev/vdb rw
32 21 0:41 / /mnt/with\\040blank rw - fuse.sshfs me@host: rw
33 21 0:42 / /over rw - ext4 /dev/vdc rw
34 33 0:43 / /over rw - lustre a@tcp:/b rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/var/lib", False),
        ("/home", True),
        ("/home/me/.local/state", True),
        ("/home/me/scratch/x", False),
        ("/homework", False),
        ("/mnt/with blank/x", True),
        ("/over/x", True),
    ],
)
def test_network_file_systems_are_told_by_their_mounts(path: str, network: bool) -> None:
    assert is_network(path, MOUNTS) is network


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="no list of mounts on this platform")
def test_the_mounts_of_this_machine_are_read(tmp_path: Path) -> None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True).stdout.strip()
    assert is_network(str(tmp_path)) is (kind in ("nfs", "nfs4", "smb2", "cifs", "lustre", "gpfs", "ceph", "v9fs"))


@pytest.mark.parametrize("text", [None, "", "plain", "gr\u00fc\u00df", "\U0001f600", "\udcff\udc80", "a\ud800b"])
def test_any_text_survives(text: str | None) -> None:
    with sqlite3.connect(":memory:") as db:
        assert from_sql(db.execute("SELECT ?", (to_sql(text),)).fetchone()[0]) == text
    db.close()


# What is refused ---------------------------------------------------------------------------------------------------------


def test_a_newer_journal(filled: Path) -> None:
    with sqlite3.connect(filled) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute(f"PRAGMA user_version = {journal_schema.SCHEMA_VERSION + 1}")
    db.close()
    known = journal_schema.SCHEMA_VERSION
    refuses(filled, rf"newer release of jobyard \(schema {known + 1}; this one knows up to {known}\).*JOBYARD_STATE_DIR")


def test_a_damaged_header(filled: Path) -> None:
    with filled.open("r+b") as file:
        file.write(b"\0" * 64)
    refuses(filled, r"is damaged .*left as it is: move it away")


def test_a_file_that_is_no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("jobs: none\n" * 100)
    refuses(path, "is damaged .*not a database")


def test_an_sqlite_file_of_another_program(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks (url)")
    db.close()
    refuses(path, "of another program; move it away")


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(JournalError, match="is no file; move it away"):
        Journal(path)


def test_a_link_in_its_place(filled: Path) -> None:
    link = filled.parent / "link.db"
    link.symlink_to(filled)
    with pytest.raises(JournalError, match="is no file; move it away"):
        Journal(link)


def test_the_file_of_another_user(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: filled.stat().st_uid + 1)
    refuses(filled, r"belongs to user \d+, not to you")


def test_damaged_pages_are_an_error_and_stop_all_writing(filled: Path) -> None:
    with sqlite3.connect(filled) as db:
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sessions'").fetchone()[0]
        page_size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    with filled.open("r+b") as file:
        file.seek((page - 1) * page_size)
        file.write(b"\xa5" * page_size)
    before = digest(filled)
    journal = Journal(filled)  # the header is whole
    with pytest.raises(JournalError, match=r"is damaged .*move it away to begin anew"):
        journal.sessions()
    with pytest.raises(JournalError, match="nothing is written to it any more"):
        journal.create_session("slurm", LOGIN)
    journal.close()
    assert digest(filled) == before


def test_check_reads_all_of_it(filled: Path) -> None:
    with sqlite3.connect(filled) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_master WHERE name = 'jobs_ended'")
    db.close()
    journal = Journal(filled)
    assert any("never used" in line for line in journal.check())
    journal.close()


def test_a_closed_journal_says_so(filled: Path) -> None:
    journal = Journal(filled)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="was closed"):
        journal.sessions()
    with pytest.raises(JournalError, match="was closed"):
        journal.renew()


ATTEMPT = """
import os, sys
sys.path[:0] = {path!r}
from jobyard.journal import Journal
from jobyard.errors import JournalError
if os.geteuid() == 0:
    os.setegid(65534); os.seteuid(65534)
try:
    Journal(sys.argv[1]).create_session("slurm", "x")
except JournalError as error:
    print(error)
"""


def test_a_folder_that_cannot_be_written() -> None:
    """Tried as somebody whom permissions bind."""
    folder = Path(tempfile.mkdtemp(prefix="journal-"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
        folder.chmod(0o500)
        program = ATTEMPT.format(path=sys.path)
        command = [sys.executable, "-c", program, str(folder / "journal.db")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "cannot be used: Permission denied" in said
        assert "JOBYARD_STATE_DIR" in said
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


FULL_DISK = """
import resource, signal, sys
sys.path[:0] = {path!r}
from engine.journaling import intent
from jobyard.journal import Journal
from jobyard.errors import JournalError
journal = Journal(sys.argv[1])
session = journal.create_session("slurm", "x").id
journal.intend([intent(session, "a" * 32)])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    journal.intend([intent(session, "b" * 32, jobs=20_000)])
except JournalError as error:
    print(error)
print(journal.submission("a" * 32).jobs, len(journal.stale_intents()))
journal.close()
"""


def test_a_disk_that_is_full(path: Path) -> None:
    """As a limit on the size of files shows it: the write fails as a whole, and what was there before is there."""
    program = FULL_DISK.format(path=sys.path)
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    said, counts = done.stdout.strip().rsplit("\n", 1)
    assert said.startswith(f"the journal {path} cannot be")
    assert counts == "1 0"
    journal = Journal(path)
    assert [one.token for one in journal.stale_intents()] == ["a" * 32]
    assert journal.check() == []
    journal.close()


# Old journals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(one.name for one in RELEASED.glob("schema-*.db")))
def test_a_released_journal_opens_for_ever(name: str, path: Path) -> None:
    """Each was filled by ``journaling.fill`` when its schema was released; what it tells is what a new one tells."""
    path.parent.mkdir()
    shutil.copy(RELEASED / name, path)
    old, new = Journal(path), Journal(path.parent / "new.db", clock=Clock())
    session, fresh = old.sessions()[0], fill(new)
    assert session.contact == new.session(fresh).contact
    assert old.states(session.id) == new.states(fresh)
    assert [one.key for one in old.unfinished()] == [one.key for one in new.unfinished()]
    assert [one.facts.seen for one in old.unfinished()] == [one.facts.seen for one in new.unfinished()]
    for ours, theirs in zip(old.entries(session.id), new.entries(fresh), strict=True):
        assert (ours.name, ours.native_id, ours.state, ours.by, ours.ending) == (
            theirs.name,
            theirs.native_id,
            theirs.state,
            theirs.by,
            theirs.ending,
        )
        assert old.history(ours.key) == new.history(theirs.key)
        assert [one.text for one in old.evidence(ours.key)] == [one.text for one in new.evidence(theirs.key)]
        if not ours.foreign:
            assert old.description(ours.key) == new.description(theirs.key)
    assert [one.token for one in old.stale_intents()] == ["d" * 32]
    (key,) = submit(old, session.id, "f" * 32)  # and it goes on
    assert old.find(session.id, "f" * 32) == [key]
    old.intend([intent(session.id, "9" * 32)])
    old.silent("slurm", 5.0, "away")
    assert old.silence("slurm") is not None
    assert old.check() == []
    old.close()
    new.close()


def test_there_is_a_released_journal_of_every_schema() -> None:
    found = {one.name for one in RELEASED.glob("schema-*.db")}
    assert found == {f"schema-{number}.db" for number in range(1, journal_schema.SCHEMA_VERSION + 1)}
    assert set(journal_schema.MIGRATIONS) == set(range(1, journal_schema.SCHEMA_VERSION))


def test_what_a_file_is_is_read_at_one_moment(tmp_path: Path) -> None:
    """Another process makes the journal while this one looks: it is empty, or whole, never another program's."""
    path = tmp_path / "journal.db"
    one, other = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
    one.execute("PRAGMA journal_mode = WAL")

    class Watched:
        """Lets the other make the journal after the first thing that is read."""

        made = False
        in_transaction = property(lambda self: one.in_transaction)

        def execute(self, sql: str) -> _Row:
            found = _Row(one.execute(sql).fetchone())
            if not self.made and not sql.startswith("BEGIN") and sql != "ROLLBACK":
                self.made = True
                other.execute("BEGIN")
                journal_schema.create(other)
                other.execute("COMMIT")
            return found

    assert journal_store._identity(Watched()) == (0, 0, False)  # type: ignore[arg-type]
    assert journal_store._identity(one) == (journal_schema.SCHEMA_VERSION, journal_schema.APPLICATION_ID, True)
    one.close()
    other.close()


class _Row:
    def __init__(self, row: tuple[object, ...]) -> None:
        self.row = row

    def fetchone(self) -> tuple[object, ...]:
        return self.row


def test_an_older_schema_is_migrated_in_one_transaction(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE jobs ADD COLUMN colour TEXT")

    def fail(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE jobs ADD COLUMN shape TEXT")
        raise sqlite3.OperationalError("disk I/O error")

    now = journal_schema.SCHEMA_VERSION
    monkeypatch.setattr(journal_schema, "SCHEMA_VERSION", now + 2)
    monkeypatch.setattr(journal_schema, "MIGRATIONS", {now: add, now + 1: fail})
    with pytest.raises(JournalError, match="disk I/O error"):
        Journal(filled)
    assert (_columns(filled) & {"colour", "shape"}, _version(filled)) == (set(), now)
    monkeypatch.setattr(journal_schema, "MIGRATIONS", {now: add, now + 1: add_nothing})
    Journal(filled).close()
    assert (_columns(filled) & {"colour", "shape"}, _version(filled)) == ({"colour"}, now + 2)


def add_nothing(db: sqlite3.Connection) -> None:
    assert db.in_transaction


def _columns(path: Path) -> set[str]:
    with sqlite3.connect(path) as db:
        found = {row[1] for row in db.execute("PRAGMA table_info(jobs)")}
    db.close()
    return found


def _version(path: Path) -> int:
    with sqlite3.connect(path) as db:
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
    db.close()
    return found
