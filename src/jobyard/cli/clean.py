"""``jobyard clean``: forget finished jobs."""

from __future__ import annotations

import time
from contextlib import ExitStack

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
    """Forget finished jobs: their records, their folders, the output that was kept. Without JOB, all finished ones
    of the command's session."""
    from .jobs import found, open_session, records
    from .output import plain

    status, forgotten = 0, 0
    with ExitStack() as stack:
        if jobs:
            groups = [(session, records(session, chosen)) for session, chosen in stack.enter_context(found(contact, jobs))]
        else:
            session = stack.enter_context(open_session(contact))
            groups = [(session, list(session._keeper_now().entries()))]
        latest = time.time() - (older or 0.0)
        for session, entries in groups:
            if jobs:
                for entry in entries:
                    if not entry.state.final:
                        status = complain(f"job {entry.native_id} is {entry.state}; only a finished one can be forgotten", 1)
            finished = [entry for entry in entries if entry.state.final and (older is None or entry.at <= latest)]
            forgotten += len(finished)
            if dry_run:
                for entry in finished:
                    click.echo(f"{plain(entry.native_id or entry.token)}  {plain(entry.name)}")
            else:
                session._keeper_now().remove([entry.key for entry in finished])
    if not dry_run:
        click.echo(f"forgot {forgotten} job{'' if forgotten == 1 else 's'}")
    return status
