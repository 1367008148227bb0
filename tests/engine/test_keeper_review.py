"""Where the journal's keeper could lose, double or misorder something: submission, tracker and records, without threads."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.keeping import Rig
from jobyard import (
    Cause,
    ControlError,
    Ending,
    InvalidJob,
    JobDescription,
    JobState,
    JournalError,
    SchedulerUnavailable,
    SubmitError,
    UnsupportedAttribute,
    folder_receipts,
)
from jobyard.job import After
from jobyard.schedulers.base import Accepted, Action, Answer, Capabilities, Row, SiteLimits, Submission
from jobyard.script import WorkRoot

QUEUED, RUNNING, DONE, FAILED = JobState.QUEUED, JobState.RUNNING, JobState.DONE, JobState.FAILED


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def listed(rig: Rig, keys: Sequence[int], state: JobState = RUNNING) -> None:
    rig.scheduler.rows = [Row(native_id=row.facts.native_id or "", state=state) for row in rig.journal.rows(keys)]


def states(rig: Rig, key: int) -> list[JobState]:
    return [update.state for update in rig.updates if update.key == key]


# The tracker ----------------------------------------------------------------------------------------------------------


def test_waiting_for_the_scheduler_s_word_does_not_spin(rig: Rig) -> None:
    (key,) = rig.submit()
    listed(rig, [key])
    rig.step(2)
    rig.receipts.write(rig.token(key), 0, rig.ended(key, clean=False))
    waits = [rig.step(0.001) for _ in range(20)]
    assert states(rig, key)[-1] is RUNNING
    assert min(waits[5:]) > 0.005


def test_a_folder_is_read_once_a_step(rig: Rig) -> None:
    """Not once for each of its jobs that seem over."""
    keys = rig.submit(300)
    token = rig.token(keys[0])
    rig.step(2)  # the queue lists none of them
    before = rig.receipts.reads[token]
    for _ in range(5):
        rig.step()
    assert rig.receipts.reads[token] - before <= 10


def test_a_receipt_that_could_not_be_recorded_is_read_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = rig.submit()
    listed(rig, [key])
    rig.step(2)
    rig.receipts.write(rig.token(key), 0, rig.ended(key, 7))

    def full(changes: object) -> dict[int, Any]:
        raise JournalError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(rig.journal, "record", full)
        with pytest.raises(JournalError):
            rig.step()
    rig.step()
    (row,) = rig.journal.rows([key])
    assert row.facts.ending is not None
    assert row.facts.ending.exit_code == 7


def test_a_folder_that_cannot_be_read_is_no_answer(rig: Rig) -> None:
    """Over by the queue's word, and its folder does not answer for a moment: its receipt is waited for."""
    (key,) = rig.submit()
    listed(rig, [key])
    rig.step(2)
    rig.receipts.write(rig.token(key), 0, rig.ended(key, 0))
    rig.receipts.broken = True
    rig.scheduler.rows = [Row(native_id="1", state=DONE, ended=True)]
    for _ in range(5):
        rig.step(0.5)
    assert states(rig, key)[-1] is RUNNING
    rig.receipts.broken = False
    rig.step(0.5)
    assert rig.updates[-1].ending is not None
    assert rig.updates[-1].ending.exit_code == 0


def test_receipts_that_come_at_the_last_moment_count_together(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin and end come into sight at once, when their time is over: the begin alone must not be all that decides."""
    monkeypatch.setitem(folder_receipts.network_folders, rig.work.path, True)
    (key,) = rig.submit()
    word = Ending(state=FAILED, cause=Cause.EXITED, exit_code=127, began_at=rig.now, ended_at=rig.now)
    rig.scheduler.rows = [Row(native_id="1", state=FAILED, ended=True, ending=word)]
    rig.step(2)
    end = rig.ended(key, 5)
    begin = msgspec.structs.replace(end, what="begin", ended=False, ending=None, clean=False)
    rig.receipts.told[rig.token(key)] = [(0, begin), (0, end)]
    rig.step(20)
    assert rig.updates[-1].ending is not None
    assert rig.updates[-1].ending.exit_code == 5


def test_a_mistake_in_an_adapter_does_not_end_the_polling(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    (key,) = rig.submit()
    listed(rig, [key])

    def wrong() -> None:
        raise ZeroDivisionError("an adapter of somebody else's")

    rig.scheduler.on_query = wrong
    rig.step(2)
    assert rig.keeper.silence() is not None
    assert states(rig, key) == [QUEUED]
    rig.scheduler.on_query = lambda: None
    rig.step(60)
    assert states(rig, key) == [QUEUED, RUNNING]
    assert rig.keeper.silence() is None


def test_a_receipt_that_needs_the_scheduler_s_word_has_it_asked_soon(rig: Rig) -> None:
    """However long the interval has grown while nothing changed."""
    (key,) = rig.submit()
    listed(rig, [key])
    for _ in range(100):
        rig.step(5)
    assert rig.keeper.tracker._interval_s > 20
    asked = rig.scheduler.queries
    rig.step(0.1)
    rig.receipts.write(rig.token(key), 0, rig.ended(key, clean=False))
    rig.step(0.1)
    rig.step(0.5)
    assert rig.scheduler.queries > asked


def test_what_could_not_be_told_is_told_in_the_next_step(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = rig.submit()
    rig.step()
    other = Rig(Path(rig.journal.path).parent, rig.session, rig.scheduler)
    other.step()
    other.receipts.write(other.token(key), 0, other.ended(key, 3))
    other.step()

    def busy(*arguments: object, **named: object) -> None:
        raise JournalError("another process has held the journal for 60 s")

    with monkeypatch.context() as patch:
        patch.setattr(rig.journal, "news", busy)
        with pytest.raises(JournalError):
            rig.step()
    rig.step()
    assert states(rig, key) == [QUEUED, RUNNING, FAILED]
    other.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), JournalError("another process has held the journal for 60 s")])
def test_jobs_that_could_not_be_loaded_at_first_are_followed_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (key,) = rig.submit()
    later = Rig(Path(rig.journal.path).parent, rig.session, rig.scheduler)

    def fail(*arguments: object, **named: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(later.journal, "unfinished", fail)
        with pytest.raises(type(error)):
            later.step()
    later.step()
    later.receipts.write(later.token(key), 0, later.ended(key, 3))
    later.step()
    assert states(later, key)[-1] is FAILED
    later.close()


def test_an_end_that_ctrl_c_kept_from_being_told_is_told_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = rig.submit()
    rig.step()
    rig.receipts.write(rig.token(key), 0, rig.ended(key, 3))

    def interrupted(updates: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rig.keeper.tracker, "_deliver", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rig.step()
    rig.step()
    assert states(rig, key)[-1] is FAILED


def test_other_sessions_changes_are_looked_at_once(rig: Rig, tmp_path: Path) -> None:
    rig.submit()
    rig.step()
    other = Rig(tmp_path)
    other.submit(50)
    rig.step()
    assert rig.keeper.tracker._fed == rig.journal.last_change()
    other.close()


def test_states_are_told_in_order_to_who_lists_jobs_meanwhile(rig: Rig, tmp_path: Path) -> None:
    """A state read from the journal is not known before those that came before it were told."""
    rig.step()
    other = Rig(tmp_path, rig.session, rig.scheduler)
    (key,) = other.submit()
    other.receipts.write(other.token(key), 0, other.ended(key, 0))
    other.step()
    assert rig.keeper.states() == [(key, DONE)]
    assert states(rig, key) == [QUEUED, RUNNING, DONE]
    other.close()


def test_who_waits_for_a_job_that_another_process_removed_is_told(rig: Rig, tmp_path: Path) -> None:
    (key,) = rig.submit()
    rig.step()
    other = Rig(tmp_path, rig.session, rig.scheduler)
    other.receipts.write(other.token(key), 0, other.ended(key, 0))
    other.step()
    other.keeper.remove([key])
    for _ in range(5):
        rig.step(2)
    assert states(rig, key)[-1] is FAILED
    assert rig.updates[-1].ending is not None
    assert "removed" in rig.updates[-1].ending.message
    assert rig.keeper.tracker.unfinished == 0
    other.close()


# Submission and repair ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), JournalError("the disk is full")])
def test_accepted_and_not_recorded_is_found_again(rig: Rig, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def failing(*arguments: object, **named: object) -> bool:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(rig.journal, "accepted", failing)
        with pytest.raises(type(error)):
            rig.submit()
    assert rig.keeper.states() == []
    rig.step(30)
    assert [entry.native_id for entry in rig.keeper.entries()] == ["1"]
    assert len(rig.scheduler.submitted) == 1


def test_what_was_settled_already_is_not_submitted_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the commit: the job is recorded; when repair looks, the scheduler has forgotten it."""
    accepted = rig.journal.accepted

    def committed(*arguments: Any, **named: Any) -> bool:
        accepted(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rig.journal, "accepted", committed)
        with pytest.raises(KeyboardInterrupt):
            rig.submit()
    rig.scheduler.known.clear()
    for _ in range(3):
        rig.step(30)
    assert len(rig.scheduler.submitted) == 1


def test_no_error_after_acceptance(rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(*arguments: object) -> list[Any]:
        raise JournalError("the disk is full")

    monkeypatch.setattr(rig.journal, "prune", full)
    with caplog.at_level(logging.WARNING):
        assert len(rig.submit()) == 1
    assert "accepted" in caplog.text


def left_by_a_crash(folder: Path, rig: Rig, *, indices: Sequence[int] = (), after: tuple[After, ...] = ()) -> str:
    """A process died between the job's folder and the scheduler's answer; the token of what it left."""
    other = Rig(folder, rig.session, rig.scheduler)
    other.now = rig.now - 1000

    def dying(submission: Submission) -> None:
        other.journal.close()  # as a kill: nothing more is written
        raise SystemExit("killed")

    rig.scheduler.on_submit = dying
    submitted = JobDescription(argv=("x",), directory="/", after=after)
    with pytest.raises((SystemExit, JournalError)):
        _ = other.keeper.submit_array(submitted, indices, None) if indices else other.keeper.submit([submitted])
    rig.scheduler.on_submit = lambda submission: None
    (stale,) = rig.journal.stale_intents("played")
    for name in os.listdir(stale.folder):
        if name.startswith("claim."):  # a kill withdraws nothing
            os.unlink(f"{stale.folder}/{name}")
    other.close()
    return stale.token


def test_an_array_is_sent_again_whole(rig: Rig, tmp_path: Path) -> None:
    token = left_by_a_crash(tmp_path, rig, indices=[3, 5, 9])
    rig.step()
    assert [one.indices for one in rig.scheduler.submitted] == [(3, 5, 9)]
    assert [entry.index for entry in rig.keeper.entries(rig.keeper.find(token))] == [3, 5, 9]


def test_what_is_sent_again_is_known_by_its_new_time(rig: Rig, tmp_path: Path) -> None:
    """A row of the queue that shows another time of submission is another job's: it was sent again 1,000 s later."""
    token = left_by_a_crash(tmp_path, rig)
    rig.step()
    (key,) = rig.keeper.find(token)
    rig.scheduler.rows = [Row(native_id="1", state=RUNNING, submitted_at=rig.now)]
    rig.step(2)
    assert rig.keeper.entries([key])[0].state is RUNNING


def test_repair_is_tried_again_after_an_outage(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by_a_crash(tmp_path, rig)

    def away(submissions: Sequence[Submission]) -> dict[str, Any]:
        raise SchedulerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(rig.scheduler, "find", away)
        rig.step()
    rig.step(30)
    assert len(rig.keeper.states()) == 1


@pytest.mark.parametrize("taken", [True, False])
def test_repair_that_cannot_be_recorded_undoes_nothing(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """The scheduler has the job, from before the crash or by the repair; the disk is full."""
    token = left_by_a_crash(tmp_path, rig)
    folder = rig.journal.submission(token).folder
    if taken:
        rig.scheduler.known[token] = Accepted(("1",))

    def full(*arguments: object, **named: object) -> bool:
        raise JournalError("the journal cannot be written: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(rig.journal, "accepted", full)
        rig.step()
    assert os.path.isdir(folder)
    rig.step(30)
    assert [entry.native_id for entry in rig.keeper.entries()] == ["1"]
    assert len(rig.scheduler.submitted) == (0 if taken else 1)


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("what", ["withdraw", "renew"])
def test_a_failed_call_whose_job_cannot_be_withdrawn_yet(rig: Rig, monkeypatch: pytest.MonkeyPatch, taken: bool, what: str) -> None:
    """The scheduler answers nothing, and the disk is full: the folder stays, and nothing runs once that is over."""

    def unheard(submission: Submission) -> None:
        if taken:
            rig.scheduler.take(submission)
        raise SchedulerUnavailable("no answer")

    def away(submissions: Sequence[Submission]) -> dict[str, Any]:
        raise SchedulerUnavailable("away")

    def full(*arguments: object) -> None:
        if what == "withdraw":
            raise OSError(28, "No space left on device")
        raise JournalError("the journal cannot be written: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("jobyard.submission.UNANSWERED_S", 0.05)
        patch.setattr(rig.scheduler, "find", away)
        patch.setattr(rig.scheduler, "on_submit", unheard)
        patch.setattr(rig.work if what == "withdraw" else rig.journal, what, full)
        with pytest.raises(SchedulerUnavailable, match="no answer"):
            rig.submit()
    (intended,) = rig.keeper.intended()
    assert intended.argv == ("/bin/true",)
    rig.step(30)
    assert rig.keeper.entries() == []
    assert rig.keeper.intended() == []
    assert rig.scheduler.submitted == []
    assert rig.scheduler.cancelled == (["1"] if taken else [])


@pytest.mark.parametrize("refuses", [False, True])
def test_what_ran_and_was_forgotten_is_known_by_its_claim(rig: Rig, tmp_path: Path, refuses: bool) -> None:
    """Its client died, it ran, and the scheduler has purged it: it is neither sent again nor undone."""
    token = left_by_a_crash(tmp_path, rig)
    Path(rig.work.folder(token), "claim.0").write_text(json.dumps({"native_id": "77"}))

    def full(submission: Submission) -> None:
        raise SubmitError("the queue is full")

    rig.scheduler.on_submit = full if refuses else rig.scheduler.on_submit
    rig.step()
    assert rig.scheduler.submitted == []
    assert [entry.native_id for entry in rig.keeper.entries()] == ["77"]


def test_repair_by_another_session_keeps_what_the_job_waits_for(rig: Rig, tmp_path: Path) -> None:
    (first,) = rig.submit()
    listed(rig, [first])
    left_by_a_crash(tmp_path, rig, after=(After(rig.token(first), "success"),))
    third = Rig(tmp_path, None, rig.scheduler)
    third.now = rig.now
    third.submit()
    third.step(2)
    again = rig.scheduler.submitted[-1]
    assert again.after == (("1", "success"),)
    third.close()


def test_repair_does_not_run_what_can_no_longer_happen(rig: Rig, tmp_path: Path) -> None:
    (first,) = rig.submit()
    listed(rig, [first])
    token = left_by_a_crash(tmp_path, rig, after=(After(rig.token(first), "success"),))
    rig.receipts.write(rig.token(first), 0, rig.ended(first, 1))
    rig.step(1)
    rig.step(1)
    assert [one.token for one in rig.scheduler.submitted] == [rig.token(first)]
    (key,) = rig.keeper.find(token)
    (entry,) = rig.keeper.entries([key])
    assert entry.ending is not None
    assert entry.ending.cause is Cause.DEPENDENCY
    assert not os.path.exists(rig.work.folder(token))


def test_an_array_withdrawn_while_a_task_runs_is_cancelled(rig: Rig) -> None:
    """Its call failed, so nothing of it may go on; and its folder stays until that is certain."""
    folders: list[str] = []

    def taken_unheard(submission: Submission) -> None:
        folders.append(submission.folder)
        rig.scheduler.take(submission)
        with open(f"{submission.folder}/claim.0", "w") as claim:
            json.dump({"native_id": "1_0"}, claim)
        raise SchedulerUnavailable("no answer")

    rig.scheduler.on_submit = taken_unheard
    find = rig.scheduler.find
    rig.scheduler.find = lambda submissions: (_ for _ in ()).throw(SchedulerUnavailable("away"))  # type: ignore[method-assign]
    import jobyard.submission as submission_module

    patch = pytest.MonkeyPatch()
    patch.setattr(submission_module, "UNANSWERED_S", 0.05)
    with pytest.raises(SchedulerUnavailable):
        rig.keeper.submit_array(JobDescription(argv=("x",), directory="/"), [0, 1, 2], None)
    patch.undo()
    assert os.path.isdir(folders[0])
    rig.scheduler.find = find  # type: ignore[method-assign]
    rig.step(30)
    assert rig.scheduler.cancelled == ["1_0", "1_1", "1_2"]
    assert not os.path.exists(folders[0])
    assert rig.keeper.states() == []


def test_parts_that_must_wait_need_a_scheduler_that_lets_them(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.scheduler, "limits", lambda: SiteLimits(max_array_size=2))
    rig.scheduler.capabilities = Capabilities(arrays=True, max_running=True)
    with pytest.raises(UnsupportedAttribute) as caught:
        rig.keeper.submit_array(JobDescription(argv=("x",), directory="/"), range(6), 2)
    assert caught.value.field == "max_running"
    assert rig.scheduler.submitted == []


def test_a_part_sent_again_waits_for_the_one_before_it(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.scheduler, "limits", lambda: SiteLimits(max_array_size=2))
    other = Rig(tmp_path, rig.session, rig.scheduler)
    other.now = rig.now - 1000

    def second_dies(submission: Submission) -> None:
        if rig.scheduler.submitted:
            other.journal.close()
            raise SystemExit("killed")

    rig.scheduler.on_submit = second_dies
    with pytest.raises((SystemExit, JournalError)):
        other.keeper.submit_array(JobDescription(argv=("x",), directory="/"), range(6), 1)
    rig.scheduler.on_submit = lambda submission: None
    for stale in rig.journal.stale_intents("played"):
        for task in range(2):
            if os.path.exists(f"{stale.folder}/claim.{task}"):
                os.unlink(f"{stale.folder}/claim.{task}")
    listed(rig, rig.journal.find(rig.session, "1"), QUEUED)
    rig.step(1)
    assert [one.after for one in rig.scheduler.submitted] == [(), (("1", "any"),)]
    other.close()


# Records and control --------------------------------------------------------------------------------------------------


def test_many_are_reaped_in_one_commit(rig: Rig) -> None:
    keys = rig.submit(100)
    rig.step()
    for position, key in enumerate(keys):
        rig.receipts.write(rig.token(key), position, rig.ended(key))
    rig.step()
    before = rig.journal.commits
    assert sorted(rig.keeper.reap(keys)) == keys
    assert rig.journal.commits == before + 1
    assert list(rig.keeper.reap(keys)) == []


def test_two_jobs_with_one_native_id_both_have_an_answer(rig: Rig) -> None:
    (first,) = rig.submit()
    rig.scheduler.number = 0
    (second,) = rig.submit()
    answers = rig.keeper.control(Action.CANCEL, [first, second])
    assert answers == {first: None, second: None}
    for key in (first, second):
        assert any(line.observation is not None and line.observation.what == "cancel" for line in rig.keeper.why(key))


def test_what_a_scheduler_cannot_do_it_refuses_itself_whatever_the_state(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (waiting,) = rig.submit()
    refusal = ControlError("played cannot signal jobs")
    monkeypatch.setattr(rig.scheduler, "capabilities", Capabilities(actions=frozenset({Action.CANCEL})))
    monkeypatch.setattr(rig.scheduler, "control", lambda action, ids, signal=None: dict.fromkeys(ids, refusal))
    assert rig.keeper.control(Action.SIGNAL, [waiting], signal=10) == {waiting: refusal}


def test_a_native_id_that_came_round_is_attached_anew(rig: Rig) -> None:
    (old,) = rig.submit(name="mine")
    rig.receipts.write(rig.token(old), 0, rig.ended(old))
    rig.step()
    assert rig.keeper.attach("1") == old
    rig.scheduler.rows = [Row(native_id="1", state=RUNNING, submitted_at=rig.now + 86400.0)]
    foreign = rig.keeper.attach("1")
    assert foreign != old
    assert rig.keeper.streams(foreign) == (None, None)


def test_part_of_an_answer_does_not_say_that_a_job_is_unknown(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.scheduler, "query", lambda ids: Answer(complete=False))
    with pytest.raises(SchedulerUnavailable):
        rig.keeper.attach("99")


def test_streams_of_like_jobs_lie_in_folders_of_their_own(rig: Rig) -> None:
    described = [JobDescription(argv=("x",), stdout="out.txt")] * 2
    keys = [placed.key for placed in rig.keeper.submit(described)]
    folder = rig.work.folder(rig.token(keys[0]))
    assert [rig.keeper.streams(key)[0] for key in keys] == [f"{folder}/work.0/out.txt", f"{folder}/work.1/out.txt"]


def test_folders_in_an_earlier_work_root_go_with_their_jobs(rig: Rig, tmp_path: Path) -> None:
    (key,) = rig.submit()
    folder = Path(rig.work.folder(rig.token(key)))
    (folder / "stdout").write_text("kept")
    rig.receipts.write(rig.token(key), 0, rig.ended(key))
    rig.step()
    assert folder.is_dir()
    rig.keeper._work = WorkRoot(str(tmp_path / "elsewhere"))
    rig.keeper.remove([key])
    assert not folder.exists()
    rig.work.close()


def test_what_it_waits_for_must_be_there(rig: Rig) -> None:
    with pytest.raises(InvalidJob):
        rig.submit(after=(After("f" * 32, "success"),))
    assert rig.scheduler.submitted == []
    assert rig.journal.unfinished() == []


@pytest.mark.parametrize("own", [True, False])
def test_what_another_session_does_to_a_job_is_known_in_its_own(rig: Rig, tmp_path: Path, own: bool) -> None:
    """A job that another session of the login cancelled was cancelled, and is not waited for as one that is lost; and so where
    its own session cancels what another follows."""
    other = Rig(tmp_path, scheduler=rig.scheduler)
    key, untouched = rig.submit(), rig.submit()[0]
    listed(rig, [*key, untouched], QUEUED)
    native_id = rig.journal.entries(rig.session, key)[0].native_id or ""
    foreign = other.keeper.attach(native_id)
    acting, keys, hearing = (rig, key, other) if own else (other, [foreign], rig)
    assert acting.keeper.control(Action.CANCEL, keys) == dict.fromkeys(keys)
    listed(rig, [untouched], QUEUED)
    for _ in range(10):
        rig.step(0.5)
        other.step(0.5)
    assert [one.state for one in hearing.updates if one.key in (*key, foreign) and one.state.final] == [JobState.CANCELLED]
    assert rig.journal.entries(rig.session, [untouched])[0].state is QUEUED
    other.close()
