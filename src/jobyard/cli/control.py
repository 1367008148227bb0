"""``jobyard cancel``, ``hold``, ``release``, ``suspend``, ``resume``: one form for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from .app import COMMANDS, complain
from .options import JOBS, common

if TYPE_CHECKING:
    from ..session import Job

__all__ = ["cancel", "hold", "release", "resume", "suspend"]


def _verb(name: str) -> click.Command:
    @click.command(name, help=f"{COMMANDS[name].text}\n\nEach job that it failed on is named, and the exit status is then 1.")
    @click.argument("jobs", nargs=-1, type=JOBS, metavar="JOB...")
    @click.option("--all", "everything", is_flag=True, help="All jobs of the command's session, of those that can be.")
    @common
    def command(contact: str | None, jobs: tuple[str, ...], everything: bool) -> int:
        if everything == bool(jobs):
            raise click.UsageError(f"{name} takes jobs, or --all; see 'jobyard {name} --help'")
        return _act(name, contact, jobs)

    return command


def _act(name: str, contact: str | None, jobs: tuple[str, ...]) -> int:
    from ..schedulers.base import Action
    from .jobs import found, open_session

    status = 0
    if not jobs:
        with open_session(contact) as session:
            return _told(name, session.control(Action(name)), everything=True)
    with found(contact, jobs) as groups:
        for session, chosen in groups:
            status = _told(name, session.control(Action(name), chosen), everything=False) or status
    return status


def _told(name: str, answers: Mapping[Job, Exception | None], *, everything: bool) -> int:
    """Name the jobs that it failed on; the exit status."""
    from ..errors import WrongState
    from .jobs import shown_id

    status = 0
    for job, error in answers.items():
        # A job that has ended needs no cancelling, and of all jobs only some can be held.
        if error is None or (isinstance(error, WrongState) and (name == "cancel" or everything)):
            continue
        status = complain(f"{shown_id(job)}: {error}", 1)
    return status


cancel = _verb("cancel")
hold = _verb("hold")
release = _verb("release")
suspend = _verb("suspend")
resume = _verb("resume")
