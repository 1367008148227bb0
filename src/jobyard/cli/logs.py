"""``jobyard logs``: what a job wrote, byte for byte."""

from __future__ import annotations

import click

from .app import complain
from .options import JOBS, common

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
    from .follow import Follower, Pace, copy_all, streams
    from .jobs import find, open_session

    status = 0
    with open_session(contact) as session:
        waiting: list[tuple[str, list[Follower]]] = []
        chosen = find(session, jobs)
        for job in chosen:
            followers = streams(job, out=only != "err", err=only != "out")
            if not followers and (not follow or job.state.final):
                status = complain(f"job {job.native_id} keeps no output; it was discarded, or is not here", 1)
            waiting.append((job.native_id, followers))
        try:
            if lines is not None:
                for _, followers in waiting:
                    for follower in followers:
                        follower.skip_to_last(lines)
            pace, unfinished = Pace(), list(zip(chosen, waiting, strict=True))
            while True:
                # Looked at before the copy: what a job wrote before it ended is copied after it was seen to have ended.
                going = [pair for pair in unfinished if follow and not pair[0].state.final]
                anything = False
                for job, (_, followers) in unfinished:
                    if not followers:
                        followers.extend(streams(job, out=only != "err", err=only != "out"))
                    anything |= copy_all(followers)
                unfinished = going
                if not unfinished:
                    break
                try:
                    session.wait_any([job for job, _ in unfinished], timeout=pace.next(anything))
                except TimeoutError:
                    continue
            for name, followers in waiting:
                if followers and not any(follower.seen for follower in followers):
                    status = complain(f"job {name} has written nothing that is still kept", 1)
        finally:
            for _, followers in waiting:
                for follower in followers:
                    follower.close()
    return status
