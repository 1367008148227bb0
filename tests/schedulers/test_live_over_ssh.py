"""What only a bed that is reached over ssh can show: the scheduler's commands run there, and nothing of it is needed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobyard import JobState, Session
from schedulers.live import BED, CONTACT

if not BED.endswith("-ssh"):
    pytest.skip("testbeds/as_user.sh slurm-ssh runs these", allow_module_level=True)


def test_nothing_of_the_scheduler_is_needed_here(yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program, no settings; the host has them."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").symlink_to("/usr/bin/ssh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("SGE_ROOT", "SGE_CELL", "SGE_QMASTER_PORT", "SGE_EXECD_PORT", "CONDOR_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    with Session(CONTACT) as session:
        assert session.scheduler.transport.name == "ssh://bed"  # type: ignore[attr-defined]
        job = session.submit(["/bin/sh", "-c", "pwd; exit 3"])
        held = session.submit(["/bin/true"], hold=True)
        assert job.wait(timeout=120).exit_code == 3
        held.cancel()
        assert held.wait(timeout=120).state is JobState.CANCELLED
        assert session.scheduler.transport.connection.links_made == 1  # type: ignore[attr-defined]
    assert not list((yard / "work").iterdir())  # folders of jobs lie there
