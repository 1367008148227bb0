"""A site of a gc3pie.conf, over a real sshd, from every front: the same host, the same scheduler, the same job."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import drmaa
import jobyard
import psij
from conformance.yards import private_yard
from gc3libs import Application, Run
from gc3libs.config import Configuration
from jobyard.testing import lookalike
from jobyard.testing.polling import eventually
from psij.staging import StageOut, StageOutFlags
from psij_helpers import Told, finished, shell
from transports.sshd import Sshd, running_sshd

TEXT = """\
[auth/lab]
type = ssh
username = {user}
ssh_config = {config}
timeout = 60

[resource/far]
type = pbs
auth = lab
transport = ssh
frontend = bed
architecture = x86_64
max_cores = 4
max_cores_per_job = 4
max_memory_per_core = 1 GB
max_walltime = 1 hour
spooldir = {spool}
"""


class Far:
    """The site, and what can be seen of it from outside."""

    def __init__(self, folder: Path, sshd: Sshd) -> None:
        self.folder = folder
        self.sshd = sshd

    def logins(self) -> int:
        """How often somebody logged in."""
        return self.sshd.log.count("Accepted publickey")


@pytest.fixture(scope="module", params=["GC3PIE_CONF", "~/.gc3/gc3pie.conf"])
def far(request: pytest.FixtureRequest) -> Iterator[Far]:
    """The commands are found by who logs in alone; the file lies where programs look for it."""
    with (
        private_yard() as folder,
        lookalike.install(folder / "cell", "pbs", slots=4, kill_grace_s=0.2) as cell,
        running_sshd(environment=f"PATH={cell.bin}:{os.defpath} HOME={folder}") as sshd,
        pytest.MonkeyPatch.context() as patch,
    ):
        (folder / "there").mkdir()
        spool = folder / "there" if request.param == "GC3PIE_CONF" else "$HOME/there"
        path = folder / "other.conf" if request.param == "GC3PIE_CONF" else folder / ".gc3" / "gc3pie.conf"
        path.parent.mkdir(exist_ok=True)
        path.write_text(TEXT.format(user=getpass.getuser(), config=sshd.config, spool=spool))
        patch.setenv("HOME", str(folder))
        patch.delenv("VIRTUAL_ENV", raising=False)
        patch.delenv("GC3PIE_CONF", raising=False)
        if request.param == "GC3PIE_CONF":
            patch.setenv("GC3PIE_CONF", str(path))
        yield Far(folder, sshd)


def test_the_python_api(far: Far) -> None:
    before = far.logins()
    with jobyard.Session("site:far?poll=0.2") as session:
        assert session.capabilities.attributes
        job = session.submit(["/bin/sh", "-c", "pwd; exit 3"])
        assert job.wait(timeout=60).exit_code == 3
        assert session.contact.startswith("pbs+ssh://")
    assert far.logins() == before + 1


def test_the_command(far: Far) -> None:
    before = far.logins()
    words = ["run", "--site", "far", "--", "/bin/sh", "-c", "echo out; pwd >&2; exit 5"]
    done = subprocess.run([sys.executable, "-m", "jobyard", *words], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (5, "out\n"), done.stderr
    assert done.stderr.startswith(f"{far.folder}/there/"), done.stderr
    assert far.logins() == before + 1


@pytest.mark.parametrize("named", [True, False])
def test_drmaa(far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    """By its contact, or as the default. Files are looked at where jobs are submitted: directories for output, bare names."""
    before = far.logins()
    if not named:
        monkeypatch.setenv("JOBYARD_CONTACT", "site:far")
    (tmp_path / "logs").mkdir()
    (tmp_path / "own.sh").write_text("#!/bin/sh\necho own; exit 4\n")
    (tmp_path / "own.sh").chmod(0o755)
    with drmaa.Session("site:far" if named else None) as session:
        assert session.contact.startswith("pbs+ssh://")
        template = session.createJobTemplate()
        template.remoteCommand = "own.sh"
        template.workingDirectory = str(tmp_path)
        template.outputPath = f":{tmp_path}/logs"
        template.jobName = "n"
        template.joinFiles = True
        job = session.runJob(template)
        assert session.wait(job, 60).exitStatus == 4
        assert (tmp_path / "logs" / f"n.o{job}").read_text() == "own\n"
        (tmp_path / "own.sh").chmod(0o644)  # no program any more: what is on PATH would be meant
        assert not session.wait(session.runJob(template), 60).hasExited
        template.workingDirectory = drmaa.JobTemplate.HOME_DIRECTORY
        template.remoteCommand = "true"
        template.outputPath = f":{drmaa.JobTemplate.HOME_DIRECTORY}"
        job = session.runJob(template)
        assert session.wait(job, 60).exitStatus == 0
        written = Path(os.path.expanduser(f"~{getpass.getuser()}")) / f"n.o{job}"
        assert written.exists()
        written.unlink()
    assert far.logins() == before + 1


def test_psij(far: Far, tmp_path: Path) -> None:
    before = far.logins()
    with psij.JobExecutor.get_instance("pbs", url="site:far") as executor:
        job = psij.Job(shell('echo "$1"; exit 6', "word", stdout_path=tmp_path / "out"))
        executor.submit(job)
        assert finished(job).exit_code == 6
        assert (tmp_path / "out").read_text() == "word\n"
    assert far.logins() == before + 1


def test_psij_brings_out_there_what_a_killed_job_could_not(far: Far, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    (tmp_path / "job").mkdir()
    code = "trap '' TERM; echo partial > out; echo scratch > tmp; echo > \"$1\"; sleep 60 & wait; sleep 60"
    spec = shell(
        code,
        str(tmp_path / "ready"),
        directory=tmp_path / "job",
        stage_out={StageOut("out", tmp_path / "got", StageOutFlags.ON_CANCEL)},
        cleanup={"tmp"},
        cleanup_flags=StageOutFlags.ON_CANCEL,
    )
    told = Told()
    with psij.JobExecutor.get_instance("pbs", url="site:far") as executor:
        executor.set_job_status_callback(told)
        job = psij.Job(spec)
        executor.submit(job)
        (tmp_path / "ready").read_text()
        job.cancel()
        told.all_final(job)
        assert finished(job).state is psij.JobState.CANCELED
    assert (tmp_path / "got").read_text() == "partial\n"
    assert not (tmp_path / "job" / "tmp").exists()
    assert psij.JobState.STAGE_OUT in told.states(job)


def test_psij_refuses_another_schedulers_site(far: Far) -> None:
    with pytest.raises(psij.InvalidJobException, match="pbs"), psij.JobExecutor.get_instance("slurm", url="site:far") as executor:
        executor.submit(psij.Job(psij.JobSpec("/bin/true")))


def test_gc3(far: Far, tmp_path: Path) -> None:
    before = far.logins()
    resource = Configuration().make_resource("far")
    try:
        app = Application(["/bin/sh", "-c", "echo out; exit 7"], [], [], tmp_path, stdout="out.txt", stderr="err.txt")
        resource.submit_job(app)
        eventually(lambda: resource.update_job_state(app) == Run.State.TERMINATING, "it ends")
        assert app.execution.exitcode == 7
        assert app.execution.ssh_remote_folder.startswith(f"{far.folder}/there/")
        resource.get_results(app, tmp_path)
        assert (tmp_path / "out.txt").read_text() == "out\n"
        resource.free(app)
    finally:
        resource.close()
    assert far.logins() == before + 1
