"""Writing values into shell scripts."""

from __future__ import annotations

import pathlib
import shlex

__all__ = ["bash_escape"]


def bash_escape(o: object) -> str:
    """A value as one word of a bash script, for use outside quotes; paths are made absolute.

    As the ``escape`` of a TemplatedScriptGenerator it means more: there each value is written as the place where it
    stands asks for, between double or single quotes, outside them, or in a directive.
    """
    if isinstance(o, int | float):
        return str(o)
    if isinstance(o, pathlib.Path):
        o = o.absolute()
    return shlex.quote(str(o))
