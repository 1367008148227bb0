"""Ten jobs, never more than three at a time: the callback of one that has ended submits the next."""

import threading

from psij import Job, JobExecutor, JobSpec, JobStatus

left = [Job(JobSpec("/bin/sleep", ["0.1"])) for _ in range(10)]
lock, running, most, done = threading.Lock(), set[str](), [0], threading.Event()
executor = JobExecutor.get_instance("local")


def submit_next() -> None:
    with lock:
        if not left:
            if not running:
                done.set()
            return
        job = left.pop()
        running.add(job.id)
        most[0] = max(most[0], len(running))
    executor.submit(job)


def changed(job: Job, status: JobStatus) -> None:
    if status.final:
        with lock:
            running.discard(job.id)
        submit_next()


executor.set_job_status_callback(changed)
for _ in range(3):
    submit_next()
done.wait()
executor.close()
print(f"all done, {most[0]} at a time")
