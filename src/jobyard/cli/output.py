"""Printing: text of others without its control characters, tables for people and for programs, JSON."""

from __future__ import annotations

import json
import os
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import click

__all__ = ["moment", "on_terminal", "plain", "print_json", "print_table"]

# Control and format characters (a terminal obeys the first, and the second can turn text around), surrogates (bytes that
# are no text), separators of lines and paragraphs, private and unassigned ones.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_STYLES = {
    "running": "cyan",
    "done": "green",
    "failed": "red",
    "cancelled": "yellow",
    "held": "magenta",
    "suspended": "magenta",
}


def plain(text: str) -> str:
    """The text on one line, with what a terminal would obey or hide shown as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no text
        return f"\\x{code - 0xDC00:02x}"
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def on_terminal() -> bool:
    """Standard output is a terminal that can do more than print lines."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def print_json(value: Any) -> None:
    """One JSON document on standard output; bytes that are no text stand in it as their surrogate escapes."""
    click.echo(json.dumps(value, indent=2))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, state_column: int | None = None) -> None:
    """A table: drawn on a terminal; else columns apart by two blanks, an empty cell as ``-``, nothing cut."""
    cells = [[plain(cell) for cell in row] for row in rows]
    if on_terminal():
        _draw(headings, cells, state_column)
        return
    shown = [list(headings), *([cell or "-" for cell in row] for row in cells)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(headings))]
    for row in shown:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _draw(headings: Sequence[str], cells: Sequence[Sequence[str]], state_column: int | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in cells:
        styles = ["" for _ in row]
        if state_column is not None:
            styles[state_column] = _STYLES.get(row[state_column].split(" ")[0], "")
        table.add_row(*(Text(cell, style=style) for cell, style in zip(row, styles, strict=True)))
    Console(markup=False, highlight=False).print(table)


def moment(at: float | None) -> str:
    """A time for people, in this machine's zone; "" for none."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
