"""The command of a session's next submission, begun as soon as the scheduler has answered the last one.

Where a program submits one job after the other, what such a command does before it hears of its job (it finds its libraries, and
reads its configuration) costs nothing then. It says nothing to the scheduler before it is handed its script, and where none comes
it ends. What is begun stands for the next submission alone: where that would be another command, or comes late, it is abandoned.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import msgspec

from .errors import JobyardError
from .schedulers.base import BeginsSubmissions, Begun, Kind, Submission
from .script import new_token

__all__ = ["Ahead"]

_logger = logging.getLogger(__name__)

HURRY_S = 0.1  # who comes back so soon is in a loop
IDLE_S = 1.0  # how long it waits for the next submission
_MOST_MISSES = 6  # of each further one, the pause until the next attempt doubles


class Ahead:
    """What is begun for the next submission, if anything is. Every method may be called from any thread."""

    def __init__(self, scheduler: BeginsSubmissions, folder: Callable[[str], str]) -> None:
        """``folder``: where the job with that token has its folder."""
        self._scheduler = scheduler
        self._folder = folder
        self._fresh()

    def _fresh(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._next: tuple[str, Begun] | None = None
        self._until = 0.0
        self._watched = False
        self._hurried = False
        self._ended_at = -HURRY_S
        self._misses = 0
        self._left_out = 0  # attempts
        self._closed = False

    def take(self) -> tuple[str, Begun | None]:
        """The token of the submission that is made now, and what is begun for it."""
        if self._pid != os.getpid():  # a forked child: what was begun is the parent's
            self._fresh()
        with self._changed:
            self._hurried = time.monotonic() - self._ended_at < HURRY_S
            taken, self._next = self._next, None
        return (new_token(), None) if taken is None else taken

    def missed(self, used: bool) -> None:
        """Whether what was taken could be used."""
        with self._changed:
            self._misses = 0 if used else min(self._misses + 1, _MOST_MISSES)
            self._left_out = 0 if used else 1 << self._misses

    def begin(self, like: Submission) -> None:
        """Begin the next, which will be like this one, where one can be expected."""
        if like.kind is not Kind.SINGLE:  # who submits many at once does not loop
            return
        with self._changed:
            if not self._hurried or self._next is not None or self._closed:
                return
            if self._left_out:
                self._left_out -= 1
                return
        token = new_token()
        submission = msgspec.structs.replace(like, token=token, folder=self._folder(token))
        try:
            begun = self._scheduler.begin_submission(submission, ahead=True)
        except JobyardError as error:  # the next submission will say it, if it is so then
            _logger.debug("the next submission was not begun: %s", error)
            return
        if begun is None:
            return
        with self._changed:
            kept = self._next is None and not self._closed
            if kept and not self._watched:
                try:
                    threading.Thread(target=self._watch, name="jobyard-ahead", daemon=True).start()
                    self._watched = True
                except RuntimeError:  # there can be none now: what nobody would end must not wait
                    kept = False
            if kept:
                self._next = token, begun
                self._until = time.monotonic() + IDLE_S
        if not kept:
            begun.abandon()

    def ended(self) -> None:
        """A submission is over."""
        self._ended_at = time.monotonic()

    def close(self) -> None:
        """Nothing is begun any more."""
        if self._pid != os.getpid():
            self._fresh()
        with self._changed:
            self._closed = True
            taken, self._next = self._next, None
            self._changed.notify_all()
        if taken is not None:
            taken[1].abandon()

    def _watch(self) -> None:
        """Abandon what nobody came for. A thread of its own, for as long as there may be something."""
        taken: tuple[str, Begun] | None = None
        with self._changed:
            while not self._closed and (left_s := self._until - time.monotonic()) > 0:
                self._changed.wait(left_s)
            taken, self._next = self._next, None
            self._watched = False
        if taken is not None:
            taken[1].abandon()
