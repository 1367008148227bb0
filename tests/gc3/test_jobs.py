"""The life of tasks, from submit_job to free, over a subclass's hooks."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gc3.awaiting import ended, gated, reached, run
from gc3.standin_backend import BulkSystem, StandinSystem, application
from gc3libs import Application, Run
from gc3libs.exceptions import (
    InvalidArgument,
    InvalidValue,
    LRMSSubmitError,
    UnknownJob,
    UnrecoverableDataStagingError,
)
from gc3libs.quantity import Duration, Memory
from jobyard import JobState
from jobyard.testing.polling import eventually
from jobyard.testing.standin import Cell

Make = Callable[..., Any]


def test_a_whole_life(either: Any, tmp_path: Path) -> None:
    told: list[str] = []

    class Noted(Application):
        def submitted(self) -> None:
            told.append("submitted")

        def running(self) -> None:
            told.append("running")

        def terminating(self) -> None:
            told.append("terminating")

    (tmp_path / "in.txt").write_text("one\n")
    app = Noted(
        gated(tmp_path), {tmp_path / "in.txt": "data/in.txt"}, ["data", "log/out"], tmp_path / "o", stdout="log/out", jobname="x1"
    )
    assert either.submit_job(app) is app.execution
    record = app.execution
    assert record.state == Run.State.NEW  # the backend leaves it to update_job_state
    assert record.lrms_jobid.isdigit()
    assert (record.lrms_jobname, record.resource_name, record.execution_target) == ("x1", "test cluster", either.frontend)
    assert (record.stdout_filename, record.stderr_filename) == ("log/out", f"x1.e{record.lrms_jobid}")
    assert stat.S_IMODE(os.stat(record.ssh_remote_folder).st_mode) == 0o700
    assert reached(either, app, Run.State.RUNNING) == record.state
    either.get_resource_status()
    assert (either.user_run, either.user_queued, either.free_slots) == (1, 0, -1)
    (tmp_path / "gate").touch()
    assert ended(either, app).returncode == 0
    assert either.get_results(app, tmp_path / "o").copied == ["data/in.txt", "log/out"]
    assert (tmp_path / "o" / "data" / "in.txt").read_text() == "one\n"
    assert told[-2:] == ["running", "terminating"]
    assert told[:-2] in ([], ["submitted"])  # a look may come after it began
    assert list(record.timestamp) == ["NEW", "SUBMITTED", "RUNNING", "TERMINATING"]
    either.free(app)
    assert not os.path.exists(os.path.dirname(record.ssh_remote_folder))


@pytest.mark.parametrize("code", [0, 1, 7, 128, 137, 255])
def test_exit_codes(system: Any, tmp_path: Path, code: int) -> None:
    """A program that the shell becomes has exactly its own: 137 is no signal."""
    record = run(system, application(["/bin/sh", "-c", f"exit {code}"], tmp_path))
    assert (record.returncode, record.exitcode, record.signal) == (code << 8, code, 0)


@pytest.mark.parametrize("number", [9, 11, 10])
def test_signals(system: Any, tmp_path: Path, number: int) -> None:
    record = run(system, application(["/bin/sh", "-c", f"kill -{number} \\$\\$"], tmp_path))
    assert (record.signal, record.exitcode) == (number, 255)


def test_a_script_of_several_commands_is_a_shells(make: Make, tmp_path: Path) -> None:
    class Compound(StandinSystem):
        def _submit_command(self, app: Any) -> tuple[str, str]:
            return super()._submit_command(app)[0], "cd /\nsh -c 'kill -9 $$'\n"

    record = run(make(Compound), application(["x"], tmp_path))
    assert (record.signal, record.exitcode) == (9, 255)


def test_a_job_that_is_shot_has_its_signal_without_accounting(
    system: Any, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own record in the sandbox says so."""
    monkeypatch.setattr("jobyard.verdict.SHORT_GRACE_S", 1.0)
    cell.configure(accounting=False)
    for script, expected in (("exit 0", (0, 0)), ("exit 3", (0, 3)), ("kill -KILL \\$\\$", (9, 255))):
        record = run(system, application(["/bin/sh", "-c", script], tmp_path))
        assert (record.signal, record.exitcode) == expected


def test_usage_arrives_in_its_units(system: Any, tmp_path: Path) -> None:
    record = run(system, application(["/bin/sh", "-c", "sleep 0.3"], tmp_path))
    assert isinstance(record.duration, Duration)
    assert 0.3 <= record.duration.amount("s") < 30
    assert isinstance(record.used_cpu_time, Duration)
    assert isinstance(record.max_used_memory, Memory)
    assert record.max_used_memory.amount("KiB") > 500
    assert record.core_dumped is False


def test_cancelled(either: Any, tmp_path: Path) -> None:
    app = application(gated(tmp_path), tmp_path / "o")
    either.submit_job(app)
    reached(either, app, Run.State.RUNNING)
    assert either.cancel_job(app) == "cancelled"
    record = ended(either, app)
    assert record.signal == Run.Signals.Cancelled
    assert either.cancel_job(app) == "already_finished"
    assert either.update_job_state(app) == Run.State.TERMINATING
    assert record.signal == Run.Signals.Cancelled


def test_cancelling_a_finished_job_leaves_its_ending(system: Any, tmp_path: Path) -> None:
    app = application(["/bin/true"], tmp_path / "o")
    run(system, app)
    assert system.cancel_job(app) == "already_finished"
    assert app.execution.returncode == 0


def test_many_are_cancelled_in_one_command(system: Any, cell: Cell, tmp_path: Path) -> None:
    apps = [application(gated(tmp_path), tmp_path / "o") for _ in range(5)]
    for app in apps:
        system.submit_job(app)
    scheduler = system._linked().session.scheduler
    before = scheduler.commands_run["control"]
    assert system.cancel_jobs(apps) == ["cancelled"] * 5
    assert scheduler.commands_run["control"] == before + 1
    for app in apps:
        assert ended(system, app).signal == Run.Signals.Cancelled


@pytest.mark.parametrize(
    ("said", "code", "word"),
    [
        ("error: operation not permitted: Permission denied", 1, "denied"),
        ("scancel: error: Invalid job id specified", 1, "not_found"),
        ("qdel: Job has already finished", 1, "already_finished"),
    ],
)
def test_what_a_cancel_command_says(make: Make, tmp_path: Path, said: str, code: int, word: str) -> None:
    class Stubborn(StandinSystem):
        def _cancel_command(self, jobid: str) -> str:
            return f"echo '{said}' >&2; exit {code}"

    system = make(Stubborn)
    app = application(gated(tmp_path), tmp_path / "o")
    system.submit_job(app)
    assert system.cancel_job(app) == word
    (tmp_path / "gate").touch()
    assert ended(system, app).returncode == 0


def test_walltime(system: Any, tmp_path: Path) -> None:
    record = run(system, application(["/bin/sleep", "60"], tmp_path, requested_walltime=Duration("1s")))
    assert (record.signal, record.exitcode) == (Run.Signals.RemoteKill, 75)


def test_a_node_that_fails(system: Any, cell: Cell, tmp_path: Path) -> None:
    app = application(gated(tmp_path), tmp_path / "o")
    system.submit_job(app)
    reached(system, app, Run.State.RUNNING)
    cell.operate("fail-node", app.execution.lrms_jobid)
    assert ended(system, app).signal == Run.Signals.RemoteError


@pytest.mark.parametrize("kind", [StandinSystem, BulkSystem])
def test_held_and_suspended_are_stopped(make: Make, cell: Cell, tmp_path: Path, kind: type[StandinSystem]) -> None:
    system = make(kind, **{"standin-submit": f"'{cell.bin}/standin-submit' --hold=user  # by a command override"})
    app = application(gated(tmp_path), tmp_path / "o")
    system.submit_job(app)
    reached(system, app, Run.State.STOPPED)
    assert system._linked().job(app.execution).state is JobState.HELD
    control(cell, "release", app)
    reached(system, app, Run.State.RUNNING)
    eventually((tmp_path / "begun").exists, "it runs")
    control(cell, "suspend", app)
    reached(system, app, Run.State.STOPPED)
    assert system._linked().job(app.execution).state is JobState.SUSPENDED
    control(cell, "resume", app)
    (tmp_path / "gate").touch()
    assert ended(system, app).returncode == 0


def control(cell: Cell, action: str, app: Any) -> None:
    """What its user does by the scheduler's own command."""
    subprocess.run([cell.bin / "standin-control", action, "-"], input=app.execution.lrms_jobid.encode(), check=True)


def test_a_program_that_is_not_there(system: Any, tmp_path: Path) -> None:
    assert run(system, application(["/no/such/program"], tmp_path)).exitcode == 127


def test_a_program_among_the_inputs_is_made_executable(system: Any, tmp_path: Path) -> None:
    (tmp_path / "prog").write_text("#!/bin/sh\nexit 5\n")
    app = application(["./bin/my prog"], tmp_path / "o", inputs=[(tmp_path / "prog", "bin/my prog")])
    assert run(system, app).exitcode == 5


def test_permission_bits_and_folders_of_inputs(system: Any, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "run me").write_text("#!/bin/sh\necho it ran\n")
    (tree / "deep" / "run me").chmod(0o755)
    (tree / "empty").mkdir()
    app = application(["/bin/sh", "-c", "'t/deep/run me' && test -d t/empty && echo good"], tmp_path, inputs=[(tree, "t")])
    run(system, app)
    system.get_results(app, tmp_path / "o")
    assert (tmp_path / "o" / "out.txt").read_text() == "it ran\ngood\n"


def test_standard_input(system: Any, tmp_path: Path, make: Make) -> None:
    class WithInput(StandinSystem):
        def _submit_command(self, app: Any) -> tuple[str, str]:
            return super()._submit_command(app)[0], f"cat < '{app.stdin}'"

    (tmp_path / "words").write_text("from here\n")
    app = application(["cat"], tmp_path, stdin=tmp_path / "words")
    other = make(WithInput)
    run(other, app)
    other.get_results(app, tmp_path / "o")
    assert (tmp_path / "o" / "out.txt").read_text() == "from here\n"


def test_joined_streams(system: Any, tmp_path: Path) -> None:
    app = application(["/bin/sh", "-c", "echo one; echo two >&2; echo three"], tmp_path, stdout="all", stderr="all")
    assert app.join
    run(system, app)
    system.get_results(app, tmp_path / "o")
    assert (tmp_path / "o" / "all").read_text() == "one\ntwo\nthree\n"


# Prologue and epilogue --------------------------------------------------------------------------------------------------


def output(system: Any, app: Any, folder: Path) -> str:
    system.get_results(app, folder)
    return (folder / "out.txt").read_text()


def test_order_of_scripts(make: Make, tmp_path: Path) -> None:
    (tmp_path / "site.sh").write_text("echo site\nFROM_SITE=yes")
    system = make(
        prologue=str(tmp_path / "site.sh"),
        my_prologue="echo mine",
        prologue_content="echo content; cd /",
        my_prologue_content='echo "my content $FROM_SITE"',
        epilogue="echo epilogue",
        my_epilogue="echo my epilogue",
        epilogue_content="echo epilogue content",
        my_epilogue_content="echo my epilogue content",
        other_prologue="echo never",
    )
    app = application(["/bin/sh", "-c", "echo program in $PWD"], tmp_path / "o")
    app.application_name = "my"
    assert run(system, app).returncode == 0
    assert output(system, app, tmp_path / "o").splitlines() == [
        "site", "mine", "content", "my content yes", "program in /",
        "epilogue", "my epilogue", "epilogue content", "my epilogue content",
    ]  # fmt: skip
    text = system.get_prologue_script(app)
    assert text.index("echo site") < text.index("echo mine") < text.index("echo content") < text.index('echo "my content')
    assert system.get_prologue_script(application(["x"], tmp_path)).count("echo") == 2


def test_an_epilogue_cannot_change_the_programs_status(make: Make, tmp_path: Path) -> None:
    system = make(epilogue_content="true")
    assert run(system, application(["/bin/false"], tmp_path)).returncode == 1 << 8
    system = make(epilogue_content="exit 9")
    record = run(system, application(["/bin/true"], tmp_path))
    assert record.returncode == 0
    assert "exited with 9" in str(record.history)


def test_a_prologue_that_fails_is_its_own_outcome(make: Make, tmp_path: Path) -> None:
    system = make(prologue_content="exit 7")
    app = application(["/bin/touch", str(tmp_path / "ran")], tmp_path)
    record = run(system, app)
    assert (record.signal, record.exitcode) == (Run.Signals.RemoteError, 7)
    assert not (tmp_path / "ran").exists()
    assert "pre-launch" in str(record.history)


def test_a_prologues_last_command_alone_fails_nothing(make: Make, tmp_path: Path) -> None:
    """Prologues end with tests such as this one; GC3Pie ran the program all the same."""
    system = make(prologue_content="[ -f /no/such/file ] && . /no/such/file")
    assert run(system, application(["/bin/true"], tmp_path)).returncode == 0


def test_a_mistyped_file_is_no_shell_text(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"no file '/etc/site/prologue\.sh'"):
        make(prologue="/etc/site/prologue.sh").submit_job(application(["/bin/true"], tmp_path))


# Quoting ----------------------------------------------------------------------------------------------------------------

NAMES = [
    "with space",
    "quote'd",
    'double"d',
    "$HOME",
    "`id`",
    "-leading",
    "#hash",
    "new\nline",
    "back\\slash",
    "b\udcffyte",
    "é",
    "~",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_arrive_unchanged(system: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / name).write_text(f"content of {name!r}")
    app = application(
        ["/bin/sh", "-c", "cp in/* made; cat in/*"],
        tmp_path / "o",
        inputs=[(str(tmp_path / "h" / name), f"in/{name}")],
        outputs=[f"in/{name}", ("made", f"out/{name}")],
        jobname="x y'z$",
    )
    assert run(system, app).returncode == 0
    system.get_results(app, tmp_path / "o")
    for path in (f"in/{name}", f"out/{name}", "out.txt"):
        assert (tmp_path / "o" / path).read_text() == f"content of {name!r}"


def test_expansion_is_the_subclasss_choice(make: Make, tmp_path: Path) -> None:
    class Exact(StandinSystem):
        def _submit_command(self, app: Any) -> Any:
            import shlex

            return super()._submit_command(app)[0], shlex.join(app.arguments)

    words = ["$HOME", "`id`", "$(id)", "a  b", "", "'\"\\"]
    exact = make(Exact)
    app = application(["/usr/bin/printf", "%s|", *words], tmp_path)
    run(exact, app)
    assert output(exact, app, tmp_path / "o") == "".join(f"{word}|" for word in words)
    expanding = make()
    app = application(["/usr/bin/printf", "%s|", "$JOBYARD_NATIVE_ID", "a  b"], tmp_path)
    record = run(expanding, app)
    assert output(expanding, app, tmp_path / "o2") == f"{record.lrms_jobid}|a  b|"


def test_environment(system: Any, tmp_path: Path) -> None:
    values = {"PLAIN": "x", "ODD": "a b\n'\"$HOME`id`", "EMPTY": ""}
    app = application(["/usr/bin/env", "-0"], tmp_path, environment=values)
    run(system, app)
    found = dict(item.split("=", 1) for item in output(system, app, tmp_path / "o").split("\0") if item)
    assert {name: found[name] for name in values} == values


# Submission ---------------------------------------------------------------------------------------------------------------


def folders(work: Path) -> list[Path]:
    """Folders of jobs that lie there."""
    return list(work.glob("jobyard-*/??/*"))


def test_a_refused_submission_leaves_nothing_and_can_be_repeated(system: Any, cell: Cell, yard: Path, tmp_path: Path) -> None:
    cell.fault("submit", "refuse", times=1, text="invalid account")
    (tmp_path / "big").write_bytes(b"x" * 100000)
    app = application(["/bin/true"], tmp_path, inputs=[tmp_path / "big"])
    with pytest.raises(LRMSSubmitError, match="invalid account"):
        system.submit_job(app)
    assert folders(yard / "work") == []
    assert app.execution.state == Run.State.NEW
    assert "lrms_jobid" not in app.execution
    assert run(system, app).returncode == 0


def test_what_is_not_here_is_told_before_anything_is_sent(system: Any, cell: Cell, yard: Path, tmp_path: Path) -> None:
    for inputs, text in (
        ([tmp_path / "no"], "is not there"),
        ([("http://example.org/x", "x")], "only files"),
    ):
        with pytest.raises(UnrecoverableDataStagingError, match=text):
            system.submit_job(application(["/bin/true"], tmp_path, inputs=inputs))
    with pytest.raises(UnrecoverableDataStagingError, match="only files"):
        system.submit_job(application(["/bin/true"], tmp_path, output_base_url="http://example.org/"))
    assert cell.jobs() == {}


def test_submitting_again_finds_the_job(system: Any, cell: Cell, tmp_path: Path) -> None:
    app = application(gated(tmp_path), tmp_path)
    system.submit_job(app)
    first = app.execution.lrms_jobid
    system.submit_job(app)
    assert (app.execution.lrms_jobid, len(cell.jobs())) == (first, 1)
    (tmp_path / "gate").touch()
    ended(system, app)
    app.execution.state = Run.State.NEW  # to be run anew, as Task.redo does
    system.submit_job(app)
    assert app.execution.lrms_jobid != first
    assert ended(system, app).returncode == 0


def test_a_task_that_was_not_submitted(system: Any, tmp_path: Path) -> None:
    app = application(["/bin/true"], tmp_path)
    for call in (system.update_job_state, system.cancel_job, lambda one: system.get_results(one, tmp_path)):
        with pytest.raises(InvalidArgument, match="not been submitted"):
            call(app)
    system.free(app)


def test_what_was_freed_is_unknown(system: Any, tmp_path: Path) -> None:
    app = application(["/bin/true"], tmp_path)
    run(system, app)
    system.free(app)
    with pytest.raises(UnknownJob):
        system.update_job_state(app)


def test_another_process_goes_on_with_a_kept_record(make: Make, tmp_path: Path) -> None:
    """By pickle, as GC3Pie's programs keep tasks, and by the format that is documented."""
    import json

    first = make()
    app = application(gated(tmp_path, 4), tmp_path / "o", outputs=["*"])
    first.submit_job(app)
    kept, plain = pickle.dumps(app), json.dumps(app.execution.to_data())
    first.close()
    (tmp_path / "gate").touch()
    second = make()
    again = pickle.loads(kept)
    assert ended(second, again).exitcode == 4
    other = application(["x"], tmp_path / "o")
    other.execution = Run.from_data(json.loads(plain))
    assert ended(second, other).exitcode == 4
    restored = Run.from_data(json.loads(json.dumps(other.execution.to_data())))
    assert restored.returncode == other.execution.returncode
    assert restored.duration == other.execution.duration
    assert restored.state == Run.State.TERMINATING


def test_spooldir(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variables that a login has there."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for spool in ("$HOME/.gc3pie_jobs", "~/.gc3pie_jobs", "${HOME}/.gc3pie_jobs"):
        system = make(spooldir=spool)
        monkeypatch.setattr(system.transport.inner, "environment", lambda: {"HOME": str(tmp_path / "home")})
        app = application(["/bin/true"], tmp_path)
        run(system, app)
        assert app.execution.ssh_remote_folder.startswith(f"{tmp_path}/home/.gc3pie_jobs/jobyard-")
        system.free(app)


def test_a_program_in_the_submit_command_itself(make: Make, tmp_path: Path) -> None:
    """Subclasses of LSF's kind send short programs without a script; then only the scheduler knows how they end."""

    class Bare(StandinSystem):
        def _submit_command(self, app: Any) -> tuple[str, str]:
            line, _ = super()._submit_command(app)
            return f"printf '#!/bin/sh\\necho bare; exit 6\\n' > own.sh && {line} own.sh", ""

    system = make(Bare)
    app = application(["x"], tmp_path / "o")
    record = run(system, app)
    assert record.exitcode == 6
    assert output(system, app, tmp_path / "o") == "bare\n"
    assert record.standin_state == "FAILED"  # what accounting said beside it


def test_directives_of_a_script_reach_the_scheduler(make: Make, tmp_path: Path, cell: Cell) -> None:
    class Directed(StandinSystem):
        def _submit_command(self, app: Any) -> tuple[str, str]:
            line, body = super()._submit_command(app)
            return line, f"#!/bin/sh\n#STANDIN --hold user\n# a comment\n{body}\n"

    system = make(Directed, prologue_content="true")
    app = application(["/bin/true"], tmp_path)
    system.submit_job(app)
    reached(system, app, Run.State.STOPPED)
    assert cell.jobs()[app.execution.lrms_jobid][0] == "HELD_USER"
    control(cell, "release", app)
    assert ended(system, app).returncode == 0


def test_closing(system: Any, tmp_path: Path) -> None:
    asked: list[int] = []
    auth = system._auth

    def counted() -> Any:
        asked.append(1)
        return auth() if callable(auth) else auth

    system._auth = counted
    app = application(["/bin/true"], tmp_path)
    system.submit_job(app)
    before = len(asked)
    system.close()
    system.close()
    assert len(asked) == before  # GC3Pie's asks for a login in order to close it
    assert (before > 0) == (system.frontend == "bed")
    assert ended(system, app).returncode == 0  # the next call opens it again


def test_lost_streams_cost_nothing(system: Any, tmp_path: Path, cell: Cell) -> None:
    """A job without streams of its own."""
    app = Application(["/bin/true"], [], [], tmp_path)
    record = run(system, app)
    assert record.stdout_filename == f"Application.o{record.lrms_jobid}"
    eventually(lambda: cell.jobs()[record.lrms_jobid][0] == "COMPLETED", "the scheduler knows")
