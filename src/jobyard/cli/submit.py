"""``jobyard submit``: send a job or an array on its way."""

from __future__ import annotations

from typing import Any

import click

from .options import common, job_options, json_option, parse_indices

__all__ = ["command"]


@click.command("submit", context_settings={"allow_interspersed_args": False})
@job_options
@click.option("--array", metavar="INDICES", help="An array of tasks: 1-30, 1-30:2, 1,3,7-9; with %4, four at a time.")
@json_option
@common
def command(contact: str | None, words: tuple[str, ...], array: str | None, as_json: bool, **values: Any) -> int:
    """Submit a job or an array, and print its id.

    CMD and its arguments are passed on as they are; no shell reads them. Paths are relative to the job's directory, which is
    the current one.
    """
    from .jobs import open_session
    from .output import print_json
    from .sending import submission

    indices, max_running = None, None
    if array is not None:
        try:
            indices, max_running = parse_indices(array)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--array") from error
    with open_session(contact) as session:
        fields = submission(session, contact, values)
        if indices is None:
            job = session.submit(words, **fields)
            token, native_id = job.token, job.native_id
        else:
            tasks = session.submit_array(words, indices, max_running=max_running, **fields)
            token, native_id = tasks.token, str(tasks.native_id)
        if as_json:
            print_json({"native_id": native_id, "token": token, "contact": session.contact, "tasks": len(indices or ()) or None})
        else:
            click.echo(native_id)
    return 0
