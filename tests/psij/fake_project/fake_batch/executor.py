"""An executor for the fake queue beside it, written against the extension interface of PSI/J alone."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import IO

from psij import Job, JobExecutorConfig, JobState, JobStatus, SubmitException
from psij.executors.batch.batch_scheduler_executor import (
    BatchSchedulerExecutor,
    BatchSchedulerExecutorConfig,
    InvalidJobStateError,
    check_status_exit_code,
)
from psij.executors.batch.script_generator import TemplatedScriptGenerator

_HERE = Path(__file__).parent
_QUEUE = [sys.executable, "-I", "-S", str(_HERE / "queue_program.py")]
_STATES = {
    "Q": JobState.QUEUED,
    "R": JobState.ACTIVE,
    "C": JobState.COMPLETED,
    "F": JobState.FAILED,
    "X": JobState.CANCELED,
}


class FakeExecutorConfig(BatchSchedulerExecutorConfig):
    """As its base, but asks more often."""

    def __init__(
        self,
        launcher_log_file: Path | None = None,
        work_directory: Path | None = None,
        queue_polling_interval: float = 0.1,
        initial_queue_polling_delay: int = 0,
        queue_polling_error_threshold: int = 2,
        keep_files: bool = False,
    ) -> None:
        super().__init__(
            launcher_log_file,
            work_directory,
            queue_polling_interval,  # type: ignore[arg-type]  # a fraction, which only a test asks for
            initial_queue_polling_delay,
            queue_polling_error_threshold,
            keep_files,
        )


class FakeExecutor(BatchSchedulerExecutor):
    """Submits to the fake queue. ``url`` is the queue's folder."""

    template = "fake.mustache"

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        if config is None:
            config = FakeExecutorConfig()
        super().__init__(url=url, config=config)
        self.generator = TemplatedScriptGenerator(config, _HERE / self.template)

    def _command(self, *words: str) -> list[str]:
        return [*_QUEUE, self.url or "", *words]

    def generate_submit_script(self, job: Job, context: dict[str, object], submit_file: IO[str]) -> None:
        self.generator.generate_submit_script(job, context, submit_file)

    def get_submit_command(self, job: Job, submit_file_path: Path) -> list[str]:
        return self._command("submit", str(submit_file_path.absolute()))

    def job_id_from_submit_output(self, out: str) -> str:
        return out.strip().split()[-1]

    def get_cancel_command(self, native_id: str) -> list[str]:
        return self._command("delete", native_id)

    def process_cancel_command_output(self, exit_code: int, out: str) -> None:
        if exit_code == 16:
            raise InvalidJobStateError
        raise SubmitException(out)

    def get_status_command(self, native_ids: Collection[str]) -> list[str]:
        return self._command("status", ",".join(native_ids))

    def parse_status_output(self, exit_code: int, out: str) -> dict[str, JobStatus]:
        check_status_exit_code("status", exit_code, out)
        found = {}
        for line in out.splitlines():
            native_id, state, *rest = line.split(maxsplit=2)
            assert state in _STATES, f"unknown state {state}"
            found[native_id] = JobStatus(_STATES[state], message=rest[0] if rest else None)
        return found

    def get_list_command(self) -> list[str]:
        return self._command("list")


class OldFakeExecutor(FakeExecutor):
    """The same with a script as executors had it before there were shared parts: an exit code file, and nothing more."""

    template = "old.mustache"
