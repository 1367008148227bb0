"""Limits, dependencies, begin times and priorities."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobyard import Cause, JobState, Session

from .. import jobs
from ..polling import eventually
from .support import Features, finish, open_gate, reach, refuses


class Limits:
    """Limits beside walltime and memory, which are in Endings."""

    @pytest.mark.parametrize(
        ("attribute", "fields", "script", "wanted"),
        [
            ("open_files", {"open_files": 77}, "ulimit -n", "77"),
            ("core_bytes", {"core_size": 0}, "ulimit -c", "0"),
            ("stack_bytes", {"stack_size": "4MiB"}, "ulimit -s", "4096"),
            ("file_bytes", {"file_size": "1MiB"}, "ulimit -f", "2048"),
        ],
        ids=["open_files", "core", "stack", "file"],
    )
    def test_limits_of_the_process(
        self, session: Session, features: Features, tmp_path: Path, attribute: str, fields: dict[str, Any], script: str, wanted: str
    ) -> None:
        if not features.honours(attribute):
            with refuses(features, attribute):
                session.submit(jobs.succeed(), **fields)
            return
        # The scheduler's own limit, which need not be this machine's.
        before = session.submit(jobs.shell(f'{script} >"$1"', tmp_path / "before"))
        finish(session.submit(jobs.shell(f'{script} >"$1"', tmp_path / "seen"), **fields), features).check()
        assert (tmp_path / "seen").read_text().strip() == wanted
        # The next job has none of it.
        finish(session.submit(jobs.shell(f'{script} >"$1"', tmp_path / "next")), features).check()
        finish(before, features).check()
        assert (tmp_path / "next").read_text() == (tmp_path / "before").read_text()

    def test_a_file_that_grows_too_large(self, session: Session, features: Features, tmp_path: Path) -> None:
        if not features.honours("file_bytes"):
            with refuses(features, "file_bytes"):
                session.submit(jobs.succeed(), file_size="64KiB")
            return
        job = session.submit(["/bin/dd", "if=/dev/zero", "of=big", "bs=1024", "count=200"], directory=tmp_path, file_size="64KiB")
        assert finish(job, features).signal == "SIGXFSZ"
        assert (tmp_path / "big").stat().st_size == 64 << 10

    def test_processor_time(self, session: Session, features: Features) -> None:
        if not features.honours("cpu_time_s"):
            with refuses(features, "cpu_time_s"):
                session.submit(jobs.succeed(), cpu_time=1)
            return
        ending = finish(session.submit(jobs.shell("while :; do :; done"), cpu_time=1), features, features.deadline_s + 20)
        assert ending.state is JobState.FAILED
        assert ending.cause is Cause.CPU_TIME
        assert ending.usage.cpu_s is None or ending.usage.cpu_s >= 0.5, "limit and usage are counted apart, by ticks and exactly"

    def test_suspended_time_counts_against_walltime_and_not_run_time(self, session: Session, features: Features) -> None:
        if not features.honours("run_time_s"):
            with refuses(features, "run_time_s"):
                session.submit(jobs.succeed(), run_time=60)
            return
        ending = finish(
            session.submit(jobs.sleep(120), run_time=features.walltime_s),
            features,
            features.deadline_s + features.walltime_s + features.walltime_late_s + features.cancel_grace_s,
        )
        assert ending.state is JobState.FAILED
        assert ending.cause in features.cause("walltime")
        suspended = session.submit(jobs.sleep(0.5), run_time=60)
        reach(session, suspended, JobState.RUNNING, JobState.DONE, features=features)
        assert finish(suspended, features).success


class Dependencies:
    """Jobs that wait for others."""

    @pytest.mark.parametrize(
        ("when", "code"),
        [("success", 0), ("failure", 3), ("any", 0), ("any", 3)],
        ids=["success", "failure", "any-success", "any-failure"],
    )
    def test_satisfied(self, session: Session, features: Features, tmp_path: Path, when: str, code: int) -> None:
        if when not in features.capabilities.dependencies:
            first = session.submit(jobs.succeed())
            with refuses(features, "after"):
                session.submit(jobs.succeed(), after=(first, when))
            finish(first, features)
            return
        gate, log = tmp_path / "gate", tmp_path / "log"
        first = session.submit(jobs.gated(gate, code))
        second = session.submit(jobs.append(log, "second"), after=[(first, when)])
        reach(session, first, JobState.RUNNING, features=features)
        assert second.state in (JobState.QUEUED, JobState.HELD)
        open_gate(gate)
        assert finish(first, features).exit_code == code
        assert finish(second, features, 2 * features.deadline_s).success
        assert log.read_text().splitlines() == ["begin second -", "end second -"]

    @pytest.mark.parametrize(("when", "code"), [("success", 3), ("failure", 0)])
    def test_never_satisfied(self, session: Session, features: Features, tmp_path: Path, when: str, code: int) -> None:
        if when not in features.capabilities.dependencies:
            return  # the refusal is asserted by test_satisfied
        gate, log = tmp_path / "gate", tmp_path / "log"
        first = session.submit(jobs.gated(gate, code))
        second = session.submit(jobs.append(log, "second"), after=[(first, when)])
        third = session.submit(jobs.append(log, "third"), after=[(second, "success")])
        open_gate(gate)
        finish(first, features)
        for job in (second, third):
            ending = finish(job, features, 2 * features.deadline_s)
            assert ending.cause in features.cause("dependency")
            assert ending.state in (JobState.FAILED, JobState.CANCELLED)
            assert ending.aborted
            assert not ending.success
        assert not log.exists()

    def test_a_chain_runs_in_order(self, session: Session, features: Features, tmp_path: Path) -> None:
        if "success" not in features.capabilities.dependencies:
            return  # the refusal is asserted by test_satisfied
        log = tmp_path / "log"
        chain = [session.submit(jobs.append(log, "0"))]
        for n in range(1, 5):
            chain.append(session.submit(jobs.append(log, str(n)), after=chain[-1]))
        assert all(ending.success for ending in session.wait_all(chain, timeout=5 * features.deadline_s))
        assert [line.split()[1] for line in log.read_text().splitlines()] == list("0011223344")

    def test_after_several_and_after_an_array(self, session: Session, features: Features, tmp_path: Path) -> None:
        if "success" not in features.capabilities.dependencies:
            return  # the refusal is asserted by test_satisfied
        log, gate = tmp_path / "log", tmp_path / "gate"
        first, second = session.submit_all([jobs.gated(gate, begun=log)] * 2)
        third = session.submit(jobs.append(log, "third"), after=[first, second])
        waits: list[Any] = [third]
        if features.capabilities.arrays:
            array = session.submit_array(jobs.append(log, "task"), range(1, 3), after=third)
            waits += [*array, session.submit(jobs.append(log, "last"), after=array)]
        open_gate(gate)
        assert all(ending.success for ending in session.wait_all(waits, timeout=4 * features.deadline_s))
        words = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("end")]
        assert words[0] == "third"
        assert words[1:] == (["task", "task", "last"] if features.capabilities.arrays else [])

    def test_after_one_that_has_ended(self, session: Session, features: Features, tmp_path: Path) -> None:
        if "success" not in features.capabilities.dependencies:
            return  # the refusal is asserted by test_satisfied
        first = session.submit(jobs.succeed())
        finish(first, features)
        assert finish(session.submit(jobs.exit_with(4), after=first), features).exit_code == 4
        failed = session.submit(jobs.exit_with(1))
        finish(failed, features)
        ending = finish(session.submit(jobs.append(tmp_path / "log", "x"), after=failed), features)
        assert ending.cause in features.cause("dependency")
        assert not (tmp_path / "log").exists()

    def test_a_waiting_job_is_cancelled(self, session: Session, features: Features, tmp_path: Path) -> None:
        if "success" not in features.capabilities.dependencies:
            return  # the refusal is asserted by test_satisfied
        first = session.submit(jobs.gated(tmp_path / "gate"))
        second = session.submit(jobs.append(tmp_path / "log", "x"), after=first)
        second.cancel()
        assert finish(second, features).state is JobState.CANCELLED
        open_gate(tmp_path / "gate")
        assert finish(first, features).success
        assert not (tmp_path / "log").exists()


class BeginTime:
    """Jobs that do not begin before a moment."""

    @pytest.fixture(autouse=True)
    def _begin_time(self, session: Session, features: Features) -> None:
        if not features.honours("begin_at"):
            with refuses(features, "begin_at"):
                session.submit(jobs.succeed(), begin_at=time.time() + 1)
            pytest.skip(f"{features.scheduler} has no begin times, and refused one as it should")

    def test_not_before(self, session: Session, features: Features, tmp_path: Path) -> None:
        moment = time.time() + 1.2
        late = session.submit(jobs.append(tmp_path / "log", "late"), begin_at=moment)
        soon = session.submit(jobs.append(tmp_path / "log", "soon"))
        finish(soon, features).check()
        ending = finish(late, features, features.deadline_s + 2).check()
        assert ending.began_at is not None
        assert ending.began_at >= moment - features.clock_slack_s

    def test_a_moment_with_a_time_zone(self, session: Session, features: Features) -> None:
        moment = datetime.fromtimestamp(time.time() + 0.5, UTC)
        ending = finish(session.submit(jobs.succeed(), begin_at=moment), features).check()
        assert ending.began_at is not None
        assert ending.began_at >= moment.timestamp() - features.clock_slack_s

    def test_a_past_moment_is_now(self, session: Session, features: Features) -> None:
        finish(session.submit(jobs.succeed(), begin_at=time.time() - 1000), features).check()

    def test_cancelled_before_its_time(self, session: Session, features: Features) -> None:
        job = session.submit(jobs.succeed(), begin_at=time.time() + 3600)
        assert reach(session, job, JobState.QUEUED, JobState.HELD, features=features).waiting
        job.cancel()
        ending = finish(job, features)
        assert ending.state is JobState.CANCELLED
        assert ending.aborted


class Priority:
    """Jobs that go first."""

    def test_higher_goes_first(self, session: Session, features: Features, tmp_path: Path) -> None:
        if not features.honours("priority"):
            with refuses(features, "priority"):
                session.submit(jobs.succeed(), priority=5)
            return
        if not features.honours_priority or features.whole is None:
            finish(session.submit(jobs.succeed(), priority=-1), features).check()
            return
        whole, log = dict(features.whole), tmp_path / "log"
        blocker = session.submit(jobs.gated(tmp_path / "gate"), **whole)
        reach(session, blocker, JobState.RUNNING, features=features)
        order = [("low", -5), ("plain", 0), ("first", 10), ("second", 10)]
        waiting = [session.submit(jobs.append(log, word), priority=priority, **whole) for word, priority in order]
        assert [job.state for job in waiting] == [JobState.QUEUED] * 4
        open_gate(tmp_path / "gate")
        session.wait_all(waiting, timeout=4 * features.deadline_s)
        words = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("begin")]
        assert words == ["first", "second", "plain", "low"]

    def test_first_come_first_served(self, session: Session, features: Features, tmp_path: Path) -> None:
        if features.whole is None:
            return
        whole, log = dict(features.whole), tmp_path / "log"
        # All wait before the first can begin: a scheduler that tries a job as it comes in (Slurm) may start it before its turn.
        blocker = session.submit(jobs.gated(tmp_path / "gate"), **whole)
        waiting = [session.submit(jobs.append(log, str(n)), **whole) for n in range(5)]
        open_gate(tmp_path / "gate")
        session.wait_all([blocker, *waiting], timeout=6 * features.deadline_s)
        eventually(log.exists, "they ran", features.deadline_s)
        assert [line.split()[1] for line in log.read_text().splitlines()] == list("0011223344")
