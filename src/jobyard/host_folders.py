"""The folders of jobs on a login host: ``JobFolders`` of job_folders.py by messages to the helper there."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, MutableSet, Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigurationError, TransportError
from .folder_receipts import network_folders
from .job import Observation
from .receipts import parse_receipt, receipt_order
from .script import node_files, node_name, untrusted
from .transports.base import PathExists, PathMissing, path_error
from .transports.openssh import OpenSSHTransport
from .transports.openssh_errors import LinkLost
from .transports.openssh_link import Refusal

__all__ = ["HostFolders"]


class HostFolders:
    """Those on a login host, written by the helper there. Nothing is connected before it is needed.

    What the tracker asks for (``names``, ``remove``, ``read_receipts``) never waits for a connection: TransportError while there
    is none. A withdrawal is noted on this machine first, so that it holds although the host cannot be told of it yet.
    """

    def __init__(self, transport: OpenSSHTransport, base: str | None, notes: Path) -> None:
        """``base``: the folder on the host, else its JOBYARD_WORK_DIR, else below the user's state folder there."""
        self._transport = transport
        self._base = base
        self._notes = notes
        self._reader = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._path: str | None = None
        self._deployed = False
        self._tried = False

    @property
    def path(self) -> str:
        return self._opened()

    def _opened(self) -> str:
        with self._lock:
            if self._path is None:
                answer, _ = self._call("work_open", {"name": node_name(), "files": False})
                self._path, self._deployed = answer["path"], answer["deployed"]
            return self._path

    def connect_once(self) -> bool:
        if self._tried:
            return False
        self._tried = True
        try:
            self._transport.link()
        except TransportError:
            return False
        return True

    def home(self) -> str:
        return self._transport.identity.home

    def folder(self, token: str) -> str:
        return f"{self._opened()}/{token[:2]}/{token}"

    def deploy(self) -> str:
        path = self._opened()
        with self._lock:
            if not self._deployed:
                files = {name: data.decode("utf-8", "surrogateescape") for name, data in node_files().items()}
                self._call("work_open", {"name": node_name(), "files": True}, json.dumps(files).encode())
                self._deployed = True
        return f"{path}/node/{node_name()}/run.py"

    def create(self, token: str, files: Mapping[str, bytes]) -> str:
        arguments = {"token": token, "files": [[name, len(data)] for name, data in files.items()]}
        content = b"".join(files.values())
        try:
            answer, _ = self._call("work_create", arguments, content)
        except LinkLost:  # it may be there: a token is used once, so that what is there is ours
            try:
                answer, _ = self._call("work_create", arguments, content)
            except PathExists:
                return self.folder(token)
        path: str = answer["path"]
        return path

    def is_whole(self, folder: str) -> bool:
        try:
            self._transport.stat(f"{folder}/run.sh")
        except PathMissing:
            return False
        return True

    def remove(self, token: str) -> None:
        self._call("work_remove", {"token": token}, background=True)
        self._note(token).unlink(missing_ok=True)

    def remove_elsewhere(self, folder: str, work_root: str) -> None:
        self._call("work_remove", {"token": os.path.basename(folder), "base": os.path.dirname(work_root)}, background=True)

    def names(self, folder: str) -> Sequence[str]:
        _, raw = self._call("entries", {"path": folder}, background=True)
        return list(json.loads(raw))

    def remove_file(self, path: str) -> None:
        self._transport.remove(path)

    # Claims

    def _note(self, token: str) -> Path:
        return self._notes / token

    def withdraw(self, folder: str, tasks: int) -> list[str | None]:
        self._notes.mkdir(mode=0o700, parents=True, exist_ok=True)
        note = self._note(os.path.basename(folder))
        with open(note, "wb") as file:
            os.fsync(file.fileno())
        try:
            held, _ = self._call("work_withdraw", {"folder": folder, "tasks": tasks})
        except TransportError:  # whoever settles the submission tries again
            return []
        return list(held)

    def was_withdrawn(self, folder: str, tasks: int) -> bool:
        if self._note(os.path.basename(folder)).exists():
            self._call("work_withdraw", {"folder": folder, "tasks": tasks})  # a job that had begun before it goes on all the same
        withdrawn, _ = self._claims(folder, tasks)
        return withdrawn

    def claimants(self, folder: str, tasks: int) -> list[str | None]:
        return self._claims(folder, tasks)[1]

    def _claims(self, folder: str, tasks: int) -> tuple[bool, list[str | None]]:
        (withdrawn, claimants), _ = self._call("work_claims", {"folder": folder, "tasks": tasks})
        return bool(withdrawn), list(claimants)

    # Receipts

    def read_receipts(self, folder: str, *, nonce: str, token: str, seen: MutableSet[str]) -> list[tuple[int, Observation]]:
        """ReadReceipts of folder_receipts.py."""
        arguments = {"folder": folder, "reader": self._reader, "fresh": not seen}
        answer, raw = self._call("work_receipts", arguments, background=True)
        network_folders[os.path.dirname(os.path.dirname(folder))] = answer["shared"]
        contents: dict[str, bytes] = {}
        at = 0
        for name, size in answer["files"]:
            contents[name] = raw[at : at + size]
            at += size
        found: list[tuple[int, Observation]] = []
        for name in sorted(contents, key=receipt_order):
            if name not in seen:
                if parsed := parse_receipt(name, contents[name], nonce=nonce, token=token):
                    found.append(parsed)
                seen.add(name)
        return found

    # Files

    def finish_cancelled(self, directory: str, items: Sequence[Mapping[str, Any]], cleanup: Sequence[str], when: int) -> str | None:
        """Bring out and clean up there, by the rules of node/staging.py: why that failed; None: it did not. TransportError."""
        arguments = {"directory": directory, "items": list(items), "cleanup": list(cleanup), "when": when}
        answer, _ = self._call("work_finish", arguments)
        problem: str | None = answer["problem"]
        return problem

    def close(self) -> None:
        """The connection is the transport's."""

    # Helpers

    def _call(self, op: str, arguments: Mapping[str, Any], raw: bytes = b"", *, background: bool = False) -> tuple[Any, bytes]:
        with self._refusals():
            return self._transport.call(op, {"base": self._base, **arguments}, raw, background=background)

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except Refusal as refusal:
            path = str(refusal.details.get("path") or "")
            if refusal.kind == "untrusted":
                raise ConfigurationError(f"{self._transport.name}: {untrusted(path, str(refusal))}") from None
            if refusal.kind == "os":
                raise path_error(self._transport.name, "use", path, refusal.os_error()) from None
            raise self._transport.other_refusal(refusal) from None
