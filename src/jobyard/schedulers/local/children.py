"""Running jobs as a process sees them: by pidfd, in its epoll. The spawner has its own; the server those it inherited."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Collection

from . import kernel

__all__ = ["GROUP", "LEADER", "SESSION", "Child", "Children", "ended_at"]

LONGEST_LIST = 4096
CLOCK_SET_S = 1.0  # by so much the clock and the time since boot do not drift apart by themselves
LEADER, GROUP, SESSION = 0, 1, 2  # whom a signal is for


class Child:
    """One running job."""

    __slots__ = ("began", "booted", "fault", "fd", "kind", "number", "ours", "pid", "start_ticks", "stream")

    def __init__(self, number: int, pid: int, began: float, booted: float, stream: int, kind: int = 0) -> None:
        self.number = number
        self.pid = pid
        self.began = began
        self.booted = booted
        self.stream = stream  # 0: no default streams
        self.kind = kind  # of booking
        self.fd = -1
        self.ours = True  # we are the parent: we peek and reap
        self.fault = -1  # the pipe in which the child says why its exec failed
        self.start_ticks = 0  # where it was found by it


def ended_at(child: Child) -> float:
    """Now, as the end of a job: so long after its begin as it took, should the clock have been set meanwhile."""
    now, took_s = time.time(), kernel.boot_now() - child.booted
    return now if abs(now - child.began - took_s) < CLOCK_SET_S else child.began + took_s


class Children:
    """The running jobs of this process, by number and by pidfd."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self.by_number: dict[int, Child] = {}
        self.by_fd: dict[int, Child] = {}
        try:
            self._list = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
            self._list = -1

    def __len__(self) -> int:
        return len(self.by_number)

    def alone(self) -> bool:
        """This process has no children but the jobs here: nothing that any job left behind runs. As a subreaper it gets
        whatever outlives its parent, before that parent's end can be seen."""
        if self._list < 0:
            return False
        listed = os.pread(self._list, LONGEST_LIST, 0)
        return len(listed) < LONGEST_LIST and listed.count(b" ") == len(self.by_number)

    def add(self, child: Child) -> None:
        """Watch a child. ProcessLookupError: it is gone, and was reaped by somebody."""
        child.fd = os.pidfd_open(child.pid)
        self._epoll.register(child.fd, select.EPOLLIN)
        self.by_number[child.number] = child
        self.by_fd[child.fd] = child

    def forget(self, child: Child) -> None:
        """It has ended and is recorded."""
        # Unregister first: a descriptor that a child in the middle of vfork still has open would stay in the epoll.
        self._epoll.unregister(child.fd)
        os.close(child.fd)
        del self.by_fd[child.fd]
        del self.by_number[child.number]

    def signal(self, number: int, signum: int, whom: int) -> bool:
        """Send a signal; False where the job does not run here any more."""
        child = self.by_number.get(number)
        if child is None:
            return False
        # The leader is not reaped while it is in the table, so its number cannot be another's; nor can its group's.
        if whom == LEADER:
            try:
                signal.pidfd_send_signal(child.fd, signum)
            except ProcessLookupError:
                return False
            return True
        sent = True
        try:
            os.killpg(child.pid, signum)
        except ProcessLookupError:
            sent = False
        if whom == SESSION:
            signal_session(child.pid, signum)
        return sent


def signal_session(session: int, signum: int, *, skip_group: bool = True) -> bool:
    """Send a signal to a session's processes, those in its leader's group left out; True where there were any."""
    return signal_sessions((session,), signum, skip_group=skip_group)


def signal_sessions(sessions: Collection[int], signum: int, *, skip_group: bool = True) -> bool:
    """The same for several sessions, with one look at all processes."""
    found = False
    for pid, process in kernel.sessions_members(sessions).items():
        if skip_group and process.pgrp == process.session:
            continue
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            again = kernel.read_process(pid)  # the number may have passed to another process before pidfd_open
            if again is not None and again.session == process.session:
                signal.pidfd_send_signal(fd, signum)
                found = True
        except ProcessLookupError:
            continue
        finally:
            os.close(fd)
    return found
