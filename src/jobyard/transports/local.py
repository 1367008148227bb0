"""The transport to this machine: commands as child processes, files through the operating system."""

from __future__ import annotations

import functools
import os
import resource
import secrets
import shutil
import signal
import stat
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from ..errors import TransportError
from ..node.staging import remove_tree
from ..schedulers.base import Command, Result
from .base import (
    FULL,
    CommandRefused,
    CommandTimeout,
    Copy,
    FileKind,
    FileStat,
    OutputTooLarge,
    PathError,
    ProgramMissing,
    Timeouts,
    TransferTimeout,
    TransportClosed,
    absolute,
    path_error,
    printable,
    shown_command,
)
from .process import Pump, end, interrupted_later, reap_left, signal_group
from .watch import FolderWatch

__all__ = ["LocalTransport", "named", "reading", "replacing", "told", "write_all"]

_CHUNK = 1 << 18
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


@functools.cache
def _left_out(without: tuple[str, ...]) -> tuple[frozenset[bytes], tuple[bytes, ...]]:
    """Names of variables, and prefixes. A dialect has a few lists, which are the same in each command."""
    exact = frozenset(os.fsencode(name) for name in without)
    return exact, tuple(name for name in exact if name.endswith(b"_"))


class _Started:
    """Started of jobyard.transports.base."""

    def __init__(self, transport: LocalTransport, command: Command, process: subprocess.Popen[bytes]) -> None:
        self._transport, self._command, self._process = transport, command, process
        self._with = _surroundings()
        self._over = False

    def current(self) -> bool:
        return self._with == _surroundings()

    def finish(self, stdin: bytes) -> Result:
        self._over = True
        return self._transport._finish(self._command, self._process, stdin, time.monotonic())

    def abandon(self) -> None:
        if not self._over:
            self._over = True
            self._transport.abandon(self._process)


def _surroundings() -> tuple[object, ...]:
    """What a command takes from this process, beside its own words. Slurm's gives its limits to the job."""
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = ""
    limits = tuple(resource.getrlimit(which) for which in _LIMITS)
    return dict(os.environb), folder, limits, os.geteuid(), os.getegid()


class LocalTransport:
    """Transport of jobyard.transports.base to this machine.

    ``environment``: added to this process's for every command. ``output_cap_bytes``: of each stream of a command.
    """

    name = "local"

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        output_cap_bytes: int = 1 << 28,
        look_every_s: float = 0.5,
    ) -> None:
        self._extra = dict(environment or {})
        self._timeouts = timeouts or Timeouts()
        self._cap = output_cap_bytes
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._programs: dict[tuple[bytes, bytes], bytes] = {}  # by name and PATH
        self._watches: list[FolderWatch] = []
        self._closed = False
        self._pid = os.getpid()

    # Commands

    def run(self, command: Command) -> Result:
        began = time.monotonic()
        process: subprocess.Popen[bytes] | None = None
        try:
            with interrupted_later():
                process = self._start(command, fed=bool(command.stdin))
            return self._finish(command, process, command.stdin, began)
        except BaseException:  # Ctrl-C can come before the first line of ``_finish``
            if process is not None:
                end(process)
            raise

    def start(self, command: Command) -> _Started:
        """StartsCommands.start."""
        process: subprocess.Popen[bytes] | None = None
        try:
            with interrupted_later():
                process = self._start(command, fed=True)
            with self._lock:
                self._running.add(process)
                _fed.add(process)
            return _Started(self, command, process)
        except BaseException:
            if process is not None:
                self.abandon(process)
            raise

    def abandon(self, process: subprocess.Popen[bytes]) -> None:
        """End a command that was started, and forget it."""
        end(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        with self._lock:
            self._running.discard(process)

    def _finish(self, command: Command, process: subprocess.Popen[bytes], stdin: bytes, began: float) -> Result:
        limit_s = min(command.timeout_s, self._timeouts.command_s or command.timeout_s)
        try:
            with self._lock:
                self._running.add(process)
            if self._closed:
                raise TransportClosed(f"{self.name}: the transport was closed while {shown_command(command.argv)} began")
            pump = Pump(process, stdin, self._cap)
            over = pump.run(began + limit_s)
        except BaseException:  # Ctrl-C above all: nothing is left running
            end(process)
            raise
        finally:
            with self._lock:
                self._running.discard(process)
        duration_s = time.monotonic() - began
        result = Result(
            argv=command.argv,
            returncode=-signal.SIGKILL if process.returncode is None else process.returncode,
            stdout=pump.output(0),
            stderr=pump.output(1),
            duration_s=duration_s,
        )
        if self._closed:
            raise TransportClosed(f"{self.name}: the transport was closed while {shown_command(command.argv)} ran; it was killed")
        if over == "time":
            raise CommandTimeout(
                f"{self.name}: {shown_command(command.argv)} did not end within {limit_s:g} s and was killed; "
                "try it by hand, and look whether the service behind it answers",
                result=result,
            )
        if over == "size":
            raise OutputTooLarge(
                f"{self.name}: {shown_command(command.argv)} wrote more than {self._cap} bytes and was killed; ask it for less"
            )
        return result

    def _start(self, command: Command, *, fed: bool) -> subprocess.Popen[bytes]:
        self._check_open()
        reap_left()
        environment = dict(os.environb)
        environment.update((os.fsencode(name), os.fsencode(value)) for name, value in self._extra.items())
        if command.without:
            exact, prefixes = _left_out(command.without)
            environment = {
                name: value for name, value in environment.items() if name not in exact and not name.startswith(prefixes)
            }
        environment.update((os.fsencode(name), os.fsencode(value)) for name, value in command.environment.items())
        argv = [os.fsencode(word) for word in command.argv]
        try:
            return subprocess.Popen(
                argv,
                executable=self._program(argv[0], environment.get(b"PATH")),
                stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=None if command.directory is None else os.fsencode(command.directory),
                env=environment,
                process_group=0,
                bufsize=0,
            )
        except OSError as error:
            shown, directory = shown_command(command.argv), command.directory
            if directory is not None and error.filename in (directory, os.fsencode(directory)):
                raise CommandRefused(
                    f"{self.name}: {shown} cannot be run in {printable(directory)}: {error.strerror}; make it, or choose another"
                ) from error
            if isinstance(error, FileNotFoundError):
                raise ProgramMissing(
                    f"{self.name}: there is no program {printable(command.argv[0])}; install it, or put its folder on PATH",
                    program=command.argv[0],
                ) from error
            if isinstance(error, BlockingIOError) or error.errno in _NO_RESOURCES:
                raise TransportError(
                    f"{self.name}: no process for {shown} now: {error.strerror}; end some, and try again"
                ) from error
            raise CommandRefused(f"{self.name}: {shown} cannot be run: {error.strerror}; check its mode and its words") from error
        except ValueError as error:
            raise CommandRefused(f"{self.name}: {shown_command(command.argv)} cannot be run: {error}") from error

    def _program(self, name: bytes, path: bytes | None) -> bytes | None:
        """Where a program was found last, if it still is there: looking through PATH each time takes as long as a small program."""
        if path is None or b"/" in name:
            return None
        found = self._programs.get((name, path))
        if found is None or not os.access(found, os.X_OK):
            found = shutil.which(name, path=os.fsdecode(path))
            if found is None or not os.path.isabs(found):
                return None
            self._programs[name, path] = found
        return found

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **self._extra}

    def user(self) -> str:
        import pwd

        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a user without an entry, as in some containers
            return str(os.getuid())

    # Files

    def put(self, source: str, target: str, *, mode: int = 0o600) -> None:
        self._check_open()
        self._copy(absolute("this machine", source), absolute(self.name, target), mode)

    def get(self, source: str, target: str, *, mode: int = 0o600) -> None:
        self._check_open()
        self._copy(absolute(self.name, source), absolute("this machine", target), mode)

    def _copy(self, source: str, target: str, mode: int) -> None:
        limit_s = self._timeouts.transfer_s
        deadline = None if limit_s is None else time.monotonic() + limit_s
        with reading(self.name, source) as reader, replacing(self.name, target, mode) as writer:
            while True:
                if deadline is not None and time.monotonic() >= deadline:
                    raise TransferTimeout(
                        f"{self.name}: {printable(source)} was not copied to {printable(target)} within {limit_s:g} s; "
                        "try again, or allow more time"
                    )
                with told(self.name, "read", source):
                    chunk = os.read(reader, _CHUNK)
                if not chunk:
                    return
                with told(self.name, "write", target):
                    write_all(writer, chunk)

    def put_many(self, copies: Sequence[Copy]) -> None:
        self._many(copies, self.put)

    def get_many(self, copies: Sequence[Copy]) -> None:
        self._many(copies, self.get)

    def _many(self, copies: Sequence[Copy], copy_one: Callable[..., None]) -> None:
        from ..node.receiving import make_folders  # here: most programs never need it

        self._check_open()
        for copy in copies:
            absolute("this machine", copy.source)
            absolute(self.name, copy.target)
        failed: PathError | None = None
        for copy in copies:
            try:
                with told("this machine", "read", copy.source):
                    found = os.stat(copy.source)
                with told(self.name, "make the folder", folder := os.path.dirname(copy.target)):
                    make_folders(os.fsencode(folder))
                copy_one(copy.source, copy.target, mode=copy.mode)
                with told(self.name, "write", copy.target):
                    os.utime(copy.target, ns=(found.st_mtime_ns, found.st_mtime_ns))
            except PathError as error:
                if error.errno in FULL:
                    raise
                failed = failed or error
        if failed is not None:
            raise failed

    def write_file(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        self._check_open()
        with replacing(self.name, absolute(self.name, path), mode) as writer, told(self.name, "write", path):
            write_all(writer, content)

    def read_range(self, path: str, start: int = 0, length: int | None = None, *, follow: bool = True) -> bytes:
        self._check_open()
        with reading(self.name, absolute(self.name, path), follow=follow) as reader, told(self.name, "read", path):
            parts: list[bytes] = []
            left = length
            while left is None or left > 0:
                part = os.pread(reader, _CHUNK if left is None else min(left, _CHUNK), start)
                if not part:
                    break
                parts.append(part)
                start += len(part)
                left = None if left is None else left - len(part)
            return b"".join(parts)

    def stat(self, path: str, *, follow: bool = True) -> FileStat:
        self._check_open()
        with told(self.name, "look at", absolute(self.name, path)):
            return _file_stat(os.stat(path, follow_symlinks=follow))

    def list(self, folder: str) -> Mapping[str, FileStat]:
        self._check_open()
        found: dict[str, FileStat] = {}
        with told(self.name, "list", absolute(self.name, folder)), os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found[entry.name] = _file_stat(entry.stat(follow_symlinks=False))
                except FileNotFoundError:  # it went meanwhile
                    continue
        return found

    def tree(self, folder: str) -> Mapping[str, FileStat]:
        self._check_open()
        found: dict[str, FileStat] = {}
        todo = [""]
        while todo:
            inner = todo.pop()
            try:
                names = self.list(os.path.join(folder, inner))
            except (FileNotFoundError, NotADirectoryError):
                if not inner:
                    raise
                continue  # it went meanwhile
            for name, one in names.items():
                path = f"{inner}/{name}" if inner else name
                found[path] = one
                if one.kind is FileKind.FOLDER:
                    todo.append(path)
        return found

    def make_folder(self, path: str, *, mode: int = 0o700, parents: bool = False) -> None:
        self._check_open()
        absolute(self.name, path)
        missing = [path]
        if parents:
            while not os.path.isdir(parent := os.path.dirname(missing[-1].rstrip("/"))):
                missing.append(parent)
        for folder in reversed(missing):
            try:
                os.mkdir(folder, mode)
                os.chmod(folder, mode)  # whatever the umask
            except FileExistsError as error:
                if not parents or not os.path.isdir(folder):
                    raise path_error(self.name, "make the folder", folder, error) from error
            except OSError as error:
                raise path_error(self.name, "make the folder", folder, error) from error

    def remove(self, path: str, *, tree: bool = False) -> None:
        self._check_open()
        path = absolute(self.name, path).rstrip("/") or "/"  # with a slash behind it a link would be what it leads to
        with told(self.name, "remove", path):
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                os.unlink(path)
            elif not tree:
                os.rmdir(path)
            else:
                parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    remove_tree(parent, os.fsencode(os.path.basename(path)))  # also what a job closed against itself
                finally:
                    os.close(parent)

    def rename(self, source: str, target: str) -> None:
        self._check_open()
        absolute(self.name, target)
        with told(self.name, "rename", absolute(self.name, source)):
            os.replace(source, target)

    def watch(self, folders: Iterable[str] = (), *, prefix: str = "") -> FolderWatch:
        self._check_open()
        watch = FolderWatch(self.name, prefix, look_every_s=self._look_every_s)
        try:
            watch.add(folders)
        except BaseException:
            watch.close()
            raise
        with self._lock:
            self._watches = [other for other in self._watches if not other.closed]
            self._watches.append(watch)
        return watch

    def close(self) -> None:
        if self._pid != os.getpid():  # a forked child: commands and watches are its parent's
            self._closed = True
            return
        with self._lock:
            self._closed = True
            watches, self._watches = self._watches, []
            running = list(self._running)
        for watch in watches:
            watch.close()
        for process in running:
            signal_group(process, signal.SIGKILL)  # the thread that runs it reaps it

    # Helpers

    def _check_open(self) -> None:
        if self._pid != os.getpid():  # what the parent's threads held when it forked is nobody's here
            self._pid, self._lock, self._running, self._watches = os.getpid(), threading.Lock(), set(), []
        if self._closed:
            raise TransportClosed(f"{self.name}: this transport was closed; open another")


_fed: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()  # those that wait for their input


def _let_inputs_be() -> None:
    """In a forked child: what its parent's commands read ends when the parent says so."""
    for process in list(_fed):
        if process.stdin is not None:
            process.stdin.close()
    _fed.clear()


os.register_at_fork(after_in_child=_let_inputs_be)


@contextmanager
def told(host: str, doing: str, path: str) -> Iterator[None]:
    """What the operating system refuses is a PathError."""
    try:
        yield
    except PathError:
        raise
    except OSError as error:
        raise path_error(host, doing, path, error) from error


@contextmanager
def reading(host: str, path: str, *, follow: bool = True) -> Iterator[int]:
    """A descriptor to read a regular file from. PathError: it is none, or cannot be read."""
    with told(host, "read", path):
        # without O_NONBLOCK the opening of a pipe waits for its writer
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise PathError(f"{host}: {printable(path)} is not a regular file; only those are read", filename=path)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def replacing(host: str, path: str, mode: int) -> Iterator[int]:
    """A descriptor to write to; on leaving, what was written takes the name, or, after an error, is gone."""
    part = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}.part")
    with told(host, "write", path):
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            yield fd
            with told(host, "write", path):
                os.fchmod(fd, mode)
        finally:
            os.close(fd)
        with told(host, "write", path):
            os.replace(part, path)
    except BaseException:
        with suppress(OSError):  # it went with its folder: what went wrong before this is what is told
            os.unlink(part)
        raise


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Write all of it. OSError."""
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]


def named(variable: str, names: tuple[str, ...]) -> bool:
    """The variable is one of these, or begins with one that ends with "_"."""
    return any(variable == name or (name.endswith("_") and variable.startswith(name)) for name in names)


_NO_RESOURCES = {11, 12, 23, 24, 35}  # EAGAIN, ENOMEM, ENFILE, EMFILE; EAGAIN on macOS


def _file_stat(found: os.stat_result) -> FileStat:
    if stat.S_ISREG(found.st_mode):
        kind = FileKind.FILE
    elif stat.S_ISDIR(found.st_mode):
        kind = FileKind.FOLDER
    else:
        kind = FileKind.LINK if stat.S_ISLNK(found.st_mode) else FileKind.OTHER
    return FileStat(kind, found.st_size, found.st_mtime, stat.S_IMODE(found.st_mode), found.st_uid)
