"""Cases about control: each action in each state, by id, of all, of jobs of other sessions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import drmaa
from drmaa import JobState
from drmaa_suite.run import (
    ACTIONS,
    ALL,
    BED,
    ENDED,
    HOLD,
    LOCAL,
    NOW,
    PATIENCE_S,
    PROGRAM_S,
    RELEASE,
    RESUME,
    SCHEDULER,
    SUSPEND,
    TERMINATE,
    Place,
    fill,
    shell,
    sleeper,
    template,
    until,
    until_state,
)

Shared = type[drmaa.Session]
WRONG = {
    SUSPEND: drmaa.SuspendInconsistentStateException,
    RESUME: drmaa.ResumeInconsistentStateException,
    HOLD: drmaa.HoldInconsistentStateException,
    RELEASE: drmaa.ReleaseInconsistentStateException,
}
CODE = {SUSPEND: 20, RESUME: 19, HOLD: 21, RELEASE: 22}


def refused(session: Shared, job: str, *actions: str) -> None:
    for action in actions:
        with pytest.raises(WRONG[action], match=rf"^code {CODE[action]}: "):
            session.control(job, action)


def test_suspend_resume_wait(session: Shared, folder: Path) -> None:
    """ST_SUBMIT_SUSPEND_RESUME_WAIT; row 19: in a running job's life, what is refused gives its own code."""
    gate = folder / "gate"
    os.mkfifo(gate)
    job = session.runJob(shell(folder, f"echo $$ > {folder}/pid; read go < {gate}; exit 3"))
    until_state(job, JobState.RUNNING)
    refused(session, job, RESUME, HOLD, RELEASE)
    pid = until(lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip(), "the job has told its process")
    session.control(job, SUSPEND)
    until_state(job, JobState.USER_SUSPENDED)
    refused(session, job, SUSPEND)
    # The shell alone is looked at, and starts no program meanwhile: one that waits for a stopped child's exec (vfork) shows D.
    status = Path(f"/proc/{pid}/status")
    until(lambda: "State:\tT" in status.read_text(), "it is stopped; schedulers acknowledge that before it is done")
    opened = os.open(gate, os.O_RDWR)  # which waits for nobody
    try:
        os.write(opened, b"\n")
        with pytest.raises(drmaa.ExitTimeoutException):
            session.wait(job, 0.2)
        session.control(job, RESUME)
        assert session.wait(job, PATIENCE_S).exitStatus == 3
    finally:
        os.close(opened)


def test_held(session: Shared, folder: Path) -> None:
    """HOLD and RELEASE of a waiting job; what is refused there."""
    job = session.runJob(template(folder, jobSubmissionState="drmaa_hold"))
    refused(session, job, SUSPEND, RESUME)
    refused(session, job, HOLD)
    later = session.runJob(template(folder, startTime="2090/01/01 00:00"))
    until_state(later, JobState.SYSTEM_ON_HOLD)
    refused(session, later, RELEASE)
    session.control(later, HOLD)
    until_state(later, JobState.USER_SYSTEM_ON_HOLD)
    session.control(later, RELEASE)
    until_state(later, JobState.SYSTEM_ON_HOLD)
    session.control(job, RELEASE)
    assert session.wait(job, PATIENCE_S).exitStatus == 0


def test_finished(session: Shared, folder: Path) -> None:
    """A finished job has nothing to hold or suspend; terminating it is harmless until it is reaped."""
    job = session.runJob(template(folder))
    session.synchronize([job], PATIENCE_S)
    session.control(job, TERMINATE)
    for action in (SUSPEND, RESUME, HOLD, RELEASE):
        with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
            session.control(job, action)
    for action in ACTIONS:
        session.control(ALL, action)  # no unfinished job is left
    session.wait(job, NOW)
    for action in ACTIONS:
        with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
            session.control(job, action)


def test_control_of_all(session: Shared, folder: Path) -> None:
    """All five actions on three jobs, and the first that is refused raises."""
    jobs = session.runBulkJobs(sleeper(folder, 600, jobSubmissionState="drmaa_hold"), 1, 3, 1)
    session.control(ALL, RELEASE)
    for job in jobs:
        until_state(job, JobState.RUNNING)
    session.control(ALL, SUSPEND)
    for job in jobs:
        until_state(job, JobState.USER_SUSPENDED)
    session.control(jobs[0], RESUME)
    refused(session, ALL.decode(), SUSPEND)
    for job in jobs:
        until_state(job, JobState.USER_SUSPENDED)  # the others were suspended all the same
    session.control(ALL, RESUME)
    session.control(ALL, TERMINATE)
    session.synchronize([ALL], PATIENCE_S)
    assert all(session.jobStatus(job) == JobState.FAILED for job in jobs)


@pytest.mark.parametrize("action", ["start", "", None, 5, -1, True, b"start"])
def test_unknown_action(session: Shared, folder: Path, action: Any) -> None:
    """ValueError as drmaa-python has it, and InvalidArgument as the C binding has it: the same error is both."""
    job = session.runJob(sleeper(folder, 600))
    with pytest.raises(ValueError, match=r"^code 4: .* is not in list; an action is one of suspend, ") as caught:
        session.control(job, action)
    assert isinstance(caught.value, drmaa.InvalidArgumentException)
    assert session.jobStatus(job) not in ENDED


@pytest.mark.parametrize("action", ["terminate", b"terminate", 4])
def test_forms_of_an_action(session: Shared, folder: Path, action: Any) -> None:
    job = session.runJob(sleeper(folder, 600))
    session.control(jobName=job, operation=action)  # type: ignore[call-arg]  # GFD.143's keyword
    assert session.wait(job, PATIENCE_S).wasAborted


# Jobs of other sessions --------------------------------------------------------------------------------------------------


def test_jobs_of_other_sessions(session: Shared, place: Place, folder: Path) -> None:
    """ST_DRMAA_JOB_PS, ST_DRMAA_CONTROL, row 26: status, control and wait of what another session submitted."""
    with drmaa.Session.independent(place.contact) as other:
        jt = other.createJobTemplate()
        fill(jt, folder, "/bin/sh", "-c", f"while [ ! -e {folder}/go ]; do sleep 0.02; done; exit 6")
        job = other.runJob(jt)
        until_state(job, JobState.RUNNING)
        session.control(job, SUSPEND)
        until_state(job, JobState.USER_SUSPENDED)
        with pytest.raises(drmaa.SuspendInconsistentStateException):
            session.control(job, SUSPEND)
        session.control(job, RESUME)
        with pytest.raises(drmaa.ExitTimeoutException):
            session.wait(job, NOW)
        session.synchronize([ALL], NOW)  # it is no job of this session
        with pytest.raises(drmaa.InvalidJobException):
            session.wait(drmaa.Session.JOB_IDS_SESSION_ANY, NOW)
        (folder / "go").touch()
        assert session.wait(job, PATIENCE_S).exitStatus == 6
        with pytest.raises(drmaa.InvalidJobException):
            session.wait(job, NOW)  # once, as any other
        assert other.wait(job, PATIENCE_S).exitStatus == 6  # its own session has it still


def test_a_job_of_another_session_is_told_once(session: Shared, place: Place, folder: Path) -> None:
    """Two waiters for one id: one is told, the other gets 18, as for a job of one's own; nothing can be done to it then."""
    with drmaa.Session.independent(place.contact) as other:
        jt = other.createJobTemplate()
        fill(jt, folder, "/bin/sh", "-c", f"while [ ! -e {folder}/go ]; do sleep 0.02; done; exit 4")
        jobs = [other.runJob(jt), other.runJob(jt)]
        assert all(session.jobStatus(job) not in ENDED for job in jobs)
        both, told, refused_with = threading.Barrier(3), [], []

        def wait() -> None:
            both.wait(PATIENCE_S)
            try:
                told.append(session.wait(jobs[0], PATIENCE_S).exitStatus)
            except drmaa.InvalidJobException as error:
                refused_with.append(str(error)[:8])

        threads = [threading.Thread(target=wait) for _ in range(2)]
        for thread in threads:
            thread.start()
        both.wait(PATIENCE_S)
        (folder / "go").touch()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert (told, refused_with) == ([4], ["code 18:"])
        session.synchronize(jobs, PATIENCE_S)
        session.control(jobs[1], TERMINATE)  # it has ended, and was not waited for: harmless
        for job, actions in ((jobs[0], ACTIONS), (jobs[1], (SUSPEND, RESUME, HOLD, RELEASE))):
            for action in actions:
                with pytest.raises(drmaa.InvalidJobException, match=r"^code 18: "):
                    session.control(job, action)
        assert session.wait(jobs[1], NOW).exitStatus == 4
        assert [other.wait(job, PATIENCE_S).exitStatus for job in jobs] == [4, 4]


def test_terminate_jobs_of_other_sessions(session: Shared, place: Place, folder: Path) -> None:
    with drmaa.Session.independent(place.contact) as other:
        jt = other.createJobTemplate()
        fill(jt, folder, "/bin/sleep", "600")
        job = other.runJob(jt)
        session.control(job, TERMINATE)
        session.synchronize([job], PATIENCE_S)
        assert other.wait(job, PATIENCE_S).wasAborted


CHILD = """
import json, sys, drmaa
contact, action, job = sys.argv[1:4]
with drmaa.Session(contact) as session:
    if action == "wait":
        info = session.wait(job, 60)
        print(json.dumps([info.jobId, info.exitStatus]))
    elif action == "control":
        session.control(job, "terminate")
        print(json.dumps(session.jobStatus(job)))
"""


def other_process(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), *arguments], capture_output=True, text=True, timeout=PROGRAM_S, check=True
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_from_another_process(session: Shared, place: Place, folder: Path) -> None:
    """Row 25: the session's contact gives another process its jobs; each ending is told once, in one of them."""
    job = session.runJob(shell(folder, "exit 8"))
    assert other_process(session.contact, "wait", job) == [job, 8]
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(job, NOW)
    held = session.runJob(template(folder, jobSubmissionState="drmaa_hold"))
    other_process(place.contact, "control", held)  # of a session of its own
    assert session.wait(held, PATIENCE_S).wasAborted


# Bad input ------------------------------------------------------------------------------------------------------------------


REFUSALS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"remoteCommand": ""}, drmaa.DeniedByDrmException, "set it to the program's path"),
    ({"outputPath": "/tmp/out"}, drmaa.InvalidAttributeFormatException, r"write '\[host\]:path'"),
    ({"inputPath": "in"}, drmaa.InvalidAttributeFormatException, r"write '\[host\]:path'"),
    ({"joinFiles": False, "errorPath": ""}, None, ""),  # type: ignore[list-item]  # the one of these that is good
    ({"outputPath": ":/tmp/$drmaa_incr_ph$"}, drmaa.DeniedByDrmException, "use runBulkJobs"),
    ({"workingDirectory": "/tmp/$drmaa_incr_ph$"}, drmaa.DeniedByDrmException, "use runBulkJobs"),
    ({"workingDirectory": "$drmaa_wd_ph$"}, drmaa.DeniedByDrmException, "leave it out"),
    ({"workingDirectory": "relative"}, drmaa.InvalidAttributeFormatException, "begin it with '/'"),
    ({"startTime": "tomorrow"}, drmaa.InvalidAttributeFormatException, r"write \[\[\[\[CC\]YY/\]MM/\]DD\] hh:mm"),
    ({"jobName": "a/b"}, drmaa.DeniedByDrmException, "write letters, digits"),
    ({"nativeSpecification": "-l 'x"}, drmaa.InvalidAttributeFormatException, "close the quotation"),
]


@pytest.mark.parametrize(("values", "error", "hint"), REFUSALS)
def test_refused_before_submission(
    session: Shared, place: Place, folder: Path, values: dict[str, Any], error: type[Exception] | None, hint: str
) -> None:
    """Bad values: the table's exception, with what to write instead; nothing is submitted, nothing is left behind."""
    jt = template(folder, **values)
    if error is None:
        assert session.wait(session.runJob(jt), PATIENCE_S).exitStatus == 0
        return
    before = _files(place.folder / "work") + _files(folder)
    with pytest.raises(error, match=rf"^code \d+: .*{hint}"):
        session.runJob(jt)
    assert _files(place.folder / "work") + _files(folder) == before
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(drmaa.Session.JOB_IDS_SESSION_ANY, NOW)
    # The same template, put right, can be submitted.
    fill(jt, folder, "/bin/true", inputPath="", startTime="", jobName="", nativeSpecification="")
    assert session.wait(session.runJob(jt), PATIENCE_S).exitStatus == 0


def _files(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.skipif(not LOCAL, reason="says what the embedded scheduler cannot do")
@pytest.mark.parametrize(
    "values",
    [{"nativeSpecification": "-l h_rt=60"}, {"email": ["me@example.org"]}, {"jobCategory": "large"}],
    ids=["native", "email", "category"],
)
def test_what_the_embedded_scheduler_has_not(session: Shared, folder: Path, values: dict[str, Any]) -> None:
    """Refused, not dropped."""
    with pytest.raises(drmaa.DeniedByDrmException, match=r"^code 17: "):
        session.runJob(template(folder, **values))
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(drmaa.Session.JOB_IDS_SESSION_ANY, NOW)


def test_blocked_mail_asks_for_nothing(session: Shared, folder: Path) -> None:
    """Row 31: with blockEmail no address is used, so every scheduler honours it."""
    jt = template(folder, email=["me@example.org", "you@example.org"], blockEmail=True)
    assert session.wait(session.runJob(jt), PATIENCE_S).exitStatus == 0


# What makes a real scheduler's commands fail as they do where it cannot be reached, for this process alone. (Those of the
# releases beside Debian's name their configuration themselves.)
AWAY = {
    "slurm": {"SLURM_CONF": "{conf}"},
    "gridengine": {"SGE_QMASTER_PORT": "1"},
    "htcondor": {f"_CONDOR_SCHEDD_{name}_FILE": "/nonexistent" for name in ("ADDRESS", "DAEMON_AD")}
    | {"_CONDOR_COLLECTOR_HOST": "127.0.0.1:1"},
}
SLURM_CONF = """ClusterName=away
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=1
MessageTimeout=2
NodeName=localhost
PartitionName=all Nodes=localhost
"""


@pytest.mark.skipif(BED not in AWAY, reason="others are made to be away in test_unreachable")
def test_real_scheduler_that_cannot_be_reached(nobody: Place, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 30: the wait ends with DrmCommunication, no state comes from it, and the job is told when it can be."""
    contact = nobody.contact + ("&" if "?" in nobody.contact else "?") + "patience=2s"
    with drmaa.Session(contact) as session:
        job = session.runJob(shell(folder, f"while [ ! -e {folder}/go ]; do sleep 0.1; done; exit 7"))
        until_state(job, JobState.RUNNING)
        with monkeypatch.context() as patch:
            (folder / "slurm.conf").write_text(SLURM_CONF)
            for name, value in AWAY[BED].items():
                patch.setenv(name, value.format(conf=folder / "slurm.conf"))
            with pytest.raises(drmaa.DrmCommunicationException, match=rf"^code 2: {SCHEDULER} has not answered since "):
                session.wait(job, PATIENCE_S)
            with pytest.raises(drmaa.DrmCommunicationException, match=r"^code 2: "):
                session.jobStatus(job)
            with pytest.raises(drmaa.DrmCommunicationException, match=r"^code 2: "):
                session.control(job, SUSPEND)
            with pytest.raises(drmaa.DrmCommunicationException, match=r"^code 2: "):
                session.runJob(template(folder))

        def running() -> bool:
            try:
                return session.jobStatus(job) == JobState.RUNNING
            except drmaa.DrmCommunicationException:
                return False

        until(running, "the scheduler is asked again, and answers")
        (folder / "go").touch()
        assert session.wait(job, PATIENCE_S).exitStatus == 7
        session.control(ALL, TERMINATE)  # of what was not known to have been submitted there must be nothing


def test_unreachable_scheduler_is_not_a_state(session: Shared, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 30: a scheduler that does not answer is DrmCommunication, and changes no state."""
    from jobyard import SchedulerUnavailable, Session

    job = session.runJob(template(folder, jobSubmissionState="drmaa_hold"))

    def away(*args: object, **kwargs: object) -> Callable[[], None]:
        raise SchedulerUnavailable("the scheduler does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "control", away)
        patch.setattr(Session, "submit", away)
        with pytest.raises(drmaa.DrmCommunicationException, match=r"^code 2: "):
            session.control(job, RELEASE)
        with pytest.raises(drmaa.DrmCommunicationException, match=r"^code 2: "):
            session.runJob(template(folder))
    assert session.jobStatus(job) == JobState.USER_ON_HOLD
