"""What oarsub is told of a job, and what it cannot be told. Pure; measured on OAR 2.5.9.

oarsub's words end in the database and in a Perl program on the node, in which OAR quotes nothing (OAR/Tools.pm,
get_oarexecuser_perl_script_for_oarexec): name, project and folder are kept to what needs no quotes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

import msgspec

from ...errors import InvalidJob, UnsupportedAttribute
from ...job import JobDescription
from ..base import Kind

__all__ = ["Names", "check", "job_types", "needs_site", "option_words", "resource_words", "shown_name"]

NAME = "oar"
NAME_LENGTH = 100  # jobs.job_name is a varchar(100)
MIB = 1 << 20

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,99}", re.ASCII)
_EMAIL = re.compile(r"[A-Za-z0-9_.%+-]+@[A-Za-z0-9.-]+|[A-Za-z0-9_.+-]+", re.ASCII)
_WALLTIME = re.compile(r"(?:^|,)\s*walltime\s*=", re.ASCII)
_SPREADING = frozenset({"mpirun", "srun", "jsrun", "aprun"})  # launchers that reach other nodes
_MAIL_ON = {"begin": "RUNNING", "end": "END", "fail": "ERROR"}

# Options of oarsub that take a value, by their names; the others are flags.
_SHORT = {
    "C": "connect", "l": "resource", "q": "queue", "p": "property", "r": "reservation", "t": "type", "d": "directory", "n": "name",
    "a": "anterior", "i": "import-job-key-from-file", "e": "export-job-key-to-file", "O": "stdout", "E": "stderr", "s": "stagein",
    "m": "stagein-md5sum", "I": "interactive", "S": "scanscript", "k": "use-job-key", "D": "dumper", "X": "xml", "Y": "yaml",
    "J": "json", "h": "help", "V": "version",
}  # fmt: skip
_FLAGS = frozenset({"interactive", "scanscript", "use-job-key", "hold", "dumper", "xml", "yaml", "json", "help", "version"})
_LONG = frozenset({
    *_SHORT.values(), "array", "array-param-file", "checkpoint", "signal", "project", "notify", "resubmit", "hold",
    "import-job-key-inline-priv",
})  # fmt: skip
_OURS = {
    "interactive": "jobyard run", "connect": "oarsub itself", "array": "submit_array", "array-param-file": "submit_array",
    "scanscript": "native", "directory": "directory", "name": "name", "anterior": "after", "resubmit": "submit", "stdout": "stdout",
    "stderr": "stderr", "hold": "hold", "stagein": "stage_in", "stagein-md5sum": "stage_in", "dumper": "jobyard submit --json",
    "xml": "jobyard submit --json", "yaml": "jobyard submit --json", "json": "jobyard submit --json", "help": "jobyard help",
    "version": "jobyard schedulers", "reservation": "begin_at, which waits for free resources,",
}  # fmt: skip
_OUR_TYPES = {
    "postpone": "begin_at", "deadline": "deadline_at", "idempotent": "rerunnable", "inner": "reservation",
    "noop": "oarsub itself, which runs nothing then,", "desktop_computing": "oarsub itself",
}  # fmt: skip


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """Which properties of the site's resources mean what; None: the usual name, where the site has it."""

    core: str | None = None  # "core", else "resource_id": each row of the table of resources
    gpu: str | None = None  # "gpu"
    memory: str | None = None  # of a whole node, in MiB, as a number; memory cannot be asked for unless it is named


# What can be asked for ------------------------------------------------------------------------------------------------


def needs_site(job: JobDescription, names: Names) -> bool:
    """What the job asks for depends on the properties that the site has."""
    asked = job.resources
    return bool(asked.total_gpus) or (names.core is None and asked.total_cores > 1 and not asked.exclusive)


def check(job: JobDescription, names: Names, properties: Collection[str] | None, *, kind: Kind) -> None:
    """InvalidJob or UnsupportedAttribute names the field. ``properties``: the site's; None: they were not asked for."""
    for name in ("queue", "account"):
        value = getattr(job, name)
        if value is not None and not _PLAIN.fullmatch(value):
            raise InvalidJob(f"oar: {name} {value!r} is no name that oarsub can be told; write one like 'default'", field=name)
    if job.reservation is not None and not re.fullmatch(r"[1-9][0-9]{0,17}", job.reservation, re.ASCII):
        raise InvalidJob(
            f"oar: reservation {job.reservation!r} is not the id of a container job (oarsub -t container)", field="reservation"
        )
    for name in ("begin_at", "deadline_at"):
        moment = getattr(job, name)
        if moment is not None and not 0 <= moment < 4102444800:  # the year 2100
            raise InvalidJob(f"oar: {name} {moment!r} is no moment that oarsub can be told", field=name)
    if job.email:
        if len(job.email) > 1:
            raise InvalidJob(f"oar: it sends mail to one address, not {len(job.email)}; name a list there", field="email")
        if not _EMAIL.fullmatch(job.email[0]):
            raise InvalidJob(f"oar: {job.email[0]!r} is no mail address", field="email")
    soft, hard = job.limits.soft_walltime_s, job.limits.walltime_s
    if soft is not None and (hard is None or soft >= hard):
        raise InvalidJob(
            "oar: soft_walltime is when a signal announces the end by walltime; give a longer walltime too", field="soft_walltime"
        )
    words = option_words(job)
    if _value_of(words, "resource") is not None:
        for name in ("nodes", "processes_per_node", "cores", "gpus", "memory_bytes"):
            if getattr(job.resources, name):
                raise InvalidJob(f"oar: give resources as {name} or as -l in native, not both", field=name.removesuffix("_bytes"))
        if job.resources.exclusive:
            raise InvalidJob("oar: give resources as exclusive or as -l in native, not both", field="exclusive")
    elif properties is None and needs_site(job, names):
        raise InvalidJob("oar: the site's properties are not known", field="cores")
    else:
        resource_words(job, names, properties or ())


def option_words(job: JobDescription) -> list[str]:
    """The user's own options: ``native``, and attributes like ``oar.type: "besteffort"``. InvalidJob: one that is jobyard's."""
    _check_options(job.native, "native")
    words = list(job.native)
    for key, value in job.attributes.items():
        prefix, _, name = key.partition(".")
        if prefix != NAME:
            continue
        long = _SHORT.get(name, name)
        if long not in _LONG:
            raise InvalidJob(f"{key}: oar's attributes are named by an option of oarsub, like 'oar.l' or 'oar.type'", field=key)
        if (long in _FLAGS) != (not value):
            raise InvalidJob(f"{key}: the option --{long} takes {'no' if value else 'a'} value", field=key)
        pair = [f"--{long}={value}"] if value else [f"--{long}"]
        _check_options(pair, key)
        words += pair
    return words


def _options(words: Sequence[str], field: str) -> list[tuple[str, str, int]]:
    """Each option's long name and value, and the place of the word that holds the value."""
    found: list[tuple[str, str, int]] = []
    at = 0

    def value_of(option: str) -> str:
        nonlocal at
        if at == len(words):
            raise InvalidJob(f"oar: the option {option} needs a value", field=field)
        at += 1
        return words[at - 1]

    while at < len(words):
        word = words[at]
        at += 1
        if word.startswith("--") and len(word) > 2:
            begun, equals, value = word[2:].partition("=")
            matching = [one for one in _LONG if one == begun] or [one for one in _LONG if one.startswith(begun)]
            if len(matching) != 1:  # Getopt::Long takes the beginning of an option for it
                raise InvalidJob(f"oar: --{begun} is no option of oarsub, or the beginning of several", field=field)
            name = matching[0]
            if name not in _FLAGS and not equals:
                value = value_of(f"--{name}")
            found.append((name, value, at - 1))
            continue
        if not word.startswith("-") or len(word) < 2 or word == "--":
            raise InvalidJob(f"oar: {word!r} is no option of oarsub; it would be taken for the command", field=field)
        for place, letter in enumerate(word[1:], 2):
            if letter not in _SHORT:
                raise InvalidJob(f"oar: -{letter} is no option of oarsub", field=field)
            name, value = _SHORT[letter], word[place:]
            if name not in _FLAGS:
                value = value or value_of(f"-{letter}")
                found.append((name, value, at - 1))
                break
            found.append((name, "", at - 1))
    return found


def _check_options(words: Sequence[str], field: str) -> None:
    for name, value, _ in _options(words, field):
        if name in _OURS:
            raise InvalidJob(f"oar: --{name} belongs to jobyard; use {_OURS[name]} instead", field=field)
        kind = value.partition("=")[0].strip()
        if name == "type" and kind in _OUR_TYPES:
            raise InvalidJob(f"oar: -t {kind} belongs to jobyard; use {_OUR_TYPES[kind]} instead", field=field)
        if name == "project" and not _PLAIN.fullmatch(value):
            raise InvalidJob(
                f"oar: --project {value!r}: OAR quotes no names on its nodes; use letters, digits and ._-", field=field
            )


def _value_of(words: Sequence[str], wanted: str) -> str | None:
    return next((value for name, value, _ in reversed(_options(words, "native")) if name == wanted), None)


# Words for oarsub -------------------------------------------------------------------------------------------------------


def shown_name(name: str) -> str:
    """The name as OAR shows it; the job's own is kept as written."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", name)[:NAME_LENGTH] or "_"


def job_types(job: JobDescription, kind: Kind) -> list[str]:
    """``-t`` words, but for moments, which the login host writes in its own time zone."""
    words: list[str] = []
    if job.rerunnable:
        words += ["-t", "idempotent"]
    if job.reservation is not None:
        words += ["-t", f"inner={job.reservation}"]
    return words


def resource_words(job: JobDescription, names: Names, properties: Collection[str]) -> list[str]:
    """Options and ``-l``; where the user gave ``-l``, the walltime is put into those that have none.

    OAR takes several ``-l`` for alternatives. A job that asks for nothing gets what the site gives by default
    (OARSUB_DEFAULT_RESOURCES), and its walltime.
    """
    own = option_words(job)
    limits = job.limits
    walltime = f"walltime={_clock(limits.walltime_s)}" if limits.walltime_s is not None else ""
    if _value_of(own, "resource") is not None:
        for name, value, at in _options(own, "native"):
            if name == "resource" and walltime and not _WALLTIME.search(value):
                own[at] = f"{own[at]},{walltime}"
        words = own
    else:
        asked = _hierarchy(job, names, properties)
        request = ",".join(part for part in (asked, walltime) if part)
        words = [*own, *(["-l", request] if request else [])]
        if job.resources.memory_bytes is not None:
            wanted = f"{names.memory} >= {math.ceil(job.resources.memory_bytes / job.resources.total_nodes / MIB)}"
            mine = _value_of(own, "property")
            words += ["-p", f"({mine}) AND {wanted}" if mine else wanted]  # the last one counts
    if limits.soft_walltime_s is not None and limits.walltime_s is not None:
        words.append(f"--checkpoint={math.ceil(limits.walltime_s - limits.soft_walltime_s)}")
    return words


def _hierarchy(job: JobDescription, names: Names, properties: Collection[str]) -> str:
    """``/nodes=2/core=4``; "" where nothing was asked for."""
    asked = job.resources
    core = names.core or ("core" if "core" in properties else "resource_id")
    nodes, cores, gpus = asked.total_nodes, asked.total_cores, asked.total_gpus
    if gpus and asked.exclusive:
        raise InvalidJob("oar: whole nodes come with all their GPUs; leave gpus or exclusive out", field="gpus")
    if gpus:
        gpu = names.gpu or "gpu"
        if gpu not in properties:
            raise UnsupportedAttribute(
                f"oar cannot honour gpus={asked.gpus}; this site's resources have no property {gpu!r}, name one with gpu= in the "
                f"contact; they have: {', '.join(sorted(properties))}",
                field="gpus",
                scheduler=NAME,
            )
        each, rest = divmod(gpus, nodes)
        if rest:
            raise InvalidJob(f"oar: {gpus} GPUs cannot be laid out evenly on {nodes} nodes", field="gpus")
        own = f"/{core}={math.ceil(cores / gpus)}" if asked.cores is not None else ""
        return f"/nodes={nodes}/{gpu}={each}{own}"
    if asked.exclusive:
        return f"/nodes={nodes}"
    if cores == 1 and asked.cores is None and asked.nodes is None:
        return ""
    spread = job.launcher in _SPREADING and asked.nodes is None and asked.processes_per_node is None and (asked.cores or 1) == 1
    if spread:
        return f"/{core}={cores}"
    return f"/nodes={nodes}/{core}={cores // nodes}"


def mail_words(job: JobDescription) -> list[str]:
    """``--notify``: when, and to whom; all that OAR tells where nothing is said."""
    if not job.email:
        return []
    tags = ",".join(_MAIL_ON[event] for event in job.email_on)
    return ["--notify", f"{f'[{tags}]' if tags else ''}mail:{job.email[0]}"]


def whole_seconds(moment: float) -> int:
    """Rounded up: nothing begins too early."""
    return int(moment) + (moment % 1 > 0)


def _clock(seconds: float) -> str:
    """``H:M:S``, rounded up."""
    whole = whole_seconds(seconds)
    return f"{whole // 3600}:{whole // 60 % 60}:{whole % 60}"


def moments(job: JobDescription) -> Mapping[str, int]:
    """Types that name a moment, in seconds since the epoch."""
    found = {}
    if job.begin_at is not None:
        found["postpone"] = whole_seconds(job.begin_at)
    if job.deadline_at is not None:
        found["deadline"] = int(job.deadline_at)
    return found
