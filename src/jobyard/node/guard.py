"""What a scheduler leaves to the shepherd that has no limits, no way to end a job, and workers that may die: all three, here.

Loaded only for jobs whose traits say ``guarded`` (HyperQueue's Python package can neither limit nor cancel a task). A timer of
this process looks at three things: whether the walltime has passed, whether the file ``stop.N`` lies in the job's folder, and
whether the worker that started us is still our parent. The first that is so is the verdict; it is in the end receipt, which is
then final. The command gets TERM, and KILL after the grace.
"""

import posix
from time import monotonic, time

from .process import NOTED, decode, noted, read_file, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Tuple

__all__ = ["Guard"]

INTERVAL_S = 0.25
GRACE_S = 5.0  # from TERM to KILL


class Guard:
    """Watches over one task from now on. ``verdict``: the cause of the job's end, and what to say; None: it ends by itself."""

    def __init__(self, folder: "bytes", number: "int", walltime_s: "Optional[float]") -> "None":
        self.verdict = None  # type: Optional[Tuple[str, str]]
        self._stop = folder + b"/stop.%d" % number
        self._parent = posix.getppid()
        self._walltime_s = walltime_s
        self._deadline = None if walltime_s is None else monotonic() + walltime_s
        self._kill_at = 0.0

    def start(self) -> "None":
        """Look now, then again and again."""
        self._look()
        NOTED.pop(signal.SIGALRM, None)  # ours from now on: it must never be passed on to the command
        signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, INTERVAL_S, INTERVAL_S)

    def stop(self) -> "None":
        """Look no more."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _tick(self, number: "int", frame: "object") -> "None":
        self._look()

    def _look(self) -> "None":
        now = monotonic()
        if self.verdict is None:
            self.verdict = self._found(now)
            if self.verdict is None:
                return
            self._kill_at = now + GRACE_S
            noted.append(("SIGTERM", time()))  # stages that are still to come must know
            self._send(signal.SIGTERM)
        elif now >= self._kill_at:
            self._send(signal.SIGKILL)

    def _found(self, now: "float") -> "Optional[Tuple[str, str]]":
        if self._deadline is not None and now >= self._deadline:
            return "walltime", "it ran for longer than its walltime of %g s" % (self._walltime_s or 0.0)
        if posix.getppid() != self._parent:
            return "node", "the worker that ran it is gone"
        try:
            posix.stat(self._stop)
        except OSError:
            return None
        return "cancelled", "cancelled"

    def _send(self, number: "int") -> "None":
        for pid in _others():
            try:
                posix.kill(pid, number)
            except OSError:
                pass  # it has ended


def _others() -> "List[int]":
    """The other processes of our group: the command and what it started. Where the group is not ours, our children alone."""
    us, group = posix.getpid(), posix.getpgid(0)
    found = []
    for name in posix.listdir("/proc"):
        if name.isdigit() and int(name) != us:
            try:
                stat = decode(read_file(b"/proc/%s/stat" % name.encode()))
            except OSError:
                continue  # it has ended
            state, parent, its_group = stat.rpartition(")")[2].split()[:3]
            if state not in "ZX" and (int(its_group) == group if group == us else int(parent) == us):
                found.append(int(name))
    return found
