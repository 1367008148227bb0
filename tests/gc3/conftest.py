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
from transports.sshd import HERE as NO_SSHD
from transports.sshd import available, running_sshd

HERE = Path(__file__).parent


# Of what schedulers and clients do wrong, what the connection has a part in; the rest runs over it in the long form.
_ALWAYS_OVER_SSH = frozenset({
    "test_a_banner_around_the_id",
    "test_a_full_disk_there",
    "test_a_hook_that_raises_changes_nothing",
    "test_a_stopped_client_hurts_nobody",
    "test_an_answer_that_is_lost",
    "test_an_outage_with_accounting",
    "test_commands_that_are_not_there",
    "test_two_processes_of_one_resource",
})  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Faults over ssh that say nothing of the connection are the long form's."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.path != HERE / "test_faults.py" or not hasattr(item, "callspec"):
            continue
        if item.callspec.params.get("make") == "ssh" and item.originalname not in _ALWAYS_OVER_SSH:
            item.add_marker(pytest.mark.long)


def over_ssh(server: Any, spooldir: Path) -> dict[str, Any]:
    """What a resource says to be reached by this server; its sandboxes lie in ``spooldir``."""

    class Auth:
        username = None
        port = None
        keyfile = None
        ssh_config = str(server.config)
        timeout = 60  # a login may be slow here

    return {"transport": "ssh", "frontend": "bed", "auth": Auth, "spooldir": str(spooldir)}


@pytest.fixture(autouse=True)
def _asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in minds less than a scheduler: what is asked a few times, ever later, is soon over."""
    monkeypatch.setattr("jobyard.journal_keeper.SHORTEST_S", 0.2)


@pytest.fixture
def cell(yard: Path) -> Iterator[standin.Cell]:
    """A stand-in of its own, in a folder whose name is no word for a shell."""
    with standin.install(yard / "a $cell", slots=4, kill_grace_s=1.0) as made:
        yield made


@pytest.fixture(params=["local", "ssh"])
def make(request: pytest.FixtureRequest, cell: standin.Cell, yard: Path) -> Iterator[Callable[..., Any]]:
    """Makes resources on the cell, reached over each transport, and closes them."""
    made: list[BatchSystem] = []
    where: dict[str, Any] = {}
    if request.param == "ssh":
        where = over_ssh(request.getfixturevalue("sshd"), yard / "work")

    def one(kind: type[BatchSystem] = StandinSystem, **extra: Any) -> Any:
        made.append(resource(cell, kind, **{**where, **extra}))
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
        pytest.skip(NO_SSHD)
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
