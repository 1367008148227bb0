"""``CommandScheduler``: a Scheduler made of a Dialect, whose commands run over a Transport.

Commands run in the calling thread. All CommandSchedulers of a process share one gate for each login: at most four
commands at a time, of which questions (queue, accounting, limits) take at most three, so that a question that hangs never
keeps a submission or a cancel waiting. Whoever asks from a thread that must not wait asks from a small pool of its own.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ..errors import ControlError, JobyardError, NoScheduler, SchedulerUnavailable, TransportError
from ..job import JobDescription
from ..transports.base import CommandTimeout, ProgramMissing, Started, StartsCommands, Transport, printable, shown_command
from .base import Accepted, Action, Answer, Begun, Command, Dialect, Kind, ReadsScripts, Result, Row, SiteLimits, Submission
from .checks import check_capabilities

__all__ = ["CommandOptions", "CommandScheduler"]

T = TypeVar("T")

_AT_ONCE = 4
_QUESTIONS_AT_ONCE = 3


class CommandOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a CommandScheduler runs its dialect's commands."""

    timeout_s: float | None = None  # for commands, instead of the dialect's own
    limits_for_s: float = 300.0  # how long the site's limits are remembered
    interpreter: str = "/usr/bin/python3"  # of the shepherd, on the nodes


class CommandScheduler:
    """Scheduler of jobyard.schedulers.base, from a Dialect and a Transport.

    ``commands_run`` counts the commands that were started, by purpose: submit, find, query, account, control, list, limits,
    version.

    An answer from which nothing can be told raises SchedulerUnavailable with the command, its exit code, what it wrote and
    what to try; a missing program raises NoScheduler, which names it and says how to get it.
    """

    def __init__(self, dialect: Dialect, transport: Transport, options: CommandOptions | None = None) -> None:
        self.dialect = dialect
        self.transport = transport
        self.name = dialect.name
        self.capabilities = dialect.capabilities
        self.traits = dialect.traits  # for job.json
        self.options = options or CommandOptions()
        self.commands_run: Counter[str] = Counter()
        self._login = _login_of(transport)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._gate = _gate_of(self._login)
        self._limits: tuple[float, SiteLimits] | None = None
        self._version: str | None = None
        self._early: tuple[Transport, bool] | None = None  # whether its submission commands can begin early
        self._closed = False

    def reach_over(self, transport: Transport) -> None:
        """Have commands run over another transport; before the first of them."""
        self.transport.close()
        self.transport = transport
        self._login = _login_of(transport)
        self._gate = _gate_of(self._login)

    # Before submission

    def check(
        self, description: JobDescription, *, kind: Kind = Kind.SINGLE, tasks: int = 1, max_running: int | None = None
    ) -> None:
        check_capabilities(self.name, self.capabilities, description, kind=kind, tasks=tasks, max_running=max_running)
        self.dialect.check(description, kind=kind, tasks=tasks, max_running=max_running)

    def prepare(self, submission: Submission) -> Mapping[str, bytes]:
        from ..script import batch_script, node_name

        root = os.path.dirname(os.path.dirname(submission.folder))
        script = batch_script(
            self.dialect.directives(submission),
            submission.folder,
            shepherd=f"{root}/node/{node_name()}/run.py",
            interpreter=self.options.interpreter,
            index_argument=self.dialect.traits.index_argument,
        )
        return {"run.sh": script}

    # Submission

    def begin_submission(self, submission: Submission, *, ahead: bool = False) -> Begun | None:
        if self._early is None or self._early[0] is not self.transport:
            able = isinstance(self.dialect, ReadsScripts) and isinstance(self.transport, StartsCommands)
            self._early = self.transport, able  # to ask the classes takes 50 us, and this is in the way of each submission
        dialect, transport = self.dialect, self.transport
        if not self._early[1]:
            return None
        if TYPE_CHECKING:
            assert isinstance(dialect, ReadsScripts)
            assert isinstance(transport, StartsCommands)
        self._check_open()
        command = self._timed(dialect.fed_submit_command(submission))
        if not ahead and not self._gate.taken():
            return None
        try:
            started = transport.start(command)
        except BaseException as error:
            if not ahead:
                self._gate.give()
            if isinstance(error, TransportError):
                return None  # ``submit`` will say it
            raise
        if not ahead:
            self._count("submit")
        return _Begun(self, submission, command, started, None if ahead else self._gate)

    def _claimed(self, submission: Submission, command: Command, started: Started) -> _Gate | None:
        """The gate, with a place taken, where what was begun ahead is the command of this submission."""
        dialect, gate = self.dialect, self._gate
        if TYPE_CHECKING:
            assert isinstance(dialect, ReadsScripts)
        if self._timed(dialect.fed_submit_command(submission)) != command or not started.current() or not gate.taken():
            return None
        self._count("submit")
        return gate

    def submit(self, submission: Submission) -> Accepted:
        command = msgspec.structs.replace(self.dialect.submit_command(submission, f"{submission.folder}/run.sh"), finish=True)
        return self._accepted(self._run("submit", command), submission)

    def _accepted(self, result: Result, submission: Submission) -> Accepted:
        accepted = self._read(result, lambda: self.dialect.parse_submit(result, submission))
        expected = 1 if submission.kind is Kind.SINGLE else len(submission.indices)
        if len(accepted.native_ids) != expected or len(set(accepted.native_ids)) != expected or not all(accepted.native_ids):
            raise self._unavailable(result, f"{expected} different ids were expected, it printed {len(accepted.native_ids)}")
        return accepted

    def find(self, submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        if not submissions:
            return {}
        wanted = {submission.token for submission in submissions}
        results: list[Result] = []
        commands = self.dialect.find_commands(submissions)
        for number, command in enumerate(commands, 1):
            results.append(self._run("find", command))
            try:
                found = self._read(results[-1], lambda: self.dialect.parse_find(results, submissions))
            except SchedulerUnavailable:
                if number == len(commands):
                    raise
            else:
                if number == len(commands) or wanted <= found.keys():
                    return {token: accepted for token, accepted in found.items() if token in wanted}
        raise SchedulerUnavailable(f"{self.name} has no command that tells which submissions it knows")

    # What became of them

    def query(self, native_ids: Collection[str]) -> Answer:
        result = self._run("query", self.dialect.query_command(native_ids))
        return _honest(self._read(result, lambda: self.dialect.parse_query(result)))

    def account(self, native_ids: Collection[str]) -> Answer:
        command = self.dialect.account_command(native_ids) if native_ids else None
        if command is None:
            return Answer(complete=False)
        result = self._run("account", command)
        return _honest(self._read(result, lambda: self.dialect.parse_account(result)))

    def listed(self) -> Sequence[Row]:
        result = self._run("list", self.dialect.list_command())
        return self._read(result, lambda: self.dialect.parse_list(result))

    # Control

    def control(self, action: Action, native_ids: Sequence[str], *, signal: int | None = None) -> Mapping[str, JobyardError | None]:
        if action not in self.capabilities.actions:
            note = self.capabilities.notes.get(action, f"it can: {', '.join(sorted(self.capabilities.actions))}")
            return dict.fromkeys(native_ids, ControlError(f"{self.name} cannot {action} jobs; {note}"))
        answers: dict[str, JobyardError | None] = {}
        ids = list(dict.fromkeys(native_ids))
        for command, concerned in self.dialect.control_commands(action, ids, signal=signal) if ids else ():
            try:
                answers.update(self._control(action, command, concerned))
            except (SchedulerUnavailable, TransportError) as error:  # the others' commands are still tried
                answers.update(dict.fromkeys(concerned, error))
        for native_id in ids:
            if native_id not in answers:
                answers[native_id] = ControlError(f"{self.name} was not asked to {action} job {printable(native_id)}")
        return {native_id: answers[native_id] for native_id in ids}

    def _control(self, action: Action, command: Command, concerned: tuple[str, ...]) -> dict[str, JobyardError | None]:
        result = self._run("control", command)
        said = self._read(result, lambda: self.dialect.parse_control(action, result, concerned))
        silent = self._unavailable(result, "it says nothing of this job")
        return {native_id: said.get(native_id, silent) for native_id in concerned}

    # The site

    def limits(self) -> SiteLimits:
        known = self._limits
        if known is not None and time.monotonic() - known[0] < self.options.limits_for_s:
            return known[1]
        command = self.dialect.limits_command()
        if command is None:
            return SiteLimits()
        result = self._run("limits", command)
        limits = self._read(result, lambda: self.dialect.parse_limits(result))
        self._limits = (time.monotonic(), limits)
        return limits

    def version(self) -> str:
        if self._version is None:
            result = self._run("version", self.dialect.version_command())
            self._version = self._read(result, lambda: self.dialect.parse_version(result))
        return self._version

    def close(self) -> None:
        self._closed = True
        self.transport.close()

    # Helpers

    def _check_open(self) -> None:
        if self._closed:
            raise SchedulerUnavailable(f"{self.name}: this scheduler was closed; open it again")
        if self._pid != os.getpid():  # what the parent's threads held when it forked is nobody's here
            self._pid, self._lock, self._gate = os.getpid(), threading.Lock(), _gate_of(self._login)

    def _timed(self, command: Command) -> Command:
        return command if self.options.timeout_s is None else msgspec.structs.replace(command, timeout_s=self.options.timeout_s)

    def _count(self, purpose: str) -> None:
        with self._lock:
            self.commands_run[purpose] += 1

    def _run(self, purpose: str, command: Command) -> Result:
        self._check_open()
        command = self._timed(command)
        with self._gate.passed(purpose, command, self.name):
            self._count(purpose)
            with self._told():
                return self.transport.run(command)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What becomes of a command, in the scheduler's words."""
        try:
            yield
        except ProgramMissing as error:
            raise NoScheduler(f"{self.name}: {error.program} is not on {self.transport.name}; {self.dialect.hint}") from error
        except CommandTimeout as error:
            raise SchedulerUnavailable(f"{self.name} did not answer: {error}{_shown_output(error.result)}") from error

    def finished(self, started: Started, files: Mapping[str, bytes], submission: Submission) -> Accepted:
        """The answer to a submission that was begun."""
        with self._told():
            result = started.finish(files["run.sh"])
        return self._accepted(result, submission)

    def _read(self, result: Result, parse: Callable[[], T]) -> T:
        try:
            return parse()
        except SchedulerUnavailable as error:
            raise self._unavailable(result, str(error)) from error
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            if isinstance(error, JobyardError):
                raise
            # a parser never raises these; should one of somebody else's do it, its answer is none, and polling goes on
            raise self._unavailable(result, f"the {self.name} dialect cannot read this answer ({error!r}); report it") from error

    def _unavailable(self, result: Result, why: str) -> SchedulerUnavailable:
        ended = f"was ended by signal {-result.returncode}" if result.returncode < 0 else f"exited with {result.returncode}"
        return SchedulerUnavailable(
            f"{self.name} gave no answer that can be used: {printable(why)}. {shown_command(result.argv)} {ended}"
            f"{_shown_output(result)}. Nothing was concluded from it; run the command by hand on {self.transport.name} to see more"
        )


class _Begun:
    """Begun of jobyard.schedulers.base. It has its place in the gate until it is over, or, begun ahead, from its claim on."""

    def __init__(
        self, scheduler: CommandScheduler, submission: Submission, command: Command, started: Started, gate: _Gate | None
    ) -> None:
        self._scheduler, self._submission, self._command, self._started = scheduler, submission, command, started
        self._gate = gate
        self._over = False

    def claim(self, submission: Submission) -> bool:
        if self._gate is None:
            self._gate = self._scheduler._claimed(submission, self._command, self._started)
            self._submission = submission
        if self._gate is None:
            self.abandon()
        return self._gate is not None

    def submit(self, files: Mapping[str, bytes]) -> Accepted:
        self._over = True
        try:
            return self._scheduler.finished(self._started, files, self._submission)
        finally:
            if self._gate is not None:
                self._gate.give()

    def abandon(self) -> None:
        if not self._over:
            self._over = True
            try:
                self._started.abandon()
            finally:
                if self._gate is not None:
                    self._gate.give()


def _login_of(transport: Transport) -> str:
    """What the gate is for. A remote transport's name says whose login it is; asking it for the user would connect."""
    return transport.name if transport.name.startswith("ssh://") else f"{transport.name} {transport.user()}"


def _honest(answer: Answer) -> Answer:
    """The answer without rows that contradict each other: none of a job of which it says two things.

    A native id may stand for several jobs, where the scheduler used it again; their tokens, or their times, tell them apart.
    With a line that is no row, nobody can say of a job that is not listed that it is not there.
    """
    with_token = {row.native_id for row in answer.rows if row.token is not None}
    rows: dict[tuple[object, ...], Row] = {}
    doubtful: dict[tuple[object, ...], Row] = {}
    for row in answer.rows:
        job = (row.native_id, row.submitted_at if row.token is None else row.token)
        if rows.setdefault(job, row) != row or (row.token is None and row.native_id in with_token):
            doubtful[job] = row
    unparsed = answer.unparsed + tuple(
        f"{row.native_id}: both {rows[job].native_state} and {row.native_state}" for job, row in doubtful.items()
    )
    if not unparsed and len(rows) == len(answer.rows):
        return answer
    return Answer(
        rows=tuple(row for job, row in rows.items() if job not in doubtful),
        unparsed=unparsed,
        complete=answer.complete and not unparsed,
    )


def _shown_output(result: Result) -> str:
    for name, data in (("stderr", result.stderr), ("stdout", result.stdout)):
        lines = data[:4096].decode("utf-8", "surrogateescape").strip().splitlines()[:3]
        if lines:
            return f"; {name}: " + " / ".join(printable(line.strip(), 200) for line in lines)
    return "; it wrote nothing"


# The gate -----------------------------------------------------------------------------------------------------------


class _Gate:
    """Lets so many commands of a login through at a time."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._all = 0
        self._questions = 0

    @contextmanager
    def passed(self, purpose: str, command: Command, scheduler: str) -> Iterator[None]:
        question = purpose not in ("submit", "control")
        with self._condition:
            if not self._condition.wait_for(lambda: self._free(question), command.timeout_s):
                raise SchedulerUnavailable(
                    f"{scheduler}: {shown_command(command.argv)} was not run: for {command.timeout_s:g} s, as many commands as "
                    "may run at a time have not ended; look whether the scheduler hangs"
                )
            self._all += 1
            self._questions += question
        try:
            yield
        finally:
            self.give(question)

    def taken(self) -> bool:
        """Take a place for a submission where one is free now. ``give`` gives it back."""
        with self._condition:
            free = self._free(False)
            self._all += free
            return free

    def give(self, question: bool = False) -> None:
        """Give a place back."""
        with self._condition:
            self._all -= 1
            self._questions -= question
            self._condition.notify_all()

    def _free(self, question: bool) -> bool:
        return self._all < _AT_ONCE and (not question or self._questions < _QUESTIONS_AT_ONCE)


_gates: weakref.WeakValueDictionary[str, _Gate] = weakref.WeakValueDictionary()
_gates_lock = threading.Lock()


def _gate_of(login: str) -> _Gate:
    with _gates_lock:
        gate = _gates.get(login)
        if gate is None:
            gate = _gates[login] = _Gate()
        return gate


def _forget_gates() -> None:
    global _gates, _gates_lock
    _gates, _gates_lock = weakref.WeakValueDictionary(), threading.Lock()


os.register_at_fork(after_in_child=_forget_gates)
