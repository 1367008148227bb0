"""What several test modules of the PSI/J front need."""

from __future__ import annotations

import itertools
import os
import re
import threading
from datetime import timedelta

from psij import Job, JobExecutor, JobExecutorConfig, JobSpec, JobState, JobStatus

URL = os.environ.get("PSIJ_URL", "")  # where the executor under test is, if not here
# A scheduler of a test bed starts jobs at its own pace, beside what other tests ask of it: with FULL=1, hundreds of jobs.
# OAR starts a job in half a second of the machine's own time.
BED = os.environ.get("JOBYARD_BED")
LONG = timedelta(seconds=(240 if os.environ.get("FULL") == "1" or BED == "oar" else 120) if BED else 60)
ALL = [JobState.QUEUED, JobState.STAGE_IN, JobState.ACTIVE, JobState.STAGE_OUT, JobState.CLEANUP, JobState.COMPLETED]


class Told:
    """What a callback was told, by job; ``all_final`` waits until so many jobs have come to an end."""

    def __init__(self) -> None:
        self.by_job: dict[str, list[JobStatus]] = {}
        self._condition = threading.Condition()

    def __call__(self, job: Job, status: JobStatus) -> None:
        with self._condition:
            self.by_job.setdefault(job.id, []).append(status)
            self._condition.notify_all()

    def states(self, job: Job) -> list[JobState]:
        """The states of one job, in order."""
        return [status.state for status in self.by_job.get(job.id, [])]

    def final(self, name: str, timeout: float = LONG.total_seconds()) -> None:
        """Wait until the last state of the job of that id was told."""
        with self._condition:
            assert self._condition.wait_for(lambda: name in self.by_job and self.by_job[name][-1].final, timeout), name

    def all_final(self, *jobs: Job, timeout: float = LONG.total_seconds()) -> None:
        """Wait until the last state of each was told; then check that all came once and in order."""
        with self._condition:
            done = self._condition.wait_for(
                lambda: all(job.id in self.by_job and self.by_job[job.id][-1].final for job in jobs), timeout
            )
        assert done, (
            f"not told the end of {[str(job) for job in jobs if not self.states(job)[-1:] or not self.states(job)[-1].final]}"
        )
        for job in jobs:
            seen = self.states(job)
            assert len(set(seen)) == len(seen)
            assert all(later.is_greater_than(earlier) for earlier, later in itertools.pairwise(seen))


def open_executor(name: str, *, url: str | None = None, config: JobExecutorConfig | None = None) -> JobExecutor:
    """The executor under test. A ``url`` of options alone (``?key=value``) adds to where it is."""
    if re.split("[+?]", URL)[0] == name and (url is None or url.startswith("?")):
        url = URL + (url or "").replace("?", "&")
    return JobExecutor.get_instance(name, url=url, config=config)


def run(executor: JobExecutor, spec: JobSpec) -> JobStatus:
    """Submit one job and wait for its end."""
    job = Job(spec)
    executor.submit(job)
    return finished(job)


def finished(job: Job) -> JobStatus:
    """Wait for the end of a job."""
    status = job.wait(LONG)
    assert status is not None, f"{job} did not end"
    return status


def shell(code: str, *arguments: str, **fields: object) -> JobSpec:
    """A specification that runs a line of shell."""
    return JobSpec("/bin/sh", ["-c", code, "sh", *arguments], **fields)  # type: ignore[arg-type]  # fields of JobSpec
