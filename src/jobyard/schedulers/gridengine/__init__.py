"""Grid Engine (8.1 and its relatives) by its commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ...contact import register_options
from ...transports.local import LocalTransport
from .dialect import GridEngineDialect
from .scheduler import GridEngineScheduler
from .submit import Choices

__all__ = ["Choices", "GridEngineDialect", "GridEngineScheduler", "open_gridengine"]


def _name(value: str) -> str:
    if not value or not all(c.isalnum() or c in "_.-" for c in value) or value.startswith("-"):
        raise ValueError(f"{value!r} cannot be the name of a resource or a parallel environment")
    return value


register_options("gridengine", {"pe": _name, "memory": _name, "gpu": _name})


def open_gridengine(state_dir: Path, options: Mapping[str, str]) -> GridEngineScheduler:
    """What the table of schedulers calls. Options: ``pe``, ``memory``, ``gpu`` (docs/gridengine.md)."""
    choices = Choices(environment=options.get("pe"), memory=options.get("memory", "h_vmem"), gpu=options.get("gpu"))
    return GridEngineScheduler(LocalTransport(environment=_environment()), choices)


_DEBIAN = "/usr/lib/gridengine"


def _environment() -> dict[str, str]:
    """Debian's commands are shell scripts of 90 ms around programs of 5 ms, which only fill in the place of the cell."""
    root, cell = os.environ.get("SGE_ROOT"), os.environ.get("SGE_CELL")
    wrapped = shutil.which("qsub") == "/usr/bin/qsub" and os.access(f"{_DEBIAN}/qsub", os.X_OK)
    if not wrapped or ((not root or not cell) and os.path.exists("/etc/default/gridengine")):
        return {}
    return {
        "PATH": f"{_DEBIAN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "SGE_ROOT": root or "/var/lib/gridengine",
        "SGE_CELL": cell or "default",
    }
