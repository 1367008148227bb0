"""What the qsubs of the PBS family have in common: names, dates, mail, and which options are the user's. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from ...errors import InvalidJob
from ...job import JobDescription

__all__ = [
    "attribute_words",
    "begin_words",
    "check_common",
    "checked_options",
    "mail_words",
    "seconds",
    "shown_name",
]

_EMAIL = re.compile(r"[A-Za-z0-9_.%+-]+@[A-Za-z0-9.-]+|[A-Za-z0-9_.+-]+", re.ASCII)
_MAIL_ON = {"begin": "b", "end": "e", "fail": "a"}
_DESTINATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]*", re.ASCII)


# Values that reach the command ----------------------------------------------------------------------------------------


def check_common(scheduler: str, description: JobDescription, *, priority: int, reservations: bool = False) -> None:
    """InvalidJob names the field whose value this scheduler's commands cannot take. ``reservations``: they are no queues."""
    for name in ("queue", "reservation"):
        value = getattr(description, name)
        if value is not None and not _DESTINATION.fullmatch(value):
            raise InvalidJob(f"{scheduler}: {name} {value!r} cannot be one of its queues; write a name like 'workq'", field=name)
    if description.queue is not None and description.reservation is not None and not reservations:
        raise InvalidJob(
            f"{scheduler}: a reservation is a queue there; give reservation {description.reservation!r} or queue, not both",
            field="reservation",
        )
    account = description.account
    if account is not None and (not account or not account.isprintable() or set(account) & set("|,=")):
        raise InvalidJob(f"{scheduler}: account {account!r} is empty or holds what its commands cannot carry", field="account")
    if description.priority is not None and not -priority <= description.priority < priority:
        raise InvalidJob(
            f"{scheduler}: priority is {-priority} to {priority - 1}, not {description.priority}; of one's own jobs",
            field="priority",
        )
    for address in description.email:
        if not _EMAIL.fullmatch(address):
            raise InvalidJob(f"{scheduler}: {address!r} is no mail address", field="email")
    if description.email_on and not description.email:
        raise InvalidJob(f"{scheduler}: email_on needs an address in email", field="email_on")
    if description.begin_at is not None and not 0 <= description.begin_at < 253370764800:  # the year 9999
        raise InvalidJob(f"{scheduler}: begin_at {description.begin_at!r} is no moment that qsub can be told", field="begin_at")


def shown_name(name: str, most: int, first: str = "A-Za-z0-9_") -> str:
    """The name, of at most so many characters, as the scheduler shows it; the job's own is kept as written.

    qsub refuses blanks, ``: / @ =``, anything that is not ASCII, and an empty name (seen on OpenPBS 23.06); the others stand
    in for them as underscores.
    """
    shown = re.sub(r"[^A-Za-z0-9_.+-]", "_", name)[:most]
    return shown if re.match(f"[{first}]", shown) else f"{'_' if '_' in first else 'j'}{shown}"[:most]


def begin_words(description: JobDescription) -> list[str]:
    """``-a``, in UTC to the second: the command runs with TZ=UTC0. Rounded up, so that nothing begins too early."""
    if description.begin_at is None:
        return []
    whole = int(description.begin_at) + (description.begin_at % 1 > 0)
    return ["-a", time.strftime("%Y%m%d%H%M.%S", time.gmtime(whole))]


def mail_words(description: JobDescription) -> list[str]:
    """``-m`` and ``-M``; without addresses no mail at all, unless native options speak of it: PBS sends some by itself."""
    if description.email:
        events = "".join(_MAIL_ON[event] for event in description.email_on) or "ae"
        return ["-m", events, "-M", ",".join(description.email)]
    return [] if any(word.startswith("-m") for word in description.native) else ["-m", "n"]


def seconds(value: float) -> str:
    """Seconds as the commands take them: whole ones, rounded up."""
    return str(int(value) + (value % 1 > 0))


# The user's own options -----------------------------------------------------------------------------------------------


def checked_options(scheduler: str, words: Sequence[str], arguments: str, ours: Mapping[str, str], *, field: str) -> None:
    """InvalidJob: a word that is no option of qsub, or an option that belongs to jobyard.

    ``arguments``: the letters of options that take one. ``ours``: letters, and words of ``-W``, with what to use instead.
    """
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if len(word) < 2 or not word.startswith("-") or word.startswith("--"):
            raise InvalidJob(f"{scheduler}: {word!r} is no option of qsub; it would be taken for the job's script", field=field)
        for place, letter in enumerate(word[1:], 1):
            if letter in ours:
                raise InvalidJob(f"{scheduler}: -{letter} belongs to jobyard; use {ours[letter]} instead", field=field)
            if letter not in arguments:
                continue
            value = word[place + 1 :]
            if not value:
                if at == len(words):
                    raise InvalidJob(f"{scheduler}: the option -{letter} needs a value", field=field)
                value = words[at]
                at += 1
            if letter == "W":
                _check_additional(scheduler, value, ours, field)
            break


def _check_additional(scheduler: str, value: str, ours: Mapping[str, str], field: str) -> None:
    for part in re.split(r"[,\s]+(?=[a-z_]+=)", value.strip()):
        name = part.partition("=")[0].strip()
        if name in ours:
            raise InvalidJob(f"{scheduler}: -W {name} belongs to jobyard; use {ours[name]} instead", field=field)


def attribute_words(scheduler: str, description: JobDescription, arguments: str, ours: Mapping[str, str]) -> list[str]:
    """``pbs.l: "mem=1gb"`` as ``-l mem=1gb``: what PSI/J's custom attributes ask for. InvalidJob names the attribute."""
    words: list[str] = []
    for key, value in description.attributes.items():
        prefix, _, name = key.partition(".")
        if prefix != scheduler:
            continue
        if len(name) != 1 or not name.isascii() or not name.isalpha():
            raise InvalidJob(f"{key}: {scheduler}'s attributes are named by an option's letter, like '{scheduler}.l'", field=key)
        pair = [f"-{name}", value] if name in arguments else [f"-{name}"]
        if name not in arguments and value:
            raise InvalidJob(f"{key}: the option -{name} takes no value, and has {value!r}", field=key)
        checked_options(scheduler, pair, arguments, ours, field=key)
        words += pair
    return words
