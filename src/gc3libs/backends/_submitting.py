"""An application as a job of the engine."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

import jobyard
from jobyard.fronts import Inherit

from .. import exceptions
from ._dialect import TAG, leading_comments

if TYPE_CHECKING:
    from .batch import BatchSystem

__all__ = ["described", "staged"]

_LONGEST = 100_000  # bytes of a script that is an argument of the shell: Linux takes 131,072
# Words after which a shell does something else than run a program, so that "exec" must not stand before them.
_WORDS = """
. : [ alias bg bind break builtin caller cd command continue declare dirs disown echo enable eval exec exit export
false fc fg getopts hash help history jobs kill let local logout mapfile newgrp popd printf pushd pwd read readonly
return set shift source suspend test time times trap true type typeset ulimit umask unalias unset wait if then elif
else fi for while until do done case esac select function in ! { } [[
"""
_BUILTINS = frozenset(_WORDS.split())


def described(system: BatchSystem, app: Any) -> jobyard.JobDescription:
    """The description of a job whose commands are a subclass's hooks."""
    submit, script = _commands(system, app)
    files: dict[str, str] = {}
    for name, text in (("prologue.sh", system.get_prologue_script(app)), ("epilogue.sh", system.get_epilogue_script(app))):
        if text:
            # What it prints goes where the program's output goes; what it sets, the program and the epilogue see, as in one script.
            files[name] = f"exec >&3 2>&4\nset -a\n{text}\nset +a\n"
    body, alone = _body(script)
    if len(os.fsencode(body)) > _LONGEST:
        raise exceptions.InvalidValue(f"the script of {app.jobname!r} is longer than {_LONGEST} bytes; bring it as an input file")
    asked = {**staged(app), "command": submit, "script": bool(script), "directives": leading_comments(script), "files": files}
    own = bool(script)
    return jobyard.JobDescription(
        argv=("/bin/sh", "-c", body, "sh") if own else tuple(app.arguments),
        name=app.jobname,
        environment=dict(app.environment),
        inherit=Inherit.NODE,
        stdin="/dev/fd/5" if app.stdin is not None else None,
        stdout="/dev/fd/3",  # the scheduler's own, which the subclass's command sends where it likes
        stderr="/dev/fd/4",
        append_streams=True,
        pre_launch="../prologue.sh" if own and "prologue.sh" in files else None,
        post_launch="../epilogue.sh" if own and "epilogue.sh" in files else None,
        tags={TAG: json.dumps(asked), f"{TAG}.id": app.execution.submission_id, f"{TAG}.shell": "0" if alone else "1"},
    )


def staged(app: Any) -> dict[str, Any]:
    """What is to be brought to the sandbox. UnrecoverableDataStagingError: it cannot be."""
    inputs: list[tuple[str, str]] = []
    for url, name in app.inputs.items():
        if url.scheme != "file":
            raise exceptions.UnrecoverableDataStagingError(f"the input {url} cannot be brought to a job: only files can")
        if not os.path.exists(url.path):
            raise exceptions.UnrecoverableDataStagingError(f"the input {url.path!r} is not there")
        if not os.access(url.path, os.R_OK):
            raise exceptions.UnrecoverableDataStagingError(f"the input {url.path!r} cannot be read")
        inputs.append((url.path, name))
    if app.output_base_url is not None and app.output_base_url.scheme != "file":
        raise exceptions.UnrecoverableDataStagingError(f"output cannot go to {app.output_base_url}: only files can be written")
    folders = {os.path.dirname(name) for name in (app.stdout, app.stderr) if name is not None}
    program = app.arguments[0]
    executable = os.path.normpath(program) if program.startswith("./") else ""
    return {"inputs": inputs, "folders": sorted(folders - {""}), "executable": executable, "files": {}}


def _commands(system: BatchSystem, app: Any) -> tuple[str, str]:
    answer = system._submit_command(app)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise exceptions.InternalError(
            f"{type(system).__name__}._submit_command returned {answer!r}, not a command line and a script"
        )
    submit, script = (one if isinstance(one, str) else shlex.join(map(str, one)) for one in answer)
    if not submit.strip():
        raise exceptions.InternalError(f"{type(system).__name__}._submit_command returned no command line")
    return submit, script


def _body(script: str) -> tuple[str, bool]:
    """The script as it is run, and whether its program takes the shell's place, so that its ending is exactly its own."""
    text = script.strip("\n")
    if not text or "\n" in text:
        return text + "\n", False
    try:
        lexer = shlex.shlex(text, posix=False, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = ""
        words = list(lexer)
    except ValueError:
        return text, False
    simple = words and not any(set(word) <= set("();<>|&") for word in words) and "=" not in words[0].partition("/")[0]
    first = words[0].strip("\"'") if words else ""
    if not simple or first in _BUILTINS or first.startswith(("$", "`", "#")):
        return text, False
    return f"exec {text}", True
