"""What a test bed changes for the suites that run on it: differences that its scheduler forces, and cases its timers make long.

``tests/schedulers/differences/SCHEDULER.toml`` holds both. A case that differs must fail there, or its entry is wrong (strict
xfail); a case that is left out of every day runs with FULL=1. docs/differences.md is generated from the same files.
What a lookalike of a scheduler's commands makes different stands in ``tests/lookalikes/differences`` in the same way.
"""

from __future__ import annotations

import fnmatch
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "schedulers" / "differences"
LOOKALIKES = Path(__file__).parent / "lookalikes" / "differences"
BED = os.environ.get("JOBYARD_BED", "")
SUITES = ("conformance", "drmaa", "psij")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that a scheduler forces to be different, for users to read, and where it was seen."""

    suite: str
    cases: tuple[str, ...]  # patterns on the ends of node ids
    what: str
    source: str


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Cases whose length a timer of the scheduler sets."""

    suite: str
    cases: tuple[str, ...]
    timer: str


def scheduler_of(bed: str) -> str:
    """The scheduler that a bed runs: ``slurm-24.11`` runs ``slurm``."""
    return bed.partition("-")[0]


def read(scheduler: str, folder: Path = FOLDER) -> tuple[list[Difference], list[LeftOut]]:
    """A scheduler's file; nothing where there is none. ValueError: an entry that is not whole."""
    path = folder / f"{scheduler}.toml"
    if not path.exists():
        return [], []
    data = tomllib.loads(path.read_text())
    if unknown := set(data) - {"difference", "left_out"}:
        raise ValueError(f"{path.name}: unknown tables {sorted(unknown)}")
    differences = [Difference(**{**entry, "cases": tuple(entry["cases"])}) for entry in data.get("difference", ())]
    left_out = [LeftOut(**{**entry, "cases": tuple(entry["cases"])}) for entry in data.get("left_out", ())]
    if wrong := {*(one.suite for one in differences), *(one.suite for one in left_out)} - set(SUITES):
        raise ValueError(f"{path.name}: {sorted(wrong)} are none of {SUITES}")
    return differences, left_out


def suite_of(node_id: str) -> str:
    """Which suite a case belongs to."""
    parts = node_id.partition("::")[0].split("/")
    return "drmaa" if "drmaa" in parts else "psij" if "psij" in parts else "conformance"


def matches(node_id: str, suite: str, cases: Sequence[str]) -> bool:
    """The case is one of these."""
    return suite_of(node_id) == suite and any(fnmatch.fnmatchcase(node_id, "*" + case.replace("[", "[[]")) for case in cases)


def apply(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what differs on this bed, and leave out what is too long for every day."""
    if not BED:
        return
    style = BED.removeprefix("lookalike-")
    differences, left_out = read(style, LOOKALIKES) if style != BED else read(scheduler_of(BED))
    kept, dropped = [], []
    for item in items:
        for difference in differences:
            if matches(item.nodeid, difference.suite, difference.cases):
                item.add_marker(pytest.mark.xfail(reason=difference.what, strict=True))
        if any(matches(item.nodeid, one.suite, one.cases) for one in left_out):
            if os.environ.get("FULL") != "1":
                dropped.append(item)
                continue
        else:
            item.add_marker(pytest.mark.everyday)
        kept.append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
