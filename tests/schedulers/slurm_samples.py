"""The recorded answers of testbeds/slurm/samples, as results of commands: ``sample("24.11", "query-live")``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from jobyard.schedulers.base import Result

FOLDER = Path(__file__).resolve().parents[2] / "testbeds" / "slurm" / "samples"
RELEASES = ("20.11", "22.05", "24.11", "26.05")


@cache
def index(release: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Of each sample the exit code and the command."""
    lines = (FOLDER / release / "INDEX.tsv").read_text().splitlines()
    return {name: (int(code), tuple(json.loads(argv))) for name, code, argv in (line.split("\t") for line in lines)}


@cache
def fates(release: str) -> dict[str, str]:
    """Native ids by what was to become of the job."""
    found: dict[str, str] = json.loads((FOLDER / release / "fates.json").read_text())
    return found


def sample(release: str, name: str) -> Result:
    """One sample."""
    code, argv = index(release)[name]
    out, err = (FOLDER / release / f"{name}.{suffix}" for suffix in ("out", "err"))
    return Result(
        argv=argv,
        returncode=code,
        stdout=out.read_bytes() if out.exists() else b"",
        stderr=err.read_bytes() if err.exists() else b"",
    )
