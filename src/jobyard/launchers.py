"""How a command is started within its allocation: ``single``, ``multiple``, ``mpirun``, ``srun``, ``jsrun``, ``aprun``.

A launcher is a pure function from a description to a ``Launch``: an argv template that the shepherd fills in on the node,
where it can see which MPI is there. ``register_launcher`` adds others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .errors import InvalidJob
from .job import JobDescription

__all__ = ["COMMAND", "MPI", "OPTIONS", "Launch", "is_added", "launch_data", "launch_for", "launcher_names", "register_launcher"]

COMMAND = "\0command\0"  # the job's argv
OPTIONS = "\0options\0"  # the description's launcher_options
MPI = "\0mpi\0"  # what the mpirun found on the node needs: --oversubscribe of Open MPI, -ppn of MPICH


class Launch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the shepherd starts the command.

    ``argv``: words, in which COMMAND, OPTIONS and MPI stand for several. ``copies``: run so many of it side by side on this
    node, each told its number by the variables of ``index_variables`` (name and number of the first) and all the count by
    ``count_variables``; the first in order that did not exit with 0 decides the ending. ``processes_per_node``: for MPI.
    ``processes``: how many there are in all; ``host_file_variables`` name a file with a line for each, the host that the
    scheduler has a place for it on.
    """

    argv: tuple[str, ...] = (COMMAND,)
    copies: int | None = None
    index_variables: tuple[tuple[str, int], ...] = ()
    count_variables: tuple[str, ...] = ()
    processes_per_node: int | None = None
    processes: int = 1
    host_file_variables: tuple[str, ...] = ("JOBYARD_HOST_FILE", "PSIJ_NODEFILE")  # the second is PSI/J's


Launcher = Callable[[JobDescription], Launch | None]


def _single(job: JobDescription) -> Launch | None:
    """The command itself, once."""
    return None


def _multiple(job: JobDescription) -> Launch:
    """As many copies as there are processes, all on the first node. The second names are PSI/J's, whose programs read them."""
    return Launch(
        copies=job.resources.total_processes,
        processes=job.resources.total_processes,
        index_variables=(("JOBYARD_PROCESS_INDEX", 0), ("_PSI_J_PROCESS_INDEX_", 1)),
        count_variables=("JOBYARD_PROCESS_COUNT", "_PSI_J_PROCESS_COUNT"),
    )


def _mpirun(job: JobDescription) -> Launch:
    """Open MPI, MPICH, Intel MPI and their like: ``mpirun -n N``; what they differ in is added on the node."""
    return Launch(
        argv=("mpirun", MPI, "-n", str(job.resources.total_processes), OPTIONS, COMMAND),
        processes_per_node=job.resources.processes_per_node,
        processes=job.resources.total_processes,
    )


def _srun(job: JobDescription) -> Launch:
    """Slurm. What is not asked for comes from the allocation; cores do not since 22.05, so they are said again."""
    asked = job.resources
    words = ["srun", f"--ntasks={asked.total_processes}"]
    if asked.nodes is not None:
        words.append(f"--nodes={asked.nodes}")
    if asked.processes_per_node is not None:
        words.append(f"--ntasks-per-node={asked.processes_per_node}")
    if asked.cores is not None:
        words.append(f"--cpus-per-task={asked.cores}")
    return Launch(argv=(*words, OPTIONS, COMMAND), processes=asked.total_processes)


def _jsrun(job: JobDescription) -> Launch:
    """LSF on IBM machines: one resource set for each process (``--np`` and ``-p`` are the same option there)."""
    asked = job.resources
    if asked.cores is None and asked.gpus is None and asked.processes_per_node is None:
        return Launch(argv=("jsrun", f"--np={asked.total_processes}", OPTIONS, COMMAND), processes=asked.total_processes)
    words = ["jsrun", f"--nrs={asked.total_processes}", "--tasks_per_rs=1", f"--cpu_per_rs={asked.cores or 1}"]
    if asked.gpus is not None:
        words.append(f"--gpu_per_rs={asked.gpus}")
    if asked.processes_per_node is not None:
        words.append(f"--rs_per_host={asked.processes_per_node}")
    return Launch(argv=(*words, OPTIONS, COMMAND), processes=asked.total_processes)


def _aprun(job: JobDescription) -> Launch:
    """Cray ALPS."""
    asked = job.resources
    words = ["aprun", "-n", str(asked.total_processes)]
    if asked.processes_per_node is not None:
        words += ["-N", str(asked.processes_per_node)]
    if asked.cores is not None:
        words += ["-d", str(asked.cores)]
    return Launch(argv=(*words, OPTIONS, COMMAND), processes=asked.total_processes)


_LAUNCHERS: dict[str, Launcher] = {
    "single": _single,
    "multiple": _multiple,
    "mpirun": _mpirun,
    "srun": _srun,
    "jsrun": _jsrun,
    "aprun": _aprun,
}
_OURS = frozenset(_LAUNCHERS)


def register_launcher(name: str, launcher: Launcher) -> None:
    """Add a launcher, or put another in the place of one of that name. None from it: the command itself, once."""
    if not name:
        raise ValueError("a launcher needs a name")
    _LAUNCHERS[name] = launcher


def is_added(name: str) -> bool:
    """The launcher was registered, not one of ours: it is used with every scheduler."""
    return name in _LAUNCHERS and name not in _OURS


def launcher_names() -> tuple[str, ...]:
    """All launchers, in alphabetical order."""
    return tuple(sorted(_LAUNCHERS))


def launch_for(job: JobDescription, name: str | None = None) -> Launch | None:
    """The launch of a description, by its own launcher or the one of that name; None: the command itself, once.

    Raises InvalidJob for a name that no launcher has, for options that none would read, and for a command that a launcher
    would take for its own option.
    """
    name = job.launcher if name is None else name
    launcher = _LAUNCHERS.get(name)
    if launcher is None:
        raise InvalidJob(f"there is no launcher {name!r}; there are {', '.join(launcher_names())}", field="launcher")
    launch = launcher(job)
    takes_options = launch is not None and OPTIONS in launch.argv
    if job.launcher_options and not takes_options:
        raise InvalidJob(
            f"the launcher {name!r} takes no options, these were given: {job.launcher_options}", field="launcher_options"
        )
    if takes_options and job.argv[0].startswith("-"):
        raise InvalidJob(f"{name} would take the command {job.argv[0]!r} for an option; write ./{job.argv[0]}", field="argv")
    return launch


def launch_data(job: JobDescription) -> dict[str, Any] | None:
    """The value of ``launch`` in job.json. Raises InvalidJob, as ``launch_for``."""
    if job.launcher == "single" and not job.launcher_options and _LAUNCHERS["single"] is _single:
        return None
    launch = launch_for(job)
    if launch is None:
        return None
    data: dict[str, Any] = msgspec.to_builtins(launch)
    data.setdefault("argv", (COMMAND,))
    data.setdefault("host_file_variables", launch.host_file_variables)  # the node has no defaults
    return data
