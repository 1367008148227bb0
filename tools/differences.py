"""Write docs/differences.md: what each real scheduler forces to be different, from tests/schedulers/differences/*.toml.

tools/differences.py           writes the page
tools/differences.py --check   ends with 1 if the page is not what would be written
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from bed_cases import FOLDER, matches, read, scheduler_of  # noqa: E402

PAGE = ROOT / "docs" / "differences.md"
RECORD = ROOT / "tests" / "schedulers" / "last_full_run.json"
TITLES = {"slurm": "Slurm", "gridengine": "Grid Engine", "htcondor": "HTCondor", "hyperqueue": "HyperQueue", "oar": "OAR"}
SUITES = {"conformance": "engine", "drmaa": "DRMAA", "psij": "PSI/J"}
HEAD = """# Differences that a scheduler forces

The same suites run on every scheduler: that of the engine, of DRMAA and of PSI/J. Where a scheduler cannot do, or cannot tell,
what a suite asks, it stands here with the place where that was seen. This page is generated (`tools/differences.py`); on a test
bed, a case that is listed here must fail, so that no line outlives its reason.
"""


def cell(text: str) -> str:
    """Text that stays in its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    last = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    schedulers = sorted(path.stem for path in FOLDER.glob("*.toml"))
    for scheduler in schedulers:
        differences, left_out = read(scheduler)
        parts.append(f"## {TITLES.get(scheduler, scheduler)}\n")
        parts.append(f"{len(differences)} differences.\n")
        if differences:
            parts.append("| interface | what is different | cases | where it was seen |\n|---|---|---|---|")
            for one in differences:
                names = ", ".join(f"`{case.strip('*')}`" for case in one.cases) or "declared"
                parts.append(f"| {SUITES[one.suite]} | {cell(one.what)} | {cell(names)} | {cell(one.source)} |")
            parts.append("")
        if left_out:
            parts.append("Cases that do not run every day, because a timer of the scheduler sets their length:\n")
            parts.append("| interface | cases | timer | seconds in the last full run |\n|---|---|---|---|")
            for late in left_out:
                seconds = [
                    took
                    for bed, run in last.items()
                    if scheduler_of(bed) == scheduler
                    for case, took in run["slow_s"].items()
                    if matches(case_id(case), late.suite, late.cases)
                ]
                shown = f"{min(seconds):.0f} to {max(seconds):.0f}" if seconds else "under 20 each" if last else "not recorded yet"
                names = ", ".join(f"`{case.strip('*')}`" for case in late.cases)
                parts.append(f"| {SUITES[late.suite]} | {cell(names)} | {cell(late.timer)} | {shown} |")
            parts.append("")
    parts.append("## The last full run\n")
    if last:
        parts.append("`FULL=1 make test-schedulers`:\n")
        parts.append("| bed | date | result | minutes |\n|---|---|---|---|")
        for bed, run in sorted(last.items()):
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(run["counts"].items()))
            parts.append(f"| {bed} | {run['date']} | {counts} | {run['took_s'] / 60:.0f} |")
    else:
        parts.append("None is recorded yet; `FULL=1 make test-schedulers` records one.")
    return "\n".join(parts).rstrip() + "\n"


def case_id(name: str) -> str:
    """A node id as pytest has it, from a name in its report: ``tests.drmaa.test_jobs::test_run`` or with a class before ``::``."""
    module, _, case = name.partition("::")
    parts = module.split(".")
    classes = [part for part in parts if part[:1].isupper()]
    path = "/".join(part for part in parts if part not in classes) + ".py"
    return "::".join([path, *classes, case])


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text() != text:
            sys.stderr.write(f"{PAGE.relative_to(ROOT)} is not up to date: run tools/differences.py\n")
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
