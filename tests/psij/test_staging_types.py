"""URIs and staging directives as values."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from psij.staging import URI, StageIn, StageOut, StageOutFlags, StagingMode


def test_the_parts_of_a_uri() -> None:
    uri = URI("http://me:secret@host.example:8080/a/b;p?q=1#f")
    parts = (uri.scheme, uri.hostname, uri.port, uri.path, uri.params, uri.query, uri.fragment, uri.username, uri.password)
    assert parts == ("http", "host.example", 8080, "/a/b", "p", "q=1", "f", "me", "secret")
    assert uri.netloc == "me:secret@host.example:8080"
    assert uri == "http://me:secret@host.example:8080/a/b;p?q=1#f"


@pytest.mark.parametrize("path", ["a b", "/x/y#z", "w?v;u", "", "ü", "./a:b"])
def test_a_path_is_only_a_path(path: str) -> None:
    uri = URI(path)
    assert (uri.scheme, uri.hostname, uri.port, uri.path, uri.query, uri.fragment) == ("", None, None, path, "", "")


def test_uris_are_values() -> None:
    one, other = URI("file:///a"), URI("file:///a")
    assert one == other
    assert len({one, other}) == 1
    assert pickle.loads(pickle.dumps(one)).path == "/a"
    assert copy.deepcopy(one).scheme == "file"
    with pytest.raises(ValueError, match="ort"):
        URI("http://host:flurb/")


def test_numbers_of_modes_and_flags() -> None:
    assert [mode.value for mode in StagingMode] == [1, 2, 3]
    flags = [StageOutFlags[name].value for name in ("NONE", "IF_PRESENT", "ON_SUCCESS", "ON_ERROR", "ON_CANCEL", "ALWAYS")]
    assert flags == [0, 1, 2, 4, 8, 14]


def test_directives_are_values() -> None:
    assert len({StageIn("a", "b"), StageIn(Path("a"), Path("b")), StageIn(URI("a"), "b")}) == 1
    assert StageIn("a", "b") != StageIn("a", "b", StagingMode.LINK)
    assert len({StageOut("a", "b"), StageOut(Path("a"), URI("b"))}) == 1
    assert StageOut("a", "b") != StageOut("a", "b", StageOutFlags.ON_ERROR)
    assert StageIn("a", "b") != StageOut("a", "b")
    assert isinstance(StageIn("a", "b").source, URI)
    assert isinstance(StageOut("a", "b").target, URI)


def test_the_constructors_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    StageOut("a", "b", StageOutFlags.IF_PRESENT, StagingMode.MOVE)
    StageIn("a", "b")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (StageIn, (1, "b")),
        (StageIn, ("a", 1)),
        (StageIn, ("a", "b", 1)),
        (StageOut, ("a", 1)),
        (StageOut, ("a", "b", 14)),
        (StageOut, ("a", "b", StageOutFlags.ALWAYS, 1)),
    ],
)
def test_wrong_types(kind: Any, values: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        kind(*values)
