"""What the resident knows of the jobs that went through it; for joined servers in a file, so that another resident can go on."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...node.process import publish
from .bindings import Counts

__all__ = ["Entry", "Records"]

_WRITTEN = ("token", "folder", "name", "count", "single", "server")
KEPT_S = 3600.0  # a job that is over can be asked for so long; its receipts stay with the client


@dataclass
class Entry:
    """One submission: one job of HyperQueue's, with ``count`` tasks. ``job`` is None between the intent and the answer."""

    token: str
    folder: str
    name: str
    count: int
    single: bool
    server: str
    job: int | None = None
    finished: int = 0
    over_at: float | None = None  # by the monotonic clock
    failed: dict[int, str] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)  # before they began: they never will

    @property
    def native_id(self) -> str:
        """``UID-JOB``; a task's is that, a dot, and its number."""
        return f"{self.server}-{self.job}"

    def take(self, counts: Counts, now: float) -> bool:
        """Note how far it is; True where failures are to be read, too."""
        self.finished = counts.finished
        if counts.over and self.over_at is None:
            self.over_at = now
        return counts.failed > len(self.failed)

    def shown(self) -> dict[str, Any]:
        """What an answer says of it."""
        return {
            "id": self.native_id,
            "token": self.token,
            "name": self.name,
            "count": None if self.single else self.count,
            "over": self.over_at is not None,
            "finished": self.finished,
            "failed": {str(task): text for task, text in self.failed.items()},
            "cancelled": sorted(self.cancelled),
            "begun": None if self.over_at is not None else self._begun(),
        }

    def _begun(self) -> list[int] | None:
        """Tasks whose claims were made: they run, or have run. HyperQueue's package does not tell. None: nobody can see."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return None
        claims = (name.removeprefix("claim.") for name in names if name.startswith("claim."))
        return sorted(int(task) for task in claims if task.isdecimal())

    def cancel(self, task: int) -> str | None:
        """Have a task end, or never begin. None: it will; else why not.

        Two files in the job's folder: ``stop.N``, for which run.sh and the shepherd look; then the task's claim, which only one
        can make: where it is ours the command has not begun, and never will.
        """
        if self.over_at is not None or task in self.failed:
            return "over"
        if task in self.cancelled:
            return None
        folder = os.fsencode(self.folder)
        try:
            publish(folder, b"stop.%d" % task, b"\n")
            if publish(folder, b"claim.%d" % task, b'{"native_id": null, "host": null, "cancelled": true}\n'):
                self.cancelled.add(task)
        except FileNotFoundError:
            return "over"  # its folder went with its last task
        except OSError as error:
            return f"failed: {error}"
        return None


class Records:
    """All entries by token and by id. ``path``: the file that outlives this process, if any."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.by_token: dict[str, Entry] = {}
        self.by_id: dict[tuple[str, int], Entry] = {}

    def read(self, server: str) -> None:
        """Take up what earlier residents wrote of this server; what is of others goes."""
        if self.path is None:
            return
        kept: list[dict[str, Any]] = []
        with contextlib.suppress(FileNotFoundError), open(self.path, encoding="ascii", errors="replace") as file:
            for line in file:
                try:
                    record = json.loads(line)
                    if isinstance(record, dict) and record.get("server") == server:
                        self._apply(record)
                        kept.append(record)
                except (ValueError, KeyError, TypeError):
                    continue  # the last line of one that was killed
        self._write(kept, os.O_TRUNC)

    def intend(self, entry: Entry) -> None:
        """Durable, before HyperQueue hears of it."""
        self.by_token[entry.token] = entry
        self._write([self._record(entry)], os.O_APPEND)

    def accepted(self, entry: Entry, job: int) -> None:
        """Durable, before the client hears of it."""
        entry.job = job
        self.by_id[entry.server, job] = entry
        self._write([{"server": entry.server, "token": entry.token, "job": job}], os.O_APPEND)

    def refused(self, entry: Entry) -> None:
        """HyperQueue did not take it."""
        del self.by_token[entry.token]
        self._write([{"server": entry.server, "token": entry.token, "job": None}], os.O_APPEND)

    def cancelled(self, never: Iterable[tuple[Entry, int]]) -> None:
        """These tasks will never begin."""
        records = [{"server": entry.server, "token": entry.token, "cancelled": [task]} for entry, task in never]
        if records:
            self._write(records, os.O_APPEND)

    def unfinished(self) -> list[Entry]:
        """What HyperQueue still has to do."""
        return [entry for entry in self.by_id.values() if entry.over_at is None]

    def drop_old(self, now: float) -> list[Entry]:
        """Let go of jobs that have been over for long."""
        old = [entry for entry in self.by_id.values() if entry.over_at is not None and now - entry.over_at > KEPT_S]
        for entry in old:
            self.by_token.pop(entry.token, None)
            self.by_id.pop((entry.server, entry.job or 0), None)
        return old

    def _record(self, entry: Entry) -> dict[str, Any]:
        return {name: getattr(entry, name) for name in _WRITTEN}

    def _apply(self, record: Mapping[str, Any]) -> None:
        token = record["token"]
        if "folder" in record:
            self.by_token[token] = Entry(
                **{name: record[name] for name in ("token", "folder", "name", "count", "single", "server")}
            )
            return
        entry = self.by_token[token]
        if "cancelled" in record:
            entry.cancelled.update(record["cancelled"])
        elif record["job"] is None:
            del self.by_token[token]
        else:
            entry.job = int(record["job"])
            self.by_id[entry.server, entry.job] = entry

    def _write(self, records: Iterable[Mapping[str, Any]], how: int) -> None:
        if self.path is None:
            return
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | how, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
