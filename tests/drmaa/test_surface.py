"""Names, types, bases, values and signatures, against the tables of drmaa_suite.surface."""

from __future__ import annotations

import importlib
import inspect

import pytest

import drmaa
from drmaa import const, errors, helpers, wrappers
from drmaa_suite import surface


def test_package_names() -> None:
    assert len(surface.ROOT_NAMES) == 75
    assert sorted(drmaa.__all__) == surface.ROOT_NAMES
    assert drmaa.__version__ == "0.7.9"
    assert drmaa.VERSION == (0, 7, 9)
    assert drmaa.__docformat__ == "restructuredtext en"
    for name in drmaa.__all__:
        assert hasattr(drmaa, name), name


@pytest.mark.parametrize("name", surface.MODULES)
def test_submodules_are_importable_and_attributes(name: str) -> None:
    assert importlib.import_module(f"drmaa.{name}") is getattr(drmaa, name)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        drmaa.nothing  # noqa: B018


@pytest.mark.parametrize("name", surface.VALUES)
def test_constant(name: str) -> None:
    value = surface.VALUES[name]
    for module in (const, drmaa):
        assert getattr(module, name) == value
        assert type(getattr(module, name)) is type(value)


def test_encoding_is_in_const_alone() -> None:
    assert isinstance(const.ENCODING, str)
    assert "ENCODING" not in drmaa.__all__


def test_states() -> None:
    names = [name for name in vars(const.JobState) if not name.startswith("_")]
    assert sorted(names) == sorted(surface.STATES)
    for name, code in surface.STATES.items():
        value = getattr(drmaa.JobState, name)
        assert type(value) is str
        assert value == name.lower()
        assert drmaa.job_state(code) == drmaa.status_to_string(code) == value
    with pytest.raises(KeyError):
        drmaa.job_state(0x50)


def test_actions() -> None:
    for code, name in enumerate(surface.ACTIONS):
        value = getattr(drmaa.JobControlAction, name)
        assert type(value) is str
        assert value == name.lower()
        assert drmaa.control_action_to_string(code) == value
        assert drmaa.string_to_control_action(value) == code
    assert drmaa.control_action_to_string(-1) == "terminate"
    with pytest.raises(IndexError):
        drmaa.control_action_to_string(9)
    with pytest.raises(ValueError, match="is not in list"):
        drmaa.string_to_control_action("start")


def test_submission_states() -> None:
    assert drmaa.JobSubmissionState.HOLD_STATE == "drmaa_hold" == drmaa.submission_state(0)
    assert drmaa.JobSubmissionState.ACTIVE_STATE == "drmaa_active" == drmaa.submission_state(1)
    with pytest.raises(IndexError):
        drmaa.submission_state(2)


@pytest.mark.parametrize("name", surface.CONST_FUNCTIONS)
def test_function_signature(name: str) -> None:
    assert list(inspect.signature(getattr(const, name)).parameters) == surface.CONST_FUNCTIONS[name]


# Errors ---------------------------------------------------------------------------------------------------------------


def test_error_codes() -> None:
    """ST_ERROR_CODES: 0 is success, 1 to 25 as in the C binding."""
    assert drmaa.errors.error_check(0) is None  # type: ignore[func-returns-value]  # that it returns is the test
    for code, name in surface.CODES.items():
        with pytest.raises(getattr(errors, f"{name}Exception"), match=rf"^code {code}: "):
            errors.error_check(code)
    with pytest.raises(errors.NoRusageException, match=r"^code 24: "):
        errors.error_check(24)
    with pytest.raises(StopIteration, match=r"^code 25: "):
        errors.error_check(25)
    with pytest.raises(errors.DrmaaException, match=r"^code 26: ") as caught:
        errors.error_check(26)
    assert type(caught.value) is errors.DrmaaException


def test_error_text_is_the_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors.error_buffer, "value", b"no such job")
    with pytest.raises(errors.InvalidJobException) as caught:
        errors.error_check(18)
    assert caught.value.args == ("code 18: no such job",)
    assert str(caught.value) == "code 18: no such job"


@pytest.mark.parametrize("name", [*surface.CODES.values(), *surface.CODELESS])
def test_error_bases(name: str) -> None:
    kind = getattr(drmaa, f"{name}Exception")
    second = surface.SECOND_BASE.get(name)
    assert kind.__bases__ == ((errors.DrmaaException, second) if second else (errors.DrmaaException,))
    error = errors.coded(kind, "text")
    code = next((c for c, n in surface.CODES.items() if n == name), None)
    assert str(error).startswith(f"code {code}: " if code else "code ")
    assert isinstance(error, Exception)


def test_no_rusage_is_an_error_like_the_others() -> None:
    assert issubclass(errors.NoRusageException, errors.DrmaaException)
    assert drmaa.NoRusageException is errors.NoRusageException
    assert str(errors.coded(errors.NoRusageException, "gone")) == "code 24: gone"


def test_root_exception_is_in_errors_alone() -> None:
    assert "DrmaaException" not in drmaa.__all__
    assert not hasattr(drmaa, "DrmaaException")


# Session --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", surface.SESSION_METHODS)
def test_session_method(name: str) -> None:
    wanted = surface.SESSION_METHODS[name]
    assert isinstance(inspect.getattr_static(drmaa.Session, name), staticmethod)
    found = inspect.signature(getattr(drmaa.Session, name)).parameters
    assert list(found) == list(wanted)
    for parameter in found.values():
        default = "" if parameter.default is parameter.empty else parameter.default
        assert default == wanted[parameter.name]


@pytest.mark.parametrize("name", surface.SESSION_METHODS)
def test_independent_session_method(name: str) -> None:
    """An independent session has the same calls, of its own."""
    session = drmaa.Session.independent()
    found = inspect.signature(getattr(session, name)).parameters
    assert list(found) == list(surface.SESSION_METHODS[name])
    assert inspect.ismethod(getattr(session, name))


def test_session_constants_and_constructor() -> None:
    for name, value in surface.SESSION_CONSTANTS.items():
        assert getattr(drmaa.Session, name) == value
        assert getattr(drmaa.Session.independent(), name) == value
    assert list(inspect.signature(drmaa.Session).parameters) == ["contactString"]
    assert drmaa.Session().contactString is None
    assert drmaa.Session("local").contactString == "local"


def test_a_descriptor_of_the_instance_can_be_shadowed() -> None:
    session = drmaa.Session()
    session.contact = "mine"
    assert session.contact == "mine"


def test_version() -> None:
    version = drmaa.Session.version
    assert f"Version {version}" == "Version 1.0"
    assert "Version %s" % version == "Version 1.0"  # noqa: UP031 - the form that users' programs have
    assert (version.major, version.minor) == (1, 0)
    assert version[0] == 1
    major, minor = version
    assert (major, minor) == (1, 0)
    assert version == (1, 0)
    assert version >= (1, 0)
    assert version < (1, 1)
    assert len(version) == 2
    assert repr(version) == "Version(major=1, minor=0)"
    assert drmaa.Session().version == version
    assert {version: "one"}[helpers.Version(1, 0)] == "one"


# Templates and endings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", surface.TEMPLATE_ATTRIBUTES)
def test_template_attribute(name: str) -> None:
    descriptor = getattr(drmaa.JobTemplate, name)
    assert descriptor.name == surface.TEMPLATE_ATTRIBUTES[name].encode()
    assert name in dir(drmaa.JobTemplate)


def test_template_constants() -> None:
    for name, value in surface.TEMPLATE_CONSTANTS.items():
        assert getattr(drmaa.JobTemplate, name) == value
        assert type(getattr(drmaa.JobTemplate, name)) is str
    for name in ("delete", "attributeNames", "__enter__", "__exit__"):
        assert hasattr(drmaa.JobTemplate, name)


def test_job_info_fields() -> None:
    assert drmaa.JobInfo._fields == surface.JOB_INFO_FIELDS
    assert issubclass(drmaa.JobInfo, tuple)
    info = drmaa.JobInfo("7", False, True, "SIGKILL", False, False, 0, {"cpu": "1"})
    assert info[3] == "SIGKILL"
    assert list(info._asdict()) == list(surface.JOB_INFO_FIELDS)
    assert (info.hasSignaled, info.terminatingSignal) == (True, "SIGKILL")
    assert repr(info).startswith("JobInfo(jobId='7', hasExited=False")
    info.resourceUsage["more"] = "mine"
    assert info.resourceUsage["more"] == "mine"


# Helpers and wrappers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", surface.HELPERS)
def test_helper(name: str) -> None:
    assert callable(getattr(helpers, name))


def test_helper_functions() -> None:
    assert helpers.adapt_rusage([b"cpu=1", "name=a=b"]) == {"cpu": "1", "name": "a=b"}
    assert helpers.string_vector(["a", 1]) == ["a", "1"]
    assert helpers.c(max, 1, 2) == 2
    assert list(helpers.vector_attribute_names_iterator()) == ["drmaa_v_argv", "drmaa_v_email", "drmaa_v_env"]
    assert list(inspect.signature(helpers.run_bulk_job).parameters) == ["jt", "start", "end", "incr"]
    assert inspect.signature(helpers.run_bulk_job).parameters["incr"].default == 1
    assert helpers.IntConverter.to_drmaa(60) == "60"
    assert helpers.IntConverter.from_drmaa("60") == 60
    assert helpers.BoolConverter().to_drmaa(1) == "y"
    assert helpers.BoolConverter("t", "f").from_drmaa("t") is True


@pytest.mark.parametrize("name", surface.WRAPPERS)
def test_wrapper(name: str) -> None:
    assert hasattr(wrappers, name)


def test_wrappers_say_that_there_is_no_library() -> None:
    with pytest.raises(NotImplementedError, match=r"drmaa_run_job: .* no C library .* use drmaa.Session"):
        vars(wrappers)["drmaa_run_job"](b"", 0)
    with pytest.raises(errors.NoActiveSessionException):
        wrappers.py_drmaa_exit()
