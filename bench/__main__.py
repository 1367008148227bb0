"""``python -m bench [SECTION ...]``: all sections, or those named. Ends with 1 where a figure does not reach what it is to."""

from __future__ import annotations

import sys

from . import beds, drmaa, engine, hyperqueue, psij_front, remote, slurm
from .measure import report

SECTIONS = {
    **engine.SECTIONS,
    **drmaa.SECTIONS,
    **psij_front.SECTIONS,
    **beds.SECTIONS,
    **remote.SECTIONS,
    **slurm.SECTIONS,
    **hyperqueue.SECTIONS,
}


def main(names: list[str]) -> int:
    """Run the sections; 2 for a name that is none."""
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        print(f"there is no section {', '.join(unknown)}; there are: {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    reached = [report(name, SECTIONS[name]()) for name in names or SECTIONS]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
