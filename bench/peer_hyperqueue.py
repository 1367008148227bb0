"""HyperQueue's local cluster in its own virtual environment: seconds for so many /bin/true on two cores, no output files."""

import json
import os
import sys
import tempfile
import time

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def main(count: int) -> float:
    folder = tempfile.mkdtemp(prefix="hq-")
    os.chdir(folder)
    with LocalCluster(server_dir=folder) as cluster:
        cluster.start_worker(WorkerConfig(cores=2))
        client = cluster.client()
        warm = Job(default_workdir=folder)
        warm.program(["/bin/true"], stdout=None, stderr=None)
        client.wait_for_jobs([client.submit(warm)])
        started = time.perf_counter()
        job = Job(default_workdir=folder)
        for _ in range(count):
            job.program(["/bin/true"], stdout=None, stderr=None)
        client.wait_for_jobs([client.submit(job)])
        return time.perf_counter() - started


print(json.dumps(main(int(sys.argv[1]))))
sys.stdout.flush()
os._exit(0)  # its threads do not end by themselves
