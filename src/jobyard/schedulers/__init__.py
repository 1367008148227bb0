"""The table of schedulers by name: lazy, open to entry points (group ``jobyard.schedulers``) for names it does not have."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import NoScheduler

if TYPE_CHECKING:
    from ..contact import Contact
    from .base import Scheduler

__all__ = ["Known", "find_known", "found", "is_here", "known", "open_scheduler", "scheduler_names"]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduler that jobyard knows: how it is called, where its adapter is, how to tell that it is here."""

    name: str
    title: str
    target: str  # "module:factory"; factory(state_dir, options) returns a Scheduler; "" while there is no adapter
    programs: tuple[str, ...] = ()  # all on PATH: it is here
    package: str = ""  # can be imported: it is here; never chosen by itself, as it does not say that a scheduler runs
    aliases: tuple[str, ...] = ()
    hint: str = ""  # how to get it


def _by_commands(name: str, title: str, programs: tuple[str, ...], *, hint: str, aliases: tuple[str, ...] = ()) -> Known:
    """One whose commands are run: its adapter is the package of its name, and it is here where these are on PATH."""
    return Known(
        name=name,
        title=title,
        target=f"jobyard.schedulers.{name}:open_{name}",
        programs=programs,
        aliases=aliases,
        hint=hint,
    )


_TABLE = {
    entry.name: entry
    for entry in (
        Known(
            name="local",
            title="the embedded scheduler, for this machine",
            target="jobyard.schedulers.local:LocalScheduler",
            hint="it comes with jobyard and needs Linux",
        ),
        _by_commands(
            "slurm",
            "Slurm 20.11 and newer, by its commands",
            ("sbatch", "squeue", "scancel", "scontrol"),
            hint="install Slurm's client commands (Debian: slurm-client), or log in where they are",
        ),
        _by_commands(
            "gridengine",
            "Grid Engine 8.1 and its descendants, by its commands",
            ("qsub", "qstat", "qdel", "qconf"),
            aliases=("sge",),
            hint="source the cell's settings.sh, or install the client commands (Debian: gridengine-client)",
        ),
        _by_commands(
            "htcondor",
            "HTCondor 23 and newer, by its commands",
            ("condor_submit", "condor_q", "condor_rm"),
            aliases=("condor",),
            hint="install HTCondor's commands (Debian: condor), or log in on a submit node",
        ),
        _by_commands(
            "pbs",
            "OpenPBS and PBS Professional, by their commands",
            ("qsub", "qstat", "qdel", "qselect", "pbs_rstat"),
            aliases=("pbspro", "pbs_pro"),
            hint="put PBS's bin folder (often /opt/pbs/bin) on PATH, or log in where its commands are",
        ),
        _by_commands(
            "torque",
            "Torque, by its commands",
            ("qsub", "qstat", "qdel", "qselect", "qchkpt"),
            aliases=("pbs_classic",),
            hint="install Torque's client commands (torque-client), or log in where they are",
        ),
        _by_commands(
            "lsf",
            "IBM Spectrum LSF 10.1 and newer, by its commands",
            ("bsub", "bjobs", "bkill", "bstop", "bresume"),
            hint="source LSF's profile.lsf, or log in where its commands are",
        ),
        _by_commands(
            "flux",
            "Flux, by its command",
            ("flux",),
            hint="put the flux command on PATH, or run within a Flux instance",
        ),
        _by_commands(
            "oar",
            "OAR 2.5, by its commands",
            ("oarsub", "oarstat", "oardel", "oarhold", "oarresume"),
            hint="install OAR's commands (Debian: oar-user), or log in on the frontend where they are",
        ),
        Known(
            name="hyperqueue",
            title="HyperQueue, by its Python package: very many small jobs on this machine, or on a server's workers",
            target="jobyard.schedulers.hyperqueue:open_hyperqueue",
            package="hyperqueue",
            aliases=("hq",),
            hint="install HyperQueue's Python package beside jobyard: pip install 'jobyard[hyperqueue]'",
        ),
        _by_commands(
            "cobalt",
            "Cobalt, by its commands",
            ("qsub", "qstat", "qdel", "qhold", "qrls", "cqsub"),
            hint="log in where Cobalt's commands are",
        ),
        _by_commands(
            "nqsv",
            "NEC NQSV, by its commands",
            ("qsub", "qstat", "qdel", "qhold", "qrls", "qwait"),
            hint="put /opt/nec/nqsv/bin on PATH, or log in where its commands are",
        ),
        Known(
            name="standin",
            title="a stand-in for tests: real commands, real jobs, faults on demand",
            target="jobyard.testing.standin:open_standin",
            programs=("standin-submit",),
            hint="jobyard.testing.standin.install(folder) makes one",
        ),
    )
}
_REMOTE = "jobyard.schedulers.remote:over_ssh"  # lets what a factory made work on another host
_ALIASES = {alias: entry.name for entry in _TABLE.values() for alias in entry.aliases}


def known() -> Mapping[str, Known]:
    """All schedulers of the table, by name; a view that cannot be changed."""
    return MappingProxyType(_TABLE)


def scheduler_names() -> list[str]:
    """Names and aliases of the table."""
    return sorted({*_TABLE, *_ALIASES})


def find_known(name: str) -> Known:
    """The table's entry, else one of an entry point. NoScheduler names those that there are."""
    entry = _TABLE.get(_ALIASES.get(name, name))
    if entry is not None:
        return entry
    from importlib.metadata import entry_points

    for point in entry_points(group="jobyard.schedulers", name=name):
        return Known(name=name, title=f"from {point.dist.name if point.dist else 'another distribution'}", target=point.value)
    raise NoScheduler(f"there is no scheduler {name!r}; known are: {', '.join(sorted(_TABLE))}")


def is_here(entry: Known) -> bool:
    """Its programs are on PATH, or its package is installed (the embedded one: always)."""
    if entry.package:
        from importlib.util import find_spec

        if find_spec(entry.package) is None:
            return False
    return bool(entry.target) and all(shutil.which(program) for program in entry.programs)


def found() -> list[str]:
    """Real schedulers found on this machine, by name; never ``local``, nor the stand-in."""
    return [entry.name for entry in _TABLE.values() if entry.programs and entry.name != "standin" and is_here(entry)]


def open_scheduler(contact: Contact) -> Scheduler:
    """The scheduler that a resolved contact names.

    NoScheduler: unknown, without an adapter, or not on this machine. InvalidContact: an option that it does not have.
    """
    from ..folders import state_dir

    entry = find_known(contact.scheduler)
    if not entry.target:
        raise NoScheduler(f"{entry.name} ({entry.title}) is known, but this release has no adapter for it yet")
    factory: Callable[[Path, Mapping[str, str]], Scheduler] = _load(entry.target)
    # Here at the latest: an adapter from elsewhere tells its options (contact.register_options) when it is imported.
    msgspec.structs.replace(contact, scheduler=entry.name).check_options()
    made = factory(state_dir(), contact.options)
    if contact.host is not None:
        _load(_REMOTE)(made, contact)
    return made


def _load(target: str) -> Any:
    """What "module:name" says: adapters stand above this table, which knows them by name alone."""
    import importlib

    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
