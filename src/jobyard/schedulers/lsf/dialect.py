"""The dialect of IBM Spectrum LSF: bsub, bjobs, bkill, bstop, bresume.

No LSF was at hand: options are those of the command reference of 10.1, outputs those that users published (docs/lsf.md says
which). The script comes by standard input: bsub evaluates the words of a command once more, and reads a script only there.
"""

from __future__ import annotations

import re
import shlex
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
from ..base import Accepted, Action, Answer, Capabilities, Command, Kind, Result, Row, SiteLimits, Submission, Traits
from ..dialects import QueueDialect, asked_ids, in_parts, no_answer, placed
from .rows import FIELDS, ID, records, row_of

__all__ = ["LsfDialect"]

MOST_IDS = 2000
MOST_ACTED_ON = 500
NAME_LENGTH = 128
DEFAULT_ARRAY = 1000  # MAX_JOB_ARRAY_SIZE where a site says nothing
# They change what the commands do, or what they print.
_WITHOUT = (
    "LSB_DEFAULTQUEUE",
    "LSB_DEFAULTPROJECT",
    "LSB_BJOBS_FORMAT",
    "LSB_SUB_",
    "BSUB_QUIET",
    "BSUB_QUIET2",
    "LSB_JOB_REPORT_MAIL",
)

_FLAGS = frozenset({"B", "N", "Ne", "r", "rn", "x", "ul", "ti", "csm", "hostfile", "tty"})  # options of bsub without a value
_OURS = {
    "J": "submit_array, or name", "Jd": "tags", "cwd": "directory", "o": "stdout", "oo": "stdout", "e": "stderr", "eo": "stderr",
    "i": "stdin", "is": "stdin", "H": "hold", "r": "rerunnable", "rn": "rerunnable", "w": "after", "ti": "after", "env": "inherit",
    "K": "wait", "L": "jobyard's own script", "Zs": "jobyard's own script", "outdir": "directory", "E": "pre_launch",
    "pack": "submit_all", "h": "jobyard help", "V": "jobyard schedulers",
}  # fmt: skip
_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*", re.ASCII)

_TAKEN = re.compile(r"Job <([0-9]{1,18})> is submitted to")
# "Cannot connect to LSF. Please wait ...": printed, on either stream, for as long as a command tries again; an answer may follow.
_AWAY = re.compile(
    r"daemon not responding|[Cc]annot connect|(LSF|mbatchd|LIM|[Mm]aster).*\bis (currently )?down|[Cc]ommunication|[Tt]imed? ?out"
    r"|[Cc]onnection refused|service not registered|Server is not connected|daemon cannot fork"
)
_LATER = re.compile(r"try (again )?later|limit.* reached|reached its job limit|User's job limit", re.IGNORECASE)
_NOT_FOUND = re.compile(r"Job <([0-9]+(?:\[[0-9]+\])?)>(?: is not found|: No matching job found)")
_DONE = re.compile(r"Job <([0-9]+(?:\[[0-9]+\])?)> is being (?:terminated|stopped|resumed|signaled|requeued|suspended)")
_WRONG_STATE = re.compile(
    r"already finished|not started|[Ii]llegal|[Ss]ignal not supported|not (been )?(suspended|stopped)|already (suspended|stopped)"
)
_REFUSED = re.compile(r"Job <([0-9]+(?:\[[0-9]+\])?)>: (.+)")


class LsfDialect(QueueDialect):
    """Dialect of jobyard.schedulers.base for LSF."""

    name = "lsf"
    programs: tuple[str, ...] = ("bsub", "bjobs", "bkill", "bstop", "bresume")
    hint = "source LSF's profile.lsf, or log in where its commands are"
    traits = Traits(
        native_id_variables=("LSB_JOBID",),
        task_id_template="{LSB_JOBID}[{LSB_JOBINDEX}]",
        array_id_variables=("LSB_JOBID",),
        index_variables=("LSB_JOBINDEX",),
        index_offset=1,
        positions=True,
        variables=("LSB_JOBINDEX", "LSB_JOBINDEX_STEP", "LSB_JOBINDEX_END"),
    )
    capabilities = Capabilities(
        attributes=frozenset({
            "nodes", "processes", "processes_per_node", "cores", "gpus", "memory_bytes", "exclusive", "walltime_s", "cpu_time_s",
            "queue", "account", "reservation", "hold", "rerunnable", "native",
        }),
        actions=frozenset({Action.CANCEL, Action.HOLD, Action.RELEASE, Action.SUSPEND, Action.RESUME, Action.SIGNAL}),
        arrays=True,
        max_running=True,
        per_task_control=True,
        dependencies=frozenset({"success", "failure", "any"}),
        accounting=False,
        notes={
            Action.REQUEUE: "brequeue does not ask whether a job may run twice",
            "begin_at": "ask in native, in LSF's own words: -b [[year:][month:]day:]hour:minute",
            "priority": "ask in native: -sp, where the site has priorities of users",
            "email": "ask in native: -u ADDRESS with -B or -N",
        },
    )  # fmt: skip

    # Submission

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        for name in ("queue", "reservation"):
            value = getattr(description, name)
            if value is not None and not _QUEUE.fullmatch(value):
                raise InvalidJob(f"lsf: {name} {value!r} is no name of LSF's", field=name)
        account = description.account
        if account is not None and (not account or not account.isprintable() or account.startswith("-")):
            raise InvalidJob(f"lsf: account {account!r} cannot be a project's name", field="account")
        _check_options(description.native, "native")
        _attribute_words(description)

    def submit_command(self, submission: Submission, script: str) -> Command:
        job = submission.description
        argv = ["bsub", *job.native, *_attribute_words(job), "-J", _shown_name(submission), "-Jd", submission.token]
        argv += ["-o", "/dev/null", "-cwd", submission.folder, "-env", "none", "-r" if job.rerunnable else "-rn"]
        argv += _resources(job)
        argv += placed(job, account="-P", reservation="-U", hold="-H")
        if submission.after:  # -ti: a job whose condition can no longer be met is ended, not left waiting for ever
            argv += ["-ti", "-w", " && ".join(_condition(native_id, when) for native_id, when in submission.after)]
        text = f"#!/bin/sh\nexec /bin/sh {shlex.quote(script)}\n"
        return Command(
            argv=tuple(argv), stdin=text.encode("utf-8", "surrogateescape"), directory=submission.folder, without=_WITHOUT
        )

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        found = set(_TAKEN.findall(result.text))
        said = result.error_text
        if result.returncode == 0 and len(found) == 1:
            return _accepted(found.pop(), submission)
        if result.returncode <= 0 or found or _AWAY.search(f"{result.text}\n{said}"):
            raise no_answer(said, "it printed no job id")
        line = said.partition("\n")[0] or f"exit code {result.returncode}"
        raise SubmitError(f"lsf refused the job: {line}", retryable=_LATER.search(said) is not None, output=said)

    def accepted(self, native_id: str, submission: Submission) -> Accepted:
        return _accepted(_number(native_id), submission)

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        """``bjobs -a`` of these, an array at once; of all the user's where none can be named."""
        ids = asked_ids(native_ids, ID, _number)
        if not ids or len(ids) > MOST_IDS:
            return self.list_command()
        return _bjobs(*ids)

    def parse_query(self, result: Result) -> Answer:
        return _answer(result)

    def list_command(self) -> Command:
        return _bjobs()

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        words = {
            Action.CANCEL: ("bkill",),
            Action.HOLD: ("bstop",),
            Action.RELEASE: ("bresume",),
            Action.SUSPEND: ("bstop",),
            Action.RESUME: ("bresume",),
            Action.SIGNAL: ("bkill", "-s", signal_name(signal or 15).removeprefix("SIG")),
        }[action]
        parts = in_parts(native_ids, ID, MOST_ACTED_ON)
        return [(Command(argv=(*words, *part), without=_WITHOUT), part) for part in parts]

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        """A line for each job: on standard output what is done, on standard error what is not."""
        said = result.error_text
        text = f"{result.text}\n{said}"
        answers: dict[str, JobyardError | None] = dict.fromkeys(one for one in _DONE.findall(text) if one in native_ids)
        for native_id, why in _REFUSED.findall(text):
            if native_id in native_ids:
                answers[native_id] = _refusal(action, native_id, why)
        if not answers:
            raise no_answer(said, "it says nothing of the jobs")
        return answers

    # The site

    def limits_command(self) -> Command | None:
        return Command(argv=("bparams", "-a"), without=_WITHOUT)

    def parse_limits(self, result: Result) -> SiteLimits:
        if result.returncode != 0:
            raise SchedulerUnavailable("it tells no limits")
        match = re.search(r"MAX_JOB_ARRAY_SIZE\s*=\s*([0-9]{1,9})", result.text, re.ASCII)
        return SiteLimits(max_array_size=(int(match[1]) if match else 0) or DEFAULT_ARRAY)

    def version_command(self) -> Command:
        return Command(argv=("bjobs", "-V"), without=_WITHOUT)

    def parse_version(self, result: Result) -> str:
        match = re.search(r"LSF[^\n]*? ([0-9]+\.[0-9.]+)", f"{result.text}\n{result.error_text}", re.ASCII)
        if match is None:
            raise SchedulerUnavailable("it tells no version of LSF")
        return f"lsf {match[1].rstrip('.')}"


# Submission -----------------------------------------------------------------------------------------------------------


def _shown_name(submission: Submission) -> str:
    """``-J``: the name, and an array's positions from 1 (LSF has no 0); the job's own name is kept as written.

    Brackets and ``%`` would make it an array, ``:`` and ``/`` a part of a group, digits alone an id.
    """
    name = re.sub(r"[^A-Za-z0-9_.+-]", "_", submission.description.shown_name)[:NAME_LENGTH] or "_"
    if not re.search(r"[A-Za-z_]", name) or name[0] in "-+.":
        name = f"_{name}"
    if submission.kind is Kind.SINGLE:
        return name
    cap = f"%{submission.max_running}" if submission.max_running is not None else ""
    return f"{name}[1-{len(submission.indices)}]{cap}"


def _accepted(number: str, submission: Submission) -> Accepted:
    if submission.kind is Kind.SINGLE:
        return Accepted((number,))
    return Accepted(tuple(f"{number}[{n}]" for n in range(1, len(submission.indices) + 1)), number)


def _number(native_id: str) -> str:
    return native_id.partition("[")[0]


def _condition(native_id: str, when: str) -> str:
    return {"success": "done", "failure": "exit", "any": "ended"}[when] + f"({native_id})"


def _resources(job: JobDescription) -> list[str]:
    """``-n`` counts slots, one a core; ``span`` lays them out; memory is asked for the whole job."""
    resources, words = job.resources, list[str]()
    cores = resources.total_cores
    each = resources.cores or 1
    by_node = resources.nodes is not None or resources.processes_per_node is not None
    if cores > 1 or by_node or resources.processes is not None or resources.cores is not None:
        words += ["-n", str(cores)]
    if by_node:
        words += ["-R", f"span[ptile={cores // resources.total_nodes}]"]
    elif cores > 1 and (resources.total_processes == 1 or resources.total_gpus):
        words += ["-R", "span[hosts=1]"]
    elif each > 1:
        words += ["-R", f"span[block={each}]"]
    if resources.memory_bytes is not None:
        words += ["-R", f"rusage[mem={-(-resources.memory_bytes // 1024)}KB/job]"]
    if resources.total_gpus:
        words += ["-gpu", f"num={resources.total_gpus // (resources.total_nodes if by_node else 1)}"]
    if resources.exclusive:
        words.append("-x")
    if job.limits.walltime_s is not None:
        minutes = int(-(-job.limits.walltime_s // 60))
        words += ["-W", f"{minutes // 60}:{minutes % 60:02}"]
    return words


def _check_options(words: Sequence[str], field: str) -> None:
    """InvalidJob: an option that belongs to jobyard, or a word that bsub would take for the command."""
    may_have_value = False
    for word in words:
        if not word.startswith("-") or len(word) < 2:
            if not may_have_value:
                raise InvalidJob(f"lsf: {word!r} is no option of bsub; it would be taken for the job's command", field=field)
            may_have_value = False
            continue
        name = word[1:]
        if name in _OURS or name.startswith("I"):
            raise InvalidJob(f"lsf: {word} belongs to jobyard; use {_OURS.get(name, 'jobyard run')} instead", field=field)
        may_have_value = name not in _FLAGS


def _attribute_words(job: JobDescription) -> list[str]:
    """``lsf.app: "x"`` as ``-app x``: what PSI/J's custom attributes ask for. InvalidJob names the attribute."""
    words: list[str] = []
    for key, value in job.attributes.items():
        prefix, _, name = key.partition(".")
        if prefix != "lsf":
            continue
        if not re.fullmatch(r"[A-Za-z]{1,12}", name, re.ASCII):
            raise InvalidJob(f"{key}: lsf's attributes are named by an option, like 'lsf.app'", field=key)
        if (name in _FLAGS) == bool(value) or value.startswith("-"):
            raise InvalidJob(f"{key}: {value!r} cannot be the value of -{name}", field=key)
        pair = [f"-{name}", value] if value else [f"-{name}"]
        _check_options(pair, key)
        words += pair
    return words


# Answers --------------------------------------------------------------------------------------------------------------


def _bjobs(*ids: str) -> Command:
    return Command(argv=("bjobs", "-a", "-json", "-o", FIELDS, *ids), without=_WITHOUT)


def _answer(result: Result) -> Answer:
    """Rows; whole where it counts its records, and tells of each id that was asked for."""
    said = result.error_text
    found, unparsed, whole = records(result.text)
    if result.returncode < 0 or (not whole and _AWAY.search(said)):
        raise no_answer(said)
    missing = set(_NOT_FOUND.findall(said))
    none_at_all = re.search(r"^No (unfinished |matching )?job found", f"{result.text}\n{said}", re.MULTILINE) is not None
    if not found and not whole and not missing and not none_at_all:
        raise no_answer(said, "it printed no records")
    rows: list[Row] = []
    for record in found:
        if "ERROR" in record:
            missing.add(record["JOBID"])
        elif (row := row_of(record)) is not None:
            rows.append(row)
        else:
            unparsed.append(f"JOBID {record['JOBID']!r}")
    if not found and (missing or none_at_all) and not result.text.strip().startswith("{"):
        whole, unparsed = True, []
    asked = [word for word in result.argv[1:] if ID.fullmatch(word)]
    told = {_number(row.native_id) for row in rows} | missing
    complete = whole and not unparsed and (told.issuperset(asked) or none_at_all)
    return Answer(rows=tuple(rows), unparsed=tuple(unparsed), complete=complete)


def _refusal(action: Action, native_id: str, why: str) -> JobyardError:
    text = f"lsf cannot {action} job {native_id}: {why}"
    if "No matching job" in why or "not found" in why:
        return UnknownJob(text)
    if _WRONG_STATE.search(why):
        return WrongState(text)
    if re.search(r"permi(ssion|tted)|owner", why):
        return NotPermitted(text)
    return ControlError(text)
