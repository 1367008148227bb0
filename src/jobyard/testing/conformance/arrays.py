"""Array jobs: indices, the cap on running tasks, streams and control of one task and of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from jobyard import Job, JobArray, JobState, Session
from jobyard.errors import ControlError, InvalidJob, UnknownJob
from jobyard.schedulers.base import Action

from .. import jobs
from ..polling import eventually
from .support import Features, assert_control_refused, finish, open_gate, reach, refuses


class Arrays:
    """Array jobs."""

    @pytest.fixture(autouse=True)
    def _arrays(self, session: Session, features: Features) -> None:
        if not features.capabilities.arrays:
            with refuses(features, "arrays"):
                session.submit_array(jobs.succeed(), range(1, 3))
            pytest.skip(f"{features.scheduler} has no arrays, and refused one as it should")

    @pytest.mark.parametrize("indices", [range(1, 31, 2), [3, 4, 9], range(1, 2), range(5, 8)], ids=["odd", "gaps", "one", "from5"])
    def test_each_task_sees_its_index(self, session: Session, features: Features, tmp_path: Path, indices: Sequence[int]) -> None:
        array = session.submit_array(jobs.append(tmp_path / "log", "task"), indices)
        assert len(array) == len(indices)
        assert [task.task_index for task in array] == list(indices)
        assert array.wait(timeout=features.deadline_s + len(indices))
        assert all(task.ending is not None and task.ending.success for task in array)
        lines = (tmp_path / "log").read_text().splitlines()
        assert sorted(lines) == sorted(f"{word} task {index}" for index in indices for word in ("begin", "end"))

    def test_an_array_is_a_sequence_of_its_tasks(self, session: Session, features: Features) -> None:
        array = session.submit_array(jobs.exit_by_index(), [2, 5, 11], name="three")
        assert isinstance(array, JobArray)
        assert [task.name for task in array] == ["three"] * 3
        assert {task.array for task in array} == {array.token}
        assert len({task.token for task in array}) == len({task.native_id for task in array}) == 3
        assert array[-1].task_index == 11
        assert [ending.exit_code for ending in array.wait(timeout=features.deadline_s)] == [1, 4, 10]
        again = session.array(array.token)
        assert [task.token for task in again] == [task.token for task in array]
        assert array.native_id is not None
        assert session.array(array.native_id).token == array.token
        assert again.native_id == array.native_id
        assert session.job(array[1].token).task_index == 5
        assert session.job(array[1].native_id).token == array[1].token

    @pytest.mark.parametrize(
        "indices", [[], [-1, 0, 1], [3, 2, 1], [1, 1], [1.5], ["1"]], ids=["none", "negative", "falling", "twice", "half", "text"]
    )
    def test_indices_that_make_no_sense(self, session: Session, indices: Sequence[int]) -> None:
        with pytest.raises(InvalidJob) as caught:
            session.submit_array(jobs.succeed(), indices)
        assert caught.value.field == "indices"
        assert session.jobs() == []

    def test_a_cap_that_makes_no_sense(self, session: Session) -> None:
        with pytest.raises(InvalidJob) as caught:
            session.submit_array(jobs.succeed(), range(1, 4), max_running=0)
        assert caught.value.field == "max_running"
        assert session.jobs() == []

    def test_the_cap_on_running_tasks_is_never_exceeded(self, session: Session, features: Features, tmp_path: Path) -> None:
        if not features.capabilities.max_running:
            with refuses(features, "max_running"):
                session.submit_array(jobs.succeed(), range(1, 9), max_running=2)
            return
        array = session.submit_array(jobs.append(tmp_path / "log", "task", seconds=0.15), range(1, 9), max_running=2)
        array.wait(timeout=features.deadline_s + 8 * features.poll_s)
        running = most = 0
        for line in (tmp_path / "log").read_text().splitlines():
            running += 1 if line.startswith("begin") else -1
            most = max(most, running)
        assert running == 0
        assert 1 <= most <= 2

    def test_streams_of_each_task(self, session: Session, features: Features, tmp_path: Path) -> None:
        array = session.submit_array(
            jobs.shell('echo "out $JOBYARD_TASK_INDEX"; echo "err $JOBYARD_TASK_INDEX" >&2'),
            [1, 4],
            stdout=str(tmp_path / f"o {JobArray.INDEX}"),
            stderr=str(tmp_path / f"e.{JobArray.INDEX}.txt"),
        )
        array.wait(timeout=features.deadline_s)
        assert [(tmp_path / name).read_text() for name in ("o 1", "o 4")] == ["out 1\n", "out 4\n"]
        assert [(tmp_path / name).read_text() for name in ("e.1.txt", "e.4.txt")] == ["err 1\n", "err 4\n"]
        assert array[1].stdout_path == str(tmp_path / "o 4")

    def test_kept_streams_of_each_task(self, session: Session, features: Features) -> None:
        array = session.submit_array(jobs.shell('echo "task $JOBYARD_TASK_INDEX"'), [2, 3])
        array.wait(timeout=features.deadline_s)
        for task in array:
            assert task.stdout_path is not None
            assert Path(task.stdout_path).read_text() == f"task {task.task_index}\n"

    def test_one_task_is_cancelled_alone(self, session: Session, features: Features, tmp_path: Path) -> None:
        array = session.submit_array(jobs.gated(tmp_path / "gate"), range(1, 4))
        second = array[1]
        second.cancel()
        assert finish(second, features, features.deadline_s + features.cancel_grace_s).state is JobState.CANCELLED
        open_gate(tmp_path / "gate")
        assert [finish(array[n], features).state for n in (0, 2)] == [JobState.DONE, JobState.DONE]

    def test_one_task_is_held_alone(self, session: Session, features: Features) -> None:
        if not features.honours("hold"):
            with refuses(features, "hold"):
                session.submit_array(jobs.succeed(), range(1, 4), hold=True)
            return
        array = session.submit_array(jobs.exit_by_index(), range(1, 4), hold=True)
        for task in array:
            reach(session, task, JobState.HELD, features=features)
        if not features.capabilities.per_task_control:
            with pytest.raises(ControlError) as caught:
                array[1].release()
            assert_control_refused(features, Action.RELEASE, caught.value)
            array.cancel()
            return
        array[1].release()
        assert finish(array[1], features).exit_code == 1
        assert array[0].state is JobState.HELD
        assert array[2].state is JobState.HELD
        array[0].release()
        assert finish(array[0], features).exit_code == 0
        array[2].cancel()
        assert finish(array[2], features).state is JobState.CANCELLED

    def test_the_whole_array_is_controlled(self, session: Session, features: Features) -> None:
        if not features.honours("hold"):
            with refuses(features, "hold"):
                session.submit_array(jobs.succeed(), range(1, 4), hold=True)
            return
        array = session.submit_array(jobs.exit_by_index(), range(1, 5), hold=True)
        for task in array:
            reach(session, task, JobState.HELD, features=features)
        array.release()
        assert [ending.exit_code for ending in array.wait(timeout=features.deadline_s + features.poll_s)] == [0, 1, 2, 3]

    def test_the_whole_array_is_cancelled(self, session: Session, features: Features, tmp_path: Path) -> None:
        array = session.submit_array(jobs.gated(tmp_path / "gate", begun=tmp_path / "begun"), range(1, 4))
        eventually((tmp_path / "begun").exists, "a task has begun", features.deadline_s)
        array.cancel()
        endings = array.wait(timeout=features.deadline_s + features.cancel_grace_s)
        assert [ending.state for ending in endings] == [JobState.CANCELLED] * 3

    def test_an_array_of_one_is_an_array(self, session: Session, features: Features, tmp_path: Path) -> None:
        array = session.submit_array(jobs.report(tmp_path / "seen"), [7])
        assert [task.task_index for task in array] == [7]
        array.wait(timeout=features.deadline_s)[0].check()
        _, _, environment = jobs.read_report(tmp_path / "seen")
        assert environment[b"JOBYARD_TASK_INDEX"] == b"7"
        assert environment[b"JOBYARD_JOB_ID"].decode() == array[0].token
        assert environment[b"JOBYARD_NATIVE_ID"].decode() == array[0].native_id
        assert environment[b"JOBYARD_ARRAY_ID"].decode() == array.native_id

    def test_a_job_is_no_array(self, session: Session, features: Features) -> None:
        job: Job = session.submit(jobs.succeed())
        with pytest.raises(UnknownJob):
            session.array(job.token)
        finish(job, features)
