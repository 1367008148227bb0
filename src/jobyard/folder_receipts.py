"""Where the tracker has receipts from: the protocol, and the jobs' folders over a transport's watch."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, MutableSet, Sequence
from typing import Protocol

from .errors import TransportError
from .job import Observation
from .journal_rows import SubmissionRow
from .journal_store import is_network
from .receipts import read_receipts
from .transports.base import Transport, TransportClosed

__all__ = ["FolderReceipts", "ReadReceipts", "Receipts", "is_network_folder", "network_folders"]

TRY_AGAIN_S = 5.0  # between two tries to watch folders that could not be watched


class Receipts(Protocol):
    """Where receipts come from."""

    def add(self, submission: SubmissionRow) -> None:
        """Watch its folder."""

    def discard(self, submission: SubmissionRow) -> None:
        """Watch it no longer."""

    def wait(self, timeout_s: float | None) -> None:
        """Return when a receipt came, after ``wake``, or when the time is over."""

    def wake(self) -> None:
        """Let ``wait`` return."""

    def changed(self) -> Collection[str]:
        """Tokens of the submissions whose folders have something new since the last call."""

    def read(self, submission: SubmissionRow) -> Sequence[tuple[int, Observation]]:
        """What its folder says that was not read before, by position."""

    def close(self) -> None:
        """Let go."""


class ReadReceipts(Protocol):
    """``receipts.read_receipts``, or what does the same on a host."""

    def __call__(self, folder: str, *, nonce: str, token: str, seen: MutableSet[str]) -> list[tuple[int, Observation]]:
        """What was not seen before, in order; names that are read now are added. OSError, TransportError."""


class FolderReceipts:
    """``Receipts`` for folders that a transport watches. The watch is opened with the first folder.

    ``read``: what a folder's receipts say (``read_receipts``, or a host's own).
    """

    def __init__(self, transport: Transport, read: ReadReceipts = read_receipts) -> None:
        self._transport = transport
        self._read = read
        self._lock = threading.Lock()
        self._tokens: dict[str, str] = {}  # by folder
        self._seen: dict[str, set[str]] = {}  # by token: names of receipts that were read
        self._changed: set[str] = set()
        self._unwatched: set[str] = set()  # folders that could not be watched: tried again
        self._try_at_s = 0.0
        self._watch = transport.watch((), prefix="receipt.")
        # A host that cannot be reached now must not keep whoever adds a folder.
        self._watch_folders = getattr(self._watch, "add_later", self._watch.add)

    def add(self, submission: SubmissionRow) -> None:
        """Watch a folder; it is looked into at once, whatever the watch says, and every few seconds while it cannot be watched."""
        with self._lock:
            self._tokens[submission.folder] = submission.token
            self._seen.setdefault(submission.token, set())
            self._changed.add(submission.token)
        self._try(submission.folder)

    def _try(self, folder: str) -> None:
        try:
            self._watch_folders([folder])
        except TransportClosed:
            return
        except TransportError:
            with self._lock:
                self._unwatched.add(folder)

    def _try_again(self) -> None:
        with self._lock:
            if not self._unwatched or time.monotonic() < self._try_at_s:
                return
            self._try_at_s = time.monotonic() + TRY_AGAIN_S
            again = list(self._unwatched)
            self._unwatched.clear()
            self._changed.update(self._tokens[folder] for folder in again if folder in self._tokens)
        for folder in again:
            self._try(folder)

    def discard(self, submission: SubmissionRow) -> None:
        """Watch it no longer."""
        with self._lock:
            self._tokens.pop(submission.folder, None)
            self._seen.pop(submission.token, None)
            self._changed.discard(submission.token)
            self._unwatched.discard(submission.folder)
        self._watch.discard([submission.folder])

    def wait(self, timeout_s: float | None) -> None:
        """Return when a receipt came, after ``wake``, or when the time is over."""
        self._try_again()
        try:
            appeared = self._watch.wait(timeout_s)
        except TransportClosed:
            return
        with self._lock:
            for one in appeared:
                token = self._tokens.get(one.folder)
                if token is not None:
                    self._changed.add(token)

    def wake(self) -> None:
        """Let ``wait`` return."""
        self._watch.wake()

    def changed(self) -> Collection[str]:
        """Tokens of the submissions whose folders have something new."""
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed

    def read(self, submission: SubmissionRow) -> Sequence[tuple[int, Observation]]:
        """What was not read before. OSError where the folder cannot be listed."""
        with self._lock:
            seen = self._seen.setdefault(submission.token, set())
        return self._read(submission.folder, nonce=submission.nonce, token=submission.token, seen=seen)

    def close(self) -> None:
        """Let go of the watch."""
        self._watch.close()


network_folders: dict[str, bool] = {}  # by work root, as far as it was looked up; a host's own are noted when they are read


def is_network_folder(path: str) -> bool:
    """Whether what nodes write there may come into sight late; looked up once for each folder."""
    if path not in network_folders:
        network_folders[path] = is_network(path)
    return network_folders[path]
