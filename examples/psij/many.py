"""A thousand small jobs in one request, looked at as they end."""

import sys
from collections import Counter

from psij import Job, JobExecutor, JobSpec

count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
codes: Counter[int | None] = Counter()
with JobExecutor.get_instance("local") as executor:
    jobs = [Job(JobSpec("/bin/sh", ["-c", f"exit {number % 4}"])) for number in range(count)]
    executor.submit_many(jobs)
    for job in executor.as_completed(jobs):
        codes[job.status.exit_code] += 1
for code, times in sorted(codes.items()):
    print(f"{times} jobs exited with {code}")
