"""Every block of code in README.md and docs/ does what it says: run here, page by page, in folders of its own.

``python``: run in order, one process for a page; those with ``>>>`` as doctests. ``console``: what follows ``$`` is run by bash,
one shell for a block, and the lines below are its output, ``...`` standing for anything. ``toml``: read as config.toml.
``text``: diagrams, not run. There is no other kind.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from jobyard.config import parse

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
KINDS = ("python", "console", "toml", "text")


class Block(NamedTuple):
    """A fenced block: its page, the line of its first line, its kind and its text."""

    page: Path
    line: int
    kind: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    kind, begun, lines = None, 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"\s*(```+|~~~+)\s*(\S*)", line)
        if kind is None and fence:
            kind, begun, lines = fence[2], number + 1, list[str]()
        elif kind is not None and fence and not fence[2]:
            found.append(Block(page, begun, kind, "\n".join(lines) + "\n"))
            kind = None
        elif kind is not None:
            lines.append(line)
    assert kind is None, f"{page.relative_to(ROOT)}: the block of line {begun} has no end"
    return found


def of_kind(kind: str) -> list[Block]:
    """All blocks of that kind."""
    return [block for page in PAGES for block in blocks(page) if block.kind == kind]


def test_pages_have_blocks_of_known_kinds() -> None:
    assert of_kind("python")
    assert of_kind("console")
    assert of_kind("toml")
    for page in PAGES:
        for block in blocks(page):
            assert block.kind in KINDS, f"{block.place}: a block is one of {', '.join(KINDS)}, not {block.kind!r}"


def environment() -> dict[str, str]:
    """For programs that a page runs: the commands of this very installation first, a fixed zone, width and language."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TZ": "UTC", "COLUMNS": "100", "TERM": "dumb", "LC_ALL": "C.UTF-8", "PYTHONSAFEPATH": "1"}


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.kind == "python" for b in blocks(page))], ids=lambda p: p.stem)
def test_python_blocks_run(page: Path, yard: Path) -> None:
    place = yard / "here"
    place.mkdir()
    script = ["import doctest, sys", "names = {'__name__': '__main__'}"]
    for block in (block for block in blocks(page) if block.kind == "python"):
        if re.search(r"^>>> ", block.text, re.MULTILINE):
            arguments = f"{block.text!r}, names, {block.place!r}, {block.place!r}, {block.line - 1}"
            script.append(f"test = doctest.DocTestParser().get_doctest({arguments})")
            script.append("failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False).failed")
            script.append("names.update(test.globs)")
            script.append("assert not failed")
        else:
            padding = "\n" * (block.line - 1)  # so that a traceback shows the page's own line
            script.append(f"exec(compile({padding + block.text!r}, {str(page)!r}, 'exec'), names)")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(script)],
        cwd=place,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def commands(block: Block) -> list[tuple[str, str]]:
    """Commands of a console block with the output that is shown for each."""
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", "")
        else:
            assert found, f"{block.place}: a console block begins with a command, '$ ...'"
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.kind == "console" for b in blocks(page))], ids=lambda p: p.stem)
def test_console_blocks_print_what_is_shown(page: Path, yard: Path) -> None:
    place = yard / "here"
    place.mkdir()
    checker = doctest.OutputChecker()
    for block in (block for block in blocks(page) if block.kind == "console"):
        pairs = commands(block)
        # Each command's output ends at a mark with its number; its status is put back for the command after it.
        script = "".join(
            f"{command}\n__status=$?; printf '\\n=mark {n} %d=\\n' $__status; (exit $__status)\n"
            for n, (command, _) in enumerate(pairs)
        )
        ours = {"ARGS": "-q tests/test_contact.py"}  # of "make test", which would else begin all over again
        # "make" is meant in the project's own folder, all else wherever its user is.
        in_project = any(command.startswith("make ") for command, _ in pairs)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=ROOT if in_project else place,
            env={**environment(), **ours},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=200,
        )
        printed = done.stdout.decode("utf-8", "backslashreplace")
        for number, (command, shown) in enumerate(pairs):
            before, mark, printed = printed.partition(f"\n=mark {number} ")
            assert mark, f"{block.place}: the shell ended at {command!r}: {before}"
            status, _, printed = printed.partition("=\n")
            if in_project and not shown:  # what make prints is not shown on the page
                assert status == "0", f"{block.place}: $ {command}\n{before}"
                continue
            got = before if before.endswith("\n") or not before else before + "\n"
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert checker.check_output(shown, got, flags), f"{block.place}: $ {command}\nshown:\n{shown}\nprinted:\n{got}"


@pytest.mark.parametrize("block", of_kind("toml"), ids=lambda block: block.place)
def test_configurations_are_valid(block: Block) -> None:
    parse(block.text, block.page)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there"
