"""The dialect of Flux: flux submit, jobs, cancel, job kill and job urgency. Measured on Flux 0.88 unless said.

Ids are told as decimal numbers: commands print them in base 58, with an ``ƒ`` or, in the C locale, an ``f``, and take all forms.
Flux has no array jobs: ``--cc`` submits as many jobs in one command, each a job of its own; what they have in common is our token.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Collection, Mapping, Sequence

from ...errors import (
    ControlError,
    InvalidJob,
    JobyardError,
    NotPermitted,
    SchedulerUnavailable,
    SubmitError,
    UnknownJob,
    WrongState,
)
from ...job import JobDescription, signal_name
from ..base import Accepted, Action, Answer, Capabilities, Command, Kind, Result, Submission, Traits
from ..dialects import AFTER, QueueDialect, asked_ids, check_count, check_one_node, in_parts, no_answer, ranges
from ..finding import accepted_by_members
from .rows import ID, TOKEN, decimal, records, row_of

__all__ = ["FluxDialect"]

MOST_IDS = 1000
MOST_ACTED_ON = 500
URGENCY = 16  # Flux's default; 0 holds, 31 is for the instance's owner

_FLAGS = frozenset({"-v", "--verbose", "--exclusive", "-x", "--coral2-thicket"})
_OURS = {
    "--cc": "submit_array", "--bcc": "submit_array", "--cwd": "directory", "--output": "stdout", "--error": "stderr",
    "--input": "stdin", "--env": "environment", "--env-remove": "environment", "--env-file": "environment", "--wait": "wait",
    "--watch": "jobyard run", "--urgency": "priority", "--dependency": "after", "--begin-time": "begin_at", "--dry-run": "check",
    "--job-name": "name", "--ntasks": "processes", "-n": "processes", "--nodes": "nodes", "-N": "nodes",
    "--quiet": "jobyard submit", "-q": "queue", "--queue": "queue", "--bank": "account", "-B": "account",
    "--time-limit": "walltime", "-t": "walltime",
    "--cores-per-task": "cores", "-c": "cores", "--gpus-per-task": "gpus", "-g": "gpus", "--progress": "jobyard wait",
    "--jps": "jobyard wait", "--wait-event": "wait", "--log": "stdout", "--log-stderr": "stderr", "--flags": "hold",
    "-h": "jobyard help", "--help": "jobyard help", "-u": "stdout", "--unbuffered": "stdout", "-l": "stdout",
    "--label-io": "stdout", "--cores": "cores", "--tasks-per-node": "processes_per_node", "--tasks-per-core": "processes_per_node",
}  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/-]*", re.ASCII)

_AWAY = re.compile(
    r"Unable to connect to Flux|Connection (refused|reset)|broker socket|Function not implemented|No route|timed out"
)
_SHOWN = r"[fƒ][1-9A-HJ-NP-Za-km-z]{1,12}|[0-9]{1,20}"
_UNKNOWN = re.compile(rf"^JobID ({_SHOWN}) unknown", re.MULTILINE)
_ABOUT = re.compile(rf"(?<![\w])({_SHOWN}): (.+)")

# Submit after the jobs of arrays, which have no id of their own. ``$1``: words like "afterok:TOKEN"; ``$2``: the script; then the
# command's own words.
_AFTER_ARRAYS = """\
wanted=$1 script=$2
shift 2
known=$(flux jobs -a -c 0 -n -o '{id.dec} {cwd}') || exit
for one in $wanted; do
    ids=$(printf '%s\\n' "$known" | sed -n "s|^\\([0-9]*\\) .*/${one#*:}\\$|\\1|p")
    if [ -z "$ids" ]; then echo "jobyard: Flux knows no job of ${one#*:}" >&2; exit 1; fi
    for id in $ids; do set -- "$@" "--dependency=${one%%:*}:$id"; done
done
exec "$@" "$script"
"""
# One command of Flux takes one id here; each answer gets a line. ``$1``: its name, ``$2``: its argument or option.
_EACH = """\
what=$1 value=$2
shift 2
for id; do
    if [ "$what" = kill ]; then said=$(flux job kill -s "$value" "$id" 2>&1); else said=$(flux job urgency "$id" "$value" 2>&1); fi
    code=$?
    printf '%s %s %s\\n' "$id" "$code" "$(printf '%s' "$said" | tr '\\n' ' ')"
done
"""


class FluxDialect(QueueDialect):
    """Dialect of jobyard.schedulers.base for Flux."""

    name = "flux"
    programs: tuple[str, ...] = ("flux",)
    hint = "put the flux command on PATH, or run within a Flux instance"
    traits = Traits(
        native_id_variables=("FLUX_JOB_ID",),
        native_id_base58=True,
        array_id_variables=("JOBYARD_FLUX_ARRAY",),
        index_variables=("FLUX_JOB_CC",),
        variables=("FLUX_JOB_CC", "JOBYARD_FLUX_ARRAY"),
    )
    capabilities = Capabilities(
        attributes=frozenset({
            "processes", "processes_per_node", "cores", "gpus", "exclusive", "walltime_s", "cpu_time_s", "queue", "account",
            "priority", "begin_at", "hold", "rerunnable", "native",
        }),
        actions=frozenset({Action.CANCEL, Action.HOLD, Action.RELEASE, Action.SUSPEND, Action.RESUME, Action.SIGNAL}),
        arrays=True,
        max_running=False,
        per_task_control=True,
        dependencies=frozenset({"success", "failure", "any"}),
        accounting=False,
        shows_suspended=False,
        notes={
            "nodes": "a job is one process on one node that starts the others; ask for its cores and GPUs",
            "memory_bytes": "it books no memory",
            "email": "it sends no mail",
            Action.REQUEUE: "submit the job again",
        },
    )  # fmt: skip

    def __init__(self, server: str | None = None) -> None:
        """``server``: the URI of an instance, instead of FLUX_URI or the system's."""
        self._environment: Mapping[str, str] = {} if server is None else {"FLUX_URI": server}

    def _command(self, *, argv: tuple[str, ...], directory: str | None = None, timeout_s: float = 60.0) -> Command:
        return Command(argv=argv, directory=directory, timeout_s=timeout_s, environment=self._environment)

    # Submission

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        check_one_node(self.name, description.resources, self.capabilities.notes["nodes"])
        for name in ("queue", "account"):
            value = getattr(description, name)
            if value is not None and not _PLAIN.fullmatch(value):
                raise InvalidJob(f"flux: {name} {value!r} is no name of Flux's", field=name)
        priority = description.priority
        if priority is not None and not -URGENCY < priority < URGENCY:
            raise InvalidJob(f"flux: priority is {1 - URGENCY} to {URGENCY - 1}, not {priority}", field="priority")
        if priority and description.hold:
            raise InvalidJob(
                "flux: a held job has no priority of its own (both are its urgency); give one of them", field="priority"
            )
        _check_options(description.native, "native")
        _attribute_words(description)

    def submit_command(self, submission: Submission, script: str) -> Command:
        job = submission.description
        argv = ["flux", "submit", *job.native, *_attribute_words(job), f"--job-name={_shown_name(job)}"]
        argv += [f"--cwd={submission.folder}", "--env=-*", "--output=/dev/null", "--error=/dev/null", *_resources(job)]
        if job.queue is not None:
            argv.append(f"--queue={job.queue}")
        if job.account is not None:
            argv.append(f"--bank={job.account}")
        if job.hold or job.priority:
            argv.append(f"--urgency={0 if job.hold else URGENCY + (job.priority or 0)}")
        if job.begin_at is not None:
            argv.append(f"--dependency=begin-time:{job.begin_at!r}")
        if submission.kind is not Kind.SINGLE:
            argv += [f"--cc={ranges(submission.indices)}", f"--env=JOBYARD_FLUX_ARRAY={submission.token}"]
        arrays: list[str] = []
        for native_id, when in submission.after:
            word = f"{AFTER[when]}:{native_id}"
            if TOKEN.fullmatch(native_id):
                arrays.append(word)
            else:
                argv.append(f"--dependency={word}")
        if arrays:
            return Command(
                argv=("/bin/sh", "-c", _AFTER_ARRAYS, "sh", " ".join(arrays), script, *argv), directory=submission.folder
            )
        return self._command(argv=(*argv, script), directory=submission.folder)

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        said = result.error_text
        if result.returncode < 0 or _AWAY.search(said):
            raise no_answer(said)
        lines = [line.strip() for line in result.text.splitlines()]
        found = [one for line in lines if (one := decimal(line)) is not None]
        if result.returncode > 0:
            if found:
                raise SchedulerUnavailable(f"it took {len(found)} of {len(submission.indices)} jobs: {said.partition(chr(10))[0]}")
            line = said.splitlines()[-1] if said else f"exit code {result.returncode}"
            raise SubmitError(f"flux refused the job: {line.removeprefix('flux-submit: ERROR: ')}", output=said)
        return _accepted(found, submission)

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """Of an array, all its jobs or none: with fewer, the command was cut short, and what it left is refused by the claim."""
        answers = (_answer(result) for result in results)
        return accepted_by_members(answers, submissions, lambda ids, one: _accepted([str(number) for number in ids], one))

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        ids = asked_ids(native_ids, ID)
        if not ids or len(ids) > MOST_IDS:
            return self.list_command()
        return self._command(argv=("flux", "jobs", "--json", *ids))

    def parse_query(self, result: Result) -> Answer:
        return _answer(result)

    def list_command(self) -> Command:
        return self._command(argv=("flux", "jobs", "--json", "-a", "-c", "0"))

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        number = {Action.SUSPEND: signals.SIGSTOP, Action.RESUME: signals.SIGCONT}.get(action, signal or signals.SIGTERM)
        words: tuple[str, ...] = ("/bin/sh", "-c", _EACH, "sh", "kill", signal_name(number))
        if action is Action.CANCEL:
            words = ("flux", "cancel")
        elif action in (Action.HOLD, Action.RELEASE):
            words = ("/bin/sh", "-c", _EACH, "sh", "urgency", "0" if action is Action.HOLD else str(URGENCY))
        parts = in_parts(native_ids, ID, MOST_ACTED_ON)
        return [(self._command(argv=(*words, *part), timeout_s=60.0 + 0.2 * len(part)), part) for part in parts]

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        """Cancel: silence and exit 0; else a line for each that failed, the others are cancelled. The rest: a line for each."""
        if result.returncode < 0 or _AWAY.search(result.error_text) or _AWAY.search(result.text):
            raise no_answer(result.error_text or result.text)
        answers: dict[str, JobyardError | None] = {}
        if action is Action.CANCEL:
            if result.returncode == 0:
                return dict.fromkeys(native_ids)
            for shown, why in _ABOUT.findall(result.error_text):
                native_id = decimal(shown)
                if native_id in native_ids:
                    answers[str(native_id)] = _refusal(action, str(native_id), why)
            if answers:
                answers = {one: answers.get(one) for one in native_ids}
        else:
            for line in result.text.splitlines():
                native_id, code, why = (*line.split(" ", 2), "", "")[:3]
                if native_id in native_ids and code.isdigit():
                    answers[native_id] = None if code == "0" else _refusal(action, native_id, why.strip())
        if not answers:
            raise no_answer(result.error_text, "it says nothing of the jobs")
        return answers

    # The site

    def version_command(self) -> Command:
        return self._command(argv=("flux", "--version"))

    def parse_version(self, result: Result) -> str:
        match = re.search(r"^libflux-core:\s*([0-9][0-9A-Za-z.+-]*)", result.text, re.MULTILINE | re.ASCII)
        if result.returncode != 0 or match is None:
            raise SchedulerUnavailable("it tells no version of libflux-core")
        return f"flux {match[1]}"


# Submission -----------------------------------------------------------------------------------------------------------


def _shown_name(job: JobDescription) -> str:
    """Any name will do, but for what Flux would fill in; the job's own is kept as written."""
    return re.sub(r"[{}\x00-\x1f\x7f]", "_", job.shown_name)


def _accepted(ids: Sequence[str], submission: Submission) -> Accepted:
    check_count(ids, submission)
    return Accepted(tuple(ids), None if submission.kind is Kind.SINGLE else submission.token)


def _resources(job: JobDescription) -> list[str]:
    """One task, on one node, with all cores and GPUs: it is the shepherd, which starts the processes."""
    resources = job.resources
    words = ["-N1", "--exclusive"] if resources.exclusive else []
    words += ["-n1", f"-c{resources.total_cores}"]
    if resources.total_gpus:
        words.append(f"-g{resources.total_gpus}")
    if job.limits.walltime_s is not None:
        words.append(f"--time-limit={job.limits.walltime_s:.3f}s")
    return words


def _check_options(words: Sequence[str], field: str) -> None:
    """InvalidJob: an option that belongs to jobyard, or a word that flux submit would take for the command."""
    may_have_value = False
    for word in words:
        if not word.startswith("-") or len(word) < 2 or word == "--":
            if not may_have_value or word == "--":
                raise InvalidJob(f"flux: {word!r} is no option of flux submit; it would be taken for the command", field=field)
            may_have_value = False
            continue
        name, equals, _ = word.partition("=")
        if not name.startswith("--"):
            name = name[:2]
        matching = [one for one in _OURS if one == name or (len(name) > 3 and one.startswith(name) and name.startswith("--"))]
        if matching:  # argparse takes the beginning of an option for it
            raise InvalidJob(f"flux: {name} belongs to jobyard; use {_OURS[matching[0]]} instead", field=field)
        may_have_value = not equals and word not in _FLAGS and (word.startswith("--") or len(word) == 2)


def _attribute_words(job: JobDescription) -> list[str]:
    """``flux.setattr: "user.k=v"`` as ``--setattr=user.k=v``: what PSI/J's custom attributes ask for. InvalidJob names it."""
    words: list[str] = []
    for key, value in job.attributes.items():
        prefix, _, name = key.partition(".")
        if prefix != "flux":
            continue
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name, re.ASCII):
            raise InvalidJob(f"{key}: flux's attributes are named by a long option of flux submit, like 'flux.setattr'", field=key)
        word = f"--{name}={value}" if value else f"--{name}"
        _check_options([word], key)
        words.append(word)
    return words


# Answers --------------------------------------------------------------------------------------------------------------


def _answer(result: Result) -> Answer:
    """Rows; whole where each id that was asked for is told of, as a job or as unknown."""
    said = result.error_text
    unknown = {one for shown in _UNKNOWN.findall(said) if (one := decimal(shown)) is not None}
    if result.returncode < 0 or _AWAY.search(said) or (result.returncode != 0 and not unknown):
        raise no_answer(said, "it failed")
    found, unparsed, whole = records(result.text)
    asked = [word for word in result.argv[1:] if ID.fullmatch(word) and word != "0"]
    if not found and not unknown and '"jobs"' not in result.text:
        raise SchedulerUnavailable("it printed no jobs")
    rows = tuple(row_of(one) for one in found)
    told = {row.native_id for row in rows} | unknown
    return Answer(rows=rows, unparsed=tuple(unparsed), complete=whole and told.issuperset(asked))


def _refusal(action: Action, native_id: str, why: str) -> JobyardError:
    text = f"flux cannot {action} job {native_id}: {why}"
    if "unknown job" in why:
        return UnknownJob(text)
    if re.search(r"is inactive|is not running|cannot be changed once|invalid state", why):
        return WrongState(text)
    if re.search(r"[Pp]ermi(ssion|tted)|guests", why):
        return NotPermitted(text)
    return ControlError(text)
