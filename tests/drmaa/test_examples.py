"""Every program of the tutorials, in both spellings, run as its reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drmaa_suite.run import PATIENCE_S, Place

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "drmaa"
HELLO = "Hello world, the answer is 42\nSimon says: Bye world!\n"
# Program -> what it prints (ids and contacts vary), and the files that its jobs leave.
PROGRAMS = {
    "session": (r"A session was started successfully\n", 0),
    "reconnect": (r"A session was started: \S+\nLeft the session; .*\nThe session was taken up again\nJob \S+ exited with 7\n", 0),
    "run": (r"Your job has been submitted with id \S+\n", 0),
    "bulk": (r"Your 15 tasks have been submitted with ids \['\S+', .*\]\n", 0),
    "wait": (r"Your job .* id (\S+)\nJob \1 finished: exited True, status 0\n", 1),
    "synchronize": (r"Your 15 tasks have been submitted\nAll of them have finished\n", 15),
    "collect": (r"Your 15 tasks have been submitted\n(Job \S+ finished: exited True, cpu \d+\.\d{4} s\n){15}", 15),
    "control": (r"Your job .* id (\S+)\nJob \1 was aborted: True\n", 0),
    "status": (r"Your job .* id \S+\n(Job \S+: it is .*\n)+Job \S+: it finished normally\n", 1),
    "information": (r"Possible contacts: .*\nContact: \S+\nSystem: \S+.*\nImplementation: .*jobyard.*\nVersion 1\.0\n", 0),
}
OLDER = {
    "session": (r"A session object was created\nA session was started successfully\n", 0),
    "reconnect": (r"A session .*\ngetContact\(\) returns: \S+\nLeft the session\nThe session was taken up again\n", 0),
    "run": (r"Your job has been submitted with id \S+\n", 0),
    "bulk": (r"Your tasks have been submitted with ids \['\S+', .*\]\n", 0),
    "wait": (r"Your job .* id (\S+)\nJob: \1 finished with code 0\n", 1),
    "synchronize": (r"Your tasks .*\nAll of them have finished\n", 15),
    "collect": (r"Your tasks .*\n(Collecting job (\S+)\nJob: \2 finished with code 0\n){15}", 15),
    "control": (r"Your job has been submitted with id \S+\n", 0),
    "status": (r"Your job .* id \S+\n(Job \S+: it is .*\n)+Job \S+: it finished normally\n", 1),
    "information": (r"(Possible .*: .+\n){3}Contact: \S+\nSystem: .+\nImplementation: .+\nVersion 1\.0\n", 0),
}


def run(program: Path, folder: Path, place: Place) -> str:
    environment = {**os.environ, "JOBYARD_CONTACT": place.contact}
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(("name", "older"), [*((n, False) for n in PROGRAMS), *((n, True) for n in OLDER)])
def test_program(place: Place, folder: Path, name: str, older: bool) -> None:
    pattern, files = (OLDER if older else PROGRAMS)[name]
    shown = run(EXAMPLES / ("legacy" if older else "") / f"{name}.py", folder, place)
    assert re.fullmatch(pattern, shown), shown
    left = list(folder.iterdir())
    if files:
        assert len(left) == files
        assert all(file.read_text() == HELLO for file in left)


def test_every_program_is_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PROGRAMS)
    assert {path.stem for path in (EXAMPLES / "legacy").glob("*.py")} == set(OLDER)
