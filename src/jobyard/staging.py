"""Staging as descriptions see it. The rules themselves are ``node/staging.py``, which the nodes run and the transports use."""

from __future__ import annotations

from .errors import InvalidJob
from .job import StageIn, StageOut
from .node.staging import StagingError, clean_up, problem, remove_tree, stage_in, stage_out

__all__ = ["StagingError", "check_stages", "clean_up", "problem", "remove_tree", "stage_in", "stage_out"]


def check_stages(stages_in: tuple[StageIn, ...], stages_out: tuple[StageOut, ...], cleanup: tuple[str, ...]) -> None:
    """Raise InvalidJob for names that no stage can reach: schemes besides ``file:``, other hosts, ``..`` in what is cleaned."""
    for field, stages in (("stage_in", stages_in), ("stage_out", stages_out)):
        for stage in stages:
            for name in (stage.source, stage.target):
                if reason := problem(name):
                    raise InvalidJob(f"{field}: {name!r} cannot be staged: {reason}", field=field)
    for name in cleanup:
        if reason := problem(name):
            raise InvalidJob(f"cleanup: {name!r} cannot be cleaned: {reason}", field="cleanup")
        if ".." in name.split("/"):
            raise InvalidJob(f"cleanup: {name!r} could lead out of the job's directory; write it without '..'", field="cleanup")
