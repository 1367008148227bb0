"""``jobyard cancel``, ``hold``, ``release``, ``suspend``, ``resume``: one form for all."""

from __future__ import annotations

import click

from .app import COMMANDS, complain
from .options import JOBS, common

__all__ = ["cancel", "hold", "release", "resume", "suspend"]


def _verb(name: str) -> click.Command:
    @click.command(name, help=f"{COMMANDS[name].text}\n\nEach job that it failed on is named, and the exit status is then 1.")
    @click.argument("jobs", nargs=-1, type=JOBS, metavar="JOB...")
    @click.option("--all", "everything", is_flag=True, help="All jobs that have not ended, of those that can be.")
    @common
    def command(contact: str | None, jobs: tuple[str, ...], everything: bool) -> int:
        if everything == bool(jobs):
            raise click.UsageError(f"{name} takes jobs, or --all; see 'jobyard {name} --help'")
        return _act(name, contact, jobs)

    return command


def _act(name: str, contact: str | None, jobs: tuple[str, ...]) -> int:
    from ..errors import WrongState
    from ..schedulers.base import Action
    from .jobs import find, open_session

    with open_session(contact) as session:
        chosen = find(session, jobs) if jobs else None
        answers = session.control(Action(name), chosen)
        status = 0
        for job, error in answers.items():
            # A job that has ended needs no cancelling, and of all jobs only some can be held.
            if error is None or (isinstance(error, WrongState) and (name == "cancel" or chosen is None)):
                continue
            status = complain(f"{job.native_id}: {error}", 1)
    return status


cancel = _verb("cancel")
hold = _verb("hold")
release = _verb("release")
suspend = _verb("suspend")
resume = _verb("resume")
