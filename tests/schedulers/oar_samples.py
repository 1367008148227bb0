"""The recorded answers of testbeds/oar/samples, and what is made of each, kept in tests/data/oar/golden.json.

``python tests/schedulers/oar_samples.py`` writes that file again; read its diff.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from jobyard.job import JobDescription
from jobyard.schedulers.base import Action, Kind, Result, Submission
from jobyard.schedulers.oar import OarDialect

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "testbeds" / "oar" / "samples"
GOLDEN = ROOT / "tests" / "data" / "oar" / "golden.json"
DIALECT = OarDialect()
SINGLE = Submission(token="a1" * 16, folder="/w/" + "a1" * 16, description=JobDescription(argv=("x",)))
ARRAY = Submission(
    token="b2" * 16, folder="/w/" + "b2" * 16, description=JobDescription(argv=("x",)), kind=Kind.ARRAY, indices=(2, 4, 6)
)
IN_FOLDER = Submission(token="0123456789abcdef" * 2, folder="/w/x", description=JobDescription(argv=("x",)))
_ACTIONS = {"oardel": Action.CANCEL, "oarhold": Action.HOLD, "oarresume": Action.RELEASE}


def names() -> list[str]:
    """The recordings that are kept."""
    return sorted(path.stem for path in FOLDER.glob("*.rc"))


def sample(name: str) -> Result:
    """One of them."""
    out, err, rc, cmd = (FOLDER / f"{name}.{suffix}" for suffix in ("out", "err", "rc", "cmd"))
    try:
        argv = tuple(shlex.split(cmd.read_text()))
    except ValueError:  # what was typed had a quote in it
        argv = tuple(cmd.read_text().split())
    return Result(
        argv=argv,
        returncode=int(rc.read_text()),
        stdout=out.read_bytes() if out.exists() else b"",
        stderr=err.read_bytes() if err.exists() else b"",
    )


def parsed(name: str) -> Any:
    """What the dialect makes of one."""
    from schedulers.recordings import made

    result = sample(name)
    program, words = result.argv[0], result.argv[1:]
    if "--version" in words:
        return made(lambda: DIALECT.parse_version(result))
    if program == "oarsub":
        return made(lambda: DIALECT.parse_submit(result, ARRAY if "--array" in words else SINGLE))
    if program == "oarnodes":
        return made(lambda: sorted(DIALECT.parse_site(result)))
    if program in _ACTIONS:
        action = Action.SIGNAL if "-s" in words else _ACTIONS[program]
        return made(lambda: DIALECT.parse_control(action, result, [word for word in words if word.isdigit()]))
    if name == "stat-token":
        return made(lambda: DIALECT.parse_find([result], [IN_FOLDER, SINGLE]))
    return made(lambda: DIALECT.parse_query(result))


def golden() -> dict[str, Any]:
    """What was made of each when it was last looked at."""
    kept: dict[str, Any] = json.loads(GOLDEN.read_text())
    return kept


def main() -> None:
    """Write it again."""
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps({name: parsed(name) for name in names()}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    main()
