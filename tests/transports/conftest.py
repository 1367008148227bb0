"""One sshd for all modules of this folder that a process runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from transports.sshd import Sshd, running_sshd


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """A server that nothing happens to."""
    with running_sshd() as server:
        yield server
