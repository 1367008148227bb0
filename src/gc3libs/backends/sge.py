"""``SgeLrms``: Grid Engine, by jobyard's own dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import exceptions
from ._engine import EngineSystem

__all__ = ["SgeLrms"]


class SgeLrms(EngineSystem):
    """Grid Engine, on this machine or behind a login host.

    ``default_pe``, ``APPLICATION_pe``: the parallel environment of jobs with more than one core; one that needs it and has none
    is refused with InvalidValue.
    """

    _batchsys_name = "Grid Engine"
    _scheduler = "gridengine"
    _commands = ("qsub", "qstat", "qacct", "qdel")

    def _attributes(self, app: Any) -> Mapping[str, str]:
        if app.requested_cores == 1:
            return {}
        found = self.get(f"{app.application_name}_pe") or self.get("default_pe")
        if not found:
            raise exceptions.InvalidValue(
                f"{app.requested_cores} cores need a parallel environment: set default_pe, or {app.application_name}_pe"
            )
        return {"gridengine.pe": str(found)}
