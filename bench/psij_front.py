"""The PSI/J front's figures beside psij-python 0.9.11: ``python -m bench.psij_front``, or the section ``psij`` of the bench.

What is timed is psij_program.py, in interpreters and folders of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .measure import ROOT, Figure, alternate, at_least, ratios, report, run_python, told, under
from .peers import python_of

JOBS = 1000
ROUNDS = 5
PROGRAM = str(ROOT / "bench" / "psij_program.py")


def _ours(*arguments: object) -> Any:
    return run_python(PROGRAM, *arguments)


def _theirs(*arguments: object) -> Any:
    # Its own name is that of ours: nothing of this tree may be on its path.
    return run_python(PROGRAM, *arguments, python=python_of("psij"), env={"PYTHONPATH": ""})


def rates() -> list[Figure]:
    """1,000 local jobs to completion."""
    values = alternate({"ours": lambda: float(_ours("jobs", JOBS)), "theirs": lambda: float(_theirs("jobs", JOBS))}, ROUNDS)
    heard = [JOBS / float(_ours("jobs_with_callback", JOBS)) for _ in range(ROUNDS)]
    bulk = [JOBS / float(_ours("bulk", JOBS)) for _ in range(ROUNDS)]
    return [
        at_least(f"{JOBS} local jobs to completion, times the rate of psij-python", ratios(values, "ours", "theirs"), 6),
        told("jobs a second, submitted one by one", [JOBS / s for s in values["ours"]], "jobs/s"),
        told("psij-python's jobs a second", [JOBS / s for s in values["theirs"]], "jobs/s"),
        told("jobs a second, all told to a callback", heard, "jobs/s"),
        told("jobs a second, by submit_many", bulk, "jobs/s"),
    ]


def latencies() -> list[Figure]:
    """From the end of a job to the COMPLETED callback."""
    values = alternate({"ours": lambda: float(_ours("callbacks", 40)), "theirs": lambda: float(_theirs("callbacks", 40))}, ROUNDS)
    return [
        under("end of a job to the COMPLETED callback", values["ours"], 10, "ms"),
        told("psij-python: the same", values["theirs"], "ms"),
    ]


def waiting() -> list[Figure]:
    """10,000 waiting jobs."""
    found = [_ours("waiting", 10_000) for _ in range(3)]
    return [
        under(
            "memory for each waiting job, its Job and JobSpec included",
            [one["waiting"] for one in found],
            1000,
            "B",
        ),
        told("at the peak of one submit_many of 10,000 more, for each of them", [one["peak"] for one in found], "B"),
        under("threads with 30,000 waiting jobs", [one["threads"] for one in found], 13, ""),
    ]


def imports() -> list[Figure]:
    """import psij, beyond bare Python."""

    def seconds(python: str, statement: str) -> float:
        return float(run_python("bench.contenders", "spawn_time", 5, python, "-c", statement))

    values = alternate(
        {
            "bare": lambda: seconds(sys.executable, "pass"),
            "ours": lambda: seconds(sys.executable, "import psij"),
            "theirs": lambda: seconds(python_of("psij"), "import psij"),
        },
        7,
    )
    return [
        under(
            "import psij, beyond bare Python",
            [1000 * (a - b) for a, b in zip(values["ours"], values["bare"], strict=True)],
            60,
            "ms",
        ),
        told("psij-python: the same", [1000 * (a - b) for a, b in zip(values["theirs"], values["bare"], strict=True)], "ms"),
    ]


def figures() -> list[Figure]:
    """All of them."""
    return [*rates(), *latencies(), *waiting(), *imports()]


SECTIONS: dict[str, Callable[[], list[Figure]]] = {"psij": figures}


if __name__ == "__main__":
    sys.exit(0 if report("psij", figures()) else 1)
