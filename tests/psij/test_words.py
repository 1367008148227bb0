"""The engine's endings and errors in PSI/J's words."""

from __future__ import annotations

import pytest

import jobyard
from jobyard.fronts import By, Transition
from psij import InvalidJobException, JobState, SubmitException
from psij._engine import translate
from psij._states import STATES, exit_code, signal_number, statuses
from psij.executors.batch._wrapped import contact_name

E = jobyard.Ending
S = jobyard.JobState
C = jobyard.Cause


def test_every_state_has_a_word() -> None:
    assert set(STATES) == set(jobyard.JobState)
    assert {one for one in jobyard.JobState if STATES[one].final} == {one for one in jobyard.JobState if one.final}


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (E(state=S.DONE, exit_code=0), 0),
        (E(state=S.FAILED, exit_code=137), 137),
        (E(state=S.FAILED, signal="SIGKILL"), 137),
        (E(state=S.FAILED, signal="SIGRTMIN+1"), 128 + 35),
        (E(state=S.FAILED, signal="63"), 128 + 63),
        (E(state=S.FAILED, signal="SIGODD"), None),
        (E(state=S.FAILED, cause=C.LOST), None),
    ],
)
def test_exit_codes(ending: jobyard.Ending, code: int | None) -> None:
    assert exit_code(ending) == code
    assert signal_number(None) is None


@pytest.mark.parametrize(
    ("ending", "states"),
    [
        (E(state=S.DONE, exit_code=0, began_at=5.0), "QUEUED STAGE_IN ACTIVE COMPLETED"),
        (E(state=S.FAILED, exit_code=3, began_at=5.0), "QUEUED STAGE_IN ACTIVE STAGE_OUT CLEANUP FAILED"),
        (E(state=S.FAILED, signal="SIGSEGV"), "QUEUED STAGE_IN ACTIVE STAGE_OUT CLEANUP FAILED"),
        (E(state=S.FAILED, cause=C.WALLTIME, began_at=5.0), "QUEUED STAGE_IN ACTIVE FAILED"),
        (E(state=S.FAILED, cause=C.LOST), "FAILED"),
        (E(state=S.FAILED, cause=C.NOT_STARTED, aborted=True), "FAILED"),
        (E(state=S.FAILED, cause=C.STAGING, aborted=True), "FAILED"),
        (E(state=S.CANCELLED, cause=C.CANCELLED, aborted=True), "CANCELED"),
        (E(state=S.CANCELLED, cause=C.CANCELLED, began_at=5.0), "QUEUED STAGE_IN ACTIVE CANCELED"),
    ],
)
def test_what_an_ending_must_have_passed(ending: jobyard.Ending, states: str) -> None:
    found = statuses(Transition(state=ending.state, at=9.0, ending=ending), "7")
    assert " ".join(str(status.state) for status in found) == states
    assert found[-1].time == 9.0
    assert found[-1].metadata is not None
    assert (found[-1].metadata["native_id"], found[-1].metadata["cause"]) == ("7", str(ending.cause))
    assert all((status.metadata or {}).get("synthesised") for status in found[:-1])
    assert [status.time for status in found if status.state is JobState.ACTIVE] in ([], [5.0], [9.0])
    if ending.cause not in (C.EXITED,):
        assert str(ending.cause) in (found[-1].message or "")


def test_the_launchers_words_are_told_with_a_failure() -> None:
    ending = E(state=S.FAILED, exit_code=3)
    (*_, status) = statuses(Transition(state=S.FAILED, at=1.0, ending=ending), "7", "no licence\n")
    assert status.message == "The job exited with 3\nno licence"


def test_waiting_and_suspended_jobs() -> None:
    (held,) = statuses(Transition(state=S.HELD, at=1.0, by=By.USER, reason="by its owner"), "7")
    assert (held.state, held.message) == (JobState.QUEUED, "by its owner")
    assert held.metadata == {"native_id": "7", "held": "user", "reason": "by its owner"}
    (suspended,) = statuses(Transition(state=S.SUSPENDED, at=1.0, by=By.SYSTEM), "7")
    assert (suspended.state, suspended.metadata) == (JobState.ACTIVE, {"native_id": "7", "suspended": "system"})


@pytest.mark.parametrize(
    ("error", "kind", "transient"),
    [
        (jobyard.SubmitError("no", retryable=True), SubmitException, True),
        (jobyard.SubmitError("no"), SubmitException, False),
        (jobyard.SchedulerUnavailable("away"), SubmitException, True),
        (jobyard.TransportError("cut"), SubmitException, True),
        (jobyard.NoScheduler("none"), SubmitException, False),
        (jobyard.SessionClosed("closed"), SubmitException, False),
        (jobyard.UnknownJob("who"), SubmitException, False),
        (jobyard.InvalidContact("odd"), InvalidJobException, None),
        (jobyard.InvalidJob("bad", field="memory"), InvalidJobException, None),
        (jobyard.UnsupportedAttribute("cannot", field="reservation"), InvalidJobException, None),
    ],
)
def test_errors(error: jobyard.JobyardError, kind: type[Exception], transient: bool | None) -> None:
    found = translate(error)
    assert type(found) is kind
    assert str(error) in str(found)
    assert getattr(found, "exception", None) is error
    assert getattr(found, "transient", None) is transient


def test_errors_name_the_field_as_psij_calls_it() -> None:
    assert str(translate(jobyard.InvalidJob("bad", field="memory"))) == "JobSpec.resources.memory: bad"
    assert str(translate(jobyard.InvalidJob("bad", field="walltime"))) == "JobSpec.attributes.duration: bad"
    assert str(translate(jobyard.InvalidJob("the combination"))) == "the combination"


@pytest.mark.parametrize(
    ("name", "contact"),
    [("fake", "psij-fake"), ("batch-test", "psij-batch-test"), ("_Odd__Name", "psij-odd-name"), ("__", "psij-executor")],
)
def test_executors_of_others_have_names_that_contacts_can_hold(name: str, contact: str) -> None:
    assert contact_name(name) == contact
    assert jobyard.Contact.parse(f"{contact}?poll=1s").scheduler == contact
