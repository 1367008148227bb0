"""The command's session at each scheduler, and jobs found in it by what people call them.

A command ends before its jobs do, so all commands of a user share one session for each scheduler (and machine, where the
scheduler is a machine's own). Its id is kept under ``command/`` in the state folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidContact, UnknownJob

if TYPE_CHECKING:
    from ..contact import Contact
    from ..keeper import Entry
    from ..session import Job, Session

__all__ = ["found", "listing", "open_session", "record", "records", "refresh", "shown_id", "shown_state"]

_PATIENCE_S = 5.0
_LEAST_PREFIX = 4  # fewer digits of a token would name a job by accident


def open_session(contact: str | None) -> Session:
    """The command's standing session at the scheduler that is meant, made at the first use; or the session that is named."""
    from ..config import resolve
    from ..session import Session

    resolved = resolve(contact)
    if resolved.session is not None:
        return Session(resolved)
    place = _place(resolved)
    for _ in range(2):
        known = _read(place)
        if known is None:
            break
        try:
            return Session(resolved.with_session(known))
        except InvalidContact:
            # The scheduler's records were taken away, and its sessions with them; whoever sees it first starts anew.
            _forget(place, known)
    session = Session(resolved)
    try:
        kept = _keep(place, session.contact)
    except BaseException:
        session.close()
        raise
    if kept is None:
        return session
    session.close()  # another command was quicker, and its session is the one
    return Session(resolved.with_session(kept))


def _place(contact: Contact) -> Path:
    """The file with the session's id: one for each scheduler as it is reached, whatever options come with it."""
    from ..config import state_dir
    from ..contact import SSH_OPTIONS, known_options

    usual = {*known_options(""), *SSH_OPTIONS}  # how a host is reached is no part of which scheduler it is
    own = {} if contact.scheduler == "local" else {key: text for key, text in contact.options.items() if key not in usual}
    for key in ("queue", "account"):
        own.pop(key, None)
    words = [contact.scheduler, contact.host or "", contact.user or "", str(contact.port or ""), *map(repr, sorted(own.items()))]
    if contact.scheduler == "local":
        words.append(os.uname().nodename)  # the state folder may be shared by machines, the scheduler is not
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()
    return state_dir() / "command" / f"{contact.scheduler}-{digest[:16]}"


def _read(place: Path) -> str | None:
    try:
        text = place.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    return text or None


def _keep(place: Path, contact: str) -> str | None:
    """Record the session of that contact as the standing one; the other's id where one is recorded already."""
    from ..contact import Contact

    session = Contact.parse(contact).session
    assert session is not None
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(session + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, place)
        except FileExistsError:
            return _read(place)
    finally:
        draft.unlink()
    return None


def _forget(place: Path, known: str) -> None:
    if _read(place) == known:
        place.unlink(missing_ok=True)


# Finding --------------------------------------------------------------------------------------------------------------


@contextmanager
def found(contact: str | None, references: Sequence[str]) -> Iterator[list[tuple[Session, list[Job]]]]:
    """The jobs of these ids, each once, with the session that each is in: the command's own, or another of this user's.

    A reference is a native id, or the beginning of a token; an array's stands for all its tasks. UnknownJob: no such job, or
    several. A contact that names a session is kept to.
    """
    with ExitStack() as stack:
        own = stack.enter_context(open_session(contact))
        sessions = {own._keeper_now().session_id: own}
        keys: dict[str, dict[int, None]] = {}
        for reference in references:
            name, numbers = own._keeper_now().session_id, _keys(own, reference)
            if not numbers and not _names_session(contact):
                name, session = _elsewhere(own, reference, sessions, stack)
                numbers = _keys(session, reference) if session is not None else []
            if not numbers:
                raise UnknownJob(f"there is no job {reference!r} at {own.scheduler.name}; see 'jobyard ls'")
            keys.setdefault(name, {}).update(dict.fromkeys(numbers))
        yield [(sessions[name], sessions[name]._by_keys(list(numbers))) for name, numbers in keys.items()]


def _names_session(contact: str | None) -> bool:
    from ..config import resolve

    return resolve(contact).session is not None


def _elsewhere(own: Session, reference: str, sessions: dict[str, Session], stack: ExitStack) -> tuple[str, Session | None]:
    """The other session of this user that has the job, opened once; the id is "" where there is none."""
    from ..contact import Contact
    from ..keeper import SeesSessions
    from ..session import Session

    keeper = own._keeper_now()
    name = keeper.session_of(reference) if isinstance(keeper, SeesSessions) else None
    if name is None:
        return "", None
    if name not in sessions:
        sessions[name] = stack.enter_context(Session(Contact.parse(own.contact).with_session(name)))
    return name, sessions[name]


def _keys(session: Session, reference: str) -> Sequence[int]:
    keeper = session._keeper_now()
    numbers = keeper.find(reference)
    if not numbers and len(reference) >= _LEAST_PREFIX and re.fullmatch(r"[0-9a-f]+", reference):
        numbers = _by_prefix(keeper.entries(), reference)
    return numbers


def _by_prefix(entries: Sequence[Entry], prefix: str) -> list[int]:
    """Keys of the one job, or of the tasks of the one array, whose token begins so."""
    jobs = [entry for entry in entries if entry.token.startswith(prefix)]
    arrays = {entry.array for entry in entries if entry.array is not None and entry.array.startswith(prefix)}
    alone = [entry for entry in jobs if entry.array is None]
    if len(alone) + len(arrays) > 1:
        names = [*(entry.native_id or entry.token for entry in alone), *sorted(array for array in arrays if array)]
        raise UnknownJob(f"{prefix!r} is the beginning of {len(names)} tokens: {', '.join(names[:5])}; write more of it")
    if arrays:
        return [entry.key for entry in entries if entry.array in arrays]
    return [entry.key for entry in (alone or jobs)[:1]] if len(alone or jobs) == 1 else []


def listing(contact: str | None, *, newest: int | None) -> Sequence[Entry]:
    """Records of this user's jobs, whichever session submitted them, or of the session that the contact names; oldest first.

    ``newest``: only so many of the last ones.
    """
    from ..contact import Contact
    from ..keeper import SeesSessions
    from ..session import Session

    with ExitStack() as stack:
        own = stack.enter_context(open_session(contact))
        keeper, sessions = own._keeper_now(), [own]
        if isinstance(keeper, SeesSessions) and not _names_session(contact):
            base = Contact.parse(own.contact)
            others = [name for name in keeper.recent_sessions(newest) if name != keeper.session_id]
            sessions += [stack.enter_context(Session(base.with_session(name))) for name in others]
        entries: dict[str, Entry] = {}
        for session in sessions:
            mine = session._keeper_now().entries(newest=newest)
            if refresh(session, mine):
                mine = session._keeper_now().entries(newest=newest)
            # A job that another session only follows is listed as its own session has it.
            entries.update({entry.token: entry for entry in mine if not entry.foreign or entry.token not in entries})
        chosen = sorted(entries.values(), key=lambda entry: (entry.submitted_at, entry.key))
        return chosen if newest is None else chosen[-newest:]


def refresh(session: Session, entries: Iterable[Entry]) -> bool:
    """Have the scheduler's present word on jobs that have not ended; True if it was asked.

    A scheduler that is asked by commands tells nobody while no process of ours runs. One that does not answer in a few
    seconds is not waited for: what is known is shown.
    """
    ask = getattr(session._keeper_now(), "refresh", None)
    if ask is None or all(entry.state.final for entry in entries):
        return False
    ask(_PATIENCE_S)
    return True


def records(session: Session, jobs: Sequence[Job]) -> list[Entry]:
    """The records of these jobs, in their order, as the scheduler has them now."""
    keeper, keys = session._keeper_now(), [job._key for job in jobs]
    entries = keeper.entries(keys)
    if refresh(session, entries):
        entries = keeper.entries(keys)
    by_key = {entry.key: entry for entry in entries}
    return [by_key[key] for key in keys]


# Saying ---------------------------------------------------------------------------------------------------------------


def shown_id(job: Job) -> str:
    """What a job is called in a message: its native id, or its token while the scheduler has told none."""
    try:
        return job.native_id
    except UnknownJob:
        return job.token


def shown_state(entry: Entry) -> str:
    """A state for a table: ``held (user)``, ``failed (exit 3)``, ``failed (SIGKILL, memory)``."""
    details: list[str] = []
    ending = entry.ending
    if ending is not None:
        if ending.exit_code:
            details.append(f"exit {ending.exit_code}")
        elif ending.signal is not None:
            details.append(ending.signal)
        if ending.cause not in ("exited", "cancelled", "unknown"):
            details.append(str(ending.cause))
    elif entry.by is not None:
        details.append(str(entry.by))
    return f"{entry.state} ({', '.join(details)})" if details else str(entry.state)


def record(entry: Entry) -> dict[str, Any]:
    """What ``--json`` says of a job in a list."""
    from ..job import to_data

    return {
        "native_id": entry.native_id,
        "token": entry.token,
        "name": entry.name,
        "state": str(entry.state),
        "by": None if entry.by is None else str(entry.by),
        "reason": entry.reason,
        "array": entry.array,
        "task_index": entry.index,
        "submitted_at": entry.submitted_at,
        "changed_at": entry.at,
        "ending": None if entry.ending is None else to_data(entry.ending),
    }
