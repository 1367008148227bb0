"""What templates see of a job."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

from ..._describe import cleanup_flags, local_path
from ...job import Job
from ...job_launcher import Launcher
from ...job_spec import JobSpec
from ...resource_spec import ResourceSpecV1
from ...staging import URI, StageIn, StageOut, StageOutFlags
from .template_function_library import ALL

if TYPE_CHECKING:
    from .batch_scheduler_executor import BatchSchedulerExecutor

__all__ = ["script_context"]


class _JobView:
    """A job as templates see it: paths absolute, resources never None. The program's own specification is not changed."""

    def __init__(self, job: Job) -> None:
        assert job.spec is not None
        self.id = job.id
        self.name = job.name
        self.native_id = job.native_id
        self.spec = _spec_view(job.spec)


def _spec_view(spec: JobSpec) -> JobSpec:
    view = copy.copy(spec)
    if view.directory is not None:
        view.directory = view.directory.absolute()
    if view.resources is None:
        view.resources = ResourceSpecV1()
    # Sorted: the same job makes the same script.
    if spec.stage_in is not None:
        made = [StageIn(URI(local_path("stage_in", item.source)), item.target, item.mode) for item in spec.stage_in]
        JobSpec.stage_in.put(view, sorted(made, key=repr))
    if spec.stage_out is not None:
        out = [StageOut(item.source, URI(local_path("stage_out", item.target)), item.flags, item.mode) for item in spec.stage_out]
        JobSpec.stage_out.put(view, sorted(out, key=repr))
    if spec.cleanup is not None:
        JobSpec.cleanup.put(view, sorted(spec.cleanup))
    view.cleanup_flags = StageOutFlags(cleanup_flags(spec))
    return view


def script_context(executor: BatchSchedulerExecutor, job: Job, launcher: Launcher, script_dir: str) -> dict[str, object]:
    """The context of ``generate_submit_script``, as BatchSchedulerExecutor says it."""
    spec = job.spec
    assert spec is not None
    view = _JobView(job)
    context: dict[str, object] = {
        "job": view,
        "custom_attributes": custom_attributes(spec),
        "env": [{"name": name, "value": value} for name, value in (spec.environment or {}).items()],
        "psij": {
            "lib": ALL,
            "launch_command": launcher.get_launch_command(job),
            "script_dir": script_dir,
            "folder": script_dir,
            "stages_in": bool(spec.stage_in),
            "stages_out": bool(spec.stage_out),
            "cleans": bool(spec.cleanup),
            "us_file": os.devnull,  # for templates that write to it: receipts take its place
            "us_port": 0,
            "us_addrs": "",
            "debug": 0,
        },
    }
    if (seen := spec._attributes_seen) is not None:
        context["formatted_job_duration"] = executor._format_duration(seen.duration)
    return context


def custom_attributes(spec: JobSpec) -> dict[str, Any]:
    """``{"slurm.qos": "x"}`` as ``{"slurm": [{"key": "qos", "value": "x"}]}``; a key without a dot as it is."""
    found: dict[str, Any] = {}
    seen = spec._attributes_seen
    for key, value in ((seen.custom_attributes if seen else None) or {}).items():
        prefix, dot, name = key.partition(".")
        if not dot:
            found[key] = value
            continue
        entries = found.setdefault(prefix.lower(), [])
        if isinstance(entries, list):
            entries.append({"key": name, "value": value})
    return found
