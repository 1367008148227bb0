"""The executor for Torque and other classic PBS."""

from __future__ import annotations

from typing import ClassVar

from .pbs_base import GenericPBSJobExecutor, PBSExecutorConfig

__all__ = ["PBSClassicJobExecutor", "PBSExecutorConfig"]


class PBSClassicJobExecutor(GenericPBSJobExecutor):
    """Submits to Torque and other classic PBS. Custom attributes are those with the prefix ``pbs.``."""

    _SCHEDULER_: ClassVar[str] = "torque"
    _PREFIXES_: ClassVar[tuple[str, ...]] = ("pbs", "pbs_classic", "torque")
