"""Who imports whom: down the hourglass only, as docs/architecture.md's table says; and what importing does: nothing else."""

from __future__ import annotations

import ast
import fnmatch
import graphlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "jobyard"
NAMES_OF_FRONTS = ("drmaa", "DRMAA", "psij", "gc3libs")
FRONTS = tuple(name for name in NAMES_OF_FRONTS if (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file())
HEAVY = ("click", "rich", "platformdirs", "packaging", "sqlite3", "asyncio", "subprocess", "tomllib", "concurrent.futures.thread")


class Room:
    """A row of the table: the modules that live there, and the rooms that these may import."""

    def __init__(self, number: int, modules: list[str], words: str) -> None:
        self.number = number
        self.modules = modules
        self.words = words

    def holds(self, path: str) -> bool:
        """Whether a file under src/jobyard lives there."""
        return any(path.startswith(name) if name.endswith("/") else fnmatch.fnmatchcase(path, name) for name in self.modules)


def rooms() -> list[Room]:
    """The table of docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("| module | what lives there | may import |\n", 1)[1].split("\n\n", 1)[0]
    found: list[Room] = []
    for line in table.splitlines()[1:]:
        names, _, words = (cell.strip() for cell in line.strip().strip("|").split("|"))
        found.append(Room(len(found), re.findall(r"`([^`]+)`", names), words))
    return found


def room_of(path: str, table: list[Room]) -> Room:
    """The room of a file: the most exact name that fits."""
    fitting = [
        (max(len(name) for name in room.modules if Room(0, [name], "").holds(path)), room) for room in table if room.holds(path)
    ]
    assert fitting, f"docs/architecture.md's table has no row for src/jobyard/{path}; add it, with what it may import"
    return max(fitting, key=lambda pair: pair[0])[1]


def allowed(room: Room, table: list[Room]) -> set[int]:
    """Rooms that a row names."""
    if room.words in ("nothing", "nothing of ours"):
        return set()
    if room.words == "all of the above":
        return {other.number for other in table[: room.number]}
    found = set()
    for word in re.split(r"[,;]| and ", room.words):
        name = word.strip().strip("`")
        wanted = {"base": "schedulers/base.py", "schedulers": "schedulers/__init__.py"}.get(name, name)
        candidates = (wanted, f"{wanted}.py", f"{wanted}/", f"{wanted}/__init__.py")
        matches = [other.number for other in table if any(candidate in other.modules for candidate in candidates)]
        if not matches and (PACKAGE / wanted).is_file():  # a file of a folder that has a row
            matches = [room_of(wanted, table).number]
        assert matches, f"the row of {room.modules} may import {name!r}, which is no row of the table"
        found.add(matches[0])
    return found


def below(number: int, direct: dict[int, set[int]]) -> set[int]:
    """All rooms that can be reached from one."""
    seen: set[int] = set()
    todo = [number]
    while todo:
        for other in direct[todo.pop()] - seen:
            seen.add(other)
            todo.append(other)
    return seen


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Modules that a file imports, wherever in it, by their full names; not those that only a type checker sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
    parts = path.relative_to(SOURCE).with_suffix("").parts
    package = parts[:-1]
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            for alias in node.names:
                yield f"{module}.{alias.name}", node.lineno


def file_of(name: str) -> str | None:
    """The file under src/jobyard that holds a dotted name; None where it is none of ours."""
    parts = name.split(".")
    if parts[0] != "jobyard":
        return None
    for length in range(len(parts), 0, -1):
        path = SOURCE.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return str(file.relative_to(PACKAGE))
    return None


def sources(folder: Path) -> list[Path]:
    """Python files of a folder, in order."""
    return sorted(folder.rglob("*.py"))


def test_imports_point_down_the_hourglass() -> None:
    table = rooms()
    direct = {room.number: allowed(room, table) for room in table}
    wrong, graph = [], graphlib.TopologicalSorter[int]()
    for path in sources(PACKAGE):
        own = str(path.relative_to(PACKAGE))
        room = room_of(own, table)
        for name, line in imports(path):
            target = file_of(name)
            if target is None:
                continue
            other = room_of(target, table)
            if other is room:
                continue
            graph.add(room.number, other.number)
            if other.number not in below(room.number, direct):
                wrong.append(f"src/jobyard/{own}:{line} imports {name}; its row allows: {room.words}")
    assert not wrong, "\n".join(wrong)
    try:
        graph.prepare()
    except graphlib.CycleError as error:
        pytest.fail("rooms import each other: " + " -> ".join(str(table[n].modules) for n in error.args[1]))


def test_every_row_of_the_table_has_modules() -> None:
    files = [str(path.relative_to(PACKAGE)) for path in sources(PACKAGE)]
    for room in rooms():
        for name in room.modules:
            assert any(Room(0, [name], "").holds(file) for file in files), f"docs/architecture.md names {name}, which is not there"


@pytest.mark.parametrize("front", FRONTS)
def test_fronts_know_the_waist_alone(front: str) -> None:
    paths = [path for path in (SOURCE / f"{front}.py",) if path.is_file()] + sources(SOURCE / front)
    assert paths
    wrong = []
    for path in paths:
        for name, line in imports(path):
            parts = name.split(".")
            others = {*NAMES_OF_FRONTS} - {front} - ({"drmaa"} if front == "DRMAA" else set())
            beneath = parts[0] == "jobyard" and file_of(name) not in ("__init__.py", "fronts.py")
            if beneath or parts[0] in others:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "a front imports jobyard's public names and jobyard.fronts:\n" + "\n".join(wrong)


def test_what_runs_elsewhere_needs_nothing_but_python_3_6() -> None:
    paths = sources(PACKAGE / "node")
    assert len(paths) > 1
    for path in paths:
        text = path.read_text(encoding="utf-8")
        ast.parse(text, str(path), feature_version=(3, 6))
        for name, line in imports(path):
            top = name.split(".")[0]
            ours = name.startswith("jobyard.node.")
            assert ours or top in sys.stdlib_module_names, f"{path.name}:{line} imports {name}"
            assert top != "__future__" or not name.endswith("annotations"), f"{path.name}:{line}: Python 3.6 has no such future"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["jobyard", "jobyard.fronts", *FRONTS])
def test_importing_does_nothing_else(name: str) -> None:
    done = python(
        "import signal, sys, threading, os, json\n"
        "kinds = [s for s in signal.valid_signals()]\n"
        "before = [signal.getsignal(s) for s in kinds]\n"
        "environment, folder = dict(os.environ), os.getcwd()\n"
        f"import {name}\n"
        "assert [signal.getsignal(s) for s in kinds] == before\n"
        "assert threading.active_count() == 1\n"
        "assert (dict(os.environ), os.getcwd()) == (environment, folder)\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    assert done.stderr == ""
    assert done.returncode == 0
    # psij compares versions of plug-ins, which is what packaging is for; see docs/architecture.md.
    assert [m for m in json.loads(done.stdout) if not (name == "psij" and m == "packaging")] == []


def test_importing_any_module_starts_and_prints_nothing() -> None:
    names = []
    for path in sources(PACKAGE):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts[-1] == "__main__" or parts[1:] == ("node", "run"):  # programs: they are run, not imported
            continue
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    done = python(
        "import importlib, signal, threading\n"
        "kinds = [s for s in signal.valid_signals()]\n"
        "before = [signal.getsignal(s) for s in kinds]\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "assert [signal.getsignal(s) for s in kinds] == before\n"
        "assert threading.active_count() == 1\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "path",
    [*sources(PACKAGE), *[p for front in FRONTS for p in sources(SOURCE / front)]],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_no_module_is_longer_than_can_be_read(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 600, f"{path.relative_to(ROOT)} has {lines} lines; split it by meaning"
