"""Cases that need a real scheduler's own commands beside the library: jobs that they submitted, and options of theirs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import drmaa
from drmaa_suite.run import ALL, BED, ENDED, NOW, PATIENCE_S, SCHEDULER, TERMINATE, sleeper, template

Shared = type[drmaa.Session]
SUBMIT = {
    "slurm": ["sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 600"],
    "gridengine": ["qsub", "-terse", "-b", "y", "-j", "y", "-o", "/dev/null", "/bin/sleep", "600"],
    "htcondor": ["sh", "-c", "printf 'executable=/bin/sleep\\narguments=600\\nqueue\\n' | condor_submit -terse -"],
    "oar": ["sh", "-c", "oarsub -l /core=1,walltime=0:15:0 -O /dev/null -E /dev/null 'sleep 600' | sed -n s/OAR_JOB_ID=//p"],
}
# A native specification, and where the scheduler shows it.
NATIVE = {
    "slurm": ("--comment='two words'", ["scontrol", "show", "job", "{job}"], "two words"),
    "gridengine": ("-ac note=seven", ["qstat", "-j", "{job}"], "note=seven"),
    "htcondor": ("-append '+Note = \"two words\"'", ["condor_q", "{job}", "-af", "Note"], "two words"),
    "oar": ("--project=seven", ["oarstat", "-f", "-j", "{job}"], "project = seven"),
}
pytestmark = pytest.mark.skipif(not BED, reason="needs a real scheduler")


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_jobs_of_the_schedulers_own_command(session: Shared) -> None:
    """Row 26: status, control, wait and synchronize of what no library submitted."""
    found = re.match(r"[0-9]+(\.[0-9]+)?", said(*SUBMIT[SCHEDULER]))
    assert found is not None
    job = found[0]
    assert session.jobStatus(job) not in ENDED
    with pytest.raises(drmaa.ExitTimeoutException):
        session.wait(job, NOW)
    session.synchronize([ALL], NOW)  # it is no job of this session
    session.control(job, TERMINATE)
    session.synchronize([job], PATIENCE_S)
    assert session.jobStatus(job) == drmaa.JobState.FAILED
    assert session.wait(job, NOW).wasAborted
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(job, NOW)


def test_native_options_arrive(session: Shared, folder: Path) -> None:
    """Row 22: the scheduler has them, as they were written; what it refuses is DeniedByDrm, and nothing is left of it."""
    native, show, shown = NATIVE[SCHEDULER]
    job = session.runJob(sleeper(folder, 600, jobSubmissionState="drmaa_hold", nativeSpecification=native))
    assert shown in said(*(word.format(job=job) for word in show))
    with pytest.raises(drmaa.DeniedByDrmException, match=r"^code 17: "):
        session.runJob(template(folder, nativeSpecification="--no-such-option"))
    session.control(job, TERMINATE)
    assert session.wait(job, PATIENCE_S).wasAborted
    with pytest.raises(drmaa.InvalidJobException):
        session.wait(drmaa.Session.JOB_IDS_SESSION_ANY, NOW)
