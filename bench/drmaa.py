"""The DRMAA front's figures on the embedded scheduler: ``python -m bench.drmaa``, or the section ``drmaa`` of the bench.

What is timed runs in interpreters of its own (``python -m bench.drmaa NAME``), in folders of its own.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .measure import Figure, alternate, at_least, ratios, report, run_python, told, under

TRUE = "/bin/true"
CALLS = 1000
STATUSES = 10_000
ROUNDS = 5


# Sections -----------------------------------------------------------------------------------------------------------------


def submission() -> list[Figure]:
    """runJob beside the engine's own submit; runBulkJobs of 1,000 tasks."""
    values = alternate({"front": lambda: _timed("run_job"), "engine": lambda: _timed("submit")}, ROUNDS)
    bulk = [1000 * float(_timed("run_bulk")) for _ in range(ROUNDS)]
    return [
        told("runJob (durable, held), calls a second", [CALLS / s for s in values["front"]], "calls/s"),
        at_least("runJob, of the engine's own submit", ratios(values, "front", "engine"), 0.7),
        under("runBulkJobs(1, 1000, 1)", bulk, 50, "ms"),
    ]


def endings() -> list[Figure]:
    """From the end of a job to the return of wait()."""
    return [under("end of a job to wait() returning", _run("end_to_wait"), 5, "ms")]


def status() -> list[Figure]:
    """10,000 jobStatus calls on 100 unfinished jobs, and what they ask of the scheduler."""
    found = [_run("status") for _ in range(ROUNDS)]
    return [
        under("10,000 jobStatus calls", [one["seconds"] for one in found], 1, "s"),
        under("requests to the scheduler by them", [one["requests"] for one in found], 1, "requests"),
    ]


def imports() -> list[Figure]:
    """import drmaa, beyond bare Python."""
    spawn = [sys.executable, "-c"]
    values = alternate(
        {
            "bare": lambda: float(run_python("bench.contenders", "spawn_time", 5, *spawn, "pass")),
            "drmaa": lambda: float(run_python("bench.contenders", "spawn_time", 5, *spawn, "import drmaa")),
        },
        7,
    )
    beyond = [1000 * (a - b) for a, b in zip(values["drmaa"], values["bare"], strict=True)]
    return [under("import drmaa, beyond bare Python", beyond, 60, "ms")]


def figures() -> list[Figure]:
    """All of them."""
    return [*submission(), *endings(), *status(), *imports()]


SECTIONS: dict[str, Callable[[], list[Figure]]] = {"drmaa": figures}


# What is timed -------------------------------------------------------------------------------------------------------------


def _run(name: str) -> Any:
    return run_python("bench.drmaa", name)


def _timed(name: str) -> float:
    return float(_run(name))


def _template(session: Any, command: str, *args: str) -> Any:
    template = session.createJobTemplate()
    template.remoteCommand, template.args = command, args
    template.workingDirectory, template.outputPath, template.joinFiles = "/", ":/dev/null", True
    return template


def _begun() -> Any:
    """A session that has run a job."""
    import drmaa

    session = drmaa.Session()
    session.initialize("local")
    session.wait(session.runJob(_template(session, TRUE)))
    return session


def _end(session: Any) -> None:
    """Terminate what is held, and leave."""
    session.control(session.JOB_IDS_SESSION_ALL, "terminate")
    session.synchronize([session.JOB_IDS_SESSION_ALL], dispose=True)
    session.exit()


def run_job() -> float:
    """Seconds of so many runJob calls, each durable before it returns; held, so that none runs meanwhile."""
    session = _begun()
    template = _template(session, TRUE)
    template.jobSubmissionState = "drmaa_hold"
    began = time.perf_counter()
    for _ in range(CALLS):
        session.runJob(template)
    taken = time.perf_counter() - began
    _end(session)
    return taken


def submit() -> float:
    """Seconds of as many of the engine's own calls for the same job."""
    import jobyard
    from jobyard.fronts import Inherit

    with jobyard.Session("local") as session:
        session.submit([TRUE]).wait()
        job = jobyard.JobDescription(
            argv=(TRUE,), directory="/", inherit=Inherit.NODE, stdout="/dev/null", join_streams=True, hold=True
        )
        began = time.perf_counter()
        jobs = [session.submit(job) for _ in range(CALLS)]
        taken = time.perf_counter() - began
        session.cancel()
        session.wait_all(jobs)
    return taken


def run_bulk() -> float:
    """Seconds of one runBulkJobs call for 1,000 tasks, held so that none runs meanwhile."""
    session = _begun()
    template = _template(session, TRUE)
    template.jobSubmissionState = "drmaa_hold"
    began = time.perf_counter()
    jobs = session.runBulkJobs(template, 1, 1000, 1)
    taken = time.perf_counter() - began
    assert len(jobs) == 1000
    _end(session)
    return taken


def end_to_wait() -> list[float]:
    """Milliseconds from a job's last instruction to wait(), of 50 jobs."""
    session = _begun()
    path = Path(tempfile.mkdtemp(prefix="bench-")) / "end"
    program = f"import os, time; open({str(path)!r}, 'w').write(str(time.time_ns())); os._exit(0)"
    template = _template(session, sys.executable, "-I", "-S", "-c", program)
    found = []
    try:
        for _ in range(50):
            assert session.wait(session.runJob(template)).exitStatus == 0
            after = time.time_ns()
            found.append((after - int(path.read_text() or after)) / 1e6)
    finally:
        shutil.rmtree(path.parent)
        session.exit()
    return found


def status_calls() -> dict[str, float]:
    """Seconds of 10,000 jobStatus calls, and the requests that they made."""
    from jobyard.schedulers.local.connection import Connection

    session = _begun()
    template = _template(session, TRUE)
    template.jobSubmissionState = "drmaa_hold"
    jobs = session.runBulkJobs(template, 1, 100, 1)
    count = 0
    request = Connection.request

    def counted(self: Connection, *arguments: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        return request(self, *arguments, **more)

    Connection.request = counted  # type: ignore[method-assign]  # counted for this program only
    began = time.perf_counter()
    for _ in range(STATUSES // len(jobs)):
        for job in jobs:
            session.jobStatus(job)
    taken = time.perf_counter() - began
    requests = count
    _end(session)
    return {"seconds": taken, "requests": requests}


TIMED: dict[str, Callable[[], Any]] = {
    "run_job": run_job,
    "submit": submit,
    "run_bulk": run_bulk,
    "end_to_wait": end_to_wait,
    "status": status_calls,
}


def main(arguments: list[str]) -> int:
    """Time one thing and print it as JSON; without a name, all sections as a table and as bench/out/drmaa.json."""
    if not arguments:
        return 0 if report("drmaa", figures()) else 1
    found = TIMED[arguments[0]]()
    print(json.dumps(found))
    _stop()
    return 0


def _stop() -> None:
    """The folders of this program go when it ends; so does its scheduler."""
    from jobyard.fronts import state_dir
    from jobyard.schedulers.local import stop

    stop(state_dir())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
