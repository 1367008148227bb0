"""The submit description: what a job asks for, in HTCondor's own commands. Pure.

Values reach it as ClassAd literals or after a whitelist, so that no text of the user's is a command, a macro or an expression.
Only ``attributes`` are the user's own expressions, one line each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ...errors import InvalidJob, UnsupportedAttribute
from ...job import JobDescription
from ..base import Kind, Submission
from .ads import BEGIN_ATTRIBUTE, ENDING_HOLDS, ONCE_ATTRIBUTE, REASON_PREFIX, TOKEN_ATTRIBUTE

__all__ = ["check", "submit_description"]

PREFIXES = ("htcondor.", "condor.")  # of ``attributes``
MEBIBYTE = 1 << 20

# Submit commands that belong to the engine, and what to write instead.
_OURS = {
    **dict.fromkeys(("executable", "arguments", "args", "queue", "universe"), "the command's words"),
    **dict.fromkeys(
        ("transfer_executable", "should_transfer_files", "when_to_transfer_output", "transfer_output_files"), "stage_out"
    ),
    **dict.fromkeys(("transfer_input_files",), "stage_in"),
    **dict.fromkeys(("initialdir", "initial_dir", "iwd", "job_iwd"), "directory"),
    **dict.fromkeys(("input", "stdin", "in"), "stdin"),
    **dict.fromkeys(("output", "stdout", "out"), "stdout"),
    **dict.fromkeys(("error", "stderr", "err"), "stderr"),
    **dict.fromkeys(("environment", "env", "getenv"), "environment and inherit"),
    **dict.fromkeys(("hold",), "hold"),
    **dict.fromkeys(("batch_name", "jobbatchname"), "name"),
    **dict.fromkeys(("max_materialize", "max_idle", "materialize_max_idle"), "max_running"),
    **dict.fromkeys(("leave_in_queue", "on_exit_remove", "max_retries", "retry_until", "success_exit_code"), "rerunnable"),
    **dict.fromkeys(("deferral_time", "deferralduration", "cron_minute", "cron_hour"), "begin_at"),
    **dict.fromkeys(("coresize", "core_size"), "core_size"),
    TOKEN_ATTRIBUTE.lower(): "nothing",
    ONCE_ATTRIBUTE.lower(): "rerunnable",
    BEGIN_ATTRIBUTE.lower(): "begin_at",
    **dict.fromkeys(("periodicremovereason", "clusterid", "procid", "jobstatus", "jobuniverse", "owner", "user"), "nothing"),
    # The same as attributes of the job's ad, written with '+' or 'MY.'.
    **dict.fromkeys(
        ("cmd", "leavejobinqueue", "onexitremove", "transferexecutable", "shouldtransferfiles"), "the job description's own fields"
    ),
    **dict.fromkeys(("periodicremove",), "attributes={'htcondor.periodic_remove': ...}"),
}
# Submit commands that are joined with the engine's own where they are given as attributes.
_JOINED = ("requirements", "periodic_remove")
# Options of condor_submit that change what it submits, whereto, or what it prints.
_OPTIONS = {
    **dict.fromkeys(("name", "remote", "addr", "schedd-addr"), "the option schedd of the contact"),
    **dict.fromkeys(("pool",), "the option pool of the contact"),
    **dict.fromkeys(("batch-name",), "name"),
    **dict.fromkeys(("terse", "verbose", "dry-run", "dump", "interactive", "queue", "spool", "file", "maxjobs", "help"), "nothing"),
    **dict.fromkeys(("version", "single-cluster", "jobset", "capabilities", "factory"), "nothing"),
}
_APPEND = "append"
_COMMAND = re.compile(r"\s*((?:MY\.|\+)?[A-Za-z_][A-Za-z0-9_.]*)\s*=(.*)", re.DOTALL | re.IGNORECASE)
_NAME = re.compile(r"(?:MY\.|\+)?[A-Za-z_][A-Za-z0-9_.]*", re.IGNORECASE)
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,127}")
_ADDRESS = re.compile(r"[A-Za-z0-9_.+=%-]{1,64}@[A-Za-z0-9.-]{1,253}")


# Before submission ----------------------------------------------------------------------------------------------------


def check(scheduler: str, job: JobDescription) -> None:
    """UnsupportedAttribute, InvalidJob: what cannot be honoured, or cannot stand in a submit description."""
    if job.resources.total_nodes > 1:
        raise UnsupportedAttribute(
            f"{scheduler} cannot honour {job.resources.total_nodes} nodes: a job of its vanilla universe is on one machine; "
            "ask for processes and cores of one node",
            field="nodes",
            scheduler=scheduler,
        )
    if job.account is not None and not _ACCOUNT.fullmatch(job.account):
        raise InvalidJob(
            f"{scheduler}: {job.account!r} cannot be an accounting group; write letters, digits, '.', '_', '@' and '-'",
            field="account",
        )
    if job.priority is not None and not -(2**31) <= job.priority < 2**31:
        raise InvalidJob(f"{scheduler}: a priority has 32 bits; {job.priority} has more", field="priority")
    for address in job.email:
        if not _ADDRESS.fullmatch(address):
            raise InvalidJob(f"{scheduler}: {address!r} is no plain mail address", field="email")
    if job.email and set(job.email_on) - {"end"}:
        raise UnsupportedAttribute(
            f"{scheduler} cannot honour email_on={job.email_on!r}; it can send mail at the end of a job: email_on=('end',)",
            field="email_on",
            scheduler=scheduler,
        )
    _check_native(scheduler, job)
    for name, value in _attributes(job).items():
        _check_attribute(scheduler, name, value)


def _attributes(job: JobDescription) -> dict[str, str]:
    """Submit commands given as attributes, those for other schedulers left out. One without a value is a flag."""
    return {
        name.partition(".")[2]: value.strip() or "True"
        for name, value in job.attributes.items()
        if name.lower().startswith(PREFIXES)
    }


def _check_attribute(scheduler: str, name: str, value: str) -> None:
    field = f"attributes[{'htcondor.' + name!r}]"
    if not _NAME.fullmatch(name):
        raise InvalidJob(f"{scheduler}: {name!r} cannot be a submit command, nor '+' and an attribute of the job's ad", field=field)
    if (instead := _OURS.get(_bare(name))) is not None:
        raise InvalidJob(f"{scheduler}: the submit command {name} belongs to jobyard; use {instead} instead", field=field)
    if any((c < " " and c != "\t") or c == "\x7f" for c in value) or value.rstrip().endswith("\\"):
        raise InvalidJob(f"{scheduler}: {name} must fit on one line: {value!r}", field=field)


def _bare(name: str) -> str:
    return name.lower().removeprefix("my.").removeprefix("+")


def _check_native(scheduler: str, job: JobDescription) -> None:
    """Options of condor_submit go untouched, but for those that would submit something else."""
    words = list(job.native)
    at = 0
    taken = False  # the word before is an option that we do not know; this may be its argument
    while at < len(words):
        word = words[at]
        at += 1
        if word.startswith("-") and len(word) > 1:
            option = word.lstrip("-").partition(":")[0].lower()
            if option and _APPEND.startswith(option):
                if at == len(words):
                    raise InvalidJob(f"{scheduler}: {word} is followed by a line of the submit description", field="native")
                _check_line(scheduler, job, words[at])
                at += 1
                taken = False
                continue
            for name, instead in _OPTIONS.items():
                if option and name.startswith(option):
                    raise InvalidJob(
                        f"{scheduler}: the option {word} of condor_submit belongs to jobyard; use {instead} instead", field="native"
                    )
            taken = True
        elif "=" in word:
            _check_line(scheduler, job, word)
            taken = False
        elif taken:
            taken = False
        else:
            raise InvalidJob(
                f"{scheduler}: {word!r} would be the name of a submit file; write options of condor_submit, or 'command=value'",
                field="native",
            )


def _check_line(scheduler: str, job: JobDescription, line: str) -> None:
    match = _COMMAND.fullmatch(line)
    if match is None or "\n" in line or "\0" in line:
        raise InvalidJob(f"{scheduler}: {line!r} is no line 'command = value' of a submit description", field="native")
    name = _bare(match[1])
    if (instead := _OURS.get(name)) is not None:
        raise InvalidJob(f"{scheduler}: the submit command {match[1]} belongs to jobyard; use {instead} instead", field="native")
    if name == "periodic_remove" or (name == "requirements" and job.begin_at is not None):
        raise InvalidJob(
            f"{scheduler}: {match[1]} would replace jobyard's own; write attributes={{'htcondor.{name}': ...}}, which is joined "
            "with it",
            field="native",
        )


# The description ------------------------------------------------------------------------------------------------------


def submit_description(submission: Submission, script: str) -> str:
    """The submit description, for condor_submit's standard input. InvalidJob: a folder whose name cannot stand in one."""
    job, resources, given = submission.description, submission.description.resources, _attributes(submission.description)
    log = f"{submission.folder}/batch.log"
    environment = "CONDOR_JOB_ID=$(Cluster).$(Process)"
    if submission.kind is Kind.ARRAY:
        environment += " CONDOR_CLUSTER_ID=$(Cluster)"
    lines = {
        "universe": "vanilla",
        "executable": _path(script),
        "arguments": "$(Process)",
        "initialdir": _path(submission.folder),
        "transfer_executable": "False",
        "should_transfer_files": "NO",
        "output": _path(log),
        "error": _path(log),
        "getenv": "False",
        "environment": f'"{environment}"',
        "notification": "Complete" if job.email else "Never",
        "+JobBatchName": _literal(job.shown_name),
        f"+{TOKEN_ATTRIBUTE}": _literal(submission.token),
        "request_cpus": str(resources.total_cores),
    }
    if job.email:
        lines["notify_user"] = ",".join(job.email)
    if resources.total_gpus:
        lines["request_gpus"] = str(resources.total_gpus)
    if resources.memory_bytes is not None:
        lines["request_memory"] = str(-(-resources.memory_bytes // MEBIBYTE))
    if job.priority is not None:
        lines["priority"] = str(job.priority)
    if job.account is not None:
        lines["accounting_group"] = job.account
    if job.limits.core_bytes is not None:  # HTCondor's own limit is 0, and the shepherd can only lower it
        lines["coresize"] = str(job.limits.core_bytes)
    if job.hold:
        lines["hold"] = "True"
    if not job.rerunnable:
        lines[f"+{ONCE_ATTRIBUTE}"] = "True"
    if submission.max_running is not None:
        lines["max_materialize"] = str(submission.max_running)
    lines |= {name: value for name, value in given.items() if name.lower() not in _JOINED}
    lines |= _policy(job, {name.lower(): value for name, value in given.items()})
    count = 1 if submission.kind is Kind.SINGLE else len(submission.indices)
    return "".join(f"{name} = {value}\n" for name, value in lines.items()) + f"queue {count}\n"


def _policy(job: JobDescription, given: Mapping[str, str]) -> dict[str, str]:
    """When it may begin, and when the schedd removes it by itself; RemoveReason says why (ads.py)."""
    lines: dict[str, str] = {}
    requirements = [f"({given['requirements']})"] if "requirements" in given else []
    if job.begin_at is not None:
        lines[f"+{BEGIN_ATTRIBUTE}"] = str(math.ceil(job.begin_at))
        requirements.append(f"(time() >= {math.ceil(job.begin_at)})")
    if requirements:
        lines["requirements"] = " && ".join(requirements)
    held = f"(JobStatus == 5 && member(HoldReasonCode, {{{', '.join(map(str, sorted(ENDING_HOLDS)))}}}))"
    rules = [(held, f'strcat("{REASON_PREFIX}held ", HoldReasonCode, ": ", HoldReason)')]
    if job.limits.walltime_s is not None:
        limit_s = math.ceil(job.limits.walltime_s)
        # From when the command runs on: the run's shadow, which judges this, knows that at once. An earlier run's time is no
        # time of this one's. Whole seconds: more than the limit is at least the limit.
        running = "member(JobStatus, {2, 6, 7}) && JobCurrentStartExecutingDate >= JobCurrentStartDate"
        rules.append(
            (
                f"({running} && time() - JobCurrentStartExecutingDate > {limit_s})",
                f'"{REASON_PREFIX}walltime: it ran for {limit_s} s"',
            )
        )
    if job.deadline_at is not None:
        rules.append((f"(time() >= {math.ceil(job.deadline_at)})", f'"{REASON_PREFIX}deadline: its deadline has passed"'))
    if not job.rerunnable:
        rules.append(
            ("(JobStatus == 1 && NumJobStarts > 0)", f'"{REASON_PREFIX}rerun: its run was cut short, and it may run only once"')
        )
    reason = '""' if "periodic_remove" not in given else f'"{REASON_PREFIX}policy: its own periodic_remove"'
    for rule, text in reversed(rules):
        reason = f"ifThenElse({rule}, {text}, {reason})"
    own = [f"({given['periodic_remove']})"] if "periodic_remove" in given else []
    lines["periodic_remove"] = " || ".join([rule for rule, _ in rules] + own)
    lines["+PeriodicRemoveReason"] = reason
    return lines


def _literal(text: str) -> str:
    """A ClassAd string in the old syntax, in which only a quote is escaped; what a line cannot hold is shown as '?'."""
    shown = "".join(c if c.isprintable() and not 0xDC80 <= ord(c) <= 0xDCFF else "?" for c in text)
    if shown.endswith("\\"):  # it would escape the closing quote
        shown += " "
    return '"' + shown.replace('\\"', '\\ "').replace('"', '\\"').replace("$", "$(DOLLAR)") + '"'


def _path(path: str) -> str:
    if any(c < " " or c == "\x7f" for c in path) or path != path.strip() or path.endswith("\\"):
        raise InvalidJob(
            f"htcondor: the job's folder {path!r} cannot stand in a submit description; set JOBYARD_WORK_DIR elsewhere"
        )
    return path.replace("$", "$(DOLLAR)")
