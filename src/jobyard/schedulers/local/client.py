"""The keeper of one session's jobs at the embedded scheduler. It remembers no jobs: the server does."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...errors import InvalidContact, JobyardError, SubmitError, UnknownJob
from ...job import Inherit, JobDescription, JobState, Observation, Source, Transition
from ...keeper import Entry, Evidence, Placed, Sink, Update
from ..base import Action
from . import specs
from .connection import Connection
from .jobs import REAPED
from .protocol import BYS, FINAL, HELD, QUEUED, STATES, decode_ending, decode_error, make_token
from .shepherded import Folders, goes_through
from .wire import pack

__all__ = ["LocalKeeper"]

# os.environb's own dict where it is as CPython has it: copying it costs a twentieth of copying the mapping.
_DATA = getattr(os.environ, "_data", None)
_LIVE: Mapping[bytes, bytes] = (
    _DATA if isinstance(_DATA, dict) and all(type(key) is bytes for key in _DATA) else getattr(os, "environb", {})
)
_PART = 1000  # jobs removed by one request
_PLACES = 1 << 24  # places in a row under one random number of this process


class LocalKeeper:
    """``Keeper`` (keeper.py) of the embedded scheduler. ``key`` is the job's number there."""

    def __init__(self, connection: Connection, session_id: str | None, sink: Sink, check: Callable[[JobDescription], None]) -> None:
        self._connection = connection
        self._sink = sink
        self._check = check
        self._lock = threading.Lock()
        self._pid = 0
        self._place = 0
        self._left = 0
        self._environment: dict[bytes, bytes] | None = None
        self._digest = b""
        self._data = b""
        self._known: set[bytes] = set()  # environments that the server has
        self._host = os.uname().nodename
        self._umask = _umask()
        if session_id is not None and (len(session_id) != 16 or any(c not in "0123456789abcdef" for c in session_id)):
            raise InvalidContact(f"{session_id!r} is not the id of a local session: 16 hexadecimal digits")
        self.session_id = session_id or secrets.token_hex(8)
        self._opened = False
        self._folders: Folders | None = None
        if session_id is not None:
            self._open(create=False)

    def _open(self, *, create: bool) -> None:
        with self._lock:
            if self._opened:
                return
            self._connection.request("open", self.session_id, create)
            self._connection.follow(self.session_id, self._arrived)
            self._opened = True

    def establish(self) -> None:
        """See Keeper.establish."""
        self._open(create=True)

    def _ask(self, operation: str, *arguments: Any) -> Any:
        if not self._opened:
            self._open(create=True)
        return self._connection.request(operation, *arguments)

    def _arrived(self, entries: Sequence[Any]) -> None:
        """News: [number, state, at, by, ending, reason] each."""
        host = self._host
        self._sink(
            [
                Update(
                    number,
                    STATES[state],
                    at,
                    BYS[by],
                    None if ending is None else decode_ending(ending, host),
                    None if reason is None else os.fsdecode(reason),
                )
                for number, state, at, by, ending, reason in entries
            ]
        )

    # Submission ---------------------------------------------------------------------------------------------------------

    def submit(self, descriptions: Sequence[JobDescription]) -> Sequence[Placed]:
        """See Keeper.submit. All of a call are accepted, or none."""
        count = len(descriptions)
        if not count:
            return []
        place, session = self._take(count), self.session_id
        items: list[Any] = []
        folders: list[str] = []
        last: JobDescription | None = None
        item: bytes | list[bytes | None] = b""
        inherits = False
        try:
            for at, job in enumerate(descriptions):
                if job is not last or type(item) is not bytes:
                    item = self._item(job, make_token(session, place + at), None, folders)
                    inherits = inherits or job.inherit is None or job.inherit is Inherit.CLIENT
                    last = job
                items.append(item)
            first = self._send(place, items, inherits, None)
        except BaseException:
            self._discard(folders)
            raise
        return [Placed(first + n, make_token(session, place + n), str(first + n)) for n in range(count)]

    def submit_array(
        self, description: JobDescription, indices: Sequence[int], max_running: int | None
    ) -> tuple[str, str, Sequence[Placed]]:
        """See Keeper.submit_array."""
        place, session = self._take(len(indices) + 1), self.session_id
        inherits = description.inherit is None or description.inherit is Inherit.CLIENT
        folders: list[str] = []
        try:
            item = self._item(description, make_token(session, place), tuple(indices), folders)
            first = self._send(place, [item], inherits, [list(indices), max_running])
        except BaseException:
            self._discard(folders)
            raise
        placed = [Placed(first + 1 + n, make_token(session, place + 1 + n), f"{first}_{index}") for n, index in enumerate(indices)]
        return make_token(session, place), str(first), placed

    def _item(
        self, job: JobDescription, token: str, indices: tuple[int, ...] | None, folders: list[str]
    ) -> bytes | list[bytes | None]:
        self._check(job)
        if not goes_through(job):
            return specs.encode(job, self._umask)
        if self._folders is None:
            self._folders = Folders(self._connection.folder())
        try:
            launch = self._folders.prepare(job, token, indices)
        except OSError as error:
            raise SubmitError(f"the job's folder could not be written: {error}") from error
        folders.append(token)
        return specs.encode(job, self._umask, launch)

    def _discard(self, folders: list[str]) -> None:
        if self._folders is not None:
            for token in folders:
                self._folders.discard(token)

    def _take(self, count: int) -> int:
        """Places in the session that nobody else has."""
        with self._lock:
            if self._pid != os.getpid() or self._left < count:
                self._pid = os.getpid()
                self._place = secrets.randbits(39) << 24
                self._left = max(_PLACES, count)
            place = self._place
            self._place += count
            self._left -= count
            return place

    def _send(self, place: int, items: list[Any], inherits: bool, array: list[Any] | None) -> int:
        if not self._opened:
            self._open(create=True)
        digest, data = self._inherited() if inherits else (None, None)
        known = digest is None or digest in self._known
        number = self._connection.request("submit", self.session_id, place, digest, None if known else data, items, array)
        if number == -1:  # another server than the one that knew it
            number = self._connection.request("submit", self.session_id, place, digest, data, items, array)
        if digest is not None:
            self._known.add(digest)
        return int(number)

    def _inherited(self) -> tuple[bytes, bytes]:
        """This process's environment, and its name by content."""
        now = dict(_LIVE)
        if now != self._environment:
            data = pack(now)
            self._digest, self._data, self._environment = hashlib.blake2b(data, digest_size=16).digest(), data, now
        return self._digest, self._data

    # Waiting ------------------------------------------------------------------------------------------------------------

    def wait_until(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """See Keeper.wait_until."""
        return self._connection.wait_until(done, timeout_s)

    def silence(self) -> None:
        """See Keeper.silence: a server that is away is started anew, and a wait raises where that cannot be done."""

    def poll(self) -> None:
        """See Keeper.poll."""
        self._connection.poll()

    def background(self) -> None:
        """See Keeper.background."""
        if not self._opened:
            self._open(create=True)
        self._connection.background()

    # Looking ------------------------------------------------------------------------------------------------------------

    def keys(self) -> Sequence[int]:
        """See Keeper.keys."""
        return [key for key, _ in self.states()]

    def states(self) -> Sequence[tuple[int, JobState]]:
        """See Keeper.states."""
        found: list[tuple[int, JobState]] = []
        for first, states in self._ask("states", self.session_id):
            if 255 in states:
                found.extend((first + at, STATES[code]) for at, code in enumerate(states) if code != 255)
            else:
                found.extend(zip(range(first, first + len(states)), map(STATES.__getitem__, states), strict=True))
        return found

    def entries(self, keys: Sequence[int] | None = None, *, newest: int | None = None) -> Sequence[Entry]:
        """See Keeper.entries."""
        rows = self._ask("entries", self.session_id, None if keys is None else list(keys), newest)
        return [self._entry(row) for row in rows]

    def _entry(self, row: list[Any]) -> Entry:
        number, native_id, token, state, at, by, submitted, blob, array, index, ending, flags, foreign, reason = row
        return Entry(
            key=number,
            token=token,
            native_id=native_id,
            state=STATES[state],
            at=at,
            submitted_at=submitted,
            name=specs.name_of(blob),
            by=BYS[by],
            array=array,
            array_id=native_id.rpartition("_")[0] if array is not None else None,
            index=index,
            ending=None if ending is None else decode_ending(ending, self._host),
            reaped=bool(flags & REAPED),
            foreign=foreign,
            reason=reason,
        )

    def find(self, name: str) -> Sequence[int]:
        """See Keeper.find."""
        found: list[int] = self._ask("find", self.session_id, name)
        return found

    def _row(self, key: int) -> list[Any]:
        rows = self._ask("entries", self.session_id, [key], None)
        if not rows:
            raise UnknownJob(f"job {key} is no longer kept by the local scheduler")
        row: list[Any] = rows[0]
        return row

    def description(self, key: int) -> JobDescription:
        """See Keeper.description."""
        row = self._row(key)
        if row[12]:
            raise UnknownJob(f"job {row[1]} was not submitted by this session; its description is not shown")
        return specs.decode(row[7])

    def history(self, key: int) -> Sequence[Transition]:
        """See Keeper.history."""
        return [
            Transition(
                state=STATES[state],
                at=at,
                by=BYS[by],
                ending=None if ending is None else decode_ending(ending, self._host),
                reason=os.fsdecode(text) or None,
            )
            for state, at, by, text, ending in self._ask("history", key)
        ]

    def why(self, key: int) -> Sequence[Evidence]:
        """See Keeper.why."""
        row = self._row(key)
        found = []
        for transition in self.history(key):
            text = f"the local scheduler: {transition.state}"
            if transition.by is not None:
                text += f" by {transition.by}"
            if transition.reason:
                text += f", {transition.reason}"
            if transition.ending is not None:
                text += f", {transition.ending}"
            observation = Observation(
                source=Source.SERVER,
                at=transition.at,
                what="row",
                state=transition.state,
                by=transition.by,
                native_id=row[1],
                reason=transition.reason,
                ended=transition.state.final,
                ending=transition.ending,
            )
            found.append(Evidence(at=transition.at, text=text, observation=observation, transition=transition))
        if row[13] and row[3] < FINAL:
            found.append(Evidence(at=found[-1].at if found else row[6], text=f"now: {row[13]}"))
        return found

    def streams(self, key: int) -> tuple[str | None, str | None]:
        """See Keeper.streams."""
        row = self._row(key)
        job = specs.decode(row[7])
        kept: list[str | None] = [None, None]
        folder = specs.folder_of(row[7])
        if folder is not None:
            suffix = "" if row[9] is None else f".{row[9]}"
            if row[3] != QUEUED and row[3] != HELD:
                kept = [f"{folder}/stdout{suffix}", f"{folder}/stderr{suffix}"]
        elif job.stdout is None or (job.stderr is None and not job.join_streams):
            kept = [None if path is None else os.fsdecode(path) for path in self._ask("streams", key)]
        return specs.shown_streams(job, kept, row[1], row[9])

    # Doing --------------------------------------------------------------------------------------------------------------

    def control(self, action: Action, keys: Sequence[int], *, signal: int | None = None) -> Mapping[int, JobyardError | None]:
        """See Keeper.control."""
        answers = self._ask("control", str(action), list(keys), signal, secrets.token_bytes(12))
        return {key: None if answer is None else decode_error(answer) for key, answer in zip(keys, answers, strict=True)}

    def attach(self, native_id: str) -> int:
        """See Keeper.attach."""
        number: int = self._ask("attach", self.session_id, native_id)
        return number

    def recent_sessions(self, newest: int | None) -> Sequence[str]:
        """See SeesSessions."""
        found: list[str] = self._connection.request("recent", newest)
        return found

    def session_of(self, name: str) -> str | None:
        """See SeesSessions."""
        found: str | None = self._connection.request("owner", name)
        return found

    def native_ids(self) -> Sequence[str]:
        """See Keeper.native_ids."""
        return [row[0] for row in self._ask("listed")]

    def reap(self, keys: Iterable[int]) -> Sequence[int]:
        """See Keeper.reap."""
        found: list[int] = self._ask("reap", list(keys), secrets.token_bytes(12))
        return found

    def remove(self, keys: Iterable[int]) -> None:
        """See Keeper.remove. WrongState where one has not ended; then none is removed."""
        numbers = list(keys)
        if len(numbers) > _PART:
            self._ask("removable", numbers)
        for at in range(0, len(numbers), _PART):  # others have their turn in between
            self._ask("remove", numbers[at : at + _PART])

    def close(self) -> None:
        """See Keeper.close."""
        self._connection.close()
        if self._folders is not None:
            self._folders.close()


def _umask() -> int:
    """This process's umask, read without changing it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
