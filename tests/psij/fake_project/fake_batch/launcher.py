"""A launcher with a script of its own, written against the extension interface of PSI/J alone."""

from __future__ import annotations

from pathlib import Path

from psij import Job, JobExecutorConfig
from psij.launchers import MultipleLauncher

_HERE = Path(__file__).parent


class FakeLauncher(MultipleLauncher):
    """Says which process it starts, through a helper that is deployed with it."""

    def __init__(self, config: JobExecutorConfig | None = None) -> None:
        super().__init__(_HERE / "fake_launch.sh", config)

    def _files_to_deploy(self) -> list[Path]:
        return [*super()._files_to_deploy(), _HERE / "helper.sh"]

    def get_additional_args(self, job: Job) -> list[str]:
        count = int(super().get_additional_args(job)[0])
        if count > 8:
            raise ValueError("this launcher starts 8 processes at most")
        return [str(count), "extra word"]
