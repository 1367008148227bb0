"""``config.toml``, and which contact is meant.

    [defaults]                      # options of every contact, and the contact itself
    contact = "site:cluster"
    retention = "30d"

    [local]                         # options of the embedded scheduler
    slots = 4

    [sites.cluster]                 # "site:cluster"
    contact = "slurm+ssh://me@login.example.org"
    queue = "long"
    options = { poll = "10s" }

The file lies in the platform's user configuration folder, or where ``JOBYARD_CONFIG`` says. Every key is checked, with its
place in the error. Reading it is put off until a contact is resolved.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from .contact import Contact, known_options
from .errors import AmbiguousContact, ConfigurationError, InvalidContact
from .folders import config_path, state_dir, work_root

__all__ = ["Config", "Site", "config_path", "load", "parse", "resolve", "state_dir", "work_root"]

_MAX_BYTES = 1 << 20  # a configuration file; anything larger is something else


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[sites.NAME]``: a contact, and options that its own do not say."""

    contact: Contact
    options: Mapping[str, str] = {}


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration file says; empty where there is none. Options are text, as in a contact."""

    path: Path | None = None
    contact: Contact | None = None
    defaults: Mapping[str, str] = {}
    local: Mapping[str, str] = {}
    sites: Mapping[str, Site] = {}


# The file -------------------------------------------------------------------------------------------------------------


def load(path: Path | None = None) -> Config:
    """The configuration file's content; an empty Config where the file is not there.

    ConfigurationError: it cannot be read, or says what makes no sense; names file, line and column.
    """
    path = config_path() if path is None else path
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return Config()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise ConfigurationError(f"{path}: is larger than 1 MiB, which no configuration is")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise ConfigurationError(f"{path}, line {line}, column {column}: is not UTF-8") from error
    return parse(text, path)


def parse(text: str, path: Path | None = None) -> Config:
    """The Config that a text says; ``path`` names it in errors. ConfigurationError as for ``load``."""
    import tomllib

    shown = str(path or "config.toml")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f"line {place[1]}, column {place[2]}" if place else "at its end"
        what = re.sub(r"\s*\(at [^)]*\)$", "", str(error))
        raise ConfigurationError(f"{shown}, {where}: {what[:1].lower()}{what[1:]}") from error
    return _Reader(text, shown).config(data, path)


class _Reader:
    """Turns tables into a Config; knows where in the text each key stands."""

    def __init__(self, text: str, shown: str) -> None:
        self._text = text
        self._shown = shown

    def config(self, data: dict[str, Any], path: Path | None) -> Config:
        self._known((), data, ("defaults", "local", "sites"))
        defaults = dict(self._table(("defaults",), data.get("defaults", {})))
        common = known_options("")
        self._known(("defaults",), defaults, ("contact", *common))
        contact = self._contact(("defaults", "contact"), defaults.pop("contact")) if "contact" in defaults else None
        local = self._table(("local",), data.get("local", {}))
        sites = self._table(("sites",), data.get("sites", {}))
        found = Config(
            path=path,
            contact=contact,
            defaults=self._options(("defaults",), defaults, "", check=True),
            local=self._options(("local",), local, "local", check=True),
            sites={name: self._site(name, table) for name, table in sites.items()},
        )
        if contact is not None and contact.site is not None and contact.site not in found.sites and _gc3_site(contact.site) is None:
            self._fault(("defaults", "contact"), _no_site(contact.site, found))
        return found

    def _site(self, name: str, value: Any) -> Site:
        path = ("sites", name)
        table = self._table(path, value)
        self._known(path, table, ("contact", "queue", "account", "options"))
        try:
            Contact(site=name)
        except InvalidContact as error:
            self._fault(path, str(error))
        if "contact" not in table:
            self._fault(path, 'the site has no contact; add one, such as contact = "slurm+ssh://me@login.example.org"')
        contact = self._contact((*path, "contact"), table["contact"])
        if contact.site is not None:
            self._fault((*path, "contact"), "a site's contact names a scheduler, not another site")
        own: dict[str, Any] = {key: table[key] for key in ("queue", "account") if key in table}
        options = self._options(path, own, contact.scheduler)
        more = self._table((*path, "options"), table.get("options", {}))
        return Site(contact=contact, options={**options, **self._options((*path, "options"), more, contact.scheduler)})

    def _contact(self, path: tuple[str, ...], value: Any) -> Contact:
        try:
            return Contact.parse(msgspec.convert(value, str))
        except (msgspec.ValidationError, InvalidContact) as error:
            self._fault(path, f"{path[-1]}: {_lower(error)}")

    def _options(self, path: tuple[str, ...], table: Mapping[str, Any], scheduler: str, *, check: bool = False) -> dict[str, str]:
        """Options as text. Unknown keys are refused only where all keys are known: an adapter's own are with the adapter."""
        known = known_options(scheduler)
        if check or scheduler == "local":
            self._known(path, table, tuple(known))
        options: dict[str, str] = {}
        for key, value in table.items():
            try:
                text = str(msgspec.convert(value, int | float | str))
                if key in known:
                    known[key](text)
                Contact(scheduler="x", host="x", options={key: text})  # what any contact refuses: control characters, a bad name
            except (msgspec.ValidationError, InvalidContact, ValueError) as error:
                self._fault((*path, key), f"{key}: {_lower(error)}")
            options[key] = text
        return options

    def _table(self, path: tuple[str, ...], value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._fault(path, f"{'.'.join(path)} is a table; write it as [{'.'.join(path)}]")
        return value

    def _known(self, path: tuple[str, ...], table: Mapping[str, Any], names: tuple[str, ...]) -> None:
        for key in table:
            if key not in names:
                import difflib

                where = f"[{'.'.join(path)}]" if path else "the file"
                near = difflib.get_close_matches(key, names, 1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                self._fault((*path, key), f"{where} has no {key!r}{hint} It has: {', '.join(sorted(names))}")

    def _fault(self, path: tuple[str, ...], what: str) -> NoReturn:
        line, column = _place(self._text, path)
        raise ConfigurationError(f"{self._shown}, line {line}, column {column}: {what}")


def _lower(error: Exception) -> str:
    text = str(error).replace("`", "'")
    return text[:1].lower() + text[1:]


# Where a key stands ---------------------------------------------------------------------------------------------------

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PART = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[ \t]*""")
_STRING = re.compile(r'''"""(?:[^\\]|\\.)*?"""+|\'\'\'.*?\'\'\'+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''', re.DOTALL)
_PLAIN = re.compile(r"[^,\]\}\n#]+")


def _place(text: str, path: tuple[str, ...]) -> tuple[int, int]:
    """Line and column (from 1) of the first key of that path, or of the nearest table around it; the text is valid TOML."""
    best, position = 0, 0
    for found, at in _keys(text):
        if found == path:
            best, position = len(path), at
            break
        length = next(
            (n for n, (one, other) in enumerate(zip(found, path, strict=False)) if one != other), min(len(found), len(path))
        )
        if length > best:
            best, position = length, at
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def _keys(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every key and table header of a valid TOML text, with its position."""
    at = 0
    prefix: tuple[str, ...] = ()
    while (at := _skip(text, at)) < len(text):
        if text[at] == "[":
            at += 2 if text.startswith("[[", at) else 1
            prefix, start, at = _dotted(text, at)
            yield prefix, start
            while text[at : at + 1] == "]":
                at += 1
        else:
            key, start, at = _dotted(text, at)
            yield (*prefix, *key), start
            at = yield from _value(text, at + 1, (*prefix, *key))


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _dotted(text: str, at: int) -> tuple[tuple[str, ...], int, int]:
    parts: list[str] = []
    start = at
    while match := _PART.match(text, at):
        if not parts:
            start = match.end() - len(match[0].lstrip(" \t"))
        parts.append(next(group for group in match.groups() if group is not None))
        at = match.end()
        if text[at : at + 1] != ".":
            break
        at += 1
    return tuple(parts), start, at


def _value(text: str, at: int, path: tuple[str, ...]) -> Generator[tuple[tuple[str, ...], int], None, int]:
    """The keys within a value; returns the position behind it."""
    at = _skip(text, at)
    opening = text[at : at + 1]
    if opening in ("{", "["):
        at = _skip(text, at + 1)
        while text[at : at + 1] not in ("}", "]", ""):
            inner = path
            if opening == "{":
                key, start, at = _dotted(text, at)
                inner = (*path, *key)
                yield inner, start
                at += 1
            at = yield from _value(text, at, inner)
            at = _skip(text, at)
            if text[at : at + 1] == ",":
                at = _skip(text, at + 1)
        return at + 1
    match = _STRING.match(text, at) or _PLAIN.match(text, at)
    return match.end() if match else at + 1


# Which contact --------------------------------------------------------------------------------------------------------


def resolve(contact: str | Contact | None = None, config: Config | None = None) -> Contact:
    """The contact that is meant, with its scheduler, and the options that configuration and contact give together.

    None: ``JOBYARD_CONTACT``, else the configured default, else the one scheduler found on this machine, else ``local``. An
    option of the contact beats the site's, which beats that of ``[local]``, which beats that of ``[defaults]``.

    InvalidContact: it cannot be used. AmbiguousContact: several schedulers were found and none was chosen.
    ConfigurationError: as ``load``.
    """
    config = load() if config is None else config
    if contact is None:
        contact = _default(config)
    elif isinstance(contact, str):
        contact = Contact.parse(contact)
    site_options: Mapping[str, str] = {}
    if contact.site is not None:
        site = config.sites.get(contact.site) or _gc3_site(contact.site)
        if site is None:
            raise InvalidContact(_no_site(contact.site, config))
        site_options = {**site.options, **site.contact.options}
        contact = msgspec.structs.replace(site.contact, session=contact.session or site.contact.session, options=contact.options)
    own = config.local if contact.scheduler == "local" else {}
    options = {**config.defaults, **own, **site_options, **contact.options}
    return msgspec.structs.replace(contact, options=options)


def _default(config: Config) -> Contact:
    named = os.environ.get("JOBYARD_CONTACT")
    if named:
        try:
            return Contact.parse(named)
        except InvalidContact as error:
            raise InvalidContact(f"JOBYARD_CONTACT: {error}") from error
    if config.contact is not None:
        return config.contact
    from .schedulers import found

    here = found()
    if len(here) > 1:
        raise AmbiguousContact(
            f"several schedulers are here: {', '.join(here)}; choose one by a contact, by JOBYARD_CONTACT, "
            f'or by contact = "{here[0]}" under [defaults] in {config_path()}'
        )
    return Contact(scheduler=here[0] if here else "local")


def _gc3_site(name: str) -> Site | None:
    """The site that a gc3pie.conf has under that name."""
    from . import gc3conf

    found = gc3conf.site_of(gc3conf.read(), name)
    return None if found is None else Site(contact=found[0], options=found[1])


def _no_site(name: str, config: Config) -> str:
    if not config.sites:
        where = config.path or config_path()
        return f"there is no site {name!r}; {where} has none. Add [sites.{name}] with its contact"
    import difflib

    near = difflib.get_close_matches(name, config.sites, 1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"there is no site {name!r}{hint} Configured are: {', '.join(sorted(config.sites))}"
