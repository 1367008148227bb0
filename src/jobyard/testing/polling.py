"""Waiting, in tests, for what tells nobody when it happens: a file, another process, the answer of a scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["LONG_S", "assert_gone", "eventually"]

LONG_S = 60.0  # what takes a moment may take that long on a machine that has much else to do


def eventually(condition: Callable[[], Any], what: str = "what was waited for", timeout_s: float = LONG_S) -> Any:
    """The first true value of a condition, which is looked at again and again.

    AssertionError where none came in that time; ``what`` says in words what was to be.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.002
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, 0.02)
    return value


def assert_gone(pid: int, timeout_s: float = LONG_S) -> None:
    """The process ends within that time; a zombie, whose parent is another, has ended."""
    eventually(lambda: _has_ended(pid), f"process {pid} ends", timeout_s)


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] in b"ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
