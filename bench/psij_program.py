"""What is timed of PSI/J, ours or psij-python alike: run as a file by the interpreter that has the one to be timed.

``psij_program.py NAME [ARGUMENT ...]``; the last line printed is JSON. It needs psij and the standard library only.
"""

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
    """Bytes of memory for each waiting job, and threads, with so many of them. Ours only: the other cannot let jobs wait."""
    executor = psij.JobExecutor.get_instance("local", url="?slots=queue")
    executor.set_job_status_callback(lambda job, status: None)
    blockers = [psij.Job(_spec("/bin/sleep", "600")) for _ in range(os.cpu_count() or 1)]
    executor.submit_many(blockers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = [psij.Job(_spec("/bin/true")) for _ in range(int(count))]
    objects = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    executor.submit_many(made)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    threads = threading.active_count()
    executor.cancel_many(made + blockers)
    executor.wait_all(made + blockers)
    executor.close()
    return {
        "objects": (objects - before) * 1024 / int(count),
        "waiting": (after - before) * 1024 / int(count),
        "threads": threads,
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    sys.stdout.flush()
    os._exit(0)  # threads of the library may live on
