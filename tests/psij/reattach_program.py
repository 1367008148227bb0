"""Two halves of a crash: ``submit EXECUTOR URL COUNT`` ends by KILL, ``reattach EXECUTOR CONTACT`` has the jobs again.

The first prints a line of JSON for the session and one for each job; the second one for each job, with how it ended.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psij
from psij.executors.batch._scheduler import SchedulerExecutor
from psij.serialize import JSONSerializer


class StandinExecutor(SchedulerExecutor):
    """As the built-in ones, on the stand-in for schedulers."""

    _SCHEDULER_ = "standin"
    _PREFIXES_ = ("standin",)


def open_executor(name: str, url: str | None) -> psij.JobExecutor:
    """An executor by name, the stand-in's too."""
    return StandinExecutor(url=url) if name == "standin" else psij.JobExecutor.get_instance(name, url=url)


def specs(count: int, folder: str) -> Iterator[psij.JobSpec]:
    """Jobs of three kinds: a command alone; one that says much; one that waits for a gate until the program is dead."""
    for n in range(count):
        if n % 10 == 3:
            yield psij.JobSpec(
                "/bin/sh",
                ["-c", f'echo "$1" "$A"; echo ran >> "$2"; exit {n % 5}', "sh", f"job {n}", f"{folder}/ran {n}"],
                name=f"job {n}",
                directory=folder,
                environment={"A": f"value {n}"},
                stdout_path=Path(folder) / f"out {n}",
                resources=psij.ResourceSpecV1(process_count=1),
            )
        elif n % 10 == 7:
            yield psij.JobSpec("/bin/sh", ["-c", f'until [ -e "$1" ]; do sleep 0.2; done; exit {n % 5}', "sh", f"{folder}/gate"])
        else:
            yield psij.JobSpec("/bin/sh", ["-c", f"exit {n % 5}"])


def shown(job: psij.Job) -> dict[str, object]:
    """What must be the same in all processes."""
    assert job.spec is not None
    return {"id": job.id, "native_id": job.native_id, "spec": JSONSerializer().dumps(job.spec)}


def submit(name: str, url: str, count: str, folder: str) -> None:
    """Submit, wait for a few, and die."""
    executor = open_executor(name, url or None)
    jobs = [psij.Job(spec) for spec in specs(int(count), folder)]
    executor.submit_many(jobs)
    sys.stdout.write(json.dumps({"contact": executor.contact}) + "\n")
    for job in jobs:
        sys.stdout.write(json.dumps(shown(job)) + "\n")
    sys.stdout.flush()
    executor.wait_all(jobs[:3])
    os.kill(os.getpid(), signal.SIGKILL)


def reattach(name: str, contact: str) -> None:
    """All jobs of the session, to their ends."""
    executor = open_executor(name, contact)
    jobs = executor.reattach_all()
    statuses = executor.wait_all(jobs, timedelta(seconds=240))
    assert statuses is not None, [str(job) for job in jobs if not job.status.final]
    for job, status in zip(jobs, statuses, strict=True):
        found = {**shown(job), "state": str(status.state), "exit_code": status.exit_code}
        sys.stdout.write(json.dumps(found) + "\n")
    executor.close()


if __name__ == "__main__":
    if sys.argv[1] == "submit":
        submit(*sys.argv[2:])
    else:
        reattach(*sys.argv[2:])
