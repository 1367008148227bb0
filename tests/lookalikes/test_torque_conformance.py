"""The conformance suite on the lookalike of Torque."""

from __future__ import annotations

from typing import Any

from jobyard import Cause
from lookalikes.areas import *  # noqa: F403

STYLE = "torque"
EVERY_DAY = OF_A_DIALECT  # noqa: F405 - what it shares with PBS is tried there
# It does not say why a job that waited for another was deleted.
FEATURES: dict[str, Any] = {"honours_priority": True, "causes": {"dependency": {Cause.UNKNOWN, Cause.DEPENDENCY}}}
