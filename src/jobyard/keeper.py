"""The keeper: where the records of one session's jobs are kept, and from where their changes are told.

Two exist. ``JournalKeeper`` (tracker.py) keeps them in journal.db, for every scheduler that is asked by commands.
``LocalKeeper`` (schedulers/local/client.py) leaves them with the embedded scheduler, whose own commit is the intent and
whose record is the receipt. Session is written against this protocol alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from .errors import JobyardError
from .job import By, Ending, JobDescription, JobState, Observation, Transition
from .schedulers.base import Action

__all__ = ["Entry", "Evidence", "Keeper", "KeepsJobs", "Placed", "SeesSessions", "Silence", "Sink", "Update"]


class Update(msgspec.Struct, frozen=True, gc=False):
    """What a keeper tells its session: a job's new state. ``key`` is the keeper's number of the job."""

    key: int
    state: JobState
    at: float
    by: By | None = None
    ending: Ending | None = None
    reason: str | None = None


class Placed(msgspec.Struct, frozen=True):
    """An accepted job: the keeper's key, its token and its native id (None: it had ended before the scheduler was asked)."""

    key: int
    token: str
    native_id: str | None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A job as a keeper lists it."""

    key: int
    token: str
    native_id: str | None
    state: JobState
    at: float  # of the last transition
    submitted_at: float
    name: str
    by: By | None = None
    array: str | None = None  # the array's token
    array_id: str | None = None  # the array's native id
    index: int | None = None
    ending: Ending | None = None
    reaped: bool = False
    foreign: bool = False  # attached, not submitted here
    reason: str | None = None  # why it waits


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``why``: an observation, or a transition that followed from those before it."""

    at: float
    text: str
    observation: Observation | None = None
    transition: Transition | None = None


class Silence(msgspec.Struct, frozen=True):
    """A scheduler that does not answer. Times in seconds since the epoch."""

    since: float  # when the first question was asked that got no answer
    last: float  # when the last of them was given up
    reason: str

    @property
    def lasted_s(self) -> float:
        """How long it is known to have lasted: not until now, only until the last question."""
        return max(0.0, self.last - self.since)


Sink = Callable[[Sequence[Update]], None]


class Keeper(Protocol):
    """One session's records. Every method may be called from any thread; none is called before it is needed."""

    session_id: str

    def establish(self) -> None:
        """Make the session last, so that its contact opens it in any process; a session with a job lasts already."""

    def submit(self, descriptions: Sequence[JobDescription]) -> Sequence[Placed]:
        """Durably accept jobs, in order. Descriptions are complete (directory and inherit set).

        InvalidJob, UnsupportedAttribute: nothing was written. SubmitError: refused; where others of the same call were
        accepted before it, they are jobs of the session, and the error's ``placed`` lists them.
        """

    def submit_array(
        self, description: JobDescription, indices: Sequence[int], max_running: int | None
    ) -> tuple[str, str, Sequence[Placed]]:
        """Durably accept one array: its token, its native id, its tasks in the order of ``indices``."""

    def wait_until(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Block the calling thread, feeding the sink, until done() is true; False when the time is over.

        Interruptible by signals. ``done`` is cheap and is called after each delivery to the sink, by any thread.
        """

    def silence(self) -> Silence | None:
        """Since when the scheduler does not answer, as far as anybody of this user has asked; None while it does. Those who
        wait look again (``done`` is called) with every further question that gets no answer. None also for a keeper whose
        waits raise SchedulerUnavailable themselves."""

    def poll(self) -> None:
        """Feed the sink what has arrived, without blocking."""

    def background(self) -> None:
        """From now on feed the sink without anyone waiting (futures, watchers), on one thread at most."""

    def keys(self) -> Sequence[int]:
        """All jobs of the session that are kept, oldest first."""

    def states(self) -> Sequence[tuple[int, JobState]]:
        """All jobs of the session with their state, oldest first: light enough for 100,000."""

    def entries(self, keys: Sequence[int] | None = None, *, newest: int | None = None) -> Sequence[Entry]:
        """These jobs, or all, oldest first; ``newest``: only so many of the last ones."""

    def find(self, name: str) -> Sequence[int]:
        """Keys of the jobs of this session with that token or native id; an array's: of all its tasks in order."""

    def description(self, key: int) -> JobDescription:
        """What was submitted. UnknownJob where it is no longer kept, or the job is a foreign one."""

    def history(self, key: int) -> Sequence[Transition]:
        """All its transitions, in order."""

    def why(self, key: int) -> Sequence[Evidence]:
        """The evidence for its state, in order."""

    def streams(self, key: int) -> tuple[str | None, str | None]:
        """Paths of its standard output and error as this machine sees them; None: discarded, or not known yet."""

    def control(self, action: Action, keys: Sequence[int], *, signal: int | None = None) -> Mapping[int, JobyardError | None]:
        """Do it to all; for each None once the scheduler acknowledged, or why not."""

    def attach(self, native_id: str) -> int:
        """Follow a job that this session did not submit. UnknownJob where the scheduler does not know it."""

    def native_ids(self) -> Sequence[str]:
        """All jobs of this user at the scheduler, whoever submitted them."""

    def reap(self, keys: Iterable[int]) -> Sequence[int]:
        """Hide finished jobs from those who wait for any; a durable fact. Returns the keys that this very call reaped:
        of several callers, in whatever processes, one gets each."""

    def remove(self, keys: Iterable[int]) -> None:
        """Forget finished jobs: records, folders, kept streams."""

    def close(self) -> None:
        """Let go. Jobs are not touched; waiters in other threads end with SessionClosed."""


@runtime_checkable
class SeesSessions(Protocol):
    """A keeper that can tell of the other sessions of its user at the same scheduler."""

    def recent_sessions(self, newest: int | None) -> Sequence[str]:
        """Ids of the sessions that the ``newest`` so many jobs of this user belong to; None: all that have jobs."""

    def session_of(self, name: str) -> str | None:
        """Id of the session that has the job or array with that native id, or with a token that begins so."""


@runtime_checkable
class KeepsJobs(Protocol):
    """A scheduler that keeps its jobs' records itself (the embedded one)."""

    def open_keeper(self, session_id: str | None, sink: Sink) -> Keeper:
        """The keeper of that session, or of a new one. UnknownJob is never raised here; InvalidContact for an unknown id."""
