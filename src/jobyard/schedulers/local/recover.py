"""Picking up what an earlier server or spawner dropped: from the journal, the ring, and what the kernel still knows.

A job that was handed over is queued again only if neither the journal nor the ring says that its start began. A start that
began without a known outcome is looked for by its mark. A process is adopted only if it leads its session, bears the job's
mark, and started when the record says. What cannot be known is ``lost``.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import JobyardError
from ...job import Cause
from . import kernel
from .children import Child
from .engine import TOLD
from .jobs import ENDING, MET, PLAIN, Batch, Job, Run, Traits
from .protocol import FAILED, QUEUED, RUNNING, SUSPENDED
from .ring import SPAWNING, Ring
from .streams import make_private, sweep
from .wire import unpack

if TYPE_CHECKING:
    from .server import Server

__all__ = ["adopt_after_spawner", "is_it", "load", "recover"]

START_WAIT_S = 2.0  # for a child that was caught before its exec


def recover(server: Server) -> int:
    """Bring the engine to what is true now. Returns the generation of the spawner to start, which is in the journal then."""
    store, engine = server.store, server.engine
    generation = int(store.meta("generation", 0))
    same_boot = store.meta("boot") == kernel.boot_id()
    load(server)
    pending = None
    path = server.folder.ring(generation)
    if same_boot and os.path.exists(path):
        ring = Ring(path)
        for record in ring.read():
            if record.kind == SPAWNING:
                pending = record.number
            elif record.number == pending:
                pending = None
            engine.record(record)
        ring.close()
    if same_boot:
        _adopt_all(server, pending, kernel.boot_now())
    else:
        for job in engine.unfinished_handed():
            _lost(server, job, "the machine was started again while it may have run")
    for job in engine.jobs.values():
        if job.flags & ENDING and job.run is not None and job.run.pid:
            engine.after_commit.append(partial(engine.end_processes, job))  # its last server may not have come to the KILL
    used = {job.run.stream for job in engine.jobs.values() if job.run is not None}
    server.writes.append(("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (generation + 1,)))
    server.writes.append(("INSERT OR REPLACE INTO meta VALUES ('boot', ?)", (kernel.boot_id(),)))
    server.flush_writes()
    for name in os.listdir(server.folder.path):
        if name.startswith("ring.") and name != f"ring.{generation + 1}":
            os.unlink(os.path.join(server.folder.path, name))
    make_private(server.folder.slots)
    sweep(server.folder, used)
    return generation + 1


def adopt_after_spawner(server: Server, generation: int, pending: int | None) -> None:
    """The spawner died under us: what it had is ours, or is queued again."""
    _adopt_all(server, pending, kernel.boot_now(), generation)


def _adopt_all(server: Server, pending: int | None, now: float, generation: int | None = None) -> None:
    for job in server.engine.unfinished_handed():
        run = job.run
        assert run is not None
        if generation is not None and run.generation != generation:
            continue
        if run.pid:
            _adopt(server, job)
        elif job.number == pending:
            _adopt_pending(server, job)
        else:
            server.engine.unhand(job)


def _adopt(server: Server, job: Job) -> None:
    """Watch a job that was running; it may have ended in the meantime."""
    engine, run = server.engine, job.run
    assert run is not None
    engine.bookings.found(job)
    if job.number in server.children.by_number:
        return  # of the spawner that became this server
    process = kernel.read_process(run.pid)
    if process is None or not is_it(job.number, run, process):
        server.note_end(job.number, run.stream, None, None)
        return
    child = Child(job.number, run.pid, run.began, run.booted, run.stream)
    child.start_ticks = process.start_ticks
    child.ours = process.ppid == os.getpid()
    try:
        server.children.add(child)
    except ProcessLookupError:
        server.note_end(job.number, run.stream, None, None)
        return
    again = kernel.read_process(run.pid)
    if again is None or again.start_ticks != process.start_ticks:  # another took its number before pidfd_open
        if again is None and (status := kernel.pidfd_exit_status(child.fd)) is not None:
            server.note_end(job.number, run.stream, status, None)
        else:
            server.note_end(job.number, run.stream, None, None)
        server.children.forget(child)


def is_it(number: int, run: Run, process: kernel.Process) -> bool:
    """The process is the job of that number: it leads its session, started when the record says, and bears the mark."""
    first, last = run.booted * kernel.TICKS - 1, (run.booted + run.took_s) * kernel.TICKS + 1
    if process.session != run.pid or not first <= process.start_ticks <= last:
        return False
    mark = kernel.mark_of(run.pid)
    return mark == number


def _adopt_pending(server: Server, job: Job) -> None:
    """A start whose outcome is not recorded: there is a process with its mark, or it never came to be."""
    deadline = time.monotonic() + START_WAIT_S
    while True:
        found = _marked(job)
        if found is None:
            server.engine.unhand(job)
            return
        pid, process = found
        if process.comm != kernel.COMM and process.session == pid:
            break
        if process.zombie:  # it died before its exec: the job never ran
            if process.ppid == os.getpid():
                os.waitpid(pid, 0)
            server.engine.unhand(job)
            return
        if time.monotonic() > deadline:
            break  # it hangs in its exec; it is the job all the same
        time.sleep(0.001)  # between clone and exec there is nothing that could be waited for
    run = job.run
    assert run is not None
    run.pid = pid
    run.took_s = max(0.0, (process.start_ticks + 1) / kernel.TICKS - run.booted)
    server.engine.begun(job)
    _adopt(server, job)


def _marked(job: Job) -> tuple[int, kernel.Process] | None:
    """The process that was started for a job: it leads a session, or has not come to its exec."""
    run = job.run
    assert run is not None
    first = run.booted * kernel.TICKS - 1
    for pid in kernel.all_pids():
        if kernel.mark_of(pid) != job.number or pid == os.getpid():
            continue
        process = kernel.read_process(pid)
        if process is None or process.start_ticks < first:
            continue  # the spawner itself bears the mark for the moment of a start, and is older
        if process.session == pid or process.comm == kernel.COMM:
            return pid, process
    return None


def _lost(server: Server, job: Job, message: str) -> None:
    run = job.run
    assert run is not None
    if job.traits.rerunnable and not job.flags & ENDING:
        server.engine.unhand(job)
        return
    server.engine.bookings.found(job)
    server.note_end(job.number, run.stream, None, None, None, message)


# Loading ------------------------------------------------------------------------------------------------------------


def load(server: Server) -> None:
    """All jobs that have not ended, from the journal."""
    store, engine = server.store, server.engine
    (most,) = store.execute("SELECT max(first+count) FROM batches").fetchone()
    (arrays,) = store.execute("SELECT max(array) FROM batches").fetchone()
    engine.next_number = max(int(most or 1), int(arrays or 0) + 1, int(store.meta("number", 0)) + 1)
    batches: dict[int, Batch] = {}
    traits: dict[bytes, Traits] = {}
    sessions: dict[int, str] = {}

    def shared(data: bytes | None) -> Traits:
        if data is None:
            return PLAIN
        found = traits.get(data)
        if found is None:
            found = traits[data] = Traits(data)
        return found

    waiting: list[Job] = []
    now = time.time()
    rows = store.execute("SELECT number, batch, flags, blob, traits, run FROM jobs WHERE ended IS NULL ORDER BY number").fetchall()
    for number, batch_no, flags, blob, own, run in rows:
        batch = batches.get(batch_no)
        if batch is None:
            batch = batches[batch_no] = load_batch(server, batch_no, sessions, shared)
        job = Job(number, batch, blob, shared(own) if own is not None else batch.traits, flags)
        engine.jobs[number] = job
        try:
            engine.check(job)
        except JobyardError as error:
            if run is None:
                engine.drop(job, FAILED, Cause.REJECTED, f"the local scheduler was started again with less: {error}")
                continue
        if run is not None:
            job.run = Run.load(run)
            job.attempts = job.run.attempt if job.run.pid else job.run.attempt - 1
            if job.run.pid:
                job.state = SUSPENDED if job.run.suspended_at else RUNNING
                engine.watch_limits(job)
                if job.traits.stages:
                    _stages_again(server, job)
        else:
            waiting.append(job)
    for number, session in store.execute("SELECT number, session FROM attached").fetchall():
        server.attached.setdefault(number, set()).add(session)
    for job in list(engine.jobs.values()):
        if job.run is None or not job.run.pid:
            _wait_again(server, job)
            engine.wait_for_time(job, now)
    for job in waiting:
        job.state = job.waiting_state()
        if job.ended is None and job.state == QUEUED:
            engine.queue.add(job)


def _stages_again(server: Server, job: Job) -> None:
    """Go on with the stages of a job where its last server stopped."""
    run = job.run
    assert run is not None
    query = "SELECT state FROM events WHERE number=? AND at>=? AND text=? ORDER BY at, rowid"
    told = server.store.execute(query, (job.number, run.began, TOLD.encode())).fetchall()
    job.stage = len(told)
    if told and not run.suspended_at:
        job.state = told[-1][0]
    server.engine.staged[job.number] = job


def load_batch(server: Server, no: int, sessions: dict[int, str], shared: Any) -> Batch:
    """A batch from the journal."""
    row = server.store.execute("SELECT * FROM batches WHERE no=?", (no,)).fetchone()
    _, session, place, first, count, environment, at, array, max_running, indices, blob, data = row
    name = sessions.get(session)
    if name is None:
        name = sessions[session] = server.store.session_id(session)
    return Batch(
        no,
        session,
        name,
        place,
        first,
        count,
        environment,
        at,
        array,
        max_running,
        unpack(indices) if indices is not None else None,
        blob,
        shared(data),
    )


def _wait_again(server: Server, job: Job) -> None:
    """Resolve a job's dependencies that were not met when the journal was written."""
    for place, (token, when) in enumerate(job.traits.after):
        if not job.flags & (MET << place):
            server.requests.depend(job, place, token, when)
