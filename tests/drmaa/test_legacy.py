"""The older DRMAA module: its names over the same session."""

from __future__ import annotations

from pathlib import Path

import pytest

import DRMAA
import drmaa
from drmaa_suite import surface
from drmaa_suite.run import FOREVER, PATIENCE_S, Place, sleeper, template, until


def test_names() -> None:
    for name in surface.STATES:
        assert getattr(DRMAA.Session, name) == getattr(drmaa.JobState, name)
    for name in surface.ACTIONS:
        assert getattr(DRMAA.Session, name) == getattr(drmaa.JobControlAction, name)
    for name, value in surface.SESSION_CONSTANTS.items():
        assert getattr(DRMAA.Session, name) == value
    assert DRMAA.JobTemplate is drmaa.JobTemplate
    assert DRMAA.InvalidJobException is drmaa.InvalidJobException
    with pytest.raises(AttributeError, match="nothing"):
        DRMAA.nothing  # noqa: B018


def test_information_without_a_session(nobody: Place) -> None:
    """Legal before init and after exit; work is not."""
    session = DRMAA.Session()
    for _ in range(2):
        assert session.getContact() == drmaa.Session.contact
        assert session.getDRMSInfo() == drmaa.Session.drmsInfo
        assert session.getDRMAAImplementation() == drmaa.Session.drmaaImplementation
        assert f"Version {session.getVersion()}" == "Version 1.0"
        for work in (session.createJobTemplate, lambda: session.getJobProgramStatus("1"), lambda: session.wait("1")):
            with pytest.raises(drmaa.NoActiveSessionException):
                work()
        session.init(nobody.contact)
        assert session.getContact() == drmaa.Session.contact
        session.exit()


def test_a_jobs_life(nobody: Place, folder: Path) -> None:
    session = DRMAA.Session()
    session.init(nobody.contact)
    job = session.runJob(sleeper(folder, 600))
    until(lambda: session.getJobProgramStatus(job) == DRMAA.Session.RUNNING, "it runs")
    session.control(job, DRMAA.Session.SUSPEND)
    until(lambda: session.getJobProgramStatus(job) == DRMAA.Session.USER_SUSPENDED, "it is suspended")
    session.control(job, DRMAA.Session.RESUME)
    session.control(job, DRMAA.Session.TERMINATE)
    ending = session.wait(job, PATIENCE_S)
    assert ending.getJobId() == job
    assert (ending.wasAborted(), ending.hasExited(), ending.hasSignaled(), ending.hasCoreDump()) == (True, False, False, False)
    assert ending.getTerminatingSignal() == ""
    second = session.wait(session.runJob(template(folder)), FOREVER)
    assert (second.hasExited(), second.getExitStatus()) == (True, 0)
    assert second.getResourceUsage()["cpu"]
    assert repr(second).startswith("DRMAA.JobInfo(jobId=")
    contact = session.getContact()
    session.exit()
    session.init(contact)
    with pytest.raises(drmaa.InvalidJobException):
        session.getJobProgramStatus(job)
