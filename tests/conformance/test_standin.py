"""The conformance suite on the stand-in: commands on PATH, the real shepherd, and nothing of jobyard in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.areas import *  # noqa: F403
from conformance.areas import GRACE_S, SLOTS, SMALL, features_of
from conformance.yards import private_yard
from jobyard import Session
from jobyard.testing import conformance, standin


@pytest.fixture(scope="module")
def contact() -> Iterator[str]:
    """A cell of four slots, in folders of its own."""
    with private_yard() as folder, standin.install(folder / "cell", slots=SLOTS, kill_grace_s=GRACE_S) as cell:
        yield cell.contact


@pytest.fixture
def features(contact: str, session: Session) -> conformance.Features:
    """A small batch system: asked by commands, quick to answer."""
    return features_of(contact, session, **SMALL, honours_priority=True, enforces_memory=True)
