"""The examples run and print what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import psij

EXAMPLES = Path(__file__).parents[2] / "examples" / "psij"
PRINTS = {
    "hello": r"COMPLETED 0\nhello from a job\n",
    "many": r"10 jobs exited with 0\n10 jobs exited with 1\n10 jobs exited with 2\n10 jobs exited with 3\n",
    "throttle": r"all done, 3 at a time\n",
    "staging": r"COMPLETED\napple\npear\nleft in scratch: \[\]\n",
    "attach": r"attached: JobStatus\[FAILED.*exit_code=5.*\]\nagain: JobSpec\(.*5.*\) -> 5\nagain: JobSpec\(.*6.*\) -> 6\n",
}
ARGUMENTS = {"many": ["40"]}


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PRINTS)


@pytest.mark.parametrize("name", PRINTS)
def test_examples(name: str, common_yard: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *ARGUMENTS.get(name, [])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(psij.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(PRINTS[name], done.stdout), done.stdout
