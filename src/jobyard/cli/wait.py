"""``jobyard wait``: until jobs have ended."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from .app import complain
from .options import JOBS, common, json_option, seconds

if TYPE_CHECKING:
    from ..session import Job

__all__ = ["command"]


@click.command("wait")
@click.argument("jobs", nargs=-1, type=JOBS, metavar="[JOB...]")
@click.option("--timeout", callback=seconds, metavar="TIME", help="The longest to wait, such as 10m.")
@json_option
@common
def command(contact: str | None, jobs: tuple[str, ...], timeout: float | None, as_json: bool) -> int:
    """Wait until jobs have ended, and print how each did, as they do; without JOB, all that have not ended yet.

    The exit status is 0 if all succeeded, and 1 if one did not, or if the time was over.
    """
    from ..job import to_data
    from .jobs import find, open_session
    from .output import plain, print_json

    with open_session(contact) as session:
        chosen = find(session, jobs) if jobs else session.jobs(unfinished=True)
        ended: list[Job] = []
        late: TimeoutError | None = None
        try:
            for job in _with_bar(session.as_completed(chosen, timeout=timeout), len(chosen)):
                ended.append(job)
                if not as_json:
                    click.echo(f"{plain(job.native_id)}  {plain(str(job.ending))}")
        except TimeoutError as error:
            late = error
        if as_json:
            print_json([{"native_id": job.native_id, "token": job.token, "ending": to_data(job.ending)} for job in ended])
        if late is not None:
            return complain(f"{late}; they go on, and 'jobyard wait' can be called again", 1)
        return 0 if all(job.wait(0).success for job in ended) else 1


def _with_bar(jobs: Iterator[Job], count: int) -> Iterable[Job]:
    """The jobs, with a bar on standard error that grows with each, where that is a terminal and there are several."""
    if count < 2 or not sys.stderr.isatty():
        return jobs
    return _drawn(jobs, count)


def _drawn(jobs: Iterator[Job], count: int) -> Iterator[Job]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=count)
        for job in jobs:
            yield job
            progress.advance(task)
