"""What an application needs, in the words of each scheduler's submit command. Pure.

Limits are rounded up to what the scheduler counts in, and never to 0, which means "no limit" there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .exceptions import InvalidValue

if TYPE_CHECKING:
    from ._application import Application

__all__ = ["bsub", "qsub_pbs", "qsub_sge", "sbatch"]

_PBS_NAME = 15  # characters that every PBS takes


def _command(resource: Any, name: str) -> list[str]:
    found = getattr(resource, name, name)
    return [found] if isinstance(found, str) else list(found)


def sbatch(app: Application, resource: Any) -> tuple[list[str], list[str]]:
    """Slurm: minutes of walltime, megabytes of memory in all."""
    argv = [*_command(resource, "sbatch"), "--no-requeue", "--job-name", app.jobname]
    if app.requested_walltime is not None:
        argv += ["--time", str(app.requested_walltime.rounded_up("m"))]
    if app.stdout is not None:
        argv += ["--output", app.stdout]
    if app.stdin is not None:
        argv += ["--input", app.stdin]
    if app.stderr is not None and not app.join:
        argv += ["--error", app.stderr]
    if app.requested_memory is not None:
        argv += ["--mem", str(app.requested_memory.rounded_up("MB"))]
    program = app.cmdline(resource)
    if app.requested_cores > 1:
        cores = ["--cpus-per-task", str(app.requested_cores)]
        argv += ["--ntasks", "1", *cores]
        program = [*_command(resource, "srun"), *cores, *program]  # srun does not take them from sbatch in every release
    return argv, program


def qsub_sge(app: Application, resource: Any) -> tuple[list[str], list[str]]:
    """Grid Engine: seconds of walltime, megabytes of memory for each core, cores by a parallel environment."""
    argv = [*_command(resource, "qsub"), "-cwd", "-S", "/bin/sh", "-N", app.jobname]
    if app.requested_walltime is not None:
        argv += ["-l", f"s_rt={app.requested_walltime.rounded_up('s')}"]
    if app.requested_memory is not None:
        argv += ["-l", f"mem_free={(app.requested_memory / app.requested_cores).rounded_up('MB')}M"]
    argv += _streams(app, "-o", "-e", "-i")
    if app.join:
        argv += ["-j", "yes"]
    if app.requested_cores > 1:
        environment = getattr(resource, f"{app.application_name}_pe", None) or getattr(resource, "default_pe", None)
        if environment is None:
            raise InvalidValue(
                f"{app.requested_cores} cores need a parallel environment, and the resource names none: "
                f"set default_pe, or {app.application_name}_pe"
            )
        argv += ["-pe", str(environment), str(app.requested_cores)]
    return argv, app.cmdline(resource)


def qsub_pbs(app: Application, resource: Any) -> tuple[list[str], list[str]]:
    """PBS and Torque: seconds of walltime, megabytes of memory in all, cores of one node."""
    if app.stdin is not None:
        raise InvalidValue("PBS gives jobs no standard input; let the program open the file")
    argv = [*_command(resource, "qsub"), "-N", app.jobname[:_PBS_NAME]]
    if app.requested_walltime is not None:
        argv += ["-l", f"walltime={app.requested_walltime.rounded_up('s')}"]
    if app.requested_memory is not None:
        argv += ["-l", f"mem={app.requested_memory.rounded_up('MB')}mb"]
    if app.requested_cores > 1:
        argv += ["-l", f"nodes=1:ppn={app.requested_cores}"]
    argv += _streams(app, "-o", "-e", None)
    if app.join:
        argv += ["-j", "oe"]
    return argv, app.cmdline(resource)


def bsub(app: Application, resource: Any) -> tuple[list[str], list[str]]:
    """LSF: hours and minutes of walltime, megabytes of memory in all, cores of one host."""
    argv = [*_command(resource, "bsub"), "-cwd", ".", "-L", "/bin/sh", "-J", app.jobname, "-n", str(app.requested_cores)]
    if app.requested_cores > 1:
        argv += ["-R", "span[hosts=1]"]
    if app.requested_walltime is not None:
        hours, minutes = divmod(app.requested_walltime.rounded_up("m"), 60)
        argv += ["-W", f"{hours:02}:{minutes:02}"]
    if app.requested_memory is not None:
        argv += ["-R", f"rusage[mem={app.requested_memory.rounded_up('MB')}]"]
    argv += _streams(app, "-oo", "-eo", "-i")
    return argv, app.cmdline(resource)


def _streams(app: Application, out: str, err: str, into: str | None) -> list[str]:
    argv: list[str] = []
    if app.stdout is not None:
        argv += [out, app.stdout]
    if app.stderr is not None and not app.join:
        argv += [err, app.stderr]
    if into is not None and app.stdin is not None:
        argv += [into, app.stdin]
    return argv
