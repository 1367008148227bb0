"""Threads that a process has once."""

from __future__ import annotations

import os
import threading
from typing import ClassVar, Self

__all__ = ["SingletonThread"]


class SingletonThread(threading.Thread):
    """A thread of which a process has one. Subclass it, implement ``run``, and call ``get_instance``.

    A forked process gets a thread of its own. (Forking a process that has threads is unsafe all the same.)
    """

    _instances: ClassVar[dict[type, tuple[int, SingletonThread]]] = {}
    _instances_lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, name: str | None = None, daemon: bool = False) -> None:
        super().__init__(name=name, daemon=daemon)

    @classmethod
    def get_instance(cls) -> Self:
        """The started thread of this class in this process."""
        with SingletonThread._instances_lock:
            pid, thread = SingletonThread._instances.get(cls, (0, None))
            if thread is None or pid != os.getpid():
                thread = cls()
                SingletonThread._instances[cls] = (os.getpid(), thread)
                thread.start()
            assert isinstance(thread, cls)
            return thread


def _fresh_lock() -> None:
    # The parent may have held it when it forked.
    SingletonThread._instances_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_lock)
