"""The dialect of HyperQueue: questions to the resident that holds its Python package (ask.py, resident.py).

HyperQueue knows jobs of many tasks. A submission is one job; its tasks are numbered from 0 in the order of the indices, and a
native id is ``UID-JOB``, or ``UID-JOB.TASK``: job numbers begin again with each server, its UID tells them apart.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...errors import (
    ControlError,
    InvalidJob,
    JobyardError,
    SchedulerUnavailable,
    SubmitError,
    UnknownJob,
    WrongState,
)
from ...job import JobDescription
from ..base import Accepted, Action, Answer, Capabilities, Command, Kind, Result, Submission, Traits
from ..dialects import QueueDialect, asked_ids, check_one_node, in_parts
from .answers import ID, accepted_ids, answer_of, rows_of

__all__ = ["HINT", "HyperQueueDialect"]

HINT = "install HyperQueue's Python package beside jobyard: pip install 'jobyard[hyperqueue]'"
MOST_ACTED_ON = 5000
MOST_IN_A_WORD = 100_000  # Linux takes 131,072 bytes in one word of a command line; more goes by standard input
PRIORITIES = range(-(1 << 31), 1 << 31)  # an i32 in HyperQueue
_SHELL_ID = 'export JOBYARD_HYPERQUEUE_ID="$JOBYARD_HYPERQUEUE_SERVER-$HQ_JOB_ID"'
_VERSION = "from importlib.metadata import version; print(version('hyperqueue'))"

_ATTRIBUTES = frozenset({"processes", "processes_per_node", "cores", "walltime_s", "cpu_time_s", "priority", "rerunnable"})
_NOTES = {
    "nodes": "a job is one process on one node that starts the others; ask for its cores",
    "memory_bytes": "the worker that starts with its server books cores alone; join a server whose workers have a resource 'mem'",
    "gpus": "the worker that starts with its server books cores alone; join a server whose workers have GPUs",
    "hold": "it starts what it can; submit the job when it may start",  # the attribute, and the action of that name
    "begin_at": "submit the job when it may start",
    "max_running": "give its tasks more cores, so that fewer run at a time",
    "after": "it knows dependencies within one of its jobs only; wait for the first job, then submit the second",
    "queue": "there is one queue; a server of its own is another contact (server_dir=...)",
    Action.SUSPEND: "cancel the job, and submit it again",
    Action.SIGNAL: "it can be cancelled: TERM, then KILL",
    Action.REQUEUE: "submit the job again",
}


class HyperQueueDialect(QueueDialect):
    """Dialect of jobyard.schedulers.base for HyperQueue."""

    name = "hyperqueue"
    programs: tuple[str, ...] = ()
    hint = HINT
    traits = Traits(
        native_id_variables=("JOBYARD_HYPERQUEUE_ID",),
        task_id_template="{JOBYARD_HYPERQUEUE_ID}.{HQ_TASK_ID}",
        array_id_variables=("JOBYARD_HYPERQUEUE_ID",),
        index_variables=("HQ_TASK_ID",),
        positions=True,
        variables=("HQ_TASK_ID",),
        guarded=True,
    )

    def __init__(
        self,
        *,
        python: str,
        program: str,
        room: str,
        join: str | None = None,
        cores: int | None = None,
        idle_s: float | None = None,
    ) -> None:
        """``program``: ask.py's path. ``join``: another's server. ``cores``, ``idle_s``: of a server that starts here."""
        options: list[str] = []
        for name, value in (("join", join), ("cores", cores), ("idle", idle_s)):
            if value is not None:
                options += [f"--{name}", str(value)]
        self._argv = (python, "-I", "-S", program, room, *options)
        self._python = python
        self._joined = join is not None
        self._cores = cores
        attributes, notes = _ATTRIBUTES, dict(_NOTES)
        if self._joined:
            attributes |= {"memory_bytes", "gpus"}
            del notes["memory_bytes"], notes["gpus"]
        self.capabilities = Capabilities(
            attributes=attributes,
            actions=frozenset({Action.CANCEL}),
            arrays=True,
            per_task_control=True,
            accounting=False,
            shows_suspended=False,
            notes=notes,
        )

    def _ask(self, what: str, **question: Any) -> Command:
        text = json.dumps({"ask": what, **question})
        if len(text) <= MOST_IN_A_WORD:
            return Command(argv=(*self._argv, "--question", text), timeout_s=60.0)
        return Command(argv=self._argv, stdin=text.encode("ascii"), timeout_s=60.0)

    # Submission

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        resources = description.resources
        check_one_node(self.name, resources, _NOTES["nodes"])
        cores = resources.total_cores
        if self._cores is not None and cores > self._cores:
            raise InvalidJob(
                f"hyperqueue: the job asks for {cores} cores, and the server that starts here has {self._cores}; it would wait for "
                "ever. Ask for less, or say cores=N in the contact of a server that is still to start",
                field="cores",
            )
        if description.priority is not None and description.priority not in PRIORITIES:
            what = f"hyperqueue: priority is {PRIORITIES[0]} to {PRIORITIES[-1]}, not {description.priority}"
            raise InvalidJob(what, field="priority")

    def directives(self, submission: Submission) -> Sequence[str]:
        """A task that was cancelled before it began ends at once; the rest learns its id."""
        return ['[ ! -e "stop.$HQ_TASK_ID" ] || exit 0  # its directory is the job\'s folder', _SHELL_ID]

    def submit_command(self, submission: Submission, script: str) -> Command:
        job = submission.description
        resources: dict[str, int] = {}
        if job.resources.gpus:
            resources["gpus/nvidia"] = job.resources.total_gpus
        if job.resources.memory_bytes is not None:
            resources["mem"] = -(-job.resources.memory_bytes // (1 << 20))  # MiB, as workers find it
        return self._ask(
            "submit",
            token=submission.token,
            folder=submission.folder,
            name=_shown_name(job),
            count=1 if submission.kind is Kind.SINGLE else len(submission.indices),
            single=submission.kind is Kind.SINGLE,
            cores=job.resources.total_cores,
            resources=resources,
            priority=job.priority or 0,
            walltime_s=job.limits.walltime_s,
            rerunnable=job.rerunnable,
        )

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        answer = answer_of(result)
        if answer.get("refused"):
            raise SubmitError(f"hyperqueue refused the job: {answer['refused']}", output=str(answer["refused"]))
        return _accepted(answer.get("id"), submission)

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        return [self._ask("find", tokens=[submission.token for submission in submissions])]

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """SchedulerUnavailable: of one of them it is not known whether the server has it."""
        answer = answer_of(results[-1])
        found: dict[str, Any] = {}
        jobs = answer.get("jobs")
        if not isinstance(jobs, list) or answer.get("doubtful"):
            raise SchedulerUnavailable("whether all of these reached the server is not known")
        for one in jobs:
            if not isinstance(one, dict) or not isinstance(one.get("token"), str):
                raise SchedulerUnavailable("its answer is not whole")
            found[one["token"]] = one.get("id")
        return {one.token: _accepted(found[one.token], one) for one in submissions if one.token in found}

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        return self._ask("query", ids=asked_ids(native_ids, ID))

    def parse_query(self, result: Result) -> Answer:
        answer = answer_of(result)
        rows, unparsed = rows_of(answer)
        unknown = answer.get("unknown")
        if not isinstance(answer.get("jobs"), list) or not isinstance(unknown, list):
            raise SchedulerUnavailable("its answer is not whole")
        return Answer(rows=tuple(rows), unparsed=tuple(unparsed), complete=not unparsed and not unknown)

    def list_command(self) -> Command:
        return self._ask("query", ids=[])

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        return [(self._ask("cancel", ids=list(part)), part) for part in in_parts(native_ids, ID, MOST_ACTED_ON)]

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        said = answer_of(result).get("answers")
        if not isinstance(said, dict):
            raise SchedulerUnavailable("its answer is not whole")
        answers: dict[str, JobyardError | None] = {}
        for native_id in native_ids:
            if native_id not in said and not said:  # nobody serves: its server, and it, are gone
                answers[native_id] = UnknownJob(f"hyperqueue knows no job {native_id}: its server does not run any more")
            elif native_id in said:
                answers[native_id] = _refusal(action, native_id, said[native_id])
        return answers

    # The site

    def version_command(self) -> Command:
        return Command(argv=(self._python, "-P", "-c", _VERSION))

    def parse_version(self, result: Result) -> str:
        words = result.text.split()
        if result.returncode != 0 or len(words) != 1:
            raise SchedulerUnavailable(f"its Python package tells no version; {HINT}")
        return f"hyperqueue {words[0]}"


def _shown_name(job: JobDescription) -> str:
    """For people who look; anything may stand in a name of HyperQueue's, but what a terminal would act on."""
    name = job.name or job.argv[0].rpartition("/")[2]
    return "".join(letter if letter.isprintable() else "_" for letter in name)[:200] or "job"


def _accepted(native_id: object, submission: Submission) -> Accepted:
    ids = accepted_ids(native_id, None if submission.kind is Kind.SINGLE else len(submission.indices))
    if not ids:
        raise SchedulerUnavailable("it told no id")
    return Accepted(ids, array_id=None if submission.kind is Kind.SINGLE else str(native_id))


def _refusal(action: Action, native_id: str, said: object) -> JobyardError | None:
    if said is None:
        return None
    if said == "over":
        return WrongState(f"hyperqueue cannot {action} job {native_id}: it is over")
    if said == "unknown":
        return UnknownJob(f"hyperqueue knows no job {native_id}")
    return ControlError(f"hyperqueue did not {action} job {native_id}: {said}")
