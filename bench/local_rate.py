"""The embedded scheduler against bare posix_spawn and wait, two in flight: how much of the bare rate is left.

    python bench/local_rate.py [--jobs 2000] [--rounds 5] [--json FILE]

Each round measures bare, all at once, bare, one by one, bare; a figure is its ratio to the mean of the bare runs beside it.
Defaults are on: a durable commit for each acceptance, default streams, usage. Also latencies on an idle scheduler.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jobyard.job import JobDescription
from jobyard.keeper import Update
from jobyard.schedulers.local import LocalScheduler, stop

TRUE = "/bin/true"


def bare(jobs: int, in_flight: int = 2) -> float:
    """Jobs a second of posix_spawn and wait from this one process."""
    environment = dict(os.environ)
    live = 0
    begun = time.perf_counter()
    for _ in range(jobs):
        if live == in_flight:
            os.wait()
            live -= 1
        os.posix_spawn(TRUE, ["true"], environment)
        live += 1
    while live:
        os.wait()
        live -= 1
    return jobs / (time.perf_counter() - begun)


class Client:
    """One keeper, and the count of endings."""

    def __init__(self, state_dir: Path) -> None:
        self.ended = 0
        self.keeper = LocalScheduler(state_dir, {"slots": "2", "idle": "5"}).open_keeper(None, self.sink)
        self.description = JobDescription(argv=(TRUE,), directory="/tmp")

    def sink(self, updates: Sequence[Update]) -> None:
        """What the keeper feeds."""
        self.ended += sum(update.ending is not None for update in updates)

    def together(self, jobs: int) -> float:
        """Jobs a second, submitted in one call."""
        goal = self.ended + jobs
        begun = time.perf_counter()
        self.keeper.submit([self.description] * jobs)
        self.keeper.wait_until(lambda: self.ended >= goal, None)
        return jobs / (time.perf_counter() - begun)

    def one_by_one(self, jobs: int) -> float:
        """Jobs a second, each accepted durably before the next."""
        goal = self.ended + jobs
        begun = time.perf_counter()
        for _ in range(jobs):
            self.keeper.submit([self.description])
        self.keeper.wait_until(lambda: self.ended >= goal, None)
        return jobs / (time.perf_counter() - begun)

    def _reached(self, goal: int) -> Callable[[], bool]:
        return lambda: self.ended >= goal

    def latencies(self, count: int) -> tuple[float, float]:
        """Medians, in seconds: submission to the command's first instruction; a job's last instruction to wait_until."""
        firsts, lasts = [], []
        with tempfile.TemporaryDirectory() as folder:
            first, last = os.path.join(folder, "first"), os.path.join(folder, "last")
            for _ in range(count):
                reading = [os.open(path, os.O_RDONLY | os.O_NONBLOCK) for path in _fifos(first)]
                goal = self.ended + 1
                job = JobDescription(argv=("/bin/sh", "-c", f"echo >{first}; read x <{last}"), directory="/tmp")
                os.mkfifo(last)
                begun = time.perf_counter()
                self.keeper.submit([job])
                _readable(reading[0])
                firsts.append(time.perf_counter() - begun)
                time.sleep(0.02)  # let everything come to rest
                writing = os.open(last, os.O_WRONLY)
                begun = time.perf_counter()
                os.close(writing)
                self.keeper.wait_until(self._reached(goal), None)
                lasts.append(time.perf_counter() - begun)
                os.close(reading[0])
                os.unlink(first)
                os.unlink(last)
        return statistics.median(firsts), statistics.median(lasts)


def _fifos(*paths: str) -> Sequence[str]:
    for path in paths:
        os.mkfifo(path)
    return paths


def _readable(fd: int) -> None:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while not poll.poll():
        pass


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: dict[str, list[float]] = {"together": [], "one by one": [], "bare": []}
    with tempfile.TemporaryDirectory(prefix="rate-") as folder:
        state = Path(folder) / "state"
        client = Client(state)
        client.together(50)
        pids = (client.keeper._connection.server_pid, client.keeper._connection.spawner_pid)
        before = [cpu_of(pid) for pid in pids]
        total = 0
        for _ in range(options.rounds):
            first = bare(options.jobs)
            together = client.together(options.jobs)
            second = bare(options.jobs)
            single = client.one_by_one(options.jobs)
            third = bare(options.jobs)
            rows["bare"] += [first, second, third]
            rows["together"].append(together / ((first + second) / 2))
            rows["one by one"].append(single / ((second + third) / 2))
            total += 2 * options.jobs
            print(
                f"bare {first:.0f} {second:.0f} {third:.0f}/s  together {together:.0f}/s = {rows['together'][-1]:.2f}"
                f"  one by one {single:.0f}/s = {rows['one by one'][-1]:.2f}",
                file=sys.stderr,
            )
        used = [cpu_of(pid) - start for pid, start in zip(pids, before, strict=True)]
        submit, end = client.latencies(50)
        client.keeper.close()
        stop(state)
    figures = {
        "bare posix_spawn+wait, two in flight, jobs/s": _spread(rows["bare"]),
        "together / bare": _spread(rows["together"]),
        "one by one / bare": _spread(rows["one by one"]),
        "server CPU, us/job": used[0] / total * 1e6,
        "spawner CPU, us/job": used[1] / total * 1e6,
        "submit to first instruction, ms (median)": submit * 1e3,
        "end to wait_until, ms (median)": end * 1e3,
    }
    for name, value in figures.items():
        shown = f"{value['median']:.2f} ({value['low']:.2f}-{value['high']:.2f})" if isinstance(value, dict) else f"{value:.2f}"
        print(f"{name:50} {shown}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


if __name__ == "__main__":
    main()
