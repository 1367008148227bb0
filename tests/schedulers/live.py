"""What the modules that run on a test bed share: the conformance suite's areas and its contact, and which bed this is.

``only_on("slurm")``, then ``from schedulers.live import *``, and a fixture ``features`` of the module's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from conformance import areas
from conformance.areas import *  # noqa: F403
from conformance.yards import private_yard

__all__ = [*areas.__all__, "contact"]  # noqa: PLE0604

BED = os.environ.get("JOBYARD_BED", "")
CONTACT = os.environ.get("JOBYARD_BED_CONTACT", "")
WORKER = int(re.sub("[^0-9]", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)  # which of pytest's this is, from 0


def only_on(scheduler: str) -> None:
    """Skip the whole module where no bed of that scheduler is the one that tests run on."""
    if BED.partition("-")[0] != scheduler:
        pytest.skip(f"testbeds/as_user.sh {scheduler} runs these", allow_module_level=True)


@pytest.fixture(scope="module")
def contact() -> Iterator[str]:
    """The bed's scheduler, in folders of our own."""
    with private_yard():
        yield CONTACT
