"""``jobyard logs``: what a job wrote, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .app import complain
from .options import JOBS, common

if TYPE_CHECKING:
    from ..session import Job

__all__ = ["command"]


@click.command("logs")
@click.argument("jobs", nargs=-1, required=True, type=JOBS, metavar="JOB...")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
@click.option("--only", type=click.Choice(["out", "err"]), help="Only its standard output, or only its standard error.")
@click.option("--lines", "-n", type=click.IntRange(0), metavar="N", help="Begin with the last N lines.")
@common
def command(contact: str | None, jobs: tuple[str, ...], follow: bool, only: str | None, lines: int | None) -> int:
    """Print what jobs wrote: their output on standard output, their errors on standard error.

    The bytes are passed on as they are. Output that went to files of the job's own choice is read from these.
    """
    from .follow import Pace, Streams
    from .jobs import found, records, shown_id

    status = 0
    with found(contact, jobs) as groups:
        for session, chosen in groups:
            records(session, chosen)
        outputs = [(job, Streams(job, out=only != "err", err=only != "out")) for _, chosen in groups for job in chosen]
        try:
            for _, output in outputs:
                output.look()
                if lines is not None:
                    for follower in output.followers:
                        follower.skip_to_last(lines)
            pace, unfinished = Pace(), outputs
            while unfinished:
                # Looked at before the copy: what a job wrote before it ended is copied after it was seen to have ended.
                going = [pair for pair in unfinished if follow and not pair[0].state.final]
                copied = [output.copy() for _, output in unfinished]
                unfinished = going
                if unfinished:
                    try:
                        unfinished[0][0].wait(pace.next(True in copied))
                    except TimeoutError:
                        continue
            for job, output in outputs:
                if not any(follower.seen for follower in output.followers):
                    status = complain(f"job {shown_id(job)} {_without_output(job)}", 1)
        finally:
            for _, output in outputs:
                output.close()
    return status


def _without_output(job: Job) -> str:
    if job.state.waiting:
        return f"is {job.state}; it has written nothing yet"
    return "has no output that is kept; it was discarded, or removed since"
