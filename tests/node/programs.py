"""Programs that stand in for launchers: each records what it was given, then runs the command."""

from __future__ import annotations

from pathlib import Path

_TEXT = """#!/bin/sh
if [ "$1" = --version ]; then
    printf '%s\\n' '{version}'
    exit 0
fi
printf '%s\\0' "$@" > {record}
for word; do  # from the command on: the first word with a slash
    case $word in /*) exec "$@" ;; esac
    shift
done
"""


def install(folder: Path, name: str, version: str = "") -> Path:
    """Put one into a folder: the file in which it records its arguments."""
    folder.mkdir(exist_ok=True)
    record = folder / f"{name}.argv"
    program = folder / name
    program.write_text(_TEXT.format(version=version, record=record))
    program.chmod(0o755)
    return record


def recorded(record: Path) -> list[str]:
    """What it was given."""
    return record.read_text().split("\0")[:-1]
