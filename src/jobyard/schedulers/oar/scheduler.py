"""OAR as a Scheduler: the dialect's commands, and what the site must be asked before a job is laid out."""

from __future__ import annotations

from ...transports.base import Transport
from ..command import CommandOptions
from ..sites import SiteScheduler
from .dialect import OarDialect
from .request import Names

__all__ = ["OarScheduler"]


class OarScheduler(SiteScheduler):
    """Scheduler of jobyard.schedulers.base for OAR. What it asks the site: which properties resources have."""

    dialect: OarDialect

    def __init__(self, transport: Transport, names: Names | None = None, options: CommandOptions | None = None) -> None:
        super().__init__(OarDialect(names), transport, options)
