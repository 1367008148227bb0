"""Where the folders of jobs lie: on this machine (``WorkRoot`` of script.py), or on the host that a transport reaches."""

from __future__ import annotations

from collections.abc import Mapping, MutableSet, Sequence
from typing import TYPE_CHECKING, Protocol

from .folders import state_dir, work_root
from .job import Observation
from .receipts import read_receipts
from .script import WorkRoot
from .transports.base import Transport

if TYPE_CHECKING:
    from .host_folders import HostFolders

__all__ = ["JobFolders", "LocalFolders", "job_folders"]


class JobFolders(Protocol):
    """The folders of jobs at one scheduler. Methods raise OSError for what the file system refuses, TransportError where the
    host cannot be reached, ConfigurationError where the work folder cannot be trusted.
    """

    @property
    def path(self) -> str:
        """The work root: the folder of all of them."""

    def connect_once(self) -> bool:
        """Where the host was never tried yet, do it now, for those who look once and do not wait; True: that reached it."""

    def home(self) -> str:
        """The user's home folder there."""

    def folder(self, token: str) -> str:
        """The path of a job's folder, there or not. The token is that of the submission."""

    def deploy(self) -> str:
        """Put the shepherd in place, once; the path of its ``run.py``."""

    def create(self, token: str, files: Mapping[str, bytes]) -> str:
        """Write a job's folder whole, or not at all: its path."""

    def is_whole(self, folder: str) -> bool:
        """A job's folder was written, and is there."""

    def remove(self, token: str) -> None:
        """Remove a job's folder; missing is no error."""

    def remove_elsewhere(self, folder: str, work_root: str) -> None:
        """Remove a job's folder that lies in another work root."""

    def names(self, folder: str) -> Sequence[str]:
        """What is in a job's folder."""

    def remove_file(self, path: str) -> None:
        """Remove one file of a job's folder."""

    def withdraw(self, folder: str, tasks: int) -> list[str | None]:
        """Make the claims of all tasks ourselves; for each that somebody else had made, the native id that it runs as."""

    def was_withdrawn(self, folder: str, tasks: int) -> bool:
        """Whether ``withdraw`` made any task's claim."""

    def claimants(self, folder: str, tasks: int) -> list[str | None]:
        """For each task the native id that it runs as, or ran; None where it never began."""

    def close(self) -> None:
        """Let go. Nothing is removed."""


class LocalFolders(WorkRoot):
    """Those of this machine; receipts are read from its file system."""

    def read_receipts(self, folder: str, *, nonce: str, token: str, seen: MutableSet[str]) -> list[tuple[int, Observation]]:
        """ReadReceipts of folder_receipts.py."""
        return read_receipts(folder, nonce=nonce, token=token, seen=seen)


def job_folders(transport: Transport, base: str | None) -> LocalFolders | HostFolders:
    """The folders of jobs whose scheduler that transport reaches. ``base``: where they lie, instead of the usual place."""
    if transport.name.startswith("ssh://"):
        from .host_folders import HostFolders
        from .transports.openssh import OpenSSHTransport

        assert isinstance(transport, OpenSSHTransport)
        return HostFolders(transport, base, state_dir() / "withdrawn")
    return LocalFolders(base if base is not None else str(work_root().parent))
