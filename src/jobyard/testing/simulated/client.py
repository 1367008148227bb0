"""A client of the simulated site: the real keeper, journal and tracker, on the world's clock, that can be killed anywhere."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from random import Random
from typing import cast

from ... import folder_receipts
from ...job import Observation
from ...journal import Journal
from ...journal_keeper import JournalKeeper
from ...journal_rows import SubmissionRow
from ...keeper import Update
from ...receipts import parse_receipt, receipt_order
from ...script import WorkRoot
from .plan import Life, Mortal
from .scheduler import SimulatedScheduler
from .world import Task, World

__all__ = ["Client", "SimulatedReceipts", "claim"]

_LOGIN = "simulated"
_GONE = ".gone"


def claim(task: Task, native_id: str) -> str | None:
    """What the shepherd does with ``claim.N``: whose it is; "" for one that was withdrawn; None where the folder is gone."""
    path = f"{task.folder}/claim.{task.number}"
    for folder in (task.folder, task.folder.replace("/work/", f"/work{_GONE}/", 1)):  # moved aside while its owner dies
        if os.path.isdir(folder):
            path = f"{folder}/claim.{task.number}"
            break
    else:
        return None
    with contextlib.suppress(FileExistsError), open(path, "x") as file:
        json.dump({"native_id": native_id}, file)
    with open(path) as file:
        return json.load(file)["native_id"] or ""


class SimulatedReceipts:
    """The tracker's source of receipts: those of the world that are visible. Sometimes nobody tells that there is something new,
    and sometimes a folder cannot be read."""

    def __init__(self, world: World, random: Random, rate: Callable[[], float]) -> None:
        self._world = world
        self._random = random
        self._rate = rate
        self._watched: dict[str, SubmissionRow] = {}
        self._read: dict[str, set[str]] = {}
        self.blind = False  # no folder can be read

    def add(self, submission: SubmissionRow) -> None:
        """Watch its folder."""
        self._watched[submission.token] = submission

    def discard(self, submission: SubmissionRow) -> None:
        """Watch it no longer."""
        self._watched.pop(submission.token, None)

    def wait(self, timeout_s: float | None) -> None:
        """Nobody waits here."""

    def wake(self) -> None:
        """Nobody waits here."""

    def changed(self) -> Collection[str]:
        """Tokens of folders with something new; now and then one is not told, until the next call."""
        return [
            token for token in self._watched if self._new(token) and not self.blind and self._random.random() >= self._rate() / 2
        ]

    def _new(self, token: str) -> list[tuple[str, bytes]]:
        read = self._read.setdefault(token, set())
        return [(name, data) for name, data in self._world.receipts(token) if name not in read]

    def read(self, submission: SubmissionRow) -> Sequence[tuple[int, Observation]]:
        """What is new in its folder, in order."""
        if self.blind or self._random.random() < self._rate() / 4:
            raise OSError("simulated: the folder does not answer")
        found = []
        for name, data in sorted(self._new(submission.token), key=lambda one: receipt_order(one[0])):
            parsed = parse_receipt(name, data, nonce=submission.nonce, token=submission.token)
            assert parsed is not None, f"the simulated shepherd wrote a receipt that is none: {name} {data!r}"
            found.append(parsed)
            self._read[submission.token].add(name)
        return found

    def close(self) -> None:
        """Nothing is open."""


class Client:
    """One process of the user's. ``keeper`` is the real one; ``step`` does what its tracker's thread would do."""

    def __init__(
        self,
        world: World,
        scheduler: SimulatedScheduler,
        folder: Path,
        session_id: str | None,
        sink: Callable[[Sequence[Update]], None],
    ) -> None:
        self._work_base = str(folder / "work")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._work_base + _GONE, self._work_base)
        plan = scheduler.plan
        self.life = plan.life = Life(self._vanish)
        self._journal = Journal(folder / "journal.db", clock=lambda: world.now)
        self._work = WorkRoot(self._work_base)
        if session_id is None:
            session_id = self._journal.create_session(_LOGIN, _LOGIN).id
        self.session_id = session_id
        folder_receipts.network_folders[self._work.path] = world.style.network_folder
        self.receipts = SimulatedReceipts(world, world.random, lambda: 0.0 if plan.calm else plan.rate)
        self.keeper = JournalKeeper(
            cast(Journal, Mortal(self._journal, self.life)),
            scheduler,
            cast(WorkRoot, Mortal(self._work, self.life)),
            self.receipts,
            session_id,
            _LOGIN,
            sink,
            clock=lambda: world.now,
            monotonic=world.clock_s,
            sleep=world.advance,
            threaded=False,
        )

    @property
    def journal(self) -> Journal:
        """Its journal, for a test to look into."""
        return self._journal

    def step(self) -> float:
        """One step of the tracker; the seconds until the next."""
        return self.keeper.tracker.step()

    def _vanish(self) -> None:
        """What a dead process still tries to write must find nothing: its folders are elsewhere until the next client comes."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._work_base, self._work_base + _GONE)

    def bury(self) -> None:
        """Let go of the files of a client that was killed, or is abandoned; its leases stay as a kill leaves them."""
        if not self.life.dead:
            self.life.die()
        self._journal.close()
        self._work.close()
