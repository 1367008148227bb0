"""Submitting for the journal's keeper: intent, folder, command, native ids; and repair of what a crash cut short.

The order is what makes every accepted job run exactly once. The intent is durable before anything leaves; the folder is there
whole before the scheduler is asked; the native ids are durable before the caller hears of the job. What is left between is
looked up by its token. Where nobody can tell whether the scheduler took a job, it is withdrawn by making its claim ourselves:
whoever has the claim runs, so that a job that was withdrawn never does, even if the scheduler starts it later.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from .ahead import Ahead
from .errors import (
    InvalidJob,
    JobyardError,
    JournalError,
    NoScheduler,
    SchedulerUnavailable,
    SubmitError,
    TransportError,
    UnsupportedAttribute,
)
from .evidence import JobFacts, Terms
from .job import Cause, Ending, Inherit, JobDescription, JobState, Observation, Source, Transition, to_data
from .job_folders import JobFolders
from .journal import Change, Intent, Journal, SubmissionRow
from .keeper import Placed
from .layout import Part, lay_out_array, lay_out_jobs
from .reconcile import reconcile
from .schedulers.base import (
    Accepted,
    Action,
    BeginsSubmissions,
    Begun,
    Capabilities,
    Kind,
    Scheduler,
    SiteLimits,
    Submission,
    Traits,
)
from .script import job_files, new_token

__all__ = ["Submitter"]

_logger = logging.getLogger("jobyard.submission")

LOOK_AGAIN_S = 2.0  # a job that a look-up does not show may be shown by the next (shepherd-spike section 6)
SIGN_S = 20.0  # how often a long call shows in the journal that this process lives
UNANSWERED_S = 10.0  # how long a look-up is tried before the job is withdrawn
_NO_TRAITS = Traits()


class _Prepared(msgspec.Struct, frozen=True):
    """One submission on its way."""

    part: Part
    submission: Submission
    files: Mapping[str, bytes]
    intent: Intent
    never: str | None = None  # why what it waits for can no longer happen


class Submitter:
    """Submissions of one session. Every method may be called from any thread."""

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        work: JobFolders,
        session_id: str,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._journal = journal
        self._scheduler = scheduler
        self._work = work
        self._session_id = session_id
        self._clock = clock
        self._sleep = sleep
        self._early = scheduler if isinstance(scheduler, BeginsSubmissions) else None
        self._ahead = None if self._early is None else Ahead(self._early, work.folder)
        self._to_withdraw: set[str] = set()  # of those: calls that failed, and whose claims could not be made yet
        self.unsettled: set[str] = set()  # tokens of intents, of this process or taken over by it, whose fate is not known

    # Submission -------------------------------------------------------------------------------------------------------

    def jobs(self, descriptions: Sequence[JobDescription]) -> list[Placed]:
        """Keeper.submit."""
        self._check_all(descriptions)
        limits = self._limits() if len(descriptions) > 1 else SiteLimits()
        parts = lay_out_jobs(descriptions, self._capabilities, limits)
        placed: dict[int, Placed] = {}
        self._send_all(parts, None, placed, len(descriptions))
        return [placed[position] for position in range(len(descriptions))]

    def array(self, description: JobDescription, indices: Sequence[int], max_running: int | None) -> tuple[str, str, list[Placed]]:
        """Keeper.submit_array."""
        self._scheduler.check(description, kind=Kind.ARRAY, tasks=len(indices), max_running=max_running)
        parts = lay_out_array(description, indices, max_running, self._limits())
        if any(part.chained for part in parts) and "any" not in self._capabilities.dependencies:
            raise UnsupportedAttribute(
                f"{self._scheduler.name} takes {len(parts)} arrays for these {len(indices)} tasks, and cannot let one wait for "
                f"another: max_running is {len(parts)} or more there, not {max_running}",
                field="max_running",
                scheduler=self._scheduler.name,
            )
        token = new_token()
        placed: dict[int, Placed] = {}
        array_id = self._send_all(parts, token, placed, len(indices))
        return token, array_id or placed[0].native_id or token, [placed[position] for position in range(len(indices))]

    @property
    def _capabilities(self) -> Capabilities:
        return self._scheduler.capabilities

    def _check_all(self, descriptions: Sequence[JobDescription]) -> None:
        checked: set[int] = set()
        for description in descriptions:
            if id(description) not in checked:
                checked.add(id(description))
                self._scheduler.check(description)

    def _limits(self) -> SiteLimits:
        try:
            return self._scheduler.limits()
        except (SchedulerUnavailable, TransportError) as error:
            _logger.info("the limits of %s are not known now: %s", self._scheduler.name, error)
            return SiteLimits()

    def _outline(self, part: Part, token: str) -> tuple[Submission, str | None]:
        """The submission, and why what it waits for can no longer happen (None: it can)."""
        after, never = self._dependencies(part.description, self._session_id)
        submission = Submission(
            token=token,
            folder=self._work.folder(token),
            description=part.description,
            kind=part.kind,
            indices=part.indices,
            max_running=part.max_running,
            after=after,
        )
        return submission, never

    def _prepare(self, part: Part, submission: Submission, never: str | None, array: str | None) -> _Prepared:
        """Everything that can go wrong without the scheduler goes wrong here, before anything is written."""
        description, token, nonce = part.description, submission.token, new_token()
        try:
            self._work.deploy()
        except OSError as error:
            raise SubmitError(f"the work folder {self._work.path} cannot be written: {error.strerror or error}") from error
        inherits = any(one.inherit is Inherit.CLIENT for one in part.descriptions)
        files = job_files(
            submission,
            _traits(self._scheduler, submission),
            nonce=nonce,
            tasks=part.descriptions if part.kind is Kind.LIKE else None,
            environment_base=dict(os.environ) if inherits else None,
        )
        files.update(self._scheduler.prepare(submission))
        can = self._capabilities
        intent = Intent(
            token=token,
            nonce=nonce,
            session=self._session_id,
            kind=part.kind.value,
            folder=submission.folder,
            work_root=self._work.path,
            description=description,
            terms=Terms(
                submitted_at=self._clock(),
                rerunnable=description.rerunnable,
                stages_in=bool(description.stage_in),
                held=description.hold,
                accounting=can.accounting,
                shows_suspended=can.shows_suspended and Action.SUSPEND in can.actions,
            ),
            indices=part.indices if part.kind is Kind.ARRAY else (),
            changes=_changes(description, part.descriptions) if part.kind is Kind.LIKE else (),
            jobs=len(part.positions),
            max_running=part.max_running,
            array=array,
        )
        return _Prepared(part, submission, files, intent, never)

    def _dependencies(self, description: JobDescription, session_id: str) -> tuple[tuple[tuple[str, str], ...], str | None]:
        """Native ids of what the job waits for, and why some of it can no longer happen (None: it can).

        What has happened already is waited for no more: the scheduler may have forgotten it.
        """
        never: str | None = None
        native: list[tuple[str, str]] = []
        for after in description.after:
            keys = self._journal.find(session_id, after.token)
            rows = self._journal.rows(keys)
            if not rows:
                raise InvalidJob(f"after: this session has no job or array {after.token}", field="after")
            whole = rows[0].submission.array == after.token and rows[0].submission.array_id is not None
            seen: set[str] = set()
            for row in rows:
                if row.facts.state.final:
                    met = after.when == "any" or (row.facts.state.value == "done") == (after.when == "success")
                    if not met:
                        never = f"it waits for the {after.when} of job {row.facts.native_id}, which has ended as {row.facts.state}"
                    continue
                one = row.submission.array_id if whole else row.facts.native_id
                if one is not None and one not in seen:
                    seen.add(one)
                    native.append((one, after.when))
        return tuple(native), never

    def _send_all(self, parts: Sequence[Part], array: str | None, placed: dict[int, Placed], count: int) -> str | None:
        """Send them in order; the array's native id. What is refused ends it: what was accepted before it stays."""
        token, begun = (new_token(), None) if self._ahead is None else self._ahead.take()
        try:
            outlines = [self._outline(part, new_token() if number else token) for number, part in enumerate(parts)]
            begun = self._begin(*outlines[0], begun)
            prepared = [self._prepare(part, *outline, array) for part, outline in zip(parts, outlines, strict=True)]
            ranges = self._journal.intend([one.intent for one in prepared])
            return self._send_each(prepared, ranges, placed, count, begun)
        finally:
            if begun is not None:
                begun.abandon()
            if self._ahead is not None:
                self._ahead.ended()

    def _begin(self, submission: Submission, never: str | None, ahead: Begun | None) -> Begun | None:
        """The submission's command, starting while its intent is made durable: it says nothing before it gets its script."""
        if self._early is None or self._ahead is None or never is not None:
            return ahead
        if ahead is not None:
            used = ahead.claim(submission)
            self._ahead.missed(used)
            if used:
                return ahead
        return self._early.begin_submission(submission)

    def _send_each(
        self, prepared: Sequence[_Prepared], ranges: Sequence[range], placed: dict[int, Placed], count: int, begun: Begun | None
    ) -> str | None:
        first_array: str | None = None
        previous: str | None = None
        sent, signed_s = 0, time.monotonic()
        try:
            for one, keys in zip(prepared, ranges, strict=True):
                sent += 1
                if time.monotonic() - signed_s > SIGN_S:  # others must not take these intents for a dead process's
                    self._journal.renew()
                    signed_s = time.monotonic()
                if one.part.chained and previous is not None:
                    one = self._chained(one, previous)
                if one.never is not None:
                    self._end_before(one.submission.token, one.intent.terms, keys, one.never)
                    placed.update(
                        {position: Placed(keys[n], self._token(one, n), None) for n, position in enumerate(one.part.positions)}
                    )
                    continue
                accepted = self._send(one, keys, begun if sent == 1 else None)
                previous = accepted.array_id or accepted.native_ids[0]
                first_array = first_array or accepted.array_id
                for number, position in enumerate(one.part.positions):
                    placed[position] = Placed(keys[number], self._token(one, number), accepted.native_ids[number])
        except BaseException as error:
            with contextlib.suppress(JournalError):  # then they are undone by repair: nothing of them has left
                for rest in prepared[sent:]:
                    self._journal.refused(rest.submission.token)
            if isinstance(error, JobyardError) and placed:
                error.add_note(f"{len(placed)} of the {count} jobs of this call had been accepted before; they are in the session")
                error.placed = tuple(placed[position] for position in sorted(placed))
            raise
        return first_array

    def _token(self, one: _Prepared, number: int) -> str:
        return one.submission.token if one.part.kind is Kind.SINGLE else f"{one.submission.token}.{number}"

    def _end_before(self, token: str, terms: Terms, keys: range, never: str) -> None:
        """What it waits for can no longer happen: it ends here, and the scheduler never hears of it."""
        now = self._clock()
        waiting = self._first_transitions(terms)
        self._journal.accepted(token, [None] * len(keys), waiting)
        ending = Ending(
            state=JobState.FAILED,
            cause=Cause.DEPENDENCY,
            aborted=True,
            message=never,
            submitted_at=terms.submitted_at,
            ended_at=now,
            attempts=0,
        )
        over = Transition(state=JobState.FAILED, at=now, ending=ending)
        self._journal.record(
            [
                Change(
                    key=row.key,
                    version=row.version,
                    facts=msgspec.structs.replace(row.facts, state=JobState.FAILED, by=None, at=now, ending=ending),
                    transitions=[over],
                )
                for row in self._journal.rows(keys)
            ]
        )

    def _chained(self, one: _Prepared, previous: str) -> _Prepared:
        """A part that waits for the one before it: its native id is known only now."""
        submission = msgspec.structs.replace(one.submission, after=(*one.submission.after, (previous, "any")))
        return _Prepared(one.part, submission, {**one.files, **self._scheduler.prepare(submission)}, one.intent)

    def close(self) -> None:
        """No more is submitted."""
        if self._ahead is not None:
            self._ahead.close()

    def _send(self, one: _Prepared, keys: range, begun: Begun | None) -> Accepted:
        submission = one.submission
        token = submission.token
        try:
            try:
                self._work.create(token, one.files)
                accepted = self._scheduler.submit(submission) if begun is None else begun.submit(one.files)
            except (SchedulerUnavailable, TransportError) as error:
                accepted = self._find_out(submission, error)
        except BaseException as error:
            if isinstance(error, JobyardError | OSError):
                if token not in self.unsettled:
                    self._drop(token)  # refused, or withdrawn: nothing of it stays
                if isinstance(error, OSError) and not isinstance(error, JobyardError):
                    raise SubmitError(
                        f"the job's folder {submission.folder} cannot be written: {error.strerror or error}"
                    ) from error
            else:
                self.unsettled.add(token)  # Ctrl-C: the tracker settles what is left
                with contextlib.suppress(OSError, TransportError):
                    self._work.withdraw(submission.folder, len(one.part.positions))
            raise
        try:
            if begun is not None and self._ahead is not None:
                self._ahead.begin(submission)  # it finds its libraries while this one is written down
            if self._accept(submission, accepted, one.intent.terms):
                return accepted
        except BaseException as error:  # the scheduler has it, and the journal does not say so: repair does
            self.unsettled.add(token)
            if isinstance(error, JobyardError):
                error.add_note(
                    f"{self._scheduler.name} had accepted the submission as {accepted.native_ids[0]}; it is looked up again"
                )
            raise
        rows = self._journal.rows(keys)  # this call gave no sign for so long that another process settled it
        return Accepted(tuple(row.facts.native_id or "" for row in rows), rows[0].submission.array_id)

    def _accept(self, submission: Submission, accepted: Accepted, terms: Terms) -> bool:
        transitions = self._first_transitions(terms)
        return self._journal.accepted(submission.token, accepted.native_ids, transitions, array_id=accepted.array_id)

    def _first_transitions(self, terms: Terms) -> Sequence[Transition]:
        now = self._clock()
        taken = Observation(source=Source.SUBMISSION, at=now, what="accepted")
        return reconcile(JobFacts(terms=terms), [taken], now, clock_s=0.0)[1]

    def _drop(self, token: str) -> None:
        with contextlib.suppress(OSError, TransportError):
            self._work.remove(token)
        self._journal.refused(token)

    # What nobody can tell -----------------------------------------------------------------------------------------------

    def _find_out(self, submission: Submission, error: JobyardError) -> Accepted:
        """The command's outcome is not known: look the token up. Raises the error where nothing runs, and never will; where the
        scheduler may have it all the same, it is cancelled as soon as that can be told (``unsettled``)."""
        try:
            found, certain = self._looked_up(submission)
        except BaseException as failed:  # a full disk, above all: repair settles it
            self.unsettled.add(submission.token)
            if isinstance(failed, OSError | JournalError):
                self._to_withdraw.add(submission.token)
                raise error from failed
            raise
        if found is not None:
            return found
        if not certain:
            self.unsettled.add(submission.token)
        raise error

    def _looked_up(self, submission: Submission) -> tuple[Accepted | None, bool]:
        """The submission as the scheduler, or its claim, shows it; withdrawn where nobody does, and whether nothing runs then."""
        deadline = time.monotonic() + UNANSWERED_S
        absent = 0
        while absent < 2 and time.monotonic() < deadline:
            self._journal.renew()  # commands can take minutes
            try:
                found = self._scheduler.find([submission]).get(submission.token)
            except (SchedulerUnavailable, TransportError, NoScheduler) as silent:
                _logger.info("it is not known whether %s took %s: %s", self._scheduler.name, submission.token, silent)
                self._sleep(min(1.0, LOOK_AGAIN_S))
                continue
            if found is not None:
                return found, True
            absent += 1
            if absent < 2:
                self._sleep(LOOK_AGAIN_S)
        held = self._work.withdraw(submission.folder, max(1, len(submission.indices)))
        if held and submission.kind is Kind.SINGLE and held[0]:
            return Accepted((held[0],)), True  # it runs already: the claim says under which id
        return None, not held and absent == 2

    # Repair ---------------------------------------------------------------------------------------------------------------

    def repair(self, rows: Sequence[SubmissionRow]) -> list[SubmissionRow]:
        """Settle intents whose owner is gone, or that this process could not settle: each is adopted, submitted again, or
        undone. It looks for all of them twice, 2 s apart, before it submits any again.

        Those that are settled; the others are left for later, as the scheduler does not answer.
        """
        mine = [row for row in rows if self._journal.claim_intent(row.token)]
        self.unsettled -= {row.token for row in rows} - {row.token for row in mine}  # somebody else settled them
        if not mine:
            return []
        self.unsettled |= {row.token for row in mine}  # they are ours now: nobody else calls them stale
        rebuilt = {row.token: self._rebuilt(row) for row in mine}
        wanted = {token: submission for token, (submission, _) in rebuilt.items()}
        try:
            found = dict(self._scheduler.find(list(wanted.values())))
            missing = [submission for token, submission in wanted.items() if token not in found]
            if missing:
                self._sleep(LOOK_AGAIN_S)
                found.update(self._scheduler.find(missing))
        except (SchedulerUnavailable, TransportError, NoScheduler) as error:
            _logger.info("%d submissions cannot be settled now: %s", len(mine), error)
            return []
        return [row for row in mine if self._settle(row, *rebuilt[row.token], found.get(row.token))]

    def _settle(self, row: SubmissionRow, submission: Submission, never: str | None, found: Accepted | None) -> bool:
        try:
            begun = self._work.claimants(row.folder, row.jobs) if found is None else ()
        except TransportError as error:
            _logger.info("the submission %s cannot be settled now: %s", row.token, error)
            return False
        if begun and all(begun):  # it ran, and the scheduler has forgotten it: sent again, it would only be refused
            found = Accepted(tuple(one for one in begun if one is not None))
        try:
            if row.token in self._to_withdraw:
                self._work.withdraw(row.folder, row.jobs)
                self._to_withdraw.discard(row.token)
            if self._work.was_withdrawn(row.folder, row.jobs):
                answers = self._scheduler.control(Action.CANCEL, found.native_ids) if found is not None else {}
                for answer in answers.values():
                    if isinstance(answer, SchedulerUnavailable | TransportError):
                        raise answer
                self._drop(row.token)
            elif found is not None:
                self._accept(submission, found, row.terms)
            elif not self._work.is_whole(row.folder):
                self._drop(row.token)  # nothing had left, and nobody was told of it
            elif never is not None:
                self._end_before(row.token, row.terms, range(row.first_key, row.first_key + row.jobs), never)
                with contextlib.suppress(OSError, TransportError):
                    self._work.remove(row.token)
            else:
                # The scheduler will show a later time of submission: by the old one its rows would be taken for another job's.
                terms = msgspec.structs.replace(row.terms, submitted_at=self._clock())
                self._journal.sent_again(row.token, terms)
                self._accept(submission, self._scheduler.submit(submission), terms)
        except (SchedulerUnavailable, TransportError, NoScheduler, JournalError, OSError) as error:
            _logger.info("the submission %s cannot be settled now: %s", row.token, error)
            return False
        except JobyardError as error:
            if any(begun):  # some of it ran: it cannot be undone any more
                _logger.info("the submission %s cannot be sent again now: %s", row.token, error)
                return False
            _logger.warning("the submission %s, which a crash cut short, was refused: %s", row.token, error)
            self._drop(row.token)
        self.unsettled.discard(row.token)
        return True

    def _rebuilt(self, row: SubmissionRow) -> tuple[Submission, str | None]:
        """The submission as it was sent, and why what it waits for can no longer happen (None: it can)."""
        description = self._journal.description(row.first_key)
        kind = Kind(row.kind)
        indices: tuple[int, ...] = ()
        if kind is Kind.ARRAY:
            indices = tuple(index or 0 for index in self._journal.indices(row))
        elif kind is Kind.LIKE:
            indices = tuple(range(row.jobs))
        after: tuple[tuple[str, str], ...]
        try:
            after, never = self._dependencies(description, row.session)
        except InvalidJob:
            after, never = (), "it waits for a job of which nothing is kept any more"
        submission = Submission(
            token=row.token,
            folder=row.folder,
            description=description,
            kind=kind,
            indices=indices,
            max_running=row.max_running,
            after=(*after, *self._chain(row)),
        )
        return submission, never

    def _chain(self, row: SubmissionRow) -> tuple[tuple[str, str], ...]:
        """The part of a split array before this one, where parts with the whole cap go one after the other. Whether they do is
        not recorded; waiting for one with the same cap is right in any case, and slower at worst."""
        if row.array is None or row.max_running is None or "any" not in self._capabilities.dependencies:
            return ()
        rows = [one for one in self._journal.rows(self._journal.find(row.session, row.array)) if one.key < row.first_key]
        before = [one for one in rows if one.submission.token == rows[-1].submission.token]
        if not before or before[0].submission.max_running != row.max_running or all(one.facts.state.final for one in before):
            return ()
        native_id = before[0].submission.array_id or before[0].facts.native_id
        return ((native_id, "any"),) if native_id is not None else ()


def _traits(scheduler: Scheduler, submission: Submission) -> Traits:
    """What the shepherd must know; a scheduler may tell it of each submission (``traits_of``), or of all (``traits``)."""
    of: Callable[[Submission], Traits] | None = getattr(scheduler, "traits_of", None)
    traits: Traits = of(submission) if of is not None else getattr(scheduler, "traits", _NO_TRAITS)
    return traits


def _changes(base: JobDescription, tasks: Sequence[JobDescription]) -> list[Mapping[str, Any]]:
    """Of each task the fields that it has otherwise, for the journal."""
    fields = base.__struct_fields__
    known: dict[int, dict[str, Any]] = {id(base): {}}
    made: list[Mapping[str, Any]] = []
    for task in tasks:
        change = known.get(id(task))
        if change is None:
            names = [name for name in fields if getattr(task, name) != getattr(base, name)]
            change = known[id(task)] = {name: to_data(getattr(task, name)) for name in names}
        made.append(change)
    return made
