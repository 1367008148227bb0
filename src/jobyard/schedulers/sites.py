"""``SiteScheduler``: a CommandScheduler that must ask its site before some jobs can be laid out."""

from __future__ import annotations

import time
from typing import Protocol, Self

from ..job import JobDescription
from ..transports.base import Transport
from .base import Accepted, Command, Dialect, Kind, Result, Submission, Traits
from .command import CommandOptions, CommandScheduler

__all__ = ["SiteDialect", "SiteScheduler"]


class SiteDialect(Dialect, Protocol):
    """A Dialect to which a site's resources matter, by whatever names they go there."""

    def traits_of(self, submission: Submission) -> Traits:
        """The Traits of one submission."""

    def needs_site(self, description: JobDescription) -> bool:
        """Whether what the site has decides how this job is asked for."""

    def site_command(self) -> Command:
        """What tells what the site has."""

    def knowing(self, result: Result) -> Self:
        """The same dialect, knowing the site by the answer of ``site_command``. SchedulerUnavailable where it tells nothing."""


class SiteScheduler(CommandScheduler):
    """A CommandScheduler whose site is asked when the first job comes that depends on it; the answer is remembered as long as
    limits are."""

    dialect: SiteDialect

    def __init__(self, dialect: SiteDialect, transport: Transport, options: CommandOptions | None = None) -> None:
        super().__init__(dialect, transport, options)
        self._site_at: float | None = None

    def traits_of(self, submission: Submission) -> Traits:
        """The Traits of one submission."""
        return self.dialect.traits_of(submission)

    def check(
        self, description: JobDescription, *, kind: Kind = Kind.SINGLE, tasks: int = 1, max_running: int | None = None
    ) -> None:
        """As Scheduler.check. SchedulerUnavailable where the site must be asked, and does not answer."""
        self._know_site(description)
        super().check(description, kind=kind, tasks=tasks, max_running=max_running)

    def submit(self, submission: Submission) -> Accepted:
        """As Scheduler.submit. After a crash nobody has checked the description here before."""
        self._know_site(submission.description)
        return super().submit(submission)

    def _know_site(self, description: JobDescription) -> None:
        if not self.dialect.needs_site(description):
            return
        now_s = time.monotonic()
        if self._site_at is not None and now_s - self._site_at < self.options.limits_for_s:
            return
        result = self._run("limits", self.dialect.site_command())
        self.dialect = self._read(result, lambda: self.dialect.knowing(result))
        self._site_at = now_s
