"""A watch over folders of this machine: the watcher of ``node/watching.py``, in the words of the transports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Self

from ..node.watching import FolderWatcher, WatchClosed
from .base import Appeared, PathError, TransportClosed, absolute, path_error

__all__ = ["FolderWatch"]


class FolderWatch:
    """Watch of jobyard.transports.base over folders of this machine.

    ``look_every_s``: between two looks where there is no inotify; longer where looking takes long, so that it costs at
    most a twentieth of one processor.
    """

    def __init__(self, host: str, prefix: str = "", *, look_every_s: float = 0.5, use_inotify: bool = True) -> None:
        self._host = host
        self.watcher = FolderWatcher(os.fsencode(prefix), look_every_s, use_inotify)

    def add(self, folders: Iterable[str]) -> None:
        folder = ""
        try:
            for folder in folders:
                self.watcher.add([os.fsencode(absolute(self._host, folder))])
        except WatchClosed as error:
            raise self._was_closed() from error
        except PathError:  # not an absolute path
            raise
        except OSError as error:
            raise path_error(self._host, "watch", folder, error) from error

    def discard(self, folders: Iterable[str]) -> None:
        self.watcher.discard([os.fsencode(folder) for folder in folders])

    def wait(self, timeout_s: float | None) -> Sequence[Appeared]:
        try:
            return [Appeared(os.fsdecode(folder), os.fsdecode(name)) for folder, name in self.watcher.wait(timeout_s)]
        except WatchClosed as error:
            raise self._was_closed() from error

    def wake(self) -> None:
        self.watcher.wake()

    def close(self) -> None:
        self.watcher.close()

    @property
    def closed(self) -> bool:
        """close was called."""
        return self.watcher.closed

    def _was_closed(self) -> TransportClosed:
        return TransportClosed(f"{self._host}: this watch was closed; open another")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()
