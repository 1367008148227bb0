"""The transport to a login host, over a real sshd: the suite of all transports, and what is its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobyard.testing.transport_suite import TransportSuite
from jobyard.transports.base import Transport
from transports.sshd import Sshd


class TestOpenSSHTransport(TransportSuite):
    """All of it."""

    latency_s = 0.1

    @pytest.fixture
    def transport(self, sshd: Sshd) -> Iterator[Transport]:
        made = sshd.transport()
        yield made
        made.close()
