"""Specifications: types, conversions, inference, equality, walltimes."""

from __future__ import annotations

import copy
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psij import InvalidJobException, JobAttributes, JobSpec, ResourceSpec, ResourceSpecV1
from psij.staging import StageIn, StageOut, StageOutFlags


def test_paths_are_converted_by_constructor_and_properties() -> None:
    spec = JobSpec("/bin/x", directory="/d", stdin_path="i", stdout_path=Path("o"), pre_launch="p", cleanup={"a", Path("b")})
    assert (spec.directory, spec.stdin_path, spec.stdout_path, spec.pre_launch) == (Path("/d"), Path("i"), Path("o"), Path("p"))
    assert spec.cleanup == {Path("a"), Path("b")}
    spec.stderr_path = "e"
    spec.directory = None
    assert (spec.stderr_path, spec.directory) == (Path("e"), None)


def test_environment_values_become_text() -> None:
    assert JobSpec(environment={"A": 1, "B": "b", "C": True}).environment == {"A": "1", "B": "b", "C": "True"}


def test_what_is_told_of_a_wrong_item() -> None:
    cases: list[tuple[str, Any, str]] = [
        ("arguments", ["a", 1], "is a list of str; it holds int 1"),
        ("environment", {1: "a"}, "is a dict with str keys; it holds the key int 1"),
        ("environment", {"a": 1.5}, "is a dict with str or int values; it holds float 1.5"),
        ("stage_in", {"a"}, "is a set of StageIn; it holds str 'a'"),
        ("cleanup", {1}, "is a set of paths; it holds int 1"),
        ("launcher", 1, "is a str or None, not int 1"),
    ]
    for field, value, told in cases:
        with pytest.raises(TypeError) as caught:
            JobSpec(**{field: value})
        assert str(caught.value) == f"JobSpec.{field} {told}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("executable", 3),
        ("executable", Path("/bin/true")),
        ("arguments", "ls -l"),
        ("arguments", ["a", 1]),
        ("arguments", [b"a"]),
        ("directory", 5),
        ("name", 5),
        ("inherit_environment", "yes"),
        ("environment", {1: "a"}),
        ("environment", {"a": 1.5}),
        ("environment", ["a=b"]),
        ("stdin_path", 1),
        ("resources", 4),
        ("attributes", {}),
        ("launcher", 1),
        ("stage_in", {"a"}),
        ("stage_out", {StageIn("a", "b")}),
        ("stage_in", "a"),
        ("cleanup", {1}),
        ("cleanup", "a"),
        ("cleanup_flags", 14),
    ],
)
def test_wrong_types_are_type_errors_that_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"JobSpec.{field}"):
        JobSpec(**{field: value})
    spec = JobSpec("/bin/true")
    with pytest.raises(TypeError, match=f"JobSpec.{field}"):
        setattr(spec, field, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("duration", 10), ("queue_name", 1), ("account", []), ("reservation_id", 1), ("custom_attributes", {1: 2})],
)
def test_attributes_are_checked(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"JobAttributes.{field}"):
        JobAttributes(**{field: value})


def test_the_name_is_the_executable_where_none_is_given() -> None:
    assert JobSpec("/bin/date").name == "/bin/date"
    assert JobSpec("/bin/date", name="n").name == "n"
    assert JobSpec("/bin/date") != JobSpec("/bin/date", name="/bin/date")
    assert repr(JobSpec("/bin/date", ["-u"])) == "JobSpec(executable='/bin/date', arguments=['-u'])"


def test_equality_is_of_all_properties() -> None:
    one = JobSpec("/bin/x", ["a"], resources=ResourceSpecV1(memory=5), attributes=JobAttributes(queue_name="q"))
    assert one == copy.deepcopy(one)
    for field, value in (("arguments", ["b"]), ("resources", ResourceSpecV1(memory=6)), ("cleanup", {"a"})):
        other = copy.deepcopy(one)
        setattr(other, field, value)
        assert one != other
    assert one != "x"
    for thing in (one, one.attributes, one.resources):
        with pytest.raises(TypeError, match="unhashable"):
            hash(thing)


def test_a_specification_shares_nothing_with_another() -> None:
    assert JobSpec().attributes is not JobSpec().attributes
    assert JobSpec().resources is None


def test_custom_attributes() -> None:
    attributes = JobAttributes()
    assert attributes.get_custom_attribute("a.b") is None
    attributes.set_custom_attribute("a.b", 3)
    assert attributes.custom_attributes == {"a.b": 3}
    attributes.custom_attributes = {"c.d": None}
    assert attributes.get_custom_attribute("c.d") is None
    with pytest.raises(TypeError):
        attributes.set_custom_attribute(3, 3)  # type: ignore[arg-type]  # what is tested


def test_project_name_is_the_account_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        attributes = JobAttributes(account="a", project_name="p")
    assert (attributes.account, attributes.project_name) == ("p", "p")
    assert "project_name is deprecated" in caplog.text


WALLTIMES = {
    "01:02:03": 3723,
    "100:00:00": 360000,
    "1:30": 5400,
    "90": 5400,
    "5h": 18000,
    "5 m": 300,
    "5s": 5,
    "1d": 86400,
    "2M": 60 * 86400,
    "1y": 365 * 86400,
    "1.5h": 5400,
    "600.0 s": 600,
    "0.25m": 15,
}


@pytest.mark.parametrize("text", WALLTIMES)
def test_walltimes(text: str) -> None:
    assert JobAttributes.parse_walltime(text) == timedelta(seconds=WALLTIMES[text])


@pytest.mark.parametrize(
    "text", ["", "-5", " 10", "10 ", "1 month", "abc 5 hours", "1:xx", "1:2:3:4", "1:75", "5hh", "h", "1e3 s", "5\n", "٣h", "1.h"]
)
def test_what_is_no_walltime_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a walltime; write hh:mm:ss"):
        JobAttributes.parse_walltime(text)


def test_a_walltime_is_text() -> None:
    with pytest.raises(TypeError):
        JobAttributes.parse_walltime(10)  # type: ignore[arg-type]  # what is tested


@given(st.text(max_size=12))
def test_walltimes_never_raise_anything_else(text: str) -> None:
    try:
        assert JobAttributes.parse_walltime(text) >= timedelta(0)
    except (ValueError, OverflowError):
        pass  # OverflowError: more than timedelta holds


LAYOUTS = [
    ({}, (1, 1, 1)),
    ({"process_count": 6}, (1, 6, 6)),
    ({"node_count": 3}, (3, 3, 1)),
    ({"processes_per_node": 4}, (1, 4, 4)),
    ({"node_count": 2, "process_count": 6}, (2, 6, 3)),
    ({"processes_per_node": 2, "process_count": 6}, (3, 6, 2)),
    ({"node_count": 2, "processes_per_node": 5}, (2, 10, 5)),
    ({"node_count": 2, "processes_per_node": 5, "process_count": 10}, (2, 10, 5)),
]


@pytest.mark.parametrize(("given_", "expected"), LAYOUTS)
def test_what_is_left_out_is_worked_out(given_: dict[str, int], expected: tuple[int, int, int]) -> None:
    spec = ResourceSpecV1(**given_)  # type: ignore[arg-type]  # counts, all of them
    assert (spec.computed_node_count, spec.computed_process_count, spec.computed_processes_per_node) == expected


@pytest.mark.parametrize(
    "given_",
    [
        {"node_count": 2, "process_count": 5},
        {"processes_per_node": 2, "process_count": 5},
        {"node_count": 2, "processes_per_node": 2, "process_count": 5},
        {"node_count": 0},
        {"process_count": -1},
        {"processes_per_node": 0},
        {"cpu_cores_per_process": 0},
        {"gpu_cores_per_process": -1},
        {"memory": 0},
    ],
)
def test_contradictions_and_nonsense_are_refused(given_: dict[str, int]) -> None:
    with pytest.raises(InvalidJobException) as caught:
        ResourceSpecV1(**given_)  # type: ignore[arg-type]  # counts, all of them
    assert any(name in caught.value.message for name in given_)


def test_changes_are_seen_by_what_is_computed() -> None:
    spec = ResourceSpecV1(process_count=4)
    spec.node_count = 2
    assert spec.computed_processes_per_node == 2
    spec.node_count = 3
    with pytest.raises(InvalidJobException, match="node_count=3"):
        _ = spec.computed_node_count


def test_resources_in_units() -> None:
    assert ResourceSpecV1(memory=4097).memory_kb == 4
    assert ResourceSpecV1().memory_kb is None
    assert ResourceSpec.get_instance(1) == ResourceSpecV1()
    with pytest.raises(ValueError, match="version 2"):
        ResourceSpec.get_instance(2)
    with pytest.raises(TypeError, match="node_count"):
        ResourceSpecV1(node_count=1.5)  # type: ignore[arg-type]  # what is tested


def test_staging_flags_without_an_occasion_mean_always() -> None:
    assert StageOut("a", "b", StageOutFlags.IF_PRESENT).flags == StageOutFlags.ALWAYS | StageOutFlags.IF_PRESENT
    assert StageOut("a", "b", StageOutFlags.NONE).flags is StageOutFlags.ALWAYS
    assert StageOut("a", "b", StageOutFlags.ON_ERROR).flags is StageOutFlags.ON_ERROR
