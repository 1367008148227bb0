"""OAR 2.5, by its commands (docs/oar.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ...contact import register_options
from ...transports.local import LocalTransport
from .dialect import OarDialect
from .request import Names
from .scheduler import OarScheduler

__all__ = ["Names", "OarDialect", "OarScheduler", "open_oar"]


def _property(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", value, re.ASCII):
        raise ValueError(f"{value!r} cannot be the name of a property of OAR's resources, like 'core'")
    return value


register_options("oar", {"core": _property, "gpu": _property, "memory": _property})


def open_oar(state_dir: Path, options: Mapping[str, str]) -> OarScheduler:
    """What the table of schedulers calls. Options: ``core``, ``gpu``, ``memory``, names of properties (docs/oar.md)."""
    names = Names(core=options.get("core"), gpu=options.get("gpu"), memory=options.get("memory"))
    return OarScheduler(LocalTransport(), names)
