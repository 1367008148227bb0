"""One job on this machine: submit it, wait for it, look at how it ended."""

from datetime import timedelta
from pathlib import Path

from psij import Job, JobAttributes, JobExecutor, JobSpec

with JobExecutor.get_instance("local") as executor:
    job = Job(
        JobSpec(
            executable="/bin/sh",
            arguments=["-c", "echo hello from $WHO"],
            environment={"WHO": "a job"},
            stdout_path="hello.txt",
            attributes=JobAttributes(duration=timedelta(minutes=1)),
        )
    )
    executor.submit(job)
    status = job.wait()
    print(status.state, status.exit_code)
    print(Path("hello.txt").read_text(), end="")
