"""The stand-in's jobs: what they are, what their rows say, and how they outlive the server (a log of JSON lines)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

WAITING = ("PENDING", "HELD_USER", "HELD_SYSTEM", "HELD_BOTH", "WAITING")
ACTIVE = ("RUNNING", "SUSPENDED", "ENDING")
SAVED = (
    "state", "runs", "began", "ended", "code", "signal", "core", "user_s", "system_s", "rss_kb", "reason", "pid", "birth",
    "hold_user", "hold_system", "end_word", "again",
)  # fmt: skip


class Spec:
    """What one submission asked for; its tasks share it."""

    _texts: tuple[tuple[str, str], list[bytes]] | None

    def __init__(self, **fields: Any) -> None:
        self.number: int = 0
        self.indices: list[int] | None = None
        self.cap: int | None = None
        self.folder = ""
        self.name = ""
        self.words: list[str] = []
        self.out = os.devnull
        self.err: str | None = None
        self.cores = 1
        self.memory = 0
        self.gpus = 0
        self.walltime: float | None = None
        self.run_time: float | None = None
        self.priority = 0
        self.begin: float | None = None
        self.after: list[tuple[str, str]] = []
        self.rerun = False
        self.queue = "main"
        self.account = ""
        self.submitted = 0.0
        self.more: dict[str, Any] = {}  # what a lookalike keeps of it, as JSON
        self._texts = None
        self.__dict__.update(fields)

    def texts(self) -> list[bytes]:
        """Folder and name as they are printed, the same in all rows."""
        if self._texts is None or self._texts[0] != (self.folder, self.name):
            self._texts = ((self.folder, self.name), [escape(self.folder), escape(self.name)])
        return self._texts[1]


class Job:
    """One job, or one task of an array."""

    def __init__(self, spec: Spec, index: int | None) -> None:
        self.spec = spec
        self.index = index
        self.id = str(spec.number) if index is None else f"{spec.number}.{index}"
        self.state = "PENDING"
        self.history: list[tuple[float, str]] = [(spec.submitted, "PENDING")]
        self.runs = 0
        self.began: float | None = None
        self.ended: float | None = None
        self.code: int | None = None
        self.signal: int | None = None
        self.core = 0
        self.user_s = self.system_s = 0.0
        self.rss_kb = 0
        self.reason = ""
        self.pid = 0
        self.birth = ""  # the kernel's start time of pid, which tells it from a later process of that number
        self.hold_user = self.hold_system = False
        self.end_word = ""  # why it is being ended
        self.again = False  # it is ended to be run again
        self.kill_at: float | None = None
        self.stopped_at: float | None = None
        self.stopped_s = 0.0
        self._last_row: tuple[int, bytes] | None = None

    @property
    def over(self) -> bool:
        return self.state not in WAITING and self.state not in ACTIVE

    def row(self, at: float) -> bytes | None:
        """What queue and accounting print of it, as of that moment; None: it was not there yet."""
        if self.over and at >= self.history[-1][0]:
            if self._last_row is None or self._last_row[0] != len(self.history):
                self._last_row = (len(self.history), self._row(self.state))
            return self._last_row[1]
        word = None
        for moment, state in self.history:
            if moment <= at:
                word = state
        return None if word is None else self._row(word)

    def _row(self, word: str) -> bytes:
        over = word not in WAITING and word not in ACTIVE
        fields = [
            self.id,
            word,
            self.code if over else None,
            self.signal if over else None,
            self.core if over else None,
            self.runs,
            f"{self.spec.submitted:.3f}",
            None if self.began is None else f"{self.began:.3f}",
            f"{self.ended:.3f}" if over and self.ended is not None else None,
            f"{self.user_s:.4f}" if over else None,
            f"{self.system_s:.4f}" if over else None,
            self.rss_kb if over else None,
            self.reason,
        ]
        return b"|".join([*map(escape, fields), *self.spec.texts()])


HEADER = b"JOB|STATE|CODE|SIGNAL|CORE|RUNS|SUBMITTED|BEGAN|ENDED|USER_S|SYSTEM_S|RSS_KB|REASON|FOLDER|NAME"
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;_-+=/@()[]{}<>#$&*!?^~'\"`\\")


def escape(value: Any) -> bytes:
    """A field as it is printed: anything that is not plain as %XX; nothing as nothing."""
    if value is None:
        return b""
    data = os.fsencode(value) if isinstance(value, str) else str(value).encode()
    return b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in data)


def table(rows: list[bytes]) -> bytes:
    """A whole answer: the last line tells how many rows there are, so that one that was cut is seen."""
    return b"\n".join([HEADER, *rows, b"END %d" % len(rows), b""])


class Store:
    """All jobs by id, and the log from which a new server reads them again."""

    def __init__(self, path: str) -> None:
        self.jobs: dict[str, Job] = {}
        self.arrays: dict[str, list[Job]] = {}
        self.next_number = 1
        self._path = path
        for entry in self._read():
            self._replay(entry)
        self._log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _read(self) -> Iterator[dict[str, Any]]:
        if os.path.exists(self._path):
            with open(self._path, encoding="utf-8", errors="surrogateescape") as log:
                for line in log:
                    if line.endswith("\n"):  # else the server died while it wrote
                        yield json.loads(line)

    def _replay(self, entry: dict[str, Any]) -> None:
        if "spec" in entry:
            self._make(Spec(**entry["spec"]))
        elif entry["id"] in self.jobs:
            job = self.jobs[entry["id"]]
            if entry["set"]["state"] != job.state:
                job.history.append((entry["at"], entry["set"]["state"]))
            for name, value in entry["set"].items():
                setattr(job, name, value)

    def _make(self, spec: Spec) -> list[Job]:
        made = [Job(spec, index) for index in (spec.indices if spec.indices is not None else [None])]
        for job in made:
            self.jobs[job.id] = job
        if spec.indices is not None:
            self.arrays[str(spec.number)] = made
        self.next_number = max(self.next_number, spec.number + 1)
        return made

    def add(self, spec: Spec) -> list[Job]:
        """Accept a submission under the next number; one that was used before is another's from now on."""
        spec.number = self.next_number
        self.next_number += 1
        self._write({"spec": {key: value for key, value in spec.__dict__.items() if not key.startswith("_")}})
        return self._make(spec)

    def save(self, job: Job, at: float) -> None:
        """Keep its changed state."""
        if job.state != job.history[-1][1]:
            job.history.append((at, job.state))
        self._write({"id": job.id, "at": at, "set": {name: getattr(job, name) for name in SAVED}})

    def _write(self, entry: dict[str, Any]) -> None:
        os.write(self._log, json.dumps(entry, separators=(",", ":")).encode("ascii") + b"\n")

    def named(self, job_id: str) -> list[Job]:
        """The jobs that an id means: one, all of an array, or none."""
        return [self.jobs[job_id]] if job_id in self.jobs else list(self.arrays.get(job_id, []))
