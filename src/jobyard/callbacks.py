"""A pool of four threads for callbacks: in order for each job; a slow one delays only its own job.

A callback may submit and wait: it runs outside all locks, on a thread that nothing else depends on.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Callbacks"]

_logger = logging.getLogger("jobyard.session")
_THREADS = 4


class Callbacks:
    """Runs calls in lanes: those of one lane one after the other, lanes beside each other. Threads start on demand."""

    def __init__(self, threads: int = _THREADS, name: str = "jobyard-callback") -> None:
        self._most = threads
        self._name = name
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._condition = threading.Condition(threading.Lock())
        self._lanes: dict[Any, deque[tuple[Callable[..., object], tuple[Any, ...]]]] = {}
        self._due: deque[Any] = deque()
        self._closed = False

    def call(self, lane: Any, function: Callable[..., object], *arguments: Any) -> None:
        """Queue a call. After ``close`` it is dropped."""
        with self._condition:
            if self._closed:
                return
            waiting = self._lanes.get(lane)
            if waiting is not None:
                waiting.append((function, arguments))
                return
            self._lanes[lane] = deque([(function, arguments)])
            self._due.append(lane)
            self._see_to_it()

    def nudge(self) -> None:
        """See whether there can be a thread now for what waits for one."""
        with self._condition:
            if self._due and not self._threads:
                self._see_to_it()

    def _see_to_it(self) -> None:
        if self._idle < len(self._due) and len(self._threads) < self._most:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the user has as many as may be: those that are there do it, or a later one
                _logger.warning("no thread for a callback now: %s", error)
            else:
                self._threads.append(thread)
        else:
            self._condition.notify()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._idle += 1
                while not self._due and not self._closed:
                    self._condition.wait()
                self._idle -= 1
                if self._closed:
                    return
                lane = self._due.popleft()
                function, arguments = self._lanes[lane][0]
            try:
                function(*arguments)
            except BaseException:  # SystemExit too: it must not take the thread, and this lane, with it
                _logger.exception("a callback failed: %r", function)
            with self._condition:
                calls = self._lanes[lane]
                calls.popleft()
                if calls:
                    self._due.append(lane)
                    self._condition.notify()
                else:
                    del self._lanes[lane]

    def close(self) -> None:
        """Drop what waits, and end the threads once their present calls are over. Waits for those a second at most."""
        with self._condition:
            self._closed = True
            self._due.clear()
            self._condition.notify_all()
            threads = list(self._threads)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(1.0)
