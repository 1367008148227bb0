"""The areas of the conformance suite, and cells of lookalikes to run it on: ``from lookalikes.areas import *``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conformance.areas import *  # noqa: F403
from conformance.yards import private_yard
from jobyard.testing import lookalike


@contextmanager
def on_path(style: str, **config: object) -> Iterator[lookalike.Lookalike]:
    """A cell whose commands are first on PATH, in folders of its own."""
    with (
        private_yard() as folder,
        lookalike.install(folder / "cell", style, **config) as cell,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PATH", f"{cell.bin}{os.pathsep}{os.environ['PATH']}")
        yield cell
