"""A job's status: its state, and what is known about the change to it."""

from __future__ import annotations

import time as _time
from typing import Any

from .job_state import JobState

__all__ = ["JobStatus"]


Shared = tuple[tuple[str, object], ...]


class JobStatus:
    """A change of a job to a state.

    ``time`` is in seconds since the epoch (None: now), ``exit_code`` that of the executable where it ended (128 + n
    where signal n ended it), ``metadata`` what the executor adds: ``native_id``, ``synthesised`` (a state that nobody
    saw, but that must have been passed), ``signal``, ``cause``, ``suspended``, ``reason``.
    """

    # A program may keep those of 100,000 jobs. ``__dict__`` is for what a program adds.
    __slots__ = ("__dict__", "__weakref__", "_metadata", "_native_id", "exit_code", "message", "state", "time")

    def __init__(
        self,
        state: JobState,
        time: float | None = None,
        message: str | None = None,
        exit_code: int | None = None,
        metadata: dict[str, object] | None = None,
    ) -> None:
        if not isinstance(state, JobState):
            raise TypeError(f"JobStatus.state is a JobState, not {type(state).__name__} {state!r}")
        self.state = state
        self.time = _time.time() if time is None else time
        self.message = message
        self.exit_code = exit_code
        self._metadata: dict[str, object] | Shared | None = metadata
        self._native_id: str | None = None

    @classmethod
    def _of(
        cls,
        native_id: str | None,
        more: Shared,
        state: JobState,
        time: float | None = None,
        message: str | None = None,
        exit_code: int | None = None,
    ) -> JobStatus:
        """One whose metadata are ``native_id`` and ``more``, which many share: a dict of its own is made when it is asked for."""
        made = cls(state, time, message, exit_code)
        made._native_id = native_id
        made._metadata = more
        return made

    @property
    def metadata(self) -> dict[str, object] | None:
        """What the executor adds."""
        found = self._metadata
        if isinstance(found, tuple):
            found = self._metadata = {"native_id": self._native_id, **dict(found)}
        return found

    @metadata.setter
    def metadata(self, value: dict[str, object] | None) -> None:
        self._metadata = value

    @property
    def final(self) -> bool:
        """True where the state is final."""
        return self.state.final

    def __str__(self) -> str:
        parts: list[tuple[str, Any]] = [("time", self.time), ("exit_code", self.exit_code), ("message", self.message)]
        rest = "".join(f", {name}={value}" for name, value in parts if value is not None)
        return f"JobStatus[{self.state}{rest}]"

    __repr__ = __str__
