"""Launchers: how the processes of a job are started once it has its nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from . import _plugins
from .job_executor_config import JobExecutorConfig

if TYPE_CHECKING:
    from .descriptor import Descriptor
    from .job import Job

__all__ = ["Launcher"]


class Launcher(ABC):
    """The base of all launchers. ``config``: None for JobExecutorConfig.DEFAULT."""

    DEFAULT_LAUNCHER_NAME: ClassVar[str] = "single"
    """Used for jobs whose specification names none."""

    _NAME_: ClassVar[str | None] = None

    def __init__(self, config: JobExecutorConfig | None = None) -> None:
        self.config = config if config is not None else JobExecutorConfig.DEFAULT

    @abstractmethod
    def get_launch_command(self, job: Job) -> list[str]:
        """The command, as a list of words, that launches the job."""

    @staticmethod
    def get_instance(name: str, version_constraint: str | None = None, config: JobExecutorConfig | None = None) -> Launcher:
        """A launcher by name; the highest version that satisfies the constraint (such as ``"> 0.0.2, != 0.0.4"``).

        ValueError where there is none, or where its class cannot be loaded.
        """
        launcher = _plugins.launchers().make(name, version_constraint, {"config": config})
        assert isinstance(launcher, Launcher)
        return launcher

    @staticmethod
    def register_launcher(desc: Descriptor, root: str) -> None:
        """Make a launcher class, which must lie under the path ``root``, known by its descriptor.

        ValueError where the same name and version is registered already from elsewhere.
        """
        _plugins.launchers().register(desc, root)

    @staticmethod
    def get_launcher_names() -> set[str]:
        """The names, aliases too, that ``get_instance`` takes."""
        return _plugins.launchers().names()
