"""Listing and foreign jobs; what is left behind; what many jobs cost; forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from jobyard import Job, JobState, Session
from jobyard.errors import InvalidJob, SubmitError, UnknownJob, WrongState

from .. import jobs
from ..polling import eventually
from .support import Features, client, finish, open_gate, reach


class Listing:
    """What jobs there are."""

    def test_the_jobs_of_a_session(self, session: Session, features: Features, tmp_path: Path) -> None:
        assert session.jobs() == []
        first = session.submit(jobs.succeed(), name="first")
        finish(first, features)
        second = session.submit(jobs.gated(tmp_path / "gate"), name="second")
        assert session.jobs() == [first, second]
        assert session.jobs(unfinished=True) == [second]
        assert session.jobs(newest=1) == [second]
        assert session.jobs(unreaped=True) == [first, second]
        first.reap()
        assert session.jobs(unreaped=True) == [second]
        with Session(features.contact) as other:
            assert other.jobs() == []
        open_gate(tmp_path / "gate")
        finish(second, features)
        assert session.jobs(unfinished=True) == []

    def test_by_token_and_by_native_id(self, session: Session, features: Features) -> None:
        job = session.submit(jobs.succeed())
        assert session.job(job.token) is job
        assert session.job(job.native_id) is job
        finish(job, features)
        assert session.job(job.token) is job

    def test_native_ids_of_all_sessions(self, session: Session, features: Features, tmp_path: Path) -> None:
        with Session(features.contact) as other:
            ours = session.submit(jobs.gated(tmp_path / "gate"))
            theirs = other.submit(jobs.gated(tmp_path / "gate"))
            eventually(
                lambda: {ours.native_id, theirs.native_id} <= set(session.native_ids()),
                "both are listed",
                features.deadline_s + features.poll_s,
            )
            open_gate(tmp_path / "gate")
            finish(theirs, features)
            finish(ours, features)

    def test_a_job_of_another_session_is_followed(self, session: Session, features: Features, tmp_path: Path) -> None:
        with Session(features.contact) as other:
            theirs = other.submit(jobs.gated(tmp_path / "gate", 7), name="theirs")
            reach(other, theirs, JobState.RUNNING, features=features)
            attached = session.attach(theirs.native_id)
            assert attached.native_id == theirs.native_id
            reach(session, attached, JobState.RUNNING, features=features)
            assert attached in session.jobs()
            assert session.attach(theirs.native_id).token == attached.token, "attaching twice is one job"
            open_gate(tmp_path / "gate")
            ending = finish(theirs, features)
            seen = finish(attached, features, features.deadline_s + 2 * features.poll_s + 120)
            # Not ours: no receipt is read for it, so the scheduler's own word is all there is.
            if features.capabilities.accounting:
                assert seen.exit_code == ending.exit_code == 7
            assert seen.state is JobState.FAILED

    def test_an_attached_job_is_cancelled(self, session: Session, features: Features, tmp_path: Path) -> None:
        with Session(features.contact) as other:
            theirs = other.submit(jobs.gated(tmp_path / "gate"))
            reach(other, theirs, JobState.RUNNING, features=features)
            session.attach(theirs.native_id).cancel()
            ending = finish(theirs, features, features.deadline_s + features.cancel_grace_s)
            assert ending.state in (JobState.CANCELLED, JobState.FAILED)

    @pytest.mark.parametrize("name", ["0" * 32, "99999999", "no such job", "", "-h", "a\nb", "$(id)"])
    def test_unknown_names(self, session: Session, name: str) -> None:
        with pytest.raises(UnknownJob):
            session.job(name)
        with pytest.raises(UnknownJob):
            session.array(name)
        with pytest.raises(UnknownJob):
            session.attach(name)
        assert session.jobs() == []

    def test_why(self, session: Session, features: Features) -> None:
        job = session.submit(jobs.exit_with(3))
        finish(job, features)
        lines = job.why()
        assert lines
        assert "3" in lines[-1].text or any("3" in line.text for line in lines)
        assert [line.at for line in lines] == sorted(line.at for line in lines) or len(lines) > 1
        assert all(line.text and "\n" not in line.text for line in lines)


def _left(token: str) -> list[str]:
    """Everything under the state and work folders whose name or path has that token."""
    found = []
    for variable in ("JOBYARD_WORK_DIR", "JOBYARD_STATE_DIR"):
        root = os.environ[variable]
        for folder, folders, files in os.walk(root):
            found += [os.path.join(folder, name) for name in (*folders, *files) if token in os.path.join(folder, name)[len(root) :]]
    return found


def _count_files() -> Collection[str]:
    root = os.environ["JOBYARD_WORK_DIR"]
    return sorted(
        os.path.join(folder, name)
        for folder, _, files in os.walk(root)
        for name in files
        if f"{os.sep}node{os.sep}" not in folder + os.sep
    )


class Litter:
    """What is left behind: nothing that nobody asked for."""

    def test_a_job_with_streams_of_its_own_leaves_nothing(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.succeed(), stdout=tmp_path / "out", stderr="/dev/null")
        finish(job, features)
        job.reap()
        token = job.token
        eventually(lambda: not _left(token), f"nothing of {token} is left", features.deadline_s)
        assert (tmp_path / "out").exists(), "what was asked for stays"

    def test_a_removed_job_leaves_nothing(self, session: Session, features: Features) -> None:
        job = session.submit(jobs.shell("echo kept"))
        finish(job, features)
        token, path = job.token, job.stdout_path
        assert path is not None
        assert Path(path).read_text() == "kept\n"
        job.remove()
        assert not Path(path).exists()
        eventually(lambda: not _left(token), f"nothing of {token} is left", features.deadline_s)
        assert session.jobs() == []
        with pytest.raises(UnknownJob):
            session.job(token)

    def test_many_removed_jobs_leave_nothing(self, session: Session, features: Features) -> None:
        before = set(_count_files())
        many = session.submit_all([["/bin/echo", str(n)] for n in range(30)])
        session.wait_all(many, timeout=features.deadline_s + features.poll_s)
        session.clean()
        assert session.jobs() == []
        eventually(lambda: set(_count_files()) <= before, "no file of the jobs is left", features.deadline_s)

    def test_an_unfinished_job_is_not_removed(self, session: Session, features: Features, tmp_path: Path) -> None:
        done, job = session.submit(jobs.succeed()), session.submit(jobs.gated(tmp_path / "gate"))
        finish(done, features)
        for refused in (job.remove, job.reap, lambda: session.clean([done, job])):
            with pytest.raises(WrongState):
                refused()
        assert session.jobs() == [done, job]
        session.clean()
        assert session.jobs() == [job]
        open_gate(tmp_path / "gate")
        finish(job, features)

    def test_a_refused_submission_leaves_nothing(self, session: Session) -> None:
        before = _count_files()
        for fields in ({"memory": "3 flurb"}, {"after": "0" * 32}, {"queue": "no-such-queue", "account": "no-such-account"}):
            with pytest.raises((InvalidJob, UnknownJob, SubmitError)):
                session.submit(jobs.succeed(), **fields)
        assert _count_files() == before
        assert session.jobs() == []

    def test_the_same_job_again(self, session: Session, features: Features, tmp_path: Path) -> None:
        """One description, submitted over and over: jobs of their own."""
        description = session.check(jobs.append(tmp_path / "log", "again"), name="again")
        many = [session.submit(description) for _ in range(3)]
        session.wait_all(many, timeout=features.deadline_s + features.poll_s)
        assert len({job.token for job in many}) == 3
        assert (tmp_path / "log").read_text().count("end again") == 3

    def test_the_directory_of_the_job_gets_nothing(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.succeed(), directory=tmp_path, environment={"A": "b"})
        finish(job, features)
        assert list(tmp_path.iterdir()) == []


class Cost:
    """Threads and commands do not grow with jobs."""

    def test_threads_are_few_and_constant(self, session: Session, features: Features) -> None:
        told: list[Job] = []
        session.watch(lambda job, _: told.append(job))
        warm = session.submit_all([jobs.succeed()] * 8)
        session.wait_all(warm, timeout=features.deadline_s)
        eventually(lambda: len(told) >= 8, "callbacks have run", features.deadline_s)
        before = threading.active_count()
        many = session.submit_all([jobs.succeed()] * features.many)
        most = before
        for _ in session.as_completed(many, timeout=features.deadline_s + 0.2 * features.many):
            most = max(most, threading.active_count())
        assert most <= before + 4, f"{before} threads became {most}"  # four for callbacks, in all
        assert before <= 12

    def test_no_thread_before_it_is_needed(self, features: Features) -> None:
        program = """
session = Session(arguments[0])
first = threading.active_count()
session.jobs()
say([first, threading.active_count()])
"""
        assert client(program, features.contact) == [1, 1]

    def test_import_has_no_side_effects(self, features: Features) -> None:
        program = """
import signal
handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD)]
say([threading.active_count(), handlers == [signal.default_int_handler, signal.SIG_DFL]])
"""
        assert client(program) == [1, True]

    def test_commands_do_not_grow_with_jobs(self, session: Session, features: Features, tmp_path: Path) -> None:
        """The scheduler is asked about all jobs at once."""
        if features.commands_run is None:
            return
        spent = []
        for count in (2, 60):
            gate = tmp_path / f"gate{count}"
            before = features.commands_run()
            many = session.submit_all([jobs.gated(gate)] * count)
            for job in many[:2]:
                reach(session, job, JobState.RUNNING, JobState.QUEUED, features=features)
            open_gate(gate)
            session.wait_all(many, timeout=features.deadline_s + count)
            spent.append(features.commands_run() - before)
        assert spent[1] <= 3 * spent[0] + 20, f"2 jobs cost {spent[0]} commands, 60 cost {spent[1]}"


class Fork:
    """A child of a process with a session."""

    def test_the_child_works_or_is_refused_at_once(self, session: Session, features: Features, tmp_path: Path) -> None:
        program = """
import warnings
from jobyard import JobyardError
from jobyard.testing import jobs
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: that is what is tried here
session = Session(arguments[0])
seen = threading.Event()
session.watch(lambda job, transition: seen.set())
job = session.submit(jobs.exit_with(3))
session.wait_all(timeout=arguments[1])
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    try:
        code = session.submit(jobs.exit_with(4)).wait(timeout=arguments[1]).exit_code
        assert session.job(job.token).wait(timeout=arguments[1]).exit_code == 3
        answer = str(code)
    except JobyardError as error:
        answer = "refused"
    except BaseException as error:
        answer = repr(error)
    os.write(write, answer.encode())
    os._exit(0)
os.close(write)
answer = b""
while part := os.read(read, 1000):
    answer += part
os.waitpid(pid, 0)
again = session.submit(jobs.exit_with(5)).wait(timeout=arguments[1]).exit_code
session.close()
say([answer.decode(), again])
"""
        answer, again = client(program, features.contact, features.deadline_s, timeout_s=4 * features.deadline_s)
        assert answer in ("4", "refused")
        assert again == 5, "the parent's session goes on"
