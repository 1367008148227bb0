"""How this process grows with jobs: ``memory_program.py waiting|finished COUNT``; the last line is JSON.

``bytes``: resident memory for each job, its Job and JobSpec included, between COUNT and 3 COUNT jobs; ``threads`` at both.
"""

import gc
import json
import os
import sys
import threading

import psij

PART = 500
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def main(kind: str, count: int) -> None:
    executor = psij.JobExecutor.get_instance("local", url="?slots=queue")
    finals = 0
    lock = threading.Lock()

    def told(job: psij.Job, status: psij.JobStatus) -> None:
        nonlocal finals
        if status.final:
            with lock:
                finals += 1

    executor.set_job_status_callback(told)
    blockers = [psij.Job(psij.JobSpec("/bin/sleep", ["600"])) for _ in range(os.cpu_count() or 1)]
    if kind == "waiting":
        executor.submit_many(blockers)
    jobs: list[psij.Job] = []
    sizes, threads = [], []
    for goal in (count, 3 * count):
        while len(jobs) < goal:
            part = [psij.Job(psij.JobSpec("/bin/true", ["argument"])) for _ in range(min(PART, goal - len(jobs)))]
            executor.submit_many(part)
            jobs += part
            if kind == "finished":
                executor.wait_all(part)
                del part
        sizes.append(resident())
        threads.append(threading.active_count())
    states = {str(job.status.state) for job in jobs}
    if kind == "waiting":
        executor.cancel_many([*jobs, *blockers])
        executor.wait_all([*jobs, *blockers])
    found = {"bytes": (sizes[1] - sizes[0]) / (2 * count), "threads": threads, "states": sorted(states), "told": finals}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    executor.close()


main(sys.argv[1], int(sys.argv[2]))
