"""What this machine has: cores, memory, GPUs."""

from __future__ import annotations

import glob
import os
import re
import resource
from collections.abc import Mapping

from ...errors import InvalidContact
from ...units import parse_duration, parse_memory
from .queue import Need

__all__ = ["OPTIONS", "Machine", "Settings", "raise_open_files"]

OPTIONS = ("slots", "memory", "gpus", "grace", "idle", "retention")
FILES_BESIDE, FILES_OF_JOB = 256, 6  # descriptors
_OTHERS = ("nonzero_exit", "usage", "poll", "patience")  # of every contact: for fronts and for schedulers that are polled


class Settings:
    """The options of a contact, checked. They shape a server that starts; one that runs is never changed."""

    def __init__(self, options: Mapping[str, str]) -> None:
        for key in options:
            if key not in OPTIONS and key not in _OTHERS:
                raise InvalidContact(f"local has no option {key!r}; it has: {', '.join(OPTIONS)}")
        self.options = dict(options)
        self.slots = _count(options, "slots", 1)
        self.memory = _value(options, "memory", parse_memory)
        self.gpus = _gpus(options["gpus"]) if "gpus" in options else None
        self.grace_s = _value(options, "grace", parse_duration)
        self.idle_s = _value(options, "idle", parse_duration)
        self.retention_s = _value(options, "retention", parse_duration)


def _count(options: Mapping[str, str], key: str, least: int) -> int | None:
    text = options.get(key)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < least:
        raise InvalidContact(f"{key}={text!r} is not a whole number of at least {least}")
    return int(text)


def _value(options: Mapping[str, str], key: str, parse: object) -> float | None:
    text = options.get(key)
    if text is None:
        return None
    try:
        return parse(text)  # type: ignore[operator,no-any-return]
    except ValueError as error:
        raise InvalidContact(f"{key}={text!r}: {error}") from error


def _gpus(text: str) -> tuple[bytes, ...]:
    """A count, or names separated by ``+`` (as in ``gpus=0+2`` or UUIDs)."""
    if text.isdecimal():
        return tuple(b"%d" % n for n in range(int(text)))
    names = text.split("+")
    if not all(names) or len(set(names)) != len(names):
        raise InvalidContact(f"gpus={text!r} is neither a count nor device names joined by '+'")
    return tuple(os.fsencode(name) for name in names)


def cores_here() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def memory_here() -> int:
    """Bytes of memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def gpus_here() -> tuple[bytes, ...]:
    """The numbers of the GPUs under /dev."""
    found = (re.fullmatch(r"/dev/nvidia(\d+)", path) for path in glob.glob("/dev/nvidia[0-9]*"))
    return tuple(b"%d" % number for number in sorted(int(match[1]) for match in found if match))


class Machine:
    """What there is to book, and what of it is free."""

    def __init__(self, settings: Settings) -> None:
        cores = settings.slots or cores_here()
        memory = int(settings.memory) if settings.memory is not None else memory_here()
        self.gpus = settings.gpus if settings.gpus is not None else gpus_here()
        self.total = Need(cores, memory, len(self.gpus))
        self.free = self.total
        self.free_gpus = list(self.gpus)

    def book(self, need: Need) -> list[bytes] | None:
        """Take it; its GPUs, none of them where it needs none (None: there are none at all)."""
        self.free = self.free.minus(need)
        if not need.gpus:
            return [] if self.gpus else None
        taken, self.free_gpus = self.free_gpus[: need.gpus], self.free_gpus[need.gpus :]
        return taken

    def book_again(self, need: Need, gpus: list[bytes] | None) -> None:
        """Take what a job found running has had."""
        self.free = self.free.minus(need)
        if gpus:
            self.free_gpus = [gpu for gpu in self.free_gpus if gpu not in gpus]

    def release(self, need: Need, gpus: list[bytes] | None) -> None:
        """Give it back."""
        self.free = self.free.plus(need)
        if gpus:
            self.free_gpus = [gpu for gpu in self.gpus if gpu in gpus or gpu in self.free_gpus]


def raise_open_files(slots: int) -> None:
    """Each running job costs the pair a few descriptors: raise the soft limit, where it is too low for all slots."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_BESIDE + FILES_OF_JOB * slots
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
