"""Trees of files to and from a login host: the helper's half of ``push`` and ``pull``."""

import errno
import json
import os
import stat

from . import helper_wire as wire
from . import receiving, transfer
from .helper import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List

    from .helper import Answer, Request


def tree(request: "Request") -> "Answer":
    """What a name holds: the kind of it, then a line for each name below it, where it is a folder."""
    path = request.path()
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return {"top": None}, b""
    top = transfer.entry_of(os.path.basename(path), path, found)
    if not stat.S_ISDIR(found.st_mode):
        return {"top": top}, b""
    held, size = [], 0
    for entry in transfer.scan(path):
        line = wire.head(entry)
        held.append(line)
        size += len(line)
        if size >= wire.BLOCK:
            if not request.send(1, b"".join(held)):
                raise Refused("cancelled", "it was given up")
            held, size = [], 0
    return {"top": top}, b"".join(held)


def parts(request: "Request") -> "Answer":
    """What is there already of large files."""
    wanted = json.loads(request.content().decode())
    return {}, wire.head([transfer.part_there(request.path(), entry) for entry in wanted])


def found(request: "Request") -> "Answer":
    """What each of these paths leads to; the name of the error where it leads nowhere."""
    answer: "List[Any]" = []
    for path in json.loads(request.content().decode()):
        try:
            name = wire.as_bytes(path)
            answer.append(transfer.entry_of(name, name, os.stat(name)))
        except OSError as error:
            answer.append(errno.errorcode.get(error.errno or 0, ""))
    return {}, wire.head(answer)


def receive(request: "Request") -> "Answer":
    """Records that come are written below a folder, which is made; or each to the path that ``targets`` has for it.

    The folder gets the mode and time that stand in the request, if any, once all came.
    """
    path = request.path()
    if "targets" in request.arguments:
        targets = [wire.as_bytes(target) for target in request.arguments["targets"]]
        receiver: "receiving.Receiver" = receiving.Placed(targets)
    else:
        targets = []
        os.makedirs(path, exist_ok=True)
        receiver = receiving.Receiver(path)
    arguments = request.arguments
    try:
        if "mode" in arguments:
            receiver.whole_folder()
        while True:
            came = request.next()
            if came is None:
                break
            receiver.feed(came[1])
            request.consumed(0, len(came[1]))
        if request.cancelled or not request.at_end:
            raise Refused("cancelled", "it was given up")
        receiver.finish()
        if "mode" in arguments and not receiver.errors:
            receiver.set_folder(arguments["mode"], arguments["time_ns"])
    except transfer.TransferError as error:
        raise Refused("content", str(error)) from error
    except OSError as error:
        if receiver.errors:
            name = receiver.errors[-1][0]
            error.filename = targets[int(name)] if targets else os.path.join(path, transfer.raw(name))
        raise
    finally:
        receiver.close()
    return {"files": receiver.files}, wire.head(receiver.errors)


def send(request: "Request") -> "Answer":
    """The records of the names that are asked for."""
    wanted = json.loads(request.content().decode())
    have = {name: (part[0], part[1]) for name, part in wanted["parts"].items()}
    follow = bool(request.arguments.get("follow"))
    for block in transfer.records(request.path(), wanted["entries"], have, wanted["sources"], follow):
        if not request.send(1, block):
            raise Refused("cancelled", "it was given up")
    return {}, b""


def set_times(request: "Request") -> "Answer":
    """The mode and the time of a folder that was brought whole."""
    receiver = receiving.Receiver(request.path())
    try:
        receiver.set_folder(request.arguments["mode"], request.arguments["time_ns"])
    finally:
        receiver.close()
    return {}, b""


OPERATIONS = {"tree": tree, "parts": parts, "found": found, "receive": receive, "send": send, "set_times": set_times}
