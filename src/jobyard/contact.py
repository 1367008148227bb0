"""Contact strings: one line that names a scheduler, the host that it is reached by, and a session on it.

    SCHEDULER[+ssh://[USER@]HOST[:PORT]][/SESSION][?key=value&...]
    site:NAME[/SESSION][?key=value&...]

Anything outside letters, digits and ``._~-`` is percent-encoded; a comma never stands in a contact, because DRMAA separates
contacts by commas. A value that cannot be a contact is refused when it is made, whether it was parsed or built from parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .errors import InvalidContact
from .units import parse_duration, parse_memory

__all__ = ["SSH_OPTIONS", "Contact", "known_options", "register_options"]

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})?")
_SCHEDULER = re.compile(r"[a-z][a-z0-9_]*(?:-[a-z0-9_]+)*")
_SESSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SITE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_KEY = re.compile(r"[a-z][a-z0-9_.-]*")
# What OpenSSH itself refuses in names given on its command line (ssh.c, valid_hostname and valid_ruser), and what would
# end the part of a contact.
_NOT_IN_HOST = frozenset("'`\"$\\;&<>|(){},/@?#[]")
_NOT_IN_USER = frozenset("'`\";&<>|(){},")


# Options ------------------------------------------------------------------------------------------------------------


def _text(value: str) -> str:
    if not value:
        raise ValueError("it is empty")
    return value


def _count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError(f"{value!r} is not a whole number")
    return int(value)


def _slots(value: str) -> int | str:
    if value == "queue":
        return value
    if (count := _count(value)) < 1:
        raise ValueError("there must be at least one slot")
    return count


def _choice(*words: str) -> Callable[[str], str]:
    def convert(value: str) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is none of {', '.join(words)}")
        return value

    return convert


Convert = Callable[[str], Any]

_COMMON: dict[str, Convert] = {
    "nonzero_exit": _choice("failed", "done"),  # what DRMAA calls a command that exited with another code than 0
    "usage": _choice("receipt", "accounting"),  # whose record of resource usage a waiter gets
    "retention": parse_duration,  # how long finished jobs stay readable
    "poll": parse_duration,  # the shortest time between two queue queries
    "patience": parse_duration,  # how long a scheduler may leave everything unanswered before those who wait are told
}


def _yes(value: str) -> bool:
    if value not in ("yes", "no"):
        raise ValueError(f"{value!r} is neither yes nor no")
    return value == "yes"


def _there(value: str) -> str:
    """A folder of the host's; ``~/`` at its beginning is the home of who logs in."""
    return value if value.startswith("~/") else _absolute(value)


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"{value!r} is not an absolute path")
    return value


def _program(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_./+-]+", value) or value.startswith("-"):
        raise ValueError(f"{value!r} cannot be a program's path; letters, digits and '_./+-' can stand in it")
    return value


def _path_list(value: str) -> str:
    for folder in value.split(":"):
        _absolute(folder)
    return value


def _words(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_@.,^+-]+", value) or value.startswith("-"):
        raise ValueError(f"{value!r} is no list of ciphers")
    return value


SSH_OPTIONS: Mapping[str, Callable[[str], Any]] = {  # of contacts with a host (docs/remote.md)
    "work_dir": _there,  # where the jobs' folders lie there
    "path": _path_list,  # folders put before PATH there
    "python": _program,  # that runs the helper there
    "ssh_config": _absolute,  # in place of ~/.ssh/config
    "keyfile": _absolute,  # the key to log in with, and no other
    "ignore_ssh_host_keys": _yes,
    "connect_timeout": parse_duration,
    "transfer_timeout": parse_duration,  # of one file
    "share": parse_duration,  # how long one login is kept for several programs
    "ciphers": _words,
}
_BATCH: dict[str, Convert] = {"queue": _text, "account": _text}  # of jobs that do not say their own
_OPTIONS: dict[str, dict[str, Convert]] = {
    "local": {
        "slots": _slots,
        "memory": parse_memory,
        "gpus": _text,  # a count, or device numbers separated by "+"
        "grace": parse_duration,  # between TERM and KILL
        "idle": parse_duration,  # without work before the server ends
    },
    "standin": {"cell": _text},
}


def register_options(scheduler: str, options: Mapping[str, Convert]) -> None:
    """Let contacts of that scheduler carry these options; an adapter calls it when it is imported.

    Each value converts the option's text and raises ValueError, saying what is wrong, where it cannot.
    """
    if not _SCHEDULER.fullmatch(scheduler):
        raise InvalidContact(f"{scheduler!r} cannot be a scheduler's name; write lower-case letters, digits, '_' and '-'")
    for key in options:
        if not _KEY.fullmatch(key):
            raise InvalidContact(f"{key!r} cannot be the name of an option; write lower-case letters, digits, '_', '.' and '-'")
    _OPTIONS.setdefault(scheduler, {}).update(options)


def known_options(scheduler: str) -> dict[str, Convert]:
    """Options that a contact of that scheduler may carry, those common to all included; "": these alone."""
    batch = {} if scheduler in ("", "local") else {**_BATCH, **SSH_OPTIONS}
    return {**_COMMON, **batch, **_OPTIONS.get(scheduler, {})}


# Percent-encoding ---------------------------------------------------------------------------------------------------


def _quote(text: str) -> str:
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))


def _unquote(text: str, whole: str) -> str:
    if "%" not in text:
        return text

    def byte(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            raise InvalidContact(f"{whole!r}: '%' is followed by two hexadecimal digits; write '%25' for itself")
        return bytes((int(match[1], 16),))

    return _PERCENT.sub(byte, _encoded(text, whole)).decode("utf-8", "surrogateescape")


def _encoded(text: str, whole: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidContact(f"{whole!r} holds what no encoding has: {error.reason}") from error


# Contacts -----------------------------------------------------------------------------------------------------------


class Contact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which scheduler, over which host, which session of it, and options. ``str()`` of it parses to an equal one.

    Either ``scheduler`` or ``site`` (a name from the configuration) is set. Raises InvalidContact, saying what is wrong,
    where a part makes no sense; a scheduler's own options are checked for schedulers whose options are known here, for
    others once their adapter was imported (``check_options``).
    """

    scheduler: str = ""
    host: str | None = None  # None: this machine; an IPv6 address without brackets
    user: str | None = None
    port: int | None = None
    session: str | None = None
    options: Mapping[str, str] = {}
    site: str | None = None

    def __post_init__(self) -> None:
        self._check_names()
        self._check_host()
        if self.session is not None and not _SESSION.fullmatch(self.session):
            raise InvalidContact(f"{self.session!r} cannot be a session; write letters, digits, '.', '_' and '-'")
        for key, value in self.options.items():
            if not isinstance(value, str):
                raise InvalidContact(f"option {key} is text, not {type(value).__name__} {value!r}")
            if any(c < " " or c == "\x7f" for c in value):
                raise InvalidContact(f"option {key} holds a control character: {value!r}")
            _encoded(value, value)
            if key in SSH_OPTIONS and self.host is None and self.site is None and self.scheduler != "local":
                raise InvalidContact(f"option {key} is for a host that is reached over ssh, and the contact names none")
        if self.scheduler in _OPTIONS:
            self.check_options()
        else:
            for key in self.options:
                if not _KEY.fullmatch(key):
                    raise InvalidContact(f"{key!r} cannot be the name of an option")

    def _check_names(self) -> None:
        if self.site is not None:
            if self.scheduler or self.host is not None:
                raise InvalidContact("a contact names a site or a scheduler, not both")
            if not _SITE.fullmatch(self.site):
                raise InvalidContact(f"{self.site!r} cannot be a site's name; write letters, digits, '.', '_' and '-'")
        elif not self.scheduler:
            raise InvalidContact("the contact names no scheduler; write one, such as 'local' or 'slurm'")
        elif not _SCHEDULER.fullmatch(self.scheduler):
            lower = self.scheduler.lower()
            hint = f"; did you mean {lower!r}?" if _SCHEDULER.fullmatch(lower) else ""
            raise InvalidContact(f"{self.scheduler!r} cannot be a scheduler's name{hint}")

    def _check_host(self) -> None:
        if self.host is None:
            if self.user is not None or self.port is not None:
                raise InvalidContact("a user or a port needs a host; write 'slurm+ssh://me@login.example.org'")
            return
        _check_login("host", self.host, _NOT_IN_HOST)
        if ":" in self.host:
            _check_ipv6(self.host)
        if self.user is not None:
            _check_login("user", self.user, _NOT_IN_USER)
        if self.port is not None and (type(self.port) is not int or not 0 < self.port < 65536):
            raise InvalidContact(f"port {self.port!r} is not between 1 and 65535")

    def check_options(self) -> None:
        """Raise InvalidContact for an option that the scheduler does not know, or whose value makes no sense."""
        known = known_options(self.scheduler)
        for key, value in self.options.items():
            if key not in known:
                raise InvalidContact(_unknown_option(self.scheduler, key, known))
            try:
                known[key](value)
            except ValueError as error:
                raise InvalidContact(f"option {key} of {self.scheduler}: {error}") from error

    def option(self, key: str, default: Any = None) -> Any:
        """The option's value in its own type (bytes, seconds, a count, or text), or ``default`` where it is not given."""
        if key not in self.options:
            return default
        known = known_options(self.scheduler)
        if key not in known:
            raise InvalidContact(_unknown_option(self.scheduler, key, known))
        return known[key](self.options[key])

    def with_session(self, session: str | None) -> Contact:
        """The same contact with another session."""
        return msgspec.structs.replace(self, session=session)

    @classmethod
    def parse(cls, text: str, *, scheduler: str | None = None) -> Contact:
        """The contact that a text says. InvalidContact says what is wrong in it.

        With ``scheduler`` the text may leave the scheduler out (``ssh://me@host``, ``?slots=4``, nothing at all); a text that
        names another one is refused.
        """
        if not isinstance(text, str):
            raise InvalidContact(f"a contact is text, not {type(text).__name__} {text!r}")
        if any(c <= " " or c == "\x7f" for c in text):
            raise InvalidContact(f"{text!r} holds a blank or a control character; percent-encode it")
        if "," in text:
            raise InvalidContact(f"{text!r} holds a comma; write '%2C' within a value")
        head, mark, query = text.partition("?")
        if mark and not query:
            raise InvalidContact(f"{text!r} ends with '?'; options follow it, as in '?slots=4'")
        options = _parse_options(query, text)
        if head.startswith("site:"):
            if scheduler is not None:
                raise InvalidContact(f"{text!r} names a site where only a contact of {scheduler} can stand")
            site, slash, session = head[5:].partition("/")
            return cls(site=_unquote(site, text), session=_parse_session(slash, session, text), options=options)
        name, host, user, port, slash, session = _parse_head(head, text, scheduler)
        return cls(
            scheduler=name,
            host=host,
            user=user,
            port=port,
            session=_parse_session(slash, session, text),
            options=options,
        )

    def __str__(self) -> str:
        if self.site is not None:
            text = f"site:{_quote(self.site)}"
        else:
            text = _quote(self.scheduler)
        if self.host is not None:
            user = "" if self.user is None else f"{_quote(self.user)}@"
            host = f"[{_quote(self.host).replace('%3A', ':')}]" if ":" in self.host else _quote(self.host)
            port = "" if self.port is None else f":{self.port}"
            text += f"+ssh://{user}{host}{port}"
        if self.session is not None:
            text += f"/{self.session}"
        if self.options:
            text += "?" + "&".join(f"{key}={_quote(value)}" for key, value in self.options.items())
        return text

    def __hash__(self) -> int:
        return hash((self.scheduler, self.site, self.host, self.user, self.port, self.session, frozenset(self.options.items())))


def _check_login(what: str, value: str, forbidden: frozenset[str]) -> None:
    """Refuse what a program could take for an option, or a shell for more than a word."""
    if not value:
        raise InvalidContact(f"the {what} is empty")
    if value.startswith("-"):
        raise InvalidContact(f"the {what} {value!r} begins with '-'; a program would take it for an option")
    for character in value:
        if character <= " " or character == "\x7f" or character.isspace() or not character.isprintable():
            raise InvalidContact(f"the {what} {value!r} holds a blank, a control character or a byte that is no text")
        if character in forbidden:
            raise InvalidContact(f"the {what} {value!r} holds {character!r}, which no {what} can")
    if what == "user" and value.endswith("\\"):
        raise InvalidContact(f"the user {value!r} ends with a backslash")


def _check_ipv6(host: str) -> None:
    import ipaddress  # here: most contacts have none, and importing it costs

    try:
        ipaddress.IPv6Address(host)
    except ValueError as error:
        raise InvalidContact(f"the host {host!r} is no IPv6 address: {error}") from error


def _parse_head(head: str, whole: str, scheduler: str | None) -> tuple[str, str | None, str | None, int | None, str, str]:
    before, mark, rest = head.partition("://")
    if not mark:
        name, slash, session = head.partition("/")
        if "+" in name:
            raise InvalidContact(f"{whole!r}: a host follows '://', as in 'slurm+ssh://login.example.org'")
        if ":" in name or "@" in name:
            raise InvalidContact(f"{whole!r} is no contact; a host is written 'slurm+ssh://login.example.org'")
        return _named(_unquote(name, whole), whole, scheduler), None, None, None, slash, session
    name, plus, transport = before.partition("+")
    if not plus and scheduler is not None:
        name, transport = "", before
    elif not plus:
        if before == "ssh":
            raise InvalidContact(f"{whole!r} names no scheduler; write it first, as in 'slurm+{whole}'")
        raise InvalidContact(f"{whole!r}: a host is reached over ssh; write '{before}+ssh://{rest}'")
    if transport != "ssh":
        raise InvalidContact(f"{whole!r}: {transport!r} is no transport; there is 'ssh'")
    login, slash, session = rest.partition("/")
    user, at, address = login.rpartition("@")
    host, port = _parse_address(address, whole)
    return _named(_unquote(name, whole), whole, scheduler), host, _unquote(user, whole) if at else None, port, slash, session


def _named(name: str, whole: str, scheduler: str | None) -> str:
    if scheduler is None:
        if not name:
            raise InvalidContact(f"{whole!r} names no scheduler; write one, such as 'local' or 'slurm'")
        return name
    if name and name != scheduler:
        raise InvalidContact(f"{whole!r} names the scheduler {name!r} where {scheduler!r} is used; leave the name out")
    return scheduler


def _parse_address(address: str, whole: str) -> tuple[str, int | None]:
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidContact(f"{whole!r}: an IPv6 address stands in brackets, as in 'slurm+ssh://[2001:db8::1]:22'")
        if ":" not in host:
            raise InvalidContact(f"{whole!r}: only an IPv6 address stands in brackets")
        port = rest[1:] if rest else None
    else:
        host, colon, port_text = address.partition(":")
        if ":" in port_text:
            raise InvalidContact(f"{whole!r}: an IPv6 address stands in brackets, as in 'slurm+ssh://[2001:db8::1]:22'")
        port = port_text if colon else None
    host = _unquote(host, whole)
    if not host:
        raise InvalidContact(f"{whole!r} names no host after '://'")
    if port is None:
        return host, None
    if not re.fullmatch(r"[0-9]{1,5}", port):
        raise InvalidContact(f"{whole!r}: {port!r} is no port number")
    return host, int(port)


def _parse_session(slash: str, session: str, whole: str) -> str | None:
    if not slash:
        return None
    if not session:
        raise InvalidContact(f"{whole!r} ends with '/'; a session follows it, or leave it out")
    return _unquote(session, whole)


def _parse_options(query: str, whole: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        key = _unquote(key, whole)
        if not equals or not key:
            raise InvalidContact(f"{whole!r}: options are written key=value, not {part!r}")
        if key in options:
            raise InvalidContact(f"{whole!r} gives {key} twice")
        options[key] = _unquote(value, whole)
    return options


def _unknown_option(scheduler: str, key: str, known: Mapping[str, Any]) -> str:
    import difflib

    near = difflib.get_close_matches(key, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{scheduler} has no option {key!r}{hint} It has: {', '.join(sorted(known))}"
