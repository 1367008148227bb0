"""HyperQueue's Python package, as far as it goes: start a cluster, connect, submit, count, read failures, forget.

Checked with 0.27.0. It cannot list jobs, cancel one, or limit its time; of a job it tells how many of its tasks ended, and of
those that failed, why.
Nothing else here imports it: loading takes a third of a second, and its threads never end.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Bindings", "Counts", "HyperQueueError", "Refused", "TaskRequest"]


class HyperQueueError(Exception):
    """HyperQueue, or the way to it, failed; the text is its own."""


class Refused(HyperQueueError):
    """Nothing was sent: the package itself cannot take what it was given (bytes that are no UTF-8, numbers beyond its own)."""


class TaskRequest(NamedTuple):
    """What all tasks of a submission have in common."""

    argv: Sequence[str]
    directory: str
    environment: Mapping[str, str]
    resources: Mapping[str, int]
    cores: int
    priority: int
    walltime_s: float | None
    rerunnable: bool


class Counts(NamedTuple):
    """What HyperQueue tells of a job."""

    total: int
    finished: int
    failed: int
    over: bool


class _Seen(BaseException):
    """Ends the bindings' wait after its first look."""


class Bindings:
    """One connection to one server; with ``start``, a server and a worker in this process."""

    def __init__(self) -> None:
        from hyperqueue.ffi import client, cluster, get_version, protocol

        self._client, self._cluster, self._protocol = client, cluster, protocol
        self.version: str = _guarded(get_version)
        self._here: Any = None
        self._connection: Any = None

    def start(self, server_dir: str, cores: int) -> None:
        """A server and its worker, in threads of this process. HyperQueueError."""
        self._here = _guarded(lambda: self._cluster.Cluster(server_dir))
        _guarded(lambda: self._here.add_worker(cores))
        self.connect(server_dir)

    def connect(self, server_dir: str) -> None:
        """To a server that runs. HyperQueueError: none runs there, or it is of another version."""
        self._connection = _guarded(lambda: self._client.ClientConnection(server_dir))

    def stop(self) -> None:
        """End the server that was started here."""
        if self._here is not None:
            _guarded(self._here.stop)

    def submit(self, name: str, count: int, task: TaskRequest) -> int:
        """A job of so many tasks, numbered from 0, and its id. Refused: nothing was submitted. HyperQueueError: nobody knows."""
        protocol = self._protocol
        min_time = None if task.walltime_s is None else datetime.timedelta(seconds=task.walltime_s)
        request = protocol.ResourceRequest(cpus=task.cores, resources=dict(task.resources), min_time=min_time)
        tasks = [
            protocol.TaskDescription(
                id=number,
                args=list(task.argv),
                cwd=task.directory,
                stdout=None,
                stderr=None,
                stdin=None,
                env=dict(task.environment),
                dependencies=(),
                task_dir=False,
                priority=task.priority,
                resource_request=[request],
                # How often a worker may die under it before it has failed; one that may run once never runs again.
                crash_limit=None if task.rerunnable else 1,
            )
            for number in range(count)
        ]
        # No limit on failures: else one task that fails cancels the others.
        description = protocol.JobDescription(name=name, tasks=tasks, max_fails=None)
        return int(_guarded(lambda: self._connection.submit_job(description)))

    def counts(self, jobs: Sequence[int]) -> dict[int, Counts]:
        """How far these jobs are; one that the server does not know is left out. HyperQueueError."""
        found: dict[int, Counts] = {}

        def look(shown: Mapping[int, Mapping[str, Any]]) -> None:
            for job, one in shown.items():
                found[int(job)] = Counts(int(one["total"]), int(one["finished"]), int(one["failed"]), bool(one["completed"]))
            raise _Seen

        if jobs:
            try:
                _guarded(lambda: self._connection.wait_for_jobs(list(jobs), look))
            except _Seen:
                pass
        return found

    def failures(self, jobs: Sequence[int]) -> dict[int, dict[int, str]]:
        """Of these jobs, the tasks that failed, and HyperQueue's words on each. HyperQueueError."""
        found = _guarded(lambda: self._connection.get_failed_tasks(list(jobs)))
        return {int(job): {int(task): str(one.error) for task, one in tasks.items()} for job, tasks in found.items()}

    def forget(self, job: int) -> None:
        """Let the server drop a job that is over. HyperQueueError."""
        _guarded(lambda: self._connection.forget_job(job))


def _guarded(call: Callable[[], Any]) -> Any:
    """The bindings raise bare Exceptions, and panics of Rust that are BaseExceptions."""
    try:
        return call()
    except (_Seen, KeyboardInterrupt, SystemExit):
        raise
    except (TypeError, ValueError, OverflowError) as error:  # from turning our values into Rust's
        raise Refused(" ".join(str(error).split())) from error
    except BaseException as error:
        raise HyperQueueError(" ".join(str(error).split()) or type(error).__name__) from error
