"""A client that is killed at a chosen line of jobyard's own code, again and again, each time in a fresh child.

``python kill_client.py CONTACT FOLDER KILLS SEED``: each round opens the session, submits a job, three at once and an array
of two, and dies somewhere on the way; one that was done before its line came does not count. A label goes to FOLDER/accepted
once the call that submitted it has returned; each job appends its label to FOLDER/runs. Prints how many children died.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import types
from typing import Any

import jobyard

SOURCES = os.path.dirname(os.path.abspath(jobyard.__file__))


def note(path: str, *labels: str) -> None:
    """Append labels, durably."""
    with open(path, "a") as file:
        file.write("".join(f"{label}\n" for label in labels))
        file.flush()
        os.fsync(file.fileno())


def command(folder: str, label: str) -> list[str]:
    """A job that says that it ran."""
    return ["/bin/sh", "-c", 'echo "$1${JOBYARD_TASK_INDEX:+.$JOBYARD_TASK_INDEX}" >> "$2"', "sh", label, f"{folder}/runs"]


def submit(contact: str, folder: str, label: str) -> None:
    """One round's submissions."""
    with jobyard.Session(contact) as session:
        session.submit(command(folder, f"{label}-a"), name=f"{label}-a")
        note(f"{folder}/accepted", f"{label}-a")
        session.submit_all(
            [jobyard.JobDescription(argv=tuple(command(folder, f"{label}-{n}")), name=f"{label}-{n}") for n in "bcd"]
        )
        note(f"{folder}/accepted", *[f"{label}-{n}" for n in "bcd"])
        session.submit_array(command(folder, f"{label}-e"), [3, 8], name=f"{label}-e")
        note(f"{folder}/accepted", f"{label}-e.3", f"{label}-e.8")


class Killer:
    """Counts lines of jobyard's code that this process runs, and kills it at the last one."""

    def __init__(self, last: int) -> None:
        self.count = 0
        self.last = last

    def __call__(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(SOURCES):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def child(contact: str, folder: str, label: str, last: int) -> int:
    """A forked child that submits and dies at that line; the wait status. It tells how many lines it ran, if it lives."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    killer = Killer(last)
    sys.settrace(killer)
    try:
        submit(contact, folder, label)
    finally:
        sys.settrace(None)
    with open(f"{folder}/lines", "w") as file:
        file.write(str(killer.count))
    os._exit(0)


def main(contact: str, folder: str, kills: int, seed: int) -> int:
    """Rounds until so many died, at most twice as many; how many did."""
    rng = random.Random(seed)
    if child(contact, folder, "whole", 0):
        raise SystemExit("the round that nobody kills failed")
    with open(f"{folder}/lines") as file:
        lines = int(file.read())
    killed = 0
    for number in range(2 * kills):
        if killed == kills:
            break
        status = child(contact, folder, f"r{number}", rng.randint(1, lines))
        if os.WIFSIGNALED(status):
            killed += 1
        elif status:
            raise SystemExit(f"round {number} ended with status {status}")
    return killed


if __name__ == "__main__":
    sys.stdout.write(str(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
