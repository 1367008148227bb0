"""The recorded answers of testbeds/gridengine/samples, as results of commands."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jobyard.schedulers.base import Result

FOLDER = Path(__file__).resolve().parents[2] / "testbeds" / "gridengine" / "samples"


@cache
def index() -> dict[str, tuple[int, str]]:
    """Of each sample the exit code and the command, as samples.sh wrote it."""
    lines = (FOLDER / "INDEX.tsv").read_text().splitlines()
    return {name: (int(code), command) for name, code, command in (line.split("\t") for line in lines)}


def sample(name: str) -> Result:
    """One sample."""
    code, command = index()[name]
    err = FOLDER / f"{name}.err"
    return Result(
        argv=tuple(command.split()),
        returncode=code,
        stdout=(FOLDER / f"{name}.out").read_bytes(),
        stderr=err.read_bytes() if err.exists() else b"",
    )
