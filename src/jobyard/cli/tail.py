"""``jobyard tail``: the end of a file that a job writes, and what is added to it; on this machine or a login host."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from .app import complain
from .options import JOBS, common

if TYPE_CHECKING:
    from ..session import Job

__all__ = ["command", "path_in"]


@click.command("tail")
@click.argument("job", type=JOBS, metavar="JOB")
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
@click.option(
    "--lines", "-n", type=click.IntRange(0), default=10, show_default=True, metavar="N", help="Begin with the last N lines."
)
@common
def command(contact: str | None, job: str, file: str | None, follow: bool, lines: int) -> int:
    """Print the last lines of a file of a job's, as the bytes are.

    FILE is in the job's directory, or absolute on the scheduler's host; without it, it is the job's standard output.
    """
    from .follow import Pace, follower
    from .jobs import found, records, shown_id

    with found(contact, [job]) as groups:
        ((session, chosen),) = groups
        if len(chosen) != 1:
            return complain(f"{job} is an array of {len(chosen)} tasks; name one of them", 2)
        records(session, chosen)
        one = chosen[0]
        path = one.stdout_path if file is None else path_in(one, file)
        if path is None:
            return complain(f"job {shown_id(one)} has no output that is kept", 1)
        copying = follower(session, path, sys.stdout.buffer)
        try:
            copying.skip_to_last(lines)
            pace = Pace()
            while True:
                # Looked at before the copy: what a job wrote before it ended is copied after it was seen to have ended.
                going = follow and not one.state.final
                copied = copying.copy()
                if not going:
                    break
                try:
                    one.wait(pace.next(copied))
                except TimeoutError:
                    continue
            if not copying.seen:
                return complain(f"job {shown_id(one)} has no file {path}", 1)
        finally:
            copying.close()
    return 0


def path_in(job: Job, name: str) -> str:
    """The absolute path of a name in a job's directory, as the scheduler's host sees it."""
    keeper = job._session._keeper_now()
    place = getattr(keeper, "path_in", None)
    if place is not None:
        path: str = place(job._key, name)
        return path
    return os.path.join(keeper.description(job._key).directory or os.path.expanduser("~"), name)
