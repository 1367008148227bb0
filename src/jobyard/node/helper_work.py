"""Jobs' folders on a login host: what ``WorkRoot`` does on the user's machine, done by the helper with the same code."""

import errno
import json
import os

from . import helper_wire as wire
from . import staging, workroot
from .helper import Refused
from .watching import is_shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Set, Tuple

    from .helper import Answer, Request

_RECEIPT_BYTES = 64 * 1024
_roots: "Dict[bytes, workroot.Root]" = {}  # by what was asked for
_told: "Dict[Tuple[str, bytes], Set[bytes]]" = {}  # by reader and folder: names of receipts that were sent


def _root(request: "Request") -> "workroot.Root":
    wanted = request.arguments["base"]
    home = request.helper.environment.get(b"HOME") or os.fsencode(os.path.expanduser("~"))
    if wanted is None:
        base = request.helper.environment.get(b"JOBYARD_WORK_DIR") or home + b"/.local/state/jobyard/work"
    else:
        base = wire.as_bytes(wanted)
        if base.startswith(b"~/"):
            base = home + base[1:]
    root = _roots.get(base)
    if root is None:
        try:
            root = _roots[base] = workroot.Root(base)
        except workroot.Untrusted as error:
            raise Refused("untrusted", error.why, path=wire.as_text(error.path)) from error
    return root


def _token(request: "Request") -> "bytes":
    return request.arguments["token"].encode("ascii", "replace")  # type: ignore[no-any-return]


def opened(request: "Request") -> "Answer":
    """Open the root, making what is missing: its path, and whether the shepherd of that name is in place."""
    root = _root(request)
    name = request.arguments["name"]
    place = root.path + b"/node/" + name.encode() + b"/run.py"
    files = json.loads(request.content().decode()) if request.arguments["files"] else None
    if files is not None:
        root.deploy(name.encode(), {path: wire.as_bytes(text) for path, text in files.items()})
    return {"path": wire.as_text(root.path), "deployed": files is not None or os.path.exists(place)}, b""


def create(request: "Request") -> "Answer":
    """A job's folder, whole or not at all."""
    content, files, at = request.content(), {}, 0
    for name, size in request.arguments["files"]:
        files[name] = content[at : at + size]
        at += size
    return {"path": wire.as_text(_root(request).create(_token(request), files))}, b""


def remove(request: "Request") -> "Answer":
    """A job's folder, with all that is in it."""
    _root(request).remove(_token(request))
    return {}, b""


def tokens(request: "Request") -> "Answer":
    """The tokens of all folders."""
    return {}, wire.head([wire.as_text(token) for token in _root(request).tokens()])


def withdraw(request: "Request") -> "Answer":
    """Make the claims ourselves; whose they are already."""
    return workroot.withdraw(request.path("folder"), request.arguments["tasks"]), b""


def claims(request: "Request") -> "Answer":
    """Whether any was withdrawn, and whose the claims are."""
    folder, tasks = request.path("folder"), request.arguments["tasks"]
    return [workroot.was_withdrawn(folder, tasks), workroot.claimants(folder, tasks)], b""


def receipts(request: "Request") -> "Answer":
    """What was not told before of a job's receipts: names and sizes, then their contents; as far as one message holds them."""
    folder = request.path("folder")
    key = (request.arguments["reader"], folder)
    if request.arguments["fresh"]:
        _told.pop(key, None)
    told = _told.setdefault(key, set())
    read: "List[bytes]" = []
    names: "List[Any]" = []
    parts: "List[bytes]" = []
    shared = is_shared(folder)
    parent = workroot.open_own_folder(folder)
    if parent is None:
        return {"files": [], "shared": shared}, b""
    try:
        for name in os.listdir(parent):
            raw = os.fsencode(name)
            if not raw.startswith(b"receipt.") or raw in told:
                continue
            data = workroot.read_own_file(parent, raw, _RECEIPT_BYTES)
            if data is not None:
                read.append(raw)
                names.append([wire.as_text(raw), len(data)])
                parts.append(data)
    finally:
        os.close(parent)
    told.update(read)  # only now: where one cannot be read now, those before it are told the next time
    return {"files": names, "shared": shared}, b"".join(parts)


def forget(request: "Request") -> "Answer":
    """A reader wants no more of a folder."""
    _told.pop((request.arguments["reader"], request.path("folder")), None)
    return {}, b""


def finish(request: "Request") -> "Answer":
    """Bring out and clean up what a job that was killed could not: why that failed, or null."""
    arguments, directory = request.arguments, request.path("directory")
    if not os.path.isdir(directory):
        return {"problem": "the job's directory is not there"}, b""
    items = []
    for item in arguments["items"]:
        items.append(dict(item, source=wire.as_bytes(item["source"]), target=wire.as_bytes(item["target"])))
    try:
        staging.stage_out(items, directory, "cancel")
        names = [wire.as_bytes(name) for name in arguments["cleanup"]]
        staging.clean_up(names, directory, "cancel", arguments["when"])
    except staging.StagingError as error:
        return {"problem": str(error)}, b""
    return {"problem": None}, b""


def serve(operation: "Any") -> "Any":
    """ValueErrors of the job's folder are refusals."""

    def served(request: "Request") -> "Answer":
        try:
            return operation(request)  # type: ignore[no-any-return]
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from error

    return served


OPERATIONS = {
    "work_open": serve(opened),
    "work_create": serve(create),
    "work_remove": serve(remove),
    "work_tokens": serve(tokens),
    "work_withdraw": serve(withdraw),
    "work_claims": serve(claims),
    "work_receipts": serve(receipts),
    "work_forget": serve(forget),
    "work_finish": serve(finish),
}
