"""Row 30: the scheduler is away while somebody waits. On the stand-in, which can be told to be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import drmaa
from drmaa import JobState
from drmaa.session import _SHARED
from drmaa_suite.run import ALL, ANY, FOREVER, NOW, RELEASE, TERMINATE, fill, shell, template, until, until_state
from jobyard.testing import standin

Shared = type[drmaa.Session]
PATIENCE_S = 60.0
TWO = r"^code 2: standin has not answered since .*the controller is away"


@pytest.fixture
def cell(yard: Path) -> Iterator[standin.Cell]:
    with standin.install(yard / "cell", slots=4) as made:
        yield made


@pytest.fixture
def folder(yard: Path) -> Path:
    made = yard / "jobs"
    made.mkdir()
    return made


@pytest.fixture
def session(cell: standin.Cell) -> Iterator[Shared]:
    drmaa.Session.initialize(f"{cell.contact}&poll=0.05s&patience=0.4s")
    yield drmaa.Session
    cell.clear()
    drmaa.Session.control(ALL, TERMINATE)
    drmaa.Session.exit()


def leave(cell: standin.Cell) -> None:
    """Nothing that is asked is answered from now on."""
    for program in ("queue", "account", "control"):
        cell.fault(program, "exit", code=1, text="the controller is away")


def gated(folder: Path, code: int = 0) -> drmaa.JobTemplate:
    """A job that runs until its gate is there."""
    return shell(folder, f"while [ ! -e {folder}/go ]; do sleep 0.02; done; exit {code}")


WAITS: dict[str, Callable[[str], object]] = {
    "wait": lambda job: drmaa.Session.wait(job, FOREVER),
    "timeout": lambda job: drmaa.Session.wait(job, PATIENCE_S),
    "any": lambda job: drmaa.Session.wait(ANY, FOREVER),
    "synchronize": lambda job: drmaa.Session.synchronize([job], FOREVER),
    "dispose": lambda job: drmaa.Session.synchronize([job], FOREVER, True),
    "all": lambda job: drmaa.Session.synchronize([ALL], FOREVER, True),
}


@pytest.mark.parametrize("how", WAITS)
def test_waiting_for_a_scheduler_that_is_away(session: Shared, cell: standin.Cell, folder: Path, how: str) -> None:
    """Retried, then DrmCommunication; the job's state is what it was, and it is told once the scheduler is back."""
    quick = session.runJob(template(folder))
    session.synchronize(quick, PATIENCE_S)
    if how in ("wait", "timeout", "any"):
        session.wait(quick, NOW)
    job = session.runJob(gated(folder, 7))
    until_state(job, JobState.RUNNING)
    leave(cell)
    for _ in range(2):  # again: what is asked again is met again
        with pytest.raises(drmaa.DrmCommunicationException, match=TWO):
            WAITS[how](job)
    cell.clear()
    until_known(session, job, JobState.RUNNING)  # no state came from it
    (folder / "go").touch()
    WAITS[how](job) if how not in ("dispose", "all") else session.synchronize([job], PATIENCE_S)
    if how in ("dispose", "all"):  # none was reaped when the wait could not be
        assert session.wait(quick, NOW).exitStatus == 0
    if how not in ("wait", "timeout", "any"):
        assert session.wait(job, NOW).exitStatus == 7


def until_known(session: Shared, job: str, state: str) -> None:
    """The scheduler has answered again, and says this."""

    def known() -> bool:
        try:
            return session.jobStatus(job) == state
        except drmaa.DrmCommunicationException:
            return False

    until(known, f"job {job} is {state}")


def test_a_receipt_ends_the_wait_all_the_same(session: Shared, cell: standin.Cell, folder: Path) -> None:
    """How a job ended its receipt says, whether or not the scheduler answers; and the wait ends as ever."""
    jobs = [session.runJob(gated(folder, code)) for code in (0, 5)]
    for job in jobs:
        until_state(job, JobState.RUNNING)
    leave(cell)
    with pytest.raises(drmaa.DrmCommunicationException):
        session.wait(jobs[0])
    (folder / "go").touch()
    until(lambda: tried(lambda: session.wait(jobs[1], 0.5).exitStatus) == 5, "the receipt is read")
    session.synchronize(jobs, PATIENCE_S)
    assert session.jobStatus(jobs[0]) == JobState.DONE
    assert session.wait(ANY, FOREVER).jobId == jobs[0]


def tried(call: Callable[[], object]) -> object:
    """What it gives; None while the scheduler is away."""
    try:
        return call()
    except (drmaa.DrmCommunicationException, drmaa.ExitTimeoutException):
        return None


def test_status_and_control_say_the_same(session: Shared, cell: standin.Cell, folder: Path) -> None:
    """Once the patience is over nothing is said of a job that has not ended."""
    done, held = session.runJob(template(folder)), session.runJob(template(folder, jobSubmissionState="drmaa_hold"))
    session.synchronize(done, PATIENCE_S)
    leave(cell)
    until(lambda: tried(lambda: session.jobStatus(held)) is None, "the patience is over")
    for _ in range(3):
        with pytest.raises(drmaa.DrmCommunicationException, match=TWO):
            session.jobStatus(held)
        with pytest.raises(drmaa.DrmCommunicationException, match=TWO):
            session.wait(held, NOW)
        with pytest.raises(drmaa.DrmCommunicationException, match=TWO):
            session.synchronize([ALL], NOW, True)
        with pytest.raises(drmaa.DrmCommunicationException, match=r"^code 2: "):
            session.control(held, RELEASE)
    assert session.jobStatus(done) == JobState.DONE  # this is known
    assert session.wait(done, NOW).exitStatus == 0
    cell.clear()
    until_known(session, held, JobState.USER_ON_HOLD)
    session.control(held, RELEASE)
    assert session.wait(held, PATIENCE_S).exitStatus == 0


def test_a_restart_is_not_noticed(session: Shared, cell: standin.Cell, folder: Path) -> None:
    """A scheduler that is away for less than the patience, and one that crashes: the wait goes on, and ends as ever."""
    job = session.runJob(gated(folder, 3))
    until_state(job, JobState.RUNNING)
    cell.fault("queue", "exit", code=1, text="the controller is away", times=2)
    cell.crash()
    told: list[int] = []
    thread = threading.Thread(target=lambda: told.append(session.wait(job, PATIENCE_S).exitStatus))
    thread.start()
    until(lambda: not [one for one in cell.faults() if one["program"] == "queue"], "both questions were asked")
    (folder / "go").touch()
    thread.join(PATIENCE_S)
    assert told == [3]


def test_a_timeout_before_the_patience_is_a_timeout(cell: standin.Cell, folder: Path) -> None:
    """By default five minutes pass first, in which jobStatus tells the last known state."""
    drmaa.Session.initialize(f"{cell.contact}&poll=0.05s")
    job = drmaa.Session.runJob(template(folder, jobSubmissionState="drmaa_hold"))
    leave(cell)
    with pytest.raises(drmaa.ExitTimeoutException, match=r"^code 23: "):
        drmaa.Session.wait(job, 1.0)
    assert drmaa.Session.jobStatus(job) == JobState.USER_ON_HOLD
    cell.clear()
    drmaa.Session.control(job, TERMINATE)
    assert drmaa.Session.wait(job, PATIENCE_S).wasAborted
    drmaa.Session.exit()


def test_patience_of_the_configuration(cell: standin.Cell, yard: Path, folder: Path) -> None:
    """``patience`` under ``[defaults]`` holds for all contacts; a job of another session is met with the same."""
    (yard / "config.toml").write_text('[defaults]\npatience = "0.2s"\n')
    with drmaa.Session.independent(f"{cell.contact}&poll=0.05s") as other, drmaa.Session(f"{cell.contact}&poll=0.05s") as session:
        jt = other.createJobTemplate()
        fill(jt, folder, "/bin/true", jobSubmissionState="drmaa_hold")
        foreign = other.runJob(jt)
        assert session.jobStatus(foreign) == JobState.USER_ON_HOLD
        leave(cell)
        began = time.monotonic()
        with pytest.raises(drmaa.DrmCommunicationException, match=TWO):
            session.wait(foreign)
        assert time.monotonic() - began < PATIENCE_S
        until(lambda: tried(lambda: session.jobStatus(foreign)) is None, "the patience is over")
        cell.clear()
        other.control(foreign, TERMINATE)
        assert session.wait(foreign, PATIENCE_S).wasAborted
        assert other.wait(foreign, PATIENCE_S).wasAborted


def test_accounting_that_is_away(cell: standin.Cell, folder: Path) -> None:
    """usage=accounting: the ending is known, the scheduler's record cannot be had; the job can be waited for again."""
    drmaa.Session.initialize(f"{cell.contact}&poll=0.05s&usage=accounting&patience=0.3s")
    cell.fault("account", "exit", code=1, text="the database is away")
    job = drmaa.Session.runJob(shell(folder, "exit 3"))
    for what in (job, ANY):
        with pytest.raises(drmaa.DrmCommunicationException, match=r"^code 2: .*the database is away"):
            drmaa.Session.wait(what, FOREVER)
    cell.clear()
    assert drmaa.Session.wait(ANY, PATIENCE_S).exitStatus == 3
    drmaa.Session.exit()


def test_the_embedded_scheduler_that_cannot_be_reached(yard: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started anew where it is gone; where that fails for a while the wait says so, and can be made again."""
    from jobyard.schedulers.local import connection, paths

    def refused(path: object) -> None:
        raise ConnectionRefusedError

    with drmaa.Session("local") as session:
        job = session.runJob(gated(folder, 4))
        until_state(job, JobState.RUNNING)
        with monkeypatch.context() as patch:
            patch.setattr(connection, "START_S", 0.5)
            patch.setattr(paths, "connect", refused)
            own = _SHARED._bound.engine._keeper._connection  # type: ignore[union-attr]
            own._shut(own._socket)
            for timeout in (FOREVER, PATIENCE_S):
                with pytest.raises(drmaa.DrmCommunicationException, match=r"^code 2: the local scheduler .* cannot be reached"):
                    session.wait(job, timeout)
        (folder / "go").touch()
        assert session.wait(job, PATIENCE_S).exitStatus == 4
