"""A submission as qsub's options: what a description asks for, and what of it this site cannot give. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from ...errors import InvalidJob, UnsupportedAttribute
from ...job import JobDescription, Resources
from ..base import Kind, Submission
from .site import Environment, Site

__all__ = ["ATTRIBUTES", "Choices", "check", "needs_site", "qsub_options", "sends_positions"]

NAME = "gridengine"
ATTRIBUTES = frozenset(
    {
        *("nodes", "processes", "processes_per_node", "cores", "gpus", "memory_bytes", "exclusive", "walltime_s", "cpu_time_s"),
        *("queue", "account", "reservation", "priority", "begin_at", "hold", "rerunnable", "native", "email"),
    }
)
PREFIXES = ("gridengine.", "sge.")

# Options that belong to the engine, and what to use instead.
_OURS = {
    "-wd": "directory",
    "-cwd": "directory",
    "-o": "stdout",
    "-e": "stderr",
    "-j": "join_streams",
    "-i": "stdin",
    "-t": "submit_array",
    "-tc": "max_running of submit_array",
    "-r": "rerunnable",
    "-sync": "wait()",
    "-b": "the command itself: the job's script is jobyard's",
    "-S": "a command that begins with the interpreter",
    "-verify": "check the description with jobyard",
    "-help": "the manual page",
    "-inherit": "submit()",
}
_LATEST = 2**32 - 1  # begin times have 32 bits: later ones come round (measured on 8.1.9)
_PRIORITIES = (-1023, 1024)  # qsub(1), -p
_LONGEST_NAME = 250
_FORBIDDEN_NAMES = frozenset({"NONE", "ALL", "TEMPLATE"})
_MAIL = {"begin": "b", "end": "e", "fail": "a"}
_SPREADING = frozenset({"mpirun", "srun", "jsrun", "aprun"})  # launchers that reach other nodes


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What the contact says of the site where Grid Engine leaves names to it."""

    environment: str | None = None  # the parallel environment of jobs with several slots
    memory: str = "h_vmem"  # the resource that a memory request becomes
    gpu: str | None = None  # the resource that counts GPUs


def check(job: JobDescription, site: Site | None, choices: Choices, *, kind: Kind) -> None:
    """Raise InvalidJob or UnsupportedAttribute for what qsub would refuse or drop. ``site`` None: it is not asked for."""
    for word in job.native:
        if word in _OURS:
            raise InvalidJob(f"{NAME}: {word} belongs to jobyard; use {_OURS[word]} instead", field="native")
    for key, value in job.attributes.items():
        option = _option(key)
        if option is None:
            continue
        if not re.fullmatch(r"[A-Za-z_]{1,20}", option):
            raise InvalidJob(f"{NAME}: attribute {key!r} names no option of qsub; write 'gridengine.l' for -l", field="attributes")
        if f"-{option}" in _OURS:
            raise InvalidJob(f"{NAME}: {key} belongs to jobyard; use {_OURS['-' + option]} instead", field="attributes")
        if value.startswith("-"):
            raise InvalidJob(f"{NAME}: the value of {key} begins with '-', which qsub takes for an option", field="attributes")
    if "-pe" in job.native and job.resources.total_cores > 1:
        raise InvalidJob(f"{NAME}: give slots by -pe in native, or by processes and cores, not by both", field="native")
    named = _attribute(job, "pe")
    if named is not None and (
        not re.fullmatch(r"[^\s-]\S*(\s+[0-9,-]+)?", named) or (" " in named and job.resources.total_cores > 1)
    ):
        raise InvalidJob(
            f"{NAME}: gridengine.pe={named!r}; write the name of a parallel environment, and the slots as processes and cores",
            field="attributes",
        )
    if job.begin_at is not None and job.begin_at > _LATEST:
        raise _refused("begin_at", f"begin_at={job.begin_at!r}", "its begin times end in the year 2106")
    if job.priority is not None and not _PRIORITIES[0] <= job.priority <= _PRIORITIES[1]:
        raise _refused("priority", f"priority={job.priority}", f"its priorities are {_PRIORITIES[0]} to {_PRIORITIES[1]}")
    if job.reservation is not None and not re.fullmatch(r"[0-9]{1,10}", job.reservation):
        raise InvalidJob(f"{NAME}: a reservation is the number that qrsub printed, not {job.reservation!r}", field="reservation")
    for field in ("queue", "account"):
        value = getattr(job, field)
        if value is not None and not re.fullmatch(r"[^\s,-][^\s,]*", value):
            raise InvalidJob(f"{NAME}: {value!r} cannot be a name of {field}; it is empty, or holds blanks or commas", field=field)
    for address in job.email:
        if not re.fullmatch(r"[^\s,-][^\s,]*", address):
            raise InvalidJob(f"{NAME}: {address!r} is no address for mail", field="email")
    if site is not None:
        _slots(job, site, choices)
        _gpus(job.resources, site, choices)
        _exclusive(job.resources, site)
        _memory(job.resources, site, choices)


def needs_site(job: JobDescription) -> bool:
    """Whether what the site has decides how this job is asked for."""
    asked = job.resources
    return asked.total_cores > 1 or asked.total_nodes > 1 or bool(asked.gpus) or asked.exclusive or asked.memory_bytes is not None


def sends_positions(submission: Submission) -> bool:
    """Whether Grid Engine gets 1, 2, 3, ... instead of the user's indices: it takes one range with one step, from 1 on."""
    indices = submission.indices
    if submission.kind is not Kind.ARRAY or not indices or indices[0] < 1:
        return True
    step = _step(indices)
    return step < 1 or any(indices[n] - indices[n - 1] != step for n in range(1, len(indices)))


def _step(indices: Sequence[int]) -> int:
    return indices[1] - indices[0] if len(indices) > 1 else 1


def qsub_options(submission: Submission, site: Site | None, choices: Choices) -> list[str]:
    """The user's own options first, untouched, then ours: of two that contradict each other, qsub takes the last."""
    job = submission.description
    options = list(job.native)
    for key, value in job.attributes.items():
        name = _option(key)
        if name is not None and name != "pe":
            options += [f"-{name}", value] if value else [f"-{name}"]
    # -hard: a -soft of the user's must not soften what follows.
    options += ["-hard", "-terse", "-sync", "n", "-b", "n", "-S", "/bin/sh", "-wd", submission.folder]
    options += ["-r", "y" if job.rerunnable else "n"]
    # A comma would begin a second path there, and a dollar a variable.
    plain = re.fullmatch(r"[^,$\\\s]+", submission.folder) is not None
    options += ["-j", "y", "-o", f":{submission.folder}/batch.log" if plain else "/dev/null"]
    if "-A" not in job.native and _attribute(job, "A") is None:
        options += ["-A", submission.token]
    if job.name is not None or "-N" not in job.native:
        options += ["-N", shown_name(job.shown_name)]
    options += _resource_options(job, site, choices)
    for option, name in (("-q", job.queue), ("-P", job.account), ("-ar", job.reservation)):
        if name is not None:
            options += [option, name]
    if job.priority is not None:
        options += ["-p", str(job.priority)]
    if job.begin_at is not None and job.begin_at > 0:
        options += ["-a", datetime.fromtimestamp(math.ceil(job.begin_at), UTC).strftime("%Y%m%d%H%M.%S")]
    if job.hold:
        options.append("-h")
    if submission.after:
        # A task cannot be waited for: its whole array is.
        options += ["-hold_jid", ",".join(dict.fromkeys(native_id.partition(".")[0] for native_id, _ in submission.after))]
    if job.email:
        events = "".join(_MAIL[event] for event in job.email_on if event in _MAIL) or "ea"
        options += ["-M", ",".join(job.email), "-m", events]
    if submission.kind is not Kind.SINGLE:
        options += ["-t", _range(submission)]
        if submission.max_running is not None:
            options += ["-tc", str(submission.max_running)]
    return options


def _range(submission: Submission) -> str:
    indices = submission.indices
    if sends_positions(submission):
        return f"1-{len(indices)}:1"
    return f"{indices[0]}-{indices[-1]}:{_step(indices)}"


def shown_name(name: str) -> str:
    """The name, as far as Grid Engine takes it: what it refuses becomes ``_`` (no digit first; sge_types(1), object_name)."""
    plain = re.sub(r"[^A-Za-z0-9_.+-]", "_", name)[:_LONGEST_NAME]
    return f"_{plain}" if not plain or plain[0] in "0123456789-." or plain.upper() in _FORBIDDEN_NAMES else plain


def _option(key: str) -> str | None:
    """The option that an attribute stands for: ``gridengine.l``; None for those of other schedulers."""
    for prefix in PREFIXES:
        if key.lower().startswith(prefix):
            return key[len(prefix) :]
    return None


def _attribute(job: JobDescription, option: str) -> str | None:
    return next((value for key, value in job.attributes.items() if _option(key) == option), None)


# Resources ---------------------------------------------------------------------------------------------------------------


def _resource_options(job: JobDescription, site: Site | None, choices: Choices) -> list[str]:
    asked = job.resources
    options: list[str] = []
    named = _attribute(job, "pe")
    if named is not None and asked.total_cores == 1:
        environment, _, count = named.partition(" ")
        options += ["-pe", environment, count.strip() or "1"]
    if site is not None:
        chosen = _slots(job, site, choices)
        if chosen is not None:
            options += ["-pe", chosen, str(asked.total_cores)]
        for request in (_memory(asked, site, choices), _gpus(asked, site, choices), _exclusive(asked, site)):
            if request is not None:
                options += ["-l", request]
    if job.limits.walltime_s is not None:
        options += ["-l", f"h_rt={math.ceil(job.limits.walltime_s)}"]
    return options


def _slots(job: JobDescription, site: Site, choices: Choices) -> str | None:
    """The parallel environment; None where one slot is enough. The site's rules of allocation say which can do it."""
    asked = job.resources
    slots = asked.total_cores
    if slots == 1:
        return None
    wanted = _attribute(job, "pe") or choices.environment
    known = site.environments
    if wanted is not None:
        found = next((one for one in known if one.name == wanted), None)
        if found is None:
            raise _refused("cores", f"{slots} slots in the parallel environment {wanted!r}", _environments(site))
        if _placed(asked) and not _fits(job, found):
            raise _refused(*_layout(asked), f"{wanted} allocates by {found.rule}; {_environments(site)}")
        return wanted
    spread = job.launcher in _SPREADING and not _placed(asked) and (asked.cores or 1) == 1
    preferred = ["$fill_up", "$round_robin", "$pe_slots"] if spread else ["$pe_slots"]
    fitting = [one for one in known if one.slots >= slots and (one.rule in preferred if spread else _fits(job, one))]
    if not fitting:
        raise _refused(*_layout(asked), _environments(site))
    fitting.sort(key=lambda one: preferred.index(one.rule) if one.rule in preferred else len(preferred))
    return fitting[0].name


def _placed(asked: Resources) -> bool:
    """The description says how processes are laid out on nodes."""
    return asked.nodes is not None or asked.processes_per_node is not None


def _fits(job: JobDescription, environment: Environment) -> bool:
    """Its rule lays the job out as it asks for: all on one node, or evenly on several."""
    asked = job.resources
    if asked.total_nodes == 1:
        return environment.rule == "$pe_slots" or environment.rule == str(asked.total_cores)
    return environment.rule == str(asked.total_cores // asked.total_nodes)


def _layout(asked: Resources) -> tuple[str, str]:
    if asked.total_nodes > 1:
        return "nodes", f"{asked.total_nodes} nodes of {asked.total_cores // asked.total_nodes} slots each"
    return ("cores" if (asked.cores or 1) > 1 else "processes"), f"{asked.total_cores} slots on one node"


def _environments(site: Site) -> str:
    shown = ", ".join(f"{one.name} ({one.rule}, {one.slots} slots)" for one in site.environments) or "none"
    return f"its parallel environments are: {shown}; name one with pe= in the contact, or the attribute gridengine.pe"


def _memory(asked: Resources, site: Site, choices: Choices) -> str | None:
    """Memory is asked for by the slot, in KiB, rounded up."""
    if asked.memory_bytes is None:
        return None
    resource = site.resources.get(choices.memory)
    if resource is None:
        raise _refused("memory_bytes", "memory", f"it has no resource {choices.memory!r}; name one with memory= in the contact")
    share = 1 if resource.consumable == "JOB" else asked.total_cores
    return f"{choices.memory}={math.ceil(asked.memory_bytes / share / 1024)}K"


def _gpus(asked: Resources, site: Site, choices: Choices) -> str | None:
    count = asked.total_gpus
    if not count:
        return None
    resource = site.resources.get(choices.gpu) if choices.gpu is not None else site.gpus
    if resource is None or resource.consumable == "NO":
        shown = f"no resource {choices.gpu!r} that is counted" if choices.gpu else "no resource that counts GPUs"
        raise _refused("gpus", f"{count} GPUs", f"this site has {shown}; name one with gpu= in the contact")
    if resource.consumable == "JOB":
        return f"{resource.name}={count}"
    each, rest = divmod(count, asked.total_cores)
    if rest:
        raise _refused("gpus", f"{count} GPUs for {asked.total_cores} slots", f"{resource.name} is counted for each slot, evenly")
    return f"{resource.name}={each}"


def _exclusive(asked: Resources, site: Site) -> str | None:
    if not asked.exclusive:
        return None
    if site.exclusive is None:
        raise _refused("exclusive", "exclusive use of nodes", "this site has no resource of the relation EXCL")
    return f"{site.exclusive.name}=true"


def _refused(field: str, what: str, why: str) -> UnsupportedAttribute:
    return UnsupportedAttribute(f"{NAME} cannot honour {what}; {why}", field=field, scheduler=NAME)
