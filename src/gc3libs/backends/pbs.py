"""``PbsLrms``: PBS, by jobyard's own dialect."""

from __future__ import annotations

from ._engine import EngineSystem

__all__ = ["PbsLrms"]


class PbsLrms(EngineSystem):
    """PBS, on this machine or behind a login host."""

    _batchsys_name = "PBS"
    _scheduler = "pbs"
    _commands = ("qsub", "qstat", "qdel")
