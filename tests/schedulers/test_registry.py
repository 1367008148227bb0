"""The table of schedulers: names, aliases, and how each is told from another with the same commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobyard.contact import Contact
from jobyard.schedulers import find_known, found, is_here, known, open_scheduler
from jobyard.schedulers.command import CommandScheduler
from jobyard.testing import lookalike

ALIASES = {"pbspro": "pbs", "pbs_pro": "pbs", "pbs_classic": "torque", "sge": "gridengine", "condor": "htcondor"}
OURS = tuple(lookalike.COMMANDS)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases(alias: str, name: str) -> None:
    assert find_known(alias).name == name


@pytest.mark.parametrize("name", OURS)
def test_an_adapter_is_there_under_its_name(name: str, yard: Path) -> None:
    scheduler = open_scheduler(Contact.parse(name))
    assert isinstance(scheduler, CommandScheduler)
    assert scheduler.name == name
    assert scheduler.dialect.programs == known()[name].programs
    assert scheduler.dialect.hint == known()[name].hint
    scheduler.close()


@pytest.mark.parametrize("name", OURS)
def test_each_is_found_by_its_own_commands_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """qsub and qstat are those of six schedulers: a further command tells them apart."""
    cell = lookalike.install(tmp_path / "cell", name)
    monkeypatch.setenv("PATH", str(cell.bin))
    assert found() == [name]


@pytest.mark.parametrize("installed", [True, False])
def test_one_that_is_a_package_is_here_and_never_chosen_by_itself(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package says that HyperQueue can be started, not that it is the scheduler of this machine."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    assert find_known("hq").name == "hyperqueue"
    assert is_here(find_known("hyperqueue")) is installed
    assert "hyperqueue" not in found()
