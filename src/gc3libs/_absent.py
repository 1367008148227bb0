"""What is said where a part of GC3Pie is imported that is not here."""

from __future__ import annotations

__all__ = ["explained"]

_INSTEAD = {
    "core": "make a resource, such as SlurmLrms, and call its submit_job, update_job_state, get_results, free",
    "session": "jobs outlive the program that submitted them; keep app.execution.to_data() and make a Run of it again",
    "workflow": "submit tasks as those they wait for end, or use jobyard's dependencies (Session.submit(after=...))",
    "cmdline": "the jobyard command lists, follows and cancels jobs (jobyard --help)",
    "persistence": "keep app.execution.to_data(), which json.dumps writes",
}


def explained(name: str) -> str:
    """Why a name cannot be imported, and what there is instead."""
    module = name.split(".")[1]
    key = module if module in _INSTEAD else "session" if module == "Session" else "core"
    return f"{name} is a part of GC3Pie that jobyard does not provide: it provides the batch backends. Instead: {_INSTEAD[key]}"
