"""Specifications as JSON and back: each field, and what psij-python wrote."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psij import JobAttributes, JobSpec, ResourceSpec, ResourceSpecV1
from psij.serialize import JSONSerializer
from psij.staging import StageIn, StageOut, StageOutFlags, StagingMode

JSON = JSONSerializer()
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
paths = texts.map(Path)
plain: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
durations = st.integers(0, 10**9).map(lambda us: timedelta(microseconds=us)) | st.integers(0, 10**7).map(
    lambda s: timedelta(seconds=s)
)
specs = st.builds(
    JobSpec,
    executable=st.none() | texts,
    arguments=st.none() | st.lists(texts, max_size=3),
    directory=st.none() | paths,
    name=st.none() | texts,
    inherit_environment=st.booleans(),
    environment=st.none() | st.dictionaries(texts, texts | st.integers(), max_size=3),
    stdin_path=st.none() | paths,
    stdout_path=st.none() | paths,
    stderr_path=st.none() | paths,
    resources=st.none()
    | st.builds(
        ResourceSpecV1,
        node_count=st.none() | st.integers(1, 9),
        processes_per_node=st.none() | st.integers(1, 9),
        cpu_cores_per_process=st.none() | st.integers(1, 9),
        gpu_cores_per_process=st.none() | st.integers(0, 9),
        exclusive_node_use=st.booleans(),
        memory=st.none() | st.integers(1, 2**50),
    ),
    attributes=st.builds(
        JobAttributes,
        duration=durations,
        queue_name=st.none() | texts,
        account=st.none() | texts,
        reservation_id=st.none() | texts,
        custom_attributes=st.none() | st.dictionaries(texts, plain, max_size=3),
    ),
    pre_launch=st.none() | paths,
    post_launch=st.none() | paths,
    launcher=st.none() | texts,
    stage_in=st.none() | st.sets(st.builds(StageIn, paths, paths, st.sampled_from(StagingMode)), max_size=3),
    stage_out=st.none()
    | st.sets(st.builds(StageOut, paths, paths, st.integers(0, 15).map(StageOutFlags), st.sampled_from(StagingMode)), max_size=3),
    cleanup=st.none() | st.sets(paths, max_size=3),
    cleanup_flags=st.integers(0, 15).map(StageOutFlags),
)


@given(specs)
def test_every_specification_comes_back_equal(spec: JobSpec) -> None:
    text = JSON.dumps(spec)
    again = JSON.loads(text)
    assert again == spec
    assert JSON.dumps(again) == text


def test_defaults_are_left_out() -> None:
    assert json.loads(JSON.dumps(JobSpec())) == {}
    assert json.loads(JSON.dumps(JobSpec("/bin/date", resources=ResourceSpecV1()))) == {
        "executable": "/bin/date",
        "resources": {"__version": 1},
    }


def test_streams() -> None:
    spec = JobSpec("/bin/date", ["-u"], stage_in={StageIn("http://h/a", "b")})
    stream = io.StringIO()
    JSON.dump(spec, stream)
    stream.seek(0)
    assert JSON.load(stream) == spec


def test_the_ten_minutes_that_nobody_asked_for_stay_such() -> None:
    assert JSON.loads(JSON.dumps(JobSpec())).attributes._duration_is_default  # type: ignore[union-attr]  # never None
    asked = JobSpec(attributes=JobAttributes(duration=timedelta(minutes=10)))
    assert not JSON.loads(JSON.dumps(asked)).attributes._duration_is_default  # type: ignore[union-attr]  # never None


def test_it_reads_what_psij_python_wrote() -> None:
    text = """{"name": "/bin/date", "executable": "/bin/date", "arguments": ["-u"], "directory": "/tmp",
        "environment": {"A": "1"}, "stdout_path": "/tmp/o",
        "resources": {"__version": 1, "node_count": 2, "process_count": 4, "exclusive_node_use": true},
        "attributes": {"duration": "5400.0 s", "queue_name": "q", "account": "a", "project_name": "a",
        "custom_attributes": {"slurm.qos": "x", "n": 3}}}"""
    spec = JSON.loads(text)
    assert spec.attributes == JobAttributes(
        timedelta(minutes=90), queue_name="q", account="a", custom_attributes={"slurm.qos": "x", "n": 3}
    )
    assert spec.resources == ResourceSpecV1(2, 4, exclusive_node_use=True)
    assert (spec.executable, spec.directory, spec.stdout_path) == ("/bin/date", Path("/tmp"), Path("/tmp/o"))


def test_what_it_writes_is_read_by_psij_python() -> None:
    # It reads '5400 s' as it should, and '5400.0 s' as 0.
    text = JSON.dumps(JobSpec(attributes=JobAttributes(timedelta(minutes=90))))
    assert json.loads(text) == {"attributes": {"duration": "5400 s"}}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[]", "JSON object"),
        ("{", "not JSON"),
        ('{"flurb": 1}', "no 'flurb'"),
        ('{"executable": 1}', "executable"),
        ('{"environment": {"a": 1.5}}', "environment"),
        ('{"attributes": {"duration": "soon"}}', "walltime"),
        ('{"attributes": {"duration": true}}', "duration"),
        ('{"attributes": {"duration": 1e400}}', "duration is a number of seconds, not inf"),
        ('{"attributes": {"duration": NaN}}', "duration is a number of seconds, not nan"),
        ('{"attributes": {"flurb": 1}}', "no 'flurb'"),
        ('{"attributes": []}', "attributes"),
        ('{"resources": {"__version": 7}}', "version 7"),
        ('{"resources": {"cores": 1}}', "no 'cores'"),
        ('{"resources": {"node_count": "2"}}', "node_count"),
        ('{"stage_in": [{"source": "a"}]}', "'target'"),
        ('{"stage_in": [{"source": "a", "target": "b", "mode": "SEND"}]}', "COPY, LINK or MOVE"),
        ('{"stage_in": [{"source": "a", "target": "b", "flags": 1}]}', "no 'flags'"),
        ('{"stage_out": {"source": "a"}}', "a list"),
        ('{"stage_out": [{"source": "a", "target": "b", "flags": 99}]}', "0 to 15"),
        ('{"cleanup": [1]}', "cleanup"),
        ('{"cleanup_flags": "x"}', "0 to 15"),
    ],
)
def test_what_is_no_specification(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        JSON.loads(text)


def test_what_cannot_be_written() -> None:
    class Other(ResourceSpec):
        version = 9

    for spec, what in (
        (
            JobSpec(attributes=JobAttributes(custom_attributes={"a.b": {"c": [object()]}})),
            r"custom_attributes\['a.b'\]\['c'\]\[0\]",
        ),
        (JobSpec(resources=Other()), "Other"),
    ):
        with pytest.raises(ValueError, match=what):
            JSON.dumps(spec)
    with pytest.raises(TypeError, match="JobSpec"):
        JSON.dumps({})  # type: ignore[arg-type]  # what is tested


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    JSON.loads(JSON.dumps(JobSpec("/bin/true", stage_out={StageOut("a", "b")})))
    assert capsys.readouterr() == ("", "")
