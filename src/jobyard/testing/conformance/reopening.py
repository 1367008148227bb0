"""A session outlives its process: opened again by its contact, watched by several processes at once."""

from __future__ import annotations

import json
import os
import signal
import threading
import uuid
from pathlib import Path

import pytest

from jobyard import JobState, Session
from jobyard.errors import InvalidContact, JobyardError, SessionClosed, UnknownJob

from .. import jobs
from ..polling import eventually
from .support import Features, client, finish, open_gate, reach, running_client

_WAIT = """
with Session(arguments[0]) as session:
    found = session.jobs()
    endings = session.wait_all(found, timeout=arguments[1])
    say([[job.token, job.native_id, job.name, str(job.state), e.exit_code, e.signal] for job, e in zip(found, endings)])
"""

_SUBMIT = """
from jobyard.testing import jobs
session = Session(arguments[0])
many = session.submit_all([jobs.gated(arguments[1], code, begun=arguments[2]) for code in (0, 3, 250)], name="gated")
say([session.contact, [job.token for job in many]])
session.wait_all()
"""


class Reopen:
    """One session, several processes."""

    def test_all_jobs_and_their_endings(self, session: Session, features: Features, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        early = session.submit(jobs.exit_with(7), name="early")
        finish(early, features)
        many = session.submit_all([jobs.gated(gate, code) for code in (0, 9)], name="late")
        contact, tokens = session.contact, [job.token for job in (early, *many)]
        ids = [job.native_id for job in (early, *many)]
        session.close()
        open_gate(gate)
        found = client(_WAIT, contact, features.deadline_s + features.poll_s, timeout_s=features.deadline_s + 30)
        assert found == [
            [tokens[0], ids[0], "early", "failed", 7, None],
            [tokens[1], ids[1], "late", "done", 0, None],
            [tokens[2], ids[2], "late", "failed", 9, None],
        ]

    def test_an_array(self, session: Session, features: Features, tmp_path: Path) -> None:
        if not features.capabilities.arrays:
            return  # the refusal is asserted by Arrays
        array = session.submit_array(jobs.exit_by_index(), [3, 6], name="a")
        contact = session.contact
        session.close()
        with Session(contact) as other:
            again = other.array(array.token)
            assert [task.task_index for task in again] == [3, 6]
            assert [ending.exit_code for ending in again.wait(timeout=features.deadline_s)] == [2, 5]
            assert again.native_id == array.native_id
            assert [task.array for task in again] == [array.token] * 2

    def test_after_the_first_client_was_killed(self, session: Session, features: Features, tmp_path: Path) -> None:
        """kill -9 of the client costs nothing: its jobs go on, and the next one has all of them."""
        gate, log = tmp_path / "gate", tmp_path / "log"
        with running_client(_SUBMIT, features.contact, str(gate), str(log)) as (process, (contact, tokens)):
            eventually(lambda: log.exists() and log.read_text(), "one has begun", features.deadline_s)
            process.send_signal(signal.SIGKILL)
            process.wait()
        with Session(contact) as other:
            found = other.jobs()
            assert [job.token for job in found] == tokens
            assert not any(job.state.final for job in found)
            open_gate(gate)
            endings = other.wait_all(found, timeout=features.deadline_s + features.poll_s)
            assert [ending.exit_code for ending in endings] == [0, 3, 250]
        assert len(log.read_text().splitlines()) == 3, "each ran once"

    def test_two_processes_watch_one_session(self, session: Session, features: Features, tmp_path: Path) -> None:
        """Both see each job, each transition once, in order, and the same endings."""
        program = """
order = {}
done = threading.Event()
def seen(job, transition):
    order.setdefault(job.token, []).append(str(transition.state))
with Session(arguments[0]) as session:
    watch = session.watch(seen)
    found = session.jobs()
    say(len(found))
    endings = session.wait_all(found, timeout=arguments[1])
    end = time.monotonic() + 10
    while time.monotonic() < end and any(order.get(job.token, [""])[-1] != str(job.state) for job in found):
        time.sleep(0.01)
    say([[job.token, order.get(job.token), e.exit_code] for job, e in zip(found, endings)])
"""
        gate = tmp_path / "gate"
        many = session.submit_all([jobs.gated(gate, code) for code in (0, 4, 5)])
        with running_client(program, session.contact, features.deadline_s + features.poll_s) as (process, count):
            assert count == 3
            open_gate(gate)
            ours = session.wait_all(many, timeout=features.deadline_s + features.poll_s)
            assert process.stdout is not None
            theirs = json.loads(process.stdout.readline())
            process.wait()
        assert [line[0] for line in theirs] == [job.token for job in many]
        assert [line[2] for line in theirs] == [ending.exit_code for ending in ours] == [0, 4, 5]
        for _, states, code in theirs:
            assert len(states) == len(set(states)), states
            assert states[-1] == ("failed" if code else "done")
            assert "running" not in states or states.index("running") < len(states) - 1

    def test_control_from_another_process(self, session: Session, features: Features, tmp_path: Path) -> None:
        program = """
with Session(arguments[0]) as session:
    session.job(arguments[1]).cancel()
say(True)
"""
        job = session.submit(jobs.gated(tmp_path / "gate"))
        reach(session, job, JobState.RUNNING, features=features)
        client(program, session.contact, job.token)
        assert finish(job, features, features.deadline_s + features.cancel_grace_s).state is JobState.CANCELLED

    def test_jobs_of_another_process_are_seen(self, session: Session, features: Features, tmp_path: Path) -> None:
        """What another process submits to this session is this session's too."""
        program = """
from jobyard.testing import jobs
with Session(arguments[0]) as session:
    say(session.submit(jobs.exit_with(8)).token)
"""
        ours = session.submit(jobs.succeed())
        token = client(program, session.contact)
        assert {job.token for job in session.jobs()} == {ours.token, token}
        assert finish(session.job(token), features).exit_code == 8

    def test_history_in_order(self, session: Session, features: Features) -> None:
        job = session.submit(jobs.exit_with(1))
        finish(job, features)
        ours = list(job.history)
        states = [transition.state for transition in ours]
        assert states[-1] is JobState.FAILED
        assert [state for state in states if state.final] == [JobState.FAILED]
        assert len(set(states)) == len(states)
        with Session(session.contact) as other:
            assert list(other.job(job.token).history) == ours

    def test_taken_once_by_whatever_process(self, session: Session, features: Features) -> None:
        program = """
from jobyard import UnknownJob
taken = []
with Session(arguments[0]) as session:
    say(len(session.jobs()))
    while True:
        try:
            taken.append(session.take(timeout=arguments[1]).token)
        except UnknownJob:
            break
    say(taken)
"""
        many = session.submit_all([jobs.succeed()] * 20)
        limit_s = features.deadline_s + features.poll_s
        ours = []
        with running_client(program, session.contact, limit_s) as (process, count):
            assert count == 20
            while True:
                try:
                    ours.append(session.take(timeout=limit_s).token)
                except UnknownJob:
                    break
            assert process.stdout is not None
            theirs = json.loads(process.stdout.readline())
            process.wait()
        assert sorted(ours + theirs) == sorted(job.token for job in many)
        assert all(job.reaped for job in many)

    def test_a_session_that_never_was(self, session: Session) -> None:
        """A lost contact is an error, not a new and empty session."""
        own = session.contact
        head, _, rest = own.partition("/")
        name, mark, options = rest.partition("?")
        assert name
        with pytest.raises(InvalidContact):
            Session(f"{head}/{_like(name)}{mark}{options}").jobs()

    def test_a_closed_session(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.gated(tmp_path / "gate", 2))
        failed: list[BaseException] = []
        waiting = threading.Event()

        def wait() -> None:
            waiting.set()
            try:
                job.wait(timeout=features.deadline_s)
            except (JobyardError, TimeoutError) as error:
                failed.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait()
        contact, token = session.contact, job.token
        session.close()
        session.close()
        thread.join(features.deadline_s)
        assert [type(error) for error in failed] == [SessionClosed]
        assert session.closed
        with pytest.raises(SessionClosed):
            session.submit(jobs.succeed())
        with pytest.raises(SessionClosed):
            session.jobs()
        open_gate(tmp_path / "gate")
        with Session(contact) as other:
            assert finish(other.job(token), features).exit_code == 2

    def test_opening_leaves_nothing(self, features: Features) -> None:
        """A session without jobs has no thread, and costs no file but the journal."""
        before = threading.active_count()
        work = os.environ.get("JOBYARD_WORK_DIR", "")
        files = sorted(os.listdir(work)) if os.path.isdir(work) else []
        with Session(features.contact) as other:
            assert other.jobs() == []
            assert threading.active_count() == before
        assert (sorted(os.listdir(work)) if os.path.isdir(work) else []) == files


def _like(name: str) -> str:
    """Another name of the same form."""
    fresh = uuid.uuid4().hex
    return (fresh * (len(name) // len(fresh) + 1))[: len(name)]
