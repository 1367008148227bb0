"""Running one command on a node and noting exactly how it ended; small tools for it. Standard library only, Python 3.6 syntax.

Modules that cost milliseconds to import (os, signal, json, subprocess) are not used here: ``posix``, ``_signal`` and
``_json`` do. Text of job.json stands for bytes: UTF-8, with surrogates for what is not.
"""

import posix
import sys
from time import monotonic, time

try:
    import _signal as signal  # type: ignore[import-not-found]
except ImportError:  # an interpreter that is built otherwise
    import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    Environment = Dict[bytes, bytes]

__all__ = [
    "FAULTS",
    "NOTED",
    "TOLD_TO_END",
    "Failed",
    "decode",
    "dump",
    "encode",
    "home_directory",
    "load",
    "note_signals",
    "noted",
    "own_environment",
    "publish",
    "read_file",
    "read_line",
    "run",
    "signal",
    "start",
    "told_to_end",
    "wait",
]

_NAMES = ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "XCPU")
NOTED = {getattr(signal, "SIG" + name): "SIG" + name for name in _NAMES}
TOLD_TO_END = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGALRM", "SIGTERM", "SIGXCPU")
FAULTS = tuple(getattr(signal, "SIG" + name) for name in ("SEGV", "ABRT", "BUS", "FPE", "ILL", "SYS", "PIPE"))


# Small things --------------------------------------------------------------------------------------------------------


def encode(text: "str") -> "bytes":
    """The bytes that text of job.json stands for."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: "bytes") -> "str":
    """The text of job.json for bytes."""
    return data.decode("utf-8", "surrogateescape")


def load(text: "str") -> "Dict[str, Any]":
    """A JSON object, without the modules that ``json`` brings. Raises ValueError."""
    try:
        from _json import make_scanner
    except ImportError:
        value = __import__("json").loads(text)
    else:
        scan = make_scanner(_Context())  # type: ignore[arg-type]
        try:
            value = scan(text, 0)[0]
        except (StopIteration, SystemError):  # it knows its own error's class only where ``json`` is loaded
            value = None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


class _Context:
    """What json's scanner asks of its decoder."""

    strict = False
    object_hook = object_pairs_hook = None
    parse_float = parse_constant = float
    parse_int = int


def dump(value: "Any") -> "str":
    """JSON text in ASCII. Values: None, bool, int, finite float, text, lists and dicts of them."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join([_quote(key) + ": " + dump(item) for key, item in value.items()]) + "}"
    return "[" + ", ".join([dump(item) for item in value]) + "]"


def _quote(text: "str") -> "str":
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        return str(__import__("json").dumps(text))
    return encode_basestring_ascii(text)


def read_file(path: "bytes") -> "bytes":
    """All of a file. Raises OSError."""
    fd = posix.open(path, posix.O_RDONLY)
    try:
        parts = []
        part = posix.read(fd, 1 << 18)
        while part:
            parts.append(part)
            part = posix.read(fd, 1 << 18)
        return b"".join(parts)
    finally:
        posix.close(fd)


def read_line(path: "bytes", number: "int") -> "bytes":
    """Line ``number`` (from 0) of a file, without holding the rest. Raises OSError, and ValueError where there is none."""
    fd = posix.open(path, posix.O_RDONLY)
    try:
        found = []  # type: List[bytes]
        while True:
            part = posix.read(fd, 1 << 18)
            if not part:
                raise ValueError("%s has no line %d" % (decode(path), number))
            ends = part.count(b"\n") if number else 0
            if number and ends < number:
                number -= ends
                continue
            at = 0
            while number:
                at = part.index(b"\n", at) + 1
                number -= 1
            while True:
                end = part.find(b"\n", at)
                if end >= 0:
                    found.append(part[at:end])
                    return b"".join(found)
                found.append(part[at:])
                part, at = posix.read(fd, 1 << 18), 0
                if not part:
                    if b"".join(found):
                        return b"".join(found)
                    raise ValueError("%s ends too early" % decode(path))
    finally:
        posix.close(fd)


def publish(folder: "bytes", name: "bytes", data: "bytes", exclusive: "bool" = True) -> "bool":
    """Write a file whole under a temporary name, then give it its own. False: exclusive, and another has it already."""
    temporary = folder + b"/.tmp-" + posix.urandom(8).hex().encode()
    target = folder + b"/" + name
    try:
        write_file(temporary, data)
        if exclusive:
            try:
                posix.link(temporary, target)
                return True
            except FileExistsError:
                # Over NFS the answer to a link that was made can get lost, and the repeated request then finds it there.
                return posix.stat(temporary).st_nlink == 2
            except OSError:  # a file system without hard links
                try:
                    write_file(target + b".lock", b"")
                except FileExistsError:
                    return False
        posix.rename(temporary, target)
        return True
    finally:
        try:
            posix.unlink(temporary)
        except OSError:
            pass  # it has its own name now, or the disk is full


def write_file(path: "bytes", data: "bytes") -> "None":
    """A new file, readable by its owner alone. Raises FileExistsError."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW, 0o600)
    try:
        posix.fchmod(fd, 0o600)  # whatever the umask: what its owner cannot read says nothing
        while data:
            data = data[posix.write(fd, data) :]
    finally:
        posix.close(fd)


def own_environment() -> "Environment":
    """What this process was started with. Python itself adds LC_CTYPE to ``os.environ`` in the C locale."""
    try:
        items = read_file(b"/proc/self/environ").split(b"\0")
    except OSError:
        return dict(posix.environ)
    found = {}  # type: Environment
    for item in items:
        name, equals, value = item.partition(b"=")
        if equals and name:
            found.setdefault(name, value)
    return found


def home_directory(environment: "Environment") -> "bytes":
    """The user's home directory here."""
    found = environment.get(b"HOME", b"")
    if found.startswith(b"/"):
        return found
    try:
        return encode(__import__("pwd").getpwuid(posix.getuid()).pw_dir)
    except KeyError:
        return b"/"


# Signals -------------------------------------------------------------------------------------------------------------

noted = []  # type: List[Tuple[str, float]]
_forward_to = [0]  # the group that signals are passed to, where the scheduler reaches the shepherd only


def note_signals() -> "None":
    """From now on signals are noted with their time, and end nobody but the command."""

    def note(number: "int", frame: "object") -> "None":
        if len(noted) < 100:
            noted.append((NOTED[number], time()))
        if _forward_to[0]:
            try:
                posix.killpg(_forward_to[0], number)
            except OSError:
                pass  # it has ended

    for number in NOTED:
        signal.signal(number, note)


def _stop_the_group(number: "int", frame: "object") -> "None":
    """TSTP and CONT stop the command's group and let it go on: the scheduler reaches nobody else, and we must not be stopped."""
    if _forward_to[0]:
        try:
            posix.killpg(_forward_to[0], signal.SIGSTOP if number == signal.SIGTSTP else signal.SIGCONT)
        except OSError:
            pass  # it has ended


def told_to_end() -> "Optional[str]":
    """The first signal that came and asks the job to end."""
    return next((name for name, at in noted if name in TOLD_TO_END), None)


def _default_signals() -> "None":
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass  # KILL, STOP, and those of the C library
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


# The command ---------------------------------------------------------------------------------------------------------


class Failed(Exception):
    """The command was not started, or what is around it failed: the cause, what to say, and the exit code for it."""

    def __init__(self, cause: "str", message: "str", code: "int" = 125) -> "None":
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.code = code


def run(spec: "Dict[str, Any]", environment: "Environment") -> "Dict[str, Any]":
    """Run one command and wait for it. Raises Failed where it does not start.

    ``spec``: argv, directory, stdin, stdout, stderr (None: joined to stdout), append, shared (several write to one file),
    folder (the job's: what is made there is private), limits, own_group (True, or the group to join), keep_descriptors;
    all paths absolute. The answer is that of ``wait``.
    """
    return wait(start(spec, environment))


def start(spec: "Dict[str, Any]", environment: "Environment") -> "Tuple[int, float, float]":
    """Start one command: its process id, and when (clock and monotonic clock). Raises Failed."""
    reading, writing = posix.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, NOTED)
    try:
        if told_to_end():
            raise Failed("cancelled", "told to end by %s before the command began" % told_to_end())
        began = time(), monotonic()
        try:
            pid = posix.fork()
        except OSError as error:
            raise Failed("not_started", "no process could be made for the command: %s" % error.strerror) from error
        if not pid:
            try:
                _child(spec, environment, writing)
            finally:
                posix._exit(125)
        if spec["own_group"]:
            group = pid if spec["own_group"] is True else spec["own_group"]
            try:
                posix.setpgid(pid, group)
            except OSError:
                pass  # the child did it, and is further on
            _forward_to[0] = group
            signal.signal(signal.SIGTSTP, _stop_the_group)
            signal.signal(signal.SIGCONT, _stop_the_group)
        else:
            for number in signal.sigpending():  # it came to us before the child was there to get it
                if number in NOTED:
                    posix.kill(pid, number)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NOTED)
        posix.close(writing)
    report = b""
    try:
        part = posix.read(reading, 65536)
        while part:
            report += part
            part = posix.read(reading, 65536)
    finally:
        posix.close(reading)
    if report:
        posix.waitpid(pid, 0)
        if spec["own_group"] is True:
            _forward_to[0] = 0
        what, number, path = report.split(b"\0", 2)
        raise _not_started(decode(what), int(number), path)
    return (pid,) + began


def wait(started: "Tuple[int, float, float]", more: "bool" = False) -> "Dict[str, Any]":
    """Wait for a command: exit_code or signal, core, usage, began_at, ended_at. ``more``: others of its group go on."""
    pid, began_at, began = started
    _, status, used = posix.wait4(pid, 0)
    wall_s = monotonic() - began
    if not more:
        _forward_to[0] = 0
    ended = posix.WIFSIGNALED(status)
    return {
        "exit_code": None if ended else posix.WEXITSTATUS(status),
        "signal": posix.WTERMSIG(status) if ended else None,
        "core": bool(ended and posix.WCOREDUMP(status)),
        "began_at": began_at,
        "ended_at": time(),
        "usage": {
            "wall_s": wall_s,
            "user_s": used.ru_utime,
            "system_s": used.ru_stime,
            "max_rss_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            "minor_faults": used.ru_minflt,
            "major_faults": used.ru_majflt,
            "read_blocks": used.ru_inblock,
            "written_blocks": used.ru_oublock,
            "voluntary_switches": used.ru_nvcsw,
            "involuntary_switches": used.ru_nivcsw,
        },
    }


def _not_started(what: "str", number: "int", path: "bytes") -> "Failed":
    why = posix.strerror(number) if number else ""
    if what == "command":
        if number == 2 and b"/" in path and _exists(path):
            why = "the program that its first line names, or its loader, is not there"
        elif number == 2 and b"/" not in path:
            why = "not found on PATH"
        elif number == 8:
            why += " (a script begins with a line such as #!/bin/sh)"
        code = 127 if number in (2, 20) else 126
    else:
        code = 125
    return Failed("not_started", "%s '%s'%s" % (what, decode(path), ": " + why if why else ""), code)


def _exists(path: "bytes") -> "bool":
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _child(spec: "Dict[str, Any]", environment: "Environment", writing: "int") -> "None":
    """Become the command, or report what is in the way. Never returns."""
    what, path = "command", spec["argv"][0]  # type: Tuple[str, bytes]
    try:
        if spec["own_group"]:
            posix.setpgid(0, 0 if spec["own_group"] is True else spec["own_group"])
        _default_signals()
        _offer_to_oom_killer()
        what, path = "directory", spec["directory"]
        posix.chdir(path)
        what, path = "stdin", spec["stdin"]
        streams = [posix.open(path, posix.O_RDONLY)]
        flags = posix.O_WRONLY | posix.O_CREAT | (posix.O_APPEND if spec["append"] else posix.O_TRUNC)
        flags |= posix.O_APPEND if spec.get("shared") else 0
        what, path = "stdout", spec["stdout"]
        streams.append(posix.open(path, flags, _mode(path, spec)))
        if spec["stderr"] is None:
            streams.append(streams[1])
        else:
            what, path = "stderr", spec["stderr"]
            same = _is_open(path, streams[1])
            streams.append(streams[1] if same else posix.open(path, flags, _mode(path, spec)))
        for fd in (0, 1, 2):
            posix.dup2(streams[fd], fd)
        for name, value in spec["limits"].items():
            what, path = "limit", encode("%s=%s" % (name, value))
            _limit(name, value)
        if not spec["keep_descriptors"]:
            _close_descriptors(writing)
        what, path = "command", spec["argv"][0]
        _execute(spec["argv"], environment)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or 0
        if what == "command" and isinstance(error, OSError) and error.filename:
            path = error.filename
        if what == "limit" and not number:
            path += encode(" is more than this node allows")
        posix.write(writing, b"%s\0%d\0%s" % (what.encode(), number, path[-4000:]))


def _mode(path: "bytes", spec: "Dict[str, Any]") -> "int":
    return 0o600 if path.startswith(spec["folder"] + b"/") else 0o666


def _is_open(path: "bytes", fd: "int") -> "bool":
    """The path leads to the file that is open already: two openings would overwrite each other."""
    try:
        there, here = posix.stat(path), posix.fstat(fd)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _offer_to_oom_killer() -> "None":
    """Where memory runs out the command goes first: the shepherd can then tell of it."""
    try:
        fd = posix.open("/proc/self/oom_score_adj", posix.O_RDWR)
        try:
            now = int(posix.read(fd, 16))
            posix.write(fd, b"%d" % min(now + 100, 1000))
        finally:
            posix.close(fd)
    except (OSError, ValueError):
        pass  # not Linux, or not allowed: an improvement only


def _limit(name: "str", value: "float") -> "None":
    import resource

    if name == "cpu_time_s":  # XCPU at the limit tells what happened; KILL follows for those that catch it
        whole = int(value) + (value > int(value))
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 2))
        return
    kinds = {"core_bytes": "CORE", "file_bytes": "FSIZE", "open_files": "NOFILE", "stack_bytes": "STACK"}
    if name in kinds:
        resource.setrlimit(getattr(resource, "RLIMIT_" + kinds[name]), (int(value), int(value)))


def _close_descriptors(keep: "int") -> "None":
    """Those of the scheduler's must not live on in what the command leaves behind; ours close on exec."""
    try:
        for name in posix.listdir("/proc/self/fd"):
            fd = int(name)
            if fd > 2 and fd != keep:
                try:
                    posix.close(fd)
                except OSError:
                    pass  # the listing's own
    except FileNotFoundError:
        posix.closerange(3, keep)
        posix.closerange(keep + 1, 4096)


def _execute(argv: "List[bytes]", environment: "Environment") -> "None":
    """execve, after a search of the job's own PATH for a bare name. Raises OSError."""
    command = argv[0]
    if b"/" in command:
        posix.execve(command, argv, environment)
    denied = None
    for folder in environment.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin").split(b":"):
        path = folder + b"/" + command if folder else b"./" + command
        try:
            posix.execve(path, argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            error.filename = path
            denied = error
        except OSError as error:
            error.filename = path
            raise
    raise denied or FileNotFoundError(2, "not found", command)
