"""Several shell commands sent as one, each answer in a frame of its own. Pure.

Hooks of a batch system ask about one job at a time; a transport is asked once. A frame begins and ends with a line on both
streams that holds a mark made of the commands themselves, so that what a login prints around them, or a job's name, is not
taken for one.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobyard.fronts import Command, Result

__all__ = ["Ask", "Frame", "frames", "one_command"]

_SECONDS_EACH = 2.0
_HEAD = """\
mark() { printf '\\n%s %s\\n' "$1" "$2"; printf '\\n%s %s\\n' "$1" "$2" >&2; }
"""


class Ask(NamedTuple):
    """One question: what it is about, and the shell's command line for it. ``unless``: only where the last one failed."""

    kind: str
    native_id: str
    command: str
    if_failed: bool = False


class Frame(NamedTuple):
    """One answer."""

    kind: str
    native_id: str
    code: int
    out: str
    err: str


def one_command(asks: Iterable[Ask]) -> Command:
    """All of them as one command for the transport, read by ``frames``."""
    lines = [_HEAD]
    count = 0
    for ask in asks:
        count += 1
        name = shlex.quote(f"{ask.kind} {ask.native_id}")
        run = f'mark "$1" "begin "{name}; /bin/sh -c {shlex.quote(ask.command)} </dev/null; code=$?; mark "$1" "end $code "{name}\n'
        lines.append(f'if [ "$code" != 0 ]; then {run}fi\n' if ask.if_failed else run)
    lines.append('mark "$1" over\n')
    script = "".join(lines).encode("utf-8", "surrogateescape")
    mark = "jobyard-" + hashlib.sha256(script).hexdigest()[:20]
    return Command(argv=("/bin/sh", "-s", mark), stdin=script, timeout_s=60.0 + _SECONDS_EACH * count)


def frames(result: Result) -> tuple[Sequence[Frame], bool]:
    """The answers that are there whole, and whether all are."""
    mark = re.escape(result.argv[-1])
    pattern = re.compile(rf"\n{mark} begin (\S+) (\S*)\n(.*?)\n{mark} end (\d+) \1 \2\n", re.DOTALL)
    errors = {(found[1], found[2]): found[3] for found in pattern.finditer(_text(result.stderr))}
    whole = []
    text = _text(result.stdout)
    for found in pattern.finditer(text):
        kind, native_id = found[1], found[2]
        if (kind, native_id) in errors:
            whole.append(Frame(kind, native_id, int(found[4]), found[3], errors[kind, native_id]))
    return whole, result.returncode == 0 and text.endswith(f"\n{result.argv[-1]} over\n")


def _text(data: bytes) -> str:
    return "\n" + data.decode("utf-8", "surrogateescape")
