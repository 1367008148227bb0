"""Values: what a job is told to be, what is known of it, and how it ended. No I/O here.

Text that stands for bytes (arguments, environment, paths) is ``os.fsdecode`` text: any byte survives in it.
"""

from __future__ import annotations

import enum
import os
import signal as _signal
from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import InvalidJob, JobFailed
from .units import format_duration

__all__ = [
    "After",
    "By",
    "Cause",
    "Ending",
    "Inherit",
    "JobDescription",
    "JobState",
    "Limits",
    "Observation",
    "Placeholder",
    "Resources",
    "Source",
    "StageIn",
    "StageMode",
    "StageOut",
    "StageWhen",
    "Transition",
    "Usage",
    "signal_name",
]


class JobState(enum.StrEnum):
    """The states of a job, in the order in which they can follow each other; the last three are final."""

    NEW = "new"
    QUEUED = "queued"
    HELD = "held"  # carries ``by``
    STAGING_IN = "staging_in"
    RUNNING = "running"
    SUSPENDED = "suspended"  # carries ``by``
    STAGING_OUT = "staging_out"
    CLEANING = "cleaning"
    DONE = "done"  # exit code 0
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """No other state follows."""
        return self in _FINAL

    @property
    def waiting(self) -> bool:
        """The job has not begun on a node."""
        return self in _WAITING


_FINAL = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})
_WAITING = frozenset({JobState.NEW, JobState.QUEUED, JobState.HELD})


class By(enum.StrEnum):
    """Who holds or suspends a job: its user, the system (operator, dependency, begin time, preemption), or both."""

    USER = "user"
    SYSTEM = "system"
    BOTH = "both"


class Cause(enum.StrEnum):
    """Why a job ended as it did."""

    EXITED = "exited"  # by itself: an exit code, or a signal of its own
    CANCELLED = "cancelled"
    WALLTIME = "walltime"
    MEMORY = "memory"
    CPU_TIME = "cpu_time"
    NODE = "node"  # the node failed
    REQUEUED = "requeued"  # the scheduler ran it again, which its description forbids
    PREEMPTED = "preempted"
    DEPENDENCY = "dependency"  # what it waits for can no longer happen
    NOT_STARTED = "not_started"  # bad directory, missing command, unreadable input, unwritable output
    SHEPHERD = "shepherd"  # the scheduler says it ran, but nothing of ours began there
    STAGING = "staging"  # files could not be brought in or out
    LAUNCH_SCRIPT = "launch_script"  # a pre- or post-launch script failed
    REJECTED = "rejected"  # accepted, then refused by the scheduler
    LOST = "lost"  # nothing can be known any more; never a guess
    UNKNOWN = "unknown"  # ended, and only that is known


class Inherit(enum.StrEnum):
    """The environment that a job starts from: the submitter's, the node's own, or none."""

    CLIENT = "client"
    NODE = "node"
    NONE = "none"


class Placeholder:
    """Marks that the node fills in within directory, stdin, stdout, stderr and stage paths. NUL keeps them apart from any path."""

    HOME = "\0home\0"  # the user's home directory on the node
    DIRECTORY = "\0directory\0"  # the job's working directory
    INDEX = "\0index\0"  # the task's index; "" for a job without one
    NATIVE_ID = "\0native_id\0"  # the scheduler's id of the job or, for a task, of its array
    ALL = (HOME, DIRECTORY, INDEX, NATIVE_ID)


class StageMode(enum.StrEnum):
    """How a file is brought: copied, linked (symbolic), or moved."""

    COPY = "copy"
    LINK = "link"
    MOVE = "move"


class StageWhen(enum.IntFlag):
    """When a file is brought out, or cleaned: by how the job ended; IF_PRESENT: a missing file is no failure."""

    IF_PRESENT = 1
    ON_SUCCESS = 2
    ON_ERROR = 4
    ON_CANCEL = 8
    ALWAYS = 14


class StageIn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file or folder brought to the job before it starts; a relative target lies in the job's directory."""

    source: str
    target: str
    mode: StageMode = StageMode.COPY


class StageOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file or folder brought away after the job; a relative source lies in the job's directory."""

    source: str
    target: str
    mode: StageMode = StageMode.COPY
    when: StageWhen = StageWhen.ALWAYS


def _check_count(field: str, value: Any, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidJob(f"{field} is a whole number, not {type(value).__name__} {value!r}", field=field)
    if not least <= value < 2**63:
        raise InvalidJob(f"{field} must be {least} or more, not {value}", field=field)


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job needs. None: the scheduler's default. Counts are positive; a GPU count may be 0."""

    nodes: int | None = None
    processes: int | None = None  # in all
    processes_per_node: int | None = None
    cores: int | None = None  # for each process
    gpus: int | None = None  # for each process
    memory_bytes: int | None = None  # of the whole job
    exclusive: bool = False

    def __post_init__(self) -> None:
        for name in ("nodes", "processes", "processes_per_node", "cores"):
            _check_count(name, getattr(self, name), 1)
        _check_count("gpus", self.gpus, 0)
        _check_count("memory", self.memory_bytes, 1)
        nodes, processes, per_node = self.nodes, self.processes, self.processes_per_node
        if processes is not None and per_node is not None and nodes is not None and nodes * per_node != processes:
            raise InvalidJob(
                f"{nodes} nodes of {per_node} processes each are not {processes} processes; leave one of the three out",
                field="processes",
            )
        if processes is not None and per_node is not None and nodes is None and processes % per_node:
            raise InvalidJob(f"{processes} processes cannot be laid out by {per_node} on each node", field="processes_per_node")
        if processes is not None and nodes is not None and per_node is None and processes % nodes:
            raise InvalidJob(f"{processes} processes cannot be laid out evenly on {nodes} nodes", field="processes")

    @property
    def total_nodes(self) -> int:
        """Nodes, those left out worked out from the others."""
        if self.nodes is not None:
            return self.nodes
        if self.processes is not None and self.processes_per_node is not None:
            return self.processes // self.processes_per_node
        return 1

    @property
    def total_processes(self) -> int:
        """Processes in all, worked out where left out."""
        if self.processes is not None:
            return self.processes
        return self.total_nodes * (self.processes_per_node or 1)

    @property
    def total_cores(self) -> int:
        """Cores in all."""
        return self.total_processes * (self.cores or 1)

    @property
    def total_gpus(self) -> int:
        """GPUs in all."""
        return self.total_processes * (self.gpus or 0)


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ends a job when it is passed. Seconds and bytes; None: the scheduler's default. 0 only where said."""

    walltime_s: float | None = None  # wall-clock, suspended time included
    soft_walltime_s: float | None = None  # an estimate; where a scheduler warns, this is when
    run_time_s: float | None = None  # wall-clock while running, suspended time left out
    soft_run_time_s: float | None = None
    cpu_time_s: float | None = None
    core_bytes: int | None = None  # of a core dump; 0: none
    file_bytes: int | None = None
    open_files: int | None = None
    stack_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("walltime_s", "soft_walltime_s", "run_time_s", "soft_run_time_s", "cpu_time_s"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidJob(f"{name} is a number of seconds, not {type(value).__name__}", field=name.removesuffix("_s"))
            if not 0 < value < 10**10:
                raise InvalidJob(f"{name} must be more than 0 and finite, not {value!r}", field=name.removesuffix("_s"))
        for name in ("core_bytes", "file_bytes"):
            _check_count(name, getattr(self, name), 0)
        for name in ("open_files", "stack_bytes"):
            _check_count(name, getattr(self, name), 1)


class After(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job, by its token or an array's, that must have ended first; ``when``: ``success``, ``failure``, or ``any``."""

    token: str
    when: str = "success"

    def __post_init__(self) -> None:
        if self.when not in ("success", "failure", "any"):
            raise InvalidJob(f"after: a dependency waits for 'success', 'failure' or 'any', not {self.when!r}", field="after")


class JobDescription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to run, frozen. A value that makes no sense raises InvalidJob, naming the field, when it is made."""

    argv: tuple[str, ...]
    name: str | None = None
    directory: str | None = None  # None: as docs/architecture.md says for the front
    environment: dict[str, str] = {}
    inherit: Inherit | None = None  # None: as docs/architecture.md says for the front
    stdin: str | None = None  # None: /dev/null
    stdout: str | None = None  # None: kept in the job's folder
    stderr: str | None = None  # None: kept in the job's folder
    join_streams: bool = False  # stderr goes where stdout goes
    append_streams: bool = False  # else files are emptied first
    resources: Resources = Resources()
    limits: Limits = Limits()
    queue: str | None = None
    account: str | None = None
    reservation: str | None = None
    priority: int | None = None  # higher is sooner; 0 is the default
    begin_at: float | None = None  # not before: seconds since the epoch
    deadline_at: float | None = None  # must have ended by then
    hold: bool = False  # submitted held by its user
    after: tuple[After, ...] = ()
    rerunnable: bool = False  # may the scheduler run it again
    immediate: bool = False  # books nothing and waits for nothing (embedded scheduler only)
    launcher: str = "single"
    launcher_options: tuple[str, ...] = ()  # put before the command's own words
    pre_launch: str | None = None  # a shell script, sourced before the launcher
    post_launch: str | None = None
    stage_in: tuple[StageIn, ...] = ()
    stage_out: tuple[StageOut, ...] = ()
    cleanup: tuple[str, ...] = ()
    cleanup_when: StageWhen = StageWhen.ALWAYS
    native: tuple[str, ...] = ()  # options of the scheduler's own submit command, untouched
    attributes: dict[str, str] = {}  # "slurm.constraint": "gpu"; those of other schedulers are ignored
    category: str | None = None  # a site's name for a set of native options
    email: tuple[str, ...] = ()
    email_on: tuple[str, ...] = ()  # "begin", "end", "fail"
    tags: dict[str, str] = {}  # the caller's own; kept, never shown to the scheduler

    def __post_init__(self) -> None:
        from .description import check

        check(self)

    @property
    def shown_name(self) -> str:
        """The name, or the command's last path component where none was given."""
        return self.name if self.name is not None else os.path.basename(self.argv[0]) or self.argv[0]


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job used; None: not known. ``native`` holds the scheduler's own record, its names unchanged."""

    wall_s: float | None = None
    user_s: float | None = None
    system_s: float | None = None
    max_rss_bytes: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    read_blocks: int | None = None
    written_blocks: int | None = None
    voluntary_switches: int | None = None
    involuntary_switches: int | None = None
    native: dict[str, str] = {}

    @property
    def cpu_s(self) -> float | None:
        """User and system time together."""
        if self.user_s is None and self.system_s is None:
            return None
        return (self.user_s or 0.0) + (self.system_s or 0.0)


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a job ended. At most one of ``exit_code`` and ``signal`` is set; neither: it is not known, or never ran."""

    state: JobState  # DONE, FAILED or CANCELLED
    cause: Cause = Cause.EXITED
    exit_code: int | None = None  # 0 to 255
    signal: str | None = None  # "SIGTERM"; a number's text where it has no name
    core_dumped: bool = False
    aborted: bool = False  # ended before its command began
    message: str = ""
    usage: Usage = Usage()
    submitted_at: float | None = None  # seconds since the epoch, all four
    began_at: float | None = None
    ended_at: float | None = None
    host: str | None = None
    attempts: int = 1  # runs that began

    @property
    def success(self) -> bool:
        """The command exited with 0, and nothing around it failed."""
        return self.state is JobState.DONE

    def check(self) -> Ending:
        """Return this ending if it is a success; raise JobFailed, which carries it, if not."""
        if not self.success:
            raise JobFailed(f"the job {self}", ending=self)
        return self

    def __str__(self) -> str:
        if self.exit_code is not None:
            how = f"exited with {self.exit_code}"
        elif self.signal is not None:
            how = f"was ended by {self.signal}" + (" (core dumped)" if self.core_dumped else "")
        else:
            how = "never began" if self.aborted else "ended"
        if self.cause not in (Cause.EXITED, Cause.UNKNOWN):
            how += f", cause: {self.cause}"
        if self.usage.wall_s is not None:
            how += f", after {format_duration(self.usage.wall_s)}"
        return f"{how} ({self.message})" if self.message else how


class Source(enum.StrEnum):
    """Where an observation comes from."""

    SUBMISSION = "submission"  # the scheduler's answer to a submission
    RECEIPT = "receipt"
    QUEUE = "queue"
    ACCOUNTING = "accounting"
    ACT = "act"  # something that we did: cancel, hold, ...
    ABSENCE = "absence"  # a good answer of the queue that does not list the job
    SERVER = "server"  # the embedded scheduler's own record


class Observation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fact about one job. ``what`` says which, by source (docs/architecture.md, "Observations")."""

    source: Source
    at: float  # seconds since the epoch: when it happened, where that is known, else when it was seen
    what: str
    state: JobState | None = None  # as the dialect maps the scheduler's word; None: not a word it knows
    by: By | None = None
    native_state: str | None = None
    reason: str | None = None  # why it waits, in the scheduler's words
    native_id: str | None = None
    attempt: int | None = None  # 1 for the first run
    ended: bool = False  # the source says that the job, not only a run, is over
    ending: Ending | None = None  # as far as this source knows
    clean: bool = False  # receipts: final alone (no signal noted; own exit, or death of its own fault)
    signals: tuple[str, ...] = ()  # receipts: noted by the shepherd while the command ran
    holder: str | None = None  # receipts, ``refused``: the native id that holds the claim


class Transition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change of state that was derived from observations."""

    state: JobState
    at: float
    by: By | None = None
    ending: Ending | None = None  # with final states
    reason: str | None = None
    synthesised: bool = False  # nobody saw it; it must have been passed


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15, ``SIGRTMIN+3`` for real-time ones, the number's text where it has no name."""
    low, high = int(getattr(_signal, "SIGRTMIN", 1 << 30)), int(getattr(_signal, "SIGRTMAX", 0))
    if low < number < high:
        return f"SIGRTMIN+{number - low}"
    try:
        return _signal.Signals(number).name
    except ValueError:
        return str(number)


def to_data(value: Any) -> Any:
    """Plain dicts, lists, text and numbers of any value here; ``json.dumps`` writes them, surrogates included."""
    return msgspec.to_builtins(value, str_keys=True)


def description_from_data(data: Mapping[str, Any]) -> JobDescription:
    """The description that ``to_data`` made; InvalidJob where it cannot be one."""
    try:
        return msgspec.convert(data, JobDescription)
    except msgspec.ValidationError as error:
        raise InvalidJob(f"not a job description: {error}") from error
