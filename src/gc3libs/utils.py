"""Small things that backends use: quoting for the shell, ``Struct``, ``History``."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

__all__ = [
    "History",
    "Struct",
    "basename_sans",
    "sh_quote_safe",
    "sh_quote_safe_cmdline",
    "sh_quote_unsafe",
    "sh_quote_unsafe_cmdline",
]


def sh_quote_safe(text: Any) -> str:
    """One word for the shell that stands for exactly this text."""
    return shlex.quote(str(text))


def sh_quote_safe_cmdline(words: Iterable[Any]) -> str:
    """A command line of exactly these words."""
    return " ".join(sh_quote_safe(word) for word in words)


def sh_quote_unsafe(text: Any) -> str:
    """One word for the shell in which ``$NAME``, ``$(...)`` and back-ticks are expanded where the command runs; a backslash before
    one of these keeps it as it is."""
    return '"' + re.sub(r'(\\*)("|$(?!\n))', lambda found: found[1] * 2 + (found[2] and '\\"'), str(text)) + '"'


def sh_quote_unsafe_cmdline(words: Iterable[Any]) -> str:
    """A command line of these words, with expansions in each."""
    return " ".join(sh_quote_unsafe(word) for word in words)


def basename_sans(path: str) -> str:
    """The last component of a path, without its extension."""
    name = path.rstrip("/").rpartition("/")[2]
    return name.rpartition(".")[0] or name


class Struct:
    """An object whose attributes can be read and set as items, too."""

    def __init__(self, initializer: Mapping[str, Any] | None = None, **extra: Any) -> None:
        self.update(initializer or {}, **extra)

    if TYPE_CHECKING:  # attributes are whatever was set

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def __getitem__(self, name: str) -> Any:
        try:
            return self.__dict__[name]
        except KeyError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __delitem__(self, name: str) -> None:
        del self.__dict__[name]

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def keys(self) -> list[str]:
        """Names of the public attributes."""
        return [name for name in self.__dict__ if not name.startswith("_")]

    def values(self) -> list[Any]:
        """Their values."""
        return [self.__dict__[name] for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """Names and values."""
        return [(name, self.__dict__[name]) for name in self.keys()]

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default`` where there is none."""
        return self.__dict__.get(name, default)

    def setdefault(self, name: str, value: Any) -> Any:
        """The value; ``value``, which is set, where there is none."""
        if name not in self.__dict__:
            setattr(self, name, value)
        return self.__dict__[name]

    def pop(self, name: str, *default: Any) -> Any:
        """Remove it; its value, or the default."""
        return self.__dict__.pop(name, *default)

    def update(self, other: Mapping[str, Any] | Struct | Iterable[tuple[str, Any]] = (), **extra: Any) -> None:
        """Set many."""
        pairs = other.items() if isinstance(other, Mapping | Struct) else other
        for name, value in [*pairs, *extra.items()]:
            setattr(self, name, value)

    def copy(self) -> Struct:
        """A shallow copy."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made


class History(list[tuple[str, float, tuple[str, ...]]]):
    """What happened, in order: text, when (seconds since the epoch), tags."""

    def append(self, message: Any, *tags: str) -> None:
        """Note something, now."""
        super().append((str(message), time.time(), tags))

    def format_message(self, text: str, *args: Any) -> None:
        """Note a ``%`` format with its values."""
        self.append(text % args if args else text)

    def last(self) -> str:
        """The last note; empty where there is none."""
        return self[-1][0] if self else ""

    def __str__(self) -> str:
        return "\n".join(f"{text} at {time.ctime(at)}" for text, at, _ in self)
