"""Values in rendered scripts: whatever they hold, bash sees them unchanged, wherever the template puts them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psij import InvalidJobException, Job, JobExecutorConfig, JobSpec
from psij.executors.batch._quoting import Marks
from psij.executors.batch.escape_functions import bash_escape
from psij.executors.batch.script_generator import TemplatedScriptGenerator
from psij.executors.batch.template_function_library import walltime_to_minutes

# Each line prints one value, ended by a NUL; "@@" stands for it.
PLACES = [
    "printf '%s\\0' \"@@\"",
    "printf '%s\\0' @@",
    "printf '%s\\0' '@@'",
    'printf "%s\\0" "${NOTSET:-"@@"}"',
    'printf "%s\\0" "${NOTSET:-@@}"',
    'printf "%s\\0" "$(printf "%s." "@@")"',
    "printf '%s\\0' \"$(printf '%s.' @@)\"",
    'x="@@"; printf "%s\\0" "$x"',
    "export y=@@; printf '%s\\0' \"$y\"",
    "printf '%s\\0' pre\"@@\"post'@@'",
    'env A=@@ bash -c \'printf "%s\\0" "$A"\'',
    "printf '%s\\0' \"$(cat <<EOF\n@@.\nEOF\n)\"",
    "printf '%s\\0' \"$(cat <<'EOF'\n@@.\nEOF\n)\"",
]
PRINTED = ["@@", "@@", "@@", "@@", "@@", "@@.", "@@.", "@@", "@@", "pre@@post@@", "@@", "@@.", "@@."]
HOSTILE = [
    "", "x y", "it's", '"', "'", "$(touch pwned)", "`touch pwned`", "$HOME", "\\", "a\\", "}", "{", "a;b", "&", "|", "#x", " #x",
    "!x", "*", "?", "[a]", "~", "\t", "ü→", "-n", "--", "$'a'", "${x}", "a'b\"c$d`e\\f}g", "<<EOF", ")", "(", "EOF", "\udcff",
]  # fmt: skip


def rendered(place: str, value: str) -> str:
    marks = Marks()
    return marks.fill(place.replace("@@", marks.mark(value)) + "\n")


def run(script: str, folder: Path) -> list[bytes]:
    done = subprocess.run(
        ["/bin/bash"], input=script.encode("utf-8", "surrogateescape"), capture_output=True, check=False, cwd=folder
    )
    assert done.stderr == b""
    assert done.returncode == 0
    return done.stdout.split(b"\0")[:-1]


def check(values: list[str], folder: Path) -> None:
    for place, printed in zip(PLACES, PRINTED, strict=True):
        # $(...) drops newlines at its end; here-documents refuse values with more than one line
        usable = [value for value in values if "<<" not in place or "\n" not in value]
        found = run("".join(rendered(place, value) for value in usable), folder)
        assert found == [printed.replace("@@", value).encode("utf-8", "surrogateescape") for value in usable], place
    assert list(folder.iterdir()) == []


def test_hostile_values_arrive_unchanged_wherever_they_stand(tmp_path: Path) -> None:
    check([*HOSTILE, "two\nlines"], tmp_path)


# Without braces: between quotes within quotes, bash expands {a,b} before all else, and nothing that can stand there prevents it.
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_categories=["Cs", "Cc"], exclude_characters="{")),
        max_size=20,
    )
)
def test_any_values_arrive_unchanged(tmp_path: Path, values: list[str]) -> None:
    check(values, tmp_path)


@pytest.mark.parametrize(
    ("line", "value", "expected"),
    [
        ('#SBATCH --partition="@@"', "a b", '#SBATCH --partition="a b"'),
        ('#SBATCH --comment="@@" x', "it's $HOME", '#SBATCH --comment="it\'s $HOME" x'),
        ("#SBATCH --chdir=@@", "/a/b-c", "#SBATCH --chdir=/a/b-c"),
        ("#PBS -N @@", "a b", "#PBS -N 'a b'"),
        ("# anything @@", "", "# anything "),
        ("true # @@", "x", "true # x"),
    ],
)
def test_directives(line: str, value: str, expected: str) -> None:
    assert rendered(line, value) == expected + "\n"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('#SBATCH --partition="@@"', "a\nrm -rf x"),
        ("# @@", "a\rb"),
        ('#SBATCH --partition="@@"', 'a" --uid="0'),
        ('#SBATCH --partition="@@"', "a\\"),
        ("#PBS -N @@", "it's me"),
        ("cat <<EOF\n@@\nEOF", "a\nEOF\nrm x"),
        ("echo @@", "a\0b"),
    ],
)
def test_what_has_no_safe_form_is_refused_by_value(line: str, value: str) -> None:
    with pytest.raises(InvalidJobException, match="cannot be written") as caught:
        rendered(line, value)
    assert repr(value) in caught.value.message


# Templates ------------------------------------------------------------------------------------------------------------


def generate(folder: Path, template: str, context: dict[str, Any], **more: Any) -> str:
    path = folder / "t.mustache"
    path.write_text(template)
    out = io.StringIO()
    TemplatedScriptGenerator(JobExecutorConfig(), path, **more).generate_submit_script(Job(JobSpec("/bin/true")), context, out)
    return out.getvalue()


def test_templates(tmp_path: Path) -> None:
    from psij.staging import StagingMode

    template = "{{#words}}{{.}} {{/words}}\n{{#on}}yes{{/on}}{{^off}}no{{/off}}\n"
    template += '[{{none}}][{{missing}}][{{mode}}]\ncd "{{path}}"\n{{{raw}}}\n'
    context = {
        "words": ["a b", ""],
        "on": True,
        "off": False,
        "none": None,
        "mode": StagingMode.MOVE,
        "path": Path("/a b"),
        "raw": "$x",
    }
    assert generate(tmp_path, template, context) == "'a b' '' \nyesno\n[''][''][3]\ncd \"/a b\"\n$x\n"


def test_an_escape_of_others_is_used_as_it_is(tmp_path: Path) -> None:
    assert generate(tmp_path, 'a "{{x}}" {{x}}\n', {"x": "v w"}, escape=lambda o: f"<{o}>") == 'a "<v w>" <v w>\n'


def test_the_shared_parts_are_bash(tmp_path: Path) -> None:
    parts = ("batch_lib", "stagein", "stageout", "cleanup")
    text = generate(tmp_path, "".join(f"{{{{> {name}}}}}\n" for name in parts), {"psij": {"folder": "/x y", "stages_in": True}})
    assert '_PSIJ_DIR="/x y"' in text
    subprocess.run(["/bin/bash", "-n"], input=text.encode(), check=True)


def test_without_pystache_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystache", None)
    with pytest.raises(ImportError, match=r"jobyard\[psij-plugins\]"):
        generate(tmp_path, "", {})


def test_a_missing_template(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TemplatedScriptGenerator(JobExecutorConfig(), tmp_path / "none.mustache")


def test_escaping_by_hand() -> None:
    assert [bash_escape(one) for one in (1, 1.5, "a b", Path("/x"))] == ["1", "1.5", "'a b'", "/x"]


def test_minutes() -> None:
    from datetime import timedelta

    found = [walltime_to_minutes(one) for one in (timedelta(hours=1, seconds=59), 5, "90", "1:30", "2:00:59")]
    assert found == [60, 5, 90, 90, 120]
    for wrong in ("", "x", "1:2:3:4", "-1", None):
        with pytest.raises(ValueError, match="not a walltime"):
            walltime_to_minutes(wrong)  # type: ignore[arg-type]  # what is tested
