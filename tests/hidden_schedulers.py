"""A PATH without real schedulers: what is installed on this machine must not decide what the tests see."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from jobyard.schedulers import known


def without_schedulers(path: str) -> tuple[str, Path | None]:
    """PATH with folders of links in place of those that hold a real scheduler's programs, and where these links are, if any."""
    programs = {program for entry in known().values() if entry.name != "standin" for program in entry.programs}
    room: Path | None = None
    folders: list[str] = []
    for number, folder in enumerate(path.split(os.pathsep)):
        names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if names.isdisjoint(programs):
            folders.append(folder)
            continue
        room = room or Path(tempfile.mkdtemp(prefix="path-"))
        links = room / str(number)
        links.mkdir()
        for name in names - programs:
            (links / name).symlink_to(os.path.join(folder, name))
        folders.append(str(links))
    return os.pathsep.join(folders), room
