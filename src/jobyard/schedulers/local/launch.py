"""Starting one job: its directory, environment, streams, program and limits, with the exact reason where that fails.

The plain way is vfork and exec: by what ``subprocess`` itself is built on where this Python's is known (``Launcher.quick``),
which spares the stack that ``posix_spawn`` maps and unmaps for each child (30 us and more on a virtual machine); else by
``posix_spawn``. Limits that would starve the spawner itself, or that could not be raised again, and streams whose opening may
block (a FIFO), are set up in a forked child instead.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from typing import Any

from . import kernel
from .ring import DIRECTORY, PROGRAM, STDERR, STDIN, STDOUT
from .wire import unpack

__all__ = ["Launcher", "NotStartedError", "Prepared", "expand", "passwd_entry"]

_HOME, _DIRECTORY, _INDEX, _NATIVE_ID = b"\0home\0", b"\0directory\0", b"\0index\0", b"\0native_id\0"
_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
_OUT = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_IN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_DEFAULT = os.O_WRONLY | os.O_APPEND
_OPEN, _DUP2 = os.POSIX_SPAWN_OPEN, os.POSIX_SPAWN_DUP2
_LIMITS = {
    "core": resource.RLIMIT_CORE,
    "file": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
    "stack": resource.RLIMIT_STACK,
}
MOST_PROGRAMS = 1000  # remembered
CPU_MARGIN_S = 2  # from SIGXCPU to SIGKILL


_OURS = (b"JOBYARD_JOB_ID", b"JOBYARD_NATIVE_ID", b"JOBYARD_ARRAY_ID", b"JOBYARD_TASK_INDEX")
_GPU_VARIABLES = (b"CUDA_VISIBLE_DEVICES", b"NVIDIA_VISIBLE_DEVICES", b"ROCR_VISIBLE_DEVICES", b"GPU_DEVICE_ORDINAL")


def _known_fork_exec() -> Callable[..., int] | None:
    """``_posixsubprocess.fork_exec`` of the Pythons whose arguments are known here; None elsewhere."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return None
    try:
        from _posixsubprocess import fork_exec
    except ImportError:
        return None
    found: Callable[..., int] = fork_exec
    return found


_fork_exec = _known_fork_exec()


def _nothing(number: int, frame: object) -> None:
    """A handler that does nothing."""


class NotStartedError(Exception):
    """The job cannot start: ``what`` (of ring.py) could not be used, and ``errno`` why."""

    def __init__(self, what: int, number: int) -> None:
        super().__init__(what, number)
        self.what = what
        self.errno = number


class Prepared:
    """A job whose directory is the present one and whose streams are open."""

    __slots__ = (
        "actions",
        "argv",
        "blocking",
        "default_streams",
        "environment",
        "fds",
        "limits",
        "number",
        "own",
        "program",
        "stderr_default",
        "stdout_default",
        "umask",
        "words",
    )

    argv: list[bytes]
    environment: dict[bytes, bytes]  # shared where ``own`` is not empty
    own: tuple[tuple[bytes, bytes], ...]  # variables besides those in ``environment``
    words: list[bytes] | None  # the whole environment as ``NAME=value``; None: it is in ``environment`` alone
    limits: dict[str, float] | None
    number: int
    program: bytes
    umask: int
    default_streams: bool
    stdout_default: bool
    stderr_default: bool

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.actions: list[tuple[Any, ...]] = []
        self.blocking: list[tuple[int, int, bytes, int]] = []  # (what, descriptor, path, flags), opened by the child

    def variables(self) -> dict[bytes, bytes]:
        """The whole environment."""
        return {**self.environment, **dict(self.own)} if self.own else self.environment

    def use(self, paths: tuple[str, str]) -> None:
        """Write default streams there."""
        actions = self.actions
        if self.stdout_default:
            actions.insert(1, (_OPEN, 1, paths[0], _DEFAULT, 0))
        if self.stderr_default:
            actions.append((_OPEN, 2, paths[1], _DEFAULT, 0))

    def close(self) -> None:
        """Close what was opened for the job."""
        while self.fds:
            os.close(self.fds.pop())


def passwd_entry() -> tuple[bytes, bytes, bytes]:
    """Name, home and shell of this user."""
    import pwd

    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:  # a user without an entry, as in some containers
        return str(os.getuid()).encode(), b"/", b"/bin/sh"
    return os.fsencode(entry.pw_name), os.fsencode(entry.pw_dir), os.fsencode(entry.pw_shell or "/bin/sh")


def expand(path: bytes, home: bytes, directory: bytes, index: bytes, native_id: bytes) -> bytes:
    """A path with its placeholders filled in (job.Placeholder)."""
    path = path.replace(_HOME, home).replace(_DIRECTORY, directory)
    return path.replace(_INDEX, index).replace(_NATIVE_ID, native_id)


class Launcher:
    """What one spawner remembers from job to job: environments, programs found, the user."""

    def __init__(self, ignored: tuple[signal.Signals, ...], let_go: Callable[[], None] = lambda: None) -> None:
        self._ignored = ignored
        self._let_go = let_go  # of what is the spawner's alone, in a forked child
        self._environments: dict[int, dict[bytes, bytes]] = {}
        self._words: dict[int, list[bytes]] = {}
        self._programs: dict[tuple[bytes, bytes], bytes] = {}
        name, home, shell = passwd_entry()
        self._home = home
        self._node = {b"HOME": home, b"USER": name, b"LOGNAME": name, b"SHELL": shell, b"PATH": _DEFAULT_PATH}
        os.umask(0o022)
        self._umask = 0o022
        self._null = os.open(b"/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._told, self._tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)  # why a quick start failed
        self.quick = _fork_exec is not None
        if self.quick:
            for number in ignored:  # a signal that is caught is at its default again after the exec, one that is ignored is not
                signal.signal(number, _nothing)

    def learn(self, no: int, data: bytes) -> None:
        """A client's environment."""
        variables: dict[bytes, bytes] = unpack(data)
        for name in _OURS:  # of a job that submits jobs
            variables.pop(name, None)
        self._environments[no] = variables
        self._words[no] = [name + b"=" + value for name, value in variables.items()]

    def forget(self, needed: set[int | None]) -> None:
        """Forget the environments that none of the waiting jobs needs."""
        self._environments = {no: known for no, known in self._environments.items() if no in needed}
        self._words = {no: self._words[no] for no in self._environments}

    def prepare(self, item: list[Any]) -> Prepared:
        """Enter the job's directory and open its streams. NotStartedError says what could not be used."""
        number, token, environment_no, _, extra, blob = item
        spec = unpack(blob)
        prepared = Prepared()
        inherit, own = spec.get("i"), spec.get("e")
        index = b""
        native = shown = b"%d" % number
        prepared.own, prepared.words = (), None
        if inherit is None and own is None and extra is None:
            environment = self._environments[environment_no]
            prepared.own = ((b"JOBYARD_JOB_ID", token), (b"JOBYARD_NATIVE_ID", shown))
            prepared.words = [*self._words[environment_no], b"JOBYARD_JOB_ID=" + token, b"JOBYARD_NATIVE_ID=" + shown]
        else:
            if inherit is None:
                environment = self._environments[environment_no].copy()
            else:
                environment = self._node.copy() if inherit == "n" else {}
            if own is not None:
                environment.update(own)
            environment[b"JOBYARD_JOB_ID"] = token
            if extra is not None:
                task, array, gpus = extra
                if array:
                    index = b"%d" % task
                    native = b"%d" % array
                    shown = b"%d_%d" % (array, task)
                    environment[b"JOBYARD_ARRAY_ID"] = native
                    environment[b"JOBYARD_TASK_INDEX"] = index
                if gpus is not None:
                    visible = b",".join(gpus)
                    for name in _GPU_VARIABLES:
                        if gpus or own is None or name not in own:  # without GPUs it sees none, unless it says so itself
                            environment[name] = visible
            environment[b"JOBYARD_NATIVE_ID"] = shown
        prepared.number = number
        prepared.argv = spec["a"]
        prepared.environment = environment
        prepared.limits = spec.get("l")
        prepared.umask = spec.get("u", 0o022)
        if prepared.umask != self._umask:
            os.umask(prepared.umask)
            self._umask = prepared.umask
        directory = spec.get("d")
        if directory is None:
            directory = self._home
        elif b"\0" in directory:
            directory = expand(directory, self._home, b"", index, native)
        try:
            os.chdir(directory)
        except OSError as error:
            raise NotStartedError(DIRECTORY, error.errno or errno.EIO) from error
        try:
            self._streams(prepared, spec, directory, index, native)
            prepared.program = self._find(prepared.argv[0], environment)
        except NotStartedError:
            prepared.close()
            raise
        return prepared

    # Streams ------------------------------------------------------------------------------------------------------------

    def _streams(self, prepared: Prepared, spec: dict[str, Any], directory: bytes, index: bytes, native: bytes) -> None:
        stdin, stdout, stderr = spec.get("0"), spec.get("1"), spec.get("2")
        join = spec.get("j", False)
        if stdin is None and stdout is None and stderr is None:
            prepared.stdout_default = prepared.default_streams = True
            prepared.stderr_default = not join
            prepared.actions = [(_OPEN, 0, b"/dev/null", os.O_RDONLY, 0)]
            if join:
                prepared.actions.append((_DUP2, 1, 2))
            return

        def whole(path: bytes) -> bytes:
            return expand(path, self._home, directory, index, native) if b"\0" in path else path

        prepared.stdout_default, prepared.stderr_default = stdout is None, stderr is None and not join
        prepared.default_streams = prepared.stdout_default or prepared.stderr_default
        if stdin is None:
            prepared.actions.append((_OPEN, 0, b"/dev/null", os.O_RDONLY, 0))
        else:
            self._open(prepared, STDIN, 0, whole(stdin), _IN)
        mode = os.O_APPEND if spec.get("A") else os.O_TRUNC
        if stdout is not None:
            self._open(prepared, STDOUT, 1, whole(stdout), _OUT | mode)
        if join or (stderr is not None and stderr == stdout):
            prepared.actions.append((_DUP2, 1, 2))
        elif stderr is not None:
            self._open(prepared, STDERR, 2, whole(stderr), _OUT | mode)

    @staticmethod
    def _open(prepared: Prepared, what: int, target: int, path: bytes, flags: int) -> None:
        try:
            fd = os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(path).st_mode):
                prepared.blocking.append((what, target, path, flags & ~os.O_NONBLOCK))
                return
            raise NotStartedError(what, error.errno or errno.EIO) from error
        kind = os.fstat(fd).st_mode
        if stat.S_ISDIR(kind):
            os.close(fd)
            raise NotStartedError(what, errno.EISDIR)
        if stat.S_ISFIFO(kind) and target == 0:
            os.close(fd)
            prepared.blocking.append((what, target, path, flags & ~os.O_NONBLOCK))
            return
        if not stat.S_ISREG(kind):
            os.set_blocking(fd, True)
        if fd <= 2:  # dup2 of a descriptor onto itself would leave it close-on-exec
            raise NotStartedError(what, errno.EBADF)
        prepared.fds.append(fd)
        prepared.actions.append((_DUP2, fd, target))

    # Programs -------------------------------------------------------------------------------------------------------------

    def _find(self, name: bytes, environment: dict[bytes, bytes]) -> bytes:
        """The program's path, as the job's own PATH and directory give it."""
        if b"/" in name:
            return name
        path = environment.get(b"PATH", _DEFAULT_PATH)
        known = self._programs.get((path, name))
        if known is not None and os.access(known, os.X_OK):
            return known
        failure = errno.ENOENT
        absolute = True
        for folder in path.split(b":"):
            candidate = os.path.join(folder or b".", name)
            absolute = absolute and folder.startswith(b"/")
            try:
                mode = os.stat(candidate).st_mode
            except OSError as error:
                if error.errno == errno.EACCES:
                    failure = errno.EACCES
                continue
            if not stat.S_ISREG(mode):
                continue
            if os.access(candidate, os.X_OK):
                if absolute:
                    if len(self._programs) >= MOST_PROGRAMS:
                        self._programs.clear()
                    self._programs[path, name] = candidate
                return candidate
            failure = errno.EACCES
        raise NotStartedError(PROGRAM, failure)

    # Starting -------------------------------------------------------------------------------------------------------------

    def launch(self, prepared: Prepared) -> tuple[int, int]:
        """Start it: its pid, and the pipe in which a forked child tells why its exec failed (-1: none). Marked with its number."""
        kernel.set_mark(prepared.number)
        try:
            if prepared.limits is not None or prepared.blocking:
                return self._fork(prepared)
            if self.quick:
                return self._start(prepared), -1
            pid = os.posix_spawn(
                prepared.program,
                prepared.argv,
                prepared.variables(),
                file_actions=prepared.actions,
                setsid=True,
                setsigmask=(),
                setsigdef=self._ignored,
            )
        except OSError as error:
            raise NotStartedError(PROGRAM, error.errno or errno.EIO) from error
        finally:
            kernel.set_mark(0)
            if prepared.fds:
                prepared.close()
        return pid, -1

    def _start(self, prepared: Prepared) -> int:
        """By vfork and exec. OSError where the program cannot be executed, or a stream's file went."""
        assert _fork_exec is not None
        fds = [self._null, -1, -1]
        for action in prepared.actions:
            if action[0] == _DUP2:
                fds[action[2]] = action[1] if action[1] > 2 else fds[action[1]]
            elif action[2] != b"/dev/null":
                fds[action[1]] = os.open(action[2], action[3] | os.O_CLOEXEC, action[4])
                prepared.fds.append(fds[action[1]])
        words = prepared.words
        if words is None:
            words = [name + b"=" + value for name, value in prepared.variables().items()]
        pid = _fork_exec(
            prepared.argv,
            (prepared.program,),
            False,  # close_fds: all of ours are close-on-exec
            (),  # fds_to_keep
            None,  # cwd
            words,
            fds[0], -1, -1, fds[1], -1, fds[2],  # p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
            self._told,
            self._tell,
            True,  # restore_signals
            True,  # start_new_session
            -1, None, None, None, -1, None,  # process_group, gid, gids, uid, umask, preexec_fn
            True,  # allow_vfork
        )  # fmt: skip
        try:
            why = os.read(self._told, 4096)
        except BlockingIOError:
            return pid  # the parent of a vfork goes on after the exec
        os.waitpid(pid, 0)
        raise OSError(int(why.split(b":")[1], 16), "exec")

    def _fork(self, prepared: Prepared) -> tuple[int, int]:
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError:
            os.close(read)
            os.close(write)
            raise
        if pid:
            os.close(write)
            return pid, read
        try:
            self._become(prepared, write)
        finally:
            os._exit(127)

    def _become(self, prepared: Prepared, write: int) -> None:
        """In the child: everything up to the exec; a failure goes into the pipe."""
        what = PROGRAM
        try:
            os.setsid()
            for number in self._ignored:
                signal.signal(number, signal.SIG_DFL)
            for action in prepared.actions:
                if action[0] == _OPEN:
                    _, target, path, flags, mode = action
                    fd = os.open(path, flags, mode)
                    os.dup2(fd, target)
                elif all(action[1] != target for _, target, _, _ in prepared.blocking):
                    os.dup2(action[1], action[2])
            # It may wait long for the other end of a FIFO: nobody may take it for the spawner in that time.
            self._let_go()
            os.closerange(3, write)
            os.closerange(write + 1, os.sysconf("SC_OPEN_MAX"))
            for waited in prepared.blocking:
                what, target, path, flags = waited
                os.dup2(os.open(path, flags, 0o666), target)
            what = PROGRAM
            for action in prepared.actions:  # joined to a stream that had to be opened here
                if action[0] == _DUP2 and any(action[1] == target for _, target, _, _ in prepared.blocking):
                    os.dup2(action[1], action[2])
            for name, value in (prepared.limits or {}).items():
                _limit(name, value)
            os.execve(prepared.program, prepared.argv, prepared.variables())
        except OSError as error:
            os.write(write, b"%d %d" % (what, error.errno or errno.EIO))
        except (ValueError, OverflowError):  # a limit that the kernel refuses
            os.write(write, b"%d %d" % (what, errno.EINVAL))


def _limit(name: str, value: float) -> None:
    """Lower a limit, soft and hard. One that is lower already stands."""
    if name == "cpu":
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = max(1, math.ceil(value))
        most = soft + CPU_MARGIN_S
        if hard != resource.RLIM_INFINITY:
            soft, most = min(soft, hard), min(most, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, most))
        return
    kind = _LIMITS[name]
    _, hard = resource.getrlimit(kind)
    limit = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
    resource.setrlimit(kind, (limit, limit))
