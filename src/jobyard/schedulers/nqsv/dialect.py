"""The dialect of NEC NQSV: qsub, qstat, qdel, qhold, qrls.

What is built on was recorded at a site that runs it and published, unless said (docs/nqsv.md says where). A request is shown for
six seconds after its end; then "does not exist" is all that anybody is told, with exit code 0 as any other answer. The accounting
commands are for administrators.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ...errors import ControlError, JobyardError, NotPermitted, SchedulerUnavailable, SubmitError, WrongState
from ...job import JobDescription
from ..base import Accepted, Action, Answer, Capabilities, Command, Kind, Result, Submission, Traits
from ..dialects import QueueDialect, asked_ids, no_answer, placed
from ..pbs.long_options import attribute_words, check_options, control_commands, marked, unmarked
from ..pbs.options import check_common, mail_words, shown_name
from .rows import ID, NAME_LENGTH, named, records, row_of

__all__ = ["NqsvDialect"]

UTC: Mapping[str, str] = {"TZ": "UTC0"}
MOST_IDS = 500  # a request takes 5 kB of what qstat prints

_FLAGS = frozenset({"h", "V", "x", "z", "exclusive", "accept-sigterm"})
_OURS = {
    "a": "begin_at", "d": "jobyard's own script", "e": "stderr", "h": "hold", "j": "join_streams", "N": "name", "o": "stdout",
    "r": "rerunnable", "S": "jobyard's own script", "t": "submit_all", "V": "inherit", "v": "environment", "x": "inherit",
    "z": "the id that submit gives",
}  # fmt: skip

_TAKEN = re.compile(r"^Request (\S+) submitted to queue: ", re.MULTILINE)
_GONE = re.compile(r"^Batch Request: (\S+) does not exist", re.MULTILINE)
_AWAY = re.compile(r"[Cc]onnect|[Cc]ommunicat|[Tt]imed? ?out|No route|server .*(down|not running)")
_DONE = re.compile(r"^Request \S+ was \w+")
_NOT_THERE = re.compile(r"does not exist|[Nn]o such")
_NOT_ALLOWED = re.compile(r"EACCES|[Pp]ermi(ssion|tted)|[Aa]uthori[sz]ed|denied")
_WRONG_STATE = re.compile(r"\b[Ss]tate\b|[Nn]ot (held|holdable)|[Aa]lready")

# Exit codes are told where jobs are shown, and only of those that have just ended.
_OF_THESE = """\
said=$(qstat -f "$@")
code=$?
printf '%s\\n' "$said"
case $said in
*"= Post-running"* | *"= Exiting"*) qstat -J -f "$@" ;;
esac"""
_ALL_MINE = "qstat -f\ncode=$?"

# With several hosts the script runs on each of them; the job is what runs on the first.
_FIRST_HOST = "case ${PBS_JOBID-} in 0:* | '') ;; *) exit 0 ;; esac"


class NqsvDialect(QueueDialect):
    """Dialect of jobyard.schedulers.base for NQSV."""

    name = "nqsv"
    programs: tuple[str, ...] = ("qsub", "qstat", "qdel", "qhold", "qrls", "qwait")
    hint = "put /opt/nec/nqsv/bin on PATH, or log in where its commands are"
    traits = Traits(native_id_variables=("PBS_JOBID",), native_id_after=":")
    capabilities = Capabilities(
        attributes=frozenset({
            "nodes", "processes", "processes_per_node", "cores", "gpus", "memory_bytes", "exclusive", "walltime_s", "cpu_time_s",
            "queue", "account", "reservation", "hold", "rerunnable", "native", "email",
        }),
        actions=frozenset({Action.CANCEL, Action.HOLD, Action.RELEASE}),
        accounting=False,
        notes={
            "arrays": "how it names the parts of parametric requests is not known; submit single jobs",
            "after": "it does not look at how a job ended, and refuses to wait for one that has; ask in native: --after ID",
            "begin_at": "submit the job held, and release it when it is time",
            "priority": "ask in native: -p",
            Action.SUSPEND: "it has no command for that that users may run",
            Action.RESUME: "it has no command for that that users may run",
            Action.SIGNAL: "a signal ends the shell that NQSV runs a job in, and so the job; cancel it",
            Action.REQUEUE: "qrerun does not ask whether a job may run twice",
        },
    )  # fmt: skip

    # Submission

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        check_common(self.name, description, priority=1024, reservations=True)
        check_options(self.name, description.native, _FLAGS, _OURS, field="native")
        attribute_words(self.name, description, _FLAGS, _OURS)

    def directives(self, submission: Submission) -> Sequence[str]:
        return (_FIRST_HOST,)

    def submit_command(self, submission: Submission, script: str) -> Command:
        job = submission.description
        argv = ["qsub", *(mail_words(job) if job.email else ()), *job.native, *attribute_words(self.name, job, _FLAGS, _OURS)]
        argv += ["-N", named(shown_name(job.shown_name, NAME_LENGTH, "A-Za-z_"), submission.token)]
        argv += ["-j", "o", "-o", "/dev/null", "-r", "y" if job.rerunnable else "n", *_resources(job)]
        argv += placed(job, account="-A", reservation="-y", hold="-h")
        return Command(argv=(*argv, script), directory=submission.folder)

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        """A sentence on standard output; "Request not queued." where it is refused."""
        said = f"{result.text}\n{result.error_text}".strip()
        found = {one for one in _TAKEN.findall(result.text) if ID.fullmatch(one)}
        if len(found) == 1:
            return Accepted((found.pop(),))
        if result.returncode <= 0 or found or _AWAY.search(said):
            raise no_answer(said, "it printed no request's id")
        lines = [line.strip() for line in said.splitlines() if line.strip() and "not queued" not in line]
        why = lines[0] if lines else f"exit code {result.returncode}"
        raise SubmitError(f"nqsv refused the job: {why}", retryable=re.search(r"\blimit\b", said) is not None, output=said)

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        """``qstat -f`` of these, and how those ended that are still shown; all of the user's where none can be named."""
        ids = asked_ids(native_ids, ID)
        if not ids or len(ids) > MOST_IDS:
            return self.list_command()
        return marked(_OF_THESE, *ids, environment=UTC)

    def parse_query(self, result: Result) -> Answer:
        return _answer(result)

    def list_command(self) -> Command:
        return marked(_ALL_MINE, environment=UTC)

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        return control_commands(action, native_ids, ID)

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        """A sentence for each request, which names it; what it says where something is wrong counts, not the exit code."""
        said = f"{result.text}\n{result.error_text}".strip()
        if result.returncode < 0:
            raise SchedulerUnavailable("it did not end by itself")
        answers: dict[str, JobyardError | None] = {}
        for line in said.splitlines():
            for one in native_ids:
                if re.search(rf"(?<![\w.]){re.escape(one)}(?![\w-])(?!\.\w)", line):
                    answers[one] = _refusal(action, line, result.returncode)
        if not answers and _AWAY.search(said):
            raise no_answer(said)
        if result.returncode == 0:
            return {one: answers.get(one) for one in native_ids}
        return answers

    # The site

    def version_command(self) -> Command:
        return Command(argv=("qstat", "-V"))

    def parse_version(self, result: Result) -> str:
        match = re.search(r"NQSV[^\n]*?R?([0-9]+\.[0-9]+[0-9A-Za-z._-]*)", f"{result.text}\n{result.error_text}", re.ASCII)
        if match is None:
            raise SchedulerUnavailable("it tells no version of NQSV; this qstat may be another scheduler's")
        return f"nqsv {match[1]}"


def _resources(job: JobDescription) -> list[str]:
    """``-b`` hosts, and ``-l`` with what one host gives: cores, GPUs, memory; the whole request's time."""
    resources, words = job.resources, list[str]()
    hosts = resources.total_nodes
    by_node = resources.nodes is not None or resources.processes_per_node is not None
    if by_node:
        words += ["-b", str(hosts)]
    asked = (resources.nodes, resources.processes, resources.processes_per_node, resources.cores)
    ranks = resources.total_processes // hosts
    if any(value is not None for value in asked):
        words += ["-l", f"cpunum_job={ranks * (resources.cores or 1)}"]
    if resources.total_gpus:
        words += ["-l", f"gpunum_job={ranks * (resources.gpus or 0)}"]
    if resources.memory_bytes is not None:
        words += ["-l", f"memsz_job={-(-resources.memory_bytes // (hosts << 10))}kb"]
    if resources.exclusive:
        words.append("--exclusive")
    if job.limits.walltime_s is not None:
        whole = int(-(-job.limits.walltime_s // 1))
        words += ["-l", f"elapstim_req={whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"]
    return words


def _answer(result: Result) -> Answer:
    """Rows; and whether each that was asked for is told of, as a request or as one that does not exist."""
    said = result.error_text
    text, code = unmarked(result)
    gone = set(_GONE.findall(f"{text}\n{said}"))
    if code != 0 and not gone:
        raise no_answer(said, "it failed")
    found, unparsed = records(text)
    asked = [word for word in result.argv[1:] if ID.fullmatch(word)]
    complete = not unparsed and {*found, *gone}.issuperset(asked)
    if not found and not gone and (said or unparsed):
        raise no_answer(said or unparsed[0])
    return Answer(
        rows=tuple(row_of(native_id, fields) for native_id, fields in found.items()), unparsed=tuple(unparsed), complete=complete
    )


def _refusal(action: Action, line: str, code: int) -> JobyardError | None:
    text = f"nqsv cannot {action}: {line.strip()}"
    if _DONE.match(line):
        return None
    if _NOT_THERE.search(line):
        return WrongState(f"{text}; it has ended, or never was there")
    if _NOT_ALLOWED.search(line):
        return NotPermitted(text)
    if _WRONG_STATE.search(line):
        return WrongState(text)
    return ControlError(text) if code else None
