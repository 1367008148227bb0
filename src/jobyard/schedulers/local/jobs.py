"""What the server remembers of a job that has not ended."""

from __future__ import annotations

from typing import Any

from .protocol import HELD, QUEUED, make_token
from .queue import NEVER, Need
from .wire import pack, unpack

__all__ = ["CANCEL", "HOLD", "MEMORY", "PLAIN", "REAPED", "REQUEUE", "WALLTIME", "Batch", "Job", "Run", "Traits", "Wait"]

# Flags of a job, kept in the journal.
HOLD = 1  # by its user
REAPED = 2
CANCEL = 4  # to be ended, and why
WALLTIME = 8
MEMORY = 16
REQUEUE = 32
ENDING = CANCEL | WALLTIME | MEMORY | REQUEUE
MET = 64  # times two to the place of a dependency that is met
MOST_DEPENDENCIES = 50


class Traits:
    """What the scheduler must know of a job before it starts; like jobs share one. Made from the client's short form."""

    __slots__ = (
        "after",
        "begin_at",
        "cpu_s",
        "data",
        "deadline_at",
        "estimate_s",
        "exclusive",
        "folder",
        "hold",
        "immediate",
        "memory",
        "need",
        "nonce",
        "priority",
        "rerunnable",
        "run_time_s",
        "spent",
        "stages",
        "walltime_s",
    )

    def __init__(self, data: bytes | None) -> None:
        value: dict[str, Any] = {} if data is None else unpack(data)
        self.data = data
        self.need = Need(value.get("c", 1), value.get("m", 0), value.get("g", 0))
        self.exclusive: bool = value.get("x", False)
        self.memory: int | None = value.get("m")
        self.priority: int = value.get("p", 0)
        self.begin_at: float | None = value.get("b")
        self.deadline_at: float | None = value.get("D")
        self.hold: bool = value.get("h", False)
        self.after: list[tuple[str, str]] = value.get("d", [])
        self.walltime_s: float | None = value.get("w")
        self.run_time_s: float | None = value.get("r")
        self.cpu_s: float | None = value.get("t")
        self.rerunnable: bool = value.get("R", False)
        self.immediate: bool = value.get("I", False)
        self.folder: bytes | None = value.get("f")  # it goes through the shepherd
        self.nonce: str = value.get("N", "")  # of its receipts
        self.stages: int = value.get("s", 0)  # 1: it has some; 2: also before it runs
        self.spent: bool = value.get("E", False)  # its folder holds nothing of the user's when it has ended
        limits = [limit for limit in (self.walltime_s, self.run_time_s, value.get("e")) if limit is not None]
        self.estimate_s = min(limits, default=NEVER)


PLAIN = Traits(None)


class Batch:
    """What the jobs of one submission have in common. Of an array: also how many of its tasks run."""

    __slots__ = (
        "array",
        "at",
        "blob",
        "count",
        "environment",
        "first",
        "indices",
        "max_running",
        "no",
        "place",
        "running",
        "session",
        "session_id",
        "traits",
    )

    def __init__(
        self,
        no: int,
        session: int,
        session_id: str,
        place: int,
        first: int,
        count: int,
        environment: int | None,
        at: float,
        array: int = 0,
        max_running: int | None = None,
        indices: list[int] | None = None,
        blob: bytes | None = None,
        traits: Traits = PLAIN,
    ) -> None:
        self.no = no
        self.session = session
        self.session_id = session_id
        self.place = place
        self.first = first
        self.count = count
        self.environment = environment
        self.at = at
        self.array = array  # its number; 0: no array
        self.max_running = max_running
        self.indices = indices
        self.blob = blob
        self.traits = traits
        self.running = 0

    def token(self, number: int) -> str:
        """The token of one of its jobs. An array's own is the one before its first task's."""
        return make_token(self.session_id, self.place + number - self.first + (1 if self.array else 0))

    def index(self, number: int) -> int | None:
        """The user's index of a task."""
        return None if self.indices is None else self.indices[number - self.first]

    def native_id(self, number: int) -> str:
        """The native id of one of its jobs."""
        return f"{self.array}_{self.index(number)}" if self.array else str(number)


class Run:
    """One run of a job, from the moment when it is handed to the spawner."""

    __slots__ = (
        "acted_at",
        "attempt",
        "began",
        "booted",
        "generation",
        "gpus",
        "kind",
        "pid",
        "stream",
        "suspended_at",
        "suspended_s",
        "took_s",
    )

    def __init__(self, generation: int, attempt: int, kind: int = 0, gpus: list[bytes] | None = None) -> None:
        self.generation = generation  # of the spawner that has it
        self.attempt = attempt
        self.kind = kind
        self.gpus = gpus
        self.pid = 0  # 0: not known to have started
        self.began = 0.0
        self.booted = 0.0  # seconds since boot, just before it started
        self.took_s = 0.0  # by the start
        self.stream = 0
        self.suspended_at = 0.0  # seconds since boot; 0: not suspended
        self.suspended_s = 0.0  # before that
        self.acted_at = 0.0  # when we set out to end it

    def data(self) -> bytes:
        """For the journal."""
        return pack(
            (
                self.generation,
                self.attempt,
                self.gpus,
                self.pid,
                self.began,
                self.booted,
                self.took_s,
                self.stream,
                self.suspended_at,
                self.suspended_s,
            )
        )

    @classmethod
    def load(cls, data: bytes) -> Run:
        """From the journal."""
        generation, attempt, gpus, *rest = unpack(data)
        run = cls(generation, attempt, 0, gpus)
        run.pid, run.began, run.booted, run.took_s, run.stream, run.suspended_at, run.suspended_s = rest
        return run


class Job:
    """A job that has not ended. ``queued`` and ``listed`` are the queue's."""

    __slots__ = (
        "attempts",
        "batch",
        "blob",
        "cap",
        "dependents",
        "ended",
        "ending",
        "flags",
        "listed",
        "number",
        "queued",
        "run",
        "stage",
        "state",
        "traits",
        "waits",
    )

    def __init__(self, number: int, batch: Batch, blob: bytes | None, traits: Traits, flags: int = 0) -> None:
        self.number = number
        self.batch = batch
        self.blob = blob  # None: the batch's
        self.traits = traits
        self.flags = flags
        self.state = QUEUED
        self.run: Run | None = None
        self.attempts = 0
        self.waits: int = 0  # dependencies that are not met; and 1 more until its time has come
        self.dependents: list[Wait] | None = None  # of other jobs
        self.ending: bytes | None = None
        self.ended: float | None = None
        self.stage: int = 0  # of the shepherd; 0: none seen
        self.cap = batch if batch.max_running is not None else None
        self.queued = False
        self.listed = False

    @property
    def priority(self) -> int:
        """Higher is sooner."""
        return self.traits.priority

    @property
    def need(self) -> Need:
        """What it books."""
        return self.traits.need

    @property
    def estimate_s(self) -> float:
        """Of its run; inf where unknown."""
        return self.traits.estimate_s

    def held_by(self) -> int:
        """1: user, 2: system, 3: both, 0: nobody."""
        return (self.flags & HOLD) | (2 if self.waits else 0)

    def waiting_state(self) -> int:
        """QUEUED or HELD."""
        return HELD if self.held_by() else QUEUED


class Wait:
    """One dependency of a job."""

    __slots__ = ("done", "job", "left", "place", "token", "when")

    def __init__(self, job: Job, place: int, when: str, left: int, token: str) -> None:
        self.job = job
        self.place = place  # among the job's dependencies
        self.when = when
        self.left = left  # jobs that have not ended
        self.token = token
        self.done = False
