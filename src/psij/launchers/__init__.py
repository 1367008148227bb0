"""The launchers that come with PSI/J. Names are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .aprun import AprunLauncher
    from .jsrun import JsrunLauncher
    from .mpirun import MPILauncher
    from .multiple import MultipleLauncher
    from .script_based_launcher import ScriptBasedLauncher
    from .single import SingleLauncher
    from .srun import SrunLauncher

__all__ = [
    "AprunLauncher",
    "JsrunLauncher",
    "MPILauncher",
    "MultipleLauncher",
    "ScriptBasedLauncher",
    "SingleLauncher",
    "SrunLauncher",
]

_MODULES = {
    "AprunLauncher": "aprun",
    "JsrunLauncher": "jsrun",
    "MPILauncher": "mpirun",
    "MultipleLauncher": "multiple",
    "ScriptBasedLauncher": "script_based_launcher",
    "SingleLauncher": "single",
    "SrunLauncher": "srun",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
