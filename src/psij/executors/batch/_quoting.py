"""Writes values into rendered scripts, each as the place where it stands asks for.

A template says ``cd "{{directory}}"``, ``export A={{value}}`` or ``#SBATCH --partition="{{queue}}"``; no one form of a value
is right in all of them. So values are first rendered as marks, and then put in by reading the script as bash would.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from ...exceptions import InvalidJobException

__all__ = ["Marks"]

_MARK = re.compile("\0([0-9]+)\0")
_HEREDOC = re.compile(r"<<(-?)[ \t]*(?:'([^'\n]+)'|\"([^\"\n]+)\"|\\?([A-Za-z_0-9]+))")
_SAFE_IN_DIRECTIVE = re.compile(r"[A-Za-z0-9_@%+=:,./~^\[\]*{}!-]+")
_WORD_START = frozenset(" \t\n;&|()`")


class Marks:
    """The values of one script. ``mark`` stands in for a value; ``fill`` puts the values into the script."""

    def __init__(self) -> None:
        self._values: list[str] = []

    def mark(self, value: str) -> str:
        """Text that stands for the value until ``fill``. InvalidJobException for a NUL, which no script can hold."""
        if "\0" in value:
            raise InvalidJobException(f"{value!r} holds a NUL, which cannot be written into a script")
        self._values.append(value)
        return f"\0{len(self._values) - 1}\0"

    def fill(self, script: str) -> str:
        """The script with all values. InvalidJobException, naming the value and the line, for one that has no safe form there."""
        return _Reader(script, self._values).read()


class _Reader:
    """Reads a script far enough to know what each mark stands in."""

    def __init__(self, script: str, values: list[str]) -> None:
        self.script = script
        self.values = values
        self.out: list[str] = []
        self.at = 0
        # What we are in, innermost last: "word" (outside quotes), '"', "'", "(" of $(...), "`", "{" of ${...} outside double
        # quotes, '"{' of ${...} inside them.
        self.stack = ["word"]
        self.heredocs: list[tuple[str, bool, bool]] = []  # delimiter, quoted, leading tabs removed

    def read(self) -> str:
        script = self.script
        while self.at < len(script):
            character = script[self.at]
            if character == "\0":
                self.value(_FORMS.get(self.stack[-1], _word))
            elif self.stack[-1] == "'":
                self.copy()
                if character == "'":
                    self.stack.pop()
            elif character == "\\":
                self.copy(2)
            elif self.stack[-1] in ('"', '"{'):
                self.quoted(character)
            else:
                self.unquoted(character)
        return "".join(self.out)

    def copy(self, count: int = 1) -> None:
        # A mark behind a backslash is a value all the same.
        if count == 2 and self.script[self.at + 1 : self.at + 2] == "\0":
            count = 1
        self.out.append(self.script[self.at : self.at + count])
        self.at += count

    def value(self, form: Callable[[str], str]) -> None:
        match = _MARK.match(self.script, self.at)
        assert match is not None
        self.out.append(form(self.values[int(match[1])]))
        self.at = match.end()

    def quoted(self, character: str) -> None:
        if character == '"' and self.stack[-1] == '"':
            self.stack.pop()
        elif character == '"':
            self.stack.append('"')
        elif character == "}" and self.stack[-1] == '"{':
            self.stack.pop()
        elif self.expansion(character, '"{'):
            return
        self.copy()

    def expansion(self, character: str, brace: str) -> bool:
        """Enter $( or ${ or `; whether that was it."""
        two = self.script[self.at : self.at + 2]
        if two == "$(":
            self.stack.append("(")
        elif two == "${":
            self.stack.append(brace)
        elif character == "`":
            if "`" in self.stack:
                while self.stack.pop() != "`":
                    pass
            else:
                self.stack.append("`")
            self.copy()
            return True
        else:
            return False
        self.copy(2)
        return True

    def unquoted(self, character: str) -> None:
        top = self.stack[-1]
        if character in "'\"":
            self.stack.append(character)
            self.copy()
        elif character == "#" and (self.at == 0 or self.script[self.at - 1] in _WORD_START) and top != "{":
            self.comment()
        elif character == "\n" and self.heredocs:
            self.copy()
            for heredoc in self.heredocs:
                self.heredoc(*heredoc)
            self.heredocs = []
        elif character == "<" and (match := _HEREDOC.match(self.script, self.at)) and self.script[self.at + 2 : self.at + 3] != "<":
            delimiter = match[2] or match[3] or match[4]
            quoted = match[4] is None or "\\" in match[0]
            self.heredocs.append((delimiter, quoted, bool(match[1])))
            self.copy(match.end() - self.at)
        elif self.expansion(character, "{"):
            return
        else:
            if (character == ")" and top == "(") or (character == "}" and top == "{"):
                self.stack.pop()
            elif character == "(" and top == "(":
                self.stack.append("(")
            self.copy()

    def comment(self) -> None:
        """A comment or a directive, to the end of the line."""
        inside = False
        while self.at < len(self.script) and self.script[self.at] != "\n":
            character = self.script[self.at]
            if character == "\0":
                self.value(_in_quoted_directive if inside else _in_directive)
                continue
            if character == '"':
                inside = not inside
            self.copy()

    def heredoc(self, delimiter: str, quoted: bool, tabs: bool) -> None:
        while self.at < len(self.script):
            end = self.script.find("\n", self.at)
            line = self.script[self.at : end if end >= 0 else len(self.script)]
            if (line.lstrip("\t") if tabs else line) == delimiter:
                return
            stop = self.at + len(line) + 1
            while self.at < min(stop, len(self.script)):
                if self.script[self.at] == "\0":
                    self.value(_in_quoted_heredoc if quoted else _in_heredoc)
                else:
                    self.copy()


def _word(value: str) -> str:
    return shlex.quote(value)


def _in_quotes(value: str) -> str:
    return re.sub(r'([\\"$`])', r"\\\1", value)


def _in_braces(value: str) -> str:
    return f'"{_in_quotes(value)}"'  # bash would look for the fellow of a single quote there


def _in_single(value: str) -> str:
    return value.replace("'", "'\\''")


_FORMS: dict[str, Callable[[str], str]] = {'"': _in_quotes, "'": _in_single, '"{': _in_braces}


def _in_heredoc(value: str) -> str:
    _one_line(value, "a here-document")
    return re.sub(r"([\\$`])", r"\\\1", value)


def _in_quoted_heredoc(value: str) -> str:
    _one_line(value, "a here-document")
    return value


def _one_line(value: str, where: str) -> None:
    if any(character < " " and character != "\t" for character in value) or "\x7f" in value:
        raise InvalidJobException(f"{value!r} cannot be written into {where}: it holds control characters")


def _in_quoted_directive(value: str) -> str:
    _one_line(value, "a directive of a batch script")
    if '"' in value or "\\" in value:
        raise InvalidJobException(f"{value!r} cannot be written into a directive of a batch script: it holds '\"' or '\\'")
    return value


def _in_directive(value: str) -> str:
    _one_line(value, "a directive of a batch script")
    if not value or _SAFE_IN_DIRECTIVE.fullmatch(value):
        return value
    if "'" in value or "\\" in value:
        raise InvalidJobException(f"{value!r} cannot be written into a directive of a batch script: it holds a quote or '\\'")
    return f"'{value}'"
