"""The dialect of OpenPBS and PBS Professional: qsub, qstat, qdel, qhold, qrls, qsig, qselect.

What is built on was measured on OpenPBS 23.06 unless said. ``-F dsv`` is what can be asked of many jobs at once: ``-F json``
prints the first of several ids and exits with 0, and plain text wraps its lines. The queue is asked without ``-x``, which a
server without job history (the default) refuses even for running jobs; how jobs ended is asked with it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ...errors import ControlError, JobyardError, SchedulerUnavailable, SubmitError
from ...job import By, JobDescription, JobState
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
from ..dialects import AFTER, asked_ids, in_parts, no_answer, ranges
from .family import MOST_ACTED_ON, asked_for, limits, named_in, parent, printed_id, refusal
from .options import attribute_words, begin_words, check_common, checked_options, mail_words, seconds, shown_name
from .rows import ID, PARENT, held_by, records, row_of

__all__ = ["PbsDialect"]

UTC: Mapping[str, str] = {"TZ": "UTC0"}  # the commands write and read moments in their own time zone, and say none
MOST_IDS = 2000  # that one command names; where there are more, all jobs are listed
NAME_LENGTH = 230  # 240 is "too long", 60 is not
HISTORY_OFF = "not configured to maintain job history"

# Exit statuses: PBS's error number modulo 256.
FINISHED, UNKNOWN_ID = 35, 153
_LATER = {38, 173}  # a limit on queued jobs; a queue that is disabled

_TAKE_ARGUMENT = "aAcCeJjklmMNopPqrRSuvW"
_OURS = {
    "a": "begin_at", "C": "jobyard's own script", "d": "directory", "e": "stderr", "h": "hold", "I": "jobyard run",
    "j": "join_streams", "J": "submit_array", "k": "stdout", "N": "name", "o": "stdout", "r": "rerunnable", "R": "stdout",
    "S": "jobyard's own script", "X": "jobyard run", "z": "the id that submit gives",
    "block": "wait", "depend": "after", "run_count": "rerunnable", "max_run_subjobs": "max_running", "sandbox": "directory",
}  # fmt: skip

_FINISHED = re.compile(r"^\S+: (\S+) Job has finished, use -x", re.MULTILINE)
# The second: an id of a server that there is not (exit 1).
_UNKNOWN = re.compile(r"^\S+: (?:Unknown Job Id|illegally formed job identifier:) (\S+)", re.MULTILINE)
_AWAY = re.compile(
    r"cannot connect|Connection (refused|timed out|reset)|Failed to recv|Couldn't connect|End of File|No route", re.I
)

# All jobs of whoever runs it. ``$1``: options of qselect and qstat ("-x": those of the history, too); ``$2``: "-t" for tasks.
_ALL_MINE = """\
ids=$(qselect $1 -u "$(id -un)") || exit
[ -n "$ids" ] || exit 0
qstat $1 $2 -f -F dsv $ids
code=$?
case $code in
35 | 153) exit 0 ;;  # a job ended between the two commands
esac
exit $code
"""
# Hold or release an array if ``$2`` is all that is left of it: one task alone cannot be (error 156). ``$3``: qhold or qrls.
_WHOLE_ARRAY = """\
said=$(qstat -f -F dsv "$1") || exit
case "$said" in
*"|array_indices_remaining=$2|"*) exec "$3" "$1" ;;
esac
echo "jobyard: not the whole array $1" >&2
exit 77
"""
_NOT_WHOLE = 77


class PbsDialect:
    """Dialect of jobyard.schedulers.base for PBS."""

    name = "pbs"
    programs: tuple[str, ...] = ("qsub", "qstat", "qdel", "qselect", "pbs_rstat")
    hint = "put PBS's bin folder (often /opt/pbs/bin) on PATH, or log in where its commands are"
    traits = Traits(
        native_id_variables=("PBS_JOBID",),
        array_id_variables=("PBS_ARRAY_ID",),
        index_variables=("PBS_ARRAY_INDEX",),
        positions=True,
        variables=("PBS_ARRAY_",),
    )
    capabilities = Capabilities(
        attributes=frozenset({
            "nodes", "processes", "processes_per_node", "cores", "gpus", "memory_bytes", "exclusive", "walltime_s", "cpu_time_s",
            "queue", "account", "reservation", "priority", "begin_at", "hold", "rerunnable", "native", "email",
        }),
        actions=frozenset({Action.CANCEL, Action.HOLD, Action.RELEASE, Action.SUSPEND, Action.RESUME}),
        arrays=True,
        max_running=True,
        per_task_control=False,
        dependencies=frozenset({"success", "failure", "any"}),
        accounting=True,
        shows_suspended=False,
        notes={
            Action.SIGNAL: "a signal ends the login shell that PBS runs a job in, and so the job; cancel or suspend it",
            Action.REQUEUE: "qrerun is kept for operators",
            "run_time_s": "set walltime",
        },
    )  # fmt: skip

    # Submission

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        check_common(self.name, description, priority=1024)
        checked_options(self.name, description.native, _TAKE_ARGUMENT, _OURS, field="native")
        attribute_words(self.name, description, _TAKE_ARGUMENT, _OURS)

    def directives(self, submission: Submission) -> Sequence[str]:
        return ()

    def submit_command(self, submission: Submission, script: str) -> Command:
        job = submission.description
        argv = ["qsub", *mail_words(job), *job.native, *attribute_words(self.name, job, _TAKE_ARGUMENT, _OURS)]
        # Streams are the shepherd's. A file in the job's folder would be delivered after the folder is gone.
        argv += ["-N", shown_name(job.shown_name, NAME_LENGTH), "-j", "oe", "-o", "/dev/null"]
        argv += ["-r", "y" if job.rerunnable else "n", *_resources(job), *begin_words(job)]
        destination = job.reservation or job.queue
        if destination is not None:
            argv += ["-q", destination]
        argv += asked_for(job)
        if submission.after:
            argv += ["-W", "depend=" + ",".join(f"{AFTER[when]}:{native_id}" for native_id, when in submission.after)]
        if _is_array(submission):
            cap = f"%{submission.max_running}" if submission.max_running is not None else ""
            argv += ["-J", f"0-{len(submission.indices) - 1}{cap}"]
        elif submission.kind is not Kind.SINGLE:  # an array of one is refused: a job that sees itself as one
            argv += ["-v", "PBS_ARRAY_INDEX=0"]
        return Command(argv=(*argv, script), directory=submission.folder, environment=UTC)

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        said = result.error_text
        if result.returncode < 0 or (result.returncode > 0 and (result.returncode in (162, 255) or _AWAY.search(said))):
            raise no_answer(said)
        if result.returncode > 0:
            line = said.partition("\n")[0].removeprefix("qsub: ") or f"exit code {result.returncode}"
            raise SubmitError(f"pbs refused the job: {line}", retryable=result.returncode in _LATER, output=said)
        return _accepted(printed_id(result, array=_is_array(submission)), submission)

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        return [_all_mine(), _all_mine("-x")]

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        by_token = {submission.token: submission for submission in submissions}
        found: dict[str, Accepted] = {}
        for result in results:
            if HISTORY_OFF in result.error_text:  # then the queue's word is all there is
                continue
            if result.returncode not in (0, FINISHED, UNKNOWN_ID):
                raise no_answer(result.error_text, "it failed")
            jobs, unparsed = records(result.text)
            for native_id, fields in jobs:
                row = row_of(native_id, fields)
                submission = by_token.get(row.token or "")
                if submission is not None and (PARENT in native_id) == _is_array(submission):
                    found.setdefault(submission.token, _accepted(native_id, submission))
            if unparsed and len(found) < len(by_token):
                raise SchedulerUnavailable(f"what is no row may be the job: {unparsed[0]}")
        return found

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        return _ask(native_ids)

    def parse_query(self, result: Result) -> Answer:
        return _answer(result)

    def account_command(self, native_ids: Collection[str]) -> Command | None:
        return _ask(native_ids, "-x")

    def parse_account(self, result: Result) -> Answer:
        return _answer(result)

    def list_command(self) -> Command:
        return _all_mine("", "-t")

    def parse_list(self, result: Result) -> Sequence[Row]:
        return _answer(result).rows

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        known = asked_ids(native_ids, ID)
        commands: list[tuple[Command, tuple[str, ...]]] = []
        if action in (Action.HOLD, Action.RELEASE):
            arrays: dict[str, list[str]] = {}
            for one in known:
                if "[" in one:
                    arrays.setdefault(parent(one), []).append(one)
            program = "qhold" if action is Action.HOLD else "qrls"
            for array, tasks in arrays.items():
                numbers = [int(match[1]) for one in tasks if (match := re.search(r"\[([0-9]+)\]", one))]
                argv = ("/bin/sh", "-c", _WHOLE_ARRAY, "sh", array, ranges(numbers), program)
                commands.append((Command(argv=argv), tuple(tasks)))
            known = [one for one in known if "[" not in one]
            words = [program]
        else:
            words = {Action.CANCEL: ["qdel"], Action.SUSPEND: ["qsig", "-s", "STOP"], Action.RESUME: ["qsig", "-s", "CONT"]}[action]
        return [*commands, *((Command(argv=(*words, *part)), part) for part in in_parts(known, ID, MOST_ACTED_ON))]

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        """Silence and exit 0: done. Else each line names its job, but for "Job has finished" of qhold, qrls and qsig."""
        said = result.error_text
        if result.returncode == 0:
            return dict.fromkeys(native_ids)
        if result.returncode < 0 or result.returncode in (162, 255) or _AWAY.search(said):
            raise no_answer(said)
        if result.returncode == _NOT_WHOLE:
            why = f"pbs cannot {action} one task of an array; {action} all that are left of it"
            return {one: ControlError(f"{why} (job {one})") for one in native_ids}
        answers: dict[str, JobyardError | None] = {}
        nameless: list[JobyardError] = []
        for line in said.splitlines():
            error = refusal(self.name, action, line)
            named = named_in(line, native_ids)
            if "[" in "".join(native_ids) and not named:
                named = [one for one in native_ids if parent(one) in line]
            answers.update(dict.fromkeys(named, error))
            if not named and "finished" in line:
                nameless.append(error)
        silent = [one for one in native_ids if one not in answers]
        if nameless and len(silent) == 1:
            answers[silent[0]] = nameless[0]
        elif not nameless and answers and action is Action.CANCEL:
            # qdel of many goes to the server as one request; those that it does not complain of are deleted.
            answers.update(dict.fromkeys(silent))
        if not answers:
            raise no_answer(said, "it says nothing of the jobs")
        return answers

    # The site

    def limits_command(self) -> Command | None:
        return Command(argv=("qstat", "-B", "-f"))

    def parse_limits(self, result: Result) -> SiteLimits:
        return limits(result, "max_array_size")

    def version_command(self) -> Command:
        return Command(argv=("qstat", "--version"))

    def parse_version(self, result: Result) -> str:
        match = re.search(r"pbs_version = ([0-9A-Za-z][0-9A-Za-z.~+-]*)", result.text, re.ASCII)
        if result.returncode != 0 or match is None:
            raise SchedulerUnavailable("it tells no pbs_version; this qstat may be another scheduler's")
        return f"pbs {match[1]}"


# Submission -----------------------------------------------------------------------------------------------------------


def _is_array(submission: Submission) -> bool:
    """Whether it is an array to PBS, which refuses one of a single task."""
    return submission.kind is not Kind.SINGLE and len(submission.indices) > 1


def _accepted(native_id: str, submission: Submission) -> Accepted:
    if submission.kind is Kind.SINGLE:
        return Accepted((native_id,))
    if not _is_array(submission):
        return Accepted((native_id,), native_id)
    before, _, after = native_id.partition(PARENT)
    return Accepted(tuple(f"{before}[{n}]{after}" for n in range(len(submission.indices))), native_id)


def _resources(job: JobDescription) -> list[str]:
    """``-l select=`` in chunks: one for each node where nodes were asked for, else one for each process."""
    resources, words = job.resources, list[str]()
    asked = (resources.nodes, resources.processes, resources.processes_per_node, resources.cores, resources.memory_bytes)
    if any(value is not None for value in asked) or resources.total_gpus or resources.exclusive:
        by_node = resources.nodes is not None or resources.processes_per_node is not None
        chunks = resources.total_nodes if by_node else resources.total_processes
        ranks = resources.total_processes // chunks
        chunk = f"{chunks}:ncpus={ranks * (resources.cores or 1)}:mpiprocs={ranks}"
        if resources.total_gpus:
            chunk += f":ngpus={ranks * (resources.gpus or 0)}"
        if resources.memory_bytes is not None:
            chunk += f":mem={-(-resources.memory_bytes // chunks)}b"
        words += ["-l", f"select={chunk}"]
        place = [*(["scatter"] if by_node and chunks > 1 else []), *(["exclhost"] if resources.exclusive else [])]
        if place:
            words += ["-l", "place=" + ":".join(place)]
    if job.limits.walltime_s is not None:
        words += ["-l", f"walltime={seconds(job.limits.walltime_s)}"]
    return words


# Questions ------------------------------------------------------------------------------------------------------------


def _all_mine(history: str = "", tasks: str = "") -> Command:
    return Command(argv=("/bin/sh", "-c", _ALL_MINE, "sh", history, tasks), environment=UTC)


def _ask(native_ids: Collection[str], *history: str) -> Command:
    """``qstat -f`` of these: an array at once, with its tasks (``-t``). All of the user's where none can be named."""
    ids = asked_ids(native_ids, ID, parent)
    if not ids or len(ids) > MOST_IDS:
        return _all_mine("".join(history), "-t")
    tasks = ("-t",) if any(PARENT in one for one in ids) else ()
    argv = ("qstat", *history, *tasks, "-f", "-F", "dsv", *ids)
    return Command(argv=argv, environment=UTC, timeout_s=60.0 + 0.02 * len(native_ids))


def _answer(result: Result) -> Answer:
    """Rows; and whether each id that was asked for is told of: as a row, as finished, or as unknown."""
    said = result.error_text
    off = HISTORY_OFF in said
    if result.returncode not in (0, FINISHED, UNKNOWN_ID) and not off and not (result.returncode == 1 and _UNKNOWN.search(said)):
        raise no_answer(said, "it failed")
    jobs, unparsed = records(result.text)
    holders = {one: held_by(fields.get("Hold_Types", "n")) for one, fields in jobs if PARENT in one}
    rows = [_held(row_of(one, fields), holders) for one, fields in jobs if PARENT not in one]
    finished = _FINISHED.findall(said)
    rows += [
        Row(native_id=one, native_state="F", ended=True) for one in finished if PARENT not in one and ID.fullmatch(one)
    ]  # fmt: skip
    told = {*(one for one, _ in jobs), *finished, *_UNKNOWN.findall(said)}
    told |= {one.partition(".")[0] for one in told}  # an id may be asked for without its server
    asked = [word for word in result.argv[1:] if ID.fullmatch(word)]
    return Answer(rows=tuple(rows), unparsed=tuple(unparsed), complete=not unparsed and (off or told.issuperset(asked)))


def _held(row: Row, holders: Mapping[str, By | None]) -> Row:
    """A task that has not begun is held where its array is."""
    holder = holders.get(parent(row.native_id)) if row.state is JobState.QUEUED and "[" in row.native_id else None
    if holder is None:
        return row
    return Row(**{**{name: getattr(row, name) for name in Row.__struct_fields__}, "state": JobState.HELD, "by": holder})
