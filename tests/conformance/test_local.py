"""The conformance suite on the embedded scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.areas import *  # noqa: F403
from conformance.yards import private_yard
from jobyard import Session
from jobyard.testing import conformance

SLOTS = 4
GRACE_S = 1.0


@pytest.fixture(scope="module")
def contact() -> Iterator[str]:
    """A machine of four slots, in folders of its own."""
    with private_yard():
        yield f"local?slots={SLOTS}&grace={GRACE_S}"


@pytest.fixture
def features(contact: str, session: Session, tmp_path: Path) -> conformance.Features:
    """It is quick, exact, and sees everything."""
    return conformance.Features(
        contact=contact,
        scheduler="local",
        capabilities=session.capabilities,
        deadline_s=30,
        cancel_grace_s=GRACE_S + 4,
        walltime_s=0.5,
        whole={"cores": SLOTS},
        honours_priority=True,
        enforces_memory=True,
    )
