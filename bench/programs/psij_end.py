"""Milliseconds from a job's last instruction to the return of Job.wait(), for so many jobs one after the other, as a JSON list.

    psij_end.py EXECUTOR COUNT

For whichever ``psij`` this Python has: jobyard's, or psij-python. It uses nothing else.
"""

import json
import os
import shutil
import sys
import tempfile
import time

import psij


def main(name: str, count: int) -> list[float]:
    folder = tempfile.mkdtemp(prefix="bench-")
    executor = psij.JobExecutor.get_instance(name)
    found = []
    try:
        for number in range(count + 1):
            path = os.path.join(folder, str(number))
            spec = psij.JobSpec(executable="/bin/sh", arguments=["-c", f"sleep 0.5; exec date +%s%N > {path}"], directory=folder)
            job = psij.Job(spec)
            executor.submit(job)
            status = job.wait()
            after = time.time_ns()
            assert status is not None
            assert status.state is psij.JobState.COMPLETED, status
            with open(path) as file:
                found.append((after - int(file.read())) / 1e6)
    finally:
        shutil.rmtree(folder)
    return found[1:]


print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
sys.stdout.flush()
