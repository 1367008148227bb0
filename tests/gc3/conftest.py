"""Fixtures of the GC3 front's tests: resources on the stand-in, and both transports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gc3.standin_backend import BulkSystem, StandinSystem, resource
from gc3libs.backends.batch import BatchSystem
from gc3libs.backends.transport import LocalTransport, SshTransport, Transport
from jobyard.testing import standin
from transports.sshd import HERE, available, running_sshd


@pytest.fixture
def cell(yard: Path) -> Iterator[standin.Cell]:
    """A stand-in of its own, in a folder whose name is no word for a shell."""
    with standin.install(yard / "a $cell", slots=4, kill_grace_s=1.0) as made:
        yield made


@pytest.fixture
def make(cell: standin.Cell) -> Iterator[Callable[..., Any]]:
    """Makes resources on the cell, and closes them."""
    made: list[BatchSystem] = []

    def one(kind: type[BatchSystem] = StandinSystem, **extra: Any) -> Any:
        made.append(resource(cell, kind, **extra))
        return made[-1]

    yield one
    for system in made:
        system.close()


@pytest.fixture
def system(make: Callable[..., Any]) -> Any:
    """A resource whose hooks ask about one job at a time."""
    return make()


@pytest.fixture(params=[StandinSystem, BulkSystem], ids=["single", "bulk"])
def either(request: pytest.FixtureRequest, make: Callable[..., Any]) -> Any:
    """Resources of both kinds."""
    return make(request.param)


@pytest.fixture(scope="session")
def sshd() -> Iterator[Any]:
    """A login host on the loopback."""
    if not available():
        pytest.skip(HERE)
    with running_sshd() as server:
        yield server


@pytest.fixture(params=["local", "ssh"])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Each transport of gc3libs; both see the same files."""
    made: Transport
    if request.param == "local":
        made = LocalTransport()
    else:
        server = request.getfixturevalue("sshd")
        made = SshTransport("bed", ssh_config=str(server.config))
    yield made
    made.close()
