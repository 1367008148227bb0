"""Print the requirements of a dependency group of pyproject.toml, one a line; pip before 25.1 cannot read them itself.

tools/groups.py GROUP
tools/groups.py --digest        a digest of all that a set-up depends on
"""

from __future__ import annotations

import hashlib
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def requirements(groups: dict[str, list[Any]], name: str, within: tuple[str, ...] = ()) -> list[str]:
    """The requirements of one group, those of included groups in their place (PEP 735). ValueError: no such group, or a cycle."""
    if name in within:
        raise ValueError(f"dependency groups include each other: {' -> '.join((*within, name))}")
    if name not in groups:
        raise ValueError(f"pyproject.toml has no dependency group {name!r}; it has: {', '.join(sorted(groups))}")
    found: list[str] = []
    for item in groups[name]:
        if isinstance(item, str):
            found.append(item)
        else:
            found.extend(requirements(groups, item["include-group"], (*within, name)))
    return list(dict.fromkeys(found))


def digest(root: Path) -> str:
    """Changes when the project's metadata, these tools, or the interpreter do."""
    sha = hashlib.sha256(sys.version.encode())
    for name in ("pyproject.toml", "tools/setup.sh", "tools/groups.py"):
        sha.update((root / name).read_bytes())
    return sha.hexdigest()


def main(arguments: list[str]) -> int:
    """The command."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    if arguments == ["--digest"]:
        print(digest(ROOT))
        return 0
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")).get("dependency-groups", {})
    try:
        print("\n".join(requirements(groups, arguments[0])))
    except ValueError as error:
        print(f"groups: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
