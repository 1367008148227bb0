"""JobTemplate by itself: round trips, unset values, wrong types, deletion."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

import drmaa
from drmaa import helpers
from drmaa._core import SessionCore
from drmaa.errors import (
    InvalidArgumentException,
    InvalidAttributeFormatException,
    InvalidAttributeValueException,
    InvalidJobTemplateException,
    NoActiveSessionException,
    UnsupportedAttributeException,
    coded,
)
from drmaa_suite import surface


class Core:
    """A session that supports all attributes but those that a test names."""

    def __init__(self) -> None:
        self.refused: set[bytes] = set()

    def attribute_names(self) -> list[str]:
        return [n.decode() for n in (*helpers.MANDATORY, *helpers.OPTIONAL) if n not in self.refused]

    def require_supported(self, name: bytes, attribute: str) -> None:
        if name in self.refused:
            raise coded(UnsupportedAttributeException, f"{attribute}: not here")


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def jt(core: Core) -> drmaa.JobTemplate:
    return drmaa.JobTemplate._of(cast(SessionCore, core))


TWICE: dict[str, tuple[Any, Any]] = {
    "remoteCommand": ("job.sh", "/bin/true"),
    "args": (["a"], ["b", "c d"]),
    "jobSubmissionState": ("drmaa_active", "drmaa_hold"),
    "jobEnvironment": ({"A": "1"}, {"B": "2=3"}),
    "workingDirectory": ("/tmp", "$drmaa_hd_ph$/x"),
    "jobCategory": ("small", "large"),
    "nativeSpecification": ("-l a", " -l b"),
    "email": (["a@example.org"], ["b@example.org", "c@example.org"]),
    "blockEmail": (True, False),
    "startTime": ("10:00", "11:00"),
    "jobName": ("one", "two"),
    "inputPath": (":/a", "host:/b"),
    "outputPath": (":/a", ":$drmaa_wd_ph$/b"),
    "errorPath": (":/a", ":b"),
    "joinFiles": (False, True),
    "transferFiles": ("i", "oe"),
    "deadlineTime": ("10:00", "11:00"),
    "hardWallclockTimeLimit": (60, 90),
    "softWallclockTimeLimit": (60, 90),
    "hardRunDurationLimit": (60, 90),
    "softRunDurationLimit": (60, 90),
}


@pytest.mark.parametrize("name", surface.TEMPLATE_ATTRIBUTES)
def test_round_trip(jt: drmaa.JobTemplate, name: str) -> None:
    """ST_ATTRIBUTE_CHANGE: set twice, the second is read back, of the same type."""
    first, second = TWICE[name]
    setattr(jt, name, first)
    assert getattr(jt, name) == first
    setattr(jt, name, second)
    assert getattr(jt, name) == second
    assert type(getattr(jt, name)) is type(second)


@pytest.mark.parametrize("name", surface.TEMPLATE_ATTRIBUTES)
def test_unset(jt: drmaa.JobTemplate, name: str) -> None:
    """Readable before it is set: '', False, None, [] or {}."""
    empty: dict[str, Any] = {"args": [], "email": [], "jobEnvironment": {}, "blockEmail": False, "joinFiles": False}
    value = getattr(jt, name)
    assert value == (None if name.endswith("Limit") else empty.get(name, ""))
    assert hasattr(jt, name)


def test_the_documented_attribute_values(jt: drmaa.JobTemplate) -> None:
    """The ten scalars that drmaa-python's own tests read back, a path of a bytes placeholder's repr among them."""
    for name, value in [
        ("remoteCommand", "cat"),
        ("jobSubmissionState", drmaa.SUBMISSION_STATE_ACTIVE),
        ("workingDirectory", drmaa.JobTemplate.HOME_DIRECTORY),
        ("nativeSpecification", "-shell yes"),
        ("blockEmail", False),
        ("jobName", "pippo"),
        ("inputPath", f":{drmaa.PLACEHOLDER_HD!r}"),
        ("outputPath", f":{drmaa.PLACEHOLDER_HD!r}/pippo.out"),
        ("errorPath", f":{drmaa.PLACEHOLDER_HD!r}/pippo.out"),
        ("joinFiles", True),
    ]:
        setattr(jt, name, value)
        assert getattr(jt, name) == value
    jt.args = [10, "de", "arglebargle"]
    assert jt.args == ["10", "de", "arglebargle"]


def test_environment_is_kept_whole(jt: drmaa.JobTemplate) -> None:
    jt.jobEnvironment = {**os.environ, "LONG": "x" * 100_000, "EQUALS": "a=b=c", "LINES_": "a\nb", "BYTES": os.fsdecode(b"\xff")}
    for name, value in os.environ.items():
        assert jt.jobEnvironment[name] == value
    assert jt.jobEnvironment["LONG"] == "x" * 100_000
    assert jt.jobEnvironment["EQUALS"] == "a=b=c"


def test_values_are_copies(jt: drmaa.JobTemplate) -> None:
    args = ["a"]
    jt.args = args
    args.append("b")
    jt.args.append("c")
    jt.jobEnvironment["A"] = "1"
    assert jt.args == ["a"]
    assert jt.jobEnvironment == {}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("remoteCommand", None, InvalidArgumentException),
        ("remoteCommand", 5, InvalidArgumentException),
        ("workingDirectory", ["/tmp"], InvalidArgumentException),
        ("args", "abc", InvalidArgumentException),
        ("args", None, InvalidArgumentException),
        ("args", 5, InvalidArgumentException),
        ("email", "me@example.org", InvalidArgumentException),
        ("jobEnvironment", None, InvalidArgumentException),
        ("jobEnvironment", "A=1", InvalidArgumentException),
        ("jobEnvironment", {"": "1"}, InvalidArgumentException),
        ("jobSubmissionState", "held", InvalidAttributeValueException),
        ("jobSubmissionState", None, InvalidAttributeValueException),
        ("joinFiles", "yes", InvalidAttributeValueException),
        ("blockEmail", "", InvalidAttributeValueException),
        ("transferFiles", "x", InvalidAttributeValueException),
        ("transferFiles", "oo", InvalidAttributeValueException),
        ("transferFiles", True, InvalidAttributeValueException),
        ("hardWallclockTimeLimit", "an hour", InvalidAttributeFormatException),
        ("hardWallclockTimeLimit", -1, InvalidAttributeValueException),
        ("hardRunDurationLimit", True, InvalidAttributeValueException),
        ("startTime", 12, InvalidArgumentException),
        ("jobName", b"a\0b", InvalidArgumentException),
    ],
)
def test_wrong_types_are_refused_when_set(jt: drmaa.JobTemplate, name: str, value: Any, error: type[Exception]) -> None:
    before = getattr(jt, name)
    with pytest.raises(error, match=rf"^code \d+: {name}"):
        setattr(jt, name, value)
    assert getattr(jt, name) == before


def test_what_else_is_taken(jt: drmaa.JobTemplate) -> None:
    jt.remoteCommand = Path("/bin/true")
    assert jt.remoteCommand == "/bin/true"
    jt.workingDirectory = b"/tmp"
    assert jt.workingDirectory == "/tmp"
    jt.args = (str(n) for n in range(3))
    assert jt.args == ["0", "1", "2"]
    jt.joinFiles = 1
    assert jt.joinFiles is True
    jt.joinFiles = "n"
    assert jt.joinFiles is False
    for limit in (60, b"60", "60", "0:01:00", timedelta(minutes=1)):
        jt.hardWallclockTimeLimit = limit
        assert jt.hardWallclockTimeLimit == 60
    jt.hardWallclockTimeLimit = None
    assert jt.hardWallclockTimeLimit is None

    class FileTransferMode:
        transferInputStream = True
        transferOutputStream = False
        transferErrorStream = True

    jt.transferFiles = FileTransferMode()
    assert jt.transferFiles == "ie"


def test_other_spellings(jt: drmaa.JobTemplate) -> None:
    jt.hardWallClockTimeLimit = 60
    jt.softWallClockTimeLimit = 50
    assert (jt.hardWallclockTimeLimit, jt.softWallclockTimeLimit) == (60, 50)


def test_arbitrary_attributes_are_taken_in_silence(jt: drmaa.JobTemplate) -> None:
    jt.project = "mine"  # type: ignore[attr-defined]  # as programs do that pass a dict of settings
    assert jt.project == "mine"  # type: ignore[attr-defined]
    assert set(surface.TEMPLATE_ATTRIBUTES) <= set(dir(jt))


def test_attribute_names(jt: drmaa.JobTemplate, core: Core) -> None:
    """ST_SUPPORTED_ATTR: C names of scalars, those that the scheduler supports."""
    assert len(jt.attributeNames) == 18
    core.refused = {drmaa.DEADLINE_TIME, drmaa.WCT_SLIMIT}
    assert "drmaa_deadline_time" not in jt.attributeNames
    assert "drmaa_remote_command" in jt.attributeNames
    assert not any(name.startswith("drmaa_v_") for name in jt.attributeNames)


def test_unsupported_attribute_is_refused_when_set(jt: drmaa.JobTemplate, core: Core) -> None:
    core.refused = {drmaa.DEADLINE_TIME, drmaa.WCT_SLIMIT, drmaa.TRANSFER_FILES}
    for name, value in (("deadlineTime", "10:00"), ("softWallclockTimeLimit", 60), ("transferFiles", "o")):
        with pytest.raises(UnsupportedAttributeException, match=rf"^code 4: {name}"):
            setattr(jt, name, value)
    jt.transferFiles = ""  # asks for nothing
    assert jt.transferFiles == ""


def test_attributes_by_c_name(jt: drmaa.JobTemplate) -> None:
    """ST_UNSUPPORTED_ATTR, ST_UNSUPPORTED_VATTR: a name that is none."""
    helpers.attribute_setter(jt, "drmaa_job_name")("mine")
    assert helpers.attribute_getter(jt, b"drmaa_job_name")() == jt.jobName == "mine"
    assert helpers.attribute_setter(jt, "drmaa_job_name").__name__ == "set_drmaa_job_name"
    with pytest.raises(InvalidArgumentException, match=r"^code 4: there is no attribute 'blah'"):
        jt.set_attribute("blah", "x")
    with pytest.raises(InvalidArgumentException, match="no attribute 'blah'"):
        helpers.attribute_getter(jt, "blah")()
    with pytest.raises(InvalidArgumentException, match="no attribute 'blah'"):
        helpers.vector_attribute_iterator(jt, "blah")
    jt.jobEnvironment = {"A": "x=y"}
    jt.args = ["1", "2"]
    assert list(helpers.vector_attribute_iterator(jt, "drmaa_v_env")) == ["A=x=y"]
    assert list(helpers.vector_attribute_iterator(jt, drmaa.V_ARGV)) == ["1", "2"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_are_templates_of_their_own(jt: drmaa.JobTemplate, copied: Callable[[drmaa.JobTemplate], drmaa.JobTemplate]) -> None:
    jt.remoteCommand, jt.args, jt.jobEnvironment = "/bin/sh", ["-c", "true"], {"A": "1"}
    vars(jt)["project"] = "mine"  # as programs add it
    made = copied(jt)
    assert (made.remoteCommand, made.args, made.jobEnvironment) == ("/bin/sh", ["-c", "true"], {"A": "1"})
    assert vars(made)["project"] == "mine"
    made.args, made.jobName = ["-c", "false"], "other"
    assert (jt.args, jt.jobName) == (["-c", "true"], "")
    jt.delete()
    assert made.remoteCommand == "/bin/sh"
    with pytest.raises(InvalidJobTemplateException):
        copied(jt)


def test_deletion(jt: drmaa.JobTemplate) -> None:
    with jt as same:
        assert same is jt
        jt.remoteCommand = "/bin/true"
        assert "remote_command='/bin/true'" in repr(jt)
        jt.delete()
    jt.delete()
    assert repr(jt) == "<drmaa.JobTemplate, deleted>"
    with pytest.raises(InvalidJobTemplateException, match=r"^code 4: the job template was deleted"):
        jt.remoteCommand  # noqa: B018
    with pytest.raises(InvalidJobTemplateException, match="deleted"):
        jt.remoteCommand = "/bin/true"


def test_there_is_no_template_without_a_session() -> None:
    with pytest.raises(NoActiveSessionException, match=r"^code 5: "):
        drmaa.JobTemplate()
    with pytest.raises(NoActiveSessionException, match=r"^code 5: "):
        drmaa.Session.createJobTemplate()
