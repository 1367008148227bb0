"""Executors and launchers by name: descriptors, versions, aliases, roots; and threads of which there is one."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

import psij
from psij import JobExecutor, JobExecutorConfig, Launcher, _plugins
from psij.descriptor import Descriptor
from psij.utils import SingletonThread

BUILT_IN = {
    "local": (),
    "slurm": (),
    "pbs": ("pbspro", "pbs_pro"),
    "pbs_classic": ("torque",),
    "lsf": (),
    "cobalt": (),
    "flux": (),
    "hyperqueue": (),
    "nqsv": (),
    "gridengine": ("sge",),
    "htcondor": (),
    "oar": (),
}
_numbers = itertools.count()
EXECUTOR = """
from psij import JobExecutor
class {name}(JobExecutor):
    def submit(self, job): self._check_job(job)
    def cancel(self, job): pass
    def list(self): return ['1']
    def attach(self, job, native_id): pass
"""

Project = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Makes projects with modules and descriptors, each on sys.path; the registries are fresh ones."""
    monkeypatch.setattr(_plugins, "_registries", {})
    monkeypatch.setattr(_plugins, "_scanned", set())
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not (Path(entry) / "psij-descriptors").exists()])
    made: list[str] = []

    def make(descriptors: str, **modules: str) -> Path:
        root = tmp_path / f"project{next(_numbers)}"
        (root / "psij-descriptors").mkdir(parents=True)
        head = "from packaging.version import Version\nfrom psij.descriptor import Descriptor\n"
        (root / "psij-descriptors" / "these.py").write_text(head + descriptors)
        for name, text in modules.items():
            path = root / (name.replace("__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            made.append(name.replace("__", "."))
        monkeypatch.setattr(sys, "path", [*sys.path, str(root)])
        return root

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] in {one.split(".")[0] for one in made}]:
        del sys.modules[name]


def descriptor(name: str, cls: str, version: str = "1.0", more: str = "") -> str:
    return f"__PSI_J_EXECUTORS__ = [Descriptor({name!r}, Version({version!r}), {cls!r}{more})]\n"


def test_the_built_in_names() -> None:
    names = JobExecutor.get_executor_names()
    assert {one for name, aliases in BUILT_IN.items() for one in (name, *aliases)} <= names
    assert {"single", "multiple", "mpirun", "srun", "jsrun", "jrun", "aprun"} <= Launcher.get_launcher_names()


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_class_can_be_imported(name: str) -> None:
    module, _, cls = _plugins.EXECUTORS[name][0].rpartition(".")
    assert issubclass(getattr(__import__(module, fromlist=["x"]), cls), JobExecutor)


def test_classes_are_themselves(yard: Path) -> None:
    from psij.executors import LocalJobExecutor as FromPackage
    from psij.executors.local import LocalJobExecutor
    from psij.launchers import SingleLauncher

    executor = JobExecutor.get_instance("local")
    assert isinstance(executor, LocalJobExecutor)
    assert FromPackage is LocalJobExecutor
    assert isinstance(Launcher.get_instance("single"), SingleLauncher)
    assert JobExecutor.get_instance("LOCAL") is not executor
    assert executor.name == "local"
    assert isinstance(executor.version, Version)
    assert str(executor) == f"JobExecutor[local, {executor.version}]"


def test_an_executor_whose_adapter_is_not_in_says_so(yard: Path) -> None:
    from jobyard import fronts

    missing = [
        name
        for name in BUILT_IN
        if {"pbs_classic": "torque"}.get(name, name) not in fronts.scheduler_names()
        or not fronts.find_known({"pbs_classic": "torque"}.get(name, name)).target
    ]
    for name in missing:
        with pytest.raises(ValueError, match=f'Unable to load executor "{name}"') as caught:
            JobExecutor.get_instance(name)
        assert isinstance(caught.value.__cause__, ValueError)
        assert "this release of jobyard cannot submit to" in str(caught.value)
        module, _, cls = _plugins.EXECUTORS[name][0].rpartition(".")
        made = getattr(__import__(module, fromlist=["x"]), cls)()
        job = psij.Job(psij.JobSpec("/bin/true"))
        with pytest.raises(ValueError, match="cannot submit to"):
            made.submit(job)
        assert (job.executor, job.status.state) == (None, psij.JobState.NEW)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ValueError, match=r"Known executors: .*local"):
        JobExecutor.get_instance("nobody")
    with pytest.raises(ValueError, match=r"Known launchers: .*single"):
        Launcher.get_instance("nobody")


def test_a_project_of_others(project: Project) -> None:
    project(descriptor("mine", "my_pkg.ex.Mine", more=", ['Yours'], 'My Own'"), my_pkg__ex=EXECUTOR.format(name="Mine"))
    assert {"mine", "yours"} <= JobExecutor.get_executor_names()
    executor = JobExecutor.get_instance("YOURS", url="somewhere", config=JobExecutorConfig(work_directory="/x"))  # type: ignore[arg-type]  # text is taken for a path
    import my_pkg.ex  # type: ignore[import-not-found]  # the fixture made it

    assert isinstance(executor, my_pkg.ex.Mine)
    assert (executor.name, str(executor.version), executor.url) == ("mine", "1.0", "somewhere")
    assert executor.config.work_directory == Path("/x")
    assert executor.list() == ["1"]


def test_versions_and_constraints(project: Project) -> None:
    lines = ", ".join(f"Descriptor('v', Version('{v}'), 'vs.V{i}')" for i, v in enumerate(("1.0", "2.0", "1.5", "3.0rc1")))
    text = "".join(EXECUTOR.format(name=f"V{i}") for i in range(4))
    project(f"__PSI_J_EXECUTORS__ = [{lines}]\n", vs=text)
    for constraint, expected in {
        None: "3.0rc1",
        "< 3": "2.0",
        "<= 2.0": "2.0",
        "( > 1.0, != 2.0, < 2.5)": "1.5",
        "== 1.0": "1.0",
        "~= 1.0": "1.5",
    }.items():
        assert str(JobExecutor.get_instance("v", constraint).version) == str(Version(expected)), constraint
    with pytest.raises(ValueError, match=r"satisfies '> 9'; there is 3.0rc1, 2.0, 1.5, 1.0"):
        JobExecutor.get_instance("v", "> 9")
    with pytest.raises(ValueError, match="not a version constraint"):
        JobExecutor.get_instance("v", "newest")
    # Two versions of one class, and each instance keeps its own.
    one, other = JobExecutor.get_instance("v", "== 1.0"), JobExecutor.get_instance("v", "== 2.0")
    assert [str(one.version), str(other.version)] == ["1.0", "2.0"]


def test_a_class_comes_from_the_root_of_its_descriptor(project: Project) -> None:
    project("", shared__one=EXECUTOR.format(name="One"))
    project(descriptor("stolen", "shared.one.One"))
    with pytest.raises(ValueError, match='Unable to load executor "stolen"') as caught:
        JobExecutor.get_instance("stolen")
    assert isinstance(caught.value.__cause__, ImportError)


def test_two_projects_with_modules_of_one_name(project: Project) -> None:
    project(descriptor("first", "same_name.First"), same_name=EXECUTOR.format(name="First"))
    project(descriptor("second", "same_name.Second"), same_name=EXECUTOR.format(name="Second"))
    assert type(JobExecutor.get_instance("first")).__name__ == "First"
    second = type(JobExecutor.get_instance("second"))
    assert second.__name__ == "Second"
    assert type(JobExecutor.get_instance("second")) is second


def test_a_package_whose_name_is_taken(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    # A program, or a test runner, has a module of the package's name loaded that is no package.
    project(descriptor("inner", "taken_name.taken_name.Inner"), taken_name__taken_name=EXECUTOR.format(name="Inner"))
    monkeypatch.setitem(sys.modules, "taken_name", ModuleType("taken_name"))
    inner = type(JobExecutor.get_instance("inner"))
    assert inner.__name__ == "Inner"
    assert type(JobExecutor.get_instance("inner")) is inner
    assert sys.modules["taken_name"].__spec__ is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import flurb_is_missing\n", "flurb_is_missing"),
        ("raise SystemError('odd')\n", "odd"),
        ("\n", "Broken"),
        ("Broken = 3\n", ""),
    ],
)
def test_what_cannot_be_loaded_fails_when_it_is_wanted(project: Project, text: str, what: str) -> None:
    project(descriptor("broken", "broken_mod.Broken"), broken_mod=text)
    assert "broken" in JobExecutor.get_executor_names()
    with pytest.raises(ValueError, match=f'Unable to load executor "broken".*{what}'):
        JobExecutor.get_instance("broken")


def test_broken_descriptors_take_nothing_along(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    project("raise RuntimeError('odd')\n")
    project("__PSI_J_EXECUTORS__ = [3]\n")
    project(descriptor("fine", "fine_mod.Fine"), fine_mod=EXECUTOR.format(name="Fine"))
    project(descriptor("fine", "fine_two.Fine"), fine_two=EXECUTOR.format(name="Fine"))
    assert type(JobExecutor.get_instance("fine")).__module__ == "fine_mod"
    assert "RuntimeError: odd" in caplog.text
    assert "already registered" in caplog.text
    assert "is left out" in caplog.text


def test_registration_by_hand(project: Project) -> None:
    root = project("", hand=EXECUTOR.format(name="Hand") + "\nclass Other(Hand): pass\n")
    JobExecutor.register_executor(Descriptor("hand", Version("1"), "hand.Hand"), str(root))
    JobExecutor.register_executor(Descriptor("hand", Version("1"), "hand.Hand"), str(root))
    with pytest.raises(ValueError, match="already registered"):
        JobExecutor.register_executor(Descriptor("hand", Version("1"), "hand.Other"), str(root))
    assert type(JobExecutor.get_instance("hand")).__name__ == "Hand"
    with pytest.raises(ValueError, match="already registered"):
        JobExecutor.register_executor(Descriptor("local", Version(_plugins.VERSION), "hand.Hand"), str(root))


def test_a_launcher_of_others(project: Project) -> None:
    text = "from psij import Launcher\nclass Mine(Launcher):\n    def get_launch_command(self, job): return ['run', job.id]\n"
    root = project("__PSI_J_LAUNCHERS__ = [Descriptor('mine', Version('1'), 'launch_mod.Mine')]\n", launch_mod=text)
    launcher = Launcher.get_instance("mine")
    job = psij.Job()
    assert launcher.get_launch_command(job) == ["run", job.id]
    assert launcher.config is JobExecutorConfig.DEFAULT
    Launcher.register_launcher(Descriptor("again", Version("1"), "launch_mod.Mine"), str(root))
    assert "again" in Launcher.get_launcher_names()


def test_a_descriptor() -> None:
    made = Descriptor("n", Version("1"), "a.B")
    assert (made.name, made.version, made.cls, made.aliases, made.nice_name) == ("n", Version("1"), "a.B", [], "n")
    assert Descriptor("n", Version("1"), "a.B", ["x"], "Nice").nice_name == "Nice"


def test_configurations() -> None:
    config = JobExecutorConfig("a.log", "/w")  # type: ignore[arg-type]  # text is taken for a path
    assert (config.launcher_log_file, config.work_directory) == (Path("a.log"), Path("/w"))
    config.launcher_log_file = None
    assert config.launcher_log_file is None
    assert JobExecutorConfig().work_directory == JobExecutorConfig.DEFAULT_WORK_DIRECTORY
    assert JobExecutorConfig.DEFAULT.launcher_log_file is None
    with pytest.raises(TypeError, match="work_directory"):
        JobExecutorConfig(work_directory=3)  # type: ignore[arg-type]  # what is tested


class Ticker(SingletonThread):
    """A thread that ends when it is told."""

    def __init__(self) -> None:
        super().__init__(name="ticker", daemon=True)
        self.stop = threading.Event()

    def run(self) -> None:
        self.stop.wait(60)


class OtherTicker(Ticker):
    pass


def test_a_process_has_one_of_each() -> None:
    one = Ticker.get_instance()
    other = OtherTicker.get_instance()
    try:
        assert one.is_alive()
        assert Ticker.get_instance() is one
        assert type(other) is OtherTicker
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            mine = Ticker.get_instance()
            os.write(write, b"1" if mine is not one and mine.is_alive() and Ticker.get_instance() is mine else b"0")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.read(read, 1) == b"1"
        os.close(read)
        os.close(write)
    finally:
        for thread in (one, other):
            thread.stop.set()
            thread.join()
