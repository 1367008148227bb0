"""How a job ended, as an exit status of ours and as JSON."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from ..job import Cause, JobState

if TYPE_CHECKING:
    from ..job import Ending

__all__ = ["exit_status"]

_BY_ITSELF = (Cause.EXITED, Cause.UNKNOWN)


def exit_status(ending: Ending) -> tuple[int, bool]:
    """The exit status that stands for an ending, and whether it needs saying why.

    n for exit code n, 128+n for signal n, 130 for a cancelled job, 1 where it was cut short or could not run.
    """
    if ending.state is JobState.CANCELLED:
        return 130, False
    if ending.success:
        return 0, False
    if ending.cause in _BY_ITSELF:
        if ending.exit_code:
            return ending.exit_code, False
        if ending.signal is not None:
            return 128 + _number(ending.signal), False
    return 1, True


def _number(name: str) -> int:
    """``SIGTERM`` is 15, ``SIGRTMIN+3`` is 37 on Linux, and the text of a number is that number."""
    if name.startswith("SIGRTMIN+"):
        return int(signal.SIGRTMIN) + int(name[9:])
    if name in signal.Signals.__members__:
        return int(signal.Signals[name])
    return int(name) if name.isdigit() else 0
