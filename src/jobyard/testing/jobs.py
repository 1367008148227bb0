"""Small commands that test jobs run: nothing but ``/bin/sh``, ``/bin/sleep`` and this Python, by absolute path.

Each function returns an argv. A job gets no PATH on some schedulers, so none is needed. What a job must wait for is a
file ("gate") that the test makes: files are seen wherever the job runs, which a pipe or a socket is not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = [
    "SIGNALS",
    "allocate",
    "append",
    "dump_core",
    "exit_by_index",
    "exit_with",
    "gated",
    "noisy",
    "report",
    "shell",
    "signal_by_index",
    "signal_itself",
    "sleep",
    "succeed",
    "trap",
]

Path = str | os.PathLike[str]

# Those that a shell can send itself everywhere; the first is index 1 of ``signal_by_index``.
SIGNALS = ("HUP", "INT", "QUIT", "ILL", "ABRT", "FPE", "KILL", "SEGV", "PIPE", "ALRM", "TERM", "USR1")

# The longest that a gated job waits: an interrupted test run leaves nothing behind for longer.
_GATE_LOOPS = 6000


def shell(script: str, *arguments: Path) -> list[str]:
    """``/bin/sh`` on a script of the test's own; ``$1`` and on are the arguments."""
    return ["/bin/sh", "-c", script, "sh", *[os.fspath(a) for a in arguments]]


def succeed() -> list[str]:
    """Exit code 0, at once."""
    return ["/bin/true"]


def exit_with(code: int) -> list[str]:
    """That exit code, at once."""
    return shell('exit "$1"', str(code))


def exit_by_index() -> list[str]:
    """For arrays: task 1 exits with 0, task 256 with 255."""
    return shell("exit $((JOBYARD_TASK_INDEX - 1))")


def signal_itself(name: str) -> list[str]:
    """Death by that signal (``"TERM"``), without a core dump."""
    return shell('ulimit -c 0; kill -"$1" $$; /bin/sleep 5', name)


def signal_by_index() -> list[str]:
    """For arrays: task n dies of the n-th of SIGNALS, without a core dump."""
    return shell('ulimit -c 0; shift $((JOBYARD_TASK_INDEX - 1)); kill -"$1" $$; /bin/sleep 5', *SIGNALS)


def dump_core() -> list[str]:
    """Death by SIGABRT with as much of a core dump as the node allows."""
    return shell("ulimit -c unlimited 2>/dev/null || ulimit -c $(ulimit -H -c); kill -ABRT $$")


def sleep(seconds: float) -> list[str]:
    """Sleep, then exit 0."""
    return ["/bin/sleep", f"{seconds:g}"]


def append(log: Path, word: str, *, seconds: float = 0) -> list[str]:
    """Append ``begin WORD INDEX`` and, after a while, ``end WORD INDEX`` to a log; each line is one write in append mode."""
    return shell(
        'echo "begin $2 ${JOBYARD_TASK_INDEX:--}" >>"$1"; '
        'if [ "$3" != 0 ]; then /bin/sleep "$3"; fi; '
        'echo "end $2 ${JOBYARD_TASK_INDEX:--}" >>"$1"',
        log,
        word,
        f"{seconds:g}",
    )


def gated(gate: Path, code: int = 0, *, begun: Path | None = None) -> list[str]:
    """Append a line to ``begun``, wait until the file ``gate`` is there, exit with ``code``. Gives up in the end: exit 86."""
    return shell(
        'if [ -n "$3" ]; then echo "begin ${JOBYARD_TASK_INDEX:--}" >>"$3"; fi; n=0; '
        f'until [ -e "$1" ]; do /bin/sleep 0.05; n=$((n + 1)); [ $n -lt {_GATE_LOOPS} ] || exit 86; done; exit "$2"',
        gate,
        str(code),
        begun or "",
    )


def trap(log: Path, names: Sequence[str], *, code: int = 0) -> list[str]:
    """Write ``ready`` to a log, then the name of each signal got; after the first signal exit with ``code``."""
    traps = " ".join(f"trap 'echo {name} >>\"$1\"; exit {code}' {name};" for name in names)
    # The shell runs a trap only between commands, hence the short sleeps.
    return shell(f'{traps} echo ready >>"$1"; n=0; while [ $n -lt {_GATE_LOOPS} ]; do /bin/sleep 0.05; n=$((n + 1)); done', log)


def noisy(blocks: int) -> list[str]:
    """So many KiB of ``x`` to standard output, and one line to standard error."""
    program = "import os, sys\nfor _ in range(int(sys.argv[1])): os.write(1, b'x' * 1024)\nos.write(2, b'done\\n')"
    return [sys.executable, "-I", "-S", "-c", program, str(blocks)]


def allocate(n_bytes: int, *, seconds: float) -> list[str]:
    """Use that much memory, every page of it, and keep it for a while."""
    program = "import sys, time\nkept = b'x' * int(sys.argv[1])\ntime.sleep(float(sys.argv[2]))"
    return [sys.executable, "-I", "-S", "-c", program, str(n_bytes), f"{seconds:g}"]


_REPORT = """
import os, sys
with open("/proc/self/cmdline", "rb") as file: words = file.read().split(b"\\0")[6:-1]
with open("/proc/self/environ", "rb") as file: pairs = file.read().split(b"\\0")[:-1]
parts = [os.getcwdb(), b"%d" % len(words), *words, *pairs]
with open(os.fsencode(sys.argv[1]) + b".part", "wb") as file: file.write(b"\\0".join(parts))
os.rename(os.fsencode(sys.argv[1]) + b".part", os.fsencode(sys.argv[1]))
"""


def report(path: Path, *words: str) -> list[str]:
    """Write, exactly, the job's directory, the words that follow ``path`` and the environment; read it by ``read_report``.

    From /proc, because Python adds to its own environment in the C locale. Linux only.
    """
    return [sys.executable, "-I", "-S", "-c", _REPORT, os.fspath(path), *words]


def read_report(path: Path) -> tuple[bytes, list[bytes], dict[bytes, bytes]]:
    """Directory, words and environment that a ``report`` job saw."""
    with open(path, "rb") as file:
        directory, count, *rest = file.read().split(b"\0")
    n = int(count)
    return directory, rest[:n], dict(pair.split(b"=", 1) for pair in rest[n:] if pair)
