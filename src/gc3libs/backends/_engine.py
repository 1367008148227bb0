"""``EngineSystem``: backends on the engine's own dialects, for which no hook is needed."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import exceptions
from .batch import BatchSystem

if TYPE_CHECKING:
    import jobyard

    from ._link import Link

__all__ = ["EngineSystem"]

_HOOKS = (
    "_submit_command", "_parse_submit_output", "_stat_command", "_parse_stat_output", "_stat_all_command", "_parse_stat_all_output",
    "_acct_command", "_parse_acct_output", "_secondary_acct_command", "_parse_secondary_acct_output", "_cancel_command",
)  # fmt: skip


class EngineSystem(BatchSystem):
    """A batch system that jobyard knows itself. All its jobs are asked about in one command, and arguments reach programs as they
    are: nothing in them is expanded. A subclass that has commands and parsers of its own derives from BatchSystem instead.

    Keywords beside BatchSystem's: ``queue``, ``account``; the submit command by its name (``sbatch="/opt/bin/sbatch -A x"``):
    its folder goes to the head of PATH, its options to every job. Other commands may name a folder only.
    """

    _scheduler: str  # in contacts

    def __init__(self, *arguments: Any, **extra_args: Any) -> None:
        own = [hook for hook in _HOOKS if self._has_hook(hook)]
        if own:
            raise exceptions.InvalidType(
                f"{type(self).__name__} has {', '.join(own)}, which {type(self).__mro__[1].__name__} never asks; "
                "derive it from gc3libs.backends.batch.BatchSystem"
            )
        super().__init__(*arguments, **extra_args)
        self._native, self._path = self._overrides()

    def _overrides(self) -> tuple[tuple[str, ...], str | None]:
        """Options for every job, and folders for PATH, from the keywords that name commands."""
        native: tuple[str, ...] = ()
        folders: dict[str, None] = {}
        for number, name in enumerate(self._commands):
            words = self._get_command_argv(name)
            if not words or os.path.basename(words[0]) != name or (os.path.dirname(words[0]) and not os.path.isabs(words[0])):
                raise exceptions.InvalidValue(f"{name}={self.get(name)!r}: write the absolute path of a program of that name")
            if os.path.isabs(words[0]):
                folders[os.path.dirname(words[0])] = None
            if number == 0:
                native = tuple(words[1:])
            elif words[1:]:
                raise exceptions.InvalidValue(f"{name}={self.get(name)!r}: options can be given to {self._commands[0]} only")
        return native, ":".join(folders) or None

    def _described(self, app: Any) -> jobyard.JobDescription:
        from jobyard import fronts

        from ._dialect import TAG
        from ._submitting import staged

        out = app.stdout if app.stdout is not None else f"{app.jobname}.o{fronts.Placeholder.NATIVE_ID}"
        err = None if app.join else app.stderr if app.stderr is not None else f"{app.jobname}.e{fronts.Placeholder.NATIVE_ID}"
        files: dict[str, str] = {}
        for name, text in (("prologue.sh", self.get_prologue_script(app)), ("epilogue.sh", self.get_epilogue_script(app))):
            if text:
                files[name] = f"exec >>{_shown(out)} 2>>{_shown(out if err is None else err)}\nset -a\n{text}\nset +a\n"
        described: jobyard.JobDescription = fronts.describe(
            app.arguments,
            name=app.jobname,
            environment=app.environment,
            inherit=fronts.Inherit.NODE,
            stdin=app.stdin,
            stdout=out,
            stderr=err,
            join_streams=app.join,
            append_streams=True,  # what the prologue wrote stays
            cores=app.requested_cores if app.requested_cores > 1 else None,
            memory_bytes=None if app.requested_memory is None else app.requested_memory.rounded_up("B"),
            walltime_s=None if app.requested_walltime is None else app.requested_walltime.amount("s", float),
            queue=self.get("queue"),
            account=self.get("account"),
            native=self._native,
            attributes=self._attributes(app),
            pre_launch="../prologue.sh" if "prologue.sh" in files else None,
            post_launch="../epilogue.sh" if "epilogue.sh" in files else None,
            tags={
                TAG: json.dumps({**staged(app), "files": files}),
                f"{TAG}.id": app.execution.submission_id,
                f"{TAG}.shell": "0",
            },
        )
        return described

    def _attributes(self, app: Any) -> Mapping[str, str]:
        """Options of this scheduler alone."""
        return {}

    def _open_link(self) -> Link:
        from jobyard import fronts

        from ._link import Link, contact_name
        from ._scheduler import StagingScheduler

        login, spool = self.transport.login, self._spool()
        key = contact_name(self.name, self._scheduler, repr(login), spool or "")
        contact = fronts.Contact(scheduler=self._scheduler, host=login.host, user=login.user, port=login.port)

        def opened() -> StagingScheduler:
            scheduler: Any = fronts.open_scheduler(fronts.Contact(scheduler=self._scheduler))
            if login.host is not None or self._path is not None:
                scheduler.reach_over(self.transport.another(self._path))
            if self.interpreter != BatchSystem.interpreter:
                scheduler.options = type(scheduler.options)(interpreter=self.interpreter)
            return StagingScheduler(self, scheduler)

        return Link(key, contact, opened, spool)


def _shown(path: str) -> str:
    """A stream's name for a shell on the node, relative to the job's directory."""
    from jobyard.fronts import Placeholder

    # A name with a placeholder is always quoted: it holds NULs.
    return shlex.quote(path).replace(Placeholder.NATIVE_ID, "'\"$JOBYARD_NATIVE_ID\"'")
