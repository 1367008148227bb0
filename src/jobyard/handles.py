"""What a session hands out: Job, JobArray and Watch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, overload

from .errors import UnknownJob
from .job import By, Ending, JobDescription, JobState, Placeholder, Transition
from .keeper import Entry, Evidence

if TYPE_CHECKING:
    import concurrent.futures

    from .session import Session

__all__ = ["FINAL", "Job", "JobArray", "Watch"]

FINAL = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


class Job:
    """A job, or one task of an array. Made by a session, never by its user. Awaitable: ``ending = await job``."""

    __slots__ = ("_by", "_ending", "_follower", "_key", "_native_id", "_session", "_state")

    def __init__(self, session: Session, key: int, native_id: str | None, state: JobState = JobState.NEW) -> None:
        self._session = session
        self._key = key
        self._native_id = native_id
        self._state = state
        self._by: By | None = None
        self._ending: Ending | None = None
        self._follower: Any = None  # what a front keeps with it (fronts.py)

    def __repr__(self) -> str:
        return f"<jobyard.Job {self._native_id} {self._state}>"

    # What is known ------------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """Our own id of the job, unique for ever."""
        return self._entry().token

    @property
    def native_id(self) -> str:
        """The scheduler's id; a task's is the array's and its index, as the scheduler writes it."""
        if self._native_id is None:
            self._native_id = self._entry().native_id
        if self._native_id is None:
            raise UnknownJob("the scheduler has no id of this job: it ended before it was sent, or is not known to have arrived")
        return self._native_id

    @property
    def name(self) -> str:
        """Its name, or the command's last path component where none was given."""
        return self._entry().name

    @property
    def description(self) -> JobDescription:
        """What was submitted. UnknownJob for one that was attached, or that is no longer kept."""
        return self._session._keeper_now().description(self._key)

    @property
    def state(self) -> JobState:
        """The last state that is known. Reading it asks the scheduler nothing."""
        if self._state not in FINAL:
            self._session._poll()
        return self._state

    @property
    def by(self) -> By | None:
        """HELD and SUSPENDED: by whom. None in other states."""
        if self._state not in FINAL:
            self._session._poll()
        return self._by

    @property
    def reason(self) -> str | None:
        """Why it waits, in the scheduler's words; None where it does not say, or the job does not wait."""
        if self._state not in FINAL:
            self._session._poll()
        return self._entry().reason

    @property
    def ending(self) -> Ending | None:
        """How it ended; None before that."""
        if self._state not in FINAL:
            self._session._poll()
        if self._ending is None and self._state in FINAL:
            self._ending = self._entry().ending
        return self._ending

    @property
    def history(self) -> Sequence[Transition]:
        """Its transitions, in order."""
        return self._session._keeper_now().history(self._key)

    @property
    def array(self) -> str | None:
        """The token of its array; None for a job that is not a task."""
        return self._entry().array

    @property
    def task_index(self) -> int | None:
        """Its index in the array; None for a job that is not a task."""
        return self._entry().index

    @property
    def submitted_at(self) -> float:
        """When it was accepted, seconds since the epoch."""
        return self._entry().submitted_at

    @property
    def reaped(self) -> bool:
        """Somebody has taken its ending (``take``, ``reap``)."""
        return self._entry().reaped

    @property
    def stdout_path(self) -> str | None:
        """Where its standard output is, as this machine sees it; None where it is discarded or not known yet."""
        return self._session._keeper_now().streams(self._key)[0]

    @property
    def stderr_path(self) -> str | None:
        """Where its standard error is; as ``stdout_path``."""
        return self._session._keeper_now().streams(self._key)[1]

    def why(self) -> Sequence[Evidence]:
        """The evidence for its state, in order."""
        return self._session._keeper_now().why(self._key)

    def _entry(self) -> Entry:
        return self._session._entry(self._key)

    def _shown(self) -> str:
        """What errors call it."""
        entry = self._entry() if self._native_id is None else None
        return f"job {self._native_id if entry is None else entry.native_id or entry.token}"

    # Waiting --------------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> Ending:
        """Block until it has ended, and return its ending, whatever it is. ``timeout`` in seconds; 0 looks once.

        TimeoutError: it has not ended. SessionClosed: the session was closed meanwhile. Ctrl-C interrupts.
        """
        if self._state not in FINAL:
            self._session._wait(lambda: self._state in FINAL, timeout, lambda: f"{self._shown()} is still {self._state}")
        ending = self.ending
        assert ending is not None
        return ending

    def future(self) -> concurrent.futures.Future[Ending]:
        """A future of its ending. Cancelling the future does not cancel the job."""
        keeper = self._session._keeper_now()
        future = self._session._board.future(self)
        if not future.done():
            keeper.background()
        return future

    def __await__(self) -> Generator[Any, None, Ending]:
        import asyncio

        keeper = self._session._keeper_now()
        future = self._session._board.awaited(self)
        if not future.done():
            keeper.background()
        return asyncio.wrap_future(future).__await__()

    # Control --------------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """End it. A finished job is left as it is. ControlError, NotPermitted: the scheduler refuses."""
        self._session.cancel([self])

    def hold(self) -> None:
        """Keep it from starting. WrongState unless it waits; NotPermitted where the scheduler refuses."""
        self._session.hold([self])

    def release(self) -> None:
        """Undo its user's hold. WrongState unless it is held by its user."""
        self._session.release([self])

    def suspend(self) -> None:
        """Stop it where it is, all its processes. WrongState unless it runs."""
        self._session.suspend([self])

    def resume(self) -> None:
        """Let it go on. WrongState unless it is suspended by its user."""
        self._session.resume([self])

    def requeue(self) -> None:
        """End this run of it and queue it again. WrongState unless it runs and its description says ``rerunnable``."""
        self._session.requeue([self])

    def signal(self, signum: int | str) -> None:
        """Send a signal, by number or name (``"USR1"``, ``"SIGUSR1"``). WrongState unless it runs."""
        self._session.signal(signum, [self])

    def reap(self) -> bool:
        """Hide its ending from ``take``; True for the one caller that did it. WrongState before it has ended."""
        return bool(self._session.reap([self]))

    def remove(self) -> None:
        """Forget it: record, folder, kept streams. WrongState before it has ended."""
        self._session.clean([self])


class JobArray(Sequence[Job]):
    """An array job: its tasks, in the order of their indices, and what can be done to all of them at once."""

    INDEX = Placeholder.INDEX  # stands for the task's index in stdin=, stdout=, stderr=, directory=

    def __init__(self, session: Session, token: str, native_id: str | None, tasks: Sequence[Job]) -> None:
        self._session = session
        self._tasks = list(tasks)
        self.token = token
        self.native_id = native_id

    def __repr__(self) -> str:
        return f"<jobyard.JobArray {self.native_id} of {len(self._tasks)} tasks>"

    @overload
    def __getitem__(self, position: int) -> Job: ...
    @overload
    def __getitem__(self, position: slice) -> list[Job]: ...
    def __getitem__(self, position: int | slice) -> Job | list[Job]:
        return self._tasks[position]

    def __len__(self) -> int:
        return len(self._tasks)

    def __hash__(self) -> int:
        return hash(self.token)

    def wait(self, timeout: float | None = None) -> list[Ending]:
        """Block until all tasks have ended; their endings in order. TimeoutError as for ``Job.wait``."""
        return self._session.wait_all(self._tasks, timeout=timeout)

    def cancel(self) -> None:
        """End all unfinished tasks."""
        self._session.cancel(self._tasks)

    def hold(self) -> None:
        """Keep those tasks that wait from starting. WrongState where none does."""
        self._session.hold(self._tasks)

    def release(self) -> None:
        """Release those tasks that their user holds. WrongState where none is."""
        self._session.release(self._tasks)

    def suspend(self) -> None:
        """Suspend the running tasks. WrongState where none runs."""
        self._session.suspend(self._tasks)

    def resume(self) -> None:
        """Resume those tasks that their user suspended. WrongState where none is."""
        self._session.resume(self._tasks)

    def requeue(self) -> None:
        """Requeue the running tasks."""
        self._session.requeue(self._tasks)

    def signal(self, signum: int | str) -> None:
        """Send a signal to the running tasks."""
        self._session.signal(signum, self._tasks)


class Watch:
    """A registration of ``Session.watch``. ``close()`` ends it; no call of the callback begins after that."""

    __slots__ = ("_callback", "_keys", "_session", "closed")

    def __init__(self, session: Session, callback: Callable[[Job, Transition], object], keys: frozenset[int] | None) -> None:
        self._session = session
        self._callback = callback
        self._keys = keys
        self.closed = False

    def close(self) -> None:
        """End the watch."""
        self.closed = True
        self._session._board.unwatch(self)

    def _call(self, job: Job, transition: Transition) -> None:
        if not self.closed:
            self._callback(job, transition)
