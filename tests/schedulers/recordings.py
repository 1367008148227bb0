"""Recorded outputs of real schedulers, as a dialect gets them; and what dialects make of them, kept as golden.json beside them.

``python tests/schedulers/recordings.py pbs`` writes that file again; read its diff.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from jobyard.errors import JobyardError
from jobyard.schedulers.base import Result

DATA = Path(__file__).resolve().parent.parent / "data"


def names(scheduler: str) -> list[str]:
    """The recordings that are kept."""
    return sorted(path.name for path in (DATA / scheduler).iterdir() if path.name not in ("INDEX.md", "golden.json"))


def recording(scheduler: str, name: str) -> Result:
    """One of them: a ``.txt`` holds command, exit status and both streams; of a ``.json`` the first two stand in INDEX.md."""
    data = (DATA / scheduler / name).read_bytes()
    if name.endswith(".json"):
        index = (DATA / scheduler / "INDEX.md").read_text()
        line = re.search(rf"^- `{re.escape(name)}`: .*\[`(.*)`, exit ([0-9]+)\]$", index, re.MULTILINE)
        if line is None:  # a few of PBS, whose command was not kept
            return Result(argv=("qstat", "-x", "-f", "-F", "json"), returncode=0, stdout=data)
        return Result(argv=tuple(shlex.split(line[1])), returncode=int(line[2]), stdout=data)
    head, _, rest = data.partition(b"--- stdout ---\n")
    out, _, err = rest.partition(b"--- stderr ---\n")
    command, status = head.decode().splitlines()[:2]
    argv = tuple(shlex.split(command.removeprefix("$ ")))
    return Result(argv=argv, returncode=int(status.rpartition(" ")[2]), stdout=out, stderr=err)


def plain(value: Any) -> Any:
    """A value as json, what is unset left out."""
    if isinstance(value, JobyardError):
        return {"error": type(value).__name__, "text": str(value), "retryable": value.retryable}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return {name: plain(item) for name, item in fields.items() if item not in (None, False, "", {}, ())}
    if isinstance(value, list | tuple | frozenset):
        return [plain(item) for item in value]
    return value


def made(parse: Callable[[], Any]) -> Any:
    """What a parser makes of an answer: its value, or the error that it raises."""
    try:
        return plain(parse())
    except JobyardError as error:
        return plain(error)


def golden(scheduler: str) -> dict[str, Any]:
    """What was made of each when it was last looked at."""
    kept: dict[str, Any] = json.loads((DATA / scheduler / "golden.json").read_text())
    return kept


def main() -> None:
    """Write it again."""
    sys.path.insert(0, str(DATA.parent))
    for scheduler in sys.argv[1:]:
        module = __import__(f"schedulers.test_{scheduler}", fromlist=["parsed"])
        found = {name: module.parsed(name) for name in names(scheduler)}
        (DATA / scheduler / "golden.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
