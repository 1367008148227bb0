"""The engine's states, endings and errors in the words of gc3libs, and the hooks' answers in the engine's. Pure."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping
from typing import Any

import jobyard
from jobyard import Cause, Ending, JobState, Usage
from jobyard.fronts import By, signal_name

from .. import exceptions
from .._run import Run, Signals
from ..quantity import Duration, Memory

__all__ = ["TERMSTATUS", "ending_of", "information", "returncode_of", "said_of", "state_of", "translated"]

TERMSTATUS = "gc3.termstatus"
_ACCOUNT = "gc3.account."
_TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h: what it did is no fault of the program
_UNAVAILABLE = 69  # EX_UNAVAILABLE: it could not be run
_EXIT_CODE = re.compile(r"exited with (\d+)")

_STATES = {
    JobState.NEW: Run.State.SUBMITTED,
    JobState.QUEUED: Run.State.SUBMITTED,
    JobState.STAGING_IN: Run.State.RUNNING,
    JobState.RUNNING: Run.State.RUNNING,
    JobState.SUSPENDED: Run.State.STOPPED,
    JobState.STAGING_OUT: Run.State.RUNNING,
    JobState.CLEANING: Run.State.RUNNING,
}
_CAUSES: dict[Cause, tuple[Signals, int]] = {
    Cause.CANCELLED: (Signals.Cancelled, _TEMPORARY),
    Cause.WALLTIME: (Signals.RemoteKill, _TEMPORARY),
    Cause.MEMORY: (Signals.RemoteKill, _TEMPORARY),
    Cause.CPU_TIME: (Signals.RemoteKill, _TEMPORARY),
    Cause.PREEMPTED: (Signals.RemoteKill, _TEMPORARY),
    Cause.REQUEUED: (Signals.RemoteError, _TEMPORARY),
    Cause.NODE: (Signals.RemoteError, _TEMPORARY),
    Cause.DEPENDENCY: (Signals.SubmissionFailed, _UNAVAILABLE),
    Cause.REJECTED: (Signals.SubmissionFailed, _UNAVAILABLE),
    Cause.NOT_STARTED: (Signals.RemoteError, _UNAVAILABLE),
    Cause.SHEPHERD: (Signals.RemoteError, _UNAVAILABLE),
    Cause.LAUNCH_SCRIPT: (Signals.RemoteError, _UNAVAILABLE),
    Cause.STAGING: (Signals.DataStagingFailure, _UNAVAILABLE),
    Cause.LOST: (Signals.Lost, _TEMPORARY),
    Cause.UNKNOWN: (Signals.RemoteError, _TEMPORARY),
}


def state_of(state: JobState, by: By | None) -> str:
    """The state of a task for the engine's. One that waits for a time or another job is submitted, not stopped."""
    if state.final:
        return str(Run.State.TERMINATING)
    if state is JobState.HELD:
        return str(Run.State.SUBMITTED if by is By.SYSTEM else Run.State.STOPPED)
    return str(_STATES[state])


def returncode_of(ending: Ending, *, shell: bool) -> tuple[int, int]:
    """(signal, exit code). ``shell``: a shell ran the program, and shows signal n as 128+n.

    A program that exited has its own exit code, whatever failed after it; one that a signal ended without being told to has
    that signal, and exit code 255. A pseudo-signal says why it was cut short, or never ran.
    """
    told = ending.usage.native.get(TERMSTATUS)
    pseudo = _CAUSES.get(ending.cause)
    if told is not None and ending.cause in (Cause.EXITED, Cause.UNKNOWN):
        number, _, code = told.partition(":")
        if int(number) in Signals._value2member_map_ or (ending.exit_code is None and ending.signal is None):
            return int(number), int(code)
    if ending.cause is Cause.LAUNCH_SCRIPT and ending.exit_code is None and ending.signal is None:
        code_ = _EXIT_CODE.search(ending.message)
        return Signals.RemoteError, int(code_[1]) if code_ else _UNAVAILABLE
    if ending.cause in (Cause.EXITED, Cause.UNKNOWN, Cause.LAUNCH_SCRIPT) or pseudo is None:
        if ending.exit_code is not None:
            return Run.shellexit_to_returncode(ending.exit_code) if shell else (0, ending.exit_code)
        if ending.signal is not None:
            return _signal_number(ending.signal), -1
        pseudo = (Signals.RemoteError, _TEMPORARY)
    return pseudo


def _signal_number(name: str) -> int:
    if name.startswith("SIGRTMIN+"):
        return int(signal.SIGRTMIN) + int(name.removeprefix("SIGRTMIN+"))
    try:
        return int(signal.Signals[name])
    except KeyError:
        return int(name) if name.isdecimal() else int(Signals.RemoteError)


# What hooks say ---------------------------------------------------------------------------------------------------------


def ending_of(termstatus: Any, account: Mapping[str, Any]) -> Ending:
    """The ending that a hook's ``termstatus`` tells: a number as ``os.wait`` has it, or (signal, exit code).

    TypeError, ValueError: it is neither.
    """
    record = Run()
    record.returncode = termstatus
    number, code = record.signal, record.exitcode
    if number is None or code is None:
        raise ValueError("it is None")
    if number == Signals.Lost:
        raise ValueError("that nothing is known is no ending")
    native = {TERMSTATUS: f"{number}:{code}"}
    for name, value in account.items():
        if name != "termstatus":
            native[_ACCOUNT + str(name)] = _kept(value)
    usage = Usage(
        wall_s=_amount(account.get("duration"), Duration, "s"),
        user_s=_amount(account.get("used_cpu_time"), Duration, "s"),
        max_rss_bytes=_whole(_amount(account.get("max_used_memory"), Memory, "B")),
        native=native,
    )
    if number == 0:
        state = JobState.DONE if code == 0 else JobState.FAILED
        return Ending(state=state, cause=Cause.EXITED, exit_code=code, usage=usage)
    if number == Signals.Cancelled:
        return Ending(state=JobState.CANCELLED, cause=Cause.CANCELLED, usage=usage)
    if number == Signals.RemoteError:
        return Ending(state=JobState.FAILED, cause=Cause.NODE, usage=usage)
    if number in Signals._value2member_map_:
        message = Signals(number).description
        return Ending(state=JobState.FAILED, cause=Cause.UNKNOWN, message=message, usage=usage)
    return Ending(state=JobState.FAILED, cause=Cause.EXITED, signal=signal_name(number), usage=usage)


def _amount(value: Any, kind: Any, unit: str) -> float | None:
    return float(value.amount(unit)) if isinstance(value, kind) else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _kept(value: Any) -> str:
    if isinstance(value, Duration):
        return json.dumps({"duration": f"{value.amount('s', float)!r}s"})
    if isinstance(value, Memory):
        return json.dumps({"memory": f"{value.amount('B', int)}B"})
    return json.dumps(value) if value is None or isinstance(value, str | int | float | bool) else json.dumps(str(value))


def information(ending: Ending) -> dict[str, Any]:
    """What a task's record gets of an ending: usage in gc3libs's units, and what accounting said beside it."""
    found: dict[str, Any] = {}
    usage = ending.usage
    for name, text in usage.native.items():
        if name.startswith(_ACCOUNT):
            found[name.removeprefix(_ACCOUNT)] = _read(text)
    if usage.wall_s is not None:
        found["duration"] = Duration(usage.wall_s, unit="s")
    if usage.cpu_s is not None:
        found["used_cpu_time"] = Duration(usage.cpu_s, unit="s")
    if usage.max_rss_bytes is not None:
        found["max_used_memory"] = Memory(usage.max_rss_bytes, unit="B")
    return found


def _read(text: str) -> Any:
    value = json.loads(text)
    if isinstance(value, dict):
        return Duration(value["duration"]) if "duration" in value else Memory(value["memory"])
    return value


def said_of(ending: Ending) -> str:
    """What the history notes of an ending."""
    return f"the job {ending}"


# Errors -----------------------------------------------------------------------------------------------------------------


def translated(error: jobyard.JobyardError | OSError, doing: str) -> exceptions.Error:
    """The engine's error in gc3libs's words."""
    text = f"{doing}: {error}"
    if isinstance(error, jobyard.UnknownJob):
        return exceptions.UnknownJob(text)
    if isinstance(error, jobyard.InvalidJob):
        return exceptions.InvalidValue(text)
    if isinstance(error, jobyard.TransportError):
        return exceptions.TransportError(text, errno=getattr(error, "errno", None), transient=error.retryable)
    if isinstance(error, jobyard.SubmitError):
        return exceptions.LRMSSubmitError(text, transient=error.retryable)
    if isinstance(error, jobyard.WrongState):
        return exceptions.InvalidOperation(text)
    if isinstance(error, jobyard.ConfigurationError):
        return exceptions.SpoolDirError(text)
    if isinstance(error, OSError):
        return exceptions.TransportError(text, errno=error.errno, transient=False)
    return exceptions.LRMSError(text, transient=error.retryable)
