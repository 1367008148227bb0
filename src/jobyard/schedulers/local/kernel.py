"""What the pair asks of the Linux kernel beyond Python's own modules: subreapers, peeking at the dead, /proc, pidfds."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import struct
from collections.abc import Collection
from typing import NamedTuple

__all__ = [
    "COMM",
    "Peeked",
    "Process",
    "become_subreaper",
    "boot_id",
    "boot_now",
    "children_of",
    "mark_of",
    "own_peak_kib",
    "peek",
    "pidfd_exit_status",
    "read_process",
    "reset_signals",
    "session_members",
    "sessions_members",
    "set_comm",
    "set_mark",
]

COMM = "jobyard-spawn"  # the spawner's name; a child that bears it has not reached its exec
TICKS = os.sysconf("SC_CLK_TCK")

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_P_PID, _WNOHANG, _WEXITED, _WNOWAIT = 1, 1, 4, 0x01000000
_WAITID = {"x86_64": 247, "aarch64": 95, "riscv64": 95, "ppc64le": 272, "s390x": 281, "loongarch64": 95}.get(os.uname().machine)
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 8

_libc = ctypes.CDLL(None, use_errno=True)
_BUFFER = ctypes.create_string_buffer(128 + 144)  # siginfo_t, then struct rusage
_ADDRESS = ctypes.addressof(_BUFFER)
_OPTIONS = _WEXITED | _WNOHANG | _WNOWAIT
# Called for every ending: errno is not kept, which saves much; ``os.waitid`` says again why it failed.
_waitid = ctypes.CFUNCTYPE(ctypes.c_long, *(ctypes.c_long,) * 6)(("syscall", ctypes.CDLL(None)))
# si_signo, si_code, si_status; user and system time (s, us), maxrss, minflt, majflt, inblock, oublock, nvcsw, nivcsw
_read_peeked = struct.Struct("=i4xi12xi100xqqqqq24xqq8xqq16xqq").unpack_from


class Peeked(NamedTuple):
    """A dead child that was not reaped: its wait status and what it used (microseconds, KiB, counts)."""

    status: int
    user_us: int = 0
    system_us: int = 0
    maxrss_kib: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    read_blocks: int = 0
    written_blocks: int = 0
    voluntary: int = 0
    involuntary: int = 0


def become_subreaper() -> None:
    """Orphaned descendants become our children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def set_comm(name: str) -> None:
    """This process's name in /proc; what it spawns bears it until its exec."""
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()), 0, 0, 0)


def _status(code: int, value: int) -> int:
    """The wait status of siginfo's code and status (waitid(2))."""
    if code == os.CLD_EXITED:
        return (value & 0xFF) << 8
    return value | 0x80 if code == os.CLD_DUMPED else value


def peek(pid: int) -> tuple[int, ...] | None:
    """How a child of ours ended, without reaping it, as the fields of ``Peeked``; None: it has not.

    ChildProcessError: no child of ours.
    """
    if _WAITID is None or _waitid(_WAITID, _P_PID, pid, _ADDRESS, _OPTIONS, _ADDRESS + 128):
        info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if info is None else Peeked(_status(info.si_code, info.si_status))
    signo, code, value, user_s, user_us, system_s, system_us, rss, minor, major, read, written, voluntary, involuntary = (
        _read_peeked(_BUFFER)
    )
    if signo != signal.SIGCHLD:  # zeroed by the kernel where there is nothing
        return None
    status = (value & 0xFF) << 8 if code == 1 else _status(code, value)
    return (
        status,
        user_s * 1_000_000 + user_us,
        system_s * 1_000_000 + system_us,
        rss,
        minor,
        major,
        read,
        written,
        voluntary,
        involuntary,
    )


def own_peak_kib() -> int:
    """The most memory that this process has had at a time."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1])
    return 0


def set_mark(number: int) -> None:
    """Mark what is spawned from now on with a job's number; 0 clears. RLIMIT_LOCKS has no effect since Linux 2.4.25."""
    resource.setrlimit(_LOCKS, (number or _HARD_LOCKS, _HARD_LOCKS))


_LOCKS = 10  # RLIMIT_LOCKS; the resource module has no name for it
_HARD_LOCKS = resource.getrlimit(_LOCKS)[1]


def boot_id() -> str:
    """The kernel's name of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def boot_now() -> float:
    """Seconds since boot, as the start times in /proc count them."""
    return _clock(_BOOTTIME)


from time import CLOCK_BOOTTIME as _BOOTTIME  # noqa: E402
from time import clock_gettime as _clock  # noqa: E402


class Process(NamedTuple):
    """What /proc/PID/stat says (proc_pid_stat(5)). ``exit_status`` is a wait status, of value only in a zombie of ours."""

    comm: str
    state: str
    ppid: int
    pgrp: int
    session: int
    start_ticks: int
    exit_status: int

    @property
    def zombie(self) -> bool:
        """It has ended and waits to be reaped."""
        return self.state in "ZX"


def read_process(pid: int) -> Process | None:
    """A process; None where there is none, or it is hidden from us (``hidepid=1``): then it is another user's."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    comm, _, rest = data.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    return Process(
        comm.decode("utf-8", "replace"),
        fields[0].decode(),
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        int(fields[19]),
        int(fields[49]),
    )


def all_pids() -> list[int]:
    """Every process that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def session_members(session: int) -> dict[int, Process]:
    """The living processes of a session."""
    return sessions_members((session,))


def sessions_members(sessions: Collection[int]) -> dict[int, Process]:
    """The living processes of several sessions, in one pass over all there are."""
    found = {}
    for pid in all_pids():
        process = read_process(pid)
        if process is not None and process.session in sessions and not process.zombie:
            found[pid] = process
    return found


def children_of(pid: int) -> list[int]:
    """Children of a process, zombies included."""
    found = []
    for other in all_pids():
        process = read_process(other)
        if process is not None and process.ppid == pid:
            found.append(other)
    return found


def mark_of(pid: int) -> int:
    """The job number that a process, a zombie too, is marked with; 0: none. Its descendants bear the same."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            for line in file:
                if line.startswith(b"Max file locks"):
                    soft = line.split()[3]
                    return int(soft) if soft.isdigit() else 0
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass  # gone between listing and reading, or not ours
    return 0


def pidfd_exit_status(pidfd: int) -> int | None:
    """The wait status of a process that was reaped by somebody, from a pidfd opened before (Linux 6.15); None: not told."""
    info = bytearray(64)
    struct.pack_into("=Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None  # an older kernel
    (mask,) = struct.unpack_from("=Q", info, 0)
    return int(struct.unpack_from("=i", info, 60)[0]) if mask & _PIDFD_INFO_EXIT else None


def reset_signals(ignored: tuple[signal.Signals, ...]) -> None:
    """Default actions and an empty mask, whatever our starter ignored or blocked; then ignore these."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                continue  # kept by the C library
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
