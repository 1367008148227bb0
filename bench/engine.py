"""The engine's figures on the embedded scheduler, with the product's defaults: durable commits, journal, streams, usage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .measure import ROOT, Figure, alternate, at_least, ratios, run_python, told, under
from .peers import python_of

COUNT = 2000
ROUNDS = 7


def _contender(name: str, *arguments: object) -> float:
    return float(run_python("bench.contenders", name, *arguments))


def rate() -> list[Figure]:
    """2,000 jobs of /bin/true against a bare loop of posix_spawn and wait, two in flight."""
    values = alternate(
        {
            "bare": lambda: _contender("bare", COUNT, 2),
            "all": lambda: _contender("submit_all", COUNT),
            "one": lambda: _contender("one_by_one", COUNT),
        },
        ROUNDS,
    )
    return [
        told("bare posix_spawn+wait, two in flight", [COUNT / s for s in values["bare"]], "jobs/s"),
        told("submit_all to last ending", [COUNT / s for s in values["all"]], "jobs/s"),
        told("one by one, each durable", [COUNT / s for s in values["one"]], "jobs/s"),
        at_least("submit_all, of the bare rate", ratios(values, "all", "bare"), 0.75),
        at_least("one by one, of the bare rate", ratios(values, "one", "bare"), 0.5),
    ]


def peers() -> list[Figure]:
    """The same 2,000 beside psij-python and HyperQueue."""
    psij, queue = python_of("psij"), python_of("hyperqueue")
    here = str(ROOT / "bench")
    values = alternate(
        {
            "jobyard": lambda: _contender("submit_all", COUNT),
            "psij": lambda: float(run_python(f"{here}/peer_psij.py", COUNT, python=psij)),
            "hyperqueue": lambda: float(run_python(f"{here}/peer_hyperqueue.py", COUNT, python=queue)),
        },
        5,
    )
    return [
        told("psij-python 0.9.11, local", [COUNT / s for s in values["psij"]], "jobs/s"),
        told("HyperQueue 0.27.0, local cluster, 2 cores", [COUNT / s for s in values["hyperqueue"]], "jobs/s"),
        at_least("times psij-python", ratios(values, "jobyard", "psij"), 8, "x"),
        at_least("times HyperQueue", ratios(values, "jobyard", "hyperqueue"), 3, "x"),
    ]


def latency() -> list[Figure]:
    """Idle: from submit to the command, from its end to wait()."""
    samples = run_python("bench.contenders", "latencies", 100)
    return [
        under("end of a job to wait() returning", samples["end_to_wait_ms"], 2, "ms"),
        under("submit to the command's first instruction", samples["submit_to_first_ms"], 3, "ms"),
    ]


def memory() -> list[Figure]:
    """The client's memory for each unfinished job."""
    few, many = (run_python("bench.contenders", "client_memory", count) for count in (1000, 20000))
    return [
        under("client memory for an unfinished job", [many["bytes"]], 400, "bytes"),
        under("threads with 20,000 jobs beyond those with 1,000", [many["threads"] - few["threads"]], 1, "threads"),
    ]


def large() -> list[Figure]:
    """A session of 100,000 jobs: reopened, and its newest listed by the command."""
    folder = Path(tempfile.mkdtemp(prefix="bench-large-"))
    env = {
        "JOBYARD_STATE_DIR": f"{folder}/state",
        "JOBYARD_WORK_DIR": f"{folder}/work",
        "JOBYARD_CONFIG": f"{folder}/config.toml",
    }
    (folder / "work").mkdir()
    try:
        contact = run_python("bench.contenders", "fill", 100_000, env=env)
        reopened = [float(run_python("bench.contenders", "reopen", contact, env=env)) for _ in range(5)]
        listing = [sys.executable, "-m", "jobyard", "ls", "--contact", contact]
        shown = subprocess.run(listing, env={**os.environ, **env}, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
        assert shown.count(b"\n") >= 50, shown
        listed = [float(run_python("bench.contenders", "spawn_time", 3, *listing, env=env)) for _ in range(5)]
    finally:
        from jobyard.schedulers.local import stop

        stop(folder / "state")
        shutil.rmtree(folder, ignore_errors=True)
    return [
        under("reopening a session of 100,000 jobs", reopened, 0.5, "s"),
        under("jobyard ls of the newest 50 among 100,000", listed, 0.25, "s"),
    ]


def imports() -> list[Figure]:
    """Start-up beyond bare Python."""
    python = sys.executable
    values = alternate(
        {
            "bare": lambda: _contender("spawn_time", 5, python, "-c", "pass"),
            "jobyard": lambda: _contender("spawn_time", 5, python, "-c", "import jobyard"),
            "help": lambda: _contender("spawn_time", 5, python, "-m", "jobyard", "--help"),
        },
        7,
    )
    beyond = {name: [(a - b) * 1e3 for a, b in zip(values[name], values["bare"], strict=True)] for name in ("jobyard", "help")}
    return [
        under("import jobyard, beyond bare Python", beyond["jobyard"], 60, "ms"),
        under("jobyard --help, beyond bare Python", beyond["help"], 120, "ms"),
    ]


SECTIONS = {"rate": rate, "peers": peers, "latency": latency, "memory": memory, "large": large, "imports": imports}

if __name__ == "__main__":
    print(json.dumps(sorted(SECTIONS)))
