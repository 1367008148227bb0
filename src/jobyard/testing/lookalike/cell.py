"""Cells of lookalikes: as those of the stand-in, with the commands of another scheduler."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..standin.cell import Cell

__all__ = ["COMMANDS", "Lookalike", "install"]

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "pbs": ("qsub", "qstat", "qdel", "qhold", "qrls", "qsig", "qselect", "pbs_rstat"),
    "torque": ("qsub", "qstat", "qdel", "qhold", "qrls", "qsig", "qselect", "qchkpt"),
    "lsf": ("bsub", "bjobs", "bkill", "bstop", "bresume", "bparams"),
    "flux": ("flux",),
    "cobalt": ("qsub", "qstat", "qdel", "qhold", "qrls", "cqsub"),
    "nqsv": ("qsub", "qstat", "qdel", "qhold", "qrls", "qwait"),
}
OPTIONS: Mapping[str, str] = {"cobalt": "?walltime=1h"}  # without which it takes no job
_READ_STDIN = ("bsub",)
_TESTING = Path(__file__).parent.parent
_PARTS = ("standin", "lookalike")


class Lookalike(Cell):
    """One lookalike, in a folder. ``configure``, ``fault``, ``operate``, ``crash``, ``stop`` as of the stand-in's cell."""

    def __init__(self, folder: str | os.PathLike[str], style: str) -> None:
        super().__init__(folder)
        self.style = style

    @property
    def contact(self) -> str:
        """Opens a session on it, where its ``bin`` is on PATH."""
        return f"{self.style}{OPTIONS.get(self.style, '')}"


def install(folder: str | os.PathLike[str], style: str, **config: Any) -> Lookalike:
    """Put a lookalike into a folder, which is made; settings as in ``Cell.configure``, and ``history``. Nothing runs yet."""
    if style not in COMMANDS:
        raise ValueError(f"there is no lookalike {style!r}; there are {', '.join(COMMANDS)}")
    cell = Lookalike(folder, style)
    library = cell.folder / "lib"
    package = library / "lookalikes"  # the same places as here, so that the programs find each other
    for path in (cell.folder, cell.bin, library, package, *(package / part for part in _PARTS)):
        path.mkdir(mode=0o700, exist_ok=True)
    for part in _PARTS:
        (package / part / "__init__.py").touch()
        programs = package / part / "programs"
        shutil.copytree(
            _TESTING / part / "programs", programs, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    (package / "__init__.py").touch()
    start = f"import sys\nsys.path.insert(0, {str(library)!r})\n"
    (library / "serve.py").write_text(f"{start}from lookalikes.lookalike.programs.serve import main\nmain({style!r})\n")
    for name in (*COMMANDS[style], "standin-admin"):
        program = cell.bin / name
        reads = "sys.argv.append('-')\n" if name in _READ_STDIN else ""  # the client's word for it; the server takes it off
        program.write_text(
            f"#!{os.path.realpath(sys.executable)} -IS\n{start}{reads}"
            f"from lookalikes.standin.programs.client import run\nrun({str(cell.folder)!r})\n"
        )
        program.chmod(0o700)
    if config:
        (cell.folder / "config.json").write_text(json.dumps(config))
    return cell
