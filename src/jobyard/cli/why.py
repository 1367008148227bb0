"""``jobyard why``: the evidence for a job's state."""

from __future__ import annotations

import click

from .options import JOBS, common, json_option

__all__ = ["command"]


@click.command("why")
@click.argument("jobs", nargs=-1, required=True, type=JOBS, metavar="JOB...")
@json_option
@common
def command(contact: str | None, jobs: tuple[str, ...], as_json: bool) -> int:
    """Show the evidence for a job's state, in order: what was observed, and what followed from it."""
    from ..job import to_data
    from .jobs import found, records, shown_state
    from .output import moment, plain, print_json

    with found(contact, jobs) as groups:
        evidence = [
            (entry, list(job.why()))
            for session, chosen in groups
            for job, entry in zip(chosen, records(session, chosen), strict=True)
        ]
        if as_json:
            print_json(
                [
                    {"native_id": entry.native_id, "token": entry.token, "state": str(entry.state), "evidence": to_data(lines)}
                    for entry, lines in evidence
                ]
            )
            return 0
        for entry, lines in evidence:
            click.echo(f"{plain(entry.native_id or entry.token)} {plain(entry.name)}: {plain(shown_state(entry))}")
            for line in lines:
                click.echo(f"  {moment(line.at)}.{int(line.at % 1 * 1000):03d}  {plain(line.text)}")
    return 0
