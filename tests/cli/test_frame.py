"""The command's frame: help without imports, errors on one line, exit statuses."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from jobyard.cli.app import COMMANDS


def jobyard(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobyard", *words], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_help_groups_the_verbs() -> None:
    done = jobyard("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for heading in ("Jobs:", "Reading:", "Control:", "Upkeep:"):
        assert heading in done.stdout.splitlines()
    for name, verb in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert verb.text in done.stdout
    assert jobyard().stdout == done.stdout
    assert jobyard("-h").stdout == done.stdout


def test_every_verb_has_help() -> None:
    for name in COMMANDS:
        done = jobyard(name, "--help")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Usage: jobyard {name} ")


def test_help_imports_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys; from jobyard.cli.app import run; assert run(['--help']) == 0;"
        "heavy = [m for m in sys.modules if m.split('.')[0] in ('rich', 'platformdirs', 'packaging', 'sqlite3', 'tomllib')];"
        "print(heavy, [m for m in sys.modules if m.startswith('jobyard.cli.')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[] ['jobyard.cli.app']"


def test_help_keeps_its_budget() -> None:
    """120 ms over bare Python, of CPU time: all that it costs where nothing else runs, and the same where much does."""

    def cpu_s(*words: str) -> float:
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime

    cpu_s("-m", "jobyard", "--help")
    over = [cpu_s("-m", "jobyard", "--help") - cpu_s("-c", "pass") for _ in range(5)]
    assert statistics.median(over) < 0.120, over


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lss"], "jobyard: there is no command 'lss'; did you mean 'ls'?"),
        (["frobnicate"], "jobyard: there is no command 'frobnicate'; see 'jobyard --help'"),
        (["ls", "--newest", "0"], "jobyard: invalid value for '--newest'"),
        (["ls", "--jsn"], "jobyard: no such option"),
        (["run"], "jobyard: missing argument '[--] CMD...'; see 'jobyard run --help'"),
        (["show"], "jobyard: missing argument 'JOB...'"),
        (["show", ""], "jobyard: invalid value for 'JOB...': a job's id is empty; see 'jobyard ls'"),
        (["submit", "--cores", "x", "true"], "jobyard: invalid value for '--cores'"),
        (["submit", "--array", "x", "true"], "jobyard: invalid value for --array: 'x' is no list of indices; write"),
        (["submit", "--inherit", "all", "true"], "jobyard: invalid value for '--inherit'"),
        (["submit", "--contact", "a b", "true"], "jobyard: 'a b' holds a blank"),
        (["submit", "--contact", "local?slot=1", "true"], "jobyard: local has no option 'slot'; did you mean 'slots'?"),
        (["ls", "--contact", "site:x"], "jobyard: there is no site 'x'"),
        (["wait", "--timeout", "soon", "1"], "jobyard: invalid value for '--timeout': 'soon' is not a duration; write"),
        (["cancel"], "jobyard: cancel takes jobs, or --all; see 'jobyard cancel --help'"),
        (["hold", "--all", "1"], "jobyard: hold takes jobs, or --all"),
    ],
)
def test_words_that_make_no_sense_are_one_line_and_status_2(words: list[str], says: str, tmp_path: Path) -> None:
    done = jobyard(*words, JOBYARD_STATE_DIR=str(tmp_path / "state"), JOBYARD_CONFIG=str(tmp_path / "config.toml"))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(says), done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_failure_is_one_line_and_status_1_and_debug_shows_where(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[local]\nslots = 0\n", encoding="utf-8")
    settings = {"JOBYARD_STATE_DIR": str(tmp_path / "state"), "JOBYARD_CONFIG": str(config)}
    done = jobyard("ls", **settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"jobyard: {config}, line 2, column 1: slots: there must be at least one slot\n"
    for words in (["--debug", "ls"], ["ls", "--debug"]):
        done = jobyard(*words, **settings)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "ConfigurationError" in done.stderr


def test_an_error_s_text_cannot_draw_on_the_terminal(tmp_path: Path) -> None:
    done = jobyard("show", "--contact", "standin?cell=\x1b[2J", "1", JOBYARD_STATE_DIR=str(tmp_path))
    assert "\x1b" not in done.stderr
    assert "\\x1b" in done.stderr


def test_version() -> None:
    from jobyard import __version__

    assert jobyard("--version").stdout == f"jobyard {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    done = jobyard(_JOBYARD_COMPLETE=f"{shell}_source")
    assert done.returncode == 0
    assert "_JOBYARD_COMPLETE" in done.stdout


def test_verbs_and_options_complete() -> None:
    done = jobyard(_JOBYARD_COMPLETE="bash_complete", COMP_WORDS="jobyard su", COMP_CWORD="1")
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == {"submit", "suspend"}
    done = jobyard(_JOBYARD_COMPLETE="bash_complete", COMP_WORDS="jobyard ls --unf", COMP_CWORD="2")
    assert done.stdout.strip() == "plain,--unfinished"
