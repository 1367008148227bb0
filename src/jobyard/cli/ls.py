"""``jobyard ls``: jobs, the newest last."""

from __future__ import annotations

import click

from .options import common, json_option

__all__ = ["command"]

_STATES = ("new", "queued", "held", "staging_in", "running", "suspended", "staging_out", "cleaning", "done", "failed", "cancelled")
_FINAL = ("done", "failed", "cancelled")


@click.command("ls")
@click.option("--newest", "-n", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="Only the last N jobs.")
@click.option("--all", "-a", "everything", is_flag=True, help="All jobs that are kept.")
@click.option("--unfinished", "-u", is_flag=True, help="Only jobs that have not ended, however old.")
@click.option("--state", "-s", "states", multiple=True, type=click.Choice(_STATES), help="Only jobs in this state, however old.")
@json_option
@common
def command(contact: str | None, newest: int, everything: bool, unfinished: bool, states: tuple[str, ...], as_json: bool) -> int:
    """List jobs, the newest last.

    All that this user submitted, by the command or by a program; --contact with a session lists the jobs of that session.
    """
    from .jobs import listing, record, shown_state
    from .output import moment, print_json, print_table

    chosen = bool(unfinished or states)
    entries = list(listing(contact, newest=None if everything or chosen else newest))
    if unfinished:
        entries = [entry for entry in entries if entry.state not in _FINAL]
    if states:
        entries = [entry for entry in entries if entry.state in states]
    if not everything:
        entries = entries[-newest:]
    if as_json:
        print_json([record(entry) for entry in entries])
        return 0
    rows = [
        [
            entry.native_id or "",
            shown_state(entry),
            moment(entry.submitted_at),
            entry.name,
            entry.reason or "",
        ]
        for entry in entries
    ]
    print_table(("ID", "STATE", "SUBMITTED", "NAME", "REASON"), rows, state_column=1)
    return 0
