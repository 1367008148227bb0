"""What NQSV's ``qstat -f`` says of a request, and ``qstat -J -f`` of its jobs. Pure.

A request is a block that begins with ``Request ID: 7.srv``; its fields are ``Name = value``, indented by four blanks, and groups
of others, indented by two. The exit code is the wait status in hexadecimal digits, and shows for the six seconds between a job's
end and its disappearance: ``700`` is exit 7, ``9`` is SIGKILL. It is that of the shell around the script, which says 128 + n where
a signal ended what it ran (all of it measured at a site: docs/nqsv.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...job import By, Cause, Ending, JobState, Usage, signal_name
from ..base import Row
from ..pbs.rows import timestamp

__all__ = ["ID", "NAME_LENGTH", "named", "records", "row_of"]

ID = re.compile(r"[0-9]{1,18}\.[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
NAME_LENGTH = 63

# Their words in the Current State field. Seen: Queued, Staging, Pre-running, Running, Post-running, Exiting; the others' are those
# of the states' names, as NEC's guide has them.
STATES: Mapping[str, tuple[JobState, By | None]] = {
    "arriving": (JobState.QUEUED, None),
    "transiting": (JobState.QUEUED, None),
    "migrating": (JobState.QUEUED, None),
    "queued": (JobState.QUEUED, None),
    "staging": (JobState.QUEUED, None),
    "waiting": (JobState.HELD, By.SYSTEM),  # for its time
    "held": (JobState.HELD, None),  # Hold Type says by whom
    "holding": (JobState.HELD, None),
    "pre-running": (JobState.QUEUED, None),
    "restarting": (JobState.RUNNING, None),
    "running": (JobState.RUNNING, None),
    "chkpnting": (JobState.RUNNING, None),
    "suspending": (JobState.RUNNING, None),
    "suspended": (JobState.SUSPENDED, By.SYSTEM),
    "resuming": (JobState.RUNNING, None),
}
ENDED = ("post-running", "exiting")

_FIELD = re.compile(r" {2,4}([A-Za-z(][A-Za-z0-9 ()-]*?) *= (.*)")
_SUFFIX = re.compile(r"(.*)\.([0-9a-f]{32})", re.ASCII)
_LIMIT = re.compile(r"Max: +([0-9]{1,12})S .*", re.ASCII)
_STATUS = re.compile(r"[0-9A-F]{1,4}", re.ASCII)

Fields = Mapping[str, str]


def named(name: str, token: str) -> str:
    """The request's name: the job's, cut to what is left, and its token. NQSV shows no other field of the user's."""
    return f"{name[: NAME_LENGTH - len(token) - 1]}.{token}"


def records(text: str) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Requests by id, each with its fields, those of its jobs among them; and what is none.

    Of a field that stands there twice the first counts (groups repeat names; the first job is the one that runs the script).
    A block of the request itself is whole with its last group, "User Attributes"; one of its jobs has a "Batch Job Number".
    """
    found: dict[str, dict[str, str]] = {}
    unparsed: list[str] = []
    before, *blocks = re.split(r"^Request ID: ", text, flags=re.MULTILINE)
    unparsed += [line for line in before.split("\n") if line.strip() and not _absent(line)]
    for block in blocks:
        first, *lines = block.split("\n")
        fields: dict[str, str] = {}
        own = True
        for line in lines:
            own = own and bool(line.strip())
            match = _FIELD.fullmatch(line)
            if match is not None and own:
                fields.setdefault(match[1], match[2].strip())
            elif line.strip() and not _absent(line) and not (own and line.startswith("  ")):
                unparsed.append(line)
        native_id = first.strip()
        whole = "Batch Job Number" in fields or ("Current State" in fields and "\n  User Attributes:\n    " in block)
        if not ID.fullmatch(native_id) or not whole:
            unparsed.append(f"Request ID: {native_id}")
        elif "Batch Job Number" in fields:
            told: dict[str, str] = {name: fields[name] for name in ("Exit Code", "Execution Host") if name in fields}
            found[native_id] = {**told, **found[native_id]} if found.get(native_id) else {}
        else:
            found[native_id] = fields
    return {native_id: fields for native_id, fields in found.items() if fields}, unparsed


def _absent(line: str) -> bool:
    return re.match(r"Batch (Request|Job): \S+ does not exist", line) is not None


def row_of(native_id: str, fields: Fields) -> Row:
    """What they say of one request."""
    word = fields["Current State"]
    state, by = STATES.get(word.lower(), (None, None))
    hold = fields.get("Hold Type", "(none)").lower()
    if state is JobState.HELD and by is None and hold != "(none)":
        by = By.USER if "user" in hold else By.SYSTEM
    ended = word.lower() in ENDED
    ending = _ending(fields) if ended else None
    match = _SUFFIX.fullmatch(fields.get("Request Name", ""))
    return Row(
        native_id=native_id,
        state=ending.state if ending is not None else state,
        by=by,
        native_state=word,
        token=match[2] if match else None,
        name=match[1] if match else fields.get("Request Name"),
        ended=ended,
        ending=ending,
    )


def _ending(fields: Fields) -> Ending | None:
    """How it ended; None: only that it did."""
    text = fields.get("Exit Code", "")
    status = int(text, 16) if _STATUS.fullmatch(text) else None
    limit = _LIMIT.fullmatch(fields.get("(Per-Req) Elapse Time Limit", ""))
    began, ended = timestamp(fields.get("Started Request Time")), timestamp(fields.get("Ended Request Time"))
    wall_s = ended - began if began is not None and ended is not None else None
    state, cause, exit_code, signal, message = JobState.FAILED, Cause.EXITED, None, None, ""
    if status is not None and status & 0x7F:
        signal = signal_name(status & 0x7F)
    if fields.get("State Transition Reason") == "DELETE":
        state, cause = JobState.CANCELLED, Cause.CANCELLED
    elif signal == "SIGKILL" and wall_s is not None and limit is not None and wall_s >= int(limit[1]):
        cause, message = Cause.WALLTIME, "it ran longer than it asked for"
    elif signal == "SIGKILL":  # of the shell around the script: nobody but NQSV does that
        cause, message = Cause.UNKNOWN, "NQSV ended it, and does not say why"
    elif status is None:
        return None
    elif signal is None:
        exit_code = status >> 8
        state = JobState.DONE if exit_code == 0 else JobState.FAILED
    return Ending(
        state=state,
        cause=cause,
        exit_code=exit_code,
        signal=signal,
        message=message,
        usage=Usage(wall_s=wall_s, native={"Exit Code": text}),
        host=fields.get("Execution Host"),
    )
