"""Whether the scheduler answers: what this process heard of it, and what the others of the login have."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .journal import Journal
from .keeper import Silence
from .leases import APART_S

__all__ = ["Hearing"]

_logger = logging.getLogger("jobyard.tracker")


class Hearing:
    """Of one login's scheduler. The journal carries it between processes, since only one of them asks at a time.

    ``told`` is called with each question that got no answer, and where another process is found to have met one.
    """

    def __init__(self, journal: Journal, login: str, name: str, clock: Callable[[], float], told: Callable[[], None]) -> None:
        self._journal = journal
        self._login = login
        self._name = name
        self._clock = clock
        self._told = told
        self._silence: Silence | None = None  # as last heard

    def silence(self) -> Silence | None:
        """Since when it does not answer; None: it does, or nobody has asked it for a while."""
        silence = self._silence
        return silence if silence is not None and abs(self._clock() - silence.last) <= APART_S else None

    def unanswered(self, asked: float, reason: str) -> None:
        """A question asked at ``asked`` (seconds since the epoch) got no answer."""
        if self._silence is None:
            _logger.warning("%s does not answer: %s", self._name, reason)
        self._silence = self._journal.silent(self._login, asked, reason)
        self._told()

    def answered(self) -> None:
        """A question got its answer."""
        if self._silence is not None:
            _logger.info("%s answers again", self._name)
        self._silence = None
        self._journal.answering(self._login)

    def of_others(self) -> None:
        """Take over what the process whose turn it is has met."""
        found = self._journal.silence(self._login)
        if found != self._silence:
            self._silence = found
            if found is not None:
                self._told()
