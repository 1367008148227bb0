"""``jobyard clean``: forget finished jobs."""

from __future__ import annotations

import time

import click

from .app import complain
from .options import JOBS, common, seconds

__all__ = ["command"]


@click.command("clean")
@click.argument("jobs", nargs=-1, type=JOBS, metavar="[JOB...]")
@click.option("--older", callback=seconds, metavar="TIME", help="Only jobs that ended at least so long ago, such as 7d.")
@click.option("--dry-run", is_flag=True, help="Print which, and keep them.")
@common
def command(contact: str | None, jobs: tuple[str, ...], older: float | None, dry_run: bool) -> int:
    """Forget finished jobs: their records, their folders, the output that was kept. Without JOB, all finished ones."""
    from .jobs import find, open_session
    from .output import plain

    with open_session(contact) as session:
        keeper = session._keeper_now()
        chosen = find(session, jobs) if jobs else None
        entries = keeper.entries(None if chosen is None else [job._key for job in chosen])
        status = 0
        if chosen is not None:
            for entry in entries:
                if not entry.state.final:
                    status = complain(f"job {entry.native_id} is {entry.state}; only a finished one can be forgotten", 1)
        latest = time.time() - (older or 0.0)
        finished = [entry for entry in entries if entry.state.final and (older is None or entry.at <= latest)]
        if dry_run:
            for entry in finished:
                click.echo(f"{plain(entry.native_id or entry.token)}  {plain(entry.name)}")
        else:
            keeper.remove([entry.key for entry in finished])
            click.echo(f"forgot {len(finished)} job{'' if len(finished) == 1 else 's'}")
    return status
