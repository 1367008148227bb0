"""Seconds to submit so many jobs to Slurm, as JSON: ``slurm_submit.py HOW COUNT``.

HOW: ``psij`` (one submit call for each, whichever psij this Python has), ``psij_many`` (ours: submit_many), ``engine`` and
``engine_all`` (one submit call for each, and submit_all), ``engine_cold`` (submit_all, the site's limits not yet asked), ``sbatch``
(the bare command). The jobs may not begin before an hour has passed, so that only submission is timed, and are cancelled then.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

BEGIN = "now+1hour"

Timed = tuple[float, Sequence[str]]


def _timed(submit: Callable[[], Sequence[str]]) -> Timed:
    began = time.perf_counter()
    ids = submit()
    return time.perf_counter() - began, ids


def psij(count: int, many: bool = False) -> Timed:
    import psij

    executor = psij.JobExecutor.get_instance("slurm")

    def made(number: int) -> "list[psij.Job]":
        attributes = [psij.JobAttributes(custom_attributes={"slurm.begin": BEGIN}) for _ in range(number)]
        return [psij.Job(psij.JobSpec(executable="/bin/true", attributes=one)) for one in attributes]

    def submit(jobs: "list[psij.Job]") -> "list[str]":
        if many:
            executor.submit_many(jobs)
        else:
            for job in jobs:
                executor.submit(job)
        return [str(job.native_id) for job in jobs]

    first = submit(made(2))  # as for the engine: what a process asks once has been asked
    jobs = made(count)
    seconds, ids = _timed(lambda: submit(jobs))
    return seconds, [*first, *ids]


def psij_many(count: int) -> Timed:
    return psij(count, many=True)


def engine(count: int, at_once: bool = False, cold: bool = False) -> Timed:
    import jobyard

    session = jobyard.Session("slurm")
    begin_at = time.time() + 3600
    first = [session.submit(["/bin/true"], begin_at=begin_at)]
    if at_once and not cold:  # the site's limits are asked for once, and kept for a while
        first += session.submit_all([["/bin/true"]] * 2, begin_at=begin_at)

    def submit() -> "list[str]":
        if at_once:
            jobs = session.submit_all([["/bin/true"]] * count, begin_at=begin_at)
        else:
            jobs = [session.submit(["/bin/true"], begin_at=begin_at) for _ in range(count)]
        return [job.native_id for job in jobs]

    seconds, ids = _timed(submit)
    return seconds, [*(job.native_id for job in first), *ids]


def engine_all(count: int) -> Timed:
    return engine(count, at_once=True)


def engine_cold(count: int) -> Timed:
    return engine(count, at_once=True, cold=True)


def sbatch(count: int) -> Timed:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        script = os.path.join(folder, "job.sh")
        with open(script, "w") as file:
            file.write("#!/bin/sh\nexec /bin/true\n")
        argv = ["sbatch", "--parsable", f"--begin={BEGIN}", "--output=/dev/null", script]

        def submit() -> "list[str]":
            return [subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout.decode().strip() for _ in range(count)]

        return _timed(submit)


if __name__ == "__main__":
    found, native_ids = globals()[sys.argv[1]](int(sys.argv[2]))
    arrays = sorted({native_id.partition("_")[0] for native_id in native_ids})
    for at in range(0, len(arrays), 500):
        subprocess.run(["scancel", *arrays[at : at + 500]], check=True)
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # threads of the library may live on
