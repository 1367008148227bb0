"""The launcher that calls ``mpirun``."""

from __future__ import annotations

from pathlib import Path

from ..job_executor_config import JobExecutorConfig
from .multiple import MultipleLauncher

__all__ = ["MPILauncher"]


class MPILauncher(MultipleLauncher):
    """Starts the processes with the mpirun of the PATH: Open MPI (4 and 5), MPICH, and others that understand -n."""

    def __init__(self, config: JobExecutorConfig | None = None) -> None:
        super().__init__(Path(__file__).parent / "scripts" / "mpi_launch.sh", config)
