"""The dialect of Torque: qsub, qstat, qdel, qhold, qrls, qsig.

Its options are those of the manual pages (qsub(1B) of 2.4 to 6.1); what qstat prints is as in its source and in outputs that
users published (docs/torque.md says which). A job that has ended stays in state C for the server's ``keep_completed`` seconds,
then it is unknown; there is no accounting that users can ask.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ...errors import JobyardError, SchedulerUnavailable, SubmitError
from ...job import JobDescription
from ..base import Accepted, Action, Answer, Capabilities, Command, Kind, Result, SiteLimits, Submission, Traits
from ..dialects import AFTER, QueueDialect, asked_ids, in_parts, no_answer, ranges
from ..pbs.family import MOST_ACTED_ON, asked_for, limits, named_in, parent, printed_id, refusal
from ..pbs.options import attribute_words, begin_words, check_common, checked_options, mail_words, seconds, shown_name
from ..pbs.rows import ID, PARENT
from .rows import records, row_of

__all__ = ["TorqueDialect"]

UTC: Mapping[str, str] = {"TZ": "UTC0"}
MOST_IDS = 2000
NAME_LENGTH = 15  # and a letter first (qsub(1B), -N)
UNKNOWN_ID = 153  # PBSE_UNKJOBID, 15001, modulo 256
_WITHOUT = ("PBS_QSTAT_EXECONLY", "PBS_QSTAT_NO_COMPLETE", "PBS_DPREFIX")  # they would hide jobs, or move directives

_TAKE_ARGUMENT = "aAbcCdDejJklKLmMNopPqrStTuvwW"
_OURS = {
    "a": "begin_at", "C": "jobyard's own script", "d": "directory", "D": "directory", "w": "directory", "e": "stderr", "h": "hold",
    "I": "jobyard run", "j": "join_streams", "k": "stdout", "N": "name", "o": "stdout", "r": "rerunnable", "t": "submit_array",
    "F": "argv", "S": "jobyard's own script", "x": "jobyard run", "X": "jobyard run", "z": "the id that submit gives",
    "block": "wait", "depend": "after",
}  # fmt: skip

_UNKNOWN = re.compile(r"^\S+: Unknown Job Id(?: Error)? (\S+)", re.MULTILINE)
_AWAY = re.compile(
    r"[Cc]annot connect|Connection (refused|timed out|reset)|End of File|No route|Communication failure|[Tt]imeout"
    r"|trqauthd|currently too busy"
)

# All jobs of whoever runs it.
_ALL_MINE = """\
ids=$(qselect -u "$(id -un)") || exit
[ -n "$ids" ] || exit 0
qstat -x -t $ids
code=$?
[ $code = 153 ] && exit 0  # a job was forgotten between the two commands
exit $code
"""


class TorqueDialect(QueueDialect):
    """Dialect of jobyard.schedulers.base for Torque."""

    name = "torque"
    programs: tuple[str, ...] = ("qsub", "qstat", "qdel", "qselect", "qchkpt")
    hint = "install Torque's client commands (torque-client), or log in where they are"
    traits = Traits(
        native_id_variables=("PBS_JOBID",),
        index_variables=("PBS_ARRAYID",),
        array_id_brackets=True,
        variables=("PBS_ARRAYID",),
    )
    capabilities = Capabilities(
        attributes=frozenset({
            "nodes", "processes", "processes_per_node", "cores", "gpus", "memory_bytes", "walltime_s", "cpu_time_s", "queue",
            "account", "priority", "begin_at", "hold", "rerunnable", "native", "email",
        }),
        actions=frozenset({Action.CANCEL, Action.HOLD, Action.RELEASE, Action.SUSPEND, Action.RESUME}),
        arrays=True,
        max_running=True,
        per_task_control=True,
        dependencies=frozenset({"success", "failure", "any"}),
        accounting=False,
        shows_suspended=False,
        notes={
            Action.SIGNAL: "a signal ends the shell that Torque runs a job in, and so the job; cancel or suspend it",
            Action.REQUEUE: "qrerun is kept for operators",
            "exclusive": "ask for all cores of the nodes",
            "reservation": "ask in native, as the site's scheduler wants it: -l advres=NAME with Moab",
        },
    )  # fmt: skip

    # Submission

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        check_common(self.name, description, priority=1024)
        checked_options(self.name, description.native, _TAKE_ARGUMENT, _OURS, field="native")
        attribute_words(self.name, description, _TAKE_ARGUMENT, _OURS)

    def submit_command(self, submission: Submission, script: str) -> Command:
        job = submission.description
        argv = ["qsub", *mail_words(job), *job.native, *attribute_words(self.name, job, _TAKE_ARGUMENT, _OURS)]
        argv += ["-N", shown_name(job.shown_name, NAME_LENGTH, "A-Za-z"), "-j", "oe", "-o", "/dev/null"]
        argv += ["-r", "y" if job.rerunnable else "n", *_resources(job), *begin_words(job)]
        if job.queue is not None:
            argv += ["-q", job.queue]
        argv += asked_for(job)
        if submission.after:
            argv += ["-W", "depend=" + ",".join(_depend(native_id, when) for native_id, when in submission.after)]
        if submission.kind is not Kind.SINGLE:
            cap = f"%{submission.max_running}" if submission.max_running is not None else ""
            argv += ["-t", ranges(submission.indices) + cap]
        return Command(argv=(*argv, script), directory=submission.folder, environment=UTC, without=_WITHOUT)

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        said = result.error_text
        if result.returncode < 0 or (result.returncode > 0 and _AWAY.search(said)):
            raise no_answer(_why(said))
        if result.returncode > 0:
            line = _why(said).removeprefix("qsub: ") or f"exit code {result.returncode}"
            later = "exceed" in said and "limit" in said and "resource" not in said
            raise SubmitError(f"torque refused the job: {line}", retryable=later, output=said)
        return _accepted(printed_id(result, array=submission.kind is not Kind.SINGLE), submission)

    def accepted(self, native_id: str, submission: Submission) -> Accepted:
        return _accepted(parent(native_id), submission)

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        """``qstat -x`` of these: an array at once, by its own id. All of the user's where none can be named."""
        ids = asked_ids(native_ids, ID, parent)
        if not ids or len(ids) > MOST_IDS:
            return self.list_command()
        return Command(argv=("qstat", "-x", "-t", *ids), without=_WITHOUT, timeout_s=60.0 + 0.05 * len(ids))

    def parse_query(self, result: Result) -> Answer:
        return _answer(result)

    def list_command(self) -> Command:
        return Command(argv=("/bin/sh", "-c", _ALL_MINE), without=_WITHOUT)

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        words = {
            Action.CANCEL: ("qdel",),
            Action.HOLD: ("qhold",),
            Action.RELEASE: ("qrls",),
            Action.SUSPEND: ("qsig", "-s", "SIGSTOP"),
            Action.RESUME: ("qsig", "-s", "SIGCONT"),
        }[action]
        return [(Command(argv=(*words, *part)), part) for part in in_parts(native_ids, ID, MOST_ACTED_ON)]

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        """Silence and exit 0: done. Each id is a request of its own; a line tells of each that failed, and names it."""
        said = result.error_text
        if result.returncode == 0:
            return dict.fromkeys(native_ids)
        if result.returncode < 0 or _AWAY.search(said):
            raise no_answer(_why(said))
        answers: dict[str, JobyardError | None] = {}
        for line in said.splitlines():
            answers.update(dict.fromkeys(named_in(line, native_ids), refusal(self.name, action, line)))
        if not answers:
            raise no_answer(_why(said), "it says nothing of the jobs")
        return {one: answers.get(one) for one in native_ids}

    # The site

    def limits_command(self) -> Command | None:
        return Command(argv=("qstat", "-B", "-f"))

    def parse_limits(self, result: Result) -> SiteLimits:
        return limits(result, "max_job_array_size")

    def version_command(self) -> Command:
        return Command(argv=("qstat", "--version"))

    def parse_version(self, result: Result) -> str:
        match = re.search(r"[Vv]ersion: ([0-9][0-9A-Za-z.~+-]*)", f"{result.text}\n{result.error_text}", re.ASCII)
        if result.returncode != 0 or match is None:
            raise SchedulerUnavailable("it tells no version of Torque; this qstat may be another scheduler's")
        return f"torque {match[1]}"


def _depend(native_id: str, when: str) -> str:
    return f"{AFTER[when]}{'array' if PARENT in native_id else ''}:{native_id}"


def _accepted(native_id: str, submission: Submission) -> Accepted:
    if submission.kind is Kind.SINGLE:
        return Accepted((native_id,))
    before, _, after = native_id.partition(PARENT)
    return Accepted(tuple(f"{before}[{index}]{after}" for index in submission.indices), native_id)


def _resources(job: JobDescription) -> list[str]:
    """``-l nodes=N:ppn=P:gpus=G,mem=...``; without nodes, all processes are on one."""
    resources, parts = job.resources, list[str]()
    asked = (resources.nodes, resources.processes, resources.processes_per_node, resources.cores)
    if any(value is not None for value in asked) or resources.total_gpus:
        nodes = resources.total_nodes
        ranks = resources.total_processes // nodes
        gpus = f":gpus={ranks * (resources.gpus or 0)}" if resources.total_gpus else ""
        parts.append(f"nodes={nodes}:ppn={ranks * (resources.cores or 1)}{gpus}")
    if resources.memory_bytes is not None:
        parts.append(f"mem={resources.memory_bytes}b")
    if job.limits.walltime_s is not None:
        parts.append(f"walltime={seconds(job.limits.walltime_s)}")
    return ["-l", ",".join(parts)] if parts else []


def _why(said: str) -> str:
    """The command's own line: others, of the library that asks the server, may stand before it."""
    match = re.search(r"^q[a-z]+: .*", said, re.MULTILINE)
    return match[0] if match else said.partition("\n")[0]


def _answer(result: Result) -> Answer:
    said = result.error_text
    unknown = _UNKNOWN.findall(said)
    if result.returncode not in (0, UNKNOWN_ID) or (result.returncode == UNKNOWN_ID and not unknown):
        raise no_answer(_why(said), "it failed")
    jobs, unparsed = records(result.text)
    told = {*unknown, *(one for one, _ in jobs), *(parent(one) for one, _ in jobs)}
    told |= {one.partition(".")[0] for one in told}
    asked = [word for word in result.argv[1:] if ID.fullmatch(word)]
    rows = tuple(row_of(one, fields) for one, fields in jobs if PARENT not in one)
    whole = result.text.count("<Data>") == result.text.count("</Data>")  # else it was cut between two jobs
    return Answer(rows=rows, unparsed=tuple(unparsed), complete=whole and not unparsed and told.issuperset(asked))
