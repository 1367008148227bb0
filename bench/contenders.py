"""Programs that are timed, each run in an interpreter of its own: ``python -m bench.contenders NAME [ARGUMENT ...]``.

Each prints one JSON value.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

TRUE = "/bin/true"


def bare(count: str, flying: str) -> float:
    """Seconds for so many posix_spawn and wait, so many in flight."""
    env, left, live = dict(os.environ), int(count), 0
    started = time.perf_counter()
    while left or live:
        while left and live < int(flying):
            os.posix_spawn(TRUE, [TRUE], env)
            left, live = left - 1, live + 1
        os.wait()
        live -= 1
    return time.perf_counter() - started


def submit_all(count: str) -> float:
    """Seconds from submit_all to the last ending."""
    import jobyard

    with jobyard.Session("local") as session:
        session.submit([TRUE]).wait().check()
        started = time.perf_counter()
        endings = session.wait_all(session.submit_all([[TRUE]] * int(count)))
        taken = time.perf_counter() - started
        assert all(ending.exit_code == 0 for ending in endings)
    return taken


def one_by_one(count: str) -> float:
    """Seconds from the first submit to the last ending; each is accepted durably before the next."""
    import jobyard

    with jobyard.Session("local") as session:
        session.submit([TRUE]).wait().check()
        started = time.perf_counter()
        jobs = [session.submit([TRUE]) for _ in range(int(count))]
        endings = session.wait_all(jobs)
        taken = time.perf_counter() - started
        assert all(ending.exit_code == 0 for ending in endings)
    return taken


def latencies(count: str) -> dict[str, list[float]]:
    """Milliseconds, idle: end of a job to wait() returning; submit to the command's first instruction."""
    import jobyard

    program = "import os, time; os.write(1, str(time.time_ns()).encode())"
    # A C program would be nearer to its first instruction; /bin/date prints nanoseconds and starts in under a millisecond.
    ends, starts = [], []
    with jobyard.Session("local") as session:
        session.submit([TRUE]).wait().check()
        for _ in range(int(count)):
            before = time.time_ns()
            job = session.submit(["/bin/date", "+%s%N"])
            job.wait().check()
            path = job.stdout_path
            assert path is not None
            with open(path) as file:
                starts.append((int(file.read()) - before) / 1e6)
            job = session.submit([sys.executable, "-I", "-S", "-c", f"{program}; os._exit(0)"])
            job.wait().check()
            after = time.time_ns()
            path = job.stdout_path
            assert path is not None
            with open(path) as file:
                ends.append((after - int(file.read())) / 1e6)
    return {"end_to_wait_ms": ends, "submit_to_first_ms": starts}


def client_memory(count: str) -> dict[str, float]:
    """Bytes of this process for each tracked, unfinished job, and how many threads it has."""
    import gc
    import threading
    import tracemalloc

    import jobyard

    with jobyard.Session("local?slots=1") as session:
        blocker = session.submit(["/bin/sleep", "600"])
        session.submit([TRUE])
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        jobs = session.submit_all([TRUE] for _ in range(int(count)))
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        threads = threading.active_count()
        session.cancel(jobs)
        blocker.cancel()
        session.wait_all(timeout=120)
    return {"bytes": used / int(count), "threads": threads}


def fill(count: str) -> str:
    """Make a session of so many finished jobs, and print its contact."""
    import jobyard

    with jobyard.Session("local") as session:
        jobs = session.submit_all([TRUE] for _ in range(int(count)))
        session.cancel(jobs)
        session.wait_all(jobs)
        return session.contact


def reopen(contact: str) -> float:
    """Seconds to open a session and have all its jobs with their states."""
    import jobyard

    started = time.perf_counter()
    with jobyard.Session(contact) as session:
        jobs = session.jobs()
        finished = sum(job.state.final for job in jobs)
    taken = time.perf_counter() - started
    assert finished == len(jobs) > 1000
    return taken


def spawn_time(count: str, *argv: str) -> float:
    """Median seconds of running a program, so many times."""
    import subprocess

    samples = []
    for _ in range(int(count)):
        started = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


CONTENDERS: dict[str, Callable[..., object]] = {
    function.__name__: function for function in (bare, submit_all, one_by_one, latencies, client_memory, fill, reopen, spawn_time)
}

if __name__ == "__main__":
    print(json.dumps(CONTENDERS[sys.argv[1]](*sys.argv[2:])))
