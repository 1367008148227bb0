"""Submission to a real Slurm, beside psij-python and the bare sbatch: section ``slurm``, where JOBYARD_BED is a bed of Slurm's.

testbeds/as_user.sh slurm --shell python -m bench slurm
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .measure import ROOT, Figure, alternate, at_least, ratios, report, run_python, told
from .peers import python_of

JOBS = 1000
ONE_BY_ONE = 100
ROUNDS = 5
PROGRAM = str(ROOT / "bench" / "programs" / "slurm_submit.py")


def _ours(how: str, count: int) -> Callable[[], float]:
    return lambda: float(run_python(PROGRAM, how, count))


def _theirs(count: int) -> Callable[[], float]:
    # Its name is that of ours: nothing of this tree may be on its path.
    return lambda: float(run_python(PROGRAM, "psij", count, python=python_of("psij"), env={"PYTHONPATH": ""}))


def figures() -> list[Figure]:
    """1,000 like jobs at once beside psij-python's 1,000; one by one beside the bare command."""
    python_of("psij")  # made before anything is timed
    # First: after thousands of jobs, Slurm's daemons write to their database for a while, which takes a core.
    single = alternate(
        {"submit": _ours("engine", ONE_BY_ONE), "psij": _ours("psij", ONE_BY_ONE), "sbatch": _ours("sbatch", ONE_BY_ONE)}, ROUNDS
    )
    many = alternate(
        {
            "all": _ours("engine_all", JOBS),
            "cold": _ours("engine_cold", JOBS),
            "many": _ours("psij_many", JOBS),
            "psij-python": _theirs(JOBS),
        },
        ROUNDS,
    )
    return [
        at_least(f"submit_all of {JOBS}, times faster than psij-python 0.9.11", ratios(many, "all", "psij-python"), 50),
        told(f"psij's submit_many of {JOBS}, times faster than psij-python 0.9.11", ratios(many, "many", "psij-python"), ""),
        told(f"submit_all of {JOBS}", [1000 * s for s in many["all"]], "ms"),
        told("the same, where the site's limits were not yet asked", [1000 * s for s in many["cold"]], "ms"),
        told(f"psij's submit_many of {JOBS}", [1000 * s for s in many["many"]], "ms"),
        told(f"psij-python: {JOBS} jobs", [1000 * s for s in many["psij-python"]], "ms"),
        at_least("submit, one by one, of a bare loop of sbatch", ratios(single, "submit", "sbatch"), 0.8),
        told("psij's submit, one by one, of a bare loop of sbatch", ratios(single, "psij", "sbatch"), ""),
        told("sbatch, jobs a second", [ONE_BY_ONE / s for s in single["sbatch"]], "jobs/s"),
    ]


SECTIONS: dict[str, Callable[[], list[Figure]]] = (
    {"slurm": figures} if os.environ.get("JOBYARD_BED", "").startswith("slurm") else {}
)

if __name__ == "__main__":
    report("slurm", figures())
