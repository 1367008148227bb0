#!/bin/bash
# Make HyperQueue ready for its tests: the Python of the test beds' user gets the package, and starts one server with it.
#
# There is no daemon to bring up: jobyard starts a server for each state folder, and it goes with that. Needs root on Debian.
set -euo pipefail
cd "$(dirname "$0")/../.."
testbeds/as_user.sh hyperqueue --shell python -c '
import os, tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
os.environ |= {"JOBYARD_STATE_DIR": f"{folder}/state", "JOBYARD_WORK_DIR": f"{folder}/work"}
(folder / "work").mkdir()
from jobyard import Session
from jobyard.schedulers.hyperqueue import stop

with Session(os.environ["JOBYARD_BED_CONTACT"]) as session:
    ending = session.submit(["/bin/true"]).wait(timeout=120)
    print(session.scheduler.version(), "ran a job:", ending)
stop(folder / "state")
'
