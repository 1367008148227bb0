"""What dialects have in common: the part of the protocol that is the same wherever the queue is all that users can ask, and what
their commands and parsers are made of. Pure."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ..errors import SchedulerUnavailable, UnsupportedAttribute
from ..job import JobDescription, Resources
from .base import Accepted, Answer, Command, Kind, Result, Row, SiteLimits, Submission
from .finding import accepted_by_token

__all__ = [
    "AFTER",
    "QueueDialect",
    "asked_ids",
    "check_count",
    "check_one_node",
    "in_parts",
    "no_answer",
    "only_id",
    "placed",
    "ranges",
]

AFTER: Mapping[str, str] = {"success": "afterok", "failure": "afternotok", "any": "afterany"}  # as PBS, Torque and Flux say it


class QueueDialect(abc.ABC):
    """Part of a Dialect, for schedulers of which users can ask the queue alone.

    It tells of jobs that have ended, too, or nobody does; submissions are found again in the list of all the user's jobs; nothing
    tells limits. What a scheduler has beyond that its dialect says itself.
    """

    @abc.abstractmethod
    def list_command(self) -> Command:
        """As Dialect.list_command."""

    @abc.abstractmethod
    def parse_query(self, result: Result) -> Answer:
        """As Dialect.parse_query; the answer of ``list_command`` is read by it, too."""

    def directives(self, submission: Submission) -> Sequence[str]:
        return ()  # all stands on the command line

    def accepted(self, native_id: str, submission: Submission) -> Accepted:
        """Of a submission that is found again: its ids, from that of the job, or of any task."""
        return Accepted((native_id,))

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        return [self.list_command()]

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        return accepted_by_token((self.parse_query(result) for result in results), submissions, self.accepted)

    def account_command(self, native_ids: Collection[str]) -> Command | None:
        return None

    def parse_account(self, result: Result) -> Answer:
        return Answer(complete=False)

    def parse_list(self, result: Result) -> Sequence[Row]:
        return self.parse_query(result).rows

    def limits_command(self) -> Command | None:
        return None

    def parse_limits(self, result: Result) -> SiteLimits:
        return SiteLimits()


# Commands -----------------------------------------------------------------------------------------------------------


def asked_ids(native_ids: Iterable[str], pattern: re.Pattern[str], as_asked: Callable[[str], str] = str) -> list[str]:
    """Those that are ids, each once, in order; ``as_asked`` makes an array's id of a task's. Nothing else reaches a command."""
    return list(dict.fromkeys(as_asked(one) for one in native_ids if pattern.fullmatch(one)))


def in_parts(native_ids: Iterable[str], pattern: re.Pattern[str], most: int) -> list[tuple[str, ...]]:
    """Those that are ids, in parts that one command can bear."""
    known = asked_ids(native_ids, pattern)
    return [tuple(known[at : at + most]) for at in range(0, len(known), most)]


def placed(job: JobDescription, *, account: str, hold: str, reservation: str | None = None, queue: str = "-q") -> list[str]:
    """The options that name the job's queue, account and reservation, and hold it."""
    named = ((queue, job.queue), (account, job.account), (reservation, job.reservation))
    words = [word for option, value in named if option is not None and value is not None for word in (option, value)]
    return [*words, hold] if job.hold else words


def ranges(numbers: Iterable[int]) -> str:
    """Indices as PBS, Torque and Flux write them: ``0-3,7,9-12``."""
    ordered = sorted(numbers)
    parts: list[str] = []
    at = 0
    while at < len(ordered):
        end = at
        while end + 1 < len(ordered) and ordered[end + 1] == ordered[end] + 1:
            end += 1
        parts.append(f"{ordered[at]}-{ordered[end]}" if end > at else str(ordered[at]))
        at = end + 1
    return ",".join(parts)


def check_one_node(scheduler: str, resources: Resources, note: str) -> None:
    """UnsupportedAttribute where several nodes are asked of a scheduler whose jobs are on one; ``note``: what to ask instead."""
    if resources.total_nodes > 1:
        raise UnsupportedAttribute(
            f"{scheduler} cannot honour {resources.total_nodes} nodes; {note}", field="processes_per_node", scheduler=scheduler
        )


# Answers ------------------------------------------------------------------------------------------------------------


def no_answer(said: str, otherwise: str = "it did not end by itself") -> SchedulerUnavailable:
    """The error for an answer that is none: its first line, where it says something."""
    return SchedulerUnavailable(said.partition("\n")[0] or otherwise)


def only_id(printed: Iterable[str]) -> str:
    """The id that a submission printed. SchedulerUnavailable: none, or several, so that it must be searched."""
    found = set(printed)
    if len(found) != 1:
        raise SchedulerUnavailable("it printed no job id" if not found else "it printed several job ids")
    return found.pop()


def check_count(printed: Collection[object], submission: Submission) -> None:
    """SchedulerUnavailable where a submission whose tasks are jobs of their own printed another number of ids."""
    expected = 1 if submission.kind is Kind.SINGLE else len(submission.indices)
    if len(printed) != expected or len(set(printed)) != expected:
        raise SchedulerUnavailable("it printed no job id" if not printed else f"it printed {len(printed)} ids, not {expected}")
