"""Job descriptions: what people write, and what is refused by name."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard import InvalidJob, JobDescription, Limits, Resources
from jobyard.description import describe, describe_all
from jobyard.job import After, Inherit, StageIn, StageOut, StageWhen, description_from_data, to_data


def test_flat_keywords() -> None:
    job = describe(
        [b"/bin/x", Path("a b"), 3, "caf\xe9", b"\xff"],
        name="answer",
        cores=2,
        memory="512MiB",
        walltime="10m",
        environment={"A": "b", "N": 7, b"B": Path("/p")},
        begin_at=datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC),
        after=["0" * 32, ("1" * 32, "any")],
        native="--x=1",
        stage_in={"a": "b"},
        stage_out=[StageOut(source="c", target="d", when=StageWhen.ON_ERROR)],
        inherit="none",
    )
    assert job.argv == ("/bin/x", "a b", "3", "café", os.fsdecode(b"\xff"))
    assert job.resources == Resources(cores=2, memory_bytes=512 * 2**20)
    assert job.limits == Limits(walltime_s=600.0)
    assert job.environment == {"A": "b", "N": "7", "B": "/p"}
    assert job.begin_at == 1893456000.0
    assert job.after == (After("0" * 32), After("1" * 32, "any"))
    assert job.native == ("--x=1",)
    assert job.stage_in == (StageIn(source="a", target="b"),)
    assert job.inherit is Inherit.NONE


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("memory", {"memory": "3 flurb"}),
        ("memory", {"memory": -1}),
        ("memory", {"memory": 0}),
        ("cores", {"cores": -1}),
        ("cores", {"cores": 0}),
        ("cores", {"cores": 1.5}),
        ("cores", {"cores": True}),
        ("gpus", {"gpus": -1}),
        ("processes", {"nodes": 2, "processes_per_node": 3, "processes": 5}),
        ("processes", {"nodes": 2, "processes": 5}),
        ("walltime", {"walltime": "10 parsecs"}),
        ("walltime", {"walltime": 0}),
        ("name", {"name": "a\0b"}),
        ("name", {"name": 3}),
        ("directory", {"directory": ""}),
        ("directory", {"directory": "a\0b"}),
        ("directory", {"directory": 7}),
        ("stdout", {"stdout": ["x"]}),
        ("environment", {"environment": {"": "x"}}),
        ("environment", {"environment": {"A=B": "x"}}),
        ("environment", {"environment": {"A": "x\0"}}),
        ("environment", {"environment": {"A": None}}),
        ("environment", {"environment": "A=b"}),
        ("priority", {"priority": "high"}),
        ("begin_at", {"begin_at": "soon"}),
        ("begin_at", {"begin_at": float("nan")}),
        ("stderr", {"join_streams": True, "stderr": "e"}),
        ("hold", {"hold": "yes"}),
        ("after", {"after": 17}),
        ("after", {"after": [("0" * 32, "later")]}),
        ("inherit", {"inherit": "some"}),
        ("email_on", {"email_on": ("lunch",)}),
        ("launcher", {"launcher": ""}),
        ("stage_in", {"stage_in": [("a",)]}),
        ("stage_out", {"stage_out": [("a", "\0")]}),
        ("attributes", {"attributes": {"a": None}}),
        ("nme", {"nme": "x"}),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob) as caught:
        describe(["/bin/true"], **fields)
    assert caught.value.field == field
    assert field in str(caught.value)


@pytest.mark.parametrize("command", [[], [""], ["a\0b"], [None], [object()], 3, "", ["x", True]])
def test_bad_commands(command: Any) -> None:
    with pytest.raises(InvalidJob) as caught:
        describe(command)
    assert caught.value.field == "argv"


def test_a_line_of_shell_is_refused_with_the_list_to_write() -> None:
    with pytest.raises(InvalidJob, match=r"\['ls', '-l', 'my dir'\]"):
        describe("ls -l 'my dir'")
    assert describe("/bin/true").argv == ("/bin/true",)


def test_a_near_miss_is_hinted_at() -> None:
    with pytest.raises(InvalidJob, match="did you mean walltime"):
        describe(["x"], waltime="1h")


def test_changing_a_description_keeps_the_rest() -> None:
    job = describe(["x"], cores=2, walltime=60, name="n")
    changed = describe(job, cores=4, name=None)
    assert changed.resources.cores == 4
    assert changed.limits == job.limits
    assert changed.name is None
    assert job.name == "n"


def test_many_at_once_take_what_is_common() -> None:
    own = JobDescription(argv=("y",), directory="/own")
    made = describe_all([["x"], own], {"directory": "/d", "inherit": Inherit.CLIENT})
    assert [(job.directory, job.inherit) for job in made] == [("/d", Inherit.CLIENT), ("/own", Inherit.CLIENT)]
    made = describe_all([["x"], own], {"directory": "/d", "inherit": Inherit.CLIENT, "cores": 3})
    assert [job.resources.cores for job in made] == [3, 3]


TEXT = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=8) | st.binary(min_size=1, max_size=8).map(
    lambda raw: os.fsdecode(raw.replace(b"\0", b"?"))
)


@given(st.lists(TEXT, min_size=1, max_size=4), st.dictionaries(TEXT.filter(lambda t: "=" not in t), TEXT, max_size=3), TEXT)
def test_any_bytes_survive_as_json(argv: list[str], environment: dict[str, str], path: str) -> None:
    job = describe(argv, environment=environment, directory=path)
    assert description_from_data(json.loads(json.dumps(to_data(job)))) == job


def test_data_that_is_no_description() -> None:
    with pytest.raises(InvalidJob, match="not a job description"):
        description_from_data({"argv": "x"})
    with pytest.raises(InvalidJob):
        description_from_data({"argv": ["x"], "flavour": "sweet"})
