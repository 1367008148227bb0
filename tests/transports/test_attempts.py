"""How often a host that is away is tried: at intervals that grow to a longest, however many ask."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest

from jobyard.errors import TransportError
from jobyard.transports import openssh_connection
from jobyard.transports.openssh_connection import Connection
from jobyard.transports.openssh_errors import AuthenticationFailed, HostUnreachable
from jobyard.transports.openssh_start import Settings


class Waits:
    """Somebody who watches, and wants a connection for it."""

    wanted = True

    def resume(self, link: object) -> None:
        """Never: there is none."""


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When somebody tried to connect; nobody gets through. Everything happens ten times as fast."""
    made: list[float] = []

    def link(settings: Settings, **_options: Any) -> None:
        made.append(time.monotonic())
        raise HostUnreachable(f"{settings.name}: it cannot be reached")

    monkeypatch.setattr(openssh_connection, "Link", link)
    monkeypatch.setattr(openssh_connection, "FIRST_RETRY_S", 0.1)
    monkeypatch.setattr(openssh_connection, "LONGEST_RETRY_S", 0.8)
    monkeypatch.setattr(openssh_connection, "ANEW_S", 0.1)
    return made


def test_the_intervals_grow_to_the_longest(tries: list[float]) -> None:
    connection, waits = Connection(Settings(host="gone")), Waits()
    connection.join()
    connection.resumes(waits)
    with pytest.raises(TransportError, match="no connection"):
        connection.link(background=True)
    deadline = time.monotonic() + 60
    while len(tries) < 7:
        assert time.monotonic() < deadline, tries
        time.sleep(0.01)
    connection.leave()
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    for gap, least in zip(gaps, (0.1, 0.2, 0.4, 0.8, 0.8, 0.8), strict=False):
        assert gap >= least, gaps


def test_programs_that_wait_alike_do_not_come_alike(tries: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each interval has a chance part of its own."""
    waited: list[float] = []
    connection, waits = Connection(Settings(host="gone")), Waits()
    connection.join()
    connection.resumes(waits)
    monkeypatch.setattr(openssh_connection, "LONGEST_RETRY_S", 0.1)
    wait_for = connection._changed.wait_for

    def noted(true: Any, timeout: float | None = None) -> Any:
        assert timeout is not None
        waited.append(timeout)
        return wait_for(true, timeout)

    monkeypatch.setattr(connection._changed, "wait_for", noted)
    with pytest.raises(TransportError, match="no connection"):
        connection.link(background=True)
    deadline = time.monotonic() + 60
    while len(waited) < 6:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    connection.leave()
    assert all(0.11 <= one <= 0.11 + 0.1 * openssh_connection.JITTER for one in waited), waited
    assert len(set(waited)) > 1


def test_many_who_ask_are_one_try(tries: list[float]) -> None:
    connection = Connection(Settings(host="gone"))
    connection.join()
    told: list[TransportError] = []
    began = time.monotonic()

    def ask() -> None:
        for _ in range(20):
            with pytest.raises(HostUnreachable) as caught:
                connection.link()
            told.append(caught.value)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - began
    connection.leave()
    assert len(told) == 200
    assert len(tries) <= 2 + took_s / 0.1


def test_what_needs_a_person_is_not_tried_again_by_itself(tries: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(settings: Settings, **_options: Any) -> None:
        tries.append(time.monotonic())
        raise AuthenticationFailed(f"{settings.name}: it refused")

    monkeypatch.setattr(openssh_connection, "Link", refused)
    connection, waits = Connection(Settings(host="closed")), Waits()
    connection.join()
    connection.resumes(waits)
    with pytest.raises(TransportError, match="no connection"):
        connection.link(background=True)
    deadline = time.monotonic() + 60
    while connection._reconnecting:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    connection.leave()
    assert len(tries) == 1
