"""The conformance suite on the lookalike of PBS."""

from __future__ import annotations

from typing import Any

from lookalikes.areas import *  # noqa: F403

STYLE = "pbs"
FEATURES: dict[str, Any] = {"honours_priority": True}
