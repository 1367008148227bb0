"""LocalScheduler: the embedded scheduler as the engine sees it. Nothing starts before the first use."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InvalidJob, NoScheduler, UnsupportedAttribute
from ...job import JobDescription
from ..base import Action, Capabilities, Kind, Row, SiteLimits

if TYPE_CHECKING:
    from ...keeper import Sink
    from .client import LocalKeeper
    from .connection import Connection

__all__ = ["LocalScheduler", "stop"]

_HONOURED = (
    "argv name directory environment inherit stdin stdout stderr join_streams append_streams resources limits priority begin_at "
    "deadline_at hold after rerunnable immediate launcher launcher_options pre_launch post_launch stage_in stage_out cleanup "
    "cleanup_when tags attributes nodes processes processes_per_node cores gpus memory_bytes exclusive walltime_s soft_walltime_s "
    "run_time_s soft_run_time_s cpu_time_s core_bytes file_bytes open_files stack_bytes"
)
_ATTRIBUTES = frozenset(_HONOURED.split())
_NOTES = {
    "queue": "the local scheduler has no queues; use priority",
    "account": "nobody is charged for this machine",
    "reservation": "the local scheduler has no reservations",
    "native": "it has no options of its own for a job",
    "category": "a category stands for native options, which it does not have",
    "email": "it sends no mail; watch the session, or wait",
    "email_on": "it sends no mail; watch the session, or wait",
    "nodes": "it is one machine",
}
_DEFAULTS = {"queue": None, "account": None, "reservation": None, "native": (), "category": None, "email": (), "email_on": ()}


_asked = operator.attrgetter(*_DEFAULTS)
_NOTHING_ASKED = tuple(_DEFAULTS.values())


class LocalScheduler:
    """The scheduler for this machine, one for each user and state directory. Linux only: NoScheduler elsewhere."""

    name = "local"
    capabilities = Capabilities(
        attributes=_ATTRIBUTES,
        actions=frozenset(Action),
        arrays=True,
        max_running=True,
        per_task_control=True,
        dependencies=frozenset(("success", "failure", "any")),
        accounting=True,
        push=True,
        notes=_NOTES,
    )

    def __init__(self, state_dir: Path, options: Mapping[str, str]) -> None:
        if not sys.platform.startswith("linux"):
            raise NoScheduler("the local scheduler needs Linux; on this system use a contact with +ssh, such as slurm+ssh://HOST")
        from .machine import Settings

        self._state_dir = Path(state_dir)
        self._options = dict(options)
        Settings(options)
        self._own: Connection | None = None

    def _connection(self) -> Connection:
        from .connection import Connection
        from .paths import StateFolder, state_folder

        def folder() -> StateFolder:
            return state_folder(self._state_dir, create=True)

        return Connection(folder, self._options)

    def open_keeper(self, session_id: str | None, sink: Sink) -> LocalKeeper:
        """The keeper of that session, or of a new one. InvalidContact: there is no such session on this machine."""
        from .client import LocalKeeper

        connection = self._connection()
        try:
            return LocalKeeper(connection, session_id, sink, self.check)
        except BaseException:
            connection.close()
            raise

    def check(
        self, description: JobDescription, *, kind: Kind = Kind.SINGLE, tasks: int = 1, max_running: int | None = None
    ) -> None:
        """Raise UnsupportedAttribute or InvalidJob for what cannot be honoured. Whether the machine is large enough the
        server says at submission."""
        if _asked(description) != _NOTHING_ASKED:
            for name, default in _DEFAULTS.items():
                if getattr(description, name) != default:
                    raise _unsupported(name)
        if description.resources.total_nodes != 1:
            raise _unsupported("nodes")
        if description.launcher not in self.capabilities.launchers:
            known = ", ".join(sorted(self.capabilities.launchers))
            raise InvalidJob(f"there is no launcher {description.launcher!r}; there are: {known}", field="launcher")
        for key in description.attributes or ():
            if key.startswith("local."):
                raise UnsupportedAttribute(f"the local scheduler has no attribute {key!r}", field="attributes", scheduler="local")
        if tasks < 1:
            raise InvalidJob("an array has at least one index", field="indices")

    # The rest of the protocol ---------------------------------------------------------------------------------------------

    def _ask(self, operation: str, *arguments: Any) -> Any:
        if self._own is None:
            self._own = self._connection()
        return self._own.request(operation, *arguments)

    def listed(self) -> Sequence[Row]:
        """All jobs of this user that have not ended."""
        from . import specs
        from .protocol import BYS, STATES

        return [
            Row(
                native_id=native_id,
                state=STATES[state],
                by=BYS[by],
                native_state=str(STATES[state]),
                reason=reason,
                token=token,
                name=specs.name_of(blob),
                submitted_at=submitted,
                began_at=began,
            )
            for native_id, state, by, token, blob, submitted, began, reason in self._ask("listed")
        ]

    def limits(self) -> SiteLimits:
        """None known."""
        return SiteLimits()

    def version(self) -> str:
        """``jobyard local`` and the release."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return f"jobyard local {version('jobyard')}"
        except PackageNotFoundError:
            return "jobyard local (not installed)"

    def close(self) -> None:
        """Let go of the connection. Jobs are not touched."""
        if self._own is not None:
            self._own.close()
            self._own = None


def _unsupported(name: str) -> UnsupportedAttribute:
    return UnsupportedAttribute(f"{name} cannot be honoured by the local scheduler: {_NOTES[name]}", field=name, scheduler="local")


def stop(state_dir: Path, *, timeout_s: float = 20.0) -> None:
    """End the embedded scheduler of a state directory, if one runs, and all its jobs. For tests and uninstalling."""
    import fcntl
    import time

    from .connection import Connection
    from .paths import connect, state_folder

    folder = state_folder(Path(state_dir), create=False)
    deadline = time.monotonic() + timeout_s
    while os.path.exists(folder.lock):
        lock = os.open(folder.lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            running = False
        except BlockingIOError:
            running = True
        finally:
            os.close(lock)
        try:
            connect(folder.socket).close()
            answers = True
        except OSError:
            answers = False  # it is on its way, or leaving; or nobody is there
        if not running and not any(name.startswith("ring.") for name in os.listdir(folder.path)):
            return
        if answers or not running:  # a pair that was killed may have left jobs: the next one finds and ends them
            connection = Connection(lambda: folder, {})
            try:
                connection.request("stop")
            finally:
                connection.close()
        if time.monotonic() > deadline:
            return
        time.sleep(0.005)  # a lock cannot be waited for with a time limit
