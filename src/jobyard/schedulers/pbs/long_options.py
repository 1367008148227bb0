"""What Cobalt's and NQSV's commands have in common beyond those of PBS: long options, and no end to what qstat prints. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ...errors import InvalidJob, SchedulerUnavailable
from ...job import JobDescription
from ..base import Action, Command, Result
from ..dialects import in_parts

__all__ = ["attribute_words", "check_options", "control_commands", "marked", "unmarked"]

MOST_ACTED_ON = 200  # by one command

# ``$0`` is the script's own name; what it prints ends with a line of ours, so that an answer that was cut is seen.
_MARK = "jobyard: answered with "
_END = f"""
printf '\\n{_MARK}%s\\n' "$code"
exit "$code"
"""


def check_options(scheduler: str, words: Sequence[str], flags: Collection[str], ours: Mapping[str, str], *, field: str) -> None:
    """InvalidJob: a word that is no option of qsub, or an option that belongs to jobyard.

    ``flags``: letters and long names of options without a value; every other one has one, in the same word or the next.
    ``ours``: letters and long names, with what to use instead.
    """
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if len(word) < 2 or not word.startswith("-") or word == "--":
            raise InvalidJob(f"{scheduler}: {word!r} is no option of qsub; it would be taken for the job's script", field=field)
        if word.startswith("--"):
            name, equals, _ = word[2:].partition("=")
            _refuse_ours(scheduler, f"--{name}", ours.get(name), field)
            has_value = name in flags or bool(equals)
        else:
            has_value = True
            for place, letter in enumerate(word[1:], 2):
                _refuse_ours(scheduler, f"-{letter}", ours.get(letter), field)
                if letter not in flags:
                    has_value = len(word) > place
                    break
        if not has_value:
            if not rest:
                raise InvalidJob(f"{scheduler}: the option {word} needs a value", field=field)
            rest.pop(0)


def _refuse_ours(scheduler: str, shown: str, instead: str | None, field: str) -> None:
    if instead is not None:
        raise InvalidJob(f"{scheduler}: {shown} belongs to jobyard; use {instead} instead", field=field)


def attribute_words(scheduler: str, description: JobDescription, flags: Collection[str], ours: Mapping[str, str]) -> list[str]:
    """``cobalt.attrs: "mcdram=flat"`` as ``--attrs=mcdram=flat``, ``nqsv.l: "x"`` as ``-l x``: what PSI/J's custom attributes
    ask for. InvalidJob names the attribute."""
    words: list[str] = []
    for key, value in description.attributes.items():
        prefix, _, name = key.partition(".")
        if prefix != scheduler:
            continue
        if not re.fullmatch(r"[A-Za-z]|[A-Za-z][A-Za-z0-9_-]+", name, re.ASCII):
            raise InvalidJob(f"{key}: {scheduler}'s attributes are named by an option of qsub, like '{scheduler}.q'", field=key)
        if (name in flags) == bool(value):
            wanted = "takes no value" if value else "needs a value"
            raise InvalidJob(f"{key}: this option {wanted}, and has {value!r}", field=key)
        long = len(name) > 1
        pair = [f"--{name}={value}" if value else f"--{name}"] if long else [f"-{name}", *([value] if value else [])]
        check_options(scheduler, pair, flags, ours, field=key)
        words += pair
    return words


def control_commands(action: Action, native_ids: Sequence[str], pattern: re.Pattern[str]) -> list[tuple[Command, tuple[str, ...]]]:
    """As Dialect.control_commands; ``pattern``: what an id is."""
    program = {Action.CANCEL: "qdel", Action.HOLD: "qhold", Action.RELEASE: "qrls"}[action]
    return [(Command(argv=(program, *part)), part) for part in in_parts(native_ids, pattern, MOST_ACTED_ON)]


def marked(script: str, *words: str, **fields: object) -> Command:
    """A command of the shell that runs ``script`` with these words, and says at the end with which ``$code`` it answered.

    ``script`` sets ``code``. ``fields``: the Command's others.
    """
    return Command(argv=("/bin/sh", "-c", script + _END, "sh", *words), **fields)  # type: ignore[arg-type]


def unmarked(result: Result) -> tuple[str, int]:
    """What was printed before the mark, and the code in it. SchedulerUnavailable where there is no mark: it was cut."""
    text, found, code = result.text.rpartition(f"\n{_MARK}")
    if not found or not re.fullmatch(r"[0-9]{1,3}\n", code, re.ASCII):
        raise SchedulerUnavailable(result.error_text.partition("\n")[0] or "its answer has no end")
    return text, int(code)
