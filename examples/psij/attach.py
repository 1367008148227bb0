"""Follow a job that another program submitted, and come back to a whole session."""

import subprocess
import sys

from psij import Job, JobExecutor

SUBMIT = """
from psij import Job, JobExecutor, JobSpec
executor = JobExecutor.get_instance("local")
jobs = [Job(JobSpec("/bin/sh", ["-c", "sleep 0.2; exit %d" % code])) for code in (5, 6)]
executor.submit_many(jobs)
print(executor.contact, jobs[0].native_id)
"""
answer = subprocess.run([sys.executable, "-c", SUBMIT], stdout=subprocess.PIPE, text=True, check=True).stdout
contact, native_id = answer.split()

with JobExecutor.get_instance("local") as executor:
    job = Job()
    executor.attach(job, native_id)
    print("attached:", job.wait())

with JobExecutor.get_instance("local", url=contact) as executor:
    for job in executor.reattach_all():
        print("again:", job.spec, "->", job.wait().exit_code)
