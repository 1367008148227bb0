"""The conformance suite on a running HTCondor. Run by ``testbeds/as_user.sh htcondor``."""

from __future__ import annotations

import pytest

from conformance.areas import features_of
from jobyard import Session
from jobyard.testing import conformance
from schedulers.live import *  # noqa: F403
from schedulers.live import WORKER, only_on

only_on("htcondor")


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """A pool on one machine, with quick timers (testbeds/htcondor/up.sh)."""
    return features_of(
        contact,
        session,
        deadline_s=120,
        poll_s=10,
        cancel_grace_s=15,
        walltime_s=5,  # a node that is busy takes seconds to begin, and what it has not begun gets no signal
        walltime_late_s=15,
        many=200,
        whole={"native": ("-append", f"request_yard{WORKER % 4} = 1")},  # up.sh gives the machine one of each
        honours_priority=True,
        core_dumps=False,  # unless a job says how large one may be
    )
