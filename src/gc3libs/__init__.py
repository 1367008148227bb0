"""The part of GC3Pie's ``gc3libs`` that speaks to batch systems, on jobyard's engine.

Here: ``gc3libs.backends.batch.BatchSystem`` and the backends made of it, ``Application`` and ``Run``, ``gc3libs.quantity``,
``gc3libs.url``, ``gc3libs.exceptions``, ``gc3libs.backends.transport``. Not here: ``Core``, ``Engine``, ``Session``, workflows
and ``cmdline``; importing them raises ImportError, which says what to use instead.
"""

import logging
from typing import NoReturn

from . import exceptions
from ._application import ANY_OUTPUT, Application, Default, Task
from ._run import Run
from .exceptions import Error

__all__ = ["ANY_OUTPUT", "Application", "Default", "Error", "Run", "Task", "exceptions", "log"]

log = logging.getLogger("gc3.gc3libs")

_NOT_HERE = ("Core", "Engine", "BgEngine", "Session", "create_core", "create_engine", "configure_logger")


def __getattr__(name: str) -> NoReturn:
    if name in _NOT_HERE:
        from ._absent import explained

        raise ImportError(explained(f"gc3libs.{name}"))  # "from gc3libs import Core" would swallow an AttributeError's text
    raise AttributeError(f"module 'gc3libs' has no attribute {name!r}")
