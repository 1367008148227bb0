"""What fronts need beyond the public names of ``jobyard``: values that their own vocabularies are translated to.

A front imports ``jobyard`` and this module, and nothing beneath them.
"""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any

import msgspec

from .config import state_dir, work_root
from .contact import Contact, register_options
from .description import describe
from .job import (
    After,
    By,
    Inherit,
    Observation,
    Placeholder,
    Source,
    StageIn,
    StageMode,
    StageOut,
    StageWhen,
    Transition,
    signal_name,
)
from .schedulers import find_known, is_here, open_scheduler, scheduler_names
from .schedulers import found as schedulers_found
from .schedulers.base import (
    Accepted,
    Action,
    Answer,
    Command,
    Kind,
    Result,
    Row,
    SiteLimits,
    Submission,
    Traits,
)
from .session import Watch, _close_all
from .transports.base import Copy, FileKind, FileStat, PathError, Transport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .gc3conf import Gc3Config
    from .handles import Job
    from .job import Ending, JobDescription
    from .session import Session

__all__ = [
    "Accepted",
    "Action",
    "After",
    "Answer",
    "By",
    "Command",
    "Contact",
    "Copy",
    "FileKind",
    "FileStat",
    "Inherit",
    "Kind",
    "Observation",
    "Placeholder",
    "Result",
    "Row",
    "SiteLimits",
    "Source",
    "StageIn",
    "StageMode",
    "StageOut",
    "StageWhen",
    "Submission",
    "Traits",
    "Transition",
    "Transport",
    "Watch",
    "close_all_sessions",
    "closed_at_exit_by_front",
    "describe",
    "find_known",
    "finish_cancelled",
    "follower",
    "forget_ending",
    "gc3_configuration",
    "intended",
    "is_here",
    "job_folder",
    "lies_there",
    "local_transport",
    "met",
    "open_scheduler",
    "recorded_endings",
    "register_options",
    "scheduler_names",
    "schedulers_found",
    "set_follower",
    "signal_name",
    "ssh_transport",
    "state_dir",
    "submit_in_own_folder",
    "take_none",
    "work_root",
]


def local_transport(*, path: str | None = None) -> Transport:
    """The transport to this machine, for schedulers that a front makes itself. ``path``: folders put before PATH for commands."""
    import os

    from .transports.local import LocalTransport  # here: most programs never need it

    return LocalTransport(environment=None if path is None else {"PATH": f"{path}:{os.environ.get('PATH', os.defpath)}"})


def ssh_transport(
    host: str,
    *,
    user: str | None = None,
    port: int | None = None,
    config: str | None = None,
    keyfile: str | None = None,
    connect_s: float | None = None,
    ignore_host_keys: bool = False,
    path: str | None = None,
) -> Transport:
    """The transport to a login host, for schedulers that a front makes itself; nothing is connected before it is needed.

    ``config``: a configuration file in place of the user's and the system's. ``keyfile``: the key to log in with, and no other.
    ``path``: folders put before PATH for commands.
    """
    from .schedulers.remote import key_options  # here: most programs never need it
    from .transports.openssh import OpenSSHTransport, Settings

    options = key_options(keyfile)
    settings = Settings(host=host, user=user, port=port, config=config, options=options, ignore_host_keys=ignore_host_keys)
    if connect_s is not None:
        settings = msgspec.structs.replace(settings, connect_s=connect_s)
    return OpenSSHTransport(settings, path=path)


def submit_in_own_folder(session: Session, description: JobDescription) -> Job:
    """Session.submit of a job that runs in ``work`` of its own folder, on this machine, too, where ``None`` as the directory means
    the present one. The folder stays until the job is removed."""
    keeper = session._keeper_now()
    return session._board.placed(keeper.submit([session._completed(description, own_folder=True)]))[0]


def intended(session: Session) -> list[JobDescription]:
    """What a session is submitting, or was when a process died: it is not known yet whether these arrived, and the tracker settles
    them (``Session.watch`` starts it)."""
    from .journal_keeper import JournalKeeper

    keeper = session._keeper_now()
    return list(keeper.intended()) if isinstance(keeper, JournalKeeper) else []


def job_folder(job: Job) -> str:
    """A job's own folder, as its scheduler's host sees it. UnknownJob: it is no longer kept, or has none."""
    from .errors import UnknownJob
    from .journal_keeper import JournalKeeper

    keeper = job._session._keeper_now()
    if not isinstance(keeper, JournalKeeper):
        raise UnknownJob("jobs of the embedded scheduler have no folder of their own")
    return keeper.folder(job._key)


def lies_there(session: Session, path: str) -> FileStat | None:
    """What lies under a path of the scheduler's login host, links followed, ``Placeholder.HOME`` in it being the user's home there;
    None where nothing does, or where it cannot be looked at. One message over the connection; TransportError."""
    from .journal_keeper import JournalKeeper

    keeper = session._keeper_now()
    transport: Transport | None = getattr(session.scheduler, "transport", None)
    if not isinstance(keeper, JournalKeeper) or transport is None:
        raise ValueError(f"{session.contact} names no host that is reached by commands")
    if Placeholder.HOME in path:
        path = path.replace(Placeholder.HOME, keeper.home())
    try:
        return transport.stat(path)
    except PathError:
        return None


def gc3_configuration(paths: Sequence[Path] | None = None) -> Gc3Config:
    """What ``gc3pie.conf`` says (None: the usual files). ConfigurationError."""
    from .gc3conf import read

    return read(paths)


def recorded_endings(login: str, native_ids: Sequence[str]) -> dict[str, Ending]:
    """How jobs with these native ids ended, as this user's journal has it from any session of that login (the contact
    without session and options): for schedulers whose own accounting does not say. JournalError."""
    from .journal import Journal

    journal = Journal(state_dir() / "journal.db")
    try:
        return journal.endings(login, native_ids)
    finally:
        journal.close()


def follower(job: Job) -> Any:
    """What ``set_follower`` put there; None where nothing is."""
    return job._follower


def set_follower(job: Job, follower: object) -> None:
    """Keep something with a session's job, for as long as the session keeps the job: at 10^5 jobs a table costs more."""
    job._follower = follower


def met(session: Session) -> list[Job]:
    """The jobs of a session that this process has met, in that order; nobody is asked."""
    return session._board.met()


def closed_at_exit_by_front() -> None:
    """The front, which a program imports before the engine is loaded, calls ``close_all_sessions`` at the end of the program:
    then what the program registered meanwhile for its end still finds its sessions open."""
    atexit.unregister(_close_all)


def close_all_sessions() -> None:
    """Close what is left open, at the end of the program."""
    _close_all()


def take_none(session: Session) -> None:
    """Nobody will call ``take`` of this session here: nothing is kept for it."""
    session._board.gives = False


def forget_ending(job: Job) -> None:
    """Keep a finished job's ending no longer in this process, where it takes more than all else of the job together:
    ``job.ending`` asks for it again."""
    job._ending = None


def finish_cancelled(job: Job) -> tuple[bool, str | None]:
    """Bring out and clean up what a job that was killed at once could not bring out itself: whether there was anything to do, and
    what went wrong. On a login host the helper there does it; else the job's directory must be visible on this machine."""
    import os

    from .errors import JobyardError
    from .host_folders import HostFolders
    from .staging import StagingError, clean_up, stage_out

    description = job.description
    asked = [one for one in description.stage_out if one.when & StageWhen.ON_CANCEL]
    cleanup = description.cleanup if description.cleanup_when & StageWhen.ON_CANCEL else ()
    if not asked and not cleanup:
        return False, None
    items: list[dict[str, Any]] = [
        {"source": one.source, "target": one.target, "mode": str(one.mode), "when": int(one.when)} for one in asked
    ]
    when = int(description.cleanup_when)
    folders = getattr(job._session._keeper_now(), "_work", None)
    try:
        if isinstance(folders, HostFolders):
            directory = description.directory if description.directory is not None else f"{job_folder(job)}/work"
            return True, folders.finish_cancelled(directory, items, cleanup, when)
        here = os.fsencode(description.directory or os.sep)
        if not os.path.isdir(here):
            return True, f"the job's directory {description.directory} is not visible here"
        named = [{**item, "source": os.fsencode(item["source"]), "target": os.fsencode(item["target"])} for item in items]
        stage_out(named, here, "cancel")
        clean_up([os.fsencode(one) for one in cleanup], here, "cancel", when)
    except (StagingError, JobyardError) as error:
        return True, str(error)
    return True, None
