"""Measuring by alternation: contenders take turns within one run, so that a ratio compares the same minutes."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"


@dataclass
class Figure:
    """One row of the table. ``reach``: what it is to reach, and whether it did (None: only told)."""

    name: str
    value: float
    unit: str
    spread: tuple[float, float] | None = None
    reach: str = ""
    reached: bool | None = None
    samples: list[float] = field(default_factory=list)
    note: str = ""

    def shown(self) -> str:
        """The value with its spread."""
        text = f"{self.value:.3g} {self.unit}".strip()
        return text if self.spread is None else f"{text} ({self.spread[0]:.3g} to {self.spread[1]:.3g})"


def at_least(name: str, samples: Sequence[float], least: float, unit: str = "", note: str = "") -> Figure:
    """A median that is to be at least so much."""
    return _figure(name, samples, unit, f"at least {least:g}", statistics.median(samples) >= least, note)


def under(name: str, samples: Sequence[float], most: float, unit: str, note: str = "") -> Figure:
    """A median that is to be less than so much."""
    return _figure(name, samples, unit, f"under {most:g} {unit}", statistics.median(samples) < most, note)


def told(name: str, samples: Sequence[float], unit: str, note: str = "") -> Figure:
    """A median that has nothing to reach."""
    return _figure(name, samples, unit, "", None, note)


def _figure(name: str, samples: Sequence[float], unit: str, reach: str, reached: bool | None, note: str) -> Figure:
    values = [float(value) for value in samples]
    spread = (min(values), max(values)) if len(values) > 1 else None
    return Figure(name, statistics.median(values), unit, spread, reach, reached, values, note)


def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Let each take its turn, so many times; the values of each in order. The order turns around each time."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        names = list(contenders) if turn % 2 == 0 else list(contenders)[::-1]
        for name in names:
            os.sync()  # what was written before is not written in its time
            values[name].append(contenders[name]())
    return values


def ratios(values: Mapping[str, Sequence[float]], name: str, to: str) -> list[float]:
    """How many times faster ``name`` was than ``to`` in each turn, both given as seconds."""
    return [b / a for a, b in zip(values[name], values[to], strict=True)]


def run_python(module_or_file: str, *arguments: object, python: str | None = None, env: Mapping[str, str] | None = None) -> Any:
    """Run a program of ours in a fresh interpreter, in its own folders; what it prints last is JSON."""
    head = [module_or_file] if module_or_file.endswith(".py") else ["-m", module_or_file]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        private = {
            "JOBYARD_STATE_DIR": f"{folder}/state",
            "JOBYARD_WORK_DIR": f"{folder}/work",
            "JOBYARD_CONFIG": f"{folder}/config.toml",
            "HOME": folder,
        }
        os.mkdir(f"{folder}/work")
        done = subprocess.run(
            [python or sys.executable, *head, *map(str, arguments)],
            env={**os.environ, **private, **(env or {})},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
            timeout=900,
        )
    return json.loads(done.stdout.decode().strip().splitlines()[-1])


def report(section: str, figures: Sequence[Figure]) -> bool:
    """Print the table, write the JSON file; True where all that is to be reached was."""
    width = max((len(figure.name) for figure in figures), default=10)
    print(f"\n{section}")
    for figure in figures:
        mark = {True: "ok  ", False: "MISS", None: "    "}[figure.reached]
        reach = f"   [{figure.reach}]" if figure.reach else ""
        note = f"   {figure.note}" if figure.note else ""
        print(f"  {mark} {figure.name:<{width}}  {figure.shown()}{reach}{note}", flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    record = {
        "section": section,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "load1": os.getloadavg()[0],
        "figures": [figure.__dict__ for figure in figures],
    }
    (OUT / f"{section}.json").write_text(json.dumps(record, indent=1) + "\n")
    return all(figure.reached is not False for figure in figures)
