"""The dialect of HTCondor: commands out, answers in. Pure.

Sources: the manual pages of condor_submit, condor_q, condor_history, condor_rm and its kin; what 23.9.6 and 25.14.1 print
(testbeds/htcondor/samples, samples-25).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from ...errors import JobyardError, SchedulerUnavailable, SubmitError
from ...job import JobDescription
from ..base import (
    Accepted,
    Action,
    Answer,
    Capabilities,
    Command,
    Kind,
    Result,
    Row,
    SiteLimits,
    Submission,
    Traits,
)
from . import control, description
from .ads import ATTRIBUTES, TOKEN_ATTRIBUTE, answer, native_id, read_ads, whole

__all__ = ["HTCondorDialect"]

_TERSE = re.compile(r"([1-9][0-9]{0,11})\.0 - ([1-9][0-9]{0,11})\.([0-9]{1,9})", re.ASCII)
_VERSION = re.compile(r"\$CondorVersion: ([0-9]+\.[0-9]+\.[0-9]+)\b", re.ASCII)
# What condor_submit says where it cannot tell whether the schedd has the job, or never reached it.
_AWAY = re.compile(
    r"Can't find address|Failed to connect|Failed to fetch|Failed to commit|Failed to end|connection|communicat|timed out|QMGMT",
    re.IGNORECASE,
)
_LATER = re.compile(r"exceed MAX_JOBS_(PER_OWNER|SUBMITTED|RUNNING)", re.IGNORECASE)
_FACTORY_REMOVED = 3  # JobFactoryPaused: 0 not, 1 held, 2 no more tasks; condor_q -factory shows 3 as "Gone"
_IDS = 5000  # arguments of one command; of more jobs, whole clusters are asked for
# The tools read settings from the environment: only the caller's own jobs are listed, whatever the site's default.
_MINE = {"_CONDOR_CONDOR_Q_ONLY_MY_JOBS": "true"}


class HTCondorDialect:
    """Dialect of jobyard.schedulers.base for HTCondor's commands. ``schedd``, ``pool``: other than this machine's own."""

    name = "htcondor"
    programs: tuple[str, ...] = ("condor_submit", "condor_q", "condor_history", "condor_rm")
    hint = "install HTCondor's commands (Debian: condor), or log in on a submit node"
    traits = Traits(
        native_id_variables=("CONDOR_JOB_ID",),  # set by the submit description: HTCondor itself tells no id
        array_id_variables=("CONDOR_CLUSTER_ID",),
        index_argument=True,
        positions=True,
        own_group=True,  # TERM reaches the first process alone
    )
    capabilities = Capabilities(
        attributes=frozenset({
            "processes", "processes_per_node", "cores", "gpus", "memory_bytes", "walltime_s", "cpu_time_s", "account", "priority",
            "begin_at", "deadline_at", "hold", "rerunnable", "native", "email",
        }),
        actions=frozenset(Action) - {Action.SIGNAL},
        arrays=True,
        max_running=True,
        per_task_control=True,
        accounting=True,
        notes={
            "after": "it has dependencies within DAGMan's workflows only; wait for the first job, then submit the second",
            "nodes": "a job of its vanilla universe is on one machine; ask for processes and cores",
            "exclusive": "ask for all cores of a machine with cores=",
            "queue": "it has no queues; choose machines with attributes={'htcondor.requirements': ...}",
            "reservation": "it has no reservations; choose machines with attributes={'htcondor.requirements': ...}",
            "run_time_s": "a limit that counts suspended time is there: walltime",
            Action.SIGNAL: "HTCondor has no command that sends a signal to a job; cancel, suspend and requeue are there",
        },
    )  # fmt: skip

    def __init__(self, schedd: str | None = None, pool: str | None = None) -> None:
        self._where = (*(("-pool", pool) if pool else ()), *(("-name", schedd) if schedd else ()))

    # Submission

    def check(self, description_: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        """As Scheduler.check."""
        description.check(self.name, description_)

    def directives(self, submission: Submission) -> Sequence[str]:
        """None: condor_submit reads a description of its own."""
        return ()

    def submit_command(self, submission: Submission, script: str) -> Command:
        """The description goes to standard input; a lone ``-`` would make condor_submit print whole ads."""
        text = description.submit_description(submission, script)
        return Command(argv=("condor_submit", "-terse", *self._where, *submission.description.native), stdin=os.fsencode(text))

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        """Of the form ``54.0 - 54.1``: the first and the last proc."""
        said = " ".join(result.error_text.split()).removeprefix("ERROR: ")
        if result.returncode > 0:
            if _AWAY.search(said) or not said:
                raise SchedulerUnavailable(said or "it does not say why")
            raise SubmitError(f"htcondor refused the job: {said}", retryable=bool(_LATER.search(said)), output=result.error_text)
        lines = [match for line in result.text.splitlines() if (match := _TERSE.fullmatch(line.strip()))]
        if result.returncode < 0 or len(lines) != 1 or lines[0][1] != lines[0][2]:
            raise SchedulerUnavailable("it printed no job id")
        accepted = _accepted(int(lines[0][1]), submission)
        if accepted.native_ids[-1] != f"{lines[0][2]}.{lines[0][3]}":
            raise SchedulerUnavailable(f"it took other jobs than those that were sent: {lines[0][0]}")
        return accepted

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        """Queue, capped arrays none of whose tasks is in the queue just now, history."""
        tokens = " || ".join(f'{TOKEN_ATTRIBUTE} == "{submission.token}"' for submission in submissions)
        shown = ("-json", "-attributes", f"ClusterId,{TOKEN_ATTRIBUTE}", "-constraint", tokens)
        commands = [self._ask("condor_q", *shown)]
        if any(submission.max_running is not None for submission in submissions):
            commands.append(self._ask("condor_q", "-factory", *shown))
        return [*commands, self._ask("condor_history", *shown)]

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """By the attribute that carries the token."""
        by_token = {submission.token: submission for submission in submissions}
        found: dict[str, Accepted] = {}
        for result in results:
            if _no_history(result):
                continue
            if result.returncode != 0:
                raise SchedulerUnavailable("it failed")
            ads, unparsed, complete = read_ads(result.text)
            for ad in ads:
                cluster, token = whole(ad, "ClusterId"), ad.get(TOKEN_ATTRIBUTE)
                if cluster and isinstance(token, str) and token in by_token:
                    found.setdefault(token, _accepted(cluster, by_token[token]))
            if (unparsed or not complete) and len(found) < len(by_token):
                raise SchedulerUnavailable("the answer is not whole")
        return found

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        """All jobs of the caller, with the attributes that rows are made of."""
        return self._ask("condor_q", "-json", "-attributes", ",".join(ATTRIBUTES))

    def parse_query(self, result: Result) -> Answer:
        """Nothing printed: no job."""
        if result.returncode != 0:
            raise SchedulerUnavailable("it failed")
        return answer(result.text, queue=True)

    def account_command(self, native_ids: Collection[str]) -> Command | None:
        """Their records; a job has one, written when it left the queue. The newest come first, so that few are read.

        Ids are found without reading the ads of others: ten times as fast as the same in a constraint.
        """
        shown = ("-json", "-attributes", ",".join(ATTRIBUTES))
        ids = control.valid(native_ids)
        if not ids:
            return None  # it would take them for the names of users
        if len(ids) <= _IDS:
            return self._ask("condor_history", *ids, *shown, "-limit", str(len(ids)))
        return self._ask("condor_history", *map(str, control.runs(ids)), *shown)

    def parse_account(self, result: Result) -> Answer:
        """A site may keep no history: then it has no record of the job, now or later."""
        if _no_history(result):
            return Answer()
        if result.returncode != 0 or not result.text.strip():
            raise SchedulerUnavailable("it failed")
        return answer(result.text, queue=False)

    def states_command(self, native_ids: Sequence[str]) -> Command:
        """The states of these alone."""
        return Command(
            argv=("condor_q", *self._where, *control.valid(native_ids), "-json", "-attributes", "ClusterId,ProcId,JobStatus")
        )

    def parse_states(self, result: Result) -> Mapping[str, int]:
        """JobStatus by id; a job that is left out is not in the queue."""
        if result.returncode != 0:
            raise SchedulerUnavailable("it failed")
        ads, unparsed, complete = read_ads(result.text)
        if unparsed or not complete:
            raise SchedulerUnavailable("the answer is not whole")
        return {job: status for ad in ads if (job := native_id(ad)) is not None and (status := whole(ad, "JobStatus")) is not None}

    def factory_command(self, clusters: Iterable[str]) -> Command:
        """Capped arrays: which of their tasks are still to be materialized. No job's own ad tells that an array was removed."""
        shown = "ClusterId,JobMaterializeNextProcId,TotalSubmitProcs,JobFactoryPaused"
        return Command(argv=("condor_q", *self._where, *sorted(clusters), "-factory", "-json", "-attributes", shown))

    def parse_factory(self, result: Result) -> Mapping[str, range]:
        """By cluster, the procs that are still to come; an array that was removed is left out."""
        if result.returncode != 0:
            raise SchedulerUnavailable("it failed")
        ads, unparsed, complete = read_ads(result.text)
        if unparsed or not complete:
            raise SchedulerUnavailable("the answer is not whole")
        found = {}
        for ad in ads:
            cluster, following, total = (whole(ad, name) for name in ("ClusterId", "JobMaterializeNextProcId", "TotalSubmitProcs"))
            if cluster and following is not None and total is not None and whole(ad, "JobFactoryPaused") != _FACTORY_REMOVED:
                found[str(cluster)] = range(following, total)
        return found

    def list_command(self) -> Command:
        """As the queue."""
        return self.query_command(())

    def parse_list(self, result: Result) -> Sequence[Row]:
        """As the queue."""
        return self.parse_query(result).rows

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        """One command for all; for a hold a second one, that asks what came of it."""
        return control.commands(action, native_ids, self._where)

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        """As Scheduler.control."""
        return control.parse(action, result, native_ids)

    # The site

    def limits_command(self) -> Command | None:
        """Settings of the submit node."""
        return Command(argv=("condor_config_val", "MAX_JOBS_PER_SUBMISSION", "MAX_JOBS_PER_OWNER"))

    def parse_limits(self, result: Result) -> SiteLimits:
        """Both have defaults: two lines."""
        lines = result.text.split()
        if result.returncode != 0 or len(lines) != 2 or not all(re.fullmatch(r"[0-9]{1,15}", line, re.ASCII) for line in lines):
            raise SchedulerUnavailable("it tells no limits")
        most, jobs = (int(line) or None for line in lines)
        return SiteLimits(max_array_size=most, max_jobs=jobs)

    def capabilities_command(self) -> Command:
        """What the schedd can do; a schedd that does not materialize late starts all tasks of a capped array at once."""
        return Command(argv=("condor_submit", *self._where, "-capabilities"))

    def parse_capabilities(self, result: Result) -> bool:
        """Whether it materializes late."""
        if result.returncode != 0 or not result.text.strip():
            raise SchedulerUnavailable("it tells no capabilities")
        return re.search(r"^\s*Has Late Materialization enabled", result.text, re.MULTILINE) is not None

    def version_command(self) -> Command:
        """Of the commands."""
        return Command(argv=("condor_version",))

    def parse_version(self, result: Result) -> str:
        """As ``htcondor 23.9.6``."""
        match = _VERSION.search(result.text)
        if result.returncode != 0 or match is None:
            raise SchedulerUnavailable("it tells no version")
        return f"htcondor {match[1]}"

    def _ask(self, program: str, *options: str) -> Command:
        return Command(argv=(program, *self._where, *options), environment=_MINE)


def _accepted(cluster: int, submission: Submission) -> Accepted:
    if submission.kind is Kind.SINGLE:
        return Accepted((f"{cluster}.0",))
    return Accepted(tuple(f"{cluster}.{proc}" for proc in range(len(submission.indices))), str(cluster))


def _no_history(result: Result) -> bool:
    return (
        result.returncode != 0
        and "istory" in result.argv[0]
        and bool(re.search(r"no history|HISTORY.*not defined", result.error_text, re.I))
    )
