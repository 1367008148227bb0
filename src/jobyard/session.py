"""The waist: Session. Every front stands on it; it knows no scheduler, only a keeper.

A session is a named set of jobs at one scheduler. It outlives the process: ``Session(contact)`` with the ``contact`` of an
earlier one has all its jobs, with the endings of those that ended meanwhile.
"""

from __future__ import annotations

import atexit
import math
import os
import signal as _signal
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from .board import Board
from .contact import Contact
from .description import describe, describe_all
from .errors import ControlError, InvalidJob, SchedulerUnavailable, SessionClosed, UnknownJob, WrongState
from .handles import FINAL, Job, JobArray, Watch
from .job import Ending, Inherit, JobDescription, Transition
from .keeper import Entry, Keeper, KeepsJobs, Silence
from .launchers import launch_for
from .schedulers.base import Action, Capabilities, Scheduler

__all__ = ["Job", "JobArray", "Session", "Watch"]

_MOST_TASKS = 4_000_001  # more than any scheduler takes (slurm.conf, MaxArraySize); a slip of the pen must not fill the memory
_open: weakref.WeakSet[Session] = weakref.WeakSet()  # those that are closed when the program ends
_left_behind: list[object] = []  # what a forked child has of its parent's: neither to be used there nor to be closed


class Session:
    """Jobs at one scheduler, by contact: ``"local"``, ``"slurm"``, ``"local/SESSION"``, ``"site:NAME"``.

    None takes ``JOBYARD_CONTACT``, then the configured default, then the one scheduler found here, then ``local``.
    Opening one starts no thread and asks the scheduler nothing. A context manager; leaving it touches no job.

    ``scheduler``: one that the program made itself, in place of one from the table; the contact still gives it its name.
    ``work_dir``: where the folders of its jobs lie, in place of ``JOBYARD_WORK_DIR``; an absolute path.
    ``patience``: seconds; where the scheduler has left all questions unanswered for so long, whoever waits gets
    SchedulerUnavailable, and may wait again; ``patience=`` of the contact goes first. None: they go on waiting.

    InvalidContact: the contact, or its session, cannot be used. NoScheduler: not on this machine. ConfigurationError,
    JournalError: as their texts say.
    """

    def __init__(
        self,
        contact: str | Contact | None = None,
        *,
        scheduler: Scheduler | None = None,
        work_dir: str | None = None,
        patience: float | None = None,
    ) -> None:
        from .config import resolve
        from .schedulers import open_scheduler

        self._given = scheduler
        self._work_dir = work_dir
        self._closed = True  # until it is open
        self._pid = os.getpid()
        self._board = Board(self)
        resolved = resolve(contact)
        self._scheduler: Scheduler = scheduler if scheduler is not None else open_scheduler(resolved)
        self._remote = resolved.host is not None
        self._patience_s: float | None = resolved.option("patience", patience)
        self._usual = {key: text for key, text in resolved.options.items() if key in ("queue", "account")}
        try:
            self._keeper: Keeper = self._open_keeper(resolved)
        except BaseException:
            self._scheduler.close()
            raise
        self._contact = resolved.with_session(self._keeper.session_id)
        self._closed = False
        _open.add(self)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):  # forgotten, not lost: its files and connections are let go
            self.close()

    def _open_keeper(self, contact: Contact) -> Keeper:
        if isinstance(self._scheduler, KeepsJobs):
            return self._scheduler.open_keeper(contact.session, self._board.deliver)
        from .journal_keeper import JournalKeeper

        return JournalKeeper.open(self._scheduler, contact, self._board.deliver, work_dir=self._work_dir)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<jobyard.Session {self._contact}{' closed' if self._closed else ''}>"

    @property
    def contact(self) -> str:
        """The string that opens this very session again, in any process; asking for it makes an empty session last."""
        if not self._closed:
            self._keeper_now().establish()
        return str(self._contact)

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler it speaks to."""
        return self._scheduler

    @property
    def capabilities(self) -> Capabilities:
        """What that scheduler can do."""
        return self._scheduler.capabilities

    @property
    def closed(self) -> bool:
        """``close`` was called."""
        return self._closed

    def close(self) -> None:
        """Let go of the scheduler. Jobs go on; waiters in other threads end with SessionClosed. Closing twice is nothing."""
        if self._closed:
            return
        self._closed = True
        _open.discard(self)
        if self._pid != os.getpid():  # a forked child closes nothing of its parent's
            _left_behind.append((self._keeper, self._scheduler))
            return
        self._keeper.close()
        self._scheduler.close()
        self._board.close()

    # Submission -----------------------------------------------------------------------------------------------------

    def check(self, command: Any, /, **fields: Any) -> JobDescription:
        """The description that ``submit`` would send, checked as ``submit`` would. Nothing is sent."""
        self._keeper_now()
        description = self._described(command, fields)
        self._scheduler.check(description)
        for after in description.after:
            if not self._keeper.find(after.token):
                raise InvalidJob(f"after: this session has no job or array {after.token}", field="after")
        return description

    def submit(self, command: Any, /, **fields: Any) -> Job:
        """Submit one job, durably: once this returns, it runs exactly once, whatever crashes.

        ``command`` is a list of words (nothing is given to a shell) or a JobDescription; ``fields`` are those of
        ``jobyard.description.describe``: ``name``, ``cores``, ``memory="512MiB"``, ``walltime="10m"``, ``environment``, ...

        InvalidJob: a value that makes no sense, named; UnsupportedAttribute: one that this scheduler cannot honour. Nothing
        was written. SubmitError: the scheduler refused. SchedulerUnavailable, TransportError: it could not be asked;
        nothing runs.
        """
        keeper = self._keeper_now()
        placed = keeper.submit([self._described(command, fields)])
        return self._board.placed(placed)[0]

    def submit_all(self, items: Iterable[Any], /, **common: Any) -> list[Job]:
        """Submit many jobs in one round trip; ``common`` fields hold for all. As ``submit``: all are checked first."""
        keeper = self._keeper_now()
        descriptions = [self._completed(one) for one in describe_all(items, self._defaults(common))]
        if not descriptions:
            return []
        return self._board.placed(keeper.submit(descriptions))

    def submit_array(self, command: Any, indices: Iterable[int], /, *, max_running: int | None = None, **fields: Any) -> JobArray:
        """Submit an array: one task for each index (distinct, ascending, 0 or more), at most ``max_running`` at a time.

        Each task sees ``JOBYARD_TASK_INDEX``; ``JobArray.INDEX`` stands for it in paths. Errors as for ``submit``.
        """
        keeper = self._keeper_now()
        chosen = _check_indices(indices)
        if len(chosen) > _MOST_TASKS:
            raise InvalidJob(f"an array has at most {_MOST_TASKS} tasks, as Slurm's largest, not {len(chosen)}", field="indices")
        if max_running is not None and (isinstance(max_running, bool) or not isinstance(max_running, int) or max_running < 1):
            raise InvalidJob(f"max_running is a whole number of 1 or more, not {max_running!r}", field="max_running")
        token, native_id, placed = keeper.submit_array(self._described(command, fields), chosen, max_running)
        return JobArray(self, token, native_id, self._board.placed(placed))

    def _defaults(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        values = dict(fields)
        if not self._remote and values.get("directory") is None:
            with suppress(FileNotFoundError):  # it was removed; those that need it are told below
                values["directory"] = os.getcwd()
        if values.get("inherit") is None:
            values["inherit"] = Inherit.NODE if self._remote else Inherit.CLIENT
        return values

    def _described(self, command: Any, fields: Mapping[str, Any]) -> JobDescription:
        if isinstance(command, JobDescription):
            if fields:
                command = describe(command, **fields)
            return self._completed(describe_all([command], self._defaults({}))[0])
        return self._completed(describe(command, **self._defaults(fields)))

    def _completed(self, job: JobDescription, *, own_folder: bool = False) -> JobDescription:
        """With the queue and the account of the contact, where it says none itself. InvalidJob: its launcher cannot be used, or
        it has no directory, and is not to run in its own folder."""
        if job.directory is None and not self._remote and not own_folder:
            raise InvalidJob("directory: none is given, and the present one was removed", field="directory")
        if job.launcher != "single" or job.launcher_options:
            launch_for(job)
        missing = {key: text for key, text in self._usual.items() if getattr(job, key) is None} if self._usual else None
        return msgspec.structs.replace(job, **missing) if missing else job

    # Jobs -------------------------------------------------------------------------------------------------------------

    def jobs(self, *, newest: int | None = None, unfinished: bool = False, unreaped: bool = False) -> list[Job]:
        """The jobs of this session, oldest first: all, the ``newest`` so many, the unfinished, or those nobody reaped."""
        keeper = self._keeper_now()
        if newest is not None or unreaped:
            entries = [e for e in keeper.entries(newest=newest) if not (unreaped and e.reaped)]
            jobs = [self._meet(entry) for entry in entries]
        else:
            self._poll()
            jobs = self._board.meet_all(keeper.states())
        return [job for job in jobs if not (unfinished and job._state in FINAL)]

    def job(self, name: str) -> Job:
        """The job with that token or native id. UnknownJob where the session has none, or it names an array."""
        keys = self._keeper_now().find(name)
        if len(keys) != 1:
            what = f"{name!r} names {len(keys)} jobs; use array()" if keys else f"this session has no job {name!r}"
            raise UnknownJob(what)
        return self._by_keys(keys)[0]

    def array(self, name: str) -> JobArray:
        """The array with that token or native id. UnknownJob where the session has none."""
        keeper = self._keeper_now()
        keys = keeper.find(name)
        entries = keeper.entries(keys[:1]) if keys else ()
        if not entries or entries[0].array is None or name not in (entries[0].array, entries[0].array_id):
            raise UnknownJob(f"this session has no array {name!r}")
        whole = keeper.find(entries[0].array)  # a part's native id stands for the array that it is a part of
        return JobArray(self, entries[0].array, keeper.entries(whole[:1])[0].array_id, self._by_keys(whole))

    def attach(self, native_id: str) -> Job:
        """Follow a job that this session did not submit. UnknownJob where the scheduler does not know it."""
        return self._by_keys([self._keeper_now().attach(native_id)])[0]

    def native_ids(self) -> list[str]:
        """All jobs of this user at the scheduler now, whoever submitted them. SchedulerUnavailable: it did not answer."""
        return list(self._keeper_now().native_ids())

    def _by_keys(self, keys: Sequence[int]) -> list[Job]:
        entries = {e.key: e for e in self._keeper_now().entries(keys)}
        return [self._meet(entries[key]) for key in keys]

    def _meet(self, entry: Entry) -> Job:
        return self._board.meet(entry.key, entry.native_id, entry.state, entry.by, entry.ending, entry.reaped)

    def _entry(self, key: int) -> Entry:
        found = self._keeper_now().entries([key])
        if not found:
            raise UnknownJob("the job is no longer kept; it was removed, or its time of keeping is over")
        return found[0]

    def _selected(self, jobs: Iterable[Job] | None) -> list[Job]:
        if jobs is None:
            return self.jobs()
        if isinstance(jobs, Job):
            jobs = (jobs,)
        chosen = list(jobs)
        for job in chosen:
            if not isinstance(job, Job) or job._session is not self:
                raise UnknownJob(f"{job!r} is not a job of this session")
        return chosen

    # Waiting ------------------------------------------------------------------------------------------------------------

    def as_completed(self, jobs: Iterable[Job] | None = None, *, timeout: float | None = None) -> Iterator[Job]:
        """Jobs as they end, those that have ended first. TimeoutError where not all have ended in ``timeout`` seconds."""
        chosen = self._selected(jobs)
        deadline = None if timeout is None else time.monotonic() + timeout
        self._poll()
        listener = self._board.listen(chosen)
        try:
            for _ in range(len({job._key for job in chosen})):
                if not listener.ready:
                    left = None if deadline is None else max(0.0, deadline - time.monotonic())
                    self._wait(lambda: bool(listener.ready), left, lambda: f"{len(listener.waiting)} jobs have not ended")
                yield listener.ready.popleft()
        finally:
            self._board.unlisten(listener)

    def wait_all(self, jobs: Iterable[Job] | None = None, *, timeout: float | None = None) -> list[Ending]:
        """Block until all have ended; their endings in order. TimeoutError, SessionClosed as for ``Job.wait``."""
        chosen = self._selected(jobs)
        position = 0

        def done() -> bool:
            nonlocal position
            at, end = position, len(chosen)
            while at < end and chosen[at]._state in FINAL:
                at += 1
            position = at
            return at == end

        if not done():
            self._wait(done, timeout, lambda: f"{sum(job._state not in FINAL for job in chosen)} jobs have not ended")
        missing = [job._key for job in chosen if job._ending is None]
        if missing:
            entries = {entry.key: entry.ending for entry in self._keeper_now().entries(missing)}
            for job in chosen:
                if job._ending is None:
                    job._ending = entries.get(job._key)
        return [job.wait(0) for job in chosen]

    def wait_any(self, jobs: Iterable[Job] | None = None, *, timeout: float | None = None) -> Job:
        """Block until one has ended, and return it. UnknownJob for no jobs at all; TimeoutError as for ``Job.wait``."""
        self._keeper_now()
        chosen = self._selected(jobs)
        if not chosen:
            raise UnknownJob("there is no job to wait for")
        listener = self._board.listen(chosen)
        try:
            self._wait(lambda: bool(listener.ready), timeout, lambda: f"none of {len(chosen)} jobs has ended")
            return listener.ready[0]
        finally:
            self._board.unlisten(listener)

    def take(self, jobs: Iterable[Job] | None = None, *, timeout: float | None = None) -> Job:
        """Block until a job has ended that nobody has reaped; reap it, and return it. Each is given to one caller only,
        in whatever thread or process. None looks at all jobs of the session, those submitted meanwhile too.

        UnknownJob: no unreaped job is left to wait for. TimeoutError as for ``Job.wait``.
        """
        keeper = self._keeper_now()
        deadline = None if timeout is None else time.monotonic() + timeout
        chosen = None if jobs is None else {job._key for job in self._selected(jobs)}
        if not self._board.complete:
            self.jobs()
        while True:
            self._poll()
            job = self._board.pick(chosen)
            if job is not None:
                try:
                    if keeper.reap([job._key]):
                        return job
                except BaseException:  # it has not been given to anybody
                    self._board.put_back(job)
                    raise
                # Somebody else has it, and may have many more: one question for all.
                self._board.picked([entry.key for entry in keeper.entries(self._board.ready(1000)) if entry.reaped])
                continue
            if not self._board.anything_left(chosen):
                raise UnknownJob("there is no unreaped job to wait for")
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            # Another thread may take the last one while this one waits: then there is nothing left to wait for.
            self._wait(
                lambda: self._board.any_ready(chosen) or not self._board.anything_left(chosen), left, lambda: "no job has ended"
            )

    def _wait(self, done: Callable[[], bool], timeout: float | None, still: Callable[[], str]) -> None:
        keeper = self._keeper_now()
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, int | float) or math.isnan(timeout) or timeout < 0:
                raise ValueError(f"a timeout is seconds, 0 or more, or None; not {timeout!r}")
            if timeout > threading.TIMEOUT_MAX:
                timeout = None
        began = time.time()

        def over() -> bool:
            if self._closed or done():
                return True
            # What was unanswered before this wait began says nothing yet: the scheduler is asked once more, in its turn.
            silence = self._too_silent(keeper)
            return silence is not None and silence.last > began

        finished = keeper.wait_until(over, timeout)
        if done():
            return
        if self._closed:
            raise SessionClosed("the session was closed while waiting")
        self.require_answers(still)
        if not finished:
            raise TimeoutError(f"{still()} after {timeout} s")

    def _too_silent(self, keeper: Keeper) -> Silence | None:
        """The scheduler's silence, where it has lasted longer than the session's patience."""
        if self._patience_s is None:
            return None
        silence = keeper.silence()
        return silence if silence is not None and silence.lasted_s >= self._patience_s else None

    def require_answers(self, still: Callable[[], str] = lambda: "states are those last known") -> None:
        """Raise SchedulerUnavailable where it has left all questions unanswered for longer than the session's patience."""
        silence = self._too_silent(self._keeper_now())
        if silence is not None:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(silence.since))
            raise SchedulerUnavailable(f"{self._scheduler.name} has not answered since {since}; {still()}: {silence.reason}")

    # Control ------------------------------------------------------------------------------------------------------------

    def control(
        self, action: Action, jobs: Iterable[Job] | None = None, *, signal: int | None = None
    ) -> dict[Job, Exception | None]:
        """Do it to each (None: all unfinished); for each None once the scheduler acknowledged, or the error why not."""
        chosen = self._selected(jobs)
        if jobs is None:
            chosen = [job for job in chosen if job._state not in FINAL]
        if not chosen:
            return {}
        answers = self._keeper_now().control(action, [job._key for job in chosen], signal=signal)
        return {job: answers.get(job._key) for job in chosen}

    def cancel(self, jobs: Iterable[Job] | None = None) -> None:
        """End jobs (None: all unfinished ones); finished ones are left as they are."""
        self._do(Action.CANCEL, jobs)

    def hold(self, jobs: Iterable[Job] | None = None) -> None:
        """Hold those that wait. WrongState where none does."""
        self._do(Action.HOLD, jobs)

    def release(self, jobs: Iterable[Job] | None = None) -> None:
        """Release those that their user holds. WrongState where none is."""
        self._do(Action.RELEASE, jobs)

    def suspend(self, jobs: Iterable[Job] | None = None) -> None:
        """Suspend those that run. WrongState where none does."""
        self._do(Action.SUSPEND, jobs)

    def resume(self, jobs: Iterable[Job] | None = None) -> None:
        """Resume those that their user suspended. WrongState where none is."""
        self._do(Action.RESUME, jobs)

    def requeue(self, jobs: Iterable[Job] | None = None) -> None:
        """End the present run of each and queue it again. WrongState where none can."""
        self._do(Action.REQUEUE, jobs)

    def signal(self, signum: int | str, jobs: Iterable[Job] | None = None) -> None:
        """Send a signal, by number or name, to those that run. WrongState where none does."""
        self._do(Action.SIGNAL, jobs, signal=_signal_number(signum))

    def _do(self, action: Action, jobs: Iterable[Job] | None, *, signal: int | None = None) -> None:
        answers = self.control(action, jobs, signal=signal)
        errors = [error for error in answers.values() if error is not None]
        if action is Action.CANCEL:
            errors = [error for error in errors if not isinstance(error, WrongState)]
        # Of many, those in a state that has no use for the action are passed over, as long as it did something.
        if len(answers) > 1 and any(error is None for error in answers.values()):
            errors = [error for error in errors if not isinstance(error, WrongState)]
        if errors:
            first = errors[0]
            if len(errors) > 1:
                raise type(first)(f"{first} (and {len(errors) - 1} more of {len(answers)} jobs)") from first
            raise first
        if not answers and jobs is None and action is not Action.CANCEL:
            raise WrongState(f"the session has no unfinished job to {action}")

    # Watching ---------------------------------------------------------------------------------------------------------

    def watch(self, callback: Callable[[Job, Transition], object], jobs: Iterable[Job] | None = None) -> Watch:
        """Call ``callback(job, transition)`` for each transition from now on, on a pool of four threads: in order for each
        job; a slow call delays only its own job. What it raises is logged under ``jobyard.session``.

        None watches all jobs of the session, those submitted later too.
        """
        keeper = self._keeper_now()
        keys = None if jobs is None else frozenset(job._key for job in self._selected(jobs))
        if keys is None and not self._board.complete:
            self.jobs()
        watch = Watch(self, callback, keys)
        self._board.watch(watch)
        keeper.background()
        return watch

    # Small things ---------------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        self._keeper_now().poll()

    def _keeper_now(self) -> Keeper:
        if self._closed:
            raise SessionClosed("the session is closed; open it again by its contact")
        if self._pid != os.getpid():
            self._after_fork()
        return self._keeper

    def _after_fork(self) -> None:
        """A forked child opens the session anew: threads are gone, locks may be held for ever, connections are its parent's."""
        from .schedulers import open_scheduler

        _left_behind.append((self._keeper, self._scheduler))
        self._board.after_fork()
        self._scheduler = self._given if self._given is not None else open_scheduler(self._contact)
        self._keeper = self._open_keeper(self._contact)
        self._pid = os.getpid()

    def reap(self, jobs: Iterable[Job]) -> list[Job]:
        """Hide the endings of finished jobs from ``take``, all in one step; those that this very call hid, in order.

        WrongState where one has not ended; then none is hidden.
        """
        chosen = self._selected(jobs)
        if any(job._state not in FINAL for job in chosen):
            self._poll()
        for job in chosen:
            if job._state not in FINAL:
                raise WrongState(f"{job._shown()} is {job._state}; only a finished one can be reaped")
        reaped = set(self._keeper_now().reap([job._key for job in chosen])) if chosen else set()
        self._board.picked([job._key for job in chosen])
        return [job for job in chosen if job._key in reaped]

    def clean(self, jobs: Iterable[Job] | None = None) -> None:
        """Forget finished jobs (None: all finished ones of the session): records, folders, kept streams.

        WrongState where a given job has not ended; then nothing is removed.
        """
        chosen = self._selected(jobs)
        self._poll()
        if jobs is None:
            chosen = [job for job in chosen if job._state in FINAL]
        for job in chosen:
            if job._state not in FINAL:
                raise WrongState(f"{job._shown()} is {job._state}; only a finished one can be removed")
        if not chosen:
            return
        self._keeper_now().remove([job._key for job in chosen])
        self._board.forget(chosen)


def _close_all() -> None:
    """At the end of the program: what is left open shall neither delay it nor make Python warn."""
    for session in list(_open):
        session.close()


atexit.register(_close_all)  # when this is imported, so that what a program does at its end, with its sessions, comes before


def _check_indices(indices: Iterable[int]) -> Sequence[int]:
    try:
        chosen = indices if isinstance(indices, range) else tuple(indices)
    except TypeError:
        raise InvalidJob(f"indices are whole numbers, such as range(1, 31, 2), not {indices!r}", field="indices") from None
    if not chosen:
        raise InvalidJob("an array has at least one index", field="indices")
    if isinstance(chosen, range) and len(chosen) > 2 and chosen.step > 0:
        _check_indices((chosen[0], chosen[-1]))  # those between are as good
        return chosen
    last = -1
    for index in chosen:
        if isinstance(index, bool) or not isinstance(index, int):
            raise InvalidJob(f"an index is a whole number, not {index!r}", field="indices")
        if index <= last:
            what = "indices are 0 or more" if index < 0 else "indices are distinct and ascending"
            raise InvalidJob(f"{what}; {index} is not", field="indices")
        last = index
    if last >= 2**31:
        raise InvalidJob(f"an index is less than {2**31}, not {last}", field="indices")
    return chosen


def _signal_number(signum: int | str) -> int:
    if isinstance(signum, str):
        name = signum.upper() if signum.upper().startswith("SIG") else f"SIG{signum.upper()}"
        number = getattr(_signal, name, None)
        if not isinstance(number, int) or "_" in name:
            raise ControlError(f"there is no signal {signum!r}; name one such as 'USR1', or give its number")
        return int(number)
    if isinstance(signum, bool) or not isinstance(signum, int) or not 1 <= signum <= 64:
        raise ControlError(f"a signal is a number from 1 to 64, or a name such as 'USR1'; not {signum!r}")
    return int(signum)
