"""What executors on the engine have in common: all but how a job is described to it."""

from __future__ import annotations

import builtins
import os
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, TypeVar

from . import _plugins
from .exceptions import InvalidJobException, SubmitException
from .job import Callback, Job
from .job_executor import JobExecutor
from .job_executor_config import JobExecutorConfig
from .job_launcher import Launcher
from .job_spec import JobSpec, is_plain
from .job_state import JobState
from .resource_spec import ResourceSpecV1

if TYPE_CHECKING:
    import jobyard

    from ._engine import Link
    from ._info import JobInfo

__all__ = ["EngineExecutor"]

_OLD_LAUNCHERS = {"jrun": "jsrun"}


class EngineExecutor(JobExecutor):
    """An executor whose jobs the engine keeps. Executors with the same contact share one session of a process."""

    _SCHEDULER_: ClassVar[str] = ""
    """The engine's name of the scheduler."""
    _PREFIXES_: ClassVar[tuple[str, ...]] = ()
    """Prefixes of custom attributes that are for it, the usual one first."""

    def __init__(self, url: str | None = None, config: JobExecutorConfig | None = None) -> None:
        super().__init__(url, config)
        self._closed = False
        self._link_: Link | None = None
        self._link_lock = threading.Lock()
        self._contact = self._parse_url()
        self._remote_: bool | None = None

    def _parse_url(self) -> str:
        """The engine's contact that ``url`` means. InvalidJobException where it is none, or one of another scheduler."""
        return contact_of(self._SCHEDULER_, self.url) if self._SCHEDULER_ else (self.url or "")

    @property
    def contact(self) -> str:
        """The contact of the session that this executor's jobs belong to. As ``url`` it opens the same session again, in
        any process; ``reattach_all`` then has its jobs."""
        return self._link().session.contact

    def _link(self) -> Link:
        if self._closed:
            raise SubmitException(f"{self.name}: this executor was closed")
        with self._link_lock:
            # A forked child has sessions of its own: threads and connections of the parent's are not here.
            if self._link_ is None or self._link_.pid != os.getpid() or self._link_.session.closed:
                self._link_ = self._open_link()
            return self._link_

    def _open_link(self, contact: str | None = None) -> Link:
        import jobyard
        from jobyard import fronts

        from ._engine import let_go, link_to

        self._check_available()
        work = self.config._work_directory

        def opened() -> jobyard.Session:
            return jobyard.Session(named, work_dir=None if work is None else str(work.absolute()))

        named = contact if contact is not None else self._engine_contact()
        fronts.closed_at_exit_by_front()
        link = link_to((named, work), opened)
        try:
            self._check_scheduler(link.session)
        except InvalidJobException:
            let_go(link)
            raise
        return link

    def _check_scheduler(self, session: jobyard.Session) -> None:
        """What a site means is known only now. InvalidJobException: another scheduler."""
        import jobyard
        from jobyard import fronts

        meant = jobyard.Contact.parse(session.contact)
        if self._SCHEDULER_ and fronts.find_known(meant.scheduler).name != fronts.find_known(self._SCHEDULER_).name:
            raise InvalidJobException(
                f"url: {self.url!r} is a contact of {meant.scheduler}; this executor speaks to {self._SCHEDULER_}"
            )

    def _engine_contact(self) -> str:
        """The contact to open: without what is the front's own."""
        return self._contact

    @classmethod
    def _check_available(cls) -> None:
        """ValueError, chained, where the engine has no adapter for the scheduler."""
        if not cls._SCHEDULER_:
            return
        import jobyard
        from jobyard import fronts

        try:
            if not fronts.find_known(cls._SCHEDULER_).target:
                raise jobyard.NoScheduler(f"{cls._SCHEDULER_} is known, but this release has no adapter for it yet")
        except jobyard.NoScheduler as error:
            raise ValueError(f"this release of jobyard cannot submit to {cls._SCHEDULER_}: {error}") from error

    def close(self) -> None:
        """Let go of the scheduler. Jobs go on; what waits for them ends with SubmitException."""
        from ._engine import let_go

        with self._link_lock:
            self._closed = True
            link, self._link_ = self._link_, None
        if link is not None and link.pid == os.getpid():
            let_go(link)

    # Submission -----------------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """JobExecutor.submit. ValueError where there is no adapter for the scheduler."""
        self._check_job(job)
        self._send([job])

    def submit_many(self, jobs: Iterable[Job]) -> None:
        """Submit jobs in one request. Errors as for ``submit``: all are checked before any is sent. Where the scheduler
        refuses one, those that were accepted before it stay submitted, and the others are as they were."""
        taken: builtins.list[Job] = []
        try:
            for job in jobs:
                self._check_job(job)
                taken.append(job)
            if taken:
                self._send(taken)
        except BaseException:
            for job in taken:
                job._unbind()
            raise

    def submit_after(self, job: Job, others: Iterable[Job], when: str = "success") -> None:
        """Submit a job that starts only once others, submitted here, have ended: all with ``success``, all with ``failure``,
        or in ``any`` way. One that can then never start FAILED with cause ``dependency``. Errors as for ``submit``."""
        from jobyard.fronts import After

        from ._engine import asked

        waited_for = []
        for other in others:
            one = other._engine_job
            if one is None or other._handle is not self._link():
                raise InvalidJobException(f"{other} was not submitted to this executor")
            try:
                waited_for.append(After(asked(lambda one=one: one.token), when))  # type: ignore[misc]  # bound now
            except ValueError as error:
                raise InvalidJobException(str(error), error) from error
        self._check_job(job)
        try:
            self._send([job], after=tuple(waited_for), immediate=False)
        except BaseException:
            job._unbind()
            raise

    def _send(self, jobs: builtins.list[Job], **changes: object) -> None:
        import jobyard

        from ._engine import translate

        link = self._link()
        described = [self._describe(job) for job in jobs]
        if changes:
            import msgspec

            described = [(msgspec.structs.replace(description, **changes), log) for description, log in described]
        if self._cb is not None or any(job._cb is not None for job in jobs):
            link.watch()
        try:
            link.submit(jobs, [description for description, _ in described], [log for _, log in described])
        except jobyard.JobyardError as error:
            raise translate(error) from error

    def _describe(self, job: Job) -> tuple[jobyard.JobDescription, str | None]:
        """The engine's description of a job, and where what its launcher prints is kept, if it is."""
        from ._describe import describe

        spec = job.spec
        assert spec is not None
        launcher = (spec.launcher or Launcher.DEFAULT_LAUNCHER_NAME).lower()
        launcher = _OLD_LAUNCHERS.get(launcher, launcher)
        here = self._is_local()
        description = describe(
            spec,
            here=here,
            remote=self._remote(),
            immediate=self._immediate(job),
            prefixes=self._PREFIXES_,
            scheduler=self._SCHEDULER_,
            tags=self._tags(job, spec),
        )
        import msgspec

        changes: dict[str, object] = {}
        log = None
        if launcher in _plugins.LAUNCHERS and self.config.launcher_log_file is None:
            if launcher != "single":
                changes["launcher"] = launcher
        else:
            log, scripted = self._scripted(job, spec)
            changes.update(scripted)
            if here and launcher != "single":  # elsewhere, and of our own launchers, the node does it
                changes["environment"] = {**description.environment, "PSIJ_NODEFILE": self._nodefile(spec)}
        return (msgspec.structs.replace(description, **changes) if changes else description), log

    def _scripted(self, job: Job, spec: JobSpec) -> tuple[str, dict[str, object]]:
        """A launcher that is a command of its own: it opens the streams, and what it prints itself is kept apart."""
        try:
            launcher = self._get_launcher(spec.launcher or Launcher.DEFAULT_LAUNCHER_NAME)
            argv = launcher.get_launch_command(job)
        except (ValueError, TypeError, OSError) as error:
            raise InvalidJobException(f"JobSpec.launcher: {error}", error) from error
        from .launchers.script_based_launcher import deployment_root

        folder = deployment_root(self.config) / "log"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = str(folder / job.id)
        changes = {"stdin": None, "stdout": log, "stderr": None, "join_streams": True, "pre_launch": None, "post_launch": None}
        return log, {"argv": tuple(argv), **changes}

    def _nodefile(self, spec: JobSpec) -> str:
        """A file with this host's name once for each process; jobs with the same number share it."""
        import socket

        from .launchers.script_based_launcher import deploy_data, deployment_root

        count = spec.resources.computed_process_count if isinstance(spec.resources, ResourceSpecV1) else 1
        data = f"{socket.gethostname()}\n".encode() * count
        return str(deploy_data([("nodefile", data)], deployment_root(self.config)) / "nodefile")

    def _is_local(self) -> bool:
        return False

    def _remote(self) -> bool:
        if self._remote_ is None:
            import jobyard

            contact = jobyard.Contact.parse(self._contact)
            if contact.site is not None:  # its session knows what that is
                contact = jobyard.Contact.parse(self._link().session.contact)
            self._remote_ = contact.host is not None
        return self._remote_

    def _immediate(self, job: Job) -> bool:
        return False

    def _tags(self, job: Job, spec: JobSpec) -> dict[str, str]:
        from .serialize import JSONSerializer

        tags = {"psij.id": job.id}
        if is_plain(spec):
            return tags  # the engine's own record says it all
        try:
            tags["psij.spec"] = JSONSerializer().dumps(spec)
        except ValueError:
            pass  # custom attributes may hold what has no text; such a job is reattached without a specification
        return tags

    # Control --------------------------------------------------------------------------------------------------------

    def cancel(self, job: Job) -> None:
        """JobExecutor.cancel."""
        self.cancel_many([job])

    def cancel_many(self, jobs: Iterable[Job]) -> None:
        """Cancel jobs in one request; those in a final state are left as they are. SubmitException: some could not be."""
        self._control("cancel", [job for job in jobs if not job.status.final])

    @property
    def capabilities(self) -> frozenset[str]:
        """What can be done to jobs here, of ``cancel``, ``hold``, ``release``, ``suspend``, ``resume``, ``requeue``, ``signal``."""
        return frozenset(str(action) for action in self._link().session.capabilities.actions)

    def hold(self, job: Job) -> None:
        """JobExecutor.hold."""
        self._control("hold", [job])

    def release(self, job: Job) -> None:
        """JobExecutor.release."""
        self._control("release", [job])

    def suspend(self, job: Job) -> None:
        """JobExecutor.suspend."""
        self._control("suspend", [job])

    def resume(self, job: Job) -> None:
        """JobExecutor.resume."""
        self._control("resume", [job])

    def _control(self, action: str, jobs: builtins.list[Job]) -> None:
        from ._engine import asked, engine_jobs

        for link, chosen in engine_jobs(jobs).items():
            control: Callable[[builtins.list[jobyard.Job]], None] = getattr(link.session, action)
            asked(lambda control=control, chosen=chosen: control(chosen))  # type: ignore[misc]  # bound now, called at once

    # Looking --------------------------------------------------------------------------------------------------------

    def list(self) -> builtins.list[str]:
        """JobExecutor.list."""
        from ._engine import asked

        link = self._link()
        return asked(link.session.native_ids)

    def attach(self, job: Job, native_id: str) -> None:
        """JobExecutor.attach. The job's state is known when this returns."""
        from ._engine import asked

        if not isinstance(native_id, str):
            raise TypeError(f"native_id is a str, not {type(native_id).__name__} {native_id!r}")
        with job._lock:
            if job._status.state is not JobState.NEW or job.executor is not None:
                raise InvalidJobException(f"{job.id} is {job._status.state}; only a NEW job can be attached")
            job.executor = self
        try:
            link = self._link()
            if self._cb is not None or job._cb is not None:
                link.watch()
            link.follow(job, asked(lambda: _found(link, native_id)))
        except BaseException:
            job._unbind()
            raise

    def reattach_all(self, contact: str | None = None) -> builtins.list[Job]:
        """A Job for each job of this executor's session that has none in this process, oldest first, with its id, its
        specification and its status: what a program needs after a crash. ``contact``: that of an earlier executor, whose
        session becomes this one's; the one that ``url`` names otherwise."""
        from ._engine import asked, let_go
        from .serialize import JSONSerializer

        if contact is not None:
            with self._link_lock:
                link, self._link_ = self._link_, self._open_link(contact)
            if link is not None:
                let_go(link)
        link = self._link()
        made = []
        for engine_job in asked(link.session.jobs):
            if link.followed(engine_job):
                continue
            description = engine_job.description
            tags = description.tags
            if "psij.spec" in tags:
                job = Job(JSONSerializer().loads(tags["psij.spec"]))
            else:
                job = Job(JobSpec(description.argv[0], list_of(description.argv[1:]) or None))
            if "psij.id" in tags:
                job._take_id(tags["psij.id"])
            job.executor = self
            link.follow(job, engine_job)
            made.append(job)
        return made

    def info(self, job: Job) -> JobInfo:
        """JobExecutor.info."""
        from ._engine import asked
        from ._info_of import info_of

        engine_job = job._engine_job
        if engine_job is None:
            raise SubmitException(f"{job} was not submitted")
        return asked(lambda: info_of(job, engine_job))

    def _watch_job(self, job: Job) -> None:
        from ._engine import Link

        if isinstance(job._handle, Link):
            job._handle.watch()

    def set_job_status_callback(self, cb: Callback) -> None:
        """JobExecutor.set_job_status_callback."""
        super().set_job_status_callback(cb)
        if cb is not None and self._link_ is not None and not self._closed:
            self._link_.watch()

    # Many jobs ------------------------------------------------------------------------------------------------------

    def wait_any(self, jobs: Iterable[Job], timeout: timedelta | None = None) -> Job | None:
        """JobExecutor.wait_any."""
        from ._engine import Link, asked
        from ._futures import _seconds

        chosen = list_of(jobs)
        links = {job._handle for job in chosen}
        link = next(iter(links), None)
        if len(links) != 1 or not isinstance(link, Link):
            return super().wait_any(chosen, timeout)
        by_engine = {job._engine_job: job for job in chosen if job._engine_job is not None}
        try:
            found = by_engine[asked(lambda: link.session.wait_any(list(by_engine), timeout=_seconds(timeout)))]
        except TimeoutError:
            return None
        _ = found.status
        return found


T = TypeVar("T")


def list_of(items: Iterable[T]) -> builtins.list[T]:
    """A list; in classes that have a method of that name, the name means the method."""
    return list(items)


def _found(link: Link, native_id: str) -> jobyard.Job:
    import jobyard

    try:
        return link.session.job(native_id)
    except jobyard.UnknownJob:
        return link.session.attach(native_id)


def contact_of(scheduler: str, url: str | None) -> str:
    """The contact that a ``url`` means to an executor: a whole one, or one without the scheduler's name."""
    import jobyard

    if not url:
        return scheduler
    if url.startswith(("?", "/", "+")):
        url = scheduler + url
    elif url.startswith("ssh://"):
        url = f"{scheduler}+{url}"
    try:
        contact = jobyard.Contact.parse(url)
    except jobyard.InvalidContact as error:
        raise InvalidJobException(f"url: {error}", error) from error
    if contact.site is None and contact.scheduler != scheduler:
        raise InvalidJobException(f"url: {url!r} is a contact of {contact.scheduler}; this executor speaks to {scheduler}")
    return str(contact)
