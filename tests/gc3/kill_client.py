"""A client that is killed at a chosen line of ``submit_job``, again and again; each time another submits the kept task again.

``python kill_client.py CELL FOLDER ROUNDS SEED``: prints how many died, and the labels of all tasks. Each job appends its label
to FOLDER/runs.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any

import gc3libs
import jobyard
from gc3.standin_backend import application, resource
from jobyard.testing.standin import Cell

SOURCES = tuple(os.path.dirname(os.path.abspath(module.__file__ or "")) for module in (jobyard, gc3libs))


class Killer:
    """Counts the lines of ours that this process runs, and kills it at the last one."""

    def __init__(self, last: int) -> None:
        self.count = 0
        self.last = last

    def __call__(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(SOURCES):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.last:
                os.write(2, f"killed at {frame.f_code.co_filename}:{frame.f_lineno}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def child(cell: Cell, folder: Path, kept: bytes, last: int) -> int:
    """A forked child that submits the task and dies at that line; its wait status."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    app, system = pickle.loads(kept), resource(cell)
    killer = Killer(last)
    sys.settrace(killer)
    try:
        system.submit_job(app)
    finally:
        sys.settrace(None)
    (folder / "lines").write_text(str(killer.count))
    os._exit(0)


def task(folder: Path, label: str) -> bytes:
    """A task as a program keeps it before it submits it."""
    (folder / "in").write_text(label)
    return pickle.dumps(
        application(["/bin/sh", "-c", f"cat in >> '{folder}/runs'; echo >> '{folder}/runs'"], folder, [folder / "in"])
    )


def main(cell: Cell, folder: Path, rounds: int, seed: int) -> str:
    """The rounds: how many died, and all labels."""
    rng = random.Random(seed)
    if child(cell, folder, task(folder, "whole"), 0):
        raise SystemExit("the round that nobody kills failed")
    lines = int((folder / "lines").read_text())
    labels, killed = ["whole"], 0
    for number in range(rounds):
        labels.append(f"r{number}")
        kept = task(folder, labels[-1])
        status = child(cell, folder, kept, rng.randint(lines // 4, lines))
        killed += os.WIFSIGNALED(status)
        if os.WIFEXITED(status) and status:
            raise SystemExit(f"round {number} ended with status {status}")
        system, app = resource(cell), pickle.loads(kept)
        system.submit_job(app)
        deadline = time.monotonic() + 60
        while system.update_job_state(app) != "TERMINATING":
            if time.monotonic() > deadline:
                raise SystemExit(f"round {number}: {app.execution.state}: {system._linked().job(app.execution).why()}")
            time.sleep(0.02)
        if app.execution.returncode != 0:
            raise SystemExit(f"round {number}: {app.execution.history}")
        system.close()
    return f"{killed} {' '.join(labels)}"


if __name__ == "__main__":
    sys.stdout.write(main(Cell(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
