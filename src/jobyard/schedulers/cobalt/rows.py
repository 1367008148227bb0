"""What Cobalt's ``qstat -l`` says of a job: a block of lines, ``JobID: 7`` and then each field. Pure.

A job is gone when it has ended, and qstat never tells how it ended (source of Cobalt: cqm.py, Components; qstat.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...job import By, JobState
from ..base import Row

__all__ = ["FIELDS", "ID", "records", "row_of"]

ID = re.compile(r"[0-9]{1,18}", re.ASCII)
FIELDS = ("JobID", "JobName", "State", "OutputDir", "Location")  # asked for by --header; JobID begins a block

# __get_job_state of cqm.py.
STATES: Mapping[str, tuple[JobState, By | None]] = {
    "queued": (JobState.QUEUED, None),
    "maxrun_hold": (JobState.QUEUED, None),  # its user has as many running as the queue lets him
    "dep_hold": (JobState.HELD, By.SYSTEM),
    "dep_fail": (JobState.HELD, By.SYSTEM),  # what it waited for failed: it waits on, until somebody deletes it
    "user_hold": (JobState.HELD, By.USER),
    "admin_hold": (JobState.HELD, By.SYSTEM),
    "starting": (JobState.QUEUED, None),  # its nodes are booted, scripts of the site's run
    "pending": (JobState.QUEUED, None),
    "running": (JobState.RUNNING, None),
    "killing": (JobState.RUNNING, None),
    "exiting": (JobState.RUNNING, None),  # scripts of the site's run; up to 30 s
    "preempting": (JobState.RUNNING, None),
    "preempted": (JobState.QUEUED, None),  # it is run again
}

_LINE = re.compile(r" {4}([A-Za-z_]+) *: (.*)")
_TOKEN = re.compile(r".*/([0-9a-f]{32})", re.ASCII)


def records(text: str) -> tuple[list[dict[str, str]], list[str]]:
    """Blocks that are whole, each with all of FIELDS; and lines that are part of none."""
    found: list[dict[str, str]] = []
    unparsed: list[str] = []
    block: dict[str, str] | None = None

    def close() -> None:
        if block is not None and block.keys() == set(FIELDS) and ID.fullmatch(block["JobID"]):
            found.append(block)
        elif block is not None:
            unparsed.append(f"JobID: {block.get('JobID')}")

    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        if line.startswith("JobID: "):
            close()
            block = {"JobID": line.removeprefix("JobID: ").strip()}
        elif match is not None and block is not None and match[1] not in block:
            block[match[1]] = match[2].strip()
        elif not line.strip():
            close()
            block = None
        else:
            unparsed.append(line)
            block = None
    close()
    return found, unparsed


def row_of(fields: Mapping[str, str]) -> Row:
    """What one block says."""
    word = fields["State"]
    state, by = STATES.get(word, (None, None))
    token = _TOKEN.fullmatch(fields["OutputDir"])
    return Row(
        native_id=fields["JobID"],
        state=state,
        by=by,
        native_state=word,
        reason=word if word in ("maxrun_hold", "dep_hold", "dep_fail") else None,
        token=token[1] if token else None,
        name=fields["JobName"],
    )
