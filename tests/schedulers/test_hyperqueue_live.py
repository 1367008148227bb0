"""The conformance suite on a running HyperQueue. Run by ``testbeds/as_user.sh hyperqueue``."""

from __future__ import annotations

import pytest

from conformance.areas import features_of
from jobyard import Session
from jobyard.testing import conformance
from schedulers.live import *  # noqa: F403
from schedulers.live import only_on

only_on("hyperqueue")


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """A server and a worker of our own, with four cores (testbeds/as_user.sh); limits are the shepherd's."""
    return features_of(
        contact,
        session,
        deadline_s=60,
        poll_s=5,
        cancel_grace_s=15,
        walltime_s=1,
        walltime_late_s=10,
        many=200,
        whole={"cores": 4},
        honours_priority=True,
    )
