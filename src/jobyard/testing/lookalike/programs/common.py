"""What the lookalikes share: the stand-in's server and machine behind commands that answer as another scheduler's do.

A lookalike is a ``Server`` with answers of its own. ``Text`` is what it prints, each with where that was seen.
"""

from __future__ import annotations

import os
import pwd
import time
from typing import Any, ClassVar

from ...standin.programs.faults import Answer
from ...standin.programs.jobs import ACTIVE, WAITING, Job, Spec
from ...standin.programs.machine import Machine
from ...standin.programs.server import CONFIG, Server

__all__ = [
    "ACTIVE",
    "CONFIG",
    "WAITING",
    "Answer",
    "Job",
    "Lookalike",
    "Machine",
    "Refusal",
    "Spec",
    "Variables",
    "joined",
    "options",
    "read_script",
    "user",
]


class Refusal(Exception):
    """What a command says on its standard error, and its exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Variables(Machine):
    """The machine, with the variables of a lookalike in its jobs' environment."""

    lookalike: Lookalike

    def variables(self, job: Job) -> dict[str, str]:
        return self.lookalike.variables(job)


class Lookalike(Server):
    """A server whose commands are another scheduler's."""

    settings: ClassVar[dict[str, Any]] = {**CONFIG, "history": True, "host": "lookalike"}
    program = ""  # the command that is being answered
    verbs: ClassVar[dict[str, str]] = {}  # what each command is to the faults: submit, queue, account, control, ...
    # Options of a submission whose value is kept as it is, in that field of Spec.
    kept: ClassVar[dict[str, str]] = {"q": "queue", "A": "account"}

    def _machine(self, spool: str) -> Machine:
        machine = Variables(self.store, self.config, spool)
        machine.lookalike = self
        return machine

    def variables(self, job: Job) -> dict[str, str]:
        """What the environment of a job tells of itself."""
        raise NotImplementedError

    def answer(self, program: str, words: list[str], stdin: bytes, folder: str) -> Answer:
        """What a command prints; Refusal."""
        raise NotImplementedError

    def away(self, program: str) -> Answer:
        """What a command says whose server is not there."""
        raise NotImplementedError

    def _away(self, name: str) -> Answer:
        return self.away(name)

    def _version(self, name: str) -> Answer:
        return self._do("version", ["--version"], b"", b"/")

    def _verb(self, name: str, words: list[str]) -> str:
        self.program = name
        return self.verbs.get(name, name)

    def _do(self, verb: str, words: list[str], stdin: bytes, folder: bytes) -> Answer:
        try:
            return self.answer(self.program, words, stdin, os.fsdecode(folder))
        except Refusal as error:
            return Answer(error.code, b"", error.text.encode("utf-8", "surrogateescape"))

    # What answers are made of

    def take(self, spec: Spec, script: bytes, *, held: bool = False) -> list[Job]:
        """Accept a submission."""
        jobs = self.store.add(spec)
        with open(os.path.join("spool", str(spec.number)), "wb") as file:
            file.write(script)
        for job in jobs:
            job.hold_user = held
            if held:
                job.state, job.reason = "HELD_USER", "Held"
                self.store.save(job, spec.submitted)
        self.machine.add(jobs)
        return jobs

    def act(self, action: str, jobs: list[Job], number: int | None = None) -> list[tuple[str, str]]:
        """Do it to each, and schedule; the machine's words for each."""
        now = time.time()
        said = [self.machine.control(action, job, number, now, False) for job in jobs]
        self.machine.schedule(now)
        return said

    def forgotten(self, job: Job) -> bool:
        """Whether it ended longer ago than such jobs are kept: ``linger_s``, or no time without ``history``."""
        keep_s = self.config["linger_s"] if self.config["history"] else 0.0
        return job.over and job.ended is not None and job.ended + keep_s <= time.time()

    def impossible(self, spec: Spec) -> bool:
        """Whether it asks for more than there is."""
        return bool(spec.cores > self.config["slots"] or spec.gpus > self.config["gpus"])


def read_script(path: str, refusal: Refusal) -> bytes:
    """A batch script; the refusal where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        raise refusal from None


def options(words: list[str], take_argument: str, flags: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Options in the manner of getopt, each with its value ("" for a flag), and the words after them. KeyError: unknown."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(words) and words[at].startswith("-") and len(words[at]) > 1:
        word, at = words[at], at + 1
        if word == "--":
            break
        for place, letter in enumerate(word[1:], 1):
            if letter in take_argument:
                value = word[place + 1 :]
                if not value:
                    if at == len(words):
                        raise KeyError(letter)
                    value, at = words[at], at + 1
                found.append((letter, value))
                break
            if letter not in flags:
                raise KeyError(letter)
            found.append((letter, ""))
    return found, words[at:]


def user() -> str:
    """Who runs the jobs."""
    return pwd.getpwuid(os.getuid()).pw_name


def joined(lines: list[str]) -> bytes:
    """Lines as they are printed."""
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
