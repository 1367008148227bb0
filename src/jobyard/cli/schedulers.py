"""``jobyard schedulers``: which there are, which of them are here, and what each can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import common, json_option

if TYPE_CHECKING:
    from ..schedulers import Known
    from ..schedulers.base import Capabilities

__all__ = ["command"]


@click.command("schedulers")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@json_option
@common
def command(contact: str | None, names: tuple[str, ...], as_json: bool) -> int:
    """Show the schedulers that jobyard knows: which are here, what each can do, how to get those that are missing.

    With NAME, all that one can do.
    """
    from ..config import resolve
    from ..errors import AmbiguousContact
    from ..schedulers import find_known, is_here, known
    from .output import print_json, print_table

    # The stand-in is for tests of jobyard itself; it is shown to who asks for it.
    chosen = [find_known(name) for name in names] or [entry for entry in known().values() if entry.name != "standin"]
    used: str | None
    try:
        used = resolve(contact).scheduler
    except AmbiguousContact:
        used = None  # several are here and none was chosen: the list is what one chooses from
    data = [_data(entry, here=is_here(entry), used=entry.name == used) for entry in chosen]
    if as_json:
        print_json(data)
    elif names:
        for item in data:
            _print_one(item)
    else:
        rows = [
            [
                item["name"] + (" *" if item["used"] else ""),
                "yes" if item["here"] else "no",
                "; ".join(_short(item["can"])) if item["can"] else item["hint"],
                item["title"],
            ]
            for item in data
        ]
        print_table(("NAME", "HERE", "CAN, OR HOW TO GET IT", "WHAT"), rows)
    return 0


def _data(entry: Known, *, here: bool, used: bool) -> dict[str, Any]:
    can, problem = _capabilities(entry.name) if entry.target else (None, "this release has no adapter for it yet")
    return {
        "name": entry.name,
        "title": entry.title,
        "aliases": list(entry.aliases),
        "here": here and problem is None,
        "used": used,
        "hint": entry.hint if problem is None else problem,
        "can": None
        if can is None
        else {
            "attributes": sorted(can.attributes),
            "actions": sorted(can.actions),
            "arrays": can.arrays,
            "max_running": can.max_running,
            "dependencies": sorted(can.dependencies),
            "accounting": can.accounting,
            "launchers": sorted(can.launchers),
            "notes": dict(can.notes),
        },
    }


def _capabilities(name: str) -> tuple[Capabilities | None, str | None]:
    """What its adapter says that it can do, or why the adapter cannot be had. Nothing is started or asked."""
    from ..contact import Contact
    from ..errors import NoScheduler
    from ..schedulers import open_scheduler

    try:
        scheduler = open_scheduler(Contact(scheduler=name))
    except NoScheduler as error:
        return None, str(error)
    try:
        return scheduler.capabilities, None
    finally:
        scheduler.close()


def _short(can: dict[str, Any]) -> list[str]:
    found = [", ".join(can["actions"])]
    if can["arrays"]:
        found.append("arrays" + (" with a cap" if can["max_running"] else ""))
    if can["dependencies"]:
        found.append("dependencies")
    if can["accounting"]:
        found.append("accounting")
    return found


def _print_one(item: dict[str, Any]) -> None:
    from .output import plain

    where = "here" if item["here"] else "not here"
    click.echo(f"{item['name']}: {plain(item['title'])} ({where}{', used by default' if item['used'] else ''})")
    if item["aliases"]:
        click.echo(f"  also called    {', '.join(item['aliases'])}")
    if item["hint"]:
        click.echo(f"  how to get it  {plain(item['hint'])}")
    if item["can"]:
        for key in ("actions", "attributes", "dependencies", "launchers"):
            click.echo(f"  {key.ljust(13)}  {', '.join(item['can'][key])}")
        for key in ("arrays", "max_running", "accounting"):
            click.echo(f"  {key.ljust(13)}  {'yes' if item['can'][key] else 'no'}")
        for key, note in item["can"]["notes"].items():
            click.echo(f"  {plain(key).ljust(13)}  {plain(note)}")
