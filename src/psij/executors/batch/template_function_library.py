"""Functions for templates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

__all__ = ["ALL", "walltime_to_minutes"]


def walltime_to_minutes(walltime: timedelta | int | str) -> int:
    """Whole minutes of a walltime, rounded down: a timedelta, a number of minutes, or ``HH:MM:SS``, ``HH:MM``, ``MM``.

    ValueError for anything else.
    """
    if isinstance(walltime, timedelta):
        return int(walltime.total_seconds() // 60)
    if isinstance(walltime, int) and not isinstance(walltime, bool):
        return walltime
    parts = walltime.split(":") if isinstance(walltime, str) else []
    if not 1 <= len(parts) <= 3 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"{walltime!r} is not a walltime; write HH:MM:SS, HH:MM or MM")
    return int(parts[0]) if len(parts) == 1 else int(parts[0]) * 60 + int(parts[1])


ALL: dict[str, Callable[..., Any]] = {"walltime_to_minutes": walltime_to_minutes}
"""All functions of this module that templates see, as ``psij.lib``."""
