"""The hooks of a BatchSystem subclass as a dialect of the engine: its commands out, its parsers' answers in. No I/O.

Hooks speak of one job at a time; a subclass that can ask about many in one command says so by ``_stat_all_command``.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jobyard
from jobyard import JobState
from jobyard.fronts import Accepted, Action, Answer, By, Command, Kind, Result, Row, SiteLimits, Submission, Traits

from .. import exceptions
from .._run import Run
from ._frames import Ask, Frame, frames, one_command
from ._words import ending_of

if TYPE_CHECKING:
    from .batch import BatchSystem

__all__ = ["PIECES", "TAG", "HookDialect", "called", "leading_comments"]

TAG = "gc3"  # of a description: what is needed to send it again, as JSON
PIECES = ("submit.out", "submit.err", "submit.code")  # of the job's folder: what the submit command said

# Arguments: the sandbox, the job's folder, the command line. What it says is kept beside the job before anybody reads it, so
# that a client that dies here is followed by one that knows the job's id.
_SUBMIT = """\
cd "$1" || exit 125
/bin/sh -c "$3" </dev/null >"$2/submit.out" 2>"$2/submit.err"
code=$?
echo "$code" >"$2/submit.new" && mv -f "$2/submit.new" "$2/submit.code"
cat "$2/submit.out"
cat "$2/submit.err" >&2
exit "$code"
"""
_NATIVE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+\[\]-]{0,199}")
# Said of a job that is no longer there, by Slurm, PBS, Torque, Grid Engine and LSF.
_GONE = re.compile(
    r"unknown job|invalid job id|no (?:such|matching) job|\bjobs?\b.{0,60}(?:not found|not exist|has finished)",
    re.IGNORECASE | re.DOTALL,
)
_NOT_RUN = (126, 127)  # of a shell that could not run the command
# Said where there is no accounting at all: it will never know the job.
_NO_ACCOUNTING = re.compile(r"accounting.{0,40}(?:disabled|not enabled|not available)|no such file or directory", re.IGNORECASE)
_DENIED = re.compile(
    r"permission|denied|not authorized|unauthorized|not (?:the )?owner|must be (?:the )?(?:owner|operator)", re.IGNORECASE
)
_OVER = re.compile(
    r"already (?:finished|completed|deleted|terminated)|has (?:finished|completed|already)|is over|has ended", re.IGNORECASE
)

_STATES: dict[str, tuple[JobState | None, By | None]] = {
    Run.State.NEW: (JobState.QUEUED, None),
    Run.State.SUBMITTED: (JobState.QUEUED, None),
    Run.State.RUNNING: (JobState.RUNNING, None),
    Run.State.STOPPED: (JobState.HELD, None),  # HookScheduler knows whether it had begun
}


def called(hook: Any, *values: str) -> Any:
    """Call a hook with as many of these as it takes: parsers of older programs take no standard error."""
    try:
        parameters = inspect.signature(hook).parameters.values()
    except (TypeError, ValueError):
        return hook(*values)
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return hook(*values)
    taken = sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters)
    return hook(*values[:taken])


def leading_comments(script: str) -> list[str]:
    """The comment lines that a script begins with: directives of the scheduler, which must stand at the head of what it gets."""
    found = []
    for line in script.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("#!"):
            found.append(line)
    return found


class HookDialect:
    """Dialect of a BatchSystem subclass. Its parsers are somebody else's: whatever they raise is no answer, and changes nothing."""

    hint = "name its commands where they are (as keywords of the resource), or put them on PATH"
    programs: tuple[str, ...] = ()

    def __init__(self, system: BatchSystem) -> None:
        self.system = system
        self.name = system.name
        self.traits = Traits(native_id_variables=tuple(system._jobid_variables), keep_descriptors=True)
        self.capabilities = jobyard.Capabilities(accounting=system._has_hook("_acct_command"))

    # Submission

    def check(self, description: jobyard.JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        """Dialect.check: what a subclass can express is its own affair; it was asked before."""

    def directives(self, submission: Submission) -> Sequence[str]:
        """Dialect.directives: those of the subclass's script; and the scheduler's own streams are kept for the program."""
        lines = list(json.loads(submission.description.tags[TAG])["directives"])
        return [*lines, "(: <&0) 2>/dev/null || exec </dev/null", "exec 3>&1 4>&2 5<&0"]

    def submit_command(self, submission: Submission, script: str) -> Command:
        """Dialect.submit_command: from the sandbox, as GC3Pie does; the script's path follows the subclass's command."""
        asked = json.loads(submission.description.tags[TAG])
        line = f"{asked['command']} {shlex.quote(script)}" if asked["script"] else str(asked["command"])
        sandbox = f"{submission.folder}/work"
        return Command(argv=("/bin/sh", "-c", _SUBMIT, "sh", sandbox, submission.folder, line), finish=True)

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        """Dialect.parse_submit."""
        if result.returncode < 0:
            raise jobyard.SchedulerUnavailable("the submit command was killed")
        return self.accepted(result.returncode, result.text, result.error_text)

    def accepted(self, code: int, out: str, err: str) -> Accepted:
        """What a submit command said. SubmitError: it failed. SchedulerUnavailable: it says no id that can be one."""
        if code != 0:
            said = " / ".join((err.strip() or out.strip()).splitlines()[:5])
            raise jobyard.SubmitError(f"the submit command exited with {code}: {said or 'it wrote nothing'}", output=f"{out}{err}")
        try:
            found = called(self.system._parse_submit_output, out, err)
        except Exception as error:
            raise jobyard.SchedulerUnavailable(f"{type(self.system).__name__}._parse_submit_output: {error!r}") from error
        native_id = str(found)
        if not _NATIVE_ID.fullmatch(native_id):  # it goes into command lines
            raise jobyard.SchedulerUnavailable(f"{native_id!r} cannot be the id of a job")
        return Accepted((native_id,))

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        """Dialect.find_commands: HookScheduler.find reads what the submit command said."""
        return ()

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        """Dialect.parse_find."""
        return {}

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        """Dialect.query_command: accounting is asked along with it where the status command fails, which for many schedulers is
        how they say that a job is no longer there."""
        system = self.system
        jobs = {native_id: system._record(native_id) for native_id in native_ids}
        whole = self._worded("_stat_all_command", list(jobs.values())) if system._has_hook("_stat_all_command") else None
        if whole is not None:
            return one_command([Ask("all", "-", whole)])
        asks: list[Ask] = []
        for native_id, job in jobs.items():
            command = self._worded("_stat_command", job)
            if command is not None:
                asks.append(Ask("stat", native_id, command))
                asks += [one._replace(if_failed=True) for one in self._accounting(native_id, job)[:1]]
        return one_command(asks)

    def _worded(self, hook: str, *arguments: Any) -> str | None:
        """The command line that a hook makes; None where it makes none. SchedulerUnavailable: it failed."""
        try:
            found = getattr(self.system, hook)(*arguments)
        except Exception as error:
            raise jobyard.SchedulerUnavailable(f"{type(self.system).__name__}.{hook}: {error!r}") from error
        if found is None or isinstance(found, str):
            return found
        return shlex.join(str(word) for word in found)

    def parse_query(self, result: Result) -> Answer:
        """Dialect.parse_query."""
        found, complete = frames(result)
        whole = next((frame for frame in found if frame.kind == "all"), None)
        if whole is not None:
            return self._all(whole, complete)
        rows: list[Row] = []
        unparsed: list[str] = []
        answered = 0
        accounts = {frame.native_id: frame for frame in found if frame.kind in ("acct", "acct2")}
        for frame in found:
            if frame.kind != "stat":
                continue
            try:
                row = self._stat(frame, accounts.get(frame.native_id))
                answered += 1
            except (jobyard.SchedulerUnavailable, exceptions.Error) as error:
                unparsed.append(f"job {frame.native_id}: {error}")
            else:
                rows += [] if row is None else [row]
        if not answered:
            raise jobyard.SchedulerUnavailable(unparsed[0] if unparsed else "its answer was cut short")
        return Answer(rows=tuple(rows), unparsed=tuple(unparsed), complete=complete and not unparsed)

    def _stat(self, frame: Frame, account: Frame | None) -> Row | None:
        """One job; None: the scheduler says that it is not there. SchedulerUnavailable: it says nothing."""
        if frame.code != 0:
            said = f"{frame.out}\n{frame.err}"
            told = None if account is None or account.code != 0 else self._account(account)
            if told is not None:
                return told
            gone = frame.code not in _NOT_RUN and _GONE.search(said)
            if gone or (account is not None and account.code == 0):
                return None
            if frame.code == 1 and not said.strip():
                return None  # what "qstat | grep ID" says of a job that is not shown; a qstat that fails says why
            raise jobyard.SchedulerUnavailable(f"the status command exited with {frame.code}: {said.strip()[:200] or 'no word'}")
        return self._row(frame.native_id, self._parsed("_parse_stat_output", frame))

    def _all(self, frame: Frame, complete: bool) -> Answer:
        if frame.code != 0 and not frame.out.strip():
            raise jobyard.SchedulerUnavailable(f"the status command exited with {frame.code}: {frame.err.strip()[:200]}")
        rows = [self._row(str(native_id), said) for native_id, said in dict(self._parsed("_parse_stat_all_output", frame)).items()]
        return Answer(rows=tuple(row for row in rows if row is not None), complete=complete and frame.code == 0)

    def _parsed(self, hook: str, frame: Frame) -> Any:
        try:
            return called(getattr(self.system, hook), frame.out, frame.err)
        except Exception as error:
            raise jobyard.SchedulerUnavailable(f"{type(self.system).__name__}.{hook}: {error!r}") from error

    def _row(self, native_id: str, said: Any) -> Row | None:
        """A status hook's answer: (state, termstatus), the state alone, or a mapping that has it. TERMINATING without a
        termination status is only how hooks say that the status command no longer shows the job."""
        state, termstatus = said, None
        if isinstance(said, Mapping):
            state, termstatus = said.get("state"), said.get("termstatus")
        elif isinstance(said, tuple) and len(said) == 2:
            state, termstatus = said
        if state in (Run.State.TERMINATING, Run.State.TERMINATED):
            return None if termstatus is None else self._ended(native_id, str(state), termstatus, {})
        if not isinstance(state, str):
            raise jobyard.SchedulerUnavailable(f"{state!r} is no state of a task")
        known, by = _STATES.get(state, (None, None))
        return Row(native_id=native_id, state=known, by=by, native_state=str(state))

    def _ended(self, native_id: str, word: str, termstatus: Any, account: Mapping[str, Any]) -> Row:
        try:
            ending = ending_of(termstatus, account)
        except (TypeError, ValueError, exceptions.Error) as error:
            raise jobyard.SchedulerUnavailable(f"{termstatus!r} is no termination status: {error}") from error
        return Row(native_id=native_id, state=ending.state, native_state=word, ended=True, ending=ending)

    # Accounting

    def _accounting(self, native_id: str, job: Any) -> list[Ask]:
        system = self.system
        first = self._worded("_acct_command", job) if system._has_hook("_acct_command") else None
        second = self._worded("_secondary_acct_command", job)
        asks = [] if first is None else [Ask("acct", native_id, first)]
        return asks if second is None else [*asks, Ask("acct2", native_id, second)]

    def account_command(self, native_ids: Collection[str]) -> Command | None:
        """Dialect.account_command."""
        asks = [ask for one in native_ids for ask in self._accounting(one, self.system._record(one))]
        return one_command(asks) if asks else None

    def parse_account(self, result: Result) -> Answer:
        """Dialect.parse_account: of two commands the first that knows the job's termination status."""
        found, complete = frames(result)
        rows: dict[str, Row] = {}
        answered: set[str] = set()
        unparsed: list[str] = []
        for frame in found:
            said = f"{frame.out}\n{frame.err}"
            if frame.native_id in rows:
                continue
            if frame.code != 0 and frame.code not in _NOT_RUN and not _GONE.search(said) and not _NO_ACCOUNTING.search(said):
                unparsed.append(f"job {frame.native_id}: accounting exited with {frame.code}: {said.strip()[:200]}")
                continue
            try:
                row = self._account(frame) if frame.code == 0 else None
            except (jobyard.SchedulerUnavailable, exceptions.Error) as error:
                unparsed.append(f"job {frame.native_id}: {error}")
                continue
            answered.add(frame.native_id)
            if row is not None:
                rows[frame.native_id] = row
        asked = {frame.native_id for frame in found}
        if not answered:
            raise jobyard.SchedulerUnavailable(unparsed[0] if unparsed else "its answer was cut short")
        silent = asked - answered
        return Answer(rows=tuple(rows.values()), unparsed=tuple(unparsed if silent else ()), complete=complete and not silent)

    def _account(self, frame: Frame) -> Row | None:
        """None: it does not know how the job ended (yet)."""
        hook = "_parse_acct_output" if frame.kind == "acct" else "_parse_secondary_acct_output"
        try:
            account = called(getattr(self.system, hook), frame.out, frame.err)
        except exceptions.UnexpectedJobState:
            return None  # not final yet, as its author says it
        except Exception as error:
            raise jobyard.SchedulerUnavailable(f"{type(self.system).__name__}.{hook}: {error!r}") from error
        if not account:
            return None
        if not isinstance(account, Mapping):
            raise jobyard.SchedulerUnavailable(f"{hook} returned {type(account).__name__}, not a mapping")
        termstatus = account.get("termstatus")
        return None if termstatus is None else self._ended(frame.native_id, "accounting", termstatus, account)

    # Control and the rest

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        """Dialect.control_commands: all in one."""
        asks = [Ask("cancel", one, command) for one in native_ids if (command := self._worded("_cancel_command", one)) is not None]
        return [(one_command(asks), tuple(native_ids))]

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, jobyard.JobyardError | None]:
        """Dialect.parse_control."""
        found, _ = frames(result)
        return {frame.native_id: self._refusal(frame) for frame in found}

    def _refusal(self, frame: Frame) -> jobyard.JobyardError | None:
        if frame.code == 0:
            return None
        said = f"{frame.err.strip()} {frame.out.strip()}".strip()
        text = f"the command to cancel job {frame.native_id} exited with {frame.code}: {said[:300] or 'it wrote nothing'}"
        if frame.code in _NOT_RUN:
            return jobyard.NoScheduler(f"{text}; {self.hint}")
        if _OVER.search(said):
            return jobyard.WrongState(text)
        if _GONE.search(said):
            return jobyard.UnknownJob(text)
        return jobyard.NotPermitted(text) if _DENIED.search(said) else jobyard.ControlError(text)

    def list_command(self) -> Command:
        """Dialect.list_command: hooks have none."""
        raise jobyard.ControlError(f"{self.name} cannot list jobs: its class {type(self.system).__name__} has no command for it")

    def parse_list(self, result: Result) -> Sequence[Row]:
        """Dialect.parse_list."""
        return ()

    def limits_command(self) -> Command | None:
        """Dialect.limits_command: none are known."""
        return None

    def parse_limits(self, result: Result) -> SiteLimits:
        """Dialect.parse_limits."""
        return SiteLimits()

    def version_command(self) -> Command:
        """Dialect.version_command: hooks have none; this one always answers."""
        return Command(argv=("true",))

    def parse_version(self, result: Result) -> str:
        """Dialect.parse_version."""
        return self.system._batchsys_name
