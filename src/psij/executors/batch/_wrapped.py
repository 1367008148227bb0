"""A BatchSchedulerExecutor as a scheduler of the engine: its commands and parsers as a dialect, its scripts as batch scripts."""

from __future__ import annotations

import glob
import io
import os
import re
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobyard
from jobyard import fronts
from jobyard.fronts import Accepted, Action, Answer, Command, Kind, Result, Row, SiteLimits, Submission, Traits

from ..._engine import Link, link_to
from ...exceptions import InvalidJobException, SubmitException
from ...job import Job
from ...job_state import JobState
from ...job_status import JobStatus
from ...serialize import JSONSerializer

if TYPE_CHECKING:
    from .batch_scheduler_executor import BatchSchedulerExecutor

__all__ = ["WrappedDialect", "WrappedScheduler", "contact_name", "open_wrapped"]

_STATES = {
    JobState.QUEUED: jobyard.JobState.QUEUED,
    JobState.STAGE_IN: jobyard.JobState.RUNNING,
    JobState.ACTIVE: jobyard.JobState.RUNNING,
    JobState.STAGE_OUT: jobyard.JobState.RUNNING,
    JobState.CLEANUP: jobyard.JobState.RUNNING,
    JobState.COMPLETED: jobyard.JobState.DONE,
    JobState.FAILED: jobyard.JobState.FAILED,
    JobState.CANCELED: jobyard.JobState.CANCELLED,
}
_CLAIMS = b"_psij_receipt"  # stands in scripts that were made with the shared part batch_lib: a second copy of one ends at once
_EC_LATE_S = 2.0  # how long after the queue's word that a job is over its exit code file may not be visible here


def contact_name(name: str) -> str:
    """The name of the executor's scheduler in contacts: ``psij-`` and what of the name a contact can hold."""
    return "psij-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "executor")


def open_wrapped(executor: BatchSchedulerExecutor, contact: str | None = None) -> Link:
    """A session for this executor alone: what its class does may depend on how it was made."""
    scheduler = WrappedScheduler(executor)
    interval_s = getattr(executor.config, "queue_polling_interval", 30)
    named = contact if contact is not None else f"{contact_name(executor.name)}?poll={interval_s}s"
    work = executor.config._work_directory

    def opened() -> jobyard.Session:
        return jobyard.Session(named, scheduler=scheduler, work_dir=None if work is None else str(work.absolute()))

    return link_to((named, work, id(executor)), opened)


def job_of(executor: BatchSchedulerExecutor, description: jobyard.JobDescription) -> Job:
    """The job that is being submitted; after a crash, one like it."""
    job = executor._sending.get(description.tags["psij.id"])
    if job is None:
        spec = description.tags.get("psij.spec")
        if spec is None:
            raise jobyard.SubmitError("the specification of this job is not kept; submit it again")
        job = Job(JSONSerializer().loads(spec))
        job._take_id(description.tags["psij.id"])
    return job


def keep_file(folder: Path, name: str, data: bytes) -> None:
    """Write a file that stays, for its owner alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


class WrappedDialect:
    """The executor's commands and parsers. Parsers of others may raise anything; from what they raise nothing is concluded."""

    hint = "install the commands of this scheduler, or put them on PATH"
    programs: tuple[str, ...] = ()
    traits = Traits()

    def __init__(self, executor: BatchSchedulerExecutor) -> None:
        self.executor = executor
        self.name = executor.name
        self.capabilities = jobyard.Capabilities(
            # What of these its template expresses is the executor's own affair, as it is in psij-python.
            attributes=frozenset({
                "nodes", "processes", "processes_per_node", "cores", "gpus", "memory_bytes", "exclusive", "walltime_s",
                "queue", "account", "reservation",
            }),
            accounting=True,  # exit code files
        )  # fmt: skip

    def check(self, description: jobyard.JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        """Dialect.check: the template refuses what it cannot hold when it is rendered, before anything is written."""

    def directives(self, submission: Submission) -> Sequence[str]:
        """Dialect.directives: they stand in the executor's own script."""
        return ()

    def submit_command(self, submission: Submission, script: str) -> Command:
        """Dialect.submit_command."""
        job = job_of(self.executor, submission.description)
        return Command(argv=tuple(self.executor.get_submit_command(job, Path(script))), directory=submission.folder)

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        """Dialect.parse_submit."""
        if result.returncode != 0:
            said = f"{result.text}{result.error_text}".strip()
            raise jobyard.SubmitError(said or f"{result.argv[0]} exited with {result.returncode}", output=said)
        return Accepted((self.executor.job_id_from_submit_output(result.text),))

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        """Dialect.find_commands: an executor of PSI/J has none."""
        return ()

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """Dialect.parse_find."""
        return {}

    def query_command(self, native_ids: Collection[str]) -> Command:
        """Dialect.query_command."""
        return Command(argv=tuple(self.executor.get_status_command(list(native_ids))))

    def parse_query(self, result: Result) -> Answer:
        """Dialect.parse_query. Where the whole cannot be read, each line is tried by itself, so that one costs one."""
        out = result.text + (result.error_text if result.returncode else "")
        whole = self._parsed(result.returncode, out)
        if isinstance(whole, dict):
            return Answer(rows=tuple(_row(native_id, status) for native_id, status in whole.items()))
        rows: list[Row] = []
        unparsed: list[str] = []
        for line in out.splitlines() if result.returncode == 0 else ():
            one = self._parsed(0, line + "\n") if line.strip() else {}
            if isinstance(one, dict):
                rows += [_row(native_id, status) for native_id, status in one.items()]
            else:
                unparsed.append(line)
        if not rows:
            raise jobyard.SchedulerUnavailable(f"{type(self.executor).__name__}.parse_status_output: {whole!r}") from whole
        return Answer(rows=tuple(rows), unparsed=tuple(unparsed), complete=False)

    def _parsed(self, exit_code: int, out: str) -> dict[str, JobStatus] | Exception:
        try:
            return dict(self.executor.parse_status_output(exit_code, out))
        except Exception as error:  # noqa: BLE001 - somebody else's parser; the caller says what becomes of it
            return error

    def account_command(self, native_ids: Collection[str]) -> Command | None:
        """Dialect.account_command: exit code files are read without one."""
        return None

    def parse_account(self, result: Result) -> Answer:
        """Dialect.parse_account."""
        return Answer(complete=False)

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        """Dialect.control_commands."""
        return [(Command(argv=tuple(self.executor.get_cancel_command(one))), (one,)) for one in native_ids]

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, jobyard.JobyardError | None]:
        """Dialect.parse_control."""
        from .batch_scheduler_executor import InvalidJobStateError

        answer: jobyard.JobyardError | None = None
        if result.returncode != 0:
            out = f"{result.text}{result.error_text}"
            try:
                self.executor.process_cancel_command_output(result.returncode, out)
            except InvalidJobStateError:
                answer = jobyard.WrongState("the job has ended already")
            except SubmitException as error:
                answer = jobyard.ControlError(error.message or out.strip() or f"{result.argv[0]} exited with {result.returncode}")
        return dict.fromkeys(native_ids, answer)

    def list_command(self) -> Command:
        """Dialect.list_command."""
        try:
            return Command(argv=tuple(self.executor.get_list_command()))
        except SubmitException as error:
            raise jobyard.ControlError(error.message) from error

    def parse_list(self, result: Result) -> Sequence[Row]:
        """Dialect.parse_list."""
        if result.returncode != 0:
            raise jobyard.SchedulerUnavailable(f"it exited with {result.returncode}")
        return [Row(native_id=native_id) for native_id in self.executor.parse_list_output(result.text)]

    def limits_command(self) -> Command | None:
        """Dialect.limits_command: none are known."""
        return None

    def parse_limits(self, result: Result) -> SiteLimits:
        """Dialect.parse_limits."""
        return SiteLimits()

    def version_command(self) -> Command:
        """Dialect.version_command: WrappedScheduler.version needs none."""
        return Command(argv=("true",))

    def parse_version(self, result: Result) -> str:
        """Dialect.parse_version."""
        return f"{self.name} {self.executor.version}"


def _row(native_id: str, status: JobStatus) -> Row:
    state = _STATES.get(status.state)
    if not status.final:
        return Row(native_id=native_id, state=state, native_state=str(status.state), reason=status.message)
    assert state is not None
    code = status.exit_code
    cause = jobyard.Cause.EXITED if code is not None else jobyard.Cause.UNKNOWN
    if status.state is JobState.CANCELED:
        code, cause = None, jobyard.Cause.CANCELLED
    ending = jobyard.Ending(state=state, cause=cause, exit_code=_in_range(code), message=status.message or "")
    return Row(native_id=native_id, state=state, native_state=str(status.state), ended=True, ending=ending)


def _in_range(code: int | None) -> int | None:
    return code if code is not None and 0 <= code <= 255 else None


class WrappedScheduler(jobyard.CommandScheduler):
    """CommandScheduler over the dialect of an executor: its script is the batch script, its exit code files are accounting."""

    def __init__(self, executor: BatchSchedulerExecutor) -> None:
        super().__init__(WrappedDialect(executor), fronts.local_transport())
        self._executor = executor
        self._words_lock = threading.Lock()
        self._folders: dict[str, str] = {}  # of unfinished jobs, by native id
        self._words: dict[str, tuple[float, Row]] = {}  # the queue's word that a job is over, and when it came

    def prepare(self, submission: Submission) -> Mapping[str, bytes]:
        """The executor's script, in place of our own. InvalidJobException, SubmitException: it cannot be made."""
        executor = self._executor
        job = job_of(executor, submission.description)
        keep = executor.work_directory if getattr(executor.config, "keep_files", False) else None
        out = io.StringIO()
        try:
            context: dict[str, Any] = executor._create_script_context(job)
            psij = context["psij"]
            psij["folder"] = submission.folder
            psij["script_dir"] = submission.folder if keep is None else str(keep)
            executor.generate_submit_script(job, context, out)
        except (ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
            raise InvalidJobException(f"{executor.name}: {error or type(error).__name__}", error) from error
        except OSError as error:
            raise SubmitException(f"{executor.name}: {error}", error) from error
        script = out.getvalue().encode("utf-8", "surrogateescape")
        if keep is not None:
            keep_file(keep, f"{job.id}.job", script)
        return {"run.sh": script}

    def submit(self, submission: Submission) -> Accepted:
        """Scheduler.submit."""
        accepted = super().submit(submission)
        with self._words_lock:
            for native_id in accepted.native_ids:
                self._folders[native_id] = submission.folder
        return accepted

    def find(self, submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """Scheduler.find. There is no command that finds a job by its folder; a script with ``batch_lib`` may be sent again,
        because only one copy of it will run, and another may not."""
        for submission in submissions:
            script = Path(submission.folder) / "run.sh"
            if script.exists() and _CLAIMS not in script.read_bytes():
                raise jobyard.SchedulerUnavailable(f"{self.name}: it cannot be told whether {script} was submitted")
        return {}

    def query(self, native_ids: Collection[str]) -> Answer:
        """Scheduler.query. A job that the queue calls over has its exit code from its file, where it has one."""
        answer = super().query(native_ids)
        asked = set(native_ids)
        rows = []
        for row in answer.rows:
            if not row.ended or row.native_id not in asked:
                rows.append(row)
                continue
            with self._words_lock:
                self._words.setdefault(row.native_id, (time.monotonic(), row))
            rows.append(self._with_exit_code(row) or row)
        return Answer(rows=tuple(rows), unparsed=answer.unparsed, complete=answer.complete)

    def account(self, native_ids: Collection[str]) -> Answer:
        """Scheduler.account: exit code files, and what other sessions of this user have read in those that are gone; where
        there is none, the queue's own word, once a file would be visible."""
        rows = []
        recorded = fronts.recorded_endings(contact_name(self.name), list(native_ids))
        for native_id in native_ids:
            with self._words_lock:
                at, word = self._words.get(native_id, (0.0, None))
            if (ending := recorded.get(native_id)) is not None:
                rows.append(Row(native_id=native_id, state=ending.state, ended=True, ending=ending))
                continue
            row = self._with_exit_code(word or Row(native_id=native_id, ended=True))
            if row is None and word is not None and time.monotonic() - at >= _EC_LATE_S:
                row = _believed(word)
            if row is not None:
                rows.append(row)
        return Answer(rows=tuple(rows))  # complete: a job without a file has none to be waited for, after the usual while

    def version(self) -> str:
        """Scheduler.version."""
        return f"{self.name} {self._executor.version}"

    def _with_exit_code(self, row: Row) -> Row | None:
        """The row with what the job's exit code file says; None where there is no such file (yet)."""
        if row.state is jobyard.JobState.CANCELLED:
            return row
        path = self._aux_file(row.native_id, ".ec")
        if path is None:
            return None
        try:
            text = path.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return None
        if not text.isdecimal() or int(text) > 255:
            return None  # not written to its end
        code = int(text)
        said = row.ending.message if row.ending is not None else ""
        failed = code != 0 or row.state is jobyard.JobState.FAILED
        ending = jobyard.Ending(
            state=jobyard.JobState.FAILED if failed else jobyard.JobState.DONE,
            cause=jobyard.Cause.EXITED if code != 0 or not failed else jobyard.Cause.UNKNOWN,
            exit_code=code,
            message="\n".join(part for part in (said, self._output(row.native_id) if failed else "") if part),
            ended_at=path.stat().st_mtime,
        )
        return Row(native_id=row.native_id, state=ending.state, native_state=row.native_state, ended=True, ending=ending)

    def _output(self, native_id: str) -> str:
        """The end of what the script itself printed: launchers and their scripts, not the job."""
        path = self._aux_file(native_id, ".out")
        if path is None or not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
            return file.read().decode("utf-8", "replace").strip()

    def _aux_file(self, native_id: str, suffix: str) -> Path | None:
        if "/" in native_id or native_id in ("", ".", ".."):
            return None
        with self._words_lock:
            folder = self._folders.get(native_id)
        if getattr(self._executor.config, "keep_files", False):
            return self._executor.work_directory / (native_id + suffix)
        if folder is None:  # submitted by an earlier process
            root = self._executor.config._work_directory
            base = fronts.work_root() if root is None else root / f"jobyard-{os.getuid()}"
            found = glob.glob(f"{glob.escape(str(base))}/??/*/{glob.escape(native_id + suffix)}")
            if len(found) != 1:
                return None
            with self._words_lock:
                folder = self._folders[native_id] = os.path.dirname(found[0])
        return Path(folder) / (native_id + suffix)


def _believed(word: Row) -> Row:
    """The queue's word alone: COMPLETED is said of jobs that exited with 0."""
    ending = word.ending
    assert ending is not None
    if ending.state is jobyard.JobState.DONE and ending.exit_code is None:
        ending = jobyard.Ending(state=ending.state, cause=jobyard.Cause.EXITED, exit_code=0, message=ending.message)
    return Row(native_id=word.native_id, state=word.state, native_state=word.native_state, ended=True, ending=ending)
