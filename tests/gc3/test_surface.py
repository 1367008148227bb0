"""The interface as published: names, arguments, defaults; what is not provided says so; importing does nothing else."""

from __future__ import annotations

import importlib
import inspect
import io
import subprocess
import sys
import warnings
from typing import Any

import pytest

import gc3libs
from gc3.standin_backend import StandinSystem
from gc3libs import Run
from gc3libs.backends import LRMS
from gc3libs.backends.batch import BatchSystem, generic_filename_mapping
from gc3libs.exceptions import Error, InvalidType, InvalidValue, TransportError
from gc3libs.quantity import GB, hours

ARGUMENTS = {
    "name": inspect.Parameter.empty, "architecture": inspect.Parameter.empty, "max_cores": inspect.Parameter.empty,
    "max_cores_per_job": inspect.Parameter.empty, "max_memory_per_core": inspect.Parameter.empty,
    "max_walltime": inspect.Parameter.empty, "auth": inspect.Parameter.empty, "frontend": inspect.Parameter.empty,
    "transport": inspect.Parameter.empty, "accounting_delay": 15, "ssh_config": None, "keyfile": None,
    "ignore_ssh_host_keys": False, "ssh_timeout": None, "large_file_threshold": None, "large_file_chunk_size": None,
}  # fmt: skip
VALUES = ("n", {"x86_64"}, 4, 2, 1 * GB, 1 * hours, None, "localhost", "local")


def test_the_sixteen_arguments() -> None:
    parameters = dict(inspect.signature(BatchSystem.__init__).parameters)
    del parameters["self"]
    assert parameters.pop("extra_args").kind is inspect.Parameter.VAR_KEYWORD
    assert {name: one.default for name, one in parameters.items()} == ARGUMENTS
    assert all(one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for one in parameters.values())
    made: Any = BatchSystem(*VALUES, 20, "config", "key", "no", 5, 1 * GB, 1024)
    assert (made.name, made.max_cores, made.frontend, made.accounting_delay, made.ssh_timeout) == ("n", 4, "localhost", 20.0, 5.0)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("submit_job", ["app"]), ("update_job_state", ["app"]), ("cancel_job", ["app"]), ("free", ["app", "force"]), ("close", []),
        ("get_results", ["app", "download_dir", "overwrite", "changed_only", "job"]), ("validate_data", ["data_file_list"]),
        ("peek", ["app", "remote_filename", "local_file", "offset", "size"]), ("get_prologue_script", ["app"]),
        ("get_epilogue_script", ["app"]), ("get_jobid_from_submit_output", ["output", "regexp"]), ("get_resource_status", []),
    ],
)  # fmt: skip
def test_methods(method: str, arguments: list[str]) -> None:
    found = getattr(BatchSystem, method)
    assert list(inspect.signature(found).parameters)[1:] == arguments
    assert found.__doc__
    defaults = {name: one.default for name, one in inspect.signature(found).parameters.items()}
    if method == "get_results":
        assert (defaults["overwrite"], defaults["changed_only"]) == (False, True)
    if method == "peek":
        assert (defaults["offset"], defaults["size"]) == (0, None)


def test_bases() -> None:
    assert issubclass(BatchSystem, LRMS)
    assert gc3libs.Error is Error
    with pytest.raises(Error):
        raise TransportError("x")
    with pytest.raises(OSError, match="x"):
        raise TransportError("x", errno=5)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"architecture": set()}, InvalidType),
        ({"architecture": {"vax"}}, InvalidType),
        ({"max_cores": "many"}, InvalidValue),
        ({"max_cores": 0}, InvalidValue),
        ({"max_memory_per_core": 5}, InvalidType),
        ({"max_walltime": "5h"}, InvalidType),
        ({"transport": "rsh"}, TransportError),
        ({"ignore_ssh_host_keys": "nope"}, InvalidValue),
        ({"ssh_timeout": -1}, InvalidValue),
        ({"accounting_delay": "soon"}, InvalidValue),
    ],
)
def test_arguments_that_make_no_sense(changes: dict[str, Any], error: type[Exception]) -> None:
    values = dict(zip(ARGUMENTS, VALUES, strict=False))
    with pytest.raises(error):
        BatchSystem(**{**values, **changes})


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("no", False), ("True", True), ("off", False), (True, True)])
def test_flags_mean_what_they_say(text: Any, value: bool) -> None:
    assert BatchSystem(*VALUES, ignore_ssh_host_keys=text).ignore_ssh_host_keys is value


def test_extra_arguments_become_attributes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = BatchSystem(
            *VALUES, spooldir="/x", prologue="p", my_app_prologue="q", my_app_epilogue_content="r", qsub="/bin/qsub -A x"
        )
        anything = BatchSystem(*VALUES, whatever=5)
    assert (made.spooldir, made.prologue, made.my_app_prologue, made["my_app_epilogue_content"]) == ("/x", "p", "q", "r")
    assert made._get_command_argv("qsub") == ["/bin/qsub", "-A", "x"]
    assert made._get_command("qsub") == "/bin/qsub -A x"
    assert made._get_command_argv("qdel") == ["qdel"]
    assert made._get_command_argv("qdel", "other # comment") == ["other"]
    assert anything.whatever == 5


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("spool_dir", "spooldir"), ("prolog", "prologue"), ("epilogue_contents", "epilogue_content"), ("key_file", "keyfile"),
     ("acounting_delay", "accounting_delay"), ("standin-submitt", "standin-submit")],
)  # fmt: skip
def test_a_near_miss_warns(typo: str, meant: str) -> None:
    with pytest.warns(UserWarning, match=f"no '{typo}'; did you mean '{meant}'"):
        StandinSystem(*VALUES, **{typo: "x"})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, None), ({"requested_cores": 2, "requested_memory": 2 * GB, "requested_walltime": 1 * hours}, None),
        ({"requested_cores": 3}, "at most 2 cores"), ({"requested_memory": 2 * GB}, "1GB for each of 1 cores"),
        ({"requested_walltime": 2 * hours}, "at most 1h"), ({"requested_architecture": "i686"}, "x86_64, not i686"),
    ],
)  # fmt: skip
def test_which_resources_have_what_an_application_asks_for(asked: dict[str, Any], said: str | None) -> None:
    made = BatchSystem(*VALUES)
    app = gc3libs.Application(["x"], [], [], "/o", **asked)
    assert app.compatible_resources([made]) == ([made] if said is None else [])
    assert (made.why_not(app) is None) if said is None else (said in str(made.why_not(app)))


def test_names_of_standard_streams() -> None:
    assert generic_filename_mapping("J", "7", "J.out") == "J.o7"
    assert generic_filename_mapping("J", "7", "J.err") == "J.e7"
    for other in ("J.cosmo", "J.dat", "out", "K.out", "J.out.x"):
        assert generic_filename_mapping("J", "7", other) == other


def test_validate_data(caplog: pytest.LogCaptureFixture) -> None:
    made = BatchSystem(*VALUES)
    assert made.validate_data(["/a", "file:///b", "c#1"])
    assert made.validate_data([])
    assert not made.validate_data(["/a", "http://example.org/x"])
    assert "http://example.org/x" in caplog.text


@pytest.mark.parametrize("name", ["core", "session", "workflow", "cmdline", "persistence"])
def test_what_is_not_provided_says_so(name: str) -> None:
    with pytest.raises(ImportError, match=rf"gc3libs\.{name} is a part of GC3Pie that jobyard does not provide.*Instead: "):
        importlib.import_module(f"gc3libs.{name}")


@pytest.mark.parametrize("name", ["Core", "Engine", "BgEngine", "Session", "create_engine"])
def test_names_that_are_not_provided_say_so(name: str) -> None:
    with pytest.raises(ImportError, match="does not provide"):
        exec(f"from gc3libs import {name}", {})
    with pytest.raises(AttributeError, match="no attribute 'Cor'"):
        gc3libs.Cor  # noqa: B018


def test_names_of_the_package() -> None:
    assert {"Application", "Run", "Task", "ANY_OUTPUT", "Default", "Error", "log", "exceptions"} == set(gc3libs.__all__)
    assert set(Run.State) == {"NEW", "SUBMITTED", "RUNNING", "STOPPED", "TERMINATING", "TERMINATED", "UNKNOWN"}
    assert {one.name: int(one) for one in Run.Signals} == {
        "Lost": 120, "Cancelled": 121, "RemoteKill": 122, "DataStagingFailure": 123, "RemoteError": 124, "SubmissionFailed": 125,
    }  # fmt: skip


def test_importing_the_backends_is_light() -> None:
    """No SQLite, no subprocess, no threads, nothing printed."""
    code = (
        "import sys, threading, gc3libs, gc3libs.backends.batch, gc3libs.backends.slurm, gc3libs.quantity, gc3libs.url\n"
        "assert threading.active_count() == 1\n"
        "print([m for m in ('sqlite3', 'subprocess', 'asyncio', 'jobyard', 'msgspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_resource_is_opened_by_its_first_use_only() -> None:
    made = StandinSystem(*VALUES)
    assert made._link is None
    assert made.transport._inner is None
    made.close()
    assert io.StringIO().getvalue() == ""
