"""Jobs that go through the shepherd: those with a launcher, stages, or scripts around the launch.

The client writes the job's folder before it submits; the spawner starts ``run.py`` in it; the server reads the receipts. The
shepherd is the job's leader, so limits, signals and the end of the session work as for any other job.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from ...job import Ending, JobDescription, Usage
from ..base import Kind, Submission, Traits
from .paths import StateFolder
from .protocol import CLEANING, RUNNING, STAGING_IN, STAGING_OUT

if TYPE_CHECKING:
    from ...script import WorkRoot
    from .jobs import Job

__all__ = ["Folders", "ending_of", "first_state", "goes_through", "stages_of", "usage_of", "wait_status"]

TRAITS = Traits(
    native_id_variables=("JOBYARD_NATIVE_ID",),
    array_id_variables=("JOBYARD_ARRAY_ID",),
    index_variables=("JOBYARD_TASK_INDEX",),
)
_STAGES = {"stage_in": STAGING_IN, "running": RUNNING, "stage_out": STAGING_OUT, "cleaning": CLEANING}


def goes_through(job: JobDescription) -> bool:
    """A job that needs the shepherd."""
    return (
        job.launcher != "single"
        or bool(job.stage_in or job.stage_out or job.cleanup)
        or job.pre_launch is not None
        or job.post_launch is not None
    )


Launch = tuple[list[bytes], bytes, dict[str, Any]]  # the shepherd's argv, the job's folder, further traits


class Folders:
    """The client's side: the folders of jobs, below the state folder."""

    def __init__(self, folder: StateFolder) -> None:
        self._base = folder.folders
        self._root: WorkRoot | None = None

    def prepare(
        self, job: JobDescription, token: str, indices: tuple[int, ...] | None
    ) -> tuple[list[bytes], bytes, dict[str, Any]]:
        """Write a job's folder: the shepherd's argv, the folder, and what the server must know of it.

        InvalidJob where the launcher is none. OSError where the folder cannot be written.
        """
        import secrets

        from ...script import WorkRoot, job_files

        if self._root is None:
            self._root = WorkRoot(self._base)
        kind = Kind.SINGLE if indices is None else Kind.ARRAY
        nonce = secrets.token_hex(16)
        submission = Submission(token=token, folder=self._root.folder(token), description=job, kind=kind, indices=indices or ())
        files = job_files(submission, TRAITS, nonce=nonce)
        run = self._root.deploy()
        folder = os.fsencode(self._root.create(token, files))
        traits: dict[str, Any] = {"f": folder, "N": nonce}
        if job.stage_in or job.stage_out or job.cleanup:
            traits["s"] = 2 if job.stage_in else 1
        if job.stdout is not None and (job.stderr is not None or job.join_streams):
            traits["E"] = True  # nothing of the user's is left in it
        return [os.fsencode(sys.executable), b"-I", b"-S", os.fsencode(run), folder], folder, traits

    def discard(self, token: str) -> None:
        """The submission was refused."""
        if self._root is not None:
            self._root.remove(token)

    def close(self) -> None:
        """Let go."""
        if self._root is not None:
            self._root.close()
            self._root = None


# The server's side --------------------------------------------------------------------------------------------------


def _receipts(job: Job) -> list[tuple[str, Any]]:
    """(what, observation) of the receipts of this job's present attempt, in order."""
    from ...receipts import read_receipts

    traits, run = job.traits, job.run
    assert traits.folder is not None
    assert run is not None
    folder = os.fsdecode(traits.folder)
    task = job.number - job.batch.first if job.batch.array else 0
    try:
        found = read_receipts(folder, nonce=traits.nonce, token=os.path.basename(folder))
    except OSError:
        return []  # nothing can be read there now
    return [(one.what, one) for number, one in found if number == task and one.attempt == run.attempt]


def ending_of(job: Job) -> Ending | None:
    """What the end receipt of the present attempt says; None: there is none."""
    for what, observation in reversed(_receipts(job)):
        if what == "end":
            ending: Ending | None = observation.ending
            return ending
    return None


def stages_of(job: Job) -> list[tuple[int, float]]:
    """The states that the stage receipts of the present attempt tell, in order, with the time when each began."""
    return [(_STAGES[what], observation.at) for what, observation in _receipts(job) if what in _STAGES]


def wait_status(ending: Ending) -> int | None:
    """The wait status of an ending; None where the command never ran."""
    if ending.exit_code is not None:
        return ending.exit_code << 8
    if ending.signal is None:
        return None
    name = ending.signal
    if name.isdecimal():
        number = int(name)
    elif name.startswith("SIGRTMIN+"):
        number = signal.SIGRTMIN + int(name.removeprefix("SIGRTMIN+"))
    else:
        number = int(signal.Signals[name])
    return number | (0x80 if ending.core_dumped else 0)


def usage_of(usage: Usage) -> tuple[int, ...] | None:
    """As kernel.Peeked has it, without the status."""
    if usage.user_s is None and usage.system_s is None:
        return None
    return (
        round((usage.user_s or 0.0) * 1e6),
        round((usage.system_s or 0.0) * 1e6),
        (usage.max_rss_bytes or 0) // 1024,
        usage.minor_faults or 0,
        usage.major_faults or 0,
        usage.read_blocks or 0,
        usage.written_blocks or 0,
        usage.voluntary_switches or 0,
        usage.involuntary_switches or 0,
    )


def first_state(job: Job) -> int:
    """The state of a job whose shepherd has just been started."""
    return STAGING_IN if job.traits.stages == 2 else RUNNING
