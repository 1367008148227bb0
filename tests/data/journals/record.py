"""Record the journal of the present schema, once, when its release is made.

Run as ``PYTHONPATH=tests python tests/data/journals/record.py``. A file that is there already is never written again: it
stands for what users have.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from engine.journaling import Clock, fill
from jobyard.journal import Journal
from jobyard.journal_schema import SCHEMA_VERSION


def record(path: Path) -> None:
    """A filled journal, as one file that no process of any machine has a lease in."""
    journal = Journal(path, clock=Clock())
    fill(journal)
    journal.close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE leases SET host = 'elsewhere', boot = '', pid = 1, started = ''")
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("VACUUM")
    db.close()
    path.chmod(0o644)


if __name__ == "__main__":
    target = Path(__file__).parent / f"schema-{SCHEMA_VERSION}.db"
    if target.exists():
        sys.exit(f"{target} is there; a released journal stays as it is")
    record(target)
    target.parent.chmod(0o755)
