"""Submissions found again among the rows of a list, where a row shows jobyard's token. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..errors import SchedulerUnavailable
from .base import Accepted, Answer, Kind, Submission

__all__ = ["accepted_by_members", "accepted_by_token"]


def accepted_by_token(
    answers: Iterable[Answer], submissions: Sequence[Submission], accepted: Callable[[str, Submission], Accepted]
) -> dict[str, Accepted]:
    """What ``Dialect.parse_find`` gives; ``accepted`` makes it of the native id of a job, or of any task (``15[2]``).

    SchedulerUnavailable where one is not found and an answer is not whole: what could not be read may be the job, and who takes it
    for lost submits it twice.
    """
    by_token = {submission.token: submission for submission in submissions}
    found: dict[str, Accepted] = {}
    for answer in answers:
        for row in answer.rows:
            submission = by_token.get(row.token or "")
            if submission is not None and ("[" in row.native_id) == (submission.kind is not Kind.SINGLE):
                found.setdefault(submission.token, accepted(row.native_id, submission))
        if not answer.whole and len(found) < len(by_token):
            why = f"what is no row may be the job: {answer.unparsed[0]}" if answer.unparsed else "its answer is not whole"
            raise SchedulerUnavailable(why)
    return found


def accepted_by_members(
    answers: Iterable[Answer], submissions: Sequence[Submission], accepted: Callable[[Sequence[int], Submission], Accepted]
) -> dict[str, Accepted]:
    """The same where each task is a job of its own, with a number of its own; ``accepted`` gets all of them, in order.

    A submission of which fewer are there is none. SchedulerUnavailable where an answer is not whole.
    """
    found: dict[str, set[int]] = {}
    for answer in answers:
        for row in answer.rows:
            if row.token is not None:
                found.setdefault(row.token, set()).add(int(row.native_id))
        if not answer.complete:
            raise SchedulerUnavailable("its answer is not whole")
    made: dict[str, Accepted] = {}
    for submission in submissions:
        numbers = sorted(found.get(submission.token, ()))
        if len(numbers) == (1 if submission.kind is Kind.SINGLE else len(submission.indices)):
            made[submission.token] = accepted(numbers, submission)
    return made
