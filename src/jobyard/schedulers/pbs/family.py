"""What PBS and Torque have in common beside their options: ids of arrays, what qsub prints, refusals, limits. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import ControlError, JobyardError, NotPermitted, SchedulerUnavailable, UnknownJob, WrongState
from ...job import JobDescription
from ..base import Action, Result, SiteLimits
from ..dialects import only_id
from .rows import ID, PARENT

__all__ = ["MOST_ACTED_ON", "asked_for", "limits", "named_in", "parent", "printed_id", "refusal"]

MOST_ACTED_ON = 500  # by one command; a qdel of so many takes 0.15 s (OpenPBS)


def parent(native_id: str) -> str:
    """The array's id of a task's; of a job, its own."""
    return re.sub(r"\[[0-9]*\]", PARENT, native_id)


def asked_for(job: JobDescription) -> list[str]:
    """Options of qsub that are the same in both."""
    words = ["-A", job.account] if job.account is not None else []
    if job.priority is not None:
        words += ["-p", str(job.priority)]
    return [*words, "-h"] if job.hold else words


def printed_id(result: Result, *, array: bool) -> str:
    """The id that qsub printed, among words of the site. SchedulerUnavailable: none or several, so that it must be searched."""
    printed = (line.strip() for line in result.text.splitlines())
    return only_id(one for one in printed if ID.fullmatch(one) and (PARENT in one) == array)


def named_in(line: str, native_ids: Sequence[str]) -> list[str]:
    """Of these ids, those that a line of complaint names: ``1.server``, not ``11.server`` nor ``1.server2``."""
    return [one for one in native_ids if re.search(rf"(?<![\w.]){re.escape(one)}(?![\w.\[])", line)]


def refusal(scheduler: str, action: Action, line: str) -> JobyardError:
    """The error of one line that qdel, qhold, qrls or qsig said."""
    text = f"{scheduler} cannot {action}: {line.partition(': ')[2] or line}"
    if "Unknown Job Id" in line or "nonexistent job id" in line:
        return UnknownJob(text)
    if "finished" in line or "Request invalid for state" in line or "COMPLETE" in line:
        return WrongState(text)
    if "Unauthorized" in line:
        return NotPermitted(text)
    return ControlError(text)


def limits(result: Result, attribute: str) -> SiteLimits:
    """The length of arrays from ``qstat -B -f``, where the server has that attribute."""
    if result.returncode != 0 or not re.search(r"^\s*server_state = ", result.text, re.MULTILINE):
        raise SchedulerUnavailable("it tells no limits")
    match = re.search(rf"^\s*{attribute} = ([0-9]{{1,9}})$", result.text, re.MULTILINE | re.ASCII)
    return SiteLimits(max_array_size=int(match[1]) or None if match else None)
