"""Why a job could not start, in words: what was asked for, and what the system said."""

from __future__ import annotations

import errno as codes
import os
import shutil

from .launch import expand, passwd_entry
from .ring import DIRECTORY, PROGRAM, STDERR, STDIN, STDOUT
from .wire import unpack

__all__ = ["not_started"]


def not_started(what: int, errno: int, blob: bytes, index: int | None, native: int) -> str:
    """The message of a job's ending; ``what`` and ``errno`` as the spawner recorded them."""
    spec = unpack(blob)
    home = passwd_entry()[1]
    task, number = b"%d" % index if index is not None else b"", b"%d" % native
    directory = expand(spec.get("d") or home, home, b"", task, number)

    def whole(key: str) -> str:
        path = expand(spec.get(key) or b"", home, directory, task, number)
        return os.fsdecode(os.path.join(directory, path))

    text = os.strerror(errno)
    if what == DIRECTORY:
        return f"its directory {os.fsdecode(directory)} cannot be entered: {text}"
    if what == STDIN:
        return f"its input {whole('0')} cannot be read: {text}"
    if what == STDOUT:
        return f"its output {whole('1')} cannot be written: {text}"
    if what == STDERR:
        return f"its error output {whole('2')} cannot be written: {text}"
    if what == PROGRAM:
        program = os.fsdecode(spec["a"][0])
        there = program if "/" in program else None
        if there is not None:
            there = os.path.join(os.fsdecode(directory), there)
            if errno == codes.ENOENT and os.path.exists(there):
                return f"its command {program} cannot be run: the interpreter in its first line, or its loader, is missing ({text})"
        elif errno == codes.ENOENT and shutil.which(program, path="/usr/local/bin:/usr/bin:/bin") is None:
            return f"its command {program} cannot be run: {text}; it is in no folder of the job's PATH"
        return f"its command {program} cannot be run: {text}"
    return f"its default streams could not be made: {text}"
