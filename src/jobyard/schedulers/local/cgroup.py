"""Memory limits by a delegated control group (cgroup v2), where one can be written; sampling stays on beside it.

Below the nearest control group above us that is ours to change and passes the memory controller on, the server makes one
group, and in it one for each running job with a memory limit. Any step that the kernel refuses means: sampling alone.
"""

from __future__ import annotations

import os

__all__ = ["Groups"]

MOUNT = "/sys/fs/cgroup"


class Groups:
    """The control groups of one server. ``open`` finds a place for them."""

    def __init__(self, path: str) -> None:
        self._path = path

    @classmethod
    def open(cls, name: str, mount: str = MOUNT, membership: str = "/proc/self/cgroup") -> Groups | None:
        """A group of that name for our jobs, a successor finds it again; None where there is no place for one."""
        try:
            with open(membership, encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read().splitlines()
        except OSError:
            return None
        own = next((line.removeprefix("0::") for line in lines if line.startswith("0::/")), None)
        if own is None:
            return None
        place = own.rstrip("/")
        while True:
            found = cls._below(mount + place, name)
            if found is not None or not place:
                return found
            place = place.rpartition("/")[0]

    @classmethod
    def _below(cls, parent: str, name: str) -> Groups | None:
        path = os.path.join(parent, name)
        try:
            if "memory" not in _words(os.path.join(parent, "cgroup.subtree_control")):
                return None  # not passed on; asking for it could change what others rely on
            if not os.access(os.path.join(parent, "cgroup.procs"), os.W_OK):
                return None
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:
                pass  # of an earlier server
        except OSError:
            return None
        try:
            _write(os.path.join(path, "cgroup.subtree_control"), "+memory")
        except OSError:
            cls(path).close()
            return None
        return cls(path)

    def _of(self, number: int) -> str:
        return os.path.join(self._path, f"job-{number}")

    def limit(self, number: int, pid: int, memory: int) -> bool:
        """Put a job into a group of its own with that limit; False where the kernel refuses."""
        path = self._of(number)
        try:
            os.mkdir(path, 0o755)
            _write(os.path.join(path, "memory.max"), str(memory))
            _write(os.path.join(path, "memory.oom.group"), "1")  # all of it, as a limit of the whole job
            _write(os.path.join(path, "cgroup.procs"), str(pid))
        except OSError:
            self.drop(number)
            return False
        return True

    def passed(self, number: int) -> bool:
        """The kernel ended processes of the job because of its limit."""
        try:
            return any(word.startswith("oom_kill ") and word != "oom_kill 0" for word in _lines(self._of(number), "memory.events"))
        except OSError:
            return False

    def drop(self, number: int) -> None:
        """The job has ended. A group with processes left over stays until ``close``."""
        try:
            os.rmdir(self._of(number))
        except OSError:
            pass  # none was made, or something of the job still runs in it

    def close(self) -> None:
        """Remove what is empty."""
        try:
            for name in os.listdir(self._path):
                if name.startswith("job-"):
                    self.drop(int(name.removeprefix("job-")))
            os.rmdir(self._path)
        except OSError:
            pass  # a process is left over in it, and keeps its limit


def _words(path: str) -> list[str]:
    with open(path, encoding="ascii") as file:
        return file.read().split()


def _lines(folder: str, name: str) -> list[str]:
    with open(os.path.join(folder, name), encoding="ascii") as file:
        return file.read().splitlines()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
