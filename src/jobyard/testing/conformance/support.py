"""What the areas of the conformance suite share: what an adapter declares, and how a test waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jobyard import Capabilities, Cause, Ending, Job, JobState, Session
from jobyard.errors import ControlError, InvalidJob, UnsupportedAttribute
from jobyard.schedulers.base import Action

__all__ = [
    "Features",
    "assert_control_refused",
    "assert_names",
    "client",
    "finish",
    "open_gate",
    "reach",
    "refuses",
    "running_client",
]

# What only the scheduler can do for a job (docs/architecture.md); the shepherd sees to all the rest, the same everywhere.
SCHEDULERS_WORK = frozenset(
    {
        "nodes",
        "processes",
        "processes_per_node",
        "cores",
        "gpus",
        "memory_bytes",
        "exclusive",
        "walltime_s",
        "soft_walltime_s",
        "run_time_s",
        "soft_run_time_s",
        "cpu_time_s",
        "queue",
        "account",
        "reservation",
        "priority",
        "begin_at",
        "deadline_at",
        "hold",
        "rerunnable",
        "immediate",
        "native",
        "category",
        "email",
    }
)


@dataclass(frozen=True, kw_only=True)
class Features:
    """What an adapter declares to the suite, beside its Capabilities: how fast its scheduler is, and what it can know.

    Seconds, all of them measured from the moment of the request, on a quiet machine; they bound waits, so too large a value costs
    nothing while the tests pass.
    """

    contact: str  # opens a new session
    scheduler: str  # the name that refusals must mention
    capabilities: Capabilities
    deadline_s: float = 60.0  # a small job has run within
    poll_s: float = 0.0  # the longest time for which a change goes unseen
    cancel_grace_s: float = 5.0  # from the first signal to KILL
    walltime_s: float = 1.0  # the shortest walltime that works
    walltime_late_s: float = 5.0  # a limit acts so late at most
    many: int = 1000  # how many like jobs are "many" here
    exit_codes: Sequence[int] = range(256)  # those that are tried; fewer where it takes the scheduler a second to start a job
    clock_slack_s: float = 0.05  # how far the clocks of client and nodes differ
    whole: Mapping[str, Any] | None = None  # fields of a job that fills the machine, so that all others queue
    honours_priority: bool = False  # needs ``whole``
    enforces_memory: bool = False
    core_dumps: bool | None = None  # None: as on this machine
    suspend_late_s: float = 0.0  # a job goes on for so long after its suspension was acknowledged
    signals_suspended: bool = True  # a signal sent to a suspended job is delivered
    requeue_again_s: float | None = None  # an acknowledged requeue may come to nothing; it is asked again after so long
    causes: Mapping[str, Collection[Cause]] = field(default_factory=dict)  # by the cause that would be exact
    commands_run: Callable[[], int] | None = None  # counts the scheduler's commands run so far

    @property
    def remote(self) -> bool:
        """On another host: the default directory of a job is its own there, not the caller's."""
        return "+ssh://" in self.contact

    def cause(self, situation: str) -> Collection[Cause]:
        """The causes that may be told there: exactly one, unless the scheduler cannot know it."""
        return self.causes.get(situation) or {Cause(situation)}

    def honours(self, attribute: str) -> bool:
        """The scheduler takes this field of JobDescription, Resources or Limits, or the shepherd does its work."""
        return attribute not in SCHEDULERS_WORK or attribute in self.capabilities.attributes

    def can(self, action: Action) -> bool:
        """The scheduler knows this action."""
        return action in self.capabilities.actions


def reach(session: Session, job: Job, *states: JobState, features: Features, timeout_s: float | None = None) -> JobState:
    """Wait until the job is in one of the states; fail if it ends in another, or the deadline passes."""
    changed = threading.Event()
    watch = session.watch(lambda _job, _transition: changed.set(), [job])
    limit_s = features.deadline_s + features.poll_s if timeout_s is None else timeout_s
    end = time.monotonic() + limit_s
    try:
        while True:
            changed.clear()
            state = job.state
            if state in states:
                return state
            left = end - time.monotonic()
            if state.final or left <= 0:
                wanted = " or ".join(states)
                why = "\n".join(line.text for line in job.why())
                pytest.fail(f"the job is {state} ({job.ending}), not {wanted}, after {limit_s - left:.1f} s\n{why}")
            # A state may be passed between two looks of a scheduler that is polled; look again now and then.
            changed.wait(min(left, 0.5))
    finally:
        watch.close()


def finish(job: Job, features: Features, timeout_s: float | None = None) -> Ending:
    """Wait for the job's ending."""
    return job.wait(timeout=features.deadline_s + 2 * features.poll_s if timeout_s is None else timeout_s)


def open_gate(gate: Path) -> None:
    """Let the jobs go on that wait for it."""
    gate.touch()


@contextmanager
def refuses(features: Features, attribute: str) -> Iterator[None]:
    """The block must raise UnsupportedAttribute that names the attribute and the scheduler."""
    with pytest.raises(UnsupportedAttribute) as caught:
        yield
    assert_names(caught.value, attribute)
    assert features.scheduler.lower() in str(caught.value).lower()


def assert_names(error: InvalidJob, attribute: str) -> None:
    """The error names the attribute, with or without its unit."""
    short = attribute.removesuffix("_s").removesuffix("_bytes")
    assert error.field in (attribute, short), f"{error!r} names {error.field!r}, not {attribute!r}"


def assert_control_refused(features: Features, action: Action, error: BaseException | None) -> None:
    """The error that a scheduler without that action gives: a ControlError that names action and scheduler."""
    assert isinstance(error, ControlError), f"{action}: {error!r}"
    text = str(error).lower()
    assert action.value in text, text
    assert features.scheduler.lower() in text, text


_PRELUDE = """
import json, os, sys, time, threading
import jobyard
from jobyard import Session, JobState
arguments = json.loads(sys.argv[1])
def say(value):
    sys.stdout.write(json.dumps(value) + "\\n")
    sys.stdout.flush()
"""


def _spawn(program: str, arguments: Sequence[Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PRELUDE + program, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


def client(program: str, *arguments: Any, timeout_s: float = 60.0) -> Any:
    """Run a program as another process; it has ``arguments`` and ``say``. The last value that it said."""
    with _spawn(program, arguments) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"another process was not done within {timeout_s:g} s; it said {out!r} and {err!r}")
    assert process.returncode == 0, f"another process exited with {process.returncode}: {err}"
    return json.loads(out.splitlines()[-1])


@contextmanager
def running_client(program: str, *arguments: Any) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Run a program as another process until it has said one value; killed by SIGKILL at the end."""
    with _spawn(program, arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            if not line:
                pytest.fail(f"another process said nothing: {process.stderr.read()}")
            yield process, json.loads(line)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
