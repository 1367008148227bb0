"""psij-python in its own virtual environment: seconds for so many local jobs of /bin/true, first submit to last ending."""

import json
import sys
import time

import psij  # the one from PyPI


def main(count: int) -> float:
    executor = psij.JobExecutor.get_instance("local")
    first = psij.Job(psij.JobSpec(executable="/bin/true"))
    executor.submit(first)
    first.wait()
    started = time.perf_counter()
    jobs = [psij.Job(psij.JobSpec(executable="/bin/true")) for _ in range(count)]
    for job in jobs:
        executor.submit(job)
    for job in jobs:
        job.wait()
    taken = time.perf_counter() - started
    assert all(job.status.state == psij.JobState.COMPLETED for job in jobs)
    return taken


print(json.dumps(main(int(sys.argv[1]))))
sys.stdout.flush()
