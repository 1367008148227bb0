"""Folders that the helper watches for its client: what appears is told at once."""

from . import helper_wire as wire
from .helper import Refused
from .watching import FolderWatcher, WatchClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict

    from .helper import Answer, Request

_watches: "Dict[int, FolderWatcher]" = {}  # by the request that opened them
_TOLD_AT_ONCE = 2000  # names in one message


def watch(request: "Request") -> "Answer":
    """Until it is cancelled: tell the names that appear."""
    arguments = request.arguments
    watcher = FolderWatcher(wire.as_bytes(arguments["prefix"]), arguments["look_every_s"])
    _watches[request.request] = watcher
    request.on_cancel = watcher.close
    request.helper.sender.send(wire.EVENT, request.request, wire.head([]))  # it is open
    try:
        if request.cancelled:
            watcher.close()
        while True:
            found = [(wire.as_text(folder), wire.as_text(name)) for folder, name in watcher.wait(None)]
            for at in range(0, len(found), _TOLD_AT_ONCE):
                request.helper.sender.send(wire.EVENT, request.request, wire.head(found[at : at + _TOLD_AT_ONCE]))
    except WatchClosed:
        return {}, b""
    finally:
        _watches.pop(request.request, None)
        watcher.close()


def _of(request: "Request") -> "FolderWatcher":
    watcher = _watches.get(request.arguments["watch"])
    if watcher is None:
        raise Refused("closed", "this watch was closed")
    return watcher


def add(request: "Request") -> "Answer":
    """Watch these folders too."""
    try:
        _of(request).add([wire.as_bytes(folder) for folder in request.arguments["folders"]])
    except WatchClosed as error:
        raise Refused("closed", "this watch was closed") from error
    return {}, b""


def discard(request: "Request") -> "Answer":
    """Watch these no longer."""
    _of(request).discard([wire.as_bytes(folder) for folder in request.arguments["folders"]])
    return {}, b""


OPERATIONS = {"watch": watch, "watch_add": add, "watch_discard": discard}
