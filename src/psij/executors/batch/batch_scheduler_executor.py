"""The base of executors that speak to a batch scheduler by its commands."""

from __future__ import annotations

import builtins
import os
import subprocess
from abc import abstractmethod
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from ..._engine_executor import EngineExecutor
from ...exceptions import SubmitException
from ...job import Job
from ...job_executor_config import JobExecutorConfig
from ...job_launcher import Launcher
from ...job_status import JobStatus
from ._context import script_context

if TYPE_CHECKING:
    import jobyard

    from ..._engine import Link

__all__ = [
    "UNKNOWN_ERROR",
    "BatchSchedulerExecutor",
    "BatchSchedulerExecutorConfig",
    "InvalidJobStateError",
    "check_status_exit_code",
]

UNKNOWN_ERROR = "PSIJ: Unknown error"


def check_status_exit_code(command: str, exit_code: int, out: str) -> None:
    """For ``parse_status_output``: RuntimeError, with the command and what it printed, where ``exit_code`` is not 0."""
    if exit_code != 0:
        raise RuntimeError(f"status command {command!r} exited with {exit_code} and output {out!r}")


class InvalidJobStateError(Exception):
    """Raised by ``process_cancel_command_output`` where the job had already ended when it was to be cancelled."""


class BatchSchedulerExecutorConfig(JobExecutorConfig):
    """The configuration of executors for batch schedulers.

    ``queue_polling_interval``: seconds between two questions about the queue, at least; ``initial_queue_polling_delay`` and
    ``queue_polling_error_threshold`` are kept for programs that set them: the first question is asked as early as is of
    use, and no number of failed ones ends a job. ``keep_files``: scripts and auxiliary files stay in the work directory
    when jobs end; so does ``PSIJ_BATCH_KEEP_FILES`` in the environment.
    """

    def __init__(
        self,
        launcher_log_file: Path | None = None,
        work_directory: Path | None = None,
        queue_polling_interval: int = 30,
        initial_queue_polling_delay: int = 2,
        queue_polling_error_threshold: int = 2,
        keep_files: bool = False,
    ) -> None:
        super().__init__(launcher_log_file, work_directory)
        self.queue_polling_interval = queue_polling_interval
        self.initial_queue_polling_delay = initial_queue_polling_delay
        self.queue_polling_error_threshold = queue_polling_error_threshold
        self.keep_files = keep_files or "PSIJ_BATCH_KEEP_FILES" in os.environ

    @classmethod
    def _from_config(cls, config: JobExecutorConfig) -> Self:
        """One of this class with the values of a plain JobExecutorConfig."""
        made = cls()
        made.__dict__.update(config.__dict__)
        return made


class BatchSchedulerExecutor(EngineExecutor):
    """The base of executors for batch schedulers: a subclass says which commands to run, and reads what they print.

    A submission writes the script that ``generate_submit_script`` makes into the job's own folder, runs the command of
    ``get_submit_command``, and takes the native id from its output. From then on the queue is asked by
    ``get_status_command`` for all jobs together. A failed question changes nothing; a job that the queue does not list has
    not ended well for that: its receipt (written by the script's shared part ``batch_lib``) or its exit code file says how
    it ended, and without either it FAILED as lost after a grace.

    ``context`` of ``generate_submit_script``, for templates::

        job                     id, name, native_id, spec (paths absolute, staging sources and targets too)
        custom_attributes       {prefix: [{key, value}, ...]}, prefixes in lower case; keys without a dot as they are
        env                     [{name, value}, ...]
        formatted_job_duration  as _format_duration says
        psij.launch_command     the words of the command that launches the job
        psij.script_dir         the folder for the script's own files: NATIVE_ID.ec (the exit code), NATIVE_ID.out, ...
        psij.lib                functions of template_function_library

    A script is best begun with ``{{> batch_lib}}``, and leaves the exit code of the launch command in ``_PSIJ_JOB_EC``.
    """

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, self._get_config(config))
        self._own_work_directory: Path | None = None
        self._sending: dict[str, Job] = {}  # jobs that are being submitted, by id

    def _get_config(self, config: JobExecutorConfig | None) -> BatchSchedulerExecutorConfig:
        if config is None:
            return BatchSchedulerExecutorConfig()
        if isinstance(config, BatchSchedulerExecutorConfig):
            return config
        return BatchSchedulerExecutorConfig._from_config(config)

    @property
    def work_directory(self) -> Path:
        """Where scripts and auxiliary files go that are kept; other files lie in the folder of each job."""
        if self._own_work_directory is not None:
            return self._own_work_directory
        if self.config._work_directory is not None:
            return self.config._work_directory / self.name
        from ..._engine import work_root

        return work_root() / "psij" / self.name

    @work_directory.setter
    def work_directory(self, value: Path) -> None:
        self._own_work_directory = Path(value)

    def _open_link(self, contact: str | None = None) -> Link:
        from ._wrapped import open_wrapped

        return open_wrapped(self, contact)

    def _parse_url(self) -> str:
        return self.url or ""  # its meaning is the subclass's own

    def _send(self, jobs: builtins.list[Job], **changes: object) -> None:
        self._sending.update((job.id, job) for job in jobs)
        try:
            super()._send(jobs, **changes)
        finally:
            for job in jobs:
                del self._sending[job.id]

    def _describe(self, job: Job) -> tuple[jobyard.JobDescription, str | None]:
        from ..._describe import described_for_script

        assert job.spec is not None
        return described_for_script(job.spec, self._tags(job, job.spec)), None

    # What a subclass says -----------------------------------------------------------------------------------------

    @abstractmethod
    def generate_submit_script(self, job: Job, context: dict[str, object], submit_file: IO[str]) -> None:
        """Write the job's submit script to ``submit_file``. InvalidJobException for what it cannot express."""

    @abstractmethod
    def get_submit_command(self, job: Job, submit_file_path: Path) -> builtins.list[str]:
        """The command that submits the script, as a list of words."""

    @abstractmethod
    def job_id_from_submit_output(self, out: str) -> str:
        """The native id in what the submit command printed."""

    @abstractmethod
    def get_cancel_command(self, native_id: str) -> builtins.list[str]:
        """The command that cancels a job."""

    @abstractmethod
    def process_cancel_command_output(self, exit_code: int, out: str) -> None:
        """Called where the cancel command failed: InvalidJobStateError where the job had ended, else SubmitException."""

    @abstractmethod
    def get_status_command(self, native_ids: Collection[str]) -> builtins.list[str]:
        """The command that tells the status of these jobs, or of all."""

    @abstractmethod
    def parse_status_output(self, exit_code: int, out: str) -> dict[str, JobStatus]:
        """The status of each job in what the status command printed. Any exception: it said nothing, and is asked again."""

    def get_list_command(self) -> builtins.list[str]:
        """The command that lists the native ids of this user's jobs, one on each line unless ``parse_list_output`` knows
        better. SubmitException where there is no such command."""
        raise SubmitException(f"{self.name} cannot list jobs: {type(self).__name__} has no get_list_command")

    def parse_list_output(self, out: str) -> builtins.list[str]:
        """The native ids in what the list command printed."""
        return [line.strip() for line in out.splitlines() if line.strip()]

    # What it finds here -------------------------------------------------------------------------------------------

    def _create_script_context(self, job: Job) -> dict[str, object]:
        """The context of ``generate_submit_script``."""
        return script_context(self, job, self._get_launcher_from_job(job), str(self.work_directory))

    def _format_duration(self, d: timedelta) -> str:
        """A duration as the scheduler writes it; ``hours:minutes:seconds``, rounded up to seconds, unless overridden."""
        seconds = -int(-d.total_seconds() // 1)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def _get_launcher_from_job(self, job: Job) -> Launcher:
        assert job.spec is not None
        return self._get_launcher(job.spec.launcher or Launcher.DEFAULT_LAUNCHER_NAME)

    def _run_command(self, cmd: builtins.list[str]) -> str:
        """Run a command; what it printed on both streams. ``subprocess.CalledProcessError`` where it failed."""
        res = subprocess.run(
            cmd,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="surrogateescape",
        )
        return res.stdout

    def _clean_submit_script(self, job: Job) -> None:
        """Kept for subclasses that call it: the script lies in the job's folder, and goes with it."""

    def _delete_aux_file(
        self, job: Job | None = None, suffix: str | None = None, path: Path | None = None, force: bool = False
    ) -> None:
        """Remove a file that the executor keeps, by its path or by the job's native id and a suffix, unless files are kept."""
        assert isinstance(self.config, BatchSchedulerExecutorConfig)
        if self.config.keep_files:
            return
        if path is None and job is not None and job.native_id is not None and suffix is not None:
            path = self.work_directory / (job.native_id + suffix)
        if path is not None:
            path.unlink(missing_ok=True)

    def _current_user(self) -> str:
        """The user's name, by the effective user id: there may be no terminal."""
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
