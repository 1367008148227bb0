"""The tracker's threads, where the user has as many processes as may be."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from engine.keeping import Rig
from jobyard.job import JobState
from jobyard.keeper import Update
from jobyard.schedulers.base import Row
from jobyard.tracker import Tracker


def test_threads_that_cannot_be_started_for_a_while_cost_no_question_and_no_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, told = Rig(tmp_path), list[Update]()
    (key,) = rig.submit()
    (row,) = rig.journal.rows([key])
    rig.scheduler.rows = [Row(native_id=row.facts.native_id or "", state=JobState.RUNNING)]
    tracker = Tracker(rig.journal, rig.scheduler, rig.receipts, rig.session, "played", told.extend, monotonic=lambda: rig.now)
    try:

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            tracker.add([key])
            rig.now += 60
            tracker.step()
            assert tracker.asking
            with pytest.raises(RuntimeError):
                tracker.start()
            assert not tracker.threaded
        until = time.monotonic() + 60
        while JobState.RUNNING not in [update.state for update in told]:
            tracker.step()
            assert time.monotonic() < until, "the question was never asked"
            time.sleep(0.005)
    finally:
        tracker.close()
        rig.close()
