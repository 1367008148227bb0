"""docs/differences.md is what the files of differences say, each names where it was seen, and none came in unnoticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bed_cases import FOLDER, read

ROOT = Path(__file__).resolve().parent.parent.parent
# How many each scheduler forces. A number that grows is a promise given up: say why in CHANGELOG.
PINNED: dict[str, int] = {"gridengine": 8, "htcondor": 5, "hyperqueue": 9, "oar": 7, "slurm": 6}


def test_the_page_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "differences.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_scheduler_is_without_a_number() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(PINNED)


@pytest.mark.parametrize(("scheduler", "number"), PINNED.items(), ids=PINNED.keys())
def test_their_number_is_pinned(scheduler: str, number: int) -> None:
    assert len(read(scheduler)[0]) == number


@pytest.mark.parametrize("scheduler", PINNED)
def test_each_says_where_it_was_seen(scheduler: str) -> None:
    for one in read(scheduler)[0]:
        assert one.what.endswith("."), one
        path, _, rest = one.source.partition(" ")
        assert (path == "facts:" and len(rest) > 20) or (path.startswith("testbeds/") and (ROOT / path.rstrip(",;")).exists()), (
            one.source
        )
