"""OAR as a Scheduler: the dialect's commands, and what the site must be asked before a job is laid out."""

from __future__ import annotations

import time

from ...job import JobDescription
from ...transports.base import Transport
from ..base import Accepted, Kind, Submission, Traits
from ..command import CommandOptions, CommandScheduler
from .dialect import OarDialect
from .request import Names

__all__ = ["OarScheduler"]


class OarScheduler(CommandScheduler):
    """Scheduler of jobyard.schedulers.base for OAR.

    Which properties resources have is asked when the first job comes that depends on it, and remembered as long as limits are.
    """

    dialect: OarDialect

    def __init__(self, transport: Transport, names: Names | None = None, options: CommandOptions | None = None) -> None:
        super().__init__(OarDialect(names), transport, options)
        self._site_at: float | None = None

    def traits_of(self, submission: Submission) -> Traits:
        """The Traits of one submission."""
        return self.dialect.traits_of(submission)

    def check(
        self, description: JobDescription, *, kind: Kind = Kind.SINGLE, tasks: int = 1, max_running: int | None = None
    ) -> None:
        """As Scheduler.check. SchedulerUnavailable where the site must be asked, and does not answer."""
        if self.dialect.needs_site(description):
            self._know_site()
        super().check(description, kind=kind, tasks=tasks, max_running=max_running)

    def submit(self, submission: Submission) -> Accepted:
        """As Scheduler.submit. After a crash nobody has checked the description here before."""
        if self.dialect.needs_site(submission.description):
            self._know_site()
        return super().submit(submission)

    def _know_site(self) -> None:
        now_s = time.monotonic()
        if self._site_at is not None and now_s - self._site_at < self.options.limits_for_s:
            return
        result = self._run("limits", self.dialect.site_command())
        properties = self._read(result, lambda: self.dialect.parse_site(result))
        self.dialect = OarDialect(self.dialect.names, properties)
        self._site_at = now_s
