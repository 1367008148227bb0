"""What clients ask of the server, one method for each operation (protocol.py). Nothing here waits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...errors import ControlError, InvalidContact, InvalidJob, JobyardError, SubmitError, UnknownJob, WrongState
from . import sessions
from .answers import Answers
from .controls import Control
from .jobs import PLAIN, REAPED, Batch, Job, Traits
from .protocol import DONE, QUEUED, RUNNING, STAGING_IN, as_sent, decode_state, encode_error, make_token, split_token
from .recover import load_batch
from .removal import Removal
from .streams import make_private
from .wire import VERSION, unpack

if TYPE_CHECKING:
    from .clients import Client
    from .server import Server

__all__ = ["Requests"]

EMPTY = 0o600


class Requests:
    """Answers requests. What must be durable before the answer goes through the server's next commit."""

    LATER = object()  # the answer comes by itself

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sessions: dict[str, int] = {}
        self._next_session = self._next("sessions")
        self._next_batch = self._next("batches")
        self._next_environment = self._next("environments")
        self._environments: dict[bytes, int] = {}
        self._fresh: dict[tuple[int, int], Batch] = {}  # of the present round
        self._traits: dict[bytes, Traits] = {}
        self.accepted: dict[tuple[int, int], tuple[int, int]] = {}  # (connection, request) -> (session, place)
        self._removal = Removal(server, self._trait)
        self._reaped_now: set[int] = set()
        self._asking: dict[bytes, list[tuple[Client, int]]] = {}  # by nonce: who waits for what is being done
        self._answers = Answers(server.store, server.writes)

    def _next(self, table: str) -> int:
        (last,) = self._server.store.execute(f"SELECT max(no) FROM {table}").fetchone()
        return int(last or 0) + 1

    def do(self, connection: Client, number: int, operation: str, arguments: list[Any]) -> Any:
        """The answer to a request, or LATER."""
        act = _OPERATIONS.get(operation)
        if act is None:
            raise ControlError(f"the running local scheduler does not know {operation!r}; it is of another release")
        return act(self, connection, number, *arguments)

    # Sessions -----------------------------------------------------------------------------------------------------------

    def _hello(self, connection: Client, number: int, version: int) -> list[Any]:
        return [VERSION, os.getpid(), list(self._server.engine.machine.total), self._server.link.pid]

    def _open(self, connection: Client, number: int, name: str, create: bool) -> int:
        server = self._server
        session = self._session(name)
        if session is None:
            if not create:
                raise InvalidContact(f"local has no session {name!r} on this machine")
            session = self._next_session
            self._next_session += 1
            self._sessions[name] = session
            server.writes.append(("INSERT INTO sessions (no, id, created) VALUES (?, ?, ?)", (session, name, time.time())))
        server.clients.follow(connection, session)
        return session

    def _session(self, name: str) -> int | None:
        known = self._sessions.get(name)
        if known is None:
            known = self._server.store.session(name)
            if known is not None:
                self._sessions[name] = known
        return known

    # Submission ---------------------------------------------------------------------------------------------------------

    def _submit(
        self,
        connection: Client,
        number: int,
        name: str,
        place: int,
        digest: bytes | None,
        data: bytes | None,
        items: list[Any],
        array: list[Any] | None,
    ) -> Any:
        server, engine = self._server, self._server.engine
        session = self._session(name)
        if session is None:
            raise InvalidContact(f"local has no session {name!r} on this machine")
        fresh = self._fresh.get((session, place))
        if fresh is not None:
            self.accepted[id(connection), number] = (session, place)
            return fresh.array or fresh.first
        known = server.store.place(session, place)
        if known is not None:
            return known[3] or known[1]  # sent again: it was accepted
        if server.stopping:
            raise SubmitError("the local scheduler is being stopped", retryable=True)
        environment = self._environment(digest, data)
        if environment is not None and environment < 0:
            return -1  # send the environment too
        first = engine.next_number
        if array is None:
            batch = Batch(self._next_batch, session, name, place, first, len(items), environment, time.time())
            jobs = []
            for offset, item in enumerate(items):
                if type(item) is bytes:
                    jobs.append(Job(first + offset, batch, item, batch.traits))
                else:
                    jobs.append(Job(first + offset, batch, item[0], self._trait(item[1])))
        else:
            indices, most = array
            blob, traits = items[0] if type(items[0]) is not bytes else (items[0], None)
            batch = Batch(
                self._next_batch,
                session,
                name,
                place,
                first + 1,
                len(indices),
                environment,
                time.time(),
                first,
                most,
                indices,
                blob,
                self._trait(traits),
            )
            jobs = [Job(first + 1 + offset, batch, None, batch.traits) for offset in range(len(indices))]
        last_traits = None
        for job in jobs:
            if job.traits is not last_traits:
                engine.check(job)
                self._check_after(job.traits)
                last_traits = job.traits
        self._next_batch += 1
        engine.next_number = first + len(jobs) + (1 if array is not None else 0)
        for job in jobs:
            if job.traits.after:
                for position, (token, when) in enumerate(job.traits.after):
                    self.depend(job, position, token, when)
        self._fresh[session, place] = batch
        server.store.comes(session, place + len(jobs) + (array is not None))
        self.accepted[id(connection), number] = (session, place)
        engine.accept(batch, jobs)
        return first

    def committed(self) -> None:
        """The round's new batches are in the journal, or were refused."""
        self._fresh.clear()
        self.accepted.clear()
        self._reaped_now.clear()

    def _trait(self, data: bytes | None) -> Traits:
        if data is None:
            return PLAIN
        found = self._traits.get(data)
        if found is None:
            if len(self._traits) > 1000:
                self._traits.clear()
            self._traits[data] = found = Traits(data)
        return found

    def _environment(self, digest: bytes | None, data: bytes | None) -> int | None:
        if digest is None:
            return None
        known = self._environments.get(digest)
        if known is None:
            known = self._server.store.environment(digest)
        if known is None:
            if data is None:
                return -1
            known = self._next_environment
            self._next_environment += 1
            self._server.writes.append(("INSERT INTO environments VALUES (?, ?, ?)", (known, digest, data)))
        self._environments[digest] = known
        return known

    # Dependencies -------------------------------------------------------------------------------------------------------

    def _targets(self, token: str) -> list[int] | None:
        """The numbers of the job, or of the tasks of the array, with that token."""
        parts = split_token(token)
        session = self._session(parts[0]) if parts else None
        if parts is None or session is None:
            return None
        place = parts[1]
        for (of, _), batch in self._fresh.items():
            if of == session and batch.place <= place < batch.place + batch.count + (1 if batch.array else 0):
                found = (batch.place, batch.first, batch.count, batch.array)
                break
        else:
            kept = self._server.store.place(session, place)
            if kept is None:
                return None
            found = kept
        begin, first, count, array = found
        if array:
            return list(range(first, first + count)) if place == begin else [first + place - begin - 1]
        return [first + place - begin]

    def _check_after(self, traits: Traits) -> None:
        for token, _ in traits.after:
            numbers = self._targets(token)
            if numbers is None or not self._kept(numbers):
                raise InvalidJob(f"after: there is no job with the token {token!r} at the local scheduler", field="after")

    def _kept(self, numbers: list[int]) -> bool:
        """All of these consecutive numbers are of jobs that were not removed."""
        if all(number in self._server.engine.jobs for number in numbers):
            return True
        query = "SELECT count(*) FROM jobs WHERE number BETWEEN ? AND ?"
        return bool(self._server.store.execute(query, (numbers[0], numbers[-1])).fetchone()[0] == len(numbers))

    def depend(self, job: Job, position: int, token: str, when: str) -> None:
        """Let a job wait for what that token names: of an array, for all its tasks (``failure``: for one of them)."""
        engine = self._server.engine
        waiting: list[Job] = []
        states: list[int] = []
        for number in self._targets(token) or ():
            target = engine.jobs.get(number)
            if target is not None:
                waiting.append(target)
                continue
            ended = engine.dirty.get(number)
            if ended is not None:  # in this very round: the journal does not know it yet
                states.append(ended.state)
                continue
            row = self._server.store.execute("SELECT state FROM jobs WHERE number=?", (number,)).fetchone()
            # One that was removed had ended, and had its effect when it did: what still waits does not wait for it.
            states.append(DONE if row is None else row[0])
        engine.depend(job, position, when, waiting, states, token)

    # Looking ------------------------------------------------------------------------------------------------------------

    def _states(self, connection: Client, number: int, name: str) -> list[Any]:
        """Runs of consecutive numbers, each with one byte of state for each job (255: none)."""
        session = self._session(name)
        jobs = self._server.engine.jobs
        found: list[Any] = []
        for first, last in self._server.store.ranges(session) if session is not None else ():
            states = bytearray(b"\xff") * (last - first + 1)
            query = "SELECT number, state FROM jobs WHERE number BETWEEN ? AND ?"
            for one, state in self._server.store.execute(query, (first, last)):
                states[one - first] = state
            if jobs:
                for one in range(first, last + 1) if len(jobs) > last - first else jobs:
                    job = jobs.get(one)
                    if job is not None and first <= one <= last:
                        states[one - first] = job.state
            found.append([first, bytes(states)])
        return found

    def _entries(self, connection: Client, number: int, name: str, numbers: list[int] | None, newest: int | None) -> list[Any]:
        """[number, native id, token, state, at, by, submitted, blob, array token, index, ending, flags, foreign, reason]."""
        session = self._session(name)
        if session is None:
            return []
        if numbers is None:
            ranges = self._server.store.ranges(session)
            if newest is not None:
                return self._rows(session, self._newest(ranges, newest))
            batches: dict[int, Batch] = {}
            return [row for first, last in ranges for row in self._range_rows(session, first, last, batches)]
        return self._rows(session, numbers)

    def _newest(self, ranges: list[tuple[int, int]], count: int) -> list[int]:
        found: list[int] = []
        for first, last in reversed(ranges):
            if len(found) >= count:
                break
            query = "SELECT number FROM jobs WHERE number BETWEEN ? AND ? ORDER BY number DESC LIMIT ?"
            found.extend(one for (one,) in self._server.store.execute(query, (first, last, count - len(found))))
        return found[::-1]

    def _rows(self, session: int, numbers: Iterable[int]) -> list[Any]:
        found: list[Any] = []
        batches: dict[int, Batch] = {}  # one that many jobs share is read once: its indices can be a hundred thousand
        for one in numbers:
            found.extend(self._range_rows(session, one, one, batches))
        return found

    def _range_rows(self, session: int, first: int, last: int, batches: dict[int, Batch]) -> Iterable[list[Any]]:
        engine = self._server.engine
        query = (
            "SELECT j.number, j.state, j.flags, coalesce(j.blob, b.blob), j.run, j.ending, j.ended, b.no, b.session, b.at "
            "FROM jobs j JOIN batches b ON b.no=j.batch WHERE j.number BETWEEN ? AND ?"
        )
        for one, state, flags, blob, _, ending, ended, no, owner, at in self._server.store.execute(query, (first, last)).fetchall():
            batch = batches.get(no)
            if batch is None:
                batch = batches[no] = self._batch(no)
            job = engine.jobs.get(one)
            by, when, reason = 0, ended if ended is not None else at, None
            if job is not None:
                state = job.state
                by = (
                    job.held_by()
                    if job.state not in (RUNNING, QUEUED) and job.run is None
                    else (1 if job.run and job.run.suspended_at else 0)
                )
                reason = self._reason(job)
                if job.run is not None and job.run.pid:
                    when = job.run.began
            yield [
                one,
                batch.native_id(one),
                batch.token(one),
                state,
                when,
                by,
                at,
                blob,
                self._array_token(batch),
                batch.index(one),
                ending,
                flags,
                owner != session,
                reason,
            ]

    def _batch(self, no: int) -> Batch:
        return load_batch(self._server, no, {}, self._trait)

    @staticmethod
    def _array_token(batch: Batch) -> str | None:
        return make_token(batch.session_id, batch.place) if batch.array else None

    def _reason(self, job: Job) -> str | None:
        if job.run is not None and job.run.pid:
            return None
        if job.waits:
            begin = job.traits.begin_at
            return "waits for its time" if begin is not None and begin > time.time() else "waits for other jobs"
        if job.held_by():
            return "held by its user"
        return "waits for room" if job.state == QUEUED else None

    def _find(self, connection: Client, number: int, name: str, text: str) -> list[int]:
        """Numbers of the jobs of a session with that token or native id; of an array: of all its tasks."""
        session = self._session(name)
        if session is None:
            return []
        found = self._targets(text) if split_token(text) is not None else None
        if found is None:
            found = self._by_native_id(text)
        kept = []
        for one in found:
            row = self._server.store.execute(
                "SELECT b.session FROM jobs j JOIN batches b ON b.no=j.batch WHERE j.number=?", (one,)
            ).fetchone()
            if row is not None and (row[0] == session or session in self._server.attached.get(one, ())):
                kept.append(one)
        return kept

    def _by_native_id(self, text: str) -> list[int]:
        head, _, index = text.partition("_")
        if not text.isascii() or not head.isdecimal() or head[0] == "0" or len(head) > 18 or not (index or "1").isdecimal():
            return []
        store = self._server.store
        row = (
            store.execute("SELECT first, count, indices FROM batches WHERE array=?", (int(head),)).fetchone() if int(head) else None
        )
        if row is not None:
            first, count, indices = row
            if not index:
                return list(range(first, first + count))
            try:
                return [first + unpack(indices).index(int(index))]
            except ValueError:
                return []
        if index:
            return []
        row = store.execute("SELECT b.array FROM jobs j JOIN batches b ON b.no=j.batch WHERE j.number=?", (int(head),)).fetchone()
        return [int(head)] if row is not None and not row[0] else []

    def _history(self, connection: Client, number: int, one: int) -> list[Any]:
        """[[state, at, by, reason, ending], ...] in order."""
        store = self._server.store
        row = store.execute(
            "SELECT j.state, j.run, j.ending, j.ended, b.at FROM jobs j JOIN batches b ON b.no=j.batch WHERE j.number=?", (one,)
        ).fetchone()
        if row is None:
            raise UnknownJob(f"job {one} is no longer kept")
        state, run, ending, ended, at = row
        events = store.execute("SELECT state, at, by, text FROM events WHERE number=? ORDER BY at, rowid", (one,)).fetchall()
        found: list[list[Any]] = [[code, when, by, text, None] for code, when, by, text in events]
        if not any(when == at for _, when, _, _ in events):
            found.insert(0, [QUEUED, at, 0, b"", None])
        began = decode_state(ending)[1] if ending is not None else None
        if began is None and run is not None and ended is None:
            began = unpack(run)[4] or None
        # Where files are brought first, the shepherd has told when it ran.
        if began is not None and not any(code == STAGING_IN for code, *_ in events):
            found.append([RUNNING, began, 0, b"", None])
        found.sort(key=lambda entry: entry[1])
        if ended is not None:
            found.append([state, ended, 0, b"", ending])
        return found

    def _streams(self, connection: Client, number: int, one: int) -> Any:
        """Paths of a job's default output and error: [out, err]; None where it has not begun."""
        server = self._server
        job = server.engine.jobs.get(one)
        if job is not None:
            run = job.run
            if run is None or not run.pid:
                return [None, None]
            if run.generation != server.link.generation or job.number in server.children.by_number:
                return as_sent(*server.folder.slot_files(run.stream)) if run.stream else [None, None]
            server.link.ask("pin", one, lambda _: self._pinned(connection, number, one))
            return self.LATER
        if server.store.execute("SELECT 1 FROM jobs WHERE number=?", (one,)).fetchone() is None:
            raise UnknownJob(f"job {one} is no longer kept")
        return self._own_files(server.folder.kept_files(one))

    @staticmethod
    def _own_files(own: tuple[str, str]) -> list[str | bytes]:
        """A finished job's own files; what was empty was not kept, and is made now that somebody asks."""
        make_private(os.path.dirname(own[0]))
        for path in own:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, EMPTY))
        return as_sent(*own)

    def _pinned(self, connection: Client, number: int, one: int) -> None:
        try:
            reply = [number, None, self._own_files(self._server.folder.kept_files(one))]
        except OSError as error:
            failure = ControlError(f"the files of job {one} cannot be made: {error}")
            reply = [number, encode_error(failure), None]
        self._server.replies.append((connection, reply))

    def _listed(self, connection: Client, number: int) -> list[Any]:
        """All jobs that have not ended: [native id, state, by, token, name blob, submitted, began]."""
        return [
            [
                job.batch.native_id(job.number),
                job.state,
                job.held_by() if job.run is None else 0,
                job.batch.token(job.number),
                job.blob if job.blob is not None else job.batch.blob,
                job.batch.at,
                job.run.began if job.run is not None and job.run.pid else None,
                self._reason(job),
            ]
            for job in self._server.engine.jobs.values()
        ]

    def _resync(self, connection: Client, number: int, name: str) -> list[Any]:
        """What a client may have missed, as news: every job of the session that is not simply queued, in parts."""
        session = self._session(name)
        found: list[list[Any]] = []
        jobs = self._server.engine.jobs
        for first, last in self._server.store.ranges(session) if session is not None else ():
            query = "SELECT number, state, ending, ended FROM jobs WHERE number BETWEEN ? AND ?"
            for one, state, ending, ended in self._server.store.execute(query, (first, last)):
                job = jobs.get(one)
                if ended is not None:
                    found.append([one, state, ended, 0, ending, None])
                elif job is not None and job.ended is None and job.state != QUEUED:
                    at = job.run.began if job.run is not None else job.batch.at
                    by = 1 if job.run is not None and job.run.suspended_at else job.held_by() if job.run is None else 0
                    found.append([one, job.state, at, by, None, None])
        return [found[at : at + 1000] for at in range(0, len(found), 1000)]

    # Doing --------------------------------------------------------------------------------------------------------------

    def _control(self, connection: Client, number: int, action: str, numbers: list[int], signum: int | None, nonce: bytes) -> Any:
        """Done once, however often it is sent: what was decided is in the journal under its nonce."""
        asking = self._asking.get(nonce)
        if asking is not None:
            asking.append((connection, number))
            return self.LATER
        known = self._answers.find(nonce)
        if known is not None:
            done = [one for one, answer in zip(numbers, known, strict=True) if answer is None]
            Control(self._server.engine, action, None, lambda _: None).again([self._server.engine.jobs.get(one) for one in done])
            return known
        self._asking[nonce] = [(connection, number)]

        reply: list[list[Any] | None] = []

        def decided(answers: list[JobyardError | None]) -> None:
            reply.extend(None if error is None else encode_error(error) for error in answers)
            self._answers.record(nonce, reply)

        def then(_: list[JobyardError | None]) -> None:
            for one, asked in self._asking.pop(nonce):
                self._server.replies.append((one, [asked, None, reply]))

        old: dict[int, Batch] = {}  # an array's tasks share its indices, of which there may be 100,000
        Control(self._server.engine, action, signum, then, decided).run([self._job(one, old) for one in numbers])
        return self.LATER

    def _job(self, number: int, batches: dict[int, Batch]) -> Job | JobyardError:
        """A job that has not ended; for one that has, what says so. ``batches``: those of ended jobs, each loaded once."""
        if job := self._server.engine.jobs.get(number) or self._server.engine.dirty.get(number):  # or: ended in this round
            return job
        row = self._server.store.execute("SELECT batch, state, flags, ended FROM jobs WHERE number=?", (number,)).fetchone()
        if row is None:
            return UnknownJob(f"there is no job {number} at the local scheduler")
        batch = batches[row[0]] if row[0] in batches else batches.setdefault(row[0], self._batch(row[0]))
        old = Job(number, batch, None, self._trait(None), row[2])
        old.state, old.ended = row[1], row[3] or 0.0
        return old

    def _attach(self, connection: Client, number: int, name: str, text: str) -> int:
        session = self._session(name)
        found = self._by_native_id(text)
        if session is None or len(found) != 1:
            raise UnknownJob(f"the local scheduler knows no job {text!r}")
        one = found[0]
        server = self._server
        owner = server.store.execute(
            "SELECT b.session FROM jobs j JOIN batches b ON b.no=j.batch WHERE j.number=?", (one,)
        ).fetchone()
        if owner[0] != session:
            server.attached.setdefault(one, set()).add(session)
            server.writes.append(("INSERT OR IGNORE INTO attached VALUES (?, ?)", (session, one)))
        return one

    def _reap(self, connection: Client, number: int, numbers: list[int], nonce: bytes) -> Any:
        """Those that this very request reaped, however often it is sent. WrongState where one has not ended; then none is."""
        known = self._answers.find(nonce)
        if known is not None:
            return known
        store, done = self._server.store, []
        for one in numbers:
            pending = one in self._server.engine.dirty
            row = store.execute("SELECT flags, ended FROM jobs WHERE number=?", (one,)).fetchone()
            if row is None:
                continue
            if pending or row[1] is None:
                raise WrongState(f"job {one} has not ended; only a finished one can be reaped")
            if not row[0] & REAPED and one not in self._reaped_now:
                done.append(one)
        done = list(dict.fromkeys(done))
        self._reaped_now.update(done)
        self._server.writes.extend(("UPDATE jobs SET flags=flags|? WHERE number=?", (REAPED, one)) for one in done)
        self._answers.record(nonce, done)
        return done

    def _remove(self, connection: Client, number: int, numbers: list[int]) -> None:
        self._removable(connection, number, numbers)
        self._removal.forget(numbers)

    def _removable(self, connection: Client, number: int, numbers: list[int]) -> None:
        """WrongState where one of them has not ended."""
        for one in numbers:
            if one in self._server.engine.jobs:
                raise WrongState(f"job {one} has not ended; only a finished one can be removed")

    def prune(self) -> None:
        """Forget a bounded number of jobs that ended longer ago than records are kept, and old answers."""
        self._answers.prune()
        if self._removal.prune():
            self._environments.clear()

    def _stop(self, connection: Client, number: int) -> None:
        """End all jobs, then leave."""
        server = self._server
        server.stopping = True
        server.engine.grace_s = 0.0
        Control(server.engine, "cancel", None, lambda _: None).run(list(server.engine.jobs.values()))


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "hello": Requests._hello,
    "open": Requests._open,
    "submit": Requests._submit,
    "resync": Requests._resync,
    "states": Requests._states,
    "entries": Requests._entries,
    "find": Requests._find,
    "history": Requests._history,
    "streams": Requests._streams,
    "listed": Requests._listed,
    "control": Requests._control,
    "attach": Requests._attach,
    "reap": Requests._reap,
    "remove": Requests._remove,
    "removable": Requests._removable,
    "stop": Requests._stop,
    "recent": lambda self, _connection, _number, newest: sessions.recent(self._server.store, newest),
    "owner": lambda self, _connection, _number, text: sessions.owner(self._server.store, text, self._by_native_id),
}
