"""Sizes and durations as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.units import format_duration, format_memory, parse_duration, parse_memory


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("512MiB", 512 * 2**20),
        ("2G", 2 * 2**30),
        ("1.5GB", 1_500_000_000),
        ("0.3", 1),  # a part of a byte is a byte
        (" 7 kib ", 7168),
        ("1e3", None),
        ("3 flurb", None),
        ("", None),
        ("-1", None),
        ("1 2", None),
        (1024, 1024),
        (0.5, 1),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_memory(text: str | float, n_bytes: int | None) -> None:
    if n_bytes is None:
        with pytest.raises(ValueError, match="is not a size"):
            parse_memory(text)
    else:
        assert parse_memory(text) == n_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("1h30m", 5400),
        ("2 days", 172800),
        ("1d 2h", 93600),
        ("1:30", 90),
        ("1:00:00", 3600),
        ("2-01:00:00", 176400),
        ("90", 90),
        ("0.5s", 0.5),
        (timedelta(minutes=2), 120),
        (5, 5),
        ("10q", None),
        ("m", None),
        ("", None),
        ("1.2.3", None),
        ("5 m extra", None),
        (-1, None),
        ("1::2", None),
    ],
)
def test_duration(text: str | float | timedelta, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError, match="is not a duration"):
            parse_duration(text)
    else:
        assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", [True, None, [], b"1"])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        parse_memory(value)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        parse_duration(value)  # type: ignore[arg-type]


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for parse in (parse_memory, parse_duration):
        try:
            value = parse(text)
        except ValueError as error:
            message = str(error)
        else:
            message = "is not a" if value >= 0 else "negative"
        assert "is not a" in message


def test_for_people() -> None:
    assert [format_memory(n) for n in (0, 1023, 1024, 1536, 512 * 2**20)] == ["0 B", "1023 B", "1 KiB", "1.5 KiB", "512 MiB"]
    assert [format_duration(n) for n in (0.31, 59, 125, 3600, 10921, 349200)] == [
        "0.3 s", "59 s", "2 min 5 s", "1 h", "3 h 2 min", "4 d 1 h",
    ]  # fmt: skip
