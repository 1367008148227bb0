"""The states of a job and their order."""

from __future__ import annotations

import enum

__all__ = ["JobState", "JobStateOrder"]


class JobState(bytes, enum.Enum):
    """The states of a job. COMPLETED, FAILED and CANCELED are final: nothing follows them."""

    _order: int
    _final: bool

    def __new__(cls, index: int, order: int, text: str, final: bool) -> JobState:
        """Make a member; its value is ``index``, and ``order`` places it among the others."""
        member = bytes.__new__(cls, text.encode())
        member._value_ = index
        member._order = order
        member._final = final
        return member

    NEW = (0, 0, "NEW", False)
    """A job that was made, and not yet given to a JobExecutor."""

    QUEUED = (1, 1, "QUEUED", False)
    """Accepted by the backend; the job has not begun."""

    STAGE_IN = (2, 2, "STAGE_IN", False)
    """Files are brought in."""

    ACTIVE = (3, 3, "ACTIVE", False)
    """The job runs."""

    STAGE_OUT = (4, 4, "STAGE_OUT", False)
    """The executable has ended; files are brought out."""

    CLEANUP = (5, 5, "CLEANUP", False)
    """Files are removed."""

    COMPLETED = (6, 6, "COMPLETED", True)
    """Ended well: exit code 0."""

    FAILED = (7, 6, "FAILED", True)
    """Ended with another exit code or by a signal, or could not be run."""

    CANCELED = (8, 6, "CANCELED", True)
    """Ended by a call to cancel()."""

    def is_greater_than(self, other: JobState) -> bool | None:
        """Whether this state can come after ``other``; None where the two are not comparable (two final states)."""
        if self is other:
            return False
        if self._order == other._order:
            return None
        return self._order > other._order

    @property
    def final(self) -> bool:
        """True where no other state follows."""
        return self._final

    @staticmethod
    def from_name(name: str) -> JobState:
        """The state with that name, so that ``state == JobState.from_name(str(state))``. KeyError for any other text."""
        return JobState[name]

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return True


PATH = (
    JobState.NEW,
    JobState.QUEUED,
    JobState.STAGE_IN,
    JobState.ACTIVE,
    JobState.STAGE_OUT,
    JobState.CLEANUP,
    JobState.COMPLETED,
)


class JobStateOrder:
    """Finds the states that must have been passed."""

    @staticmethod
    def prev(state: JobState) -> JobState | None:
        """The only state that can have come immediately before; None for NEW, FAILED and CANCELED."""
        at = PATH.index(state) if state in PATH else 0
        return PATH[at - 1] if at else None


def between(low: JobState, high: JobState) -> tuple[JobState, ...]:
    """The states passed on the way from ``low`` to ``high``, both left out."""
    return PATH[low._order + 1 : high._order]
