"""A private yard for a whole module: state, work and configuration of its own, and a scheduler that ends with it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def private_yard() -> Iterator[Path]:
    """As the fixture ``yard`` of conftest.py, but for as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="yard-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBYARD_STATE_DIR", str(folder / "state"))
        patch.setenv("JOBYARD_WORK_DIR", str(folder / "work"))
        patch.setenv("JOBYARD_CONFIG", str(folder / "config.toml"))
        patch.delenv("JOBYARD_CONTACT", raising=False)
        (folder / "work").mkdir()
        try:
            yield folder
        finally:
            if (folder / "state" / "local").exists():
                from jobyard.schedulers.local import stop

                stop(folder / "state")
            shutil.rmtree(folder, ignore_errors=True)
