"""Milliseconds from a job's last instruction to the return of wait(), for so many jobs one after the other, as a JSON list.

    drmaa_end.py CONTACT COUNT          CONTACT "": the library's default

For whichever ``drmaa`` this Python has: jobyard's, or drmaa-python over the vendor's library. It uses nothing else.
"""

import json
import os
import shutil
import sys
import tempfile
import time

import drmaa


def main(contact: str, count: int) -> list[float]:
    folder = tempfile.mkdtemp(prefix="bench-")
    session = drmaa.Session()
    session.initialize(contact or None)
    template = session.createJobTemplate()
    template.remoteCommand, template.workingDirectory = "/bin/sh", folder
    template.outputPath, template.joinFiles = ":/dev/null", True
    found = []
    try:
        for number in range(count + 1):
            path = os.path.join(folder, str(number))
            # A while after its start, so that nobody still takes in that it began.
            template.args = ["-c", f"sleep 0.5; exec date +%s%N > {path}"]
            assert session.wait(session.runJob(template), session.TIMEOUT_WAIT_FOREVER).exitStatus == 0
            after = time.time_ns()
            with open(path) as file:
                found.append((after - int(file.read())) / 1e6)
    finally:
        session.exit()
        shutil.rmtree(folder)
    return found[1:]  # the first has all connections to make


print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
