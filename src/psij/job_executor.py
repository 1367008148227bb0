"""Executors: where jobs are submitted to."""

from __future__ import annotations

import builtins
import functools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

from . import _plugins
from ._fields import environment as check_environment
from .exceptions import InvalidJobException, SubmitException
from .job import Callback, Job, JobStatusCallback, as_callback
from .job_executor_config import JobExecutorConfig
from .job_launcher import Launcher
from .job_spec import JobSpec
from .job_state import JobState
from .job_status import JobStatus
from .resource_spec import ResourceSpecV1

if TYPE_CHECKING:
    from packaging.version import Version

    from ._info import JobInfo
    from .descriptor import Descriptor

__all__ = ["JobExecutor"]


class JobExecutor(ABC):
    """The base of all executors. A context manager; closing one touches no job.

    ``url`` says where the backend is, in the executor's own terms; ``config`` None stands for JobExecutorConfig.DEFAULT.
    """

    _NAME_: ClassVar[str | None] = None
    _VERSION_: ClassVar[Any] = None

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        if url is not None and not isinstance(url, str):
            raise TypeError(f"url is a str or None, not {type(url).__name__} {url!r}")
        self.url = url
        self.config = config if config is not None else JobExecutorConfig.DEFAULT
        self._cb: JobStatusCallback | None = None
        self._launchers: dict[tuple[str, str | None], Launcher] = {}
        self._launchers_lock = threading.RLock()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "submit" in cls.__dict__:
            setattr(cls, "submit", _unbinding(cls.__dict__["submit"]))  # noqa: B010 - for every subclass, whoever wrote it

    @property
    def name(self) -> str:
        """The name under which the executor is registered."""
        return self._NAME_ if self._NAME_ is not None else type(self).__name__

    @property
    def version(self) -> Version:
        """The version under which it is registered."""
        return _plugins.as_version(self._VERSION_ if self._VERSION_ is not None else _plugins.VERSION)

    # What every executor does -------------------------------------------------------------------------------------

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Give a NEW job to the backend. Once this returns, ``native_id`` is set, and all further changes are told.

        InvalidJobException: the specification makes no sense, or cannot be honoured; submitting it again fails again.
        SubmitException: the request could not be sent, or was refused. In both cases the job is as it was, nothing is
        left behind, and the same job can be submitted again.
        """

    @abstractmethod
    def cancel(self, job: Job) -> None:
        """Ask for the job's end. It is CANCELED once its processes are gone; ``job.wait()`` waits for that, or for
        whatever other end it came to first. Nothing happens to one in a final state.

        SubmitException where the request could not be sent.
        """

    @abstractmethod
    def list(self) -> builtins.list[str]:
        """The native ids of all jobs of this user at the backend, however they were submitted."""

    @abstractmethod
    def attach(self, job: Job, native_id: str) -> None:
        """Make a NEW job stand for a native job. InvalidJobException where it is not NEW, SubmitException where the
        backend knows no such job."""

    def set_job_status_callback(self, cb: Callback) -> None:
        """Call ``cb`` with a job and its status for each change of each job submitted here; None: no longer.

        ``cb`` is a JobStatusCallback or a function of two arguments. It runs after the job's own callback, in order for
        each job, on a thread where it delays no other job.
        """
        self._cb = as_callback(cb)

    def _set_job_status(self, job: Job, status: JobStatus) -> None:
        """For subclasses: change a job's status."""
        job.status = status

    def _notify_callback(self, job: Job, status: JobStatus) -> None:
        """For subclasses: call the executor's callback."""
        job._call(self._cb, status)

    def _check_job(self, job: Job) -> JobSpec:
        """For subclasses: take a job for submission, or raise InvalidJobException (TypeError for a bad environment)."""
        if not isinstance(job, Job):
            raise TypeError(f"a Job is submitted, not {type(job).__name__} {job!r}")
        spec = _check_spec(job)
        with job._lock:
            if job._status.state is not JobState.NEW:
                raise InvalidJobException(f"{job.id} is {job._status.state}; only a NEW job can be submitted")
            if job.executor is not None:
                raise InvalidJobException(f"{job.id} was given to {job.executor.name} already; make another Job of its spec")
            job.executor = self
        return spec

    def _get_launcher(self, name: str, version_constraint: str | None = None) -> Launcher:
        """For subclasses: a launcher by name, made once with this executor's configuration."""
        key = (name, version_constraint)
        with self._launchers_lock:
            launcher = self._launchers.get(key)
            if launcher is None:
                launcher = self._launchers[key] = Launcher.get_instance(name, version_constraint, self.config)
            return launcher

    # What some executors can do -----------------------------------------------------------------------------------

    @property
    def capabilities(self) -> frozenset[str]:
        """What can be done to jobs here: of ``cancel``, ``hold``, ``release``, ``suspend``, ``resume``, ..."""
        return frozenset({"cancel"})

    def hold(self, job: Job) -> None:
        """Keep a queued job from starting. SubmitException where that is refused, or not among ``capabilities``."""
        self._cannot("hold")

    def release(self, job: Job) -> None:
        """Let a held job start. SubmitException as for hold."""
        self._cannot("release")

    def suspend(self, job: Job) -> None:
        """Stop a running job for a while; it stays ACTIVE. SubmitException as for hold."""
        self._cannot("suspend")

    def resume(self, job: Job) -> None:
        """Let a suspended job go on. SubmitException as for hold."""
        self._cannot("resume")

    def info(self, job: Job) -> JobInfo:
        """What the backend knows of a job. SubmitException where it cannot be asked."""
        from ._info import JobInfo

        status = job.status
        return JobInfo(
            native_id=job.native_id, name=job.spec.name if job.spec else None, state=status.state, message=status.message
        )

    @property
    def contact(self) -> str:
        """What opens this executor's session again, as ``url``, in any process; SubmitException where it has none."""
        raise SubmitException(f"{self.name} has no session that could be opened again")

    def reattach_all(self, contact: str | None = None) -> builtins.list[Job]:
        """A Job for each job of a session; SubmitException where the executor has none."""
        raise SubmitException(f"{self.name} has no session that could be opened again")

    def _cannot(self, action: str) -> None:
        can = ", ".join(sorted(self.capabilities))
        raise SubmitException(f"{self.name} cannot {action} jobs; it can: {can}")

    def _watch_job(self, job: Job) -> None:
        """From now on changes of this job are told as they happen, not only when somebody asks."""
        return  # as executors do that assign the status themselves

    def close(self) -> None:
        """Let go of the backend. Jobs go on; nothing more is told of them."""
        return  # there is nothing to let go of, unless a subclass says so

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Many jobs ----------------------------------------------------------------------------------------------------

    def submit_many(self, jobs: Iterable[Job]) -> None:
        """Submit jobs, where possible in one request. Errors as for ``submit``; those before a refused one stay submitted."""
        for job in jobs:
            self.submit(job)

    def cancel_many(self, jobs: Iterable[Job]) -> None:
        """Cancel jobs, where possible in one request. All are tried; then the first SubmitException is raised."""
        first: SubmitException | None = None
        for job in jobs:
            try:
                job.cancel()
            except SubmitException as error:
                first = first or error
        if first is not None:
            raise first

    def wait_any(self, jobs: Iterable[Job], timeout: timedelta | None = None) -> Job | None:
        """Wait until one of the jobs is in a final state, and return it; None where ``timeout`` passed first."""
        from ._futures import wait_any

        return wait_any(list(jobs), timeout)

    def wait_all(self, jobs: Iterable[Job], timeout: timedelta | None = None) -> builtins.list[JobStatus] | None:
        """Wait until all are in a final state; their statuses in order, or None where ``timeout`` passed first."""
        from ._futures import wait_all

        return wait_all(list(jobs), timeout)

    def as_completed(self, jobs: Iterable[Job], timeout: timedelta | None = None) -> Iterator[Job]:
        """The jobs as they come to final states. TimeoutError where not all have within ``timeout``."""
        from ._futures import as_completed

        return as_completed(list(jobs), timeout)

    # The registry -------------------------------------------------------------------------------------------------

    @staticmethod
    def get_instance(
        name: str, version_constraint: str | None = None, url: str | None = None, config: JobExecutorConfig | None = None
    ) -> JobExecutor:
        """A new executor by name; the highest version that satisfies the constraint (such as ``"( > 0.0.2, != 0.0.4)"``).

        ValueError where there is none, or where its class cannot be loaded; the cause is chained.
        """
        executor = _plugins.executors().make(name, version_constraint, {"url": url, "config": config})
        assert isinstance(executor, JobExecutor)
        return executor

    @staticmethod
    def register_executor(desc: Descriptor, root: str) -> None:
        """Make an executor class, which must lie under the path ``root``, known by its descriptor.

        ValueError where the same name and version is registered already from elsewhere.
        """
        _plugins.executors().register(desc, root)

    @staticmethod
    def get_executor_names() -> set[str]:
        """The names, aliases too, that ``get_instance`` takes."""
        return _plugins.executors().names()

    def __str__(self) -> str:
        return f"JobExecutor[{self.name}, {self.version}]"


def _unbinding(submit: Callable[[Any, Job], None]) -> Callable[[Any, Job], None]:
    """A submit that leaves the job as it was when it fails: a job that was not taken can be submitted again."""
    if getattr(submit, "_psij_unbinding", False):
        return submit

    @functools.wraps(submit)
    def wrapped(self: JobExecutor, job: Job) -> None:
        before = job.executor if isinstance(job, Job) else None
        try:
            submit(self, job)
        except BaseException:
            if isinstance(job, Job) and before is None:
                job._unbind()
            raise

    wrapped._psij_unbinding = True  # type: ignore[attr-defined]  # a subclass may take over its base's submit as it is
    return wrapped


def _check_spec(job: Job) -> JobSpec:
    spec = job.spec
    if spec is None:
        raise InvalidJobException(f"{job.id} has no specification; set Job.spec")
    if not isinstance(spec, JobSpec):
        raise TypeError(f"Job.spec is a JobSpec, not {type(spec).__name__} {spec!r}")
    if not spec.executable:
        raise InvalidJobException("the job has no executable; set JobSpec.executable")
    if spec.environment:
        check_environment("JobSpec.environment", spec.environment)  # the dict may have been changed since it was set
    if spec.arguments:
        for argument in spec.arguments:
            if not isinstance(argument, str):
                raise TypeError(f"JobSpec.arguments is a list of str; it holds {type(argument).__name__} {argument!r}")
    if isinstance(spec.resources, ResourceSpecV1):
        spec.resources._layout()
    return spec
