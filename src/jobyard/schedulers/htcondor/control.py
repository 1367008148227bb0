"""Control: the commands for each action, and what they say of each job. Pure.

Every tool takes ids and answers for each: ``Job 53.2 suspended``, ``Job 54.0 not held to be released``, ``Job 2.5 not found``
(testbeds/htcondor/samples, control-*). condor_hold alone would end a running job, and condor_vacate_job one that may not run
again; so these two are given a condition instead, and the queue is asked what came of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from ...errors import ControlError, JobyardError, NotPermitted, SchedulerUnavailable, WrongState
from ..base import Action, Command, Result
from .ads import HELD, IDLE, ONCE_ATTRIBUTE, native_id, read_ads, whole

__all__ = ["PROGRAMS", "commands", "constraint", "parse", "runs", "valid"]

PROGRAMS = {
    Action.CANCEL: "condor_rm",
    Action.HOLD: "condor_hold",
    Action.RELEASE: "condor_release",
    Action.SUSPEND: "condor_suspend",
    Action.RESUME: "condor_continue",
    Action.REQUEUE: "condor_vacate_job",
}
# What must be true of a job at the very moment.
_GUARDS = {
    Action.HOLD: f"JobStatus == {IDLE}",
    Action.REQUEUE: f"JobStatus != {IDLE} && {ONCE_ATTRIBUTE} =!= true",
}
_AT_ONCE = 2000  # ids in one command: an argument has at most 128 KiB
_ID = re.compile(r"([1-9][0-9]{0,11})\.(0|[1-9][0-9]{0,8})", re.ASCII)
_LINE = re.compile(r"^(?:Job|Permission denied to \w+ job) ([0-9]+\.[0-9]+)\b[ ,:]*(.*)$", re.MULTILINE | re.ASCII)
_DONE = re.compile(
    r"(?:has been |have been )?(held|released|suspended|continued|vacated|fast-vacated|marked for removal|removed)\b.*"
)


def parsed(job: str) -> tuple[int, int] | None:
    """Cluster and proc of a native id; None where it is none."""
    match = _ID.fullmatch(job)
    return (int(match[1]), int(match[2])) if match is not None else None


def valid(jobs: Iterable[str]) -> list[str]:
    """Those that are native ids."""
    return [job for job in jobs if parsed(job) is not None]


def runs(jobs: Collection[str]) -> dict[int, list[tuple[int, int]]]:
    """By cluster, in order, the procs as runs (first, last). What is no native id is left out."""
    found: dict[int, list[tuple[int, int]]] = {}
    for cluster, proc in sorted({ids for job in jobs if (ids := parsed(job)) is not None}):
        known = found.setdefault(cluster, [])
        if known and known[-1][1] + 1 == proc:
            known[-1] = (known[-1][0], proc)
        else:
            known.append((proc, proc))
    return found


def constraint(jobs: Collection[str]) -> str:
    """The expression that is true of these jobs."""
    clusters = []
    for cluster, procs in runs(jobs).items():
        parts = [f"ProcId == {a}" if a == b else f"(ProcId >= {a} && ProcId <= {b})" for a, b in procs]
        clusters.append(f"(ClusterId == {cluster} && ({' || '.join(parts)}))")
    return " || ".join(clusters) or "false"


def commands(action: Action, jobs: Sequence[str], where: Sequence[str]) -> list[tuple[Command, tuple[str, ...]]]:
    """Commands, each with the ids that it acts on. ``where``: options that name the schedd."""
    known = valid(jobs)
    found: list[tuple[Command, tuple[str, ...]]] = []
    for at in range(0, len(known), _AT_ONCE):
        some = tuple(known[at : at + _AT_ONCE])
        program = PROGRAMS[action]
        if action in _GUARDS:
            these = constraint(some)
            found.append((Command(argv=(program, *where, "-constraint", f"{_GUARDS[action]} && ({these})")), ()))
            shown = ("-json", "-attributes", f"ClusterId,ProcId,JobStatus,NumShadowStarts,{ONCE_ATTRIBUTE}", "-allusers")
            found.append((Command(argv=("condor_q", *where, *shown, "-constraint", these)), some))
            continue
        more: tuple[str, ...] = ()
        if action is Action.CANCEL and (factories := _factories(some)):
            more = ("-constraint", factories)
        found.append((Command(argv=(program, *where, *some, *more)), some))
    return found


def _factories(jobs: Collection[str]) -> str:
    """True of the arrays whose tasks that are still to be materialized are all among these: no more of theirs shall come.

    An array's own ad has no ProcId; those that are no capped arrays have no JobMaterializeNextProcId.
    """
    clauses = []
    for cluster, procs in runs(jobs).items():
        first, last = procs[-1]
        if last > 0:
            clauses.append(f"(ClusterId == {cluster} && TotalSubmitProcs == {last + 1} && JobMaterializeNextProcId >= {first})")
    return f"ProcId =?= undefined && ({' || '.join(clauses)})" if clauses else ""


def parse(action: Action, result: Result, jobs: Sequence[str]) -> Mapping[str, JobyardError | None]:
    """For each id that the answer speaks of: None, or why not."""
    if not jobs:
        return {}
    if action in _GUARDS:
        return _parse_guarded(action, result, jobs)
    text = f"{result.text}\n{result.error_text}"
    wanted = set(jobs)
    answers: dict[str, JobyardError | None] = {}
    no_more = action is Action.CANCEL and "All jobs matching constraint" in result.text
    ends = {f"{cluster}.{proc}" for cluster, procs in runs(jobs).items() for proc in range(procs[-1][0], procs[-1][1] + 1)}
    for match in _LINE.finditer(text):
        job, said = match[1], match[2].strip()
        if job not in wanted:
            continue
        if match[0].startswith("Permission"):
            answers[job] = NotPermitted(f"htcondor does not permit to {action} job {job}: it is not yours")
        elif said.startswith("already "):
            answers[job] = None if action is Action.CANCEL else WrongState(f"htcondor cannot {action} job {job}: it is {said}")
        elif said.startswith("not found"):
            if no_more and job in ends:
                answers[job] = None  # a task of a capped array, which now never comes
            else:
                answers[job] = WrongState(
                    f"htcondor cannot {action} job {job}: it is over, or a task of a capped array that is not in the queue yet"
                )
        elif said.startswith("not "):
            answers[job] = WrongState(f"htcondor cannot {action} job {job}: it is {said}")
        elif _DONE.fullmatch(said):
            answers[job] = None
        else:
            answers[job] = ControlError(f"htcondor cannot {action} job {job}: {said or 'it does not say why'}")
    if not answers:
        raise SchedulerUnavailable("it says nothing of the jobs")
    return answers


def _parse_guarded(action: Action, result: Result, jobs: Sequence[str]) -> Mapping[str, JobyardError | None]:
    """What the queue says after the action."""
    if result.returncode != 0:
        raise SchedulerUnavailable(f"condor_q failed, so that nobody knows what came of it: {action}")
    ads, unparsed, complete = read_ads(result.text)
    if unparsed or not complete:
        raise SchedulerUnavailable("its answer is not whole")
    listed = {job: ad for ad in ads if (job := native_id(ad)) is not None}
    answers: dict[str, JobyardError | None] = {}
    for job in jobs:
        ad = listed.get(job)
        if ad is None:
            why: str | None = "it is over, or a task of a capped array that is not in the queue yet"
        elif action is Action.HOLD:
            why = None if whole(ad, "JobStatus") == HELD else "it does not wait any more, and holding it would end its run"
        elif ad.get(ONCE_ATTRIBUTE) is True:
            why = "it may run only once; submit such jobs as rerunnable"
        else:
            why = None if whole(ad, "NumShadowStarts") else "it does not run"
        answers[job] = None if why is None else WrongState(f"htcondor cannot {action} job {job}: {why}")
    return answers
