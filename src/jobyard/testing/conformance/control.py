"""Hold, release, suspend, resume, cancel, signal and requeue, each in each state of a job."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobyard import Job, JobState, Session
from jobyard.errors import ControlError, UnknownJob, WrongState
from jobyard.job import By
from jobyard.schedulers.base import Action

from .. import jobs
from ..polling import eventually
from .support import Features, assert_control_refused, finish, open_gate, reach, refuses

QUEUED, HELD, RUNNING, SUSPENDED, FINISHED = "queued", "held", "running", "suspended", "finished"
_STATES = (QUEUED, HELD, RUNNING, SUSPENDED, FINISHED)
# What each action does in which state; everywhere else it raises WrongState. Cancelling a finished job does nothing.
_ACTS = {
    Action.CANCEL: _STATES,
    Action.HOLD: (QUEUED,),
    Action.RELEASE: (HELD,),
    Action.SUSPEND: (RUNNING,),
    Action.RESUME: (SUSPENDED,),
    Action.SIGNAL: (RUNNING, SUSPENDED),
    Action.REQUEUE: (RUNNING,),
}
# May be taken or refused: schedulers differ, and no harm is in either.
_EITHER = {(Action.HOLD, HELD), (Action.REQUEUE, SUSPENDED)}
_MATRIX = [(action, state) for action in Action for state in _STATES]


class Scene:
    """One job brought to a state, and what is needed to let it go on."""

    def __init__(self, session: Session, features: Features, folder: Path) -> None:
        self.session = session
        self.features = features
        self.gate = folder / "gate"
        self.log = folder / "log"
        self.blocker_gate = folder / "blocker-gate"
        self._blocker: Job | None = None

    def bring(self, state: str, *, rerunnable: bool = False) -> Job | None:
        """A job in that state; None where this scheduler cannot be brought there, its refusal being checked."""
        make: dict[str, Callable[[bool], Job | None]] = {
            QUEUED: self._queued,
            HELD: self._held,
            RUNNING: self._running,
            SUSPENDED: self._suspended,
            FINISHED: self._finished,
        }
        return make[state](rerunnable)

    def _submit(self, **fields: object) -> Job:
        rerunnable = fields.pop("rerunnable", False)
        if rerunnable and self.features.honours("rerunnable"):
            fields["rerunnable"] = True
        return self.session.submit(jobs.gated(self.gate, begun=self.log), **fields)

    def _queued(self, rerunnable: bool) -> Job:
        features = self.features
        if features.whole is not None:
            blocker = self.session.submit(jobs.gated(self.blocker_gate), **features.whole)
            self._blocker = blocker
            reach(self.session, blocker, JobState.RUNNING, features=features)
            job = self._submit(rerunnable=rerunnable, **features.whole)
            reach(self.session, job, JobState.QUEUED, features=features)
        else:
            job = self._submit(rerunnable=rerunnable, begin_at=time.time() + 3600)
            reach(self.session, job, JobState.QUEUED, JobState.HELD, features=features)
        return job

    def _held(self, rerunnable: bool) -> Job | None:
        if not self.features.honours("hold"):
            with refuses(self.features, "hold"):
                self._submit(hold=True)
            return None
        job = self._submit(hold=True, rerunnable=rerunnable)
        reach(self.session, job, JobState.HELD, features=self.features)
        assert job.by in (By.USER, By.BOTH)
        return job

    def _running(self, rerunnable: bool) -> Job:
        job = self._submit(rerunnable=rerunnable)
        reach(self.session, job, JobState.RUNNING, features=self.features)
        eventually(self.log.exists, "the command has begun", self.features.deadline_s)
        return job

    def _suspended(self, rerunnable: bool) -> Job | None:
        job = self._running(rerunnable)
        if not self.features.can(Action.SUSPEND):
            with pytest.raises(ControlError) as caught:
                job.suspend()
            assert_control_refused(self.features, Action.SUSPEND, caught.value)
            job.cancel()
            return None
        job.suspend()
        reach(self.session, job, JobState.SUSPENDED, features=self.features)
        assert job.by in (By.USER, By.BOTH)
        return job

    def _finished(self, _rerunnable: bool) -> Job:
        open_gate(self.gate)
        job = self._submit()
        finish(job, self.features).check()
        return job

    def unblock(self) -> None:
        """Let the job that fills the machine end."""
        open_gate(self.blocker_gate)
        if self._blocker is not None:
            finish(self._blocker, self.features)


_SHOWN = {
    QUEUED: (JobState.QUEUED, JobState.HELD),
    HELD: (JobState.HELD,),
    RUNNING: (JobState.RUNNING,),
    SUSPENDED: (JobState.SUSPENDED,),
    FINISHED: (JobState.DONE,),
}


def _act(job: Job, action: Action) -> None:
    if action is Action.SIGNAL:
        job.signal("USR1")
    else:
        getattr(job, action.value)()


class Control:
    """What can be done to a job, in each of its states."""

    @pytest.fixture
    def scene(self, session: Session, features: Features, tmp_path: Path) -> Scene:
        """Brings jobs to states."""
        return Scene(session, features, tmp_path)

    @pytest.mark.parametrize(("action", "state"), _MATRIX, ids=[f"{action}-{state}" for action, state in _MATRIX])
    def test_each_action_in_each_state(
        self, session: Session, features: Features, scene: Scene, action: Action, state: str
    ) -> None:
        job = scene.bring(state, rerunnable=action is Action.REQUEUE)
        if job is None:
            return
        if not features.can(action):
            with pytest.raises(ControlError) as caught:
                _act(job, action)
            assert_control_refused(features, action, caught.value)
        elif state in _ACTS[action]:
            _act(job, action)
            self._assert_effect(session, features, scene, job, action, state)
        elif (action, state) in _EITHER:
            try:
                _act(job, action)
            except WrongState:
                assert job.state in _SHOWN[state]
        else:
            with pytest.raises(WrongState) as wrong:
                _act(job, action)
            assert job.native_id in str(wrong.value) or job.token in str(wrong.value), "the message names the job"
            assert job.state in _SHOWN[state]
        if not job.state.final:
            job.cancel()
            assert finish(job, features, features.deadline_s + features.cancel_grace_s).state is JobState.CANCELLED
        scene.unblock()

    def _assert_effect(self, session: Session, features: Features, scene: Scene, job: Job, action: Action, state: str) -> None:
        if action is Action.CANCEL:
            ending = finish(job, features, features.deadline_s + features.cancel_grace_s)
            assert ending.state is (JobState.DONE if state == FINISHED else JobState.CANCELLED)
            assert scene.log.exists() == (state in (RUNNING, SUSPENDED, FINISHED))
        elif action is Action.HOLD:
            reach(session, job, JobState.HELD, features=features)
            assert job.by in (By.USER, By.BOTH)
            scene.unblock()
            open_gate(scene.gate)
            with pytest.raises(TimeoutError):
                job.wait(timeout=0.3)
            job.release()
            if features.whole is not None:
                assert finish(job, features).success
        elif action is Action.RELEASE:
            open_gate(scene.gate)
            assert finish(job, features).success
        elif action is Action.SUSPEND:
            reach(session, job, JobState.SUSPENDED, features=features)
            assert job.by in (By.USER, By.BOTH)
            time.sleep(features.suspend_late_s)
            open_gate(scene.gate)
            with pytest.raises(TimeoutError):
                job.wait(timeout=0.3)
            if features.can(Action.RESUME):
                job.resume()
                assert finish(job, features).success
        elif action is Action.RESUME:
            reach(session, job, JobState.RUNNING, features=features)
            open_gate(scene.gate)
            assert finish(job, features).success
        elif action is Action.SIGNAL:
            if state == SUSPENDED:
                if not features.signals_suspended:
                    return
                job.resume()
            ending = finish(job, features)
            assert ending.signal == "SIGUSR1"
            assert ending.state is JobState.FAILED
        elif action is Action.REQUEUE:
            again_at = math.inf if features.requeue_again_s is None else time.monotonic() + features.requeue_again_s

            def begun_again() -> bool:
                nonlocal again_at
                if time.monotonic() > again_at:
                    again_at += features.requeue_again_s or math.inf
                    with contextlib.suppress(WrongState):  # it is about to begin
                        job.requeue()
                return len(scene.log.read_text().splitlines()) >= 2  # more where it began just as it was asked again

            eventually(begun_again, "the job has begun again", 2 * features.deadline_s + features.cancel_grace_s)
            open_gate(scene.gate)
            ending = finish(job, features, features.deadline_s + features.cancel_grace_s)
            assert ending.success
            assert ending.attempts == len(scene.log.read_text().splitlines())

    def test_a_job_that_must_not_run_twice_is_not_requeued(self, session: Session, features: Features, scene: Scene) -> None:
        job = scene.bring(RUNNING)
        assert job is not None
        with pytest.raises(ControlError):
            job.requeue()
        open_gate(scene.gate)
        ending = finish(job, features)
        assert ending.success
        assert len(scene.log.read_text().splitlines()) == ending.attempts == 1

    def test_a_trap_sees_the_signal_and_its_exit_code_counts(self, session: Session, features: Features, tmp_path: Path) -> None:
        if not features.can(Action.SIGNAL):
            return  # the refusal is asserted by test_each_action_in_each_state
        log = tmp_path / "log"
        job = session.submit(jobs.trap(log, ["USR1", "USR2"], code=9))
        eventually(lambda: log.exists() and log.read_text(), "the command is ready", features.deadline_s)
        job.signal(signal.SIGUSR2)
        assert finish(job, features).exit_code == 9
        assert log.read_text().splitlines() == ["ready", "USR2"]

    @pytest.mark.parametrize("bad", ["NOSUCH", 0, 65, -9, "SIG_IGN", True])
    def test_no_such_signal(self, session: Session, scene: Scene, features: Features, bad: int | str) -> None:
        job = session.submit(jobs.gated(scene.gate))
        with pytest.raises(ControlError):
            job.signal(bad)
        open_gate(scene.gate)
        finish(job, features)

    def test_cancel_ends_one_that_ignores_the_first_signal(self, session: Session, features: Features, tmp_path: Path) -> None:
        ready = tmp_path / "ready"
        job = session.submit(
            jobs.shell('trap "" TERM; echo >"$1"; n=0; while [ $n -lt 1200 ]; do /bin/sleep 0.1; n=$((n+1)); done', ready)
        )
        eventually(ready.exists, "the command has begun", features.deadline_s)
        job.cancel()
        ending = finish(job, features, features.deadline_s + 2 * features.cancel_grace_s)
        assert ending.state is JobState.CANCELLED
        assert ending.cause in features.cause("cancelled")

    def test_cancel_reaches_the_whole_job(self, session: Session, features: Features, tmp_path: Path) -> None:
        """A child of the command that still runs is ended with it."""
        child = jobs.shell(
            'while :; do /bin/sleep 0.05; echo >>"$1"; done & echo $! >"$2"; wait', tmp_path / "ticks", tmp_path / "pid"
        )
        job = session.submit(child)
        eventually((tmp_path / "ticks").exists, "the child has begun", features.deadline_s)
        job.cancel()
        finish(job, features, features.deadline_s + features.cancel_grace_s)

        def still() -> bool:
            before = (tmp_path / "ticks").stat().st_size
            time.sleep(0.25)
            return (tmp_path / "ticks").stat().st_size == before

        eventually(still, "the child has ended", features.deadline_s)

    def test_many_in_one_call(self, session: Session, features: Features, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        many = session.submit_all([jobs.gated(gate)] * 5)
        other = session.submit(jobs.gated(gate))
        session.cancel(many)
        endings = session.wait_all(many, timeout=features.deadline_s + features.cancel_grace_s)
        assert [ending.state for ending in endings] == [JobState.CANCELLED] * 5
        assert not other.state.final
        open_gate(gate)
        assert finish(other, features).success

    def test_all_of_the_session(self, session: Session, features: Features, tmp_path: Path) -> None:
        done = session.submit(jobs.succeed())
        finish(done, features)
        many = session.submit_all([jobs.gated(tmp_path / "gate")] * 4)
        session.cancel()
        endings = session.wait_all(timeout=features.deadline_s + features.cancel_grace_s)
        assert [ending.state for ending in endings] == [JobState.DONE] + [JobState.CANCELLED] * 4
        assert [job.state for job in many] == [JobState.CANCELLED] * 4
        session.cancel()  # none is left: nothing to do, nothing to complain of

    def test_each_of_many_gets_its_own_answer(self, session: Session, features: Features, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        done = session.submit(jobs.succeed())
        finish(done, features)
        running = session.submit(jobs.gated(gate))
        reach(session, running, JobState.RUNNING, features=features)
        answers = session.control(Action.RELEASE, [done, running])
        assert list(answers) == [done, running]
        wanted = WrongState if features.can(Action.RELEASE) else ControlError
        assert all(isinstance(error, wanted) for error in answers.values()), answers
        answers = session.control(Action.CANCEL, [running])
        assert answers == {running: None}
        assert finish(running, features, features.deadline_s + features.cancel_grace_s).state is JobState.CANCELLED

    def test_hold_and_release_all(self, session: Session, features: Features, tmp_path: Path) -> None:
        if not features.honours("hold"):
            with refuses(features, "hold"):
                session.submit_all([jobs.succeed()] * 2, hold=True)
            return
        held = session.submit_all([jobs.append(tmp_path / "log", str(n)) for n in range(4)], hold=True)
        for job in held:
            reach(session, job, JobState.HELD, features=features)
        assert not (tmp_path / "log").exists()
        session.release()
        assert all(ending.success for ending in session.wait_all(held, timeout=features.deadline_s + features.poll_s))

    def test_unknown_jobs(self, session: Session, features: Features) -> None:
        for name in ("0" * 32, "no such job", "999999999", ""):
            with pytest.raises(UnknownJob):
                session.job(name)
            with pytest.raises(UnknownJob):
                session.array(name)
        job = session.submit(jobs.succeed())
        finish(job, features)
        job.remove()
        with pytest.raises(UnknownJob):
            _ = job.token
        with Session(session.contact) as other, pytest.raises(UnknownJob):
            other.cancel([job])  # of another Session object

    def test_suspended_time_is_no_progress(self, session: Session, features: Features, scene: Scene) -> None:
        """Suspending stops every process of the job, not only the first."""
        if not features.can(Action.SUSPEND) or not features.can(Action.RESUME):
            return  # the refusal is asserted by test_each_action_in_each_state
        ticks = scene.log
        # Where the cancel reaches the child before the shell, the shell comes to its end by itself: not with 0, as of itself.
        job = session.submit(jobs.shell('( while :; do echo >>"$1"; /bin/sleep 0.05; done ) & wait; exit 9', ticks))
        eventually(ticks.exists, "the child has begun", features.deadline_s)
        reach(session, job, JobState.RUNNING, features=features)
        job.suspend()
        reach(session, job, JobState.SUSPENDED, features=features)

        def still() -> bool:
            before = ticks.stat().st_size
            time.sleep(0.2)
            return ticks.stat().st_size == before

        eventually(still, "the child stands still", features.deadline_s)
        size = ticks.stat().st_size
        job.resume()
        eventually(lambda: ticks.stat().st_size > size, "the child goes on", features.deadline_s)
        job.cancel()
        assert finish(job, features, features.deadline_s + features.cancel_grace_s).state is JobState.CANCELLED
