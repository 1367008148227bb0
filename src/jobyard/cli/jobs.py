"""The command's session at each scheduler, and jobs found in it by what people call them.

A command ends before its jobs do, so all commands of a user share one session for each scheduler (and machine, where the
scheduler is a machine's own). Its id is kept under ``command/`` in the state folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidContact, UnknownJob

if TYPE_CHECKING:
    from ..contact import Contact
    from ..keeper import Entry
    from ..session import Job, Session

__all__ = ["find", "listing", "open_session", "record", "records", "refresh", "shown_state"]

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
    from ..contact import known_options

    usual = known_options("")
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


def find(session: Session, references: Sequence[str]) -> list[Job]:
    """The jobs of these ids, in order, each once; an array's id stands for all its tasks.

    A reference is a native id, or the beginning of a token. UnknownJob: no such job, or several.
    """
    keeper = session._keeper_now()
    keys: dict[int, None] = {}
    for reference in references:
        found: Sequence[int] = keeper.find(reference)
        if not found and len(reference) >= _LEAST_PREFIX and re.fullmatch(r"[0-9a-f]+", reference):
            found = _by_prefix(keeper.entries(), reference)
        if not found:
            found = [_attached(session, reference)]
        keys.update(dict.fromkeys(found))
    return session._by_keys(list(keys))


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


def _attached(session: Session, reference: str) -> int:
    try:
        return session.attach(reference)._key
    except UnknownJob:
        raise UnknownJob(f"there is no job {reference!r} at {session.scheduler.name}; see 'jobyard ls'") from None


def listing(contact: str | None, *, newest: int | None) -> Sequence[Entry]:
    """Records of the command's jobs, oldest first; ``newest``: only so many of the last ones."""
    with open_session(contact) as session:
        entries = session._keeper_now().entries(newest=newest)
        return session._keeper_now().entries(newest=newest) if refresh(session, entries) else entries


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
