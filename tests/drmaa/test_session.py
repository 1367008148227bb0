"""Cases about sessions and information: beginning, leaving, names, contacts, several at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import drmaa
from drmaa import helpers
from drmaa_suite.run import (
    ALL,
    ANY,
    FOREVER,
    LOCAL,
    NOW,
    PATIENCE_S,
    SCHEDULER,
    SMALL,
    TERMINATE,
    Place,
    fill,
    shell,
    sleeper,
    template,
)

Shared = type[drmaa.Session]
# The first word of vendors' libraries; where there is no such library, the scheduler's own name.
DRM_SYSTEMS = ("local", "standin", "SGE", "SLURM", "IBM", "PBS", "Torque", "Condor", "OAR", SCHEDULER)


def test_initialize_twice(session: Shared, folder: Path) -> None:
    """ST_MULT_INIT: the second gives 11 in any Session object; the first session still works."""
    for again in (drmaa.Session.initialize, drmaa.Session().initialize, lambda: drmaa.Session("local").__enter__()):
        with pytest.raises(drmaa.AlreadyActiveSessionException, match=r"^code 11: .*existing DRMAA session"):
            again()
    assert session.wait(session.runJob(template(folder)), PATIENCE_S).exitStatus == 0


def test_exit_twice(nobody: Place) -> None:
    """ST_MULT_EXIT: the second gives 5."""
    drmaa.Session.initialize(nobody.contact)
    drmaa.Session.exit()
    with pytest.raises(drmaa.NoActiveSessionException, match=r"^code 5: "):
        drmaa.Session.exit()


def test_many_times(nobody: Place) -> None:
    """A session can be begun after each end, with None, '' or bytes too."""
    for contact in (nobody.contact, nobody.contact.encode(), nobody.contact):
        with drmaa.Session(contact) as session:
            assert session.contact.startswith(SCHEDULER)


@pytest.mark.skipif(not LOCAL, reason="the default contact is local only where no scheduler is found")
@pytest.mark.parametrize("contact", [None, ""])
def test_default_contact(nobody: Place, contact: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """None and '' take the configured default, else the one scheduler found, else local."""
    monkeypatch.setenv("PATH", "/nonexistent")
    drmaa.Session.initialize(contact)
    assert drmaa.Session.contact.startswith("local/")
    drmaa.Session.exit()
    monkeypatch.setenv("JOBYARD_CONTACT", "local?nonzero_exit=done")
    drmaa.Session.initialize(contact)
    assert "nonzero_exit=done" in drmaa.Session.contact
    drmaa.Session.exit()
    monkeypatch.delenv("JOBYARD_CONTACT")
    Path(os.environ["JOBYARD_CONFIG"]).write_text('[defaults]\ncontact = "local?grace=3s"\n')
    try:
        drmaa.Session.initialize(contact)
        assert "grace=3s" in drmaa.Session.contact
    finally:
        Path(os.environ["JOBYARD_CONFIG"]).unlink()


@pytest.mark.skipif(not LOCAL, reason="the site is the embedded scheduler")
def test_site(nobody: Place) -> None:
    """A site of the configuration; the session's own contact names the scheduler, and opens it without the site."""
    config = Path(os.environ["JOBYARD_CONFIG"])
    config.write_text('[sites.mine]\ncontact = "local"\noptions = { nonzero_exit = "done" }\n')
    try:
        with drmaa.Session("site:mine") as session:
            contact = session.contact
            assert contact.startswith("local/")
    finally:
        config.unlink()
    with drmaa.Session(contact) as session:
        assert session.contact == contact
        assert "nonzero_exit=done" in contact


@pytest.mark.parametrize("contact", [None, ""])
def test_bad_default_contact(nobody: Place, contact: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBYARD_CONTACT", "local?nonsense=1")
    with pytest.raises(drmaa.DefaultContactStringException, match=r"^code 8: .*nonsense"):
        drmaa.Session.initialize(contact)


def test_several_schedulers_and_none_chosen(nobody: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NoDefaultContactStringSelected, with the list; the contacts are listed before a session too."""
    monkeypatch.setattr("jobyard.schedulers.found", lambda: ["one", "two"])
    monkeypatch.setattr("jobyard.fronts.schedulers_found", lambda: ["one", "two"])
    with pytest.raises(drmaa.NoDefaultContactStringSelectedException, match=r"^code 9: several schedulers .*one, two.*choose"):
        drmaa.Session.initialize()
    assert drmaa.Session.contact == "one,two,local"
    assert drmaa.Session.drmsInfo == "one,two,local"


@pytest.mark.parametrize(
    "contact", ["foo bar", "foo=bar", "session=host.1.2", "local?nonsense=1", "a,b", "site:nowhere", "local?nonzero_exit=maybe"]
)
def test_bad_contact(nobody: Place, contact: str) -> None:
    with pytest.raises(drmaa.InvalidContactStringException, match=r"^code 7: "):
        drmaa.Session.initialize(contact)
    with pytest.raises(drmaa.NoActiveSessionException):
        drmaa.Session.exit()


def test_contact_of_the_wrong_type(nobody: Place) -> None:
    with pytest.raises(drmaa.InvalidArgumentException, match=r"^code 4: a contact string is text"):
        drmaa.Session.initialize(5)  # type: ignore[arg-type]


def test_unknown_scheduler(nobody: Place) -> None:
    with pytest.raises(drmaa.DrmsInitException, match=r"^code 10: .*nothing.*known are"):
        drmaa.Session.initialize("nothing")


def test_unknown_session(nobody: Place) -> None:
    """A well-formed contact of a session that nobody began."""
    contact, _, options = nobody.contact.partition("?")
    with pytest.raises(drmaa.InvalidContactStringException, match=r"^code 7: "):
        drmaa.Session.initialize(f"{contact}/0123456789abcdef" + (f"?{options}" if options else ""))


def test_bad_configuration(nobody: Place) -> None:
    config = Path(os.environ["JOBYARD_CONFIG"])
    config.write_text("[defaults]\nnonsense = 1\n")
    try:
        with pytest.raises(drmaa.DefaultContactStringException, match=r"^code 8: .*config\.toml, line 2"):
            drmaa.Session.initialize(nobody.contact)
    finally:
        config.unlink()


def test_information(nobody: Place) -> None:
    """ST_CONTACT, ST_DRM_SYSTEM, ST_DRMAA_IMPL, ST_VERSION: text before, during and after."""
    before = (drmaa.Session.contact, drmaa.Session.drmsInfo, drmaa.Session.drmaaImplementation)
    assert before == (drmaa.Session().contact, drmaa.Session().drmsInfo, drmaa.Session().drmaaImplementation)
    assert "local" in before[0].split(",")
    assert "local" in before[1].split(",")
    with drmaa.Session(nobody.contact) as session:
        during = (session.contact, session.drmsInfo, session.drmaaImplementation)
        assert all(type(text) is str and text for text in during)
        assert during[0] == drmaa.Session.contact
        assert "," not in during[0]
        assert session.drmsInfo.split()[0] in DRM_SYSTEMS
        assert during[2].startswith(during[1])
        assert str(session.version) == "1.0"
    assert (drmaa.Session.contact, drmaa.Session.drmsInfo, drmaa.Session.drmaaImplementation) == before


def test_attribute_names(session: Shared) -> None:
    """ST_SUPPORTED_ATTR, ST_SUPPORTED_VATTR."""
    names = list(helpers.attribute_names_iterator())
    assert len(names) >= 12
    assert len(set(names)) == len(names)
    assert set(names) == set(session.createJobTemplate().attributeNames)
    assert "drmaa_remote_command" in names
    assert len(list(helpers.vector_attribute_names_iterator())) == 3


def test_optional_attributes_are_honoured_or_refused(session: Shared) -> None:
    """Row 28: what is not in attributeNames raises UnsupportedAttribute when it is set."""
    values: dict[bytes, tuple[str, Any]] = {
        drmaa.TRANSFER_FILES: ("transferFiles", "o"),
        drmaa.DEADLINE_TIME: ("deadlineTime", "23:59"),
        drmaa.WCT_HLIMIT: ("hardWallclockTimeLimit", 60),
        drmaa.WCT_SLIMIT: ("softWallclockTimeLimit", 60),
        drmaa.DURATION_HLIMIT: ("hardRunDurationLimit", 60),
        drmaa.DURATION_SLIMIT: ("softRunDurationLimit", 60),
    }
    for c_name, (name, value) in values.items():
        jt = session.createJobTemplate()
        if c_name.decode() in jt.attributeNames:
            setattr(jt, name, value)
            assert getattr(jt, name) == value
        else:
            with pytest.raises(drmaa.UnsupportedAttributeException, match=rf"^code 4: {name}: .*attributeNames"):
                setattr(jt, name, value)


def test_work_needs_a_session(nobody: Place) -> None:
    """Everything that does work gives 5 before initialize and after exit."""

    def calls() -> None:
        for call in (
            lambda: drmaa.Session.runJob(None),  # type: ignore[arg-type]
            lambda: drmaa.Session.runBulkJobs(None, 1, 2, 1),  # type: ignore[arg-type]
            lambda: drmaa.Session.wait("1"),
            lambda: drmaa.Session.synchronize(["1"]),
            lambda: drmaa.Session.control("1", TERMINATE),
            lambda: drmaa.Session.jobStatus("1"),
            lambda: drmaa.Session.deleteJobTemplate(None),  # type: ignore[arg-type]
            drmaa.Session.createJobTemplate,
            drmaa.JobTemplate,
            drmaa.Session.exit,
        ):
            with pytest.raises(drmaa.NoActiveSessionException, match=r"^code 5: "):
                call()

    calls()
    drmaa.Session.initialize(nobody.contact)
    drmaa.Session.exit()
    calls()


def test_context_managers(nobody: Place, folder: Path) -> None:
    with drmaa.Session(nobody.contact) as session:
        with session.createJobTemplate() as jt:
            fill(jt, folder, "/bin/true")
            job = session.runJob(jt)
        assert session.wait(job, PATIENCE_S).jobId == job
    with pytest.raises(RuntimeError, match="mine"), drmaa.Session(nobody.contact):
        raise RuntimeError("mine")
    with pytest.raises(drmaa.NoActiveSessionException):
        drmaa.Session.exit()


# Several at once ------------------------------------------------------------------------------------------------------


def test_independent_sessions(session: Shared, place: Place, folder: Path) -> None:
    """Row 6: ten sessions at once beside the shared one, their jobs apart."""
    others = [drmaa.Session.independent(place.contact) for _ in range(3 if SMALL else 10)]
    jobs: list[str] = []
    for other in others:
        with pytest.raises(drmaa.NoActiveSessionException):
            other.createJobTemplate()
        other.initialize()
        with pytest.raises(drmaa.AlreadyActiveSessionException):
            other.initialize()
        jt = other.createJobTemplate()
        fill(jt, folder, "/bin/sh", "-c", f"exit {len(jobs)}")
        jobs.append(other.runJob(jt))
    own = session.runJob(template(folder))
    for number, (other, job) in enumerate(zip(others, jobs, strict=True)):
        info = other.wait(ANY, PATIENCE_S)
        assert (info.jobId, info.exitStatus) == (job, number)
        with pytest.raises(drmaa.InvalidJobException):
            other.wait(ANY, NOW)
        assert other.contact != session.contact
        assert other.drmsInfo == session.drmsInfo
        assert other.drmaaImplementation == session.drmaaImplementation
        other.exit()
    assert session.wait(ANY, PATIENCE_S).jobId == own


def test_an_independent_session_does_everything(nobody: Place, folder: Path) -> None:
    with drmaa.Session.independent(nobody.contact) as session:
        jt = session.createJobTemplate()
        fill(jt, folder, "/bin/sleep", "600", jobSubmissionState="drmaa_hold")
        assert len(jt.attributeNames) >= 12
        jobs = session.runBulkJobs(jt, 1, 2, 1)
        assert session.jobStatus(jobs[0]) == drmaa.JobState.USER_ON_HOLD
        session.control(jobs[0], TERMINATE)
        session.control(ALL, TERMINATE)
        session.synchronize([ALL], PATIENCE_S, True)
        with pytest.raises(drmaa.InvalidJobException):
            session.wait(jobs[0], NOW)
        session.deleteJobTemplate(jt)
        with pytest.raises(ValueError, match="is not in list"):
            session.control(jobs[0], "start")
        contact = session.contact
    with pytest.raises(drmaa.NoActiveSessionException):
        drmaa.Session.exit()  # the shared session was never begun
    again = drmaa.Session.independent()
    again.initialize(contact)
    assert again.contact == contact
    again.exit()
    assert "local" in again.contact.split(",")


# Reconnection ------------------------------------------------------------------------------------------------------------


def test_recoverable_session(nobody: Place, folder: Path) -> None:
    """ST_RECOVERABLE_SESSION: what ended while nobody was connected keeps its whole ending; the rest goes on."""
    drmaa.Session.initialize(nobody.contact)
    long = drmaa.Session.runJob(shell(folder, f"while [ ! -e {folder}/go ]; do sleep 0.05; done; exit 5"))
    short = drmaa.Session.runJob(shell(folder, "exit 3"))
    released, held = drmaa.Session.runBulkJobs(shell(folder, "exit 4", jobSubmissionState="drmaa_hold"), 1, 2, 1)
    drmaa.Session.control(released, drmaa.JobControlAction.RELEASE)
    contact = drmaa.Session.contact
    drmaa.Session.exit()

    watcher = drmaa.Session.independent(nobody.contact)  # knows when they have ended, and reaps nothing of theirs
    watcher.initialize()
    watcher.synchronize([short, released], PATIENCE_S)
    watcher.exit()

    drmaa.Session.initialize(contact)
    assert drmaa.Session.contact == contact
    assert drmaa.Session.wait(short, NOW).exitStatus == 3
    assert drmaa.Session.wait(released, NOW).exitStatus == 4
    with pytest.raises(drmaa.ExitTimeoutException):
        drmaa.Session.wait(held, NOW)
    assert drmaa.Session.jobStatus(held) == drmaa.JobState.USER_ON_HOLD
    drmaa.Session.control(held, TERMINATE)
    assert drmaa.Session.wait(held, PATIENCE_S).wasAborted
    with pytest.raises(drmaa.ExitTimeoutException):
        drmaa.Session.wait(long, NOW)
    (folder / "go").touch()
    assert drmaa.Session.wait(long, PATIENCE_S).exitStatus == 5
    with pytest.raises(drmaa.InvalidJobException):
        drmaa.Session.wait(ANY, NOW)


def test_any_and_all_mean_the_jobs_of_before(nobody: Place, folder: Path) -> None:
    drmaa.Session.initialize(nobody.contact)
    jobs = {drmaa.Session.runJob(template(folder)) for _ in range(3)}
    reaped = drmaa.Session.wait(ANY, PATIENCE_S).jobId
    contact = drmaa.Session.contact
    drmaa.Session.exit()
    drmaa.Session.initialize(contact)
    drmaa.Session.synchronize([ALL], PATIENCE_S)
    left = {drmaa.Session.wait(ANY, FOREVER).jobId for _ in range(2)}
    assert left == jobs - {reaped}
    with pytest.raises(drmaa.InvalidJobException):
        drmaa.Session.jobStatus(reaped)


def test_exit_touches_no_job(nobody: Place, folder: Path) -> None:
    drmaa.Session.initialize(nobody.contact)
    job = drmaa.Session.runJob(sleeper(folder, 600))
    contact = drmaa.Session.contact
    drmaa.Session.exit()
    drmaa.Session.initialize(contact)
    assert drmaa.Session.jobStatus(job) not in (drmaa.JobState.DONE, drmaa.JobState.FAILED)


@pytest.mark.skipif(not LOCAL, reason="only the embedded scheduler ends when idle")
def test_pause(session: Shared, place: Place, folder: Path) -> None:
    """ST_SUBMIT_PAUSE_SUBMIT_SYNC: the scheduler that the client knew has gone for want of work; submitting goes on."""
    first = session.runJob(template(folder))
    session.synchronize(first, PATIENCE_S)
    place.stop()
    second = session.runJob(template(folder))
    session.synchronize([first, second], PATIENCE_S)
    assert {session.wait(ANY, PATIENCE_S).jobId for _ in range(2)} == {first, second}
