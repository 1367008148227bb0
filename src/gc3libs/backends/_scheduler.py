"""Schedulers of the engine for gc3libs's resources: inputs are brought to the sandbox before the job is handed over."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jobyard
from jobyard import fronts
from jobyard.fronts import Accepted, Answer, Copy, Row, Submission

from .._run import Run
from ._dialect import PIECES, TAG, HookDialect

if TYPE_CHECKING:
    from jobyard.fronts import Transport

    from .batch import BatchSystem

__all__ = ["HookScheduler", "StagingScheduler", "stage_in"]

_GRACE_S = 120.0  # after which the engine itself calls a job lost
_MOST = 65536  # bytes of what a submit command said that are read again


def stage_in(transport: Transport, submission: Submission) -> None:
    """Make the sandbox, and bring the inputs to it, with their permission bits.

    SubmitError: one is not there, or the host's disk is full; what there is already goes with the job's folder.
    TransportError: the host cannot be reached.
    """
    asked = json.loads(submission.description.tags[TAG])
    sandbox = f"{submission.folder}/work"
    copies: dict[str, Copy] = {}  # by target: of several inputs for one name, the last is meant
    folders = [sandbox, *(f"{sandbox}/{name}" for name in asked["folders"])]
    try:
        for source, name in asked["inputs"]:
            _collect(source, f"{sandbox}/{name}", copies, folders, f"{sandbox}/{asked['executable']}")
        for folder in dict.fromkeys(folders):
            transport.make_folder(folder, parents=True)
        transport.put_many(list(copies.values()))
    except FileNotFoundError as error:
        if isinstance(error, jobyard.TransportError):
            raise jobyard.SubmitError(f"the sandbox {sandbox} cannot be written: {error}") from error
        raise jobyard.SubmitError(f"the input {error.filename!r} is not there: {error.strerror}") from error
    except OSError as error:
        raise jobyard.SubmitError(f"the inputs cannot be brought to {sandbox}: {error}") from error


def _collect(
    source: str,
    target: str,
    copies: dict[str, Copy],
    folders: list[str],
    executable: str,
    above: tuple[tuple[int, int], ...] = (),
) -> None:
    """The files of an input; and its folders that hold none, which come by themselves. ``above``: the folders that it lies in."""
    found = os.stat(source)
    if stat.S_ISDIR(found.st_mode):
        itself = found.st_dev, found.st_ino
        if itself in above:
            raise jobyard.SubmitError(f"the input {source!r} is a link to a folder that it lies in; remove it")
        with os.scandir(source) as listed:
            entries = sorted(listed, key=lambda one: one.name)
        if not any(entry.is_file() for entry in entries):
            folders.append(target)
        for entry in entries:
            _collect(entry.path, f"{target}/{entry.name}", copies, folders, executable, (*above, itself))
        return
    if not stat.S_ISREG(found.st_mode):
        raise jobyard.SubmitError(f"the input {source!r} is neither a file nor a folder")
    mode = stat.S_IMODE(found.st_mode) | stat.S_IRUSR | stat.S_IWUSR
    copies[target] = Copy(source, target, mode | stat.S_IXUSR if target == executable else mode)


class HookScheduler(jobyard.CommandScheduler):
    """CommandScheduler over the hooks of a BatchSystem subclass."""

    def __init__(self, system: BatchSystem, transport: Transport) -> None:
        self.hooks = HookDialect(system)
        super().__init__(self.hooks, transport)
        self.options = type(self.options)(interpreter=system.interpreter)
        self._system = system
        self._states_lock = threading.Lock()
        self._gone: dict[str, float] = {}  # since when the status command has not shown a job
        self._ran: set[str] = set()
        self._folders: dict[str, str] = {}

    def prepare(self, submission: Submission) -> Mapping[str, bytes]:
        """Scheduler.prepare: the prologue and the epilogue lie beside the script."""
        files = dict(super().prepare(submission))
        for name, text in json.loads(submission.description.tags[TAG])["files"].items():
            files[name] = text.encode("utf-8", "surrogateescape")
        return files

    def submit(self, submission: Submission) -> Accepted:
        """Scheduler.submit."""
        stage_in(self._system.transport.inner, submission)
        accepted = super().submit(submission)
        with self._states_lock:
            self._folders[accepted.native_ids[0]] = submission.folder
        return accepted

    def find(self, submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """Scheduler.find, from what the submit command left in the job's folder; hooks have no command for it.

        A job whose command left nothing may be sent again: of several copies of a script only one runs, by its claim. Where
        the program stands in the submit command itself there is no claim, and nobody can tell.
        """
        found: dict[str, Accepted] = {}
        for submission in submissions:
            accepted = self._submitted(submission)
            if accepted is not None:
                found[submission.token] = accepted
        return found

    def _submitted(self, submission: Submission) -> Accepted | None:
        out, err, code = (self._piece(submission.folder, name) for name in PIECES)
        if code is not None and code.strip().isdigit():
            try:
                return self.hooks.accepted(int(code), out or "", err or "")
            except jobyard.SubmitError:
                return None
            except jobyard.SchedulerUnavailable:
                if self._piece(submission.folder, "claim.0") is None:
                    raise
                return None  # it runs already, and its claim says as what; or was withdrawn, and never will
        if out is not None and not json.loads(submission.description.tags[TAG])["script"]:
            raise jobyard.SchedulerUnavailable(
                f"{self.name}: it cannot be told whether the job in {submission.folder} was submitted; ask the scheduler by hand"
            )
        return None

    def _piece(self, folder: str, name: str) -> str | None:
        try:
            return self.transport.read_range(f"{folder}/{name}", 0, _MOST, follow=False).decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return None

    def query(self, native_ids: Collection[str]) -> Answer:
        """Scheduler.query. A job that is not shown is absent once ``accounting_delay`` has passed; the engine's own patience
        comes on top of what of it is shorter."""
        answer = super().query(native_ids)
        now_s = time.monotonic()
        shown = {row.native_id for row in answer.rows}
        with self._states_lock:
            for row in answer.rows:
                self._gone.pop(row.native_id, None)
                if row.state is jobyard.JobState.RUNNING:
                    self._ran.add(row.native_id)
            patient = self._system.accounting_delay - _GRACE_S
            waiting = False
            for native_id in set(native_ids) - shown if answer.complete else ():
                waiting |= now_s - self._gone.setdefault(native_id, now_s) < patient
        rows = [self._stopped(row) if row.native_state == Run.State.STOPPED else row for row in answer.rows]
        return Answer(rows=tuple(rows), unparsed=answer.unparsed, complete=answer.complete and not waiting)

    def _stopped(self, row: Row) -> Row:
        """STOPPED is said of jobs that are held, and of those that are suspended; one that runs has made its claim."""
        with self._states_lock:
            ran, folder = row.native_id in self._ran, self._folders.get(row.native_id)
        if not ran and folder is not None:
            ran = self._piece(folder, "claim.0") is not None
        state = jobyard.JobState.SUSPENDED if ran else jobyard.JobState.HELD
        return Row(native_id=row.native_id, state=state, by=fronts.By.USER, native_state=row.native_state)


class StagingScheduler:
    """A scheduler of the engine whose jobs' inputs are brought to their sandboxes first; all else is its own."""

    def __init__(self, system: BatchSystem, scheduler: Any) -> None:
        self._system = system
        self._inner = scheduler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def submit(self, submission: Submission) -> Accepted:
        """Scheduler.submit."""
        stage_in(self._system.transport.inner, submission)
        accepted: Accepted = self._inner.submit(submission)
        return accepted

    def prepare(self, submission: Submission) -> Mapping[str, bytes]:
        """Scheduler.prepare: the prologue and the epilogue lie beside the script."""
        files = dict(self._inner.prepare(submission))
        for name, text in json.loads(submission.description.tags[TAG])["files"].items():
            files[name] = text.encode("utf-8", "surrogateescape")
        return files
