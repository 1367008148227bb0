"""What a scheduler is to the engine: the ``Scheduler`` protocol, and the pure ``Dialect`` that most are written as.

A front knows no scheduler; a scheduler knows no front. ``CommandScheduler`` (schedulers/command.py) makes a Scheduler of
a Dialect and a transport.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from ..errors import JobyardError
from ..job import By, Ending, JobDescription, JobState

__all__ = [
    "Accepted",
    "Action",
    "Answer",
    "BeginsSubmissions",
    "Begun",
    "Capabilities",
    "Command",
    "Dialect",
    "Kind",
    "ReadsScripts",
    "Result",
    "Row",
    "Scheduler",
    "SiteLimits",
    "Submission",
    "Traits",
]


class Kind(enum.StrEnum):
    """What one submission is to the scheduler."""

    SINGLE = "single"
    ARRAY = "array"  # an array job of its user
    LIKE = "like"  # like jobs sent as one: an array to the scheduler, jobs of their own to the user


class Action(enum.StrEnum):
    """What can be done to a submitted job."""

    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    SUSPEND = "suspend"
    RESUME = "resume"
    SIGNAL = "signal"
    REQUEUE = "requeue"


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a scheduler can do. ``attributes``: the names in JobDescription, Resources and Limits that it honours."""

    attributes: frozenset[str] = frozenset()
    actions: frozenset[Action] = frozenset({Action.CANCEL})
    arrays: bool = False
    max_running: bool = False  # a cap on the running tasks of an array
    per_task_control: bool = False  # one task can be held and signalled; else like jobs are not coalesced
    dependencies: frozenset[str] = frozenset()  # of "success", "failure", "any"
    accounting: bool = False
    push: bool = False  # tells endings by itself
    shows_suspended: bool = True  # the queue tells a suspended job from a running one; False where SUSPEND merely stops processes
    launchers: frozenset[str] = frozenset({"single", "multiple", "mpirun", "srun", "jsrun", "aprun"})
    notes: Mapping[str, str] = {}  # attribute or action -> what the scheduler can do instead, for error messages


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One submission, as the journal records it before anything is sent."""

    token: str  # 32 hexadecimal digits
    folder: str  # the job's folder, absolute, as the login host sees it; its last component is the token
    description: JobDescription  # what the scheduler sees; tasks differ only in what it does not see
    kind: Kind = Kind.SINGLE
    indices: tuple[int, ...] = ()  # ARRAY: the user's; LIKE: 0, 1, ...; SINGLE: none
    max_running: int | None = None
    after: tuple[tuple[str, str], ...] = ()  # (native id, "success" | "failure" | "any")


class Accepted(msgspec.Struct, frozen=True):
    """A submission's native ids: one, or one for each index in order. ``array_id``: of the array itself."""

    native_ids: tuple[str, ...]
    array_id: str | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue or an accounting answer says of one job."""

    native_id: str
    state: JobState | None = None  # None: a word that the dialect does not know; ``native_state`` keeps it
    by: By | None = None
    native_state: str = ""
    reason: str | None = None
    token: str | None = None
    name: str | None = None
    attempt: int | None = None  # 1 for the first run, where the scheduler counts them
    ended: bool = False  # the scheduler says the job is over (not only this run)
    ending: Ending | None = None  # as far as this answer knows
    submitted_at: float | None = None
    began_at: float | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A query's answer. ``complete``: a job that it does not list is not there. One bad line costs one row."""

    rows: tuple[Row, ...] = ()
    unparsed: tuple[str, ...] = ()
    complete: bool = True

    @property
    def whole(self) -> bool:
        """Complete, and every line was read: one that was not may be about any job."""
        return self.complete and not self.unparsed


class SiteLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits read from the scheduler; None: none known."""

    max_array_size: int | None = None  # tasks in one array
    max_index: int | None = None  # largest index that an array may have
    max_jobs: int | None = None  # of one user at a time


@runtime_checkable
class Scheduler(Protocol):
    """A resource manager as the engine uses it. Every method may be called from any thread."""

    name: str
    capabilities: Capabilities

    def check(
        self, description: JobDescription, *, kind: Kind = Kind.SINGLE, tasks: int = 1, max_running: int | None = None
    ) -> None:
        """Raise UnsupportedAttribute or InvalidJob for what cannot be honoured. Nothing is written or sent."""

    def prepare(self, submission: Submission) -> Mapping[str, bytes]:
        """Further files of the job's folder (the batch script), by name. Pure."""

    def submit(self, submission: Submission) -> Accepted:
        """Hand over one submission whose folder is complete.

        SubmitError: refused, nothing is there (retryable: later). SchedulerUnavailable, TransportError: it is not known
        whether it was taken; the caller looks the token up.
        """

    def find(self, submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """What queue and accounting know of these tokens; a token left out is not there.

        SchedulerUnavailable where that cannot be told now.
        """

    def query(self, native_ids: Collection[str]) -> Answer:
        """The queue, in one command, about at least these jobs. SchedulerUnavailable, TransportError: no answer."""

    def account(self, native_ids: Collection[str]) -> Answer:
        """Accounting's word on these. SchedulerUnavailable: no answer.

        Empty and not complete where there is none, or where it cannot tell. Jobs that it leaves out for long enough then end by
        what else is known of them.
        """

    def control(self, action: Action, native_ids: Sequence[str], *, signal: int | None = None) -> Mapping[str, JobyardError | None]:
        """Do it to all, in as few commands as can be; for each id None (acknowledged) or why not."""

    def listed(self) -> Sequence[Row]:
        """All jobs of this user that the scheduler knows now."""

    def limits(self) -> SiteLimits:
        """The site's limits, cached for a while."""

    def version(self) -> str:
        """Product and version, as the scheduler says it: ``slurm 22.05.8``."""

    def close(self) -> None:
        """Let go of connections. Jobs are not touched."""


class Begun(Protocol):
    """A submission whose command has begun, and which the scheduler has not heard of. For one thread."""

    def claim(self, submission: Submission) -> bool:
        """Whether what was begun ahead is this submission's command, as it would begin here and now. If not, it is abandoned."""

    def submit(self, files: Mapping[str, bytes]) -> Accepted:
        """Hand it over, its folder being complete. ``files``: as ``prepare`` made them. Errors as those of ``Scheduler.submit``."""

    def abandon(self) -> None:
        """Let it not be: the scheduler never hears of it. Nothing where it was handed over."""


@runtime_checkable
class BeginsSubmissions(Protocol):
    """A scheduler whose submission command can find its libraries and its configuration while the intent is made durable."""

    def begin_submission(self, submission: Submission, *, ahead: bool = False) -> Begun | None:
        """Start the command; None where that cannot be now. It says nothing to the scheduler before ``Begun.submit``, and never
        does where this process ends before that. ``ahead``: the submission is only expected, and ``Begun.claim`` comes first."""


# Dialects -----------------------------------------------------------------------------------------------------------


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command for the login host. ``environment`` is added to the transport's own, less what is named in ``without``."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    directory: str | None = None
    environment: Mapping[str, str] = {}
    without: tuple[str, ...] = ()  # variables that would change what the command does; one that ends with "_" is a prefix
    timeout_s: float = 60.0
    finish: bool = False  # it goes on where the link to the host breaks: half of a submission is worse than all of it


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a command answered."""

    argv: tuple[str, ...]
    returncode: int  # negative: ended by that signal, as subprocess says it
    stdout: bytes = b""
    stderr: bytes = b""
    duration_s: float = 0.0

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 survive as surrogates."""
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def error_text(self) -> str:
        """Standard error as text, stripped."""
        return self.stderr.decode("utf-8", "surrogateescape").strip()


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What the shepherd must know of the scheduler; it stands in job.json (facts: shepherd-spike sections 2 to 4 and 7)."""

    native_id_variables: tuple[str, ...] = ()  # tried in this order: "SLURM_JOB_ID"
    task_id_template: str = ""  # a task's native id from variables: "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}"; "": as above
    array_id_variables: tuple[str, ...] = ()  # the array's native id: "SLURM_ARRAY_JOB_ID"; none set: the id of the run
    native_id_after: str = ""  # the id is what follows this in the variable: ":" where it holds "0:7.srv"
    native_id_base58: bool = False  # the variable holds the id as Flux writes it, "ƒD1D5jb5"; it is told as a decimal number
    array_id_brackets: bool = False  # ... which is that of a task without what stands in its brackets: "7[].srv" of "7[2].srv"
    index_variables: tuple[str, ...] = ()  # "SLURM_ARRAY_TASK_ID"; an argument of the script where there is none
    index_argument: bool = False  # the index is the batch script's first argument
    index_offset: int = 0  # what the scheduler shows minus the position in ``indices``, where positions are sent
    positions: bool = False  # the scheduler's index is a position in ``indices``, not the user's index
    own_group: bool = False  # the command gets its own process group and signals are forwarded (HTCondor, OAR)
    exit_map: Mapping[str, int] = {}  # exit codes that the scheduler takes for its own: {"99": 1}
    variables: tuple[str, ...] = ()  # prefixes or names removed from jobs sent as LIKE: "SLURM_ARRAY_"
    keep_descriptors: bool = False  # a launcher needs those above 2
    guarded: bool = False  # the shepherd keeps the walltime, looks for ``stop.N``, and ends with its worker (node/guard.py)


@runtime_checkable
class ReadsScripts(Protocol):
    """A dialect whose submission command reads the batch script from its standard input, and refuses an empty one."""

    def fed_submit_command(self, submission: Submission) -> Command:
        """As Dialect.submit_command, the script being fed."""


class Dialect(Protocol):
    """The pure part of a scheduler: commands out, answers in. No I/O, no clock, no threads, no state.

    Parsers never raise on what a scheduler prints: a line that is no row goes to ``Answer.unparsed``. An answer that
    as a whole is none (exit code, garbage) raises SchedulerUnavailable.
    """

    name: str
    capabilities: Capabilities
    traits: Traits
    programs: tuple[str, ...]  # found on PATH: the scheduler is here
    hint: str  # how to get them, for the error that says that one is missing

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        """As Scheduler.check; the whitelist of values that reach directives included."""

    def directives(self, submission: Submission) -> Sequence[str]:
        """Lines of the batch script between ``#!/bin/sh`` and the exec line."""

    def submit_command(self, submission: Submission, script: str) -> Command:
        """The command that submits; ``script`` is the batch script's path."""

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        """SubmitError where refused; SchedulerUnavailable where it is not known."""

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        """Commands whose answers tell which tokens are there: queue first, then accounting."""

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """As Scheduler.find, from the answers so far; the next command is run only while a token is missing."""

    def query_command(self, native_ids: Collection[str]) -> Command:
        """One command for the queue."""

    def parse_query(self, result: Result) -> Answer:
        """Its answer."""

    def account_command(self, native_ids: Collection[str]) -> Command | None:
        """Accounting's word on these; None where there is none."""

    def parse_account(self, result: Result) -> Answer:
        """Its answer; where it tells of several runs of a job, one row, of the last."""

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        """Commands, each with the ids that it acts on."""

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        """For each id: None, or why not (UnknownJob, WrongState, NotPermitted, ControlError)."""

    def list_command(self) -> Command:
        """All jobs of this user."""

    def parse_list(self, result: Result) -> Sequence[Row]:
        """Its answer."""

    def limits_command(self) -> Command | None:
        """What tells the site's limits; None where nothing does."""

    def parse_limits(self, result: Result) -> SiteLimits:
        """Its answer."""

    def version_command(self) -> Command:
        """What tells the version."""

    def parse_version(self, result: Result) -> str:
        """Its answer."""
