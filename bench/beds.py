"""Figures on real schedulers, each in one run with its peer: section ``beds``, where JOBYARD_BED says which bed it is.

testbeds/as_user.sh gridengine --shell python -m bench beds
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from .measure import Figure, alternate, report, run_python, told, under
from .peers import python_of

BED = os.environ.get("JOBYARD_BED", "")
CONTACT = os.environ.get("JOBYARD_BED_CONTACT", "")
PROGRAMS = Path(__file__).parent / "programs"
ROUNDS = 3
JOBS = 10
SOON_MS = 200.0
# As testbeds/gridengine/client.env: Debian's library needs room for a library of its own.
LIBDRMAA = {
    "DRMAA_LIBRARY_PATH": "/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0",
    "GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=16384",
}


def _ends(
    program: str, target: str, samples: list[float], jobs: int = JOBS, *, peer: str = "", env: Mapping[str, str] | None = None
) -> Callable[[], float]:
    """One turn of a program: the median of its milliseconds; all of them go to ``samples``."""

    def turn() -> float:
        python = python_of(peer) if peer else None
        own = {"PYTHONPATH": "", **(env or {})} if peer else env
        found = [float(one) for one in run_python(str(PROGRAMS / program), target, jobs, python=python, env=own)]
        samples.extend(found)
        return statistics.median(found)

    return turn


def gridengine() -> list[Figure]:
    """Our drmaa beside drmaa-python 0.7.9 over Grid Engine's own library."""
    ours: list[float] = []
    theirs: list[float] = []
    alternate(
        {
            "ours": _ends("drmaa_end.py", CONTACT, ours),
            "libdrmaa": _ends("drmaa_end.py", "", theirs, peer="drmaa", env=LIBDRMAA),
        },
        ROUNDS,
    )
    return [
        under("end of a job to drmaa's wait()", ours, SOON_MS, "ms"),
        told("the same, libdrmaa and drmaa-python 0.7.9", theirs, "ms"),
    ]


def slurm() -> list[Figure]:
    """Our drmaa and our psij beside psij-python, which looks every 30 s."""
    drmaa: list[float] = []
    psij: list[float] = []
    theirs: list[float] = []
    alternate(
        {"drmaa": _ends("drmaa_end.py", CONTACT, drmaa), "psij": _ends("psij_end.py", "slurm", psij)},
        ROUNDS,
    )
    alternate({"psij-python": _ends("psij_end.py", "slurm", theirs, 1, peer="psij")}, ROUNDS)
    return [
        under("end of a job to drmaa's wait()", drmaa, SOON_MS, "ms"),
        under("end of a job to psij's wait()", psij, SOON_MS, "ms"),
        told("the same, psij-python 0.9.11", theirs, "ms", "one job a turn"),
    ]


def others() -> list[Figure]:
    """A bed without a peer."""
    ours: list[float] = []
    alternate({"drmaa": _ends("drmaa_end.py", CONTACT, ours)}, ROUNDS)
    return [told("end of a job to drmaa's wait()", ours, "ms")]


def figures() -> list[Figure]:
    """Those of the bed."""
    return {"gridengine": gridengine, "slurm": slurm}.get(BED.partition("-")[0], others)()


SECTIONS: dict[str, Callable[[], list[Figure]]] = {"beds": figures} if BED else {}

if __name__ == "__main__":
    report("beds", figures())
