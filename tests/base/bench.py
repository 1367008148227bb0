"""Jobs of the stand-in that are plain shell scripts, and how tests wait for them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobyard.job import JobDescription
from jobyard.schedulers.base import Accepted, Kind, Row, Submission
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing.polling import eventually
from jobyard.testing.standin import Cell


class Bench:
    """Submits scripts, and waits for what becomes of them."""

    def __init__(self, cell: Cell, scheduler: CommandScheduler, folder: Path) -> None:
        self.cell = cell
        self.scheduler = scheduler
        self.folder = folder
        folder.mkdir()

    def make(self, script: str = "exit 0", *, kind: Kind = Kind.SINGLE, **fields: Any) -> Submission:
        """A submission whose folder is complete; ``indices``, ``max_running``, ``after`` are the submission's."""
        token = secrets.token_hex(16)
        folder = self.folder / token
        folder.mkdir()
        mine = {name: fields.pop(name) for name in ("indices", "max_running", "after") if name in fields}
        fields.setdefault("argv", ("/bin/true",))
        submission = Submission(token=token, folder=str(folder), description=JobDescription(**fields), kind=kind, **mine)
        lines = ["#!/bin/sh", *self.scheduler.dialect.directives(submission), script, ""]
        (folder / "run.sh").write_text("\n".join(lines))
        return submission

    def submit(self, script: str = "exit 0", **fields: Any) -> str:
        """The native id of a job that runs that script, or of the array."""
        accepted = self.accept(self.make(script, **fields))
        return accepted.array_id or accepted.native_ids[0]

    def accept(self, submission: Submission) -> Accepted:
        return self.scheduler.submit(submission)

    def rows(self) -> dict[str, Row]:
        """What the queue says now."""
        answer = self.scheduler.query([])
        assert answer.complete
        return {row.native_id: row for row in answer.rows}

    def until(self, native_id: str, *words: str) -> Row:
        """The job's row, once its state is one of those words."""

        def there() -> Row | None:
            row = self.rows()[native_id]
            return row if row.native_state in words else None

        row: Row = eventually(there, f"{native_id} is {' or '.join(words)}")
        return row


def gate(folder: Path, name: str = "gate") -> tuple[str, Callable[[], None]]:
    """A line of shell at which a job waits, and what lets it go on."""
    path = folder / name
    os.mkfifo(path)

    def open_it() -> None:
        path.write_text("\n")

    return f'read line < "{path}"', open_it
