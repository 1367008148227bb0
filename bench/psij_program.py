"""What is timed of PSI/J, ours or psij-python alike: run as a file by the interpreter that has the one to be timed.

``psij_program.py NAME [ARGUMENT ...]``; the last line printed is JSON. It needs psij and the standard library only.
"""

import gc
import json
import os
import resource
import statistics
import sys
import tempfile
import threading
import time

import psij


def _spec(*words: str) -> psij.JobSpec:
    return psij.JobSpec(executable=words[0], arguments=list(words[1:]))


def _warm(executor: psij.JobExecutor) -> None:
    job = psij.Job(_spec("/bin/true"))
    executor.submit(job)
    job.wait()


def jobs(count: str) -> float:
    """Seconds from the first submit to the last ending, one submit call for each job."""
    executor = psij.JobExecutor.get_instance("local")
    _warm(executor)
    made = [psij.Job(_spec("/bin/true")) for _ in range(int(count))]
    began = time.perf_counter()
    for job in made:
        executor.submit(job)
    for job in made:
        job.wait()
    taken = time.perf_counter() - began
    assert all(job.status.state == psij.JobState.COMPLETED for job in made)
    return taken


def jobs_with_callback(count: str) -> float:
    """The same, until a callback of the executor has been told of all endings."""
    executor = psij.JobExecutor.get_instance("local")
    _warm(executor)
    left, done, lock = [int(count)], threading.Event(), threading.Lock()

    def changed(job: psij.Job, status: psij.JobStatus) -> None:
        if status.final:
            with lock:
                left[0] -= 1
                if not left[0]:
                    done.set()

    executor.set_job_status_callback(changed)
    made = [psij.Job(_spec("/bin/true")) for _ in range(int(count))]
    began = time.perf_counter()
    for job in made:
        executor.submit(job)
    assert done.wait(300)
    return time.perf_counter() - began


def bulk(count: str) -> float:
    """Seconds from one submit_many call to the last ending."""
    executor = psij.JobExecutor.get_instance("local")
    _warm(executor)
    made = [psij.Job(_spec("/bin/true")) for _ in range(int(count))]
    began = time.perf_counter()
    executor.submit_many(made)
    executor.wait_all(made)
    return time.perf_counter() - began


def callbacks(count: str) -> float:
    """Milliseconds from a job's last act to its COMPLETED callback, one job at a time."""
    executor = psij.JobExecutor.get_instance("local")
    _warm(executor)
    told: dict[str, int] = {}
    done = threading.Event()

    def changed(job: psij.Job, status: psij.JobStatus) -> None:
        if status.final:
            told[job.id] = time.time_ns()
            done.set()

    executor.set_job_status_callback(changed)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "end")
        for _ in range(int(count)):
            done.clear()
            job = psij.Job(psij.JobSpec(executable="/bin/date", arguments=["+%s%N"], stdout_path=path))
            executor.submit(job)
            assert done.wait(30)
            with open(path) as file:
                found.append((told[job.id] - int(file.read())) / 1e6)
    return statistics.median(found)


def waiting(count: str) -> "dict[str, float]":
    """How a process grows with each waiting job, in bytes, and its threads: between so many and three times so many.

    Ours only: the other cannot let jobs wait. ``peak``: of one ``submit_many`` of as many more, which holds their request too.
    """
    page = os.sysconf("SC_PAGE_SIZE")

    def resident() -> int:
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * page

    executor = psij.JobExecutor.get_instance("local", url="?slots=queue")
    executor.set_job_status_callback(lambda job, status: None)
    blockers = [psij.Job(_spec("/bin/sleep", "600")) for _ in range(os.cpu_count() or 1)]
    executor.submit_many(blockers)
    made: list[psij.Job] = []
    sizes = []
    for goal in (int(count), 3 * int(count)):
        while len(made) < goal:
            part = [psij.Job(_spec("/bin/true")) for _ in range(500)]
            executor.submit_many(part)
            made += part
        sizes.append(resident())
    threads = threading.active_count()
    last = [psij.Job(_spec("/bin/true")) for _ in range(int(count))]
    executor.submit_many(last)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    executor.cancel_many(made + last + blockers)
    executor.wait_all(made + last + blockers)
    executor.close()
    return {"waiting": (sizes[1] - sizes[0]) / (2 * int(count)), "peak": (peak - sizes[1]) / int(count), "threads": threads}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    sys.stdout.flush()
    os._exit(0)  # threads of the library may live on
