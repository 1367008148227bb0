"""``jobyard push`` and ``jobyard pull``: files and folders to and from a scheduler's host, only what changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from .app import complain
from .options import common

if TYPE_CHECKING:
    from ..transports.openssh import OpenSSHTransport
    from ..transports.openssh_sync import Progress, Transferred

__all__ = ["pull_command", "push_command"]

_job_option = click.option("--job", "-j", metavar="JOB", help="Names on the host are relative to this job's directory.")


@click.command("push")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target", metavar="TARGET")
@_job_option
@common
def push_command(contact: str | None, sources: tuple[str, ...], target: str, job: str | None) -> int:
    """Bring files and folders of this machine to the scheduler's host.

    TARGET is the name that SOURCE gets there; one that ends with "/" is a folder that they are put into, as several have to be.
    Names there are relative to your home. Only what changed is sent, and checked; what was cut short goes on.
    """
    from ..transports.openssh_sync import push

    if len(sources) > 1 and not target.endswith("/"):
        return complain(f"several files need a folder to go to; write {target}/", 2)
    with _host(contact, job) as (transport, place):
        for source in sources:
            path = os.path.abspath(source)
            with _bar(source) as progress:
                done = push(transport, path, place(target), progress)
            _say(source, done)
    return 0


@click.command("pull")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target", metavar="TARGET")
@_job_option
@common
def pull_command(contact: str | None, sources: tuple[str, ...], target: str, job: str | None) -> int:
    """Bring files and folders of the scheduler's host to this machine.

    TARGET is the name that SOURCE gets here; one that ends with "/" is a folder that they are put into, as several have to be, and
    so is one that is a folder already. Names there are relative to your home. Only what changed is sent, and checked.
    """
    from ..transports.openssh_sync import pull

    into = target.endswith("/") or os.path.isdir(target)
    if len(sources) > 1 and not into:
        return complain(f"several files need a folder to go to; write {target}/", 2)
    here = os.path.abspath(target) + ("/" if into else "")
    with _host(contact, job) as (transport, place):
        for source in sources:
            with _bar(source) as progress:
                done = pull(transport, place(source), here, progress)
            _say(source, done)
    return 0


@contextmanager
def _host(contact: str | None, job: str | None) -> Iterator[tuple[OpenSSHTransport, Callable[[str], str]]]:
    """The transport to the contact's host, and what makes names there absolute."""
    from ..config import resolve
    from ..errors import InvalidContact
    from ..schedulers.remote import ssh_transport

    resolved = resolve(contact)
    if resolved.host is None:
        raise InvalidContact(f"{resolved} is on this machine, where files need not be brought; use cp, or name a host: --site NAME")
    with ExitStack() as stack:
        transport = ssh_transport(resolved)
        stack.callback(transport.close)
        if job is None:
            yield transport, lambda name: _absolute(transport.identity.home, name)
            return
        from .jobs import found
        from .tail import path_in

        ((_, chosen),) = stack.enter_context(found(contact, [job]))
        if len(chosen) != 1:
            raise click.UsageError(f"{job} is an array of {len(chosen)} tasks; name one of them")
        yield transport, lambda name: name if name.startswith("/") else path_in(chosen[0], name)


def _absolute(home: str, name: str) -> str:
    return name if name.startswith("/") else f"{home.rstrip('/')}/{name}"


@contextmanager
def _bar(name: str) -> Iterator[Progress | None]:
    """A bar on a terminal; nothing into a pipe."""
    from .output import on_terminal, plain

    if not on_terminal():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns: list[Any] = [TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    with Progress(*columns, console=Console(markup=False, highlight=False, stderr=True), transient=True) as bars:
        task = bars.add_task(plain(os.path.basename(name.rstrip("/")) or name), total=None)  # a whole path leaves no room

        def progress(sent: int, total: int, _path: str) -> None:
            bars.update(task, completed=sent, total=total)

        yield progress


def _say(name: str, done: Transferred) -> None:
    from .output import plain

    files = "1 file" if done.files == 1 else f"{done.files} files"
    same = f", {done.unchanged} unchanged" if done.unchanged else ""
    click.echo(f"{plain(name)}: {files}, {done.size_bytes} bytes{same}")
