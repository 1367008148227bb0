"""The process that serves HyperQueue to one user: it holds the bindings, and answers questions on a Unix socket (ask.py).

Without ``--join`` a server and a worker run in it, closed to everybody else (seal.py), until nothing has been asked and no job has
been there for ``--idle`` seconds; jobs end with it. With ``--join`` it is a client of a server that somebody else runs.

Questions, each with ``ask``, and the answers:

    submit   token, folder, name, count, single, cores, resources, priority, walltime_s, rerunnable
             -> id, or refused (why nothing was submitted)
    find     tokens -> jobs, doubtful (tokens of which it is not known whether HyperQueue has them)
    query    ids (all where there are none) -> jobs, unknown (ids of servers, or of jobs, that were never seen here)
    cancel   ids -> answers: by id null, "over", "unknown", or what failed
    about    -> version, server, cores
    stop     -> the process ends, and its own server with all jobs
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from .ask import ACCEPTED_S, OWN, listen, make_room, peer_uid, receive, send, servers
from .bindings import Bindings, HyperQueueError, Refused, TaskRequest
from .records import Entry, Records
from .seal import Stranger, seal

__all__ = ["Resident", "main"]

FRESH_S = 0.05  # counts so young are not read again
LOCK_S = 0.3  # who only looks at the lock holds it for microseconds
HUNG_S = 50.0  # a joined server that leaves a call unanswered for so long; the process ends, and its clients are told


class Resident:
    """Records, and the server that they are of. Not thread-safe: one question after the other."""

    def __init__(self, room: str, bindings: Bindings, *, join: str | None, cores: int) -> None:
        self.room = room
        self.bindings = bindings
        self.join = join
        self.cores = None if join is not None else cores
        self.server = ""  # its UID; "" while there is none
        self.records = Records(os.path.join(room, "jobs") if join is not None else None)
        self.ends = False
        self._looked = 0.0

    def start(self, cores: int) -> None:
        """A server of our own in this process. HyperQueueError, Stranger."""
        for name in os.listdir(self.room):
            if name.startswith("server-"):  # of a resident that was killed
                shutil.rmtree(os.path.join(self.room, name), ignore_errors=True)
        folder = tempfile.mkdtemp(prefix="server-", dir=self.room)
        self.bindings.start(folder, cores)
        seal()
        self._serve(folder)

    def connect(self) -> None:
        """To the joined server, where there is no connection, or another server by now. HyperQueueError."""
        if self.join is not None and (not self.server or _uid(self.join) != self.server):
            self.bindings.connect(self.join)
            self._serve(self.join)

    def _serve(self, folder: str) -> None:
        uid = _uid(folder)
        if uid not in servers(self.room):
            with open(os.path.join(self.room, "servers"), "a", encoding="ascii") as file:
                file.write(f"{uid}\n")
                file.flush()
                os.fsync(file.fileno())
        if uid != self.server:
            self.records.by_id.clear()
            self.records.by_token.clear()
            self.records.read(uid)
        self.server = uid

    # Questions

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """One answer. Raises HyperQueueError where the server gives none."""
        with self._not_for_ever():
            if question["ask"] == "stop":
                self.ends = True
                return {}
            self.connect()
            try:
                return self._answers[question["ask"]](self, question)
            except HyperQueueError:
                if self.join is not None:
                    self.server = ""  # it is connected anew for the next question
                raise

    def _submit(self, question: Mapping[str, Any]) -> dict[str, Any]:
        entry = self.records.by_token.get(question["token"])
        if entry is not None and entry.job is not None:
            return {"id": entry.native_id}  # the first answer was lost
        if entry is not None:
            raise HyperQueueError("it is not known whether an earlier attempt to submit this job reached the server")
        entry = Entry(server=self.server, **{name: question[name] for name in ("token", "folder", "name", "count", "single")})
        task = TaskRequest(
            argv=(f"{entry.folder}/run.sh",),
            directory=entry.folder,
            environment={"JOBYARD_HYPERQUEUE_SERVER": self.server},
            **{name: question[name] for name in ("resources", "cores", "priority", "walltime_s", "rerunnable")},
        )
        self.records.intend(entry)
        try:
            job = self.bindings.submit(entry.name, entry.count, task)
        except Refused as error:
            self.records.refused(entry)
            return {"refused": str(error)}
        self.records.accepted(entry, job)
        return {"id": entry.native_id}

    def _find(self, question: Mapping[str, Any]) -> dict[str, Any]:
        known = [self.records.by_token[token] for token in question["tokens"] if token in self.records.by_token]
        return {
            "jobs": [entry.shown() for entry in known if entry.job is not None],
            "doubtful": [entry.token for entry in known if entry.job is None],
        }

    def _query(self, question: Mapping[str, Any]) -> dict[str, Any]:
        self.look()
        ids = question["ids"]
        if not ids:
            return {"jobs": [entry.shown() for entry in self.records.unfinished()], "unknown": []}
        found: dict[str, Entry] = {}
        unknown = []
        here = servers(self.room)
        for native_id in ids:
            entry = self._entry(native_id)[0]
            if entry is not None:
                found[entry.token] = entry
            elif native_id.partition("-")[0] not in here or (self.join is not None and native_id.startswith(f"{self.server}-")):
                unknown.append(native_id)  # another host's resident may have submitted it
        return {"jobs": [entry.shown() for entry in found.values()], "unknown": unknown}

    def _cancel(self, question: Mapping[str, Any]) -> dict[str, Any]:
        self.look()
        answers: dict[str, str | None] = {}
        never: list[tuple[Entry, int]] = []
        for native_id in question["ids"]:
            entry, task = self._entry(native_id)
            answers[native_id] = "unknown" if entry is None else entry.cancel(task)
            if entry is not None and task in entry.cancelled:
                never.append((entry, task))
        self.records.cancelled(never)
        return {"answers": answers}

    def _about(self, question: Mapping[str, Any]) -> dict[str, Any]:
        return {"version": self.bindings.version, "server": self.server, "cores": self.cores, "pid": os.getpid()}

    _answers = {"submit": _submit, "find": _find, "query": _query, "cancel": _cancel, "about": _about}  # noqa: RUF012

    def _entry(self, native_id: str) -> tuple[Entry | None, int]:
        """The entry of ``UID-JOB`` or ``UID-JOB.TASK``, and the task."""
        server, _, rest = native_id.partition("-")
        job, _, task = rest.partition(".")
        if not job.isdecimal() or (task and not task.isdecimal()):
            return None, 0
        entry = self.records.by_id.get((server, int(job)))
        return (entry, int(task or 0)) if entry is None or int(task or 0) < entry.count else (None, 0)

    # Keeping up

    def look(self) -> None:
        """Ask HyperQueue for all that is not over. HyperQueueError."""
        now = time.monotonic()
        open_ones = {entry.job: entry for entry in self.records.unfinished() if entry.job is not None}
        if not open_ones or now - self._looked < FRESH_S:
            return
        counts = self.bindings.counts(list(open_ones))
        failing = [job for job, one in counts.items() if open_ones[job].take(one, now)]
        if failing:
            for job, failed in self.bindings.failures(failing).items():
                open_ones[job].failed.update(failed)
        for job, entry in open_ones.items():
            if job not in counts:  # forgotten by somebody else
                self.records.by_id.pop((entry.server, job), None)
        self._looked = time.monotonic()

    def tidy(self) -> bool:
        """Let go of what is long over; whether any job is left. HyperQueueError."""
        self.look()
        for entry in self.records.drop_old(time.monotonic()):
            if self.join is None and entry.job is not None:
                self.bindings.forget(entry.job)
        return bool(self.records.unfinished())

    def is_busy(self) -> bool:
        """``tidy``, where there is a server. HyperQueueError: our own is broken, and nothing can be saved."""
        if not self.server:
            return False
        try:
            with self._not_for_ever():
                return self.tidy()
        except HyperQueueError:
            if self.join is None:
                raise
            self.server = ""
            return False

    def is_lost(self) -> bool:
        """Nobody can find this process any more: the room was removed; and the folders of all jobs that are left are gone, too."""
        if os.path.exists(os.path.join(self.room, "socket")):
            return False
        return self.join is not None or not any(os.path.exists(entry.folder) for entry in self.records.unfinished())

    @contextlib.contextmanager
    def _not_for_ever(self) -> Iterator[None]:
        """A call of the bindings cannot be given up. A joined server's jobs lose nothing if this process ends within one."""
        if self.join is None:
            yield
            return
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, HUNG_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _uid(folder: str) -> str:
    """The UID of the server of this folder. HyperQueueError: it says none."""
    path = os.path.join(folder, "hq-current", "access.json")
    try:
        with open(path, encoding="utf-8") as file:
            uid = json.load(file)["server_uid"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HyperQueueError(f"no HyperQueue server can be joined by {folder} ({error}); start one: hq server start") from error
    if not isinstance(uid, str) or not uid.isalnum() or not uid.isascii():
        raise HyperQueueError(f"{path} has no server UID that can be used: {uid!r}")
    return uid


# The process --------------------------------------------------------------------------------------------------------


def serve(resident: Resident, listening: socket.socket, idle_s: float) -> bool:
    """Answer until it is time to go. True: somebody came at the last moment, so that it is not."""
    quiet_since = time.monotonic()
    listening.settimeout(1.0)
    while not resident.ends:
        try:
            client = listening.accept()[0]
        except TimeoutError:
            if resident.is_lost():
                return False
            if resident.is_busy():
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since >= idle_s:
                return _last_call(resident, listening)
            continue
        with client:
            _serve_one(resident, client)
        quiet_since = time.monotonic()
    return False


def _last_call(resident: Resident, listening: socket.socket) -> bool:
    """Let nobody in any more, and serve those who came before."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(resident.room, "socket"))
    listening.settimeout(0.0)
    came = False
    while True:
        try:
            client = listening.accept()[0]
        except BlockingIOError:
            return came and not resident.ends
        with client:
            _serve_one(resident, client)
        came = True


def _serve_one(resident: Resident, client: socket.socket) -> None:
    if peer_uid(client) != os.getuid():
        return
    client.settimeout(ACCEPTED_S)
    try:
        question = receive(client)
        try:
            answer = resident.answer(question)
        except HyperQueueError as error:
            answer = {"error": str(error)}
        send(client, answer)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"a question was not answered: {type(error).__name__}: {error}\n")
        sys.stderr.flush()


def _take_lock(room: str) -> int | None:
    """The lock, for as long as this process lives; None: another has it."""
    fd = os.open(os.path.join(room, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    end = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > end:
                return None
            time.sleep(0.005)


def main() -> None:
    """The program. Never returns: threads of the bindings do not end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("room")
    parser.add_argument("--join")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--idle", type=float, default=300.0)
    parser.add_argument("--ready", type=int)
    options = parser.parse_args()
    os.umask(0o077)
    for name in OWN:
        os.environ.pop(name, None)
    code = 0
    try:
        code = _run(options)
    except (HyperQueueError, Stranger, OSError, ImportError) as error:
        sys.stderr.write(f"HyperQueue could not be served: {error}\n")
        code = 1
    sys.stderr.flush()
    os._exit(code)


def _run(options: argparse.Namespace) -> int:
    make_room(options.room)
    if _take_lock(options.room) is None:
        return 3
    resident = Resident(options.room, Bindings(), join=options.join, cores=options.cores)
    if options.join is None:
        resident.start(options.cores)
    again = True
    while again:
        with listen(options.room) as listening:
            if options.ready is not None:
                os.close(options.ready)
                options.ready = None
            again = serve(resident, listening, options.idle)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(options.room, "socket"))
    resident.bindings.stop()
    return 0
