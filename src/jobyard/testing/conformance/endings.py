"""How a job ended: told exactly wherever the scheduler or the node can know, never invented."""

from __future__ import annotations

import os
import stat
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobyard import Cause, Ending, JobState, Session
from jobyard.errors import JobFailed
from jobyard.schedulers.base import Action

from .. import jobs
from ..polling import eventually
from .support import Features, finish, open_gate, reach, refuses


class Endings:
    """How jobs end."""

    def test_every_exit_code(self, session: Session, features: Features) -> None:
        """0 to 255, each exact; 99, 100, 128 to 255 mean something else to one scheduler or another."""
        codes = list(features.exit_codes)
        if features.capabilities.arrays:
            indices = [code + 1 for code in codes]
            endings = session.submit_array(jobs.exit_by_index(), indices).wait(timeout=features.deadline_s + len(codes))
        else:
            many = session.submit_all([jobs.exit_with(code) for code in codes])
            endings = session.wait_all(many, timeout=features.deadline_s + len(codes))
        assert [ending.exit_code for ending in endings] == codes
        assert {ending.signal for ending in endings} == {None}
        assert {ending.cause for ending in endings} <= set(features.cause("exited"))
        assert [ending.state for ending in endings] == [JobState.FAILED if code else JobState.DONE for code in codes]

    def test_twelve_signals_by_name(self, session: Session, features: Features) -> None:
        if features.capabilities.arrays:
            endings = session.submit_array(jobs.signal_by_index(), range(1, 13)).wait(timeout=features.deadline_s + 60)
        else:
            many = session.submit_all([jobs.signal_itself(name) for name in jobs.SIGNALS])
            endings = session.wait_all(many, timeout=features.deadline_s + 60)
        assert [ending.signal for ending in endings] == [f"SIG{name}" for name in jobs.SIGNALS]
        assert {ending.exit_code for ending in endings} == {None}
        assert {ending.state for ending in endings} == {JobState.FAILED}
        assert {ending.cause for ending in endings} <= set(features.cause("exited"))
        assert not any(ending.core_dumped for ending in endings)
        assert not any(ending.aborted for ending in endings)

    def test_exit_137_is_no_signal(self, session: Session, features: Features) -> None:
        coded, killed = session.submit_all([jobs.exit_with(137), jobs.signal_itself("KILL")])
        first, second = finish(coded, features), finish(killed, features)
        assert (first.exit_code, first.signal) == (137, None)
        assert (second.exit_code, second.signal) == (None, "SIGKILL")

    def test_core_dump(self, session: Session, features: Features, tmp_path: Path) -> None:
        expected = features.core_dumps
        if expected is None:
            expected = _dumps_here(tmp_path)
        ending = finish(session.submit(jobs.dump_core(), directory=tmp_path), features)
        assert ending.signal == "SIGABRT"
        assert ending.core_dumped == expected

    def test_walltime(self, session: Session, features: Features) -> None:
        if not features.honours("walltime_s"):
            with refuses(features, "walltime_s"):
                session.submit(jobs.sleep(60), walltime=features.walltime_s)
            return
        job = session.submit(jobs.sleep(features.walltime_s + features.walltime_late_s + 120), walltime=features.walltime_s)
        ending = finish(
            job, features, features.deadline_s + features.walltime_s + features.walltime_late_s + features.cancel_grace_s
        )
        assert ending.state is JobState.FAILED
        assert ending.cause in features.cause("walltime")
        assert not ending.aborted
        with pytest.raises(JobFailed, match="walltime" if ending.cause is Cause.WALLTIME else None):
            ending.check()

    def test_within_the_walltime(self, session: Session, features: Features) -> None:
        if not features.honours("walltime_s"):
            with refuses(features, "walltime_s"):
                session.check(jobs.succeed(), walltime=60)
            return
        assert finish(session.submit(jobs.exit_with(4), walltime=max(60.0, features.walltime_s)), features).exit_code == 4

    def test_memory(self, session: Session, features: Features) -> None:
        if not features.honours("memory_bytes"):
            with refuses(features, "memory_bytes"):
                session.submit(jobs.succeed(), memory="64MiB")
            return
        # Where it is not enforced the job just ends; too little is asked then, so that nothing swaps.
        n_bytes = 256 << 20 if features.enforces_memory else 8 << 20
        ending = finish(
            session.submit(jobs.allocate(n_bytes, seconds=30 if features.enforces_memory else 0), memory="64MiB"), features
        )
        if features.enforces_memory:
            assert ending.state is JobState.FAILED
            assert ending.cause in features.cause("memory")
        else:
            assert ending.success

    @pytest.mark.parametrize("when", ["queued", "held", "running", "suspended"])
    def test_cancelled(self, session: Session, features: Features, tmp_path: Path, when: str) -> None:
        begun = tmp_path / "begun"
        fields: dict[str, Any] = {}
        if when == "queued":
            fields["begin_at"] = time.time() + 3600
        elif when == "held":
            fields["hold"] = True
        attribute = {"queued": "begin_at", "held": "hold"}.get(when)
        if attribute is not None and not features.honours(attribute):
            with refuses(features, attribute):
                session.submit(jobs.succeed(), **fields)
            return
        job = session.submit(jobs.gated(tmp_path / "gate", begun=begun), **fields)
        if when in ("running", "suspended"):
            reach(session, job, JobState.RUNNING, features=features)
            eventually(begun.exists, "the command has begun", features.deadline_s)
        if when == "suspended" and features.can(Action.SUSPEND):
            job.suspend()
            reach(session, job, JobState.SUSPENDED, features=features)
        job.cancel()
        ending = finish(job, features, features.deadline_s + features.cancel_grace_s)
        assert ending.state is JobState.CANCELLED
        assert ending.cause in features.cause("cancelled")
        assert ending.exit_code is None
        assert ending.aborted == (when in ("queued", "held"))
        assert begun.exists() == (when in ("running", "suspended"))
        assert not ending.success

    def test_one_that_ends_by_itself_is_not_cancelled(self, session: Session, features: Features) -> None:
        job = session.submit(jobs.exit_with(5))
        finish(job, features)
        job.cancel()
        assert job.wait(timeout=0).exit_code == 5
        assert job.state is JobState.FAILED

    @pytest.mark.parametrize("what", ["directory", "command", "not-executable", "stdin", "stdout", "stderr"])
    def test_never_started(self, session: Session, features: Features, tmp_path: Path, what: str) -> None:
        """The cause is told, and the message names the path at fault."""
        plain = tmp_path / "plain file"
        plain.write_text("this is no program\n")
        plain.chmod(stat.S_IRUSR | stat.S_IWUSR)
        missing = str(tmp_path / "no such thing" / "at all")
        command: list[str] = jobs.succeed()
        fields: dict[str, Any] = {}
        path = missing
        if what == "command":
            command = [missing, "x"]
        elif what == "not-executable":
            command, path = [str(plain)], str(plain)
        else:
            fields[what] = missing
        ending = finish(session.submit(command, **fields), features)
        assert ending.state is JobState.FAILED
        assert ending.cause in features.cause("not_started")
        assert ending.aborted
        assert ending.exit_code is None
        assert ending.signal is None
        assert path in ending.message, ending.message
        with pytest.raises(JobFailed) as caught:
            ending.check()
        assert caught.value.ending == ending
        assert path in str(caught.value)

    def test_a_command_is_looked_up_on_the_jobs_path(self, session: Session, features: Features, tmp_path: Path) -> None:
        program = tmp_path / "bin" / "my-program"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\nexit 23\n")
        program.chmod(0o755)
        job = session.submit(["my-program"], environment={"PATH": f"{tmp_path}/bin"})
        assert finish(job, features).exit_code == 23

    def test_a_relative_command_is_found_from_the_jobs_directory(
        self, session: Session, features: Features, tmp_path: Path
    ) -> None:
        program = tmp_path / "here.sh"
        program.write_text("#!/bin/sh\nexit 24\n")
        program.chmod(0o755)
        assert finish(session.submit(["./here.sh"], directory=tmp_path), features).exit_code == 24

    def test_times_are_in_order(self, session: Session, features: Features) -> None:
        before = time.time()
        job = session.submit(jobs.sleep(0.3))
        ending = finish(job, features)
        after = time.time()
        assert ending.submitted_at is not None
        assert ending.began_at is not None
        assert ending.ended_at is not None
        slack = features.clock_slack_s
        assert before - slack <= ending.submitted_at <= ending.began_at + slack
        assert ending.began_at + 0.3 - slack <= ending.ended_at <= after + slack
        states = [transition.state for transition in job.history]
        assert states[-1] is JobState.DONE
        assert states.index(JobState.RUNNING) < len(states) - 1
        times = [transition.at for transition in job.history]
        assert all(later >= earlier - slack for earlier, later in pairwise(times)), times
        assert job.history[-1].ending == ending
        assert ending.attempts == 1
        assert ending.host

    def test_usage_is_sane(self, session: Session, features: Features) -> None:
        burn = "import time\nend = time.process_time() + 0.3\nkept = b'x' * (40 << 20)\nwhile time.process_time() < end: pass"
        argv = [*jobs.noisy(0)[:4], burn]
        usage = finish(session.submit(argv), features).usage
        assert usage.wall_s is not None
        assert usage.wall_s >= 0.3
        assert usage.cpu_s is not None
        assert 0.25 <= usage.cpu_s <= usage.wall_s + 0.5, "one thread uses no more than the time that passes"
        assert usage.max_rss_bytes is None or usage.max_rss_bytes >= 40 << 20

    def test_check_passes_a_success_on(self, session: Session, features: Features) -> None:
        ending = finish(session.submit(jobs.succeed()), features)
        assert ending.check() is ending
        assert str(ending).startswith("exited with 0")

    def test_the_ending_stays(self, session: Session, features: Features, tmp_path: Path) -> None:
        """Final is final: whatever is done afterwards, in whatever session, the same ending is told."""
        job = session.submit(jobs.gated(tmp_path / "gate", 3))
        open_gate(tmp_path / "gate")
        ending = finish(job, features)
        job.reap()
        again: list[Ending | None] = [job.wait(timeout=0), job.ending, session.job(job.token).ending]
        with Session(session.contact) as other:
            again.append(other.job(job.token).wait(timeout=0))
        assert again == [ending] * 4

    def test_a_child_left_behind_does_not_keep_the_job(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.shell('/bin/sleep 20 >/dev/null 2>&1 & echo $! >"$1"; exit 6', tmp_path / "pid"))
        assert finish(job, features, min(15.0, features.deadline_s + features.poll_s)).exit_code == 6


def _dumps_here(folder: Path) -> bool:
    """Does this machine dump core: the same command, run by ourselves."""
    pid = os.posix_spawn("/bin/sh", ["/bin/sh", "-c", f"cd '{folder}' && {jobs.dump_core()[2]}"], dict(os.environ))
    return os.WCOREDUMP(os.waitpid(pid, 0)[1])
