"""A journal's keeper on a scheduler and receipts that the test plays: no thread, no clock of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from jobyard import Capabilities, Ending, JobDescription, JobState, JobyardError
from jobyard.job import Cause, Observation, Source
from jobyard.journal import Journal, SubmissionRow
from jobyard.journal_keeper import JournalKeeper
from jobyard.keeper import Update
from jobyard.schedulers.base import Accepted, Action, Answer, Kind, Row, SiteLimits, Submission
from jobyard.script import WorkRoot


class PlayedScheduler:
    """Takes everything; what it lists and finds is what the test says."""

    name = "played"
    capabilities = Capabilities(
        actions=frozenset(Action), arrays=True, max_running=True, per_task_control=True, dependencies=frozenset({"success", "any"})
    )

    def __init__(self) -> None:
        self.submitted: list[Submission] = []
        self.rows: list[Row] = []
        self.queries = 0
        self.on_query: Callable[[], None] = lambda: None
        self.on_submit: Callable[[Submission], None] = lambda submission: None
        self.known: dict[str, Accepted] = {}  # by token
        self.cancelled: list[str] = []
        self.number = 0

    def check(
        self, description: JobDescription, *, kind: Kind = Kind.SINGLE, tasks: int = 1, max_running: int | None = None
    ) -> None:
        pass

    def prepare(self, submission: Submission) -> Mapping[str, bytes]:
        return {"run.sh": b"#!/bin/sh\n"}

    def submit(self, submission: Submission) -> Accepted:
        self.on_submit(submission)
        self.submitted.append(submission)
        return self.take(submission)

    def take(self, submission: Submission) -> Accepted:
        """What it answers to a submission, and tells when it is asked for the token."""
        self.number += 1
        number = str(self.number)
        ids = (number,) if submission.kind is Kind.SINGLE else tuple(f"{number}_{index}" for index in submission.indices)
        self.known[submission.token] = Accepted(ids, None if submission.kind is Kind.SINGLE else number)
        return self.known[submission.token]

    def find(self, submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        return {one.token: self.known[one.token] for one in submissions if one.token in self.known}

    def query(self, native_ids: Collection[str]) -> Answer:
        self.queries += 1
        self.on_query()
        return Answer(rows=tuple(self.rows))

    def account(self, native_ids: Collection[str]) -> Answer:
        return Answer(complete=False)

    def control(self, action: Action, native_ids: Sequence[str], *, signal: int | None = None) -> Mapping[str, JobyardError | None]:
        if action is Action.CANCEL:
            self.cancelled += native_ids
        return dict.fromkeys(native_ids)

    def listed(self) -> Sequence[Row]:
        return self.rows

    def limits(self) -> SiteLimits:
        return SiteLimits()

    def version(self) -> str:
        return "played 1"

    def close(self) -> None:
        pass


class PlayedReceipts:
    """Receipts that the test writes. As those of folders: what was read is not told again, unless the folder is added again."""

    def __init__(self) -> None:
        self.told: dict[str, list[tuple[int, Observation]]] = {}
        self._read: Counter[str] = Counter()
        self._changed: set[str] = set()
        self.reads: Counter[str] = Counter()
        self.broken = False  # no folder can be read

    def write(self, token: str, position: int, observation: Observation) -> None:
        self.told.setdefault(token, []).append((position, observation))
        self._changed.add(token)

    def add(self, submission: SubmissionRow) -> None:
        self._read[submission.token] = 0
        self._changed.add(submission.token)

    def discard(self, submission: SubmissionRow) -> None:
        self._changed.discard(submission.token)

    def wait(self, timeout_s: float | None) -> None:
        pass

    def wake(self) -> None:
        pass

    def changed(self) -> Collection[str]:
        changed, self._changed = self._changed, set()
        return changed

    def read(self, submission: SubmissionRow) -> Sequence[tuple[int, Observation]]:
        self.reads[submission.token] += 1
        if self.broken:
            raise OSError(5, "Input/output error")
        told = self.told.get(submission.token, [])
        fresh = told[self._read[submission.token] :]
        self._read[submission.token] = len(told)
        return fresh

    def close(self) -> None:
        pass


class Rig:
    """One keeper in a folder; ``Rig(folder, session=...)`` opens the same session as another process would."""

    def __init__(self, folder: Path, session: str | None = None, scheduler: PlayedScheduler | None = None) -> None:
        self.now = 1_000_000.0
        self.journal = Journal(folder / "journal.db", clock=lambda: self.now)
        self.scheduler = scheduler or PlayedScheduler()
        self.receipts = PlayedReceipts()
        self.work = WorkRoot(str(folder / "work"))
        self.updates: list[Update] = []
        self.session = session or self.journal.create_session("played", "played").id
        self.keeper = JournalKeeper(
            self.journal,
            self.scheduler,
            self.work,
            self.receipts,
            self.session,
            "played",
            self.updates.extend,
            clock=lambda: self.now,
            monotonic=lambda: self.now,
            sleep=self.advance,
            threaded=False,
        )

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def step(self, seconds: float = 0.1) -> float:
        """Let time pass, and take in what there is."""
        self.now += seconds
        return self.keeper.tracker.step()

    def submit(self, count: int = 1, **fields: object) -> list[int]:
        described = [JobDescription(argv=("/bin/true",), directory="/", **fields)] * count  # type: ignore[arg-type]
        return [placed.key for placed in self.keeper.submit(described)]

    def token(self, key: int) -> str:
        """The submission's token."""
        return self.journal.rows([key])[0].submission.token

    def ended(self, key: int, code: int = 0, *, clean: bool = True) -> Observation:
        """What an end receipt says."""
        state = JobState.DONE if code == 0 else JobState.FAILED
        return Observation(
            source=Source.RECEIPT,
            at=self.now,
            what="end",
            state=state,
            native_id=self.journal.rows([key])[0].facts.native_id,
            attempt=1,
            ended=clean,
            clean=clean,
            ending=Ending(state=state, cause=Cause.EXITED, exit_code=code, began_at=self.now - 1, ended_at=self.now),
        )

    def close(self) -> None:
        self.keeper.close()
