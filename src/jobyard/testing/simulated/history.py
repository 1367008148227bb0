"""Random histories: a client submits, controls, waits and crashes while a simulated site lies, lags and goes away.

``run_history(seed, folder)`` plays one and asserts, all the way, what the design promises of states. The same seed is the same
history.
"""

from __future__ import annotations

import signal as _signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

from ...errors import JobyardError
from ...job import By, Cause, JobDescription, JobState
from ...keeper import Entry, Update
from ...schedulers.base import Action, Submission
from .client import Client, claim
from .judge import judge
from .plan import Crash, Plan
from .scheduler import SimulatedScheduler
from .world import Fate, SimulatedJob, Style, Task, World

__all__ = ["History", "HistoryFailed", "run_history"]

_STEPS = (6, 10, 16, 30)
_MOST_JOBS = 7
_CALM_STEPS = 400
_QUIET_S = 300.0  # longer than a dead client's intents are left alone
_CODES = (0, 0, 0, 1, 2, 3, 7, 86, 99, 100, 125, 126, 127, 128, 137, 143, 255)
_SIGNALS = (_signal.SIGSEGV, _signal.SIGABRT, _signal.SIGKILL, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGPIPE)
_WAITING = (JobState.NEW, JobState.QUEUED, JobState.HELD)


class HistoryFailed(AssertionError):
    """An invariant does not hold; the message has the seed and what happened until then."""


def run_history(seed: int, folder: Path) -> History:
    """Play the history of that seed in an empty folder, and return it. HistoryFailed where an invariant does not hold."""
    history = History(seed, folder)
    try:
        history.play()
    finally:
        history.client.bury()
    return history


class History:
    """One history as it is played."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.folder = folder
        self.random = random = Random(seed)
        self.world = World(_style(random), random)
        self.world.fates = self._fate
        self.world.claims = claim
        self.plan = Plan(random, rate=random.choice((0.0, 0.1, 0.3, 0.6)))
        self.scheduler = SimulatedScheduler(self.world, self.plan, self._nonce)
        self.log: list[str] = [f"{self.world.style}, faults {self.plan.rate}"]
        self.crashes = 0
        self.verdicts = 0
        self._cancelled: set[int] = set()  # keys of jobs whose cancelling was acknowledged, and recorded
        self._last: dict[int, Update] = {}  # what the present client was told last of each job
        self._begun: dict[int, list[tuple[JobState, By | None]]] = {}  # what the journal's history was when last looked at
        (folder / "work").mkdir(mode=0o700)
        self.client = self._open(None)

    # What happens -----------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """All of it: the troubled part, then a calm one in which everything must come to its end."""
        acts: list[tuple[int, Callable[[], None]]] = [
            (4, self._submit),
            (2, self._submit_array),
            (2, self._submit_like),
            (8, self._step),
            (6, self._pass),
            (5, self._control),
            (2, self._die_soon),
            (1, self._outage),
            (1, self._reopen_later),
        ]
        weights = [weight for weight, _ in acts]
        self._alive(self._submit)
        for _ in range(self.random.choice(_STEPS)):
            act = self.random.choices([act for _, act in acts], weights)[0]
            self._alive(act)
            self._check_history()
        self.plan.calm = True
        self.client.life.left = None
        self._settle()
        self._check_end()

    def _alive(self, act: Callable[[], None]) -> None:
        """Do it; where the client dies of it, another takes its place, now or later."""
        self.scheduler.client_begins()
        try:
            act()
        except Crash:
            self.scheduler.forget()
            self.crashes += 1
            self.note("the client dies")
            self.client.bury()
            self.world.advance(self.random.choice((0.0, 1.0, 60.0, 400.0)))
            self.client = self._open(self.client.session_id)

    def _open(self, session_id: str | None) -> Client:
        client = Client(self.world, self.scheduler, self.folder, session_id, self._told)
        self._last = {}
        for entry in client.journal.entries(client.session_id):
            if entry.state.final:
                self._last[entry.key] = Update(entry.key, entry.state, entry.at, entry.by, entry.ending)
        return client

    def _nonce(self, submission: Submission) -> str:
        return self.client.journal.submission(submission.token).nonce

    def _submit(self) -> None:
        self._submitting("a job", lambda: self.client.keeper.submit([self._description()]))

    def _submit_like(self) -> None:
        description = self._description()
        self._submitting("like jobs", lambda: self.client.keeper.submit([description] * self.random.randint(2, 3)))

    def _submit_array(self) -> None:
        indices = range(1, self.random.randint(2, 4))
        self._submitting("an array", lambda: self.client.keeper.submit_array(self._description(), indices, None))

    def _submitting(self, what: str, submit: Callable[[], object]) -> None:
        if len(self.world.tasks) >= _MOST_JOBS:
            return self._step()
        self.note(f"submits {what}")
        self.plan.interrupts = True
        try:
            self.note(f"... taken: {submit()}")
        except JobyardError as error:
            self.note(f"... refused: {error}")
        except KeyboardInterrupt:
            self.note("... Ctrl-C")
        finally:
            self.plan.interrupts = False
        return None

    def _description(self) -> JobDescription:
        random = self.random
        return JobDescription(
            argv=("/bin/true",),
            name=random.choice((None, "work", "x y")),
            directory="/",
            hold=random.random() < 0.15,
            rerunnable=random.random() < 0.25,
            stdout="/dev/null",
            stderr="/dev/null",
        )

    def _step(self) -> None:
        self.client.step()

    def _pass(self) -> None:
        seconds = self.random.choice((0.1, 0.5, 1.0, 3.0, 10.0, 45.0, 150.0))
        self._note_time(seconds)
        self.world.advance(seconds)
        self.client.step()

    def _control(self) -> None:
        keys = list(self.client.keeper.keys())
        if not keys:
            return
        chosen = self.random.sample(keys, self.random.randint(1, min(3, len(keys))))
        action = self.random.choice((Action.CANCEL, Action.HOLD, Action.RELEASE, Action.SUSPEND, Action.RESUME, Action.REQUEUE))
        self.note(f"{action} {chosen}")
        try:
            answers = self.client.keeper.control(action, chosen)
        except JobyardError as error:
            self.note(f"... no answer: {error}")
        else:
            self.note(f"... {[str(error) if error else 'done' for error in answers.values()]}")
            if action is Action.CANCEL:
                self._cancelled.update(key for key, error in answers.items() if error is None)

    def _die_soon(self) -> None:
        self.client.life.left = self.random.randint(1, 25)

    def _outage(self) -> None:
        """Neither scheduler nor folders answer: no state of a job changes of which nothing was said before."""
        self._step()
        rows = self.client.journal.unfinished(self.client.session_id)
        quiet = {row.key: row.version for row in rows if row.facts.seen.over_clock_s is None}
        self.note("an outage begins")
        self.plan.away = self.client.receipts.blind = True
        try:
            for _ in range(4):
                self.world.advance(self.random.choice((5.0, 200.0, 40_000.0)))
                self.client.step()
        finally:
            self.plan.away = self.client.receipts.blind = False
        for row in self.client.journal.rows(quiet):
            if row.version != quiet[row.key]:
                self.fail(f"job {row.key} changed to {row.facts.state} in an outage: {row.facts}")
        self.note("the outage is over")

    def _reopen_later(self) -> None:
        """Long after the client was last there: ids of jobs that are over belong to others now."""
        self.note("the client ends, and comes back later")
        self.world.advance(self.random.choice((10.0, 1000.0, 5000.0)))
        listed = {row.native_id for row in self._listed()}
        for job in list(self.world.jobs):
            old = job.ended_at is not None and self.world.now - job.submitted_at > 700.0
            if old and self._is_known(job) and job.native_id not in listed and self.random.random() < 0.5:
                self.note(f"somebody else's job gets the id {job.native_id}")
                listed.add(job.native_id)
                self.world.intrude(job.native_id, Fate(wait_s=0.5, duration_s=50.0, exit_code=self.random.choice((0, 44))))
        self.client.bury()
        self.world.advance(self.random.choice((0.1, 20.0, 100.0)))
        self.client = self._open(self.client.session_id)

    def _is_known(self, job: SimulatedJob) -> bool:
        """Its submission is settled. Ids come round after days; nobody sends a job again then."""
        return job.token is not None and bool(self.client.journal.find(self.client.session_id, job.native_id))

    def _listed(self) -> Sequence[SimulatedJob]:
        return [job for job in self.world.jobs if self.scheduler.lists(job)]

    # The calm end -----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        since = self.world.now
        for number in range(_CALM_STEPS):
            self.client.step()
            self._release_held()
            soon = self.world.next_event_s()
            if number % 16 == 0 or soon is None:
                self._check_history()
            quiet = soon is None and not self.client.journal.unfinished(self.client.session_id)
            if quiet and self.world.now - since > _QUIET_S and not self.client.journal.stale_intents():
                return
            self.world.advance(20.0 if quiet else 5.0 if soon is None else min(max(soon + 0.01, 0.5), 30.0))
        left = [entry for entry in self._entries() if not entry.state.final]
        rows = self.client.journal.rows([entry.key for entry in left])
        self.fail(f"after {_CALM_STEPS} calm steps these have not ended: {left}\n{rows}")

    def _release_held(self) -> None:
        """Nobody is left to release what was held, or to let go on what was suspended."""
        for job in self.world.jobs:
            if job.state is JobState.HELD:
                self.world.release(job)
            elif job.state is JobState.SUSPENDED:
                self.world.resume(job)

    # What must hold ---------------------------------------------------------------------------------------------------

    def _told(self, updates: Sequence[Update]) -> None:
        """The observer: each state once, in order, the final one last; each verdict against the truth."""
        for update in updates:
            before = self._last.get(update.key)
            self.note(f"told: {update.key} {update.state} {update.by or ''} {update.ending or ''}")
            if before is not None:
                if before.state.final:
                    self.fail(f"job {update.key} was {before.state}, and then {update.state}")
                if (before.state, before.by) == (update.state, update.by):
                    self.fail(f"job {update.key} is told twice to be {update.state}")
                if update.at < before.at:
                    self.fail(f"job {update.key} was {before.state} at {before.at}, and {update.state} earlier, at {update.at}")
            self._last[update.key] = update
            if update.state.final:
                self._judge(update)

    def _judge(self, update: Update) -> None:
        self.verdicts += 1
        row = self.client.journal.rows([update.key])[0]
        task = self.world.tasks.get((row.submission.token, row.position))
        if update.ending is None:
            self.fail(f"job {update.key} is {update.state}, without an ending")
        elif task is None:
            self.fail(f"job {update.key} has ended as {update.ending}, and the scheduler never had it")
        else:
            ours, read = update.key in self._cancelled, self._end_is_there(task)
            for wrong in judge(update.ending, task, self._copies(task), self.scheduler, read=read, ours=ours):
                self.fail(f"job {update.key} {row.token}: {wrong}\n{update.ending!r}\n{task}\n{self._copies(task)}\n{row.facts}")

    def _copies(self, task: Task) -> list[SimulatedJob]:
        return [job for job in self.world.jobs if job.task is task]

    def _end_is_there(self, task: Task) -> bool:
        """The end receipt of the last run of its command can be read."""
        if not task.runs:
            return False
        name = f"receipt.{task.number}.{task.runs[-1].receipt_attempt}.end.json"
        return name in task.receipts and task.receipts[name][0] <= self.world.now

    def _check_history(self) -> None:
        """Records only grow, and nothing in them is ever another than it was."""
        journal, session_id = self.client.journal, self.client.session_id
        found: dict[int, list[tuple[JobState, By | None]]] = {}
        for fed in journal.changes_since(0, session=session_id):
            found.setdefault(fed.key, []).append((fed.transition.state, fed.transition.by))
        for entry in journal.entries(session_id):
            states, before = found.get(entry.key, []), self._begun.get(entry.key, [])
            if states[: len(before)] != before:
                self.fail(f"the history of job {entry.key} was {before}, and is {states}")
            self._begun[entry.key] = states
            self._check_order(entry, states)

    def _check_order(self, entry: Entry, states: Sequence[tuple[JobState, By | None]]) -> None:
        if states and states[-1] != (entry.state, entry.by):
            self.fail(f"job {entry.key} is {entry.state}, and its history says {states}")
        if any(state.final for state, _ in states[:-1]):
            self.fail(f"job {entry.key} went on after its end: {states}")
        if any(one == other for one, other in pairwise(states)):
            self.fail(f"job {entry.key} has a state twice: {states}")

    def _check_end(self) -> None:
        """Every accepted job ran once and is known."""
        entries = {entry.key: entry for entry in self._entries()}
        known: dict[tuple[str, int], Entry] = {}
        for row in self.client.journal.rows(entries):
            known[row.submission.token, row.position] = entries[row.key]
        for place, task in self.world.tasks.items():
            if task.runs and place not in known:
                self.fail(f"{place} ran, and nobody knows it: {task}")
        for place, entry in known.items():
            truth = self.world.tasks.get(place)
            if truth is None:
                self.fail(f"job {entry.key} {place} is known, and the scheduler never had it")
                continue
            ended = entry.ending
            assert ended is not None
            cancelled = any(job.cancelled for job in self._copies(truth))
            if not truth.runs and not cancelled:
                self.fail(f"job {entry.key} never ran: {entry}\n{truth}\n{self._copies(truth)}")
            if not truth.rerunnable and len(truth.runs) > 1:
                self.fail(f"job {entry.key} ran {len(truth.runs)} times")

    # Small things -----------------------------------------------------------------------------------------------------

    def _entries(self) -> Sequence[Entry]:
        return self.client.journal.entries(self.client.session_id)

    def note(self, text: str) -> None:
        """Remember what happened, for the message of a failure."""
        self.log.append(f"{self.world.now - 1_700_000_000:10.2f} {text}")

    def _note_time(self, seconds: float) -> None:
        self.note(f"{seconds:g} s pass")

    def fail(self, text: str) -> None:
        """An invariant does not hold."""
        happened = "\n".join(self.log)
        raise HistoryFailed(f"history {self.seed}: {text}\n\n{happened}")

    def _fate(self, _submission: Submission, _number: int) -> Fate:
        random = self.random
        fate = Fate(
            wait_s=random.choice((0.0, 0.5, 5.0, 90.0)),
            duration_s=random.choice((0.1, 3.0, 40.0, 400.0)),
            exit_code=random.choice(_CODES),
            receipt_late_s=random.choice((0.0, 1.0, 6.0)) if self.world.style.network_folder else 0.0,
            end_receipt=random.random() >= 0.05,
        )
        kind = random.choice(("exit", "exit", "exit", "signal", "cut", "never", "requeue", "trap"))
        if kind == "signal":
            number = random.choice(_SIGNALS)
            core = number in (_signal.SIGSEGV, _signal.SIGABRT) and random.random() < 0.5
            return replace(fate, signal=number, core=core)
        if kind == "cut":
            cut = random.choice((Cause.WALLTIME, Cause.MEMORY, Cause.NODE))
            return replace(fate, cut=cut, node_runs_again=cut is Cause.NODE and random.random() < 0.5)
        if kind == "never":
            return replace(fate, never_starts="/no/such/program: No such file or directory")
        if kind == "requeue":
            return replace(fate, requeue_after_s=random.choice((1.0, 20.0)))
        if kind == "trap":
            return replace(fate, traps=random.choice((0, 7)))
        return fate


def _style(random: Random) -> Style:
    choice = random.choice
    return Style(
        accounting=choice((True, True, False)),
        accounting_late_s=choice((0.0, 2.0, 20.0)),
        keeps_ended_s=choice((0.0, 5.0, 300.0)),
        counts_attempts=choice((True, False)),
        warns_before_kill=choice((True, True, False)),
        says_cancelled=choice((True, True, False)),
        tells_exit_in_queue=choice((True, False)),
        token_in_rows=choice((True, False)),
        network_folder=choice((True, False, False)),
    )
