"""The dialect of Cobalt: qsub, qstat, qdel, qhold, qrls.

No Cobalt was at hand: options are those of its manual pages, what the commands print is as in its source (github.com/ido/cobalt,
src/clients, src/lib/client_utils.py; docs/cobalt.md says more). A job leaves qstat when it ends, and nothing that users can ask
tells how: the job's own report does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ...errors import ControlError, InvalidJob, JobyardError, SchedulerUnavailable, SubmitError, WrongState
from ...job import JobDescription
from ..base import Accepted, Action, Answer, Capabilities, Command, Kind, Result, Submission, Traits
from ..dialects import QueueDialect, asked_ids, no_answer, only_id
from ..pbs.long_options import attribute_words, check_options, control_commands, marked, unmarked
from ..pbs.options import check_common, shown_name
from .rows import FIELDS, ID, records, row_of

__all__ = ["CobaltDialect"]

MOST_IDS = 1000
NAME_LENGTH = 230
_WITHOUT = ("QSTAT_HEADER", "QSTAT_HEADER_FULL", "CQSTAT_HEADER", "CQSTAT_HEADER_FULL")

_FLAGS = frozenset({"d", "v", "h", "debug", "held", "disable_preboot", "run_project", "version", "help", "interactive", "I"})
_OURS = {
    "cwd": "directory", "env": "environment", "e": "stderr", "error": "stderr", "o": "stdout", "output": "stdout",
    "O": "stdout", "outputprefix": "stdout", "debuglog": "jobyard logs", "i": "stdin", "inputfile": "stdin", "jobname": "name",
    "h": "hold", "held": "hold", "I": "jobyard run", "interactive": "jobyard run", "mode": "jobyard's own script",
    "n": "nodes", "nodecount": "nodes", "proccount": "processes", "t": "walltime", "time": "walltime",
    "version": "jobyard schedulers", "help": "jobyard help",
}  # fmt: skip

_AWAY = re.compile(r"Failed to connect|[Cc]onnection (refused|timed out|reset)|[Tt]imed? ?out|No route|FATAL EXCEPTION")
_LATER = re.compile(r"limit.* reached", re.IGNORECASE)
_VERSION = re.compile(r"[Cc]obalt +(?:[Vv]ersion:? *)?v?([0-9][0-9A-Za-z._+-]*)", re.ASCII)

_ASK = f"qstat -l --header={':'.join(FIELDS)} "
_OF_THESE = _ASK + '"$@"\ncode=$?'
_ALL_MINE = _ASK + '-u "$(id -un)"\ncode=$?'


class CobaltDialect(QueueDialect):
    """Dialect of jobyard.schedulers.base for Cobalt. ``walltime_s``: of jobs that do not say theirs, since each must have one."""

    name = "cobalt"
    programs: tuple[str, ...] = ("qsub", "qstat", "qdel", "qhold", "qrls", "cqsub")
    hint = "log in where Cobalt's commands are"
    # It signals one process, not its group (base_forker.py).
    traits = Traits(native_id_variables=("COBALT_JOBID",), own_group=True)
    capabilities = Capabilities(
        attributes=frozenset({
            "nodes", "processes", "processes_per_node", "walltime_s", "cpu_time_s", "queue", "account", "reservation", "hold",
            "rerunnable", "native",
        }),
        actions=frozenset({Action.CANCEL, Action.HOLD, Action.RELEASE}),
        accounting=False,
        notes={
            "arrays": "Cobalt has none; submit single jobs",
            "cores": "it books whole nodes; ask for nodes, and processes_per_node",
            "memory_bytes": "it books whole nodes; ask for nodes",
            "gpus": "it books whole nodes; ask in native, as the site wants it: --attrs ngpus=1",
            "exclusive": "its nodes are whole, unless a queue of the site's shares them",
            "after": "a job whose dependency failed would wait for ever; ask in native: --dependencies ID",
            "email": "ask in native: -M ADDRESS",
            Action.SUSPEND: "it has no command for that",
            Action.RESUME: "it has no command for that",
            Action.SIGNAL: "it has no command for that; cancel the job",
            Action.REQUEUE: "it has no command for that",
        },
    )  # fmt: skip

    def __init__(self, walltime_s: float | None = None) -> None:
        self.walltime_s = walltime_s

    # Submission

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        check_common(self.name, description, priority=1)
        if description.limits.walltime_s is None and self.walltime_s is None:
            raise InvalidJob(
                "cobalt: each job needs a walltime there; set walltime, or one for all in the contact: cobalt?walltime=1h",
                field="walltime",
            )
        check_options(self.name, description.native, _FLAGS, _OURS, field="native")
        attribute_words(self.name, description, _FLAGS, _OURS)

    def submit_command(self, submission: Submission, script: str) -> Command:
        job = submission.description
        resources = job.resources
        walltime_s = job.limits.walltime_s if job.limits.walltime_s is not None else self.walltime_s
        minutes = -(-(walltime_s or 60.0) // 60)
        argv = ["qsub", *job.native, *attribute_words(self.name, job, _FLAGS, _OURS), "--mode", "script"]
        argv += ["-t", str(int(minutes)), "-n", str(resources.total_nodes)]
        if resources.processes is not None or resources.processes_per_node is not None:
            argv += ["--proccount", str(resources.total_processes)]
        # The folder is where qstat shows the token; streams and log are the shepherd's, and nothing of them may come later.
        argv += ["--cwd", submission.folder, "--jobname", shown_name(job.shown_name, NAME_LENGTH)]
        for option in ("-o", "-e", "--debuglog"):
            argv += [option, "/dev/null"]
        destination = job.reservation or job.queue
        if destination is not None:
            argv += ["-q", destination]
        if job.account is not None:
            argv += ["-A", job.account]
        if job.hold:
            argv.append("-h")
        return Command(argv=(*argv, script), directory=submission.folder)

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        """The id stands alone in a line, after what filters of the site's have to say (stdout or stderr)."""
        said = result.error_text
        if result.returncode < 0 or (result.returncode > 0 and _AWAY.search(said)):
            raise no_answer(said)
        if result.returncode > 0:
            lines = [line for line in said.splitlines() if line.strip()]
            why = lines[-1].strip() if lines else f"exit code {result.returncode}"
            raise SubmitError(f"cobalt refused the job: {why}", retryable=_LATER.search(said) is not None, output=said)
        printed = (line.strip() for line in result.text.splitlines())
        return Accepted((only_id(one for one in printed if ID.fullmatch(one)),))

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        """``qstat -l`` of these; of all the user's where none can be named."""
        ids = asked_ids(native_ids, ID)
        if not ids or len(ids) > MOST_IDS:
            return self.list_command()
        return marked(_OF_THESE, *ids, without=_WITHOUT)

    def parse_query(self, result: Result) -> Answer:
        return _answer(result)

    def list_command(self) -> Command:
        return marked(_ALL_MINE, without=_WITHOUT)

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        return control_commands(action, native_ids, ID)

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        """All is on standard output: qdel prints a table of what it deleted, and nothing of what is not there; qhold and qrls
        print a line for each, those that failed and those that did not."""
        said = result.error_text
        if result.returncode < 0 or _AWAY.search(said) or (result.returncode > 0 and not result.text.strip()):
            raise no_answer(said)
        answers: dict[str, JobyardError | None] = {}
        for line in result.text.splitlines():
            words = line.split()
            if len(words) == (2 if action is Action.CANCEL else 1):
                answers[words[0]] = None
            elif len(words) == 2 and words[1] == "(pending)":
                answers[words[0]] = WrongState(f"cobalt cannot {action} job {words[0]}: it runs; it is held if it is run again")
            elif words[:1] == ["job"] and len(words) > 2:
                answers[words[1]] = _refusal(action, words[1], " ".join(words[2:]))
        if action is Action.CANCEL:
            gone = "cobalt cannot cancel the job: it has ended, or never was there"
            return {one: answers[one] if one in answers else WrongState(gone) for one in native_ids}
        return {one: answers[one] for one in native_ids if one in answers}

    # The site

    def version_command(self) -> Command:
        return Command(argv=("qsub", "--version"))

    def parse_version(self, result: Result) -> str:
        """Some releases print their version and exit with 1; a build from a checkout does not know its own."""
        said = f"{result.text}\n{result.error_text}"
        match = _VERSION.search(said)
        if match is None and re.search(r"[Cc]obalt +\$Version\$", said) is None:
            raise SchedulerUnavailable("it tells no version of Cobalt; this qsub may be another scheduler's")
        return f"cobalt {match[1]}" if match else "cobalt of no version"


def _answer(result: Result) -> Answer:
    """Rows. qstat leaves out what is not there, and exits with 1 and without a word where nothing is left."""
    said = result.error_text
    text, code = unmarked(result)
    asked = any(ID.fullmatch(word) for word in result.argv[1:])
    none = not text.strip()
    if _AWAY.search(said) or code not in (0, 1) or (code == 1 and (said or not none)) or (code == 0 and asked and none):
        raise no_answer(said, "it failed")
    found, unparsed = records(text)
    return Answer(rows=tuple(row_of(one) for one in found), unparsed=tuple(unparsed), complete=not unparsed)


def _refusal(action: Action, native_id: str, why: str) -> JobyardError | None:
    text = f"cobalt cannot {action} job {native_id}: {why}"
    if "already in state 'user hold'" in why:
        return None  # as it was wanted
    if re.search("already|does not have|not found", why):  # what has ended is not found
        return WrongState(text)
    return ControlError(text)
