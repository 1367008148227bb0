"""Jobs a second on HyperQueue, through the engine and by its bare Python package: section ``hyperqueue``.

``python -m bench.hyperqueue ours|bare COUNT`` is one contender: seconds from the submission to the last ending, two cores.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .measure import Figure, alternate, ratios, run_python, told

COUNT = 500
ROUNDS = 5
TRUE = "/bin/true"


def ours(count: int) -> float:
    """By submit_all: one submission, each job with its folder's receipts and its exact ending."""
    import jobyard
    from jobyard.folders import state_dir
    from jobyard.schedulers.hyperqueue import stop

    try:
        with jobyard.Session("hyperqueue?cores=2") as session:
            session.submit([TRUE]).wait().check()
            started = time.perf_counter()
            endings = session.wait_all(session.submit_all([[TRUE]] * count))
            taken = time.perf_counter() - started
            assert all(ending.exit_code == 0 for ending in endings)
    finally:
        stop(Path(state_dir()))
    return taken


def bare(count: int) -> float:
    """By LocalCluster and one job of as many tasks, without output files. It looks once a second whether all are over."""
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    folder = tempfile.mkdtemp(prefix="hq-")
    cluster = LocalCluster(server_dir=folder)
    cluster.start_worker(WorkerConfig(cores=2))
    client = cluster.client()

    def run(number: int) -> None:
        job = Job(default_workdir=folder)
        for _ in range(number):
            job.program([TRUE], stdout=None, stderr=None)
        assert client.wait_for_jobs([client.submit(job)])

    run(1)
    started = time.perf_counter()
    run(count)
    return time.perf_counter() - started


def figures() -> list[Figure]:
    """500 jobs of /bin/true, in turns."""
    values = alternate(
        {
            "ours": lambda: float(run_python("bench.hyperqueue", "ours", COUNT)),
            "bare": lambda: float(run_python("bench.hyperqueue", "bare", COUNT)),
        },
        ROUNDS,
    )
    return [
        told("through jobyard", [COUNT / s for s in values["ours"]], "jobs/s"),
        told("HyperQueue's bare package", [COUNT / s for s in values["bare"]], "jobs/s"),
        told("through jobyard, of the bare rate", ratios(values, "ours", "bare"), ""),
    ]


SECTIONS: dict[str, Callable[[], list[Figure]]] = (
    {"hyperqueue": figures} if importlib.util.find_spec("hyperqueue") is not None else {}
)

if __name__ == "__main__":
    print(json.dumps({"ours": ours, "bare": bare}[sys.argv[1]](int(sys.argv[2]))))
    sys.stdout.flush()
    os._exit(0)  # threads of the package do not end by themselves
