"""The dialect of OAR: oarsub, oarstat, oardel, oarhold, oarresume. Measured on OAR 2.5.9 unless said.

A job is known by the id of its first run (rows.py). oarstat ends with 0 and prints nothing when the database fails while it is
asked, and complains on standard error only where the site's LOG_LEVEL is 3: so each question is about OAR's newest job, too, and an
answer without any job is none.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Collection, Mapping, Sequence

import msgspec

from ...errors import ControlError, JobyardError, NotPermitted, SchedulerUnavailable, SubmitError, UnknownJob, WrongState
from ...job import JobDescription, signal_name
from ..base import Accepted, Action, Answer, Capabilities, Command, Kind, Result, Submission, Traits
from ..dialects import QueueDialect, asked_ids, check_count, in_parts, no_answer, placed
from ..finding import accepted_by_members
from .request import Names, check, job_types, mail_words, moments, needs_site, resource_words, shown_name
from .rows import ID, TOKEN, records, rows_of

__all__ = ["OarDialect"]

MOST_IDS = 2000  # that one question names; where there are more, several questions are asked by one command
MOST_ACTED_ON = 2000
ARRAY = "[]"  # what stands behind an array's id: its first task has the same number
UNTOUCHED = ("TZ",)  # moments are written in the login host's own time zone, as the server reads them

_AWAY = re.compile(
    r"DBD::|DBI connect|DBI->|DB connection|[Cc]annot connect|could not connect|Connection (refused|reset|timed out)|"
    r"Can't call method|server closed the connection|lost connection|OARDO"
)
_NOTIFIED = re.compile(r"Cannot connect to executor")  # the job is in the database, and runs when the server is back
_ADMISSION = "[ADMISSION RULE] "
_IDLE = re.compile(r"^DBD::|^LINE |^\s*[\^)]|Oarsub failed|array job submission is used")  # says nothing of the reason

# Submit a job that waits for others, or for a moment. ``$1``: words like "postpone=SECONDS"; ``$2``: which jobs it waits for, as a
# condition on OAR's table of jobs; ``$3``: the script; then the command's own words.
_SUBMIT = """\
moments=$1 after=$2 script=$3
shift 3
for one in $moments; do
    at=$(date -d "@${one#*=}" '+%Y-%m-%d %H:%M:%S') || exit
    set -- "$@" -t "${one%%=*}=$at"
done
if [ -n "$after" ]; then
    ids=$(oarstat -J --sql "$after" | sed -n 's/^ *"Job_Id" : \\([0-9]*\\),\\{0,1\\}$/\\1/p')
    [ -n "$ids" ] || { echo "jobyard: OAR does not tell the jobs to wait for ($after)" >&2; exit 77; }
    for id in $ids; do set -- "$@" -a "$id"; done
fi
exec "$@" "$script"
"""
# Hold and resume only note what is wanted; the server does it when it comes to it. ``$1``: the command; ``$2``: the state that is
# to be left. Nothing is lost where the server is away: the note stands.
_UNTIL_LEFT = """\
program=$1 left=$2
shift 2
"$program" "$@"
code=$?
asked=
for id; do asked="$asked -j $id"; done
n=0
while [ $n -lt 20 ] && oarstat -s $asked 2>/dev/null | grep -q ": $left\\$"; do n=$((n + 1)); sleep 0.3; done
exit $code
"""
# OAR leaves the name of a signal in a file on the node, where the next one would take its place, and tells nobody when it was read.
_SIGNAL = """\
name=$1
shift
oardel -s "$name" "$@"
code=$?
sleep 0.5
exit $code
"""
# More jobs than one word of a command can name: conditions on standard input, a line each.
_ONE_BY_ONE = """\
while IFS= read -r condition; do
    said=$(oarstat -f -J --sql "$condition" </dev/null) || exit
    [ -n "$said" ] || exit 70
    printf '%s\\n' "$said"
done
"""


class OarDialect(QueueDialect):
    """Dialect of jobyard.schedulers.base for OAR. ``properties``: those of the site's resources; None while they are not known."""

    name = "oar"
    programs: tuple[str, ...] = ("oarsub", "oarstat", "oardel", "oarhold", "oarresume")
    hint = "install OAR's commands (Debian: oar-user), or log in on the frontend where they are"
    # The first run's id, which OAR tells nobody, is worked out by the batch script (``directives``).
    traits = Traits(
        native_id_variables=("JOBYARD_OAR_ID",),
        array_id_variables=("JOBYARD_OAR_ARRAY",),
        index_variables=("OAR_ARRAY_INDEX", "OAR_ARRAYINDEX"),
        index_offset=1,
        positions=True,
        own_group=True,
        variables=("OAR_ARRAY_ID", "OAR_ARRAYID", "OAR_ARRAY_INDEX", "OAR_ARRAYINDEX"),
    )
    capabilities = Capabilities(
        attributes=frozenset({
            "nodes", "processes", "processes_per_node", "cores", "gpus", "exclusive", "walltime_s",
            "soft_walltime_s", "cpu_time_s", "queue", "account", "reservation", "begin_at", "deadline_at", "hold", "rerunnable",
            "native", "email",
        }),
        actions=frozenset({Action.CANCEL, Action.HOLD, Action.RELEASE, Action.SUSPEND, Action.RESUME, Action.SIGNAL}),
        arrays=True,
        max_running=False,
        per_task_control=True,
        dependencies=frozenset({"any"}),
        accounting=False,
        shows_suspended=False,
        notes={
            "memory_bytes": "it books none; where a property tells the memory of nodes, name it with memory= in the contact",
            "priority": "it has none for users; choose a queue",
            "run_time_s": "set walltime",
            "soft_run_time_s": "set soft_walltime and walltime",
            "after": "a job can wait for another one's end, whatever it is: 'any'",
            "max_running": "submit so many jobs at a time, or ask for resources that there are few of",
            Action.REQUEUE: "submit the job again, or let it be rerunnable in the queue besteffort",
        },
    )  # fmt: skip

    def __init__(self, names: Names | None = None, properties: frozenset[str] | None = None) -> None:
        self.names = names or Names()
        self.properties = properties
        if self.names.memory is not None:
            with_memory = self.capabilities.attributes | {"memory_bytes"}
            self.capabilities = msgspec.structs.replace(self.capabilities, attributes=with_memory)

    # Submission

    def traits_of(self, submission: Submission) -> Traits:
        """An idempotent job that ran for a minute and ends with 99 is run again (NodeChangeState)."""
        if submission.description.rerunnable:
            return msgspec.structs.replace(self.traits, exit_map={"99": 1})
        return self.traits

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        check(description, self.names, self.properties, kind=kind)

    def needs_site(self, description: JobDescription) -> bool:
        """The job can be checked only when the site's properties are known."""
        return needs_site(description, self.names)

    def directives(self, submission: Submission) -> Sequence[str]:
        """The ids of an array follow each other, and each job is in one."""
        lines = ["JOBYARD_OAR_ID=$((OAR_ARRAY_ID + OAR_ARRAY_INDEX - 1))", "export JOBYARD_OAR_ID"]
        if submission.kind is not Kind.SINGLE:
            lines += [f'JOBYARD_OAR_ARRAY="${{OAR_ARRAY_ID}}{ARRAY}"', "export JOBYARD_OAR_ARRAY"]
        return lines

    def submit_command(self, submission: Submission, script: str) -> Command:
        if re.search(r"""['"\\$`\s;&|<>()*?\[\]#~!{}]""", submission.folder):
            raise SubmitError(
                f"oar: the folder of jobs {submission.folder!r} holds characters that OAR does not quote on its nodes; set "
                "JOBYARD_WORK_DIR to one without blanks and quotes"
            )
        job = submission.description
        argv = ["oarsub", *resource_words(job, self.names, self.properties or ()), "-n", shown_name(job.shown_name)]
        # Streams are the shepherd's. A file in the job's folder would be delivered after the folder is gone.
        argv += ["-d", submission.folder, "-O", "/dev/null", "-E", "/dev/null", *job_types(job, submission.kind), *mail_words(job)]
        argv += placed(job, account="--project", hold="--hold")
        if submission.kind is not Kind.SINGLE:
            argv += ["--array", str(len(submission.indices))]
        when = " ".join(f"{name}={seconds}" for name, seconds in moments(job).items())
        after = " OR ".join(_runs_of([native_id]) for native_id, _ in submission.after)
        if when or after:
            argv = ["/bin/sh", "-c", _SUBMIT, "sh", when, after, script, *argv]
        else:
            argv.append(script)
        return Command(argv=tuple(argv), directory=submission.folder, without=UNTOUCHED)

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        """Ids; a job that the server could not be told of is in the database, and runs when the server is back."""
        said = result.error_text
        printed = re.findall(r"^OAR_JOB_ID= ?([1-9][0-9]{0,17})$", result.text, re.MULTILINE | re.ASCII)
        if result.returncode == 0 or (printed and _NOTIFIED.search(said)):
            return _accepted([int(one) for one in printed], submission)
        if result.returncode < 0 or (_AWAY.search(said) and "Bad resource request" not in said):
            raise no_answer(said)
        lines = [
            line.removeprefix(_ADMISSION) for line in said.splitlines() if line.strip() and not line.startswith(("DBD:", "LINE"))
        ]
        lines = [line for line in lines if not re.search(r"Oarsub failed|array job submission|^\s*\^|^\s*\)", line)]
        if not lines:  # admission rules that refuse are told on standard output
            lines = [line.removeprefix(_ADMISSION) for line in result.text.splitlines() if line.startswith(_ADMISSION)][-1:]
        raise SubmitError(
            f"oar refused the job: {lines[0] if lines else f'exit code {result.returncode}'}", output=said or result.text
        )

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        """The folder is in no index of OAR's: its name is enough, whatever the path before it."""
        tokens = [one.token for one in submissions if TOKEN.fullmatch(one.token)]
        commands = []
        for at in range(0, len(tokens), 500):
            some = " OR ".join(f"launching_directory LIKE '%/{token}'" for token in tokens[at : at + 500])
            commands.append(_ask(some))
        return commands

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """Of an array, all its jobs or none: OAR adds them at once."""
        return accepted_by_members((_answer(result) for result in results), submissions, _accepted)

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        """Ended jobs too: the queue and the accounting are one question there."""
        ids = asked_ids(native_ids, ID)
        if len(ids) <= MOST_IDS:
            return _ask(_runs_of(ids)) if ids else self.list_command()
        conditions = "".join(f"{_runs_of(ids[at : at + MOST_IDS])}{_NEWEST}\n" for at in range(0, len(ids), MOST_IDS))
        return Command(argv=("/bin/sh", "-c", _ONE_BY_ONE), stdin=conditions.encode("ascii"), timeout_s=60.0 + 0.02 * len(ids))

    def parse_query(self, result: Result) -> Answer:
        return _answer(result)

    def list_command(self) -> Command:
        return Command(argv=("oarstat", "-f", "-J", "-u"))

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        """Cancel: the later runs of these jobs with them. Suspend and resume: by the shepherd, as oarhold -r needs cpusets."""
        words: list[str] = ["oardel"]
        number = {Action.SUSPEND: signals.SIGTSTP, Action.RESUME: signals.SIGCONT, Action.SIGNAL: signal or 15}.get(action)
        if number is not None:
            words = ["/bin/sh", "-c", _SIGNAL, "sh", signal_name(number).removeprefix("SIG")]
        elif action in (Action.HOLD, Action.RELEASE):
            program, left = ("oarhold", "Waiting") if action is Action.HOLD else ("oarresume", "Hold")
            words = ["/bin/sh", "-c", _UNTIL_LEFT, "sh", program, left]
        commands: list[tuple[Command, tuple[str, ...]]] = []
        for some in in_parts(native_ids, ID, MOST_ACTED_ON):
            more = ["--sql", f"state NOT IN ('Terminated', 'Error') AND {_later_runs(some)}"] if action is Action.CANCEL else []
            command = Command(argv=(*words, *some, *more), timeout_s=60.0 + 0.5 * len(some))
            commands.append((command, some))
        return commands

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        """Each job gets a line, on standard output where it was done, on standard error where not."""
        said = result.error_text
        answers: dict[str, JobyardError | None] = {}
        for native_id in re.findall(_DONE[action], result.text, re.MULTILINE | re.ASCII):
            if native_id in native_ids:
                answers[native_id] = None
        for native_id, why in re.findall(r"Cannot \w+ ([0-9]{1,18}) ?[:;] ?(.+)", said, re.ASCII):
            if native_id in native_ids and native_id not in answers:
                done = action is Action.CANCEL and "already killed" in why
                answers[native_id] = None if done else _refusal(action, native_id, why)
        if not answers and (result.returncode < 0 or _AWAY.search(said) or said or not result.text.strip()):
            raise no_answer(said, "it says nothing of the jobs")
        return answers

    # The site

    def site_command(self) -> Command:
        """One resource, with all its properties: they are the same for all."""
        return Command(argv=("oarnodes", "-J", "--sql", "resource_id IN (SELECT MIN(resource_id) FROM resources)"))

    def parse_site(self, result: Result) -> frozenset[str]:
        """The properties that resources have here."""
        names = re.findall(r'^ +"([a-z][a-z0-9_]*)" : ', result.text, re.MULTILINE | re.ASCII)
        if result.returncode != 0 or "resource_id" not in names:
            raise SchedulerUnavailable("oarnodes does not tell the site's properties")
        return frozenset(names)

    def knowing(self, result: Result) -> OarDialect:
        """As SiteDialect.knowing."""
        return OarDialect(self.names, self.parse_site(result))

    def version_command(self) -> Command:
        return Command(argv=("oarsub", "--version"))

    def parse_version(self, result: Result) -> str:
        match = re.search(r"^OAR version : ([0-9][0-9A-Za-z.+~-]*)", result.text, re.MULTILINE | re.ASCII)
        if result.returncode != 0 or match is None:
            raise SchedulerUnavailable("it tells no version of OAR")
        return f"oar {match[1]}"


# How each command says that it did it to a job.
_DONE: Mapping[Action, str] = {
    Action.CANCEL: r"^Deleting the job = ([0-9]{1,18}) \.\.\.REGISTERED\.",
    Action.HOLD: r"^\[([0-9]{1,18})\] Hold request was sent",
    Action.RELEASE: r"^\[([0-9]{1,18})\] Resume request was sent",
    **dict.fromkeys(
        (Action.SIGNAL, Action.SUSPEND, Action.RESUME), r"^Signaling the job ([0-9]{1,18}) with \S+ signal\.\n(?=DONE)"
    ),
}


# Submission -----------------------------------------------------------------------------------------------------------


def _accepted(ids: Sequence[int], submission: Submission) -> Accepted:
    """They follow each other, or what rows.py and the batch script count on is not so here."""
    check_count(ids, submission)
    if list(ids) != list(range(ids[0], ids[0] + len(ids))):
        raise SchedulerUnavailable("the ids of the array do not follow each other")
    return Accepted(tuple(map(str, ids)), None if submission.kind is Kind.SINGLE else f"{ids[0]}{ARRAY}")


# Conditions on OAR's table of jobs --------------------------------------------------------------------------------------


def _runs_of(native_ids: Sequence[str]) -> str:
    """All runs of these jobs, and of their whole arrays where some were run again; an id with ``[]``: the whole array."""
    arrays = [one.removesuffix(ARRAY) for one in native_ids if one.endswith(ARRAY)]
    jobs = [one for one in native_ids if not one.endswith(ARRAY)]
    parts = [f"array_id IN ({','.join(arrays)})"] if arrays else []
    if jobs:
        # Not joined by OR: the database would look at all jobs that there ever were.
        parts.append(
            f"job_id IN (SELECT job_id FROM jobs WHERE job_id IN ({','.join(jobs)}) "
            f"UNION SELECT job_id FROM jobs WHERE {_later_runs(jobs)})"
        )
    return " OR ".join(parts)


def _later_runs(native_ids: Sequence[str]) -> str:
    ids = ",".join(native_ids)
    return (
        f"resubmit_job_id <> 0 AND array_id IN (SELECT array_id FROM jobs WHERE job_id IN ({ids})) "
        f"AND array_id + array_index - 1 IN ({ids})"
    )


_NEWEST = " OR job_id = (SELECT MAX(job_id) FROM jobs)"


def _ask(condition: str) -> Command:
    return Command(argv=("oarstat", "-f", "-J", "--sql", condition + _NEWEST))


# Answers --------------------------------------------------------------------------------------------------------------


def _answer(result: Result) -> Answer:
    said = result.error_text
    if result.returncode != 0 or _AWAY.search(said):
        raise no_answer(said, "it failed")
    found, unparsed, whole = records(result.text)
    if not found and (not whole or "--sql" in result.argv):
        raise SchedulerUnavailable("it printed no jobs, not even the newest")
    return Answer(rows=tuple(rows_of(found)), unparsed=tuple(unparsed), complete=whole and not said)


def _refusal(action: Action, native_id: str, why: str) -> JobyardError:
    text = f"oar cannot {action} job {native_id}: {why}"
    if "does not exist" in why or "not the right user" in why:  # oardel says the latter of jobs that there are not
        return UnknownJob(text) if "does not exist" in why or action in (Action.CANCEL, Action.SIGNAL) else NotPermitted(text)
    if re.search(r"not running|not in the|right state|already", why):
        return WrongState(text)
    if "only oar or root" in why:
        return NotPermitted(text)
    return ControlError(text)
