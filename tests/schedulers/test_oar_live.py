"""The conformance suite on a running OAR. Run by ``testbeds/as_user.sh oar``."""

from __future__ import annotations

import os

import pytest

from conformance.areas import features_of
from jobyard import Session
from jobyard.schedulers.oar import OarScheduler
from jobyard.testing import conformance
from schedulers.live import *  # noqa: F403
from schedulers.live import WORKER, only_on

only_on("oar")

# A node of one core for each worker, where only jobs go that ask for it (testbeds/oar/up.sh).
YARD = f"yard = {1 + WORKER % 8}"
# Those that mean something to one scheduler or another. OAR starts a job in half a second of this machine's time.
CODES = (0, 1, 2, 3, 99, 100, 125, 126, 127, 128, 129, 137, 139, 143, 254, 255)


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """A server whose rounds take a second or two (testbeds/oar/up.sh)."""
    return features_of(
        contact,
        session,
        OarScheduler,
        deadline_s=180,
        poll_s=15,
        cancel_grace_s=60,
        walltime_s=2,
        walltime_late_s=60,
        many=30,
        exit_codes=range(256) if os.environ.get("FULL") == "1" else CODES,
        clock_slack_s=1.0,
        suspend_late_s=2.0,
        whole={"native": ("-p", YARD)},
    )
