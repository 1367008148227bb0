"""What goes wrong, and when: drawn from a seed, so that a history is played again by its number."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

__all__ = ["ANSWER_FAULTS", "CONTROL_FAULTS", "SUBMIT_FAULTS", "Crash", "Fault", "Life", "Mortal", "Plan"]


class Crash(BaseException):
    """The client ends here, as by kill -9. Not an Exception: nothing may catch it and go on."""


class Fault(enum.StrEnum):
    """One way in which a call to the scheduler goes wrong."""

    AWAY = "away"  # no answer at all
    CUT = "cut"  # the answer ends half-way, and shows it
    MISSING = "missing"  # rows are missing, and nothing shows it
    DOUBLED = "doubled"  # rows come twice, the second time as they were some answers ago
    STALE = "stale"  # an earlier answer again
    SHUFFLED = "shuffled"  # rows in any order
    GARBLED = "garbled"  # one row's state is a word that nobody knows
    UNPARSED = "unparsed"  # one row is no row
    CONTRADICTED = "contradicted"  # accounting: a row that says something else than the truth
    STRANGERS = "strangers"  # rows of jobs that nobody asked for
    REFUSED = "refused"  # submission: a clear no
    LOST_BEFORE = "lost_before"  # submission, control: nothing was done, and no answer says so
    LOST_AFTER = "lost_after"  # submission, control: it was done, and no answer says so
    INTERRUPT_BEFORE = "interrupt_before"  # Ctrl-C before the scheduler hears of it
    INTERRUPT_AFTER = "interrupt_after"  # Ctrl-C after that
    CRASH_BEFORE = "crash_before"  # the client ends before the scheduler hears of it
    CRASH_AFTER = "crash_after"  # the client ends after that


ANSWER_FAULTS = (
    Fault.AWAY,
    Fault.CUT,
    Fault.MISSING,
    Fault.DOUBLED,
    Fault.STALE,
    Fault.SHUFFLED,
    Fault.GARBLED,
    Fault.UNPARSED,
    Fault.STRANGERS,
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
)
SUBMIT_FAULTS = (
    Fault.REFUSED,
    Fault.LOST_BEFORE,
    Fault.LOST_AFTER,
    Fault.INTERRUPT_BEFORE,
    Fault.INTERRUPT_AFTER,
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
)
CONTROL_FAULTS = (Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.CRASH_BEFORE, Fault.CRASH_AFTER)


class Life:
    """Of one client. After ``die`` nothing that it does has any effect: handlers and destructors run, but as in a dead process."""

    def __init__(self, last_act: Callable[[], None]) -> None:
        self.dead = False
        self.left: int | None = None  # calls until it dies; None: not by itself
        self._last_act = last_act

    def die(self) -> Crash:
        """End it; the exception to be raised."""
        if not self.dead:
            self.dead = True
            self._last_act()
        return Crash("the client was killed")

    def tick(self) -> None:
        """Before and after each thing that lasts."""
        if self.dead:
            raise Crash("the client was killed before")
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise self.die()


class Mortal:
    """Wraps what a client writes with (its journal, its work folder), so that the client can die between any two calls."""

    def __init__(self, inner: Any, life: Life) -> None:
        self._inner = inner
        self._life = life

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value
        life = self._life

        def call(*arguments: Any, **keywords: Any) -> Any:
            life.tick()
            result = value(*arguments, **keywords)
            life.tick()
            return result

        return call


@dataclass
class Plan:
    """Draws faults. ``calm`` ends them all; ``away`` is an outage that lasts until it is taken back."""

    random: Random
    rate: float = 0.3  # of calls that go wrong
    calm: bool = False
    away: bool = False
    life: Life = field(default_factory=lambda: Life(lambda: None))
    interrupts: bool = False  # the user is there to press Ctrl-C
    in_a_row: int = 0

    def draw(self, faults: Sequence[Fault]) -> Fault | None:
        """What goes wrong with this call; None: nothing. Not more than three calls in a row go wrong."""
        if self.away:
            return Fault.AWAY if Fault.AWAY in faults else Fault.LOST_BEFORE
        if self.calm or self.in_a_row == 3 or self.random.random() >= self.rate:
            self.in_a_row = 0
            return None
        self.in_a_row += 1
        fault = self.random.choice(faults)
        if fault in (Fault.INTERRUPT_BEFORE, Fault.INTERRUPT_AFTER) and not self.interrupts:
            return None
        return fault
