"""The public names, parameters and defaults, against a table written from the interface's own text."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import psij
from psij.job_attributes import JobAttributes
from psij.staging import StageOutFlags, StagingMode

NAMES = {
    "psij": "InvalidJobException Job JobAttributes JobExecutor JobExecutorConfig JobSpec JobState JobStatus JobStatusCallback "
    "Launcher ResourceSpec ResourceSpecV1 SubmitException VERSION __version__",
    "psij.descriptor": "Descriptor",
    "psij.exceptions": "InvalidJobException SubmitException",
    "psij.job": "FunctionJobStatusCallback Job JobStatusCallback LARGE_TIMEOUT",
    "psij.job_attributes": "JobAttributes",
    "psij.job_executor": "JobExecutor",
    "psij.job_executor_config": "JobExecutorConfig",
    "psij.job_launcher": "Launcher",
    "psij.job_spec": "JobSpec",
    "psij.job_state": "JobState JobStateOrder",
    "psij.job_status": "JobStatus",
    "psij.launcher": "Launcher",
    "psij.resource_spec": "ResourceSpec ResourceSpecV1",
    "psij.serialize": "JSONSerializer Serializer",
    "psij.staging": "StageIn StageOut StageOutFlags StagingMode URI",
    "psij.utils": "SingletonThread",
    "psij.version": "VERSION",
    "psij.executors": "CobaltJobExecutor LocalJobExecutor LsfJobExecutor SlurmJobExecutor PBSJobExecutor FluxJobExecutor",
    "psij.executors.batch.batch_scheduler_executor": "BatchSchedulerExecutor BatchSchedulerExecutorConfig InvalidJobStateError "
    "UNKNOWN_ERROR check_status_exit_code",
    "psij.executors.batch.escape_functions": "bash_escape",
    "psij.executors.batch.script_generator": "SubmitScriptGenerator TemplatedScriptGenerator",
    "psij.executors.batch.template_function_library": "ALL walltime_to_minutes",
    "psij.executors.batch.slurm": "SlurmExecutorConfig SlurmJobExecutor",
    "psij.executors.batch.pbs": "PBSExecutorConfig PBSJobExecutor",
    "psij.executors.batch.pbs_base": "GenericPBSJobExecutor PBSExecutorConfig",
    "psij.executors.batch.pbs_classic": "PBSClassicJobExecutor",
    "psij.executors.batch.lsf": "LsfExecutorConfig LsfJobExecutor",
    "psij.executors.batch.cobalt": "CobaltExecutorConfig CobaltJobExecutor",
    "psij.executors.batch.nqsv": "NQSVExecutorConfig NQSVJobExecutor",
    "psij.executors.flux": "FluxJobExecutor",
    "psij.executors.local": "LocalJobExecutor",
    "psij.launchers": "AprunLauncher JsrunLauncher MPILauncher MultipleLauncher SingleLauncher SrunLauncher",
    "psij.launchers.script_based_launcher": "ScriptBasedLauncher",
    "psij.launchers.multiple": "MultipleLauncher",
}

REQUIRED = inspect.Parameter.empty
TEN_MINUTES = timedelta(minutes=10)
SIGNATURES: dict[str, dict[str, Any]] = {
    "psij:InvalidJobException": {"message": REQUIRED, "exception": None},
    "psij:SubmitException": {"message": REQUIRED, "exception": None, "transient": False},
    "psij:Job": {"spec": None},
    "psij:Job.wait": {"timeout": None, "target_states": None},
    "psij:Job.set_job_status_callback": {"cb": REQUIRED},
    "psij:Job.cancel": {},
    "psij:JobStatusCallback.job_status_changed": {"job": REQUIRED, "job_status": REQUIRED},
    "psij.job:FunctionJobStatusCallback": {"fn": REQUIRED},
    "psij:JobAttributes": {
        "duration": TEN_MINUTES,
        "queue_name": None,
        "account": None,
        "reservation_id": None,
        "custom_attributes": None,
        "project_name": None,
    },
    "psij:JobAttributes.set_custom_attribute": {"name": REQUIRED, "value": REQUIRED},
    "psij:JobAttributes.get_custom_attribute": {"name": REQUIRED},
    "psij:JobAttributes.parse_walltime": {"walltime": REQUIRED},
    "psij:JobSpec": {
        "executable": None,
        "arguments": None,
        "directory": None,
        "name": None,
        "inherit_environment": True,
        "environment": None,
        "stdin_path": None,
        "stdout_path": None,
        "stderr_path": None,
        "resources": None,
        "attributes": None,
        "pre_launch": None,
        "post_launch": None,
        "launcher": None,
        "stage_in": None,
        "stage_out": None,
        "cleanup": None,
        "cleanup_flags": StageOutFlags.ALWAYS,
    },
    "psij:ResourceSpec.get_instance": {"version": REQUIRED},
    "psij:ResourceSpecV1": {
        "node_count": None,
        "process_count": None,
        "processes_per_node": None,
        "cpu_cores_per_process": None,
        "gpu_cores_per_process": None,
        "exclusive_node_use": False,
        "memory": None,
    },
    "psij:JobStatus": {"state": REQUIRED, "time": None, "message": None, "exit_code": None, "metadata": None},
    "psij:JobState.is_greater_than": {"other": REQUIRED},
    "psij:JobState.from_name": {"name": REQUIRED},
    "psij.job_state:JobStateOrder.prev": {"state": REQUIRED},
    "psij:JobExecutorConfig": {"launcher_log_file": None, "work_directory": None},
    "psij:JobExecutor": {"url": None, "config": None},
    "psij:JobExecutor.submit": {"job": REQUIRED},
    "psij:JobExecutor.cancel": {"job": REQUIRED},
    "psij:JobExecutor.list": {},
    "psij:JobExecutor.attach": {"job": REQUIRED, "native_id": REQUIRED},
    "psij:JobExecutor.set_job_status_callback": {"cb": REQUIRED},
    "psij:JobExecutor.get_instance": {"name": REQUIRED, "version_constraint": None, "url": None, "config": None},
    "psij:JobExecutor.register_executor": {"desc": REQUIRED, "root": REQUIRED},
    "psij:JobExecutor.get_executor_names": {},
    "psij:Launcher": {"config": None},
    "psij:Launcher.get_launch_command": {"job": REQUIRED},
    "psij:Launcher.get_instance": {"name": REQUIRED, "version_constraint": None, "config": None},
    "psij:Launcher.register_launcher": {"desc": REQUIRED, "root": REQUIRED},
    "psij:Launcher.get_launcher_names": {},
    "psij.descriptor:Descriptor": {"name": REQUIRED, "version": REQUIRED, "cls": REQUIRED, "aliases": None, "nice_name": None},
    "psij.staging:URI": {"urlstring": REQUIRED},
    "psij.staging:StageIn": {"source": REQUIRED, "target": REQUIRED, "mode": StagingMode.COPY},
    "psij.staging:StageOut": {
        "source": REQUIRED,
        "target": REQUIRED,
        "flags": StageOutFlags.ALWAYS,
        "mode": StagingMode.COPY,
    },
    "psij.serialize:JSONSerializer.dump": {"spec": REQUIRED, "stream": REQUIRED},
    "psij.serialize:JSONSerializer.dumps": {"spec": REQUIRED},
    "psij.serialize:JSONSerializer.load": {"stream": REQUIRED},
    "psij.serialize:JSONSerializer.loads": {"s": REQUIRED},
    "psij.utils:SingletonThread": {"name": None, "daemon": False},
    "psij.utils:SingletonThread.get_instance": {},
    "psij.executors.batch.batch_scheduler_executor:BatchSchedulerExecutor": {"url": None, "config": None},
    "psij.executors.batch.batch_scheduler_executor:BatchSchedulerExecutorConfig": {
        "launcher_log_file": None,
        "work_directory": None,
        "queue_polling_interval": 30,
        "initial_queue_polling_delay": 2,
        "queue_polling_error_threshold": 2,
        "keep_files": False,
    },
    "psij.executors.batch.script_generator:TemplatedScriptGenerator": {
        "config": REQUIRED,
        "template_path": REQUIRED,
        "escape": importlib.import_module("psij.executors.batch.escape_functions").bash_escape,
    },
    "psij.launchers.script_based_launcher:ScriptBasedLauncher": {"script_path": REQUIRED, "config": None},
}
HOOKS = {
    "generate_submit_script": ["job", "context", "submit_file"],
    "get_submit_command": ["job", "submit_file_path"],
    "job_id_from_submit_output": ["out"],
    "get_cancel_command": ["native_id"],
    "process_cancel_command_output": ["exit_code", "out"],
    "get_status_command": ["native_ids"],
    "parse_status_output": ["exit_code", "out"],
    "get_list_command": [],
    "parse_list_output": ["out"],
    "_format_duration": ["d"],
    "_create_script_context": ["job"],
    "_run_command": ["cmd"],
    "_current_user": [],
    "_clean_submit_script": ["job"],
    "_delete_aux_file": ["job", "suffix", "path", "force"],
}
PROPERTIES = {
    "psij:Job": "id native_id status",
    "psij:JobAttributes": "custom_attributes project_name",
    "psij:JobSpec": "cleanup directory environment name post_launch pre_launch stderr_path stdin_path stdout_path",
    "psij:JobState": "final",
    "psij:JobStatus": "final",
    "psij:ResourceSpecV1": "computed_node_count computed_process_count computed_processes_per_node memory_kb version",
    "psij:JobExecutor": "name version",
    "psij:JobExecutorConfig": "launcher_log_file work_directory DEFAULT DEFAULT_WORK_DIRECTORY",
    "psij.staging:URI": "hostname port scheme netloc path params query fragment username password",
}


def resolve(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("module", NAMES)
def test_modules_have_their_names(module: str) -> None:
    found = importlib.import_module(module)
    missing = [name for name in NAMES[module].split() if not hasattr(found, name)]
    assert not missing


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_are_in_order_with_their_defaults(name: str) -> None:
    parameters = [p for p in inspect.signature(resolve(name)).parameters.values() if p.name != "self"]
    if name.endswith("get_instance") and "SingletonThread" not in name:
        assert isinstance(inspect.getattr_static(resolve(name.rpartition(".")[0]), "get_instance"), staticmethod)
    expected = SIGNATURES[name]
    given = {p.name: p.default for p in parameters}
    extra = list(given)[len(expected) :]
    assert list(given)[: len(expected)] == list(expected)
    assert {key: given[key] for key in expected} == expected
    assert all(given[key] is not REQUIRED for key in extra)
    assert all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters[: len(expected)])


@pytest.mark.parametrize("name", PROPERTIES)
def test_classes_have_their_properties(name: str) -> None:
    cls = resolve(name)
    assert [one for one in PROPERTIES[name].split() if not hasattr(cls, one)] == []


def test_the_hooks_of_batch_executors() -> None:
    cls = resolve("psij.executors.batch.batch_scheduler_executor:BatchSchedulerExecutor")
    found = {name: list(inspect.signature(getattr(cls, name)).parameters)[1:] for name in HOOKS}
    assert found == HOOKS
    assert cls.__abstractmethods__ == set(list(HOOKS)[:7])


def test_star_import_gives_every_public_name() -> None:
    names: dict[str, object] = {}
    exec("from psij import *", names)  # what a program does; it must not fail
    assert set(psij.__all__) <= set(names)
    assert set(NAMES["psij"].split()) - {"__version__"} <= set(psij.__all__)


def test_every_constructor_parameter_is_a_property() -> None:
    for cls in (psij.JobSpec, JobAttributes, psij.ResourceSpecV1):
        made = cls()
        for name in list(inspect.signature(cls).parameters):
            assert hasattr(made, name), f"{cls.__name__}.{name}"


def test_the_command_lists_plugins() -> None:
    done = subprocess.run([sys.executable, "-m", "psij", "plugins"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    words = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("  ")}
    assert {"local", "slurm", "torque", "jsrun"} <= set(words)
    assert " ok " in words["local"]


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["flurb"], 2)])
def test_the_command_says_how_it_is_used(arguments: list[str], code: int) -> None:
    done = subprocess.run([sys.executable, "-m", "psij", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "usage: python -m psij plugins" in done.stdout + done.stderr


def test_the_package_lies_in_one_place() -> None:
    assert Path(psij.__file__).parent.name == "psij"
    assert psij.__version__ == psij.VERSION
