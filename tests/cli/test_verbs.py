"""The command's verbs as a shell's user has them, on the embedded scheduler and on one that is asked by commands."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobyard
from jobyard.testing.polling import eventually
from jobyard.testing.standin import install

BASE = [sys.executable, "-m", "jobyard"]


class Shell:
    """Runs the command in a folder of its own."""

    def __init__(self, folder: Path, scheduler: str) -> None:
        self.folder = folder
        self.scheduler = scheduler

    def __call__(self, *words: str | bytes, status: int | None = 0, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run to the end; ``status`` None takes any."""
        done = subprocess.run(
            [*BASE, *words],
            cwd=self.folder,
            env={**os.environ, "TZ": "UTC", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        if status is not None:
            assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done

    def out(self, *words: str | bytes, status: int | None = 0) -> str:
        """What it printed, stripped."""
        return os.fsdecode(self(*words, status=status).stdout).strip()

    def data(self, *words: str, status: int | None = 0) -> list[dict[str, object]]:
        """What ``--json`` printed."""
        found: list[dict[str, object]] = json.loads(self(*words, "--json", status=status).stdout)
        return found

    def start(self, *words: str, **streams: int) -> subprocess.Popen[bytes]:
        """Start it, with pipes where no stream is given."""
        return subprocess.Popen(
            [*BASE, *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=streams.get("stdout", subprocess.PIPE),
            stderr=streams.get("stderr", subprocess.PIPE),
        )

    def until(self, reference: str, state: str) -> None:
        """Wait until a job is in a state; others than final ones cannot be awaited."""
        eventually(lambda: self.data("show", reference)[0]["state"] == state, f"job {reference} did not become {state}")


@pytest.fixture
def here(yard: Path) -> Shell:
    """The command with nothing said: the embedded scheduler."""
    folder = yard / "here"
    folder.mkdir()
    return Shell(folder, "local")


@pytest.fixture(params=["local", "standin"])
def shell(yard: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """The command, with a private scheduler behind it."""
    folder = yard / "here"
    folder.mkdir()
    if request.param == "local":
        yield Shell(folder, "local")
        return
    cell = install(yard / "cell")
    monkeypatch.setenv("JOBYARD_CONTACT", cell.contact)
    yield Shell(folder, "standin")
    cell.stop()


# run ------------------------------------------------------------------------------------------------------------------


def test_run_passes_on_both_outputs_and_the_exit_code(shell: Shell) -> None:
    done = shell("run", "--", "sh", "-c", "printf 'one\\377\\033[1m'; printf 'two\\n' >&2; exit 7", status=7)
    assert (done.stdout, done.stderr) == (b"one\xff\x1b[1m", b"two\n")


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("exit 0", 0, ""),
        ("exit 255", 255, ""),
        ("kill -TERM $$", 143, ""),
        ("kill -KILL $$", 137, ""),
        ("kill -USR1 $$", 128 + signal.SIGUSR1, ""),
    ],
)
def test_run_ends_as_the_job_does(shell: Shell, script: str, status: int, said: str) -> None:
    done = shell("run", "sh", "-c", script, status=status)
    assert done.stderr.decode() == said


def test_run_says_why_where_the_job_did_not_end_by_itself(shell: Shell) -> None:
    done = shell("run", "--walltime", "0.2s", "--", "sleep", "60", status=1)
    assert re.fullmatch(r"jobyard: job \S+ .*cause: walltime.*\n", done.stderr.decode())
    done = shell("run", "--", "/no/such/program", status=1)
    assert re.fullmatch(r"jobyard: job \S+ .*cause: not_started.*\n", done.stderr.decode())


def test_run_shows_output_while_the_job_runs(shell: Shell) -> None:
    running = shell.start("run", "--", "sh", "-c", "echo first; until [ -e go ]; do sleep 0.05; done; echo second")
    assert running.stdout is not None
    with running:
        assert running.stdout.readline() == b"first\n"
        (shell.folder / "go").touch()
        assert running.stdout.read() == b"second\n"
        assert running.wait(30) == 0


def test_words_of_the_command_are_passed_on_as_they_are(shell: Shell) -> None:
    words = [b"a b", b"$HOME", b"'\"`\\", b"new\nline", b"\xff\xfe", b"-n", b"--json", b"", b"*"]
    done = shell("run", sys.executable, "-c", "import os, sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))", *words)
    assert done.stdout.split(b"\0") == words


def test_run_takes_options_of_the_job(shell: Shell) -> None:
    (shell.folder / "in.txt").write_text("read me", encoding="utf-8")
    (shell.folder / "sub").mkdir()
    script = 'cat; echo " $A $B"; pwd; echo "$JOBYARD_NATIVE_ID" >&2'
    done = shell(
        *("run", "--directory", "sub", "--stdin", "../in.txt", "--env", "A=1=2", "--env", "B", "--join", "--name", "x"),
        *("--", "sh", "-c", script),
        B="three",
    )
    lines = done.stdout.decode().splitlines()
    assert lines[:2] == ["read me 1=2 three", str(shell.folder / "sub")]
    assert lines[2] == shell.data("ls")[0]["native_id"]
    assert done.stderr == b""


def test_output_that_goes_to_files_is_not_shown(shell: Shell) -> None:
    done = shell("run", "--stdout", "out.txt", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"", b"err\n")
    assert (shell.folder / "out.txt").read_bytes() == b"out\n"
    shell("run", "--stdout", "out.txt", "--append", "--", "echo", "more")
    assert (shell.folder / "out.txt").read_bytes() == b"out\nmore\n"


def test_ctrl_c_cancels_the_job(shell: Shell) -> None:
    running = shell.start("run", "--", "sh", "-c", "echo up; sleep 60")
    assert running.stdout is not None
    with running:
        assert running.stdout.readline() == b"up\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    (job,) = shell.data("ls")
    assert job["state"] == "cancelled"


def test_ctrl_c_cancels_a_job_that_waits(shell: Shell) -> None:
    running = shell.start("run", "--hold", "--", "true")
    with running:
        eventually(lambda: bool(shell.data("ls")), "no job was submitted")
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    assert shell.data("ls")[0]["state"] == "cancelled"


def test_a_waiting_job_is_told_of_on_a_terminal(shell: Shell) -> None:
    master, slave = pty.openpty()
    running = shell.start("run", "--hold", "--name", "esc\x1b[31m", "--", "echo", "done", stderr=slave)
    os.close(slave)
    seen = b""
    with running, os.fdopen(master, "rb", buffering=0) as terminal:
        deadline = time.monotonic() + 30
        while b"held" not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([terminal], [], [], 0.2)[0]:
                seen += terminal.read(4096)
        shell("release", "--all")
        assert running.stdout is not None
        assert running.stdout.read() == b"done\n"
        assert running.wait(30) == 0
        while select.select([terminal], [], [], 0.2)[0]:
            try:
                seen += terminal.read(4096)
            except OSError:  # the other end is closed
                break
    assert re.search(rb"\r\x1b\[Kjob \S+ held", seen)
    assert seen.endswith(b"\r\x1b[K")


# submit, wait, ls, show, why, logs ------------------------------------------------------------------------------------


def test_submit_prints_an_id_that_every_verb_knows(shell: Shell) -> None:
    reference = shell.out("submit", "--name", "hello", "--", "sh", "-c", "echo out; echo err >&2; exit 4")
    assert re.fullmatch(r"\S+", reference)
    ended = shell.out("wait", reference, status=1)
    assert ended.startswith(f"{reference}  exited with 4")
    (job,) = shell.data("show", reference)
    assert (job["native_id"], job["name"], job["state"]) == (reference, "hello", "failed")
    ending, description, token = job["ending"], job["description"], job["token"]
    assert isinstance(ending, dict)
    assert isinstance(description, dict)
    assert isinstance(token, str)
    assert ending["exit_code"] == 4
    assert description["argv"][0] == "sh"
    assert shell.data("show", token)[0]["native_id"] == reference
    text = shell.out("show", reference)
    assert re.search(r"^state +failed \(exit 4\)$", text, re.MULTILINE)
    assert re.search(r"^command +sh -c 'echo out", text, re.MULTILINE)
    assert "exited with 4" in shell.out("why", reference)
    evidence = shell.data("why", reference)[0]["evidence"]
    assert isinstance(evidence, list)
    assert evidence
    done = shell("logs", reference)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    done = shell("logs", "--only", "err", reference)
    assert (done.stdout, done.stderr) == (b"", b"err\n")


def test_submit_json_names_the_session(shell: Shell) -> None:
    said = json.loads(shell("submit", "--json", "--", "true").stdout)
    assert said["tasks"] is None
    assert shell.data("ls", "--contact", said["contact"])[0]["token"] == said["token"]
    again = json.loads(shell("submit", "--json", "--", "true").stdout)
    assert again["contact"] == said["contact"]


def test_an_array_is_submitted_and_addressed_as_one(shell: Shell) -> None:
    reference = shell.out("submit", "--array", "1-9:4%2", "--name", "tasks", "--", "sh", "-c", "echo task $JOBYARD_TASK_INDEX")
    lines = shell.out("wait", reference).splitlines()
    assert len(lines) == 3
    assert sorted(shell.out("logs", reference).splitlines()) == ["task 1", "task 5", "task 9"]
    tasks = shell.data("show", reference)
    assert [task["task_index"] for task in tasks] == [1, 5, 9]
    (array,) = {str(task["array"]) for task in tasks}
    assert [task["token"] for task in shell.data("show", array)] == [task["token"] for task in tasks]


def test_ls_lists_the_newest_last_and_chooses(shell: Shell) -> None:
    assert shell("ls").stdout == b"ID  STATE  SUBMITTED  NAME  REASON\n"
    references = [shell.out("submit", "--name", f"job-{n}", "--", "sh", "-c", f"exit {n % 2}") for n in range(4)]
    held = shell.out("submit", "--hold", "--name", "sleepy", "--", "true")
    shell("wait", *references, status=1)
    rows = shell.out("ls").splitlines()
    assert [row.split()[0] for row in rows[1:]] == [*references, held]
    assert "\t" not in "".join(rows)
    assert rows[-1].split()[1:3] == ["held", "(user)"]
    assert [job["name"] for job in shell.data("ls", "--newest", "2")] == ["job-3", "sleepy"]
    assert [job["name"] for job in shell.data("ls", "--unfinished")] == ["sleepy"]
    assert [job["name"] for job in shell.data("ls", "--state", "failed", "--state", "held")] == ["job-1", "job-3", "sleepy"]
    assert [job["name"] for job in shell.data("ls", "--state", "failed", "-n", "1")] == ["job-3"]


def test_a_hostile_name_is_shown_and_does_nothing(shell: Shell) -> None:
    name = b"\x1b]0;owned\x07[red]\xff\n"
    reference = shell.out("submit", b"--name", name, "--", "true")
    shell("wait", reference)
    for words in (("ls",), ("show", reference), ("why", reference), ("clean", "--dry-run")):
        out = shell(*words).stdout
        assert b"\\x1b]0;owned\\x07[red]\\xff\\n" in out, words
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out.decode())
    assert os.fsencode(str(shell.data("ls")[0]["name"])) == name


def test_wait_without_ids_waits_for_all(shell: Shell) -> None:
    assert shell.out("wait") == ""
    ended = shell.out("submit", "--", "true")
    shell("wait", ended)
    references = [shell.out("submit", "--", "sh", "-c", "until [ -e go ]; do sleep 0.05; done") for _ in range(3)]
    done = shell("wait", "--timeout", "0.1s", status=1)
    assert b"3 jobs have not ended" in done.stderr
    (shell.folder / "go").touch()
    assert {line.split()[0] for line in shell.out("wait", *references).splitlines()} == {*references}
    assert [dict(job)["native_id"] for job in shell.data("wait", *references)]


def test_wait_draws_a_bar_on_a_terminal(shell: Shell) -> None:
    references = [shell.out("submit", "--", "true") for _ in range(3)]
    master, slave = pty.openpty()
    waiting = shell.start("wait", *references, stderr=slave)
    os.close(slave)
    seen = b""
    with waiting, os.fdopen(master, "rb", buffering=0) as terminal:
        while True:
            try:
                seen += terminal.read(4096)
            except OSError:  # the other end is closed
                break
        assert waiting.stdout is not None
        assert len(waiting.stdout.read().splitlines()) == 3
        assert waiting.wait(30) == 0
    assert b"3/3" in seen


def test_wait_ends_when_its_time_is_over(shell: Shell) -> None:
    held = shell.out("submit", "--hold", "--", "true")
    done = shell("wait", held, "--timeout", "100ms", status=1)
    assert done.stdout == b""
    assert re.fullmatch(r"jobyard: .*not ended.*; they go on.*\n", done.stderr.decode())


def test_logs_follow_until_the_job_has_ended(shell: Shell) -> None:
    reference = shell.out("submit", "--", "sh", "-c", "echo first; until [ -e go ]; do sleep 0.05; done; echo last")
    following = shell.start("logs", "--follow", reference)
    assert following.stdout is not None
    with following:
        assert following.stdout.readline() == b"first\n"
        (shell.folder / "go").touch()
        assert following.stdout.read() == b"last\n"
        assert following.wait(30) == 0
    assert shell("logs", "-n", "1", reference).stdout == b"last\n"
    assert shell("logs", "-n", "0", reference).stdout == b""


def test_logs_of_a_job_without_output_say_so(shell: Shell) -> None:
    reference = shell.out("submit", "--stdout", "/dev/null", "--join", "--", "true")
    shell("wait", reference)
    assert shell("logs", reference, status=None).stdout == b""


def test_a_job_waits_for_another(shell: Shell) -> None:
    first = shell.out("submit", "--", "sh", "-c", "exit 3")
    assert shell("run", "--after", f"{first}:failure", "--", "echo", "then").stdout == b"then\n"
    done = shell("run", "--after", first, "--", "true", status=1)
    # Where the scheduler keeps no record of what has ended, jobyard refuses instead.
    assert b"cause: dependency" in done.stderr or b"would never run" in done.stderr
    assert b"waits for success, failure, any" in shell("submit", "--after", f"{first}:later", "--", "true", status=2).stderr
    array = shell.out("submit", "--array", "1-3", "--", "true")
    shell("run", "--after", array, "--", "true")


def test_a_job_begins_later(shell: Shell) -> None:
    began = time.time()
    shell("run", "--begin", "+1s", "--", "true")
    assert time.time() - began >= 1.0


# Control, clean -------------------------------------------------------------------------------------------------------


def test_control_verbs(shell: Shell) -> None:
    reference = shell.out("submit", "--hold", "--", "sleep", "60")
    assert shell.data("show", reference)[0]["by"] == "user"
    shell("release", reference)
    shell.until(reference, "running")
    shell("suspend", reference)
    shell.until(reference, "suspended")
    shell("resume", reference)
    shell.until(reference, "running")
    done = shell("release", reference, status=1)
    assert re.fullmatch(rf"jobyard: {re.escape(reference)}: .+\n", done.stderr.decode())
    shell("cancel", reference)
    assert shell.out("wait", reference, status=1).startswith(f"{reference}  ")
    assert shell.data("show", reference)[0]["state"] == "cancelled"
    shell("cancel", reference)
    shell("cancel", "--all")


def test_all_acts_on_those_that_it_can(shell: Shell) -> None:
    held = [shell.out("submit", "--hold", "--", "true") for _ in range(2)]
    ended = shell.out("submit", "--", "true")
    shell("wait", ended)
    shell("release", "--all")
    shell("wait", *held)
    shell("hold", "--all")


@pytest.mark.parametrize("verb", ["show", "why", "logs", "wait", "cancel", "hold", "release", "suspend", "resume", "clean"])
def test_an_unknown_job_is_named(shell: Shell, verb: str) -> None:
    for reference in ("nothing", "999999", "deadbeef" * 4):
        done = shell(verb, reference, status=1)
        assert done.stderr.decode() == f"jobyard: there is no job '{reference}' at {shell.scheduler}; see 'jobyard ls'\n"


def test_clean_forgets_finished_jobs(shell: Shell) -> None:
    ended = [shell.out("submit", "--", "echo", "x") for _ in range(3)]
    held = shell.out("submit", "--hold", "--", "true")
    shell("wait", *ended)
    assert len(shell.out("clean", "--dry-run").splitlines()) == 3
    assert shell.out("clean", "--older", "1h") == "forgot 0 jobs"
    done = shell("clean", ended[0], held, status=1)
    assert done.stdout == b"forgot 1 job\n"
    assert f"job {held} is held; only a finished one can be forgotten" in done.stderr.decode()
    assert shell.out("clean") == "forgot 2 jobs"
    assert [job["native_id"] for job in shell.data("ls")] == [held]
    shell("show", ended[1], status=1)


# Upkeep ---------------------------------------------------------------------------------------------------------------


def test_schedulers_tell_what_each_can_do(here: Shell) -> None:
    rows = here.out("schedulers").splitlines()
    assert rows[0].split()[:2] == ["NAME", "HERE"]
    (local,) = [row for row in rows if row.startswith("local *")]
    assert "cancel" in local
    assert "arrays with a cap" in local
    found = {str(item["name"]): item for item in here.data("schedulers")}
    assert found["local"]["here"] is True
    assert found["local"]["used"] is True
    can = found["local"]["can"]
    assert isinstance(can, dict)
    assert "walltime_s" in can["attributes"]
    assert "how to get it" in here.out("schedulers", "local")
    done = here("schedulers", "nonsense", status=1)
    assert done.stderr.startswith(b"jobyard: there is no scheduler 'nonsense'")


def test_schedulers_are_listed_where_several_are_here_and_none_is_chosen(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobyard.schedulers import known

    programs = yard / "programs"
    programs.mkdir()
    for name in ("slurm", "gridengine"):
        for program in known()[name].programs:
            (programs / program).write_text("#!/bin/sh\nexit 1\n")
            (programs / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    shown = Shell(yard, "")
    found = {str(item["name"]): item for item in shown.data("schedulers")}
    assert not any(item["used"] for item in found.values())
    assert found["slurm"]["here"] is found["gridengine"]["here"] is True


def test_doctor_finds_nothing_wrong_and_changes_nothing(here: Shell, yard: Path) -> None:
    before = sorted(yard.rglob("*"))
    found = {str(item["what"]): item for item in here.data("doctor")}
    assert sorted(yard.rglob("*")) == before
    for what in (
        "configuration",
        "contact",
        "state folder",
        "work folder",
        "state folder: clock",
        "python for the shepherd",
        "SQLite",
    ):
        assert found[what]["level"] == "ok", found[what]
    assert {"import drmaa", "import psij", "import gc3libs"} <= found.keys()


def test_doctor_names_what_is_wrong_and_what_to_do(here: Shell, yard: Path) -> None:
    (yard / "state").mkdir(mode=0o777)
    (yard / "state").chmod(0o777)
    done = here("doctor", status=1)
    assert re.search(rb"^wrong +state folder +.* can be written by others \(mode 777\)\n +-> chmod 700 ", done.stdout, re.MULTILINE)
    (yard / "state").chmod(0o700)
    (yard / "config.toml").write_text("[local]\nslots = 0\n", encoding="utf-8")
    done = here("doctor", status=1)
    assert re.search(rb"^wrong +configuration +.*config.toml, line 2, column 1: slots", done.stdout, re.MULTILINE)
    (yard / "config.toml").unlink()
    assert here("doctor", JOBYARD_WORK_DIR="here", status=1).stdout.count(b"JOBYARD_WORK_DIR is 'here'") == 1


# Sessions, pipes ------------------------------------------------------------------------------------------------------


def test_many_commands_at_once_share_one_session(shell: Shell) -> None:
    started = [shell.start("submit", "--", "true") for _ in range(6)]
    references = set()
    for process in started:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        references.add(out.decode().strip())
    assert {str(job["native_id"]) for job in shell.data("ls")} == references
    assert len(references) == 6


def test_jobs_of_programs_are_listed_and_addressed_too(shell: Shell) -> None:
    mine = shell.out("submit", "--name", "mine", "--", "true")
    shell("wait", mine)
    sessions = [jobyard.Session() for _ in range(2)]
    theirs = [
        session.submit(["sh", "-c", "echo from a program; exit 6"], name=f"theirs-{number}", directory=str(shell.folder))
        for number, session in enumerate(sessions)
    ]
    for job in theirs:
        job.wait(60)
    later = shell.out("submit", "--name", "later", "--", "true")
    shell("wait", later)
    references, token = [job.native_id for job in theirs], theirs[1].token
    assert [job["name"] for job in shell.data("ls")] == ["mine", "theirs-0", "theirs-1", "later"]
    assert [job["name"] for job in shell.data("ls", "--newest", "2")] == ["theirs-1", "later"]
    assert [job["name"] for job in shell.data("ls", "--contact", sessions[0].contact)] == ["theirs-0"]
    for session in sessions:
        session.close()
    assert shell("logs", references[0]).stdout == b"from a program\n"
    assert [job["name"] for job in shell.data("show", mine, *references)] == ["mine", "theirs-0", "theirs-1"]
    assert shell.data("show", token)[0]["native_id"] == references[1]
    assert len(shell.out("wait", mine, *references, later, status=1).splitlines()) == 4
    assert "exited with 6" in shell.out("why", references[1])
    shell("cancel", *references)
    assert shell.out("clean", references[0]) == "forgot 1 job"
    assert [job["name"] for job in shell.data("ls")] == ["mine", "theirs-1", "later"]


def test_a_reader_that_has_enough_is_no_error(shell: Shell) -> None:
    shell.out("submit", "--array", "1-300", "--hold", "--name", "x" * 200, "--", "true")
    script = f"{' '.join(BASE)} ls --all | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {script}"], cwd=shell.folder, capture_output=True, check=False)
    assert done.stdout.startswith(b"ID")
    assert done.stderr == b""
    shell("cancel", "--all")


def test_a_reader_that_leaves_ends_the_job(shell: Shell) -> None:
    script = f"{' '.join(BASE)} run -- sh -c 'while echo x; do sleep 0.1; done' | head -n 1"
    done = subprocess.run(["bash", "-c", script], cwd=shell.folder, capture_output=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == (b"x\n", b"")
    (job,) = shell.data("ls", "--all")
    shell("wait", str(job["native_id"]), status=1)
    assert shell.data("show", str(job["native_id"]))[0]["state"] == "cancelled"


def test_output_that_cannot_be_shown_ends_no_job(here: Shell) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        process = here.start("run", "--", "sh", "-c", "echo kept; sleep 0.2", stdout=full.fileno())
        _, said = process.communicate(timeout=120)
    (job,) = here.data("ls", "--all")
    reference = str(job["native_id"])
    assert said.startswith(f"jobyard: job {reference} goes on, but its output cannot be shown: No space left on device".encode())
    assert f"'jobyard logs {reference}'".encode() in said
    here("wait", reference, status=0)
    assert here("logs", reference).stdout == b"kept\n"


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(here: Shell, closed: str) -> None:
    base = " ".join(BASE)
    done = subprocess.run(
        ["bash", "-c", f"{base} run -- sh -c 'echo x; exit 3' {closed}"], cwd=here.folder, check=False, timeout=120
    )
    assert done.returncode == 3
    done = subprocess.run(["bash", "-c", f"{base} ls --all {closed}"], cwd=here.folder, check=False, timeout=120)
    assert done.returncode == 0


def test_completion_knows_the_newest_jobs(shell: Shell) -> None:
    reference = shell.out("submit", "--hold", "--name", "completed", "--", "true")
    done = shell(_JOBYARD_COMPLETE="bash_complete", COMP_WORDS=f"jobyard show {reference[:1]}", COMP_CWORD="2")
    assert f"plain,{reference}" in done.stdout.decode().splitlines()
