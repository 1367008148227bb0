"""The conformance suite on a running Slurm. Run by ``testbeds/as_user.sh slurm``, or ``slurm-24.11``."""

from __future__ import annotations

import os

import pytest

from conformance.areas import features_of
from jobyard import Session
from jobyard.schedulers.slurm import SlurmScheduler
from jobyard.testing import conformance
from schedulers.live import *  # noqa: F403
from schedulers.live import WORKER, only_on

only_on("slurm")

# A licence for each worker: who has it keeps all others that want it waiting, and nobody else (testbeds/slurm/up.sh).
LICENCE = f"one{WORKER % 8}"


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """A cluster on one machine. Limits are of whole minutes and looked at every half (slurm.conf(5), OverTimeLimit)."""
    return features_of(
        contact,
        session,
        SlurmScheduler,
        deadline_s=60,
        poll_s=5,
        cancel_grace_s=15,
        walltime_s=60,
        walltime_late_s=60,
        many=200,
        suspend_late_s=5.0,  # scancel returns before the node has the signal; a busy machine takes its time
        clock_slack_s=1.0,
        whole={"native": (f"--licenses={LICENCE}",)},
        enforces_memory=os.environ["JOBYARD_BED"] == "slurm" and os.path.exists("/sys/fs/cgroup/memory"),
    )
