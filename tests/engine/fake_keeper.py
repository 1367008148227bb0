"""A keeper in memory, told by the test what happens to its jobs: for the rules of Session, Board and their handles."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from jobyard import Capabilities, Ending, JobDescription, JobState, JobyardError, UnknownJob
from jobyard.job import By, Cause, Transition
from jobyard.keeper import Entry, Evidence, Keeper, Placed, Silence, Sink, Update
from jobyard.schedulers.base import Action, Kind, Row, SiteLimits
from jobyard.session import Session


class FakeKeeper(Keeper):
    """Jobs are numbered from 1; ``tell`` brings them to states."""

    def __init__(self, session_id: str, sink: Sink) -> None:
        self.session_id = session_id
        self.sink = sink
        self.records: dict[int, Entry] = {}
        self.descriptions: dict[int, JobDescription] = {}
        self.reaped: set[int] = set()
        self.changed = threading.Condition()
        self.acts: list[tuple[Action, tuple[int, ...], int | None]] = []
        self.answers: dict[int, JobyardError] = {}
        self.in_background = False
        self.closed = False
        self.silent: Silence | None = None

    def silence(self) -> Silence | None:
        return self.silent

    def establish(self) -> None:
        pass

    def tell(self, *told: tuple[int, JobState], by: By | None = None, ending: Ending | None = None) -> None:
        """One delivery of new states."""
        updates = []
        for key, state in told:
            end = ending or (Ending(state=state, exit_code=0, began_at=1.0, ended_at=2.0) if state.final else None)
            if state is JobState.FAILED and ending is None:
                end = Ending(state=state, exit_code=3, cause=Cause.EXITED, began_at=1.0, ended_at=2.0)
            old = self.records[key]
            if not old.state.final:
                self.records[key] = _replaced(old, state=state, by=by, ending=end)
            updates.append(Update(key, state, time.time(), by, end))
        self.sink(updates)
        with self.changed:
            self.changed.notify_all()

    def _place(self, description: JobDescription, array: str | None, index: int | None) -> Placed:
        key = len(self.records) + 1
        native_id = str(key) if array is None else f"{array}.{index}"
        self.descriptions[key] = description
        self.records[key] = Entry(
            key=key,
            token=f"{key:032x}",
            native_id=native_id,
            state=JobState.QUEUED,
            at=0.0,
            submitted_at=0.0,
            name=description.shown_name,
            array=array,
            array_id=array,
            index=index,
        )
        return Placed(key, f"{key:032x}", native_id)

    def submit(self, descriptions: Sequence[JobDescription]) -> Sequence[Placed]:
        return [self._place(description, None, None) for description in descriptions]

    def submit_array(
        self, description: JobDescription, indices: Sequence[int], max_running: int | None
    ) -> tuple[str, str, Sequence[Placed]]:
        array = f"a{len(self.records) + 1}"
        return array, array, [self._place(description, array, index) for index in indices]

    def wait_until(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        with self.changed:
            return self.changed.wait_for(done, timeout_s)

    def poll(self) -> None:
        pass

    def background(self) -> None:
        self.in_background = True

    def keys(self) -> Sequence[int]:
        return list(self.records)

    def states(self) -> Sequence[tuple[int, JobState]]:
        return [(key, record.state) for key, record in self.records.items()]

    def entries(self, keys: Sequence[int] | None = None, *, newest: int | None = None) -> Sequence[Entry]:
        chosen = list(self.records) if keys is None else [key for key in keys if key in self.records]
        if newest is not None:
            chosen = chosen[-newest:]
        return [_replaced(self.records[key], reaped=key in self.reaped) for key in chosen]

    def find(self, name: str) -> Sequence[int]:
        return [key for key, r in self.records.items() if name in (r.token, r.native_id, r.array)]

    def description(self, key: int) -> JobDescription:
        return self.descriptions[key]

    def history(self, key: int) -> Sequence[Transition]:
        return []

    def why(self, key: int) -> Sequence[Evidence]:
        return []

    def streams(self, key: int) -> tuple[str | None, str | None]:
        return None, None

    def control(self, action: Action, keys: Sequence[int], *, signal: int | None = None) -> Mapping[int, JobyardError | None]:
        self.acts.append((action, tuple(keys), signal))
        return {key: self.answers.get(key) for key in keys}

    def attach(self, native_id: str) -> int:
        raise UnknownJob(f"no job {native_id}")

    def native_ids(self) -> Sequence[str]:
        return [record.native_id or "" for record in self.records.values()]

    def reap(self, keys: Iterable[int]) -> Sequence[int]:
        fresh = [key for key in keys if key not in self.reaped]
        self.reaped.update(fresh)
        return fresh

    def remove(self, keys: Iterable[int]) -> None:
        for key in keys:
            del self.records[key]

    def close(self) -> None:
        self.closed = True
        with self.changed:
            self.changed.notify_all()


class FakeScheduler:
    """Opens one FakeKeeper; what else a Scheduler does is not asked of it here."""

    name = "fake"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.keeper: FakeKeeper | None = None

    def open_keeper(self, session_id: str | None, sink: Sink) -> FakeKeeper:
        if self.keeper is None or session_id is None:
            self.keeper = FakeKeeper(session_id or "s1", sink)
        return self.keeper

    def check(
        self, description: JobDescription, *, kind: Kind = Kind.SINGLE, tasks: int = 1, max_running: int | None = None
    ) -> None:
        pass

    def listed(self) -> Sequence[Row]:
        return []

    def limits(self) -> SiteLimits:
        return SiteLimits()

    def version(self) -> str:
        return "fake 1"

    def close(self) -> None:
        pass


def opened(monkeypatch: object, *, contact: str = "local", patience: float | None = None) -> tuple[Session, FakeKeeper]:
    """A session on a fake keeper."""
    import jobyard.schedulers

    scheduler = FakeScheduler()
    monkeypatch.setattr(jobyard.schedulers, "open_scheduler", lambda contact: scheduler)  # type: ignore[attr-defined]
    session = Session(contact, patience=patience)
    assert scheduler.keeper is not None
    return session, scheduler.keeper


def _replaced(entry: Entry, **changes: object) -> Entry:
    import msgspec

    return msgspec.structs.replace(entry, **changes)
