"""``Url``: where a file is. A plain path is a ``file`` URL, whatever characters it holds."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit

from .exceptions import InvalidValue

__all__ = ["Url"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class _Parts(NamedTuple):
    scheme: str
    path: str
    hostname: str | None
    port: int | None
    query: str | None
    username: str | None
    password: str | None
    fragment: str | None


class Url(_Parts):
    """The parts of a URL: scheme, path, hostname, port, query, username, password, fragment.

    Text without ``SCHEME://`` is a path on this machine, taken literally: ``x#1`` is a file of that name, ``//a/b`` lies in
    the root folder. A relative one is made absolute unless ``force_abs`` is False. In ``file://`` URLs ``%`` quotes bytes.
    InvalidValue: a URL that cannot be parsed.
    """

    __slots__ = ()

    def __new__(
        cls,
        urlstring: Any = None,
        force_abs: bool = True,
        scheme: str = "file",
        path: str = "",
        hostname: str | None = None,
        port: int | None = None,
        query: str | None = None,
        username: str | None = None,
        password: str | None = None,
        fragment: str | None = None,
    ) -> Self:
        if isinstance(urlstring, Url):
            return super().__new__(cls, *urlstring)
        if urlstring is None:
            return super().__new__(cls, scheme, path, hostname, port, query, username, password, fragment)
        text = os.fsdecode(urlstring)
        if not _SCHEME.match(text):
            if force_abs and not os.path.isabs(text):
                text = os.path.join(os.getcwd(), text)
            return super().__new__(cls, "file", text, None, None, None, None, None, None)
        try:
            parts = urlsplit(text)
            where = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidValue(f"{text!r} is no URL: {error}") from error
        name = parts.scheme.lower()
        decoded = unquote(parts.path, errors="surrogateescape") if name == "file" else parts.path
        return super().__new__(
            cls, name, decoded, *where, parts.query or None, parts.username, parts.password, parts.fragment or None
        )

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (None, True, *self)

    def __str__(self) -> str:
        if self.scheme == "file" and self.hostname is None:
            return "file://" + quote(os.fsencode(self.path))
        login = "" if self.username is None else self.username + ("" if self.password is None else f":{self.password}") + "@"
        text = f"{self.scheme}://{login}{self.hostname or ''}{'' if self.port is None else f':{self.port}'}{self.path}"
        return text + (f"?{self.query}" if self.query else "") + (f"#{self.fragment}" if self.fragment else "")

    def __repr__(self) -> str:
        shown = self._replace(password="...") if self.password is not None else self
        return f"Url({str(shown)!r})"

    def adjoin(self, relpath: str) -> Self:
        """The URL of something below this one."""
        return self._replace(path=os.path.join(self.path or "/", relpath))
