"""The executor for PBS Pro and OpenPBS."""

from __future__ import annotations

from typing import ClassVar

from .pbs_base import GenericPBSJobExecutor, PBSExecutorConfig

__all__ = ["PBSExecutorConfig", "PBSJobExecutor"]


class PBSJobExecutor(GenericPBSJobExecutor):
    """Submits to PBS Pro and OpenPBS. Custom attributes are those with the prefix ``pbs.``."""

    _SCHEDULER_: ClassVar[str] = "pbs"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("pbs", "pbspro", "pbs_pro")
