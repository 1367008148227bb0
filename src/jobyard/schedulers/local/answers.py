"""Answers to requests that may come twice and must be obeyed once: kept under the nonce that the client gave each of them."""

from __future__ import annotations

import time
from typing import Any

from .store import Store
from .wire import pack, unpack

__all__ = ["Answers"]

MOST = 1000  # kept in memory
KEPT_S = 3600.0  # nobody sends a request again after that time


class Answers:
    """What was answered. A server's successors find it in the journal. ``writes``: the server's next commit."""

    def __init__(self, store: Store, writes: list[tuple[str, tuple[Any, ...]]]) -> None:
        self._store = store
        self._writes = writes
        self._last: dict[bytes, list[Any]] = {}

    def find(self, nonce: bytes) -> Any:
        """What was answered to that request when it came before; None: it is new."""
        if nonce in self._last:
            return self._last[nonce]
        row = self._store.execute("SELECT answer FROM answers WHERE nonce=?", (nonce,)).fetchone()
        return None if row is None else unpack(row[0])

    def record(self, nonce: bytes, answer: list[Any]) -> None:
        """Remember an answer, which is durable with the next commit."""
        if len(self._last) >= MOST:
            del self._last[next(iter(self._last))]
        self._last[nonce] = answer
        self._writes.append(("INSERT INTO answers VALUES (?, ?, ?)", (nonce, time.time(), pack(answer))))

    def prune(self) -> None:
        """Forget old ones."""
        if self._last:
            self._writes.append(("DELETE FROM answers WHERE at<?", (time.time() - KEPT_S,)))
