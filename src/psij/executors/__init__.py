"""The executors that come with PSI/J. Names are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .batch.cobalt import CobaltJobExecutor
    from .batch.gridengine import GridEngineJobExecutor
    from .batch.htcondor import HTCondorJobExecutor
    from .batch.lsf import LsfJobExecutor
    from .batch.nqsv import NQSVJobExecutor
    from .batch.oar import OARJobExecutor
    from .batch.pbs import PBSJobExecutor
    from .batch.pbs_classic import PBSClassicJobExecutor
    from .batch.slurm import SlurmJobExecutor
    from .flux import FluxJobExecutor
    from .hyperqueue import HyperQueueJobExecutor
    from .local import LocalJobExecutor

__all__ = [
    "CobaltJobExecutor",
    "FluxJobExecutor",
    "GridEngineJobExecutor",
    "HTCondorJobExecutor",
    "HyperQueueJobExecutor",
    "LocalJobExecutor",
    "LsfJobExecutor",
    "NQSVJobExecutor",
    "OARJobExecutor",
    "PBSClassicJobExecutor",
    "PBSJobExecutor",
    "SlurmJobExecutor",
]

_MODULES = {
    "CobaltJobExecutor": "batch.cobalt",
    "FluxJobExecutor": "flux",
    "GridEngineJobExecutor": "batch.gridengine",
    "HTCondorJobExecutor": "batch.htcondor",
    "HyperQueueJobExecutor": "hyperqueue",
    "LocalJobExecutor": "local",
    "LsfJobExecutor": "batch.lsf",
    "NQSVJobExecutor": "batch.nqsv",
    "OARJobExecutor": "batch.oar",
    "PBSClassicJobExecutor": "batch.pbs_classic",
    "PBSJobExecutor": "batch.pbs",
    "SlurmJobExecutor": "batch.slurm",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
