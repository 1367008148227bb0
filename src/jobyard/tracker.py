"""The tracker: gathers observations of a session's unfinished jobs, lets ``reconcile`` decide, records what follows.

Three sources, from the cheapest. Receipts are told by a watch of the jobs' folders. The queue is asked for all jobs of the
login in one command, at intervals that grow while nothing changes, and by one process an interval for all of them (the
journal says whose turn it is). Accounting is asked for those jobs that left. What other processes find out comes through the
journal's feed.

All work is done in ``step``, which returns when the next one is due; a thread calls it (``start``), or whoever needs it now.
Commands run on a small pool, so that one that hangs delays no receipt. A test can leave both out and play the clock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .callbacks import Callbacks
from .errors import JobyardError, TransportError, UnknownJob
from .evidence import JobFacts
from .folder_receipts import Receipts, is_network_folder
from .hearing import Hearing
from .job import JobState, Observation, Source
from .journal import JobRow, Journal, SubmissionRow
from .journal_rows import FOREIGN
from .keeper import Update
from .reconcile import Needs, needs
from .schedulers.base import Answer, Scheduler
from .submission import Submitter
from .tracked import Tracked, answered, decided, observed_by, removed

__all__ = ["Receipts", "Tracker"]

_logger = logging.getLogger("jobyard.tracker")

SHORTEST_S = 1.0  # between two queue queries, where the contact does not say otherwise
UNREAD_S = 0.5  # between two tries of a folder that could not be read
LONGEST_S = 30.0  # between two queue queries while nothing changes
SILENCE_S = 60.0  # between two tries of a scheduler that does not answer, at most
URGENT_S = 0.3  # first look where only the scheduler's word is missing
LEAST_S = 0.01  # between two steps that nothing but time calls for
FEED_S = 0.05  # how often the journal is asked whether others changed it
CATCH_UP_S = 1.0  # how long a reader waits for a step that is under way
RENEW_S = 20.0  # how often this process shows in the journal that it lives


class Tracker:
    """Of one session. Thread-safe; ``deliver`` is called with what changed, outside all locks but the step's own."""

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        receipts: Receipts,
        session_id: str,
        login: str,
        deliver: Callable[[Sequence[Update]], None],
        *,
        submitter: Submitter | None = None,
        over: Callable[[SubmissionRow], None] = lambda submission: None,
        unanswered: Callable[[], None] = lambda: None,
        shortest_s: float = SHORTEST_S,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        commands: bool = True,
    ) -> None:
        self._journal = journal
        self._scheduler = scheduler
        self._receipts = receipts
        self._session_id = session_id
        self._login = login
        self._deliver = deliver
        self._submitter = submitter
        self._over = over
        self._shortest_s = shortest_s
        self._clock = clock
        self._monotonic = monotonic
        # Daemon threads: a command that hangs must not keep the program from ending.
        self._pool = Callbacks(2, "jobyard-query") if commands else None
        self._lock = threading.RLock()  # of the step
        self._jobs: dict[int, Tracked] = {}
        self._submissions: dict[str, SubmissionRow] = {}  # by token: those with unfinished jobs
        self._left: dict[str, int] = {}  # how many of their jobs are unfinished
        self._pending: dict[int, Needs] = {}  # jobs that seem over, and what each waits for: looked at in each step
        self._answers: deque[Callable[[], None]] = deque()  # what finished commands found, to be taken in by a step
        self._asking: set[str] = set()  # "queue", "accounting", "repair": a command is under way
        self._fed = journal.last_change()
        self._unfed = True  # something was committed that may not have been told yet
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        now_s = monotonic()
        self._interval_s = shortest_s
        self._next_query_s = now_s
        self._next_account_s = now_s
        self._account_interval_s = shortest_s
        self._next_feed_s = now_s
        self._next_renew_s = now_s
        self._next_repair_s = now_s
        self._tried: set[str] = set()  # unsettled intents that were tried to be repaired
        self._failures = 0
        self._last_poll: float | None = None  # by another process, as far as it was noticed
        self.hearing = Hearing(journal, login, scheduler.name, clock, unanswered)
        self._loaded = False
        self._unread: dict[str, float] = {}  # by token: folders that could not be read, and when to try again
        self._written: set[int] = set()  # keys that were recorded by this object since the feed was read

    # From outside -------------------------------------------------------------------------------------------------------

    @property
    def threaded(self) -> bool:
        """A thread calls ``step``."""
        return self._thread is not None

    @property
    def unfinished(self) -> int:
        """How many jobs are tracked."""
        return len(self._jobs)

    @property
    def asking(self) -> bool:
        """A query of the queue is under way."""
        return "queue" in self._asking

    def start(self) -> None:
        """Let a thread call ``step`` from now on."""
        with self._lock:
            if self._thread is None and not self._stopped.is_set():
                thread = threading.Thread(target=self._run, name="jobyard-tracker", daemon=True)
                thread.start()  # where there can be none now, the next who waits tries again
                self._thread = thread

    def add(self, keys: Iterable[int]) -> None:
        """Track these newly accepted jobs; the queue is asked soon."""
        with self._lock:
            self._load()
            self._feed(frozenset(keys))
            self._soon(self._shortest_s)
        self._receipts.wake()

    def catch_up(self) -> None:
        """Tell what was written so far. Who reads states from the journal does this before using them: a state must not be known
        to the session before those that came before it are told."""
        if self._lock.acquire(timeout=CATCH_UP_S):
            try:
                if not self._stopped.is_set():
                    self._load()
                    self._feed()
            finally:
                self._lock.release()

    def observe(self, observations: Mapping[int, Observation]) -> None:
        """Something is known of jobs from elsewhere (an act that was acknowledged): record it, and what follows."""
        with self._lock:
            self._load()
            now_s = self._monotonic()
            group = {key: self._jobs[key] for key in observations if key in self._jobs}
            group.update(
                {row.key: Tracked(row, now_s) for row in self._journal.rows(key for key in observations if key not in group)}
            )
            self._settle({key: [one] for key, one in observations.items()}, group)
            self._soon(self._shortest_s)
        self._receipts.wake()

    def close(self) -> None:
        """End the thread. A command that hangs is left to end by itself."""
        with self._lock:
            self._stopped.set()
        self._receipts.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5.0)
        if self._pool is not None:
            self._pool.close()
        self._receipts.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._receipts.wait(self.step())
            except Exception as error:
                if self._stopped.is_set():  # the journal was closed under it
                    return
                # Whatever it is, jobs must go on being followed; the same step is tried again.
                if isinstance(error, JobyardError):
                    _logger.warning("following jobs of %s failed, and is tried again: %s", self._login, error)
                else:
                    _logger.exception("following jobs of %s failed, and is tried again", self._login)
                self._stopped.wait(1.0)

    # The step -------------------------------------------------------------------------------------------------------------

    def step(self) -> float:
        """Take in what there is, ask what is due; the seconds after which there may be more to do."""
        with self._lock:
            if self._stopped.is_set():
                return LONGEST_S
            self._load()
            now_s = self._monotonic()
            self._renew(now_s)
            if now_s >= self._next_feed_s:
                self._next_feed_s = now_s + FEED_S
                self._feed()
            while self._answers:
                self._answers.popleft()()
            if self._thread is None:  # nobody waits for receipts: what came is seen by who looks
                self._receipts.wait(0.0)
            tokens = {*self._receipts.changed(), *(token for token, at_s in self._unread.items() if now_s >= at_s)}
            found = (self._submissions[token] for token in tokens if token in self._submissions)
            self._look(sorted(found, key=lambda submission: submission.first_key))  # told in the order of submission
            self._timers(now_s)
            self._repair(now_s)
            self._ask_queue(now_s)
            self._ask_accounting(now_s)
            if self._asking and self._pool is not None:
                self._pool.nudge()
            while self._answers:  # without a pool, commands have answered already
                self._answers.popleft()()
            return self._until(self._monotonic())

    def _until(self, now_s: float) -> float:
        # Each is looked at within FEED_S in any case; what has been due for longer waits for something else than time.
        waits = self._pending.values()
        due = [self._next_feed_s, *(need.until_s for need in waits if need.until_s is not None and need.until_s > now_s)]
        if self._jobs and "queue" not in self._asking:
            due.append(max(self._next_query_s, now_s + LEAST_S))
        if "accounting" not in self._asking and any(need.accounting for need in waits):
            due.append(max(self._next_account_s, now_s + LEAST_S))
        return max(0.0, min(due) - now_s)

    def _soon(self, wait_s: float) -> None:
        self._interval_s = self._shortest_s
        self._next_query_s = min(self._next_query_s, self._monotonic() + wait_s)

    def _renew(self, now_s: float) -> None:
        if now_s >= self._next_renew_s and self._submitter is not None and self._submitter.unsettled:
            self._journal.renew()
            self._next_renew_s = now_s + RENEW_S

    # Jobs of this session -----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        if not self._loaded:
            self._take_rows(self._journal.unfinished(self._session_id))
            self._loaded = True

    def _take_rows(self, rows: Iterable[JobRow]) -> None:
        now_s = self._monotonic()
        for row in rows:
            if row.facts.state.final:
                self._forget(row.key)
                continue
            known = self._jobs.get(row.key)
            if known is not None:
                known.version, known.facts = row.version, row.facts
            else:
                submission = self._submissions.get(row.submission.token)
                if submission is None:
                    submission = self._submissions[row.submission.token] = row.submission
                    self._left[submission.token] = 0
                    if submission.kind != FOREIGN:
                        self._receipts.add(submission)
                tracked = self._jobs[row.key] = Tracked(row, now_s)
                tracked.submission = submission
                self._left[submission.token] += 1
            self._note_pending(row.key, row.facts)

    def _note_pending(self, key: int, facts: JobFacts) -> None:
        if facts.seen.over_clock_s is None and facts.seen.end is None:
            self._pending.pop(key, None)
            return
        if facts.seen.end is not None and key not in self._pending:  # only the scheduler's word is missing
            self._soon(min(URGENT_S, self._shortest_s))
        self._pending[key] = needs(facts)

    def _forget(self, key: int) -> None:
        tracked = self._jobs.pop(key, None)
        self._pending.pop(key, None)
        if tracked is None:
            return
        token = tracked.submission.token
        self._left[token] -= 1
        if not self._left[token]:
            del self._left[token], self._submissions[token]
            self._unread.pop(token, None)
            if tracked.submission.kind != FOREIGN:
                self._receipts.discard(tracked.submission)
            self._over(tracked.submission)

    # What was written ---------------------------------------------------------------------------------------------------------

    def _feed(self, new: frozenset[int] = frozenset()) -> None:
        """Tell what was written of this session's jobs, by us or by other processes, in the order in which it was written."""
        if self._journal.changed() or new:
            self._unfed = True
        more = self._unfed
        while more:
            newest, fed, rows, more = self._journal.news(self._fed, self._session_id, new)
            self._take_rows(rows)
            before, told = self._fed, [(one.key, one.transition) for one in fed]
            self._fed = fed[-1].number if more else max(before, newest)  # those of other sessions are never looked at again
            try:
                self._deliver([Update(key, made.state, made.at, made.by, made.ending, made.reason) for key, made in told])
            except BaseException:  # Ctrl-C: whoever waits for an end must hear of it
                self._fed = before
                raise
            for key, made in told:
                if made.state.final:
                    self._forget(key)
            if others := {key for key, _ in told} - self._written - new:
                self._take_rows(self._journal.rows(others))
        self._unfed = False
        self._written.clear()

    # Receipts -------------------------------------------------------------------------------------------------------------------

    def _look(self, submissions: Collection[SubmissionRow], over: Iterable[int] = ()) -> None:
        """Read folders, and settle what they say; of the jobs that seem ``over`` also that they say nothing."""
        observed: dict[int, list[Observation]] = {}
        with self._again(submissions):
            read = {submission.token for submission in submissions if self._read_folder(submission, observed)}
            nothing = Observation(source=Source.ABSENCE, at=self._clock(), what="no_receipt")
            for key in over:
                if self._jobs[key].submission.token in read:  # else nothing is known, and nothing is decided
                    observed.setdefault(key, []).append(nothing)
            self._settle(observed, self._jobs)

    @contextlib.contextmanager
    def _again(self, submissions: Iterable[SubmissionRow]) -> Iterator[None]:
        """Where what these folders say is not recorded after all (Ctrl-C, a full disk), they are read again from the start: what is
        told twice counts once."""
        try:
            yield
        except BaseException:
            for submission in submissions:
                if submission.token in self._submissions:
                    self._receipts.discard(submission)
                    self._receipts.add(submission)
            raise

    def _read_folder(self, submission: SubmissionRow, observed: dict[int, list[Observation]]) -> bool:
        try:
            found = self._receipts.read(submission)
        except (OSError, TransportError) as error:  # no answer; the queue will tell, or the next look
            _logger.debug("the folder %s cannot be read now: %s", submission.folder, error)
            self._unread[submission.token] = self._monotonic() + UNREAD_S
            return False
        self._unread.pop(submission.token, None)
        for position, observation in found:
            key = submission.first_key + position
            if 0 <= position < submission.jobs:
                observed.setdefault(key, []).append(observation)
        return True

    def _timers(self, now_s: float) -> None:
        """Jobs that seem over: look into their folders, and see whether their time has come."""
        if not self._pending:
            return
        over: list[int] = []
        folders: dict[str, SubmissionRow] = {}
        for key, need in self._pending.items():
            submission = self._jobs[key].submission
            late = need.until_s is not None and now_s >= need.until_s
            if need.receipts and (late or not is_network_folder(submission.work_root)):
                over.append(key)
                folders[submission.token] = submission
        if over:
            self._look(list(folders.values()), over)

    # The queue ------------------------------------------------------------------------------------------------------------------

    def _ask_queue(self, now_s: float) -> None:
        if not self._jobs or "queue" in self._asking or now_s < self._next_query_s:
            return
        urgent = self._urgent()
        interval_s = min(self._interval_s, URGENT_S if urgent and not self._failures else self._interval_s)
        if not self._journal.claim_poll(self._login, interval_s * 0.9):
            self._others_asked(now_s, interval_s)
            return
        others = {row.key: row for row in self._journal.unfinished(login=self._login) if row.key not in self._jobs}
        ids = {tracked.facts.native_id for tracked in self._jobs.values()} | {row.facts.native_id for row in others.values()}
        asked, at = sorted(one for one in ids if one is not None), self._clock()
        if asked:
            self._command(
                "queue", lambda: self._scheduler.query(asked), lambda answer: self._queue_answer(answer, others, now_s, at)
            )

    def _others_asked(self, now_s: float, interval_s: float) -> None:
        """Another process asks for all of us: the interval grows with its questions as with our own."""
        last = self._journal.last_poll(self._login)
        self.hearing.of_others()
        if last != self._last_poll:
            self._last_poll = last
            self._interval_s = min(self._interval_s * 1.5, max(LONGEST_S, self._shortest_s))
            self._take_over()
        since_s = max(0.0, self._clock() - last) if last is not None else 0.0
        self._next_query_s = now_s + max(interval_s - since_s, self._shortest_s / 4)

    def _take_over(self) -> None:
        """What others noted of this session's jobs without deciding: its folders are read here, and here it is decided."""
        self._take_rows(row for row in self._journal.unfinished(self._session_id) if row.key in self._jobs)
        told = [
            key
            for key, tracked in self._jobs.items()
            for seen in (tracked.facts.seen,)
            if seen.over_clock_s is None and (seen.queue or seen.account or seen.absent_clock_s is not None)
        ]
        self._settle({key: [] for key in told}, self._jobs)

    def _urgent(self) -> bool:
        """Receipts are there for which only the scheduler's word is missing."""
        return any(self._jobs[key].facts.seen.end is not None for key in self._pending)

    def _queue_answer(self, answer: Answer | JobyardError, others: Mapping[int, JobRow], asked_s: float, at: float) -> None:
        now_s = self._monotonic()
        if isinstance(answer, JobyardError):
            self._failures += 1
            self._interval_s = min(self._shortest_s * 2 ** min(self._failures, 10), SILENCE_S)
            self._next_query_s = now_s + self._interval_s
            self.hearing.unanswered(at, str(answer))
            return
        self._failures = 0
        self.hearing.answered()
        group = {key: Tracked(row, asked_s - 1.0) for key, row in others.items()}
        group.update({key: tracked for key, tracked in self._jobs.items() if tracked.since_s < asked_s})
        changed = self._settle(observed_by(Source.QUEUE, answer, group, at), group)
        urgent = self._urgent()
        if changed or urgent:
            self._interval_s = self._shortest_s
        else:
            self._interval_s = min(self._interval_s * 1.5, max(LONGEST_S, self._shortest_s))
        self._next_query_s = now_s + (min(URGENT_S, self._shortest_s) if urgent and changed else self._interval_s)

    # Accounting -----------------------------------------------------------------------------------------------------------------

    def _ask_accounting(self, now_s: float) -> None:
        if not self._pending or "accounting" in self._asking or now_s < self._next_account_s:
            return
        wanting = {
            key: self._jobs[key]
            for key, need in self._pending.items()
            if need.accounting and self._jobs[key].facts.native_id is not None
        }
        if not wanting:
            self._account_interval_s = self._shortest_s
            return
        ids = sorted({tracked.facts.native_id for tracked in wanting.values() if tracked.facts.native_id is not None})
        at = self._clock()
        self._command("accounting", lambda: self._scheduler.account(ids), lambda answer: self._account_answer(answer, wanting, at))

    def _account_answer(self, answer: Answer | JobyardError, asked: Mapping[int, Tracked], at: float) -> None:
        now_s = self._monotonic()
        self._account_interval_s = min(self._account_interval_s * 1.5, LONGEST_S)
        self._next_account_s = now_s + self._account_interval_s
        if isinstance(answer, JobyardError):
            _logger.info("the accounting of %s does not answer: %s", self._scheduler.name, answer)
            self._account_interval_s = min(self._account_interval_s * 2, SILENCE_S)
            return
        group = {key: one for key, one in asked.items() if self._jobs.get(key) is one}
        if self._settle(observed_by(Source.ACCOUNTING, answer, group, at), group):
            self._account_interval_s = self._shortest_s  # the next that ends is not to wait because others do

    # Deciding and recording -------------------------------------------------------------------------------------------------------

    def _with_receipts(
        self, observed: Mapping[int, Sequence[Observation]], group: Mapping[int, Tracked], folders: dict[str, SubmissionRow]
    ) -> tuple[dict[int, Sequence[Observation]], set[int]]:
        """The observations, before them what the folders of jobs that seem over hold, and the jobs that may be decided: not
        those whose folder cannot be read now, and not those of another session, whose folders are read by that session.
        ``folders``: those that were read, by token.
        """
        whole: dict[int, Sequence[Observation]] = dict(observed)
        looked: set[int] = set()
        found: dict[int, list[Observation]] = {}
        read: dict[str, bool] = {}
        for key, seen in observed.items():
            tracked = group.get(key)
            if tracked is None:
                continue
            over = tracked.facts.seen.over_clock_s is not None or any(one.ended or one.source is Source.ABSENCE for one in seen)
            if not tracked.facts.terms.receipts or not over:
                looked.add(key)
            elif key in self._jobs:
                if any(one.source is Source.RECEIPT or one.what == "no_receipt" for one in seen):
                    looked.add(key)
                    continue
                token = tracked.submission.token
                if token not in read:
                    folders[token] = tracked.submission
                    read[token] = self._read_folder(tracked.submission, found)
                if read[token]:
                    looked.add(key)
        for key, receipts in found.items():
            whole[key] = [*receipts, *whole.get(key, ())]
            looked.add(key)
        return whole, looked

    def _settle(self, observed: Mapping[int, Sequence[Observation]], group: Mapping[int, Tracked]) -> bool:
        """Let reconcile decide on jobs of the group, write what follows in one commit, tell it. Whether any state changed."""
        folders: dict[str, SubmissionRow] = {}
        with self._again(folders.values()):
            return self._record(*self._with_receipts(observed, group, folders), group)

    def _record(self, observed: Mapping[int, Sequence[Observation]], looked: Collection[int], group: Mapping[int, Tracked]) -> bool:
        moved = False
        todo = dict(observed)
        while todo:
            now, clock_s = self._clock(), self._monotonic()
            changes = [
                change
                for key, seen in todo.items()
                if key in group and (change := decided(key, group[key], seen, now, clock_s, conclude=key in looked))
            ]
            missed = self._journal.record(changes)
            for change in changes:
                if change.key not in missed:
                    moved = moved or bool(change.transitions)
                    tracked = group[change.key]
                    tracked.version, tracked.facts = change.version + 1, change.facts
                    if change.key in self._jobs:
                        self._written.add(change.key)
                        self._note_pending(change.key, change.facts)
                    elif change.facts.state.final:
                        self._ended_elsewhere(tracked.submission)
            todo = {}
            for key, row in missed.items():  # somebody wrote first: decide again on what they wrote
                if row is None:
                    self._removed(key)
                elif not row.facts.state.final:
                    group[key].version, group[key].facts = row.version, row.facts
                    todo[key] = observed[key]
            if changes:
                self._feed()
        return moved

    def _removed(self, key: int) -> None:
        """Another process removed the job before this one heard of its end: whoever waits for it must not wait for ever."""
        if key not in self._jobs:
            return
        now = self._clock()
        self._forget(key)
        self._deliver([Update(key, JobState.FAILED, now, None, removed(now), None)])

    def _ended_elsewhere(self, submission: SubmissionRow) -> None:
        """A job of another session ended, which nobody may follow: its folder goes with the last job of its submission."""
        rows = self._journal.rows(range(submission.first_key, submission.first_key + submission.jobs))
        if all(row.facts.state.final for row in rows):
            self._over(submission)

    # Repair ---------------------------------------------------------------------------------------------------------------------

    def _repair(self, now_s: float) -> None:
        """Intents that a crash left: of this login, whoever made them; those that are new to this process at once."""
        if self._submitter is None or "repair" in self._asking:
            return
        if now_s < self._next_repair_s and self._submitter.unsettled <= self._tried:
            return
        self._next_repair_s, self._tried = now_s + RENEW_S, set(self._submitter.unsettled)
        stale = self._journal.stale_intents(self._login)
        for token in list(self._submitter.unsettled):
            try:
                stale.append(self._journal.submission(token))
            except UnknownJob:  # another process undid it
                self._submitter.unsettled.discard(token)
        if stale:
            submitter = self._submitter

            def work() -> list[SubmissionRow]:
                return submitter.repair(stale)

            self._command("repair", work, self._repaired)

    def _repaired(self, rows: Any) -> None:
        for row in rows if isinstance(rows, list) else ():  # else repair had no answer
            if row.session == self._session_id:
                self._take_rows(self._journal.rows(range(row.first_key, row.first_key + row.jobs)))

    # Commands ---------------------------------------------------------------------------------------------------------------------

    def _command(self, name: str, ask: Callable[[], Any], take: Callable[[Any], None]) -> None:
        """Ask on the pool; what comes is taken in by the next step."""
        self._asking.add(name)

        def run() -> None:
            answer = answered(ask, f"{self._scheduler.name} ({name})")

            def taken() -> None:
                self._asking.discard(name)
                take(answer)

            self._answers.append(taken)
            if not self._stopped.is_set():
                self._receipts.wake()

        if self._pool is None:
            run()
        else:
            self._pool.call(name, run)
