"""Sizes and durations with units: ``2 * GB``, ``Memory("512 MiB")``, ``Duration("1 day 4 hours")``.

A quantity is an exact multiple of its base unit (a byte, a nanosecond). Text without a unit is refused, and so is ``HH:MM``,
which may be minutes and seconds as well.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Self

__all__ = [
    "GB",
    "KB",
    "MB",
    "PB",
    "TB",
    "B",
    "Duration",
    "GiB",
    "KiB",
    "Memory",
    "MiB",
    "PiB",
    "TiB",
    "bytes",
    "day",
    "days",
    "hour",
    "hours",
    "kB",
    "microsecond",
    "microseconds",
    "millisecond",
    "milliseconds",
    "minute",
    "minutes",
    "nanosecond",
    "nanoseconds",
    "second",
    "seconds",
    "week",
    "weeks",
]

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")


@functools.total_ordering
class Quantity:
    """An amount with a unit. Amounts of one kind are added, subtracted, compared and divided; numbers multiply and divide."""

    UNITS: ClassVar[Mapping[str, int]] = {}  # each unit's name: how many base units it is
    __slots__ = ("_base", "_unit")

    def __init__(self, value: Any, unit: Any = None) -> None:
        """``value``: a number with ``unit`` (a name, or one of these quantities), a text that names the unit, or a quantity.

        ValueError: the text is none, or has no unit. TypeError: a number without a unit, or no number.
        """
        if isinstance(value, type(self)):
            self._base: Fraction = value._base
            self._unit: str = value._unit if unit is None else self._named(unit)
        elif isinstance(value, str):
            self._base, self._unit = self._parse(value.strip())
            if unit is not None:
                self._unit = self._named(unit)
        elif isinstance(value, int | float | Fraction) and not isinstance(value, bool):
            if unit is None:
                raise TypeError(f"{type(self).__name__} {value!r} has no unit; write unit=, or '{value} {next(iter(self.UNITS))}'")
            self._unit = self._named(unit)
            self._base = _exact(value) * self.UNITS[self._unit]
        else:
            raise TypeError(f"{type(self).__name__} is made of a number and a unit, or of text, not of {value!r}")

    @classmethod
    def _named(cls, unit: Any) -> str:
        name = unit._unit if isinstance(unit, cls) else unit
        if not isinstance(name, str) or name not in cls.UNITS:
            raise ValueError(f"{unit!r} is no unit of {cls.__name__}; there are: {', '.join(cls.UNITS)}")
        return name

    @classmethod
    def _parse(cls, text: str) -> tuple[Fraction, str]:
        match = _NUMBER.match(text)
        name = text[match.end() :].strip() if match else ""
        if match is None or name not in cls.UNITS:
            raise ValueError(f"{text!r} is no {cls.__name__}; write a number and a unit: {', '.join(cls.UNITS)}")
        return Fraction(match[0]) * cls.UNITS[name], name

    def _like(self, base: Fraction) -> Self:
        made = type(self).__new__(type(self))
        made._base, made._unit = base, self._unit
        return made

    @property
    def unit(self) -> Self:
        """One of its unit."""
        return self._like(Fraction(self.UNITS[self._unit]))

    def amount(self, unit: Any = None, conv: Callable[[Any], Any] | None = None) -> Any:
        """How many of ``unit`` (its own where None): whole where it is, else a float; ``conv`` is applied to it, as in
        ``amount(MB, conv=int)``, which rounds down."""
        exact = self._base / self.UNITS[self._unit if unit is None else self._named(unit)]
        number: Any = int(exact) if exact.denominator == 1 else float(exact)
        return number if conv is None else conv(number)

    def rounded_up(self, unit: Any) -> int:
        """How many whole ``unit`` hold it all."""
        return -int(-self._base // self.UNITS[self._named(unit)])

    def to_str(self, fmt: str | None = None, unit: Any = None, conv: Callable[[Any], Any] | None = None) -> str:
        """As text: ``fmt`` is a ``%`` format of amount and unit, ``"%g%s"``."""
        name = self._unit if unit is None else self._named(unit)
        amount = self.amount(name, conv)
        return f"{amount}{name}" if fmt is None else fmt % ((amount, name) if fmt.count("%") - 2 * fmt.count("%%") > 1 else amount)

    def __str__(self) -> str:
        return self.to_str()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.amount()!r}, unit={self._unit!r})"

    def __hash__(self) -> int:
        return hash((type(self), self._base))

    def __bool__(self) -> bool:
        return self._base != 0

    def __eq__(self, other: object) -> bool:
        return self._base == other._base if isinstance(other, type(self)) else NotImplemented

    def __lt__(self, other: Self) -> bool:
        return self._base < other._base if isinstance(other, type(self)) else NotImplemented

    def __add__(self, other: Self) -> Self:
        return self._like(self._base + other._base) if isinstance(other, type(self)) else NotImplemented

    def __radd__(self, other: Any) -> Self:
        return self if type(other) is int and other == 0 else NotImplemented  # so that sum() works

    def __sub__(self, other: Self) -> Self:
        return self._like(self._base - other._base) if isinstance(other, type(self)) else NotImplemented

    def __mul__(self, other: float | Fraction) -> Self:
        return self._like(self._base * _exact(other)) if _is_number(other) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, type(self)):
            exact = self._base / other._base
            return int(exact) if exact.denominator == 1 else float(exact)
        return self._like(self._base / _exact(other)) if _is_number(other) else NotImplemented

    def __floordiv__(self, other: Any) -> Any:
        if isinstance(other, type(self)):
            return int(self._base // other._base)
        return self._like(Fraction(self._base // _exact(other))) if _is_number(other) else NotImplemented

    def __mod__(self, other: Self) -> Self:
        return self._like(self._base % other._base) if isinstance(other, type(self)) else NotImplemented

    def __neg__(self) -> Self:
        return self._like(-self._base)


def _exact(value: float | Fraction) -> Fraction:
    """The number as it is written: 0.1 is a tenth."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Fraction) and not isinstance(value, bool)


class Memory(Quantity):
    """A size: decimal units from B to PB, binary ones from KiB to PiB."""

    UNITS: ClassVar[Mapping[str, int]] = {
        "B": 1,
        **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMGTP", 1)},
        **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", 1)},
        "bytes": 1,
        "KB": 1000,
    }
    __slots__ = ()


_WORDS = {
    1: ("ns", "nanosecond", "nanoseconds"),
    10**3: ("us", "microsecond", "microseconds"),
    10**6: ("ms", "millisecond", "milliseconds"),
    10**9: ("s", "sec", "secs", "second", "seconds"),
    60 * 10**9: ("m", "min", "mins", "minute", "minutes"),
    3600 * 10**9: ("h", "hr", "hrs", "hour", "hours"),
    86400 * 10**9: ("d", "day", "days"),
    7 * 86400 * 10**9: ("w", "week", "weeks"),
}
_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


class Duration(Quantity):
    """A duration: from nanoseconds to weeks; text such as ``3h42m``, ``1 day 4hours``, ``HH:MM:SS``, ``DD:HH:MM:SS``."""

    UNITS: ClassVar[Mapping[str, int]] = {word: length for length, words in _WORDS.items() for word in words}
    __slots__ = ()

    @classmethod
    def _parse(cls, text: str) -> tuple[Fraction, str]:
        if ":" in text:
            clock = _CLOCK.fullmatch(text)
            if clock is None or int(clock[3]) > 59 or Fraction(clock[4]) >= 60:
                raise ValueError(f"{text!r} is no Duration: write HH:MM:SS or DD:HH:MM:SS; two numbers alone may mean anything")
            days, hours, minutes = (int(part or 0) for part in clock.groups()[:3])
            return ((Fraction(days * 24 + hours) * 60 + minutes) * 60 + Fraction(clock[4])) * 10**9, "s"
        total, name, at = Fraction(0), "", 0
        while at < len(text) and (piece := _PIECE.match(text, at)) is not None and piece[2] in cls.UNITS:
            total += Fraction(piece[1]) * cls.UNITS[piece[2]]
            name, at = piece[2], piece.end()
        if at < len(text) or not name:
            raise ValueError(f"{text!r} is no Duration; write '3h42m', '1 day 4 hours' or HH:MM:SS")
        return total, name

    def to_timedelta(self) -> datetime.timedelta:
        """The same as a ``datetime.timedelta``, rounded to its microseconds."""
        return datetime.timedelta(microseconds=float(self._base / 1000))


bytes = B = Memory(1, unit="B")
kB, KB, MB, GB, TB, PB = (Memory(1, unit=name) for name in ("kB", "KB", "MB", "GB", "TB", "PB"))
KiB, MiB, GiB, TiB, PiB = (Memory(1, unit=name) for name in ("KiB", "MiB", "GiB", "TiB", "PiB"))
nanosecond = nanoseconds = Duration(1, unit="ns")
microsecond = microseconds = Duration(1, unit="us")
millisecond = milliseconds = Duration(1, unit="ms")
second = seconds = Duration(1, unit="s")
minute = minutes = Duration(1, unit="m")
hour = hours = Duration(1, unit="h")
day = days = Duration(1, unit="d")
week = weeks = Duration(1, unit="w")
