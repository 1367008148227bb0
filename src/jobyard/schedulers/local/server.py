"""The server: one thread, one loop. Each round reads clients and ring, decides, commits once, and only then speaks.

Order (each step durable or done before the next): new jobs and their hand-over in one commit, before the reply and before
the spawner hears of them; pids and endings in a commit before the ring's tail passes them; clients hear of it after that;
children of ours are reaped after that too.
"""

from __future__ import annotations

import errno
import os
import select
import sqlite3
import sys
import time
from collections import deque
from typing import Any

from ...errors import ControlError, JobyardError, JournalError, SubmitError
from . import kernel, paths
from .cgroup import Groups
from .children import Child, Children, ended_at
from .clients import Client, Clients
from .engine import Engine
from .jobs import Job
from .link import Link
from .machine import Machine, Settings, raise_open_files
from .memory import Memory
from .protocol import RUNNING, encode_error
from .recover import adopt_after_spawner, recover
from .requests import Requests
from .ring import FAIL, PID, SPAWNING
from .spawner import due_leftovers, end_sessions, kill_leftovers, own_usage, read_fault, reap_strangers
from .store import Store
from .streams import settle
from .wire import pack

__all__ = ["Server"]

NAP_S = 0.003  # where endings can wait a little, the ring is looked at no more often
LONG_NAP_S = 0.012  # the same while the spawner has enough to do
STREAM = 3  # submissions within a nap: they come one by one, as fast as they are taken
IDLE_S = 5.0
GRACE_S = 5.0
RETENTION_S = 30 * 86400.0
PRUNE_S = 60.0
REST_S = 1.0  # without a commit: time to fold the write-ahead log into the journal
FIRST_PRUNE_S = 1.0
MOST_STILLBORN = 20
MOST_ENVIRONMENTS = 500  # that a spawner remembers
RETRY_S = 1.0  # after a commit that failed
LONGEST_S = 1.0
STAGES_S = 0.05  # between looks at the stage receipts of jobs that have stages
WATCHFUL_S = 0.25  # while jobs run: a wake-up that was missed costs no more


class Server:
    """The embedded scheduler's server on an open, locked state folder."""

    def __init__(
        self, folder: paths.StateFolder, store: Store, settings: Settings, epoll: select.epoll, children: Children | None
    ) -> None:
        self.folder = folder
        self.store = store
        self.epoll = epoll
        self.children = children or Children(epoll)
        self.engine = Engine(Machine(settings), settings.grace_s if settings.grace_s is not None else GRACE_S)
        self.engine.own_signal = self._own_signal
        self.engine.own_end = self._own_end
        self.idle_s = settings.idle_s if settings.idle_s is not None else IDLE_S
        self.retention_s = settings.retention_s if settings.retention_s is not None else RETENTION_S
        self.attached: dict[int, set[int]] = {}  # by job: other sessions that follow it
        self.replies: list[tuple[Client, list[Any]]] = []
        self.writes: list[tuple[str, tuple[Any, ...]]] = []  # small statements for the next commit
        self.requests = Requests(self)
        self.memory = Memory(self.engine)
        self.stopping = False
        self._pending_spawn: tuple[int, int] | None = None  # (job, position) of a start whose outcome is not known
        self._reap: list[Child] = []
        self._stillborn = 0
        self._leftovers: dict[int, float] = {}
        self._submitted: deque[float] = deque(maxlen=STREAM)
        self._deferred = False
        self._commit_s = 0.0  # that a commit takes, smoothed
        self._committed_at = 0.0
        self._unfolded = False  # commits stand in the write-ahead log alone
        self._alive_at = time.monotonic()
        self._next_sweep = 0.0
        self._next_stages = 0.0
        self._next_prune = time.monotonic() + FIRST_PRUNE_S
        self._failed_at: float | None = None
        self.engine.groups = Groups.open(f"jobyard-{os.stat(folder.path).st_ino}")
        raise_open_files(self.engine.machine.total.cores)
        generation = recover(self)
        self.link = Link(folder, generation, epoll)
        self.engine.link = self.link
        self.clients = Clients(epoll, folder.socket, self._answer)

    # The loop -----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until there has been nothing to do for a while."""
        poll = self.epoll.poll
        while True:
            timeout = self._timeout()
            if timeout > LONG_NAP_S:
                self.link.ring.sleep(True)
                if self.link.ring.waiting():
                    timeout = 0.0
            events = poll(timeout)
            self.link.ring.sleep(False)
            self._deferred = self._can_wait(events)
            if self._deferred:
                continue
            self._events(events)
            self._read_ring()
            now = time.monotonic()
            self._housekeeping(now)
            self.engine.pass_time()
            self.engine.schedule()
            self._commit()
            if self._may_leave(now):
                self._leave()
                return

    def _can_wait(self, events: list[tuple[int, int]]) -> bool:
        """Nothing but endings, while jobs keep coming one by one and none waits for room: the next submission's commit takes
        the endings along, instead of standing behind a commit of theirs."""
        if len(events) != 1 or events[0][0] != self.link.bell or len(self.engine.queue):
            return False
        # One who waits for each job before the next needs two commits for each, and the job's own time.
        together_s = max(NAP_S, (STREAM + 1) * self._commit_s)
        if len(self._submitted) < STREAM or time.monotonic() - self._submitted[0] > together_s:
            return False
        os.eventfd_read(self.link.bell)
        return True

    def _timeout(self) -> float:
        engine = self.engine
        if self._failed_at is None and (engine.after_commit or engine.dirty or self.writes or self.replies):
            return 0.0
        timeout = LONGEST_S
        if self._deferred:
            return NAP_S
        if self._failed_at is None and engine.bookings.busy():
            return LONG_NAP_S
        if len(engine.jobs):
            timeout = WATCHFUL_S
        if engine.staged:
            timeout = STAGES_S
        for due in (engine.next_time(), self.memory.due(time.monotonic())):
            if due is not None:
                timeout = min(timeout, due)
        return timeout

    def _events(self, events: list[tuple[int, int]]) -> None:
        for fd, mask in events:
            if fd in self.clients.by_fd:
                self.clients.event(fd, mask)
            elif fd == self.link.bell:
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    pass  # read already
            elif fd == self.link.socket.fileno():
                if mask & select.EPOLLOUT:
                    self.link.flush()
                if mask & ~select.EPOLLOUT:
                    self._hear_spawner()
            elif fd == self.clients.listener.fileno():
                self.clients.welcome()
            elif fd in self.children.by_fd:
                self._own_ended(self.children.by_fd[fd])

    # Clients ------------------------------------------------------------------------------------------------------------

    def _answer(self, connection: Client, message: list[Any]) -> None:
        number, operation, arguments = message
        if operation == "submit":
            self._submitted.append(time.monotonic())
        try:
            result = self.requests.do(connection, number, operation, arguments)
        except JobyardError as error:
            self.replies.append((connection, [number, encode_error(error), None]))
        except sqlite3.Error as error:
            failure: JobyardError = JournalError(f"{self.store.path} cannot be read: {error}")
            self.replies.append((connection, [number, encode_error(failure), None]))
        except OSError as error:  # a full disk, a folder that went
            failure = ControlError(f"the local scheduler could not do it ({operation}): {error}")
            self.replies.append((connection, [number, encode_error(failure), None]))
        except (TypeError, ValueError, LookupError) as error:
            # A request that cannot be understood must not end the server: it would be sent again to the next one.
            sys.excepthook(type(error), error, error.__traceback__)  # into crash.log
            failure = ControlError(f"the local scheduler could not make sense of a request ({operation}): {error!r}")
            self.replies.append((connection, [number, encode_error(failure), None]))
        else:
            if result is not self.requests.LATER:
                self.replies.append((connection, [number, None, result]))

    # The ring -----------------------------------------------------------------------------------------------------------

    def _read_ring(self) -> None:
        if self._failed_at is not None:
            return
        ring, engine = self.link.ring, self.engine
        position = ring.position
        for record in ring.read():
            kind = record.kind
            if kind == SPAWNING:
                self._pending_spawn = (record.number, position)
            elif kind in (PID, FAIL):
                self._pending_spawn = None
            engine.record(record)
            position += 1

    def _hear_spawner(self) -> None:
        answers = self.link.hear()
        self._read_ring()  # what the answers come after
        for then, value in answers or ():
            then(value)
        if answers is None:
            self._spawner_died()

    def _spawner_died(self) -> None:
        """Its children are ours now: those that ended are zombies of ours, the others we watch. Then a new one starts."""
        link = self.link
        self._stillborn = 0 if link.ready else self._stillborn + 1
        if self._stillborn > MOST_STILLBORN:
            raise OSError(errno.ECHILD, f"{MOST_STILLBORN} spawners in a row ended before they could work")
        os.waitpid(link.pid, 0)  # from then on all its children are ours
        self._failed_at = None
        self._read_ring()
        self.engine.bookings.spawner_lost()
        waiting = link.unanswered()
        adopt_after_spawner(self, link.generation, self._pending_spawn[0] if self._pending_spawn else None)
        self._pending_spawn = None
        self.engine.hand_over.clear()
        self.engine.hand_ahead.clear()
        self.writes.append(("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (link.generation + 1,)))
        self._commit()
        waiting += link.unanswered()  # of what was still said to it
        link.close()
        os.unlink(link.ring.path)
        self.link = self.engine.link = Link(self.folder, link.generation + 1, self.epoll)
        for then in waiting:
            then(None)

    # Children of ours ---------------------------------------------------------------------------------------------------

    def _own_signal(self, job: Job, signum: int, whom: int) -> bool:
        return job.number in self.children.by_number and (self.children.signal(job.number, signum, whom) or True)

    def _own_end(self, job: Job, signum: int, grace_s: float) -> bool:
        child = self.children.by_number.get(job.number)
        if child is None:
            return False
        self._leftovers[child.pid] = time.monotonic() + grace_s
        end_sessions(self.children, (child,), signum)
        return True

    def _own_ended(self, child: Child) -> None:
        """A job that this process watches has ended: noted now, reaped after the commit."""
        status: int | None
        usage: tuple[int, ...] | None = None
        if child.ours:
            found = kernel.peek(child.pid)
            if found is None:
                return
            status, usage = found[0], own_usage(found, kernel.own_peak_kib())
        else:
            process = kernel.read_process(child.pid)
            if process is not None and process.start_ticks == child.start_ticks:
                if not process.zombie:
                    return
                status = process.exit_status
            else:
                status = kernel.pidfd_exit_status(child.fd)
        self.note_end(child.number, child.stream, status, usage, read_fault(child), at=ended_at(child))
        self.children.forget(child)
        if child.ours:
            self._reap.append(child)

    def note_end(
        self,
        number: int,
        stream: int,
        status: int | None,
        usage: tuple[int, ...] | None,
        fault: tuple[int, int] | None = None,
        message: str = "",
        at: float | None = None,
    ) -> None:
        """A job that had been started by an earlier spawner has ended."""
        at = time.time() if at is None else at
        if stream:
            settle(self.folder, stream, number)
        job = self.engine.jobs.get(number)
        if job is None or job.run is None:
            return
        if fault is not None:
            self.engine.failed_to_start(job, at, *fault)
            return
        if status is None and not message:
            message = "it ended while nobody could see how"
        self.engine.ended(job, at, status, usage, message)

    # Committing ---------------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        engine, store = self.engine, self.store
        if self._failed_at is not None and time.monotonic() - self._failed_at < RETRY_S and not engine.new_batches:
            return
        position = self._pending_spawn[1] if self._pending_spawn else self.link.ring.position
        try:
            if engine.new_batches or engine.dirty or engine.events or self.writes:
                begun = time.monotonic()
                store.begin()
                self._write()
                store.end()
                self._committed_at = time.monotonic()
                self._commit_s += (self._committed_at - begun - self._commit_s) / 8
                self._unfolded = True
        except sqlite3.Error as error:
            store.undo()
            self._refuse(error)
            return
        self._failed_at = None
        self.link.ring.commit(position)
        engine.new_batches.clear()
        engine.dirty.clear()
        engine.events.clear()
        self.writes.clear()
        self.requests.committed()
        self._speak()

    def flush_writes(self) -> None:
        """Commit before there is a spawner to speak to. sqlite3.Error where that fails."""
        self.store.begin()
        self._write()
        self.store.end()
        self.engine.dirty.clear()
        self.engine.events.clear()
        self.writes.clear()
        for child in self._reap:
            os.waitpid(child.pid, 0)
        self._reap.clear()

    def _write(self) -> None:
        engine, store = self.engine, self.store
        dirty = engine.dirty
        for batch, jobs in engine.new_batches:
            store.write(
                "INSERT INTO batches VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    batch.no,
                    batch.session,
                    batch.place,
                    batch.first,
                    batch.count,
                    batch.environment,
                    batch.at,
                    batch.array,
                    batch.max_running,
                    pack(batch.indices) if batch.indices is not None else None,
                    batch.blob,
                    batch.traits.data,
                ),
            )
            same = batch.traits
            rows = []
            for job in jobs:
                dirty.pop(job.number, None)
                run = job.run.data() if job.run is not None else None
                traits = job.traits.data if job.traits is not same else None
                rows.append((job.number, batch.no, job.state, job.flags, job.blob, traits, run, job.ending, job.ended))
            store.many("INSERT INTO jobs VALUES (?,?,?,?,?,?,?,?,?)", rows)
        if dirty:
            store.many(
                "UPDATE jobs SET state=?, flags=?, run=?, ending=?, ended=? WHERE number=?",
                [
                    (
                        job.state,
                        job.flags,
                        job.run.data() if job.run is not None else None,
                        job.ending,
                        job.ended,
                        number,
                    )
                    for number, job in dirty.items()
                ],
            )
        if engine.events:
            store.many("INSERT INTO events VALUES (?,?,?,?,?)", engine.events.copy())
        for statement, values in self.writes:
            store.write(statement, values)

    def _refuse(self, error: sqlite3.Error) -> None:
        """The journal could not be written. New jobs are refused; what has happened is kept and written later."""
        engine = self.engine
        self._failed_at = time.monotonic()
        refused = set()
        for batch, jobs in engine.new_batches:
            refused.add((batch.session, batch.place))
            engine.forget(jobs)
        engine.new_batches.clear()
        kept = []
        for connection, reply in self.replies:
            if self.requests.accepted.get((id(connection), reply[0])) in refused:
                failure = SubmitError(
                    f"the journal {self.store.path} could not be written: {error}; the jobs were not accepted", retryable=True
                )
                kept.append((connection, [reply[0], encode_error(failure), None]))
            else:
                kept.append((connection, reply))
        self.replies = []
        self.requests.committed()
        for connection, reply in kept:
            self.clients.say(connection, reply)

    def _speak(self) -> None:
        engine = self.engine
        if engine.hand_over:
            self._hand(engine.hand_over, "run")
        if engine.hand_ahead:
            self._hand(engine.hand_ahead, "ahead")
        acts, engine.after_commit = engine.after_commit, []
        replies, self.replies = self.replies, []
        told, engine.told = engine.told, []
        for act in acts:  # what is removed is gone when its removal is acknowledged, or its owner's ending told
            act()
        # News before the replies: who was told that a job is held finds it held.
        self.clients.together([*self._news(told), *replies])
        for child in self._reap:
            os.waitpid(child.pid, 0)
        self._reap.clear()

    def _hand(self, items: list[list[Any]], *words: Any) -> None:
        link = self.link
        if len(link.environments) > MOST_ENVIRONMENTS:
            link.say("forget")  # those that nothing there waits for
            link.environments.clear()
        for item in items:
            environment = item[2]
            if environment is not None and environment not in link.environments:
                link.say("environment", environment, self.store.environment_data(environment))
                link.environments.add(environment)
        link.say(*words, items)
        items.clear()

    def _news(self, told: list[tuple[Job, int, float, int, str]]) -> list[tuple[Client, Any]]:
        """What is now durable, for those who follow it."""
        if not told or not self.clients.followers:
            return []
        messages: dict[int, list[Any]] = {}
        for job, state, at, by, text in told:
            if state == RUNNING and job.ended is not None and not job.traits.stages:
                continue  # its ending tells when it began
            entry = [
                job.number,
                state,
                at,
                by,
                job.ending if job.ended is not None and job.state == state else None,
                text.encode() or None,
            ]
            messages.setdefault(job.batch.session, []).append(entry)
            for session in self.attached.get(job.number, ()):
                messages.setdefault(session, []).append(entry)
        return [
            (connection, [0, None, entries])
            for session, entries in messages.items()
            for connection in self.clients.followers.get(session, ())
        ]

    # Now and then -------------------------------------------------------------------------------------------------------

    def _housekeeping(self, now: float) -> None:
        self.memory.look(now)
        if self.engine.staged and now >= self._next_stages:
            self._next_stages = now + STAGES_S
            self.engine.look_at_stages()
        if now < self._next_sweep:
            return
        self._next_sweep = now + 1.0
        if not self._reap:
            reap_strangers(self.children, frozenset((self.link.pid,)))
        kill_leftovers(due_leftovers(self._leftovers, now))
        if self._unfolded and now - self._committed_at > REST_S:
            self._unfolded = False
            self.store.fold()
        if now >= self._next_prune and self._failed_at is None:
            self._next_prune = now + PRUNE_S
            self.requests.prune()

    def _may_leave(self, now: float) -> bool:
        if self.stopping:
            return not self.engine.jobs
        if self.engine.jobs or self.clients.by_fd or self.engine.dirty or self._leftovers or not self.link.ready:
            self._alive_at = now
        return now - self._alive_at >= self.idle_s

    def _leave(self) -> None:
        """Nothing left to do: end the spawner, fold the journal, let go of the socket."""
        self.clients.stop_listening()
        self.link.say("bye")
        os.waitpid(self.link.pid, 0)
        self.clients.close()
        if self.engine.groups is not None:
            self.engine.groups.close()
        ring = self.link.ring.path
        self.link.close()
        os.unlink(ring)
        self.store.close()
