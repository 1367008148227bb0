"""What the conformance cases share: a place of their own, templates of small jobs, and waiting for what nobody tells."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drmaa
from jobyard.fronts import Contact
from jobyard.testing.polling import eventually

CONTACT = os.environ.get("DRMAA_TEST_CONTACT", "local?slots=8")
SCHEDULER = Contact.parse(CONTACT).scheduler
LOCAL = SCHEDULER == "local"
BED = os.environ.get("JOBYARD_BED", "")  # a real scheduler that was brought up for tests
# Where only volume is at stake, a real scheduler has less of it to do every day; the whole with FULL=1.
SMALL = bool(BED) and os.environ.get("FULL") != "1"
CHUNK = 2 if SMALL else 4  # jobs in a group
BULKS = 2 if SMALL else 3  # arrays in a mixture
THREADS = 3
PATIENCE_S = 60.0 if LOCAL else 600.0
PROGRAM_S = 120.0 if LOCAL else 240.0  # a program, or a forked child, with a few jobs; what takes longer hangs

FOREVER, NOW = drmaa.Session.TIMEOUT_WAIT_FOREVER, drmaa.Session.TIMEOUT_NO_WAIT
ANY, ALL = drmaa.Session.JOB_IDS_SESSION_ANY, drmaa.Session.JOB_IDS_SESSION_ALL
SUSPEND, RESUME = drmaa.JobControlAction.SUSPEND, drmaa.JobControlAction.RESUME
HOLD, RELEASE = drmaa.JobControlAction.HOLD, drmaa.JobControlAction.RELEASE
TERMINATE = drmaa.JobControlAction.TERMINATE
ACTIONS = (SUSPEND, RESUME, HOLD, RELEASE, TERMINATE)
ENDED = (drmaa.JobState.DONE, drmaa.JobState.FAILED)


class Place:
    """Folders for state, work and jobs, known to this process and its children while it is entered."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="drmaa-"))
        self.jobs = self.folder / "jobs"
        self.state = self.folder / "state"
        self.contact = CONTACT
        self._stop: Callable[[], None] | None = None
        self._saved: dict[str, str | None] = {}

    def __enter__(self) -> Place:
        self.jobs.mkdir()
        (self.folder / "work").mkdir()
        for name, value in {
            "JOBYARD_STATE_DIR": self.state,
            "JOBYARD_WORK_DIR": self.folder / "work",
            "JOBYARD_CONFIG": self.folder / "config.toml",
        }.items():
            self._saved[name] = os.environ.get(name)
            os.environ[name] = str(value)
        if CONTACT == "standin":  # the stand-in's commands and server, in this place
            from jobyard.testing.standin import install

            cell = install(self.folder / "cell", slots=8)
            self.contact = f"{cell.contact}&poll=0.1s"
            self._stop = cell.stop
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        if self._stop is not None:
            self._stop()
        for name, value in self._saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """End the embedded scheduler of this place; the next call of anybody starts another."""
        if (self.state / "local").exists():
            from jobyard.schedulers.local import stop

            stop(self.state)


def template(directory: Path, command: str = "/bin/true", *args: str, **values: Any) -> drmaa.JobTemplate:
    """A template of the shared session: a command in a directory of the test's, its output discarded unless told."""
    made = drmaa.Session.createJobTemplate()
    fill(made, directory, command, *args, **values)
    return made


def fill(made: drmaa.JobTemplate, directory: Path, command: str, *args: str, **values: Any) -> None:
    """As ``template``, for a template that is there."""
    made.remoteCommand = command
    made.args = args
    made.workingDirectory = str(directory)
    made.outputPath = ":/dev/null"
    made.joinFiles = True
    for name, value in values.items():
        setattr(made, name, value)


def shell(directory: Path, script: str, **values: Any) -> drmaa.JobTemplate:
    """A template of a shell script."""
    return template(directory, "/bin/sh", "-c", script, **values)


def sleeper(directory: Path, seconds: float = 0.2, **values: Any) -> drmaa.JobTemplate:
    """A template of a job that takes a while."""
    return template(directory, "/bin/sleep", str(seconds), **values)


def until(what: Callable[[], Any], why: str, patience_s: float = PATIENCE_S) -> Any:
    """The first true answer; what is asked here is told by nobody, so it is asked again and again."""
    return eventually(what, why, patience_s)


def until_state(job: str, *states: str) -> None:
    """Wait until ``jobStatus`` says one of these."""
    why = f"job {job} is {' or '.join(states)}"

    def there() -> bool:
        state = drmaa.Session.jobStatus(job)
        assert state in states or state not in ENDED, f"{state}, and it was to be seen that {why}"
        return state in states

    until(there, why)


def take_all(count: int) -> list[drmaa.JobInfo]:
    """``wait(ANY)`` so many times."""
    return [drmaa.Session.wait(ANY, PATIENCE_S) for _ in range(count)]


def array_of(task: str) -> str:
    """The id of the array that a task's id belongs to, as the scheduler writes it."""
    if SCHEDULER in ("pbs", "torque"):
        return re.sub(r"\[\d+\]", "[]", task)
    if SCHEDULER == "oar":  # of an array's first task
        return f"{task}[]"
    return re.sub(r"[._\[]\d+\]?$", "", task)
