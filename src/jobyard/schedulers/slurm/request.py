"""What of a job description becomes options of sbatch(1). Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ...errors import InvalidJob, UnsupportedAttribute
from ...job import JobDescription, Resources
from ..base import Kind, Submission
from .ids import ranges

__all__ = ["check", "sbatch_options", "sends_positions"]

_MIB = 1 << 20

# Options of sbatch that belong to the engine, with what to use instead. Long names; sbatch takes any unambiguous beginning.
_OURS = {
    "array": "submit_array",
    "chdir": "directory",
    "clusters": "the variable SLURM_CLUSTERS, which all of Slurm's commands follow",
    "error": "stderr",
    "export": "environment and inherit",
    "export-file": "environment",
    "get-user-env": "inherit",
    "help": "the command line",
    "input": "stdin",
    "job-name": "name",
    "no-requeue": "rerunnable",
    "open-mode": "append_streams",
    "output": "stdout",
    "parsable": "nothing: it is always set",
    "requeue": "rerunnable",
    "test-only": "nothing: jobs are submitted",
    "uid": "another login",
    "gid": "another login",
    "usage": "the command line",
    "version": "the command line",
    "wait": "Job.wait",
    "wrap": "argv",
}
_OURS_SHORT = {
    "a": "array", "D": "chdir", "M": "clusters", "e": "error", "h": "help", "i": "input", "J": "job-name", "o": "output",
    "V": "version", "W": "wait",
}  # fmt: skip
# Options without a value, of all releases; after any other a word without "-" may follow as its value.
_FLAGS_SHORT = frozenset("HIkKOQsv")
_FLAGS = frozenset({
    "contiguous", "disable-stdout-job-summary", "exclusive", "external", "hold", "ignore-pbs", "immediate", "no-kill", "nice",
    "overcommit", "oversubscribe", "propagate", "quiet", "reboot", "resv-ports", "spread-job", "stepmgr", "use-min-nodes",
    "verbose",
})  # fmt: skip
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)


def check(job: JobDescription) -> None:
    """Raise InvalidJob or UnsupportedAttribute for what sbatch could not be told, or would be told twice."""
    _check_native(job.native)
    for name, _ in _attributes(job):
        if not _ATTRIBUTE.fullmatch(name):
            raise InvalidJob(
                f"slurm: the attribute {'slurm.' + name!r} is no option of sbatch; write one of its long options, such as "
                "'slurm.constraint'",
                field="attributes",
            )
        if name in _OURS:
            raise InvalidJob(
                f"slurm: the attribute 'slurm.{name}' belongs to jobyard; use {_OURS[name]} instead", field="attributes"
            )
    for address in job.email:
        if "," in address:
            raise InvalidJob(f"slurm: {address!r} is no address; give several as a list", field="email")
    resources = job.resources
    if resources.gpus and resources.processes is None and resources.processes_per_node is None and resources.total_nodes > 1:
        raise UnsupportedAttribute(
            "slurm counts GPUs by processes: with several nodes, give processes or processes_per_node, too",
            field="gpus",
            scheduler="slurm",
        )


def _check_native(words: tuple[str, ...]) -> None:
    """Engine's options are refused by name, and a word that is no option: sbatch would take it for the script."""
    value_may_follow = False
    for word in words:
        if not word.startswith("-") or word == "-":
            if not value_may_follow or word == ":":
                raise InvalidJob(
                    f"slurm: {word!r} is neither an option of sbatch nor the value of one; what runs stands in argv", field="native"
                )
            value_may_follow = False
            continue
        if word == "--":
            raise InvalidJob("slurm: '--' would end sbatch's options before jobyard's; leave it out", field="native")
        if word.startswith("--"):
            name, equals, _ = word[2:].partition("=")
            ours = _long(name)
            value_may_follow = not equals and name not in _FLAGS
        else:
            letter = word[1]
            while letter in _FLAGS_SHORT and len(word) > 2:  # -HQ
                word = word[1:]
                letter = word[1]
            ours = _OURS_SHORT.get(letter)
            value_may_follow = len(word) == 2 and letter not in _FLAGS_SHORT
        if ours is not None:
            raise InvalidJob(f"slurm: the option --{ours} belongs to jobyard; use {_OURS[ours]} instead", field="native")


def _long(name: str) -> str | None:
    """The engine's option that sbatch could take this for: it takes any beginning that fits one option alone."""
    if name in _OURS:
        return name
    return next((ours for ours in _OURS if name and ours.startswith(name)), None)


def _attributes(job: JobDescription) -> Iterator[tuple[str, str]]:
    """The names after ``slurm.`` as sbatch writes them, with their values."""
    for name, value in job.attributes.items():
        if name.startswith("slurm."):
            yield name.removeprefix("slurm.").replace("_", "-"), value


# Options ------------------------------------------------------------------------------------------------------------


def sends_positions(submission: Submission) -> bool:
    """Whether Slurm is sent 0, 1, 2, ... in place of the user's indices, because one is over what it may take.

    Its largest index is MaxArraySize - 1, and SiteLimits.max_array_size is that too; so an array whose largest index is not
    over its number of tasks always fits as it is.
    """
    indices = submission.indices
    return submission.kind is Kind.ARRAY and bool(indices) and (max(indices) > len(indices) or min(indices) < 0)


def sbatch_options(submission: Submission) -> list[str]:
    """Options of sbatch in the order: the user's native ones, attributes, ours, which win."""
    job = submission.description
    folder = submission.folder.replace("%", "%%")
    options = [*job.native]
    options += [f"--{name}={value}" if value else f"--{name}" for name, value in _attributes(job)]
    options += [*_placement(job), *_resources(job.resources)]
    if job.hold:
        options.append("--hold")
    if submission.after:
        after = {"success": "afterok", "failure": "afternotok", "any": "afterany"}
        options.append("--dependency=" + ",".join(f"{after[when]}:{native_id}" for native_id, when in submission.after))
        options.append("--kill-on-invalid-dep=yes")  # else a job that can no longer begin waits for ever
    if submission.kind is not Kind.SINGLE:
        indices = range(len(submission.indices)) if sends_positions(submission) else submission.indices
        cap = f"%{submission.max_running}" if submission.max_running is not None else ""
        options.append(f"--array={ranges(indices)}{cap}")
    options += [
        f"--job-name={job.shown_name}",
        f"--chdir={submission.folder}",  # its last component is the token
        f"--output={folder}/batch.log",
        "--input=/dev/null",
        "--open-mode=append",
        "--export=NIL",  # what a job inherits stands in its folder
        "--requeue" if job.rerunnable else "--no-requeue",
    ]
    return options


def _placement(job: JobDescription) -> Iterator[str]:
    if job.queue is not None:
        yield f"--partition={job.queue}"
    if job.account is not None:
        yield f"--account={job.account}"
    if job.reservation is not None:
        yield f"--reservation={job.reservation}"
    if job.priority:
        yield f"--nice={-job.priority}"  # negative values are for operators: sbatch refuses them to others
    if job.begin_at is not None:
        yield f"--begin=uts{max(0, math.ceil(job.begin_at))}"
    if job.deadline_at is not None:
        yield f"--deadline=uts{max(0, math.floor(job.deadline_at))}"
    if job.limits.walltime_s is not None:
        yield f"--time={max(1, math.ceil(job.limits.walltime_s / 60))}"  # minutes: its limits are of whole ones
    if job.email:
        yield f"--mail-user={','.join(job.email)}"
        yield f"--mail-type={','.join(on.upper() for on in job.email_on) or 'END,FAIL'}"


def _resources(resources: Resources) -> Iterator[str]:
    laid_out = resources.nodes is not None or resources.processes_per_node is not None or resources.total_processes == 1
    nodes = resources.total_nodes
    if resources.nodes is not None or resources.processes_per_node is not None:
        yield f"--nodes={nodes}"
    if resources.processes is not None or resources.processes_per_node is not None or resources.nodes is not None:
        yield f"--ntasks={resources.total_processes}"
    if resources.processes_per_node is not None:
        yield f"--ntasks-per-node={resources.processes_per_node}"
    if resources.cores is not None:
        yield f"--cpus-per-task={resources.cores}"
    if resources.gpus:
        if laid_out:
            yield f"--gres=gpu:{resources.total_gpus // nodes}"  # of each node
        else:
            yield f"--gpus-per-task={resources.gpus}"
    if resources.memory_bytes is not None:
        if laid_out:
            yield f"--mem={_mib(resources.memory_bytes, nodes)}M"  # of each node
        else:
            yield f"--mem-per-cpu={_mib(resources.memory_bytes, resources.total_cores)}M"
    if resources.exclusive:
        yield "--exclusive"


def _mib(total_bytes: int, parts: int) -> int:
    """Each part's share in MiB, rounded up: 0 would mean all that a node has."""
    return max(1, -(-total_bytes // (parts * _MIB)))
