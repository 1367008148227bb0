"""``LsfLrms``: LSF, by jobyard's own dialect."""

from __future__ import annotations

from ._engine import EngineSystem

__all__ = ["LsfLrms"]


class LsfLrms(EngineSystem):
    """LSF, on this machine or behind a login host."""

    _batchsys_name = "LSF"
    _scheduler = "lsf"
    _commands = ("bsub", "bjobs", "bacct", "bkill")
