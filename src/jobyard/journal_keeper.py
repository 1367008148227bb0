"""``JournalKeeper``: the keeper for every scheduler that is asked by commands. Records stand in journal.db."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from .contact import Contact
from .errors import (
    ConfigurationError,
    InvalidContact,
    JobyardError,
    NoScheduler,
    SchedulerUnavailable,
    TransportError,
    UnknownJob,
    WrongState,
)
from .evidence import Terms, from_row, ours
from .job import By, JobDescription, JobState, Observation, Placeholder, Source, Transition
from .job_folders import JobFolders
from .journal import Journal, SubmissionRow
from .journal_rows import FOREIGN
from .keeper import Entry, Evidence, Placed, Silence, Sink, Update
from .schedulers.base import Action, Row, Scheduler
from .submission import Submitter
from .tracker import SHORTEST_S, Receipts, Tracker

__all__ = ["JournalKeeper"]

_logger = logging.getLogger("jobyard.journal_keeper")

RETENTION_S = 30 * 86400.0
PRUNE_S, PRUNED = 1.0, 1000  # how often a submission looks for old jobs, and how many it forgets then
POLL_AT_MOST_S = 0.05  # without a thread, how often reading a state may look at what there is


class JournalKeeper:
    """``Keeper`` over a journal, a scheduler, and a tracker that follows this session's jobs.

    The tracker's thread starts when somebody waits; a program that only reads states (``jobyard ls``) works without it.
    """

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        work: JobFolders,
        receipts: Receipts,
        session_id: str,
        login: str,
        sink: Sink,
        *,
        shortest_s: float = SHORTEST_S,
        retention_s: float = RETENTION_S,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        threaded: bool = True,
    ) -> None:
        self.session_id = session_id
        self._login = login
        self._journal = journal
        self._scheduler = scheduler
        self._work = work
        self._sink = sink
        self._clock = clock
        self._retention_s = retention_s
        self._threaded = threaded
        self._closed = False
        self._changed = threading.Condition()
        self._polled_s = 0.0
        self._next_prune_s = 0.0
        self._submitter = Submitter(journal, scheduler, work, session_id, clock=clock, sleep=sleep)
        self.tracker = Tracker(
            journal,
            scheduler,
            receipts,
            session_id,
            login,
            self._deliver,
            submitter=self._submitter,
            over=self._over,
            unanswered=self._notify,
            shortest_s=shortest_s,
            clock=clock,
            monotonic=monotonic,
            commands=threaded,
        )

    @classmethod
    def open(cls, scheduler: Scheduler, contact: Contact, sink: Sink, *, work_dir: str | None = None) -> JournalKeeper:
        """The keeper of the contact's session, or of a new one, in the journal of this user's state folder.

        ``work_dir``: where the jobs' folders lie, in place of JOBYARD_WORK_DIR.

        InvalidContact: the journal has no such session, or it belongs to another scheduler. JournalError,
        ConfigurationError: as their texts say.
        """
        from .config import state_dir
        from .folder_receipts import FolderReceipts
        from .job_folders import job_folders

        journal = Journal(Path(state_dir()) / "journal.db")
        try:
            login = str(
                Contact(
                    scheduler=contact.scheduler, host=contact.host, user=contact.user, port=contact.port, options=_cell(contact)
                )
            )
            if contact.session is None:
                session_id = journal.create_session(str(contact), login).id
            else:
                session_id = _known(journal, contact.session, login)
            transport = getattr(scheduler, "transport", None)
            if transport is None:
                raise NoScheduler(f"{scheduler.name} has no transport; its jobs' folders cannot be followed")
            poll_s = contact.option("poll", SHORTEST_S)
            work = job_folders(transport, work_dir if work_dir is not None else contact.option("work_dir"))
            return cls(
                journal,
                scheduler,
                work,
                FolderReceipts(transport, work.read_receipts),
                session_id,
                login,
                sink,
                shortest_s=poll_s,
                retention_s=contact.option("retention", RETENTION_S),
            )
        except BaseException:
            journal.close()
            raise

    def establish(self) -> None:
        """Keeper.establish: the journal has it since it was opened."""

    # Submission -----------------------------------------------------------------------------------------------------------

    def submit(self, descriptions: Sequence[JobDescription]) -> Sequence[Placed]:
        """Keeper.submit."""
        placed = self._submitter.jobs(descriptions)
        self._placed(placed)
        return placed

    def submit_array(
        self, description: JobDescription, indices: Sequence[int], max_running: int | None
    ) -> tuple[str, str, Sequence[Placed]]:
        """Keeper.submit_array."""
        token, native_id, placed = self._submitter.array(description, indices, max_running)
        self._placed(placed)
        return token, native_id, placed

    def _placed(self, placed: Sequence[Placed]) -> None:
        """What can wait: the jobs are accepted, and no error may say otherwise any more."""
        try:
            self.tracker.add([one.key for one in placed])
            if time.monotonic() >= self._next_prune_s:
                self._next_prune_s = time.monotonic() + PRUNE_S
                for submission in self._journal.prune(self._clock() - self._retention_s, PRUNED):
                    self._remove_folder(submission)
        except JobyardError as error:
            _logger.warning("%d jobs were accepted, but cannot be followed yet: %s", len(placed), error)

    # Following ------------------------------------------------------------------------------------------------------------

    def _deliver(self, updates: Sequence[Update]) -> None:
        self._sink(updates)
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_until(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Keeper.wait_until. With timeout 0 nothing is started: what there is is taken in."""
        if timeout_s is not None and timeout_s <= 0:
            self.poll()
            return done()
        self.background()
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or done(), timeout_s)

    def silence(self) -> Silence | None:
        """Keeper.silence."""
        return None if self._closed else self.tracker.hearing.silence()

    def poll(self) -> None:
        """Keeper.poll."""
        now_s = time.monotonic()
        if self._closed or self.tracker.threaded or not self._threaded or now_s - self._polled_s < POLL_AT_MOST_S:
            return
        self._polled_s = now_s
        self._step_once()

    def _step_once(self) -> None:
        """A step of the tracker for who does not wait: a host that was not reached yet is tried, where something is to be known."""
        self.tracker.step()
        if self.tracker.unfinished and self._work.connect_once():
            self.tracker.step()

    def refresh(self, timeout_s: float) -> None:
        """Take in what receipts and, if it answers in time, the queue say now: for a process that looks once and ends."""
        deadline_s = time.monotonic() + timeout_s
        self._step_once()
        while self.tracker.asking and time.monotonic() < deadline_s:
            time.sleep(0.005)  # the answer comes on a thread that tells nobody
            self.tracker.step()

    def background(self) -> None:
        """Keeper.background."""
        if self._threaded:
            self.tracker.start()

    # Records --------------------------------------------------------------------------------------------------------------

    def keys(self) -> Sequence[int]:
        """Keeper.keys."""
        return [key for key, _ in self.states()]

    def states(self) -> Sequence[tuple[int, JobState]]:
        """Keeper.states."""
        found = self._journal.states(self.session_id)
        self.tracker.catch_up()
        return found

    def entries(self, keys: Sequence[int] | None = None, *, newest: int | None = None) -> Sequence[Entry]:
        """Keeper.entries."""
        found = self._journal.entries(self.session_id, keys, newest=newest)
        self.tracker.catch_up()
        return found

    def find(self, name: str) -> Sequence[int]:
        """Keeper.find."""
        return self._journal.find(self.session_id, name)

    def description(self, key: int) -> JobDescription:
        """Keeper.description."""
        return self._journal.description(key)

    def history(self, key: int) -> Sequence[Transition]:
        """Keeper.history."""
        return self._journal.history(key)

    def why(self, key: int) -> Sequence[Evidence]:
        """Keeper.why; while the scheduler does not answer, the last line says since when."""
        found = list(self._journal.evidence(key))
        silence = self.silence()
        if silence is not None:
            found.append(Evidence(at=silence.since, text=f"{self._scheduler.name} does not answer since then: {silence.reason}"))
        return found

    def streams(self, key: int) -> tuple[str | None, str | None]:
        """Keeper.streams."""
        row = self._row(key)
        if row.submission.kind == FOREIGN:
            return None, None
        description = self._journal.description(key)
        out = self._stream(row, description, "stdout", description.stdout)
        if description.join_streams:
            return out, out
        return out, self._stream(row, description, "stderr", description.stderr)

    def intended(self) -> Sequence[JobDescription]:
        """Descriptions of submissions, by whatever process, of which it is not known (yet) whether they arrived."""
        found = []
        for key in self._journal.intended(self.session_id):
            with contextlib.suppress(UnknownJob):  # settled meanwhile
                found.append(self._journal.description(key))
        return found

    def folder(self, key: int) -> str:
        """The job's folder, as the scheduler's host sees it. UnknownJob: it is no longer kept, or was attached and has none."""
        submission = self._row(key).submission
        if submission.kind == FOREIGN:
            raise UnknownJob("a job that was attached has no folder of ours")
        return submission.folder

    def home(self) -> str:
        """The user's home folder, on the scheduler's host. TransportError."""
        return self._work.home()

    def path_in(self, key: int, name: str) -> str | None:
        """The absolute path, on the scheduler's host, of a name in the job's directory."""
        return self._stream(self._row(key), self._journal.description(key), "", name)

    def _row(self, key: int) -> _Named:
        rows = self._journal.rows([key])
        if not rows:
            raise UnknownJob("the job is no longer kept; it was removed, or its time of keeping is over")
        return _Named(rows[0].submission, rows[0].position, rows[0].index, rows[0].facts.native_id)

    def _stream(self, row: _Named, description: JobDescription, name: str, path: str | None) -> str | None:
        submission = row.submission
        suffix = {"single": "", "array": f".{row.index}"}.get(submission.kind, f".{row.position}")
        if path is None:
            return f"{submission.folder}/{name}{suffix}"
        if path == "/dev/null":
            return None
        native_id = submission.array_id or row.native_id
        directory = description.directory or f"{submission.folder}/work{suffix}"
        if native_id is None and Placeholder.NATIVE_ID in path + directory:
            return None
        home = "" if directory.startswith("/") and Placeholder.HOME not in path + directory else self._work.home()
        for mark, value in (
            (Placeholder.HOME, home),
            (Placeholder.INDEX, "" if row.index is None else str(row.index)),
            (Placeholder.NATIVE_ID, native_id or ""),
        ):
            path, directory = path.replace(mark, value), directory.replace(mark, value)
        directory = os.path.join(home, directory)
        return os.path.join(directory, path.replace(Placeholder.DIRECTORY, directory))

    # Control --------------------------------------------------------------------------------------------------------------

    def control(self, action: Action, keys: Sequence[int], *, signal: int | None = None) -> Mapping[int, JobyardError | None]:
        """Keeper.control: what a job's state has no use for is refused here; the others go to the scheduler at once."""
        if not self.tracker.threaded:
            self.tracker.step()
        answers: dict[int, JobyardError | None] = {}
        native: dict[str, list[int]] = {}  # a native id that came round may stand for several
        entries = {entry.key: entry for entry in self.entries(keys)}
        can = action in self._scheduler.capabilities.actions  # else it says so itself, whatever the job's state
        for key in keys:
            entry = entries.get(key)
            if entry is None:
                answers[key] = UnknownJob("the job is no longer kept")
            elif entry.native_id is None:
                answers[key] = WrongState("the scheduler has not told an id of this job yet")
            elif can and (wrong := _refused(action, entry)) is not None:
                answers[key] = wrong
            else:
                native.setdefault(entry.native_id, []).append(key)
        if native:
            at = self._clock()
            told = self._scheduler.control(action, list(native), signal=signal)
            acts: dict[int, Observation] = {}
            for native_id, key in ((one, key) for one, named in native.items() for key in named):
                answers[key] = told.get(native_id)
                if answers[key] is None:
                    acts[key] = Observation(source=Source.ACT, at=max(at, self._clock()), what=action.value)
            done = {native_id: acts[key] for native_id, named in native.items() for key in named if key in acts}
            # Whoever follows the same job in another session of this login hears of it: it was cancelled, and is not lost.
            acts.update(
                {key: done[name] for key, name in self._journal.namesakes(self._login, self.session_id, list(done)).items()}
            )
            self.tracker.observe(acts)
        return answers

    # Jobs of others -------------------------------------------------------------------------------------------------------

    def attach(self, native_id: str) -> int:
        """Keeper.attach."""
        known = [entry for entry in self.entries(self.find(native_id)) if entry.native_id == native_id]
        if known and not known[-1].state.final:
            return known[-1].key
        try:
            row, source = self._look_up(native_id)
        except UnknownJob:
            if not known:
                raise
            return known[-1].key
        if known:
            last = known[-1]
            token = None if last.foreign else last.token.partition(".")[0]
            if ours(row, token=token, submitted_at=last.submitted_at, name=last.name):
                return last.key  # else the id came round, and now stands for another job
        can = self._scheduler.capabilities
        terms = Terms(
            submitted_at=row.submitted_at,
            receipts=False,
            accounting=can.accounting,
            shows_suspended=can.shows_suspended and Action.SUSPEND in can.actions,
        )
        key, new = self._journal.adopt(self.session_id, native_id, row.name or native_id, terms)
        self.tracker.add([key])
        if new:
            self.tracker.observe({key: from_row(row, source, self._clock())})
        return key

    def _look_up(self, native_id: str) -> tuple[Row, Source]:
        for source, ask in ((Source.QUEUE, self._scheduler.query), (Source.ACCOUNTING, self._scheduler.account)):
            answer = ask([native_id])
            for row in answer.rows:
                if row.native_id == native_id:
                    return row, source
            if source is Source.QUEUE and not answer.whole:
                raise SchedulerUnavailable(
                    f"{self._scheduler.name} answered in part: whether it knows {native_id!r} cannot be told"
                )
        raise UnknownJob(f"{self._scheduler.name} knows no job {native_id!r}")

    def recent_sessions(self, newest: int | None) -> Sequence[str]:
        """SeesSessions.recent_sessions."""
        return self._journal.recent_sessions(self._login, newest)

    def session_of(self, name: str) -> str | None:
        """SeesSessions.session_of."""
        return self._journal.session_of(self._login, name)

    def native_ids(self) -> Sequence[str]:
        """Keeper.native_ids."""
        return [row.native_id for row in self._scheduler.listed()]

    # Finished jobs --------------------------------------------------------------------------------------------------------

    def reap(self, keys: Iterable[int]) -> Sequence[int]:
        """Keeper.reap."""
        return self._journal.reap(keys)

    def remove(self, keys: Iterable[int]) -> None:
        """Keeper.remove: a folder goes with the last of its jobs, a task's own streams with the task."""
        keys = list(keys)
        for row in self._journal.rows(keys):
            if row.submission.kind in ("array", "like"):
                named = _Named(row.submission, row.position, row.index, row.facts.native_id)
                for name in ("stdout", "stderr"):
                    suffix = named.index if named.submission.kind == "array" else named.position
                    with contextlib.suppress(OSError, TransportError):
                        self._work.remove_file(f"{row.submission.folder}/{name}.{suffix}")
        for submission in self._journal.remove(keys):
            self._remove_folder(submission)

    def _over(self, submission: SubmissionRow) -> None:
        """All jobs of a submission have ended: its folder goes, unless streams of theirs lie in it."""
        if submission.kind == FOREIGN:
            return
        try:
            names = self._work.names(submission.folder)
        except (OSError, TransportError):
            return
        if not any(name.split(".")[0] in ("stdout", "stderr", "work") for name in names):
            self._remove_folder(submission)

    def _remove_folder(self, submission: SubmissionRow) -> None:
        if submission.kind == FOREIGN:
            return
        # What cannot be removed stays for whoever clears the work folder.
        with contextlib.suppress(OSError, TransportError, ConfigurationError):
            if submission.work_root == self._work.path:
                self._work.remove(submission.token)
            else:
                self._work.remove_elsewhere(submission.folder, submission.work_root)

    def close(self) -> None:
        """Keeper.close."""
        self._closed = True
        self._notify()
        self._submitter.close()
        self.tracker.close()
        self._journal.close()
        self._work.close()


class _Named:
    """What the names of a job's streams are made of."""

    __slots__ = ("index", "native_id", "position", "submission")

    def __init__(self, submission: SubmissionRow, position: int, index: int | None, native_id: str | None) -> None:
        self.submission, self.position, self.index, self.native_id = submission, position, index, native_id


def _cell(contact: Contact) -> dict[str, str]:
    """Options that make it another scheduler altogether."""
    return {key: value for key, value in contact.options.items() if key in ("cell", "server", "cluster")}


def _known(journal: Journal, session: str, login: str) -> str:
    try:
        found = journal.session(session)
    except UnknownJob as error:
        raise InvalidContact(str(error)) from error
    if found.login != login:
        raise InvalidContact(f"session {session} belongs to {found.login}, not to {login}")
    return found.id


_WAITING = frozenset({JobState.NEW, JobState.QUEUED, JobState.HELD})
_RUNNING = frozenset({JobState.STAGING_IN, JobState.RUNNING, JobState.STAGING_OUT, JobState.CLEANING, JobState.SUSPENDED})


def _refused(action: Action, entry: Entry) -> WrongState | None:
    """Why a job's state has no use for an action; None where it has (docs/states.md, as DRMAA 1.0 section 2.2 asks)."""
    state, by = entry.state, entry.by
    allowed = {
        Action.CANCEL: not state.final,
        Action.HOLD: state in _WAITING and by not in (By.USER, By.BOTH),
        Action.RELEASE: state is JobState.HELD and by is not By.SYSTEM,
        Action.SUSPEND: state is JobState.RUNNING,
        Action.RESUME: state is JobState.SUSPENDED and by is not By.SYSTEM,
        Action.SIGNAL: state in _RUNNING,
        Action.REQUEUE: state in _RUNNING and state is not JobState.SUSPENDED,
    }[action]
    if allowed:
        return None
    shown = f"{state} by {by}" if by is not None else str(state)
    return WrongState(f"job {entry.native_id} is {shown}; {action} needs {_NEEDED[action]}")


_NEEDED = {
    Action.CANCEL: "an unfinished job",
    Action.HOLD: "a job that waits and that its user does not hold",
    Action.RELEASE: "a job that its user holds",
    Action.SUSPEND: "a running job",
    Action.RESUME: "a job that its user suspended",
    Action.SIGNAL: "a job that runs",
    Action.REQUEUE: "a job that runs and is not suspended",
}
