"""The built-in executors for batch schedulers: the engine's adapters, under PSI/J's names and hooks."""

from __future__ import annotations

import builtins
import io
import os
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

import jobyard
from jobyard import fronts
from jobyard.fronts import Action, Result, Submission

from ..._engine import work_root
from ..._engine_executor import EngineExecutor, list_of
from ..._states import STATES, exit_code
from ...exceptions import InvalidJobException, SubmitException
from ...job import Job
from ...job_status import JobStatus
from ._wrapped import keep_file
from .batch_scheduler_executor import BatchSchedulerExecutor, InvalidJobStateError

if TYPE_CHECKING:
    from ..._engine import Link

__all__ = ["SchedulerExecutor"]

_DEFAULT_INTERVAL_S = 30
_TOKEN = "0" * 32  # stands for that of a job that was not submitted yet


class SchedulerExecutor(BatchSchedulerExecutor):
    """An executor on one of the engine's adapters, which says the commands and reads the answers.

    The hooks of BatchSchedulerExecutor answer what the adapter would; submission itself does not pass through them.
    """

    def _parse_url(self) -> str:
        return EngineExecutor._parse_url(self)

    def _open_link(self, contact: str | None = None) -> Link:
        return EngineExecutor._open_link(self, contact)

    def _engine_contact(self) -> str:
        """With the configured interval between questions, where one was set and ``url`` says none."""
        interval_s = getattr(self.config, "queue_polling_interval", _DEFAULT_INTERVAL_S)
        contact = jobyard.Contact.parse(self._contact)
        if interval_s == _DEFAULT_INTERVAL_S or "poll" in contact.options:
            return self._contact
        return str(msgspec.structs.replace(contact, options={**contact.options, "poll": f"{interval_s}s"}))

    def _send(self, jobs: builtins.list[Job], **changes: object) -> None:
        EngineExecutor._send(self, jobs, **changes)
        if getattr(self.config, "keep_files", False):
            for job in jobs:
                out = io.StringIO()
                self.generate_submit_script(job, {}, out)
                keep_file(self.work_directory, f"{job.id}.job", out.getvalue().encode("utf-8", "surrogateescape"))

    def _describe(self, job: Job) -> tuple[jobyard.JobDescription, str | None]:
        return EngineExecutor._describe(self, job)

    def _scheduler(self) -> jobyard.CommandScheduler:
        scheduler = self._link().session.scheduler
        if not isinstance(scheduler, jobyard.CommandScheduler):
            raise SubmitException(f"{self.name} does not speak to its scheduler by commands")
        return scheduler

    def _dialect(self) -> jobyard.Dialect:
        return self._scheduler().dialect

    def _submission(self, job: Job) -> Submission:
        description, _ = self._describe(job)
        try:
            description = self._link().session.check(description)
        except jobyard.InvalidJob as error:
            from ..._describe import refusal

            raise refusal(error) from error
        token = _TOKEN if job._engine_job is None else job._engine_job.token.partition(".")[0]
        work = self.config._work_directory
        root = work_root() if work is None else work.absolute() / f"jobyard-{os.getuid()}"
        return Submission(token=token, folder=f"{root}/{token[:2]}/{token}", description=description)

    # The hooks ----------------------------------------------------------------------------------------------------

    def generate_submit_script(self, job: Job, context: dict[str, object], submit_file: IO[str]) -> None:
        """Write what ``get_submit_command`` gives the scheduler, which is what ``submit`` sends: a batch script, or a submit
        description, with the command and the job's description in comments. Before submission the name of the job's folder
        is not known, and a row of zeros stands for it. What ``submit`` would refuse stands in the comments as well, with why
        it is refused, and no job."""
        if job.spec is None or not job.spec.executable:
            raise InvalidJobException("the job has no executable; set JobSpec.executable")
        try:
            submission = self._submission(job)
        except InvalidJobException as refused:
            told = [("refused", refused.message), *_told(self._describe(job)[0])]
            submit_file.write("\n".join(["#!/bin/sh", *_comments(told), "exit 125", ""]))
            return
        scheduler, script = self._scheduler(), f"{submission.folder}/run.sh"
        command = scheduler.dialect.submit_command(submission, script)
        comments = _comments([("submitted by", shlex.join(command.argv)), *_told(submission.description)])
        if command.stdin:
            lines = os.fsdecode(command.stdin).splitlines()
            first = lines[0].startswith("#!")  # it stays the first line
            lines[first:first] = comments
        else:
            *head, start = os.fsdecode(scheduler.prepare(submission)["run.sh"]).splitlines()
            lines = [*head, *comments, start]
        submit_file.write("\n".join(lines) + "\n")

    def get_submit_command(self, job: Job, submit_file_path: Path) -> builtins.list[str]:
        """The adapter's command. What a scheduler takes as options of it, rather than as directives, stands here. Where the
        adapter's command reads its standard input, a shell gives it the file there: bsub would run one that it is told by name.
        InvalidJobException names an attribute that the scheduler cannot honour."""
        path = os.fspath(submit_file_path)
        submission = self._submission(job)  # checking it, the adapter may learn of its site
        command = self._dialect().submit_command(submission, path)
        return ["/bin/sh", "-c", 'exec "$@" <"$0"', path, *command.argv] if command.stdin else list_of(command.argv)

    def job_id_from_submit_output(self, out: str) -> str:
        """The native id; SubmitException where there is none."""
        submission = Submission(token=_TOKEN, folder=f"/{_TOKEN}", description=jobyard.JobDescription(argv=("true",)))
        try:
            return self._dialect().parse_submit(_result(0, out), submission).native_ids[0]
        except jobyard.JobyardError as error:
            raise SubmitException(str(error), error, transient=error.retryable) from error

    def get_cancel_command(self, native_id: str) -> builtins.list[str]:
        """The adapter's command."""
        return list_of(self._dialect().control_commands(Action.CANCEL, [native_id], signal=None)[0][0].argv)

    def process_cancel_command_output(self, exit_code: int, out: str) -> None:
        """InvalidJobStateError where the job had ended, else SubmitException."""
        error: jobyard.JobyardError | None
        try:
            answers = self._dialect().parse_control(Action.CANCEL, _result(exit_code, out), ["?"])
            error = next(iter(answers.values()), None)
        except jobyard.SchedulerUnavailable as unreadable:
            error = unreadable
        if isinstance(error, jobyard.WrongState | jobyard.UnknownJob):
            raise InvalidJobStateError(str(error))
        raise SubmitException(f"{error}: {out}" if error is not None else out)

    def get_status_command(self, native_ids: Collection[str]) -> builtins.list[str]:
        """The adapter's command."""
        return list_of(self._dialect().query_command(native_ids).argv)

    def parse_status_output(self, exit_code: int, out: str) -> dict[str, JobStatus]:
        """The status of each job whose state the adapter knows; SchedulerUnavailable where the output is no answer."""
        found = {}
        for row in self._dialect().parse_query(_result(exit_code, out)).rows:
            if row.state is not None:
                found[row.native_id] = _status(row)
        return found

    def get_list_command(self) -> builtins.list[str]:
        """The adapter's command."""
        return list_of(self._dialect().list_command().argv)

    def parse_list_output(self, out: str) -> builtins.list[str]:
        """The native ids."""
        return [row.native_id for row in self._dialect().parse_list(_result(0, out))]


def _result(returncode: int, out: str) -> Result:
    return Result(argv=("?",), returncode=returncode, stdout=out.encode("utf-8", "surrogateescape"))


def _status(row: fronts.Row) -> JobStatus:
    assert row.state is not None
    metadata: dict[str, object] = {"native_id": row.native_id, "native_state": row.native_state}
    code = exit_code(row.ending) if row.ending is not None else None
    message = row.reason or (row.ending.message if row.ending is not None else None) or None
    return JobStatus(STATES[row.state], message=message, exit_code=code, metadata=metadata)


def _told(description: jobyard.JobDescription) -> builtins.list[tuple[str, object]]:
    """What a description says, by name; what it leaves open is left out."""
    told: builtins.list[tuple[str, object]] = []
    for part in (description, description.resources, description.limits):
        fields = part.__struct_defaults__
        names = part.__struct_fields__
        for at, name in enumerate(names):
            value = getattr(part, name)
            default = fields[at - len(names) + len(fields)] if at >= len(names) - len(fields) else None
            if name in ("tags", "resources", "limits") or value is None or value in (default, ()):
                continue
            told += list(value.items()) if name == "attributes" else [(name, value)]
    return told


def _comments(told: builtins.list[tuple[str, object]]) -> builtins.list[str]:
    return ["#", *(f"# {name}: {escaped(value)}" for name, value in told), "#"]


def escaped(value: object) -> str:
    """A value for a comment: words as Python would write them, so that nothing ends the line."""
    if isinstance(value, tuple):
        return " ".join(escaped(item) for item in value)
    text = str(value)
    return text if text.isprintable() else repr(text)
