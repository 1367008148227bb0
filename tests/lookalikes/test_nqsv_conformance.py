"""The conformance suite on the lookalike of NQSV."""

from __future__ import annotations

from typing import Any

from lookalikes.areas import *  # noqa: F403

STYLE = "nqsv"
EVERY_DAY = OF_A_DIALECT  # noqa: F405
FEATURES: dict[str, Any] = {}
