"""Sizes and durations as people write them, to bytes and seconds, and back."""

from __future__ import annotations

import math
import re
from datetime import timedelta

__all__ = ["format_duration", "format_memory", "parse_duration", "parse_memory"]

_MEMORY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]*)\s*")
_DECIMAL = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "pb": 10**15}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_SIZES = {**_DECIMAL, **_BINARY, **{f"{k}ib": v for k, v in _BINARY.items()}}

_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]+)")
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    "ms": 0.001,
}
_CLOCK = re.compile(r"(?:(?:([0-9]+)-)?([0-9]+):)?([0-9]+):([0-9]+(?:\.[0-9]+)?)")


def parse_memory(value: int | float | str) -> int:
    """Bytes, rounded up: ``512MiB``, ``2G`` (binary, as batch schedulers read it), ``1.5GB`` (decimal), or a number of bytes.

    Raises ValueError where the text is not a size, TypeError for any other type; neither knows the field's name.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"a size is a number of bytes or text such as '512MiB', not {type(value).__name__}")
    if isinstance(value, str):
        match = _MEMORY.fullmatch(value)
        unit = _SIZES.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise ValueError(
                f"{value!r} is not a size; write a number with B, KiB, MiB, GiB, TiB, KB, MB, GB or TB, such as '512MiB'"
            )
        value = float(match[1]) * unit if "." in match[1] else int(match[1]) * unit
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a size; it must be a finite number of bytes, 0 or more")
    return math.ceil(value)


def parse_duration(value: float | str | timedelta) -> float:
    """Seconds: ``10m``, ``1h30m``, ``2 days``, ``[[d-]h:]m:s``, a number of seconds, or a timedelta.

    Raises ValueError where the text is not a duration, TypeError for any other type; neither knows the field's name.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"a duration is seconds, a timedelta, or text such as '10m', not {type(value).__name__}")
    if isinstance(value, str):
        value = _duration_text(value)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a duration; it must be a finite number of seconds, 0 or more")
    return float(value)


def _duration_text(text: str) -> float:
    wrong = ValueError(f"{text!r} is not a duration; write seconds, '10m', '1h30m', '2d', or '[[days-]hours:]minutes:seconds'")
    stripped = text.strip()
    if clock := _CLOCK.fullmatch(stripped):
        days, hours, minutes, seconds = clock.groups(default="0")
        return int(days) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    try:
        if re.fullmatch(r"[0-9.]+", stripped):
            return float(stripped)
    except ValueError:
        raise wrong from None
    total, at = 0.0, 0
    while at < len(stripped):
        part = _PART.match(stripped, at)
        unit = _SECONDS.get(part[2].lower()) if part else None
        if part is None or unit is None:
            raise wrong
        total += float(part[1]) * unit
        at = part.end()
    if not stripped:
        raise wrong
    return total


def format_memory(n_bytes: int) -> str:
    """A size for people, in binary units: ``512 MiB``."""
    value, units = float(n_bytes), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{value:.0f} {units[0]}" if value == int(value) else f"{value:.1f} {units[0]}"


def format_duration(seconds: float) -> str:
    """A duration for people: ``0.3 s``, ``59 s``, ``2 min 5 s``, ``3 h 2 min``, ``4 d 1 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, small, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {name} {rest} {small_name}" if rest else f"{whole // size} {name}"
    return f"{whole} s"
