"""``jobyard show``: all that is known of a job."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from .options import JOBS, common, json_option

if TYPE_CHECKING:
    from ..job import JobDescription
    from ..keeper import Entry
    from ..session import Job

__all__ = ["command"]


@click.command("show")
@click.argument("jobs", nargs=-1, required=True, type=JOBS, metavar="JOB...")
@json_option
@common
def command(contact: str | None, jobs: tuple[str, ...], as_json: bool) -> int:
    """Show all that is known of jobs: what was asked, what became of it, and how it ended."""
    from .jobs import found, records
    from .output import print_json

    with found(contact, jobs) as groups:
        known = [
            (session, job, entry) for session, chosen in groups for job, entry in zip(chosen, records(session, chosen), strict=True)
        ]
        if as_json:
            print_json([_data(job, entry, session.contact) for session, job, entry in known])
            return 0
        for number, (_, job, entry) in enumerate(known):
            if number:
                click.echo()
            _print(job, entry)
    return 0


def _described(job: Job) -> JobDescription | None:
    from ..errors import UnknownJob

    try:
        return job.description
    except UnknownJob:  # attached, or no longer kept
        return None


def _data(job: Job, entry: Entry, contact: str) -> dict[str, Any]:
    from ..job import to_data
    from .jobs import record

    description = _described(job)
    return {
        **record(entry),
        "contact": contact,
        "stdout": job.stdout_path,
        "stderr": job.stderr_path,
        "description": None if description is None else to_data(description),
        "history": to_data(list(job.history)),
    }


def _print(job: Job, entry: Entry) -> None:
    from .jobs import shown_state
    from .output import moment, plain

    lines: list[tuple[str, str]] = [
        ("job", entry.native_id or "not known yet"),
        ("token", entry.token),
        ("name", entry.name),
        ("state", shown_state(entry)),
    ]
    if entry.array is not None:
        lines.append(("array", f"{entry.array}, task {entry.index}"))
    if entry.reason:
        lines.append(("reason", entry.reason))
    lines.append(("submitted", moment(entry.submitted_at)))
    lines.extend(_ending_lines(entry))
    description = _described(job)
    if description is not None:
        lines.extend(_description_lines(description))
    lines.extend((word, path) for word, path in (("output", job.stdout_path), ("errors", job.stderr_path)) if path is not None)
    width = max(len(key) for key, _ in lines)
    for key, value in lines:
        click.echo(f"{key.ljust(width)}  {plain(value)}")
    click.echo("history")
    for step in job.history:
        seen = " (not seen, but passed)" if step.synthesised else ""
        by = f" ({step.by})" if step.by is not None else ""
        click.echo(f"  {moment(step.at)}  {step.state}{by}{seen}")


def _ending_lines(entry: Entry) -> list[tuple[str, str]]:
    from ..units import format_duration, format_memory
    from .output import moment

    ending = entry.ending
    if ending is None:
        return []
    lines = [
        ("ending", str(ending)),
        ("began", moment(ending.began_at)),
        ("ended", moment(ending.ended_at)),
        ("host", ending.host or ""),
    ]
    usage = ending.usage
    if usage.cpu_s is not None:
        lines.append(("CPU time", format_duration(usage.cpu_s)))
    if usage.max_rss_bytes is not None:
        lines.append(("most memory", format_memory(usage.max_rss_bytes)))
    if ending.attempts != 1:
        lines.append(("attempts", str(ending.attempts)))
    return [(key, value) for key, value in lines if value]


def _description_lines(description: JobDescription) -> list[tuple[str, str]]:
    from ..job import to_data

    lines = [("command", shlex.join(description.argv))]
    if description.directory is not None:
        lines.append(("directory", description.directory))
    lines.extend((f"variable {key}", value) for key, value in description.environment.items())
    shown = {"argv", "directory", "environment", "name"}
    for key, value in to_data(description).items():
        if key in shown:
            continue
        if isinstance(value, dict):
            lines.extend((f"{key} {inner}", str(item)) for inner, item in value.items())
        else:
            lines.append((key.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))
    return lines
