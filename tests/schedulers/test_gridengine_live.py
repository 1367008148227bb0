"""The conformance suite on a running Grid Engine. Run by ``testbeds/as_user.sh gridengine``."""

from __future__ import annotations

import pytest

from conformance.areas import features_of
from jobyard import Session
from jobyard.schedulers.gridengine import GridEngineScheduler
from jobyard.testing import conformance
from schedulers.live import *  # noqa: F403
from schedulers.live import WORKER, only_on

only_on("gridengine")

# A queue of one slot for each worker, where only jobs go that ask for it (testbeds/gridengine/up.sh).
LONELY = f"one{WORKER}.q"


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """A cell on one machine, whose daemons look once a second (testbeds/gridengine/up.sh)."""
    return features_of(
        contact,
        session,
        GridEngineScheduler,
        deadline_s=180,
        poll_s=15,
        cancel_grace_s=60,
        walltime_s=2,
        walltime_late_s=30,
        many=200,
        clock_slack_s=1.0,
        whole={"queue": LONELY, "native": ("-l", "lonely")},
        honours_priority=True,
        suspend_late_s=2.0,
        signals_suspended=False,
        requeue_again_s=60,
    )
