"""What a program's jobs cost it: under 1,000 bytes of memory for each, Job and JobSpec included, and no thread."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from psij import Job, JobAttributes, JobSpec, JobState, JobStatus

PROGRAM = Path(__file__).with_name("memory_program.py")
FULL = os.environ.get("FULL") == "1"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize(("kind", "count"), [("waiting", 33_333 if FULL else 5_000), ("finished", 20_000 if FULL else 1_500)])
def test_growth_for_each_job(yard: Path, kind: str, count: int) -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), kind, str(count)], stdout=subprocess.PIPE, check=True, timeout=550)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bytes"] < 1000, found
    assert found["threads"][1] - found["threads"][0] <= 4, found  # those that call back come and go, four at the most
    assert max(found["threads"]) <= 13, found
    assert found["states"] == (["QUEUED"] if kind == "waiting" else ["COMPLETED"])


def test_attributes_that_nobody_touched_are_each_specs_own() -> None:
    one, other = JobSpec("/bin/true"), JobSpec("/bin/true")
    assert one.attributes == JobAttributes()
    assert one.attributes is not other.attributes
    assert one.attributes is one.attributes
    assert one.attributes is not None
    one.attributes.queue_name = "long"
    assert other.attributes is not None
    assert other.attributes.queue_name is None
    one.attributes = None
    assert one.attributes is None


def test_programs_may_add_to_jobs_specs_and_statuses() -> None:
    job, spec, status = Job(), JobSpec("/bin/true"), JobStatus(JobState.NEW)
    for thing in (job, spec, status):
        vars(thing)["mine"] = [thing]
        assert getattr(thing, "mine") == [thing]  # noqa: B009 - the name is the program's own


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_specs_and_statuses_are_copied_whole(again: object) -> None:
    assert callable(again)
    spec = JobSpec("/bin/true", ["a"], directory="/tmp", attributes=JobAttributes(timedelta(minutes=1), "q"))
    for one in (spec, JobSpec("/bin/true")):
        made = again(one)
        assert made == one
        assert made.attributes == one.attributes
    status = JobStatus._of("7", (("cause", "exited"),), JobState.FAILED, 5.0, "why", 3)
    made = again(status)
    assert (made.state, made.time, made.message, made.exit_code) == (JobState.FAILED, 5.0, "why", 3)
    assert made.metadata == {"native_id": "7", "cause": "exited"} == status.metadata
    assert made.metadata is made.metadata
    made.metadata["more"] = 1
    assert made.metadata["more"] == 1
    made.metadata = None
    assert made.metadata is None
