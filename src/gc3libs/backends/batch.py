"""``BatchSystem``: the base of backends for batch queueing systems."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import exceptions
from .._run import Run
from ..url import Url
from . import LRMS

if TYPE_CHECKING:
    import jobyard

    from ._files import Fetched
    from ._link import Link
    from .transport import Transport

__all__ = ["BatchSystem", "generic_filename_mapping"]

# Of file names that are built from a job's name: what stands in their place where the scheduler chooses (PBS, Grid Engine).
_STREAMS = {"out": "o", "err": "e"}
_SCRIPTS = ("prologue", "epilogue")


def generic_filename_mapping(jobname: str, jobid: str, file_name: str) -> str:
    """Where a scheduler that chooses the names of standard streams itself has put one: ``NAME.oID`` for ``NAME.out``,
    ``NAME.eID`` for ``NAME.err``. Any other name is returned as it is."""
    for extension, letter in _STREAMS.items():
        if file_name == f"{jobname}.{extension}":
            return f"{jobname}.{letter}{jobid}"
    return file_name


class BatchSystem(LRMS):
    """A batch queueing system, reached by its commands on this machine (``transport="local"``) or over SSH (``"ssh"``).

    A subclass gives commands and parsers by the hooks below. ``auth``: what to log in with over SSH: an object with ``username``,
    ``port``, ``ssh_config``, ``keyfile``, ``timeout``, or a function that returns one; None on this machine.
    ``accounting_delay``: seconds without a sign of a job before it may be called lost, if more than the engine's own 120.

    Further keywords become attributes: ``spooldir`` (where sandboxes lie; JOBYARD_WORK_DIR otherwise), ``prologue``,
    ``prologue_content``, ``APPLICATION_prologue``, ``APPLICATION_prologue_content`` and the same with ``epilogue``;
    commands of the scheduler by their names. One that is nearly a known name warns.

    Errors are those of ``gc3libs.exceptions``.
    """

    _batchsys_name = "batch queueing system"
    # Variables of a job in which the scheduler tells the job its id; the first that is set counts.
    _jobid_variables: tuple[str, ...] = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "OAR_JOB_ID", "COBALT_JOBID", "JOB_ID")
    _commands: tuple[str, ...] = ()  # of the scheduler, by the names of the keywords that override them
    interpreter = "/usr/bin/python3"  # on the nodes, 3.6 or newer

    class _stat_result(NamedTuple):
        """What a status command says: a ``Run.State``, and how the job ended (None: it does not say)."""

        state: str
        termstatus: Any

    def __init__(
        self,
        name: str,
        architecture: Any,
        max_cores: Any,
        max_cores_per_job: Any,
        max_memory_per_core: Any,
        max_walltime: Any,
        auth: Any,
        frontend: str,
        transport: Any,
        accounting_delay: Any = 15,
        ssh_config: str | None = None,
        keyfile: str | None = None,
        ignore_ssh_host_keys: Any = False,
        ssh_timeout: Any = None,
        large_file_threshold: Any = None,
        large_file_chunk_size: Any = None,
        **extra_args: Any,
    ) -> None:
        self._warn_of_near_misses(extra_args)
        super().__init__(name, architecture, max_cores, max_cores_per_job, max_memory_per_core, max_walltime, auth, **extra_args)
        self.frontend = frontend
        self.accounting_delay = _seconds("accounting_delay", accounting_delay)
        self.ssh_config = ssh_config
        self.keyfile = keyfile
        self.ignore_ssh_host_keys = _flag("ignore_ssh_host_keys", ignore_ssh_host_keys)
        self.ssh_timeout = None if ssh_timeout is None else _seconds("ssh_timeout", ssh_timeout)
        self.large_file_threshold = large_file_threshold
        self.large_file_chunk_size = large_file_chunk_size
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._records: dict[str, Run] = {}  # of tasks that this process submitted, by native id
        self.transport: Transport = self._transport(transport)

    # What a subclass says ---------------------------------------------------------------------------------------------

    def _submit_command(self, app: Any) -> tuple[str, str]:
        """The command line that submits, and the shell script that it is to submit, whose path is put behind it. "" as the
        script: the program stands in the command line itself."""
        raise self._abstract("_submit_command")

    def _parse_submit_output(self, stdout: str) -> str:
        """The id in what that command printed; ``get_jobid_from_submit_output`` helps."""
        raise self._abstract("_parse_submit_output")

    def _stat_command(self, job: Run) -> str:
        """The command line that tells the status of ``job.lrms_jobid``."""
        raise self._abstract("_stat_command")

    def _parse_stat_output(self, stdout: str, stderr: str) -> Any:
        """``self._stat_result(state, termstatus)``. TERMINATING without a termination status means that the job is not shown."""
        raise self._abstract("_parse_stat_output")

    def _stat_all_command(self, jobs: list[Run]) -> str | None:
        """One command line that tells the status of all these; None: each is asked about by ``_stat_command``."""
        return None

    def _parse_stat_all_output(self, stdout: str, stderr: str) -> Mapping[str, Any]:
        """``_stat_result`` by id, for those that are shown."""
        raise self._abstract("_parse_stat_all_output")

    def _acct_command(self, job: Run) -> str | None:
        """The command line of accounting. A subclass without it has none."""
        raise self._abstract("_acct_command")

    def _parse_acct_output(self, stdout: str, stderr: str) -> Mapping[str, Any]:
        """What accounting says; ``termstatus`` is in it once it knows how the job ended."""
        raise self._abstract("_parse_acct_output")

    def _secondary_acct_command(self, job: Run) -> str | None:
        """Another command line, for where the first knows nothing; None: there is none."""
        return None

    def _parse_secondary_acct_output(self, stdout: str, stderr: str) -> Mapping[str, Any]:
        """As ``_parse_acct_output``."""
        raise self._abstract("_parse_secondary_acct_output")

    def _cancel_command(self, jobid: str) -> str:
        """The command line that cancels a job."""
        raise self._abstract("_cancel_command")

    def _abstract(self, hook: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} does not say {hook}, which BatchSystem needs")

    def _has_hook(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(BatchSystem, name)

    # What a subclass finds here

    def get_jobid_from_submit_output(self, output: str, regexp: Any) -> str:
        """The group ``jobid`` of the first line that the expression matches. InternalError: of none."""
        pattern = re.compile(regexp) if isinstance(regexp, str) else regexp
        for line in output.split("\n"):
            match = pattern.match(line)
            if match:
                return str(match.group("jobid"))
        raise exceptions.InternalError(f"there is no job id in what the submit command printed: {output.strip()[:500]!r}")

    def _get_command_argv(self, name: str, default: str | None = None) -> list[str]:
        """The words of a command: those of the keyword of that name, else ``default``, else the name."""
        return shlex.split(str(self.get(name, default if default is not None else name)), comments=True)

    def _get_command(self, name: str, default: str | None = None) -> str:
        """The same as a command line."""
        return shlex.join(self._get_command_argv(name, default))

    def get_prologue_script(self, app: Any) -> str:
        """The prologues for an application as one shell script, in this order: ``prologue``, ``NAME_prologue``,
        ``prologue_content``, ``NAME_prologue_content``, NAME being its ``application_name``. A value that names a file here is
        that file's content; any other is shell text itself. "" where there is none."""
        return self._scripts(app, "prologue")

    def get_epilogue_script(self, app: Any) -> str:
        """As ``get_prologue_script``, of the epilogues."""
        return self._scripts(app, "epilogue")

    def _scripts(self, app: Any, kind: str) -> str:
        own = f"{app.application_name}_{kind}"
        parts = []
        for name in (kind, own, f"{kind}_content", f"{own}_content"):
            value = self.get(name)
            if value is None:
                continue
            if not isinstance(value, str | bytes | os.PathLike):
                raise exceptions.InvalidType(f"{name} is a file's name or shell text, not {value!r}")
            text, origin = os.fsdecode(value), "text"
            path = os.path.expanduser(text)
            if "\n" not in text and os.path.isfile(path):
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    text, origin = file.read(), f"file {path}"
            elif "/" in text and not re.search(r"\s", text.strip()):
                raise exceptions.InvalidValue(
                    f"{name}: there is no file {text!r}; as shell text it would be a command of that name"
                )
            parts.append(f"# {name}: {origin}\n{text.rstrip()}\n")
        return "".join(parts)

    # What programs call -----------------------------------------------------------------------------------------------

    def submit_job(self, app: Any) -> Run:
        """Submit an application: its inputs go to a new sandbox, and the job to the scheduler. Once this returns it runs exactly
        once, whatever crashes; ``app.execution`` knows it from then on. Its state is left for ``update_job_state``.

        Submitting the same execution again, in this process or after a crash, finds the job of the first time.

        UnrecoverableDataStagingError: an input is not here, or a URL is none of a file; nothing was sent. LRMSSubmitError: the
        scheduler refused. LRMSError, TransportError: it could not be asked. Nothing runs then, and no sandbox stays.
        """
        record: Run = app.execution
        with self._translated(f"submitting {app.jobname!r} to {self.name}"):
            link = self._linked()
            job = self._before(link, record)
            if job is None:
                description = self._described(app)
                record.__dict__["_restored"] = True  # should this call be cut short: it may be there all the same
                job = link.submit(description, record.submission_id)
            self._note(app, record, link, job)
        return record

    def _before(self, link: Link, record: Run) -> jobyard.Job | None:
        """The job that this execution is already; None: it is to be submitted."""
        import jobyard

        if "jobyard_token" not in record:
            return link.submitted(record.submission_id) if record._restored else None
        try:
            job = link.job(record)
        except jobyard.UnknownJob:
            job = None
        if job is not None and not job.state.final:
            return job
        record.pop("jobyard_token", None)  # it ended, and is to be run anew
        record.submission_id = os.urandom(16).hex()
        return None

    def _note(self, app: Any, record: Run, link: Link, job: jobyard.Job) -> None:
        from jobyard import fronts

        native_id = job.native_id
        record.jobyard_token = job.token
        record.jobyard_session = link.session.contact
        record.lrms_jobid = native_id
        record.lrms_jobname = app.jobname or native_id
        record.resource_name = self.name
        record.execution_target = self.frontend
        record.ssh_remote_folder = f"{fronts.job_folder(job)}/work"
        record.stdout_filename = app.stdout if app.stdout is not None else f"{record.lrms_jobname}.o{native_id}"
        own = app.stderr if app.stderr is not None else f"{record.lrms_jobname}.e{native_id}"
        record.stderr_filename = record.stdout_filename if app.join else own
        record.history.append(f"submitted to {self._batchsys_name} @ {self.name} as job {native_id}")
        with self._lock:
            self._records[native_id] = record

    def update_job_state(self, app: Any) -> str:
        """What is known of the job, as a ``Run.State``; ``app.execution.state`` becomes it, and ``returncode`` with TERMINATING.

        No question to the scheduler hangs here: all jobs are asked about together, in turns. One that does not answer, or
        answers nonsense, changes nothing. InvalidArgument: it was not submitted. UnknownJob: nothing is kept of it any more.
        """
        from ._words import information, returncode_of, said_of, state_of

        record: Run = app.execution
        with self._translated(f"asking {self.name} for the state of {record.get('lrms_jobid')}"):
            job = self._linked().job(record)
            state, by, ending = job.state, job.by, job.ending
        if ending is not None and record.state != Run.State.TERMINATED:
            if record.state != Run.State.TERMINATING:
                record.returncode = returncode_of(ending, shell=job.description.tags.get("gc3.shell") == "1")
                record.update(information(ending))
                record._core = ending.core_dumped
                record.history.append(said_of(ending))
                times = {"SUBMITTED": ending.submitted_at, "RUNNING": ending.began_at}
                record.passed({name: at for name, at in times.items() if at is not None})
            record.state = Run.State.TERMINATING
            with self._lock:
                self._records.pop(str(record.get("lrms_jobid")), None)
        elif ending is None:
            record.state = state_of(state, by)
        return record.state

    def cancel_job(self, app: Any) -> str:
        """Have the scheduler cancel the job; its state follows. What came of it: ``"cancelled"`` (the scheduler has taken the
        request), ``"already_finished"`` (its ending stays as it is), ``"not_found"``, ``"denied"``."""
        return self.cancel_jobs([app])[0]

    def cancel_jobs(self, apps: Iterable[Any]) -> list[str]:
        """``cancel_job`` of many, in one command of the transport."""
        import jobyard
        from jobyard.fronts import Action

        found: list[str] = []
        with self._translated(f"cancelling jobs of {self.name}"):
            jobs = [self._linked().job(app.execution) for app in apps]
            answers: dict[jobyard.Job, Exception | None] = {}
            for session in dict.fromkeys(job._session for job in jobs):
                answers.update(session.control(Action.CANCEL, [job for job in jobs if job._session is session]))
            kinds = {jobyard.WrongState: "already_finished", jobyard.UnknownJob: "not_found", jobyard.NotPermitted: "denied"}
            for error in (answers[job] for job in jobs):
                word = next((word for kind, word in kinds.items() if isinstance(error, kind)), None)
                if error is not None and word is None:
                    raise error
                found.append(word or "cancelled")
        return found

    def get_results(
        self,
        app: Any = None,
        download_dir: Any = None,
        overwrite: bool = False,
        changed_only: bool | str = True,
        *,
        job: Any = None,
    ) -> Fetched:
        """Fetch the outputs into ``download_dir``, which is made where it is missing.

        A file that is here already stays as it is, unless ``overwrite``; then ``changed_only`` leaves those that have the size of
        the source and are not older, ``"checksum"`` those that have its content. What the job did not make is told in the
        result (``missing``), and logged. Each file arrives whole or not at all; fetching again goes on where it broke off.

        UnrecoverableDataStagingError: one of the application's ``required_outputs`` is missing; all others were fetched.
        TransportError: the host, or the disk here.
        """
        from .. import log
        from ._files import fetch

        app = job if app is None else app
        if app is None or download_dir is None:
            raise exceptions.InvalidArgument("get_results needs a task, and the folder where its output is to go")
        for name, url in app.outputs.items():
            if url.scheme != "file":
                raise exceptions.UnrecoverableDataStagingError(f"the output {name!r} cannot go to {url}: only files can be written")
        with self._translated(f"fetching the output of {app.jobname!r}"):
            sandbox = self._sandbox(app.execution)
            done = fetch(
                self.transport.inner,
                sandbox,
                app.outputs,
                os.path.abspath(os.fsdecode(download_dir)),
                mapped=self._mapped(app.execution),
                overwrite=overwrite,
                changed_only=changed_only,
                exclude=app.get("outputs_exclude", ()),
            )
        if done.missing or done.refused:
            log.warning("output of %s on %s: missing %s, refused %s", app.jobname, self.name, done.missing, done.refused)
        lacking = [name for name in done.missing if name in app.get("required_outputs", ())]
        if lacking:
            raise exceptions.UnrecoverableDataStagingError(
                f"the job did not make {', '.join(map(repr, lacking))}, which is required"
            )
        return done

    def peek(self, app: Any, remote_filename: str, local_file: Any, offset: int = 0, size: int | None = None) -> None:
        """Write ``size`` bytes (None: all to its end) of a file of the job's sandbox, from byte ``offset`` (from its end where
        negative), to ``local_file``: a path, which is overwritten, or a file-like object of bytes or text. The stream is left
        just behind what was written; what lies beyond the file's ends is left out.

        InvalidValue: the name leads out of the sandbox, or a number makes no sense. TransportError: the file is not there, or the
        host cannot be reached.
        """
        from ._files import checked_name, peek

        if isinstance(offset, bool) or not isinstance(offset, int):
            raise exceptions.InvalidValue(f"offset is a whole number of bytes, not {offset!r}")
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
            raise exceptions.InvalidValue(f"size is a whole number of bytes, 0 or more, or None; not {size!r}")
        name = checked_name(remote_filename)
        with self._translated(f"looking into {name!r} of {app.jobname!r}"):
            sandbox = self._sandbox(app.execution)
            names = dict.fromkeys((name, self._mapped(app.execution)(name)))
            peek(self.transport.inner, sandbox, names, local_file, offset, size)

    def free(self, app: Any, force: bool = False) -> None:
        """Remove the sandbox and the job's records. Twice is harmless; so is a task that was never submitted.

        ``force``: a job that has not ended is cancelled first, and its end awaited for a minute. InvalidOperation: it has not
        ended; or the task's record names another folder than its job's. TransportError: the folder cannot be removed; it is
        removed by the next try.
        """
        import jobyard

        record: Run = app.execution
        if "jobyard_token" not in record:
            return
        with self._translated(f"removing what {app.jobname!r} left on {self.name}"):
            try:
                job = self._linked().job(record)
                sandbox = self._sandbox(record)
            except jobyard.UnknownJob:
                return  # it was freed
            if not job.state.final and force:
                job.cancel()
                try:
                    job.wait(60)
                except TimeoutError as error:
                    raise exceptions.InvalidOperation(f"job {record.lrms_jobid} was cancelled, and has not ended yet") from error
            if not job.state.final:
                raise exceptions.InvalidOperation(
                    f"job {record.lrms_jobid} is {job.state}; its files are removed once it has ended, or by free(app, force=True)"
                )
            try:
                self.transport.inner.remove(sandbox, tree=True)
            except FileNotFoundError:
                pass  # an earlier try got so far
            job.remove()

    def close(self) -> None:
        """Let go of the connection. Jobs go on; the next call connects again. Closing twice is nothing."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()
        self.transport.close()

    def validate_data(self, data_file_list: Iterable[Any]) -> bool:
        """Whether all these URLs are of files, which is what batch systems can bring to a job. Those that are not are logged."""
        from .. import log

        wrong = [str(url) for url in map(Url, data_file_list) if url.scheme != "file"]
        if wrong:
            log.warning("%s brings files only, not %s", self.name, ", ".join(wrong))
        return not wrong

    def get_resource_status(self) -> BatchSystem:
        """Count this resource's own jobs: ``user_queued`` and ``user_run``. Free slots are not known (-1)."""
        with self._translated(f"counting the jobs of {self.name}"):
            states = [job.state for job in self._linked().session.jobs(unfinished=True)]
        self.user_queued = self.queued = sum(state.waiting for state in states)
        self.user_run = len(states) - self.user_queued
        self.updated = True
        return self

    # Behind it ----------------------------------------------------------------------------------------------------------

    def _transport(self, transport: Any) -> Transport:
        from .transport import LocalTransport, SshTransport, Transport

        if isinstance(transport, Transport):
            return transport
        if transport == "local":
            return LocalTransport()
        if transport == "ssh":
            return SshTransport(
                self.frontend,
                keyfile=self.keyfile,
                ssh_config=self.ssh_config,
                timeout=self.ssh_timeout,
                ignore_ssh_host_keys=self.ignore_ssh_host_keys,
                login=self._login,
            )
        raise exceptions.TransportError(f"transport is 'local' or 'ssh', not {transport!r}", transient=False)

    def _described(self, app: Any) -> jobyard.JobDescription:
        """The job of an application, in the engine's words."""
        from ._submitting import described

        return described(self, app)

    def _linked(self) -> Link:
        with self._lock:
            if self._link is None:
                self._link = self._open_link()
            return self._link

    def _open_link(self) -> Link:
        """The session with the engine, over this class's hooks."""
        from jobyard.fronts import Contact

        from ._link import Link, contact_name
        from ._scheduler import HookScheduler

        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        login, spool = self.transport.login, self._spool()
        name = contact_name(self.name, kind, repr(login), spool or "")
        contact = Contact(scheduler=name, host=login.host, user=login.user, port=login.port)
        return Link(name, contact, lambda: HookScheduler(self, self.transport.another()), spool)

    def _spool(self) -> str | None:
        """Where sandboxes lie; None: where the engine has all jobs' folders."""
        spool = self.get("spooldir")
        if spool is None:
            return None
        environment = self.transport.inner.environment()
        path = re.sub(r"^~(?=/|$)", "$HOME", os.fsdecode(spool))
        path = re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: environment.get(match[1] or match[2], match[0]), path)
        if not os.path.isabs(path) or "$" in path:
            raise exceptions.SpoolDirError(f"spooldir {spool!r} is no absolute path there: {path!r}")
        return os.path.normpath(path)

    def _record(self, native_id: str) -> Run:
        """What hooks get as ``job``."""
        with self._lock:
            found = self._records.get(native_id)
        return found if found is not None else Run(lrms_jobid=native_id, lrms_jobname=native_id, resource_name=self.name)

    def _sandbox(self, record: Run) -> str:
        """The job's own sandbox, whatever the record says; InvalidOperation where that is something else."""
        from jobyard import fronts

        sandbox = f"{fronts.job_folder(self._linked().job(record))}/work"
        said = record.get("ssh_remote_folder", sandbox)
        if said != sandbox:
            raise exceptions.InvalidOperation(
                f"the record of job {record.get('lrms_jobid')} names the folder {said!r}; its own is {sandbox!r}"
            )
        return sandbox

    def _mapped(self, record: Run) -> Callable[[str], str]:
        return lambda name: generic_filename_mapping(str(record.get("lrms_jobname")), str(record.get("lrms_jobid")), name)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        import jobyard

        from ._words import translated

        try:
            yield
        except exceptions.Error:
            raise
        except (jobyard.JobyardError, OSError) as error:
            raise translated(error, doing) from error

    def _warn_of_near_misses(self, extra_args: Mapping[str, Any]) -> None:
        known = [
            "spooldir",
            "interpreter",
            "queue",
            "account",
            *_SCRIPTS,
            *(f"{one}_content" for one in _SCRIPTS),
            *self._commands,
            *_NAMES,
        ]
        for name in extra_args:
            if name in known or re.search(r".+_(?:prologue|epilogue)(?:_content)?$", name):
                continue
            near = difflib.get_close_matches(name, known, 1, 0.8)
            if near:
                warnings.warn(f"{type(self).__name__} has no {name!r}; did you mean {near[0]!r}?", stacklevel=4)


_NAMES = (
    "accounting_delay", "ssh_config", "keyfile", "ignore_ssh_host_keys", "ssh_timeout", "large_file_threshold",
    "large_file_chunk_size",
)  # fmt: skip


def _seconds(what: str, value: Any) -> float:
    amount = value.amount("s", float) if hasattr(value, "amount") else value
    try:
        found = float(amount)
    except (TypeError, ValueError) as error:
        raise exceptions.InvalidValue(f"{what} is a number of seconds, not {value!r}") from error
    if not 0 <= found < 10**9:
        raise exceptions.InvalidValue(f"{what} is 0 or more seconds, not {value!r}")
    return found


_WORDS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


def _flag(what: str, value: Any) -> bool:
    """Configuration files say yes and no; what is neither is refused: it decides about safety."""
    if isinstance(value, bool):
        return value
    found = _WORDS.get(str(value).strip().lower())
    if found is None:
        raise exceptions.InvalidValue(f"{what} is yes or no, not {value!r}")
    return found
