"""Values of gc3libs: quantities, URLs, quoting, records, applications."""

from __future__ import annotations

import copy
import pickle
import subprocess
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gc3libs import ANY_OUTPUT, Application, Run, Task
from gc3libs.exceptions import DuplicateEntryError, InvalidArgument, InvalidType, InvalidValue
from gc3libs.quantity import GB, KB, MB, Duration, GiB, Memory, days, hours, kB, minutes, seconds, weeks
from gc3libs.quantity import bytes as one_byte
from gc3libs.url import Url
from gc3libs.utils import History, Struct, basename_sans, sh_quote_safe, sh_quote_safe_cmdline, sh_quote_unsafe

# Quantities ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1 GB", 10**9), ("1GiB", 2**30), ("1.5 kB", 1500), ("0B", 0), ("512 MiB", 2**29), ("7 bytes", 7), ("3 TB", 3 * 10**12)],
)
def test_memory(text: str, amount: int) -> None:
    assert Memory(text).amount("B") == amount
    assert Memory(text) == Memory(amount, unit=one_byte)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("3h42m", 13320), ("1 day 4hours", 100800), ("00:01:02", 62), ("02:00:00:00", 172800), ("90 s", 90), ("1.5 minutes", 90),
        ("2 weeks", 1209600), ("10 ms", 0.01),
    ],
)  # fmt: skip
def test_duration(text: str, amount: float) -> None:
    assert Duration(text).amount(seconds) == amount
    assert Duration(text).to_timedelta() == timedelta(seconds=amount)


@pytest.mark.parametrize("text", ["", "10", "1:30", "1 fortnight", "h", "1h x", "1:99:00", "00:00:61", "-", "GB", "1 GB GB"])
def test_what_is_no_quantity(text: str) -> None:
    for kind in (Memory, Duration):
        with pytest.raises(ValueError, match="write"):
            kind(text)


def test_numbers_need_a_unit() -> None:
    for kind in (Memory, Duration):
        with pytest.raises(TypeError, match="no unit"):
            kind(5)
        with pytest.raises(TypeError):
            kind(None)
        with pytest.raises(TypeError):
            kind(True, unit="s" if kind is Duration else "B")
        with pytest.raises(ValueError, match="no unit of"):
            kind(5, unit="parsec")


def test_arithmetic() -> None:
    assert Memory("2.5 GB") == 2 * GB + 500 * MB
    assert 1 * GiB > 1 * GB
    assert sum([1 * hours, 30 * minutes], 0 * hours) == 90 * minutes
    assert sum([1 * hours, 30 * minutes]) == Duration("1h30m")
    assert (1 * days) / hours == 24
    assert (7 * minutes) // (2 * minutes) == 3
    assert (7 * minutes) % (2 * minutes) == 1 * minutes
    assert (10 * GB) / 4 == 2.5 * GB
    assert -(1 * GB) < 0 * GB
    assert 0.1 * GB == 100 * MB
    assert kB == KB
    assert weeks.unit == weeks
    assert not 0 * GB
    others: list[Any] = [1 * hours, 1]
    for other in others:
        with pytest.raises(TypeError):
            1 * GB + other
        with pytest.raises(TypeError):
            other > 1 * GB  # noqa: B015
    for factor in (GB, True):
        with pytest.raises(TypeError):
            GB * factor  # type: ignore[operator]
    assert 1 * hours != 1 * GB


def test_amounts_and_text() -> None:
    assert (1 * GB).amount(MB) == 1000
    assert (1500 * MB).amount(GB) == 1.5
    assert (1500 * MB).amount(GB, conv=int) == 1
    assert (1500 * MB).rounded_up(GB) == 2
    assert (1 * GB).rounded_up(GB) == 1
    assert str(1500 * MB) == "1500MB"
    assert (1500 * MB).to_str("%g%s", unit=GB) == "1.5GB"
    assert (30 * seconds).rounded_up("m") == 1
    assert repr(Memory("1.5 GB")) == "Memory(1.5, unit='GB')"


@settings(deadline=None)
@given(st.fractions(min_value=0, max_value=10**15), st.sampled_from(sorted(Memory.UNITS)))
def test_quantities_survive(value: Fraction, unit: str) -> None:
    made = Memory(value, unit=unit)
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), Memory(made)):
        assert again == made
        assert hash(again) == hash(made)
        assert str(again) == str(made)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for kind in (Memory, Duration):
        try:
            kind(text)
        except ValueError:
            pass


# URLs and quoting ---------------------------------------------------------------------------------------------------------


def test_paths_are_literal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Url("x#1").path == f"{tmp_path}/x#1"
    assert Url("//a/b") == Url("//a/b")
    assert (Url("//a/b").scheme, Url("//a/b").hostname, Url("//a/b").path) == ("file", None, "//a/b")
    assert Url("a%20b?c", force_abs=False).path == "a%20b?c"
    assert Url(Path("/x y")).path == "/x y"
    assert Url(b"/\xff").path == "/\udcff"


def test_other_urls() -> None:
    url = Url("http://me:secret@example.org:80/a%20b?q=1#f")
    assert url[:8] == ("http", "/a%20b", "example.org", 80, "q=1", "me", "secret", "f")
    assert str(url) == "http://me:secret@example.org:80/a%20b?q=1#f"
    assert "secret" not in repr(url)
    assert Url("file:///a%20b").path == "/a b"
    assert Url(scheme="ftp", hostname="h", path="/x") == Url("ftp://h/x")
    assert Url("ftp://h/x").adjoin("y").path == "/x/y"
    with pytest.raises(InvalidValue, match="Port"):
        Url("http://h:99999999/")


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_urls_survive(name: str) -> None:
    url = Url(f"/{name}")
    assert Url(str(url)) == url
    assert pickle.loads(pickle.dumps(url)) == url
    assert Url(url) == url


@settings(deadline=None)
@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), min_size=1, max_size=4
    )
)
def test_safe_quoting_is_exact(words: list[str]) -> None:
    line = "printf '%s\\0' " + sh_quote_safe_cmdline(words)
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True)
    assert done.stdout == b"".join(word.encode() + b"\0" for word in words)


@settings(deadline=None)
@given(st.text(alphabet="ab\"'\\ \n;&|<>()*?~#!", max_size=12))
def test_unsafe_quoting_is_one_word(text: str) -> None:
    """Only what the shell expands within double quotes is."""
    done = subprocess.run(["/bin/sh", "-c", f"printf '%s\\0' {sh_quote_unsafe(text)}"], capture_output=True, check=True)
    assert done.stdout.count(b"\0") == 1
    if "\\" not in text:
        assert done.stdout == text.encode() + b"\0"


def test_small_things() -> None:
    assert sh_quote_safe("a'b") == "'a'\"'\"'b'"
    assert basename_sans("/x/y.tar.gz") == "y.tar"
    assert basename_sans("/x/y/") == "y"
    one = Struct({"a": 1}, b=2)
    assert (one["a"], one.b, "a" in one, "c" in one, one.get("c", 3), list(one), len(one)) == (1, 2, True, False, 3, ["a", "b"], 2)
    one["c"] = 4
    assert one.pop("c") == 4
    assert one.setdefault("a", 9) == 1
    assert dict(one.copy().items()) == {"a": 1, "b": 2}
    del one["a"]
    with pytest.raises(KeyError):
        one["a"]
    history = History()
    history.append("x", "tag")
    history.format_message("%d of %d", 1, 2)
    assert (history.last(), history[0][2], str(history).count("\n")) == ("1 of 2", ("tag",), 1)


# Run ----------------------------------------------------------------------------------------------------------------------


def test_return_codes() -> None:
    run = Run()
    assert (run.returncode, run.exitcode, run.signal, run.core_dumped) == (None, None, None, None)
    for value, expected in ((0, (0, 0)), (256, (0, 1)), ((9, -1), (9, 255)), (9, (9, 0)), ((121, 0), (121, 0))):
        run.returncode = value
        assert (run.signal, run.exitcode) == expected
        assert run.returncode == expected[1] << 8 | expected[0]
    run.returncode = None
    assert run.returncode is None
    for wrong in ("0", (1, 2, 3), True):
        with pytest.raises(InvalidType):
            run.returncode = wrong  # type: ignore[assignment]
    assert [Run.shellexit_to_returncode(code) for code in (0, 3, 128, 137, 256)] == [(0, 0), (0, 3), (0, 128), (9, -1), (0, 0)]
    assert (Run.Signals.Lost, Run.Signals(120).description) == (120, "nothing is known of the job any more")


def test_states() -> None:
    told: list[str] = []
    names = ("submitted", "running", "stopped", "terminating", "terminated", "unknown", "new")
    task = type("T", (Task,), {name: lambda self, name=name: told.append(name) for name in names})()
    for name in names:
        task.execution.state = name.upper()
        task.execution.state = name.upper()  # the same again is no change
    assert told == list(names)
    assert task.execution.in_state("NEW", "RUNNING")
    assert set(task.execution.timestamp) == set(Run.State)
    with pytest.raises(InvalidValue, match="no state"):
        task.execution.state = "DONE"
    with pytest.raises(AttributeError, match="there are"):
        Run.State.DONE  # noqa: B018
    task.execution.info = "noted"
    assert task.execution.info == "noted"


def test_states_that_nobody_saw_stand_in_the_order_of_a_life() -> None:
    run = Run()
    run.timestamp["NEW"] = 1.0
    run.state = Run.State.RUNNING
    run.timestamp["RUNNING"] = 5.0
    run.passed({"SUBMITTED": 2.0, "RUNNING": 3.0})
    assert list(run.timestamp.items()) == [("NEW", 1.0), ("SUBMITTED", 2.0), ("RUNNING", 5.0)]


def test_a_record_of_another_format() -> None:
    with pytest.raises(InvalidValue, match="format 2"):
        Run.from_data({"format": 2})


# Application ----------------------------------------------------------------------------------------------------------------


def made(**extra: Any) -> Application:
    values = {"arguments": ["x"], "inputs": [], "outputs": [], "output_dir": "/o", **extra}
    return Application(**values)


def test_applications(tmp_path: Path) -> None:
    app = made(
        arguments="./prog 'a b' c", inputs={"/i/a": "x/../y", "/i/b": "b"}, outputs=["r", ("s", "t")], stdin="/i/c", tags=["q"]
    )
    assert app.arguments == ["./prog", "a b", "c"]
    assert {url.path: name for url, name in app.inputs.items()} == {"/i/a": "y", "/i/b": "b", "/i/c": "c"}
    assert {name: url.path for name, url in app.outputs.items()} == {"r": "r", "s": "t"}
    assert (app.stdin, app.jobname, app.tags, app.join) == ("c", "Application", ["q"], False)
    assert made(outputs=ANY_OUTPUT, stdout="o").outputs == {"*": Url("", force_abs=False)}
    assert made(stdout="o", stderr=subprocess.STDOUT).stderr == "o"
    assert made(jobname="1x").jobname == "GC3Pie.1x"
    assert made(requested_walltime=2).requested_walltime == 2 * hours
    assert made(anything="else").anything == "else"
    assert pickle.loads(pickle.dumps(app)).inputs == app.inputs


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        ({"arguments": []}, InvalidValue),
        ({"arguments": 5}, InvalidType),
        ({"inputs": "name"}, InvalidType),
        ({"inputs": [5]}, InvalidType),
        ({"inputs": [("/a", "/etc/x")]}, InvalidArgument),
        ({"inputs": [("/a", "../x")]}, InvalidArgument),
        ({"inputs": ["/a/x", "/b/x"]}, DuplicateEntryError),
        ({"outputs": ["x", "./x"]}, DuplicateEntryError),
        ({"outputs": ["/x"]}, InvalidArgument),
        ({"stdout": "/x"}, InvalidArgument),
        ({"stdin": "/i/x", "inputs": [("/j/y", "x")]}, DuplicateEntryError),
        ({"requested_cores": 0}, InvalidValue),
        ({"requested_memory": "many"}, InvalidType),
        ({"requested_memory": Memory("0 B")}, InvalidValue),
        ({"requested_walltime": "1:30"}, InvalidType),
        ({"requested_architecture": "vax"}, InvalidValue),
        ({"environment": {"A=B": "x"}}, InvalidValue),
        ({"jobname": "é"}, InvalidValue),
        ({"required_outputs": ["never"]}, InvalidValue),
    ],
)
def test_what_makes_no_application(extra: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        made(**extra)


# Options of submit commands -----------------------------------------------------------------------------------------------------


def test_limits_are_rounded_up_and_never_to_nothing() -> None:
    for text, slurm, lsf in (("30s", "1", "00:01"), ("60s", "1", "00:01"), ("61s", "2", "00:02"), ("25h", "1500", "25:00")):
        app = made(requested_walltime=Duration(text))
        assert after(app.sbatch(None)[0], "--time") == slurm
        assert after(app.bsub(None)[0], "-W") == lsf
    app = made(requested_walltime=Duration("1500 ms"), requested_memory=Memory("1 B"), requested_cores=3)
    assert "walltime=2" in app.qsub_pbs(None)[0]
    assert "mem=1mb" in app.qsub_pbs(None)[0]
    assert after(app.sbatch(None)[0], "--mem") == "1"
    assert "rusage[mem=1]" in app.bsub(None)[0]


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_options() -> None:
    class Resource:
        sbatch = ("/opt/sbatch", "-A", "x")
        srun = "srun"
        default_pe = "smp"

    app = made(requested_cores=2, stdout="o", stderr="e", environment={"A": "b c"}, jobname="a" * 20, requested_memory=3 * GB)
    words, program = app.sbatch(Resource)
    assert words[:3] == ["/opt/sbatch", "-A", "x"]
    assert program == ["srun", "--cpus-per-task", "2", "/usr/bin/env", "A=b c", "x"]
    assert after(words, "--error") == "e"
    words, program = app.qsub_sge(Resource)
    assert (after(words, "-pe"), "mem_free=1500M" in words) == ("smp", True)
    assert program == app.cmdline(Resource)
    with pytest.raises(InvalidValue, match="parallel environment"):
        app.qsub_sge(None)
    words, _ = app.qsub_pbs(Resource)
    assert (after(words, "-N"), "nodes=1:ppn=2" in words) == ("a" * 15, True)
    with pytest.raises(InvalidValue, match="standard input"):
        made(stdin="/i").qsub_pbs(None)
    joined = made(stdout="o", join=True, stdin="/i")
    assert "-j" in joined.qsub_sge(None)[0]
    assert joined.bsub(None)[0][-4:] == ["-oo", "o", "-i", "i"]
    assert "span[hosts=1]" in app.bsub(None)[0]
