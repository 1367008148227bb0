"""What options may say, how text of others is shown, how an ending becomes an exit status: no scheduler needed."""

from __future__ import annotations

import io
import json
import os
from datetime import datetime
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.cli import output
from jobyard.cli.app import COMMANDS, jobyard
from jobyard.cli.endings import exit_status
from jobyard.cli.follow import Follower, Pace
from jobyard.cli.options import JOB_OPTIONS, fields_of, parse_begin, parse_indices
from jobyard.cli.output import plain
from jobyard.description import describe
from jobyard.job import Cause, Ending, JobState


@pytest.mark.parametrize(
    ("text", "indices", "most"),
    [
        ("7", [7], None),
        ("1-5", [1, 2, 3, 4, 5], None),
        ("1-30:2%4", list(range(1, 31, 2)), 4),
        ("0-3%1", [0, 1, 2, 3], 1),
        ("1,3, 7-9", [1, 3, 7, 8, 9], None),
        ("9,1-2", [1, 2, 9], None),
        ("5-6:9", [5], None),
    ],
)
def test_indices_are_read(text: str, indices: list[int], most: int | None) -> None:
    assert parse_indices(text) == (indices, most)


@pytest.mark.parametrize(
    "text", ["", "a", "1-", "-1", "3-1", "1-3:0", "1-3%0", "1-3%", "1-3%x", "1,,2", "1,1", "1-3,2", "1-99999999999", "1.5", "1;2"]
)
def test_what_is_no_list_of_indices_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"index|indices"):
        parse_indices(text)


def test_a_begin_time_is_read() -> None:
    now = datetime(2026, 11, 20, 14, 30, 15).timestamp()
    assert parse_begin("+10m", now) == now + 600
    assert parse_begin("14:31", now) == datetime(2026, 11, 20, 14, 31).timestamp()
    assert parse_begin("14:30", now) == datetime(2026, 11, 21, 14, 30).timestamp()
    assert parse_begin("23:59:59", now) == datetime(2026, 11, 20, 23, 59, 59).timestamp()
    assert parse_begin("2027-01-02 03:04", now) == datetime(2027, 1, 2, 3, 4).timestamp()
    assert parse_begin("2027-01-02T03:04:05+00:00", now) == 1798859045.0


@pytest.mark.parametrize("text", ["", "soon", "25:00", "14:61", "+soon", "2026-13-01", "+"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time|not a duration"):
        parse_begin(text)


def test_every_option_fills_a_field_that_descriptions_have() -> None:
    values: dict[str, object] = {
        "name": "n",
        "memory": "1MiB",
        "walltime": "1m",
        "cpu_time": "1m",
        "inherit": "none",
        "environment": ("A=b=c", "D="),
        "attributes": ("x.y=z",),
        "native": ("--odd", "--even"),
        "begin_at": "+1s",
        "stdout": "o",
        "stdin": "i",
        "directory": "/",
        "launcher": "single",
    }
    for option in JOB_OPTIONS:
        kind = option.kind
        values.setdefault(option.field, True if kind == "flag" else 1 if kind is int else ("a" * 32,) if kind == "many" else "x")
    values.pop("stderr")  # joined here
    values["processes"], values["nodes"], values["processes_per_node"] = 4, 2, 2
    job = describe(["true"], **fields_of(values))
    assert job.environment == {"A": "b=c", "D": ""}
    assert job.native == ("--odd", "--even")
    assert (job.resources.processes, job.resources.memory_bytes, job.limits.walltime_s) == (4, 2**20, 60.0)
    assert (job.hold, job.join_streams, job.resources.exclusive, job.after[0].token) == (True, True, True, "a" * 32)


def test_a_variable_without_a_value_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_HERE", "\udcff value")
    assert fields_of({"environment": ("SET_HERE",)}) == {"environment": {"SET_HERE": "\udcff value"}}
    monkeypatch.delenv("SET_HERE")
    with pytest.raises(click.BadParameter, match="SET_HERE=VALUE"):
        fields_of({"environment": ("SET_HERE",)})


def test_flags_are_distinct() -> None:
    flags = [flag for option in JOB_OPTIONS for flag in option.flags]
    assert len(flags) == len(set(flags))


def test_every_verb_is_a_command_with_help_of_its_own() -> None:
    context = click.Context(jobyard, info_name="jobyard")
    for name in COMMANDS:
        command = jobyard.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help
        names = {parameter.name for parameter in command.params}
        assert "contact" in names
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, (name, parameter.name)


# Printing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größe 大", "größe 大"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("right\u202eleft", "right\\u202eleft"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_shown_text_is_one_printable_line_that_any_terminal_takes(text: str) -> None:
    shown = plain(text)
    assert "\x1b" not in shown
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


def test_a_piped_table_has_columns_apart_by_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("ID", "NAME", "R"), [("1", "a\tb", ""), ("100", "", "[bold]x")])
    assert capsys.readouterr().out == "ID   NAME  R\n1    a\\tb  -\n100  -     [bold]x\n"


def test_a_table_on_a_terminal_takes_names_for_names(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    output.print_table(("ID", "STATE", "NAME"), [("1", "done", "[red]x[/red] :smile: \x1b[0m")], state_column=1)
    out = capsys.readouterr().out
    assert "[red]x[/red] :smile: \\x1b[0m" in out


def test_json_carries_bytes_that_are_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff\n\x1b")
    output.print_json({"name": name})
    out = capsys.readouterr().out
    assert out.isascii()
    assert os.fsencode(json.loads(out)["name"]) == b"\xff\n\x1b"


# Endings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (Ending(state=JobState.DONE, exit_code=0), 0, False),
        (Ending(state=JobState.FAILED, exit_code=3), 3, False),
        (Ending(state=JobState.FAILED, exit_code=255), 255, False),
        (Ending(state=JobState.FAILED, signal="SIGKILL"), 137, False),
        (Ending(state=JobState.FAILED, signal="SIGRTMIN+3"), 165, False),
        (Ending(state=JobState.FAILED, signal="33"), 161, False),
        (Ending(state=JobState.FAILED, signal="SIGSEGV", core_dumped=True), 139, False),
        (Ending(state=JobState.CANCELLED, cause=Cause.CANCELLED, signal="SIGTERM"), 130, False),
        (Ending(state=JobState.CANCELLED, cause=Cause.CANCELLED, aborted=True), 130, False),
        (Ending(state=JobState.FAILED, cause=Cause.WALLTIME, signal="SIGKILL"), 1, True),
        (Ending(state=JobState.FAILED, cause=Cause.MEMORY, signal="SIGKILL"), 1, True),
        (Ending(state=JobState.FAILED, cause=Cause.NODE), 1, True),
        (Ending(state=JobState.FAILED, cause=Cause.LOST), 1, True),
        (Ending(state=JobState.FAILED, cause=Cause.NOT_STARTED, aborted=True), 1, True),
        (Ending(state=JobState.FAILED, cause=Cause.STAGING, exit_code=0), 1, True),
        (Ending(state=JobState.FAILED, cause=Cause.UNKNOWN, exit_code=4), 4, False),
        (Ending(state=JobState.FAILED, cause=Cause.UNKNOWN), 1, True),
    ],
)
def test_the_exit_status_says_how_the_job_ended(ending: Ending, status: int, said: bool) -> None:
    assert exit_status(ending) == (status, said)


# Following a file -----------------------------------------------------------------------------------------------------


def test_a_growing_file_is_copied_as_it_grows(tmp_path: Path) -> None:
    path, target, told = tmp_path / "out", io.BytesIO(), []
    follower = Follower(str(path), target, lambda: told.append(target.getvalue()))
    assert not follower.copy()
    assert not follower.seen
    path.write_bytes(b"one\xff\n")
    assert follower.copy()
    assert not follower.copy()
    with open(path, "ab") as file:
        file.write(b"x" * 200_000)
    assert follower.copy()
    follower.close()
    assert target.getvalue() == b"one\xff\n" + b"x" * 200_000
    assert told == [b"", b"one\xff\n"]


@given(st.binary(max_size=60).map(lambda raw: raw.replace(b"a", b"\n")), st.integers(0, 6))
def test_the_last_lines_are_those_that_tail_prints(content: bytes, lines: int) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        target = io.BytesIO()
        follower = Follower(file.name, target)
        follower.skip_to_last(lines)
        follower.copy()
        follower.close()
    parts = content.split(b"\n")
    kept = [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
    assert target.getvalue() == b"".join(kept[max(0, len(kept) - lines) :] if lines else [])


def test_the_last_lines_of_a_large_file(tmp_path: Path) -> None:
    path, target = tmp_path / "out", io.BytesIO()
    path.write_bytes(b"".join(b"%d%s\n" % (n, b"." * 50) for n in range(5000)))
    follower = Follower(str(path), target)
    follower.skip_to_last(3000)
    follower.copy()
    follower.close()
    assert target.getvalue().startswith(b"2000.")
    assert target.getvalue().count(b"\n") == 3000


def test_looks_become_rarer_while_nothing_comes() -> None:
    pace = Pace(0.02, 0.25)
    waits = [pace.next(False) for _ in range(20)]
    assert waits == sorted(waits)
    assert waits[-1] == 0.25
    assert pace.next(True) == 0.02
