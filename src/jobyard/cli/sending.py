"""What ``run`` and ``submit`` share: from the words of the command line to keywords of a session's submission."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from .options import fields_of

if TYPE_CHECKING:
    from ..job import After
    from ..session import Session

__all__ = ["submission"]

_WHEN = ("success", "failure", "any")


def submission(session: Session, contact: str | None, values: dict[str, Any]) -> dict[str, Any]:
    """Keywords for ``session.submit``; a directory is taken from here, and jobs to come after are looked up."""
    fields = fields_of(values)
    if "directory" in fields and not session._remote:
        fields["directory"] = os.path.abspath(fields["directory"])
    if "after" in fields:
        fields["after"] = [_after(contact, text) for text in fields["after"]]
    return fields


def _after(contact: str | None, text: str) -> After:
    from ..job import After
    from .jobs import found

    reference, colon, when = text.rpartition(":")
    if not colon or when not in _WHEN:
        if colon and when.isalpha():
            raise click.BadParameter(f"{text!r}: a job waits for {', '.join(_WHEN)}, not {when!r}", param_hint="--after")
        reference, when = text, "success"
    with found(contact, [reference]) as groups:
        ((_, jobs),) = groups
        array = jobs[0].array
        if len(jobs) > 1 and array is not None and all(job.array == array for job in jobs):
            return After(array, when)
        return After(jobs[0].token, when)
