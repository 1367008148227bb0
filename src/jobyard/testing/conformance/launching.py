"""Launchers, pre- and post-launch scripts, staging, cleaning."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from jobyard import Cause, JobState, Session
from jobyard.errors import InvalidJob
from jobyard.job import StageIn, StageMode, StageOut, StageWhen
from jobyard.schedulers.base import Action

from .. import jobs
from ..polling import eventually
from .support import Features, assert_names, finish, open_gate, reach, refuses


class Launchers:
    """How the command is started on the node."""

    def test_single(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.append(tmp_path / "log", "once"), launcher="single")
        finish(job, features).check()
        assert (tmp_path / "log").read_text().count("begin") == 1

    def test_multiple_starts_one_for_each_process(self, session: Session, features: Features, tmp_path: Path) -> None:
        if "multiple" not in features.capabilities.launchers:
            with refuses(features, "launcher"):
                session.submit(jobs.succeed(), launcher="multiple", processes=2)
            return
        job = session.submit(jobs.append(tmp_path / "log", "one"), launcher="multiple", processes=2)
        finish(job, features).check()
        assert (tmp_path / "log").read_text().count("end one") == 2

    def test_multiple_fails_if_one_fails(self, session: Session, features: Features, tmp_path: Path) -> None:
        if "multiple" not in features.capabilities.launchers:
            return  # the refusal is asserted above
        one_fails = jobs.shell('mkdir "$1" 2>/dev/null && exit 0; exit 7', tmp_path / "first")
        ending = finish(session.submit(one_fails, launcher="multiple", processes=2), features)
        assert ending.exit_code == 7
        assert ending.state is JobState.FAILED

    def test_an_unknown_launcher(self, session: Session) -> None:
        with pytest.raises(InvalidJob) as caught:
            session.submit(jobs.succeed(), launcher="no-such-launcher")
        assert caught.value.field == "launcher"
        assert session.jobs() == []

    def test_scripts_before_and_after(self, session: Session, features: Features, tmp_path: Path) -> None:
        """They are sourced around the launcher: what the first exports, the command and the second see."""
        log = tmp_path / "log"
        (tmp_path / "pre it's.sh").write_text(f'export FROM_PRE="set $0"; echo "pre $PWD" >>{log}\n')
        (tmp_path / "post.sh").write_text(f'echo "post ${{FROM_PRE:+seen}}" >>{log}\n')
        job = session.submit(
            jobs.shell('echo "command ${FROM_PRE:+seen}" >>"$1"', log),
            directory=tmp_path,
            pre_launch=str(tmp_path / "pre it's.sh"),
            post_launch=str(tmp_path / "post.sh"),
        )
        finish(job, features).check()
        assert log.read_text().splitlines() == [f"pre {tmp_path}", "command seen", "post seen"]

    def test_a_script_that_fails_before(self, session: Session, features: Features, tmp_path: Path) -> None:
        (tmp_path / "pre.sh").write_text("exit 4\n")
        job = session.submit(jobs.append(tmp_path / "log", "x"), pre_launch=str(tmp_path / "pre.sh"))
        ending = finish(job, features)
        assert ending.state is JobState.FAILED
        assert ending.cause is Cause.LAUNCH_SCRIPT
        assert "pre.sh" in ending.message
        assert not (tmp_path / "log").exists()

    def test_a_missing_script(self, session: Session, features: Features, tmp_path: Path) -> None:
        missing = str(tmp_path / "no such script")
        ending = finish(session.submit(jobs.append(tmp_path / "log", "x"), pre_launch=missing), features)
        assert ending.state is JobState.FAILED
        assert ending.cause in (Cause.LAUNCH_SCRIPT, Cause.NOT_STARTED)
        assert missing in ending.message
        assert not (tmp_path / "log").exists()

    def test_the_commands_ending_counts(self, session: Session, features: Features, tmp_path: Path) -> None:
        (tmp_path / "post.sh").write_text("true\n")
        many = [
            session.submit(jobs.exit_with(9), post_launch=str(tmp_path / "post.sh")),
            session.submit(jobs.signal_itself("TERM"), post_launch=str(tmp_path / "post.sh")),
        ]
        first, second = session.wait_all(many, timeout=features.deadline_s + features.poll_s)
        assert first.exit_code == 9
        assert second.signal == "SIGTERM"

    def test_cancelled_under_a_launcher(self, session: Session, features: Features, tmp_path: Path) -> None:
        (tmp_path / "pre.sh").write_text("true\n")
        begun = tmp_path / "begun"
        job = session.submit(jobs.gated(tmp_path / "gate", begun=begun), pre_launch=str(tmp_path / "pre.sh"))
        eventually(begun.exists, "the command has begun", features.deadline_s)
        job.cancel()
        assert finish(job, features, features.deadline_s + features.cancel_grace_s).state is JobState.CANCELLED


class Staging:
    """Files brought to the job, and away from it."""

    @pytest.fixture(autouse=True)
    def _staging(self, session: Session, features: Features, tmp_path: Path) -> None:
        if not features.honours("stage_in"):
            with refuses(features, "stage_in"):
                session.submit(jobs.succeed(), stage_in=[(tmp_path / "a", "b")])
            pytest.skip(f"{features.scheduler} stages no files, and refused as it should")

    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        """The job's directory."""
        (tmp_path / "run").mkdir()
        return tmp_path / "run"

    def test_in_and_out(self, session: Session, features: Features, tmp_path: Path, run: Path) -> None:
        (tmp_path / "source file").write_text("brought\n")
        job = session.submit(
            jobs.shell("/bin/cat 'in put' >output"),
            directory=run,
            stage_in=[(tmp_path / "source file", "in put")],
            stage_out=[("output", tmp_path / "deep" / "result it's")],
        )
        finish(job, features).check()
        assert (tmp_path / "deep" / "result it's").read_text() == "brought\n"
        assert (tmp_path / "source file").exists()

    @pytest.mark.parametrize("mode", list(StageMode), ids=[str(mode) for mode in StageMode])
    def test_modes(self, session: Session, features: Features, tmp_path: Path, run: Path, mode: StageMode) -> None:
        source = tmp_path / "source"
        source.write_text("x\n")
        job = session.submit(
            jobs.shell("/bin/cat input"), directory=run, stage_in=[StageIn(source=str(source), target="input", mode=mode)]
        )
        finish(job, features).check()
        assert (run / "input").read_text() == "x\n"
        assert (run / "input").is_symlink() == (mode is StageMode.LINK)
        assert source.exists() == (mode is not StageMode.MOVE)

    def test_whole_folders(self, session: Session, features: Features, tmp_path: Path, run: Path) -> None:
        (tmp_path / "folder" / "sub").mkdir(parents=True)
        (tmp_path / "folder" / "sub" / "file").write_text("deep\n")
        job = session.submit(
            jobs.shell("/bin/cat data/sub/file >>data/sub/more; mkdir made; echo y >made/file"),
            directory=run,
            stage_in=[(tmp_path / "folder", "data")],
            stage_out=[("made", tmp_path / "back")],
        )
        finish(job, features).check()
        assert (run / "data" / "sub" / "more").read_text() == "deep\n"
        assert not (tmp_path / "folder" / "sub" / "more").exists()
        assert (tmp_path / "back" / "file").read_text() == "y\n"

    def test_a_missing_input_fails_before_the_command(
        self, session: Session, features: Features, tmp_path: Path, run: Path
    ) -> None:
        missing = tmp_path / "no such input"
        job = session.submit(jobs.append(tmp_path / "log", "x"), directory=run, stage_in=[(missing, "input")])
        ending = finish(job, features)
        assert ending.state is JobState.FAILED
        assert ending.cause is Cause.STAGING
        assert ending.aborted
        assert str(missing) in ending.message
        assert not (tmp_path / "log").exists()

    def test_a_missing_output_fails_unless_it_may(self, session: Session, features: Features, tmp_path: Path, run: Path) -> None:
        def submit(when: StageWhen) -> Any:
            return session.submit(
                jobs.succeed(), directory=run, stage_out=[StageOut(source="none", target=str(tmp_path / "out"), when=when)]
            )

        strict, lenient = submit(StageWhen.ALWAYS), submit(StageWhen.ALWAYS | StageWhen.IF_PRESENT)
        ending = finish(strict, features)
        assert ending.state is JobState.FAILED
        assert ending.cause is Cause.STAGING
        assert "none" in ending.message
        assert finish(lenient, features).success
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("code", [0, 3])
    def test_by_how_it_ended(self, session: Session, features: Features, tmp_path: Path, run: Path, code: int) -> None:
        outs = {when: tmp_path / f"out-{when.name}" for when in (StageWhen.ON_SUCCESS, StageWhen.ON_ERROR, StageWhen.ALWAYS)}
        job = session.submit(
            jobs.shell('echo x >made; exit "$1"', str(code)),
            directory=run,
            stage_out=[StageOut(source="made", target=str(path), when=when) for when, path in outs.items()],
        )
        assert finish(job, features).exit_code == code
        present = {when for when, path in outs.items() if path.exists()}
        assert present == {StageWhen.ALWAYS, StageWhen.ON_ERROR if code else StageWhen.ON_SUCCESS}

    def test_on_cancel(self, session: Session, features: Features, tmp_path: Path, run: Path) -> None:
        """Brought away where the scheduler leaves the node time for it."""
        job = session.submit(
            jobs.gated(tmp_path / "gate", begun=run / "made"),
            directory=run,
            stage_out=[
                StageOut(source="made", target=str(tmp_path / "cancelled"), when=StageWhen.ON_CANCEL),
                StageOut(source="made", target=str(tmp_path / "succeeded"), when=StageWhen.ON_SUCCESS),
            ],
        )
        eventually((run / "made").exists, "the command has begun", features.deadline_s)
        job.cancel()
        assert finish(job, features, features.deadline_s + 2 * features.cancel_grace_s).state is JobState.CANCELLED
        assert not (tmp_path / "succeeded").exists()

    def test_cleaning(self, session: Session, features: Features, tmp_path: Path, run: Path) -> None:
        job = session.submit(
            jobs.shell("mkdir scratch; echo x >scratch/file; echo y >keep"), directory=run, cleanup=["scratch", "not there"]
        )
        finish(job, features).check()
        assert not (run / "scratch").exists()
        assert (run / "keep").exists()

    def test_cleaning_stays_in_the_directory(self, session: Session, features: Features, tmp_path: Path, run: Path) -> None:
        """Nothing outside the job's directory is ever removed: refused at once, or left as it is."""
        (tmp_path / "precious").write_text("mine\n")
        (run / "link").symlink_to(tmp_path)
        for path in ("../precious", str(tmp_path / "precious"), "link/precious", ".", "..", "/"):
            try:
                finish(session.submit(jobs.succeed(), directory=run, cleanup=[path]), features)
            except InvalidJob as error:
                assert_names(error, "cleanup")
            assert (tmp_path / "precious").read_text() == "mine\n", path
            assert run.is_dir(), path

    def test_states_are_passed_in_order(self, session: Session, features: Features, tmp_path: Path, run: Path) -> None:
        (tmp_path / "source").write_text("x\n")
        job = session.submit(
            jobs.shell("echo y >made"),
            directory=run,
            stage_in=[(tmp_path / "source", "input")],
            stage_out=[("made", tmp_path / "out")],
            cleanup=["input"],
        )
        finish(job, features).check()
        order = [JobState.QUEUED, JobState.STAGING_IN, JobState.RUNNING, JobState.STAGING_OUT, JobState.CLEANING, JobState.DONE]
        states = [transition.state for transition in job.history if transition.state in order]
        assert states == sorted(states, key=order.index)
        assert len(set(states)) == len(states)
        assert JobState.RUNNING in states

    def test_hostile_names(self, session: Session, features: Features, tmp_path: Path, run: Path) -> None:
        names = [os.fsdecode(name) for name in (b"a b", b"it's", b"$HOME", b"new\nline", b"\xff\xfe", b"-rf", b"*")]
        for name in names:
            (tmp_path / name).write_text(name, errors="surrogateescape")
        job = session.submit(
            jobs.succeed(),
            directory=run,
            stage_in=[(tmp_path / name, name) for name in names],
            stage_out=[(name, tmp_path / "back" / name) for name in names],
        )
        finish(job, features).check()
        for name in names:
            assert (tmp_path / "back" / name).read_text(errors="surrogateescape") == name

    def test_suspended_while_staged(self, session: Session, features: Features, tmp_path: Path, run: Path) -> None:
        """Under the shepherd, too, suspending stops the command."""
        if not features.can(Action.SUSPEND) or not features.can(Action.RESUME):
            return  # the refusal is asserted by Control
        (tmp_path / "source").write_text("x\n")
        begun = tmp_path / "begun"
        job = session.submit(jobs.gated(tmp_path / "gate", begun=begun), directory=run, stage_in=[(tmp_path / "source", "input")])
        eventually(begun.exists, "the command has begun", features.deadline_s)
        reach(session, job, JobState.RUNNING, features=features)
        job.suspend()
        reach(session, job, JobState.SUSPENDED, features=features)
        time.sleep(features.suspend_late_s)
        open_gate(tmp_path / "gate")
        with pytest.raises(TimeoutError):
            job.wait(timeout=0.3)
        job.resume()
        assert finish(job, features).success
