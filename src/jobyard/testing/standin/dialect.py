"""The dialect of the stand-in: the smallest there is, and the example for adding a scheduler.

A dialect is pure: it says which commands to run, and reads what they print. Read a real scheduler's dialect as you would
its manual page; read this one to see which questions a dialect answers.
"""

from __future__ import annotations

import os
import re
import signal as signals
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import unquote_to_bytes

from ...errors import (
    ControlError,
    InvalidJob,
    JobyardError,
    NotPermitted,
    SchedulerUnavailable,
    SubmitError,
    UnknownJob,
    WrongState,
)
from ...job import By, Cause, Ending, JobDescription, JobState, Usage, signal_name
from ...schedulers.base import (
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

__all__ = ["StandinDialect"]

# The scheduler's words for a job's state: ours, and who holds it.
_STATES = {
    "PENDING": (JobState.QUEUED, None),
    "WAITING": (JobState.HELD, By.SYSTEM),  # for a time, or for another job
    "HELD_USER": (JobState.HELD, By.USER),
    "HELD_SYSTEM": (JobState.HELD, By.SYSTEM),
    "HELD_BOTH": (JobState.HELD, By.BOTH),
    "RUNNING": (JobState.RUNNING, None),
    "SUSPENDED": (JobState.SUSPENDED, By.USER),
    "ENDING": (JobState.RUNNING, None),
}
# Its words for how a job ended.
_ENDINGS = {
    "COMPLETED": (JobState.DONE, Cause.EXITED),
    "FAILED": (JobState.FAILED, Cause.EXITED),
    "SIGNALED": (JobState.FAILED, Cause.EXITED),
    "CANCELLED": (JobState.CANCELLED, Cause.CANCELLED),
    "TIMEOUT": (JobState.FAILED, Cause.WALLTIME),
    "OUT_OF_MEMORY": (JobState.FAILED, Cause.MEMORY),
    "NODE_FAIL": (JobState.FAILED, Cause.NODE),
    "DEPENDENCY": (JobState.FAILED, Cause.DEPENDENCY),
    "LOST": (JobState.FAILED, Cause.UNKNOWN),
}
_REFUSALS = {"unknown": UnknownJob, "state": WrongState, "denied": NotPermitted}
_OPTIONS = {  # of standin-submit, for what it takes from a description as it is
    "queue": "--queue",
    "account": "--account",
    "priority": "--priority",
}
_OURS = {"--chdir": "directory", "--array": "submit_array", "--rerun": "rerunnable", "--out": "stdout", "--err": "stderr"}

_HEADER = "JOB|STATE|CODE|SIGNAL|CORE|RUNS|SUBMITTED|BEGAN|ENDED|USER_S|SYSTEM_S|RSS_KB|REASON|FOLDER|NAME"
_END = re.compile(r"END (\d+)")
_ID = re.compile(r"[0-9]+(\.[0-9]+)?")
_TOKEN = re.compile(r"[0-9a-f]{32}")


class StandinDialect:
    """Dialect of jobyard.schedulers.base for the stand-in's five commands."""

    name = "standin"
    programs: tuple[str, ...] = ("standin-submit", "standin-queue", "standin-account", "standin-control", "standin-limits")
    hint = "jobyard.testing.standin.install(folder) puts it into that folder"
    traits = Traits(
        native_id_variables=("STANDIN_JOB_ID",),
        array_id_variables=("STANDIN_ARRAY",),
        index_variables=("STANDIN_TASK",),
        variables=("STANDIN_TASK", "STANDIN_ARRAY"),
    )
    capabilities = Capabilities(
        attributes=frozenset({
            "nodes", "processes", "processes_per_node", "cores", "gpus", "memory_bytes", "walltime_s", "run_time_s", "queue",
            "account", "priority", "begin_at", "hold", "rerunnable", "native",
        }),
        actions=frozenset(Action),
        arrays=True,
        max_running=True,
        per_task_control=True,
        dependencies=frozenset({"success", "failure", "any"}),
        accounting=True,
        notes={"exclusive": "ask for all its slots with cores="},
    )  # fmt: skip

    # Submission

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        for word in description.native:
            option = word.partition("=")[0]
            if option in _OURS:
                raise InvalidJob(f"standin: {option} belongs to jobyard; use {_OURS[option]} instead", field="native")

    def directives(self, submission: Submission) -> Sequence[str]:
        return [f"#STANDIN --rerun {'yes' if submission.description.rerunnable else 'no'}"]

    def submit_command(self, submission: Submission, script: str) -> Command:
        job = submission.description
        resources, limits = job.resources, job.limits
        argv = ["standin-submit", *job.native, f"--chdir={submission.folder}", f"--out={submission.folder}/batch.log"]
        argv += [f"--name={job.shown_name}", f"--cores={resources.total_cores}"]
        argv += [f"{option}={value}" for name, option in _OPTIONS.items() if (value := getattr(job, name)) is not None]
        if resources.total_gpus:
            argv.append(f"--gpus={resources.total_gpus}")
        if resources.memory_bytes is not None:
            argv.append(f"--memory={resources.memory_bytes}")
        if limits.walltime_s is not None:
            argv.append(f"--walltime={limits.walltime_s!r}")
        if limits.run_time_s is not None:
            argv.append(f"--run-time={limits.run_time_s!r}")
        if job.begin_at is not None:
            argv.append(f"--begin={job.begin_at!r}")
        if job.hold:
            argv.append("--hold=user")
        if submission.after:
            argv.append("--after=" + ",".join(f"{when}:{native_id}" for native_id, when in submission.after))
        if submission.kind is not Kind.SINGLE:
            cap = f"%{submission.max_running}" if submission.max_running is not None else ""
            argv.append(f"--array={_ranges(submission.indices)}{cap}")
        return Command(argv=(*argv, "--", script))

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        text = result.text.strip()
        if result.returncode > 0 and (lost := re.search(r"cannot (contact|reach)|closed the connection", result.error_text)):
            raise SchedulerUnavailable(lost[0])
        if result.returncode > 0:
            said = result.error_text.removeprefix("standin-submit: error: ") or f"exit code {result.returncode}"
            raise SubmitError(f"standin refused the job: {said}", retryable="try again" in said, output=result.error_text)
        if result.returncode < 0 or not re.fullmatch(r"[0-9]+", text):
            raise SchedulerUnavailable("it printed no job id")
        return _accepted(text, submission)

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        return [Command(argv=("standin-queue",)), Command(argv=("standin-account",))]

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        by_token = {submission.token: submission for submission in submissions}
        found: dict[str, Accepted] = {}
        for result in results:
            if "accounting is not enabled" in result.error_text:  # then the queue's word is all there is
                continue
            answer = _table(result)
            for row in answer.rows:
                if row.token in by_token and row.token not in found:
                    found[row.token] = _accepted(row.native_id.partition(".")[0], by_token[row.token])
            if answer.unparsed and len(found) < len(by_token):
                raise SchedulerUnavailable(f"a line that is no row may be the job: {answer.unparsed[0]}")
            if not answer.complete and len(found) < len(by_token):
                raise SchedulerUnavailable("the answer was cut short")
        return found

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        return Command(argv=("standin-queue",))

    def parse_query(self, result: Result) -> Answer:
        return _table(result)

    def account_command(self, native_ids: Collection[str]) -> Command | None:
        return Command(argv=("standin-account", "-"), stdin="\n".join(native_ids).encode())

    def parse_account(self, result: Result) -> Answer:
        if "accounting is not enabled" in result.error_text:
            return Answer(complete=False)
        return _table(result)

    def list_command(self) -> Command:
        return Command(argv=("standin-queue",))

    def parse_list(self, result: Result) -> Sequence[Row]:
        return _table(result).rows

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        number = (f"--signal={int(signal or signals.SIGTERM)}",) if action is Action.SIGNAL else ()
        argv = ("standin-control", action.value, *number, "-")
        return [(Command(argv=argv, stdin="\n".join(native_ids).encode()), tuple(native_ids))]

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        lines = result.text.splitlines()
        answers: dict[str, JobyardError | None] = {}
        for line in lines:
            native_id, _, rest = line.partition(" ")
            word, _, text = rest.partition(" ")
            if native_id not in native_ids:
                continue
            if word == "ok":
                answers[native_id] = None
            elif word in _REFUSALS or word == "error":
                answers[native_id] = _REFUSALS.get(word, ControlError)(f"standin cannot {action} job {native_id}: {text}")
        if not answers:
            raise SchedulerUnavailable("it says nothing of the jobs")
        return answers

    # The site

    def limits_command(self) -> Command | None:
        return Command(argv=("standin-limits",))

    def parse_limits(self, result: Result) -> SiteLimits:
        found = {match[1]: int(match[2]) for match in re.finditer(r"^(\w+)=([0-9]{1,18})$", result.text, re.MULTILINE | re.ASCII)}
        if result.returncode != 0 or "max_array" not in found:
            raise SchedulerUnavailable("it tells no limits")
        return SiteLimits(max_array_size=found["max_array"], max_index=found.get("max_index"), max_jobs=found.get("max_jobs"))

    def version_command(self) -> Command:
        return Command(argv=("standin-queue", "--version"))

    def parse_version(self, result: Result) -> str:
        match = re.fullmatch(r"standin [0-9.]+", result.text.strip())
        if result.returncode != 0 or match is None:
            raise SchedulerUnavailable("it tells no version")
        return match[0]


def _accepted(number: str, submission: Submission) -> Accepted:
    if submission.kind is Kind.SINGLE:
        return Accepted((number,))
    return Accepted(tuple(f"{number}.{index}" for index in submission.indices), number)


def _ranges(indices: Sequence[int]) -> str:
    """Indices as the command takes them, runs of equal steps joined: ``1-9:2,20``."""
    parts: list[str] = []
    at = 0
    while at < len(indices):
        step = indices[at + 1] - indices[at] if at + 1 < len(indices) else 1
        end = at
        while step > 0 and end + 1 < len(indices) and indices[end + 1] - indices[end] == step:
            end += 1
        parts.append(f"{indices[at]}-{indices[end]}:{step}" if end > at else str(indices[at]))
        at = end + 1
    return ",".join(parts)


# Rows ---------------------------------------------------------------------------------------------------------------


def _table(result: Result) -> Answer:
    """The answer of queue and accounting: a header, a row for each job, and a last line that counts them."""
    if result.returncode != 0:
        raise SchedulerUnavailable("it failed")
    lines = result.text.split("\n")
    if _HEADER not in lines:
        raise SchedulerUnavailable("it printed no table")
    rows: list[Row] = []
    unparsed: list[str] = []
    count = None
    for line in lines:
        if line == _HEADER or not line.strip():
            continue
        if end := _END.fullmatch(line):
            count = int(end[1])
        elif (row := _row(line)) is not None:
            rows.append(row)
        else:
            unparsed.append(line)
    return Answer(rows=tuple(rows), unparsed=tuple(unparsed), complete=count == len(rows) and not unparsed)


def _row(line: str) -> Row | None:
    """One job; None where the line is no row."""
    fields = line.split("|")
    if len(fields) != _HEADER.count("|") + 1 or not _ID.fullmatch(fields[0]):
        return None
    native_id, word, code, signal, core, runs, submitted, began, ended, user, system, rss, reason, folder, name = fields
    try:
        times = [float(text) if text else None for text in (submitted, began, ended, user, system)]
        numbers = [int(text) if text else None for text in (code, signal, runs, rss)]
        texts = [os.fsdecode(unquote_to_bytes(os.fsencode(text))) for text in (reason, folder, name)]
    except ValueError:
        return None
    state, by = _STATES.get(word, (None, None))
    ending = None
    if word in _ENDINGS:
        state, cause = _ENDINGS[word]
        wall_s = times[2] - times[1] if times[1] is not None and times[2] is not None else None
        ending = Ending(
            state=state,
            cause=cause,
            exit_code=numbers[0],
            signal=None if numbers[1] is None else signal_name(numbers[1]),
            core_dumped=core == "1",
            aborted=times[1] is None,
            message=texts[0],
            usage=Usage(
                wall_s=wall_s, user_s=times[3], system_s=times[4], max_rss_bytes=None if numbers[3] is None else numbers[3] * 1024
            ),
            submitted_at=times[0],
            began_at=times[1],
            ended_at=times[2],
            attempts=numbers[2] or 1,
        )
    last = os.path.basename(texts[1])
    return Row(
        native_id=native_id,
        state=state,
        by=by,
        native_state=word,
        reason=texts[0] or None,
        token=last if _TOKEN.fullmatch(last) else None,
        name=texts[2],
        attempt=numbers[2] or None,
        ended=ending is not None,
        ending=ending,
        submitted_at=times[0],
        began_at=times[1],
    )
