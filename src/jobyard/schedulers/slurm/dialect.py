"""Slurm, by its commands: sbatch, squeue, sacct, scancel, scontrol. Pure; the forms used are those of 20.11 to 26.05 alike."""

from __future__ import annotations

import signal as signals
from collections.abc import Collection, Mapping, Sequence

from ...errors import JobyardError, SchedulerUnavailable
from ...job import JobDescription
from ..base import (
    Accepted,
    Action,
    Answer,
    Capabilities,
    Command,
    Kind,
    Result,
    Row,
    SiteLimits,
    Submission,
    Traits,
)
from . import answers
from .ids import is_id, words
from .request import check, sbatch_options, sends_positions
from .tables import Marks, account_answer, account_format, queue_answer, queue_format

__all__ = ["SlurmDialect"]

# Settings of the user's that would change what a command asks, or how it answers.
_WITHOUT = ("SQUEUE_", "SCANCEL_", "SACCT_", "SCONTROL_")
# The same for sbatch. Where the client is itself a job of Slurm's, its variables would reach the jobs it submits.
_WITHOUT_SBATCH = (
    "SBATCH_ARRAY_INX", "SBATCH_GET_USER_ENV", "SBATCH_WAIT", "SBATCH_WAIT_FOR_SWITCH", "SBATCH_EXPORT",
    "SLURM_ARRAY_", "SLURM_JOB_", "SLURM_STEP_", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU", "SLURM_MEM_PER_NODE", "SLURM_CPUS_",
    "SLURM_NTASKS", "SLURM_NTASKS_", "SLURM_NPROCS", "SLURM_NNODES", "SLURM_NODELIST", "SLURM_TASKS_", "SLURM_TRES_", "SLURM_GPUS",
    "SLURM_GPUS_", "SLURM_JOBID", "SLURM_STEPID", "SLURM_RESTART_COUNT", "SLURM_HET_", "SLURM_EXPORT_ENV", "SLURM_GET_USER_ENV",
    "SLURM_DISTRIBUTION", "SLURM_CPU_", "SLURM_MEM_BIND", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS",
    "SLURM_TASK_PID", "SLURM_THREADS_PER_CORE", "SLURM_OVERCOMMIT",
)  # fmt: skip
_ANSWERS = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}  # seconds since the epoch; lists of tasks are not cut
_EXACT_CODES = (26, 5)
_ALL_IS_ALL = (22, 5)
_ALL_STATES = (  # of 20.11
    "BOOT_FAIL,CANCELLED,COMPLETED,COMPLETING,CONFIGURING,DEADLINE,FAILED,NODE_FAIL,OUT_OF_MEMORY,PENDING,PREEMPTED,REQUEUED,"
    "REQUEUE_FED,REQUEUE_HOLD,RESIZING,REVOKED,RUNNING,SIGNALING,SPECIAL_EXIT,STAGE_OUT,STOPPED,SUSPENDED,TIMEOUT"
)
_FIND_DAYS = 7  # how long after a crash accounting is searched for a submission that the queue has forgotten

_TRAITS = Traits(
    native_id_variables=("SLURM_JOB_ID",),
    task_id_template="{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}",
    array_id_variables=("SLURM_ARRAY_JOB_ID",),
    index_variables=("SLURM_ARRAY_TASK_ID",),
    variables=("SLURM_ARRAY_",),
)
_POSITIONS = Traits(
    native_id_variables=_TRAITS.native_id_variables,
    task_id_template=_TRAITS.task_id_template,
    array_id_variables=_TRAITS.array_id_variables,
    index_variables=_TRAITS.index_variables,
    variables=_TRAITS.variables,
    positions=True,
)


class SlurmDialect:
    """Dialect of jobyard.schedulers.base for Slurm 20.11 and newer.

    ``marks``: what ends a field in the answers asked for. ``release``: (24, 11); () where it is not known. Two things depend on
    it: 20.11 leaves stopped jobs out of ``--states=all``, and up to 24.11 sacct takes 128 off exit codes above 127.
    """

    name = "slurm"
    programs: tuple[str, ...] = ("sbatch", "squeue", "scancel", "scontrol")
    hint = "install Slurm's client commands (Debian: slurm-client), or log in where they are"
    traits = _TRAITS
    capabilities = Capabilities(
        attributes=frozenset({
            "nodes", "processes", "processes_per_node", "cores", "gpus", "memory_bytes", "exclusive", "walltime_s", "cpu_time_s",
            "queue", "account", "reservation", "priority", "begin_at", "deadline_at", "hold", "rerunnable", "native", "email",
        }),
        actions=frozenset(Action),
        arrays=True,
        max_running=True,
        per_task_control=True,
        dependencies=frozenset({"success", "failure", "any"}),
        accounting=True,
        notes={
            "soft_walltime_s": "let it send a signal before the end: native=('--signal=USR1@60',)",
            "run_time_s": "its time limit is of wall-clock time: use walltime",
            "soft_run_time_s": "let it send a signal before the end: native=('--signal=USR1@60',)",
            "category": "use native, or a site's QOS: attributes={'slurm.qos': NAME}",
            "immediate": "use native=('--immediate',), or the embedded scheduler",
        },
    )  # fmt: skip

    def __init__(self, marks: Marks | None = None, release: tuple[int, ...] = ()) -> None:
        self.marks = marks or Marks()
        self.release = release

    @property
    def exact_codes(self) -> bool:
        """Accounting shows exit codes as they are. What lies between 24.11 and 26.05 was not seen."""
        return self.release >= _EXACT_CODES

    # Submission

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        check(description)

    def traits_of(self, submission: Submission) -> Traits:
        """Those of one submission: where Slurm is not sent the user's indices, the shepherd must know."""
        return _POSITIONS if sends_positions(submission) else _TRAITS

    def directives(self, submission: Submission) -> Sequence[str]:
        return ()  # all stands on the command line, which beats directives and variables

    def submit_command(self, submission: Submission, script: str) -> Command:
        return self._sbatch(submission, script)

    def fed_submit_command(self, submission: Submission) -> Command:
        """ReadsScripts: without a name, ``sbatch`` reads its options and its configuration, then the script; "Batch script is
        empty!" where nothing comes."""
        return self._sbatch(submission)

    def _sbatch(self, submission: Submission, *script: str) -> Command:
        return Command(argv=("sbatch", *sbatch_options(submission), "--parsable", *script), without=_WITHOUT_SBATCH)

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        return answers.parse_submit(result, submission)

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        since = ("--allocations", f"--starttime=now-{_FIND_DAYS}days")
        return [self._squeue(), self._sacct(*since)]

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        wanted = {submission.token: submission for submission in submissions}
        found: dict[str, Accepted] = {}
        for result in results:
            queue = result.argv[0] == "squeue"
            answer = self.parse_query(result) if queue else self.parse_account(result)
            for row in answer.rows:
                if row.token in wanted and row.token not in found:
                    found[row.token] = answers.accepted(row.native_id.partition("_")[0], wanted[row.token])
            if answer.unparsed and len(found) < len(wanted):
                raise SchedulerUnavailable(f"a line that is no row may be the job: {answer.unparsed[0]}")
        return found

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        return self._squeue()

    def parse_query(self, result: Result) -> Answer:
        answers.unavailable(result)
        if result.returncode != 0:
            raise SchedulerUnavailable("it failed")
        return queue_answer(result.text, self.marks)

    def account_command(self, native_ids: Collection[str]) -> Command | None:
        known = _whole_arrays(native_ids)
        return self._sacct(f"--jobs={','.join(known)}") if known else None

    def parse_account(self, result: Result) -> Answer:
        if result.returncode != 0:
            if "accounting storage is disabled" in result.error_text:
                return Answer(complete=False)
            answers.unavailable(result)
            raise SchedulerUnavailable("it failed")
        return account_answer(result.text, self.marks, exact=self.exact_codes)

    def list_command(self) -> Command:
        return self._squeue()

    def parse_list(self, result: Result) -> Sequence[Row]:
        return self.parse_query(result).rows

    def _squeue(self) -> Command:
        """All jobs of this user that the controller remembers, those that ended within MinJobAge included."""
        states = "all" if not self.release or self.release >= _ALL_IS_ALL else _ALL_STATES
        argv = ("squeue", "--me", "--array", f"--states={states}", f"--Format={queue_format(self.marks)}")
        return Command(argv=argv, environment=_ANSWERS, without=_WITHOUT)

    def _sacct(self, *which: str) -> Command:
        argv = ("sacct", "--parsable", f"--delimiter={self.marks.field}", f"--format={account_format()}", *which)
        return Command(argv=argv, environment=_ANSWERS, without=_WITHOUT)

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        made: list[tuple[Command, tuple[str, ...]]] = []
        for group in _groups(words(native_ids)):
            ids = tuple(native_id for _, members in group for native_id in members)
            listed = tuple(word for word, _ in group)
            made.append((Command(argv=(*_verb(action, signal), *listed), without=_WITHOUT), ids))
        return made

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        return answers.parse_control(action, result, native_ids)

    # The site

    def limits_command(self) -> Command | None:
        return Command(argv=("scontrol", "show", "config"), without=_WITHOUT)

    def parse_limits(self, result: Result) -> SiteLimits:
        return answers.parse_limits(result)

    def most_jobs_command(self, user: str) -> Command:
        """What tells how many jobs the user may have at a time, where accounting keeps limits."""
        which = ("show", "associations", f"user={user}", "format=MaxSubmitJobs")
        return Command(argv=("sacctmgr", "--noheader", "--parsable2", "--readonly", *which), without=_WITHOUT, timeout_s=20.0)

    def parse_most_jobs(self, result: Result) -> int | None:
        """Its answer."""
        return answers.parse_most_jobs(result)

    def version_command(self) -> Command:
        return Command(argv=("sbatch", "--version"))

    def parse_version(self, result: Result) -> str:
        return answers.parse_version(result)


_MOST_BYTES = 100_000  # of the words of one command


def _groups(named: Sequence[tuple[str, tuple[str, ...]]]) -> list[list[tuple[str, tuple[str, ...]]]]:
    """As few commands as the kernel's limit on a word, and on all of them, allows."""
    groups: list[list[tuple[str, tuple[str, ...]]]] = []
    length = _MOST_BYTES
    for word, members in named:
        length += len(word) + 1
        if length > _MOST_BYTES:
            groups.append([])
            length = len(word)
        groups[-1].append((word, members))
    return groups


def _verb(action: Action, signal: int | None) -> tuple[str, ...]:
    """The command of an action. Signals go to every process of the job (``--full``): without it they reach its steps only.

    ``scancel`` sends a signal again, 5 s later and then ten times more, where one task of the array still waits
    (ESLURM_TRANSITION_STATE_NO_UPDATE), though those that run have had it: ``timeout`` ends it before.
    """
    match action:
        case Action.CANCEL:
            return ("scancel", "--verbose")
        case Action.SUSPEND:
            number = int(signals.SIGSTOP)
        case Action.RESUME:
            number = int(signals.SIGCONT)
        case Action.SIGNAL:
            number = int(signal or signals.SIGTERM)
        case Action.HOLD:
            return ("scontrol", "uhold")
        case Action.RELEASE:
            return ("scontrol", "release")
        case Action.REQUEUE:
            return ("scontrol", "requeue")
    return ("timeout", "3", "scancel", "--verbose", "--full", f"--signal={number}")


def _whole_arrays(native_ids: Collection[str], most: int = 100) -> list[str]:
    """Ids for ``--jobs``: tasks by themselves while they are few, else their array. One that is no id would spoil them all."""
    tasks: dict[str, list[str]] = {}
    for native_id in native_ids:
        if is_id(native_id):
            tasks.setdefault(native_id.partition("_")[0], []).append(native_id)
    return [one for array, members in tasks.items() for one in (members if len(members) <= most else [array])]
