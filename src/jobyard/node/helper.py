"""The helper: one resident process on a login host, at the other end of an ssh connection. It runs commands, and reads, writes
and watches files, as messages ask. Standard library only, Python 3.6 syntax; it is sent over the connection, never installed.

The main thread reads messages; each request is served by a thread of a small pool, so that a hung file system delays nothing
else. The end of standard input means that the link is gone: commands are killed, except those that must finish (submissions),
files that were under way are removed, unless they can be resumed, and the helper ends.
"""

import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque

from . import helper_wire as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Dict, Optional, Set, Tuple

    Answer = Tuple[Any, bytes]  # the JSON of an answer, and raw bytes with it

FINISH_S = 60.0  # how long commands that must finish may take when the link is gone
GO_S = 5.0  # how long all others may take to clear up
_THREADS = 256


class Refused(Exception):
    """A request that cannot be served; ``kind`` and details go to the client."""

    def __init__(self, kind: "str", message: "str", **details: "Any") -> "None":
        Exception.__init__(self, message)
        self.kind = kind
        self.details = details


class Request(wire.Streams):
    """One request that is being served."""

    def __init__(self, helper: "Helper", number: "int", arguments: "Dict[str, Any]", raw: "bytes") -> "None":
        wire.Streams.__init__(self, helper.sender, number, arguments.get("window", wire.WINDOW), helper.buffers, wire.BURST)
        self.helper = helper
        self.arguments = arguments
        self.raw = raw
        self.cancelled = False
        self.part: "Optional[bytes]" = None  # a file that is not whole; it goes with the helper
        self.on_cancel: "Optional[Callable[[], None]]" = None

    def path(self, name: "str" = "path") -> "bytes":
        """An argument that is a path."""
        return wire.as_bytes(self.arguments[name])

    def content(self) -> "bytes":
        """All the raw bytes of the request, with it or behind it."""
        parts = [bytes(self.raw)]
        while self.arguments.get("streamed"):
            came = self.next()
            if came is None:
                break
            parts.append(bytes(came[1]))
            self.consumed(0, len(came[1]))
        if self.cancelled:
            raise Refused("cancelled", "it was given up")
        return b"".join(parts)

    def cancel(self) -> "None":
        """The client wants no answer any more."""
        self.cancelled = True
        self.stop()
        call = self.on_cancel
        if call is not None:
            call()


class Helper(object):
    """Serves one connection."""

    def __init__(self, incoming: "int", outgoing: "int") -> "None":
        self.sender = wire.Sender(outgoing)
        self._reader = wire.FrameReader(incoming)
        self.buffers = self._reader.buffers
        self._lock = threading.Condition()
        self._requests: "Dict[int, Request]" = {}
        self._todo: "Deque[Request]" = deque()
        self._idle = 0
        self._threads = 0
        self.leaving = False  # the link is gone
        self.finishing: "Set[int]" = set()  # commands that must finish
        self.environment = base_environment()

    def hello(self) -> "None":
        """Say who is here."""
        self.sender.send(wire.EVENT, 0, wire.head(identity()))

    def run(self) -> "None":
        """Until the link is gone."""
        try:
            while True:
                frame = self._reader.read()
                if frame is None or frame[0] == wire.BYE:
                    break
                self._take(*frame)
        except (wire.WireError, OSError) as error:
            _tell("jobyard helper: %s\n" % error)
        except ToldToGo:
            pass
        finally:
            self._leave()

    def _take(self, kind: "int", number: "int", payload: "bytes") -> "None":
        if kind == wire.REQ:
            arguments, raw = wire.split(payload)
            request = Request(self, number, arguments, raw)
            with self._lock:
                self._requests[number] = request
                self._todo.append(request)
                if self._idle:
                    self._idle -= 1
                    self._lock.notify()
                    return
                if self._threads >= _THREADS or self._one_more():
                    return
                self._todo.remove(request)  # those that are there may be busy for as long as the link lives
                del self._requests[number]
            said = "no thread can be started there: this login has as many processes as it may have"
            self.sender.send(wire.ERR, number, wire.head({"kind": "resources", "message": said}))
            return
        if kind == wire.PING:
            self.sender.send(wire.PONG, number, payload)
            return
        with self._lock:
            concerned = self._requests.get(number)
        if concerned is None:  # it was answered meanwhile
            return
        if kind == wire.DATA:
            concerned.arrived(payload)
        elif kind == wire.EOF:
            concerned.ended(payload)
        elif kind == wire.CREDIT:
            concerned.give(*wire.credited(payload))
        elif kind == wire.CANCEL:
            concerned.cancel()

    def _one_more(self) -> "bool":
        """Begin a thread, with the lock held; False: there can be none now."""
        thread = threading.Thread(target=self._work)
        thread.daemon = True
        try:
            thread.start()
        except RuntimeError:
            return False
        self._threads += 1
        return True

    def _work(self) -> "None":
        while True:
            with self._lock:
                while not self._todo:
                    self._idle += 1
                    self._lock.wait()
                request = self._todo.popleft()
            lives = False
            try:
                self._serve(request)
                lives = True
            except OSError:  # the link is gone; the main thread sees it too
                lives = True
            finally:
                with self._lock:
                    self._requests.pop(request.request, None)
                    if not lives:  # it ends of a fault of ours: another takes its place
                        self._threads -= 1
                        if self._todo:
                            self._one_more()
                    if self.leaving:
                        self._lock.notify_all()

    def _serve(self, request: "Request") -> "None":
        answer: "Optional[Answer]" = None
        refusal: "Dict[str, Any]" = {"kind": "internal", "message": ""}
        try:
            answer = operation(request.arguments["op"])(request)
        except Refused as error:
            refusal = dict(error.details, kind=error.kind, message=str(error))
        except OSError as error:
            refusal = {
                "kind": "os",
                "errno": errno.errorcode.get(error.errno or 0, ""),
                "message": error.strerror or str(error),
                "path": shown(error.filename),
            }
        except MemoryError:
            refusal = {"kind": "os", "errno": "ENOMEM", "message": os.strerror(errno.ENOMEM), "path": None}
        finally:
            if answer is None and not refusal["message"]:
                refusal["message"] = traceback.format_exc(3)
            if answer is None:
                self.sender.send(wire.ERR, request.request, wire.head(refusal))
        if answer is not None:
            value, raw = answer
            if len(raw) > wire.INLINE:
                request.send(1, raw)
                raw = b""
            self.sender.send(wire.RES, request.request, wire.head(value), raw)

    def _leave(self) -> "None":
        """The link is gone: end what nobody waits for, let submissions finish, and go."""
        for number in GOING:
            signal.signal(number, signal.SIG_IGN)
        if sys.exc_info()[0] is not None:
            _tell(traceback.format_exc())
        with self._lock:
            self.leaving = True
            requests = list(self._requests.values())
        for request in requests:
            if request.request not in self.finishing:
                request.cancel()
        with self._lock:
            self._lock.wait_for(lambda: not self.finishing.intersection(self._requests), FINISH_S)
            self._lock.wait_for(lambda: not self._requests, GO_S)  # but not for what hangs and cannot be ended
            for request in self._requests.values():
                if request.part is not None:
                    try:
                        os.unlink(request.part)
                    except OSError:
                        pass
        os._exit(0)


class ToldToGo(BaseException):
    """A signal came: the host goes down, or whoever manages it ends what a login left."""


GOING = (signal.SIGTERM, signal.SIGHUP)


def _told_to_go(number: "int", frame: "Any") -> "None":
    raise ToldToGo


def _tell(text: "str") -> "None":
    """To who reads standard error, if somebody does: it goes with the link."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        pass


def operation(name: "str") -> "Callable[[Request], Answer]":
    """What serves a request; modules are loaded when they are needed."""
    if not _OPERATIONS:
        from . import helper_files, helper_run

        _OPERATIONS.update(helper_files.OPERATIONS)
        _OPERATIONS.update(helper_run.OPERATIONS)
    found = _OPERATIONS.get(name)
    if found is None:
        for module in _LATER:
            loaded = __import__(__package__ + "." + module, fromlist=["OPERATIONS"])
            _OPERATIONS.update(loaded.OPERATIONS)
        found = _OPERATIONS.get(name)
    if found is None:
        raise Refused("unknown", "this helper has no operation %s" % name)
    return found


_OPERATIONS: "Dict[str, Callable[[Request], Answer]]" = {}
_LATER = ["helper_watch", "helper_work", "helper_transfer"]


def shown(name: "Any") -> "Optional[str]":
    """A file name of an error, as text."""
    if isinstance(name, bytes):
        return wire.as_text(name)
    return None if name is None else str(name)


def identity() -> "Dict[str, Any]":
    """Who and where this is."""
    import pwd

    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot_id = file.read().strip()
    except OSError:
        boot_id = ""
    uid = os.getuid()
    try:
        entry = pwd.getpwuid(uid)
        user, home = entry.pw_name, entry.pw_dir
    except KeyError:
        user, home = str(uid), "/"
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "protocol": wire.PROTOCOL,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "host": os.uname().nodename,
        "boot_id": boot_id,
        "uid": uid,
        "user": user,
        "home": os.environ.get("HOME") or home,
        "umask": mask,
        "clock": time.time(),
        "pid": os.getpid(),
    }


def base_environment() -> "Dict[bytes, bytes]":
    """What the login gave: Python adds to its own copy in the C locale."""
    try:
        with open("/proc/self/environ", "rb") as file:
            data = file.read()
    except OSError:
        return dict(os.environb)
    found = {}
    for item in data.split(b"\0"):
        name, equals, value = item.partition(b"=")
        if equals and name:
            found[name] = value
    return found


def main() -> "None":
    """Serve standard input and output. They are moved, so that nothing else writes into the messages."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    for fd in (incoming, outgoing):
        os.set_inheritable(fd, False)
        try:
            import fcntl

            fcntl.fcntl(fd, 1031, wire.PIPE_BYTES)  # F_SETPIPE_SZ
        except OSError:  # not a pipe, or not Linux
            pass
    for number in GOING:
        signal.signal(number, _told_to_go)
    helper = Helper(incoming, outgoing)
    helper.hello()
    helper.run()
