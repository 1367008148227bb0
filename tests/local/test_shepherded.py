"""Jobs with launchers, stages and scripts go through the shepherd."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobyard.errors import InvalidJob
from jobyard.job import Cause, JobState, StageIn, StageMode, StageOut
from jobyard.schedulers.base import Action
from jobyard.testing.polling import eventually
from local.rig import Rig


def test_scripts_and_launcher(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "pre").write_text("export FROM_PRE=seen\n")
    (tmp_path / "post").write_text(f"echo post >{tmp_path}/after\n")
    job = rig.submit(
        "echo $FROM_PRE $OWN $JOBYARD_NATIVE_ID $JOBYARD_JOB_ID; exit 4",
        environment={"OWN": "own"},
        pre_launch=str(tmp_path / "pre"),
        post_launch=str(tmp_path / "post"),
    )
    ending = rig.wait(job)
    assert ending.exit_code == 4, ending
    assert ending.cause is Cause.EXITED
    words = rig.output(job).decode().split()
    assert words == ["seen", "own", job.native_id, job.token]
    assert (tmp_path / "after").read_text() == "post\n"
    assert ending.usage.user_s is not None
    job = rig.submit(["/bin/echo", "x"], launcher="multiple", processes=2)
    assert rig.wait(job).success
    assert rig.output(job) == b"x\nx\n"
    assert rig.keeper.description(job.key).argv == ("/bin/echo", "x")
    assert rig.keeper.entries([job.key])[0].name == "echo"


def test_unknown_launcher(rig: Rig) -> None:
    with pytest.raises(InvalidJob, match="warpdrive"):
        rig.submit(["/bin/true"], launcher="warpdrive")


def test_stages_are_told(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("data")
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "work").mkdir()
    job = rig.submit(
        "cat in >made; read x <../gate",
        directory=str(tmp_path / "work"),
        stage_in=[StageIn(source=str(tmp_path / "source"), target="in", mode=StageMode.COPY)],
        stage_out=[StageOut(source="made", target=str(tmp_path / "result"))],
        stdout=str(tmp_path / "out"),
        stderr=str(tmp_path / "err"),
    )
    rig.until(job, JobState.RUNNING)
    (tmp_path / "gate").write_text("\n")
    ending = rig.wait(job)
    assert ending.success, ending
    assert (tmp_path / "result").read_text() == "data"
    states = [update.state for update in rig.updates if update.key == job.key]
    assert states[0] is JobState.STAGING_IN
    assert states[-1] is JobState.DONE
    folders = rig.state_dir / "local" / "jobs"
    assert not list(folders.glob(f"*/*/{job.token}"))  # nothing of the user's lay in it


def test_staging_fails(rig: Rig, tmp_path: Path) -> None:
    job = rig.submit(["/bin/true"], stage_in=[StageIn(source=str(tmp_path / "none"), target="in")], directory=str(tmp_path))
    ending = rig.wait(job)
    assert ending.cause is Cause.STAGING
    assert ending.state is JobState.FAILED
    assert "none" in ending.message


def test_an_array_with_a_launch_script(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "pre").write_text(":\n")
    tasks = rig.array("echo $JOBYARD_TASK_INDEX; exit $JOBYARD_TASK_INDEX", (0, 3, 9), pre_launch=str(tmp_path / "pre"))
    assert [ending.exit_code for ending in rig.wait_all(tasks)] == [0, 3, 9]
    assert [rig.output(task) for task in tasks] == [b"0\n", b"3\n", b"9\n"]
    folder = Path(rig.keeper.streams(tasks[0].key)[0] or "").parent
    rig.keeper.remove([tasks[0].key])
    assert folder.exists()
    rig.keeper.remove([task.key for task in tasks[1:]])
    assert not folder.exists()


def test_cancel_and_walltime(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "pre").write_text(":\n")
    job = rig.submit("echo on >on; exec sleep 1000", pre_launch=str(tmp_path / "pre"), directory=str(tmp_path))
    eventually((tmp_path / "on").exists)
    rig.control(Action.CANCEL, job)
    ending = rig.wait(job)
    assert ending.state is JobState.CANCELLED
    assert ending.signal == "SIGTERM"
    ending = rig.run(["/bin/sleep", "1000"], pre_launch=str(tmp_path / "pre"), walltime=0.5)
    assert ending.cause is Cause.WALLTIME
