"""What an executor can be told when it is made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from ._fields import wrong

__all__ = ["JobExecutorConfig"]


class JobExecutorConfig:
    """The configuration of executors and launchers.

    ``launcher_log_file``: messages of launcher scripts, and what pre- and post-launch scripts print, are appended to
    this file. ``work_directory``: the root of the folders of this executor's jobs; it must be visible to the compute
    nodes. None: ``$JOBYARD_WORK_DIR``, as for every other front. Strings are taken for paths; wrong types raise TypeError.
    """

    DEFAULT: ClassVar[JobExecutorConfig]
    """Used where none is given."""

    DEFAULT_WORK_DIRECTORY: ClassVar[Path] = Path.home() / ".psij" / "work"
    """Where psij-python keeps its files; shown for the sake of programs that read it, and never made unasked."""

    def __init__(self, launcher_log_file: Path | None = None, work_directory: Path | None = None) -> None:
        self._launcher_log_file: Path | None = None
        self._work_directory: Path | None = None
        self.launcher_log_file = launcher_log_file
        if work_directory is not None:
            self.work_directory = work_directory

    @property
    def launcher_log_file(self) -> Path | None:
        """The file for messages of launcher scripts and output of pre- and post-launch scripts; None: none."""
        return self._launcher_log_file

    @launcher_log_file.setter
    def launcher_log_file(self, value: str | os.PathLike[str] | None) -> None:
        self._launcher_log_file = None if value is None else _path("launcher_log_file", value)

    @property
    def work_directory(self) -> Path:
        """The root of the job folders; DEFAULT_WORK_DIRECTORY where none was set, which is then not used."""
        return self._work_directory or self.DEFAULT_WORK_DIRECTORY

    @work_directory.setter
    def work_directory(self, value: str | os.PathLike[str]) -> None:
        self._work_directory = _path("work_directory", value)


def _path(name: str, value: str | os.PathLike[str]) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise wrong(f"JobExecutorConfig.{name}", "a path or a str", value)
    return Path(value)


JobExecutorConfig.DEFAULT = JobExecutorConfig()
