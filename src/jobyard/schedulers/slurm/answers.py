"""What Slurm's commands answer besides tables: ids, refusals, limits, versions. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...errors import ControlError, JobyardError, NotPermitted, SchedulerUnavailable, SubmitError, UnknownJob, WrongState
from ..base import Accepted, Action, Kind, Result, SiteLimits, Submission
from .ids import expanded
from .request import sends_positions

__all__ = [
    "accepted",
    "parse_control",
    "parse_limits",
    "parse_most_jobs",
    "parse_submit",
    "parse_version",
    "release_of",
    "unavailable",
]

# The controller, the database or the network is away: nobody knows more than before.
_AWAY = re.compile(
    r"Unable to contact slurm controller|Unable to (?:establish|open).{0,60}connection|Connection refused|Connection reset"
    r"|Socket timed out|Zero Bytes were transmitted|Slurm backup controller in standby|Protocol authentication error"
    r"|Slurm temporarily unable|Communication connection failure|Communication shutdown|Message receive failure"
    r"|Message send failure|Problem talking to (?:the )?(?:slurm )?database|Unexpected message received",
    re.IGNORECASE,
)
# Another try later can succeed (slurm_errno.c).
_LATER = re.compile(
    r"try again|temporarily|maximum number of jobs|job queue (?:is )?full|violates accounting|QOSMaxSubmit|AssocMaxSubmit"
    r"|Resource busy",
    re.IGNORECASE,
)
_SUBMITTED = re.compile(r"(?:sbatch: )?([0-9]{1,10})(?:;[A-Za-z0-9_.-]+)?", re.ASCII)
_OF_JOB = (
    re.compile(r"(?:scancel: )?error: Kill job error on job id (?P<job>\S+): (?P<why>.+)"),
    re.compile(r"(?P<why>.+) for job (?P<job>[0-9][0-9_,\[\]-]*)"),
    re.compile(r"(?P<job>[0-9]+_[0-9,\[\]-]+): (?P<why>.+)"),
    re.compile(r"(?:scancel: )?error: (?P<why>Invalid job id) (?P<job>\S+)"),
)
_WRONG_STATE = re.compile(
    r"already (?:finished|completing|completed|suspended)|not (?:pending|running|suspended)|pending execution|transition|"
    r"can not be altered|currently suspended|is (?:pending|running)|disabled",
    re.IGNORECASE,
)


def unavailable(result: Result) -> None:
    """Raise SchedulerUnavailable where the command says that it reached nobody."""
    if result.returncode == 0:
        return
    if match := _AWAY.search(result.error_text) or _AWAY.search(result.text[:4096]):
        raise SchedulerUnavailable(match[0])


# Submission ---------------------------------------------------------------------------------------------------------


def parse_submit(result: Result, submission: Submission) -> Accepted:
    """The ids from what ``sbatch --parsable`` printed: a line ``4269`` or ``4269;cluster``, whatever wrappers write around it."""
    unavailable(result)
    numbers = [match[1] for line in result.text.splitlines() if (match := _SUBMITTED.fullmatch(line.strip()))]
    if result.returncode > 0:
        if numbers:  # taken, and then something failed: the look-up of the token tells
            raise SchedulerUnavailable("it printed a job id, and failed")
        said = "; ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in _lines(result.error_text)[:5])
        said = said.replace("Batch job submission failed: ", "") or f"exit code {result.returncode}"
        if "--nice" in said and (submission.description.priority or 0) > 0:
            said += f" (priority={submission.description.priority}: only operators may raise a priority; one below 0 lowers it)"
        raise SubmitError(f"slurm refused the job: {said}", retryable=bool(_LATER.search(said)), output=result.error_text)
    if result.returncode < 0 or len(numbers) != 1:
        raise SchedulerUnavailable("it printed no job id")
    return accepted(numbers[0], submission)


def accepted(number: str, submission: Submission) -> Accepted:
    """The native ids of a submission whose job, or array, has this number."""
    if submission.kind is Kind.SINGLE:
        return Accepted((number,))
    indices = range(len(submission.indices)) if sends_positions(submission) else submission.indices
    return Accepted(tuple(f"{number}_{index}" for index in indices), number)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


# Control ------------------------------------------------------------------------------------------------------------


def parse_control(action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
    """For each id None, or why not: what no line complains of was done.

    ``scontrol`` and ``scancel -v`` complain of each job by itself; ``scancel`` exits with 0 whatever it says.
    """
    unavailable(result)
    asked = set(native_ids)
    answers: dict[str, JobyardError | None] = {}
    others: list[str] = []
    for line in _lines(result.error_text) + _lines(result.text[:1_000_000]):
        match = next((found for pattern in _OF_JOB if (found := pattern.fullmatch(line))), None)
        if match is None:
            if "error:" in line and "No error" not in line:
                others.append(line)
            continue
        if match["why"] == "No error":  # so scontrol of 20.11 says that it was done
            continue
        concerned = asked.intersection(expanded(match["job"].rstrip(",")) or (match["job"],))
        for native_id in concerned:
            answers[native_id] = _refusal(action, native_id, match["why"])
    if result.returncode != 0 and not answers and not _signalled(action, result):
        if not others:
            raise SchedulerUnavailable("it failed, and says nothing of the jobs")
        return {native_id: _refusal(action, native_id, others[0]) for native_id in native_ids}
    return {native_id: answers.get(native_id) for native_id in native_ids}


def _signalled(action: Action, result: Result) -> bool:
    """scancel found a task of the same array that waits, and would send the signal again; all that run have had it."""
    return action in (Action.SIGNAL, Action.SUSPEND, Action.RESUME) and "transitional state" in result.error_text


def _refusal(action: Action, native_id: str, why: str) -> JobyardError | None:
    text = f"slurm cannot {action} job {native_id}: {why}"
    if action is Action.CANCEL and re.search(r"already|Invalid job id specified", why):
        return None  # it is over; of tasks cancelled while they wait the controller knows nothing any more
    if re.search(r"Invalid job id", why, re.IGNORECASE):
        return UnknownJob(text)
    if re.search(r"denied|not permitted|Invalid user id", why, re.IGNORECASE):
        return NotPermitted(text)
    if _WRONG_STATE.search(why):
        return WrongState(text)
    return ControlError(text)


# The site -----------------------------------------------------------------------------------------------------------


def parse_limits(result: Result) -> SiteLimits:
    """From ``scontrol show config``. The largest index of an array is MaxArraySize - 1 (slurm.conf(5)); its tasks are as few,
    or as max_array_tasks among SchedulerParameters allows."""
    unavailable(result)
    found = dict(re.findall(r"^(MaxArraySize|MaxJobCount)\s*=\s*([0-9]{1,12})\s*$", result.text, re.MULTILINE | re.ASCII))
    if result.returncode != 0 or "MaxArraySize" not in found:
        raise SchedulerUnavailable("it tells no limits")
    largest = max(1, int(found["MaxArraySize"]) - 1)
    tasks = largest
    if match := re.search(r"\bmax_array_tasks=([0-9]{1,9})", result.text, re.ASCII):
        tasks = max(1, min(tasks, int(match[1])))
    jobs = int(found["MaxJobCount"]) if "MaxJobCount" in found else None
    return SiteLimits(max_array_size=tasks, max_index=largest, max_jobs=jobs)


def parse_most_jobs(result: Result) -> int | None:
    """How many jobs of this user Slurm keeps at a time, from ``sacctmgr show associations`` with its MaxSubmit: the least strict
    of the accounts. None: no limit, or nobody tells."""
    if result.returncode != 0:
        return None
    limits = [line.strip() for line in result.text.splitlines()]
    if not limits or not all(re.fullmatch(r"[0-9]{1,12}", one, re.ASCII) for one in limits):
        return None
    return max(int(one) for one in limits)


def parse_version(result: Result) -> str:
    """From ``sbatch --version``: ``slurm 22.05.8``, ``slurm-wlm 22.05.8`` on Debian."""
    match = re.search(r"^slurm[a-z-]* ([0-9A-Za-z][0-9A-Za-z.+~-]{0,40})$", result.text, re.MULTILINE | re.ASCII)
    if result.returncode != 0 or match is None:
        raise SchedulerUnavailable("it tells no version")
    return f"slurm {match[1]}"


def release_of(version: str) -> tuple[int, ...]:
    """(24, 11) of ``slurm 24.11.5``; nothing where it is written otherwise."""
    numbers = version.partition(" ")[2].split(".")[:2]
    return tuple(int(number) for number in numbers) if len(numbers) == 2 and all(map(str.isdecimal, numbers)) else ()
