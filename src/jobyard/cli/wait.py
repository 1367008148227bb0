"""``jobyard wait``: until jobs have ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from .app import complain
from .options import JOBS, common, json_option, seconds

if TYPE_CHECKING:
    from ..session import Job, Session

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
    from .jobs import found, open_session, shown_id
    from .output import plain, print_json

    ended: list[Job] = []
    late: TimeoutError | None = None
    with ExitStack() as stack:
        if jobs:
            groups = stack.enter_context(found(contact, jobs))
        else:
            session = stack.enter_context(open_session(contact))
            groups = [(session, session.jobs(unfinished=True))]
        try:
            for job in _with_bar(_as_completed(groups, timeout), sum(len(chosen) for _, chosen in groups)):
                ended.append(job)
                if not as_json:
                    click.echo(f"{plain(shown_id(job))}  {plain(str(job.ending))}")
        except TimeoutError as error:
            late = error
        if as_json:
            print_json([{"native_id": shown_id(job), "token": job.token, "ending": to_data(job.ending)} for job in ended])
        if late is not None:
            return complain(f"{late}; they go on, and 'jobyard wait' can be called again", 1)
        return 0 if all(job.wait(0).success for job in ended) else 1


def _as_completed(groups: Sequence[tuple[Session, list[Job]]], timeout: float | None) -> Iterator[Job]:
    """Jobs of each session as they end; nearly always there is one session."""
    deadline_s = None if timeout is None else time.monotonic() + timeout
    for session, chosen in groups:
        left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
        yield from session.as_completed(chosen, timeout=left_s)


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
