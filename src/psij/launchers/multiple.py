"""The launcher that starts all processes on the job's first node."""

from __future__ import annotations

from pathlib import Path

from ..exceptions import InvalidJobException
from ..job import Job
from ..job_executor_config import JobExecutorConfig
from ..resource_spec import ResourceSpec, ResourceSpecV1
from .script_based_launcher import ScriptBasedLauncher

__all__ = ["MultipleLauncher"]


class MultipleLauncher(ScriptBasedLauncher):
    """Starts ``process_count`` copies of the executable at once; ends with the first exit code that is not 0.

    Each copy sees ``_PSI_J_PROCESS_COUNT`` and ``_PSI_J_PROCESS_INDEX_`` (from 1). The base of the launchers that pass the
    number of processes to their script.
    """

    def __init__(
        self, script_path: Path = Path(__file__).parent / "scripts" / "multi_launch.sh", config: JobExecutorConfig | None = None
    ) -> None:
        super().__init__(script_path, config)

    def get_additional_args(self, job: Job) -> list[str]:
        """The number of processes."""
        return [str(self._get_count(job.spec.resources if job.spec is not None else None))]

    def _get_count(self, res: ResourceSpec | None) -> int:
        if res is None:
            return 1
        if not isinstance(res, ResourceSpecV1):
            raise InvalidJobException(f"{type(self).__name__} understands ResourceSpecV1, not {type(res).__name__}")
        return res.computed_process_count
