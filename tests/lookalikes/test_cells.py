"""The lookalikes themselves: nothing of jobyard in them, and the same words as the recordings where there are some."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobyard.testing import lookalike
from schedulers.recordings import names, recording

PROGRAMS = Path(lookalike.__file__).parent / "programs"


@pytest.fixture(params=tuple(lookalike.COMMANDS))
def cell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[lookalike.Lookalike]:
    with lookalike.install(tmp_path / "cell", request.param) as made:
        yield made


def said(cell: lookalike.Lookalike, *words: str, stdin: str = "") -> tuple[int, str, str]:
    """What a command of the cell answers, without anything of this process."""
    done = subprocess.run(
        [str(cell.bin / words[0]), *words[1:]], input=stdin, capture_output=True, text=True, check=False, env={"PATH": os.defpath}
    )
    return done.returncode, done.stdout, done.stderr


def test_the_programs_import_the_standard_library_and_each_other() -> None:
    for path in PROGRAMS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {name.name.partition(".")[0] for name in node.names} <= sys.stdlib_module_names, path
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").partition(".")[0] in sys.stdlib_module_names, path
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or (node.module or "").startswith("standin.programs"), path


def test_a_cell_holds_all_that_it_needs(cell: lookalike.Lookalike) -> None:
    assert not any("jobyard" in path.name for path in cell.folder.rglob("*"))
    version = {
        "pbs": ("qstat", "--version"),
        "torque": ("qstat", "--version"),
        "lsf": ("bjobs", "-V"),
        "flux": ("flux", "--version"),
        "cobalt": ("qsub", "--version"),
        "nqsv": ("qstat", "-V"),
    }
    code, out, err = said(cell, *version[cell.style])
    assert code == 0, err
    assert re.search(r"[0-9]+\.[0-9]+", out + err)


def test_settings_that_are_none(cell: lookalike.Lookalike) -> None:
    with pytest.raises(RuntimeError):
        cell.configure(no_such_setting=1)
    with pytest.raises(ValueError, match="no lookalike"):
        lookalike.install(cell.folder, "no-such-scheduler")


def test_every_source_that_is_named_is_kept() -> None:
    """A comment that names a recording names one that lies in tests/data."""
    for style, pattern in (("pbs", r"#.*?(?<![a-z-])((?:err|qsub|qstat|array|finished|race|depend)-[a-zA-Z0-9-]+)"),):
        kept = {name.rpartition(".")[0] for name in names(style)}
        named = set(re.findall(pattern, (PROGRAMS / f"{style}.py").read_text()))
        assert len(named) > 20
        assert named <= kept, named - kept


PBS = [
    ("err-unknown-queue.txt", ("qsub", "-q", "nosuch", "SCRIPT")),
    ("err-bad-walltime.txt", ("qsub", "-l", "walltime=abc", "SCRIPT")),
    ("err-bad-resource.txt", ("qsub", "-l", "nosuchres=3", "SCRIPT")),
    ("err-no-such-script.txt", ("qsub", "/no/such")),
    ("err-array-too-big.txt", ("qsub", "-J", "1-20000", "SCRIPT")),
    ("version.txt", ("qstat", "--version")),
]


@pytest.mark.parametrize(("name", "words"), PBS, ids=[name for name, _ in PBS])
def test_pbs_says_what_was_recorded(tmp_path: Path, name: str, words: tuple[str, ...]) -> None:
    (tmp_path / "script.sh").write_text("#!/bin/sh\n")
    with lookalike.install(tmp_path / "cell", "pbs", host="pbsbed") as cell:
        code, out, err = said(cell, *(str(tmp_path / "script.sh") if word == "SCRIPT" else word for word in words))
    wanted = recording("pbs", name)
    assert (code, out, err) == (wanted.returncode, wanted.text, wanted.stderr.decode())


IDS = [
    ("err-qdel-unknown.txt", ("qdel", "99999")),
    ("err-qhold-unknown.txt", ("qhold", "99999")),
    ("err-qsig-unknown.txt", ("qsig", "-s", "TERM", "99999")),
    ("err-qstat-unknown.txt", ("qstat", "99999")),
    ("err-other-server.txt", ("qstat", "5.nosuchserver")),
]


@pytest.mark.parametrize(("name", "words"), IDS, ids=[name for name, _ in IDS])
def test_pbs_says_what_was_recorded_of_unknown_jobs(tmp_path: Path, name: str, words: tuple[str, ...]) -> None:
    with lookalike.install(tmp_path / "cell", "pbs", host="pbsbed") as cell:
        code, out, err = said(cell, *words)
    wanted = recording("pbs", name)
    assert (code, out, err) == (wanted.returncode, wanted.text, wanted.stderr.decode())


def test_pbs_shows_the_fields_that_were_recorded(tmp_path: Path) -> None:
    """The same names, in the same order, as far as both have them."""
    (tmp_path / "script.sh").write_text("#!/bin/sh\nexit 3\n")
    with lookalike.install(tmp_path / "cell", "pbs", host="pbsbed") as cell:
        assert said(cell, "qsub", "-N", "depfirst", str(tmp_path / "script.sh"))[1] == "1.pbsbed\n"
        for _ in range(200):
            code, out, _ = said(cell, "qstat", "-x", "-f", "-F", "dsv", "1")
            if "job_state=F" in out:
                break
    recorded = recording("pbs", "multi-id-dsv.txt").text.splitlines()[0]
    ours, theirs = (re.findall(r"\|([A-Za-z_.]+)=", line) for line in (out, recorded))
    assert code == 0
    assert [name for name in ours if name in theirs] == [name for name in theirs if name in ours]
    assert set(ours) <= set(theirs)
    assert len(ours) > 25


FLUX = [
    ("err-jobs-unknown-json.txt", ("flux", "jobs", "--json", "f999999")),
    ("err-bad-dependency.txt", ("flux", "submit", "--dependency=foo:1", "SCRIPT")),
    ("err-bad-dependency2.txt", ("flux", "submit", "--dependency=afterok:f999999", "SCRIPT")),
    ("err-bad-duration.txt", ("flux", "submit", "--time-limit=abc", "SCRIPT")),
    ("err-no-queue.txt", ("flux", "submit", "--queue=nosuch", "SCRIPT")),
    ("err-no-command.txt", ("flux", "submit")),
    ("err-bad-option.txt", ("flux", "submit", "--nosuch", "SCRIPT")),
    ("err-cancel-unknown.txt", ("flux", "cancel", "f999999")),
    ("err-kill-unknown.txt", ("flux", "job", "kill", "-s", "SIGTERM", "f999999")),
    ("err-urgency-unknown.txt", ("flux", "job", "urgency", "f999999", "0")),
    ("jobs-empty.json", ("flux", "jobs", "--json", "-a")),
]


@pytest.mark.parametrize(("name", "words"), FLUX, ids=[name for name, _ in FLUX])
def test_flux_says_what_was_recorded(tmp_path: Path, name: str, words: tuple[str, ...]) -> None:
    (tmp_path / "script.sh").write_text("#!/bin/sh\n")
    with lookalike.install(tmp_path / "cell", "flux") as cell:
        code, out, err = said(cell, *(str(tmp_path / "script.sh") if word == "SCRIPT" else word for word in words))
    wanted = recording("flux", name)
    assert (code, out, err) == (wanted.returncode, wanted.text, wanted.stderr.decode())
