"""The conformance suite on the lookalike of LSF, where a minute is a second."""

from __future__ import annotations

from typing import Any

from lookalikes.areas import *  # noqa: F403

STYLE = "lsf"
CELL = {"minute_s": 1.0}
FEATURES: dict[str, Any] = {}
