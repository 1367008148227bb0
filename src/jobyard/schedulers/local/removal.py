"""Jobs that are forgotten, with what they left behind on the disk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .store import TIDY_BATCHES, TIDY_ENVIRONMENTS

if TYPE_CHECKING:
    from .jobs import Traits
    from .server import Server

__all__ = ["Removal"]

PRUNE_MOST = 500


class Removal:
    """Forgets jobs of one server: at once where it is asked to, or when their records were kept long enough."""

    def __init__(self, server: Server, traits: Callable[[bytes | None], Traits]) -> None:
        self._server = server
        self._trait = traits
        self._prune_after = 0
        self._untidy = True  # jobs were removed, and perhaps were the last of their batch

    def forget(self, numbers: list[int]) -> None:
        """Forget jobs that have ended, with the next commit; their files go after it."""
        server, gone = self._server, set(numbers)
        arrays: set[int] = set()  # whose folder was looked after
        for one in numbers:
            row = server.store.execute(
                "SELECT coalesce(j.traits, b.traits), b.first, b.count, b.array FROM jobs j JOIN batches b ON b.no=j.batch "
                "WHERE j.number=?",
                (one,),
            ).fetchone()
            if row is None:
                continue
            for table in ("jobs", "events", "attached"):
                server.writes.append((f"DELETE FROM {table} WHERE number=?", (one,)))
            data, first, count, array = row
            folder = self._trait(data).folder
            if folder is not None and array:  # which the tasks share
                if array in arrays:
                    folder = None
                else:
                    arrays.add(array)
                    query = "SELECT number FROM jobs WHERE number BETWEEN ? AND ?"
                    there = server.store.execute(query, (first, first + count - 1))
                    folder = None if any(number not in gone for (number,) in there) else folder
            server.engine.after_commit.append(_remover(server.folder.kept_files(one), folder))
        if numbers:
            self._untidy = True
            # Numbers are never given twice, though the last ones are forgotten.
            statement = "INSERT OR REPLACE INTO meta VALUES ('number', max(?, (SELECT value FROM meta WHERE key='number')))"
            server.writes.append((statement, (max(numbers),)))

    def prune(self) -> bool:
        """Forget a bounded number of jobs that ended longer ago than records are kept. True: environments may go, too."""
        server = self._server
        old, self._prune_after = server.store.expired(self._prune_after, time.time() - server.retention_s, PRUNE_MOST)
        if old:
            self.forget(old)
        if not self._untidy:
            return False
        self._untidy = False
        server.writes.append((TIDY_BATCHES, ()))
        server.writes.append((TIDY_ENVIRONMENTS, ()))
        return True


def _remover(files: tuple[str, str], folder: bytes | None) -> Callable[[], None]:
    """What removes a job's own stream files, and its folder where it has one."""

    def remove() -> None:
        for path in files:
            try:
                os.unlink(path)
            except OSError:
                pass  # most jobs keep none; one that cannot be removed must not end the server
        if folder is not None:
            shutil.rmtree(os.fsdecode(folder), ignore_errors=True)

    return remove
